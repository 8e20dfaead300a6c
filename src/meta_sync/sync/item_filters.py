"""What the list of items can be narrowed to, and the ids that a narrow filter leaves. Reads only.

A filter that few variants pass is carried out by their ids, found through its own index; one that many pass is checked on
each row of a walk, which soon has its page. Neither way alone is fast for both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import Lane
from meta_sync.sync.models import Status

__all__ = [
    "FEW",
    "ItemFilter",
    "ItemSort",
    "Narrowed",
    "is_short",
    "is_small_lane",
    "narrow",
    "search_pattern",
]

FEW = 10_000
"""Up to so many ids are looked up one by one: as many as a total counts exactly."""

_MOST_TOMBSTONES = 5_000
_COMMON = 4 * FEW
"""A text that so many documents are expected to hold is not looked up: a walk soon meets it."""
_INDEXED_LETTERS = 3
_SMALL_LANE = 50_000
"""Beyond that one of every few items waits in it, so that a walk finds them soon."""


class ItemSort(StrEnum):
    """Orders of the list."""

    LAST_PUSHED_AT = "lastPushedAt"
    VARIANT_ID = "variantId"


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
    def is_empty(self) -> bool:
        """Whether it leaves nothing out."""
        return self == ItemFilter(sort=self.sort)

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


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What is known of a filter before its list is read.

    Attributes
    ----------
    ids
        All that may match, every one of which is still checked; ``None``: too many to name.
    has_many
        More than ``FEW`` items are known to match the filter.
    """

    ids: list[str] | None = None
    has_many: bool = False


# The ids come as one value, which costs a tenth of as many rows, and only when they are wanted.
_FEW_OF = """
    SELECT count(*), CASE WHEN count(*) <= :few THEN array_agg(found.variant_id) END FROM ({found}) AS found
"""
_OF_PRODUCT = text(
    _FEW_OF.format(
        found="SELECT variant_id FROM variants WHERE store_id = :store_id AND product_id = :product_id LIMIT :most"
    )
)
_FOUND = text(
    _FEW_OF.format(found="SELECT f.variant_id FROM find_variants(:pattern, :most) AS f (variant_id)")
)
# What is parked waits in its lane too, under a batch that is not over, and so does what a hold keeps back.
_WAITING = text(
    _FEW_OF.format(
        found="""
        (SELECT variant_id FROM intents
         WHERE store_id = :store_id AND lane = :lane AND parked_by IS NULL AND held_by IS NULL LIMIT :most)
        UNION
        (SELECT i.variant_id
         FROM catalog_links AS l
         JOIN LATERAL (SELECT b.batch_id FROM batches AS b WHERE b.link_id = l.link_id AND b.state <> 'over') AS b
             ON true
         JOIN LATERAL (
             SELECT i.variant_id FROM intents AS i
             WHERE i.parked_by = b.batch_id AND i.store_id = :store_id AND i.lane = :lane
         ) AS i ON true
         WHERE l.store_id = :store_id LIMIT :most)
        UNION
        (SELECT i.variant_id
         FROM holds AS h
         JOIN LATERAL (
             SELECT i.variant_id FROM intents AS i
             WHERE i.held_by = h.hold_id AND i.store_id = :store_id AND i.lane = :lane
         ) AS i ON true
         WHERE h.store_id = :store_id LIMIT :most)
        """
    )
)
# Only what is ready is counted: no index holds the rest by lane. A lane that is all the queue is walked faster than it is held.
_LANE = text(
    "SELECT count(*) FROM (SELECT FROM intents"
    " WHERE store_id = :store_id AND lane = :lane AND parked_by IS NULL AND held_by IS NULL LIMIT :most) AS waiting"
)
_OFFERED = text(
    _FEW_OF.format(found="SELECT variant_id FROM offered_variants WHERE store_id = :store_id LIMIT :most")
)
_ESTIMATE = text("SELECT estimate_variants(:pattern)")
_TOMBSTONES = text(
    """
    SELECT count(*) FROM (
        SELECT FROM variants WHERE store_id = :store_id AND deleted_at IS NOT NULL LIMIT :most
    ) AS deleted
    """
)


