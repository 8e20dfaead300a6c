"""Taking everything off Meta that was sent: as a job, whatever the guard and the grace, and not what is not ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError
from meta_sync.sandbox.options import SandboxOptions
from meta_sync.sync.adopt import AdoptService
from meta_sync.sync.removal import RemovalService
from tests.support.findings import JOB, at_meta_item, find, put_at_meta
from tests.support.pipeline import assert_sums, execute, fetch
from tests.support.world import World, open_world, variant


@pytest.fixture(params=["clean", "adverse"])
async def world(request: Any, database: Database, database_url: str) -> AsyncIterator[World]:
    options = SandboxOptions(profile=request.param, processing_delay_seconds=0.01)
    async with open_world(database, database_url, options) as world:
        await world.connect()
        # As much as the guard would hold, and a grace that would keep it for days.
        await world.stores.patch_settings(
            world.store_id, {"deleteGraceDays": 7, "guardMinItems": 1, "guardMaxShare": 0.01}
        )
        for number in range(6):
            await world.put(f"p{number}", variant(f"v{number}"))
        await world.run()
        yield world


def _removal(world: World) -> RemovalService:
    return RemovalService(world.database, world.queue)


async def _reconnect(world: World) -> None:
    """Leave the catalog, as a disconnect does, and come back to it."""
    await execute(world, "UPDATE catalog_links SET active = false")
    await world.connect()


async def test_all_that_was_sent_is_deleted_and_what_is_not_ours_stays(world: World) -> None:
    put_at_meta(world, at_meta_item("adopted"), at_meta_item("touched"), at_meta_item("foreign"))
    await find(world, "foreign", "adopted", "touched")
    await AdoptService(world.database, world.queue, utc_now).adopt(world.store_id, JOB, actor="somebody")
    body = (await world.catalog.get_product(world.store_id, "touched")).product
    body.title = "Changed here"
    await world.catalog.put_product(world.store_id, body)
    await world.run()
    started = await _removal(world).start(world.store_id, actor="somebody")
    await world.run()
    assert world.at_meta().keys() == {"adopted", "foreign"}
    job = await world.jobs.get(world.store_id, started.job_id)
    assert (job.type, job.status) == ("removal", "success")
    assert await fetch(world, "SELECT 1 FROM holds") == []
    excluded = await fetch(world, "SELECT 1 FROM sync_state WHERE excluded_at IS NOT NULL")
    assert excluded == [], "the items may be sent again some day"
    await assert_sums(world)


async def test_nothing_goes_out_after_it_until_the_store_comes_back(world: World) -> None:
    await _removal(world).start(world.store_id, actor="somebody")
    await world.run()
    await world.put("new", variant("new"))
    await world.put("p0", variant("v0", 500))
    await world.jobs.start_bootstrap(world.store_id, requested_by="somebody")
    await world.run()
    assert world.at_meta() == {}
    await _reconnect(world)
    await world.run()
    await world.assert_right()
    assert len(world.at_meta()) == 7


async def test_a_removal_that_is_cancelled_lets_items_be_sent_again(world: World) -> None:
    started = await _removal(world).start(world.store_id, actor="somebody")
    with pytest.raises(ConflictError) as refused:
        await _removal(world).start(world.store_id, actor="somebody")
    assert refused.value.details[0].message == started.job_id
    await world.jobs.cancel(world.store_id, started.job_id, actor="somebody")
    await world.jobs.start_bootstrap(world.store_id, requested_by="somebody")
    await world.run()
    await world.assert_right()
    assert not await _removal(world).undo(world.store_id, actor="somebody")
    assert await fetch(world, "SELECT 1 FROM audit_log WHERE action = 'removal_undone'") == []


async def test_a_removal_that_ended_can_be_undone(world: World) -> None:
    await _removal(world).start(world.store_id, actor="somebody")
    await world.run()
    assert await _removal(world).undo(world.store_id, actor="somebody")
    told = "SELECT actor, target_id FROM audit_log WHERE action = 'removal_undone'"
    assert await fetch(world, told) == [("somebody", world.store_id)]
    await world.jobs.start_bootstrap(world.store_id, requested_by="somebody")
    await world.run()
    await world.assert_right()


async def test_an_exclusion_of_a_person_outlives_it(world: World) -> None:
    await world.operations.exclude(world.store_id, "v0", actor="somebody")
    await world.run()
    await _removal(world).start(world.store_id, actor="somebody")
    await world.run()
    await _reconnect(world)
    await world.run()
    assert world.at_meta().keys() == {f"v{number}" for number in range(1, 6)}
