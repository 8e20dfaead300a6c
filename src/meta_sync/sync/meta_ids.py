"""Meta's own ids of items: known from what Meta showed, kept no longer than they can be true. Decides nothing."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.models import ActiveLink

__all__ = ["known_meta_id", "note_meta_id"]

# Beside the confirmed payload, whose row goes when Meta confirms a delete. While a delete is the newest that was sent,
# what Meta still shows may be gone the next moment.
_NOTE = text(
    """
    UPDATE item_payloads AS p SET meta_id = :meta_id, meta_id_epoch = :epoch,
        meta_id_at = CAST(:asked_at AS timestamptz)
    WHERE p.link_id = :link_id AND p.variant_id = :variant_id
      AND (CAST(:meta_id AS text) IS NULL OR COALESCE((
          SELECT a.method FROM batch_items AS a WHERE a.link_id = :link_id AND a.variant_id = :variant_id
          ORDER BY a.created_on DESC, a.batch_id DESC LIMIT 1), 'UPDATE') = 'UPDATE')
    """
)
# An item that was deleted and made anew has another id.
_KNOWN = text(
    """
    SELECT p.meta_id FROM item_payloads AS p
    WHERE p.link_id = :link_id AND p.variant_id = :variant_id AND p.meta_id_epoch = :epoch
      AND NOT EXISTS (
          SELECT FROM batch_items AS a WHERE a.link_id = :link_id AND a.variant_id = :variant_id
            AND a.method = 'DELETE' AND a.created_at > p.meta_id_at)
    """
)


async def note_meta_id(
    connection: AsyncConnection, link: ActiveLink, variant_id: str, meta_id: str | None, asked_at: datetime
) -> None:
    """Keep what Meta answered about an item: its id, or that it has none. Of items it never confirmed, nothing is kept."""
    said = {"link_id": link.link_id, "epoch": link.epoch, "variant_id": variant_id}
    await connection.execute(_NOTE, {**said, "meta_id": meta_id, "asked_at": asked_at})


async def known_meta_id(connection: AsyncConnection, link: ActiveLink, variant_id: str) -> str | None:
    """The id that Meta gave the item, as far as it was asked for and can still be true."""
    said = {"link_id": link.link_id, "epoch": link.epoch, "variant_id": variant_id}
    found: str | None = await connection.scalar(_KNOWN, said)
    return found
