"""A worker process: the pump, the wake-ups and the heartbeat, from start to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from meta_sync.core.db import Database
from meta_sync.core.logging import get_logger
from meta_sync.core.queue import JobQueue, MemoryJobQueue
from meta_sync.worker.heartbeat import Heartbeat
from meta_sync.worker.loops import backoff_seconds
from meta_sync.worker.pump import FeedTicks, ImportTicks, PipelineTicks, Pump
from meta_sync.worker.redis_wakeups import RedisWakeups

__all__ = ["run_worker"]

_logger = get_logger(__name__)

_LET_GO_SECONDS = 3.0
"""What runs beside the pump talks to Redis or writes one row. One of them that hangs must not outlast the 30 s after
which container platforms kill."""


async def run_worker(
    *,
    worker_id: str,
    database: Database,
    queue: JobQueue,
    redis_url: str | None,
    pipeline: PipelineTicks,
    imports: ImportTicks,
    feeds: FeedTicks | None = None,
    stop: asyncio.Event,
    backoff: Callable[[int], float] = backoff_seconds,
) -> None:
    """Work until ``stop`` is set, then finish what was begun (20 s), give back the rest and return within 28 s.

    Parameters
    ----------
    worker_id
        The name under which the pipeline takes leases.
    database
        For the heartbeat; the ticks bring their own.
    queue
        The queue of this process. The in-process one wakes the loops directly.
    redis_url
        Where wake-ups come from; ``None``: the loops look for work by themselves.
    pipeline, imports, feeds
        Where the work is; without the last one no feed is fetched.
    stop
        Set it to end the worker.
    backoff
        Seconds that a loop, or the listening to Redis, waits after the given number of failures in a row.
    """
    pump = Pump(pipeline, imports, feeds, backoff=backoff)
    if isinstance(queue, MemoryJobQueue):
        queue.listen(pump.wake)
    if redis_url is None:
        _logger.info(
            "The worker runs without Redis: it looks for work by itself, twice a second.", worker_id=worker_id
        )
    else:
        _logger.info("The worker runs; Redis wakes it.", worker_id=worker_id)
    heartbeat = Heartbeat(database, worker_id, "in-process" if redis_url is None else "redis")
    # The heart beats until the last tick has ended: others would take the leases of a silent worker.
    ended = asyncio.Event()
    beside = [asyncio.create_task(heartbeat.run(ended), name="heartbeat")]
    if redis_url is not None:
        beside.append(
            asyncio.create_task(
                RedisWakeups(redis_url, pump.wake, backoff=backoff).run(stop), name="wake-ups"
            )
        )
    try:
        clean = await pump.run(stop)
    finally:
        stop.set()
        ended.set()
        await _let_end(beside)
        await heartbeat.end()
    _logger.info("The worker has stopped.", worker_id=worker_id, clean=clean)


async def _let_end(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for tasks that were told to end, then cut off what did not."""
    _, late = await asyncio.wait(tasks, timeout=_LET_GO_SECONDS)
    for task in late:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            _logger.error("A part of the worker ended by itself.", exc_info=result)
