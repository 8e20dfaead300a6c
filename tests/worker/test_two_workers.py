"""Several workers over one store: side by side, with wrong clocks, ticking at the same second, and of two versions.

Scenarios 9, 49 and 50 of the fault list, and a rolling deployment.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from meta_sync.cli.embedded_redis import EmbeddedRedis
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError
from meta_sync.core.queue import ArqJobQueue, JobName, QueueName, redis_client
from meta_sync.sync import claim, ticks
from meta_sync.worker import redis_wakeups
from meta_sync.worker.redis_wakeups import RedisWakeups
from tests.support.forked import Changes, ForkedWorker, new_mapper
from tests.support.pipeline import Turn, assert_tidy, execute, fetch, one
from tests.support.processes import open_real_world, until_quiet
from tests.support.redis import running_redis
from tests.support.world import World, open_world, variant
from tests.worker.watching import eventually, fill, posts


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_real_world(database, database_url) as world:
        yield world


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with running_redis(tmp_path) as server:
        yield server


# --- Side by side ------------------------------------------------------------------------------------------------------


@pytest.mark.kill
async def test_two_workers_race_over_one_store(world: World) -> None:
    posted = posts(world)
    await fill(world, 120, batch_size=7)
    with ForkedWorker(world) as first, ForkedWorker(world) as second:
        await until_quiet(world, first)
        assert first.stop() == second.stop() == 0
        assert len({worker.process.pid for worker in (first, second)}) == 2
    await assert_tidy(world)
    assert len(posted) == 120
    assert set(posted.values()) == {1}
    twice = "SELECT variant_id FROM batch_items GROUP BY variant_id HAVING count(*) > 1"
    assert await fetch(world, twice) == []


async def test_without_the_lease_a_row_still_goes_into_one_batch(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The locks of the claim alone: six turns that read the same rows, and nobody asks whose lease it is."""

    async def holds(*_: object, **__: object) -> bool:
        return True

    monkeypatch.setattr(claim, "lease_holds", holds)
    async with open_world(database, database_url) as world:
        await fill(world, 30, batch_size=10)
        while await world.pipeline().jobs_tick():
            pass
        turns = []
        for number in range(6):
            await execute(world, "UPDATE store_queue SET leased_until = NULL, due_at = now()")
            turns.append(await Turn.begin(world, owner=f"worker-{number}"))
        assert all(len(turn.plan.attempts) == 10 for turn in turns)
        batches = await asyncio.gather(*(turn.claim() for turn in turns))
        assert sum(batch is not None for batch in batches) >= 1
        claimed = Counter(row[0] for row in await fetch(world, "SELECT variant_id FROM batch_items"))
        assert len(claimed) == 10
        assert set(claimed.values()) == {1}
        assert await one(world, "SELECT count(*) FROM intents") == 20
        # Their calls were never made; they are found by their deadlines.
        await execute(world, "UPDATE batches SET due_at = now()")
        await world.run()
        await assert_tidy(world)


# --- Clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.kill
async def test_wrong_clocks_decide_nothing(world: World, redis_server: EmbeddedRedis) -> None:
    """Ten minutes ahead and ten behind, over sales that end within them: a decision by either would show."""
    posted = posts(world)
    now = datetime.now(UTC)
    near, past = now + timedelta(minutes=5), now - timedelta(minutes=5)
    await fill(world, 20, batch_size=4)
    for number in range(10):
        end = near if number % 2 else past
        await world.put(f"p{number}", variant(f"v{number}", 1000, special_price=500, special_price_end=end))
    for changes in (Changes(clock_seconds=600), Changes(clock_seconds=-600)):
        # The first has it running already; the second looks at every item again.
        with suppress(ConflictError):
            await world.jobs.start_bootstrap(world.store_id, requested_by=None)
        with ForkedWorker(world, changes=changes, redis_url=redis_server.url) as worker:
            await until_quiet(world, worker)
            await assert_tidy(world)
            assert worker.stop() == 0
    assert set(posted.values()) == {1}, "the second found nothing to change"
    with (
        ForkedWorker(world, changes=Changes(clock_seconds=600), redis_url=redis_server.url) as ahead,
        ForkedWorker(world, changes=Changes(clock_seconds=-600), redis_url=redis_server.url) as behind,
    ):
        for number in range(20):
            end = past if number % 2 else near
            await world.put(
                f"p{number}", variant(f"v{number}", 2000, special_price=600, special_price_end=end)
            )
        await until_quiet(world, ahead)
        assert ahead.stop() == behind.stop() == 0
    await assert_tidy(world)
    for number in range(20):
        assert ("sale_price" in world.at_meta()[f"v{number}"]) is (number % 2 == 0)
    assert max(posted.values()) == 2
    assert await one(world, "SELECT count(*) FROM batch_calls WHERE state = 'unknown'") == 0


