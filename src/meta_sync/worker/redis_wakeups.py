"""Wake-ups and cron ticks through Redis: arq workers, under supervision, whose functions only wake the pump.

arq carries no work, no counts and no results. When Redis is away the loops of the pump go on by themselves, and the
arq part is started again with a back-off. Nothing here touches the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Any

from arq import cron
from arq.connections import ArqRedis
from arq.cron import CronJob
from arq.typing import WorkerCoroutine
from arq.worker import Function, Worker, func
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from meta_sync.core.logging import get_logger
from meta_sync.core.queue import JobName, QueueName, deserialise, redis_client, serialise
from meta_sync.worker.loops import backoff_seconds

__all__ = ["RedisWakeups"]

_logger = get_logger(__name__)

_CLOSE_SECONDS = 1.0
"""Closing talks to Redis, and is waited for twice; one that hangs must not hold up the end of the process."""

_ANSWER_SECONDS = 2.0
"""A Redis that takes longer to answer is as good as away."""

_STEADY_SECONDS = 2.0
"""After this long it listens: a Redis that is full or takes no writes refuses arq's first command."""

_CRON: dict[JobName, dict[str, Any]] = {
    JobName.DRAIN: {"second": set(range(0, 60, 10))},
    JobName.POLL: {"second": set(range(5, 60, 10))},
    JobName.SWEEP: {"second": {0, 30}},
    JobName.JOBS: {"second": {15, 45}},
    JobName.IMPORTS: {"second": {20, 50}},
}
"""A second source of ticks beside the pump's own interval; a double or a missed one changes nothing."""

_RETRIES_AT_REDIS = 3


class RedisWakeups:
    """Listens on the fast and the slow queue.

    Parameters
    ----------
    redis_url
        ``redis://``, ``rediss://`` or ``unix://``.
    wake
        Called with the name of each wake-up; must return at once.
    backoff
        Seconds to wait after the given number of failures in a row.
    """

    def __init__(
        self,
        redis_url: str,
        wake: Callable[[JobName], None],
        *,
        backoff: Callable[[int], float] = backoff_seconds,
    ) -> None:
        self._redis_url = redis_url
        self._wake = wake
        self._backoff = backoff
        self._failures = dict.fromkeys(QueueName, 0)

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until ``stop`` is set. Never ends because of Redis."""
        async with asyncio.TaskGroup() as group:
            for queue in QueueName:
                group.create_task(self._keep_listening(queue, stop), name=f"arq-{queue.name.lower()}")

    async def _keep_listening(self, queue: QueueName, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                reason = await self._listen(queue, stop)
            except Exception as error:  # noqa: BLE001 - wake-ups are a help; nothing about them may end their supervision
                reason = type(error).__name__
            if stop.is_set():
                break
            self._failures[queue] += 1
            failures = self._failures[queue]
            seconds = self._backoff(failures)
            if failures & (failures - 1) == 0:
                _logger.warning(
                    "Redis is away; the worker goes on without wake-ups and looks for work by itself.",
                    queue=queue.value,
                    reason=reason,
                    failures=failures,
                    retry_seconds=round(seconds, 1),
                )
            try:
                async with asyncio.timeout(seconds):
                    await stop.wait()
            except TimeoutError:
                pass

    async def _listen(self, queue: QueueName, stop: asyncio.Event) -> str:
        """Run one arq worker until it fails or ``stop`` is set; why it ended."""
        # Ours, not arq's own: a worker that fails leaves its connections open, and one that waits waits for ever.
        redis = redis_client(
            self._redis_url,
            answer_seconds=_ANSWER_SECONDS,
            queue=queue,
            # Without OSError a restart of Redis ends the arq worker.
            retry=Retry(ExponentialBackoff(cap=2.0, base=0.1), _RETRIES_AT_REDIS),
            retry_on=(RedisConnectionError, RedisTimeoutError, OSError),
        )
        worker = self._worker(queue, redis)
        running = asyncio.create_task(worker.async_run())
        stopped = asyncio.create_task(stop.wait())
        either = [running, stopped]
        try:
            ended, _ = await asyncio.wait(
                either, timeout=_STEADY_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if not ended:
                self._is_steady(queue)
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            reason = _reason(running)
            await _close(worker, redis, running)
        return reason

    def _is_steady(self, queue: QueueName) -> None:
        if self._failures[queue]:
            _logger.info("Redis wakes the worker again.", queue=queue.value, failures=self._failures[queue])
            self._failures[queue] = 0

    def _worker(self, queue: QueueName, redis: ArqRedis) -> Worker:
        names = [name for name in JobName if name.queue is queue]
        return Worker(
            functions=[self._function(name) for name in names],
            cron_jobs=[self._cron(name) for name in names],
            queue_name=queue.value,
            redis_pool=redis,
            # The process has one stop of its own.
            handle_signals=False,
            # A wake-up that fails is not worth a second try: the next one, or the pump itself, does the same.
            max_tries=1,
            keep_result=0,
            job_timeout=10,
            # arq reads only the head of the queue, those in progress included; wide enough never to matter.
            queue_read_limit=1000,
            poll_delay=0.2,
            allow_abort_jobs=False,
            log_results=False,
            job_serializer=serialise,
            job_deserializer=deserialise,
        )

    def _function(self, name: JobName) -> Function:
        return func(self._waker(name), name=name.value, keep_result=0, max_tries=1)

    def _cron(self, name: JobName) -> CronJob:
        return cron(self._waker(name), name=f"cron:{name.value}", keep_result=0, max_tries=1, **_CRON[name])

    def _waker(self, name: JobName) -> WorkerCoroutine:
        async def wake(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> None:
            del ctx, args, kwargs  # arq's signature; a wake-up says nothing but its name
            self._wake(name)

        return wake


def _reason(task: asyncio.Task[None]) -> str:
    if not task.done():
        return "stopped"
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return type(error).__name__ if error else "ended"


async def _close(worker: Worker, redis: ArqRedis, running: asyncio.Task[None]) -> None:
    """Close arq's side, then the connections. arq first deletes a key, so it fails when Redis is away."""

    async def part() -> None:
        worker.handle_sig(signal.SIGUSR1)
        await asyncio.gather(running, *worker.tasks.values(), return_exceptions=True)
        await redis.delete(worker.health_check_key)

    # Waited for from outside: a client that is cancelled says something more to Redis, and waits for that too.
    parting = asyncio.create_task(part())
    await asyncio.wait([parting], timeout=_CLOSE_SECONDS)
    for task in (parting, running):
        task.cancel()
    with contextlib.suppress(OSError, RedisError):
        await redis.connection_pool.disconnect()
    await asyncio.wait([parting, running], timeout=_CLOSE_SECONDS)
    # What was cancelled in the middle of a command may have connected once more to say so.
    with contextlib.suppress(OSError, RedisError):
        await redis.connection_pool.disconnect()
    if parting.done() and not parting.cancelled():
        # A Redis that is away is no news here; the exception counts as seen.
        parting.exception()
