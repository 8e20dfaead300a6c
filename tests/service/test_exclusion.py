"""An item that a person took off Meta: deleted there whatever was under way, and kept off until it is asked for by name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, NotFoundError
from tests.support.pipeline import arm, assert_tidy, fetch, follow_due, one
from tests.support.world import World, open_world, variant


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.run()
        yield world


async def _exclude(world: World, variant_id: str = "a") -> None:
    await world.operations.exclude(world.store_id, variant_id, actor="me")


async def _resync(world: World, *, force: bool = True) -> None:
    await world.operations.resync(world.store_id, "a", force=force, refresh_images=False, actor="me")


async def _state(world: World, variant_id: str = "a") -> dict[str, Any]:
    return (await world.states())[variant_id]


async def _methods(world: World, variant_id: str = "a") -> list[str]:
    rows = await fetch(
        world, "SELECT method FROM batch_items WHERE variant_id = :id ORDER BY batch_id", id=variant_id
    )
    return [row[0] for row in rows]


async def test_what_meta_has_is_deleted_and_stays_away(world: World) -> None:
    await world.put("p", variant("a"), variant("b"))
    await world.run()
    await _exclude(world)
    state = await _state(world)
    assert (state["status"], state["presence"]) == ("pending", "maybe")
    assert await one(world, "SELECT lane, job_id FROM intents") == (0, None)
    await world.run()
    await assert_tidy(world)
    assert set(world.at_meta()) == {"b"}
    assert (await _state(world))["status"] == "deleted"
    # Neither a change, nor a setting, nor a job brings it back.
    await world.put("p", variant("a", 5), variant("b"))
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "used"})
    await world.jobs.start_bootstrap(world.store_id, requested_by=None)
    await world.run()
    await assert_tidy(world)
    state = await _state(world)
    assert (state["status"], state["code"], state["presence"]) == (
        "skipped",
        "excluded_by_operator",
        "absent",
    )
    assert await _methods(world) == ["UPDATE", "DELETE"]
    assert await one(world, "SELECT kind, code, actor FROM item_events WHERE kind = 'excluded'") == (
        "excluded",
        "excluded_by_operator",
        "me",
    )


@pytest.mark.parametrize("force", [True, False])
async def test_a_resync_by_name_ends_it(world: World, force: bool) -> None:
    await world.put("p", variant("a"))
    await world.run()
    await _exclude(world)
    await world.run()
    await _resync(world, force=force)
    assert (await _state(world))["excluded_at"] is None
    await world.run()
    await assert_tidy(world)
    assert set(world.at_meta()) == {"a"}


@pytest.mark.parametrize("force", [True, False])
async def test_taken_back_before_it_was_deleted(world: World, force: bool) -> None:
    await world.put("p", variant("a"))
    await world.run()
    await _exclude(world)
    await _resync(world, force=force)
    await world.run()
    await assert_tidy(world)
    assert (set(world.at_meta()), await _methods(world)) == ({"a"}, ["UPDATE", "UPDATE"])


async def test_an_item_in_flight_is_not_confirmed_and_then_deleted(world: World) -> None:
    """(22)"""
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    assert (await _state(world))["in_flight"] is not None
    await _exclude(world)
    assert (await _state(world))["status"] == "submitted"
    await pipeline.drain_tick()
    assert await one(world, "SELECT parked_by IS NOT NULL FROM intents") is True
    while (await _state(world))["in_flight"] is not None:
        await follow_due(pipeline)
    state = await _state(world)
    assert (state["status"], state["presence"], state["confirmed_hash"]) == ("pending", "maybe", None)
    await world.run(pipeline)
    await assert_tidy(world)
    assert (world.at_meta(), await _methods(world)) == ({}, ["UPDATE", "DELETE"])


async def test_excluded_and_taken_back_while_the_item_is_in_flight(world: World) -> None:
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    await _exclude(world)
    await _resync(world, force=False)
    await world.run(pipeline)
    await assert_tidy(world)
    assert (set(world.at_meta()), await _methods(world)) == ({"a"}, ["UPDATE", "UPDATE"])


async def test_a_first_push_that_is_refused_while_it_is_excluded(world: World) -> None:
    """Disturbed since the claim, so the refusal proves nothing of what is at Meta: the id is deleted to be sure."""
    world.sandbox.refuse("a", "No.")
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    await _exclude(world)
    world.sandbox.lift_refusal("a")
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.at_meta() == {}
    assert (await _state(world))["status"] in {"deleted", "skipped"}


async def test_never_sent_nothing_is_deleted(world: World) -> None:
    await world.put("p", variant("a"))
    await _exclude(world)
    await world.run()
    await assert_tidy(world)
    state = await _state(world)
    assert (state["status"], state["code"], state["presence"]) == (
        "skipped",
        "excluded_by_operator",
        "absent",
    )
    assert world.calls() == 0
    await _resync(world)
    await world.run()
    assert set(world.at_meta()) == {"a"}


async def test_excluded_then_deleted_then_put_back(world: World) -> None:
    """The store's deletion does not end what a person decided."""
    await world.put("p", variant("a"))
    await world.run()
    await _exclude(world)
    await world.catalog.delete_product(world.store_id, "p")
    await world.run()
    await assert_tidy(world)
    assert ((await _state(world))["status"], await _methods(world)) == ("deleted", ["UPDATE", "DELETE"])
    await world.put("p", variant("a"))
    await world.run()
    await assert_tidy(world)
    assert (world.at_meta(), (await _state(world))["code"]) == ({}, "excluded_by_operator")


