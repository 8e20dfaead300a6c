"""Handles that never end, are unknown or end badly, and reports that do not add up. Times as in production, moved along.

The numbers are those of docs/reliability.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import orjson
import pytest

from meta_sync.core.db import Database
from tests.support.journey import REAL_TIMING, Journey, answers, graph_error, line, reworded, wired
from tests.support.pipeline import arm, assert_sums, assert_tidy, fetch, one
from tests.support.world import World, open_world, variant

_HOUR = 3600.0
_DAY = 24 * _HOUR
_BATCH = "items_batch"
_QUESTION = "check_batch_request_status"
_OTHER_CATALOG = "7100195296700001"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        world.timing = REAL_TIMING
        await world.connect()
        await Journey(world).run_until_quiet()
        yield world


# --- 27-31: handles and reports --------------------------------------------------------------------------------------


async def test_a_handle_that_never_ends_is_given_up_and_asked_about_for_a_day(world: World) -> None:
    """27"""
    wire = wired(world)
    arm(world, "handle_never", count=1)
    await world.put("p", variant("a", 1000, special_price=500))
    journey = Journey(world)
    wire.clock = journey.now
    await journey.pipeline.drain_tick()
    (handle,) = [row[0] for row in await fetch(world, "SELECT handle FROM batches WHERE handle IS NOT NULL")]

    def asked() -> list[float]:
        return [call.at for call in wire.made(_QUESTION) if call.handle == handle]

    await journey.run_for(29 * 60)
    state = (await world.states())["a"]
    assert (state["status"], state["attempts"]) == ("submitted", 0)
    gaps = [second - first for first, second in pairwise(asked())]
    assert all(later >= sooner - 0.5 for sooner, later in pairwise(gaps)), "ever more rarely"
    interval = (await world.context()).settings.poll_interval_seconds
    assert gaps[-1] == pytest.approx(interval, abs=1), "up to the store's own interval"
    seen: list[tuple[str, str | None]] = []

    async def look() -> None:
        state = (await world.states())["a"]
        seen.append((state["status"], state["code"]))

    while not await fetch(world, "SELECT 1 FROM batches WHERE state = 'given_up'"):
        await journey.pass_time(5)
        await journey.pipeline.poll_tick()
    await look()
    assert seen == [("failed", "poll_timeout")]
    await journey.run_for(60)
    assert len(wire.posts("a")) == 2, "sent again"
    state = (await world.states())["a"]
    assert (state["status"], state["attempts"], state["code"]) == ("synced", 0, None)
    await assert_sums(world)
    before = len(asked())
    await journey.run_for(23 * _HOUR)
    late = asked()[before:]
    assert 23 * 6 - 2 <= len(late) <= 23 * 6 + 1
    assert all(590 <= second - first <= 610 for first, second in pairwise(late))
    await journey.run_for(2 * _HOUR)
    last = asked()[-1]
    assert last <= 24 * _HOUR + 1200
    assert await fetch(world, "SELECT count(*) FROM batches WHERE state <> 'over'") == [(0,)]
    # The end of it counts as a late end: what it carried may have come over what was confirmed since.
    await journey.run_until_quiet()
    assert len(wire.posts("a")) <= 3
    assert (await world.states())["a"]["attempts"] == 0
    await assert_tidy(world)


@pytest.mark.parametrize(
    "answer",
    [graph_error(100), answers(404, {"error": {"message": "Invalid handle", "code": 100}})],
    ids=["400", "404"],
)
async def test_a_handle_that_meta_does_not_know_makes_its_items_go_again(world: World, answer: Any) -> None:
    """28: unknown is not failed and not saved. After some patience the items go again; nothing counts against them."""
    wire = wired(world)
    await world.put("p", variant("a"), variant("b"))
    journey = Journey(world)
    wire.clock = journey.now
    await journey.pipeline.drain_tick()
    (handle,) = [row[0] for row in await fetch(world, "SELECT handle FROM batches WHERE handle IS NOT NULL")]
    wire.answer(answer, edge=_QUESTION, handle=handle, count=None)
    await journey.run_for(240)
    assert {state["status"] for state in (await world.states()).values()} == {"submitted"}
    await journey.run_for(600)
    assert [len(wire.posts(one)) for one in ("a", "b")] == [2, 2]
    assert {(s["status"], s["attempts"]) for s in (await world.states()).values()} == {("synced", 0)}
    await journey.run_for(2 * _HOUR)
    assert len([call for call in wire.made(_QUESTION) if call.handle == handle]) <= 30 + 2 * 6
    await journey.pass_time(_DAY)
    await journey.run_for(_HOUR)
    assert await fetch(world, "SELECT count(*) FROM batches WHERE state <> 'over'") == [(0,)]
    await journey.run_until_quiet()
    assert len(wire.posts("a")) <= 3, "the day's end disturbs it once"
    await assert_tidy(world)


async def test_no_status_at_all_means_still_running(world: World) -> None:
    """28: an answer without a status, or with no object, is asked again; it is no end."""
    wire = wired(world)
    bodies: list[dict[str, Any]] = [
        {"data": []},
        {"data": None},
        {},
        {"data": [{}]},
        {"data": [{"status": None}]},
    ]
    for body in bodies:
        wire.answer(answers(200, body), edge=_QUESTION)
    await world.put("p", variant("a"))
    await Journey(world).run_until_quiet()
    assert len(wire.posts("a")) == 1
    assert len(wire.made(_QUESTION)) == 6
    await assert_tidy(world)


async def test_each_item_of_a_report_has_its_own_end(world: World) -> None:
    """29: one refused, one with a warning, one fine. Only the refused one is not right, and it is not sent for ever."""
    wire = wired(world)
    world.sandbox.refuse("bad", "The price information under  is invalid. Review for more details")
    await world.put("p", variant("good"), variant("bad"), variant("warned"))
    wire.answer(reworded(wire, {"warnings": [line("warned", "Add a Google category.")]}), edge=_QUESTION)
    journey = Journey(world)
    await journey.run_for(_DAY)
    states = await world.states()
    assert {name: state["status"] for name, state in states.items()} == {
        "good": "synced",
        "warned": "synced",
        "bad": "failed",
    }
    assert states["bad"]["code"] == "rejected_by_meta"
    assert "price information" in states["bad"]["error_text"]
    assert [len(wire.posts(one)) for one in ("good", "warned")] == [1, 1]
    assert len(wire.posts("bad")) <= 5
    await world.assert_right(refused={"bad"})
    # A change of the others carries nothing of it; its own change sends it.
    await world.put("p", variant("good", 5000), variant("bad"), variant("warned"))
    await journey.run_for(_HOUR)
    sent_bad = len(wire.posts("bad"))
    world.sandbox.lift_refusal("bad")
    await world.put("p", variant("good", 5000), variant("bad", 700), variant("warned"))
    await journey.run_until_quiet()
    assert len(wire.posts("bad")) == sent_bad + 1
    await assert_tidy(world)


async def test_a_report_that_names_strangers_confirms_nobody(world: World) -> None:
    """30: an id that was never sent makes the report worthless for the unnamed; they go again and end right."""
    wire = wired(world)
    stranger = {"errors": [line("nobody", "Bad.")], "errors_total_count": 1, "status": "finished"}
    wire.answer(reworded(wire, stranger), edge=_QUESTION)
    await world.put("p", variant("a"), variant("b"))
    journey = Journey(world)
    await journey.run_for(30)
    assert await fetch(
        world, "SELECT accepted, rejected, unknown FROM batches WHERE state = 'over' ORDER BY batch_id"
    )
    first = await one(world, "SELECT accepted, rejected, unknown FROM batches ORDER BY batch_id LIMIT 1")
    assert first == (0, 0, 2)
    await journey.run_until_quiet()
    assert {(s["status"], s["attempts"]) for s in (await world.states()).values()} == {("synced", 0)}
    assert await fetch(world, "SELECT variant_id FROM sync_state WHERE variant_id = 'nobody'") == []
    await assert_tidy(world)


async def test_an_item_that_a_report_names_twice_is_refused_once(world: World) -> None:
    """30: two texts of one item are one refusal, and both are kept; its neighbour is confirmed."""
    wire = wired(world)
    world.sandbox.refuse("a", "Bad price.")
    twice = {
        "errors": [line("a", "Bad price."), line("a", "Bad image."), line("a", "Bad price.")],
        "errors_total_count": 3,
        "ids_of_invalid_requests": ["a", "a"],
    }
    await world.put("p", variant("a"), variant("b"))
    journey = Journey(world)
    await journey.pipeline.drain_tick()
    await journey.pass_time(10)
    wire.answer(reworded(wire, twice), edge=_QUESTION)
    await journey.run_for(60)
    states = await world.states()
    assert (states["a"]["status"], states["a"]["attempts"]) == ("failed", 1)
    assert states["a"]["error_text"] == "Bad price. Bad image."
    assert states["b"]["status"] == "synced"
    await assert_sums(world)
    await world.assert_right(refused={"a"})


async def test_an_answer_to_a_call_that_names_strangers_refuses_nobody(world: World) -> None:
    """30: in ``validation_status`` too; a name that comes twice there is one refusal."""
    wire = wired(world)
    inner = wire.inner

    async def answer(request: httpx.Request) -> httpx.Response:
        response = await inner.handle_async_request(request)
        body = orjson.loads(await response.aread())
        bad = {"errors": [{"message": "Not this."}]}
        body["validation_status"] = [
            {"retailer_id": "nobody", **bad},
            {"retailer_id": "A", **bad},
            {"retailer_id": "c", **bad},
            {"retailer_id": "c", "errors": [{"message": "Nor that."}]},
        ]
        return httpx.Response(200, content=orjson.dumps(body))

    world.sandbox.refuse("c", "Not this.")
    wire.answer(answer, edge=_BATCH)
    await world.put("p", variant("a"), variant("b"), variant("c"))
    journey = Journey(world)
    await journey.pipeline.drain_tick()
    states = await world.states()
    assert {name: state["status"] for name, state in states.items()} == {
        "a": "submitted",
        "b": "submitted",
        "c": "failed",
    }
    assert states["c"]["error_text"] == "Not this. Nor that."
    await journey.run_for(120)
    assert (await world.states())["a"]["status"] == "synced"
    await assert_sums(world)
    await world.assert_right(refused={"c"})


async def test_nothing_taken_and_some_named_is_a_verdict_on_those_alone(world: World) -> None:
    """31: no handle, so nothing is asked. The named are refused; the others were not even looked at and go again."""
    wire = wired(world)
    body = {
        "handles": [],
        "validation_status": [{"retailer_id": "bad", "errors": [{"message": "The price is invalid."}]}],
    }
    wire.answer(answers(200, body), edge=_BATCH)
    await world.put("p", variant("bad"), variant("b"), variant("c"))
    journey = Journey(world)
    await journey.pipeline.drain_tick()
    await journey.pass_time(5)
    assert await journey.pipeline.poll_tick() == 0
    assert wire.made(_QUESTION) == []
    state = (await world.states())["bad"]
    assert (state["status"], state["presence"], state["error_text"]) == (
        "failed",
        "absent",
        "The price is invalid.",
    )
    await journey.run_for(600)
    assert [sorted(call.items) for call in wire.made(_BATCH)] == [["b", "bad", "c"], ["b", "c"]]
    states = await world.states()
    assert {states[name]["status"] for name in ("b", "c")} == {"synced"}
    assert {states[name]["attempts"] for name in ("b", "c")} == {0}
    await assert_sums(world)
    await world.assert_right(refused={"bad"})


async def test_nothing_taken_and_nobody_named_does_not_go_round_for_ever(world: World) -> None:
    """31"""
    wire = wired(world)
    wire.answer(answers(200, {"handles": []}), edge=_BATCH, count=3)
    await world.put("p", *[variant(f"v{number}") for number in range(8)])
    journey = Journey(world)
    await journey.run_until_quiet()
    assert len(wire.made(_BATCH)) <= 20
    assert {state["attempts"] for state in (await world.states()).values()} == {0}
    await assert_tidy(world)
