"""Starts and shows jobs. Who works them off is ``job_runner``."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.repository import active_link
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, NotFoundError
from meta_sync.core.ids import new_id
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.job_models import JobView, StartedJob
from meta_sync.sync.job_statements import INSERT, RUNNING

__all__ = ["JobService", "insert_job"]

_VIEW = """
    SELECT job_id, type, status, stage, message, total, looked_at, enqueued, unchanged, error, requested_by,
        created_at, started_at, finished_at FROM jobs WHERE store_id = :store_id
"""


async def insert_job(
    connection: AsyncConnection, store_id: str, link_id: int, kind: str, *, requested_by: str | None
) -> StartedJob:
    """Write a job that waits to be worked on, in the caller's transaction.

    Raises
    ------
    IntegrityError
        The store has an unfinished job of this kind.
    """
    job_id = new_id("job")
    await expect_lookups(connection)
    total = await connection.scalar(
        INSERT,
        {
            "job_id": job_id,
            "store_id": store_id,
            "link_id": link_id,
            "type": kind,
            "description": None,
            "requested_by": requested_by,
        },
    )
    return StartedJob(job_id, int(total or 0))


class JobService:
    """Starts and shows jobs."""

    def __init__(self, database: Database, queue: JobQueue) -> None:
        self._database = database
        self._queue = queue

    async def start_bootstrap(self, store_id: str, *, requested_by: str | None) -> StartedJob:
        """Look at every variant of the store again; what Meta has confirmed already costs nothing.

        Raises
        ------
        ConflictError
            No catalog is selected, or a bootstrap is running.
        """
        try:
            async with self._database.store(store_id) as connection:
                link = await active_link(connection, store_id)
                if link is None:
                    raise ConflictError(
                        "No Meta catalog is selected yet. Store a token and select a catalog first.",
                        code="meta_not_connected",
                    )
                started = await insert_job(
                    connection, store_id, link.link_id, "bootstrap", requested_by=requested_by
                )
        except IntegrityError:
            running = await self._running(store_id, "bootstrap")
            raise ConflictError(f"A bootstrap is running already: {running}.") from None
        await self._queue.wake(JobName.JOBS)
        return started

    async def _running(self, store_id: str, kind: str) -> str | None:
        async with self._database.store(store_id) as connection:
            found: str | None = await connection.scalar(RUNNING, {"store_id": store_id, "type": kind})
            return found

    async def get(self, store_id: str, job_id: str) -> JobView:
        """One job of the store.

        Raises
        ------
        NotFoundError
            The store has no such job.
        """
        async with self._database.store(store_id) as connection:
            row = (
                await connection.execute(
                    text(f"{_VIEW} AND job_id = :job_id"), {"store_id": store_id, "job_id": job_id}
                )
            ).one_or_none()
        if row is None:
            raise NotFoundError("No such job.")
        return JobView(*row)

    async def list(self, store_id: str, *, limit: int = 50) -> Sequence[JobView]:
        """The store's jobs, newest first."""
        async with self._database.store(store_id) as connection:
            rows = await connection.execute(
                text(f"{_VIEW} ORDER BY created_at DESC, job_id LIMIT :limit"),
                {"store_id": store_id, "limit": limit},
            )
            return [JobView(*row) for row in rows]
