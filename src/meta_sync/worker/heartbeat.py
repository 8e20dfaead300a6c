"""One row per worker process that says it is alive. Other workers take the leases of one that has gone silent.

arq's own health key is shared by all workers and useless for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import delete

import meta_sync
from meta_sync.core.db import Database
from meta_sync.core.logging import get_logger
from meta_sync.sync import lease
from meta_sync.sync.tables import worker_heartbeats

__all__ = ["Heartbeat"]

_logger = get_logger(__name__)

_INTERVAL_SECONDS = 2.0
"""A worker counts as dead after 10 s: five beats. Ticks beat too, but all of them may be waiting for Meta."""
_LONGEST_BEAT_SECONDS = 8.0
_LONGEST_END_SECONDS = 2.0
"""Where the database is away, the row stays and grows old instead."""


class Heartbeat:
    """Writes the row, and removes it at a clean end.

    Parameters
    ----------
    database
        Written as the worker role.
    worker_id
        The name under which this process takes leases.
    queue
        How this worker hears of work, ``redis`` or ``in-process``.
    """

    def __init__(
        self, database: Database, worker_id: str, queue: str, *, interval_seconds: float = _INTERVAL_SECONDS
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._queue = queue
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Beat until ``stop`` is set. A database that is away is waited for."""
        while not stop.is_set():
            await self._try(self._beat, _LONGEST_BEAT_SECONDS)
            try:
                async with asyncio.timeout(self._interval_seconds):
                    await stop.wait()
            except TimeoutError:
                pass

    async def end(self) -> None:
        """Take the row away: this worker ended on purpose, and what it still held is free at once."""
        await self._try(self._remove, _LONGEST_END_SECONDS)

    async def _beat(self) -> None:
        async with self._database.platform() as connection:
            await lease.beat(connection, self._worker_id, version=meta_sync.__version__, queue=self._queue)

    async def _remove(self) -> None:
        async with self._database.platform() as connection:
            await connection.execute(
                delete(worker_heartbeats).where(worker_heartbeats.c.worker_id == self._worker_id)
            )

    async def _try(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await work()
        except Exception as error:  # noqa: BLE001 - a heart that stops lets others take the leases of a living worker
            # The loops report an outage; a second voice would add nothing.
            _logger.debug("A heartbeat was not written.", reason=type(error).__name__)
