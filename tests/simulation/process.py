"""One worker process of a simulation: the product's own ticks, in loops that wait on virtual time, and may die anywhere.

A process that is killed does nothing more: no ``finally`` reaches the database. One that is frozen stands still at its next
step and goes on later as if nothing had happened, as after SIGSTOP and SIGCONT.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.exc import DBAPIError

from meta_sync.core.queue import MemoryJobQueue
from meta_sync.sync.catalog_reader import CatalogReader
from meta_sync.sync.first_run import PREFLIGHT
from meta_sync.sync.read_jobs import ReadJob, ReadJobHandler, give_back
from meta_sync.sync.reconcile import ReconcileHandler
from meta_sync.sync.reconcile_models import RECONCILIATION
from meta_sync.sync.ticks import Pipeline
from tests.simulation.graph import SimulatedGraph
from tests.simulation.memory import MemoryConnection, MemoryDatabase, Rows

if TYPE_CHECKING:
    from tests.simulation.world import SimulatedWorld

__all__ = ["KilledError", "Process"]

_BEAT_SECONDS = 3.0
_SPARED_SECONDS = 60.0
"""After a freeze a process is left alone: whoever holds a handle that nobody else knows writes it down."""


class KilledError(BaseException):
    """The process is no more."""


class Process:
    """A worker: two turns at a time, one poll tick, one job page, one sweep.

    Parameters
    ----------
    name
        The owner in leases; new for every start.
    """

    def __init__(self, world: SimulatedWorld, name: str) -> None:
        self.world = world
        self.name = name
        self.is_dead = False
        self.frozen_until = 0.0
        self.spared_until = 0.0
        database = ProcessDatabase(self, world.database)
        self.pipeline = Pipeline(
            cast("Any", database),
            cast("Any", SimulatedGraph(world.meta, self.pause, world.rng, world.loop.time)),
            world.cipher,
            world.settings,
            MemoryJobQueue(),
            owner=name,
            timing=world.timing,
            jitter=world.rng.random,
            read_jobs=self._readers(cast("Any", database)) if world.plan.reconciles else None,
        )
        loops: dict[str, Callable[[], Awaitable[Any]]] = {
            "drain": self.pipeline.drain_tick,
            "drain-2": self.pipeline.drain_tick,
            "poll": self.pipeline.poll_tick,
            "jobs": self.pipeline.jobs_tick,
            "sweep": self.pipeline.sweep_tick,
        }
        if world.plan.reconciles:
            loops["reading"] = self.pipeline.read_jobs_tick
        self.tasks = [
            asyncio.create_task(self._run(kind, tick), name=f"{name}-{kind}") for kind, tick in loops.items()
        ]
        self._heart: asyncio.Task[None] | None = None
        for task in self.tasks:
            task.add_done_callback(self._ended)

    def _readers(self, database: Any) -> dict[str, ReadJobHandler]:
        world = self.world
        graph = cast("Any", SimulatedGraph(world.meta, self.pause, world.rng, world.loop.time))
        reader = CatalogReader(
            database, graph, world.cipher, world.settings, timing=world.timing, jitter=world.rng.random
        )
        return {
            RECONCILIATION: ReconcileHandler(database, reader, timing=world.timing),
            PREFLIGHT: _LeftToPeople(database),
        }

    def kill(self) -> None:
        """kill -9."""
        self.world.log("killed", self.name)
        self.is_dead = True
        self.cancel()
        self.world.died.set()
        # After the open transaction was rolled back.
        self.world.loop.call_soon(self.world.meta.forget_unknown)

    def cancel(self) -> None:
        """Let nothing of it go on."""
        self.is_dead = True
        for task in [*self.tasks, *([] if self._heart is None else [self._heart])]:
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.world.violate(f"{task.get_name()} ended with {type(error).__name__}: {error}", error)

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so many seconds."""
        now = self.world.loop.time()
        self.world.log("frozen", self.name, seconds)
        self.frozen_until = now + seconds
        self.world.thawed_at = max(self.world.thawed_at, self.frozen_until)
        self.spared_until = now + seconds + _SPARED_SECONDS

    @property
    def is_spared(self) -> bool:
        return self.world.loop.time() < self.spared_until

    def step(self) -> None:
        """A point at which the process may die."""
        if self.is_dead:
            raise KilledError
        if self.world.strikes("kill") and not self.is_spared:
            self.kill()
            raise KilledError

    async def pause(self, where: str) -> None:
        """A point at which others may go first, and at which the process may die or freeze."""
        self.step()
        if not self.is_spared and self.world.strikes("freeze"):
            self.freeze(self.world.rng.choice([20.0, 100.0, 300.0, 900.0]))
        elif not self.is_spared and self._freezes_in_call(where):
            # Past the deadline of the call and the hold.
            self.freeze(self.world.rng.choice([300.0, 400.0, 700.0]))
        roll = self.world.rng.random()
        if roll < 0.2:
            await asyncio.sleep(roll * 0.1)
        # Others may freeze it once more meanwhile.
        while (left := self.frozen_until - self.world.loop.time()) > 0:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(left)
        if self.is_dead:
            raise KilledError

    def _freezes_in_call(self, where: str) -> bool:
        if where != "after the call" or self.world.meta.calm:
            return False
        return self.world.rng.random() < self.world.plan.freezes_in_call

    async def _run(self, kind: str, tick: Callable[[], Awaitable[Any]]) -> None:
        failures = 0
        while not self.is_dead:
            try:
                done = await tick()
            except (DBAPIError, OSError) as error:
                failures += 1
                self.world.log("failed", self.name, kind, type(error).__name__)
                await asyncio.sleep(min(15.0, 0.5 * 2**failures))
                continue
            failures = 0
            if done:
                await asyncio.sleep(0)
            else:
                await self.world.wait_for_work(kind.partition("-")[0])

    def keep_beating(self) -> None:
        """The heart beats while a lease is held; at rest nobody asks."""
        if (self._heart is None or self._heart.done()) and self._holds_lease():
            self._heart = asyncio.create_task(self._beat(), name=f"{self.name}-beat")

    async def _beat(self) -> None:
        while not self.is_dead and self._holds_lease():
            if self.world.loop.time() >= self.frozen_until:
                await self.world.beat(self.name)
            await asyncio.sleep(_BEAT_SECONDS)

    def _holds_lease(self) -> bool:
        return any(row["lease_owner"] == self.name for row in self.world.tables["store_queue"].rows.values())


