"""What reconciling costs, in pages of the database: by what a page of it holds, whatever the planner knows of the tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import TextClause, TextualSelect, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.db import Database
from meta_sync.core.lookups import go_by_indexes
from meta_sync.sync import reconcile_repair, reconcile_service, reconcile_statements
from meta_sync.sync.bulk import expect_bulk, expect_lookups

_Statement = TextClause | TextualSelect

_ITEMS = 20_000
_PAGE = 200
_PAGES_PER_ROW = 30
"""Four look-ups through indexes of up to three levels, each with its row."""

_FILL = (
    "INSERT INTO stores (store_id, public_id, name) VALUES (:store_id, :store_id, 'Shop')",
    """
    INSERT INTO variants (store_id, variant_id, product_id, version)
    SELECT :store_id, 'v' || i, 'p' || i, i FROM generate_series(1, :items) AS i
    """,
    """
    INSERT INTO sync_state (link_id, variant_id, store_id, status, presence, retailer_id, confirmed_hash, confirmed_epoch)
    SELECT :link_id, 'v' || i, :store_id, 'synced', 'present', 'v' || i, 'x', 1 FROM generate_series(1, :items) AS i
    """,
    """
    INSERT INTO item_payloads (link_id, variant_id, store_id, payload, confirmed_at)
    SELECT :link_id, 'v' || i, :store_id, '{}', now() FROM generate_series(1, :items) AS i
    """,
    """
    INSERT INTO intents (store_id, variant_id, version, lane)
    SELECT :store_id, 'v' || i, i, 0 FROM generate_series(1, :items / 10) AS i
    """,
    """
    INSERT INTO jobs (job_id, store_id, link_id, type, status, result) VALUES
        (:store_id || '-job', :store_id, :link_id, 'reconciliation', 'success', '{"driftPercent": 0}')
    """,
    """
    INSERT INTO job_keys (job_id, kind, key, store_id)
    SELECT :store_id || '-job', 'seen0', 'v' || i, :store_id FROM generate_series(1, :items) AS i
    """,
    """
    INSERT INTO reconcile_findings (job_id, retailer_id, store_id, link_id, variant_id, verdict, state, first_read_at)
    SELECT :store_id || '-job', 'v' || i, :store_id, :link_id, 'v' || i, 'missing',
        CASE WHEN i % 2 = 0 THEN 'suspected' ELSE 'agreed' END, now()
    FROM generate_series(1, :items) AS i
    """,
)
_TABLES = "variants, sync_state, item_payloads, intents, jobs, job_keys, reconcile_findings"
_IDS = [f"v{number}" for number in range(1, _ITEMS, _ITEMS // _PAGE)]
_GIVEN: dict[str, Any] = {
    "store_id": "big",
    "link_id": 1,
    "job_id": "big-job",
    "epoch": 1,
    "kind": "seen0",
    "after": "v5",
    "most": _PAGE,
    "limit": _PAGE,
    "offset": 0,
    "verdict": "missing",
    "state": "agreed",
    "verdicts": ["missing"],
    "retailer_ids": _IDS,
    "variant_ids": _IDS,
    "keys": _IDS,
    "states": ["agreed"] * len(_IDS),
    "differences": [None] * len(_IDS),
    "found": [None] * len(_IDS),
    "meta_ids": [None] * len(_IDS),
    "feed_ids": [None] * len(_IDS),
    "held": [""] * len(_IDS),
    "actor": "somebody",
}
_OF_THE_WORKER: Mapping[str, tuple[_Statement, Any]] = {
    "ledger": (reconcile_statements.LEDGER, expect_lookups),
    "unseen": (reconcile_statements.UNSEEN, expect_lookups),
    "seen": (reconcile_statements.SEEN, expect_lookups),
    "chunk": (reconcile_statements.CHUNK, None),
    "settle": (reconcile_statements.SETTLE_FINDINGS, expect_bulk),
}
_OF_REQUESTS: Mapping[str, tuple[_Statement, Any]] = {
    "findings": (reconcile_service._FINDINGS, go_by_indexes),
    "count": (reconcile_service._COUNT, go_by_indexes),
    "last": (reconcile_service._LAST, expect_lookups),
    "wanted": (reconcile_repair._FIND, go_by_indexes),
    "disturb": (reconcile_repair._DISTURB, expect_bulk),
    "acted": (reconcile_repair._ACTED, expect_bulk),
}


@pytest.fixture
async def filled(database: Database) -> AsyncIterator[Database]:
    """A store of many items, each with everything that can be known of it, beside a small one."""
    async with database.platform() as connection:
        for store_id, link_id, items in (("big", 1, _ITEMS), ("small", 2, 50)):
            given = {"store_id": store_id, "link_id": link_id, "items": items}
            for statement in _FILL:
                sent = text(statement)
                await connection.execute(sent, {name: given[name] for name in sent.compile().params})
    yield database


async def _plan(connection: AsyncConnection, statement: _Statement, prepare: Any) -> tuple[set[str], int]:
    """The tables that are read through, and the pages touched. Nothing that it writes is kept."""
    if prepare is not None:
        await prepare(connection)
    plain = statement.element if isinstance(statement, TextualSelect) else statement
    assert isinstance(plain, TextClause)
    explained = text("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + plain.text)
    parameters = {**_GIVEN, "read_at": await connection.scalar(text("SELECT now()"))}
    used = {name: parameters[name] for name in explained.compile().params}
    tried = await connection.begin_nested()
    plan = (await connection.execute(explained, used)).scalar_one()[0]["Plan"]
    await tried.rollback()
    through = {one["Relation Name"] for one in _nodes(plan) if one["Node Type"] == "Seq Scan"}
    return through, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


async def _analyse(database_url: str) -> None:
    """Let the planner know of the tables, as their owner."""
    url = make_url(database_url)
    owner: asyncpg.Connection[Any] = await asyncpg.connect(
        user=url.username,
        database=url.database,
        host=url.query["host"],
        port=int(str(url.query["port"])),
        ssl=False,
    )
    await owner.execute(f"ANALYZE {_TABLES}")
    await owner.close()


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_page_costs_what_it_holds(filled: Database, database_url: str, is_known: bool) -> None:
    if is_known:
        await _analyse(database_url)

    async def check(
        opened: AbstractAsyncContextManager[AsyncConnection], name: str, statement: _Statement, prepare: Any
    ) -> None:
        async with opened as connection:
            through, pages = await _plan(connection, statement, prepare)
            assert through == set(), name
            assert pages < _PAGES_PER_ROW * _PAGE * (3 if name in {"count", "wanted", "findings"} else 1), (
                name,
                pages,
            )

    for name, (statement, prepare) in _OF_THE_WORKER.items():
        await check(filled.platform(), name, statement, prepare)
    for name, (statement, prepare) in _OF_REQUESTS.items():
        await check(filled.store("big"), name, statement, prepare)
