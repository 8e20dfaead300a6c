"""Ends the grace of items that are to go: what was shown as out of stock long enough is looked at again, and deleted.

Decides nothing and sends nothing: the next turn looks at the item like at any other.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import Lane
from meta_sync.sync.models import GRACE_OVER
from meta_sync.sync.outbox import mark_due, write_intents

__all__ = ["end_grace"]

_AT_ONCE = 2_000
"""Items per transaction, whatever their store: some tens of milliseconds."""

_DUE = text(
    f"""
    SELECT s.store_id, s.link_id, s.variant_id, l.active
    FROM sync_state AS s JOIN catalog_links AS l ON l.link_id = s.link_id
    WHERE s.grace_until > :over AND s.grace_until <= now()
    ORDER BY s.grace_until LIMIT {_AT_ONCE}
    """
)
# After the intents, as a claim takes them. What came back meanwhile has no grace any more. A link that is not active any
# more is looked at as a whole when the store comes back to it.
_OVER = text(
    """
    UPDATE sync_state AS s SET grace_until = :over, updated_at = now()
    FROM unnest(CAST(:link_ids AS bigint[]), CAST(:variant_ids AS text[])) AS u (link_id, variant_id)
    WHERE s.link_id = u.link_id AND s.variant_id = u.variant_id AND s.grace_until > :over AND s.grace_until <= now()
    """
)


async def end_grace(connection: AsyncConnection) -> bool:
    """Write an intent for every item whose grace is over, and mark its store due; whether there may be more.

    The row keeps that its grace is over, so that it is woken once, and deleted also where the first try to do so fails.
    """
    due = (await connection.execute(_DUE, {"over": GRACE_OVER})).all()
    if not due:
        return False
    by_store: dict[str, list[str]] = {}
    for row in due:
        if row.active:
            by_store.setdefault(row.store_id, []).append(row.variant_id)
    for store_id, variant_ids in sorted(by_store.items()):
        variant_ids.sort()
        await write_intents(connection, store_id, variant_ids, [Lane.LIVE] * len(variant_ids))
    due = sorted(due, key=lambda row: (row.link_id, row.variant_id))
    link_ids, variant_ids = [row.link_id for row in due], [row.variant_id for row in due]
    await connection.execute(_OVER, {"link_ids": link_ids, "variant_ids": variant_ids, "over": GRACE_OVER})
    for store_id in sorted(by_store):
        await mark_due(connection, store_id)
    return len(due) == _AT_ONCE
