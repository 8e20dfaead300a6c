"""The statements that walk a list of items: in the order of an index, in stretches, each narrowed as a whole. Reads only.

A condition that lives in another table is asked of a whole stretch at once: its ids are sorted and looked up in one pass
over an index, at a fifth of what a look-up per row costs. Conditions that indexes hold by variant id are merged instead, and
none of their rows is read. Both need the settings of ``expect_walks``.

``active_states`` is the state table seen by its indexes, ``offered_variants`` what Meta's shoppers may see (migration 0006).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.sync.item_filters import ItemFilter, search_pattern
from meta_sync.sync.item_queries import Key, Position, Segment
from meta_sync.sync.models import Status

__all__ = ["Stretch", "Walk", "count_by_id", "expect_walks", "is_text_alone", "stages"]

# Merge joins read two orders side by side and stop with the limit. Without nested loops and hashes the planner has no other
# way to join, whatever it believes of the tables; without sorts it takes the orders from the indexes; without bitmaps ids are
# looked up in the index that begins with them.
_EXPECT_WALKS = text(
    "SELECT set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true),"
    " set_config('enable_nestloop', 'off', true), set_config('enable_hashjoin', 'off', true),"
    " set_config('enable_bitmapscan', 'off', true)"
)
_EXPECT_LOOKUPS = text(
    "SELECT set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true),"
    " set_config('enable_nestloop', 'on', true), set_config('enable_hashjoin', 'on', true),"
    " set_config('enable_bitmapscan', 'on', true)"
)

_PUSHED_ORDER = "s.last_pushed_at DESC NULLS LAST, s.variant_id"
# The condition on time bounds the index scan, the other finds the place among equal times.
_BEHIND_PUSHED = (
    "s.last_pushed_at <= CAST(:after_at AS timestamptz)"
    " AND (s.last_pushed_at < CAST(:after_at AS timestamptz) OR s.variant_id > :after_id)"
)
# IS TRUE keeps it a set that is made once and looked into, where the planner would join.
_WAITS = "({0}.variant_id IN (SELECT i.variant_id FROM intents AS i WHERE i.store_id = :store_id AND i.lane = :lane)) IS TRUE"
_UNWRITTEN = """
    SELECT v.variant_id FROM variants AS v
    WHERE v.store_id = :store_id AND v.deleted_at IS NULL {behind_v} {waits}
      AND NOT EXISTS (SELECT FROM active_states AS s WHERE s.variant_id = v.variant_id {behind_s})
    ORDER BY v.variant_id
"""
# Tombstones are few; of those, only the ones within the reach of the living are looked at.
_LISTED = """
    SELECT l.variant_id FROM (
        WITH live AS MATERIALIZED (
            SELECT v.variant_id FROM variants AS v
            WHERE v.store_id = :store_id AND v.deleted_at IS NULL {behind_v} ORDER BY v.variant_id LIMIT :stretch
        )
        SELECT variant_id FROM live
        UNION ALL
        (SELECT v.variant_id FROM variants AS v
         JOIN LATERAL (
             SELECT FROM active_states AS s
             WHERE s.variant_id >= v.variant_id AND s.variant_id <= v.variant_id ORDER BY s.variant_id LIMIT 1
         ) AS s ON true
         WHERE v.store_id = :store_id AND v.deleted_at IS NOT NULL {behind_v}
           AND ((SELECT count(*) FROM live) < :stretch OR v.variant_id <= (SELECT max(variant_id) FROM live))
         ORDER BY v.variant_id LIMIT :stretch)
    ) AS l ORDER BY l.variant_id
"""


async def expect_walks(connection: AsyncConnection, *, is_over: bool = False) -> None:
    """Until it is over, plan for orders that are read side by side, and for sets of ids."""
    await connection.execute(_EXPECT_LOOKUPS if is_over else _EXPECT_WALKS)


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one statement found."""

    walked: int
    """Keys before they were narrowed; fewer than were asked for: the segment ends here."""
    last: Key | None
    found: int
    """Keys that are left."""
    keys: list[Key]
    """Those of them that were asked for."""


