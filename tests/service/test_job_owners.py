"""Whom an intent and a note belong to: what only a job wanted goes with it, what it did not touch it does not claim."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from meta_sync.core.db import Database
from meta_sync.sync import job_runner
from meta_sync.sync.distrust import DistrustService
from meta_sync.sync.job_models import JobAction, JobOrder, JobScope, ScopeKind
from meta_sync.sync.outbox import write_intents
from meta_sync.sync.sale_windows import SaleWindows
from tests.support.pipeline import execute, fetch, one
from tests.support.world import World, open_world, product, variant

_OTHER_CATALOG = "7100195296759999"
_COUNT = 7


@pytest.fixture
async def world(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    monkeypatch.setattr(job_runner, "_PAGE", 3)
    async with open_world(database, database_url) as world:
        world.sandbox.add_catalog("7100195296754001", "Other", catalog_id=_OTHER_CATALOG)
        yield world


async def _synced(world: World) -> None:
    await world.catalog.put_products(world.store_id, [product(f"p{number}") for number in range(_COUNT)])
    await world.connect()
    await world.run()


async def _bootstrap(world: World) -> str:
    """Have everything asked for by a job over all, and nothing decided."""
    job_id = (await world.jobs.start_bootstrap(world.store_id, requested_by=None)).job_id
    await _ask_for_all(world, job_id)
    return job_id


async def _ask_for_all(world: World, job_id: str) -> None:
    pipeline = world.pipeline()
    while (await world.jobs.get(world.store_id, job_id)).looked_at < _COUNT:
        await pipeline.jobs_tick()


async def _other_catalog(world: World) -> str:
    await world.connect(catalog_id=_OTHER_CATALOG)
    job_id = await world.jobs.running(world.store_id, "bootstrap")
    assert job_id is not None
    return job_id


async def _call_off(world: World, job_id: str) -> None:
    await world.jobs.cancel(world.store_id, job_id)
    pipeline = world.pipeline()
    for _ in range(20):
        await pipeline.jobs_tick()
    job = await world.jobs.get(world.store_id, job_id)
    assert (job.status, job.counts.cancelled) == ("cancelled", _COUNT)


async def _waiting(world: World) -> list[str]:
    return [row[0] for row in await fetch(world, "SELECT variant_id FROM intents ORDER BY variant_id")]


# --- another catalog ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_asked_for", [True, False], ids=["asked for", "not begun"])
async def test_a_first_sync_of_another_catalog_that_is_called_off_sends_nothing(
    world: World, is_asked_for: bool
) -> None:
    await _synced(world)
    await _bootstrap(world)
    # Two jobs ask for everything.
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "used"})
    second = await world.jobs.running(world.store_id, "reevaluation")
    assert second is not None
    await _ask_for_all(world, second)
    assert len(await _waiting(world)) == _COUNT
    job_id = await _other_catalog(world)
    if is_asked_for:
        await _ask_for_all(world, job_id)
    await _call_off(world, job_id)
    assert await _waiting(world) == []
    assert {one["status"] for one in (await world.states()).values()} == {"never_synced"}
    await world.run()
    assert world.sandbox.catalog(_OTHER_CATALOG).items == {}
    # Whoever wants it after all has it.
    await world.jobs.start_bootstrap(world.store_id, requested_by=None)
    await world.run()
    assert len(world.sandbox.catalog(_OTHER_CATALOG).items) == _COUNT


async def test_what_somebody_changed_goes_to_the_other_catalog_although_its_first_sync_is_called_off(
    world: World,
) -> None:
    await _synced(world)
    await _bootstrap(world)
    await world.put("p4", variant("p4-v", 6))
    job_id = await _other_catalog(world)
    await world.put("p5", variant("p5-v", 6))
    await _ask_for_all(world, job_id)
    await _call_off(world, job_id)
    assert await _waiting(world) == ["p4-v", "p5-v"]
    await world.run()
    assert world.sandbox.catalog(_OTHER_CATALOG).items.keys() == {"p4-v", "p5-v"}


@pytest.mark.parametrize("is_first", [True, False], ids=["before the job", "after the job"])
async def test_the_end_of_a_sale_is_noticed_across_a_change_of_catalog(world: World, is_first: bool) -> None:
    await _synced(world)
    if not is_first:
        await _bootstrap(world)
    ended = "UPDATE variants SET special_price_end = now() - interval '1 h' WHERE variant_id = 'p1-v'"
    await execute(world, ended)
    await execute(world, "UPDATE store_queue SET sales_swept_to = now() - interval '1 d'")
    await SaleWindows(world.database, delay_seconds=300.0).sweep()
    if is_first:
        await _bootstrap(world)
    job_id = await _other_catalog(world)
    await _ask_for_all(world, job_id)
    await _call_off(world, job_id)
    assert await _waiting(world) == ["p1-v"]


# --- a first sync that begins anew ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_shared", [True, False], ids=["beside another job", "alone"])
async def test_a_first_sync_that_begins_anew_takes_over_what_the_one_before_asked_for(
    world: World, is_shared: bool
) -> None:
    await _synced(world)
    calls = world.calls()
    await _bootstrap(world)
    if is_shared:
        await world.stores.patch_settings(world.store_id, {"defaultCondition": "used"})
        second = await world.jobs.running(world.store_id, "reevaluation")
        assert second is not None
        await _ask_for_all(world, second)
    service = DistrustService(world.database, world.queue)
    job_id = (await service.distrust(world.store_id, requested_by=None)).job_id
    await _ask_for_all(world, job_id)
    await world.jobs.cancel(world.store_id, job_id)
    pipeline = world.pipeline()
    for _ in range(20):
        await pipeline.jobs_tick()
    # The re-evaluation wants them all; without it nobody does any more.
    assert len(await _waiting(world)) == (_COUNT if is_shared else 0)
    assert (world.calls() == calls) or is_shared


# --- beside a settle ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [JobAction.RETRY, JobAction.RESYNC, JobAction.FORCE], ids=str)
async def test_a_job_waits_for_a_settle_before_it_holds_what_that_needs(
    world: World, action: JobAction
) -> None:
    await _synced(world)
    await execute(world, "UPDATE sync_state SET in_flight = 1, rejected_hash = 'x' WHERE variant_id = 'p1-v'")
    await world.jobs.start(world.store_id, JobOrder("resync", action=action))
    async with world.database.platform() as settle:
        await settle.execute(text("SELECT 1 FROM sync_state WHERE variant_id = 'p1-v' FOR UPDATE"))
        ticking = asyncio.create_task(world.pipeline().jobs_tick())
        async with asyncio.timeout(10):
            while not await one(world, "SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - in a database
                await asyncio.sleep(0.01)
        # Sooner than the database would look for a deadlock.
        await settle.execute(text("SET LOCAL lock_timeout = '200ms'"))
        await write_intents(settle, world.store_id, ["p1-v"], [2])
    assert await ticking
    assert await one(world, "SELECT job_id FROM intents WHERE variant_id = 'p1-v'") is None
    assert await one(world, "SELECT rejected_hash FROM sync_state WHERE variant_id = 'p1-v'") is None


# --- what is said -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [JobAction.FORCE, JobAction.FORCE_RESYNC], ids=str)
async def test_nobody_is_said_to_have_asked_for_what_stays_excluded(world: World, action: JobAction) -> None:
    await _synced(world)
    await world.operations.exclude(world.store_id, "p6-v", actor="me")
    await world.run()
    await world.jobs.start(world.store_id, JobOrder("sync", action=action))
    await world.run()
    rows = await fetch(world, "SELECT variant_id FROM item_events WHERE kind = 'resync' ORDER BY variant_id")
    asked = [f"p{number}-v" for number in range(_COUNT)]
    assert [row[0] for row in rows] == (asked if action is JobAction.FORCE_RESYNC else asked[:-1])


async def test_a_deleted_variant_is_found_where_the_link_has_a_record_of_it(world: World) -> None:
    await _synced(world)
    await world.stores.patch_settings(world.store_id, {"syncEnabled": False})
    await world.put("new", variant("new-v"))
    await world.stores.patch_settings(world.store_id, {"syncEnabled": True})
    await world.catalog.delete_product(world.store_id, "new")
    await world.catalog.delete_product(world.store_id, "p1")
    await world.run()
    scope = JobScope(ScopeKind.VARIANTS, ("new-v", "nobody", "p1-v", "p2-v"))
    ordered = await world.jobs.start(world.store_id, JobOrder("resync", scope, action=JobAction.RESYNC))
    assert (ordered.started.total, ordered.not_found) == (2, ["new-v", "nobody"])
    await world.run()
    assert (await world.jobs.get(world.store_id, ordered.started.job_id)).status == "success"
