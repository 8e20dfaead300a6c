"""Calls whose end is not known, comes late, or comes twice: equal bytes at once, anything else after the hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import httpx
import orjson
import pytest
from sqlalchemy import text
from typing_extensions import override

from meta_sync.core.db import Database
from meta_sync.sandbox.options import DEMO_CATALOG_ID
from meta_sync.sync import resend
from meta_sync.sync.outcome import next_batch_limit
from meta_sync.sync.resend import MAX_CALLS
from meta_sync.sync.ticks import Pipeline
from meta_sync.sync.waits import next_poll_seconds
from tests.support.pipeline import (
    Gate,
    Turn,
    arm,
    assert_sums,
    assert_tidy,
    execute,
    fetch,
    follow_due,
    gated,
    one,
)
from tests.support.world import FAST, World, open_world, variant

_RESEND_SECONDS = 5.0
_CALLS = "SELECT call_number, state FROM batch_calls ORDER BY batch_id, call_number"
_BATCH = "SELECT state, calls FROM batches ORDER BY batch_id LIMIT 1"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.run()
        yield world


async def _no_pause(world: World) -> None:
    """As if Meta had answered something else since: the wait after a failure is over."""
    await execute(world, "DELETE FROM store_pauses")
    await execute(world, "UPDATE store_queue SET due_at = now()")


async def _resend_now(world: World) -> None:
    await _no_pause(world)
    await execute(world, "UPDATE batches SET due_at = now() WHERE state = 'unknown'")


async def _hold_ends(world: World) -> None:
    await execute(
        world, "UPDATE batches SET due_at = now(), hold_until = now() WHERE state IN ('unknown', 'open')"
    )
    await execute(world, "UPDATE batch_calls SET unknown_at = now() - interval '1 h' WHERE state = 'unknown'")


def _slow(world: World, seconds: float = 60) -> None:
    """Waits that nobody waits for: they end when a test says so."""
    world.timing = replace(FAST, unknown_hold_seconds=seconds, resend_seconds=_RESEND_SECONDS)


def _sent_prices(world: World) -> int:
    return world.sandbox.catalog(DEMO_CATALOG_ID).applied_counts.get("a", 0)


async def test_the_same_bytes_go_again_at_once_and_anything_else_waits(world: World) -> None:
    _slow(world)
    arm(world, "drop_after", edge="items_batch")
    await world.put("p", variant("a", 1000))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    assert await one(world, _BATCH) == ("unknown", 1)
    body = await one(world, "SELECT body FROM batches")
    await world.put("p", variant("a", 2000))
    await world.put("q", variant("other"))
    await _no_pause(world)
    await pipeline.drain_tick()
    # The item in flight waits, its neighbour does not.
    assert await fetch(world, "SELECT variant_id, parked_by IS NOT NULL FROM intents") == [("a", True)]
    assert world.calls() == 2
    await _resend_now(world)
    await pipeline.drain_tick()
    assert await one(
        world, "SELECT state, calls, body = :body FROM batches ORDER BY batch_id LIMIT 1", body=body
    ) == (
        "open",
        2,
        True,
    )
    assert await fetch(world, _CALLS) == [(1, "unknown"), (2, "open"), (1, "open")]
    # The second call is finished at Meta, but the first one may still be at work: nothing newer goes out.
    await execute(world, "UPDATE batches SET due_at = now() WHERE state = 'open'")
    await follow_due(pipeline)
    await pipeline.drain_tick()
    assert world.calls() == 3
    assert (await world.states())["a"]["status"] == "submitted"
    assert await one(world, "SELECT due_at > now() + interval '30 s' FROM batches ORDER BY batch_id LIMIT 1")
    await _hold_ends(world)
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.calls() == 4
    assert world.at_meta()["a"]["price"] == "20.00 EUR"
    assert (await world.states())["a"]["attempts"] == 0


async def test_a_few_calls_and_then_the_hold(world: World) -> None:
    _slow(world)
    arm(world, "drop_before", edge="items_batch", count=MAX_CALLS, how="timeout")
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    for number in range(1, MAX_CALLS + 1):
        await pipeline.drain_tick()
        assert await one(world, _BATCH) == ("unknown", number)
        waits = await one(
            world,
            "SELECT extract(epoch FROM due_at - unknown_at)::float FROM batches JOIN batch_calls USING (batch_id) ORDER BY call_number DESC LIMIT 1",
        )
        assert waits == pytest.approx(_RESEND_SECONDS * 2 ** (number - 1), abs=0.02), "doubled each time"
        await _resend_now(world)
    await pipeline.drain_tick()
    assert world.calls() == MAX_CALLS
    await pipeline.poll_tick()
    assert await one(world, _BATCH) == ("unknown", MAX_CALLS)
    assert await one(world, "SELECT due_at = hold_until FROM batches")
    await _hold_ends(world)
    await _no_pause(world)
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.calls() == MAX_CALLS + 1
    assert (await world.states())["a"]["attempts"] == 0


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("graph_error", {"code": 100, "message": "Invalid parameter"}),
        ("throttled", {}),
        ("no_handles", {}),
        ("reduce_data", {}),
        ("token_error", {}),
    ],
)
async def test_a_refused_resend_leaves_the_unknown_call_as_it_was(
    world: World, kind: str, fields: dict[str, object]
) -> None:
    """Whatever refuses the second call says nothing of the first: the items stay where they are until its hold ends."""
    _slow(world)
    arm(world, "drop_after", edge="items_batch")
    await world.put("p", variant("a", 1000), variant("b"))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    arm(world, kind, edge="items_batch", **fields)
    await world.put("p", variant("a", 2000), variant("b"))
    await _resend_now(world)
    await pipeline.drain_tick()
    assert await one(world, _BATCH) == ("unknown", 2)
    assert await fetch(world, _CALLS) == [(1, "unknown"), (2, "refused")]
    assert {state["status"] for state in (await world.states()).values()} == {"submitted"}
    assert {state["attempts"] for state in (await world.states()).values()} == {0}
    # The third call has a number of its own.
    world.sandbox.faults.clear()
    world.sandbox.put_clock_forward(120)
    await execute(world, "UPDATE catalog_links SET calls_blocked_until = NULL, usage_percent = 0")
    await execute(world, "UPDATE credentials SET dead_at = NULL")
    await _resend_now(world)
    await pipeline.drain_tick()
    assert await one(world, _BATCH) == ("open", 3)
    await _hold_ends(world)
    await world.run(pipeline)
    await assert_tidy(world)


async def test_a_call_that_may_not_be_made_is_as_if_it_never_was(world: World) -> None:
    await world.put("p", variant("a"))
    turn = await Turn.begin(world, owner="worker-1")
    batch = await turn.claim()
    assert batch is not None
    drain = world.pipeline()._drain
    await execute(
        world,
        "INSERT INTO store_pauses (store_id, reason, until) VALUES (:id, 'meta_unreachable', now() + interval '1 h')",
        id=world.store_id,
    )
    await drain._send(turn.context, turn.lease, batch)
    assert (world.calls(), await one(world, _BATCH)) == (0, ("over", 1))
    assert (await world.states())["a"]["retailer_id"] is None
    await turn.end()
    # The same for a re-send: its number is free again.
    await _no_pause(world)
    _slow(world)
    arm(world, "drop_before", edge="items_batch")
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    await _resend_now(world)
    may_call = pipeline._drain._may_call

    async def never(*args: object) -> float:
        return 0.0

    pipeline._drain._may_call = never  # type: ignore[method-assign,assignment]  # in its place
    await pipeline.drain_tick()
    last = "SELECT state, calls FROM batches ORDER BY batch_id DESC LIMIT 1"
    assert await one(world, last) == ("unknown", 1)
    pipeline._drain._may_call = may_call  # type: ignore[method-assign]  # put in place of the real one for this test
    await _resend_now(world)
    await pipeline.drain_tick()
    assert await one(world, last) == ("open", 2)
    await _hold_ends(world)
    await world.run(pipeline)
    await assert_tidy(world)


async def test_a_crash_in_the_call_is_found_by_its_deadline(world: World) -> None:
    """(8): the hold counts from the moment somebody notices."""
    _slow(world)
    await world.put("p", variant("a"))
    turn = await Turn.begin(world)
    assert await turn.claim() is not None
    await turn.end()
    pipeline = world.pipeline()
    assert await pipeline.poll_tick() == 0, "its time is not over"
    await execute(
        world, "UPDATE batches SET due_at = now() - interval '1 h', created_at = now() - interval '1 h'"
    )
    await pipeline.poll_tick()
    assert await fetch(world, _CALLS) == [(1, "unknown")]
    assert await one(
        world, "SELECT state, hold_until > now() + interval '55 s', due_at <= now() FROM batches"
    ) == (
        "unknown",
        True,
        True,
    )
    await pipeline.drain_tick()
    assert await one(world, _BATCH) == ("open", 2)
    await _hold_ends(world)
    await world.run(pipeline)
    await assert_tidy(world)


@pytest.mark.parametrize("others", ["UPDATE batch_calls SET deadline_at = now() - interval '1 s'", None])
async def test_a_process_that_stood_still_does_not_call_late(world: World, others: str | None) -> None:
    """Its deadline is over, or somebody has given the call up already; its lease is as good as ever."""
    await world.put("p", variant("a"))
    turn = await Turn.begin(world, owner="worker-1")
    batch = await turn.claim()
    assert batch is not None
    if others is not None:
        await execute(world, others)
    else:
        await execute(world, "UPDATE batches SET due_at = now()")
        await world.pipeline().poll_tick()
        assert await one(world, _BATCH) == ("unknown", 1)
    await world.pipeline()._drain._send(turn.context, turn.lease, batch)
    assert world.calls() == 0
    assert await one(world, _BATCH) == ("over", 1)
    assert await fetch(world, "SELECT variant_id FROM intents") == [("a",)]
    assert (await world.states())["a"]["presence"] == "absent", "nothing was sent, and that is certain"


async def _stalled(world: World) -> tuple[Gate, asyncio.Task[int]]:
    """A worker whose call is carried out and whose answer does not come; others find it lost and send again."""
    gate = gated(world)
    stalled = asyncio.create_task(world.pipeline("stalled").drain_tick())
    await gate.reached.wait()
    await execute(
        world, "UPDATE worker_heartbeats SET seen_at = now() - interval '11 s' WHERE worker_id = 'stalled'"
    )
    await execute(world, "UPDATE batches SET due_at = now()")
    return gate, stalled


async def test_a_late_handle_of_a_stalled_worker_is_followed_beside_the_other(world: World) -> None:
    """(7): the items are free when both calls are over, not when the first of them is."""
    _slow(world, seconds=3600)
    arm(world, "handle_late", seconds=3600)
    await world.put("p", variant("a", 1000))
    gate, stalled = await _stalled(world)
    pipeline = world.pipeline("other")
    await pipeline.poll_tick()
    assert await one(world, _BATCH) == ("unknown", 1)
    await pipeline.drain_tick()
    assert await one(world, _BATCH) == ("open", 2), "another worker took the lease and sent the same bytes"
    gate.opened.set()
    await stalled
    assert await fetch(world, _CALLS) == [(1, "open"), (2, "open")], (
        "a handle is a fact, whoever holds the lease"
    )
    await world.put("p", variant("a", 2000))
    for _ in range(3):
        await execute(world, "UPDATE batches SET due_at = now()")
        await follow_due(pipeline)
        await execute(world, "UPDATE store_queue SET due_at = now()")
        await pipeline.drain_tick()
    assert (world.calls(), (await world.states())["a"]["status"]) == (2, "submitted")
    assert await fetch(world, _CALLS) == [(1, "open"), (2, "over")]
    world.sandbox.put_clock_forward(3601)
    await execute(world, "UPDATE batches SET due_at = now()")
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.calls() == 3
    assert world.at_meta()["a"]["price"] == "20.00 EUR"


async def test_a_late_handle_for_a_batch_that_is_over_disturbs_what_came_after(world: World) -> None:
    """(19), end to end: Meta applies the old content over the new one, and that is noticed."""
    arm(world, "handle_late", seconds=3600)
    await world.put("p", variant("a", 1000, special_price=500))
    gate, stalled = await _stalled(world)
    pipeline = world.pipeline("other")
    await pipeline.poll_tick()
    # Nobody sends it again in time: the hold ends, and the items go as they are by then.
    await execute(
        world, "UPDATE batches SET calls = :most, due_at = now(), hold_until = now()", most=MAX_CALLS
    )
    await world.put("p", variant("a", 2000))
    await world.run(pipeline)
    assert (await world.states())["a"]["status"] == "synced"
    gate.opened.set()
    await stalled
    assert await one(world, "SELECT state FROM batches ORDER BY batch_id LIMIT 1") == "given_up"
    world.sandbox.put_clock_forward(3601)
    await execute(world, "UPDATE batches SET due_at = now() WHERE state = 'given_up'")
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.at_meta()["a"]["price"] == "20.00 EUR"
    assert "sale_price" not in world.at_meta()["a"]


async def _lost(world: World, kind: str) -> Callable[[], Awaitable[object]]:
    """A first call that others gave up; what is returned lets its late end come in."""
    if kind != "not_called":
        arm(world, kind, edge="items_batch", code=100, message="Invalid parameter")
        gate, stalled = await _stalled(world)

        async def answered() -> None:
            gate.opened.set()
            await stalled

        return answered
    turn = await Turn.begin(world, owner="stalled")
    batch = await turn.claim()
    assert batch is not None
    await execute(world, "UPDATE worker_heartbeats SET seen_at = now() - interval '11 s'")
    await execute(world, "UPDATE batches SET due_at = now()")
    return lambda: world.pipeline("stalled")._drain._send(turn.context, turn.lease, batch)


@pytest.mark.parametrize("kind", ["graph_error", "drop_after", "reduce_data", "no_handles", "not_called"])
async def test_a_late_end_does_not_free_what_another_call_carries(world: World, kind: str) -> None:
    _slow(world)
    await world.put("p", variant("a"))
    comes_in = await _lost(world, kind)
    await world.pipeline("other").poll_tick()
    second = gated(world)
    sending = asyncio.create_task(world.pipeline("other").drain_tick())
    await second.reached.wait()
    assert await one(world, _BATCH) == ("sending", 2)
    await comes_in()
    assert await one(world, _BATCH) == ("sending", 2)
    assert (await world.states())["a"]["status"] == "submitted"
    second.opened.set()
    await sending
    assert await one(world, _BATCH) == ("open", 2)
    await _hold_ends(world)
    await execute(world, "DELETE FROM store_pauses")
    await world.run()
    await assert_tidy(world)
    assert world.calls() == (1 if kind == "not_called" else 2)


async def test_only_the_active_link_and_never_in_preview(world: World) -> None:
    """(9)"""
    _slow(world)
    arm(world, "drop_before", edge="items_batch")
    await world.put("p", variant("a"))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    await world.stores.patch_settings(world.store_id, {"feedMode": "preview"})
    await _resend_now(world)
    await pipeline.drain_tick()
    assert world.calls() == 1
    # The hold ends in preview too: the item is free, and nothing is sent.
    await _hold_ends(world)
    await follow_due(pipeline)
    await pipeline.drain_tick()
    assert (world.calls(), await one(world, _BATCH)) == (1, ("over", 1))
    await world.stores.patch_settings(world.store_id, {"feedMode": "live"})
    arm(world, "drop_before", edge="items_batch")
    await pipeline.drain_tick()
    assert world.calls() == 2
    world.sandbox.add_catalog("7100195296754001", "Other", catalog_id="7100195296759999")
    await world.connect(catalog_id="7100195296759999")
    await _resend_now(world)
    for _ in range(3):
        await pipeline.drain_tick()
    assert [request.catalog_id for request in world.sandbox.requests if request.edge == "items_batch"][
        2:
    ] == []
    await pipeline.jobs_tick()
    await pipeline.drain_tick()
    last = [request.catalog_id for request in world.sandbox.requests if request.edge == "items_batch"]
    assert last[2:] == ["7100195296759999"]


async def test_what_changed_since_it_was_due_stops_a_resend(world: World) -> None:
    """(9), again under the lock of the batch."""
    _slow(world)
    arm(world, "drop_before", edge="items_batch")
    await world.put("p", variant("a"))
    await world.pipeline().drain_tick()
    await _resend_now(world)
    context = await world.context()

    async def opened() -> object:
        async with world.database.platform() as connection:
            batch_id = await resend.due_batch(connection, context)
            assert batch_id is not None
            found = await resend.open_call(connection, context, batch_id, deadline_seconds=3)
            await connection.rollback()
            return found

    assert await opened() is not None
    for patch in ({"feedMode": "preview"}, {"feedMode": "live", "syncEnabled": False}):
        await world.stores.patch_settings(world.store_id, patch)
        assert await opened() is None
    await world.stores.patch_settings(world.store_id, {"syncEnabled": True})
    for statement in (
        "UPDATE sync_state SET in_flight = NULL",
        "UPDATE batches SET calls = 4",
        "UPDATE catalog_links SET epoch = 2",
        "UPDATE catalog_links SET active = false",
    ):
        batch_id = await one(world, "SELECT batch_id FROM batches")
        async with world.database.platform() as connection:
            await connection.execute(text(statement))
            assert await resend.open_call(connection, context, batch_id, deadline_seconds=3) is None, (
                statement
            )
            await connection.rollback()
    assert await opened() is not None


async def test_a_skewed_clock_of_a_process_ages_nothing() -> None:
    """All waits are the database's time: neither the drain nor the poll is given a clock."""
    assert "clock" not in Pipeline.__init__.__annotations__


