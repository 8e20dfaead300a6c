"""Starts a reconciliation a day for every store that sends, each at a second of the day of its own."""

from __future__ import annotations

from sqlalchemy.exc import IntegrityError

from meta_sync.core.db import Database
from meta_sync.sync.read_jobs import insert_read_job
from meta_sync.sync.reconcile_models import RECONCILIATION
from meta_sync.sync.reconcile_statements import DUE_STORES

__all__ = ["start_due"]

_STORES_AT_ONCE = 20
"""Per look. Two catalogs are read at a time by a worker; the others wait in line."""


async def start_due(database: Database, *, graph_host: str, day_seconds: float) -> int:
    """Start those that are due; how many. A day that was missed is caught up once.

    Parameters
    ----------
    graph_host
        Where this worker's Meta is: catalogs of another are left to workers of theirs.
    day_seconds
        Between two of one store.
    """
    given = {"graph_host": graph_host, "day_seconds": day_seconds, "most": _STORES_AT_ONCE}
    async with database.platform() as connection:
        due = (await connection.execute(DUE_STORES, given)).all()
    started = 0
    for store_id, link_id in due:
        try:
            async with database.platform() as connection:
                await insert_read_job(connection, store_id, link_id, RECONCILIATION, requested_by=None)
        except IntegrityError:
            # Somebody asked for one in this moment.
            continue
        started += 1
    return started
