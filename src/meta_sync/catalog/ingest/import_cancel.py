"""Calling an import off: where it is, in one transaction, with a sentence that says what went in. Never commits."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.ingest.import_tally import Tally

__all__ = ["called_off_sentence", "cancel_import"]

_WAIT_LITTLE = text("SELECT set_config('lock_timeout', '3s', true)")
# Waits for the piece that is being written, which then counts: whoever writes the next finds that it is no longer theirs.
_HOLD = text(
    """
    SELECT counts, mode = 'replace', dry_run FROM imports
    WHERE store_id = :store_id AND import_id = :import_id
      AND status IN ('fetching', 'uploading', 'queued', 'running')
    FOR UPDATE
    """
).columns(counts=JSONB)
_CANCEL = text(
    """
    UPDATE imports SET status = 'cancelled', message = :message, finished_at = now(), leased_until = NULL, fence = fence + 1
    WHERE import_id = :import_id
    """
)
_DELETE_CHUNKS = text("DELETE FROM import_chunks WHERE import_id = :import_id")


async def cancel_import(connection: AsyncConnection, store_id: str, import_id: str) -> bool:
    """End an import that is not over where it is; whether there was one.

    What its transactions wrote stays, and nothing of a transaction that did not end: rows go in by the thousand, and what a
    file leaves out is deleted in a single one.

    Raises
    ------
    DBAPIError
        Such a transaction holds the import for longer than three seconds (``is_contention``).
    """
    given = {"store_id": store_id, "import_id": import_id}
    # A deletion may take minutes; nobody waits for an answer that long.
    await connection.execute(_WAIT_LITTLE)
    row = (await connection.execute(_HOLD, given)).one_or_none()
    if row is None:
        return False
    tally = Tally.restored(row[0])
    message = called_off_sentence(tally, replaces=row[1], dry_run=row[2])
    await connection.execute(_CANCEL, {"import_id": import_id, "message": message})
    await connection.execute(_DELETE_CHUNKS, {"import_id": import_id})
    return True


def called_off_sentence(tally: Tally, *, replaces: bool, dry_run: bool) -> str:
    """What is said of an import that somebody called off."""
    sentence = "The import was called off. "
    if dry_run:
        return f"{sentence}It was a dry run: nothing was written."
    if tally.deletion_done:
        return f"{sentence}By then all of it was done, {tally.deleted:,} items that the file leaves out were deleted."
    if not (tally.entries or tally.parent_entries):
        return f"{sentence}Nothing was imported{' and nothing deleted' if replaces else ''}."
    went_in = tally.created + tally.changed
    sentence += (
        f"What came before row {tally.rows:,} had gone in and stays: {tally.created:,} items created, {tally.changed:,} changed."
        if went_in
        else f"It had reached row {tally.rows:,}, and no item was created or changed."
    )
    return sentence + (" Nothing was deleted." if replaces else "")
