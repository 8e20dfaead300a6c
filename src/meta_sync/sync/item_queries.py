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
    "ItemQuery",
    "ItemSort",
    "Search",
    "Segment",
    "StateCounts",
    "count_items",
    "item_keys",
    "item_rows",
    "search_pattern",
    "state_counts",
    "status_count",
]

NO_LINK = -1
"""Stands for the link of a store that has none: no state row carries it."""


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


_FOUND = text("SELECT f.id FROM search_variants(:pattern, :most) AS f (id)")
_FEW_FOUND = 5_000
"""Up to here the found ids are looked up one by one; beyond, every two-hundredth row of a million matches."""


class Search:
    """How a search is carried out: by the ids it found when they are few, by looking at each row when they are many.

    Neither way alone is fast for both: the index finds few at once, and among many the walk soon has its page.
    """

    def __init__(self, pattern: str, found: list[str] | None) -> None:
        self._pattern = pattern
        self._found = found

    @classmethod
    async def prepare(cls, connection: AsyncConnection, search: str | None) -> Search | None:
        """Look up the text; ``None`` when there is nothing to look for."""
        if not search:
            return None
        pattern = search_pattern(search)
        rows = await connection.execute(_FOUND, {"pattern": pattern, "most": _FEW_FOUND + 1})
        found = list(rows.scalars())
        return cls(pattern, found if len(found) <= _FEW_FOUND else None)

    def condition(self, variant_id: str, values: dict[str, Any]) -> str:
        """The condition on the column, its values added to those given."""
        if self._found is not None:
            values["found"] = self._found
            return f"{variant_id} = ANY(CAST(:found AS text[]))"
        values["pattern"] = self._pattern
        return (
            "EXISTS (SELECT FROM search_documents AS d WHERE d.store_id = :store_id"
            f" AND d.variant_id = {variant_id} AND d.document LIKE :pattern)"
        )


