"""The read side of items: lists, one item in full with what the next drain would send, and a product's sync in short.

Writes nothing and decides nothing: what it shows of the future comes from the functions that the drain uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import Lane
from meta_sync.connection.repository import active_link
from meta_sync.core.clock import Clock
from meta_sync.core.db import Database
from meta_sync.core.paging import MAX_PAGE_ROWS, CursorCodec, require_page_within_reach
from meta_sync.stores.repository import load_settings
from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.context import mapping_settings
from meta_sync.sync.item_detail import ItemDetail, describe, read_record
from meta_sync.sync.item_filters import ItemFilter, ItemSort, Narrowed, narrow
from meta_sync.sync.item_queries import (
    NO_LINK,
    ItemQuery,
    Key,
    Position,
    Segment,
    count_items,
    counted_keys,
    item_keys,
    item_rows,
    live_variants,
    named_items,
    state_counts,
    status_count,
)
from meta_sync.sync.models import Presence, Status

__all__ = ["ItemPage", "ItemSummary", "ItemsService", "ProductSync"]

_WORST_FIRST = (
    Status.FAILED,
    Status.SKIPPED,
    Status.PENDING,
    Status.SUBMITTED,
    Status.NEVER_SYNCED,
    Status.DELETED,
    Status.SYNCED,
)
"""What a merchant should look at first."""


@dataclass(frozen=True, slots=True)
class ItemSummary:
    """One row of the list. The order of the fields is that of the columns of ``item_rows``."""

    variant_id: str
    product_id: str
    product_title: str | None
    product_slug: str | None
    product_status: str | None
    product_visibility: str | None
    sku: str | None
    price: int | None
    thumbnail: str | None
    deleted_at: datetime | None
    sync_status: Status
    presence: Presence
    meta_retailer_id: str | None
    last_handle: str | None
    last_pushed_at: datetime | None
    last_error: str | None
    error_code: str | None
    attempts: int
    confirmed_at: datetime | None
    retry_at: datetime | None
    lane: Lane | None
    """Of the intent that waits; ``None``: none waits."""
    updated_at: datetime | None
    """When its record last changed; ``None``: there is none."""


@dataclass(frozen=True, slots=True)
class ItemPage:
    """A page of the list."""

    items: list[ItemSummary]
    total: int
    is_total_exact: bool
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class ProductSync:
    """How a product's variants stand at Meta."""

    counts: dict[Status, int]
    worst_status: Status | None
    last_sync_at: datetime | None


