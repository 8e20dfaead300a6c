"""Workers that are told to stop, stand still, lose their database or die again and again, in the middle of their work.

Scenarios 10, 11, 47 and 48 of the fault list, with real processes and the sandbox on a socket.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.core.db import Database
from tests.support.forked import Changes, ForkedWorker
from tests.support.pipeline import arm, assert_tidy, execute, fetch, gated, one
from tests.support.processes import WorkerProcess, let_leases_run_out, open_real_world, until_quiet
from tests.support.proxy import TcpProxy
from tests.support.world import FAST, World, open_world, variant
from tests.worker.watching import eventually, fill, posts, slow_call

pytestmark = pytest.mark.kill

_LEASED = "SELECT lease_owner IS NOT NULL FROM store_queue"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_real_world(database, database_url) as world:
        yield world


# --- Told to stop ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "signals",
    [(signal.SIGTERM,), (signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM, signal.SIGINT)],
    ids=["term", "int", "twice"],
)
async def test_a_stop_in_the_middle_of_a_call(world: World, signals: tuple[signal.Signals, ...]) -> None:
    """It ends the call, keeps the handle, gives the store back and begins nothing; another goes on at once."""
    posted = posts(world)
    await fill(world, 30, batch_size=10)
    worker: WorkerProcess = WorkerProcess(world) if len(signals) == 1 else ForkedWorker(world)
    with worker:
        await slow_call(world, 1.5, process=worker)
        for number in signals:
            worker.process.send_signal(number)
        assert await worker.wait(15) == 0, worker.log()
        assert "cut off" not in worker.log()
    assert world.calls() == 1, "no call was begun after the stop"
    assert await fetch(world, "SELECT state, handle IS NOT NULL FROM batch_calls") == [("open", True)]
    assert await one(world, _LEASED) is False
    assert await one(world, "SELECT count(*) FROM worker_heartbeats") == 0
    with ForkedWorker(world) as successor:
        began = time.monotonic()
        await eventually(lambda: world.calls() > 1, "the other to go on", process=successor)
        assert time.monotonic() - began < 8, "it waited for a lease"
        await until_quiet(world, successor)
        assert successor.stop() == 0
    await assert_tidy(world)
    assert set(posted.values()) == {1}


async def test_a_call_that_outlasts_the_stop_is_cut_off_and_settled_by_another(world: World) -> None:
    posted = posts(world)
    await fill(world, 20, batch_size=10)
    with ForkedWorker(world, changes=Changes(finish_seconds=0.3)) as worker:
        await slow_call(world, 8, process=worker)
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.wait(15) == 0, worker.log()
        assert "was cut off" in worker.log()
    assert await fetch(world, "SELECT state, handle FROM batch_calls") == [("sending", None)]
    assert await one(world, _LEASED) is False
    with ForkedWorker(world) as successor:
        await until_quiet(world, successor)
        assert successor.stop() == 0
    await assert_tidy(world)
    # The call without an answer, and the same bytes once more.
    assert sorted(posted.values()) == [1] * 10 + [2] * 10


# --- Standing still ----------------------------------------------------------------------------------------------------


_LOCKS_OF_OTHERS = """
    SELECT count(*) FROM pg_locks
    WHERE pid <> pg_backend_pid() AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def _freeze(world: World, worker: WorkerProcess) -> None:
    """Stop it where it holds no lock: a server ends a transaction that stands still after a minute."""

    async def is_frozen_well() -> bool:
        worker.process.send_signal(signal.SIGSTOP)
        for _ in range(3):
            if await one(world, _LOCKS_OF_OTHERS):
                break
            # Its last words may be on their way to the server still.
            await asyncio.sleep(0.05)
        else:
            return True
        worker.process.send_signal(signal.SIGCONT)
        return False

    await eventually(is_frozen_well, "the worker to hold no lock", process=worker)


def _thaw(worker: WorkerProcess) -> None:
    worker.process.send_signal(signal.SIGCONT)


_FIRST = "(SELECT min(batch_id) FROM batches)"


