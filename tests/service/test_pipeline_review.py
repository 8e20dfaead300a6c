"""What one row, one call or one store must never do to the others, or to itself for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from meta_sync.core.db import Database, create_engine
from meta_sync.sandbox.options import (
    DEMO_APP_ID,
    DEMO_APP_SECRET,
    DEMO_BUSINESS_ID,
    DEMO_CATALOG_ID,
)
from meta_sync.sync.claim import plan_turn
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.outcome import Outcomes
from meta_sync.sync.sweep import keep_partitions, mark_forgotten_stores, purge
from tests.support.pipeline import arm, assert_sums, execute, fetch, follow_due, one
from tests.support.world import World, open_world, variant


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.run()
        yield world


async def _sweep(world: World) -> None:
    async with world.database.platform() as connection:
        await mark_forgotten_stores(connection)


async def _is_due(world: World) -> bool:
    return bool(
        await one(
            world,
            "SELECT coalesce(due_at <= now(), false) FROM store_queue WHERE store_id = :id",
            id=world.store_id,
        )
    )


# Jobs


async def test_jobs_that_wait_do_not_keep_another_store_from_beginning(world: World) -> None:
    for number in (1, 2):
        await execute(
            world,
            """
            INSERT INTO jobs (job_id, store_id, link_id, type, status, stage, created_at, started_at)
            VALUES (:job, :store, :link, 'bootstrap', 'running', 'syncing', now() - interval '1 day', now())
            """,
            job=f"job_{number}",
            store=f"paused_{number}",
            link=1000 + number,
        )
        await execute(
            world,
            "INSERT INTO intents (store_id, variant_id, version, lane, job_id) VALUES (:store, 'v', :n, 2, :job)",
            store=f"paused_{number}",
            n=10**9 + number,
            job=f"job_{number}",
        )
    started = await world.jobs.start_bootstrap(world.store_id, requested_by=None)
    pipeline = world.pipeline()
    while await pipeline.jobs_tick():
        pass
    assert (await world.jobs.get(world.store_id, started.job_id)).stage != "waiting"


async def test_a_row_the_mapper_breaks_on_does_not_stop_a_reevaluation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.put("p", variant("a"), variant("b"), variant("c"))
    await world.run()
    evaluate: Any = Mapper.evaluate

    def breaking(self: Mapper, item: Any, **values: Any) -> Any:
        if item.variant_id == "b":
            raise RuntimeError("poisoned")
        return evaluate(self, item, **values)

    monkeypatch.setattr(Mapper, "evaluate", breaking)
    await world.stores.patch_settings(world.store_id, {"storefrontBaseUrl": "https://other.example"})
    await world.run()
    states = await world.states()
    assert (states["b"]["status"], states["b"]["code"]) == ("failed", "mapping_failed")
    assert states["c"]["status"] == "synced"
    assert world.at_meta()["c"]["link"].startswith("https://other.example")


async def test_a_reevaluation_that_is_sent_back_to_its_first_row_goes_on_at_once(world: World) -> None:
    await world.put("p", variant("a"))
    await world.run()
    await world.stores.patch_settings(world.store_id, {"storefrontBaseUrl": "https://one.example"})
    pipeline: Any = world.pipeline()
    runner = pipeline._jobs
    wanted = runner._wanted

    async def changing(*args: Any) -> Any:
        runner._wanted = wanted
        found = await wanted(*args)
        await world.stores.patch_settings(world.store_id, {"storefrontBaseUrl": "https://two.example"})
        return found

    runner._wanted = changing
    await pipeline.jobs_tick()
    assert await one(world, "SELECT leased_until <= now() FROM jobs WHERE type = 'reevaluation'")
    await world.run(pipeline)
    await world.assert_right()


async def test_a_job_ends_in_a_store_that_is_never_quiet(world: World) -> None:
    await world.put("p", variant("a"))
    await world.run()
    started = await world.jobs.start_bootstrap(world.store_id, requested_by=None)
    pipeline = world.pipeline()
    for price in range(1000, 1012):
        await asyncio.sleep(0.05)
        await follow_due(pipeline)
        # Something else is sent before every look, and is not over when the job is looked at.
        await world.put(f"q{price}", variant(f"n{price}", price))
        await pipeline.drain_tick()
        assert await one(world, "SELECT count(*) FROM batches WHERE state = 'open'") > 0
        await execute(world, "UPDATE jobs SET leased_until = NULL WHERE status = 'running'")
        await pipeline.jobs_tick()
    assert (await world.jobs.get(world.store_id, started.job_id)).status == "success"


# Calls


async def test_a_refusal_beside_an_unknown_call_keeps_the_item_until_that_call_is_over(world: World) -> None:
    pipeline = world.pipeline()
    await world.put("p", variant("a"), variant("b"))
    arm(world, "drop_after", how="timeout", edge="items_batch")
    await pipeline.drain_tick()
    assert await one(world, "SELECT state FROM batches ORDER BY batch_id DESC LIMIT 1") == "unknown"
    world.sandbox.refuse("a", "This item is refused.", immediate=True)
    await execute(world, "DELETE FROM store_pauses")
    await execute(world, "UPDATE batches SET due_at = now() WHERE state = 'unknown'")
    await execute(world, "UPDATE store_queue SET due_at = now()")
    await pipeline.drain_tick()
    assert await one(world, "SELECT state, calls FROM batches ORDER BY batch_id DESC LIMIT 1") == ("open", 2)
    assert (await world.states())["a"]["in_flight"] is not None, "the first call may still be at work"
    world.sandbox.processor.refusals.clear()
    await world.put("p", variant("a", 4000), variant("b"))
    await pipeline.drain_tick()
    assert world.calls() == 2, "other content for an item that may be under way"
    await assert_sums(world)
    await world.run(pipeline)
    await world.assert_right()


async def test_a_refusal_beside_an_unknown_call_is_a_refusal_when_that_call_is_over(world: World) -> None:
    pipeline = world.pipeline()
    await world.put("p", variant("a"), variant("b"))
    arm(world, "drop_after", how="timeout", edge="items_batch")
    await pipeline.drain_tick()
    world.sandbox.refuse("a", "This item is refused.", immediate=True)
    await world.run(pipeline)
    state = (await world.states())["a"]
    assert (state["status"], state["code"], state["attempts"]) == ("failed", "rejected_by_meta", 1)
    assert state["error_text"] == "This item is refused."
    # The first call may have saved it: that stays possible, and so does deleting it.
    assert (state["presence"], state["retailer_id"]) == ("maybe", "a")
    assert state["may_hold"]
    await assert_sums(world)
    await world.catalog.delete_product(world.store_id, "p")
    await world.run(pipeline)
    assert "a" not in world.at_meta()


async def test_an_item_that_goes_in_small_batches_only_is_not_kept_waiting_by_live_work(world: World) -> None:
    await world.put("p", variant("limited", 1000))
    await execute(world, "UPDATE sync_state SET batch_limit = 1 WHERE variant_id = 'limited'")
    await execute(world, "UPDATE intents SET lane = 2")
    pipeline = world.pipeline()
    for price in range(1000, 1006):
        await world.put("live", variant("live", price))
        await execute(world, "UPDATE intents SET lane = 0 WHERE variant_id = 'live'")
        await pipeline.drain_tick()
        await asyncio.sleep(0.03)
        await follow_due(pipeline)
    assert (await world.states())["limited"]["status"] != "pending"


async def test_an_item_that_cannot_be_read_back_does_not_stay_in_flight_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As after a report that warns of a missing required field.
    monkeypatch.setattr(
        "meta_sync.sync.poll.classify_report", lambda items, _report: Outcomes(to_read_back=list(items))
    )
    arm(world, "graph_error", code=100, count=None, edge="products", message="Invalid parameter")
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    await asyncio.sleep(0.05)
    await execute(
        world,
        "UPDATE batches SET due_at = now(), sent_at = now() - interval '16 minutes' WHERE state = 'open'",
    )
    await follow_due(pipeline)
    first = await one(world, "SELECT min(batch_id) FROM batch_items WHERE variant_id = 'a'")
    assert await one(world, "SELECT state FROM batches WHERE batch_id = :id", id=first) == "over"


async def test_an_item_that_is_asked_for_waits_visibly(world: World) -> None:
    await world.put("p", variant("a"))
    await world.run()
    await execute(world, "DELETE FROM sync_state")
    await execute(
        world,
        "INSERT INTO sync_state (link_id, variant_id, store_id, status) "
        "SELECT link_id, 'a', store_id, 'never_synced' FROM catalog_links",
    )
    await world.operations.resync(world.store_id, "a", force=False, refresh_images=False, actor="me")
    assert (await world.states())["a"]["status"] == "pending"


# Pauses


async def test_access_that_was_restored_is_noticed_by_selecting_the_catalog_again(world: World) -> None:
    arm(world, "access_lost", edge="items_batch", count=1)
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    assert await one(world, "SELECT reason FROM store_pauses") == "needs_reconnect"
    await world.connection.select_catalog(
        world.store_id, DEMO_BUSINESS_ID, "Demo", DEMO_CATALOG_ID, "Demo", enable_sync=None, dry_run=False
    )
    assert await fetch(world, "SELECT reason FROM store_pauses") == []
    await world.run(pipeline)
    await world.assert_right()


async def test_a_question_that_is_answered_does_not_end_the_pause_of_the_calls(world: World) -> None:
    pipeline = world.pipeline()
    await world.put("p", variant("a"))
    await pipeline.drain_tick()
    await world.put("q", variant("b"))
    arm(world, "transient_before", edge="items_batch")
    await pipeline.drain_tick()
    before = await one(world, "SELECT until, failures FROM store_pauses WHERE link_id = 0")
    await asyncio.sleep(0.05)
    await execute(world, "UPDATE batches SET due_at = now() WHERE state = 'open'")
    await follow_due(pipeline)
    assert await one(world, "SELECT until, failures FROM store_pauses WHERE link_id = 0") == before


async def test_a_pause_that_ends_early_puts_the_store_in_line(world: World) -> None:
    arm(world, "handle_never", count=1)
    pipeline = world.pipeline()
    await world.put("p", variant("a"))
    await pipeline.drain_tick()
    arm(world, "transient_before", edge="check_batch_request_status", count=3)
    await asyncio.sleep(0.05)
    await execute(world, "UPDATE batches SET due_at = now() WHERE state = 'open'")
    await follow_due(pipeline)
    assert await one(world, "SELECT reason FROM store_pauses") == "meta_unreachable"
    await world.put("q", variant("b"))
    await execute(world, "UPDATE store_pauses SET until = now() + interval '1 hour'")
    await pipeline.drain_tick()
    assert not await _is_due(world)
    # The handle is asked about again when the pause of the questions is over; the answer ends it for the store.
    await execute(world, "UPDATE batches SET due_at = now() WHERE state = 'open'")
    await execute(world, "UPDATE store_pauses SET until = now() - interval '1 second'")
    await execute(world, "UPDATE store_queue SET due_at = now() + interval '1 hour'")
    await follow_due(pipeline)
    assert await fetch(world, "SELECT reason FROM store_pauses") == []
    assert await _is_due(world)


async def test_a_catalog_that_does_not_answer_is_asked_once_not_once_per_handle(world: World) -> None:
    world.timing = replace(world.timing, retry_factor=1.0)
    pipeline = world.pipeline()
    for number in range(4):
        await world.put(f"p{number}", variant(f"v{number}"))
        await pipeline.drain_tick()
    arm(world, "html_500_before", edge="check_batch_request_status", count=None)
    await asyncio.sleep(0.05)
    await execute(world, "UPDATE batches SET due_at = now() WHERE state = 'open'")
    batches = list(await pipeline._poll.claim(16))
    assert len(batches) == 4
    for batch in batches:
        await pipeline._poll.follow(batch)
    asked = sum(one.path.endswith("check_batch_request_status") for one in world.sandbox.requests)
    assert asked <= 3, "the repeats of one question"
    world.sandbox.faults.clear()
    await execute(world, "UPDATE store_pauses SET until = now()")
    await execute(world, "UPDATE batches SET due_at = now()")
    await world.run(pipeline)
    await world.assert_right()


async def test_a_setting_that_ends_the_cause_of_a_pause_ends_the_pause(world: World) -> None:
    arm(
        world,
        "graph_error",
        code=100,
        message="Invalid appsecret_proof provided in the API argument",
        count=1,
    )
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    assert await one(world, "SELECT reason FROM store_pauses") == "needs_reconnect"
    await world.stores.patch_settings(world.store_id, {"defaultBrand": "Other"})
    assert await one(world, "SELECT reason FROM store_pauses") == "needs_reconnect"
    await world.stores.patch_settings(world.store_id, {"appSecret": DEMO_APP_SECRET, "appId": DEMO_APP_ID})
    assert await fetch(world, "SELECT reason FROM store_pauses") == []
    await world.run(pipeline)
    await world.assert_right()


async def test_a_handle_meta_does_not_know_gives_way_to_one_that_it_does(world: World) -> None:
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    # Two calls of one batch, both taken; Meta has forgotten the first.
    await execute(world, "UPDATE batch_calls SET call_number = 2 WHERE state = 'open'")
    await execute(
        world,
        """
        INSERT INTO batch_calls (batch_id, call_number, store_id, link_id, state, handle, deadline_at)
        SELECT batch_id, 1, store_id, link_id, 'open', 'forgotten', now() FROM batches WHERE state = 'open'
        """,
    )
    await execute(
        world,
        "UPDATE batches SET handle = 'forgotten', calls = 2, due_at = now(), sent_at = now() - interval '6 minutes' "
        "WHERE state = 'open'",
    )
    await asyncio.sleep(0.03)
    await follow_due(pipeline)
    assert (await world.states())["a"]["status"] == "synced"
    assert world.calls() == 1


async def test_a_store_that_may_not_send_costs_little_however_often_it_is_marked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.put("p", *[variant(f"v{number}") for number in range(50)])
    monkeypatch.setattr("meta_sync.sync.drain._LOOKED_AT_WHILE_WAITING", 5)
    await execute(world, "UPDATE catalog_links SET calls_blocked_until = now() + interval '1 hour'")
    pipeline: Any = world.pipeline()
    sizes = []

    def counting(ready: Any, *args: Any, **values: Any) -> Any:
        sizes.append(len(ready))
        return plan_turn(ready, *args, **values)

    monkeypatch.setattr("meta_sync.sync.drain.plan_turn", counting)
    await pipeline.drain_tick()
    assert sizes == [5]
    assert not await _is_due(world)
    await execute(world, "UPDATE catalog_links SET calls_blocked_until = NULL")
    await execute(world, "UPDATE store_queue SET due_at = now()")
    await world.run(pipeline)
    await world.assert_right()


# Sweeps


async def test_throwing_old_rows_away_keeps_nobody_from_the_attempts(world: World, database_url: str) -> None:
    owner = create_engine(database_url, role=None)
    async with owner.begin() as connection:
        await connection.execute(
            text(
                "CREATE TABLE batch_items_p20200101 PARTITION OF batch_items "
                "FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')"
            )
        )
    await owner.dispose()
    async with world.database.platform() as connection:
        await purge(connection)
        async with asyncio.timeout(3):
            await one(world, "SELECT count(*) FROM batch_items")
    async with world.database.platform() as connection:
        await keep_partitions(connection)
    assert await one(world, "SELECT to_regclass('batch_items_p20200101') IS NULL")


async def test_every_loop_says_that_the_worker_is_alive(world: World) -> None:
    for tick in ("poll_tick", "jobs_tick", "drain_tick", "sweep_tick"):
        await getattr(world.pipeline(tick), tick)()
        assert await one(world, "SELECT count(*) FROM worker_heartbeats WHERE worker_id = :id", id=tick) == 1


async def test_the_sweep_does_not_wait_for_a_writer(world: World) -> None:
    await world.put("p", variant("a"))
    await execute(world, "UPDATE store_queue SET due_at = NULL")
    async with world.database.platform() as writer:
        await writer.execute(text("UPDATE store_queue SET last_poll_at = now()"))
        async with asyncio.timeout(3):
            await _sweep(world)
    await _sweep(world)
    assert await _is_due(world)


@pytest.mark.parametrize("lack", ["currency", "token"])
async def test_a_store_that_cannot_work_is_not_put_in_line_every_second(world: World, lack: str) -> None:
    await world.put("p", variant("a"))
    if lack == "currency":
        await execute(world, "UPDATE stores SET settings = settings - 'currency'")
    else:
        await execute(world, "UPDATE credentials SET dead_at = now()")
    pipeline = world.pipeline()
    while await pipeline.drain_tick():
        pass
    await _sweep(world)
    assert not await _is_due(world)
