"""What a new token changes in tables of the package above: the pause it ends, and the store's turn.

That package may not be imported here, so the columns are named by text, as foreign keys are; a test holds them against
the schema. Nothing but these two statements.
"""

from __future__ import annotations

from sqlalchemy import column, delete, func, table, update
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["NEIGHBOUR_TABLES", "end_reconnect_pause", "make_due"]

_pauses = table("store_pauses", column("store_id"), column("reason"))
_queue = table("store_queue", column("store_id"), column("due_at"))

NEIGHBOUR_TABLES = (_pauses, _queue)


async def end_reconnect_pause(connection: AsyncConnection, store_id: str) -> bool:
    """End the store's wait for a new token; whether it waited."""
    rows = await connection.execute(
        delete(_pauses)
        .where(_pauses.c.store_id == store_id, _pauses.c.reason == "needs_reconnect")
        .returning(_pauses.c.store_id)
    )
    return rows.first() is not None


async def make_due(connection: AsyncConnection, store_id: str) -> None:
    """Have the pipeline look at the store now. A store without a place in the queue has nothing to look at."""
    await connection.execute(
        update(_queue)
        .where(_queue.c.store_id == store_id)
        .values(due_at=func.least(func.coalesce(_queue.c.due_at, func.now()), func.now()))
    )
