"""The pipeline as the worker runs it: ticks that any number of workers may run at any time, and that say what they did."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping

import meta_sync
from meta_sync.connection.models import graph_host
from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.graph.client import GraphClient
from meta_sync.sync import lease
from meta_sync.sync.drain import Drain, Timing
from meta_sync.sync.grace import end_grace
from meta_sync.sync.guard_count import GuardRunner
from meta_sync.sync.job_runner import JobRunner
from meta_sync.sync.listener import follow_mapper_version
from meta_sync.sync.mapping import MAPPER_VERSION
from meta_sync.sync.poll import Poll
from meta_sync.sync.read_jobs import ReadJobHandler, ReadJobRunner
from meta_sync.sync.reconcile_models import RECONCILIATION
from meta_sync.sync.reconcile_schedule import start_due
from meta_sync.sync.retries import wake_retries
from meta_sync.sync.sale_windows import SaleWindows
from meta_sync.sync.sweep import (
    due_schedule,
    fold_counters,
    keep_partitions,
    mark_forgotten_stores,
    purge,
    run_soon,
)

__all__ = ["Pipeline"]

_HANDLES_PER_TICK = 16
_QUESTIONS_AT_ONCE = 4
"""Polls under way at once in one worker: enough to keep up, few enough not to crowd out submits."""

_BEAT_SECONDS = 2.0
_FOLD_SECONDS = 5.0
_MAPPER_SECONDS = 30.0
_MAPPER_SCHEDULE = f"mapper_version_{MAPPER_VERSION}"
"""Of each version its own: workers of an older one, beside those of a newer, would use up the times of a common one."""
_PURGE_SECONDS = 3600.0
_PURGE_AGAIN_SECONDS = 10.0
_RECONCILE_LOOK_SECONDS = 60.0
_SALE_LOOKS_PER_DELAY = 5
"""Looks for ended sale windows in the time that they wait anyhow: none is found much later than that."""


class Pipeline:
    """Ticks. One instance per worker process.

    Parameters
    ----------
    owner
        Names this worker in leases and heartbeats; unique per process start.
    read_jobs
        Who works off the jobs that read Meta back, by their type.
    """

    def __init__(
        self,
        database: Database,
        graph: GraphClient,
        cipher: Cipher,
        process: Settings,
        queue: JobQueue,
        *,
        owner: str,
        timing: Timing | None = None,
        jitter: Callable[[], float] = random.random,
        read_jobs: Mapping[str, ReadJobHandler] | None = None,
    ) -> None:
        timing = timing or Timing(unknown_hold_seconds=process.unknown_hold_seconds)
        self._database = database
        self._timing = timing
        self._graph_host = graph_host(process.graph_url)
        self._owner = owner
        self._drain = Drain(
            database,
            graph,
            cipher,
            process,
            owner=owner,
            timing=timing,
            jitter=jitter,
            wake_guard=lambda: queue.wake(JobName.JOBS),
        )
        self._guard = GuardRunner(database, cipher, process, queue)
        self._poll = Poll(database, graph, cipher, process, timing=timing, jitter=jitter)
        self._jobs = JobRunner(database, cipher, process, queue, look_seconds=timing.job_look_seconds)
        self._read_jobs = ReadJobRunner(database, read_jobs or {})
        self._sales = SaleWindows(database, delay_seconds=timing.sale_delay_seconds)
        self._sales_every_seconds = timing.sale_delay_seconds / _SALE_LOOKS_PER_DELAY
        self._beaten_at = -_BEAT_SECONDS

    async def beat(self) -> None:
        """Say that this worker is alive, at most every other second. Leases of a silent worker are free for others."""
        now = asyncio.get_running_loop().time()
        if now - self._beaten_at < _BEAT_SECONDS:
            return
        async with self._database.platform() as connection:
            await lease.beat(connection, self._owner, version=meta_sync.__version__, queue="pump")
        self._beaten_at = now

    async def drain_tick(self) -> int:
        """Give one due store its turn. Returns the number of turns: 0 when nothing is due."""
        await self.beat()
        return int(await self._drain.turn())

    async def poll_tick(self) -> int:
        """Ask about handles that are due and look after calls without an answer. Returns how many batches were due."""
        await self.beat()
        batches = await self._poll.claim(_HANDLES_PER_TICK)
        if not batches:
            return 0
        gate = asyncio.Semaphore(_QUESTIONS_AT_ONCE)

        async def follow(index: int) -> None:
            async with gate:
                await self._poll.follow(batches[index])

        results = await asyncio.gather(
            *(follow(index) for index in range(len(batches))), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return len(batches)

    async def jobs_tick(self) -> int:
        """Work on one page of a job and one of a hold. Returns 0 when there was nothing to do at once."""
        await self.beat()
        has_worked = await self._jobs.run_next()
        return int(await self._guard.run_next() or has_worked)

    async def read_jobs_tick(self) -> int:
        """Read one page of Meta for a job that does so. Returns 0 when none was due."""
        await self.beat()
        return int(await self._read_jobs.run_next())

    async def sweep_tick(self) -> None:
        """Find what nobody woke up for; now and then fold counters and throw away what is old."""
        await self.beat()
        async with self._database.platform() as connection:
            await mark_forgotten_stores(connection)
        await retry_transaction(self._wake_retries)
        await retry_transaction(self._end_grace)
        await self._sweep_sales()
        await self._start_reconciliations()
        async with self._database.platform() as connection:
            if await due_schedule(connection, "fold_counters", every_seconds=_FOLD_SECONDS):
                await fold_counters(connection)
        async with self._database.platform() as connection:
            if await due_schedule(connection, "purge", every_seconds=_PURGE_SECONDS) and await purge(
                connection
            ):
                await run_soon(connection, "purge", in_seconds=_PURGE_AGAIN_SECONDS)
        async with self._database.platform() as connection:
            if await due_schedule(
                connection, _MAPPER_SCHEDULE, every_seconds=_MAPPER_SECONDS
            ) and await follow_mapper_version(connection):
                await run_soon(connection, _MAPPER_SCHEDULE, in_seconds=1)
        async with self._database.platform() as connection:
            if await due_schedule(connection, "partitions", every_seconds=_PURGE_SECONDS):
                await keep_partitions(connection)

    async def _wake_retries(self) -> None:
        async with self._database.platform() as connection:
            await wake_retries(connection)

    async def _end_grace(self) -> None:
        async with self._database.platform() as connection:
            await end_grace(connection)

    async def _start_reconciliations(self) -> None:
        if not self._read_jobs.works_off(RECONCILIATION):
            return
        async with self._database.platform() as connection:
            if not await due_schedule(connection, "reconciliations", every_seconds=_RECONCILE_LOOK_SECONDS):
                return
        await start_due(
            self._database, graph_host=self._graph_host, day_seconds=self._timing.reconcile_every_seconds
        )

    async def _sweep_sales(self) -> None:
        async with self._database.platform() as connection:
            if not await due_schedule(connection, "sale_windows", every_seconds=self._sales_every_seconds):
                return
        if await self._sales.sweep():
            async with self._database.platform() as connection:
                await run_soon(connection, "sale_windows", in_seconds=0)
