"""Preview, the switch and pauses: what was claimed before settles, what was not waits, and nothing is called meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.core.paging import CursorCodec
from meta_sync.sync.items import ItemsService
from meta_sync.sync.models import DecisionKind, Method
from meta_sync.sync.ticks import Pipeline
from tests.support.pipeline import assert_sums, assert_tidy, execute, fetch, one
from tests.support.world import World, open_world, variant

_OTHER_CATALOG = "7100195296759999"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        world.sandbox.add_catalog("7100195296754001", "Other", catalog_id=_OTHER_CATALOG)
        await world.connect()
        await world.run()
        yield world


def _after_claim(pipeline: Pipeline, action: Callable[[], Awaitable[Any]]) -> None:
    """Do something once, after the next claim is committed and before the last check ahead of its call."""
    drain: Any = pipeline._drain
    claim = drain._claim

    async def hooked(*args: Any) -> Any:
        drain._claim = claim
        batch = await claim(*args)
        await action()
        return batch

    drain._claim = hooked


async def _preview(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"feedMode": "preview"})


async def _live(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"feedMode": "live", "syncEnabled": True})
    await execute(world, "DELETE FROM store_pauses")
    await execute(world, "UPDATE store_queue SET due_at = now()")


async def _off(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"syncEnabled": False})


async def _pause(world: World) -> None:
    await execute(
        world,
        "INSERT INTO store_pauses (store_id, reason, until) VALUES (:id, 'blocked_by_meta', now() + interval '1 h')",
        id=world.store_id,
    )


async def _other_link(world: World) -> None:
    await world.connect(catalog_id=_OTHER_CATALOG)


@pytest.mark.parametrize("stop", [_preview, _off, _pause])
async def test_whoever_stops_the_store_between_claim_and_call_is_heard(
    world: World, stop: Callable[[World], Awaitable[None]]
) -> None:
    """(10): the call is not made, everything is given back, and it goes out when the store works again."""
    await world.put("p", variant("a"))
    await world.run()
    before = (await world.states())["a"]
    await world.put("p", variant("a", 500))
    pipeline = world.pipeline()
    _after_claim(pipeline, lambda: stop(world))
    calls = world.calls()
    for _ in range(3):
        await pipeline.drain_tick()
        await pipeline.sweep_tick()
    assert world.calls() == calls
    state = (await world.states())["a"]
    known = ("status", "confirmed_hash", "may_hold", "presence", "in_flight", "attempts")
    assert {name: state[name] for name in known} == {name: before[name] for name in known}
    assert await fetch(world, "SELECT variant_id, parked_by FROM intents") == [("a", None)]
    await _live(world)
    await world.run()
    await assert_tidy(world)
    assert world.at_meta()["a"]["price"] == "5.00 EUR"


async def test_another_catalog_between_claim_and_call(world: World) -> None:
    """Nothing is written to a catalog that the store has just left."""
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    _after_claim(pipeline, lambda: _other_link(world))
    await pipeline.drain_tick()
    assert world.calls() == 0
    await world.run(pipeline)
    assert "a" not in world.at_meta()
    assert "a" in world.sandbox.catalog(_OTHER_CATALOG).items
    await assert_sums(world)


async def test_a_batch_under_way_settles_in_preview(world: World) -> None:
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    assert (await world.states())["a"]["status"] == "submitted"
    await _preview(world)
    await world.put("p", variant("a", 700))
    await world.run(pipeline, until=lambda: _is_status(world, "synced"))
    assert await one(world, "SELECT count(*) FROM intents WHERE parked_by IS NULL") == 1
    assert (world.calls(), world.at_meta()["a"]["price"]) == (1, "19.99 EUR")
    await _live(world)
    await world.run()
    await assert_tidy(world)
    assert world.at_meta()["a"]["price"] == "7.00 EUR"


async def _is_status(world: World, status: str) -> bool:
    return bool((await world.states())["a"]["status"] == status)


async def test_what_waits_in_preview_is_only_the_newest(world: World) -> None:
    """Intents stay; going live sends what the rows say then, once."""
    await _preview(world)
    for price in (100, 200, 300):
        await world.put("p", variant("a", price))
    await world.put("q", variant("b"))
    await world.catalog.delete_product(world.store_id, "q")
    pipeline = world.pipeline()
    for _ in range(5):
        await pipeline.drain_tick()
        await pipeline.sweep_tick()
    assert (world.calls(), await one(world, "SELECT count(*) FROM intents")) == (0, 2)
    await _live(world)
    await world.run()
    await assert_tidy(world)
    assert (world.calls(), set(world.at_meta())) == (1, {"a"})


async def test_preview_shows_the_request_with_what_it_clears(world: World) -> None:
    service = ItemsService(world.database, utc_now, CursorCodec(b"key"))
    await world.put("p", variant("a", 1000, special_price=800, options={"color": "red"}))
    await world.run()
    await _preview(world)

    unchanged = (await service.detail(world.store_id, "a")).next_request
    assert unchanged is not None
    assert (unchanged.decision, unchanged.method, unchanged.data) == (DecisionKind.NOOP, None, None)

    await world.put("p", variant("a", 900))
    request = (await service.detail(world.store_id, "a")).next_request
    assert request is not None
    assert request.data is not None
    assert (request.decision, request.method) == (DecisionKind.UPSERT, Method.UPDATE)
    assert (request.data["price"], request.data["sale_price"], request.data["color"]) == ("9.00 EUR", "", "")

    await world.catalog.delete_product(world.store_id, "p")
    request = (await service.detail(world.store_id, "a")).next_request
    assert request is not None
    assert (request.decision, request.method, request.data) == (
        DecisionKind.DELETE,
        Method.DELETE,
        {"id": "a"},
    )
    assert world.calls() == 1
