"""Takes everything off Meta that a store's link has sent, as before a disconnect.

From the start of the removal on nothing is sent into the catalog any more, but for deletes: each under the id that its
item was sent under. What was adopted and never sent is not ours, and stays. It ends when the store, once
disconnected, comes back to the catalog; no item is excluded by it, so that everything can be sent anew then.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from meta_sync.connection.repository import active_link
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, ErrorDetail
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.stores.audit import AuditAction, AuditTarget, record_action
from meta_sync.sync.guard_statements import DISSOLVE_OPEN
from meta_sync.sync.job_audit import record_start
from meta_sync.sync.job_models import JobOrder, OrderedJob, StartedJob
from meta_sync.sync.job_statements import RUNNING
from meta_sync.sync.jobs import insert_job
from meta_sync.sync.removal_end import end_removal

__all__ = ["REMOVAL", "RemovalService"]

REMOVAL = "removal"
"""The type of the job; a bulk removal of chosen items has the same."""

_BEGIN = text(
    "UPDATE catalog_links SET removal_job_id = :job_id WHERE link_id = :link_id AND store_id = :store_id"
)


class RemovalService:
    """Begins and ends removals of everything."""

    def __init__(self, database: Database, queue: JobQueue) -> None:
        self._database = database
        self._queue = queue

    async def start(self, store_id: str, *, actor: str) -> StartedJob:
        """Have everything deleted at Meta that this link has sent. The job ends when Meta has confirmed it.

        Cancelling the job lets items be sent again.

        Raises
        ------
        ConflictError
            No Meta catalog is selected, or a removal is running; then the details hold its id as ``jobId``.
        """
        order = JobOrder(
            REMOVAL, description="Everything that was sent is removed from Meta.", requested_by=actor
        )
        try:
            async with self._database.store(store_id) as connection:
                link = await active_link(connection, store_id)
                if link is None:
                    raise ConflictError("No Meta catalog is selected yet.", code="meta_not_connected")
                started = await insert_job(
                    connection, store_id, link.link_id, REMOVAL, requested_by=actor, order=order
                )
                await record_start(connection, store_id, order, OrderedJob(started, []))
                await connection.execute(
                    _BEGIN, {"store_id": store_id, "link_id": link.link_id, "job_id": started.job_id}
                )
                # Whatever they keep back is to go now, and a person has said so.
                await connection.execute(DISSOLVE_OPEN, {"store_id": store_id})
        except IntegrityError:
            async with self._database.store(store_id) as connection:
                running = await connection.scalar(RUNNING, {"store_id": store_id, "type": REMOVAL})
            details = [ErrorDetail("jobId", running)] if running else []
            raise ConflictError(
                "A removal is running already. Wait for it, or cancel it.", details=details
            ) from None
        await self._queue.wake(JobName.JOBS)
        return started

    async def undo(self, store_id: str, *, actor: str) -> bool:
        """Let items be sent again after a removal; whether there was one. A full sync sends them."""
        async with self._database.store(store_id) as connection:
            if not await end_removal(connection, store_id, None):
                return False
            await record_action(
                connection,
                store_id,
                actor=actor,
                action=AuditAction.REMOVAL_UNDONE,
                target_type=AuditTarget.STORE,
                target_id=store_id,
            )
        return True
