"""A tick loop: works while there is work, wakes, backs off, and ends after the running tick."""

import asyncio
from collections.abc import Callable

from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from meta_sync.worker.loops import TickLoop, backoff_seconds


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - waits for whatever the caller names
            await asyncio.sleep(0.001)


class Counting:
    """A tick over a stock of work."""

    def __init__(self, work: int = 0) -> None:
        self.work = work
        self.calls = 0
        self.running = 0
        self.most_running = 0
        self.failures: list[Exception] = []
        self.gate: asyncio.Event | None = None

    async def tick(self) -> int:
        self.calls += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.failures:
                raise self.failures.pop()
            if self.work:
                self.work -= 1
                return 1
            return 0
        finally:
            self.running -= 1


async def test_runs_again_at_once_while_there_is_work() -> None:
    work = Counting(200)
    loop = TickLoop("t", work.tick, idle_seconds=60)
    task = asyncio.create_task(loop.run())
    await until(lambda: work.work == 0)
    # One more tick finds nothing; then the loop waits its minute.
    await until(lambda: work.calls == 201)
    loop.stop()
    await asyncio.wait_for(task, 1)
    assert work.calls == 201


async def test_a_wake_up_cuts_the_wait_short() -> None:
    work = Counting()
    loop = TickLoop("t", work.tick, idle_seconds=60)
    task = asyncio.create_task(loop.run())
    await until(lambda: work.calls == 1)
    work.work = 1
    loop.wake()
    await until(lambda: work.work == 0)
    loop.stop()
    await asyncio.wait_for(task, 1)


async def test_a_wake_up_during_a_tick_is_not_lost() -> None:
    work = Counting()
    work.gate = asyncio.Event()
    loop = TickLoop("t", work.tick, idle_seconds=60)
    task = asyncio.create_task(loop.run())
    await until(lambda: work.running == 1)
    loop.wake()
    work.gate.set()
    await until(lambda: work.calls == 2)
    loop.stop()
    await asyncio.wait_for(task, 1)


async def test_looks_by_itself_without_any_wake_up() -> None:
    work = Counting()
    loop = TickLoop("t", work.tick, idle_seconds=0.01)
    task = asyncio.create_task(loop.run())
    await until(lambda: work.calls > 3)
    loop.stop()
    await asyncio.wait_for(task, 1)


async def test_all_slots_work_when_there_is_work_and_one_asks_when_there_is_none() -> None:
    work = Counting(100)
    work.gate = asyncio.Event()
    loop = TickLoop("t", work.tick, slots=4, idle_seconds=0.01)
    task = asyncio.create_task(loop.run())
    # At the start every slot looks once.
    await until(lambda: work.running == 4)
    work.gate.set()
    await until(lambda: work.work == 0)
    await until(lambda: work.running == 0)
    calls, work.gate = work.calls, asyncio.Event()
    # Idle: only the first slot asks, so one tick hangs at the gate and no second one joins it.
    await until(lambda: work.running == 1)
    await asyncio.sleep(0.05)
    assert work.running == 1
    assert work.calls <= calls + 5
    work.work = 50
    work.gate.set()
    await until(lambda: work.work == 0)
    loop.stop()
    await asyncio.wait_for(task, 1)
    assert work.most_running == 4


async def test_a_failure_backs_off_and_wake_ups_do_not_shorten_it() -> None:
    waits: list[int] = []

    def backoff(failures: int) -> float:
        waits.append(failures)
        return 0.05

    work = Counting()
    work.failures = [ConnectionRefusedError("nobody there")] * 3
    loop = TickLoop("t", work.tick, idle_seconds=60, backoff=backoff)
    began = asyncio.get_running_loop().time()
    task = asyncio.create_task(loop.run())
    while work.failures:
        loop.wake()
        await asyncio.sleep(0.001)
    await until(lambda: work.calls >= 4)
    assert asyncio.get_running_loop().time() - began >= 0.15
    assert waits == [1, 2, 3]
    loop.stop()
    await asyncio.wait_for(task, 1)


async def test_a_stop_during_a_back_off_ends_at_once() -> None:
    work = Counting()
    work.failures = [RuntimeError("bug")]
    loop = TickLoop("t", work.tick, idle_seconds=60, backoff=lambda _: 60)
    task = asyncio.create_task(loop.run())
    await until(lambda: not work.failures)
    loop.stop()
    await asyncio.wait_for(task, 1)


async def test_a_stop_lets_the_running_tick_end_and_begins_none() -> None:
    work = Counting(10)
    work.gate = asyncio.Event()
    loop = TickLoop("t", work.tick, idle_seconds=60)
    task = asyncio.create_task(loop.run())
    await until(lambda: work.running == 1)
    loop.stop()
    await asyncio.sleep(0.01)
    assert not task.done()
    work.gate.set()
    await asyncio.wait_for(task, 1)
    assert (work.calls, work.work) == (1, 9)


async def test_an_outage_is_a_warning_and_a_fault_of_ours_an_error() -> None:
    work = Counting()
    work.failures = [
        RuntimeError("bug"),
        OperationalError("SELECT 1", {}, ConnectionRefusedError("no\nanswer")),
    ]
    loop = TickLoop("t", work.tick, idle_seconds=60, backoff=lambda _: 0.0)
    with capture_logs() as logs:
        task = asyncio.create_task(loop.run())
        await until(lambda: work.calls == 3)
        loop.stop()
        await asyncio.wait_for(task, 1)
    assert [(log["log_level"], log.get("reason")) for log in logs] == [
        ("warning", "no"),
        ("error", "bug"),
        ("info", None),
    ]
    assert isinstance(logs[1]["exc_info"], RuntimeError)


def test_backoff_doubles_to_a_cap_with_jitter() -> None:
    longest = [backoff_seconds(n, lambda: 1.0) for n in range(1, 9)]
    assert longest == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert backoff_seconds(10**6, lambda: 0.0) == 7.5
