"""Jobs over all variants: worked off by cursor, killed and raced between any two pages, done when what they asked for is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from meta_sync.core import failpoints
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, NotFoundError
from meta_sync.core.failpoints import FailpointError
from meta_sync.sync import job_runner
from meta_sync.sync.job_models import JobView
from meta_sync.sync.job_scope import needs_intent
from meta_sync.sync.models import NEW_ITEM, DecisionKind, Presence, Status
from tests.support.pipeline import arm, assert_sums, assert_tidy, execute, fetch, one
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


async def _fill(world: World, count: int = 7) -> None:
    await world.catalog.put_products(world.store_id, [product(f"p{number}") for number in range(count)])


async def _newest(world: World, kind: str) -> JobView:
    return next(job for job in await world.jobs.list(world.store_id) if job.type == kind)


async def _pages(world: World) -> int:
    pipeline, pages = world.pipeline(), 0
    while await one(
        world, "SELECT count(*) FROM jobs WHERE status IN ('queued', 'running') AND stage <> 'syncing'"
    ):
        pages += await pipeline.jobs_tick()
    return pages


async def test_a_first_sync_is_worked_off_in_pages_and_done_when_all_is_confirmed(world: World) -> None:
    with pytest.raises(ConflictError, match="No Meta catalog"):
        await world.jobs.start_bootstrap(world.store_id, requested_by="me")
    await _fill(world)
    await world.connect()
    job = await _newest(world, "bootstrap")
    assert (job.total, job.status, job.looked_at) == (7, "queued", 0)
    with pytest.raises(ConflictError, match=job.job_id):
        await world.jobs.start_bootstrap(world.store_id, requested_by="me")
    assert await _pages(world) == 3
    job = await world.jobs.get(world.store_id, job.job_id)
    assert (job.status, job.stage, job.looked_at, job.enqueued, job.unchanged) == (
        "running",
        "syncing",
        7,
        7,
        0,
    )
    await world.run()
    job = await world.jobs.get(world.store_id, job.job_id)
    assert (job.status, job.stage) == ("success", "done")
    assert job.finished_at is not None
    await assert_tidy(world)
    with pytest.raises(NotFoundError):
        await world.jobs.get("store_other", job.job_id)
    # A second one asks about all and finds nothing to do.
    started = await world.jobs.start_bootstrap(world.store_id, requested_by="me")
    assert started.total == 7
    calls = world.calls()
    await world.run()
    job = await world.jobs.get(world.store_id, started.job_id)
    assert (job.status, job.requested_by, world.calls()) == ("success", "me", calls)


async def test_a_job_that_is_killed_between_pages_goes_on_where_it_was(world: World) -> None:
    await _fill(world)
    await world.connect()
    failpoints.arm("job.after_page", "raise@2")
    pipeline = world.pipeline()
    assert await pipeline.jobs_tick() == 1
    with pytest.raises(FailpointError):
        await pipeline.jobs_tick()
    job = await _newest(world, "bootstrap")
    assert (job.looked_at, job.enqueued) == (6, 6)
    await world.run()
    job = await _newest(world, "bootstrap")
    assert (job.status, job.looked_at, job.enqueued) == ("success", 7, 7)
    await assert_tidy(world)


async def test_a_page_of_a_worker_that_lost_the_job_is_not_written(world: World) -> None:
    await _fill(world)
    await world.connect()
    runner = world.pipeline()._jobs
    wanted = runner._wanted

    async def taken_over(*args: object) -> list[str]:
        await execute(world, "UPDATE jobs SET fence = fence + 1")
        return await wanted(*args)  # type: ignore[arg-type]  # given loosely on purpose

    runner._wanted = taken_over  # type: ignore[method-assign,assignment]  # in its place
    await execute(world, "DELETE FROM intents")
    assert await runner.run_next()
    assert await fetch(world, "SELECT * FROM intents") == []
    assert (await _newest(world, "bootstrap")).looked_at == 0
    await execute(world, "UPDATE jobs SET leased_until = NULL")
    await world.run()
    await assert_tidy(world)


async def test_a_changed_setting_sends_only_what_it_changes(world: World) -> None:
    await _fill(world)
    await world.put("linked", variant("linked", link="https://elsewhere.example/x"))
    await world.put("draft", variant("draft", None))
    await world.put("gone", variant("gone"))
    await world.connect()
    await world.run()
    await world.catalog.delete_product(world.store_id, "gone")
    await world.run()
    await world.stores.patch_settings(world.store_id, {"storefrontBaseUrl": "https://new.example"})
    await world.run()
    job = await _newest(world, "reevaluation")
    assert (job.status, job.looked_at, job.enqueued, job.unchanged) == ("success", 10, 7, 2)
    await assert_tidy(world)


async def test_a_second_change_restarts_the_running_look(world: World) -> None:
    """(5)"""
    await _fill(world)
    await world.connect()
    await world.run()
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "used"})
    pipeline = world.pipeline()
    assert await pipeline.jobs_tick() == 1
    assert (await _newest(world, "reevaluation")).looked_at == 3
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "refurbished"})
    job = await _newest(world, "reevaluation")
    assert (job.looked_at, job.stage) == (0, "waiting")
    assert len(await world.jobs.list(world.store_id)) == 2, "one first sync, one look"
    await world.run()
    await assert_tidy(world)
    assert {item["condition"] for item in world.at_meta().values()} == {"refurbished"}


async def test_a_change_within_a_page_or_at_the_very_end_is_not_lost(world: World) -> None:
    """(5): between the lease and the page, between reading and advancing, and between the last look and the end."""
    await _fill(world, 2)
    await world.connect()
    await world.run()
    runner = world.pipeline()._jobs
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "used"})
    wanted, follow = runner._wanted, runner._follow

    async def changed_within(*args: object) -> list[str]:
        runner._wanted = wanted  # type: ignore[method-assign]  # put in place of the real one for this test
        found = await wanted(*args)  # type: ignore[arg-type]  # given loosely on purpose
        await world.stores.patch_settings(world.store_id, {"defaultCondition": "refurbished"})
        return found

    runner._wanted = changed_within  # type: ignore[method-assign,assignment]  # in its place
    assert await runner.run_next()
    assert (await _newest(world, "reevaluation")).looked_at == 0, (
        "the page was decided by the settings before"
    )
    await execute(world, "UPDATE jobs SET leased_until = NULL WHERE status = 'running'")
    await world.run(until=lambda: _is_syncing(world))

    async def changed_before_the_end(job: object) -> bool:
        await world.stores.patch_settings(world.store_id, {"defaultCondition": "new"})
        return await follow(job)  # type: ignore[arg-type]  # given loosely on purpose

    pipeline = world.pipeline()
    while await pipeline.drain_tick() + await pipeline.poll_tick():
        pass
    await execute(world, "UPDATE jobs SET leased_until = NULL WHERE status = 'running'")
    await execute(world, "UPDATE batches SET due_at = now() WHERE state = 'open'")
    while await fetch(world, "SELECT 1 FROM batches WHERE state <> 'over'"):
        await pipeline.poll_tick()
    runner._follow = changed_before_the_end  # type: ignore[method-assign]  # put in place of the real one for this test
    await runner.run_next()
    assert (await _newest(world, "reevaluation")).status == "running", (
        "sent back to its first row, not finished"
    )
    runner._follow = follow  # type: ignore[method-assign]  # put in place of the real one for this test
    await execute(world, "UPDATE jobs SET leased_until = NULL WHERE status = 'running'")
    await world.run()
    await assert_tidy(world)
    assert {item["condition"] for item in world.at_meta().values()} == {"new"}


async def _is_syncing(world: World) -> bool:
    return (await _newest(world, "reevaluation")).stage == "syncing"


async def test_a_job_waits_for_what_it_asked_and_tells_of_failures(world: World) -> None:
    await _fill(world, 2)
    world.sandbox.refuse("p1-v", "No.")
    await world.connect()
    pipeline = world.pipeline()
    await pipeline.jobs_tick()
    await execute(world, "UPDATE jobs SET leased_until = NULL")
    await pipeline.jobs_tick()
    assert (await _newest(world, "bootstrap")).status == "running", "intents wait"
    await pipeline.drain_tick()
    await execute(world, "UPDATE jobs SET leased_until = NULL")
    await pipeline.jobs_tick()
    assert (await _newest(world, "bootstrap")).status == "running", "a batch is open"
    await world.run()
    assert (await _newest(world, "bootstrap")).status == "partial"


async def test_another_catalog_ends_the_jobs_of_the_one_before(world: World) -> None:
    await _fill(world)
    await world.connect()
    pipeline = world.pipeline()
    await pipeline.jobs_tick()
    first = await _newest(world, "bootstrap")
    await world.connect(catalog_id=_OTHER_CATALOG)
    ended = await world.jobs.get(world.store_id, first.job_id)
    assert (ended.status, ended.error_code) == ("cancelled", "catalog_changed")
    second = await _newest(world, "bootstrap")
    assert second.job_id != first.job_id
    # Leased just before: it notices by itself.
    await execute(world, "UPDATE jobs SET status = 'queued' WHERE job_id = :id", id=second.job_id)
    await execute(world, "UPDATE catalog_links SET active = false")
    await execute(world, "UPDATE catalog_links SET active = true WHERE catalog_id <> :id", id=_OTHER_CATALOG)
    assert await pipeline.jobs_tick() == 1
    job = await world.jobs.get(world.store_id, second.job_id)
    assert (job.status, job.looked_at) == ("cancelled", 0)
    assert job.error_code == "catalog_changed"


async def test_an_intent_that_waits_already_is_not_made_less_urgent(world: World) -> None:
    await world.connect()
    await world.run()
    await world.put("p", variant("a"))
    before = await one(world, "SELECT version, lane, first_at, job_id FROM intents")
    await world.jobs.start_bootstrap(world.store_id, requested_by=None)
    await world.pipeline().jobs_tick()
    assert await one(world, "SELECT version, lane, first_at, job_id FROM intents") == before
    # And the other way round: a change takes an intent over that only a job wanted.
    await execute(world, "UPDATE intents SET lane = 2, job_id = 'job_x'")
    await world.put("p", variant("a", 5))
    assert await one(world, "SELECT lane, job_id FROM intents") == (0, None)


async def test_without_complete_settings_all_is_looked_at_again(world: World) -> None:
    await _fill(world, 2)
    await world.connect()
    await world.run()
    await world.stores.patch_settings(world.store_id, {"storefrontBaseUrl": None})
    await world.pipeline().jobs_tick()
    assert (await _newest(world, "reevaluation")).enqueued == 2
    await world.stores.patch_settings(world.store_id, {"storefrontBaseUrl": "https://shop.example"})
    await world.run()
    await assert_tidy(world)
    assert world.calls() == 1


async def test_tombstones_that_may_still_be_there_are_looked_at(world: World) -> None:
    """(5): a deleted item whose presence is not known is part of every look."""
    await world.put("p", variant("a"))
    await world.connect()
    await world.run()
    await world.catalog.delete_product(world.store_id, "p")
    arm(world, "handle_error", count=1, share=0)
    await world.pipeline().drain_tick()
    # The delete was lost together with its intent, as after a restored backup.
    await execute(world, "UPDATE batches SET state = 'over', unknown = sent WHERE state <> 'over'")
    await execute(world, "UPDATE batch_items SET outcome = 'unknown' WHERE method = 'DELETE'")
    await execute(world, "UPDATE sync_state SET in_flight = NULL, status = 'pending'")
    started = await world.jobs.start_bootstrap(world.store_id, requested_by=None)
    assert started.total == 1
    await world.run()
    await world.assert_right()
    assert (await world.states())["a"]["status"] == "deleted"
    assert (await world.jobs.start_bootstrap(world.store_id, requested_by=None)).total == 0
    await assert_sums(world)


_SYNCED = replace(NEW_ITEM, status=Status.SYNCED, presence=Presence.PRESENT)
_SKIPPED = replace(NEW_ITEM, status=Status.SKIPPED, code="missing_price")


@pytest.mark.parametrize(
    ("decision", "reason", "state", "needed"),
    [
        (DecisionKind.UPSERT, None, _SYNCED, True),
        (DecisionKind.DELETE, None, _SYNCED, True),
        (DecisionKind.NOOP, None, _SYNCED, False),
        (DecisionKind.NOOP, None, replace(_SYNCED, status=Status.FAILED), True),
        (DecisionKind.NOOP, None, replace(_SYNCED, in_flight=1), True),
        (DecisionKind.SKIP, "missing_price", _SKIPPED, False),
        (DecisionKind.SKIP, "missing_image", _SKIPPED, True),
        (DecisionKind.SKIP, "missing_price", replace(_SKIPPED, status=Status.PENDING), True),
        (DecisionKind.DROP, None, NEW_ITEM, False),
        (DecisionKind.KEEP, None, _SYNCED, False),
        (DecisionKind.FAIL, None, NEW_ITEM, False),
    ],
)
def test_who_needs_a_look(decision: DecisionKind, reason: str | None, state: object, needed: bool) -> None:
    assert needs_intent(decision, reason, state) is needed  # type: ignore[arg-type]  # given loosely on purpose
