"""Items of a store by a look-up per row, their rows, and how many are in which state. Reads only.

Jobs read their scope here, in whatever catalog they are about. Lists, which count and go deep, walk (see ``item_walk``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.sync.item_filters import ItemFilter, ItemSort, search_pattern
from meta_sync.sync.models import Status

__all__ = [
    "NO_LINK",
    "ItemFilter",
    "ItemQuery",
    "ItemSort",
    "Key",
    "Position",
    "Segment",
    "StateCounts",
    "item_keys",
    "item_rows",
    "live_variants",
    "search_pattern",
    "state_counts",
    "status_count",
]

NO_LINK = -1
"""Stands for the link of a store that has none: no state row carries it."""


class Segment(StrEnum):
    """One stretch of the list that a single index order serves."""

    PUSHED = "p"
    UNPUSHED = "u"
    BY_ID = "v"


@dataclass(frozen=True, slots=True)
class Position:
    """The place of a row in the list; what follows it is the next page."""

    segment: Segment
    after_id: str
    after_at: datetime | None


Key = tuple[str, datetime | None]
"""An item's id, with when it was last pushed."""


class _Driver(StrEnum):
    """What a stretch of the list is walked along."""

    IDS = "ids"
    STATE = "state"
    VARIANTS = "variants"


# Each look-up is by a range of one value in an order, so that only the right index serves it (see core.lookups).
_OF_VARIANT = """
    SELECT v.variant_id, v.product_id, v.deleted_at FROM variants AS v
    WHERE v.store_id = :store_id AND v.variant_id >= {id} AND v.variant_id <= {id} ORDER BY v.variant_id LIMIT 1
"""
# By the index of live variants alone, which holds all that is asked for.
_OF_LIVE_VARIANT = """
    SELECT v.variant_id, v.product_id, v.deleted_at FROM variants AS v
    WHERE v.store_id = :store_id AND v.variant_id >= {id} AND v.variant_id <= {id} AND v.deleted_at IS NULL
    ORDER BY v.variant_id LIMIT 1
"""
_OF_STATE = """
    SELECT s.variant_id, s.status, s.code, s.last_pushed_at FROM sync_state AS s
    WHERE s.link_id = :link_id AND s.variant_id >= {id} AND s.variant_id <= {id} ORDER BY s.variant_id LIMIT 1
"""
_OF_PRODUCT = """
    SELECT FROM products AS p
    WHERE p.store_id = :store_id AND p.product_id >= v.product_id AND p.product_id <= v.product_id
      AND p.deleted_at IS NULL AND p.status = 'active' AND p.visibility = 'public' ORDER BY p.product_id LIMIT 1
"""
# Within a select of one value nothing can be joined the other way round.
_MATCHES = """
    (SELECT d.document LIKE :pattern FROM search_documents AS d
     WHERE d.store_id = :store_id AND d.variant_id >= {id} AND d.variant_id <= {id} ORDER BY d.variant_id LIMIT 1)
"""
_WAITS = """
    :lane = (SELECT i.lane FROM intents AS i
             WHERE i.store_id = :store_id AND i.variant_id >= {id} AND i.variant_id <= {id} ORDER BY i.variant_id LIMIT 1)
"""
_VARIANT_ID = {
    _Driver.IDS: "v.variant_id",
    _Driver.STATE: "s.variant_id",
    _Driver.VARIANTS: "v.variant_id",
}


@dataclass(frozen=True, slots=True)
class ItemQuery:
    """The items of one store and catalog that pass a filter, in the order of their ids.

    Attributes
    ----------
    ids
        All that may match, when they are few.
    """

    store_id: str
    link_id: int
    item_filter: ItemFilter
    ids: Sequence[str] | None = None

    def select(self, columns: str, *more: str) -> tuple[str, dict[str, Any]]:
        """The statement up to its conditions, and the values bound in it. ``{id}`` stands for the variant's id."""
        driver = self._driver()
        values: dict[str, Any] = {"store_id": self.store_id, "link_id": self.link_id}
        if driver is _Driver.IDS:
            values["ids"] = self.ids
        conditions = [*self._conditions(driver, values), *more]
        statement = f"SELECT {columns} FROM {self._source(driver)} WHERE {' AND '.join(conditions)}"
        return statement.replace("{id}", _VARIANT_ID[driver]), values

    def _driver(self) -> _Driver:
        if self.ids is not None:
            return _Driver.IDS
        wanted = self.item_filter
        return _Driver.STATE if wanted.needs_state and wanted.product_id is None else _Driver.VARIANTS

    def _source(self, driver: _Driver) -> str:
        """The FROM clause.

        Whatever else is needed is looked up per row by its key: a LIMIT within keeps the planner from joining whole
        tables in another order, which it does badly on tables that have just been filled and have no statistics yet.
        """
        wanted = self.item_filter
        state = f"LEFT JOIN LATERAL ({_OF_STATE}) AS s ON true"
        if driver is _Driver.IDS:
            of_variant = _OF_VARIANT.replace("{id}", "w.variant_id")
            named = "unnest(CAST(:ids AS text[])) AS w (variant_id)"
            source = f"{named} JOIN LATERAL ({of_variant}) AS v ON true {state}"
        elif driver is _Driver.VARIANTS:
            source = f"variants AS v {state}"
        else:
            source = "sync_state AS s"
            if wanted.eligible_only:
                source += f" JOIN LATERAL ({_OF_LIVE_VARIANT}) AS v ON true"
        if wanted.eligible_only:
            source += f" JOIN LATERAL ({_OF_PRODUCT}) AS p ON true"
        return source

    def _conditions(self, driver: _Driver, values: dict[str, Any]) -> list[str]:
        wanted = self.item_filter
        if driver is _Driver.STATE:
            conditions = ["s.link_id = :link_id", "s.store_id = :store_id"]
        else:
            conditions = ["(v.deleted_at IS NULL OR s.variant_id IS NOT NULL)"]
        if driver is _Driver.VARIANTS:
            conditions.append("v.store_id = :store_id")
        if wanted.status is Status.NEVER_SYNCED:
            conditions.append("(s.variant_id IS NULL OR s.status = 'never_synced')")
        elif wanted.status is not None:
            conditions.append("s.status = :status")
            values["status"] = wanted.status.value
        if wanted.eligible_only:
            conditions.append("v.deleted_at IS NULL")
        if wanted.product_id is not None:
            conditions.append("v.product_id = :product_id")
            values["product_id"] = wanted.product_id
        if wanted.error_code is not None:
            conditions.append("s.code = :error_code")
            values["error_code"] = wanted.error_code
        if wanted.lane is not None:
            conditions.append(_WAITS)
            values["lane"] = int(wanted.lane)
        if wanted.search:
            conditions.append(_MATCHES)
            values["pattern"] = search_pattern(wanted.search)
        return conditions


