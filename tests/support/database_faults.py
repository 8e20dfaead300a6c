"""PostgreSQL that fails on request: a server to crash, a way to it that is cut, a COMMIT whose answer is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import event, text

from meta_sync.catalog.ingest.import_runner import ImportRunner
from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database, DatabaseTimeouts
from meta_sync.core.outages import is_outage
from meta_sync.sync.outbox import OutboxSink
from meta_sync.sync.ticks import Pipeline
from meta_sync.worker.loops import backoff_seconds
from meta_sync.worker.process import run_worker
from tests.support.postgres import fresh_database
from tests.support.proxy import Cut, TcpProxy, When
from tests.support.world import World

__all__ = [
    "SHORT",
    "CommitCut",
    "OwnPostgres",
    "a_minute_later",
    "assert_nothing_leaked",
    "insist",
    "running_worker",
    "tick_through",
    "until",
    "until_quiet",
    "way_to",
    "with_database",
]

SHORT = DatabaseTimeouts(connection_seconds=0.5, statement_seconds=1.0, lock_seconds=0.3)
"""Waits of production, divided by ten and more."""


class OwnPostgres:
    """A server that a test may stop, and one fresh database in it."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self.url = ""
        self.name = ""

    @contextmanager
    def database(self) -> Iterator[None]:
        with fresh_database(self.server) as self.url:
            self.name = self.url.partition("@/")[2].partition("?")[0]
            yield

    @property
    def socket(self) -> str:
        return f"{self.server.socket_directory}/.s.PGSQL.5432"

    def sql(self, statement: str) -> str:
        return self.server.psql(self.name, statement)

    def log(self) -> str:
        return (self.server.directory / "server.log").read_text(errors="replace")

    def crash(self) -> None:
        """``pg_ctl stop -m immediate``: no transaction ends, no client is told anything."""
        process = self.server._process
        assert process is not None
        os.kill(process.pid, signal.SIGQUIT)
        process.wait(20)
        self.server._process = None

    def start(self) -> None:
        self.server.start()

    def set(self, name: str, value: str) -> None:
        """Change a setting of the running server."""
        self.server.psql("postgres", f"ALTER SYSTEM SET {name} = {value}")
        self.server.psql("postgres", "SELECT pg_reload_conf()")

    def mend(self) -> None:
        """Undo what a test that failed left behind."""
        if self.server.pid is None or self.server.has_died:
            self.start()
        self.server.psql("postgres", "ALTER SYSTEM RESET ALL")
        self.server.psql("postgres", "SELECT pg_reload_conf()")


@asynccontextmanager
async def way_to(
    server: OwnPostgres, *, pool_size: int = 4, timeouts: DatabaseTimeouts = SHORT
) -> AsyncIterator[tuple[TcpProxy, Database]]:
    """Pools whose connections go through a proxy."""
    async with TcpProxy(server.socket) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{server.name}?ssl=disable"
        database = Database.connect(url, pool_size=pool_size, timeouts=timeouts)
        try:
            yield proxy, database
        finally:
            await database.dispose()


class CommitCut:
    """Cuts the connection at the COMMIT of the first transaction that ran the given statement."""

    def __init__(self, proxy: TcpProxy, database: Database, statement: Any, when: When) -> None:
        self._proxy = proxy
        self._statement = statement
        self._when = when
        self.cut: Cut | None = None
        for engine in (database.app.sync_engine, database.worker.sync_engine):
            event.listen(engine, "begin", self._began)
            event.listen(engine, "before_execute", self._executing)
            event.listen(engine, "commit", self._committing)

    @property
    def has_struck(self) -> bool:
        return self.cut is not None and self.cut.struck.is_set()

    def _began(self, connection: Any) -> None:
        connection.info.pop("is_marked", None)

    def _executing(self, connection: Any, statement: Any, *_: Any) -> None:
        if statement is self._statement:
            connection.info["is_marked"] = True

    def _committing(self, connection: Any) -> None:
        if self.cut is None and connection.info.pop("is_marked", False):
            self.cut = self._proxy.cut_on(b"COMMIT", when=self._when)


async def tick_through(pipeline: Pipeline) -> list[Exception]:
    """Each tick once, as the worker's loops run them: one that fails does not keep the others from running."""
    failures: list[Exception] = []
    for tick in (pipeline.jobs_tick, pipeline.drain_tick, pipeline.poll_tick, pipeline.sweep_tick):
        try:
            await tick()
        except Exception as error:  # noqa: BLE001 - anything else fails the test
            assert is_outage(error), error
            failures.append(error)
    return failures


@asynccontextmanager
async def running_worker(world: World, database: Database | None = None) -> AsyncIterator[asyncio.Task[None]]:
    """The whole worker, in this process, with short back-offs; it must end cleanly."""
    stop = asyncio.Event()
    database = database or world.database
    worker = asyncio.create_task(
        run_worker(
            worker_id="worker",
            database=database,
            queue=world.queue,
            redis_url=None,
            pipeline=with_database(world, database).pipeline("worker"),
            imports=ImportRunner(database, OutboxSink(), world.queue, utc_now),
            stop=stop,
            backoff=lambda failures: backoff_seconds(failures) / 10,
        )
    )
    try:
        yield worker
        stop.set()
        await asyncio.wait_for(worker, 20)
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def until_quiet(world: World, worker: asyncio.Task[None], seconds: float = 30) -> None:
    """Wait until a running worker has nothing left to do."""
    async with asyncio.timeout(seconds):
        while not await world.is_quiet():
            assert not worker.done()
            await asyncio.sleep(0.02)


async def until(condition: Callable[[], Awaitable[bool] | bool], seconds: float = 15) -> None:
    """Wait until a condition holds; one that cannot be asked does not."""
    async with asyncio.timeout(seconds):
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.01)


async def insist(work: Callable[[], Awaitable[Any]], seconds: float = 20) -> int:
    """Do something as a caller of the API does: again after each 503. How often it failed."""
    failures = 0
    async with asyncio.timeout(seconds):
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - anything else fails the test
                assert is_outage(error), error
                failures += 1
                await asyncio.sleep(0.02)
            else:
                return failures


async def a_minute_later(world: World) -> None:
    """What a minute and a half does after an outage: leases, claims and call deadlines of what was lost are over.

    Holds and the pause before a second call are waited for.
    """
    async with world.database.platform() as connection:
        for statement in (
            "UPDATE store_queue SET leased_until = NULL, lease_owner = NULL, due_at = now() WHERE leased_until IS NOT NULL",
            "UPDATE store_queue SET due_at = now() WHERE due_at > now()",
            "UPDATE batches SET due_at = now() WHERE state IN ('sending', 'open') AND due_at > now()",
            "UPDATE jobs SET leased_until = NULL WHERE leased_until IS NOT NULL",
        ):
            await connection.execute(text(statement))


_AT_WORK = """
    SELECT pid, state, query FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'meta-sync%' AND state <> 'idle'
"""


async def assert_nothing_leaked(database: Database, server: OwnPostgres) -> None:
    """Every connection is back in its pool, none stands in a transaction, and the pools still work."""
    for engine in (database.app, database.worker):
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # every queue pool counts
    # The server learns a moment later than we that a connection is over.
    await until(lambda: server.sql(_AT_WORK) == "", 5)
    async with database.platform() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    async with database.store("store_x") as connection:
        assert await connection.scalar(text("SELECT 1")) == 1


def with_database(world: World, database: Database) -> World:
    """The same world over other pools."""
    return replace(world, database=database)
