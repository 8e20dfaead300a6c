"""Turns retry times that have come into intents. An item that waits has none, so that the pipeline can become quiet.

Decides nothing and sends nothing: the next turn looks at the item like at any other.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.sync.outbox import mark_due

__all__ = ["wake_retries"]

_AT_ONCE = 2_000
"""Items per transaction, whatever their store: some tens of milliseconds."""

# The lane and the age of the batch that Meta ended. A link that is not active any more keeps its rows: when the store
# comes back to it, every one of them is looked at anyhow.
_DUE = text(
    f"""
    SELECT s.store_id, s.link_id, s.variant_id, l.active, COALESCE(b.lane, 1) AS lane, b.created_at,
        COALESCE((SELECT i.released_kinds FROM batch_items AS i WHERE i.created_on = b.created_on
                  AND i.batch_id = b.batch_id AND i.variant_id = s.variant_id), 0) AS released_kinds
    FROM sync_state AS s JOIN catalog_links AS l ON l.link_id = s.link_id
    LEFT JOIN batches AS b
        ON b.graph_host = l.graph_host AND b.catalog_id = l.catalog_id AND b.handle = s.last_handle
    WHERE s.retry_at <= now()
    ORDER BY s.retry_at LIMIT {_AT_ONCE}
    """
)
_INTEND = text(
    """
    INSERT INTO intents AS i (store_id, variant_id, version, lane, first_at, released_kinds)
    SELECT u.store_id, u.variant_id, nextval('version_seq'), u.lane, COALESCE(u.first_at, now()), u.released_kinds
    FROM unnest(CAST(:store_ids AS text[]), CAST(:variant_ids AS text[]), CAST(:lanes AS smallint[]),
        CAST(:first_at AS timestamptz[]), CAST(:released_kinds AS smallint[]))
        AS u (store_id, variant_id, lane, first_at, released_kinds)
    ORDER BY u.store_id COLLATE "C", u.variant_id COLLATE "C"
    ON CONFLICT (store_id, variant_id) DO UPDATE
    SET version = nextval('version_seq'), lane = LEAST(i.lane, excluded.lane),
        first_at = LEAST(i.first_at, excluded.first_at), job_id = NULL, held_by = NULL,
        released_kinds = i.released_kinds | excluded.released_kinds
    """
)
# After the intents, as a claim takes them. What was claimed meanwhile has no retry time any more.
_CLEAR = text(
    """
    UPDATE sync_state AS s SET retry_at = NULL, updated_at = now()
    FROM unnest(CAST(:link_ids AS bigint[]), CAST(:variant_ids AS text[])) AS u (link_id, variant_id)
    WHERE s.link_id = u.link_id AND s.variant_id = u.variant_id AND s.retry_at <= now()
    """
)


async def wake_retries(connection: AsyncConnection) -> bool:
    """Write an intent for every item whose retry time has come, and mark its store due; whether there may be more.

    A store that stands still, or shows only previews, gets its intents too: they wait there with the others.
    """
    due = (await connection.execute(_DUE)).all()
    if not due:
        return False
    awake = [row for row in due if row.active]
    if awake:
        await connection.execute(
            _INTEND,
            {
                "store_ids": [row.store_id for row in awake],
                "variant_ids": [row.variant_id for row in awake],
                "lanes": [row.lane for row in awake],
                "first_at": [row.created_at for row in awake],
                "released_kinds": [row.released_kinds for row in awake],
            },
        )
    due = sorted(due, key=lambda row: (row.link_id, row.variant_id))
    await connection.execute(
        _CLEAR, {"link_ids": [row.link_id for row in due], "variant_ids": [row.variant_id for row in due]}
    )
    for store_id in sorted({row.store_id for row in awake}):
        await mark_due(connection, store_id)
    return len(due) == _AT_ONCE
