"""A call that Meta refuses as a whole: the guilty item is found and named, and a fault of the store names nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from typing_extensions import override

from meta_sync.core.db import Database
from meta_sync.sandbox.options import DEMO_CATALOG_ID
from meta_sync.sync import split_statements
from meta_sync.sync.bulk import expect_bulk
from meta_sync.sync.reading import read_part, read_ready
from meta_sync.sync.splitting import FRUITLESS_CALLS, MOST_CALLS
from tests.support.pipeline import (
    Turn,
    arm,
    assert_sums,
    assert_tidy,
    before_claim,
    execute,
    fetch,
    one,
)
from tests.support.world import World, open_world, product, variant

_TEXT = "(#100) Param price must be a string"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.run()
        yield world


def _poison(world: World, *retailer_ids: str, code: int = 100, **fields: Any) -> None:
    for retailer_id in retailer_ids:
        fault = {"code": code, "message": _TEXT, "count": None, **fields}
        arm(world, "poison", retailer_id=retailer_id, **fault)


def _everything_is_refused(world: World) -> None:
    arm(world, "graph_error", count=None, edge="items_batch", code=100, message=_TEXT)


async def _put_many(world: World, count: int) -> None:
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        await world.catalog.put_products(
            world.store_id, [product(f"p{number:04}", variant(f"v{number:04}")) for number in numbers]
        )


async def _pause(world: World) -> list[tuple[Any, ...]]:
    return await fetch(
        world,
        "SELECT reason, code, message, until > now() + interval '14 m' AND until <= now() + interval '15 m' "
        "FROM store_pauses",
    )


async def _pause_ends(world: World) -> None:
    await execute(world, "UPDATE store_pauses SET until = now()")
    await execute(world, "UPDATE store_queue SET due_at = now()")


async def _stands_still(world: World) -> bool:
    return bool(await fetch(world, "SELECT 1 FROM store_pauses WHERE until > now()"))


async def _assert_no_split(world: World) -> None:
    assert await fetch(world, "SELECT 1 FROM splits WHERE state <> 'over'") == []
    assert await fetch(world, "SELECT 1 FROM sync_state WHERE split_part IS NOT NULL") == []


async def _assert_named(world: World, *ids: str, presence: str = "absent") -> None:
    states = await world.states()
    assert {name for name, state in states.items() if state["status"] != "synced"} == set(ids)
    for name in ids:
        state = states[name]
        assert (state["status"], state["code"], state["error_text"]) == ("failed", "rejected_by_meta", _TEXT)
        assert (state["attempts"], state["presence"]) == (1, presence)
        assert state["rejected_hash"] is not None
    assert {state["attempts"] for name, state in states.items() if name not in ids} <= {0}


async def test_one_poisonous_item_among_2500_is_named_in_20_calls_and_the_others_go_out(world: World) -> None:
    await _put_many(world, 2500)
    _poison(world, "v1777")
    await world.run()
    assert world.calls() <= MOST_CALLS
    await _assert_named(world, "v1777")
    assert await one(world, "SELECT sum(sent) FROM batches WHERE accepted > 0") == 2499
    assert await one(world, "SELECT calls, kind FROM splits WHERE calls > 2") == (
        world.calls() - await one(world, "SELECT count(*) FROM batches WHERE split_part IS NULL") + 1,
        "bad_parameter",
    )
    assert await _pause(world) == []
    await _assert_no_split(world)
    await assert_tidy_but(world, "v1777")


async def assert_tidy_but(world: World, *refused: str) -> None:
    await world.assert_right(refused=set(refused))
    await assert_sums(world)
    assert await one(world, "SELECT count(*) FROM batches WHERE state = 'over' AND body IS NOT NULL") == 0


@pytest.mark.parametrize("guilty", [("v03", "v04"), ("v00", "v39"), ("v10", "v20", "v30")])
async def test_several_poisonous_items_are_all_named(world: World, guilty: tuple[str, ...]) -> None:
    """Three in three quarters look like the store's fault at first; a change elsewhere shows that they are not."""
    await world.put("p", *[variant(f"v{number:02}") for number in range(40)])
    _poison(world, *guilty)
    for number in range(8):
        await world.run(until=lambda: _rests(world))
        if not await _stands_still(world):
            break
        await world.put("other", variant("other", 1000 + number))
        await _pause_ends(world)
    await _assert_named(world, *guilty)
    await _assert_no_split(world)


