"""Batches whose call had an unknown end: the stored bytes may be sent again, because equal contents need no order.

Only for the active link, only while its items are still in flight under the batch, and a few times at most.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.sync.context import StoreContext
from meta_sync.sync.models import OpenBatch
from meta_sync.sync.splits import count_resend

__all__ = ["MAX_CALLS", "RESENDABLE", "due_batch", "open_call"]

MAX_CALLS = 4
"""Calls per batch. Beyond it the items are released when the hold is over and sent as they are then."""

# A batch that is looked into because it brings nothing but server errors is not sent again: one call, then the hold.
RESENDABLE = f"""
    b.state = 'unknown' AND b.due_at <= now() AND b.calls < {MAX_CALLS} AND b.body IS NOT NULL
    AND (SELECT count(*) FROM sync_state WHERE in_flight = b.batch_id) = b.sent
    AND NOT EXISTS (
        SELECT FROM split_parts AS p JOIN splits AS x ON x.split_id = p.split_id
        WHERE p.part_id = b.split_part AND x.kind = 'suspect'
    )
"""
"""Whether a batch ``b`` of the active link, in its present epoch, goes again now. Also what the sweep looks for: a store
that is marked due for a batch that never goes would have a turn every second."""

_DUE = text(
    f"""
    SELECT b.batch_id FROM batches AS b
    WHERE b.link_id = :link_id AND b.link_epoch = :epoch AND {RESENDABLE}
    ORDER BY b.batch_id LIMIT 1
    """
)
_OPEN = text(
    f"""
    UPDATE batches AS b SET state = 'sending', calls = calls + 1,
        due_at = clock_timestamp() + make_interval(secs => :deadline_seconds)
    WHERE b.batch_id = :batch_id AND {RESENDABLE}
      AND EXISTS (
          SELECT FROM catalog_links AS l JOIN stores AS s ON s.store_id = l.store_id
          WHERE l.link_id = b.link_id AND l.active AND l.epoch = b.link_epoch
            AND COALESCE(s.settings ->> 'sync_enabled', 'false') = 'true'
            AND COALESCE(s.settings ->> 'feed_mode', 'live') = 'live'
      )
    RETURNING b.calls, b.body, b.sent, b.catalog_id, b.split_part
    """
)
_INSERT_CALL = text(
    """
    INSERT INTO batch_calls (batch_id, call_number, store_id, link_id, state, deadline_at)
    VALUES (:batch_id, :call_number, :store_id, :link_id, 'sending',
        clock_timestamp() + make_interval(secs => :deadline_seconds))
    """
)


async def due_batch(connection: AsyncConnection, context: StoreContext) -> int | None:
    """The oldest batch of the store that may be sent again now."""
    link = context.access.link
    found: int | None = await connection.scalar(_DUE, {"link_id": link.link_id, "epoch": link.epoch})
    return found


async def open_call(
    connection: AsyncConnection, context: StoreContext, batch_id: int, *, deadline_seconds: float
) -> OpenBatch | None:
    """Write a further call of the batch; ``None`` when somebody else did or its items are no longer its own."""
    row = (
        await connection.execute(_OPEN, {"batch_id": batch_id, "deadline_seconds": deadline_seconds})
    ).one_or_none()
    if row is None:
        return None
    call_number, body, sent, catalog_id, split_part = row
    link_id = context.access.link.link_id
    await connection.execute(
        _INSERT_CALL,
        {
            "batch_id": batch_id,
            "call_number": call_number,
            "store_id": context.store_id,
            "link_id": link_id,
            "deadline_seconds": deadline_seconds,
        },
    )
    if split_part is not None:
        await count_resend(connection, split_part)
    return OpenBatch(batch_id, call_number, context.store_id, link_id, catalog_id, body, sent, split_part)
