"""Rows of imports: leases, progress, what the file has named, findings. Takes a connection and never commits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.arrays import columns_of
from meta_sync.catalog.ingest.import_limits import LONGEST_RUN_HOURS
from meta_sync.catalog.ingest.import_tally import Finding, Tally
from meta_sync.core.text import text_fault

__all__ = [
    "LEASE_SECONDS",
    "MAX_STARTS",
    "ImportLease",
    "ImportOverdueError",
    "LeaseLostError",
    "add_findings",
    "end_import",
    "forget_seen",
    "give_back",
    "lease_import",
    "left_behind",
    "mark_seen",
    "postpone",
    "read_chunk",
    "renew_lease",
    "save_progress",
    "seen",
]

LEASE_SECONDS = 30
"""How long a dead worker holds an import up. A live one renews with every chunk, which takes a fraction of it."""
MAX_STARTS = 5
"""A file that stops the import this often stops it always."""


class LeaseLostError(Exception):
    """Another worker runs the import by now; ours must stop without writing."""


class ImportOverdueError(Exception):
    """The import began longer ago than any may take."""


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
    mode: str = "upsert"
    dry_run: bool = False
    """Everything is judged and counted, nothing is written to the catalog."""
    allow_mass_delete: bool = False

    @property
    def replaces(self) -> bool:
        """What the file leaves out is to go."""
        return self.mode == "replace"


# A dry run waits for the imports before it, since it tells what the file would change after them; nobody waits for a
# dry run, which leaves nothing behind. What was begun goes first, also after its worker died: in the middle of it no
# other may change what it counted on, though its upload began earlier.
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
            WHERE other.status IN ('queued', 'running') AND other.import_id <> i.import_id AND NOT other.dry_run
              AND other.store_id = i.store_id AND other.source IS NOT DISTINCT FROM i.source
              AND (other.leased_until > now()
                   OR (other.started_at IS NULL, other.created_at, other.import_id)
                      < (i.started_at IS NULL, i.created_at, i.import_id)))
        ORDER BY i.created_at, i.import_id
        LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING import_id, store_id, format, source, size_bytes, fence, starts, counts, mode, dry_run,
        allow_mass_delete
    """
)
_RENEW = text(
    """
    UPDATE imports SET leased_until = now() + make_interval(secs => :seconds)
    WHERE import_id = :import_id AND fence = :fence AND status = 'running'
    RETURNING coalesce(started_at, now()) <= now() - make_interval(hours => :longest_hours)
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
    UPDATE imports SET status = :status, message = :message, error_code = :error_code, finished_at = now(),
        leased_until = NULL,
        bytes_read = CASE WHEN :status = 'error' THEN bytes_read ELSE size_bytes END
    WHERE import_id = :import_id AND fence = :fence AND status IN ('uploading', 'running')
    RETURNING import_id
    """
)
_DELETE_CHUNKS = text("DELETE FROM import_chunks WHERE import_id = :import_id")
_SEEN_AT_ONCE = 50_000
# By row id: of a table that grew since it was analysed the planner expects one row, and would compare each with each.
_FORGET_SEEN = text(
    """
    WITH gone AS (
        DELETE FROM import_seen WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM import_seen WHERE import_id = :import_id LIMIT :most
        )) AND import_id = :import_id RETURNING 1
    )
    SELECT count(*) FROM gone
    """
)
_LEFT_BEHIND = text(
    """
    SELECT i.store_id, i.import_id FROM imports AS i
    WHERE i.finished_at > now() - interval '2 days' AND i.status IN ('success', 'partial', 'error', 'cancelled')
      AND EXISTS (SELECT FROM import_seen AS s WHERE s.import_id = i.import_id)
    """
)
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
_SEEN = text(
    """
    SELECT id FROM import_seen
    WHERE import_id = :import_id AND kind = :kind AND id = ANY(CAST(:ids AS text[]))
    """
)
_FINDING_COLUMNS = ("finding_number", "kind", "row", "field", "message", "item_id", "rule", "value")
_ADD_FINDINGS = text(
    """
    INSERT INTO import_findings
        (store_id, import_id, finding_number, kind, "row", field, message, item_id, rule, value)
    SELECT :store_id, :import_id, u.*
    FROM unnest(
        CAST(:finding_number AS integer[]), CAST(:kind AS text[]), CAST(:row AS bigint[]),
        CAST(:field AS text[]), CAST(:message AS text[]), CAST(:item_id AS text[]), CAST(:rule AS text[]),
        CAST(:value AS text[])
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
    tally = Tally.restored(counts)
    return ImportLease(row[0], row[1], row[2], row[3], row[4], row[5], row[6], tally, row[8], row[9], row[10])


async def renew_lease(connection: AsyncConnection, lease: ImportLease) -> None:
    """Prolong the lease and lock the import's row, so that nobody takes it while this transaction is open.

    Raises
    ------
    LeaseLostError
        Somebody else has it.
    ImportOverdueError
        It began longer ago than any import may take.
    """
    parameters = {
        "seconds": LEASE_SECONDS,
        "import_id": lease.import_id,
        "fence": lease.fence,
        "longest_hours": LONGEST_RUN_HOURS,
    }
    is_overdue = (await connection.execute(_RENEW, parameters)).scalar_one_or_none()
    if is_overdue is None:
        raise LeaseLostError
    if is_overdue:
        raise ImportOverdueError


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
    connection: AsyncConnection,
    import_id: str,
    fence: int,
    *,
    status: str,
    message: str | None,
    error_code: str | None = None,
) -> bool:
    """End an import and let go of its file; ``False`` when somebody else has it. `forget_seen` does the rest."""
    parameters = {
        "import_id": import_id,
        "fence": fence,
        "status": status,
        "message": message,
        "error_code": error_code,
    }
    if (await connection.execute(_END, parameters)).first() is None:
        return False
    await connection.execute(_DELETE_CHUNKS, {"import_id": import_id})
    return True


async def forget_seen(connection: AsyncConnection, import_id: str) -> bool:
    """Drop some of what an import that is over has seen; whether there may be more. Millions are no single statement."""
    parameters = {"import_id": import_id, "most": _SEEN_AT_ONCE}
    return bool((await connection.execute(_FORGET_SEEN, parameters)).scalar_one() == _SEEN_AT_ONCE)


async def left_behind(connection: AsyncConnection) -> list[tuple[str, str]]:
    """Store and id of the imports that ended when their process did, before it dropped what they had seen."""
    return [(row[0], row[1]) for row in await connection.execute(_LEFT_BEHIND)]


async def read_chunk(connection: AsyncConnection, import_id: str, chunk_number: int) -> bytes | None:
    """One piece of the uploaded file, or ``None`` after the last."""
    parameters = {"import_id": import_id, "chunk_number": chunk_number}
    content: bytes | None = (await connection.execute(_READ_CHUNK, parameters)).scalar_one_or_none()
    return content


async def mark_seen(
    connection: AsyncConnection, lease: ImportLease, kind: str, ids: Collection[str]
) -> set[str]:
    """Note ids; those that were not noted under this kind before.

    ``v``: variants and ``p``: products whose row was met, ``f``: products whose row failed, ``n``: items that the file
    names anywhere, ``a``: items that it leaves out, ``e``: products without items.
    """
    if not ids:
        return set()
    rows = await connection.execute(
        _MARK_SEEN,
        {"store_id": lease.store_id, "import_id": lease.import_id, "kind": kind, "ids": sorted(set(ids))},
    )
    return set(rows.scalars())


async def seen(connection: AsyncConnection, lease: ImportLease, kind: str, ids: Collection[str]) -> set[str]:
    """Those of the ids that are noted under this kind."""
    if not ids:
        return set()
    parameters = {"import_id": lease.import_id, "kind": kind, "ids": sorted(ids)}
    return set((await connection.execute(_SEEN, parameters)).scalars())


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
