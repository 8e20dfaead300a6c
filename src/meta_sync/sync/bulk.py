"""Keeps the plans of statements over a whole batch linear, whatever the planner believes of the tables."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["expect_bulk"]

# A batch's rows are fresh, so statistics never know of them: the planner expects one row where thousands come, and
# joins them by trying each with each. Without nested loops it hashes, which is right for any number of rows. Without
# sequential scans it goes by an index or by row id, where a small or unknown table would tempt it to read all of it.
# Each side of a join must then be bounded by itself: by the batch, by row ids, or by a list of keys.
_EXPECT_BULK = text(
    "SELECT set_config('enable_nestloop', 'off', true), set_config('enable_seqscan', 'off', true)"
)


async def expect_bulk(connection: AsyncConnection) -> None:
    """For the rest of the transaction, plan for the rows of a whole batch."""
    await connection.execute(_EXPECT_BULK)