def test_questions_become_rarer_up_to_the_store_s_own_interval() -> None:
    waits = [next_poll_seconds(polls, 60, 2) for polls in range(30)]
    assert waits[:3] == [2, 3, 4.5]
    assert waits == sorted(waits)
    assert waits[-1] == 60


# --- Reports -------------------------------------------------------------------------------------------------------


class _Reworded(httpx.AsyncBaseTransport):
    """Changes what is said of finished batches."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.changes: dict[str, object] = {}
        self.shown = True

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        edge = request.url.path.rpartition("/")[2]
        if edge == "check_batch_request_status" and self.changes:
            body = orjson.loads(await response.aread())
            body["data"][0].update(self.changes)
            return httpx.Response(200, content=orjson.dumps(body))
        if edge == "products" and not self.shown:
            return httpx.Response(200, json={"data": []})
        return response


def _reworded(world: World) -> _Reworded:
    transport = _Reworded(world.http._transport)
    world.http = httpx.AsyncClient(transport=transport)
    return transport


def _batch_sizes(world: World) -> list[int]:
    return [request.records for request in world.sandbox.requests if request.edge == "items_batch"]


async def test_after_incomplete_reports_batches_get_smaller_until_one_is_clear(world: World) -> None:
    """(16): it ends, costs no attempts, and one item's trouble is told of nobody else."""
    world.sandbox.refuse("v07", "Nobody likes it.")
    arm(world, "errors_capped", count=None, limit=0)
    await world.put("p", *[variant(f"v{number:02}") for number in range(23)])
    await world.run()
    await assert_sums(world)
    sizes = _batch_sizes(world)
    assert sizes[0] == 23
    assert sizes[1:4] == [10, 10, 3]
    assert next_batch_limit(23) == 10
    assert sorted(sizes[4:]) == [1] * 10, "only the ten in whose batch something was wrong"
    states = await world.states()
    assert {one for one, state in states.items() if state["status"] != "synced"} == {"v07"}
    assert (states["v07"]["status"], states["v07"]["attempts"]) == ("failed", 1)
    assert {state["attempts"] for name, state in states.items() if name != "v07"} == {0}
    assert {state["batch_limit"] for state in states.values()} == {None}
    await world.assert_right(refused={"v07"})


