"""A worker process: the pump, the wake-ups and the heartbeat, from start to stop."""

from __future__ import annotations

import asyncio

from meta_sync.core.db import Database
from meta_sync.core.logging import get_logger
from meta_sync.core.queue import JobQueue, MemoryJobQueue
from meta_sync.worker.heartbeat import Heartbeat
from meta_sync.worker.pump import ImportTicks, PipelineTicks, Pump
from meta_sync.worker.redis_wakeups import RedisWakeups

__all__ = ["run_worker"]

_logger = get_logger(__name__)


async def run_worker(
    *,
    worker_id: str,
    database: Database,
    queue: JobQueue,
    redis_url: str | None,
    pipeline: PipelineTicks,
    imports: ImportTicks,
    stop: asyncio.Event,
) -> None:
    """Work until ``stop`` is set, then finish what was begun (25 s at most) and return.

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
    pipeline, imports
        Where the work is.
    stop
        Set it to end the worker.
    """
    pump = Pump(pipeline, imports)
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
        beside.append(asyncio.create_task(RedisWakeups(redis_url, pump.wake).run(stop), name="wake-ups"))
    try:
        clean = await pump.run(stop)
    finally:
        stop.set()
        ended.set()
        await asyncio.gather(*beside, return_exceptions=True)
        await heartbeat.end()
    _logger.info("The worker has stopped.", worker_id=worker_id, clean=clean)