async def item_keys(
    connection: AsyncConnection, query: ItemQuery, *, limit: int, after_id: str | None = None
) -> list[str]:
    """The ids that match, in order, behind one of them."""
    behind = {} if after_id is None else {"after_id": after_id}
    more = ["{id} > :after_id"] if behind else []
    statement, values = query.select("{id}", *more, "true ORDER BY {id}")
    rows = await connection.execute(text(f"{statement} LIMIT :limit"), {**values, **behind, "limit": limit})
    return list(rows.scalars())


_ITEM_ROWS = text(
    """
    SELECT v.variant_id, v.product_id, p.title, p.slug, p.status, p.visibility, v.sku, v.price,
           COALESCE(NULLIF(v.thumbnail, ''), v.images[1], NULLIF(p.thumbnail, ''), p.images[1]),
           v.deleted_at, s.status, s.presence, s.retailer_id,
           COALESCE((SELECT b.handle FROM batches AS b WHERE b.batch_id = s.in_flight), s.last_handle),
           s.last_pushed_at, s.error_text,
           s.code, s.attempts, s.confirmed_at, s.retry_at, i.lane, s.updated_at,
           i.held_by, (SELECT h.kind FROM holds AS h WHERE h.hold_id = i.held_by)
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
    unwritten: int
    """Live variants without a state row."""
    held: int = 0
    """Items that holds keep back, as they were last counted: within the minute."""


# Counters are exact only together with the deltas not yet folded into them; one statement, so that a fold cannot come
# between.
_COUNTERS = """
    SELECT name, link_id, value FROM counters WHERE store_id = :store_id AND link_id IN (0, :link_id)
    UNION ALL
    SELECT name, link_id, delta FROM counter_deltas WHERE store_id = :store_id AND link_id IN (0, :link_id)
"""
# State rows of deleted variants: what is left of the state rows belongs to live ones.
_TOMBSTONES = """
    SELECT 'tombstones', 0, count(*) FROM (
        SELECT FROM sync_state AS s
        WHERE s.link_id = :link_id AND s.variant_id = ANY(ARRAY(
            SELECT v.variant_id FROM variants AS v WHERE v.store_id = :store_id AND v.deleted_at IS NOT NULL
        )) ORDER BY s.variant_id
    ) AS t
"""
_HELD = (
    "SELECT 'held', 0, items FROM holds WHERE store_id = :store_id AND link_id = :link_id AND state = 'held'"
)
_STATE_COUNTS = text(
    f"SELECT name, link_id, sum(value)::bigint FROM ({_COUNTERS} UNION ALL {_TOMBSTONES} UNION ALL {_HELD}) AS counted"
    " GROUP BY name, link_id"
)
_STATUS_COUNT = text(
    f"SELECT sum(value)::bigint FROM ({_COUNTERS}) AS counted WHERE name = :status AND link_id = :link_id"
)


_LIVE = text(
    """
    SELECT sum(counted.value)::bigint FROM (
        SELECT value FROM counters WHERE store_id = :store_id AND link_id = 0 AND name = 'variants'
        UNION ALL
        SELECT delta FROM counter_deltas WHERE store_id = :store_id AND link_id = 0 AND name = 'variants'
    ) AS counted
    """
)


async def live_variants(connection: AsyncConnection, store_id: str) -> int:
    """How many variants the store has, from the exact counters."""
    return int(await connection.scalar(_LIVE, {"store_id": store_id}) or 0)


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
    unwritten = max(0, live - rows_of_live)
    by_status[Status.NEVER_SYNCED] += unwritten
    return StateCounts(
        by_status,
        total=live + tombstones,
        intents=int(counted.get(("intents", 0), 0)),
        variants=live,
        products=int(counted.get(("products", 0), 0)),
        unwritten=unwritten,
        held=int(counted.get(("held", 0), 0)),
    )
