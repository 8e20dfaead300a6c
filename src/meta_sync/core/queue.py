"""Our own queue interface. A message only says "look now"; PostgreSQL holds the work, so losing one costs seconds.

The only module beside the worker that knows arq.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Protocol

import orjson
from arq.connections import ArqRedis, RedisSettings, create_pool
from redis.exceptions import RedisError

from meta_sync.core.logging import get_logger

__all__ = [
    "ArqJobQueue",
    "JobName",
    "JobQueue",
    "MemoryJobQueue",
    "QueueName",
    "deserialise",
    "redis_settings",
    "serialise",
]

_logger = get_logger(__name__)

_WAKE_TIMEOUT_SECONDS = 1.0
"""A wake-up is best effort: a request never waits longer than this for a Redis that is away."""


class QueueName(StrEnum):
    """Queues by how the work behaves, each with its own concurrency and timeout."""

    FAST = "meta-sync:fast"
    SLOW = "meta-sync:slow"


class JobName(StrEnum):
    """Every message there is, by the tick it wakes."""

    DRAIN = "drain"
    POLL = "poll"
    SWEEP = "sweep"
    JOBS = "jobs"
    IMPORTS = "imports"

    @property
    def queue(self) -> QueueName:
        """The queue it goes through."""
        return QueueName.SLOW if self in {JobName.JOBS, JobName.IMPORTS} else QueueName.FAST


class JobQueue(Protocol):
    """Sends wake-ups."""

    async def wake(self, name: JobName) -> None:
        """Say that there is work. Never raises and never waits long."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class MemoryJobQueue:
    """The queue within one process: for tests, and for a machine without a Redis."""

    def __init__(self) -> None:
        self.sent: list[JobName] = []
        self._listeners: list[Callable[[JobName], Awaitable[None] | None]] = []

    def listen(self, listener: Callable[[JobName], Awaitable[None] | None]) -> None:
        """Call the listener at each wake-up."""
        self._listeners.append(listener)

    async def wake(self, name: JobName) -> None:
        """Tell every listener."""
        self.sent.append(name)
        del self.sent[:-1000]
        for listener in self._listeners:
            result = listener(name)
            if result is not None:
                await result

    async def close(self) -> None:
        """Nothing to let go of."""


class ArqJobQueue:
    """The queue through Redis. Connects at the first wake-up and again after a failure."""

    def __init__(self, redis_url: str) -> None:
        self._settings = redis_settings(redis_url)
        self._pool: ArqRedis | None = None
        self._lock = asyncio.Lock()
        self._silent_until = 0.0

    async def wake(self, name: JobName) -> None:
        """Send a wake-up without a fixed job id: arq drops one under the id of a running job."""
        now = asyncio.get_running_loop().time()
        if now < self._silent_until:
            return
        try:
            async with asyncio.timeout(_WAKE_TIMEOUT_SECONDS):
                pool = await self._connected()
                await pool.enqueue_job(name.value, _queue_name=name.queue.value, _expires=60)
        except (OSError, RedisError, TimeoutError) as error:
            # The worker's own ticks find the work; asking a dead Redis again at every request would only cost time.
            self._silent_until = now + 5.0
            _logger.warning(
                "A wake-up was not sent; the next sweep finds the work.",
                job=name.value,
                reason=type(error).__name__,
            )

    async def close(self) -> None:
        """Close the pool."""
        if self._pool is not None:
            await self._pool.aclose()
            self._pool = None

    async def _connected(self) -> ArqRedis:
        async with self._lock:
            if self._pool is None:
                self._pool = await create_pool(
                    self._settings, job_serializer=serialise, job_deserializer=deserialise
                )
            return self._pool


def redis_settings(url: str) -> RedisSettings:
    """Arq's settings for an address: short connects, no retries of its own."""
    settings = RedisSettings.from_dsn(url)
    settings.conn_timeout = 1
    settings.conn_retries = 0
    return settings


def serialise(value: dict[str, object]) -> bytes:
    """JSON instead of arq's pickle: whoever can write to Redis must not be able to run code."""
    return orjson.dumps(value, default=str)


def deserialise(value: bytes) -> dict[str, object]:
    """The counterpart of ``serialise``."""
    loaded: dict[str, object] = orjson.loads(value)
    return loaded
