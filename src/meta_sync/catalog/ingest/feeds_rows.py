"""Rows of feeds as the worker writes them: leases with a fence, the import of a file, results. Never commits.

Every statement that moves an import is in one transaction with the feed's row under the fence, feed first, so that a
worker that lost its lease writes nothing. Times are the database's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from sqlalchemy import bindparam, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.ingest.feeds_models import (
    FeedLease,
    FetchedFile,
    password_context,
    url_context,
)
from meta_sync.catalog.ingest.import_rows import LeaseLostError
from meta_sync.catalog.ingest.import_tally import Tally
from meta_sync.catalog.tables import import_findings, imports
from meta_sync.core.crypto import Cipher
from meta_sync.core.ids import new_id

__all__ = [
    "FEED_LEASE_SECONDS",
    "append_chunk",
    "begin_import",
    "complete_import",
    "drop_import",
    "give_back_feed",
    "lease_feed",
    "record_failure",
    "record_imported",
    "record_not_modified",
    "renew_feed_lease",
    "rotate_feed_secrets",
    "wait_for_import",
]

FEED_LEASE_SECONDS = 120
"""How long a dead worker holds a feed up. Longer than any wait for the network between two renewals."""

_BUSY_SECONDS = 30
"""A feed whose last import still runs is looked at again after this time."""

_UNPROVED_END = "The server did not say how long the file is, so it cannot be known whether it is whole."

# One fetch per store at a time, so that one store's slow servers do not hold up every other store's feeds; whoever asks
# for the file of one import has a process of its own and waits for none. Leasing is rare and short: one at a time, or two
# workers would each take one of two feeds.
_LEASING_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('meta_sync feed leases', 0))")
_LEASE = text(
    """
    UPDATE import_feeds SET leased_until = now() + make_interval(secs => :seconds), fence = fence + 1
    WHERE feed_id = (
        SELECT f.feed_id FROM import_feeds AS f
        WHERE f.next_at <= now() AND (f.leased_until IS NULL OR f.leased_until <= now())
          AND (f.last_import_id = CAST(:import_id AS text) OR CAST(:import_id AS text) IS NULL AND NOT EXISTS (
            SELECT FROM import_feeds AS other
            WHERE other.store_id = f.store_id AND other.next_at <= now() AND other.leased_until > now()))
        ORDER BY f.next_at, f.feed_id
        LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING feed_id, store_id, source, url, username, password, format, mode, allow_mass_delete,
        interval_seconds, etag, last_modified, content_hash, last_import_id, failures, fence
    """
)
_IMPORT_STATUS = select(imports.c.status).where(imports.c.import_id == bindparam("import_id"))
_RENEW = text(
    """
    UPDATE import_feeds SET leased_until = now() + make_interval(secs => :seconds)
    WHERE feed_id = :feed_id AND fence = :fence
    RETURNING 1
    """
)
_GIVE_BACK = text("UPDATE import_feeds SET leased_until = NULL WHERE feed_id = :feed_id AND fence = :fence")
_POSTPONE = text(
    """
    UPDATE import_feeds SET leased_until = NULL, next_at = now() + make_interval(secs => :seconds)
    WHERE feed_id = :feed_id AND fence = :fence
    """
)
# What the file was is noted with the import that it makes: a worker that dies from here on leaves an import that is
# ended or gone on with, and no second one of the same file.
_NOTE_FILE = text(
    """
    UPDATE import_feeds SET leased_until = now() + make_interval(secs => :seconds), last_import_id = :import_id,
        etag = :etag, last_modified = :last_modified, content_hash = :digest
    WHERE feed_id = :feed_id AND fence = :fence
    RETURNING 1
    """
)
_RESTART = text(
    """
    UPDATE imports SET size_bytes = 0, message = NULL, file_name = coalesce(file_name, :file_name)
    WHERE import_id = :import_id AND status = 'fetching'
    RETURNING 1
    """
)
_DELETE_CHUNKS = text("DELETE FROM import_chunks WHERE import_id = :import_id")
_INSERT_CHUNK = text(
    """
    INSERT INTO import_chunks (store_id, import_id, chunk_number, content)
    VALUES (:store_id, :import_id, :chunk_number, :content)
    """
)
_GROW = text(
    """
    UPDATE imports SET size_bytes = size_bytes + :size WHERE import_id = :import_id AND status = 'fetching'
    RETURNING 1
    """
)
# The file is whole from here on; whoever comes next only puts it in line.
_COMPLETE = text(
    """
    UPDATE imports SET status = 'uploading' WHERE import_id = :import_id AND status = 'fetching' RETURNING 1
    """
)
# What was fetched once and is not fetched again needs its secrets no more; its row stays as long as its import.
_RECORD = text(
    """
    UPDATE import_feeds SET leased_until = NULL, checked_at = now(), last_result = :result, last_message = :message,
        failures = :failures, etag = coalesce(:etag, etag), last_modified = coalesce(:last_modified, last_modified),
        next_at = CASE WHEN enabled THEN now() + make_interval(secs => CAST(:seconds AS double precision)) END,
        url = CASE WHEN interval_seconds IS NULL AND CAST(:seconds AS double precision) IS NULL THEN '' ELSE url END,
        password = CASE WHEN interval_seconds IS NULL AND CAST(:seconds AS double precision) IS NULL THEN NULL
            ELSE password END
    WHERE feed_id = :feed_id AND fence = :fence
    RETURNING 1
    """
)
_OUTCOME = select(imports.c.status, imports.c.message).where(imports.c.import_id == bindparam("import_id"))
_SAY = text("UPDATE imports SET message = :message WHERE import_id = :import_id AND status = 'fetching'")
_DROP = text(
    """
    UPDATE imports SET status = 'error', message = :message, finished_at = now(), error_code = 'file_not_fetched'
    WHERE import_id = :import_id AND status IN ('fetching', 'uploading')
    RETURNING 1
    """
)
_SECRETS = text("SELECT feed_id, url, password FROM import_feeds WHERE url <> '' ORDER BY feed_id FOR UPDATE")
_SET_SECRETS = text("UPDATE import_feeds SET url = :url, password = :password WHERE feed_id = :feed_id")


@dataclass(frozen=True, slots=True)
class _Result:
    """How a fetch ended, under the names of the statement."""

    result: str
    seconds: float | None
    """Until the next one; ``None``: there is none."""
    message: str | None = None
    failures: int = 0
    etag: str | None = None
    last_modified: str | None = None


async def lease_feed(connection: AsyncConnection, import_id: str | None = None) -> FeedLease | None:
    """Take the feed that has been due the longest (or that of an import), or ``None``.

    A dead worker's lease is free when it ends.
    """
    await connection.execute(_LEASING_LOCK)
    parameters = {"seconds": FEED_LEASE_SECONDS, "import_id": import_id}
    row = (await connection.execute(_LEASE, parameters)).first()
    if row is None:
        return None
    lease = FeedLease(*row)
    status = await connection.scalar(_IMPORT_STATUS, {"import_id": lease.last_import_id})
    return replace(lease, import_status=status)


async def renew_feed_lease(connection: AsyncConnection, lease: FeedLease) -> None:
    """Prolong the lease and lock the feed's row until the transaction ends.

    Raises
    ------
    LeaseLostError
        Somebody else has it, or the feed was changed or deleted.
    """
    found = await connection.execute(_RENEW, {**lease.identity(), "seconds": FEED_LEASE_SECONDS})
    if found.first() is None:
        raise LeaseLostError


async def give_back_feed(connection: AsyncConnection, lease: FeedLease) -> None:
    """Leave the feed to the next worker at once: this process is being stopped."""
    await connection.execute(_GIVE_BACK, lease.identity())


async def wait_for_import(connection: AsyncConnection, lease: FeedLease) -> None:
    """Look at the feed again later: its last import still runs."""
    await connection.execute(_POSTPONE, {**lease.identity(), "seconds": _BUSY_SECONDS})


async def begin_import(connection: AsyncConnection, lease: FeedLease, file: FetchedFile) -> str:
    """Note the file and the import it makes: the one that waits for it, emptied, or a new one. Returns its id.

    Raises
    ------
    LeaseLostError
        The lease or the import is no longer ours.
    """
    import_id = lease.unfinished_import_id
    parameters = {
        **lease.identity(),
        "seconds": FEED_LEASE_SECONDS,
        "import_id": import_id or new_id("import"),
        "etag": file.etag,
        "last_modified": file.last_modified,
        "digest": file.digest,
    }
    if (await connection.execute(_NOTE_FILE, parameters)).first() is None:
        raise LeaseLostError
    if import_id is not None:
        restarted = await connection.execute(_RESTART, {"import_id": import_id, "file_name": file.file_name})
        if restarted.first() is None:
            raise LeaseLostError
        await connection.execute(_DELETE_CHUNKS, {"import_id": import_id})
        return import_id
    await connection.execute(
        insert(imports).values(
            import_id=parameters["import_id"],
            store_id=lease.store_id,
            status="fetching",
            format=lease.format,
            requested_format=lease.format,
            mode=lease.mode,
            source=lease.source,
            file_name=file.file_name,
            allow_mass_delete=lease.allow_mass_delete,
            feed_id=lease.feed_id,
        )
    )
    return str(parameters["import_id"])


async def append_chunk(
    connection: AsyncConnection, lease: FeedLease, import_id: str, number: int, content: bytes
) -> None:
    """Keep one piece of the file, counted from 0.

    Raises
    ------
    LeaseLostError
        The lease or the import is no longer ours.
    """
    await renew_feed_lease(connection, lease)
    if (await connection.execute(_GROW, {"import_id": import_id, "size": len(content)})).first() is None:
        raise LeaseLostError
    await connection.execute(
        _INSERT_CHUNK,
        {
            "store_id": lease.store_id,
            "import_id": import_id,
            "chunk_number": number,
            "content": content,
        },
    )


async def complete_import(
    connection: AsyncConnection, lease: FeedLease, import_id: str, *, is_end_proved: bool
) -> None:
    """Say that every piece of the file is there; where nobody can know, a remark in the report says that.

    Raises
    ------
    LeaseLostError
        The lease or the import is no longer ours.
    """
    await renew_feed_lease(connection, lease)
    if (await connection.execute(_COMPLETE, {"import_id": import_id})).first() is None:
        raise LeaseLostError
    if not is_end_proved:
        await _remark_unproved_end(connection, lease, import_id)


async def _remark_unproved_end(connection: AsyncConnection, lease: FeedLease, import_id: str) -> None:
    """Write the first line of the report, and count it, so that the run's lines go on behind it."""
    tally = Tally()
    remark = tally.line("warning", 0, column="file", message=_UNPROVED_END, item_id=None, rule="unproved_end")
    assert remark is not None
    number, kind, row, column, message, _, rule, _ = remark
    await connection.execute(
        insert(import_findings).values(
            store_id=lease.store_id,
            import_id=import_id,
            finding_number=number,
            kind=kind,
            row=row,
            field=column,
            message=message,
            rule=rule,
        )
    )
    await connection.execute(
        update(imports).where(imports.c.import_id == import_id).values(counts=tally.to_stored())
    )


async def record_imported(
    connection: AsyncConnection, lease: FeedLease, import_id: str, *, next_in_seconds: float | None
) -> None:
    """Note that a file was handed to an import, which may have ended with a refusal at once.

    Raises
    ------
    LeaseLostError
        Somebody else has the feed, or it was changed or deleted.
    """
    found = (await connection.execute(_OUTCOME, {"import_id": import_id})).first()
    status, message = found or (None, None)
    result = "error" if status in {"error", "cancelled"} else "imported"
    shown = message if result == "error" else None
    await _record(connection, lease, _Result(result, next_in_seconds, message=shown))


async def record_not_modified(
    connection: AsyncConnection,
    lease: FeedLease,
    *,
    etag: str | None,
    last_modified: str | None,
    next_in_seconds: float,
) -> None:
    """Note that the file is the one we had.

    Raises
    ------
    LeaseLostError
        Somebody else has the feed, or it was changed or deleted.
    """
    result = _Result("not_modified", next_in_seconds, etag=etag, last_modified=last_modified)
    await _record(connection, lease, result)


async def record_failure(
    connection: AsyncConnection,
    lease: FeedLease,
    message: str,
    *,
    next_in_seconds: float | None,
    keeps_import: bool,
) -> None:
    """Note that no file was fetched. An import that waits for it goes on waiting, or ends with the same sentence.

    Raises
    ------
    LeaseLostError
        Somebody else has the feed, or it was changed or deleted.
    """
    failures = lease.failures + 1
    await _record(connection, lease, _Result("error", next_in_seconds, message=message, failures=failures))
    if lease.unfinished_import_id is None:
        return
    if keeps_import:
        await connection.execute(_SAY, {"import_id": lease.unfinished_import_id, "message": message})
    else:
        await drop_import(connection, lease.unfinished_import_id, message)


async def drop_import(connection: AsyncConnection, import_id: str, message: str) -> None:
    """End an import whose file never came whole; does nothing to one that is in line or over."""
    dropped = await connection.execute(_DROP, {"import_id": import_id, "message": message})
    if dropped.first() is not None:
        await connection.execute(_DELETE_CHUNKS, {"import_id": import_id})


async def rotate_feed_secrets(connection: AsyncConnection, cipher: Cipher) -> int:
    """Encrypt every address and password with the newest key; how many feeds were to do. Needs all stores."""
    rotated = 0
    for feed_id, url, password in (await connection.execute(_SECRETS)).all():
        contexts = (url_context(feed_id), password_context(feed_id))
        if all(cipher.is_current(value) for value in (url, password) if value is not None):
            continue
        new_url, new_password = (
            None if value is None else cipher.encrypt(cipher.decrypt(value, context=one), context=one)
            for value, one in zip((url, password), contexts, strict=True)
        )
        await connection.execute(_SET_SECRETS, {"feed_id": feed_id, "url": new_url, "password": new_password})
        rotated += 1
    return rotated


async def _record(connection: AsyncConnection, lease: FeedLease, result: _Result) -> None:
    recorded = await connection.execute(_RECORD, {**lease.identity(), **asdict(result)})
    if recorded.first() is None:
        raise LeaseLostError
