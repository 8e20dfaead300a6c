"""Our own queue interface. A message only says "look now"; PostgreSQL holds the work, so losing one costs seconds.

The only module beside the worker that knows arq.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Protocol
from uuid import uuid4

import orjson
from arq.connections import ArqRedis, RedisSettings
from arq.constants import job_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms
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
    "redis_fault",
    "redis_settings",
    "serialise",
]

_logger = get_logger(__name__)

_WAKE_TIMEOUT_SECONDS = 1.0
"""A wake-up is best effort: a request never waits longer than this for a Redis that is away."""
_EXPIRES_MS = 60_000
"""By then every loop has looked by itself many times."""
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
        self._url = redis_url
        self._redis = redis_client(redis_url, answer_seconds=_WAKE_TIMEOUT_SECONDS)
        self._silence_seconds = silence_seconds
        self._silent_until = 0.0
        self._gate = asyncio.Semaphore(_MOST_AT_ONCE)
        self._under_way: set[asyncio.Task[str | None]] = set()
        self._retiring: set[asyncio.Task[None]] = set()

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
            self._be_silent(name, reason)

    async def close(self) -> None:
        """Let go of the connections."""
        for sending in self._under_way:
            sending.cancel()
        await asyncio.gather(*self._retiring, self._retire(self._redis))

    async def _send(self, name: JobName) -> str | None:
        """Enqueue it; why that failed, or ``None``."""
        try:
            async with self._gate:
                redis = self._redis
                # Nobody takes them: one more would wake nobody, and a Redis that others use too must not fill up.
                if await redis.zcard(name.queue.value) < _MOST_WAITING:
                    await _enqueue(redis, name)
        except Exception as error:  # noqa: BLE001 - a wake-up is a hint; nothing about it may fail what was committed
            return type(error).__name__
        return None

    def _be_silent(self, name: JobName, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._silent_until:
            return
        self._silent_until = now + self._silence_seconds
        _logger.warning(
            "A wake-up was not sent; the next sweep finds the work.", job=name.value, reason=reason
        )
        # The address may lead to another server by now: a replica that was the master answers, and takes no writes.
        retiring = asyncio.create_task(self._retire(self._redis))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)
        self._redis = redis_client(self._url, answer_seconds=_WAKE_TIMEOUT_SECONDS)

    async def _retire(self, redis: ArqRedis) -> None:
        """Close a client once nobody uses it: it mixes up connections that are closed while they are being made."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=2 * _WAKE_TIMEOUT_SECONDS)
        with contextlib.suppress(OSError, RedisError):
            await redis.connection_pool.disconnect()


async def _enqueue(redis: ArqRedis, name: JobName) -> None:
    """What arq's own ``enqueue_job`` writes, in one way to Redis and back.

    Arq first watches the id, which nobody else can have here: arq drops a job under the id of a running one. A client
    that hangs while it watches loses its connection for good.
    """
    job_id, now = uuid4().hex, timestamp_ms()
    job = serialize_job(name.value, (), {}, None, now, serializer=serialise)
    async with redis.pipeline(transaction=True) as pipe:
        pipe.psetex(job_key_prefix + job_id, _EXPIRES_MS, job)
        pipe.zadd(name.queue.value, {job_id: now})
        await pipe.execute()


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


async def redis_fault(url: str) -> str | None:
    """Why Redis cannot be worked with, in its own words; ``None``: it answers."""
    redis = redis_client(url, answer_seconds=_WAKE_TIMEOUT_SECONDS)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS + _WAKE_TIMEOUT_SECONDS):
            await redis.ping()
    except (OSError, RedisError) as error:
        return str(error).rstrip(".") or "it does not answer in time"
    finally:
        with contextlib.suppress(OSError, RedisError):
            await redis.connection_pool.disconnect()
    return None


def serialise(value: dict[str, object]) -> bytes:
    """JSON instead of arq's pickle: whoever can write to Redis must not be able to run code."""
    return orjson.dumps(value, default=str)


def deserialise(value: bytes) -> dict[str, object]:
    """The counterpart of ``serialise``."""
    loaded: dict[str, object] = orjson.loads(value)
    return loaded