@dataclass(frozen=True, slots=True)
class Walk:
    """One list of one store.

    Attributes
    ----------
    is_every_row_written
        Every live variant has a state row, so that nothing is missed by walking those.
    are_states_few
        The status leaves so few that the lane is better asked of those than merged.
    """

    store_id: str
    item_filter: ItemFilter
    is_every_row_written: bool = False
    are_states_few: bool = False

    def is_narrowed(self, segment: Segment, *, is_lane_held: bool = False) -> bool:
        """Whether something is left to be asked of what is walked."""
        return bool(self._stages(segment, is_lane_held=is_lane_held)[0])

    def _stages(self, segment: Segment, *, is_lane_held: bool = False) -> tuple[list[str], dict[str, Any]]:
        wanted = self.item_filter
        if segment is not Segment.BY_ID:
            return stages(wanted, is_lane_merged=is_lane_held)
        return stages(
            wanted,
            is_offer_merged=True,
            is_lane_merged=not self.are_states_few,
            is_text_merged=is_text_alone(wanted),
            is_listed=not (_is_of_intents_alone(wanted) or is_text_alone(wanted)),
        )

    async def read(
        self,
        connection: AsyncConnection,
        segment: Segment,
        after: Position | None,
        *,
        stretch: int,
        offset: int,
        limit: int,
        is_lane_held: bool = False,
    ) -> Stretch:
        """Walk so many keys behind a position; of what is left of them, return some."""
        values: dict[str, Any] = {"stretch": stretch, "offset": offset, "until": offset + limit}
        source = self._source(segment, after, values, is_lane_held=is_lane_held)
        walked = (
            "walked AS MATERIALIZED (SELECT g.*, row_number() OVER () AS place"
            f" FROM ({source} LIMIT :stretch) AS g (variant_id, pushed_at))"
        )
        parts, more = self._stages(segment, is_lane_held=is_lane_held)
        name = parts[-1].partition(" ")[0] if parts else ""
        kept = f"WHERE (w.variant_id IN (SELECT variant_id FROM {name})) IS TRUE" if name else ""
        values |= more
        statement = (
            f"WITH {', '.join([walked, *parts])}, found AS MATERIALIZED ("
            f"SELECT w.variant_id, w.pushed_at, row_number() OVER () AS number FROM walked AS w {kept})"
            " SELECT l.walked, (SELECT count(*) FROM found), l.last_id, l.last_at,"
            " array_agg(f.variant_id ORDER BY f.number), array_agg(f.pushed_at ORDER BY f.number)"
            " FROM (SELECT count(*) AS walked, max(variant_id) FILTER (WHERE place = :stretch) AS last_id,"
            " max(pushed_at) FILTER (WHERE place = :stretch) AS last_at FROM walked) AS l"
            " LEFT JOIN found AS f ON f.number > :offset AND f.number <= :until"
            " GROUP BY l.walked, l.last_id, l.last_at"
        )
        row = (await connection.execute(text(statement), {"store_id": self.store_id, **values})).one()
        walked, found, last_id, last_at, ids, times = row
        last = None if last_id is None else (last_id, last_at)
        keys = [(one, pushed_at) for one, pushed_at in zip(ids, times, strict=True) if one is not None]
        return Stretch(walked, last, found, keys)

    def source(self, segment: Segment, after: Position | None) -> tuple[str, dict[str, Any]]:
        """The keys of a segment behind a position, in order, and the values bound."""
        values: dict[str, Any] = {}
        return self._source(segment, after, values), values

    def _source(
        self,
        segment: Segment,
        after: Position | None,
        values: dict[str, Any],
        *,
        is_lane_held: bool = False,
    ) -> str:
        if after is not None:
            values["after_id"] = after.after_id
        if segment is Segment.BY_ID:
            statement = self._by_id(after, values)
            return f"SELECT k.variant_id, CAST(NULL AS timestamptz) FROM ({statement}) AS k"
        conditions = [
            f"s.last_pushed_at IS {'NOT NULL' if segment is Segment.PUSHED else 'NULL'}",
            *self._of_state(values),
        ]
        if is_lane_held:
            conditions.append(_WAITS.format("s"))
            values["lane"] = self._lane
        if segment is Segment.PUSHED:
            if after is not None:
                conditions.append(_BEHIND_PUSHED)
                values["after_at"] = after.after_at
            return _states(conditions)
        if after is not None:
            conditions.append("s.variant_id > :after_id")
        states = _states(conditions)
        if self.item_filter.needs_state or self.is_every_row_written:
            return states
        # Neither order is known to the planner to be that of the other; what is sorted is two stretches at most.
        return (
            "SELECT u.variant_id, CAST(NULL AS timestamptz) FROM ("
            f"SELECT a.variant_id FROM ({states} LIMIT :stretch) AS a UNION ALL"
            f" SELECT b.variant_id FROM ({_unwritten(after, is_lane_held=is_lane_held)} LIMIT :stretch) AS b) AS u ORDER BY u.variant_id"
        )

    def _by_id(self, after: Position | None, values: dict[str, Any]) -> str:
        """All that matches and needs no text read, in the order of ids: the orders of several indexes, merged."""
        wanted = self.item_filter
        behind = "AND {0}.variant_id > :after_id" if after is not None else ""
        sources: list[str] = []
        conditions: list[str] = []
        if wanted.needs_state:
            sources.append("active_states AS s")
            conditions.append(f"{' AND '.join(self._of_state(values))} {behind.format('s')}")
        elif wanted.status is Status.NEVER_SYNCED:
            sources.append(f"({self._never_synced(after, values)}) AS n")
            conditions.append("true")
        if wanted.eligible_only:
            sources.append("offered_variants AS o")
            conditions.append(f"o.store_id = :store_id {behind.format('o')}")
        if wanted.lane is not None and not self.are_states_few:
            sources.append("intents AS i")
            conditions.append(f"i.store_id = :store_id AND i.lane = :lane {behind.format('i')}")
            values["lane"] = self._lane
        if is_text_alone(wanted):
            sources.append("search_documents AS d")
            conditions.append(f"d.store_id = :store_id AND d.document LIKE :pattern {behind.format('d')}")
            values["pattern"] = search_pattern(wanted.search or "")
        if not sources:
            return _LISTED.format(behind_v=behind.format("v"))
        first = sources[0].rpartition(" ")[2]
        joined = sources[0]
        for source in sources[1:]:
            joined += f" JOIN {source} ON {source.rpartition(' ')[2]}.variant_id = {first}.variant_id"
        return f"SELECT {first}.variant_id FROM {joined} WHERE {' AND '.join(conditions)} ORDER BY {first}.variant_id"

    def _never_synced(self, after: Position | None, values: dict[str, Any]) -> str:
        behind = "AND s.variant_id > :after_id" if after is not None else ""
        values["status"] = Status.NEVER_SYNCED.value
        states = f"SELECT s.variant_id FROM active_states AS s WHERE s.status = :status {behind} ORDER BY s.variant_id"
        if self.is_every_row_written:
            return states
        return f"({states}) UNION ALL ({_unwritten(after)})"

    def _of_state(self, values: dict[str, Any]) -> list[str]:
        conditions: list[str] = []
        wanted = self.item_filter
        if wanted.status is not None:
            conditions.append("s.status = :status")
            values["status"] = wanted.status.value
        if wanted.error_code is not None:
            conditions.append("s.code = :error_code")
            values["error_code"] = wanted.error_code
        return conditions

    @property
    def _lane(self) -> int | None:
        return None if self.item_filter.lane is None else int(self.item_filter.lane)