class _LeftToPeople:
    """A report before a first run is there when somebody asks for it: reading for it has tests of its own."""

    def __init__(self, database: Any) -> None:
        self._database = database

    async def step(self, job: ReadJob) -> None:
        async with self._database.platform() as connection:
            await give_back(connection, job, in_seconds=1e8)


class ProcessDatabase:
    """The database as one process sees it: slow, sometimes away, sometimes silent about a COMMIT."""

    def __init__(self, process: Process, memory: MemoryDatabase) -> None:
        self._process = process
        self._memory = memory

    @asynccontextmanager
    async def platform(self) -> AsyncIterator[Any]:
        process, world = self._process, self._process.world
        await process.pause("begin")
        if world.loop.time() < world.database_away_until:
            raise ConnectionRefusedError("the database is away")
        fate = "" if process.is_spared else world.transaction_fate()
        connection = _ProcessConnection(process, self._memory.open())
        try:
            yield connection
            process.step()
            if fate == "failed":
                raise _lost_connection()  # noqa: TRY301 - as the driver does, at the end of the block
        except BaseException:
            connection.rollback()
            raise
        if connection.commit():
            world.changed()
            process.keep_beating()
        if fate == "silent":
            raise _lost_connection()
        process.step()
        await process.pause("committed")

    @asynccontextmanager
    async def store(self, _store_id: str) -> AsyncIterator[Any]:
        async with self.platform() as connection:
            yield connection


class _ProcessConnection:
    """Each statement is a step at which the process may die, with its transaction."""

    def __init__(self, process: Process, connection: MemoryConnection) -> None:
        self._process = process
        self._connection = connection

    def commit(self) -> bool:
        return self._connection.commit()

    def rollback(self) -> None:
        self._connection.rollback()

    async def execute(self, statement: Any, parameters: Mapping[str, Any] | None = None) -> Rows:
        self._process.step()
        return self._connection.run(statement, parameters or {})

    async def scalar(self, statement: Any, parameters: Mapping[str, Any] | None = None) -> Any:
        return (await self.execute(statement, parameters)).scalar()


def _lost_connection() -> DBAPIError:
    return DBAPIError("COMMIT", None, ConnectionResetError("connection lost"), connection_invalidated=True)
