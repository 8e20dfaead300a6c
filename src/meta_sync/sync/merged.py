"""Several sources told as one list, newest first: pages by number and by cursor over the union of what each holds.

Each source is read by its own index, no further than the page needs. Rows that happened at the same instant stand in the
order of their sources, then of their ids, so that the order never changes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Generic, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.paging import MAX_PAGE_ROWS, CursorCodec, require_page_within_reach

__all__ = ["MergedPage", "Source", "read_merged"]

E = TypeVar("E")

_AFTER_ALL = datetime(9999, 1, 1, tzinfo=UTC)
_BEFORE_ALL = datetime(1, 1, 1, tzinfo=UTC)
_ABOVE_ALL = 32_000


@dataclass(frozen=True, slots=True)
class Source(Generic[E]):
    """One kind of row.

    Attributes
    ----------
    select
        The statement without order; its first two columns are the instant and the row's id as text.
    at, key
        The same two as expressions, for conditions and order.
    tell
        Makes the entry of a row.
    """

    select: str
    at: str
    key: str
    tell: Callable[[Any], E]

    def page(self, rank: int) -> str:
        """The newest rows before a position, newest first."""
        return (
            f"{self.select} AND {self.at} <= CAST(:before_at AS timestamptz)"
            f" AND ({self.at}, {rank}, {self.key}) < (CAST(:before_at AS timestamptz), CAST(:before_rank AS integer),"
            f' CAST(:before_key AS text) COLLATE "C") ORDER BY {self.at} DESC, {self.key} DESC LIMIT :limit'
        )

    def count(self) -> str:
        """How many rows there are, counted no further than ``most``."""
        return f"SELECT count(*) FROM ({self.select} LIMIT :most) AS counted"


@dataclass(frozen=True, slots=True)
class MergedPage(Generic[E]):
    """A page of the union."""

    entries: list[E]
    total: int
    is_total_exact: bool
    next_cursor: str | None


async def read_merged(
    connection: AsyncConnection,
    sources: Sequence[Source[E]],
    values: Mapping[str, Any],
    *,
    cursors: CursorCodec,
    scope: str,
    page: int,
    limit: int,
    cursor: str | None,
) -> MergedPage[E]:
    """Read one page. A cursor rules over ``page``.

    Raises
    ------
    ValidationFailedError
        The page lies beyond what pages reach, or the cursor is not one of this list.
    """
    before: list[Any] = [_AFTER_ALL, _ABOVE_ALL, ""]
    if cursor is not None:
        at, rank, key = cursors.decode(scope, cursor)
        before = [datetime.fromisoformat(at), rank, key]
    else:
        require_page_within_reach(page, limit)
        offset = (page - 1) * limit
        if offset:
            found = await _row_at(connection, sources, values, offset)
            # Beyond the last row lies nothing; from the row before the page on, it is the next.
            before = found or [_BEFORE_ALL, 0, ""]
    wanted = limit + 1
    given = {
        **values,
        "before_at": before[0],
        "before_rank": before[1],
        "before_key": before[2],
        "limit": wanted,
    }
    runs: list[list[tuple[tuple[datetime, int, str], int, Any]]] = []
    total = 0
    for rank, source in enumerate(sources):
        rows = list(await connection.execute(text(source.page(rank)), given))
        runs.append([((row[0], rank, row[1]), rank, row) for row in rows])
        if total <= MAX_PAGE_ROWS:
            total += await connection.scalar(text(source.count()), {**values, "most": MAX_PAGE_ROWS + 1})
    merged = heapq.merge(*runs, key=lambda one: one[0], reverse=True)
    chosen = list(islice(merged, wanted))
    next_cursor = None
    if len(chosen) > limit:
        at, rank, key = chosen[limit - 1][0]
        next_cursor = cursors.encode(scope, [at.isoformat(), rank, key])
    return MergedPage(
        [sources[rank].tell(row) for _, rank, row in chosen[:limit]],
        min(total, MAX_PAGE_ROWS),
        total <= MAX_PAGE_ROWS,
        next_cursor,
    )


async def _row_at(
    connection: AsyncConnection, sources: Sequence[Source[E]], values: Mapping[str, Any], number: int
) -> list[Any] | None:
    """The place of a row, counted from 1: only it leaves the database, not all that stand above it."""
    union = " UNION ALL ".join(
        f"SELECT at, {rank} AS rank, key FROM ({source.page(rank)}) AS s{rank} (at, key)"
        for rank, source in enumerate(sources)
    )
    given = {**values, "before_at": _AFTER_ALL, "before_rank": _ABOVE_ALL, "before_key": "", "limit": number}
    statement = text(
        f'SELECT at, rank, key FROM ({union}) AS merged ORDER BY at DESC, rank DESC, key COLLATE "C" DESC'
        " LIMIT 1 OFFSET :above"
    )
    row = (await connection.execute(statement, {**given, "above": number - 1})).first()
    return None if row is None else list(row)