def stages(
    wanted: ItemFilter,
    *,
    is_offer_merged: bool = False,
    is_lane_merged: bool = False,
    is_text_merged: bool = False,
    is_listed: bool = True,
) -> tuple[list[str], dict[str, Any]]:
    """What is still to be asked of ids: each stage by name, of the ids of the one before, and values bound.

    The last, of ids from tables that know nothing of Meta: whether a deleted one is in the list.
    """
    found: dict[str, str] = {}
    values: dict[str, Any] = {}
    if wanted.lane is not None and not is_lane_merged:
        found["waiting"] = _among("intents", "t.lane = :lane")
        values["lane"] = int(wanted.lane)
    if wanted.eligible_only and not is_offer_merged:
        found["offered"] = _among("offered_variants")
    if wanted.product_id is not None:
        found["of_product"] = _among("variants", "t.product_id = :product_id")
        values["product_id"] = wanted.product_id
    if wanted.search and not is_text_merged:
        found["matching"] = _among("search_documents", "t.document LIKE :pattern")
        values["pattern"] = search_pattern(wanted.search)
    if not is_listed:
        found["listed"] = _LISTED_AMONG
    parts = []
    before = "walked"
    for name, statement in found.items():
        parts.append(f"{name} AS MATERIALIZED ({statement.replace('{of}', before)})")
        before = name
    return parts, values


