"""Imports from the caller's side: upload in pieces, watch, read the report. Running them is ``import_runner``'s business."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.ingest.detect import detect, format_by_name
from meta_sync.catalog.ingest.feeds_audit import record_import
from meta_sync.catalog.ingest.import_rows import end_import
from meta_sync.catalog.ingest.import_views import (
    IMPORT_COLUMNS,
    ImportFinding,
    ImportView,
    import_view,
    page_of_findings,
    read_import,
)
from meta_sync.catalog.ingest.rows import FileRefusedError
from meta_sync.catalog.tables import imports
from meta_sync.catalog.validation import id_fault
from meta_sync.core.db import Database
from meta_sync.core.errors import (
    ConflictError,
    ErrorDetail,
    NotFoundError,
    PayloadTooLargeError,
    ServiceError,
    ValidationFailedError,
)
from meta_sync.core.ids import new_id
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.core.text import text_fault
from meta_sync.core.timed_list import Position, TimedList, TimedPage
from meta_sync.stores.repository import load_settings

__all__ = [
    "CHUNK_BYTES",
    "ImportFinding",
    "ImportService",
    "ImportView",
    "check_request",
    "require_currency",
]

CHUNK_BYTES = 1024 * 1024
"""Size of the pieces in which an upload is kept: large enough to be few, small enough to hold one in memory."""

_HEAD_BYTES = 64 * 1024
"""What a format is recognised by."""
_MODES = ("upsert", "replace")
_LIST = TimedList(IMPORT_COLUMNS, imports.c.created_at, imports.c.import_id, import_view, newest_first=True)


_INSERT_CHUNK = text(
    """
    INSERT INTO import_chunks (store_id, import_id, chunk_number, content)
    VALUES (:store_id, :import_id, :chunk_number, :content)
    ON CONFLICT (import_id, chunk_number) DO NOTHING
    RETURNING chunk_number
    """
)
_GROW = text(
    """
    UPDATE imports SET size_bytes = size_bytes + :size
    WHERE store_id = :store_id AND import_id = :import_id AND status = 'uploading'
    RETURNING size_bytes
    """
)
_PIECES = text(
    "SELECT count(*), coalesce(max(chunk_number), -1) FROM import_chunks WHERE import_id = :import_id"
)
_HEAD = text(
    """
    SELECT substring(content FROM 1 FOR :most) FROM import_chunks
    WHERE import_id = :import_id AND chunk_number = :chunk_number
    """
)


class ImportService:
    """Takes files in and tells how their imports go."""

    def __init__(self, database: Database, queue: JobQueue, *, max_upload_bytes: int) -> None:
        self._database = database
        self._queue = queue
        self._max_upload_bytes = max_upload_bytes

    async def create(
        self,
        store_id: str,
        *,
        file_name: str | None = None,
        format: str | None = None,  # noqa: A002 - the API's own word
        mode: str = "upsert",
        source: str | None = None,
        dry_run: bool = False,
        allow_mass_delete: bool = False,
        requested_by: str | None = None,
    ) -> str:
        """Begin an upload; the id of the import.

        ``dry_run``: everything is judged and counted, nothing is written. ``allow_mass_delete``: an import that replaces
        may delete more than the store's settings let it.

        Raises
        ------
        ValidationFailedError
            The format or mode is not known, or the source cannot be stored.
        ConflictError
            The store has no currency yet.
        NotFoundError
            There is no such store.
        """
        check_request(format, mode, source)
        if file_name is not None and text_fault(file_name):
            file_name = None
        import_id = new_id("import")
        async with self._database.store(store_id) as connection:
            await require_currency(connection, store_id)
            await connection.execute(
                insert(imports).values(
                    import_id=import_id,
                    store_id=store_id,
                    status="uploading",
                    format=format,
                    requested_format=format,
                    mode=mode,
                    source=source or format,
                    file_name=file_name,
                    dry_run=dry_run,
                    allow_mass_delete=allow_mass_delete,
                    requested_by=requested_by,
                )
            )
            await record_import(
                connection,
                store_id,
                import_id,
                requested_by,
                mode=mode,
                allow_mass_delete=allow_mass_delete,
                dry_run=dry_run,
                source=source or format,
                file_name=file_name,
            )
        return import_id

    async def append_chunk(self, store_id: str, import_id: str, number: int, content: bytes) -> None:
        """Keep one piece of the file, counted from 0. The same number again changes nothing.

        Raises
        ------
        NotFoundError
            There is no such import.
        ConflictError
            Its upload is over.
        PayloadTooLargeError
            The file is larger than the process allows; the import ends with that.
        """
        if not content:
            return
        async with self._database.store(store_id) as connection:
            parameters = {"store_id": store_id, "import_id": import_id}
            grown = await connection.execute(_GROW, {**parameters, "size": len(content)})
            size = grown.scalar_one_or_none()
            if size is None:
                raise await _not_uploading(connection, store_id, import_id)
            too_large = size > self._max_upload_bytes
            if too_large:
                await _not_received(connection, import_id, self._too_large())
            else:
                chunk = {**parameters, "chunk_number": number, "content": content}
                if (await connection.execute(_INSERT_CHUNK, chunk)).first() is None:
                    await connection.execute(_GROW, {**parameters, "size": -len(content)})
        if too_large:
            raise PayloadTooLargeError(self._too_large())

    async def upload(self, store_id: str, import_id: str, pieces: AsyncIterator[bytes]) -> None:
        """Append a stream of pieces of any size and finish the upload. Raises what the two raise."""
        buffer, number = bytearray(), 0
        async for piece in pieces:
            buffer += piece
            while len(buffer) >= CHUNK_BYTES:
                await self.append_chunk(store_id, import_id, number, bytes(buffer[:CHUNK_BYTES]))
                del buffer[:CHUNK_BYTES]
                number += 1
        await self.append_chunk(store_id, import_id, number, bytes(buffer))
        await self.finish_upload(store_id, import_id)

    async def abandon(self, store_id: str, import_id: str, reason: str) -> None:
        """End an import whose file did not come whole, so that it neither waits nor keeps what came of it."""
        async with self._database.store(store_id) as connection:
            await _not_received(connection, import_id, reason)

    async def finish_upload(self, store_id: str, import_id: str) -> None:
        """Put the import in line. A file in no known format ends the import at once; its message says why.

        Raises
        ------
        NotFoundError
            There is no such import.
        ConflictError
            Its upload is over already.
        ValidationFailedError
            The file is empty, or a piece of it is missing; the upload can go on.
        """
        async with self._database.store(store_id) as connection:
            statement = select(imports.c.format, imports.c.source, imports.c.file_name).where(
                imports.c.store_id == store_id,
                imports.c.import_id == import_id,
                imports.c.status == "uploading",
            )
            row = (await connection.execute(statement.with_for_update())).first()
            if row is None:
                raise await _not_uploading(connection, store_id, import_id)
            format_name, source, file_name = row
            await _require_whole(connection, import_id)
            if format_name is None:
                head = await _head(connection, import_id)
                try:
                    format_name = (await asyncio.to_thread(detect, head, file_name)).name
                except FileRefusedError as refusal:
                    await end_import(
                        connection,
                        import_id,
                        0,
                        status="error",
                        message=refusal.message,
                        error_code="file_refused",
                    )
                    return
            await connection.execute(
                update(imports)
                .where(imports.c.import_id == import_id)
                .values(status="queued", format=format_name, source=source or format_name)
            )
        await self._queue.wake(JobName.IMPORTS)

    async def get(self, store_id: str, import_id: str) -> ImportView:
        """One import with its first errors.

        Raises
        ------
        NotFoundError
            There is no such import.
        """
        async with self._database.store(store_id) as connection:
            view = await read_import(connection, store_id, import_id)
        if view is None:
            raise _no_import(import_id)
        return view

    async def list(
        self, store_id: str, page: int = 1, limit: int = 50, *, after: Position | None = None
    ) -> TimedPage[ImportView]:
        """A page of the store's imports, newest first and without their errors; a position rules over ``page``.

        Raises
        ------
        ValidationFailedError
            The page lies beyond what pages reach.
        """
        async with self._database.store(store_id) as connection:
            return await _LIST.page(
                connection, imports.c.store_id == store_id, page=page, limit=limit, after=after
            )

    async def report(self, store_id: str, import_id: str) -> AsyncIterator[ImportFinding]:
        """Every stored finding in the order of discovery, read in pages without holding a transaction open.

        Raises
        ------
        NotFoundError
            There is no such import.
        """
        await self.get(store_id, import_id)
        last = 0
        while True:
            async with self._database.store(store_id) as connection:
                findings = await page_of_findings(connection, import_id, after=last)
            for number, finding in findings:
                yield finding
                last = number
            if not findings:
                return

    def _too_large(self) -> str:
        return (
            f"The file is larger than {self._max_upload_bytes:,} bytes, which is the most that is taken here."
        )


def check_request(format_name: str | None, mode: str, source: str | None) -> None:
    """What can be said against an import before there is a file.

    Raises
    ------
    ValidationFailedError
        The format or mode is not known, or the source cannot be stored.
    """
    if mode not in _MODES:
        raise _invalid("mode", f"must be one of: {', '.join(_MODES)}")
    if source is not None and (fault := id_fault(source)):
        raise _invalid("source", fault)
    if format_name is not None:
        try:
            format_by_name(format_name)
        except FileRefusedError as refusal:
            raise ValidationFailedError(
                refusal.message, details=[ErrorDetail("format", refusal.message)]
            ) from None


async def require_currency(connection: AsyncConnection, store_id: str) -> None:
    """Refuse what would read prices for a store that has no currency.

    Raises
    ------
    ConflictError
        The store has no currency yet.
    NotFoundError
        There is no such store.
    """
    settings, _ = await load_settings(connection, store_id)
    if settings.currency is None:
        raise ConflictError(
            "The store has no currency yet, and prices in a file mean nothing without one. "
            "Set currency in the settings first."
        )


async def _not_received(connection: AsyncConnection, import_id: str, message: str) -> None:
    await end_import(
        connection, import_id, 0, status="error", message=message, error_code="file_not_received"
    )


def _invalid(name: str, fault: str) -> ValidationFailedError:
    return ValidationFailedError(f"{name} {fault}.", details=[ErrorDetail(name, fault)])


def _no_import(import_id: str) -> NotFoundError:
    return NotFoundError(f"There is no import {import_id}.")


async def _not_uploading(connection: AsyncConnection, store_id: str, import_id: str) -> ServiceError:
    statement = select(imports.c.status).where(
        imports.c.store_id == store_id, imports.c.import_id == import_id
    )
    if (await connection.execute(statement)).first() is None:
        return _no_import(import_id)
    return ConflictError("The upload of this import is over.")


async def _require_whole(connection: AsyncConnection, import_id: str) -> None:
    pieces, highest = (await connection.execute(_PIECES, {"import_id": import_id})).one()
    if pieces == 0:
        raise ValidationFailedError("The file is empty.", details=[ErrorDetail("file", "is empty")])
    if highest != pieces - 1:
        raise _invalid("file", f"lacks {highest + 1 - pieces} of its pieces")


async def _head(connection: AsyncConnection, import_id: str) -> bytes:
    head, number = b"", 0
    while len(head) < _HEAD_BYTES:
        parameters = {"import_id": import_id, "chunk_number": number, "most": _HEAD_BYTES - len(head)}
        piece = (await connection.execute(_HEAD, parameters)).scalar_one_or_none()
        if piece is None:
            break
        head += piece
        number += 1
    return head
