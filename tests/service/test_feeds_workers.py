"""Feeds by address and the workers that fetch them: several at once, stopped, frozen, killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from meta_sync.catalog.ingest import feeds_rows
from meta_sync.core.db import Database
from meta_sync.sync.sweep import purge
from meta_sync.worker.pump import Pump
from tests.support.feed_server import Heard, plain
from tests.support.feeds import FeedBench, csv_feed, eventually, open_feeds, row


@pytest.fixture
async def f(database: Database) -> AsyncIterator[FeedBench]:
    async with open_feeds(database) as made:
        yield made


class Gate:
    """An answer that waits in its middle."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, _: Heard) -> bytes:
        self.reached.set()
        await self.open.wait()
        return self.answer


async def test_two_workers_never_fetch_one_feed_at_once(f: FeedBench) -> None:
    gate = Gate(plain(csv_feed(row("a"))))
    f.server.answers["/feed.csv"] = gate
    await f.create()
    await f.create(source="second")
    await f.service.create("t", f.input())
    first = asyncio.create_task(f.fetcher().fetch_next())
    await gate.reached.wait()
    # The other store's feed goes on; the same store's second one waits for the first.
    second = asyncio.create_task(f.fetcher().fetch_next())
    await eventually(lambda: len(f.server.heard) == 2)
    assert not await f.fetcher().fetch_next()
    gate.open.set()
    assert await first
    assert await second
    assert await f.fetcher().fetch_next()
    assert not await f.fetcher().fetch_next()
    assert len(f.server.heard) == 3


async def test_one_store_takes_no_second_place_in_the_same_moment(f: FeedBench) -> None:
    """Its slow servers would hold up the feeds of all other stores."""
    await f.create(source="one")
    await f.create(source="two")
    database = f.b.database

    async def leased_meanwhile() -> object:
        async with database.platform() as connection:
            return await feeds_rows.lease_feed(connection)

    async with database.platform() as connection:
        assert await feeds_rows.lease_feed(connection) is not None
        second = asyncio.create_task(leased_meanwhile())

        async def has_looked() -> bool:
            waiting = await f.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            return second.done() or bool(waiting)

        await eventually(has_looked)
    assert await second is None


async def test_a_command_fetches_its_own_and_waits_for_nobody(f: FeedBench) -> None:
    """It runs in a process of its own, so it takes no place from others' feeds."""
    f.server.answers |= {"/slow.csv": Gate(b""), "/feed.csv": plain(csv_feed(row("a")))}
    due_longest = await f.service.create("t", f.input(url=f.server.url("/slow.csv")))
    await f.create(url=f.server.url("/slow.csv"))
    under_way = asyncio.create_task(f.fetcher().fetch_next())
    other = asyncio.create_task(f.fetcher().fetch_next())
    await eventually(lambda: len(f.server.heard) == 2)
    import_id = await f.once()
    assert not await f.fetcher().fetch_next()
    assert await f.fetcher().fetch_next(import_id=import_id)
    assert (await f.view(import_id)).status == "queued"
    assert not await f.fetcher().fetch_next(import_id=import_id)
    for task in (under_way, other):
        task.cancel()
    await asyncio.gather(under_way, other, return_exceptions=True)
    assert (await f.service.get("t", due_longest.feed_id)).checked_at is None


@pytest.mark.parametrize("once", [True, False])
async def test_a_worker_that_comes_back_from_the_dead_writes_nothing(f: FeedBench, *, once: bool) -> None:
    stale = Gate(plain(csv_feed(row("old"), *(row(f"old{n}") for n in range(50)))))
    f.server.answers["/feed.csv"] = stale
    await (f.once() if once else f.create())
    frozen = asyncio.create_task(f.fetcher().fetch_next())
    await stale.reached.wait()
    await f.expire_leases()
    fresh = csv_feed(row("new"))
    f.server.answers["/feed.csv"] = plain(fresh)
    await f.fetch()
    stale.open.set()
    assert await frozen
    assert await f.imports_there() == [("queued", len(fresh))]
    ((content,),) = await f.sql("SELECT content FROM import_chunks")
    assert bytes(content) == fresh


@pytest.mark.parametrize("change", ["update", "delete", "pause"])
async def test_a_change_stops_a_fetch_that_is_under_way(f: FeedBench, change: str) -> None:
    gate = Gate(plain(csv_feed(row("a"))))
    f.server.answers["/feed.csv"] = gate
    feed = await f.create()
    fetching = asyncio.create_task(f.fetcher().fetch_next())
    await gate.reached.wait()
    if change == "delete":
        await f.service.delete("s", feed.feed_id)
    else:
        changes = {"enabled": False} if change == "pause" else {"source": "other"}
        await f.service.update("s", feed.feed_id, changes)
    gate.open.set()
    assert await fetching
    assert await f.imports_there() == []
    if change == "update":
        assert await f.fetcher().fetch_next()
        assert [status for status, _ in await f.imports_there()] == ["queued"]
    else:
        assert not await f.fetcher().fetch_next()


async def test_a_worker_that_is_stopped_gives_the_feed_back(f: FeedBench) -> None:
    gate = Gate(plain(csv_feed(row("a"))))
    f.server.answers["/feed.csv"] = gate
    import_id = await f.once()
    fetching = asyncio.create_task(f.fetcher().fetch_next())
    await gate.reached.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a")))
    assert await f.fetcher().fetch_next()
    assert (await f.view(import_id)).status == "queued"


