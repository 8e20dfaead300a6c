"""What full batches cost: plans that stay linear whatever the planner believes, and one write per item and step."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import TextClause, text

from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.core.paging import CursorCodec
from meta_sync.sync import claim_statements, settle_statements
from meta_sync.sync.bulk import expect_bulk
from meta_sync.sync.item_queries import ItemFilter
from meta_sync.sync.items import ItemsService
from tests.support.pipeline import follow_due
from tests.support.world import World, open_world, variant


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.run()
        yield world


_IDS = [f"v{number:03}" for number in range(300)]
_BATCH: dict[str, Any] = {
    "batch_id": 1,
    "link_id": 1,
    "store_id": "s",
    "created_on": datetime.now(UTC).date(),
    "link_epoch": 1,
    "lane": 0,
    "first_at": datetime.now(UTC),
    "only_ids": None,
    "except_ids": [],
    "batch_limit": None,
    "only_without_outcome": False,
    "is_certain": True,
    "variant_ids": _IDS,
    "codes": _IDS,
    "messages": _IDS,
    "kinds": _IDS,
    "statuses": ["synced"] * len(_IDS),
    "batch_ids": [1] * len(_IDS),
    "row_ids": [(0, 1)] * len(_IDS),
}
_SETTLE = (
    "CONFIRM",
    "CONFIRM_DELETE",
    "REFUSE",
    "RECORD_REFUSALS",
    "NOTE_REFUSED",
    "FREE_REFUSED",
    "RELEASE",
)
_LATE = ("MAKE_UNKNOWN", "MAKE_GIVEN_UP", "MARK_UNKNOWN", "DISTURB", "INTEND_AGAIN", "UNPARK", "UNPARK_OF")
_CLAIM = ("LOCK_INTENTS", "DELETE_INTENTS", "LOCK_IN_FLIGHT", "PARK", "SETTLE_WITHOUT_CALL", "DROP_STATES")
_TAKE = {
    **{name: _BATCH[name] for name in ("batch_id", "link_id", "store_id", "variant_ids", "row_ids")},
    "epoch": 1,
    "row_versions": [1] * len(_IDS),
    "retailer_ids": _IDS,
    "methods": ["UPDATE"] * len(_IDS),
    "payload_hashes": [b"x"] * len(_IDS),
    "fields": [1] * len(_IDS),
    "cleared": [1] * len(_IDS),
    "may_hold": [1] * len(_IDS),
    "guarded": [0] * len(_IDS),
    "released": [0] * len(_IDS),
    "sets": ["price,title"],
}


async def _plan(world: World, statement: TextClause, given: dict[str, Any]) -> str:
    wanted = {name: given[name] for name in statement.compile().params}
    async with world.database.platform() as connection:
        await expect_bulk(connection)
        rows = await connection.execute(text(f"EXPLAIN {statement.text}"), wanted)
        return "\n".join(rows.scalars())


@pytest.mark.parametrize("name", [*_SETTLE, *_LATE, *_CLAIM, "TAKE_IN_FLIGHT"])
async def test_no_statement_of_a_batch_tries_each_row_with_each(world: World, name: str) -> None:
    """The tables are empty, as the planner believes them to be when a batch's rows are new."""
    source = settle_statements if hasattr(settle_statements, name) else claim_statements
    plan = await _plan(world, getattr(source, name), _TAKE if name == "TAKE_IN_FLIGHT" else _BATCH)
    assert "Join Filter" not in plan, plan
    for table in ("sync_state", "batch_items", "intents", "item_payloads"):
        assert f"Seq Scan on {table}" not in plan, plan


async def test_a_handle_is_seen_while_its_items_are_in_flight_and_kept_after(world: World) -> None:
    service = ItemsService(world.database, utc_now, CursorCodec(b"key"))

    async def seen() -> tuple[str | None, str | None]:
        detail = await service.detail(world.store_id, "v")
        page = await service.list(world.store_id, ItemFilter())
        assert detail.sync_state is not None
        return detail.sync_state.last_handle, page.items[0].last_handle

    await world.put("p", variant("v"))
    assert await seen() == (None, None)
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    assert (await world.states())["v"]["in_flight"] is not None
    first = await seen()
    assert first[0] is not None
    assert first[0] == first[1]
    await follow_due(pipeline)
    await world.run(pipeline)
    assert (await world.states())["v"]["in_flight"] is None
    assert await seen() == first
    await world.put("p", variant("v", 2999))
    assert await seen() == first
    await world.run(pipeline)
    second = await seen()
    assert None not in second
    assert second != first


async def test_attempts_remember_what_the_items_were_before(world: World) -> None:
    await world.put("p", variant("a"), variant("b"))
    await world.run()
    before = await world.states()
    await world.put("p", variant("a", 2999), variant("b"), variant("c"))
    await world.pipeline().drain_tick()
    async with world.database.platform() as connection:
        rows = await connection.execute(
            text(
                "SELECT i.* FROM batch_items AS i JOIN sync_state AS s "
                "ON s.in_flight = i.batch_id AND s.variant_id = i.variant_id"
            )
        )
        attempts = {row._mapping["variant_id"]: row._mapping for row in rows}
    assert set(attempts) == {"a", "c"}
    for name in ("confirmed_hash", "confirmed_epoch", "presence", "status"):
        assert attempts["a"][f"previous_{name}"] == before["a"][name]
    assert (
        set(attempts["a"]["previous_may_hold"])
        == set(before["a"]["may_hold"])
        == set(attempts["a"]["fields"])
    )
    assert attempts["c"]["previous_confirmed_hash"] is None
    assert attempts["c"]["previous_presence"] == "absent"
    assert attempts["c"]["previous_may_hold"] == []
    await world.run()
    await world.assert_right()