async def narrow(
    connection: AsyncConnection,
    store_id: str,
    wanted: ItemFilter,
    *,
    is_walk_short: bool = False,
    is_walk_deep: bool = False,
) -> Narrowed:
    """The ids that are left by the first condition that leaves few.

    ``is_walk_short`` says that the state leaves so few items that a text which no index serves is better looked for in
    those; ``is_walk_deep``, that the page is deep enough for the walk to it to count what is not few.
    """
    values: dict[str, Any] = {"store_id": store_id, "most": FEW + 1, "few": FEW}
    if wanted.product_id is not None:
        _, ids = await _find(connection, _OF_PRODUCT, {**values, "product_id": wanted.product_id})
        if ids is not None:
            return Narrowed(ids)
    has_many = False
    if wanted.search and await _is_worth_searching(
        connection, wanted, wanted.search, is_walk_short=is_walk_short, is_walk_deep=is_walk_deep
    ):
        ids, has_many = await _search(connection, store_id, wanted.search)
        if ids is not None:
            return Narrowed(ids)
        has_many = has_many and wanted == ItemFilter(search=wanted.search, sort=wanted.sort)
    if wanted.lane is not None:
        _, ids = await _find(connection, _WAITING, {**values, "lane": int(wanted.lane)})
        if ids is not None:
            return Narrowed(ids)
        if wanted == ItemFilter(lane=wanted.lane, sort=wanted.sort):
            # What waits for a deleted variant is in the list only if Meta knew it.
            tombstones = await _tombstones(connection, store_id)
            waiting = await _waiting(connection, store_id, wanted.lane, most=FEW + tombstones + 1)
            has_many = tombstones < _MOST_TOMBSTONES and waiting > FEW + tombstones
    if wanted.eligible_only and not wanted.needs_state:
        _, ids = await _find(connection, _OFFERED, values)
        if ids is not None:
            return Narrowed(ids)
        has_many = has_many or wanted == ItemFilter(eligible_only=True, sort=wanted.sort)
    return Narrowed(None, has_many)


async def is_small_lane(connection: AsyncConnection, store_id: str, lane: Lane) -> bool:
    """Whether what waits in the lane is held in memory without a thought."""
    return await _waiting(connection, store_id, lane, most=_SMALL_LANE + 1) <= _SMALL_LANE


def is_short(search: str) -> bool:
    """Whether the text has no three letters or digits in a row, by which alone documents are indexed."""
    return max(len(word) for word in re.split(r"[^\w]|_", search)) < _INDEXED_LETTERS


async def _is_worth_searching(
    connection: AsyncConnection, wanted: ItemFilter, search: str, *, is_walk_short: bool, is_walk_deep: bool
) -> bool:
    """Whether the ids of a text are likely to be few, or wanted anyway; they cost the more the more there are."""
    if wanted == ItemFilter(search=search, sort=wanted.sort) and not is_walk_deep:
        return True
    if is_walk_short and is_short(search):
        return False
    expected = float(await connection.scalar(_ESTIMATE, {"pattern": search_pattern(search)}) or 0)
    return expected < _COMMON


async def _waiting(connection: AsyncConnection, store_id: str, lane: Lane, *, most: int) -> int:
    return int(await connection.scalar(_LANE, {"store_id": store_id, "lane": int(lane), "most": most}) or 0)


async def _find(
    connection: AsyncConnection, statement: TextClause, values: dict[str, Any]
) -> tuple[int, list[str] | None]:
    """How many there are, and which when they are few."""
    count, ids = (await connection.execute(statement, values)).one()
    return count, None if count > values["few"] else list(ids or ())


async def _search(connection: AsyncConnection, store_id: str, search: str) -> tuple[list[str] | None, bool]:
    """Ids of matching documents when they are few, and whether more than ``FEW`` are in the list for certain.

    Documents of deleted variants are found as well, and not all of those are in the list; so many more are looked for.
    """
    tombstones = await _tombstones(connection, store_id)
    most = FEW + tombstones + 1
    values = {"pattern": search_pattern(search), "most": most, "few": FEW}
    count, ids = await _find(connection, _FOUND, values)
    return ids, count == most and tombstones < _MOST_TOMBSTONES


async def _tombstones(connection: AsyncConnection, store_id: str) -> int:
    """How many deleted variants there are, counted up to a limit."""
    return int(await connection.scalar(_TOMBSTONES, {"store_id": store_id, "most": _MOST_TOMBSTONES}) or 0)
