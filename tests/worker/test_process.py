"""A worker process: its heartbeat, its wake-ups, and a database that goes away under it."""

import asyncio
from pathlib import Path

from sqlalchemy import select, text, update

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.core.db import Database
from meta_sync.core.migrations import upgrade
from meta_sync.core.queue import JobName, MemoryJobQueue
from meta_sync.sync.tables import worker_heartbeats
from meta_sync.worker.process import run_worker
from tests.worker.test_loops import until
from tests.worker.test_pump import Work


async def heartbeats(database: Database) -> list[str]:
    async with database.platform() as connection:
        return sorted((await connection.execute(select(worker_heartbeats.c.queue))).scalars())


async def until_heartbeats(database: Database, expected: list[str]) -> None:
    async with asyncio.timeout(5):
        while await heartbeats(database) != expected:  # noqa: ASYNC110 - the row is in a database
            await asyncio.sleep(0.02)


async def test_a_worker_has_a_row_while_it_runs_and_none_after(database: Database) -> None:
    work, queue, stop = Work(), MemoryJobQueue(), asyncio.Event()
    task = asyncio.create_task(
        run_worker(
            worker_id="w",
            database=database,
            queue=queue,
            redis_url=None,
            pipeline=work,
            imports=work,
            stop=stop,
        )
    )
    await until_heartbeats(database, ["in-process"])
    before = work.calls[JobName.DRAIN]
    await queue.wake(JobName.DRAIN)
    await until(lambda: work.calls[JobName.DRAIN] > before, 0.4)
    stop.set()
    await asyncio.wait_for(task, 5)
    assert await heartbeats(database) == []


async def test_a_worker_outlives_a_database_that_is_away() -> None:
    work, stop = Work(), asyncio.Event()
    nowhere = Database.connect("postgresql://nobody@127.0.0.1:1/none", pool_size=8)

    async def refused() -> int:
        work.calls[JobName.DRAIN] += 1
        async with nowhere.platform():
            return 0

    work.drain_tick = refused  # type: ignore[method-assign]  # the pipeline of a worker without a database
    task = asyncio.create_task(
        run_worker(
            worker_id="w",
            database=nowhere,
            queue=MemoryJobQueue(),
            redis_url=None,
            pipeline=work,
            imports=work,
            stop=stop,
        )
    )
    await until(lambda: work.calls[JobName.DRAIN] >= 6)
    assert not task.done()
    stop.set()
    await asyncio.wait_for(task, 5)
    await nowhere.dispose()


async def test_the_heart_beats_until_the_last_tick_has_ended(database: Database) -> None:
    work, stop = Work(), asyncio.Event()
    work.gates[JobName.POLL] = asyncio.Event()
    task = asyncio.create_task(
        run_worker(
            worker_id="w",
            database=database,
            queue=MemoryJobQueue(),
            redis_url=None,
            pipeline=work,
            imports=work,
            stop=stop,
        )
    )
    await until_heartbeats(database, ["in-process"])
    stop.set()
    async with database.platform() as connection:
        await connection.execute(update(worker_heartbeats).values(seen_at=text("now() - interval '9 s'")))
    # A second beat comes although the stop was said: the row is fresh again.
    async with asyncio.timeout(10):
        while await age_seconds(database) > 5:  # noqa: ASYNC110 - the row is in a database
            await asyncio.sleep(0.05)
    work.gates[JobName.POLL].set()
    await asyncio.wait_for(task, 5)
    assert await heartbeats(database) == []


async def age_seconds(database: Database) -> float:
    async with database.platform() as connection:
        age = await connection.scalar(
            select(text("extract(epoch FROM now() - seen_at)")).select_from(worker_heartbeats)
        )
    return float(age or 0)


async def test_a_worker_goes_on_when_the_database_was_restarted_under_it(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres", {"fsync": "off", "shared_buffers": "16MB"})
    await asyncio.to_thread(server.start)
    try:
        await asyncio.to_thread(server.create_database)
        await upgrade(server.url())
        database = Database.connect(server.url(), pool_size=8)
        work, stop = Work(), asyncio.Event()
        asked = 0

        async def ask() -> int:
            nonlocal asked
            async with database.platform() as connection:
                await connection.execute(text("SELECT 1"))
            asked += 1
            return 0

        work.drain_tick = ask  # type: ignore[method-assign]  # a pipeline that needs the database
        task = asyncio.create_task(
            run_worker(
                worker_id="w",
                database=database,
                queue=MemoryJobQueue(),
                redis_url=None,
                pipeline=work,
                imports=work,
                stop=stop,
            )
        )
        await until(lambda: asked > 0)
        await asyncio.to_thread(server.stop)
        before = asked
        await asyncio.sleep(1)
        assert not task.done()
        await asyncio.to_thread(server.start)
        await until(lambda: asked > before, 20)
        await until_heartbeats(database, ["in-process"])
        stop.set()
        await asyncio.wait_for(task, 10)
        await database.dispose()
    finally:
        await asyncio.to_thread(server.stop)
