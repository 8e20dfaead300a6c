"""Which items a job is about, page by page, and which of them have to be looked at by the drain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import CatalogItem
from meta_sync.core.db import Database
from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.decide import KEPT_CODES, known_presence
from meta_sync.sync.item_filters import ItemSort, narrow
from meta_sync.sync.item_queries import ItemQuery, item_keys
from meta_sync.sync.job_models import JobScope, LeasedJob, ScopeKind
from meta_sync.sync.job_statements import SCOPE
from meta_sync.sync.models import NEW_ITEM, DecisionKind, ItemState, Link, Presence, Status
from meta_sync.sync.reading import read_chosen, read_items

__all__ = ["JobReader", "is_in_scope", "needs_intent"]

_OF_PRODUCTS = text(
    """
    SELECT v.variant_id FROM variants AS v
    WHERE v.store_id = :store_id AND v.product_id = ANY(CAST(:product_ids AS text[]))
      AND (CAST(:after AS text) IS NULL OR v.variant_id > :after)
    ORDER BY v.variant_id LIMIT :most
    """
)


def needs_intent(
    decision: DecisionKind, reason: str | None, state: ItemState, *, is_first_look: bool = False
) -> bool:
    """Whether a re-evaluated item has to be looked at by the drain.

    An item in flight always has: what it carries was mapped by the settings before.
    """
    if state.in_flight is not None or is_first_look:
        return True
    if decision in {DecisionKind.UPSERT, DecisionKind.DELETE}:
        return True
    if decision is DecisionKind.SKIP:
        return state.status is not Status.SKIPPED or state.code != reason
    if decision is DecisionKind.KEEP and reason in KEPT_CODES:
        return state.code != reason
    return decision is DecisionKind.NOOP and state.status is not Status.SYNCED


_WAITING = frozenset({Status.NEVER_SYNCED, Status.PENDING})


def is_in_scope(item: CatalogItem, state: ItemState, link: Link) -> bool:
    """Whether a look at everything is about the item: it lives, or this link has sent it and it may still be at Meta.

    What was absent when the store went to another catalog may be there again since (a restored backup, a person), so
    a tombstone of an older epoch counts too. So does one whose row still says that it waits: its variant went while the
    store used another catalog.
    """
    if not (item.variant_deleted or item.product_deleted):
        return True
    if state is not NEW_ITEM and state.status in _WAITING:
        return True
    return state.retailer_id is not None and known_presence(state, link) is not Presence.ABSENT


class JobReader:
    """Reads the pages of a job."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def chosen(self, job: LeasedJob, *, limit: int) -> list[str] | None:
        """The next ids of a job over less than all, in the order of their bytes; ``None`` for one over all.

        Read with the eyes of the store, as the list of items is, and so before the transaction of the page: who comes
        into the scope behind the cursor meanwhile is none of the job's.
        """
        if not job.is_chosen:
            return None
        async with self._database.store(job.store_id) as connection:
            scope = JobScope.from_stored(await connection.scalar(SCOPE, {"job_id": job.job_id}) or {})
            if scope.kind is ScopeKind.VARIANTS:
                left = [one for one in scope.ids if job.cursor is None or one > job.cursor]
                return left[:limit]
            if scope.kind is ScopeKind.PRODUCTS:
                given = {"store_id": job.store_id, "product_ids": list(scope.ids)}
                rows = await connection.execute(_OF_PRODUCTS, {**given, "after": job.cursor, "most": limit})
                return list(rows.scalars())
            return await _matching(connection, job, scope, limit=limit)

    async def items(
        self, connection: AsyncConnection, job: LeasedJob, keys: Sequence[str] | None, *, limit: int
    ) -> list[tuple[CatalogItem, ItemState]]:
        """The next rows of a job, in the order of their ids."""
        if keys is None:
            return await read_items(connection, job.store_id, job.link_id, after=job.cursor, limit=limit)
        return await read_chosen(connection, job.store_id, job.link_id, keys) if keys else []


async def _matching(connection: AsyncConnection, job: LeasedJob, scope: JobScope, *, limit: int) -> list[str]:
    """The next ids that match a filter, found as the list of items finds them."""
    assert scope.item_filter is not None
    item_filter = replace(scope.item_filter, sort=ItemSort.VARIANT_ID)
    await expect_lookups(connection)
    narrowed = await narrow(connection, job.store_id, item_filter)
    query = ItemQuery(job.store_id, job.link_id, item_filter, narrowed.ids)
    return await item_keys(connection, query, limit=limit, after_id=job.cursor)