async def _rests(world: World) -> bool:
    return await world.is_quiet() or await _stands_still(world)


@pytest.mark.parametrize("count", [1, 2, 3, 300])
async def test_a_bad_parameter_in_every_call_costs_few_calls_and_pauses_the_store(
    world: World, count: int
) -> None:
    await world.put("p", *[variant(f"v{number:03}") for number in range(count)])
    _everything_is_refused(world)
    await world.run(until=lambda: _stands_still(world))
    assert world.calls() <= min(MOST_CALLS, 5)
    [(reason, code, message, is_quarter)] = await _pause(world)
    assert (reason, code, is_quarter) == ("blocked_by_meta", "100", True)
    assert message.startswith(_TEXT)
    assert "Correct what the message names" in message
    states = await world.states()
    assert {(state["status"], state["attempts"], state["presence"]) for state in states.values()} == {
        ("pending", 0, "absent")
    }
    await _assert_no_split(world)
    await assert_sums(world)
    # Once more after the pause: nobody has put it right.
    before = world.calls()
    await _pause_ends(world)
    await world.run(until=lambda: _stands_still(world))
    assert world.calls() - before <= 5
    world.sandbox.faults.clear()
    await _pause_ends(world)
    await world.run()
    await assert_tidy(world)


async def test_a_store_wide_fault_is_known_from_many_small_batches_too(world: World) -> None:
    """Items that go alone make splits that never reach a second level."""
    for number in range(30):
        await world.put(f"p{number}", variant(f"v{number:02}"))
    await execute(world, "UPDATE sync_state SET batch_limit = 1")
    _everything_is_refused(world)
    await world.run(until=lambda: _stands_still(world))
    assert world.calls() == FRUITLESS_CALLS
    assert {state["status"] for state in (await world.states()).values()} == {"pending"}
    await _assert_no_split(world)
    world.sandbox.faults.clear()
    await _pause_ends(world)
    await world.run()
    await assert_tidy(world)


async def test_a_lone_item_is_named_when_other_work_is_taken_and_stops_no_store_for_ever(
    world: World,
) -> None:
    _poison(world, "bad")
    await world.put("p", variant("bad"))
    await world.run(until=lambda: _stands_still(world))
    assert (world.calls(), len(await _pause(world))) == (1, 1)
    assert (await world.states())["bad"]["status"] == "pending", "it may be the store's fault"
    await world.put("q", variant("good"))
    await _pause_ends(world)
    await world.run()
    await _assert_named(world, "bad")
    assert await _stands_still(world) is False


async def test_a_lone_item_waits_for_what_else_there_is(world: World) -> None:
    _poison(world, "bad")
    await world.put("p", variant("bad"))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    assert await fetch(world, "SELECT state FROM split_parts WHERE level = 1") == [("doubted",)]
    await world.put("q", variant("good"))
    await world.run(pipeline)
    await _assert_named(world, "bad")
    assert world.calls() == 3
    assert await _pause(world) == []


async def test_a_call_that_was_begun_before_proves_nothing(world: World) -> None:
    """Its handle comes in after the refusal; Meta took it before whatever is wrong now began."""
    await world.put("p", variant("early"))
    early = await Turn.begin(world, owner="early")
    batch = await early.claim()
    assert batch is not None
    await early.end()
    _everything_is_refused(world)
    await world.put("q", variant("bad"))
    await world.pipeline().drain_tick()
    assert await fetch(world, "SELECT state FROM split_parts WHERE level = 1") == [("doubted",)]
    world.sandbox.faults.clear()
    drain: Any = world.pipeline("early")._drain

    async def may_call(*_args: object) -> float:
        return 3.0

    drain._may_call = may_call
    await drain._send(early.context, early.lease, batch)
    assert world.calls() == 2
    assert await fetch(world, "SELECT taken_at FROM splits") == [(None,)]
    await world.run(until=lambda: _stands_still(world))
    assert (await world.states())["bad"]["status"] == "pending"
    await _pause_ends(world)
    await world.run()
    await assert_tidy(world)


