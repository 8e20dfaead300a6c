"""Meta at its worst, one behaviour at a time, over hours: how often it is called, what the store shows, how it ends.

The numbers are those of docs/reliability.md. Time is moved, not waited for; waits are those of production.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr
from typing_extensions import override

from meta_sync.core.db import Database
from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN, DEMO_BUSINESS_ID, DEMO_CATALOG_ID
from meta_sync.sync.status import StatusService, StoreStatus
from tests.support.journey import REAL_TIMING, Journey, answers, graph_error, hurried, wired
from tests.support.pipeline import arm, assert_tidy, fetch, one
from tests.support.world import World, open_world, product, variant

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


async def _neighbour(world: World) -> World:
    """Another store with a catalog of its own, on the same pipeline."""
    store = await world.stores.create("Other", currency="EUR", storefront_base_url="https://other.example")
    world.sandbox.add_catalog(DEMO_BUSINESS_ID, "Other", catalog_id=_OTHER_CATALOG)
    other = replace(world, store_id=store.store_id)
    await other.connect(catalog_id=_OTHER_CATALOG)
    await Journey(other).run_until_quiet()
    return other


async def _status(world: World) -> StoreStatus:
    return await StatusService(world.database, world.settings).status(world.store_id)


async def _attempts(world: World) -> set[int]:
    return {state["attempts"] for state in (await world.states()).values()}


# --- 21: a storm of 5xx ----------------------------------------------------------------------------------------------

_STORMS: dict[str, Any] = {
    "500 with a page": answers(500, b"<html>Sorry, something went wrong.</html>"),
    "502 with text": answers(502, b"Bad Gateway"),
    "503 with nothing": answers(503, b""),
    "504 with a page": answers(504, b"<html>Gateway Time-out</html>"),
    "500 with a code of its own": answers(500, {"error": {"message": "Unknown error", "code": 5000}}),
    "500 with code 2": answers(500, {"error": {"message": "Later", "code": 2, "is_transient": True}}),
}


@pytest.mark.parametrize("storm", _STORMS.values(), ids=_STORMS)
async def test_a_storm_of_server_errors_is_met_with_few_calls_and_hits_nobody_else(
    world: World, storm: Any
) -> None:
    """21: ten minutes of it, with the longest waits that chance allows; the neighbour goes on as ever."""
    other = await _neighbour(world)
    wire = wired(world)
    wire.answer(storm, edge=_BATCH, catalog_id=DEMO_CATALOG_ID, count=None)
    await world.put("p", variant("a", 1000), variant("b"))
    journey = Journey(world, hurried(world, jitter=lambda: 1.0))
    wire.clock = journey.now
    shown: set[tuple[str, str | None]] = set()
    for minute in range(10):
        await other.put("q", variant("n", 3000 + minute))
        await journey.run_for(60)
        status = await _status(world)
        shown.add((status.connection_state, status.pause_reason))
    at = [call.at for call in wire.made(_BATCH, DEMO_CATALOG_ID)]
    gaps = [second - first for first, second in pairwise(at)]
    assert 4 <= len(at) <= 9, "5 + 10 + 20 + ... seconds between them"
    assert all(gap >= 5 * 2**number - 1 for number, gap in enumerate(gaps)), gaps
    assert shown <= {("connected", "meta_unreachable"), ("connected", None)}
    assert ("connected", "meta_unreachable") in shown
    assert await _attempts(world) == {0}
    assert len(wire.made(_BATCH, _OTHER_CATALOG)) == 10, "one call for each change"
    assert (await other.states())["n"]["status"] == "synced"
    assert (await _status(other)).pause_reason is None
    await world.put("p", variant("a", 2000), variant("b"))
    wire.scripts.clear()
    await journey.run_until_quiet()
    assert await _attempts(world) == {0}
    assert (await _status(world)).pause_reason is None
    assert world.at_meta()["a"]["price"] == "20.00 EUR"
    await assert_tidy(world)


async def test_how_long_a_store_waits_in_a_storm_is_chance_down_to_a_floor(world: World) -> None:
    """21: full jitter. Stores that failed together must not come back together, at any length of the wait."""
    wire = wired(world)
    wire.answer(answers(503, b""), edge=_BATCH, count=None)
    await world.put("p", variant("a"))
    chance = {"now": 0.0}
    journey = Journey(world, hurried(world, jitter=lambda: chance["now"]))
    waits = []
    for chance["now"] in (0.0, 0.5, 0.0, 1.0):
        calls = len(wire.made(_BATCH))
        while len(wire.made(_BATCH)) == calls:
            await journey.pass_time(1)
            await journey.work()
        left = "SELECT extract(epoch FROM until - now())::float FROM store_pauses"
        waits.append(round(await one(world, left)))
    assert waits == [2, 6, 2, 40]
    wire.scripts.clear()
    await journey.run_until_quiet()
    await assert_tidy(world)


async def test_a_question_that_meets_a_storm_is_asked_rarely_and_ages_nothing(world: World) -> None:
    """21: an hour without an answer about a handle; it is not given up, and nothing is sent twice."""
    wire = wired(world)
    await world.put("p", variant("a"))
    journey = Journey(world, hurried(world, jitter=lambda: 1.0))
    await journey.pipeline.drain_tick()
    wire.answer(answers(502, b"Bad Gateway"), edge=_QUESTION, count=None)
    await journey.run_for(_HOUR)
    # Three tries per question, questions five minutes apart in the end.
    assert len(wire.made(_QUESTION)) <= 3 * (7 + 12)
    assert (await world.states())["a"]["status"] == "submitted"
    wire.scripts.clear()
    await journey.run_until_quiet()
    assert len(wire.made(_BATCH)) == 1
    await assert_tidy(world)


# --- 22, 23: the rate budget -----------------------------------------------------------------------------------------

_MINUTES = 7
_REGAIN = {
    "x-business-use-case-usage": orjson.dumps(
        {
            "1": [
                {
                    "type": "whatever",
                    "call_count": 100,
                    "total_cputime": 20,
                    "total_time": 20,
                    "estimated_time_to_regain_access": _MINUTES,
                }
            ]
        }
    ).decode()
}


@pytest.mark.parametrize(
    ("code", "edge", "calls_blocked", "questions_blocked"),
    [
        (80014, _BATCH, True, False),
        (80009, _QUESTION, False, True),
        (4, _BATCH, True, True),
        (17, _QUESTION, True, True),
        (613, _BATCH, True, True),
    ],
)
async def test_no_call_to_a_bucket_before_meta_s_minutes_are_over(
    world: World, code: int, edge: str, calls_blocked: bool, questions_blocked: bool
) -> None:
    """22: minutes, not seconds; the other bucket goes on where the code speaks of one."""
    other = await _neighbour(world)
    wire = wired(world)
    journey = Journey(world)
    wire.clock = journey.now
    arm(world, "handle_late", seconds=60)
    await world.put("p", variant("a"))
    await journey.pipeline.drain_tick()
    headers = _REGAIN if code not in {80014, 80009} else _of_bucket(code)
    wire.answer(graph_error(code, status=403, headers=headers), edge=edge, catalog_id=DEMO_CATALOG_ID)
    await world.put("q", variant("b"))
    await other.put("q", variant("n"))
    for price in range(1000, 1007):
        await world.put(f"q{price}", variant(f"b{price}"))
        await journey.run_for(60 * _MINUTES / 7 - 1)
    struck = next(call.at for call in wire.made(edge, DEMO_CATALOG_ID)[int(edge == _BATCH) :])
    later = [call for call in wire.made(catalog_id=DEMO_CATALOG_ID) if call.at > struck]
    assert (not [call for call in later if call.edge == _BATCH]) is calls_blocked
    assert (not [call for call in later if call.edge == _QUESTION]) is questions_blocked
    assert wire.made(_BATCH, _OTHER_CATALOG), "another catalog's bucket"
    shown = await _status(world)
    if calls_blocked:
        assert shown.pause_reason == "throttled"
        assert shown.paused_until is not None
    await journey.run_until_quiet()
    again = [call.at for call in wire.made(catalog_id=DEMO_CATALOG_ID) if call.at > struck]
    if calls_blocked and questions_blocked:
        assert again[0] >= struck + 60 * _MINUTES - 1
    assert await _attempts(world) == {0}
    await assert_tidy(world)


def _of_bucket(code: int) -> dict[str, str]:
    name = "catalog_batch" if code == 80014 else "catalog_management"
    return {key: value.replace("whatever", name) for key, value in _REGAIN.items()}


async def test_calls_become_rarer_before_meta_blocks_them(world: World) -> None:
    """23: the usage header climbs, and each step costs the store speed, not access. Calls per five minutes."""
    wire = wired(world)
    usage = {"percent": 0}

    class _Metered(httpx.AsyncBaseTransport):
        @override
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await wire.handle_async_request(request)
            counter = {"type": "catalog_batch", "call_count": usage["percent"]}
            response.headers["x-business-use-case-usage"] = orjson.dumps({"1": [counter]}).decode()
            return response

    world.http = httpx.AsyncClient(transport=_Metered())
    await world.stores.patch_settings(world.store_id, {"batchSize": 1})
    await world.catalog.put_products(world.store_id, [product(f"p{number}") for number in range(60)])
    journey = Journey(world)
    counts = []
    for usage["percent"] in (70, 85, 93, 97):
        before = len(wire.made(_BATCH))
        await journey.run_for(300)
        counts.append(len(wire.made(_BATCH)) - before)
    assert counts[0] > counts[1] > counts[2] > counts[3] >= 1, counts
    assert counts[0] <= 300 / 18 + 3
    assert counts[3] <= 2, "above 95 % one call in five minutes brings a new reading"
    assert (await _status(world)).budget is not None
    usage["percent"] = 10
    await world.stores.patch_settings(world.store_id, {"batchSize": 2500})
    await journey.run_until_quiet()
    await assert_tidy(world)


# --- 24, 25: the token, the permission, the account, the catalog -------------------------------------------------------

_ACCOUNT_LOST: dict[str, tuple[int, int | None, int]] = {
    "190/460 password changed": (190, 460, 400),
    "190/458 app removed": (190, 458, 401),
    "190 under 500": (190, None, 500),
    "10 permission removed": (10, None, 403),
    "200 permission missing": (200, None, 403),
}


@pytest.mark.parametrize("lost", _ACCOUNT_LOST.values(), ids=_ACCOUNT_LOST)
async def test_a_lost_account_is_left_alone_at_once_and_for_ever(
    world: World, lost: tuple[int, int | None, int]
) -> None:
    """24: no more calls than were under way, whatever else waits: new changes, open handles, and time."""
    code, subcode, status = lost
    wire = wired(world)
    journey = Journey(world)
    for number in range(3):
        arm(world, "handle_late", seconds=300)
        await world.put(f"p{number}", variant(f"v{number}"))
        await journey.pipeline.drain_tick()
    await world.put("changed", variant("a", 1000))
    await journey.pass_time(30)
    wire.answer(graph_error(code, subcode, status=status), count=None)
    before = len(wire.calls)
    # A submit and the questions about three handles, all at the same moment.
    second = world.pipeline("second")
    await asyncio.gather(
        journey.pipeline.drain_tick(), second.drain_tick(), journey.pipeline.poll_tick(), second.poll_tick()
    )
    in_flight = len(wire.calls) - before
    assert 1 <= in_flight <= 4
    for price in (2000, 3000, 4000):
        await world.put("changed", variant("a", price))
        await journey.run_for(20)
    settled = len(wire.calls) - before
    assert settled <= 4, "those of the first moment and what had not been asked then"
    await journey.run_for(_HOUR / 3)
    assert len(wire.calls) - before == settled, "not one further call"
    shown = await _status(world)
    assert (shown.connection_state, shown.pause_reason) == ("needs_reconnect", "needs_reconnect")
    assert shown.last_error is not None
    assert shown.last_error.code is not None
    assert shown.last_error.code.startswith(str(code))
    assert await fetch(world, "SELECT variant_id FROM intents") == [("a",)], "changes queue"
    assert await _attempts(world) == {0}
    assert {state["status"] for state in (await world.states()).values()} <= {"pending", "submitted"}
    # A new token, and everything goes on where it was.
    wire.scripts.clear()
    await world.connection.set_token(world.store_id, SecretStr(DEMO_ACCESS_TOKEN))
    await journey.run_until_quiet()
    assert (await _status(world)).pause_reason is None
    assert {one: len(wire.posts(one)) for one in ("v0", "v1", "v2")} == {"v0": 1, "v1": 1, "v2": 1}
    assert await _attempts(world) == {0}
    await assert_tidy(world)


async def test_a_token_found_dead_by_a_call_is_not_used_for_a_question(world: World) -> None:
    """24: the mark is the token's own, and asked for before each use of it."""
    wire = wired(world)
    journey = Journey(world)
    arm(world, "handle_late", seconds=300)
    await world.put("p", variant("a"))
    await journey.pipeline.drain_tick()
    wire.answer(graph_error(190, 463), edge=_BATCH)
    await world.put("q", variant("b"))
    await journey.pipeline.drain_tick()
    await journey.run_for(_HOUR / 6)
    assert wire.made(_QUESTION) == []
    assert len(wire.made(_BATCH)) == 2
    await world.connection.set_token(world.store_id, SecretStr(DEMO_ACCESS_TOKEN))
    await journey.run_until_quiet()
    assert len(wire.posts("a")) == 1
    await assert_tidy(world)