async def test_a_warning_about_a_required_field_is_looked_into_and_not_believed(world: World) -> None:
    """(17): shown as it was sent is saved; alone and not shown it is asked about for a while, then refused."""
    _slow(world)
    transport = _reworded(world)
    transport.changes = {
        "errors": [],
        "errors_total_count": 0,
        "warnings": [{"id": "a", "message": "A required field is missing: whatever."}],
    }
    await world.put("p", variant("a"), variant("b"))
    await world.run()
    assert {state["status"] for state in (await world.states()).values()} == {"synced"}, "it is shown"
    transport.shown = False
    await world.put("p", variant("a", 5), variant("b", 5))
    pipeline = world.pipeline()

    async def alone() -> bool:
        return bool(
            await fetch(world, "SELECT 1 FROM batches WHERE state = 'open' AND sent = 1 AND polls > 2")
        )

    await world.run(pipeline, until=alone)
    assert _batch_sizes(world) == [2, 2, 1]
    state = (await world.states())["a"]
    assert (state["status"], state["attempts"]) == ("submitted", 0)
    transport.shown = True
    await world.run(pipeline)
    await assert_tidy(world)
    transport.shown = False
    world.timing = replace(world.timing, read_back_seconds=0)
    await world.put("p", variant("a", 6), variant("b", 5))
    await world.run()
    state = (await world.states())["a"]
    assert (state["status"], state["attempts"], state["code"]) == ("failed", 1, "not_saved")
    assert state["error_text"] is None


