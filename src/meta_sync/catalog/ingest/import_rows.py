"""Rows of imports: leases, progress, what the file has named, findings. Takes a connection and never commits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.arrays import columns_of
from meta_sync.catalog.ingest.import_tally import Finding, Tally
from meta_sync.core.text import text_fault

__all__ = [
    "LEASE_SECONDS",
    "MAX_STARTS",
    "ImportLease",
    "LeaseLostError",
    "add_findings",
    "end_import",
    "give_back",
    "lease_import",
    "mark_seen",
    "postpone",
    "read_chunk",
    "renew_lease",
    "save_progress",
]

LEASE_SECONDS = 30
"""How long a dead worker holds an import up. A live one renews with every chunk, which takes a fraction of it."""
MAX_STARTS = 5
"""A file that stops the import this often stops it always."""


class LeaseLostError(Exception):
    """Another worker runs the import by now; ours must stop without writing."""


@dataclass(frozen=True, slots=True)
class ImportLease:
    """The right to run one import, until the lease ends or somebody takes a higher fence."""

    import_id: str
    store_id: str
    format: str
    source: str
    size_bytes: int
    fence: int
    starts: int
    tally: Tally


# Leasing is rare and short: one at a time, or two workers could each start one of two imports of the same source.
_LEASING_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('meta_sync import leases', 0))")
_LEASE = text(
    """
    UPDATE imports SET status = 'running', leased_until = now() + make_interval(secs => :seconds),
        fence = fence + 1, starts = starts + 1, started_at = coalesce(started_at, now())
    WHERE import_id = (
        SELECT i.import_id FROM imports AS i
        WHERE i.status IN ('queued', 'running') AND (i.leased_until IS NULL OR i.leased_until <= now())
          AND (CAST(:import_id AS text) IS NULL OR i.import_id = :import_id)
          AND NOT EXISTS (
            SELECT 1 FROM imports AS other
            WHERE other.status IN ('queued', 'running') AND other.import_id <> i.import_id
              AND other.store_id = i.store_id AND other.source IS NOT DISTINCT FROM i.source
              AND (other.leased_until > now()
                   OR (other.created_at, other.import_id) < (i.created_at, i.import_id)))
        ORDER BY i.created_at, i.import_id
        LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING import_id, store_id, format, source, size_bytes, fence, starts, counts
    """
)
_RENEW = text(
    """
    UPDATE imports SET leased_until = now() + make_interval(secs => :seconds)
    WHERE import_id = :import_id AND fence = :fence AND status = 'running'
    RETURNING import_id
    """
)
# An import that moved is started anew as often as it takes: what stopped it was no row of its file.
_SAVE_PROGRESS = text(
    """
    UPDATE imports SET counts = CAST(:counts AS jsonb), bytes_read = :bytes_read,
        starts = CASE WHEN counts = CAST(:counts AS jsonb) THEN starts ELSE 1 END
    WHERE import_id = :import_id AND fence = :fence
    """
)
_POSTPONE = text(
    """
    UPDATE imports SET leased_until = now() + make_interval(secs => :seconds)
    WHERE import_id = :import_id AND fence = :fence AND status = 'running'
    """
)
_GIVE_BACK = text(
    """
    UPDATE imports SET status = 'queued', leased_until = NULL, starts = starts - 1
    WHERE import_id = :import_id AND fence = :fence AND status = 'running'
    """
)
_END = text(
    """
    UPDATE imports SET status = :status, message = :message, finished_at = now(), leased_until = NULL,
        bytes_read = CASE WHEN :status = 'error' THEN bytes_read ELSE size_bytes END
    WHERE import_id = :import_id AND fence = :fence AND status IN ('uploading', 'running')
    RETURNING import_id
    """
)
_DELETE_CHUNKS = text("DELETE FROM import_chunks WHERE import_id = :import_id")
_DELETE_SEEN = text("DELETE FROM import_seen WHERE import_id = :import_id")
_READ_CHUNK = text(
    "SELECT content FROM import_chunks WHERE import_id = :import_id AND chunk_number = :chunk_number"
)
_MARK_SEEN = text(
    """
    INSERT INTO import_seen (store_id, import_id, kind, id)
    SELECT :store_id, :import_id, :kind, u.id FROM unnest(CAST(:ids AS text[])) AS u (id)
    ON CONFLICT (import_id, kind, id) DO NOTHING
    RETURNING id
    """
)
_FINDING_COLUMNS = ("finding_number", "kind", "row", "field", "message", "item_id")
_ADD_FINDINGS = text(
    """
    INSERT INTO import_findings (store_id, import_id, finding_number, kind, "row", field, message, item_id)
    SELECT :store_id, :import_id, u.*
    FROM unnest(
        CAST(:finding_number AS integer[]), CAST(:kind AS text[]), CAST(:row AS bigint[]),
        CAST(:field AS text[]), CAST(:message AS text[]), CAST(:item_id AS text[])
    ) AS u
    """
)


async def lease_import(connection: AsyncConnection, import_id: str | None = None) -> ImportLease | None:
    """Take the import that waits longest (or the named one), unless an earlier one of its store and source is not over."""
    await connection.execute(_LEASING_LOCK)
    found = await connection.execute(_LEASE, {"seconds": LEASE_SECONDS, "import_id": import_id})
    row = found.first()
    if row is None:
        return None
    counts = orjson.loads(row[7]) if isinstance(row[7], str) else row[7]
    return ImportLease(row[0], row[1], row[2], row[3], row[4], row[5], row[6], Tally.restored(counts))


async def renew_lease(connection: AsyncConnection, lease: ImportLease) -> None:
    """Prolong the lease and lock the import's row, so that nobody takes it while this transaction is open.

    Raises
    ------
    LeaseLostError
        Somebody else has it.
    """
    parameters = {"seconds": LEASE_SECONDS, "import_id": lease.import_id, "fence": lease.fence}
    if (await connection.execute(_RENEW, parameters)).first() is None:
        raise LeaseLostError


async def save_progress(
    connection: AsyncConnection, lease: ImportLease, tally: Tally, bytes_read: int
) -> None:
    """Store the counters and how far the file was read."""
    await connection.execute(
        _SAVE_PROGRESS,
        {
            "import_id": lease.import_id,
            "fence": lease.fence,
            "counts": orjson.dumps(tally.to_stored()).decode(),
            "bytes_read": min(bytes_read, lease.size_bytes),
        },
    )


async def postpone(connection: AsyncConnection, lease: ImportLease, seconds: float) -> None:
    """Leave the import alone for a while after a failure of ours."""
    await connection.execute(
        _POSTPONE, {"import_id": lease.import_id, "fence": lease.fence, "seconds": seconds}
    )


async def give_back(connection: AsyncConnection, lease: ImportLease) -> None:
    """Put the import back in line as if it had not been started: this process is being stopped."""
    await connection.execute(_GIVE_BACK, {"import_id": lease.import_id, "fence": lease.fence})


async def end_import(
    connection: AsyncConnection, import_id: str, fence: int, *, status: str, message: str | None
) -> bool:
    """End an import and let go of its file; ``False`` when somebody else has it."""
    parameters = {"import_id": import_id, "fence": fence, "status": status, "message": message}
    if (await connection.execute(_END, parameters)).first() is None:
        return False
    await connection.execute(_DELETE_CHUNKS, {"import_id": import_id})
    await connection.execute(_DELETE_SEEN, {"import_id": import_id})
    return True


async def read_chunk(connection: AsyncConnection, import_id: str, chunk_number: int) -> bytes | None:
    """One piece of the uploaded file, or ``None`` after the last."""
    parameters = {"import_id": import_id, "chunk_number": chunk_number}
    content: bytes | None = (await connection.execute(_READ_CHUNK, parameters)).scalar_one_or_none()
    return content


async def mark_seen(
    connection: AsyncConnection, lease: ImportLease, kind: str, ids: Collection[str]
) -> set[str]:
    """Note ids of variants (``v``) or products (``p``); those that the file had not named before."""
    if not ids:
        return set()
    rows = await connection.execute(
        _MARK_SEEN,
        {"store_id": lease.store_id, "import_id": lease.import_id, "kind": kind, "ids": sorted(set(ids))},
    )
    return set(rows.scalars())


async def add_findings(connection: AsyncConnection, lease: ImportLease, findings: Sequence[Finding]) -> None:
    """Store findings for the report. What a file says is quoted in them, so unstorable characters are replaced."""
    if not findings:
        return
    cleaned: list[list[Any]] = [
        [_storable(value) if isinstance(value, str) else value for value in finding] for finding in findings
    ]
    await connection.execute(
        _ADD_FINDINGS,
        {
            "store_id": lease.store_id,
            "import_id": lease.import_id,
            **columns_of(_FINDING_COLUMNS, cleaned),
        },
    )


def _storable(value: str) -> str:
    if text_fault(value) is None:
        return value
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