class ItemsService:
    """Answers questions about items.

    Parameters
    ----------
    database
        Where the rows are; read under the store's policies.
    clock
        The present instant, for the end of sales.
    cursors
        Signs cursors.
    """

    def __init__(self, database: Database, clock: Clock, cursors: CursorCodec) -> None:
        self._database = database
        self._clock = clock
        self._cursors = cursors

    async def list(
        self,
        store_id: str,
        item_filter: ItemFilter,
        *,
        page: int = 1,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ItemPage:
        """A page of the store's items: live variants, and deleted ones that have a record at Meta.

        A cursor rules over ``page`` and is valid for the same store, filter and order only.

        Raises
        ------
        ValidationFailedError
            The page lies beyond what pages reach, or the cursor is not one of this list.
        """
        scope = f"items\n{store_id}\n{astuple(item_filter)!r}"
        after = _position(self._cursors.decode(scope, cursor)) if cursor is not None else None
        if after is None:
            require_page_within_reach(page, limit)
        offset = (page - 1) * limit if after is None else 0
        async with self._database.store(store_id) as connection:
            link = await active_link(connection, store_id)
            link_id = link.link_id if link is not None else NO_LINK
            await expect_lookups(connection)
            narrowed = await narrow(connection, store_id, item_filter)
            query = ItemQuery(
                store_id, link_id, item_filter, narrowed.ids, has_small_lane=narrowed.has_small_lane
            )
            if query.ids is not None:
                keys, total = await named_items(
                    connection, query, limit=limit + 1, offset=offset, after=after
                )
                is_exact = True
            elif after is None and _is_counted_by_walking(item_filter, narrowed):
                keys, counted = await _Walk(connection, query).read_and_count(limit + 1, offset)
                total, is_exact = min(counted, MAX_PAGE_ROWS), counted <= MAX_PAGE_ROWS
            else:
                keys = await _Walk(connection, query).read(limit + 1, offset, after)
                total, is_exact = await _total(connection, query, narrowed)
            rows = await item_rows(connection, store_id, link_id, [key for key, _ in keys[:limit]])
        next_cursor = None
        if len(keys) > limit:
            next_cursor = self._cursors.encode(scope, _packed(keys[limit - 1], item_filter.sort))
        return ItemPage([_summary(row) for row in rows], total, is_exact, next_cursor)

    async def detail(self, store_id: str, variant_id: str) -> ItemDetail:
        """Everything about one item.

        Raises
        ------
        NotFoundError
            The store has no such variant, or it was deleted and Meta never knew it.
        """
        async with self._database.store(store_id) as connection:
            settings, _ = await load_settings(connection, store_id)
            link = await active_link(connection, store_id)
            record = await read_record(connection, store_id, link, variant_id)
        mapping = mapping_settings(settings, link.business_name if link is not None else None)
        return describe(record, mapping, self._clock())

    async def product_sync(self, store_id: str, product_ids: Sequence[str]) -> dict[str, ProductSync]:
        """How the variants of the given products stand, in one statement."""
        if not product_ids:
            return {}
        async with self._database.store(store_id) as connection:
            link = await active_link(connection, store_id)
            rows = await connection.execute(
                _PRODUCT_SYNC,
                {
                    "store_id": store_id,
                    "link_id": link.link_id if link is not None else NO_LINK,
                    "product_ids": list(product_ids),
                },
            )
            found = list(rows)
        counts: dict[str, dict[Status, int]] = {product_id: {} for product_id in product_ids}
        latest: dict[str, datetime | None] = {}
        for product_id, status, count, confirmed_at in found:
            counts[product_id][Status(status)] = count
            times = [at for at in (latest.get(product_id), confirmed_at) if at is not None]
            latest[product_id] = max(times, default=None)
        return {
            product_id: ProductSync(
                by_status,
                next((status for status in _WORST_FIRST if status in by_status), None),
                latest.get(product_id),
            )
            for product_id, by_status in counts.items()
        }


_PRODUCT_SYNC = text(
    """
    SELECT v.product_id, COALESCE(s.status, 'never_synced'), count(*), max(s.confirmed_at)
    FROM variants AS v
    LEFT JOIN LATERAL (
        SELECT * FROM sync_state AS s
        WHERE s.link_id = :link_id AND s.variant_id >= v.variant_id AND s.variant_id <= v.variant_id
        ORDER BY s.variant_id LIMIT 1
    ) AS s ON true
    WHERE v.store_id = :store_id AND v.product_id = ANY(CAST(:product_ids AS text[])) AND v.deleted_at IS NULL
    GROUP BY 1, 2
    """
)


@dataclass(slots=True)
class _Walk:
    """Walks the list's segments in order, as far as a page needs them."""

    connection: AsyncConnection
    query: ItemQuery

    async def read(self, limit: int, offset: int, after: Position | None) -> list[Key]:
        if self.query.item_filter.sort is ItemSort.VARIANT_ID:
            if self.query.item_filter.status is Status.NEVER_SYNCED:
                await self._look_for_rows()
            return await self._keys(Segment.BY_ID, limit, offset, after)
        keys: list[Key] = []
        if after is None or after.segment is Segment.PUSHED:
            keys = await self._keys(Segment.PUSHED, limit, offset, after)
            if len(keys) == limit:
                return keys
            # The next segment begins where this one ended, so what this one took of the offset is subtracted.
            taken = offset + len(keys)
            if not keys and offset:
                taken = await count_items(self.connection, self.query, Segment.PUSHED, most=offset)
            offset, after = max(0, offset - taken), None
        await self._look_for_rows()
        return keys + await self._keys(Segment.UNPUSHED, limit - len(keys), offset, after)

    async def read_and_count(self, limit: int, offset: int) -> tuple[list[Key], int]:
        """The keys past an offset, and how many items there are, counted one further than pages reach."""
        most = MAX_PAGE_ROWS + 1
        if self.query.item_filter.sort is ItemSort.VARIANT_ID:
            return await counted_keys(
                self.connection, self.query, Segment.BY_ID, limit=limit, offset=offset, most=most
            )
        keys, pushed = await counted_keys(
            self.connection, self.query, Segment.PUSHED, limit=limit, offset=offset, most=most
        )
        if pushed == most and len(keys) == limit:
            return keys, pushed
        # A page that begins within the reach may end one row beyond it.
        rest, unpushed = await counted_keys(
            self.connection,
            self.query,
            Segment.UNPUSHED,
            limit=limit - len(keys),
            offset=max(0, offset - pushed),
            most=max(most - pushed, limit),
        )
        return keys + rest, pushed + unpushed

    async def _keys(self, segment: Segment, limit: int, offset: int, after: Position | None) -> list[Key]:
        return await item_keys(
            self.connection,
            self.query,
            segment,
            limit=limit,
            offset=offset,
            after_id=after.after_id if after is not None else None,
            after_at=after.after_at if after is not None else None,
        )

    async def _look_for_rows(self) -> None:
        """Whether the state rows are all there is: then the few among many need not be looked for among variants."""
        if self.query.link_id == NO_LINK or self.query.item_filter.needs_state:
            return
        counts = await state_counts(self.connection, self.query.store_id, self.query.link_id)
        self.query = replace(self.query, is_every_row_written=counts.unwritten == 0)


def _packed(key: Key, sort: ItemSort) -> list[Any]:
    variant_id, pushed_at = key
    if sort is ItemSort.VARIANT_ID:
        return [Segment.BY_ID.value, variant_id, None]
    if pushed_at is None:
        return [Segment.UNPUSHED.value, variant_id, None]
    return [Segment.PUSHED.value, variant_id, pushed_at.isoformat()]


def _position(packed: list[Any]) -> Position:
    """The place in the list that a cursor of ours holds; its signature says that it is well formed."""
    segment, after_id, after_at = packed
    return Position(Segment(segment), after_id, datetime.fromisoformat(after_at) if after_at else None)


def _is_counted_by_walking(wanted: ItemFilter, narrowed: Narrowed) -> bool:
    """Whether the total takes a walk, and the page's own order is as good for it as any."""
    if wanted.is_empty or wanted.is_status_only or narrowed.has_many:
        return False
    return wanted.sort is ItemSort.VARIANT_ID or wanted.needs_state


async def _total(connection: AsyncConnection, query: ItemQuery, narrowed: Narrowed) -> tuple[int, bool]:
    wanted = query.item_filter
    if wanted.is_status_only and wanted.status is not None:
        return await status_count(connection, query.store_id, query.link_id, wanted.status), True
    if narrowed.has_many:
        return MAX_PAGE_ROWS, False
    if wanted.is_empty:
        counted = await live_variants(connection, query.store_id)
        if counted <= MAX_PAGE_ROWS:
            counted = (await state_counts(connection, query.store_id, query.link_id)).total
    else:
        counted = await count_items(connection, query, Segment.BY_ID, most=MAX_PAGE_ROWS + 1)
    return min(counted, MAX_PAGE_ROWS), counted <= MAX_PAGE_ROWS


def _summary(row: Any) -> ItemSummary:
    values = list(row)
    values[10] = Status(values[10] or Status.NEVER_SYNCED)
    values[11] = Presence(values[11] or Presence.ABSENT)
    values[17] = values[17] or 0
    values[20] = None if values[20] is None else Lane(values[20])
    return ItemSummary(*values)