async def test_an_item_that_cannot_be_read_back_is_not_taken_for_deleted(world: World) -> None:
    _slow(world)
    await world.put("p", variant("a"))
    await world.run()
    transport = _reworded(world)
    transport.changes = {
        "paging": {},
        "warnings": [{"id": "a", "message": "A required field is missing: x."}],
    }
    arm(world, "graph_error", count=2, edge="products", code=100, message="Invalid parameter")
    await world.catalog.delete_product(world.store_id, "p")
    pipeline = world.pipeline()

    async def asked() -> bool:
        return any(request.edge == "products" for request in world.sandbox.requests)

    await world.run(pipeline, until=asked)
    assert (await world.states())["a"]["status"] == "submitted"
    await world.run(pipeline)
    assert (await world.states())["a"]["status"] == "deleted"
    await assert_sums(world)


@pytest.mark.parametrize("kind", ["handle_error", "handle_canceled"])
async def test_a_batch_that_meta_stopped_goes_again_in_halves(world: World, kind: str) -> None:
    """(18)"""
    arm(world, kind, count=1, share=0.5)
    await world.put("p", *[variant(f"v{number}", special_price=5) for number in range(6)])
    pipeline = world.pipeline()

    async def stopped() -> bool:
        return bool(await fetch(world, "SELECT 1 FROM batches WHERE state = 'over'"))

    await world.run(pipeline, until=stopped)
    await world.run(pipeline)
    await assert_tidy(world)
    assert _batch_sizes(world) == [6, 3, 3]
    word = "error" if kind == "handle_error" else "canceled"
    assert await one(world, "SELECT error_code, unknown FROM batches ORDER BY batch_id LIMIT 1") == (
        f"batch_{word}",
        6,
    )
