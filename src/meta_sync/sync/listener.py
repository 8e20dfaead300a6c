"""What a change of settings, of the catalog or of the mapper means for the pipeline, in the transaction that makes it."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.models import ActiveLink
from meta_sync.connection.repository import active_link
from meta_sync.sync.first_run import hold_first_run
from meta_sync.sync.guard_statements import DISSOLVE_OPEN
from meta_sync.sync.job_statements import DROP_PAGES, THE_CLOCK
from meta_sync.sync.jobs import insert_job
from meta_sync.sync.mapping import MAPPER_VERSION
from meta_sync.sync.outbox import mark_due
from meta_sync.sync.pauses import end_access_pauses
from meta_sync.sync.splits import end_splits_of_store

__all__ = ["PipelineListener", "follow_mapper_version"]

# A raised epoch restarts the running re-evaluation at its first row, also one that was called off before.
_RESTART = text(
    """
    UPDATE jobs SET cursor = NULL, looked_at = 0, enqueued = 0, unchanged = 0, submitted = 0, synced = 0, failed = 0,
        skipped = 0, undecided = 0, stage = 'waiting', rate_mark = NULL,
        status = CASE status WHEN 'cancelling' THEN 'queued' ELSE status END,
        leased_until = CASE status WHEN 'cancelling' THEN NULL ELSE leased_until END,
        mapping_epoch = (SELECT mapping_epoch FROM stores WHERE store_id = :store_id)
    WHERE store_id = :store_id AND type = 'reevaluation' AND status IN ('queued', 'running', 'cancelling')
    RETURNING job_id
    """
)
_ALL_STATES = text(
    """
    INSERT INTO sync_state (link_id, variant_id, store_id, status)
    SELECT :link_id, v.variant_id, v.store_id, 'never_synced' FROM variants AS v
    WHERE v.store_id = :store_id AND v.deleted_at IS NULL ORDER BY v.variant_id
    ON CONFLICT (link_id, variant_id) DO NOTHING
    """
)
# What is held, or was released, is so for the catalog before.
_END_HOLDS = text(
    """
    UPDATE holds SET state = CASE WHEN state IN ('counting', 'held') THEN 'dissolved' ELSE state END,
        finished_at = now(), leased_until = NULL, cursor = NULL
    WHERE store_id = :store_id AND finished_at IS NULL
    """
)
_TO_FREE = f"""store_id = :store_id AND (parked_by IS NOT NULL OR job_id <> '{THE_CLOCK}' OR held_by IS NOT NULL
        OR released_kinds <> 0)"""
# Locked in the order in which writers take them.
_LOCK_INTENTS = text(
    f"SELECT count(*) FROM (SELECT 1 FROM intents WHERE {_TO_FREE} ORDER BY variant_id FOR UPDATE) AS locked"
)
# Those of the old catalog's jobs are the new job's now: nobody else wants them, so they go when it is called off.
_FREE_INTENTS = text(
    f"""
    UPDATE intents SET parked_by = NULL, held_by = NULL, released_kinds = 0,
        job_id = CASE WHEN job_id <> '{THE_CLOCK}' THEN :job_id ELSE job_id END
    WHERE {_TO_FREE}
    """
)
_CANCEL_OLD_JOBS = text(
    """
    UPDATE jobs SET status = 'cancelled', finished_at = now(), leased_until = NULL, error_code = 'catalog_changed'
    WHERE store_id = :store_id AND status IN ('queued', 'running', 'cancelling')
    """
)
_CLEAR_PAUSES = text("DELETE FROM store_pauses WHERE store_id = :store_id AND link_id IN (0, :link_id)")

_STORES_AT_ONCE = 100
_RAISE = text(
    f"""
    UPDATE stores SET mapper_version = :mapper_version, mapping_epoch = mapping_epoch + 1
    WHERE store_id IN (
        SELECT store_id FROM stores WHERE mapper_version < :mapper_version
        ORDER BY store_id LIMIT {_STORES_AT_ONCE} FOR UPDATE SKIP LOCKED
    )
    RETURNING store_id
    """
)
# A store whose row a claim holds just now is skipped, and must not wait for the next time in half a minute.
_ANY_OLDER = text("SELECT EXISTS (SELECT FROM stores WHERE mapper_version < :mapper_version)")


class PipelineListener:
    """Implements the listeners of stores and of connection."""

    async def settings_changed(
        self, connection: AsyncConnection, store_id: str, *, mapping_changed: bool, access_changed: bool
    ) -> None:
        """Look at the store again; where payloads depend on the change, at every item."""
        if mapping_changed:
            link = await active_link(connection, store_id)
            if link is not None:
                # What was held for a setting that is put right by now would never be looked at again.
                await connection.execute(DISSOLVE_OPEN, {"store_id": store_id})
                await self._look_at_everything(connection, store_id, link.link_id)
        if access_changed:
            await end_access_pauses(connection, store_id)
        await mark_due(connection, store_id)

    async def _look_at_everything(self, connection: AsyncConnection, store_id: str, link_id: int) -> None:
        restarted = await connection.scalar(_RESTART, {"store_id": store_id})
        if restarted is None:
            await insert_job(connection, store_id, link_id, "reevaluation", requested_by=None)
        else:
            await connection.execute(DROP_PAGES, {"job_id": restarted})

    async def link_selected(
        self, connection: AsyncConnection, link: ActiveLink, *, returning: bool
    ) -> str | None:
        """Begin with a catalog: give every variant a state row, free what waited for the old one, start a bootstrap.

        Where the catalog had items and nobody has approved the first run into it, nothing is sent until somebody does.
        """
        del returning  # the link's epoch was raised by whoever selected it
        identity = {"store_id": link.store_id, "link_id": link.link_id}
        await connection.execute(_ALL_STATES, identity)
        # Jobs before items and intents, as a page of a job takes them.
        await connection.execute(_CANCEL_OLD_JOBS, identity)
        started = await insert_job(connection, link.store_id, link.link_id, "bootstrap", requested_by=None)
        await end_splits_of_store(connection, link.store_id)
        await connection.execute(_END_HOLDS, identity)
        await connection.execute(_LOCK_INTENTS, identity)
        await connection.execute(_FREE_INTENTS, {**identity, "job_id": started.job_id})
        await connection.execute(_CLEAR_PAUSES, identity)
        if link.first_run_approved_at is None:
            await hold_first_run(connection, link)
        await mark_due(connection, link.store_id)
        return started.job_id


async def follow_mapper_version(connection: AsyncConnection) -> bool:
    """Re-evaluate stores whose payloads an older mapper made; whether there are more of them.

    A worker with an older mapper leaves such a store alone from then on (see ``context``), so that two versions side by
    side do not send each other's items again and again.
    """
    rows = await connection.execute(_RAISE, {"mapper_version": MAPPER_VERSION})
    raised = list(rows.scalars())
    listener = PipelineListener()
    for store_id in raised:
        await listener.settings_changed(connection, store_id, mapping_changed=True, access_changed=False)
    return bool(await connection.scalar(_ANY_OLDER, {"mapper_version": MAPPER_VERSION}))