async def test_a_worker_frozen_in_a_call_keeps_its_handle_as_a_fact(world: World) -> None:
    """Another has ended the batch and sent newer content; the late handle is followed and the items go once more."""
    await fill(world, 5, batch_size=10)
    # Asked about by nobody, Meta would apply it in time; so that it overwrites, it ends late.
    arm(world, "handle_late", seconds=3600)
    with ForkedWorker(world, changes=Changes(timing=replace(FAST, call_deadline_seconds=60))) as frozen:
        await slow_call(world, 1.0, process=frozen)
        await _freeze(world, frozen)
        await let_leases_run_out(world)
        await execute(world, "UPDATE store_queue SET leased_until = now()")
        await world.put("p1", variant("v1", 7777))
        with ForkedWorker(world) as other:
            await until_quiet(world, other)
            # All of it: the first call was found lost, the same bytes went again, the newer ones after them.
            await eventually(
                lambda: world.at_meta()["v1"]["price"] == "77.77 EUR", "the newer content", process=other
            )
            fence = await one(world, "SELECT fence FROM store_queue")
            calls = (
                f"SELECT call_number, state, handle IS NOT NULL FROM batch_calls WHERE batch_id = {_FIRST}"
            )
            assert [row[::2] for row in await fetch(world, f"{calls} ORDER BY 1")] == [(1, False), (2, True)]
            _thaw(frozen)
            late = f"{calls} AND call_number = 1"
            await eventually(lambda: _is(world, late, (1, "open", True)), "the late handle", process=frozen)
            assert await one(world, f"SELECT state FROM batches WHERE batch_id = {_FIRST}") == "given_up"
            # It decides nothing under its old lease, and goes on as any worker does.
            assert await one(world, "SELECT fence FROM store_queue") >= fence
            made = world.calls()
            world.sandbox.put_clock_forward(3601)
            assert world.at_meta()["v1"]["price"] == "10.00 EUR", (
                "Meta has applied the old content over the new"
            )
            await execute(world, "UPDATE batches SET due_at = now() WHERE state = 'given_up'")
            await eventually(lambda: world.calls() > made, "the items to go once more", process=other)
            await until_quiet(world, other)
            assert frozen.stop() == other.stop() == 0
    await assert_tidy(world)
    assert world.at_meta()["v1"]["price"] == "77.77 EUR"
    assert await one(world, "SELECT count(*) FROM batches WHERE state <> 'over'") == 0


async def _is(world: World, sql: str, wanted: object) -> bool:
    return await fetch(world, sql) == [wanted]


async def test_a_worker_frozen_just_before_its_call_does_not_make_it(world: World) -> None:
    posted = posts(world)
    await fill(world, 5, batch_size=10)
    await world.put("p1", variant("v1", 1111))
    with ForkedWorker(world, failpoints="submit.before_call=sleep:2@1") as frozen:
        await eventually(
            lambda: _is(world, "SELECT count(*) FROM batch_calls WHERE state = 'sending'", (1,)),
            "a claim",
            process=frozen,
        )
        await _freeze(world, frozen)
        await let_leases_run_out(world)
        await execute(world, "UPDATE store_queue SET leased_until = now()")
        await world.put("p1", variant("v1", 7777))
        began = time.monotonic()
        with ForkedWorker(world) as other:
            await until_quiet(world, other)
            over = began + FAST.call_deadline_seconds + 0.5
            await eventually(lambda: time.monotonic() > over, "its deadline, by the clock that it goes by")
            before = posted.copy()
            _thaw(frozen)
            await world.put("p2", variant("v2", 2222))
            await until_quiet(world, other)
            assert frozen.stop() == other.stop() == 0
    await assert_tidy(world)
    assert posted - before == {"v2": 1}, "nothing went out but what changed"


