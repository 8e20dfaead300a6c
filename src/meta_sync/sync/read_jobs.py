"""Jobs that read Meta back: their lease, their pages, their end. Who works them off is registered by type.

They are jobs like all others, but each of their pages is a question to Meta and not a look at our rows, so the runner
of the ordinary jobs leaves them alone. Nothing here asks Meta or knows what a job reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.failpoints import failpoint
from meta_sync.core.ids import new_id
from meta_sync.core.logging import get_logger
from meta_sync.core.outages import is_contention, is_outage
from meta_sync.core.text import encode_json
from meta_sync.sync.job_models import READ_TYPES

__all__ = [
    "ReadJob",
    "ReadJobHandler",
    "ReadJobRunner",
    "advance",
    "fail",
    "finish",
    "give_back",
    "insert_read_job",
    "is_ours",
]

_logger = get_logger(__name__)

LEASE_SECONDS = 300
"""A page is one question with its repetitions (a minute and a half at most) and a short transaction."""

_TYPES = ", ".join(f"'{one}'" for one in READ_TYPES)
_INSERT = text(
    """
    INSERT INTO jobs (job_id, store_id, link_id, type, status, description, requested_by, total, result, dry_run)
    VALUES (:job_id, :store_id, :link_id, :type, 'queued', :description, :requested_by, :total,
        CAST(:result AS jsonb), false)
    """
)
# Those never looked at first, then those that have waited the longest since their time came.
_LEASE = text(
    f"""
    UPDATE jobs AS j SET status = CASE j.status WHEN 'queued' THEN 'running' ELSE j.status END,
        leased_until = now() + make_interval(secs => {LEASE_SECONDS}), fence = j.fence + 1,
        started_at = COALESCE(j.started_at, now())
    WHERE j.job_id = (
        SELECT job_id FROM jobs
        WHERE status IN ('queued', 'running', 'cancelling') AND type IN ({_TYPES})
          AND (leased_until IS NULL OR leased_until < now())
        ORDER BY leased_until NULLS FIRST, created_at, job_id LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING j.job_id, j.store_id, j.link_id, j.type, j.status, j.stage, j.cursor, j.fence, j.looked_at,
        COALESCE(j.result, '{{}}'::jsonb) AS result, j.requested_by, j.started_at, now()
    """
).columns(result=JSONB)
_ADVANCE = text(
    """
    UPDATE jobs SET cursor = :cursor, stage = :stage, result = CAST(:result AS jsonb), message = NULL,
        looked_at = looked_at + :looked_at, total = GREATEST(COALESCE(CAST(:total AS bigint), total), looked_at + :looked_at),
        leased_until = GREATEST(now() + make_interval(secs => :seconds), CAST(:until AS timestamptz))
    WHERE job_id = :job_id AND fence = :fence AND status = 'running'
    RETURNING 1
    """
)
_IS_OURS = text(
    "SELECT 1 FROM jobs WHERE job_id = :job_id AND fence = :fence AND status = 'running' FOR UPDATE"
)
_GIVE_BACK = text(
    """
    UPDATE jobs SET message = :message,
        leased_until = GREATEST(now() + make_interval(secs => :seconds), CAST(:until AS timestamptz))
    WHERE job_id = :job_id AND fence = :fence AND status = 'running'
    """
)
_END = text(
    """
    UPDATE jobs SET status = :status, stage = 'done', finished_at = now(), leased_until = NULL, message = :message,
        error_code = :error_code, result = COALESCE(CAST(:result AS jsonb), result), total = looked_at
    WHERE job_id = :job_id AND fence = :fence AND status IN ('running', 'cancelling')
    RETURNING 1
    """
)
# What a walk had to recognise again is of no use once it is over.
_DROP_KEYS = text(
    """
    DELETE FROM job_keys WHERE job_id = :job_id AND (kind, key) IN (
        SELECT kind, key FROM job_keys WHERE job_id = :job_id LIMIT :most
    )
    """
)
_KEYS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class ReadJob:
    """A job that this worker has, until its lease ends or somebody raises the fence.

    Attributes
    ----------
    link_id
        The catalog it reads; ``None``: none is selected.
    stage
        ``waiting`` at first; what a handler set since.
    cursor
        Where the stage goes on; what it means is the handler's matter.
    result
        The handler's own: tallies and options, kept small.
    leased_at
        The database's time of the lease.
    """

    job_id: str
    store_id: str
    link_id: int | None
    type: str
    status: str
    stage: str
    cursor: str | None
    fence: int
    looked_at: int
    result: dict[str, Any]
    requested_by: str | None
    started_at: datetime
    leased_at: datetime

    def key(self) -> dict[str, Any]:
        """The job as statement parameters; a statement with them does nothing once somebody else has the job."""
        return {"job_id": self.job_id, "fence": self.fence}


class ReadJobHandler(Protocol):
    """Works one type of job off, a page at a time."""

    async def step(self, job: ReadJob) -> None:
        """Do one page and move, give back or end the job (``advance``, ``give_back``, ``finish``, ``fail``).

        It may be begun again at any line: what a page writes and the job's move are one transaction. A job that is
        left without any of the four comes again when its lease is over.
        """
        ...


async def insert_read_job(
    connection: AsyncConnection,
    store_id: str,
    link_id: int | None,
    kind: str,
    *,
    requested_by: str | None,
    description: str | None = None,
    result: Mapping[str, Any] | None = None,
    total: int = 0,
) -> str:
    """Write a job that waits to be worked on, in the caller's transaction; returns its id.

    ``result`` is what the handler finds there at first: options, say.

    Raises
    ------
    IntegrityError
        The store has an unfinished job of this type.
    """
    job_id = new_id("job")
    given = {
        "job_id": job_id,
        "store_id": store_id,
        "link_id": link_id,
        "type": kind,
        "description": description,
        "requested_by": requested_by,
        "total": total,
        "result": encode_json(result or {}).decode(),
    }
    await connection.execute(_INSERT, given)
    return job_id


async def is_ours(connection: AsyncConnection, job: ReadJob) -> bool:
    """Lock the job's row for the rest of the transaction; ``False`` when it was called off or somebody else has it.

    Asked first, so that what is written after it is written only by whoever has the job.
    """
    return await connection.scalar(_IS_OURS, job.key()) is not None


async def advance(
    connection: AsyncConnection,
    job: ReadJob,
    *,
    stage: str,
    cursor: str | None,
    result: Mapping[str, Any],
    looked_at: int = 0,
    total: int | None = None,
    in_seconds: float = 0.0,
    until: datetime | None = None,
) -> bool:
    """Move the job on and give it back until its next page, in the transaction that writes what the page found.

    ``False`` when the job was called off or somebody else has it: ask ``is_ours`` before anything else is written.

    Parameters
    ----------
    looked_at
        Items of this page.
    total
        How many items there are, where that is known now.
    in_seconds, until
        When the next page may be read, at the earliest; the later of the two.
    """
    given = {
        **job.key(),
        "stage": stage,
        "cursor": cursor,
        "result": encode_json(result).decode(),
        "looked_at": looked_at,
        "total": total,
        "seconds": in_seconds,
        "until": until,
    }
    return await connection.scalar(_ADVANCE, given) is not None


async def give_back(
    connection: AsyncConnection,
    job: ReadJob,
    *,
    in_seconds: float = 0.0,
    until: datetime | None = None,
    message: str | None = None,
) -> None:
    """Leave the job where it is until later; ``message`` says to people why."""
    given = {**job.key(), "seconds": in_seconds, "until": until, "message": message}
    await connection.execute(_GIVE_BACK, given)


async def finish(
    connection: AsyncConnection,
    job: ReadJob,
    result: Mapping[str, Any] | None = None,
    *,
    status: str = "success",
    error_code: str | None = None,
    message: str | None = None,
) -> bool:
    """End the job; ``False`` when somebody else has it. ``None`` leaves the result as it was last."""
    given = {
        **job.key(),
        "status": "cancelled" if job.status == "cancelling" else status,
        "result": None if result is None else encode_json(result).decode(),
        "error_code": error_code,
        "message": message,
    }
    ended = await connection.scalar(_END, given) is not None
    if ended:
        # What is left of very many is purged.
        await connection.execute(_DROP_KEYS, {"job_id": job.job_id, "most": _KEYS_AT_ONCE})
    return ended


async def fail(
    connection: AsyncConnection, job: ReadJob, error_code: str, *, message: str | None = None
) -> bool:
    """End the job as failed; ``message`` says what happened, in words that are not those of the code."""
    return await finish(connection, job, status="error", error_code=error_code, message=message)


class ReadJobRunner:
    """Gives each job that is due to the handler of its type. Safe to run by any number of workers."""

    def __init__(self, database: Database, handlers: Mapping[str, ReadJobHandler]) -> None:
        self._database = database
        self._handlers = handlers

    def works_off(self, kind: str) -> bool:
        """Whether there is a handler for jobs of the type."""
        return kind in self._handlers

    async def run_next(self) -> bool:
        """Move the job on that waits the longest, by one page; ``False`` when none is due."""
        async with self._database.platform() as connection:
            row = (await connection.execute(_LEASE)).one_or_none()
        if row is None:
            return False
        job = ReadJob(*row)
        handler = self._handlers.get(job.type)
        if job.status == "cancelling":
            await retry_transaction(lambda: self._call_off(job))
        elif handler is None:
            await retry_transaction(lambda: self._fail(job))
        else:
            await self._step(handler, job)
        return True

    async def _step(self, handler: ReadJobHandler, job: ReadJob) -> None:
        try:
            await handler.step(job)
        except Exception as error:
            if is_outage(error) or is_contention(error):
                raise
            # It would fail again with the next lease, and for ever.
            _logger.exception(
                "A job that reads Meta failed.", job_id=job.job_id, store_id=job.store_id, type=job.type
            )
            await retry_transaction(lambda: self._fail(job))
            return
        await failpoint("read_job.after_page")

    async def _call_off(self, job: ReadJob) -> None:
        async with self._database.platform() as connection:
            await finish(connection, job)

    async def _fail(self, job: ReadJob) -> None:
        async with self._database.platform() as connection:
            await fail(connection, job, "reading_stopped")
