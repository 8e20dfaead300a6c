"""The pump: slow work beside quick work, wake-ups by name, and a stop that lets ticks end."""

import asyncio

from meta_sync.core.queue import JobName
from meta_sync.worker.pump import Pump
from tests.worker.test_loops import until


class Work:
    """A pipeline and imports whose ticks can be held at a gate."""

    def __init__(self) -> None:
        self.calls = dict.fromkeys(JobName, 0)
        self.gates: dict[JobName, asyncio.Event] = {}
        self.ended: list[JobName] = []

    async def _pass(self, name: JobName) -> None:
        self.calls[name] += 1
        if name in self.gates:
            await self.gates[name].wait()
        self.ended.append(name)

    async def drain_tick(self) -> int:
        await self._pass(JobName.DRAIN)
        return 0

    async def poll_tick(self) -> int:
        await self._pass(JobName.POLL)
        return 0

    async def sweep_tick(self) -> None:
        await self._pass(JobName.SWEEP)

    async def jobs_tick(self) -> int:
        await self._pass(JobName.JOBS)
        return 0

    async def read_jobs_tick(self) -> int:
        return 0

    async def run_next(self) -> bool:
        await self._pass(JobName.IMPORTS)
        return False

    async def sweep(self) -> int:
        return 0


async def woken(pump: Pump, work: Work, name: JobName) -> None:
    """Wake a loop and see it look well before it would have by itself."""
    before = work.calls[name]
    pump.wake(name)
    await until(lambda: work.calls[name] > before, 0.4)


async def test_slow_work_does_not_stand_in_the_way_of_quick_work() -> None:
    work = Work()
    work.gates[JobName.IMPORTS] = asyncio.Event()
    work.gates[JobName.JOBS] = asyncio.Event()
    stop = asyncio.Event()
    pump = Pump(work, work)
    task = asyncio.create_task(pump.run(stop))
    await until(lambda: work.calls[JobName.IMPORTS] == 1 and work.calls[JobName.JOBS] == 1)
    for _ in range(5):
        await woken(pump, work, JobName.DRAIN)
        await woken(pump, work, JobName.POLL)
    assert work.calls[JobName.IMPORTS] == 1
    for gate in work.gates.values():
        gate.set()
    stop.set()
    assert await asyncio.wait_for(task, 2)


async def test_each_name_wakes_its_own_loop() -> None:
    work = Work()
    stop = asyncio.Event()
    pump = Pump(work, work)
    task = asyncio.create_task(pump.run(stop))
    await until(lambda: all(work.calls.values()))
    for name in JobName:
        await woken(pump, work, name)
    stop.set()
    assert await asyncio.wait_for(task, 2)


async def test_a_stop_waits_for_running_ticks() -> None:
    work = Work()
    work.gates[JobName.POLL] = asyncio.Event()
    stop = asyncio.Event()
    task = asyncio.create_task(Pump(work, work).run(stop))
    await until(lambda: work.calls[JobName.POLL] == 2)
    stop.set()
    await asyncio.sleep(0.02)
    assert not task.done()
    work.gates[JobName.POLL].set()
    assert await asyncio.wait_for(task, 2)
    assert work.ended.count(JobName.POLL) == 2


async def test_a_tick_that_does_not_end_is_cut_off_after_its_time() -> None:
    work = Work()
    work.gates[JobName.DRAIN] = asyncio.Event()
    stop = asyncio.Event()
    task = asyncio.create_task(Pump(work, work, finish_seconds=0.05).run(stop))
    await until(lambda: work.calls[JobName.DRAIN] >= 1)
    stop.set()
    assert await asyncio.wait_for(task, 2) is False
    assert JobName.DRAIN not in work.ended
