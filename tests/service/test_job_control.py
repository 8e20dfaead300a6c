"""Jobs as a person steers them: over chosen items, by force, called off; with counts that add up at every look."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from meta_sync.catalog.models import Lane
from meta_sync.core import failpoints
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, NotFoundError
from meta_sync.core.failpoints import FailpointError
from meta_sync.sync import job_runner
from meta_sync.sync.item_queries import ItemFilter
from meta_sync.sync.job_models import JobAction, JobOrder, JobScope, JobView, ScopeKind
from meta_sync.sync.models import Status
from meta_sync.sync.sale_windows import SaleWindows
from tests.support.pipeline import assert_tidy, execute, fetch, one
from tests.support.world import World, open_world, product, variant


@pytest.fixture
async def world(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    monkeypatch.setattr(job_runner, "_PAGE", 3)
    async with open_world(database, database_url) as world:
        yield world


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.disarm_all()


def _check(job: JobView) -> None:
    counts = job.counts
    parts = (
        counts.enqueued,
        counts.unchanged,
        counts.submitted,
        counts.synced,
        counts.failed,
        counts.skipped,
    )
    assert min(*parts, counts.cancelled) >= 0, counts
    assert sum(parts) + counts.cancelled <= counts.total, counts
    if job.is_over:
        assert counts.ended == counts.total, counts


async def _synced(world: World, count: int = 7) -> None:
    await world.catalog.put_products(world.store_id, [product(f"p{number}") for number in range(count)])
    await world.connect()
    await world.run()


async def _start(world: World, scope: JobScope | None = None, **values: object) -> str:
    given = {"type": "sync", "scope": scope or JobScope(), **values}
    ordered = await world.jobs.start(world.store_id, JobOrder(**given))  # type: ignore[arg-type]  # given loosely on purpose
    return ordered.started.job_id


async def _until(world: World, job_id: str, *statuses: str) -> JobView:
    """Run the pipeline tick by tick, and look at the job after each."""
    pipeline = world.pipeline()
    job = await world.jobs.get(world.store_id, job_id)
    for _ in range(2000):
        for tick in (pipeline.jobs_tick, pipeline.drain_tick, pipeline.poll_tick):
            await tick()
            job = await world.jobs.get(world.store_id, job_id)
            _check(job)
            if job.status in statuses:
                return job
        await pipeline.sweep_tick()
        await execute(
            world, "UPDATE jobs SET leased_until = NULL WHERE leased_until > now() + interval '1 second'"
        )
    raise AssertionError(job)


async def _make_differ(world: World) -> None:
    """Every item differs from what Meta has, and nobody has said so."""
    await execute(world, "UPDATE variants SET price = price + 1")


async def test_counts_add_up_at_every_look(world: World) -> None:
    await _synced(world, 10)
    await _make_differ(world)
    await execute(world, "UPDATE variants SET price = price - 1 WHERE variant_id IN ('p0-v', 'p5-v')")
    await execute(world, "UPDATE variants SET price = NULL WHERE variant_id = 'p1-v'")
    world.sandbox.refuse("p2-v", "No.")
    await world.stores.patch_settings(world.store_id, {"batchSize": 3})
    job = await _until(world, await _start(world), "success", "partial", "error")
    counts = job.counts
    assert (job.status, job.stage, job.percent) == ("partial", "done", 100)
    assert (counts.total, counts.unchanged, counts.failed, counts.synced) == (10, 2, 1, 7)
    assert (counts.skipped, counts.cancelled, counts.submitted, counts.enqueued) == (0, 0, 0, 0)
    assert job.rate_per_minute is not None
    assert await fetch(world, "SELECT * FROM job_pages") == []
    # What Meta refused last is left alone by the next look, and what has no price is skipped, now that it is gone.
    job = await _until(world, await _start(world), "success")
    assert (job.counts.total, job.counts.unchanged, job.counts.skipped) == (10, 9, 1)


async def test_a_job_over_chosen_variants_and_products(world: World) -> None:
    await _synced(world)
    await world.put("many", *[variant(f"m{number}") for number in range(5)])
    await world.run()
    await _make_differ(world)
    scope = JobScope(ScopeKind.VARIANTS, ("nobody", "p1-v", "p2-v"))
    ordered = await world.jobs.start(world.store_id, JobOrder("sync", scope))
    assert (ordered.started.total, ordered.not_found) == (2, ["nobody"])
    calls = world.calls()
    job = await _until(world, ordered.started.job_id, "success")
    assert (job.counts.total, job.counts.synced, world.calls()) == (2, 2, calls + 1)
    scope = JobScope(ScopeKind.PRODUCTS, ("many", "no product"))
    ordered = await world.jobs.start(world.store_id, JobOrder("sync", scope, lane=Lane.LIVE))
    assert (ordered.started.total, ordered.not_found) == (5, ["no product"])
    await world.pipeline().jobs_tick()
    assert await one(world, "SELECT count(*), min(lane), max(lane) FROM intents") == (3, 0, 0)
    job = await _until(world, ordered.started.job_id, "success")
    assert (job.counts.total, job.counts.synced) == (5, 5)
    await execute(world, "UPDATE variants SET price = price - 1 WHERE variant_id LIKE 'p%'")
    await execute(world, "UPDATE variants SET price = price + 1 WHERE variant_id IN ('p1-v', 'p2-v')")
    await world.assert_right()


async def test_a_job_over_a_filter(world: World) -> None:
    await _synced(world)
    await _make_differ(world)
    scope = JobScope(ScopeKind.FILTER, (), ItemFilter(search="p3"))
    job = await _until(world, await _start(world, scope), "success")
    assert (job.counts.total, job.counts.synced, job.scope) == (1, 1, scope)
    scope = JobScope(ScopeKind.FILTER, (), ItemFilter(status=Status.SYNCED))
    ordered = await world.jobs.start(world.store_id, JobOrder("sync", scope))
    assert ordered.started.total == 7
    job = await _until(world, ordered.started.job_id, "success")
    assert (job.counts.total, job.counts.unchanged, job.counts.synced) == (7, 1, 6)
    await world.assert_right()


async def test_by_force_everything_is_sent_again_but_what_a_person_took_off(world: World) -> None:
    await _synced(world)
    await world.operations.exclude(world.store_id, "p6-v", actor="me")
    await world.run()
    world.sandbox.requests.clear()
    job = await _until(world, await _start(world, action=JobAction.FORCE), "success")
    assert (job.counts.total, job.counts.synced + job.counts.skipped) == (7, 7)
    assert world.calls() >= 1
    assert "p6-v" not in world.at_meta()
    await assert_tidy(world)


async def test_a_bulk_resync_of_what_failed(world: World) -> None:
    world.sandbox.refuse("p1-v", "No.")
    world.sandbox.refuse("p2-v", "No.")
    await _synced(world, 4)
    assert (await world.states())["p1-v"]["status"] == "failed"
    assert world.sandbox.lift_refusal("p1-v")
    scope = JobScope(ScopeKind.FILTER, (), ItemFilter(status=Status.FAILED))
    job_id = await _start(world, scope, type="resync", action=JobAction.RETRY)
    job = await _until(world, job_id, "partial")
    assert (job.counts.total, job.counts.synced, job.counts.failed) == (2, 1, 1)


async def test_chosen_items_are_taken_off_and_put_back(world: World) -> None:
    await _synced(world)
    scope = JobScope(ScopeKind.VARIANTS, ("p1-v", "p2-v"))
    job = await _until(world, await _start(world, scope, type="removal", action=JobAction.EXCLUDE), "success")
    assert (job.counts.total, job.counts.synced) == (2, 2)
    assert {"p1-v", "p2-v"}.isdisjoint(world.at_meta())
    rows = await fetch(
        world, "SELECT variant_id FROM item_events WHERE code = 'excluded_by_operator' AND kind = 'excluded'"
    )
    assert sorted(row[0] for row in rows) == ["p1-v", "p2-v"]
    # Nobody names them: they stay off. Named, they come back.
    every = JobScope(ScopeKind.FILTER, (), ItemFilter(status=Status.DELETED))
    await _until(world, await _start(world, every, type="resync", action=JobAction.RETRY), "success")
    await world.run()
    assert {"p1-v", "p2-v"}.isdisjoint(world.at_meta())
    await _until(world, await _start(world, scope, type="resync", action=JobAction.RESYNC), "success")
    await world.run()
    await world.assert_right()
    assert {"p1-v", "p2-v"} <= world.at_meta().keys()


# --- calling off --------------------------------------------------------------------------------------------------------


async def test_a_job_that_is_called_off_takes_back_what_only_it_wanted(world: World) -> None:
    await _synced(world)
    await _make_differ(world)
    await world.put("p1", variant("p1-v", 5))
    await world.stores.patch_settings(world.store_id, {"batchSize": 2})
    job_id = await _start(world)
    pipeline = world.pipeline()
    await pipeline.jobs_tick()
    await pipeline.jobs_tick()
    # A change takes an intent over; another one is at Meta already.
    await world.put("p4", variant("p4-v", 6))
    await pipeline.drain_tick()
    submitted = await one(world, "SELECT count(*) FROM sync_state WHERE in_flight IS NOT NULL")
    assert submitted == 2
    cancelling = await world.jobs.cancel(world.store_id, job_id)
    assert cancelling.status == "cancelling"
    _check(cancelling)
    with pytest.raises(ConflictError, match=job_id):
        await _start(world)
    await pipeline.jobs_tick()
    left = await fetch(world, "SELECT variant_id FROM intents WHERE job_id IS NOT NULL")
    assert left == []
    assert (await world.jobs.cancel(world.store_id, job_id)).status == "cancelling", (
        "what is at Meta ends first"
    )
    job = await _until(world, job_id, "cancelled")
    counts = job.counts
    assert (counts.total, counts.synced, counts.cancelled) == (7, 2, 5)
    await world.run()
    at_meta = world.at_meta()
    assert (at_meta["p1-v"]["price"], at_meta["p4-v"]["price"]) == ("0.05 EUR", "0.06 EUR")
    assert (await world.jobs.cancel(world.store_id, job_id)).status == "cancelled"
    # Then another may start, and does the rest.
    job = await _until(world, await _start(world), "success")
    assert (job.counts.total, job.counts.unchanged + job.counts.synced) == (7, 7)
    await world.assert_right()


async def test_what_a_second_job_wanted_too_stays_when_the_first_is_called_off(world: World) -> None:
    await _synced(world)
    pipeline = world.pipeline()
    first = (await world.jobs.start_bootstrap(world.store_id, requested_by=None)).job_id
    while await one(world, "SELECT count(*) FROM intents") < 7:
        await pipeline.jobs_tick()
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "used"})
    while await one(world, "SELECT min(looked_at) FROM jobs WHERE finished_at IS NULL") < 7:
        await pipeline.jobs_tick()
    await world.jobs.cancel(world.store_id, first)
    while (await world.jobs.get(world.store_id, first)).status != "cancelled":
        await pipeline.jobs_tick()
    assert (await world.jobs.get(world.store_id, first)).counts.cancelled == 7
    await world.run()
    await world.assert_right()


async def test_what_the_settings_ask_for_cannot_be_called_off(world: World) -> None:
    """Else Meta would keep what the settings of before made, and nothing would say so."""
    await _synced(world)
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "used"})
    job_id = await world.jobs.running(world.store_id, "reevaluation")
    assert job_id is not None
    with pytest.raises(ConflictError, match="Change the settings back"):
        await world.jobs.cancel(world.store_id, job_id)
    await world.run()
    assert (await world.jobs.get(world.store_id, job_id)).status == "success"
    await world.assert_right()


async def test_the_end_of_a_sale_is_noticed_although_a_job_is_called_off(world: World) -> None:
    await _synced(world)
    pipeline = world.pipeline()
    job_id = (await world.jobs.start_bootstrap(world.store_id, requested_by=None)).job_id
    while await one(world, "SELECT count(*) FROM intents") < 7:
        await pipeline.jobs_tick()
    ended = "UPDATE variants SET special_price_end = now() - interval '1 h' WHERE variant_id = 'p1-v'"
    await execute(world, ended)
    await execute(world, "UPDATE store_queue SET sales_swept_to = now() - interval '1 d'")
    await SaleWindows(world.database, delay_seconds=300.0).sweep()
    await world.jobs.cancel(world.store_id, job_id)
    while (await world.jobs.get(world.store_id, job_id)).status != "cancelled":
        await pipeline.jobs_tick()
    assert await fetch(world, "SELECT variant_id FROM intents") == [("p1-v",)]


async def test_a_first_sync_that_is_called_off_leaves_items_as_never_synced(world: World) -> None:
    await world.connect()
    await world.run()
    await world.catalog.put_products(world.store_id, [product(f"p{number}") for number in range(4)])
    await execute(world, "DELETE FROM intents")
    await execute(world, "UPDATE sync_state SET status = 'never_synced'")
    job_id = await _start(world)
    await world.pipeline().jobs_tick()
    assert {one["status"] for one in (await world.states()).values()} == {"pending", "never_synced"}
    await world.jobs.cancel(world.store_id, job_id)
    job = await _until(world, job_id, "cancelled")
    assert (job.counts.total, job.counts.cancelled) == (4, 4)
    assert {one["status"] for one in (await world.states()).values()} == {"never_synced"}
    await _until(world, await _start(world), "success")
    await world.assert_right()


async def test_a_job_says_that_the_store_is_in_preview(world: World) -> None:
    await _synced(world)
    await _make_differ(world)
    await world.stores.patch_settings(world.store_id, {"feedMode": "preview"})
    job_id = await _start(world)
    pipeline = world.pipeline()
    for _ in range(6):
        await pipeline.jobs_tick()
        await pipeline.drain_tick()
    job = await world.jobs.get(world.store_id, job_id)
    assert (job.status, job.counts.enqueued, job.is_paused) == ("running", 7, True)
    assert job.message is not None
    assert job.message.startswith("Paused: The store is in preview")
    await world.stores.patch_settings(world.store_id, {"feedMode": "live"})
    assert (await _until(world, job_id, "success")).message is None


async def test_a_job_that_waits_in_line_is_called_off_at_once(world: World) -> None:
    await _synced(world)
    job_id = await _start(world)
    await world.jobs.cancel(world.store_id, job_id)
    await world.pipeline().jobs_tick()
    job = await world.jobs.get(world.store_id, job_id)
    assert (job.status, job.counts.cancelled, job.looked_at) == ("cancelled", 7, 0)
    with pytest.raises(NotFoundError):
        await world.jobs.cancel(world.store_id, "job_none")
    done = await _until(world, await _start(world), "success")
    with pytest.raises(ConflictError, match="has ended"):
        await world.jobs.cancel(world.store_id, done.job_id)


async def test_a_page_under_way_is_not_written_once_the_job_is_called_off(world: World) -> None:
    await _synced(world)
    await _make_differ(world)
    job_id = await _start(world)
    runner = world.pipeline()._jobs
    wanted = runner._wanted

    async def called_off(*args: object) -> list[str]:
        await world.jobs.cancel(world.store_id, job_id)
        return await wanted(*args)  # type: ignore[arg-type]  # given loosely on purpose

    runner._wanted = called_off  # type: ignore[method-assign,assignment]  # in its place
    assert await runner.run_next()
    assert await fetch(world, "SELECT * FROM intents") == []
    job = await _until(world, job_id, "cancelled")
    assert job.counts.cancelled == 7


async def test_by_force_a_job_asks_for_no_more_than_a_little_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_runner, "_MOST_AHEAD", 3)
    await _synced(world)
    job_id = await _start(world, action=JobAction.FORCE)
    pipeline = world.pipeline()
    for _ in range(4):
        await pipeline.jobs_tick()
        await execute(world, "UPDATE jobs SET leased_until = NULL")
    assert await one(world, "SELECT count(*) FROM intents") == 3
    await world.jobs.cancel(world.store_id, job_id)
    job = await _until(world, job_id, "cancelled")
    assert job.counts.total == 7
    await world.run()
    await world.assert_right()


async def test_a_setting_that_changes_revives_a_look_that_is_being_called_off(world: World) -> None:
    await _synced(world)
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "used", "batchSize": 2})
    pipeline = world.pipeline()
    await pipeline.jobs_tick()
    await pipeline.drain_tick()
    job = next(job for job in await world.jobs.list(world.store_id) if job.type == "reevaluation")
    # Versions before let it be called off.
    await execute(world, "UPDATE jobs SET status = 'cancelling' WHERE type = 'reevaluation'")
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "refurbished"})
    job = await _until(world, job.job_id, "success")
    assert (job.counts.total, job.counts.synced) == (7, 7)
    await world.assert_right()


@pytest.mark.parametrize("passage", [1, 2, 3])
async def test_killed_at_a_look_a_job_counts_nothing_twice(world: World, passage: int) -> None:
    await _synced(world)
    await _make_differ(world)
    await world.stores.patch_settings(world.store_id, {"batchSize": 2})
    job_id = await _start(world)
    failpoints.arm("job.after_look", f"raise@{passage}")
    try:
        job = await _until(world, job_id, "success")
    except FailpointError:
        job = await _until(world, job_id, "success")
    assert (job.counts.total, job.counts.synced) == (7, 7)


async def test_the_list_of_jobs(world: World) -> None:
    await _synced(world, 2)
    for _ in range(3):
        await _until(world, await _start(world), "success")
    page = await world.jobs.page(world.store_id, limit=2)
    assert (len(page.jobs), page.total, page.has_more) == (2, 4, True)
    last = page.jobs[-1]
    after = (last.created_at.isoformat(), last.job_id)
    rest = await world.jobs.page(world.store_id, limit=2, after=after)
    assert [job.type for job in (*page.jobs, *rest.jobs)] == ["sync", "sync", "sync", "bootstrap"]
    assert not rest.has_more
    only = await world.jobs.page(world.store_id, type="bootstrap", status="success")
    assert [job.type for job in only.jobs] == ["bootstrap"]
    assert (await world.jobs.page(world.store_id, status="error")).total == 0
    assert (await world.jobs.page("store_other")).total == 0


async def test_what_has_ended_is_counted_before_all_is_asked_for(world: World) -> None:
    await _synced(world, 9)
    await _make_differ(world)
    job_id = await _start(world)
    pipeline = world.pipeline()
    await pipeline.jobs_tick()
    await pipeline.drain_tick()
    while await one(world, "SELECT count(*) FROM batches WHERE state <> 'over'"):
        await pipeline.poll_tick()
    await pipeline.jobs_tick()
    job = await world.jobs.get(world.store_id, job_id)
    assert (job.stage, job.counts.enqueued, job.counts.synced, job.counts.total) == ("enqueuing", 3, 3, 9)
