"""Our own queue interface. A message only says "look now"; PostgreSQL holds the work, so losing one costs seconds.

The only module beside the worker that knows arq.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Protocol

import orjson
from arq.connections import ArqRedis, RedisSettings
from redis.asyncio.retry import Retry
from redis.exceptions import RedisError

from meta_sync.core.logging import get_logger

__all__ = [
    "ArqJobQueue",
    "JobName",
    "JobQueue",
    "MemoryJobQueue",
    "QueueName",
    "deserialise",
    "redis_client",
    "redis_settings",
    "serialise",
]

_logger = get_logger(__name__)

_WAKE_TIMEOUT_SECONDS = 1.0
"""A wake-up is best effort: a request never waits longer than this for a Redis that is away."""
_CONNECT_SECONDS = 1
_SILENCE_SECONDS = 5.0
_MOST_AT_ONCE = 8
"""Wake-ups under way at the same time in one process, each with a connection of its own."""
_MOST_WAITING = 100
"""Wake-ups in a queue beyond which none is added: two seconds of work for one worker, and it looks anyway."""


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
    """The queue through Redis. Connects at the first wake-up, and anew after every failure.

    Parameters
    ----------
    redis_url
        ``redis://``, ``rediss://`` or ``unix://``.
    silence_seconds
        After a failure no wake-up is tried for this long: the worker's own ticks find the work, and asking a dead Redis
        again at every request would only cost time.
    """

    def __init__(self, redis_url: str, *, silence_seconds: float = _SILENCE_SECONDS) -> None:
        self._redis = redis_client(redis_url, answer_seconds=_WAKE_TIMEOUT_SECONDS)
        self._silence_seconds = silence_seconds
        self._silent_until = 0.0
        self._gate = asyncio.Semaphore(_MOST_AT_ONCE)
        self._under_way: set[asyncio.Task[str | None]] = set()

    async def wake(self, name: JobName) -> None:
        """Send a wake-up. Never raises and never waits longer than a second, whatever Redis does."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._silent_until:
            return
        sending = loop.create_task(self._send(name))
        self._under_way.add(sending)
        sending.add_done_callback(self._under_way.discard)
        # Waited for from outside: a client that is cancelled says something more to Redis, and waits for that too.
        await asyncio.wait([sending], timeout=_WAKE_TIMEOUT_SECONDS)
        if not sending.done():
            sending.cancel()
            reason: str | None = TimeoutError.__name__
        else:
            reason = None if sending.cancelled() else sending.result()
        if reason is not None:
            await self._be_silent(name, reason)

    async def close(self) -> None:
        """Let go of the connections, those in use included."""
        for sending in self._under_way:
            sending.cancel()
        await self._disconnect()

    async def _send(self, name: JobName) -> str | None:
        """Enqueue it; why that failed, or ``None``."""
        try:
            async with self._gate:
                # Nobody takes them: one more would wake nobody, and a Redis that others use too must not fill up.
                if await self._redis.zcard(name.queue.value) < _MOST_WAITING:
                    # Without a fixed job id: arq drops one under the id of a running job.
                    await self._redis.enqueue_job(name.value, _queue_name=name.queue.value, _expires=60)
        except Exception as error:  # noqa: BLE001 - a wake-up is a hint; nothing about it may fail what was committed
            return type(error).__name__
        return None

    async def _be_silent(self, name: JobName, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._silent_until:
            return
        self._silent_until = now + self._silence_seconds
        _logger.warning(
            "A wake-up was not sent; the next sweep finds the work.", job=name.value, reason=reason
        )
        # The address may lead to another server by now: a replica that was the master answers, and takes no writes.
        await self._disconnect()

    async def _disconnect(self) -> None:
        with contextlib.suppress(OSError, RedisError):
            await self._redis.connection_pool.disconnect()


def redis_settings(url: str) -> RedisSettings:
    """Arq's settings for an address; short connects.

    Raises
    ------
    RuntimeError, ValueError
        It is not an address of Redis.
    """
    settings = RedisSettings.from_dsn(url)
    settings.conn_timeout = _CONNECT_SECONDS
    return settings


def redis_client(
    url: str,
    *,
    answer_seconds: float,
    queue: QueueName = QueueName.FAST,
    retry: Retry | None = None,
    retry_on: Sequence[type[Exception]] = (),
) -> ArqRedis:
    """Arq's client with an end to every wait, which arq's own way to make one lacks. Connects at the first command.

    Parameters
    ----------
    url
        ``redis://``, ``rediss://`` or ``unix://``.
    answer_seconds
        How long a command may go without an answer: a Redis that hangs is away.
    queue
        Where jobs go that name no queue.
    retry, retry_on
        How, and after which errors, a single command is tried again; not at all unless given.
    """
    settings = redis_settings(url)
    return ArqRedis(
        host=settings.host,
        port=settings.port,
        db=settings.database,
        username=settings.username,
        password=settings.password,
        unix_socket_path=settings.unix_socket_path,
        ssl=settings.ssl,
        socket_connect_timeout=settings.conn_timeout,
        socket_timeout=answer_seconds,
        retry=retry,
        retry_on_error=list(retry_on),
        job_serializer=serialise,
        job_deserializer=deserialise,
        default_queue_name=queue.value,
    )


def serialise(value: dict[str, object]) -> bytes:
    """JSON instead of arq's pickle: whoever can write to Redis must not be able to run code."""
    return orjson.dumps(value, default=str)


def deserialise(value: bytes) -> dict[str, object]:
    """The counterpart of ``serialise``."""
    loaded: dict[str, object] = orjson.loads(value)
    return loaded
