"""The pump: the loops that move everything forward, fed by PostgreSQL alone.

It needs no Redis. A wake-up, wherever it comes from, only makes a loop look earlier than it would have on its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from meta_sync.core.logging import get_logger
from meta_sync.core.queue import JobName
from meta_sync.worker.loops import TickLoop, backoff_seconds

__all__ = ["FeedTicks", "ImportTicks", "PipelineTicks", "Pump"]

_logger = get_logger(__name__)

_DRAIN_SLOTS = 4
"""Stores served at the same time by one process. A turn spends most of its time waiting for Meta; four of them with
two poll slots, the sweep, the jobs and the imports stay within the default pool of eight connections because no
turn holds one while it waits."""
_POLL_SLOTS = 2
"""Apart from the drain's, so that handles are followed while calls are slow, and the other way round."""

_LOOK_SECONDS = 0.5
"""The longest a change waits in an idle worker without any wake-up."""
_SWEEP_SECONDS = 1.0
_JOBS_SECONDS = 1.0
"""Jobs and imports are long; a second until they begin is nothing to them."""

_FEED_SLOTS = 4
"""Fetches at the same time in one process. They wait for other people's servers, up to half an hour each, and hold no
connection meanwhile."""

_READ_SLOTS = 2
"""Catalogs that are read at the same time in one process. A large one takes an hour; a small one must not wait for it."""

_UPLOADS_SECONDS = 600.0
"""Abandoned uploads are a day old when they are ended; minutes do not matter."""

_FINISH_SECONDS = 20.0
"""Running ticks get this long after a stop. With what follows, even where the database hangs, a worker is gone within
28 s; container platforms kill after 30 s."""
_CUT_OFF_SECONDS = 2.0
"""For what a tick does when it is cut off."""


class PipelineTicks(Protocol):
    """What the pump needs of the sync pipeline. Every tick may run at any time, in any number of workers."""

    async def drain_tick(self) -> int:
        """Give one due store a turn; how much was done."""
        ...

    async def poll_tick(self) -> int:
        """Ask after due handles; how much was done."""
        ...

    async def sweep_tick(self) -> None:
        """Find what wake-ups and due marks missed; time-driven work."""
        ...

    async def jobs_tick(self) -> int:
        """Move one job a page on; how much was done."""
        ...

    async def read_jobs_tick(self) -> int:
        """Read a page of Meta for a job that does so; how much was done."""
        ...


class ImportTicks(Protocol):
    """What the pump needs of the imports."""

    async def run_next(self) -> bool:
        """Run one waiting import to its end; whether there was one."""
        ...

    async def sweep(self) -> int:
        """End uploads that nobody finishes; how many."""
        ...


class FeedTicks(Protocol):
    """What the pump needs of the feeds by address."""

    async def fetch_next(self) -> bool:
        """Fetch one due feed; whether there was one."""
        ...


class Pump:
    """All loops of one worker process.

    Parameters
    ----------
    pipeline, imports, feeds
        Where the work is; without the last one no feed is fetched.
    finish_seconds
        How long running ticks may take after a stop before they are cut off.
    backoff
        Seconds that a loop waits after the given number of failures in a row.
    """

    def __init__(
        self,
        pipeline: PipelineTicks,
        imports: ImportTicks,
        feeds: FeedTicks | None = None,
        *,
        finish_seconds: float = _FINISH_SECONDS,
        backoff: Callable[[int], float] = backoff_seconds,
    ) -> None:
        self._finish_seconds = finish_seconds
        # Slow work has loops of its own, so that it never stands in the way of quick work.
        self._loops = {
            JobName.DRAIN: TickLoop(
                "drain", pipeline.drain_tick, slots=_DRAIN_SLOTS, idle_seconds=_LOOK_SECONDS, backoff=backoff
            ),
            JobName.POLL: TickLoop(
                "poll", pipeline.poll_tick, slots=_POLL_SLOTS, idle_seconds=_LOOK_SECONDS, backoff=backoff
            ),
            JobName.SWEEP: TickLoop(
                "sweep", pipeline.sweep_tick, idle_seconds=_SWEEP_SECONDS, backoff=backoff
            ),
            JobName.JOBS: TickLoop("jobs", pipeline.jobs_tick, idle_seconds=_JOBS_SECONDS, backoff=backoff),
            JobName.IMPORTS: TickLoop(
                "imports", imports.run_next, idle_seconds=_JOBS_SECONDS, backoff=backoff
            ),
        }
        self._unnamed = [TickLoop("uploads", imports.sweep, idle_seconds=_UPLOADS_SECONDS, backoff=backoff)]
        self._feeds: TickLoop | None = None
        if feeds is not None:
            self._feeds = TickLoop(
                "feeds", feeds.fetch_next, slots=_FEED_SLOTS, idle_seconds=_JOBS_SECONDS, backoff=backoff
            )
            self._unnamed.append(self._feeds)
        # They wait for Meta, page after page: ordinary jobs, which only look at rows, do not wait with them.
        self._reads = TickLoop(
            "read jobs",
            pipeline.read_jobs_tick,
            slots=_READ_SLOTS,
            idle_seconds=_JOBS_SECONDS,
            backoff=backoff,
        )
        self._unnamed.append(self._reads)

    def wake(self, name: JobName) -> None:
        """Make the loop of that name look now."""
        self._loops[name].wake()
        if name is JobName.JOBS:
            self._reads.wake()
        if name is JobName.IMPORTS and self._feeds is not None:
            # An import by address begins with its fetch.
            self._feeds.wake()

    async def run(self, stop: asyncio.Event) -> bool:
        """Run until ``stop`` is set, then let running ticks end.

        Returns
        -------
        bool
            Whether all of them ended in time. One that did not was cut off; its lease runs out and another worker,
            or the next start, finds its rows.
        """
        loops = [*self._loops.values(), *self._unnamed]
        tasks = [asyncio.create_task(loop.run(), name=loop.name) for loop in loops]
        stopped = asyncio.create_task(stop.wait())
        try:
            # A loop that ends by itself is a fault of ours; the process goes down with it and is started again.
            await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            for loop in loops:
                loop.stop()
            ended, late = await asyncio.wait(tasks, timeout=self._finish_seconds)
            for task in late:
                task.cancel()
            if late:
                # They give back what they hold; where the database hangs, they would wait for it one after the other.
                await asyncio.wait(late, timeout=_CUT_OFF_SECONDS)
        for task in late:
            _logger.warning("A tick did not end in time and was cut off.", tick=task.get_name())
        for task in ended:
            task.result()
        return not late