@pytest.mark.parametrize(
    ("code", "subcode", "reason", "most_calls"),
    [
        (368, None, "blocked_by_meta", 7),
        (2635, None, "blocked_by_meta", 7),
        (803, None, "needs_reconnect", 1),
        (100, 33, "needs_reconnect", 1),
    ],
)
async def test_a_closed_door_is_shown_and_not_knocked_at(
    world: World, code: int, subcode: int | None, reason: str, most_calls: int
) -> None:
    """25, 33: a policy block, a retired version, a catalog that is gone. A day of it, with changes all the time."""
    other = await _neighbour(world)
    wire = wired(world)
    wire.answer(graph_error(code, subcode), catalog_id=DEMO_CATALOG_ID, count=None)
    journey = Journey(world)
    wire.clock = journey.now
    await world.put("p", variant("a", 1000))
    await journey.run_for(_HOUR)
    await other.put("q", variant("n"))
    for price in range(2000, 2024):
        await world.put("p", variant("a", price))
        await journey.run_for(_HOUR)
    made = wire.made(catalog_id=DEMO_CATALOG_ID)
    assert 1 <= len(made) <= most_calls
    assert all(second.at - first.at >= _HOUR - 1 for first, second in pairwise(made))
    shown = await _status(world)
    assert shown.pause_reason == reason
    assert shown.last_error is not None
    assert (shown.last_error.code or "").startswith(str(code))
    assert f"(#{code})" in shown.last_error.message
    states = await world.states()
    assert (states["a"]["status"], states["a"]["attempts"]) == ("pending", 0)
    assert (await other.states())["n"]["status"] == "synced"
    # Opened again, and somebody says so where that is needed.
    wire.scripts.clear()
    await world.connection.select_catalog(
        world.store_id, DEMO_BUSINESS_ID, "Demo", DEMO_CATALOG_ID, "Demo", enable_sync=None, dry_run=False
    )
    await journey.run_until_quiet()
    await assert_tidy(world)


async def test_a_catalog_that_goes_while_handles_are_open_is_not_asked_about_for_ever(world: World) -> None:
    """25: the same for the questions; the batch stays what it is until somebody acts."""
    wire = wired(world)
    arm(world, "handle_late", seconds=120)
    await world.put("p", variant("a"))
    journey = Journey(world)
    await journey.pipeline.drain_tick()
    wire.answer(graph_error(100, 33), edge=_QUESTION, count=None)
    await journey.run_for(_HOUR)
    assert len(wire.made(_QUESTION)) == 1
    assert (await _status(world)).pause_reason == "needs_reconnect"
    assert (await world.states())["a"]["status"] == "submitted"
    wire.scripts.clear()
    await world.connection.set_token(world.store_id, SecretStr(DEMO_ACCESS_TOKEN))
    await journey.run_until_quiet()
    assert len(wire.made(_BATCH)) == 1
    await assert_tidy(world)
