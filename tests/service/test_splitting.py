"""A call that Meta refuses as a whole: the guilty item is found and named, and a fault of the store names nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from typing_extensions import override

from meta_sync.core.db import Database
from meta_sync.sync.splitting import FRUITLESS_CALLS, MOST_CALLS
from tests.support.pipeline import (
    Turn,
    arm,
    assert_sums,
    assert_tidy,
    execute,
    fetch,
    one,
)
from tests.support.splitting import (
    REFUSAL_TEXT,
    assert_named,
    assert_no_split,
    everything_is_refused,
    pause,
    pause_ends,
    poison,
    put_many,
    stands_still,
)
from tests.support.world import World, open_world, variant


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.run()
        yield world


async def test_one_poisonous_item_among_2500_is_named_in_20_calls_and_the_others_go_out(world: World) -> None:
    await put_many(world, 2500)
    poison(world, "v1777")
    await world.run()
    assert world.calls() <= MOST_CALLS
    await assert_named(world, "v1777")
    assert await one(world, "SELECT sum(sent) FROM batches WHERE accepted > 0") == 2499
    assert await one(world, "SELECT calls, kind FROM splits WHERE calls > 2") == (
        world.calls() - await one(world, "SELECT count(*) FROM batches WHERE split_part IS NULL") + 1,
        "bad_parameter",
    )
    assert await pause(world) == []
    await assert_no_split(world)
    await assert_tidy_but(world, "v1777")


async def assert_tidy_but(world: World, *refused: str) -> None:
    await world.assert_right(refused=set(refused))
    await assert_sums(world)
    assert await one(world, "SELECT count(*) FROM batches WHERE state = 'over' AND body IS NOT NULL") == 0


@pytest.mark.parametrize("guilty", [("v03", "v04"), ("v00", "v39"), ("v10", "v20", "v30")])
async def test_several_poisonous_items_are_all_named(world: World, guilty: tuple[str, ...]) -> None:
    """Three in three quarters look like the store's fault at first; a change elsewhere shows that they are not."""
    await world.put("p", *[variant(f"v{number:02}") for number in range(40)])
    poison(world, *guilty)
    for number in range(8):
        await world.run(until=lambda: _rests(world))
        if not await stands_still(world):
            break
        await world.put("other", variant("other", 1000 + number))
        await pause_ends(world)
    await assert_named(world, *guilty)
    await assert_no_split(world)


async def _rests(world: World) -> bool:
    return await world.is_quiet() or await stands_still(world)


@pytest.mark.parametrize("count", [1, 2, 3, 300])
async def test_a_bad_parameter_in_every_call_costs_few_calls_and_pauses_the_store(
    world: World, count: int
) -> None:
    await world.put("p", *[variant(f"v{number:03}") for number in range(count)])
    everything_is_refused(world)
    await world.run(until=lambda: stands_still(world))
    assert world.calls() <= min(MOST_CALLS, 5)
    [(reason, code, message, is_quarter)] = await pause(world)
    assert (reason, code, is_quarter) == ("blocked_by_meta", "100", True)
    assert message == REFUSAL_TEXT
    states = await world.states()
    assert {(state["status"], state["attempts"], state["presence"]) for state in states.values()} == {
        ("pending", 0, "absent")
    }
    await assert_no_split(world)
    await assert_sums(world)
    # Once more after the pause: nobody has put it right.
    before = world.calls()
    await pause_ends(world)
    await world.run(until=lambda: stands_still(world))
    assert world.calls() - before <= 5
    world.sandbox.faults.clear()
    await pause_ends(world)
    await world.run()
    await assert_tidy(world)


async def test_a_store_wide_fault_is_known_from_many_small_batches_too(world: World) -> None:
    """Items that go alone make splits that never reach a second level."""
    for number in range(30):
        await world.put(f"p{number}", variant(f"v{number:02}"))
    await execute(world, "UPDATE sync_state SET batch_limit = 1")
    everything_is_refused(world)
    await world.run(until=lambda: stands_still(world))
    assert world.calls() == FRUITLESS_CALLS
    assert {state["status"] for state in (await world.states()).values()} == {"pending"}
    await assert_no_split(world)
    world.sandbox.faults.clear()
    await pause_ends(world)
    await world.run()
    await assert_tidy(world)


async def test_a_lone_item_is_named_when_other_work_is_taken_and_stops_no_store_for_ever(
    world: World,
) -> None:
    poison(world, "bad")
    await world.put("p", variant("bad"))
    await world.run(until=lambda: stands_still(world))
    assert (world.calls(), len(await pause(world))) == (1, 1)
    assert (await world.states())["bad"]["status"] == "pending", "it may be the store's fault"
    await world.put("q", variant("good"))
    await pause_ends(world)
    await world.run()
    await assert_named(world, "bad")
    assert await stands_still(world) is False


async def test_a_lone_item_waits_for_what_else_there_is(world: World) -> None:
    poison(world, "bad")
    await world.put("p", variant("bad"))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    assert await fetch(world, "SELECT state FROM split_parts WHERE level = 1") == [("doubted",)]
    await world.put("q", variant("good"))
    await world.run(pipeline)
    await assert_named(world, "bad")
    assert world.calls() == 3
    assert await pause(world) == []


async def test_a_call_that_was_begun_before_proves_nothing(world: World) -> None:
    """Its handle comes in after the refusal; Meta took it before whatever is wrong now began."""
    await world.put("p", variant("early"))
    early = await Turn.begin(world, owner="early")
    batch = await early.claim()
    assert batch is not None
    await early.end()
    everything_is_refused(world)
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
    await world.run(until=lambda: stands_still(world))
    assert (await world.states())["bad"]["status"] == "pending"
    await pause_ends(world)
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
    await assert_no_split(world)
    await assert_tidy(world)


async def test_one_item_that_is_too_large_fails_alone(world: World) -> None:
    poison(world, "huge", code=1, status=500, message="Please reduce the amount of data you're asking for")
    await world.put("p", *[variant(f"v{number:02}") for number in range(11)], variant("huge"))
    await world.run()
    state = (await world.states())["huge"]
    assert (state["status"], state["attempts"], state["code"]) == ("failed", 1, "too_large")
    assert "reduce the amount" in state["error_text"]
    await assert_tidy_but(world, "huge")


async def test_what_even_small_calls_are_too_large_for_goes_in_smaller_ones_after_the_pause(
    world: World,
) -> None:
    arm(world, "reduce_data", edge="items_batch", count=5)
    await world.put("p", *[variant(f"v{number:02}") for number in range(16)])
    await world.run(until=lambda: stands_still(world))
    assert {state["batch_limit"] for state in (await world.states()).values()} == {2}
    await pause_ends(world)
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
    assert (states["v07"]["code"], states["v07"]["error_text"]) == ("nothing_taken", None)
    assert await one(world, "SELECT kind FROM splits") == "nothing_taken"
    await assert_no_split(world)
