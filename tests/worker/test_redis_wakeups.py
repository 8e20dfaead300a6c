"""Wake-ups through a real Redis: they arrive, survive its restart and a flush, and never hold up a stop."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from meta_sync.cli.embedded_redis import EmbeddedRedis
from meta_sync.core.queue import ArqJobQueue, JobName
from meta_sync.worker.redis_wakeups import RedisWakeups
from tests.support.redis import running_redis
from tests.worker.test_loops import until


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with running_redis(tmp_path) as server:
        yield server


async def wake_until(queue: ArqJobQueue, name: JobName, woken: list[JobName], seconds: float = 20.0) -> None:
    """Send wake-ups until one arrives."""
    before = woken.count(name)
    async with asyncio.timeout(seconds):
        while woken.count(name) == before:
            await queue.wake(name)
            await asyncio.sleep(0.05)


async def test_wake_ups_of_both_queues_arrive_and_leave_nothing_behind(redis_server: EmbeddedRedis) -> None:
    woken: list[JobName] = []
    stop = asyncio.Event()
    task = asyncio.create_task(RedisWakeups(redis_server.url, woken.append).run(stop))
    queue = ArqJobQueue(redis_server.url)
    for name in JobName:
        await queue.wake(name)
    await until(lambda: set(woken) >= set(JobName))
    await queue.close()
    stop.set()
    await asyncio.wait_for(task, 5)
    with Redis.from_url(redis_server.url) as client:
        left = [key for key in client.scan_iter() if b"arq:result" in key or b"arq:job" in key]
    # Cron ticks of the next seconds may wait; no result and none of our own messages may.
    assert not [key for key in left if b"cron:" not in key]


class Patience:
    """A short back-off that knows how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, failures: int) -> float:
        self.asked += 1
        return 0.05


async def test_a_redis_that_restarts_or_is_flushed_is_found_again(redis_server: EmbeddedRedis) -> None:
    woken: list[JobName] = []
    stop, patience = asyncio.Event(), Patience()
    task = asyncio.create_task(RedisWakeups(redis_server.url, woken.append, backoff=patience).run(stop))
    queue = ArqJobQueue(redis_server.url)
    await wake_until(queue, JobName.DRAIN, woken)
    await asyncio.to_thread(redis_server.stop)
    await until(lambda: patience.asked >= 2, 20)
    assert not task.done()
    await asyncio.to_thread(redis_server.start)
    await wake_until(queue, JobName.DRAIN, woken)
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
    await wake_until(queue, JobName.IMPORTS, woken)
    await queue.close()
    stop.set()
    await asyncio.wait_for(task, 5)


async def test_a_redis_that_was_never_there_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    stop, patience = asyncio.Event(), Patience()
    task = asyncio.create_task(
        RedisWakeups(f"unix://{tmp_path}/nobody.sock", print, backoff=patience).run(stop)
    )
    await until(lambda: patience.asked >= 2, 20)
    assert not task.done()
    stop.set()
    await asyncio.wait_for(task, 5)


async def test_a_redis_that_went_away_does_not_hold_up_the_stop(redis_server: EmbeddedRedis) -> None:
    woken: list[JobName] = []
    stop = asyncio.Event()
    task = asyncio.create_task(RedisWakeups(redis_server.url, woken.append).run(stop))
    queue = ArqJobQueue(redis_server.url)
    await wake_until(queue, JobName.DRAIN, woken)
    await queue.close()
    await asyncio.to_thread(redis_server.stop)
    stop.set()
    await asyncio.wait_for(task, 10)