# --- At the same second ------------------------------------------------------------------------------------------------


async def test_named_work_is_done_once_however_many_tick(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: Counter[str] = Counter()

    def counted(name: str) -> Any:
        work = getattr(ticks, name)

        async def counting(connection: Any) -> Any:
            done[name] += 1
            return await work(connection)

        return counting

    names = ("fold_counters", "purge", "keep_partitions", "follow_mapper_version")
    for name in names:
        monkeypatch.setattr(ticks, name, counted(name))
    async with open_world(database, database_url) as world:
        await world.put("p", variant("v"))
        await world.connect()
        workers = [world.pipeline(f"worker-{number}") for number in range(3)]
        for _ in range(3):
            await asyncio.gather(*(worker.sweep_tick() for worker in workers))
        assert done == dict.fromkeys(names, 1)
        # A tick that was missed is caught up, once.
        await execute(world, "UPDATE schedules SET next_at = now() - interval '1 hour'")
        await asyncio.gather(*(worker.sweep_tick() for worker in workers))
        assert done == dict.fromkeys(names, 2)
        await asyncio.gather(*(world.run(worker) for worker in workers))
        await assert_tidy(world)


async def test_two_dispatchers_send_each_cron_tick_once(
    redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in JobName:
        monkeypatch.setitem(redis_wakeups._CRON, name, {"second": set(range(60))})
    woken: list[tuple[JobName, float]] = []
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wake(name: JobName) -> None:
        woken.append((name, loop.time()))

    tasks = [asyncio.create_task(RedisWakeups(redis_server.url, wake).run(stop)) for _ in range(2)]
    began = loop.time()
    await eventually(lambda: sum(name is JobName.DRAIN for name, _ in woken) >= 3, "cron ticks")
    seconds = loop.time() - began
    stop.set()
    await asyncio.gather(*tasks)
    for name, often in Counter(name for name, _ in woken).items():
        assert often <= seconds + 1, f"{name} was woken {often} times in {seconds:.1f} s"


# --- Two versions ------------------------------------------------------------------------------------------------------


@pytest.mark.kill
async def test_an_older_and_a_newer_worker_do_not_send_each_other_s_items(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rolling deployment in the middle of a bootstrap, with edits going on."""
    posted = posts(world)
    await fill(world, 60, batch_size=10)
    with ForkedWorker(world) as older:
        await eventually(lambda: world.calls() >= 2, "the older one to have begun", process=older)
        with ForkedWorker(world, changes=Changes(mapper_version=2)) as newer:
            edited = 0
            while await one(world, "SELECT mapper_version FROM stores") == 1 or edited < 10:
                await world.put("p0", variant("v0", 2000 + edited))
                edited += 1
            await until_quiet(world, newer)
            before = posted.copy()
            await world.put("p1", variant("v1", 3000))
            await until_quiet(world, newer)
            assert posted - before == {"v1": 1}
            assert older.stop() == newer.stop() == 0
    new_mapper(2, monkeypatch.setattr)
    await assert_tidy(world)
    assert {item["title"] for item in world.at_meta().values()} == {
        f"Product p{number} (mapper 2)" for number in range(60)
    }
    del posted["v0"]
    assert posted.pop("v1") <= 3
    assert max(posted.values()) <= 2, "no item went back and forth"


async def test_an_older_worker_outlives_messages_of_a_newer_one(redis_server: EmbeddedRedis) -> None:
    """Unknown names and unreadable messages are thrown away, and the next wake-up is heard."""
    woken: list[JobName] = []
    stop = asyncio.Event()
    listening = asyncio.create_task(RedisWakeups(redis_server.url, woken.append).run(stop))
    newer = redis_client(redis_server.url, answer_seconds=2)
    await newer.enqueue_job("reconcile", "link_1", _queue_name=QueueName.FAST)
    async with Redis.from_url(redis_server.url) as client:
        for number, said in enumerate((b"\\x80\\x04K\\x01.", b"[]", b"{}", b'{"f": 7}', b"")):
            await client.set(f"arq:job:strange{number}", said)
            await client.zadd(QueueName.FAST, {f"strange{number}": 1})
        queue = ArqJobQueue(redis_server.url)
        await queue.wake(JobName.POLL)
        await eventually(lambda: JobName.POLL in woken, "the wake-up")
        await eventually(lambda: _is_empty(client), "the queue to be empty")
        assert not [key async for key in client.scan_iter("arq:job:strange*")]
        await newer.enqueue_job("reconcile", "link_1", _queue_name=QueueName.FAST)
        await queue.wake(JobName.SWEEP)
        await eventually(lambda: JobName.SWEEP in woken, "another wake-up")
    assert not listening.done()
    await queue.close()
    await newer.aclose()
    stop.set()
    await listening


async def _is_empty(client: Redis) -> bool:
    return bool(await client.zcard(QueueName.FAST) == 0)