@pytest.mark.parametrize("drained", [True, False])
async def test_excluded_never_sent_then_deleted_then_put_back(world: World, drained: bool) -> None:
    await world.put("p", variant("a"))
    await _exclude(world)
    if drained:
        await world.run()
    await world.catalog.delete_product(world.store_id, "p")
    await world.run()
    assert (await _state(world))["status"] == "deleted"
    await world.put("p", variant("a"))
    await world.run()
    await assert_tidy(world)
    assert (world.at_meta(), (await _state(world))["code"]) == ({}, "excluded_by_operator")
    assert world.calls() == 0


async def test_a_delete_under_way_is_not_taken_for_the_end(world: World) -> None:
    """Deleted by the store, excluded while that is under way, put back: it stays away."""
    await world.put("p", variant("a"))
    await world.run()
    await world.catalog.delete_product(world.store_id, "p")
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    await _exclude(world)
    await world.put("p", variant("a"))
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.at_meta() == {}


async def test_an_item_deleted_before_costs_no_call(world: World) -> None:
    await world.put("p", variant("a"))
    await world.run()
    await world.put("p", variant("a", None))
    await world.run()
    calls = world.calls()
    await _exclude(world)
    await world.run()
    assert world.calls() == calls
    assert (await _state(world))["code"] == "excluded_by_operator"


async def test_what_meta_refused_to_delete_is_tried_again_when_asked_again(world: World) -> None:
    await world.put("p", variant("a"))
    await world.run()
    world.sandbox.refuse("a", "No.")
    await _exclude(world)
    await world.run()
    assert ((await _state(world))["status"], await _methods(world)) == ("failed", ["UPDATE", "DELETE"])
    await world.jobs.start_bootstrap(world.store_id, requested_by=None)
    await world.run()
    assert await _methods(world) == ["UPDATE", "DELETE"]
    world.sandbox.lift_refusal("a")
    first = (await _state(world))["excluded_at"]
    await _exclude(world)
    assert (await _state(world))["excluded_at"] == first
    await world.run()
    await assert_tidy(world)
    assert world.at_meta() == {}


async def test_while_it_waits_for_a_retry(world: World) -> None:
    await world.put("p", variant("a"))
    await world.run()
    arm(world, "handle_error", count=1, share=0)
    await world.put("p", variant("a", 5))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    await _exclude(world)
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.at_meta() == {}


async def test_who_cannot_be_excluded(world: World) -> None:
    with pytest.raises(NotFoundError):
        await _exclude(world, "nobody")
    other = await world.stores.create("Other", currency="EUR", storefront_base_url="https://shop.example")
    world.store_id = other.store_id
    await world.put("p", variant("a"))
    with pytest.raises(ConflictError):
        await _exclude(world)