async def test_a_call_that_ends_unknown_after_others_ended_it_disturbs_its_items(
    database: Database, database_url: str
) -> None:
    """A process that stood still while it sent: nobody will ever know the handle, and Meta may still be at work."""
    async with open_world(database, database_url) as world:
        arm(world, "drop_after", edge="items_batch", how="timeout")
        arm(world, "handle_late", seconds=3600)
        await world.put("p", variant("v", 1000, special_price=500))
        await world.connect()
        gate = gated(world)
        stalled = asyncio.create_task(
            world.run(world.pipeline("stalled"), until=lambda: gate.opened.is_set())
        )
        await gate.reached.wait()
        await let_leases_run_out(world)
        other = world.pipeline("other")
        await other.poll_tick()
        await execute(world, "UPDATE batches SET calls = 4, due_at = now(), hold_until = now()")
        await world.put("p", variant("v", 2000))
        await world.run(other)
        assert world.at_meta()["v"]["price"] == "20.00 EUR"
        gate.opened.set()
        await stalled
        assert await fetch(world, "SELECT state, handle FROM batches ORDER BY batch_id LIMIT 1") == [
            ("given_up", None)
        ]
        world.sandbox.put_clock_forward(3601)
        assert "sale_price" in world.at_meta()["v"], "Meta has applied the old content over the new"
        await eventually(
            lambda: _moved(world, "SELECT count(*) FROM batches WHERE state = 'given_up'"), "the hold to end"
        )
        await world.run(other)
        await assert_tidy(world)
        assert world.at_meta()["v"]["price"] == "20.00 EUR"
        assert "sale_price" not in world.at_meta()["v"]


async def _moved(world: World, count: str) -> bool:
    await world.pipeline("other").poll_tick()
    return bool(await one(world, count) == 0)


# --- Without its database ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["refuse", "blackhole"])
async def test_a_worker_cut_off_from_its_database_makes_no_call(
    world: World, database_url: str, postgres_server: EmbeddedPostgres, mode: str
) -> None:
    """It cannot renew its lease, so it calls nobody; another takes over; and it stops when it is told to."""
    posted = posts(world)
    await fill(world, 30, batch_size=10)
    async with TcpProxy(f"{postgres_server.socket_directory}/.s.PGSQL.5432") as proxy:
        name = database_url.partition("@/")[2].partition("?")[0]
        user = database_url.partition("://")[2].partition("@")[0]
        url = f"postgresql://{user}@127.0.0.1:{proxy.port}/{name}"
        with ForkedWorker(world, changes=Changes(finish_seconds=1.0), database_url=url) as zombie:
            await slow_call(world, 0.5, process=zombie)
            proxy.mode = "refuse" if mode == "refuse" else "blackhole"
            await let_leases_run_out(world)
            await execute(world, "UPDATE store_queue SET leased_until = now()")
            with ForkedWorker(world) as other:
                await until_quiet(world, other)
                assert other.stop() == 0
            assert zombie.process.poll() is None
            # Its own batch was sent twice: the handle of the first call is lost with the database.
            assert sorted(posted.values()) == [1] * 20 + [2] * 10
            zombie.process.send_signal(signal.SIGTERM)
            assert await zombie.wait(25) == 0, zombie.log()
    await assert_tidy(world)
    assert sorted(posted.values()) == [1] * 20 + [2] * 10


# --- Again and again ---------------------------------------------------------------------------------------------------


async def test_ten_deaths_in_a_row_right_after_the_claim(world: World) -> None:
    posted = posts(world)
    await fill(world, 25, batch_size=10)
    for number in range(10):
        with ForkedWorker(world, failpoints="claim.after_commit=kill,submit.before_call=kill") as victim:
            assert await victim.wait() == -signal.SIGKILL, f"life {number}:\n{victim.log()}"
        await let_leases_run_out(world)
        await execute(world, "UPDATE batches SET due_at = now() WHERE state = 'unknown'")
    assert not posted, "no call was made"
    with ForkedWorker(world) as worker:
        await until_quiet(world, worker)
        assert worker.stop() == 0
    await assert_tidy(world)
    states = (await world.states()).values()
    assert {(state["status"], state["attempts"]) for state in states} == {("synced", 0)}
    assert set(posted.values()) == {1}
