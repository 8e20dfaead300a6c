"""The pipeline against a real PostgreSQL and a sandbox that is kind: what is accepted ends right at Meta."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from meta_sync.core.db import Database
from tests.support.world import World, open_world, variant


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        yield world


async def test_a_product_reaches_meta_and_is_confirmed(world: World) -> None:
    await world.put("p1", variant("a", options={"color": "Red"}), variant("b", options={"color": "Blue"}))
    await world.run()
    await world.assert_right()
    states = await world.states()
    assert {state["status"] for state in states.values()} == {"synced"}
    assert {state["presence"] for state in states.values()} == {"present"}


async def test_unchanged_costs_no_call(world: World) -> None:
    await world.put("p1")
    await world.run()
    calls = world.calls()
    await world.jobs.start_bootstrap(world.store_id, requested_by="test")
    await world.run()
    await world.assert_right()
    assert world.calls() == calls == 1


async def test_a_sale_that_ends_is_cleared(world: World) -> None:
    await world.put("p", variant("v", special_price=999))
    await world.run()
    assert world.at_meta()["v"]["sale_price"] == "9.99 EUR"
    await world.put("p", variant("v"))
    await world.run()
    await world.assert_right()
    assert "sale_price" not in world.at_meta()["v"]


async def test_an_option_that_is_removed_is_cleared(world: World) -> None:
    await world.put("p", variant("v", options={"color": "Red", "Scent": "Rose"}, ean="4006381333931"))
    await world.run()
    assert world.at_meta()["v"]["color"] == "Red"
    await world.put("p", variant("v"))
    await world.run()
    await world.assert_right()


async def test_deleted_and_put_back_within_one_drain(world: World) -> None:
    await world.put("p", variant("v"))
    await world.run()
    await world.catalog.delete_product(world.store_id, "p")
    await world.put("p", variant("v", 2999))
    await world.run()
    await world.assert_right()
    assert world.at_meta()["v"]["price"] == "29.99 EUR"


async def test_a_deleted_product_leaves_meta_and_comes_back(world: World) -> None:
    await world.put("p", variant("v", special_price=999))
    await world.run()
    await world.catalog.delete_product(world.store_id, "p")
    await world.run()
    await world.assert_right()
    assert world.at_meta() == {}
    assert (await world.states())["v"]["status"] == "deleted"
    await world.put("p", variant("v"))
    await world.run()
    await world.assert_right()
    assert (await world.states())["v"]["status"] == "synced"


async def test_an_ineligible_item_is_skipped_with_its_reason(world: World) -> None:
    await world.put("p", variant("v", None))
    await world.run()
    state = (await world.states())["v"]
    assert (state["status"], state["code"]) == ("skipped", "missing_price")
    assert world.calls() == 0


async def test_an_archived_product_is_deleted_at_meta(world: World) -> None:
    await world.put("p", variant("v"))
    await world.run()
    await world.put("p", variant("v"), status="archived")
    await world.run()
    await world.assert_right()
    assert world.at_meta() == {}


async def test_a_refused_item_that_is_repaired_reaches_meta(world: World) -> None:
    world.sandbox.refuse("v", "A required field is missing: nobody likes it")
    await world.put("p", variant("v"), title="First")
    await world.run()
    state = (await world.states())["v"]
    assert (state["status"], state["attempts"]) == ("failed", 1)
    assert "nobody likes it" in state["error_text"]
    assert "v" not in world.at_meta()
    world.sandbox.lift_refusal("v")
    await world.put("p", variant("v"), title="Second")
    await world.run()
    await world.assert_right()
    assert (await world.states())["v"]["attempts"] == 0


async def test_a_refused_item_is_left_alone_by_jobs_and_sent_by_resync(world: World) -> None:
    world.sandbox.refuse("v", "Not today")
    await world.put("p", variant("v"))
    await world.run()
    world.sandbox.lift_refusal("v")
    calls = world.calls()
    await world.jobs.start_bootstrap(world.store_id, requested_by="test")
    await world.run()
    assert world.calls() == calls
    await world.operations.resync(world.store_id, "v", force=True, refresh_images=False, actor="test")
    await world.run()
    await world.assert_right()
    assert (await world.states())["v"]["status"] == "synced"


async def test_a_refused_change_keeps_the_version_that_is_live(world: World) -> None:
    await world.put("p", variant("v"), title="Good")
    await world.run()
    world.sandbox.refuse("v", "Not today")
    await world.put("p", variant("v"), title="Bad")
    await world.run()
    state = (await world.states())["v"]
    assert (state["status"], state["presence"]) == ("failed", "present")
    world.sandbox.lift_refusal("v")
    await world.put("p", variant("v"), title="Good")
    calls = world.calls()
    await world.run()
    # Proved unsaved: what was confirmed before holds again, so going back costs nothing.
    assert world.calls() == calls
    assert (await world.states())["v"]["status"] == "synced"
    await world.assert_right()


async def test_a_change_while_in_flight_waits_and_then_goes_out(world: World) -> None:
    world.sandbox.put_clock_forward(0)
    await world.put("p", variant("v", 1000))
    pipeline = world.pipeline()
    assert await pipeline.drain_tick() == 1
    await world.put("p", variant("v", 2000))
    for _ in range(3):
        await pipeline.drain_tick()
    assert world.calls() == 1
    await world.run(pipeline)
    await world.assert_right()
    assert world.at_meta()["v"]["price"] == "20.00 EUR"
    assert world.calls() == 2


async def test_ten_thousand_updates_are_one_call(world: World) -> None:
    for price in range(1, 200):
        await world.put("p", variant("v", price * 100))
    await world.run()
    await world.assert_right()
    assert world.calls() == 1


async def test_a_changed_setting_sends_exactly_what_changed(world: World) -> None:
    await world.put("with-link", variant("a", link="https://elsewhere.example/a"))
    await world.put("by-slug", variant("b"))
    await world.run()
    world.sandbox.requests.clear()
    await world.stores.patch_settings(world.store_id, {"storefrontBaseUrl": "https://new.example"})
    await world.run()
    await world.assert_right()
    assert [one.records for one in world.sandbox.requests if one.edge == "items_batch"] == [1]


async def test_resync_sends_an_unchanged_item(world: World) -> None:
    await world.put("p", variant("v"))
    await world.run()
    await world.operations.resync(world.store_id, "v", force=True, refresh_images=True, actor="test")
    await world.run()
    await world.assert_right()
    assert world.calls() == 2
    assert world.at_meta()["v"]["image_link"] != "https://shop.example/images/one.jpg"


async def test_preview_and_switched_off_send_nothing_and_lose_nothing(world: World) -> None:
    for patch in ({"syncEnabled": False}, {"syncEnabled": True, "feedMode": "preview"}):
        await world.stores.patch_settings(world.store_id, patch)
        await world.put("p", variant("v"))
        pipeline = world.pipeline()
        for _ in range(5):
            await pipeline.drain_tick()
            await pipeline.sweep_tick()
    assert world.calls() == 0
    await world.stores.patch_settings(world.store_id, {"feedMode": "live"})
    await world.run()
    await world.assert_right()


async def test_two_variants_under_one_id_do_not_overwrite_each_other(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"retailerIdTemplate": "{sku}"})
    first, second = variant("a"), variant("b")
    second.sku = first.sku
    await world.put("p", first, second)
    await world.run()
    statuses = sorted((state["status"], state["code"]) for state in (await world.states()).values())
    assert statuses == [("skipped", "id_in_use"), ("synced", None)]


async def test_the_id_is_frozen_at_the_first_send(world: World) -> None:
    await world.put("p", variant("v"))
    await world.run()
    await world.stores.patch_settings(world.store_id, {"retailerIdTemplate": "{sku}"})
    await world.run()
    await world.assert_right()
    assert set(world.at_meta()) == {"v"}
