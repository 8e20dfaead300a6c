"""A Redis that restarts, is flushed, full, read-only, away or hanging: it costs latency, and never work or a request.

Scenarios 44, 45 and 46 of the fault list, with real workers, a real Redis and the sandbox on a socket.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from meta_sync.cli.embedded_redis import EmbeddedRedis
from meta_sync.core.db import Database
from meta_sync.core.queue import ArqJobQueue, JobName, QueueName
from meta_sync.worker import redis_wakeups
from meta_sync.worker.pump import Pump
from meta_sync.worker.redis_wakeups import RedisWakeups
from tests.support.api import open_api, product_body
from tests.support.forked import ForkedWorker
from tests.support.pipeline import arm, assert_tidy
from tests.support.processes import open_real_world, until_quiet
from tests.support.proxy import TcpProxy
from tests.support.redis import running_redis
from tests.support.world import World, open_world, product, variant
from tests.worker.test_pump import Work
from tests.worker.watching import eventually

_PRODUCTS = 40
_PATIENCE_SECONDS = 1.5
"""A wake-up may cost a request a second; the rest is a busy machine."""


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_real_world(database, database_url) as world:
        yield world


@dataclass
class Faulty:
    """A Redis behind a proxy, and how to break and mend it."""

    server: EmbeddedRedis
    proxy: TcpProxy

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.proxy.port}"

    async def command(self, *words: str) -> Any:
        async with Redis.from_url(self.server.url) as client:
            return await client.execute_command(*words)

    async def waiting(self, queue: QueueName) -> int:
        waiting: int = await self.command("ZCARD", queue.value)
        return waiting

    async def begin(self, kind: str) -> None:
        match kind:
            case "restart":
                await self._stop()
                await self._start()
            case "flush":
                await self.command("FLUSHALL")
            case "full":
                await self.command("CONFIG", "SET", "maxmemory", "1")
            case "read_only":
                await self.command("REPLICAOF", "127.0.0.1", "1")
            case "away":
                await self._stop()
            case "hanging":
                self.proxy.mode = "blackhole"
            case _:
                raise ValueError(kind)

    async def end(self, kind: str) -> None:
        match kind:
            case "full":
                await self.command("CONFIG", "SET", "maxmemory", "256mb")
            case "read_only":
                await self.command("REPLICAOF", "NO", "ONE")
            case "away":
                await self._start()
            case "hanging":
                self.proxy.mode = "pass"
            case _:
                """It has passed already."""

    async def _stop(self) -> None:
        await asyncio.to_thread(self.server.stop)

    async def _start(self) -> None:
        await asyncio.to_thread(self.server.start)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with running_redis(tmp_path) as server:
        yield server


@pytest.fixture
async def redis(redis_server: EmbeddedRedis) -> AsyncIterator[Faulty]:
    async with TcpProxy(redis_server.url.removeprefix("unix://")) as proxy:
        yield Faulty(redis_server, proxy)


async def _until(condition: Callable[[], Any], what: str, seconds: float = 15) -> None:
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = condition()
                if asyncio.iscoroutine(answer):
                    answer = await answer
                if answer:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited {seconds} s in vain for {what}") from None


async def _stop(worker: ForkedWorker, seconds: float = 8) -> None:
    """End it without standing still: the proxy lives in our loop."""
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.wait(seconds) == 0, worker.log()


async def _listens(redis: Faulty, queue: ArqJobQueue, name: JobName) -> bool:
    """Whether a wake-up that is sent now is taken out of Redis."""
    await queue.wake(name)
    await asyncio.sleep(0.05)
    return await redis.waiting(name.queue) == 0


_UNANSWERED = ("away", "hanging")
_LASTING = ("full", "read_only", *_UNANSWERED)


@pytest.mark.kill
@pytest.mark.parametrize("kind", ["restart", "flush", *_LASTING])
async def test_a_redis_that_fails_in_mid_run(world: World, redis: Faulty, kind: str) -> None:
    """The call under way ends, the rest goes on without Redis, and wake-ups are heard again afterwards."""
    await world.catalog.put_products(
        world.store_id, [product(f"p{number}", variant(f"v{number}", 1000)) for number in range(_PRODUCTS)]
    )
    await world.connect()
    await world.stores.patch_settings(world.store_id, {"batchSize": 10})
    arm(world, "slow", edge="items_batch", seconds=0.5, count=2)
    with ForkedWorker(world, redis_url=redis.url) as worker:
        await _until(lambda: world.calls() > 0, "a call")
        await redis.begin(kind)
        # A job and a call are under way, and the world goes on.
        await world.put("p1", variant("v1", 7777))
        await world.catalog.delete_product(world.store_id, "p2")
        await until_quiet(world, worker)
        await assert_tidy(world)
        if kind in _UNANSWERED:
            await _until(lambda: "Redis is away" in worker.log(), "the worker to say that Redis is away", 25)
        await redis.end(kind)
        if kind in _UNANSWERED:
            await _until(lambda: "Redis wakes the worker again" in worker.log(), "the worker to be woken", 25)
        queue = ArqJobQueue(redis.url, silence_seconds=0)
        await _until(lambda: _listens(redis, queue, JobName.DRAIN), "the fast queue to be heard", 25)
        await _until(lambda: _listens(redis, queue, JobName.JOBS), "the slow queue to be heard", 25)
        await world.put("p3", variant("v3", 8888))
        await until_quiet(world, worker)
        await assert_tidy(world)
        await queue.close()
        await _stop(worker)
    assert world.at_meta()["v1"]["price"] == "77.77 EUR"
    assert world.at_meta()["v3"]["price"] == "88.88 EUR"


@pytest.mark.kill
@pytest.mark.parametrize("kind", _LASTING)
async def test_a_worker_that_starts_and_stops_without_redis(world: World, redis: Faulty, kind: str) -> None:
    await redis.begin(kind)
    await world.put("p", variant("v"))
    await world.connect()
    with ForkedWorker(world, redis_url=redis.url) as worker:
        await until_quiet(world, worker)
        await _stop(worker)
    await assert_tidy(world)


async def test_a_redis_that_is_away_beyond_every_back_off(
    database: Database, database_url: str, redis: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour is a back-off at its longest, again and again; then a wake-up moves what no look would have found."""
    waits: list[int] = []

    def backoff(failures: int) -> float:
        waits.append(failures)
        return min(0.01 * 2.0**failures, 0.08)

    monkeypatch.setattr(redis_wakeups, "_RETRIES_AT_REDIS", 0)
    async with open_world(database, database_url) as world:
        await world.put("p", variant("v", 1000))
        await world.connect()
        stop = asyncio.Event()
        pump = Pump(world.pipeline(), Work())
        await redis.begin("away")
        tasks = [
            asyncio.create_task(pump.run(stop)),
            asyncio.create_task(RedisWakeups(redis.url, pump.wake, backoff=backoff).run(stop)),
        ]
        await _until(lambda: max(waits, default=0) >= 12, "the longest wait to come again and again")
        await _until(world.is_quiet, "the pipeline to be quiet")
        await world.assert_right()
        await redis.end("away")
        queue = ArqJobQueue(redis.url, silence_seconds=0)
        await _until(lambda: _listens(redis, queue, JobName.DRAIN), "a wake-up to be heard")
        # From here on no loop looks by itself.
        for loop in pump._loops.values():
            loop._idle_seconds = 3600
        await world.put("p", variant("v", 2000))
        await _until(lambda: _woken(queue, world), "wake-ups to move the change", 15)
        await queue.close()
        stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 8)
        await world.assert_right()
        assert world.at_meta()["v"]["price"] == "20.00 EUR"


