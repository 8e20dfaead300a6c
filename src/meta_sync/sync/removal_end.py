"""Ends the removal of everything that a link has sent: items may go out again. Starts nothing."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["end_removal"]

_END = text(
    """
    UPDATE catalog_links SET removal_job_id = NULL
    WHERE store_id = :store_id AND removal_job_id IS NOT NULL
      AND (CAST(:job_id AS text) IS NULL OR removal_job_id = CAST(:job_id AS text))
    """
)


async def end_removal(connection: AsyncConnection, store_id: str, job_id: str | None) -> bool:
    """Let items be sent again that a removal kept away: that of one job, or any; whether there was one.

    What is deleted by then stays so until somebody starts a full sync.
    """
    return (await connection.execute(_END, {"store_id": store_id, "job_id": job_id})).rowcount > 0
