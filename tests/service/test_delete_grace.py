"""Grace: what is to go is shown as out of stock first, can come back until its time is over, and then is deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from meta_sync.core.db import Database
from meta_sync.sandbox.options import SandboxOptions
from meta_sync.sync.models import GRACE_OVER
from tests.support.pipeline import assert_sums, execute, fetch
from tests.support.world import World, open_world, variant


@pytest.fixture(params=["clean", "adverse"])
async def world(request: Any, database: Database, database_url: str) -> AsyncIterator[World]:
    options = SandboxOptions(profile=request.param, processing_delay_seconds=0.01)
    async with open_world(database, database_url, options) as world:
        await world.connect()
        await world.stores.patch_settings(world.store_id, {"deleteGraceDays": 3})
        await world.put("p", variant("a"), variant("b"))
        await world.run()
        yield world


async def _days_pass(world: World, days: float) -> None:
    """Let the time that stands in the rows come nearer."""
    await execute(
        world,
        "UPDATE sync_state SET grace_until = grace_until - make_interval(secs => :seconds) WHERE grace_until > 'epoch'",
        seconds=days * 86_400,
    )
    await world.run()


async def test_a_deleted_item_is_out_of_stock_until_its_grace_is_over(world: World) -> None:
    before = world.at_meta()["a"]
    await world.put("p", variant("b"))
    await world.run()
    assert world.at_meta()["a"] == {**before, "availability": "out of stock"}
    state = (await world.states())["a"]
    assert (state["status"], state["code"]) == ("synced", "delete_grace")
    assert await fetch(world, "SELECT variant_id, kind FROM item_events WHERE code = 'delete_grace'") == [
        ("a", "keep")
    ]
    calls = world.calls()
    await world.jobs.start_bootstrap(world.store_id, requested_by="somebody")
    await _days_pass(world, 2.99)
    assert world.calls() == calls, "within the grace nothing more is sent"
    assert (await world.states())["a"]["code"] == "delete_grace"
    await _days_pass(world, 0.02)
    assert world.at_meta().keys() == {"b"}
    state = (await world.states())["a"]
    assert (state["status"], state["grace_until"], state["code"]) == ("deleted", None, None)
    await assert_sums(world)


async def test_what_comes_back_in_time_is_sold_on(world: World) -> None:
    await world.put("p", variant("a"), variant("b"), status="draft")
    await world.run()
    assert {one["availability"] for one in world.at_meta().values()} == {"out of stock"}
    await _days_pass(world, 1)
    await world.put("p", variant("a"), variant("b"))
    await world.run()
    await world.assert_right()
    assert {one["grace_until"] for one in (await world.states()).values()} == {None}
    # A second one is a grace of its own, and not what was left of the first.
    await world.put("p", variant("a"), variant("b"), status="draft")
    await world.run()
    await _days_pass(world, 2.5)
    assert world.at_meta().keys() == {"a", "b"}
    await _days_pass(world, 1)
    assert world.at_meta() == {}


async def test_a_delete_that_fails_is_tried_again_and_begins_no_new_grace(world: World) -> None:
    await world.put("p", variant("b"))
    await world.run()
    # As after a call that came back refused: over, looked at, and still there.
    await execute(
        world,
        "UPDATE sync_state SET grace_until = :over, confirmed_hash = NULL, status = 'pending' WHERE variant_id = 'a'",
        over=GRACE_OVER,
    )
    await world.operations.resync(world.store_id, "a", force=False, refresh_images=False, actor="x")
    await world.run()
    assert world.at_meta().keys() == {"b"}


async def test_an_exclusion_knows_no_grace(world: World) -> None:
    await world.operations.exclude(world.store_id, "a", actor="somebody")
    await world.run()
    assert world.at_meta().keys() == {"b"}


async def test_a_grace_that_is_switched_off_ends_with_the_next_look(world: World) -> None:
    await world.put("p", variant("b"))
    await world.run()
    await world.stores.patch_settings(world.store_id, {"deleteGraceDays": 0})
    await world.jobs.start_bootstrap(world.store_id, requested_by="somebody")
    await world.run()
    assert world.at_meta().keys() == {"b"}


async def test_the_sweep_wakes_each_item_once(world: World) -> None:
    await world.put("p", variant("b"))
    await world.run()
    await world.stores.patch_settings(world.store_id, {"feedMode": "preview"})
    await execute(world, "UPDATE sync_state SET grace_until = now() - interval '1 h' WHERE variant_id = 'a'")
    pipeline = world.pipeline()
    await pipeline.sweep_tick()
    first = await fetch(world, "SELECT variant_id, version, lane FROM intents")
    assert [(row[0], row[2]) for row in first] == [("a", 0)]
    await pipeline.sweep_tick()
    assert await fetch(world, "SELECT variant_id, version, lane FROM intents") == first
