"""The first run into a catalog that had items: it waits until a person has read a pre-flight report and approved it.

The pause is written with the selection and taken away with the approval, and by nothing else but another selection.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.models import ActiveLink
from meta_sync.core.errors import ConflictError, ErrorDetail
from meta_sync.sync.jobs import insert_job
from meta_sync.sync.outbox import mark_due
from meta_sync.sync.pauses import Pause, PauseReason, clear_pause, record_pause

__all__ = ["PREFLIGHT", "approve_first_run", "hold_first_run"]

PREFLIGHT = "preflight"
"""Type of the job that makes the report."""

_OF_THE_STORE = 0
"""The pause's link: what keeps the store from sending, not from asking."""

# Reports of an earlier use of the catalog do not count: what they saw may be long gone.
_NEWEST_REPORT = text(
    """
    SELECT j.job_id FROM jobs AS j JOIN catalog_links AS l ON l.link_id = j.link_id
    WHERE j.store_id = :store_id AND j.link_id = :link_id AND j.type = 'preflight' AND j.status = 'success'
      AND j.created_at >= l.selected_at
    ORDER BY j.finished_at DESC, j.job_id DESC LIMIT 1
    """
)
_APPROVE = text(
    """
    UPDATE catalog_links SET first_run_approved_at = now(), first_run_approved_by = :actor
    WHERE link_id = :link_id AND active AND first_run_approved_at IS NULL
    RETURNING 1
    """
)


async def hold_first_run(connection: AsyncConnection, link: ActiveLink) -> None:
    """Keep the store from sending, and start the look that tells what the first run would do."""
    pause = Pause(PauseReason.HELD, None, "first_run_approval")
    await record_pause(connection, link.store_id, _OF_THE_STORE, pause)
    await insert_job(connection, link.store_id, link.link_id, PREFLIGHT, requested_by=None)


async def approve_first_run(
    connection: AsyncConnection, link: ActiveLink, job_id: str, *, actor: str
) -> bool:
    """Let the store send into its catalog; whether that was news. The store's row must be locked.

    Parameters
    ----------
    job_id
        The report that was read: the newest one about this use of the catalog.

    Raises
    ------
    ConflictError
        The report is another one, has not ended, or no such report was made since the catalog was selected.
    """
    if link.first_run_approved_at is not None:
        return False
    newest = await connection.scalar(_NEWEST_REPORT, {"store_id": link.store_id, "link_id": link.link_id})
    if newest != job_id:
        raise _not_the_newest(newest)
    approved = await connection.scalar(_APPROVE, {"link_id": link.link_id, "actor": actor})
    if approved is None:
        return False
    await clear_pause(connection, link.store_id, _OF_THE_STORE, PauseReason.HELD)
    await mark_due(connection, link.store_id)
    return True


def _not_the_newest(newest: str | None) -> ConflictError:
    if newest is None:
        return ConflictError(
            "No pre-flight report about this catalog is ready. Start one, or wait until it has ended, and read it first."
        )
    return ConflictError(
        f"There is a newer report about this catalog: {newest}. Read that one and approve it.",
        details=[ErrorDetail("jobId", newest)],
    )
