"""Adopting: what only Meta has becomes the store's, nothing is sent for it until its row changes, and then all of it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from meta_sync.catalog import working_set
from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError
from meta_sync.sandbox.options import DEMO_CATALOG_ID, SandboxOptions
from meta_sync.sync.adopt import AdoptService
from meta_sync.sync.adopt_models import ActResult, NotDoneCode
from meta_sync.sync.reconcile_repair import RepairOrder
from tests.support.findings import JOB, at_meta_item, find, put_at_meta, states_of
from tests.support.pipeline import assert_sums, execute, fetch, one
from tests.support.world import World, open_world, variant

_SALE = {"sale_price": "9.90 EUR", "custom_label_0": "theirs", "color": "Red"}


@pytest.fixture(params=["clean", "adverse"])
async def world(request: Any, database: Database, database_url: str) -> AsyncIterator[World]:
    options = SandboxOptions(profile=request.param, processing_delay_seconds=0.01)
    async with open_world(database, database_url, options) as world:
        await world.connect()
        await world.run()
        yield world


@pytest.fixture
async def calm(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.run()
        yield world


async def _adopt(world: World, *retailer_ids: str, **options: Any) -> ActResult:
    service = AdoptService(world.database, world.queue, utc_now)
    chosen = list(retailer_ids) or None
    return await service.adopt(world.store_id, JOB, retailer_ids=chosen, actor="somebody", **options)


async def _adopted(world: World, *items: dict[str, Any]) -> ActResult:
    put_at_meta(world, *items)
    await find(world, "foreign", *(item["id"] for item in items))
    return await _adopt(world)


async def _bootstrap(world: World) -> None:
    await world.jobs.start_bootstrap(world.store_id, requested_by="somebody")
    await world.run()


async def test_adopted_items_start_synced_and_nothing_is_sent_for_them(world: World) -> None:
    result = await _adopted(
        world,
        at_meta_item("single", **_SALE),
        at_meta_item("red", item_group_id="shirt", color="Red"),
        at_meta_item("blue", item_group_id="shirt", color="Blue"),
        at_meta_item("broken", image_link=None),
    )
    assert (sorted(result.done), result.products, result.not_done) == (
        ["blue", "broken", "red", "single"],
        3,
        [],
    )
    assert await fetch(world, "SELECT 1 FROM intents") == [], "an adopted item asks for nothing"
    states = await world.states()
    assert {one["status"] for one in states.values()} == {"synced"}
    assert {one["presence"] for one in states.values()} == {"present"}
    assert states["broken"]["code"] == "adopted_left_alone"
    stored = await world.catalog.get_product(world.store_id, "shirt")
    assert (stored.product.source, {one.id for one in stored.product.variants}) == ("meta", {"red", "blue"})
    assert stored.product.variants[0].link == "https://elsewhere.example/blue"
    before, calls = world.at_meta(), world.calls()
    await _bootstrap(world)
    await world.stores.patch_settings(world.store_id, {"defaultBrand": "Nobody"})
    await world.run()
    assert (world.calls(), world.at_meta()) == (calls, before)
    assert set((await states_of(world)).values()) == {"adopted"}
    assert await world.is_quiet()
    await assert_sums(world)


async def test_the_first_change_sends_everything_and_empties_what_was_there(world: World) -> None:
    await _adopted(world, at_meta_item("v", **_SALE))
    stored = await world.catalog.get_product(world.store_id, "v")
    body = stored.product
    body.title, body.variants[0].special_price, body.variants[0].options = "Ours now", None, {}
    await world.catalog.put_product(world.store_id, body)
    await world.run()
    await world.assert_right()
    assert world.at_meta()["v"]["title"] == "Ours now"
    assert not {"sale_price", "custom_label_0", "color"} & world.at_meta()["v"].keys()


async def test_a_setting_that_changes_what_it_is_sends_it(calm: World) -> None:
    await _adopted(calm, at_meta_item("v", condition=None))
    await calm.stores.patch_settings(calm.store_id, {"defaultCondition": "used"})
    await calm.run()
    assert calm.at_meta()["v"]["condition"] == "used"
    await calm.assert_right()


async def test_adopted_items_that_are_not_fit_to_be_sent_stay_at_meta(world: World) -> None:
    await _adopted(world, at_meta_item("v"))
    await execute(world, "UPDATE products SET status = 'draft' WHERE product_id = 'v'")
    await world.operations.resync(world.store_id, "v", force=True, refresh_images=False, actor="x")
    await world.run()
    assert "v" in world.at_meta()
    state = (await world.states())["v"]
    assert (state["status"], state["code"]) == ("skipped", "adopted_left_alone")
    await _bootstrap(world)
    assert "v" in world.at_meta()


async def test_what_the_merchant_deletes_is_deleted_at_meta(world: World) -> None:
    await _adopted(world, at_meta_item("v"), at_meta_item("w"))
    await world.catalog.delete_product(world.store_id, "v")
    await world.operations.exclude(world.store_id, "w", actor="somebody")
    await world.run()
    assert world.at_meta() == {}
    assert {one["status"] for one in (await world.states()).values()} == {"deleted"}


async def test_whoever_writes_the_product_takes_it_over_though_nothing_else_changed(world: World) -> None:
    await _adopted(world, at_meta_item("v", **_SALE))
    body = (await world.catalog.get_product(world.store_id, "v")).product
    body.source = "api"
    await world.catalog.put_product(world.store_id, body)
    assert await fetch(world, "SELECT variant_id, lane FROM intents") == [("v", 1)]
    await world.run()
    await world.assert_right()
    assert "custom_label_0" not in world.at_meta()["v"]
    body.status = "draft"
    await world.catalog.put_product(world.store_id, body)
    await world.run()
    assert world.at_meta() == {}, "the usual rules hold for it"


async def test_only_a_change_of_hands_between_meta_and_others_is_one(calm: World) -> None:
    await calm.put("p", variant("a"), source="feed")
    await calm.run()
    await calm.put("p", variant("a"), source="other feed")
    assert await fetch(calm, "SELECT 1 FROM intents") == []
    await calm.put("p", variant("a"), source="meta")
    assert await fetch(calm, "SELECT variant_id FROM intents") == [("a",)]


async def test_adopting_twice_changes_nothing(calm: World) -> None:
    await _adopted(calm, at_meta_item("v"))
    again = await _adopt(calm, "v", "never-found")
    assert [(one.retailer_id, one.code) for one in again.not_done] == [
        ("never-found", NotDoneCode.NOT_AMONG_FINDINGS),
        ("v", NotDoneCode.NOT_AMONG_FINDINGS),
    ]
    await find(calm, "foreign", "v", job_id="job_later")
    service = AdoptService(calm.database, calm.queue, utc_now)
    later = await service.adopt(calm.store_id, "job_later", actor="somebody")
    assert [one.code for one in later.not_done] == ["id_taken"]


async def test_what_cannot_be_adopted_says_why(calm: World) -> None:
    await calm.put("mine", variant("taken"))
    await calm.run()
    put_at_meta(
        calm,
        at_meta_item("in-my-group", item_group_id="mine"),
        at_meta_item("dollars", price="19.90 USD"),
        at_meta_item("x" * 100),
    )
    await find(calm, "foreign", "in-my-group", "dollars")
    await find(calm, "foreign", "taken", job_id=JOB)
    await find(calm, "foreign", "x" * 100, price="1.234,5.6 €")
    result = await _adopt(calm)
    assert {one.retailer_id: one.code.value for one in result.not_done} == {
        "in-my-group": "product_id_taken",
        "dollars": "other_currency",
        "taken": "id_taken",
        "x" * 100: "price_unclear",
    }
    assert (result.done, result.remaining) == ([], False)
    assert set((await states_of(calm)).values()) == {"agreed"}


async def test_a_group_that_is_full_takes_no_more(calm: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working_set, "MAX_VARIANTS", 2)
    items = [at_meta_item(one, item_group_id="shirt", color=one) for one in ("a", "b", "c")]
    result = await _adopted(calm, *items)
    assert (result.done, [(one.retailer_id, one.code.value) for one in result.not_done]) == (
        ["a", "b"],
        [("c", "group_full")],
    )


@pytest.mark.parametrize("state", ["suspected", "withdrawn", "repaired"])
async def test_only_what_two_reads_agreed_on_is_adopted(calm: World, state: str) -> None:
    put_at_meta(calm, at_meta_item("v"))
    await find(calm, "foreign", "v", state=state)
    assert (await _adopt(calm)).done == []
    assert [one.code for one in (await _adopt(calm, "v")).not_done] == [NotDoneCode.NOT_AMONG_FINDINGS]


async def test_a_dry_run_says_it_all_and_does_nothing(calm: World) -> None:
    put_at_meta(calm, at_meta_item("v"))
    await find(calm, "foreign", "v")
    assert (await _adopt(calm, dry_run=True)).done == ["v"]
    assert await fetch(calm, "SELECT 1 FROM variants") == []
    assert await states_of(calm) == {"v": "agreed"}


async def test_a_group_that_is_adopted_bit_by_bit_sends_nothing_either(calm: World) -> None:
    await _adopted(calm, at_meta_item("red", item_group_id="shirt", color="Red"))
    calls = calm.calls()
    await _adopted(calm, at_meta_item("blue", item_group_id="shirt", color="Blue"))
    await _bootstrap(calm)
    assert calm.calls() == calls
    assert await one(calm, "SELECT count(*) FROM variants WHERE product_id = 'shirt'") == 2


async def test_a_store_s_own_sibling_does_go_out_when_adopting_renames_its_group(calm: World) -> None:
    await calm.put("p", variant("a"), variant("b"))
    await calm.run()
    assert calm.at_meta()["a"]["item_group_id"] == "p"
    await _adopted(calm, at_meta_item("p", item_group_id="other"))
    await calm.run()
    assert {calm.at_meta()[one]["item_group_id"] for one in "ab"} == {"g:p"}


async def test_another_catalog_than_the_one_that_was_read_adopts_nothing(calm: World) -> None:
    put_at_meta(calm, at_meta_item("v"))
    await find(calm, "foreign", "v")
    await execute(calm, "UPDATE reconcile_findings SET link_id = link_id + 1")
    with pytest.raises(ConflictError, match="another catalog"):
        await _adopt(calm)


async def test_an_adopted_item_that_went_missing_is_put_back_by_a_repair(calm: World) -> None:
    await _adopted(calm, at_meta_item("v", **_SALE))
    await execute(
        calm,
        "INSERT INTO jobs (job_id, store_id, link_id, type, status) SELECT 'job_later', store_id, link_id,"
        " 'reconciliation', 'success' FROM catalog_links WHERE active",
    )
    await find(calm, "missing", "v", job_id="job_later")
    calm.sandbox.catalog(DEMO_CATALOG_ID).remove("v")
    await calm.repairs.repair(calm.store_id, "job_later", RepairOrder(), actor="somebody")
    await calm.run()
    await calm.assert_right()
    assert calm.at_meta().keys() == {"v"}


async def test_it_is_noted_who_adopted_what(calm: World) -> None:
    await _adopted(calm, at_meta_item("v"))
    assert await fetch(
        calm, "SELECT actor, action, target_id, after FROM audit_log WHERE action = 'items_adopted'"
    ) == [("somebody", "items_adopted", JOB, {"count": 1, "retailerIds": ["v"]})]
    assert await fetch(calm, "SELECT variant_id, actor FROM item_events WHERE kind = 'adopted'") == [
        ("v", "somebody")
    ]


# --- Deleting what others put there ------------------------------------------------------------------------------------


async def test_listed_foreign_items_are_deleted_and_those_of_a_feed_refused(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"deleteGraceDays": 7})
    put_at_meta(world, at_meta_item("old"), at_meta_item("kept"))
    put_at_meta(world, at_meta_item("fed"), feed_id="77")
    await find(world, "foreign", "old", "kept", "fed")
    service = AdoptService(world.database, world.queue, utc_now)
    asked: Any = {"retailer_ids": ["old", "fed"], "actor": "somebody"}
    dry: Any = await service.delete_foreign(world.store_id, JOB, dry_run=True, **asked)
    assert (dry.done, await fetch(world, "SELECT 1 FROM variants")) == (["old"], [])
    result = await service.delete_foreign(world.store_id, JOB, **asked)
    assert (result.done, [(one.retailer_id, one.code) for one in result.not_done]) == (
        ["old"],
        [("fed", NotDoneCode.FROM_A_FEED)],
    )
    await world.run()
    assert world.at_meta().keys() == {"kept", "fed"}, "a person asked for it: no grace"
    assert (await world.states())["old"]["status"] == "deleted"
    assert (await states_of(world))["old"] == "deleted"
    assert await world.is_quiet()
    await assert_sums(world)