_OF_VARIANT = (
    "SELECT v.product_id, v.deleted_at FROM variants AS v"
    " WHERE v.store_id = :store_id AND v.variant_id = s.variant_id LIMIT 1"
)
_OF_STATE = (
    "SELECT s.variant_id, s.status, s.code, s.last_pushed_at FROM sync_state AS s"
    " WHERE s.link_id = :link_id AND s.variant_id = v.variant_id LIMIT 1"
)
_OF_PRODUCT = (
    "SELECT FROM products AS p WHERE p.store_id = :store_id AND p.product_id = v.product_id"
    " AND p.deleted_at IS NULL AND p.status = 'active' AND p.visibility = 'public' LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class ItemQuery:
    """One list of one store: what both its pages and its total are read from."""

    store_id: str
    link_id: int
    item_filter: ItemFilter
    search: Search | None

    def source(self, segment: Segment) -> tuple[str, str]:
        """The FROM clause, and the column with the variant's id.

        A list that only state rows can be in is walked along them; every state row has its variant. Whatever else is
        needed is looked up per row by its key: a LIMIT within keeps the planner from joining whole tables in another
        order, which it does badly on tables that have just been filled and have no statistics yet.
        """
        wanted = self.item_filter
        if wanted.product_id is None and (segment is Segment.PUSHED or wanted.needs_state):
            source, variant_id = "sync_state AS s", "s.variant_id"
            if wanted.eligible_only:
                source += f" JOIN LATERAL ({_OF_VARIANT}) AS v ON true"
        else:
            source, variant_id = f"variants AS v LEFT JOIN LATERAL ({_OF_STATE}) AS s ON true", "v.variant_id"
        if wanted.eligible_only:
            source += f" JOIN LATERAL ({_OF_PRODUCT}) AS p ON true"
        return source, variant_id

    def select(self, columns: str, segment: Segment, *more: str) -> tuple[str, dict[str, Any]]:
        """The statement up to its conditions, and the values bound in it. ``{id}`` stands for the variant's id."""
        source, variant_id = self.source(segment)
        values: dict[str, Any] = {"store_id": self.store_id, "link_id": self.link_id}
        conditions = [*self._conditions(segment, source, variant_id, values), *more]
        statement = f"SELECT {columns} FROM {source} WHERE {' AND '.join(conditions)}"
        return statement.replace("{id}", variant_id), values

    def _conditions(
        self, segment: Segment, source: str, variant_id: str, values: dict[str, Any]
    ) -> list[str]:
        wanted = self.item_filter
        if source.startswith("variants"):
            conditions = ["v.store_id = :store_id", "(v.deleted_at IS NULL OR s.variant_id IS NOT NULL)"]
        else:
            conditions = ["s.link_id = :link_id", "s.store_id = :store_id"]
        if segment is not Segment.BY_ID:
            conditions.append(f"s.last_pushed_at IS {'NOT NULL' if segment is Segment.PUSHED else 'NULL'}")
        if wanted.status is Status.NEVER_SYNCED:
            conditions.append("(s.variant_id IS NULL OR s.status = 'never_synced')")
        elif wanted.status is not None:
            conditions.append("s.status = :status")
            values["status"] = wanted.status.value
        if self.search is not None:
            conditions.append(self.search.condition(variant_id, values))
        if wanted.eligible_only:
            conditions.append("v.deleted_at IS NULL")
        if wanted.product_id is not None:
            conditions.append("v.product_id = :product_id")
            values["product_id"] = wanted.product_id
        if wanted.lane is not None:
            conditions.append(
                "EXISTS (SELECT FROM intents AS i WHERE i.store_id = :store_id"
                f" AND i.variant_id = {variant_id} AND i.lane = :lane)"
            )
            values["lane"] = int(wanted.lane)
        if wanted.error_code is not None:
            conditions.append("s.code = :error_code")
            values["error_code"] = wanted.error_code
        return conditions


async def item_keys(
    connection: AsyncConnection,
    query: ItemQuery,
    segment: Segment,
    *,
    limit: int,
    offset: int = 0,
    after_id: str | None = None,
    after_at: datetime | None = None,
) -> list[tuple[str, datetime | None]]:
    """Ids of one segment with their last push, in order; after a position, or past an offset."""
    more: list[str] = []
    position: dict[str, Any] = {}
    order = "{id}"
    if segment is Segment.PUSHED:
        order = "s.last_pushed_at DESC NULLS LAST, {id}"
        if after_at is not None:
            # The first condition bounds the index scan, the second finds the place among equal times.
            more = [
                "s.last_pushed_at <= CAST(:after_at AS timestamptz)",
                "(s.last_pushed_at < CAST(:after_at AS timestamptz) OR {id} > :after_id)",
            ]
            position = {"after_at": after_at, "after_id": after_id}
    elif after_id is not None:
        more = ["{id} > :after_id"]
        position = {"after_id": after_id}
    statement, values = query.select("{id}, s.last_pushed_at", segment, *more)
    _, variant_id = query.source(segment)
    statement += f" ORDER BY {order.replace('{id}', variant_id)} LIMIT :limit OFFSET :offset"
    rows = await connection.execute(text(statement), {**values, **position, "limit": limit, "offset": offset})
    return [(variant_id, pushed_at) for variant_id, pushed_at in rows]


async def count_items(connection: AsyncConnection, query: ItemQuery, segment: Segment, *, most: int) -> int:
    """How many items match, counted no further than ``most``."""
    statement, values = query.select("1", segment)
    counted = text(f"SELECT count(*) FROM ({statement} LIMIT :most) AS counted")
    return int(await connection.scalar(counted, {**values, "most": most}) or 0)


_ITEM_ROWS = text(
    """
    SELECT v.variant_id, v.product_id, p.title, p.slug, p.status, p.visibility, v.sku, v.price,
           COALESCE(NULLIF(v.thumbnail, ''), v.images[1], NULLIF(p.thumbnail, ''), p.images[1]),
           v.deleted_at, s.status, s.presence, s.retailer_id,
           COALESCE((SELECT b.handle FROM batches AS b WHERE b.batch_id = s.in_flight), s.last_handle),
           s.last_pushed_at, s.error_text,
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
# between.
_COUNTERS = """
    SELECT name, link_id, value FROM counters WHERE store_id = :store_id AND link_id IN (0, :link_id)
    UNION ALL
    SELECT name, link_id, delta FROM counter_deltas WHERE store_id = :store_id AND link_id IN (0, :link_id)
"""
# State rows of deleted variants: what is left of the state rows belongs to live ones.
_TOMBSTONES = """
    SELECT 'tombstones', 0, count(*) FROM variants AS v
    JOIN LATERAL (
        SELECT FROM sync_state AS s WHERE s.link_id = :link_id AND s.variant_id = v.variant_id LIMIT 1
    ) AS s ON true
    WHERE v.store_id = :store_id AND v.deleted_at IS NOT NULL
"""
_STATE_COUNTS = text(
    f"SELECT name, link_id, sum(value)::bigint FROM ({_COUNTERS} UNION ALL {_TOMBSTONES}) AS counted"
    " GROUP BY name, link_id"
)
_STATUS_COUNT = text(
    f"SELECT sum(value)::bigint FROM ({_COUNTERS}) AS counted WHERE name = :status AND link_id = :link_id"
)


async def status_count(connection: AsyncConnection, store_id: str, link_id: int, status: Status) -> int:
    """How many items have a status, from the exact counters."""
    if status is Status.NEVER_SYNCED:
        return (await state_counts(connection, store_id, link_id)).by_status[status]
    values = {"store_id": store_id, "link_id": link_id, "status": status.value}
    return int(await connection.scalar(_STATUS_COUNT, values) or 0)


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