KILLS = ("feed.after_fetch", "feed.after_chunk", "feed.before_finish", "feed.after_finish")


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("name", KILLS)
async def test_a_killed_fetch_is_taken_over(
    f: FeedBench, database_url: str, name: str, *, once: bool
) -> None:
    # More than one piece, so that a death between two of them leaves half a file.
    content = csv_feed(*(row(f"v{number}") for number in range(20_000)))
    assert len(content) > 1024 * 1024
    f.server.answers["/feed.csv"] = plain(content, ETag='"1"')
    waiting = await f.once() if once else None
    feed = None if once else await f.create()
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.feed_process", str(f.server.port),
        env={
            **os.environ,
            "META_SYNC_DATABASE_URL": database_url,
            "META_SYNC_ENCRYPTION_KEYS": f.key,
            "META_SYNC_FAILPOINTS": f"{name}=kill",
        },
    )  # fmt: skip
    assert await victim.wait() == -signal.SIGKILL
    assert not await f.fetcher().fetch_next(), "the dead worker's lease is still there"
    await f.expire_leases()
    assert await f.fetcher().fetch_next()
    if feed is not None and name == "feed.after_finish":
        # The import was in line when the worker died; the feed waits for it, and then finds nothing new.
        assert await f.runner.run_next()
        await f.fetch()
    ((status, size_bytes),) = await f.imports_there()
    assert (status, size_bytes) == (
        "success" if feed and name == "feed.after_finish" else "queued",
        len(content),
    )
    if status == "queued":
        stored = await f.sql("SELECT content FROM import_chunks ORDER BY chunk_number")
        assert b"".join(bytes(one) for (one,) in stored) == content
    if waiting is not None:
        assert (await f.view(waiting)).status == "queued"
        assert await f.sql("SELECT 1 FROM import_feeds WHERE next_at IS NOT NULL") == []
    if feed is not None:
        seen = await f.service.get("s", feed.feed_id)
        assert seen.last_result in {"imported", "not_modified"}
        assert 3590 < await f.seconds_to_next() <= 3600


async def test_half_an_import_of_a_dead_worker_does_not_stay(f: FeedBench, database_url: str) -> None:
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a")))
    feed = await f.create()
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.feed_process", str(f.server.port),
        env={
            **os.environ,
            "META_SYNC_DATABASE_URL": database_url,
            "META_SYNC_ENCRYPTION_KEYS": f.key,
            "META_SYNC_FAILPOINTS": "feed.after_chunk=kill",
        },
    )  # fmt: skip
    assert await victim.wait() == -signal.SIGKILL
    assert [status for status, _ in await f.imports_there()] == ["fetching"]
    await f.expire_leases()
    f.server.answers["/feed.csv"] = plain(b"", 404)
    assert await f.fetcher().fetch_next()
    ((status, message),) = await f.sql("SELECT status, message FROM imports")
    assert (status, message) == ("error", "There is no file at this address (status 404).")
    assert await f.sql("SELECT 1 FROM import_chunks") == []
    assert (await f.service.get("s", feed.feed_id)).last_message == message


async def test_the_worker_fetches_and_imports_by_itself(f: FeedBench) -> None:
    class Idle:
        async def drain_tick(self) -> int:
            return 0

        poll_tick = jobs_tick = read_jobs_tick = drain_tick

        async def sweep_tick(self) -> None: ...

    f.server.answers["/feed.csv"] = plain(csv_feed(row("a"), row("b")))
    stop = asyncio.Event()
    pump = Pump(Idle(), f.runner, f.fetcher())
    f.b.queue.listen(pump.wake)
    running = asyncio.create_task(pump.run(stop))
    try:
        feed = await f.create()
        await eventually(lambda: f.sql("SELECT 1 FROM imports WHERE status = 'success'"))
    finally:
        stop.set()
        assert await running
    view = await f.view((await f.service.get("s", feed.feed_id)).last_import_id)
    assert view.counts["created"] == 2


async def test_idle_feeds_are_not_read(f: FeedBench) -> None:
    feed = await f.create()
    await f.sql(
        """
        INSERT INTO import_feeds (feed_id, store_id, source, shown_url, url, mode, interval_seconds, next_at)
        SELECT 'x' || n, 'x' || n % 100, n::text, '', '', 'upsert', 3600, now() + interval '1 hour'
        FROM generate_series(1, 5000) AS n
        """
    )
    await f.sql("ANALYZE import_feeds")
    async with f.b.database.platform() as connection:
        plan = await connection.execute(
            text("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + str(feeds_rows._LEASE)),
            {"seconds": 1, "import_id": None},
        )
        (found,) = plan.scalar_one()
    assert found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"] < 100
    assert (await f.service.get("s", feed.feed_id)).failures == 0


async def test_addresses_fetched_once_go_with_their_imports(f: FeedBench) -> None:
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a")))
    kept = await f.create(source="kept")
    assert await f.fetcher().fetch_next()
    await f.once()
    assert await f.fetcher().fetch_next()
    await f.once()
    await f.sql("UPDATE imports SET status = 'success', finished_at = now() WHERE status = 'queued'")

    async def swept() -> list[Any]:
        async with f.b.database.platform() as connection:
            await purge(connection)
        return await f.sql("SELECT interval_seconds, next_at IS NULL FROM import_feeds ORDER BY created_at")

    assert len(await swept()) == 3
    await f.sql("UPDATE imports SET finished_at = now() - interval '31 days' WHERE finished_at IS NOT NULL")
    assert [tuple(one) for one in await swept()] == [(3600, False), (None, False)]
    await f.sql("DELETE FROM import_feeds WHERE interval_seconds IS NULL")
    # A feed whose last import is gone still knows its file.
    await f.fetch()
    assert (await f.service.get("s", kept.feed_id)).last_result == "not_modified"
    await f.sql("UPDATE imports SET created_at = now() - interval '2 days' WHERE status = 'fetching'")
    await swept()
    assert await f.sql("SELECT 1 FROM imports WHERE status = 'fetching'") == []
