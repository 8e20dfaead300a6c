"""One row per worker process that says it is alive. arq's own health key is shared by all workers and useless for that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import delete, func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError

import meta_sync
from meta_sync.core.db import Database
from meta_sync.core.logging import get_logger
from meta_sync.sync.tables import worker_heartbeats

__all__ = ["Heartbeat"]

_logger = get_logger(__name__)

_INTERVAL_SECONDS = 10.0
_FORGET_AFTER = text("interval '1 day'")
"""Rows of workers that were killed are kept this long, for whoever looks into it."""


class Heartbeat:
    """Writes the row, and removes it at a clean end.

    Parameters
    ----------
    database
        Written as the worker role.
    worker_id
        A fresh id per process.
    queue
        How this worker hears of work, ``redis`` or ``in-process``.
    """

    def __init__(
        self,
        database: Database,
        worker_id: str,
        queue: str,
        *,
        interval_seconds: float = _INTERVAL_SECONDS,
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._queue = queue
        self._interval_seconds = interval_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Beat until ``stop`` is set. A database that is away is waited for."""
        while not stop.is_set():
            await self._try(self._beat)
            try:
                async with asyncio.timeout(self._interval_seconds):
                    await stop.wait()
            except TimeoutError:
                pass

    async def end(self) -> None:
        """Take the row away: this worker ended on purpose."""
        await self._try(self._remove)

    async def _beat(self) -> None:
        row = insert(worker_heartbeats).values(
            worker_id=self._worker_id, version=meta_sync.__version__, queue=self._queue
        )
        async with self._database.platform() as connection:
            await connection.execute(
                row.on_conflict_do_update(index_elements=["worker_id"], set_={"seen_at": func.now()})
            )
            await connection.execute(
                delete(worker_heartbeats).where(worker_heartbeats.c.seen_at < func.now() - _FORGET_AFTER)
            )

    async def _remove(self) -> None:
        async with self._database.platform() as connection:
            await connection.execute(
                delete(worker_heartbeats).where(worker_heartbeats.c.worker_id == self._worker_id)
            )

    async def _try(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(self._interval_seconds):
                await work()
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            # The loops report the outage; a second voice would add nothing.
            _logger.debug("A heartbeat was not written.", reason=type(error).__name__)
