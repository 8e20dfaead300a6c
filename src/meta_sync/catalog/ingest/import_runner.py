"""Runs imports: lease, spool, parse in a thread, write in chunks. Safe to kill anywhere: a restart goes on where it was.

A restart reads the file from its first row again and passes over what is settled, so that nothing is counted twice and
no row overwrites news that came in between.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.ingest.detect import format_by_name
from meta_sync.catalog.ingest.import_file import RowReader
from meta_sync.catalog.ingest.import_rows import (
    MAX_STARTS,
    ImportLease,
    LeaseLostError,
    end_import,
    give_back,
    lease_import,
    postpone,
    read_chunk,
    renew_lease,
    save_progress,
)
from meta_sync.catalog.ingest.import_tally import Tally
from meta_sync.catalog.ingest.import_write import Chunk
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportedParent,
    ImportedVariant,
    ImportFormat,
    Parsed,
)
from meta_sync.catalog.models import ChangeSink
from meta_sync.catalog.transactions import write_transaction
from meta_sync.core.clock import Clock
from meta_sync.core.db import Database
from meta_sync.core.failpoints import failpoint
from meta_sync.core.logging import get_logger
from meta_sync.core.outages import is_contention, is_outage, outage_reason
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.stores.repository import load_settings

__all__ = ["ImportRunner"]

_logger = get_logger(__name__)

_CHUNK_ENTRIES = 1_000
"""Rows per transaction: throughput is flat from 500 on, and the rows stay locked for a fraction of a second."""
_ABANDONED_UPLOADS = text(
    """
    UPDATE imports SET status = 'error', finished_at = now(), message = 'The upload was never finished.'
    WHERE status = 'uploading' AND created_at < now() - interval '1 day'
    RETURNING import_id
    """
)
_DELETE_CHUNKS_OF = text("DELETE FROM import_chunks WHERE import_id = ANY(CAST(:ids AS text[]))")

_Write = Callable[[Chunk], Awaitable[int]]


@dataclass(slots=True)
class _Run:
    """One start of one import."""

    lease: ImportLease
    tally: Tally
    path: Path
    file_format: ImportFormat
    context: FormatContext
    stop: Event

    async def read(self, reader: RowReader) -> Sequence[Parsed]:
        """The next slice, read in a thread. When we are cancelled the thread is told so and waited for."""
        slice_ = asyncio.ensure_future(asyncio.to_thread(reader.read, _CHUNK_ENTRIES))
        try:
            return await asyncio.shield(slice_)
        except asyncio.CancelledError:
            self.stop.set()
            await asyncio.wait([slice_])
            raise

    def open(self) -> RowReader:
        """A pass over the file from its first row."""
        return RowReader(self.path, self.file_format, self.context)


class ImportRunner:
    """Works off the waiting imports of all stores, each worker one at a time."""

    def __init__(self, database: Database, sink: ChangeSink, queue: JobQueue, clock: Clock) -> None:
        self._database = database
        self._sink = sink
        self._queue = queue
        self._clock = clock

    async def run_next(self) -> bool:
        """Run the import that waits longest, to its end or to a failure of ours; ``False`` when none waits."""
        return await self._run_leased(None)

    async def run(self, import_id: str) -> bool:
        """Run this import; ``False`` when it is over, running, or waits for an earlier one of its store and source."""
        return await self._run_leased(import_id)

    async def sweep(self) -> int:
        """End uploads that stopped half-way a day ago; how many."""
        async with self._database.platform() as connection:
            ids = list((await connection.execute(_ABANDONED_UPLOADS)).scalars())
            if ids:
                await connection.execute(_DELETE_CHUNKS_OF, {"ids": ids})
        return len(ids)

    async def _run_leased(self, import_id: str | None) -> bool:
        async with self._database.platform() as connection:
            lease = await lease_import(connection, import_id)
        if lease is None:
            return False
        try:
            await self._start(lease)
        except LeaseLostError:
            _logger.warning("An import was taken over by another worker.", import_id=lease.import_id)
        except asyncio.CancelledError:
            async with self._database.platform() as connection:
                await give_back(connection, lease)
            raise
        except Exception as error:
            # The fifth start without any progress is the last.
            expected = is_outage(error) or is_contention(error)
            _logger.log(
                30 if expected else 40,
                "An import stopped half-way and will be started again.",
                import_id=lease.import_id,
                reason=outage_reason(error) if expected else type(error).__name__,
                exc_info=None if expected else error,
            )
            async with self._database.platform() as connection:
                await postpone(connection, lease, seconds=2**lease.starts)
        return True

    async def _start(self, lease: ImportLease) -> None:
        if lease.starts > MAX_STARTS:
            rows = lease.tally.rows
            await self._end(
                lease,
                "error",
                f"The import stopped {MAX_STARTS} times without coming to its end, the last time after row {rows}. "
                "What came before that row was imported. Upload the file again, or ask the operator for the log.",
            )
            return
        async with self._database.store(lease.store_id) as connection:
            settings, _ = await load_settings(connection, lease.store_id)
        if settings.currency is None:
            await self._end(
                lease, "error", "The store has no currency. Set it in the settings, then import again."
            )
            return
        stop = Event()
        context = FormatContext(settings.currency, settings.timezone, is_cancelled=stop.is_set)
        with tempfile.TemporaryDirectory(prefix="meta-sync-import-") as directory:
            path = Path(directory) / "upload"
            run = _Run(lease, lease.tally, path, format_by_name(lease.format), context, stop)
            try:
                await self._spool(lease, path)
                await self._items(run)
                await self._end(lease, *_ending(run.tally))
            except FileRefusedError as refusal:
                await self._end(lease, "error", _refusal_sentence(refusal, run.tally))
            finally:
                stop.set()

    async def _spool(self, lease: ImportLease, path: Path) -> None:
        """Put the uploaded pieces together on local disk: formats need a file that they can seek in."""
        number = 0
        with path.open("wb") as file:
            while True:
                async with self._database.store(lease.store_id) as connection:
                    await renew_lease(connection, lease)
                    content = await read_chunk(connection, lease.import_id, number)
                if content is None:
                    return
                await asyncio.to_thread(file.write, content)
                number += 1

    async def _items(self, run: _Run) -> None:
        """The pass over the file that writes its items; the parents go first once the file turns out to have any."""
        passed_over = 0
        with run.open() as reader:
            while not reader.finished:
                entries = await run.read(reader)
                settled = min(max(run.tally.entries - passed_over, 0), len(entries))
                passed_over += settled
                fresh = entries[settled:]
                if not run.tally.parents_done and any(map(_needs_parents, fresh)):
                    await self._parents(run, reader.bytes_read)
                await self._write(run, fresh, reader.bytes_read, parents=False)
                passed_over += len(fresh)
            if reader.refusal is not None:
                raise reader.refusal

    async def _parents(self, run: _Run, bytes_read: int) -> None:
        """A pass of its own: a product may stand after its variations in the file, and nothing is held in memory."""
        passed_over = 0
        with run.open() as reader:
            while not reader.finished:
                entries = await run.read(reader)
                settled = min(max(run.tally.parent_entries - passed_over, 0), len(entries))
                passed_over += len(entries)
                await self._write(run, entries[settled:], bytes_read, parents=True)
            if reader.refusal is not None:
                raise reader.refusal
        run.tally.parents_done = True

    async def _write(self, run: _Run, entries: Sequence[Parsed], bytes_read: int, *, parents: bool) -> None:
        """One transaction: the rows, what was seen and found, the counters, the lease."""

        async def work(connection: AsyncConnection) -> tuple[Tally, int]:
            await renew_lease(connection, run.lease)
            chunk = Chunk(connection, run.lease, run.tally.copy(), self._sink, self._clock())
            if parents:
                enqueued = await chunk.write_parents(entries)
                chunk.tally.parent_entries += len(entries)
            else:
                enqueued = await chunk.write_items(entries)
                chunk.tally.entries += len(entries)
            await save_progress(connection, run.lease, chunk.tally, bytes_read)
            return chunk.tally, enqueued

        run.tally, enqueued = await write_transaction(self._database, run.lease.store_id, work)
        await failpoint("import.after_chunk")
        if enqueued:
            await self._queue.wake(JobName.DRAIN)

    async def _end(self, lease: ImportLease, status: str, message: str | None) -> None:
        async with self._database.store(lease.store_id) as connection:
            if not await end_import(connection, lease.import_id, lease.fence, status=status, message=message):
                raise LeaseLostError
        _logger.info("An import is over.", import_id=lease.import_id, status=status)
        await self._queue.wake(JobName.IMPORTS)


def _needs_parents(entry: Parsed) -> bool:
    return isinstance(entry, ImportedParent) or (
        isinstance(entry, ImportedVariant) and entry.product_is_partial
    )


def _ending(tally: Tally) -> tuple[str, str | None]:
    """Status and message of an import whose file was read to its end."""
    if not tally.failed:
        return "success", None
    if tally.created or tally.changed or tally.unchanged:
        return "partial", None
    return "error", "No row of the file could be imported; the errors say why."


def _refusal_sentence(refusal: FileRefusedError, tally: Tally) -> str:
    """What is wrong with the file, where, and what of it went in all the same."""
    sentence = refusal.message
    if refusal.line is not None and str(refusal.line) not in sentence:
        column = f", column {refusal.column}" if refusal.column is not None else ""
        sentence = f"{sentence.rstrip('.')} (line {refusal.line}{column})."
    if tally.variants:
        sentence += f" The {tally.variants:,} items before that point were imported."
    return sentence
