"""Content that Meta answers with nothing but server errors: found and named while all else flows; an outage names nobody."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from meta_sync.core.db import Database
from meta_sync.sync.splitting import MOST_CALLS
from meta_sync.sync.ticks import Pipeline
from tests.support.pipeline import arm, assert_sums, assert_tidy, execute, fetch, one
from tests.support.world import FAST, World, open_world, variant

_TEXT = "An unexpected error has occurred. Please retry your request later."
_SPLIT = "SELECT kind, state FROM splits WHERE state <> 'over'"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        world.timing = replace(
            FAST, unknown_hold_seconds=0.15, resend_seconds=0.02, suspect_after_seconds=0.3
        )
        await world.connect()
        await world.run()
        world.sandbox.requests.clear()
        yield world


def _fails(world: World, retailer_id: str | None, **fields: Any) -> None:
    """Every call that carries the item ends in a server error."""
    arm(
        world,
        "poison",
        retailer_id=retailer_id,
        **{"code": 2, "status": 500, "message": _TEXT, "count": None, **fields},
    )


async def _is_named(world: World, *ids: str) -> bool:
    states = await world.states()
    return {name for name, state in states.items() if state["status"] == "failed"} == set(ids)


async def _round(world: World, pipeline: Pipeline) -> None:
    """What is due now, and no wait but that for the pause after a failure."""
    await execute(world, "DELETE FROM store_pauses")
    await execute(world, "UPDATE store_queue SET due_at = now() WHERE due_at IS NOT NULL")
    await pipeline.drain_tick()
    await pipeline.poll_tick()


async def _hold_ends(world: World) -> None:
    await execute(world, "UPDATE batches SET due_at = now(), hold_until = now() WHERE state = 'unknown'")
    await execute(
        world, "UPDATE batch_calls SET unknown_at = unknown_at - interval '1 h' WHERE state = 'unknown'"
    )


async def test_a_suspect_is_found_and_named_while_the_rest_flows(world: World) -> None:
    await world.put("p", *[variant(f"v{number:02}") for number in range(16)])
    _fails(world, "v11")
    pipeline = world.pipeline()
    lives = 0

    async def named() -> bool:
        nonlocal lives
        if lives < 300:
            lives += 1
            await world.put("live", variant("live", 1000 + lives))
        return await _is_named(world, "v11")

    await world.run(pipeline, until=named)
    await world.run(pipeline)
    states = await world.states()
    assert {name for name, state in states.items() if state["status"] != "synced"} == {"v11"}
    assert (states["v11"]["code"], states["v11"]["error_text"]) == ("server_errors", _TEXT)
    assert (states["v11"]["attempts"], states["v11"]["presence"]) == (1, "maybe")
    assert states["v11"]["retry_at"] is not None, "found by halving, and not by a word of Meta about it"
    assert await one(world, "SELECT max(calls) FROM splits") <= MOST_CALLS
    assert await fetch(world, _SPLIT) == []
    assert await one(world, "SELECT count(*) FROM sync_state WHERE split_part IS NOT NULL") == 0
    assert len([one for one in world.sandbox.requests if one.edge == "node"]) == 1
    await world.assert_right(refused={"v11"})
    await assert_sums(world)


async def test_without_other_work_the_halves_prove_each_other(world: World) -> None:
    await world.put("p", *[variant(f"v{number:02}") for number in range(8)])
    _fails(world, "v05")
    await world.run(until=lambda: _is_named(world, "v05"))
    await world.run()
    states = await world.states()
    assert {name for name, state in states.items() if state["status"] != "synced"} == {"v05"}
    await assert_sums(world)


async def test_the_items_stay_together_and_bring_nobody_else_down(world: World) -> None:
    world.timing = replace(world.timing, unknown_hold_seconds=600, resend_seconds=0)
    await world.put("p", *[variant(f"v{number:02}") for number in range(8)])
    _fails(world, "v05")
    pipeline = world.pipeline()
    for _ in range(4):
        await _round(world, pipeline)
    assert await fetch(world, "SELECT sent, calls, server_errors, state FROM batches") == [
        (8, 4, 4, "unknown")
    ]
    body, body_hash = await one(world, "SELECT body, body_hash FROM batches")
    assert body_hash == hashlib.sha256(body).digest()
    await world.put("q", variant("fresh"))
    await _hold_ends(world)
    await pipeline.poll_tick()
    assert await fetch(world, _SPLIT) == [("suspect", "open")]
    await world.put("q", variant("fresh"), variant("newer"))
    for _ in range(4):
        await _round(world, pipeline)
    sizes = [request.records for request in world.sandbox.requests if request.edge == "items_batch"]
    assert sizes[:4] == [8] * 4
    assert sorted(sizes[4:]) == [2, 8], "new items go without them, and they are asked once in a hold"
    assert await fetch(world, "SELECT count(DISTINCT body_hash) FROM batches WHERE server_errors > 0") == [
        (1,)
    ]


@pytest.mark.parametrize("why", ["too few", "too soon", "silent catalog"])
async def test_what_is_not_suspect_is_only_sent_again(world: World, why: str) -> None:
    world.timing = replace(
        world.timing,
        unknown_hold_seconds=600,
        resend_seconds=0,
        suspect_errors=6 if why == "too few" else 5,
        suspect_after_seconds=7200 if why == "too soon" else 60,
    )
    await world.put("p", *[variant(f"v{number:02}") for number in range(8)])
    _fails(world, "v05")
    if why == "silent catalog":
        arm(world, "transient_before", edge="node", count=None)
    pipeline = world.pipeline()
    for _ in range(4):
        await _round(world, pipeline)
    await _hold_ends(world)
    await pipeline.poll_tick()
    await _round(world, pipeline)
    assert await one(world, "SELECT count(*) FROM batch_calls WHERE server_error") == 5
    await _hold_ends(world)
    await pipeline.poll_tick()
    assert await fetch(world, _SPLIT) == [("suspect", "open")]
    assert await fetch(world, "SELECT state FROM split_parts") == [("sent",)]
    assert any(one.edge == "node" for one in world.sandbox.requests) is (why == "silent catalog")
    # Meta is well again: they all go out.
    world.sandbox.faults.clear()
    world.timing = FAST
    await execute(world, "DELETE FROM store_pauses")
    await world.run()
    await assert_tidy(world)
    assert await fetch(world, _SPLIT) == []


async def test_an_outage_of_the_whole_names_nobody(world: World) -> None:
    """Meta answers for the catalog and fails at every write: it looks like a suspect until nothing else passes."""
    await world.put("p", *[variant(f"v{number:02}") for number in range(8)])
    _fails(world, None)
    pipeline = world.pipeline()

    async def tried() -> bool:
        return bool(await fetch(world, "SELECT 1 FROM splits WHERE state = 'over' AND calls > 1"))

    await world.run(pipeline, until=tried)
    states = await world.states()
    assert "failed" not in {state["status"] for state in states.values()}
    assert {state["attempts"] for state in states.values()} == {0}
    # Seven, and those that were sent deeper before the last of the second level had its answer.
    assert await one(world, "SELECT max(calls) FROM splits WHERE state = 'over'") <= 10
    assert await one(world, "SELECT reason FROM store_pauses") == "meta_unreachable"
    world.sandbox.faults.clear()
    await world.run(pipeline)
    await assert_tidy(world)
    assert await fetch(world, _SPLIT) == []


@pytest.mark.parametrize("others", [True, False])
async def test_a_lone_suspect_is_named_only_when_others_pass(world: World, others: bool) -> None:
    await world.put("p", variant("bad"))
    _fails(world, "bad")
    pipeline = world.pipeline()
    number = 0

    async def done() -> bool:
        nonlocal number
        number += 1
        if others:
            await world.put("q", variant("good", 100 + number))
            return await _is_named(world, "bad")
        return bool(await fetch(world, "SELECT 1 FROM splits WHERE state = 'over' AND calls = 2"))

    await world.run(pipeline, until=done)
    assert (await world.states())["bad"]["status"] == ("failed" if others else "pending")
    world.sandbox.faults.clear()
    await world.put("p", variant("bad", 5))
    await world.run(pipeline)
    await assert_tidy(world)


async def test_a_lost_answer_in_a_search_is_no_verdict(world: World) -> None:
    world.timing = replace(world.timing, unknown_hold_seconds=600, resend_seconds=0, suspect_after_seconds=0)
    await world.put("p", *[variant(f"v{number:02}") for number in range(4)])
    _fails(world, "v01")
    pipeline = world.pipeline()
    for _ in range(4):
        await _round(world, pipeline)
    for _ in range(2):
        await _hold_ends(world)
        await pipeline.poll_tick()
        if await fetch(world, "SELECT 1 FROM splits WHERE state = 'waiting'"):
            break
        await _round(world, pipeline)
    await _round(world, pipeline)
    assert await one(world, "SELECT state, calls FROM splits") == ("open", 1)
    arm(world, "drop_before", edge="items_batch")
    await _round(world, pipeline)
    assert await one(world, "SELECT calls FROM splits") == 1
    assert await fetch(world, "SELECT state FROM split_parts WHERE level = 1 ORDER BY part_id") == [
        ("sent",),
        ("waiting",),
    ]
    await _hold_ends(world)
    await pipeline.poll_tick()
    world.timing = replace(FAST, unknown_hold_seconds=0.15)
    await execute(world, "DELETE FROM store_pauses")
    await world.run(until=lambda: _is_named(world, "v01"))
    await world.run()
    assert await one(world, "SELECT count(*) FROM sync_state WHERE status = 'synced'") == 3
