"""The read side of items: lists, one item in full with what the next drain would send, and a product's sync in short.

Writes nothing and decides nothing: what it shows of the future comes from the functions that the drain uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from meta_sync.catalog.models import Lane
from meta_sync.connection.repository import active_link
from meta_sync.core.clock import Clock
from meta_sync.core.db import Database
from meta_sync.core.paging import CursorCodec, require_page_within_reach
from meta_sync.stores.repository import load_settings
from meta_sync.sync.context import mapping_settings
from meta_sync.sync.guard import HeldBy
from meta_sync.sync.item_detail import ItemDetail, describe, read_record
from meta_sync.sync.item_filters import ItemFilter, ItemSort
from meta_sync.sync.item_pages import ItemReader, Total
from meta_sync.sync.item_queries import NO_LINK, Key, Position, Segment, item_rows
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
    held_by: HeldBy | None = None
    """The hold that keeps what waits back."""


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

        A cursor rules over ``page`` and is valid for the same store, filter and order only. A total that had to be
        counted by walking is that of the page where the cursors began.

        Raises
        ------
        ValidationFailedError
            The page lies beyond what pages reach, or the cursor is not one of this list.
        """
        scope = f"items\n{store_id}\n{astuple(item_filter)!r}"
        after, known = _unpacked(self._cursors.decode(scope, cursor)) if cursor is not None else (None, None)
        if after is None:
            require_page_within_reach(page, limit)
        offset = (page - 1) * limit if after is None else 0
        async with self._database.store(store_id) as connection:
            link = await active_link(connection, store_id)
            link_id = link.link_id if link is not None else NO_LINK
            reader = ItemReader(connection, store_id, link_id, item_filter)
            found = await reader.read(limit + 1, offset, after, known)
            rows = await item_rows(
                connection, store_id, link_id, [variant_id for variant_id, _ in found.keys[:limit]]
            )
        next_cursor = None
        if len(found.keys) > limit:
            packed = _packed(
                found.keys[limit - 1], item_filter.sort, found.total if found.is_walked else None
            )
            next_cursor = self._cursors.encode(scope, packed)
        return ItemPage([_summary(row) for row in rows], found.total.count, found.total.is_exact, next_cursor)

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
        return describe(record, mapping, self._clock(), delete_grace_days=settings.delete_grace_days)

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


def _packed(key: Key, sort: ItemSort, total: Total | None) -> list[Any]:
    """A place in the list, with the total where it took a walk: the pages behind it need not count again."""
    variant_id, pushed_at = key
    counted = [] if total is None else [total.count, total.is_exact]
    if sort is ItemSort.VARIANT_ID:
        return [Segment.BY_ID.value, variant_id, None, *counted]
    if pushed_at is None:
        return [Segment.UNPUSHED.value, variant_id, None, *counted]
    return [Segment.PUSHED.value, variant_id, pushed_at.isoformat(), *counted]


def _unpacked(packed: list[Any]) -> tuple[Position, Total | None]:
    """The place that a cursor of ours holds, and the total; its signature says that it is well formed."""
    segment, after_id, after_at, *counted = packed
    at = datetime.fromisoformat(after_at) if after_at else None
    return Position(Segment(segment), after_id, at), Total(*counted) if counted else None


def _summary(row: Any) -> ItemSummary:
    *values, hold_id, hold_kind = row
    values[10] = Status(values[10] or Status.NEVER_SYNCED)
    values[11] = Presence(values[11] or Presence.ABSENT)
    values[17] = values[17] or 0
    values[20] = None if values[20] is None else Lane(values[20])
    values.append(HeldBy.of(hold_id, hold_kind))
    return ItemSummary(*values)
