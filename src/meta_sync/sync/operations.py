"""What an operator does to a single item. Each is one transaction that ends in an intent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import Lane
from meta_sync.connection.repository import active_link
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.errors import ConflictError, NotFoundError
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.stores.audit import AuditAction, AuditTarget, record_action
from meta_sync.sync.mapping_fields import MANAGED_FIELDS
from meta_sync.sync.outbox import mark_due, write_intents
from meta_sync.sync.states import Event, status_case

__all__ = ["OperationsService"]

_EXISTS = text("SELECT 1 FROM variants WHERE store_id = :store_id AND variant_id = :variant_id")
# A settle takes the rows of its items before their intents: an item in flight is locked in that order here too. Any
# other one is taken by a claim, intent first.
_LOCK_IN_FLIGHT = text(
    """
    SELECT 1 FROM sync_state
    WHERE link_id = :link_id AND variant_id = :variant_id AND in_flight IS NOT NULL FOR UPDATE
    """
)
_NEW_STATE = text(
    """
    INSERT INTO sync_state (link_id, variant_id, store_id, status)
    VALUES (:link_id, :variant_id, :store_id, 'pending') ON CONFLICT (link_id, variant_id) DO NOTHING
    """
)
# What Meta holds is no longer taken as known: the item may hold every field we manage, and a batch under way does not
# confirm it.
_FORGET = text(
    f"""
    UPDATE sync_state SET
        confirmed_hash = NULL, rejected_hash = NULL, discarded_hash = NULL, batch_limit = NULL, retry_at = NULL,
        presence = 'maybe', may_hold = CAST(:managed AS text[]), disturbed_at = clock_timestamp(),
        excluded_at = NULL, image_version = image_version + :image_steps,
        status = {status_case(Event.DISTURBED)}, updated_at = now()
    WHERE link_id = :link_id AND variant_id = :variant_id
    """
)
_LOOK_AGAIN = text(
    f"""
    UPDATE sync_state SET rejected_hash = NULL, excluded_at = NULL, image_version = image_version + :image_steps,
        status = {status_case(Event.INTENDED)}, updated_at = now()
    WHERE link_id = :link_id AND variant_id = :variant_id
    """
)
# A batch under way does not confirm the item, and what was refused or discarded before does not keep it at Meta. Where
# it is not at Meta it stays so: then there is nothing to delete.
_EXCLUDE = text(
    f"""
    UPDATE sync_state SET
        excluded_at = COALESCE(excluded_at, clock_timestamp()), disturbed_at = clock_timestamp(),
        confirmed_hash = NULL, rejected_hash = NULL, discarded_hash = NULL, retry_at = NULL,
        presence = CASE presence WHEN 'present' THEN 'maybe' ELSE presence END,
        status = {status_case(Event.EXCLUDED)}, updated_at = now()
    WHERE link_id = :link_id AND variant_id = :variant_id
    """
)
_EXCLUDED_EVENT = text(
    """
    INSERT INTO item_events (store_id, link_id, variant_id, kind, code, actor)
    VALUES (:store_id, :link_id, :variant_id, 'excluded', 'excluded_by_operator', :actor)
    """
)
_EVENT = text(
    """
    INSERT INTO item_events (store_id, link_id, variant_id, kind, actor)
    VALUES (:store_id, :link_id, :variant_id, 'resync', :actor)
    """
)


class OperationsService:
    """Operator actions on items."""

    def __init__(self, database: Database, queue: JobQueue) -> None:
        self._database = database
        self._queue = queue

    async def resync(
        self, store_id: str, variant_id: str, *, force: bool, refresh_images: bool, actor: str
    ) -> None:
        """Look at one item again; with ``force`` it is sent even where Meta has confirmed the same payload.

        ``refresh_images`` adds a version to the image addresses, because Meta does not fetch an unchanged one again.
        Also ends an exclusion: the item was asked for by name.

        Raises
        ------
        NotFoundError
            The catalog has no such variant.
        ConflictError
            No Meta catalog is selected.
        """

        async def change(connection: AsyncConnection, row: dict[str, Any]) -> None:
            row |= {"image_steps": int(refresh_images), "managed": sorted(MANAGED_FIELDS), "actor": actor}
            await connection.execute(_FORGET if force else _LOOK_AGAIN, row)
            await connection.execute(_EVENT, row)
            asked = {"force": force, "refreshImages": refresh_images}
            await record_action(
                connection,
                store_id,
                actor=actor,
                action=AuditAction.ITEM_RESYNCED,
                target_type=AuditTarget.ITEM,
                target_id=variant_id,
                after=asked,
            )

        await self._change(store_id, variant_id, change)

    async def exclude(self, store_id: str, variant_id: str, *, actor: str) -> None:
        """Take one item off Meta and keep it off, until somebody resyncs it by name.

        What was sent is deleted under the id it was sent under; a batch that is under way with the item is waited for.

        Raises
        ------
        NotFoundError
            The catalog has no such variant.
        ConflictError
            No Meta catalog is selected.
        """

        async def change(connection: AsyncConnection, row: dict[str, Any]) -> None:
            await connection.execute(_EXCLUDE, row)
            await connection.execute(_EXCLUDED_EVENT, {**row, "actor": actor})
            await record_action(
                connection,
                store_id,
                actor=actor,
                action=AuditAction.ITEM_EXCLUDED,
                target_type=AuditTarget.ITEM,
                target_id=variant_id,
            )

        await self._change(store_id, variant_id, change)

    async def _change(
        self,
        store_id: str,
        variant_id: str,
        change: Callable[[AsyncConnection, dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Change one item's state with the intent that follows from it, in one transaction, and wake a worker."""

        async def work() -> None:
            async with self._database.store(store_id) as connection:
                identity = {"store_id": store_id, "variant_id": variant_id}
                if await connection.scalar(_EXISTS, identity) is None:
                    raise NotFoundError("The catalog has no such variant.")
                link = await active_link(connection, store_id)
                if link is None:
                    raise ConflictError("No Meta catalog is selected yet.", code="meta_not_connected")
                row = {**identity, "link_id": link.link_id}
                await connection.execute(_LOCK_IN_FLIGHT, row)
                await write_intents(connection, store_id, [variant_id], [Lane.LIVE])
                await connection.execute(_NEW_STATE, row)
                await change(connection, row)
                await mark_due(connection, store_id)

        await retry_transaction(work)
        await self._queue.wake(JobName.DRAIN)