async def test_too_large_is_over_after_three_calls(world: World) -> None:
    arm(world, "reduce_data", edge="items_batch")
    await world.put("p", *[variant(f"v{number:02}") for number in range(11)])
    await world.run()
    assert [request.records for request in world.sandbox.requests if request.edge == "items_batch"][1:] == [
        6,
        5,
    ]
    assert await one(world, "SELECT kind, calls FROM splits") == ("too_large", 3)
    await _assert_no_split(world)
    await assert_tidy(world)


async def test_one_item_that_is_too_large_fails_alone(world: World) -> None:
    _poison(world, "huge", code=1, status=500, message="Please reduce the amount of data you're asking for")
    await world.put("p", *[variant(f"v{number:02}") for number in range(11)], variant("huge"))
    await world.run()
    state = (await world.states())["huge"]
    assert (state["status"], state["attempts"]) == ("failed", 1)
    assert "reduce the amount" in state["error_text"]
    await assert_tidy_but(world, "huge")


async def test_what_even_small_calls_are_too_large_for_goes_in_smaller_ones_after_the_pause(
    world: World,
) -> None:
    arm(world, "reduce_data", edge="items_batch", count=5)
    await world.put("p", *[variant(f"v{number:02}") for number in range(16)])
    await world.run(until=lambda: _stands_still(world))
    assert {state["batch_limit"] for state in (await world.states()).values()} == {2}
    await _pause_ends(world)
    await world.run()
    await assert_tidy(world)
    assert world.calls() == 5 + 8


class _TakesNothing(httpx.AsyncBaseTransport):
    """Answers every call that carries one id with an empty list of handles, and names nobody."""

    def __init__(self, inner: httpx.AsyncBaseTransport, retailer_id: str) -> None:
        self._inner = inner
        self._mark = f'"id":"{retailer_id}"'.encode()

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("items_batch") and self._mark in request.content:
            return httpx.Response(200, json={"handles": []})
        return await self._inner.handle_async_request(request)


async def test_a_call_of_which_nothing_is_taken_and_nobody_named_is_halved(world: World) -> None:
    world.http = httpx.AsyncClient(transport=_TakesNothing(world.http._transport, "v07"))
    await world.put("p", *[variant(f"v{number:02}") for number in range(12)])
    await world.run()
    states = await world.states()
    assert {name for name, state in states.items() if state["status"] != "synced"} == {"v07"}
    assert states["v07"]["error_text"] == "Meta ingested nothing of the call."
    assert await one(world, "SELECT kind FROM splits") == "nothing_taken"
    await _assert_no_split(world)


async def test_every_step_by_another_worker_and_every_commit_lost_once(world: World) -> None:
    """Everything is in rows: who made the last step does not matter."""
    await world.put("p", *[variant(f"v{number:02}") for number in range(33)])
    _poison(world, "v21")
    for number in range(400):
        pipeline = world.pipeline(f"worker-{number}")
        await execute(world, "UPDATE store_queue SET due_at = now() WHERE due_at IS NOT NULL")
        await pipeline.drain_tick()
        await pipeline.poll_tick()
        if await world.is_quiet():
            break
    await _assert_named(world, "v21")
    await _assert_no_split(world)
    assert world.calls() <= MOST_CALLS


_CALLS_OF_SPLIT = (
    "SELECT 1 + count(*) FROM batch_calls JOIN batches USING (batch_id) WHERE split_part IS NOT NULL"
)


async def test_a_worker_that_dies_between_claim_and_call_spends_a_call_and_no_more(world: World) -> None:
    await world.put("p", *[variant(f"v{number:02}") for number in range(8)])
    _poison(world, "v05")
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
    await _assert_named(world, "v05", presence=presence)
    await _assert_no_split(world)
    assert await one(world, "SELECT calls FROM splits") <= MOST_CALLS


async def _nothing_unknown(world: World) -> bool:
    return not await fetch(world, "SELECT 1 FROM batches WHERE state IN ('sending', 'unknown')")