async def _woken(queue: ArqJobQueue, world: World) -> bool:
    for name in (JobName.DRAIN, JobName.POLL):
        await queue.wake(name)
    return await world.is_quiet()


# --- The side that sends wake-ups --------------------------------------------------------------------------------------


async def _break_for_sender(redis: Faulty, kind: str) -> None:
    if kind == "hanging_midway":
        redis.proxy.hang_on(b"PSETEX")
    elif kind == "reset":
        redis.proxy.mode = "reset"
    else:
        await redis.begin(kind)


async def _timed(work: Awaitable[object]) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


@pytest.mark.parametrize("kind", [*_LASTING, "hanging_midway", "reset"])
async def test_a_wake_up_neither_fails_nor_holds_up_a_request(
    database: Database, database_url: str, redis: Faulty, kind: str
) -> None:
    queue = ArqJobQueue(redis.url, silence_seconds=0)
    async with open_world(database, database_url) as world:
        world.queue = queue  # type: ignore[assignment]  # the one of production
        async with open_api(world) as api:
            caller = await api.caller()
            await caller.data("PUT", "/catalog/products/p", json=product_body("v"))
            assert await redis.waiting(QueueName.FAST) == 1
            await _break_for_sender(redis, kind)
            took = await _timed(caller.data("PUT", "/catalog/products/q", json=product_body("w")))
            assert took < 2 * _PATIENCE_SECONDS
            # Many at once wait side by side, not one after the other.
            assert (
                await _timed(asyncio.gather(*(queue.wake(JobName.DRAIN) for _ in range(60))))
                < 2 * _PATIENCE_SECONDS
            )
            await redis.end("hanging" if kind in {"hanging_midway", "reset"} else kind)
            await redis.command("FLUSHALL")
            await _until(lambda: _sent(queue, redis), "wake-ups to be sent again")
    assert await _timed(queue.close()) < 2 * _PATIENCE_SECONDS


