"""Runs imports: lease, spool, parse in a thread, write in chunks. Safe to kill anywhere: a restart goes on where it was.

A restart reads the file from its first row again and passes over what is settled, so that nothing is counted twice and
no row overwrites news that came in between. An import that replaces reads the whole file once before it writes anything.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from threading import Event

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.ingest.compression import MAX_INFLATED_BYTES, InflationLimits
from meta_sync.catalog.ingest.detect import format_by_name
from meta_sync.catalog.ingest.import_file import RowReader
from meta_sync.catalog.ingest.import_inflate import plain_file
from meta_sync.catalog.ingest.import_replace import (
    Deletion,
    DeletionHeldError,
    check_whole,
    list_absent,
    note_named,
)
from meta_sync.catalog.ingest.import_rows import (
    MAX_STARTS,
    ImportLease,
    ImportOverdueError,
    LeaseLostError,
    end_import,
    forget_seen,
    give_back,
    lease_import,
    left_behind,
    postpone,
    read_chunk,
    renew_lease,
    save_progress,
)
from meta_sync.catalog.ingest.import_run import (
    Ending,
    ImportRun,
    ending_of,
    overdue_sentence,
    refusal_sentence,
)
from meta_sync.catalog.ingest.import_spool import ChangeSpool
from meta_sync.catalog.ingest.import_tally import Tally
from meta_sync.catalog.ingest.import_write import Chunk
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportedParent,
    ImportedVariant,
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
    UPDATE imports SET status = 'error', finished_at = now(), message = 'The upload was never finished.',
        error_code = 'file_not_received'
    WHERE status = 'uploading' AND created_at < now() - interval '1 day'
    RETURNING import_id
    """
)
_DELETE_CHUNKS_OF = text("DELETE FROM import_chunks WHERE import_id = ANY(CAST(:ids AS text[]))")


