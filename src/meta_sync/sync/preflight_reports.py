"""Pre-flight reports for people: asked for, listed, read, and approved. Who makes them is ``preflight``."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.repository import active_link
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.errors import ConflictError, ErrorDetail, NotFoundError
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.stores.audit import AuditAction, AuditTarget, record_action
from meta_sync.stores.repository import load_settings, lock_store
from meta_sync.sync.first_run import PREFLIGHT, approve_first_run
from meta_sync.sync.job_statements import RUNNING
from meta_sync.sync.read_jobs import insert_read_job

__all__ = ["Approval", "PreflightReport", "PreflightService"]

_MOST_LISTED = 50
_COUNT = text("SELECT count(*) FROM variants WHERE store_id = :store_id AND deleted_at IS NULL")
_COLUMNS = """
    SELECT j.job_id, j.status, j.stage, j.message, j.error_code, j.requested_by, j.created_at, j.started_at, j.finished_at,
        j.looked_at, j.total, COALESCE(j.result, '{}'::jsonb) AS result, l.catalog_id, l.catalog_name,
        COALESCE(l.active, false) AND l.first_run_approved_at IS NULL AND j.created_at >= l.selected_at AS waits,
        CASE WHEN j.created_at >= l.selected_at THEN l.first_run_approved_at END,
        CASE WHEN j.created_at >= l.selected_at THEN l.first_run_approved_by END
    FROM jobs AS j LEFT JOIN catalog_links AS l ON l.link_id = j.link_id
    WHERE j.store_id = :store_id AND j.type = 'preflight'
"""
_ONE = text(f"{_COLUMNS} AND j.job_id = :job_id").columns(result=JSONB)
_LIST = text(f"{_COLUMNS} ORDER BY j.created_at DESC, j.job_id DESC LIMIT {_MOST_LISTED}").columns(
    result=JSONB
)


@dataclass(frozen=True, slots=True)
class PreflightReport:
    """A report, or one that is being made.

    Attributes
    ----------
    result
        What was found so far, as the job keeps it; whole when ``status`` is ``success``.
    waits_for_approval
        Whether the first run into the catalog waits for somebody to approve such a report.
    approved_at, approved_by
        When the first run was approved, and who did; nobody for a catalog that was empty.
    """

    job_id: str
    status: str
    stage: str
    message: str | None
    error_code: str | None
    requested_by: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    looked_at: int
    total: int
    result: dict[str, Any]
    catalog_id: str | None
    catalog_name: str | None
    waits_for_approval: bool
    approved_at: datetime | None
    approved_by: str | None


@dataclass(frozen=True, slots=True)
class Approval:
    """The first run's approval; ``was_new``: it had not been given before."""

    job_id: str
    catalog_id: str
    approved_at: datetime
    approved_by: str | None
    was_new: bool


class PreflightService:
    """Asks for reports, shows them, and lets a first run begin."""

    def __init__(self, database: Database, queue: JobQueue) -> None:
        self._database = database
        self._queue = queue

    async def start(self, store_id: str, *, probe_images: bool, actor: str | None) -> str:
        """Start making a report; the id of its job. Without a catalog the report is about the store's items only.

        Raises
        ------
        ConflictError
            The store has no currency yet, or a report is being made; then the details hold its id as ``jobId``.
        """

        async def work() -> str:
            async with self._database.store(store_id) as connection:
                settings, _ = await load_settings(connection, store_id)
                if settings.currency is None:
                    raise ConflictError(
                        "The store has no currency yet, without which no item can be judged. Set it in the settings."
                    )
                link = await active_link(connection, store_id)
                total = int(await connection.scalar(_COUNT, {"store_id": store_id}) or 0)
                job_id = await insert_read_job(
                    connection,
                    store_id,
                    None if link is None else link.link_id,
                    PREFLIGHT,
                    requested_by=actor,
                    result={"options": {"probeImages": probe_images}},
                    total=total,
                )
                if actor is not None:
                    await record_action(
                        connection,
                        store_id,
                        actor=actor,
                        action=AuditAction.JOB_STARTED,
                        target_type=AuditTarget.JOB,
                        target_id=job_id,
                        after={"type": PREFLIGHT, "probeImages": probe_images},
                    )
                return job_id

        try:
            job_id = await retry_transaction(work)
        except IntegrityError:
            raise await self._is_running(store_id) from None
        await self._queue.wake(JobName.JOBS)
        return job_id

    async def _is_running(self, store_id: str) -> ConflictError:
        async with self._database.store(store_id) as connection:
            running = await connection.scalar(RUNNING, {"store_id": store_id, "type": PREFLIGHT})
        if running is None:
            return ConflictError("A report has just ended. Read it, or start another one.")
        return ConflictError(
            f"A report is being made already: {running}. Wait for it, or cancel it.",
            details=[ErrorDetail("jobId", running)],
        )

    async def list(self, store_id: str) -> builtins.list[PreflightReport]:
        """The store's newest reports, newest first."""
        async with self._database.store(store_id) as connection:
            rows = await connection.execute(_LIST, {"store_id": store_id})
            return [_report(row) for row in rows]

    async def get(self, store_id: str, job_id: str) -> PreflightReport:
        """One report.

        Raises
        ------
        NotFoundError
            The store has no such report.
        """
        async with self._database.store(store_id) as connection:
            return await _read(connection, store_id, job_id)

    async def approve(self, store_id: str, job_id: str, *, actor: str) -> Approval:
        """Let the store send into its catalog. Where that was approved before, nothing changes.

        Raises
        ------
        NotFoundError
            The store has no such report.
        ConflictError
            It has not ended well, is about a catalog that the store does not use, or there is a newer one.
        """

        async def work() -> Approval:
            async with self._database.store(store_id) as connection:
                await lock_store(connection, store_id)
                report = await _read(connection, store_id, job_id)
                link = await active_link(connection, store_id)
                if link is None:
                    raise ConflictError("No Meta catalog is selected, so there is nothing to approve.")
                if report.status != "success" and link.first_run_approved_at is None:
                    raise ConflictError(
                        f"The report is not ready: {report.status}. Wait for it, or start another one."
                    )
                was_new = await approve_first_run(connection, link, job_id, actor=actor)
                approved = await active_link(connection, store_id)
                assert approved is not None
                assert approved.first_run_approved_at is not None
                if was_new:
                    await record_action(
                        connection,
                        store_id,
                        actor=actor,
                        action=AuditAction.FIRST_RUN_APPROVED,
                        target_type=AuditTarget.CATALOG,
                        target_id=link.catalog_id,
                        after={"report": job_id},
                    )
                report = await _read(connection, store_id, job_id)
                return Approval(
                    job_id, link.catalog_id, approved.first_run_approved_at, report.approved_by, was_new
                )

        approval = await retry_transaction(work)
        await self._queue.wake(JobName.DRAIN)
        return approval


async def _read(connection: AsyncConnection, store_id: str, job_id: str) -> PreflightReport:
    row = (await connection.execute(_ONE, {"store_id": store_id, "job_id": job_id})).one_or_none()
    if row is None:
        raise NotFoundError("No such report.")
    return _report(row)


def _report(row: Row[Any]) -> PreflightReport:
    values: list[Any] = list(row)
    return PreflightReport(*values)
