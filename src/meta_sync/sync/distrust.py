"""Taking nothing that Meta confirmed as known any more, for when the database says less, or something else, than Meta holds.

After a restored backup, a fail-over that lost commits, or somebody's edits in Commerce Manager. Every item is sent again
with every field that it does not have sent empty. What Meta holds and the database has no row for is not found here.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.errors import ConflictError, NotFoundError
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.stores.audit import AuditAction, AuditTarget, record_action
from meta_sync.sync.job_models import StartedJob
from meta_sync.sync.job_statements import SEVERAL_JOBS
from meta_sync.sync.jobs import insert_job
from meta_sync.sync.outbox import mark_due

__all__ = ["DistrustService", "distrust_link"]

# Selecting a catalog takes it first, too.
_LOCK_STORE = text("SELECT 1 FROM stores WHERE store_id = :store_id FOR UPDATE")
# What was confirmed under an older epoch counts as unknown. An item that was never sent, as far as the database knows,
# may be there as well, with fields that only the lost rows knew of: the catalog is no longer one that was empty.
_RAISE_EPOCH = text(
    """
    UPDATE catalog_links SET epoch = epoch + 1, was_empty = false WHERE store_id = :store_id AND active
    RETURNING link_id
    """
)
# What Meta refused, it refused as a change of what it held then: a price below a sale price that only the lost rows knew
# of. A person's own word, an exclusion or a discarded change, stays.
_FORGET_REFUSALS = text(
    "UPDATE sync_state SET rejected_hash = NULL WHERE link_id = :link_id AND rejected_hash IS NOT NULL"
)
# One that is under way has passed items by the epoch before.
_CANCEL_BOOTSTRAP = text(
    """
    UPDATE jobs SET status = 'cancelled', finished_at = now(), leased_until = NULL,
        message = 'Begun anew, because what Meta confirmed does not count any more.'
    WHERE store_id = :store_id AND type = 'bootstrap' AND status IN ('queued', 'running', 'cancelling')
    RETURNING job_id
    """
)
_ANY_OTHER_JOB = text(
    """
    SELECT EXISTS (
        SELECT FROM jobs
        WHERE store_id = :store_id AND type <> 'bootstrap' AND status IN ('queued', 'running', 'cancelling')
    )
    """
)
_OF_OWNERS = "store_id = :store_id AND job_id = ANY(CAST(:owners AS text[]))"
# Locked in the order in which writers take them.
_LOCK_INTENTS = text(
    f"SELECT count(*) FROM (SELECT 1 FROM intents WHERE {_OF_OWNERS} ORDER BY variant_id FOR UPDATE) AS locked"
)
# What only jobs want that are over is the new job's now, and goes when it is called off.
_TAKE_OVER = text(f"UPDATE intents SET job_id = :job_id WHERE {_OF_OWNERS}")
_CONNECTED_STORES = text("SELECT store_id FROM catalog_links WHERE active ORDER BY store_id")


async def distrust_link(
    connection: AsyncConnection, store_id: str, *, requested_by: str | None
) -> StartedJob:
    """Raise the epoch of the store's link and start a bootstrap, in the caller's transaction.

    Raises
    ------
    NotFoundError
        There is no such store.
    ConflictError
        No catalog is selected.
    """
    if await connection.scalar(_LOCK_STORE, {"store_id": store_id}) is None:
        raise NotFoundError("There is no such store.")
    link_id: int | None = await connection.scalar(_RAISE_EPOCH, {"store_id": store_id})
    if link_id is None:
        raise ConflictError(
            "No Meta catalog is selected yet, so nothing was confirmed that could be wrong."
            " Connect the store and select a catalog; everything is sent then.",
            code="meta_not_connected",
        )
    # Jobs before items and intents, as a page of a job takes them.
    called_off = (await connection.execute(_CANCEL_BOOTSTRAP, {"store_id": store_id})).scalars().all()
    started = await insert_job(connection, store_id, link_id, "bootstrap", requested_by=requested_by)
    if called_off:
        await _take_over(connection, store_id, started.job_id, called_off)
    await connection.execute(_FORGET_REFUSALS, {"link_id": link_id})
    await mark_due(connection, store_id)
    if requested_by is not None:
        await record_action(
            connection,
            store_id,
            actor=requested_by,
            action=AuditAction.LINK_DISTRUSTED,
            target_type=AuditTarget.STORE,
            target_id=store_id,
            after={"jobId": started.job_id, "items": started.total},
        )
    return started


async def _take_over(
    connection: AsyncConnection, store_id: str, job_id: str, called_off: Sequence[str]
) -> None:
    """Give a job what waits for those that it follows, also beside others that are over."""
    is_shared = await connection.scalar(_ANY_OTHER_JOB, {"store_id": store_id})
    owners = [*called_off] if is_shared else [*called_off, SEVERAL_JOBS]
    given = {"store_id": store_id, "owners": owners}
    await connection.execute(_LOCK_INTENTS, given)
    await connection.execute(_TAKE_OVER, {**given, "job_id": job_id})


class DistrustService:
    """Distrusts stores, each in a transaction of its own. Doing it twice costs a second full push, and nothing else."""

    def __init__(self, database: Database, queue: JobQueue) -> None:
        self._database = database
        self._queue = queue

    async def distrust(self, store_id: str, *, requested_by: str | None) -> StartedJob:
        """Send everything of one store again; errors as ``distrust_link``."""

        async def work() -> StartedJob:
            async with self._database.store(store_id) as connection:
                return await distrust_link(connection, store_id, requested_by=requested_by)

        started = await retry_transaction(work)
        await self._queue.wake(JobName.JOBS)
        return started

    async def connected_stores(self) -> list[str]:
        """The stores that have a catalog selected."""
        async with self._database.platform() as connection:
            return list((await connection.execute(_CONNECTED_STORES)).scalars())
