"""A page of the list of items, and its total, where the ids that may match are few and known. Reads only.

Needs the settings of ``item_walk.expect_walks``.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.sync.item_filters import ItemFilter, ItemSort
from meta_sync.sync.item_queries import Key, Position, Segment
from meta_sync.sync.item_walk import stages
from meta_sync.sync.models import Status

__all__ = ["named_items"]


async def named_items(
    connection: AsyncConnection,
    store_id: str,
    wanted: ItemFilter,
    ids: list[str],
    *,
    limit: int,
    offset: int,
    after: Position | None,
) -> tuple[list[Key], int]:
    """A page of a list whose ids are known, and how many of them match."""
    values: dict[str, Any] = {"store_id": store_id, "ids": ids, "limit": limit, "offset": offset}
    parts, more = stages(wanted)
    values |= more
    name = parts[-1].partition(" ")[0] if parts else "walked"
    parts.insert(0, _GIVEN)
    parts += [part.replace("{of}", name) for part in _NAMED]
    condition = "m.status IS NOT NULL" if wanted.needs_state else "true"
    if wanted.status is Status.NEVER_SYNCED:
        condition = "coalesce(m.status, 'never_synced') = 'never_synced'"
    elif wanted.status is not None:
        condition += " AND m.status = :status"
        values["status"] = wanted.status.value
    if wanted.error_code is not None:
        condition += " AND m.code = :error_code"
        values["error_code"] = wanted.error_code
    parts.append(f"chosen AS MATERIALIZED (SELECT * FROM named AS m WHERE {condition})")
    order = (
        "variant_id" if wanted.sort is ItemSort.VARIANT_ID else "last_pushed_at DESC NULLS LAST, variant_id"
    )
    place = _place(after, values)
    rows = await connection.execute(
        text(
            f"WITH {', '.join(parts)}"
            " SELECT m.variant_id, m.last_pushed_at, t.total FROM (SELECT count(*) AS total FROM chosen) AS t"
            " LEFT JOIN LATERAL ("
            f"SELECT * FROM chosen WHERE {place} ORDER BY {order} LIMIT :limit OFFSET :offset) AS m ON true"
        ),
        values,
    )
    found = list(rows)
    return [(one, pushed_at) for one, pushed_at, _ in found if one is not None], int(found[0][2])


_GIVEN = "walked AS MATERIALIZED (SELECT w.variant_id FROM unnest(CAST(:ids AS text[])) AS w (variant_id))"
# Live ones and those with a state row, each once.
_NAMED = (
    """known AS MATERIALIZED (
        SELECT s.variant_id, s.status, s.code, s.last_pushed_at FROM active_states AS s
        WHERE s.variant_id = ANY(ARRAY(SELECT variant_id FROM {of})) ORDER BY s.variant_id
    )""",
    """live AS MATERIALIZED (
        SELECT v.variant_id FROM variants AS v
        WHERE v.store_id = :store_id AND v.deleted_at IS NULL
          AND v.variant_id = ANY(ARRAY(SELECT variant_id FROM {of})) ORDER BY v.variant_id
    )""",
    """named AS MATERIALIZED (
        SELECT k.variant_id, k.status, k.code, k.last_pushed_at FROM known AS k
        UNION ALL
        SELECT l.variant_id, NULL, NULL, NULL FROM live AS l
        WHERE (l.variant_id IN (SELECT variant_id FROM known)) IS NOT TRUE
    )""",
)


def _place(after: Position | None, values: dict[str, Any]) -> str:
    """The condition that finds what lies behind a position."""
    if after is None:
        return "true"
    values["after_id"] = after.after_id
    place = "variant_id > :after_id"
    if after.segment is Segment.UNPUSHED:
        return f"{place} AND last_pushed_at IS NULL"
    if after.segment is Segment.BY_ID:
        return place
    values["after_at"] = after.after_at
    return (
        "(last_pushed_at IS NULL OR last_pushed_at < CAST(:after_at AS timestamptz)"
        f" OR last_pushed_at = CAST(:after_at AS timestamptz) AND {place})"
    )