async def test_throttling_and_lost_answers_cost_a_search_nothing(world: World) -> None:
    await world.put("p", *[variant(f"v{number:02}") for number in range(8)])
    _poison(world, "v05")
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
    await _assert_named(world, "v05", presence="maybe")


async def test_items_that_change_while_they_are_searched(world: World) -> None:
    """The guilty one is put right, others are changed and deleted: nobody is named, everything ends right."""
    await world.put("p", *[variant(f"v{number:02}") for number in range(16)])
    _poison(world, "v05")
    pipeline = world.pipeline()
    for _ in range(3):
        await pipeline.drain_tick()
    await world.put(
        "p", *[variant(f"v{number:02}", 500 + number) for number in range(16) if number not in {4, 9}]
    )
    world.sandbox.faults.clear()
    await world.run(pipeline)
    await assert_tidy(world)
    await _assert_no_split(world)


async def test_parts_whose_items_are_gone_count_as_passed(world: World) -> None:
    await world.put("p", *[variant(f"v{number:02}") for number in range(16)])
    _poison(world, "v05")
    pipeline = world.pipeline()
    for _ in range(3):
        await pipeline.drain_tick()
    await world.catalog.delete_product(world.store_id, "p")
    await world.run(pipeline)
    await assert_tidy(world)
    await _assert_no_split(world)
    assert await fetch(world, "SELECT variant_id FROM sync_state WHERE status = 'failed'") == []


async def test_a_change_since_the_reading_does_not_go_out_with_another_part(world: World) -> None:
    """The split ends between reading and claim: nothing is sent for it."""
    await world.put("p", *[variant(f"v{number:02}") for number in range(8)])
    _poison(world, "v05")
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    calls = world.calls()
    before_claim(pipeline, lambda: execute(world, "UPDATE splits SET state = 'over'"))
    await pipeline.drain_tick()
    assert world.calls() == calls
    await execute(world, "UPDATE splits SET state = 'open'")
    await world.run(pipeline)
    await _assert_named(world, "v05")


async def test_what_stands_in_a_part_is_read_with_that_part_only(world: World) -> None:
    """Read with the rest it would stand at the head of the line and leave no room for others."""
    await world.put("p", *[variant(f"v{number}") for number in range(4)])
    _everything_is_refused(world)
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
    _poison(world, "v05")
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
    await _assert_named(world, "v05")


@pytest.mark.parametrize("how", ["another catalog", "epoch", "age"])
async def test_what_ends_a_search(world: World, how: str) -> None:
    await world.put("p", *[variant(f"v{number:02}") for number in range(8)])
    _poison(world, "v05")
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    world.sandbox.faults.clear()
    if how == "another catalog":
        world.sandbox.add_catalog("7100195296754001", "Other", catalog_id="7100195296759999")
        await world.connect(catalog_id="7100195296759999")
        await _assert_no_split(world)
        await world.connect(catalog_id=DEMO_CATALOG_ID)
    elif how == "epoch":
        await execute(world, "UPDATE catalog_links SET epoch = epoch + 1")
        await execute(world, "UPDATE batches SET link_epoch = link_epoch + 1 WHERE state <> 'over'")
    else:
        await execute(world, "UPDATE splits SET created_at = now() - interval '25 h'")
    await execute(world, "UPDATE store_queue SET due_at = now()")
    await pipeline.drain_tick()
    await _assert_no_split(world)
    await world.run(pipeline)
    await assert_tidy(world)


async def test_a_refused_answer_about_another_link_opens_nothing(world: World) -> None:
    await world.put("p", *[variant(f"v{number:02}") for number in range(4)])
    turn = await Turn.begin(world)
    batch = await turn.claim()
    assert batch is not None
    _everything_is_refused(world)
    drain: Any = world.pipeline("turn")._drain

    async def may_call(*_args: object) -> float:
        world.sandbox.add_catalog("7100195296754001", "Other", catalog_id="7100195296759999")
        await world.connect(catalog_id="7100195296759999")
        return 3.0

    drain._may_call = may_call
    await drain._send(turn.context, turn.lease, batch)
    assert world.calls() == 1
    assert await fetch(world, "SELECT 1 FROM splits") == []
    assert await _pause(world) == []


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
