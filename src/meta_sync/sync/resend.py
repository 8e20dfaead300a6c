"""Batches whose call had an unknown end: the stored bytes may be sent again, because equal contents need no order.

Only for the active link, only while its items are still in flight under the batch, and a few times at most.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.sync.context import StoreContext
from meta_sync.sync.models import OpenBatch
from meta_sync.sync.splits import count_resend

__all__ = ["MAX_CALLS", "due_batch", "open_call"]

MAX_CALLS = 4
"""Calls per batch. Beyond it the items are released when the hold is over and sent as they are then."""

# A batch that is looked into because it brings nothing but server errors is not sent again: one call, then the hold.
_NOT_SUSPECT = """NOT EXISTS (
          SELECT FROM split_parts AS p JOIN splits AS x ON x.split_id = p.split_id
          WHERE p.part_id = batches.split_part AND x.kind = 'suspect'
      )"""
_DUE = text(
    f"""
    SELECT batch_id FROM batches
    WHERE link_id = :link_id AND state = 'unknown' AND due_at <= now() AND body IS NOT NULL
      AND link_epoch = :epoch AND calls < {MAX_CALLS} AND {_NOT_SUSPECT}
    ORDER BY batch_id LIMIT 1
    """
)
_OPEN = text(
    f"""
    UPDATE batches SET state = 'sending', calls = calls + 1,
        due_at = clock_timestamp() + make_interval(secs => :deadline_seconds)
    WHERE batch_id = :batch_id AND state = 'unknown' AND due_at <= now() AND calls < {MAX_CALLS}
      AND {_NOT_SUSPECT}
      AND (SELECT count(*) FROM sync_state WHERE in_flight = :batch_id) = sent
      AND EXISTS (
          SELECT FROM catalog_links AS l JOIN stores AS s ON s.store_id = l.store_id
          WHERE l.link_id = batches.link_id AND l.active AND l.epoch = batches.link_epoch
            AND COALESCE(s.settings ->> 'sync_enabled', 'false') = 'true'
            AND COALESCE(s.settings ->> 'feed_mode', 'live') = 'live'
      )
    RETURNING calls, body, sent, catalog_id, split_part
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
