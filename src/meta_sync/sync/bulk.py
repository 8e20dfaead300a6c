"""Keeps the plans of statements over a whole batch linear, whatever the planner believes of the tables.

Two kinds of statement need two kinds of plan: those that join what a batch names, and those that look each row up.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["expect_bulk", "expect_lookups"]

# A batch's rows are fresh, so statistics never know of them: the planner expects one row where thousands come, and
# joins them by trying each with each. Without nested loops it hashes, which is right for any number of rows. Without
# sequential scans it goes by an index or by row id, where a small or unknown table would tempt it to read all of it.
# Each side of a join must then be bounded by itself: by the batch, by row ids, or by a list of keys.
_EXPECT_BULK = text(
    "SELECT set_config('enable_nestloop', 'off', true), set_config('enable_seqscan', 'off', true)"
)
# Of a table it knows nothing of, the planner expects one row per store, and finds it as good by any index that begins
# with the store as by the key. Only the right index gives the order that a look-up asks for (see core.lookups), and
# without sorts nothing else can. A page in the order of an index is read no further than its limit, for the same reason.
_EXPECT_LOOKUPS = text(
    "SELECT set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true)"
)


async def expect_bulk(connection: AsyncConnection) -> None:
    """For the rest of the transaction, plan for the rows of a whole batch."""
    await connection.execute(_EXPECT_BULK)


async def expect_lookups(connection: AsyncConnection) -> None:
    """For the rest of the transaction, plan for rows that are found one by one, each by its key."""
    await connection.execute(_EXPECT_LOOKUPS)