async def _sent(queue: ArqJobQueue, redis: Faulty) -> bool:
    await queue.wake(JobName.IMPORTS)
    return await redis.waiting(QueueName.SLOW) > 0


async def test_after_a_failure_requests_are_left_alone_for_a_while(redis: Faulty) -> None:
    queue = ArqJobQueue(redis.url)
    redis.proxy.mode = "blackhole"
    assert await _timed(queue.wake(JobName.DRAIN)) < _PATIENCE_SECONDS
    tried = redis.proxy.connections
    for _ in range(100):
        await queue.wake(JobName.DRAIN)
    assert redis.proxy.connections == tried
    assert await _timed(queue.close()) < 2 * _PATIENCE_SECONDS


async def test_a_sender_leaves_a_server_that_takes_no_writes(redis: Faulty) -> None:
    """After a fail-over the old master answers still, as a replica; the address leads to the new one by now."""
    queue = ArqJobQueue(redis.url, silence_seconds=0)
    await queue.wake(JobName.DRAIN)
    assert redis.proxy.connections == 1
    await queue.wake(JobName.DRAIN)
    assert redis.proxy.connections == 1, "a connection that works is kept"
    await redis.begin("read_only")
    await queue.wake(JobName.DRAIN)
    await queue.wake(JobName.DRAIN)
    assert redis.proxy.connections == 2
    await queue.close()


async def test_wake_ups_that_nobody_takes_do_not_fill_redis(redis: Faulty) -> None:
    queue = ArqJobQueue(redis.url)

    async def twenty_at_once() -> int:
        await asyncio.gather(*(queue.wake(JobName.DRAIN) for _ in range(20)))
        return await redis.waiting(QueueName.FAST)

    async def full() -> bool:
        return await twenty_at_once() >= 100

    # A wake-up that Redis is too slow for is given up, so it takes as many rounds as it takes.
    await eventually(full, "a hundred wake-ups")
    for _ in range(5):
        assert 100 <= await twenty_at_once() < 120
    await queue.wake(JobName.IMPORTS)
    assert await redis.waiting(QueueName.SLOW) == 1
    await queue.close()