class ImportRunner:
    """Works off the waiting imports of all stores, each worker one at a time."""

    def __init__(
        self,
        database: Database,
        sink: ChangeSink,
        queue: JobQueue,
        clock: Clock,
        *,
        max_inflated_bytes: int = MAX_INFLATED_BYTES,
    ) -> None:
        self._inflation_limits = InflationLimits(max_inflated_bytes)
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
        """End uploads that stopped half-way a day ago; how many. Drops what imports that are over have left behind."""
        async with self._database.platform() as connection:
            ids = list((await connection.execute(_ABANDONED_UPLOADS)).scalars())
            if ids:
                await connection.execute(_DELETE_CHUNKS_OF, {"ids": ids})
            leftovers = await left_behind(connection)
        for store_id, import_id in leftovers:
            await self._forget(store_id, import_id)
        return len(ids)

    async def _run_leased(self, import_id: str | None) -> bool:
        async with self._database.platform() as connection:
            lease = await lease_import(connection, import_id)
        if lease is None:
            return False
        try:
            await self._start(lease)
        except LeaseLostError:
            _logger.warning(
                "An import was called off, or taken over by another worker.", import_id=lease.import_id
            )
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
            await self._end(lease, Ending("error", _stopped_sentence(lease), "import_stopped"))
            return
        async with self._database.store(lease.store_id) as connection:
            settings, _ = await load_settings(connection, lease.store_id)
        if settings.currency is None:
            sentence = "The store has no currency. Set it in the settings, then import again."
            await self._end(lease, Ending("error", sentence, "config_incomplete"))
            return
        stop = Event()
        context = FormatContext(settings.currency, settings.timezone, is_cancelled=stop.is_set)
        with tempfile.TemporaryDirectory(prefix="meta-sync-import-") as directory:
            run = ImportRun(
                lease,
                lease.tally,
                Path(directory) / "upload",
                format_by_name(lease.format),
                context,
                stop,
                settings.guard_max_share,
            )
            try:
                await self._end(lease, await self._run(run))
            finally:
                stop.set()

    async def _run(self, run: ImportRun) -> Ending:
        """All passes over the file, each of which goes on where the last start left it; how the import ends."""
        try:
            await self._spool(run.lease, run.path)
            run.path = await plain_file(run.path, self._inflation_limits, lambda: self._renew(run.lease))
            run.file_bytes = run.path.stat().st_size
            if run.lease.replaces and not run.tally.checked:
                await self._survey(run)
            if run.tally.refusal is not None and not run.lease.dry_run:
                return Ending("error", run.tally.refusal, "CONFLICT")
            await self._items(run)
            if run.lease.replaces and not run.tally.deletion_done:
                await self._delete_absent(run)
        except FileRefusedError as refusal:
            said = await asyncio.to_thread(refusal_sentence, refusal, run)
            return Ending("error", said, "file_refused")
        except ImportOverdueError:
            return Ending("error", overdue_sentence(run), "import_stopped")
        return ending_of(run)

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

    async def _renew(self, lease: ImportLease) -> None:
        async with self._database.store(lease.store_id) as connection:
            await renew_lease(connection, lease)

    async def _read(self, run: ImportRun, reader: RowReader) -> Sequence[Parsed]:
        return await run.read(reader, _CHUNK_ENTRIES, while_reading=lambda: self._renew(run.lease))

    async def _survey(self, run: ImportRun) -> None:
        """The pass that only looks what the file names. Nothing is written to the catalog before it was judged as a whole."""
        passed_over = 0
        with run.open() as reader:
            while not reader.finished:
                entries = await self._read(run, reader)
                settled = min(max(run.tally.survey_entries - passed_over, 0), len(entries))
                passed_over += len(entries)
                await self._note_named(run, entries[settled:], reader.bytes_read)
            if reader.refusal is not None:
                raise reader.refusal

        async def work(connection: AsyncConnection) -> Tally:
            await renew_lease(connection, run.lease)
            tally = run.tally.copy()
            await check_whole(connection, run.lease, tally, most_share=run.most_share)
            await save_progress(connection, run.lease, tally, run.settled_bytes(0))
            return tally

        run.tally = await write_transaction(self._database, run.lease.store_id, work)
        await failpoint("import.after_survey")

    async def _note_named(self, run: ImportRun, entries: Sequence[Parsed], bytes_read: int) -> None:
        async def work(connection: AsyncConnection) -> Tally:
            await renew_lease(connection, run.lease)
            tally = run.tally.copy()
            await note_named(connection, run.lease, tally, entries)
            await save_progress(connection, run.lease, tally, run.settled_bytes(bytes_read, is_survey=True))
            return tally

        run.tally = await write_transaction(self._database, run.lease.store_id, work)
        await failpoint("import.after_survey")

    async def _delete_absent(self, run: ImportRun) -> None:
        """The one transaction that deletes, or in a dry run lists, what the file leaves out."""
        await failpoint("import.before_deletion")

        async def work(connection: AsyncConnection) -> Tally:
            await renew_lease(connection, run.lease)
            tally = run.tally.copy()
            if run.lease.dry_run:
                await list_absent(connection, run.lease, tally)
            elif tally.held_back is None:
                changes = ChangeSpool(run.path.with_name("changes"))
                await Deletion(connection, run.lease, tally, changes, run.most_share).run()
                await changes.tell(self._sink, connection, run.lease.store_id)
            await save_progress(connection, run.lease, tally, run.lease.size_bytes)
            return tally

        try:
            run.tally = await write_transaction(self._database, run.lease.store_id, work)
        except DeletionHeldError as held:
            run.tally.held_back = held.message
            run.tally = await write_transaction(self._database, run.lease.store_id, work)
        if run.tally.deleted:
            await self._queue.wake(JobName.DRAIN)

    async def _items(self, run: ImportRun) -> None:
        """The pass over the file that writes its items; the parents go first once the file turns out to have any."""
        passed_over = 0
        with run.open() as reader:
            while not reader.finished:
                entries = await self._read(run, reader)
                settled = min(max(run.tally.entries - passed_over, 0), len(entries))
                passed_over += settled
                fresh = entries[settled:]
                if not run.tally.parents_done and any(map(_needs_parents, fresh)):
                    await self._parents(run, reader.bytes_read)
                await self._write(run, fresh, reader.bytes_read, parents=False)
                passed_over += len(fresh)
            if reader.refusal is not None:
                raise reader.refusal

    async def _parents(self, run: ImportRun, bytes_read: int) -> None:
        """A pass of its own: a product may stand after its variations in the file, and nothing is held in memory."""
        passed_over = 0
        with run.open() as reader:
            while not reader.finished:
                entries = await self._read(run, reader)
                settled = min(max(run.tally.parent_entries - passed_over, 0), len(entries))
                passed_over += len(entries)
                await self._write(run, entries[settled:], bytes_read, parents=True)
            if reader.refusal is not None:
                raise reader.refusal
        run.tally.parents_done = True

    async def _write(
        self, run: ImportRun, entries: Sequence[Parsed], bytes_read: int, *, parents: bool
    ) -> None:
        """One transaction: the rows, what was seen and found, the counters, the lease."""

        async def work(connection: AsyncConnection) -> tuple[Tally, int]:
            await renew_lease(connection, run.lease)
            chunk = Chunk(
                connection, run.lease, run.tally.copy(), self._sink, self._clock(), run.context.currency
            )
            if parents:
                enqueued = await chunk.write_parents(entries)
                chunk.tally.parent_entries += len(entries)
            else:
                enqueued = await chunk.write_items(entries)
                chunk.tally.entries += len(entries)
            await save_progress(connection, run.lease, chunk.tally, run.settled_bytes(bytes_read))
            return chunk.tally, enqueued

        run.tally, enqueued = await write_transaction(self._database, run.lease.store_id, work)
        await failpoint("import.after_chunk")
        if enqueued:
            await self._queue.wake(JobName.DRAIN)

    async def _end(self, lease: ImportLease, ending: Ending) -> None:
        async with self._database.store(lease.store_id) as connection:
            if not await end_import(
                connection,
                lease.import_id,
                lease.fence,
                status=ending.status,
                message=ending.message,
                error_code=ending.error_code,
            ):
                raise LeaseLostError
        _logger.info("An import is over.", import_id=lease.import_id, status=ending.status)
        await self._queue.wake(JobName.IMPORTS)
        try:
            await self._forget(lease.store_id, lease.import_id)
        except Exception as error:
            if not (is_outage(error) or is_contention(error)):
                raise
            # The import is over all the same; the sweep drops what is left.
            _logger.info("What an import has seen is dropped later.", import_id=lease.import_id)

    async def _forget(self, store_id: str, import_id: str) -> None:
        is_more = True
        while is_more:
            async with self._database.store(store_id) as connection:
                is_more = await forget_seen(connection, import_id)


def _needs_parents(entry: Parsed) -> bool:
    return isinstance(entry, ImportedParent) or (
        isinstance(entry, ImportedVariant) and entry.product_is_partial
    )


def _stopped_sentence(lease: ImportLease) -> str:
    rows = lease.tally.rows
    sentence = (
        f"The import stopped {MAX_STARTS} times without coming to its end, the last time after row {rows}. "
    )
    if lease.dry_run:
        sentence += "It was a dry run: nothing was written. "
    elif lease.replaces and not lease.tally.entries:
        sentence += "Nothing was imported and nothing deleted. "
    elif lease.replaces and lease.tally.deletion_done:
        sentence += "All of it was applied. "
    else:
        sentence += "What came before that row was imported. "
        sentence += "Nothing was deleted. " if lease.replaces else ""
    return sentence + "Upload the file again, or ask the operator for the log."
