"""A search for the guilty item, step by step: crashes, changes, other work beside it, and its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from meta_sync.core.db import Database
from meta_sync.sandbox.options import DEMO_CATALOG_ID
from meta_sync.sync import split_statements
from meta_sync.sync.bulk import expect_bulk
from meta_sync.sync.reading import read_part, read_ready
from meta_sync.sync.splitting import MOST_CALLS
from tests.support.pipeline import (
    Turn,
    arm,
    assert_tidy,
    before_claim,
    execute,
    fetch,
    one,
)
from tests.support.splitting import assert_named, assert_no_split, everything_is_refused, pause, poison
from tests.support.world import World, open_world, variant


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.run()
        yield world


async def test_every_step_by_another_worker_and_every_commit_lost_once(world: World) -> None:
    """Everything is in rows: who made the last step does not matter."""
    await world.put("p", *[variant(f"v{number:02}") for number in range(33)])
    poison(world, "v21")
    for number in range(400):
        pipeline = world.pipeline(f"worker-{number}")
        await execute(world, "UPDATE store_queue SET due_at = now() WHERE due_at IS NOT NULL")
        await pipeline.drain_tick()
        await pipeline.poll_tick()
        if await world.is_quiet():
            break
    await assert_named(world, "v21")
    await assert_no_split(world)
    assert world.calls() <= MOST_CALLS


_CALLS_OF_SPLIT = (
    "SELECT 1 + count(*) FROM batch_calls JOIN batches USING (batch_id) WHERE split_part IS NOT NULL"
)


async def test_a_worker_that_dies_between_claim_and_call_spends_a_call_and_no_more(world: World) -> None:
    await world.put("p", *[variant(f"v{number:02}") for number in range(8)])
    poison(world, "v05")
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    for _ in range(3):
        drain: Any = world.pipeline()._drain

        async def dies(*_args: Any) -> None:
            raise RuntimeError("killed")

        drain._send = dies
        with pytest.raises(RuntimeError):
            await drain.turn()
        await execute(world, "UPDATE batches SET due_at = now() - interval '1 h' WHERE state = 'sending'")
        await execute(world, "UPDATE store_queue SET due_at = now(), leased_until = NULL")
        assert await one(world, "SELECT calls FROM splits") == await one(world, _CALLS_OF_SPLIT)
        await world.run(pipeline, until=lambda: _nothing_unknown(world))
    await world.run(pipeline)
    # It may have been in one of the calls that nobody knows the end of, or not.
    presence = (await world.states())["v05"]["presence"]
    assert presence != "present"
    await assert_named(world, "v05", presence=presence)
    await assert_no_split(world)
    assert await one(world, "SELECT calls FROM splits") <= MOST_CALLS


async def _nothing_unknown(world: World) -> bool:
    return not await fetch(world, "SELECT 1 FROM batches WHERE state IN ('sending', 'unknown')")


async def test_throttling_and_lost_answers_cost_a_search_nothing(world: World) -> None:
    await world.put("p", *[variant(f"v{number:02}") for number in range(8)])
    poison(world, "v05")
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    assert await one(world, "SELECT calls FROM splits") == 1
    for kind in ("throttled", "drop_before", "transient_before"):
        arm(world, kind, edge="items_batch")
        calls = world.calls()
        await pipeline.drain_tick()
        assert world.calls() == calls + 1
        assert await one(world, "SELECT calls FROM splits") == 1, kind
        world.sandbox.put_clock_forward(3600)
        await execute(world, "DELETE FROM store_pauses")
        await execute(world, "UPDATE catalog_links SET calls_blocked_until = NULL, usage_percent = 0")
        await execute(world, "UPDATE store_queue SET due_at = now()")
    await world.run(pipeline)
    await assert_named(world, "v05", presence="maybe")


async def test_items_that_change_while_they_are_searched(world: World) -> None:
    """The guilty one is put right, others are changed and deleted: nobody is named, everything ends right."""
    await world.put("p", *[variant(f"v{number:02}") for number in range(16)])
    poison(world, "v05")
    pipeline = world.pipeline()
    for _ in range(3):
        await pipeline.drain_tick()
    await world.put(
        "p", *[variant(f"v{number:02}", 500 + number) for number in range(16) if number not in {4, 9}]
    )
    world.sandbox.faults.clear()
    await world.run(pipeline)
    await assert_tidy(world)
    await assert_no_split(world)


async def test_parts_whose_items_are_gone_count_as_passed(world: World) -> None:
    await world.put("p", *[variant(f"v{number:02}") for number in range(16)])
    poison(world, "v05")
    pipeline = world.pipeline()
    for _ in range(3):
        await pipeline.drain_tick()
    await world.catalog.delete_product(world.store_id, "p")
    await world.run(pipeline)
    await assert_tidy(world)
    await assert_no_split(world)
    assert await fetch(world, "SELECT variant_id FROM sync_state WHERE status = 'failed'") == []


async def test_a_change_since_the_reading_does_not_go_out_with_another_part(world: World) -> None:
    """The split ends between reading and claim: nothing is sent for it."""
    await world.put("p", *[variant(f"v{number:02}") for number in range(8)])
    poison(world, "v05")
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    calls = world.calls()
    before_claim(pipeline, lambda: execute(world, "UPDATE splits SET state = 'over'"))
    await pipeline.drain_tick()
    assert world.calls() == calls
    await execute(world, "UPDATE splits SET state = 'open'")
    await world.run(pipeline)
    await assert_named(world, "v05")


async def test_what_stands_in_a_part_is_read_with_that_part_only(world: World) -> None:
    """Read with the rest it would stand at the head of the line and leave no room for others."""
    await world.put("p", *[variant(f"v{number}") for number in range(4)])
    everything_is_refused(world)
    await world.pipeline().drain_tick()
    await world.put("q", variant("other"))
    link_id = (await world.context()).access.link.link_id
    [first, second] = [
        row[0] for row in await fetch(world, "SELECT part_id FROM split_parts WHERE level = 1")
    ]
    async with world.database.platform() as connection:
        ready = await read_ready(connection, world.store_id, link_id, limit=1)
        parts = [
            await read_part(connection, world.store_id, link_id, one, limit=9) for one in (first, second)
        ]
    assert [intent.variant_id for intent in ready] == ["other"]
    # Which two stand together is drawn anew each time.
    assert [len(part) for part in parts] == [2, 2]
    assert {intent.variant_id for part in parts for intent in part} == {"v0", "v1", "v2", "v3"}


async def test_ordinary_work_and_a_search_take_turns(world: World) -> None:
    poison(world, "v05")
    await world.put("p", *[variant(f"v{number:02}") for number in range(64)])
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    for number in range(6):
        await world.put(f"live{number}", variant(f"live{number}"))
        await pipeline.drain_tick()
        await pipeline.drain_tick()
    sizes = [request.records for request in world.sandbox.requests if request.edge == "items_batch"]
    assert sizes.count(1) >= 6, "each live change went out"
    assert 32 in sizes
    assert max(sizes) == 64
    states = await world.states()
    assert {states[f"live{number}"]["status"] for number in range(6)} <= {"submitted", "synced"}
    await world.run(pipeline)
    await assert_named(world, "v05")


@pytest.mark.parametrize("how", ["another catalog", "epoch", "age"])
async def test_what_ends_a_search(world: World, how: str) -> None:
    await world.put("p", *[variant(f"v{number:02}") for number in range(8)])
    poison(world, "v05")
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    world.sandbox.faults.clear()
    if how == "another catalog":
        world.sandbox.add_catalog("7100195296754001", "Other", catalog_id="7100195296759999")
        await world.connect(catalog_id="7100195296759999")
        await assert_no_split(world)
        await world.connect(catalog_id=DEMO_CATALOG_ID)
    elif how == "epoch":
        await execute(world, "UPDATE catalog_links SET epoch = epoch + 1")
        await execute(world, "UPDATE batches SET link_epoch = link_epoch + 1 WHERE state <> 'over'")
    else:
        await execute(world, "UPDATE splits SET created_at = now() - interval '25 h'")
    await execute(world, "UPDATE store_queue SET due_at = now()")
    await pipeline.drain_tick()
    await assert_no_split(world)
    await world.run(pipeline)
    await assert_tidy(world)


async def test_a_refused_answer_about_another_link_opens_nothing(world: World) -> None:
    await world.put("p", *[variant(f"v{number:02}") for number in range(4)])
    turn = await Turn.begin(world)
    batch = await turn.claim()
    assert batch is not None
    everything_is_refused(world)
    drain: Any = world.pipeline("turn")._drain

    async def may_call(*_args: object) -> float:
        world.sandbox.add_catalog("7100195296754001", "Other", catalog_id="7100195296759999")
        await world.connect(catalog_id="7100195296759999")
        return 3.0

    drain._may_call = may_call
    await drain._send(turn.context, turn.lease, batch)
    assert world.calls() == 1
    assert await fetch(world, "SELECT 1 FROM splits") == []
    assert await pause(world) == []


_PLANNED = {
    "batch_id": 1,
    "calls": 1,
    "code": "100",
    "first_id": 1,
    "first_items": 1,
    "kind": "bad_parameter",
    "link_id": 1,
    "message": "x",
    "part_id": 1,
    "second_id": 2,
    "split_id": 1,
    "batch_limit": None,
}


@pytest.mark.parametrize(
    "name", ["SPLITS", "OPEN", "HOLD_ITEMS", "COUNT_ITEMS", "HALVE", "FREE", "FREE_PART"]
)
async def test_no_statement_of_a_split_reads_a_whole_table(world: World, name: str) -> None:
    statement = getattr(split_statements, name)
    given = {one: _PLANNED[one] for one in statement.compile().params}
    async with world.database.platform() as connection:
        await expect_bulk(connection)
        rows = await connection.execute(text(f"EXPLAIN {statement.text}"), given)
        plan = "\n".join(rows.scalars())
    for table in ("sync_state", "batch_items", "batches", "split_parts", "splits"):
        assert f"Seq Scan on {table}" not in plan, plan
    lines = plan.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        # An index that is searched for nothing is read from end to end.
        assert "Index Scan" not in line or "Index Cond" in following, plan
