"""The statements behind the list of items: keyset by index order, ids first and their rows second. Reads only.

The default order (last pushed first, never pushed last) is walked as two lists, one after the other, because no index
holds both: pushed items in the order of ``sync_state_pushed_idx``, then the others in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import Lane
from meta_sync.sync.models import Status

__all__ = [
    "NO_LINK",
    "ItemFilter",
    "ItemSort",
    "Segment",
    "StateCounts",
    "count_items",
    "item_keys",
    "item_rows",
    "search_pattern",
    "state_counts",
]

NO_LINK = -1
"""Stands for the link of a store that has none: no state row carries it."""

_MOST_FOUND = 200_000
"""Bound of one search. Whoever finds more than this has not searched for anything."""


class ItemSort(StrEnum):
    """Orders of the list."""

    LAST_PUSHED_AT = "lastPushedAt"
    VARIANT_ID = "variantId"


class Segment(StrEnum):
    """One stretch of the list that a single index order serves."""

    PUSHED = "p"
    UNPUSHED = "u"
    BY_ID = "v"


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """What the list is narrowed to; every condition holds at once."""

    status: Status | None = None
    search: str | None = None
    eligible_only: bool = False
    product_id: str | None = None
    lane: Lane | None = None
    error_code: str | None = None
    sort: ItemSort = ItemSort.LAST_PUSHED_AT

    @property
    def is_status_only(self) -> bool:
        """Whether the status is the only condition, so that the counters know the total."""
        return self.status is not None and self == ItemFilter(status=self.status, sort=self.sort)

    @property
    def needs_state(self) -> bool:
        """Whether only items with a state row can match."""
        return self.error_code is not None or self.status not in {None, Status.NEVER_SYNCED}


def search_pattern(search: str) -> str:
    """The LIKE pattern that finds the text anywhere; documents are stored in lower case, LIKE characters are text."""
    escaped = search.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _source(item_filter: ItemFilter, segment: Segment) -> str:
    state_join = "JOIN" if item_filter.needs_state or segment is Segment.PUSHED else "LEFT JOIN"
    products = (
        """
        JOIN products AS p ON p.store_id = v.store_id AND p.product_id = v.product_id"""
        if item_filter.eligible_only
        else ""
    )
    return f"""FROM variants AS v
        {state_join} sync_state AS s ON s.link_id = :link_id AND s.variant_id = v.variant_id{products}"""


def _conditions(item_filter: ItemFilter, segment: Segment) -> tuple[list[str], dict[str, Any]]:
    conditions = ["v.store_id = :store_id", "(v.deleted_at IS NULL OR s.variant_id IS NOT NULL)"]
    values: dict[str, Any] = {}
    if segment is Segment.PUSHED:
        conditions.append("s.last_pushed_at IS NOT NULL")
    elif segment is Segment.UNPUSHED:
        conditions.append("s.last_pushed_at IS NULL")
    if item_filter.status is Status.NEVER_SYNCED:
        conditions.append("(s.variant_id IS NULL OR s.status = 'never_synced')")
    elif item_filter.status is not None:
        conditions.append("s.status = :status")
        values["status"] = item_filter.status.value
    if item_filter.search:
        conditions.append(
            "v.variant_id IN (SELECT f.id FROM search_variants(:pattern, :most_found) AS f (id))"
        )
        values.update(pattern=search_pattern(item_filter.search), most_found=_MOST_FOUND)
    if item_filter.eligible_only:
        conditions.append(
            "v.deleted_at IS NULL AND p.deleted_at IS NULL AND p.status = 'active' AND p.visibility = 'public'"
        )
    if item_filter.product_id is not None:
        conditions.append("v.product_id = :product_id")
        values["product_id"] = item_filter.product_id
    if item_filter.lane is not None:
        conditions.append(
            "EXISTS (SELECT FROM intents AS i WHERE i.store_id = v.store_id AND i.variant_id = v.variant_id"
            " AND i.lane = :lane)"
        )
        values["lane"] = int(item_filter.lane)
    if item_filter.error_code is not None:
        conditions.append("s.code = :error_code")
        values["error_code"] = item_filter.error_code
    return conditions, values


async def item_keys(
    connection: AsyncConnection,
    store_id: str,
    link_id: int,
    item_filter: ItemFilter,
    segment: Segment,
    *,
    limit: int,
    offset: int = 0,
    after_id: str | None = None,
    after_at: datetime | None = None,
) -> list[tuple[str, datetime | None]]:
    """Ids of one segment with their last push, in order; after a position, or past an offset."""
    conditions, values = _conditions(item_filter, segment)
    if segment is Segment.PUSHED:
        order = "s.last_pushed_at DESC NULLS LAST, s.variant_id"
        if after_at is not None:
            # The first condition bounds the index scan, the second finds the place among equal times.
            conditions.append("s.last_pushed_at <= CAST(:after_at AS timestamptz)")
            conditions.append(
                "(s.last_pushed_at < CAST(:after_at AS timestamptz) OR s.variant_id > :after_id)"
            )
            values.update(after_at=after_at, after_id=after_id)
    else:
        order = "v.variant_id"
        if after_id is not None:
            conditions.append("v.variant_id > :after_id")
            values["after_id"] = after_id
    statement = f"""
        SELECT v.variant_id, s.last_pushed_at
        {_source(item_filter, segment)}
        WHERE {" AND ".join(conditions)}
        ORDER BY {order} LIMIT :limit OFFSET :offset
    """
    values.update(store_id=store_id, link_id=link_id, limit=limit, offset=offset)
    rows = await connection.execute(text(statement), values)
    return [(variant_id, pushed_at) for variant_id, pushed_at in rows]


async def count_items(
    connection: AsyncConnection,
    store_id: str,
    link_id: int,
    item_filter: ItemFilter,
    segment: Segment,
    *,
    most: int,
) -> int:
    """How many items match, counted no further than ``most``."""
    conditions, values = _conditions(item_filter, segment)
    statement = f"""
        SELECT count(*) FROM (
            SELECT 1 {_source(item_filter, segment)} WHERE {" AND ".join(conditions)} LIMIT :most
        ) AS counted
    """
    values.update(store_id=store_id, link_id=link_id, most=most)
    return int(await connection.scalar(text(statement), values) or 0)


_ITEM_ROWS = text(
    """
    SELECT v.variant_id, v.product_id, p.title, p.slug, p.status, p.visibility, v.sku, v.price,
           COALESCE(NULLIF(v.thumbnail, ''), v.images[1], NULLIF(p.thumbnail, ''), p.images[1]),
           v.deleted_at, s.status, s.presence, s.retailer_id, s.last_handle, s.last_pushed_at, s.error_text,
           s.code, s.attempts, s.confirmed_at, s.retry_at, i.lane
    FROM unnest(CAST(:variant_ids AS text[])) WITH ORDINALITY AS wanted (variant_id, place)
    JOIN variants AS v ON v.store_id = :store_id AND v.variant_id = wanted.variant_id
    LEFT JOIN products AS p ON p.store_id = v.store_id AND p.product_id = v.product_id
    LEFT JOIN sync_state AS s ON s.link_id = :link_id AND s.variant_id = v.variant_id
    LEFT JOIN intents AS i ON i.store_id = v.store_id AND i.variant_id = v.variant_id
    ORDER BY wanted.place
    """
)


async def item_rows(
    connection: AsyncConnection, store_id: str, link_id: int, variant_ids: Sequence[str]
) -> list[Any]:
    """The rows of the given items, in the given order, in one statement."""
    found = await connection.execute(
        _ITEM_ROWS, {"store_id": store_id, "link_id": link_id, "variant_ids": list(variant_ids)}
    )
    return list(found)


@dataclass(frozen=True, slots=True)
class StateCounts:
    """How many items of a store are in which state. Exact, and from one snapshot."""

    by_status: dict[Status, int]
    """Of the active link. ``never_synced`` includes live variants without a state row."""
    total: int
    """Live variants, and tombstones with a state row: the rows of the unfiltered list."""
    intents: int
    variants: int
    """Live variants."""
    products: int
    """Live products."""


# Counters are exact only together with the deltas not yet folded into them; one statement, so that a fold cannot come
# between. Tombstones with a state row are the difference between state rows and live variants with one.
_STATE_COUNTS = text(
    """
    SELECT name, link_id, sum(value)::bigint FROM (
        SELECT name, link_id, value FROM counters WHERE store_id = :store_id AND link_id IN (0, :link_id)
        UNION ALL
        SELECT name, link_id, delta FROM counter_deltas WHERE store_id = :store_id AND link_id IN (0, :link_id)
        UNION ALL
        SELECT 'tombstones', 0, count(*) FROM variants AS v
        JOIN sync_state AS s ON s.link_id = :link_id AND s.variant_id = v.variant_id
        WHERE v.store_id = :store_id AND v.deleted_at IS NOT NULL
    ) AS counted
    GROUP BY name, link_id
    """
)


async def state_counts(connection: AsyncConnection, store_id: str, link_id: int) -> StateCounts:
    """Count the store's items by state from the exact counters."""
    rows = await connection.execute(_STATE_COUNTS, {"store_id": store_id, "link_id": link_id})
    counted = {(name, link): value for name, link, value in rows}
    by_status = {status: int(counted.get((status.value, link_id), 0)) for status in Status}
    tombstones = int(counted.get(("tombstones", 0), 0))
    live = int(counted.get(("variants", 0), 0))
    rows_of_live = sum(by_status.values()) - tombstones
    by_status[Status.NEVER_SYNCED] += max(0, live - rows_of_live)
    return StateCounts(
        by_status,
        total=live + tombstones,
        intents=int(counted.get(("intents", 0), 0)),
        variants=live,
        products=int(counted.get(("products", 0), 0)),
    )
