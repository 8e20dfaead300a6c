"""What the guard costs: an ordinary turn one cheap statement at most, and no page or count reads a large table through."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from meta_sync.core.db import Database
from meta_sync.sync import guard_statements as guard
from meta_sync.sync import reading
from meta_sync.sync.bulk import expect_bulk, expect_lookups
from tests.support.world import World, open_world, variant

_DIALECT: Any = PGDialect_asyncpg()  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy
_VARIANTS = 20_000
_HELD = 5_000
_FILL = (
    "INSERT INTO stores (store_id, public_id, name) VALUES ('s', 's', 's')",
    f"""INSERT INTO variants (store_id, variant_id, product_id, price, version)
    SELECT 's', 'v' || i, 'p' || i / 5, 1999, i FROM generate_series(1, {_VARIANTS}) AS i""",
    f"""INSERT INTO sync_state (link_id, variant_id, store_id, status, presence, confirmed_hash, confirmed_at)
    SELECT 1, 'v' || i, 's', 'synced', 'present', '\\x01', now() FROM generate_series(1, {_VARIANTS}) AS i""",
    f"""INSERT INTO sync_state (link_id, variant_id, store_id, status, presence, confirmed_hash)
    SELECT 2, 'v' || i, 's2', 'synced', 'present', '\\x01' FROM generate_series(1, {_VARIANTS}) AS i""",
    f"""INSERT INTO intents (store_id, variant_id, version, lane, first_at, held_by)
    SELECT 's', 'v' || i, i, 0, now(), CASE WHEN i <= {_HELD} THEN 7 END FROM generate_series(1, {_VARIANTS}) AS i""",
    """INSERT INTO batches (batch_id, store_id, link_id, graph_host, catalog_id, state, lane, body_bytes, link_epoch,
        mapping_epoch, sent, created_on, created_at, guarded_prices)
    OVERRIDING SYSTEM VALUE
    SELECT i, 's', 1, 'h', '1', 'open', 0, 1, 1, 1, 10, (now() AT TIME ZONE 'UTC')::date,
        now() - make_interval(secs => i), CASE WHEN i % 10 = 0 THEN 10 ELSE 0 END FROM generate_series(1, 6000) AS i""",
    """INSERT INTO batch_items (created_on, batch_id, variant_id, store_id, link_id, retailer_id, method, fields, cleared,
        previous_may_hold, previous_presence, previous_status, guarded)
    SELECT (now() AT TIME ZONE 'UTC')::date, i, 'v' || (i * 10 + k), 's', 1, 'r', 'UPDATE', '{}', '{}', '{}', 'absent',
        'pending', CASE WHEN i % 10 = 0 THEN 4 ELSE 0 END
    FROM generate_series(1, 6000) AS i, generate_series(0, 9) AS k""",
    """INSERT INTO holds (hold_id, store_id, link_id, kind, state, finished_at)
    OVERRIDING SYSTEM VALUE
    SELECT i, 's', i, 'price', 'dissolved', now() FROM generate_series(100, 3000) AS i""",
)
_GIVEN: dict[str, Any] = {
    "store_id": "s",
    "link_id": 1,
    "hold_id": 7,
    "epoch": 1,
    "mapping_epoch": 1,
    "after": "v100",
    "most": 2000,
    "kinds": 4,
    "code": "held_price",
    "state": "held",
    "fence": 1,
}
# What a statement may look at for what it gives: rows of the page, or of the hour, or of the link.
_STATEMENTS: dict[str, tuple[Any, Any, int]] = {
    "look": (guard.LOOK, expect_bulk, 2_000),
    "lease": (guard.LEASE, None, 100),
    "lock": (guard.LOCK, None, 100),
    "page": (reading._OUTSIDE, expect_lookups, 40_000),
    "page of a hold": (reading._HELD, expect_lookups, 40_000),
    "count": (guard.COUNT, expect_lookups, 40_000),
    "base": (guard.BASE, expect_lookups, 4_000),
    "free": (guard.FREE, None, 60_000),
    "events": (guard.EVENTS_OF_HOLD, None, 40_000),
}


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.put("p", variant("a"), variant("b"))
        await world.run()
        yield world


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


@pytest.mark.parametrize("is_analysed", [False, True])
async def test_no_statement_reads_a_large_table_through(database: Database, *, is_analysed: bool) -> None:
    async with database.platform() as connection:
        for statement in _FILL:
            await connection.exec_driver_sql(statement)
    if is_analysed:
        async with database.worker.connect() as connection:
            raw = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await raw.execute(text("ANALYZE"))
    wrong = []
    for name, (statement, expect, most_pages) in _STATEMENTS.items():
        plan = await _plan(database, statement, expect, {"kinds": "{delete,price}"} if name == "look" else {})
        read = [
            node["Relation Name"]
            for node in _nodes(plan)
            if node["Node Type"] == "Seq Scan" and node["Actual Rows"] * node["Actual Loops"] > 1_000
        ]
        pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        if read or pages > most_pages:
            wrong.append((name, read, pages))
    assert wrong == []


def _literal(value: Any) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'"


async def _plan(database: Database, statement: Any, expect: Any, more: dict[str, Any]) -> dict[str, Any]:
    """The plan of a statement that is really run; nothing that it writes is kept."""
    compiled = statement.compile(dialect=_DIALECT)
    given = {
        **compiled.params,
        **{name: one for name, one in {**_GIVEN, **more}.items() if name in compiled.params},
    }
    values = ", ".join(_literal(given[name]) for name in compiled.positiontup or ())
    execute = f"EXECUTE explained ({values})" if values else "EXECUTE explained"
    async with database.worker.connect() as connection:
        transaction = await connection.begin()
        try:
            if expect is not None:
                await expect(connection)
            await connection.exec_driver_sql(f"PREPARE explained AS {compiled}")
            found = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {execute}")
            value = found.scalar_one()
        finally:
            await transaction.rollback()
            await connection.exec_driver_sql("DEALLOCATE explained")
    plan: dict[str, Any] = (json.loads(value) if isinstance(value, str) else value)[0]["Plan"]
    return plan


@contextmanager
def _statements(database: Database) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    engine = database.worker.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def _turn(world: World) -> list[str]:
    """The statements of the turn that sends what waits."""
    pipeline = world.pipeline()
    await pipeline.beat()
    calls = world.calls()
    with _statements(world.database) as seen:
        while world.calls() == calls:
            await pipeline.drain_tick()
    return seen


async def test_an_ordinary_turn_costs_one_statement_at_most(world: World) -> None:
    await world.put("p", variant("a"), variant("b"), title="Another name")
    plain = await _turn(world)
    assert not [one for one in plain if "holds" in one or "guard" in one.replace("guarded", "")]
    await world.run()
    await world.put("p", variant("a", 999), variant("b"), title="Another name")
    priced = await _turn(world)
    assert len(priced) == len(plain) + 1
    assert sum("FROM holds" in one for one in priced) == 1
