"""Writes intents: in the transaction of the change, so that what is accepted is never lost.

An intent says "look again", never what to do. The version is new at every upsert, so that a claim which read an older
one leaves it alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import Change, Lane
from meta_sync.sync.states import Event, status_case

__all__ = ["OutboxSink", "mark_due", "write_intents"]

# What a hold keeps back is decided afresh when its row changes: the claim puts it back where it still belongs there.
_UPSERT_INTENTS = text(
    """
    INSERT INTO intents AS i (store_id, variant_id, version, lane, first_at)
    SELECT :store_id, u.variant_id, nextval('version_seq'), u.lane, now()
    FROM unnest(CAST(:variant_ids AS text[]), CAST(:lanes AS smallint[])) AS u (variant_id, lane)
    ORDER BY u.variant_id COLLATE "C"
    ON CONFLICT (store_id, variant_id) DO UPDATE
    SET version = nextval('version_seq'), lane = LEAST(i.lane, excluded.lane), job_id = NULL, held_by = NULL
    """
)

# Only where there is no row: ON CONFLICT waits for whoever is just updating the row it conflicts with, so a writer
# would wait for the settle of an item in flight, and the settle for the writer's intent.
_INSERT_STATES = text(
    """
    INSERT INTO sync_state (link_id, variant_id, store_id, status)
    SELECT l.link_id, u.variant_id, :store_id, 'pending'
    FROM catalog_links AS l, unnest(CAST(:variant_ids AS text[])) AS u (variant_id)
    WHERE l.store_id = :store_id AND l.active
      AND NOT EXISTS (SELECT FROM sync_state AS s WHERE s.link_id = l.link_id AND s.variant_id = u.variant_id)
    ORDER BY u.variant_id COLLATE "C"
    ON CONFLICT (link_id, variant_id) DO NOTHING
    """
)

# Only rows that an intent changes: touching one in flight would wait for the settle that holds it, which in turn may
# wait for our intent.
_INTENDED = text(
    f"""
    UPDATE sync_state AS s SET status = {status_case(Event.INTENDED)}, updated_at = now()
    FROM catalog_links AS l
    WHERE l.store_id = :store_id AND l.active AND s.link_id = l.link_id
      AND s.variant_id = ANY(CAST(:variant_ids AS text[])) AND s.status = 'never_synced'
    """
)

_MARK_DUE = text(
    "UPDATE store_queue SET due_at = now() WHERE store_id = :store_id AND (due_at IS NULL OR due_at > now())"
)
_INSERT_QUEUE = text(
    "INSERT INTO store_queue (store_id, due_at) VALUES (:store_id, now()) ON CONFLICT (store_id) DO NOTHING"
)


async def mark_due(connection: AsyncConnection, store_id: str) -> None:
    """Put the store in line; a store that stands there already is not touched, so that its writers do not queue up."""
    await connection.execute(_MARK_DUE, {"store_id": store_id})
    await connection.execute(_INSERT_QUEUE, {"store_id": store_id})


async def write_intents(
    connection: AsyncConnection, store_id: str, variant_ids: Sequence[str], lanes: Sequence[int]
) -> None:
    """Upsert one intent per variant, newest version, fastest lane, oldest time. Does not mark the store due."""
    await connection.execute(
        _UPSERT_INTENTS, {"store_id": store_id, "variant_ids": list(variant_ids), "lanes": list(lanes)}
    )


class OutboxSink:
    """Implements the catalog's ``ChangeSink``."""

    async def record(self, connection: AsyncConnection, store_id: str, changes: Sequence[Change]) -> None:
        """Write the intents and state rows of the changes, and mark the store due. Does not commit."""
        fastest: dict[str, Lane] = {}
        for change in changes:
            known = fastest.get(change.variant_id)
            fastest[change.variant_id] = change.lane if known is None else min(known, change.lane)
        if not fastest:
            return
        variant_ids = sorted(fastest)
        await write_intents(connection, store_id, variant_ids, [fastest[one] for one in variant_ids])
        await connection.execute(_INSERT_STATES, {"store_id": store_id, "variant_ids": variant_ids})
        await connection.execute(_INTENDED, {"store_id": store_id, "variant_ids": variant_ids})
        await mark_due(connection, store_id)