def is_text_alone(wanted: ItemFilter) -> bool:
    """Whether the text is all that is asked for by id: the documents are walked then, in the order of their ids."""
    return bool(wanted.search) and not (
        wanted.status is not None or wanted.needs_state or wanted.eligible_only or wanted.lane is not None
    )


def _is_of_intents_alone(wanted: ItemFilter) -> bool:
    """Whether an item that waits may be one that is not in the list: deleted, and Meta never knew it."""
    return (
        wanted.lane is not None
        and not wanted.needs_state
        and not wanted.eligible_only
        and wanted.status is None
    )


def _states(conditions: list[str]) -> str:
    return (
        "SELECT s.variant_id, s.last_pushed_at FROM active_states AS s"
        f" WHERE {' AND '.join(conditions)} ORDER BY {_PUSHED_ORDER}"
    )


def _unwritten(after: Position | None, *, is_lane_held: bool = False) -> str:
    """Live variants without a state row, in the order of their ids."""
    behind = "AND {0}.variant_id > :after_id" if after is not None else ""
    waits = f"AND {_WAITS.format('v')}" if is_lane_held else ""
    return _UNWRITTEN.format(behind_v=behind.format("v"), behind_s=behind.format("s"), waits=waits)


def _among(table: str, condition: str = "true") -> str:
    """Those of the ids before that a table has under a condition. The order is what the key alone can give."""
    return (
        f"SELECT t.variant_id FROM {table} AS t WHERE t.store_id = :store_id"
        f" AND t.variant_id = ANY(ARRAY(SELECT variant_id FROM {{of}})) AND {condition} ORDER BY t.variant_id"
    )


_LISTED_AMONG = """
    WITH deleted AS MATERIALIZED (
        SELECT t.variant_id FROM variants AS t
        WHERE t.store_id = :store_id AND t.deleted_at IS NOT NULL
          AND t.variant_id = ANY(ARRAY(SELECT variant_id FROM {of})) ORDER BY t.variant_id
    ), known AS MATERIALIZED (
        SELECT s.variant_id FROM active_states AS s
        WHERE s.variant_id = ANY(ARRAY(SELECT variant_id FROM deleted)) ORDER BY s.variant_id
    )
    SELECT w.variant_id FROM {of} AS w
    WHERE (w.variant_id IN (SELECT variant_id FROM deleted)) IS NOT TRUE
       OR (w.variant_id IN (SELECT variant_id FROM known)) IS TRUE
"""


async def count_by_id(connection: AsyncConnection, walk: Walk, *, most: int) -> int:
    """How many items match a filter that needs nothing but what indexes hold, counted no further than ``most``."""
    source, values = walk.source(Segment.BY_ID, None)
    counted = text(f"SELECT count(*) FROM ({source} LIMIT :stretch) AS counted")
    found = await connection.scalar(counted, {"store_id": walk.store_id, **values, "stretch": most})
    return int(found or 0)
