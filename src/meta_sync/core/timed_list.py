"""Lists in the order of creation: by page within its reach, behind a position at any depth. Takes a connection, reads only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.lookups import go_by_indexes
from meta_sync.core.paging import MAX_PAGE_ROWS, CursorCodec, require_page_within_reach

__all__ = ["Position", "TimedList", "TimedPage"]

T = TypeVar("T")


class Position(NamedTuple):
    """The place of a row: when it was made, and its id among those of the same moment."""

    created_at: datetime
    row_id: str

    @classmethod
    def read(cls, cursors: CursorCodec, scope: str, cursor: str | None) -> Position | None:
        """The place that a cursor of this list holds.

        Raises
        ------
        ValidationFailedError
            The cursor is not one of this list.
        """
        if cursor is None:
            return None
        created_at, row_id = cursors.decode(scope, cursor)
        return cls(datetime.fromisoformat(created_at), row_id)

    def write(self, cursors: CursorCodec, scope: str) -> str:
        """The cursor to this place in the list that ``scope`` names."""
        return cursors.encode(scope, [self.created_at.isoformat(), self.row_id])


@dataclass(frozen=True, slots=True)
class TimedPage(Generic[T]):
    """A page of such a list."""

    rows: list[T]
    total: int
    """Counted no further than pages reach."""
    is_total_exact: bool
    last: Position | None
    """Of the last row, where others come behind it."""

    def next_cursor(self, cursors: CursorCodec, scope: str) -> str | None:
        """What the next page is asked for with; ``None`` on the last."""
        return self.last.write(cursors, scope) if self.last is not None else None


@dataclass(frozen=True, slots=True)
class TimedList(Generic[T]):
    """One kind of list: its columns, their order, and what is made of a row."""

    columns: Sequence[ColumnElement[Any]]
    created_at: ColumnElement[datetime]
    row_id: ColumnElement[str]
    make: Callable[[Sequence[Any]], T]
    newest_first: bool = False

    async def page(
        self,
        connection: AsyncConnection,
        *conditions: ColumnElement[bool],
        page: int,
        limit: int,
        after: Position | None,
    ) -> TimedPage[T]:
        """A page of the rows that fulfil the conditions; a position rules over the number of the page.

        Raises
        ------
        ValidationFailedError
            The page lies beyond what pages reach.
        """
        await go_by_indexes(connection)
        counted = select(self.row_id).where(*conditions).limit(MAX_PAGE_ROWS + 1).subquery()
        total = (await connection.execute(select(func.count()).select_from(counted))).scalar_one()
        time_order = self.created_at.desc() if self.newest_first else self.created_at
        statement = select(self.created_at, self.row_id, *self.columns).where(*conditions)
        if after is not None:
            statement = statement.where(self._is_behind(after))
        else:
            require_page_within_reach(page, limit)
            statement = statement.offset((page - 1) * limit)
        found = (await connection.execute(statement.order_by(time_order, self.row_id).limit(limit + 1))).all()
        shown = found[:limit]
        return TimedPage(
            [self.make(tuple(row)[2:]) for row in shown],
            min(total, MAX_PAGE_ROWS),
            total <= MAX_PAGE_ROWS,
            Position(*shown[-1][:2]) if len(found) > limit else None,
        )

    def _is_behind(self, place: Position) -> ColumnElement[bool]:
        # The first condition bounds the scan of the index, the second finds the place among equal times.
        time, at = self.created_at, place.created_at
        bound, beyond = (time <= at, time < at) if self.newest_first else (time >= at, time > at)
        return and_(bound, or_(beyond, self.row_id > place.row_id))
