"""Items of a batch that Meta ended without a verdict: they wait longer each time, and nothing else waits with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.core.paging import CursorCodec
from meta_sync.sync.items import ItemsService
from meta_sync.sync.models import DecisionKind
from meta_sync.sync.retries import wake_retries
from meta_sync.sync.ticks import Pipeline
from meta_sync.sync.waits import retry_waits
from tests.support.pipeline import arm, assert_sums, assert_tidy, execute, fetch, follow_due, one
from tests.support.world import FAST, World, open_world, variant

_WAIT = "SELECT extract(epoch FROM retry_at - now())::float FROM sync_state WHERE variant_id = :id"
_OTHER_CATALOG = "7100195296759999"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        world.sandbox.add_catalog("7100195296754001", "Other", catalog_id=_OTHER_CATALOG)
        await world.connect()
        await world.run()
        # Nobody waits a minute: a wait ends when a test says so.
        world.timing = replace(FAST, retry_seconds=60.0)
        yield world


async def _settle(pipeline: Pipeline, world: World) -> None:
    """Send what is ready and follow it to its end."""
    await pipeline.drain_tick()
    while await fetch(world, "SELECT 1 FROM batches WHERE state <> 'over'"):
        await execute(world, "UPDATE batches SET due_at = now() WHERE state <> 'over'")
        await follow_due(pipeline)


async def _time_comes(world: World) -> None:
    await execute(world, "UPDATE sync_state SET retry_at = now() WHERE retry_at IS NOT NULL")


async def _state(world: World, variant_id: str = "a") -> dict[str, Any]:
    return (await world.states())[variant_id]


@pytest.mark.parametrize(
    ("kind", "code"), [("handle_error", "batch_error"), ("handle_canceled", "batch_canceled")]
)
async def test_a_stopped_batch_waits_without_an_intent(world: World, kind: str, code: str) -> None:
    """(18): a retry is a time, the item is pending with the reason, and no attempt is used up."""
    arm(world, kind, count=1, share=0.5)
    await world.put("p", *[variant(f"v{number}", special_price=5) for number in range(6)])
    pipeline = world.pipeline()
    await _settle(pipeline, world)
    await pipeline.sweep_tick()
    assert await pipeline.drain_tick() in {0, 1}
    assert world.calls() == 1
    assert await fetch(world, "SELECT 1 FROM intents") == []
    for variant_id, state in (await world.states()).items():
        assert (state["status"], state["presence"], state["attempts"]) == ("pending", "maybe", 0)
        assert (state["batch_limit"], state["retries"], state["code"]) == (3, 1, code)
        assert state["error_text"] is None
        assert await one(world, _WAIT, id=variant_id) == pytest.approx(60, abs=10)
    await _time_comes(world)
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.calls() == 3
    for state in (await world.states()).values():
        assert (state["status"], state["retries"], state["retry_at"], state["code"]) == (
            "synced",
            0,
            None,
            None,
        )


async def test_the_wait_is_doubled_up_to_an_hour_and_begins_anew_with_a_verdict(world: World) -> None:
    arm(world, "handle_error", count=8, share=0)
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    waits = []
    for _ in range(8):
        await _settle(pipeline, world)
        waits.append(await one(world, _WAIT, id="a"))
        await _time_comes(world)
        await pipeline.sweep_tick()
    assert waits == pytest.approx([60, 120, 240, 480, 960, 1920, 3600, 3600], abs=10)
    await _settle(pipeline, world)
    assert ((await _state(world))["status"], (await _state(world))["retries"]) == ("synced", 0)
    arm(world, "handle_error", count=1, share=0)
    await world.catalog.delete_product(world.store_id, "p")
    await _settle(pipeline, world)
    assert await one(world, _WAIT, id="a") == pytest.approx(60, abs=10)
    await _time_comes(world)
    await world.run(pipeline)
    await assert_tidy(world)
    assert ((await _state(world))["status"], (await _state(world))["retries"]) == ("deleted", 0)


async def test_a_refusal_ends_the_count(world: World) -> None:
    arm(world, "handle_error", count=2, share=0)
    world.sandbox.refuse("a", "No.")
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    for _ in range(3):
        await _settle(pipeline, world)
        await _time_comes(world)
        await pipeline.sweep_tick()
    state = await _state(world)
    assert (state["status"], state["retries"], state["retry_at"]) == ("failed", 0, None)
    assert (state["attempts"], state["code"]) == (1, "rejected_by_meta")


async def test_a_change_goes_at_once_and_counts_anew(world: World) -> None:
    arm(world, "handle_error", count=3, share=0)
    await world.put("p", variant("a", 100))
    pipeline = world.pipeline()
    for _ in range(2):
        await _settle(pipeline, world)
        await _time_comes(world)
        await pipeline.sweep_tick()
    # The second wait is over and its intent waits; a change comes with it.
    await world.put("p", variant("a", 200))
    await _settle(pipeline, world)
    assert (await _state(world))["retries"] == 1, "another payload"
    assert await one(world, _WAIT, id="a") == pytest.approx(60, abs=10)
    await world.put("p", variant("a", 300))
    await world.run(pipeline)
    await assert_tidy(world)
    assert (world.calls(), world.at_meta()["a"]["price"]) == (4, "3.00 EUR")


async def test_a_resync_goes_at_once(world: World) -> None:
    arm(world, "handle_error", count=1, share=0)
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await _settle(pipeline, world)
    await world.operations.resync(world.store_id, "a", force=True, refresh_images=False, actor="me")
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.calls() == 2


async def test_a_setting_goes_at_once(world: World) -> None:
    arm(world, "handle_error", count=1, share=0)
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await _settle(pipeline, world)
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "used"})
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.at_meta()["a"]["condition"] == "used"


async def test_a_parked_newer_intent_goes_at_once(world: World) -> None:
    arm(world, "handle_error", count=1, share=0)
    await world.put("p", variant("a", 100))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    await world.put("p", variant("a", 200))
    await pipeline.drain_tick()
    assert await one(world, "SELECT parked_by IS NOT NULL FROM intents") is True
    await world.run(pipeline)
    await assert_tidy(world)
    assert (world.calls(), world.at_meta()["a"]["price"]) == (2, "2.00 EUR")


async def test_the_lane_and_age_of_the_old_batch(world: World) -> None:
    """A price that has waited already does not go behind content that comes now."""
    await world.put("p", variant("a", 100))
    pipeline = world.pipeline()
    await world.run(pipeline)
    arm(world, "handle_error", count=1, share=0)
    await world.put("p", variant("a", 200))
    await _settle(pipeline, world)
    created_at = await one(world, "SELECT max(created_at) FROM batches")
    await _time_comes(world)
    await execute(world, "UPDATE store_queue SET due_at = NULL")
    await pipeline.sweep_tick()
    assert await one(world, "SELECT lane, first_at, job_id FROM intents") == (0, created_at, None)
    assert await one(world, "SELECT due_at <= now() FROM store_queue") is True
    assert (await _state(world))["retry_at"] is None


async def test_an_intent_that_only_a_job_wanted_becomes_a_retry(world: World) -> None:
    arm(world, "handle_error", count=1, share=0)
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await _settle(pipeline, world)
    await execute(
        world,
        "INSERT INTO intents (store_id, variant_id, version, lane, job_id) VALUES (:id, 'a', 1, 2, 'job_x')",
        id=world.store_id,
    )
    await _time_comes(world)
    async with world.database.platform() as connection:
        assert await wake_retries(connection) is False
    assert await one(world, "SELECT version > 1, lane, job_id FROM intents") == (True, 1, None)


async def test_two_sweeps_at_once_and_a_second_one(world: World) -> None:
    arm(world, "handle_error", count=1, share=0)
    await world.put("p", *[variant(f"v{number}") for number in range(5)])
    pipeline = world.pipeline()
    await _settle(pipeline, world)
    await _time_comes(world)
    await pipeline.sweep_tick()
    versions = await fetch(world, "SELECT variant_id, version FROM intents ORDER BY 1")
    assert len(versions) == 5
    await pipeline.sweep_tick()
    assert await fetch(world, "SELECT variant_id, version FROM intents ORDER BY 1") == versions
    await world.run(pipeline)
    await assert_tidy(world)


async def test_what_was_left_behind_at_another_catalog_is_not_tried(world: World) -> None:
    arm(world, "handle_error", count=1, share=0)
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await _settle(pipeline, world)
    await world.connect(catalog_id=_OTHER_CATALOG)
    await world.run(pipeline)
    await _time_comes(world)
    async with world.database.platform() as connection:
        await wake_retries(connection)
    assert await fetch(world, "SELECT 1 FROM intents") == []
    assert await fetch(world, "SELECT 1 FROM sync_state WHERE retry_at IS NOT NULL") == []
    calls = world.calls()
    await world.connect()
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.calls() == calls + 1


async def test_in_preview_the_intent_waits(world: World) -> None:
    arm(world, "handle_error", count=1, share=0)
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await _settle(pipeline, world)
    await world.stores.patch_settings(world.store_id, {"feedMode": "preview"})
    await _time_comes(world)
    for _ in range(3):
        await pipeline.sweep_tick()
        await pipeline.drain_tick()
    assert (world.calls(), await one(world, "SELECT count(*) FROM intents")) == (1, 1)
    await world.stores.patch_settings(world.store_id, {"feedMode": "live"})
    await world.run(pipeline)
    await assert_tidy(world)


async def test_the_item_says_when_it_is_tried_again(world: World) -> None:
    arm(world, "handle_error", count=1, share=0)
    await world.put("p", variant("a"))
    await _settle(world.pipeline(), world)
    service = ItemsService(world.database, utc_now, CursorCodec(b"key"))
    detail = await service.detail(world.store_id, "a")
    assert detail.sync_state is not None
    assert detail.next_request is not None
    assert detail.pending_intent is None
    assert detail.sync_state.retry_at == (await _state(world))["retry_at"]
    assert (detail.sync_state.state.status, detail.sync_state.state.code) == ("pending", "batch_error")
    assert detail.next_request.decision is DecisionKind.UPSERT


async def test_a_job_waits_for_items_without_a_verdict(world: World) -> None:
    arm(world, "handle_error", count=1, share=0)
    await world.put("p", variant("a"))
    started = await world.jobs.start_bootstrap(world.store_id, requested_by=None)
    pipeline = world.pipeline()

    async def job_looks() -> tuple[str, str]:
        for _ in range(3):
            await execute(world, "UPDATE jobs SET leased_until = NULL WHERE status = 'running'")
            await pipeline.jobs_tick()
        job = await world.jobs.get(world.store_id, started.job_id)
        return job.status, job.stage

    await pipeline.jobs_tick()
    await _settle(pipeline, world)
    assert await job_looks() == ("running", "syncing"), "it waits in retry_at"
    await _time_comes(world)
    await pipeline.sweep_tick()
    assert await job_looks() == ("running", "syncing"), "its intent waits"
    await pipeline.drain_tick()
    assert await job_looks() == ("running", "syncing"), "it is in flight again"
    await world.run(pipeline)
    assert await job_looks() == ("success", "done")


async def test_a_job_does_not_wait_for_ever(world: World) -> None:
    """What Meta gives no verdict on, time and again, is said in the job's end."""
    arm(world, "handle_error", count=None, share=0)
    await world.put("p", variant("a"))
    started = await world.jobs.start_bootstrap(world.store_id, requested_by=None)
    pipeline = world.pipeline()
    await pipeline.jobs_tick()
    for _ in range(5):
        assert (await world.jobs.get(world.store_id, started.job_id)).status == "running"
        await _settle(pipeline, world)
        await _time_comes(world)
        await pipeline.sweep_tick()
        for _ in range(2):
            await execute(world, "UPDATE jobs SET leased_until = NULL WHERE status = 'running'")
            await pipeline.jobs_tick()
    job = await world.jobs.get(world.store_id, started.job_id)
    assert (job.status, job.stage) == ("partial", "done")
    assert job.message is not None
    assert "so far: 1." in job.message


def test_jitter_spreads_the_waits_and_never_makes_them_longer() -> None:
    assert retry_waits(60, 0.0) == [60, 120, 240, 480, 960, 1920, 3600]
    assert retry_waits(60, 1.0) == [45, 90, 180, 360, 720, 1440, 2700]


async def test_sums_hold_while_items_wait(world: World) -> None:
    arm(world, "handle_error", count=1, share=0.5)
    world.sandbox.refuse("v0", "No.")
    await world.put("p", *[variant(f"v{number}") for number in range(4)])
    await _settle(world.pipeline(), world)
    await assert_sums(world)
