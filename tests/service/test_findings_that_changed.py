"""What a reconciliation found, and what became of the rows before a person acted on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.sandbox.options import DEMO_CATALOG_ID
from meta_sync.sync.adopt import AdoptService
from meta_sync.sync.adopt_models import NotDoneCode
from meta_sync.sync.pins import PinsService
from meta_sync.sync.reconcile_repair import RepairOrder
from tests.support.findings import JOB, at_meta_item, find, put_at_meta, states_of
from tests.support.pipeline import assert_sums, execute, fetch
from tests.support.world import World, open_world, variant

_TITLE: dict[str, list[Any]] = {"title": ["Product p", "Meta's title"]}


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.run()
        yield world


def _adoption(world: World) -> AdoptService:
    return AdoptService(world.database, world.queue, utc_now)


async def _the_job(world: World) -> None:
    await execute(
        world,
        f"INSERT INTO jobs (job_id, store_id, link_id, type, status) SELECT '{JOB}', store_id, link_id,"
        " 'reconciliation', 'success' FROM catalog_links WHERE active",
    )


@pytest.mark.parametrize("decision", ["take", "pin"])
async def test_a_value_that_is_older_than_the_item_is_not_kept(world: World, decision: str) -> None:
    await world.put("p", variant("a"))
    await world.run()
    put_at_meta(world, at_meta_item("a", title="Meta's title"))
    await find(world, "different", "a", differences=_TITLE)
    # The merchant was quicker: Meta has confirmed what is the store's since.
    await world.put("p", variant("a", 2500), title="Edited since")
    await world.run()
    pins = PinsService(world.database, world.queue)
    decide = pins.take if decision == "take" else pins.pin
    for dry_run in (True, False):
        result = await decide(world.store_id, JOB, {"a": ["title"]}, dry_run=dry_run, actor="somebody")
        assert [(one.retailer_id, one.code.value) for one in result.not_done] == [("a", "changed_since")]
    await world.run()
    await world.assert_right()
    assert world.at_meta()["a"]["title"] == "Edited since"


async def test_siblings_are_decided_about_in_one_call(world: World) -> None:
    await world.put("p", variant("a"), variant("b"))
    await world.run()
    await find(world, "different", "a", "b", differences=_TITLE, name="Meta's title")
    pins = PinsService(world.database, world.queue)
    result = await pins.take(world.store_id, JOB, {"a": None, "b": None}, actor="somebody")
    assert (result.done, result.not_done) == (["a", "b"], [])
    await world.run()
    await world.assert_right()
    assert {one["title"] for one in world.at_meta().values()} == {"Meta's title"}


async def test_an_id_that_was_sent_under_another_one_keeps_no_others_from_being_dealt_with(
    world: World,
) -> None:
    await world.stores.patch_settings(world.store_id, {"retailerIdTemplate": "old-{variantId}"})
    await world.put("p", variant("a"))
    await world.run()
    await world.catalog.delete_product(world.store_id, "p")
    await world.run()
    put_at_meta(world, at_meta_item("a"), at_meta_item("b"), at_meta_item("c"))
    await find(world, "foreign", "a", "b", "c")
    result = await _adoption(world).adopt(world.store_id, JOB, retailer_ids=["a", "b"], actor="somebody")
    assert (result.done, [(one.retailer_id, one.code) for one in result.not_done]) == (
        ["b"],
        [("a", NotDoneCode.ID_TAKEN)],
    )
    gone: Any = {"retailer_ids": ["a", "c"], "actor": "somebody"}
    result = await _adoption(world).delete_foreign(world.store_id, JOB, **gone)
    assert (result.done, [(one.retailer_id, one.code) for one in result.not_done]) == (
        ["c"],
        [("a", NotDoneCode.ID_TAKEN)],
    )
    await world.run()
    assert world.at_meta().keys() == {"a", "b"}


@pytest.mark.parametrize("is_sent", [False, True])
async def test_what_the_store_sells_under_the_id_of_a_deleted_foreign_item_is_sent(
    world: World, is_sent: bool
) -> None:
    put_at_meta(world, at_meta_item("x"))
    await find(world, "foreign", "x")
    await _adoption(world).delete_foreign(world.store_id, JOB, retailer_ids=["x"], actor="somebody")
    if is_sent:
        await world.run()
        assert world.at_meta() == {}
    await world.put("p", variant("x"))
    await world.run()
    await world.assert_right()
    assert (await world.states())["x"]["status"] == "synced"
    assert world.at_meta()["x"]["title"] == "Product p"
    await assert_sums(world)


async def test_the_guard_holds_no_foreign_items_that_a_person_listed(world: World) -> None:
    ids = [f"x{number}" for number in range(8)]
    await world.put("p", variant("a"), variant("b"))
    await world.run()
    await world.stores.patch_settings(world.store_id, {"guardMinItems": 1, "guardMaxShare": 0.01})
    put_at_meta(world, *(at_meta_item(one) for one in ids))
    await find(world, "foreign", *ids)
    await _adoption(world).delete_foreign(world.store_id, JOB, retailer_ids=ids, actor="somebody")
    await world.run()
    assert await fetch(world, "SELECT kind FROM holds") == []
    assert world.at_meta().keys() == {"a", "b"}


async def test_a_plan_says_what_a_repair_of_an_adopted_item_does(world: World) -> None:
    put_at_meta(world, at_meta_item("v"))
    await find(world, "foreign", "v")
    await _adoption(world).adopt(world.store_id, JOB, actor="somebody")
    await execute(world, "DELETE FROM reconcile_findings")
    await _the_job(world)
    await find(world, "missing", "v")
    world.sandbox.catalog(DEMO_CATALOG_ID).remove("v")
    plan = await world.repairs.plan(world.store_id, JOB, RepairOrder())
    assert [(one.variant_id, one.decision) for one in plan.steps] == [("v", "upsert")]
    await world.repairs.repair(world.store_id, JOB, RepairOrder(), actor="somebody")
    await world.run()
    assert world.at_meta().keys() == {"v"}


async def test_only_what_was_repaired_is_noted_as_repaired(world: World) -> None:
    await world.put("p", variant("a"), variant("b"))
    await world.run()
    await _the_job(world)
    await find(world, "different", "a", "b", differences=_TITLE)
    await execute(world, "DELETE FROM sync_state WHERE variant_id = 'b'")
    plan = await world.repairs.repair(world.store_id, JOB, RepairOrder(), actor="somebody")
    assert [one.variant_id for one in plan.steps] == ["a"]
    noted = await fetch(world, "SELECT after FROM audit_log WHERE action = 'items_repaired'")
    assert noted == [({"items": 1, "variantIds": ["a"]},)]


# --- what Meta shows ----------------------------------------------------------------------------------------------------


async def test_a_long_text_is_taken_and_adopted_whole(world: World) -> None:
    long = "\u0926\u093f\u0935\u093e\u0930 " * 1_600
    await world.put("p", variant("a"))
    await world.run()
    await _change(world, "a", description=long.strip())
    put_at_meta(world, at_meta_item("b", description=long.strip()))
    job_id = await _read(world)
    pins = PinsService(world.database, world.queue)
    await pins.take(world.store_id, job_id, {"a": ["description"]}, actor="somebody")
    await _adoption(world).adopt(world.store_id, job_id, actor="somebody")
    for product_id in ("p", "b"):
        stored = await world.catalog.get_product(world.store_id, product_id)
        assert stored.product.description == long.strip()


async def test_a_text_that_tells_of_a_nul_is_only_a_text(world: World) -> None:
    await world.put("p", variant("a"))
    await world.run()
    await _change(world, "a", title="Ends with \\u0000", description="A real\x00one")
    job_id = await _read(world)
    assert await states_of(world) == {"a": "agreed"}
    found = await fetch(world, f"SELECT found ->> 'name' FROM reconcile_findings WHERE job_id = '{job_id}'")
    assert found == [("Ends with \\u0000",)]


async def _change(world: World, retailer_id: str, **fields: Any) -> None:
    catalog = world.sandbox.catalog(DEMO_CATALOG_ID)
    catalog.store(retailer_id, {**catalog.items[retailer_id], **fields})


async def _read(world: World) -> str:
    """A reconciliation to its end."""
    job_id = await world.reconciliations.start(world.store_id, actor="somebody")
    pipeline = world.pipeline()
    while not (await world.reconciliations.get(world.store_id, job_id)).job.is_over:
        await pipeline.read_jobs_tick()
    assert (await world.reconciliations.get(world.store_id, job_id)).job.status == "success"
    return job_id
