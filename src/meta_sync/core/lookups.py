"""Joins that stay look-ups by key, whatever the planner believes of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, Table, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["go_by_indexes", "row_by_key", "rows_with"]

_GO_BY_INDEXES = text("SELECT set_config('enable_seqscan', 'off', true)")


async def go_by_indexes(connection: AsyncConnection) -> None:
    """For the rest of the transaction, read no table through.

    Where a store has most of a table, reading all of it looks cheap to the planner, and so it does for a table that it
    takes for small; a page costs what the store and the table happen to hold then.
    """
    await connection.execute(_GO_BY_INDEXES)


def rows_with(
    key: ColumnElement[Any], value: ColumnElement[Any], *, limit: int, columns: Sequence[Any], within: Any
) -> Select[Any]:
    """At most ``limit`` rows of which ``key`` has the value, found by the index on what ``within`` fixes and the key.

    Of a fresh or small table the planner expects one row per store, so that every index which begins with the store
    seems as good as the right one, and so does the whole store in memory, compared row by row with every other. An
    order that only the right index gives rules out the rest; it must not be one that an equality makes meaningless,
    so the key is written as a range of one value. LIMIT keeps the select apart from the query around it.
    """
    return (
        select(*columns)
        .where(within, key >= value, key <= value)
        .order_by(key)
        .limit(literal_column(str(limit)))
    )


def row_by_key(
    table: Table,
    within: ColumnElement[bool],
    key: ColumnElement[Any],
    value: ColumnElement[Any],
    *,
    of: FromClause,
    name: str,
    more: Sequence[ColumnElement[Any]] = (),
) -> FromClause:
    """The one row of a table, or none, for each row of ``of``; to be joined on ``true``.

    Parameters
    ----------
    within
        Fixes the first column of the primary key.
    key, value
        The second column of the primary key, and what it must be.
    of
        Where ``value`` comes from.
    name
        What the row is called in the query.
    more
        Columns beside those of the table, such as its row id.
    """
    found = rows_with(key, value, limit=1, columns=(table, *more), within=within)
    return found.correlate(of).lateral(name)
