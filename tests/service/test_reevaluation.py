"""Looks at everything: killed and overtaken in the middle, over tombstones, ineligible rows and older epochs of a link."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from meta_sync.core import failpoints
from meta_sync.core.db import Database
from meta_sync.core.failpoints import FailpointError
from meta_sync.sandbox.options import DEMO_BUSINESS_ID, DEMO_CATALOG_ID
from meta_sync.sync import job_runner
from meta_sync.sync.job_models import JobView
from tests.support.pipeline import assert_tidy, execute, fetch, one
from tests.support.world import World, open_world, product, variant

_OTHER_CATALOG = "7100195296759999"


@pytest.fixture
async def world(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    monkeypatch.setattr(job_runner, "_PAGE", 3)
    async with open_world(database, database_url) as world:
        world.sandbox.add_catalog("7100195296754001", "Other", catalog_id=_OTHER_CATALOG)
        yield world


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.disarm_all()


async def _newest(world: World, kind: str) -> JobView:
    return next(job for job in await world.jobs.list(world.store_id) if job.type == kind)


async def _fill(world: World, count: int = 7) -> None:
    await world.catalog.put_products(world.store_id, [product(f"p{number}") for number in range(count)])
    await world.connect()
    await world.run()


async def test_killed_between_pages_it_goes_on_where_it_was(world: World) -> None:
    await _fill(world)
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "used"})
    failpoints.arm("job.after_page", "raise@2")
    pipeline = world.pipeline()
    assert await pipeline.jobs_tick() == 1
    with pytest.raises(FailpointError):
        await pipeline.jobs_tick()
    job = await _newest(world, "reevaluation")
    assert (job.looked_at, job.enqueued, job.stage) == (6, 6, "enqueuing")
    await world.run(world.pipeline("another"))
    job = await _newest(world, "reevaluation")
    assert (job.status, job.looked_at, job.enqueued) == ("success", 7, 7)
    await assert_tidy(world)
    assert {item["condition"] for item in world.at_meta().values()} == {"used"}


async def test_killed_and_overtaken_it_begins_at_its_first_row(world: World) -> None:
    """(5): what the dead worker looked at by the settings before is looked at by those that hold now."""
    await _fill(world)
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "used"})
    failpoints.arm("job.after_page", "raise@2")
    pipeline = world.pipeline()
    await pipeline.jobs_tick()
    with pytest.raises(FailpointError):
        await pipeline.jobs_tick()
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "refurbished"})
    assert (await _newest(world, "reevaluation")).looked_at == 0
    await world.run(world.pipeline("another"))
    job = await _newest(world, "reevaluation")
    assert (job.status, job.looked_at) == ("success", 7)
    await assert_tidy(world)
    assert {item["condition"] for item in world.at_meta().values()} == {"refurbished"}


async def test_rows_that_come_go_and_change_behind_and_before_the_cursor(world: World) -> None:
    await _fill(world)
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "used"})
    pipeline = world.pipeline()
    await pipeline.jobs_tick()
    await world.put("p0", variant("p0-v", 5))
    await world.catalog.delete_product(world.store_id, "p1")
    await world.put("p5", variant("p5-v", 6))
    await world.catalog.delete_product(world.store_id, "p6")
    await world.put("a0", variant("a0"))
    await world.put("z0", variant("z0"))
    await world.run(pipeline)
    await assert_tidy(world)
    assert set(world.at_meta()) == {"a0", "p0-v", "p2-v", "p3-v", "p4-v", "p5-v", "z0"}
    assert {item["condition"] for item in world.at_meta().values()} == {"used"}


async def _lose_intents(world: World) -> None:
    """As after a restored backup, or an intent that was lost by a fault: only a look at everything finds the row."""
    await execute(world, "DELETE FROM intents")


@pytest.mark.parametrize("kind", ["bootstrap", "reevaluation"])
async def test_tombstones_and_ineligible_rows_that_are_still_at_meta(world: World, kind: str) -> None:
    """(5)"""
    await _fill(world, 4)
    await world.catalog.delete_product(world.store_id, "p0")
    await world.put("p1", variant("p1-v", None))
    await world.put("p2", status="draft")
    await _lose_intents(world)
    if kind == "bootstrap":
        await world.jobs.start_bootstrap(world.store_id, requested_by=None)
    else:
        await world.stores.patch_settings(world.store_id, {"defaultBrand": "Nobody needs it"})
    await world.run()
    assert set(world.at_meta()) == {"p3-v"}
    states = {name: (state["status"], state["presence"]) for name, state in (await world.states()).items()}
    gone = ("deleted", "absent")
    assert states == {"p0-v": gone, "p1-v": gone, "p2-v": gone, "p3-v": ("synced", "present")}
    await assert_tidy(world)


async def test_a_tombstone_that_was_absent_before_the_store_went_away_and_came_back(world: World) -> None:
    """(5) and (23): an item of an older epoch may be at Meta again, whoever put it there while nobody looked."""
    await _fill(world, 2)
    await world.catalog.delete_product(world.store_id, "p0")
    await world.put("p1", variant("p1-v"), variant("gone"))
    await world.run()
    await world.put("p1", variant("p1-v"))
    await world.run()
    assert set(world.at_meta()) == {"p1-v"}
    await world.connect(catalog_id=_OTHER_CATALOG)
    await world.run()
    for back in ("p0-v", "gone"):
        world.sandbox.catalog(DEMO_CATALOG_ID).items[back] = {"id": back, "price": "1.00 EUR"}
    await world.connect()
    job = await _newest(world, "bootstrap")
    assert job.total == 3, "one lives, two were sent by this link"
    await world.run()
    await assert_tidy(world)
    assert set(world.at_meta()) == {"p1-v"}
    assert {state["confirmed_epoch"] for state in (await world.states()).values()} == {2}
    # Of this epoch it is known again: a further look asks nothing.
    calls = world.calls()
    assert (await world.jobs.start_bootstrap(world.store_id, requested_by=None)).total == 1
    await world.run()
    assert world.calls() == calls


async def test_tombstones_that_were_never_sent_are_not_looked_at(world: World) -> None:
    """Nor deleted, in a catalog that others fill too: whatever is there under the id is not ours."""
    world.sandbox.catalog(DEMO_CATALOG_ID).items["foreign"] = {"id": "foreign", "price": "1.00 EUR"}
    await world.put("p", variant("foreign", None), variant("other", None))
    await world.connect()
    await world.approve()
    await world.run()
    await world.catalog.delete_product(world.store_id, "p")
    await world.run()
    started = await world.jobs.start_bootstrap(world.store_id, requested_by=None)
    await world.pipeline().jobs_tick()
    assert (started.total, await fetch(world, "SELECT 1 FROM intents")) == (0, [])
    await world.run()
    assert set(world.at_meta()) == {"foreign"}
    assert await one(world, "SELECT count(*) FROM batch_items") == 0


async def test_an_item_whose_variant_went_while_the_store_was_elsewhere_does_not_wait_for_ever(
    world: World,
) -> None:
    await world.connect(sync=False)
    await world.put("p", variant("a"), variant("b"))
    other = world.sandbox.add_catalog(DEMO_BUSINESS_ID, name="Other").id
    await world.connect(catalog_id=other)
    await world.put("p", variant("a"))
    await world.run()
    await world.connect()
    await world.run()
    states = await world.states()
    assert {one: state["status"] for one, state in states.items()} == {"a": "synced"}
