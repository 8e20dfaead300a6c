"""One start of one import: its file, its limits and how far it is. Knows nothing of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from meta_sync.catalog.ingest.detect import detect
from meta_sync.catalog.ingest.encoding import HEAD_BYTES
from meta_sync.catalog.ingest.import_file import RowReader
from meta_sync.catalog.ingest.import_limits import LONGEST_RUN_HOURS, MAX_ROWS
from meta_sync.catalog.ingest.import_rows import LEASE_SECONDS, ImportLease
from meta_sync.catalog.ingest.import_tally import Tally
from meta_sync.catalog.ingest.rows import FileRefusedError, FormatContext, ImportFormat, Parsed

__all__ = ["Ending", "ImportRun", "ending_of", "overdue_sentence", "refusal_sentence"]

_RENEW_SECONDS = LEASE_SECONDS / 3
_TRIED_OUT = "This was a dry run: nothing was written."


@dataclass(slots=True)
class ImportRun:
    """One start of one import."""

    lease: ImportLease
    tally: Tally
    path: Path
    """The file, whole and plain, on local disk."""
    file_format: ImportFormat
    context: FormatContext
    stop: Event
    most_share: float
    """The largest part of a source's items that one import may delete."""
    file_bytes: int = 0

    def open(self) -> RowReader:
        """A pass over the file from its first row."""
        return RowReader(self.path, self.file_format, self.context)

    async def read(
        self, reader: RowReader, most: int, *, while_reading: Callable[[], Awaitable[None]]
    ) -> Sequence[Parsed]:
        """The next slice, read in a thread. When we are cancelled the thread is told so and waited for.

        ``while_reading`` is called every ten seconds: before the first row some formats read a whole file.
        A file with more rows than any may have ends with the last one that it may have, refused.
        """
        slice_ = asyncio.ensure_future(asyncio.to_thread(reader.read, most))
        try:
            while not (await asyncio.wait([slice_], timeout=_RENEW_SECONDS))[0]:
                await while_reading()
            entries = slice_.result()
        except BaseException:
            self.stop.set()
            await asyncio.wait([slice_])
            raise
        if entries and entries[-1].row > MAX_ROWS:
            entries = [entry for entry in entries if entry.row <= MAX_ROWS]
            reader.finished = True
            reader.refusal = FileRefusedError(f"The file has more than {MAX_ROWS:,} rows. Send it in parts.")
        return entries

    def settled_bytes(self, bytes_read: int, *, is_survey: bool = False) -> int:
        """How much of the upload is settled when a pass has read so far; of two passes each is worth half."""
        share = min(bytes_read / max(self.file_bytes, 1), 1.0)
        if self.lease.replaces:
            share = share / 2 if is_survey else (1 + share) / 2
        return int(self.lease.size_bytes * share)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an import is over."""

    status: str
    message: str | None = None
    error_code: str | None = None


def ending_of(run: ImportRun) -> Ending:
    """The ending of an import whose file was read to its end."""
    tally, lease = run.tally, run.lease
    if tally.refusal is not None:
        refusal = tally.refusal.replace("Nothing was imported and nothing deleted.", "It would be refused.")
        return Ending("error", f"{_TRIED_OUT} {refusal}", "CONFLICT")
    sentences = [_TRIED_OUT] if lease.dry_run else []
    if tally.held_back is not None:
        sentences.append(tally.held_back)
    went_in = bool(tally.created or tally.changed or tally.unchanged)
    if tally.failed and not went_in:
        sentences.insert(0, "No row of the file could be imported; the errors say why.")
        return Ending("error", " ".join(sentences), "no_row_imported")
    is_partial = bool(tally.failed or tally.failed_parents or tally.held_back)
    message = " ".join(sentences) or None
    return Ending("partial", message, "rows_failed") if is_partial else Ending("success", message)


def refusal_sentence(refusal: FileRefusedError, run: ImportRun) -> str:
    """What is wrong with the file, where, and what of it went in all the same. Reads the beginning of the file."""
    sentence = refusal.message
    other = None if run.tally.entries or run.tally.survey_entries else _other_format(run)
    if other is not None:
        sentence = (
            f"The file is not in the format {run.file_format.name} that was asked for; it is recognised as {other}."
            " Import it without naming a format."
        )
        return sentence + _what_went_in(run)
    if refusal.line is not None and str(refusal.line) not in sentence:
        column = f", column {refusal.column}" if refusal.column is not None else ""
        sentence = f"{sentence.rstrip('.')} (line {refusal.line}{column})."
    return sentence + _what_went_in(run)


def _other_format(run: ImportRun) -> str | None:
    """The format that the file is really in, where another one was asked for."""
    try:
        with run.path.open("rb") as file:
            found = detect(file.read(HEAD_BYTES), None).name
    except (FileRefusedError, OSError):
        return None
    return None if found == run.file_format.name else found


def overdue_sentence(run: ImportRun) -> str:
    """What is said of an import that was ended because it took too long."""
    return (
        f"The import was ended after {LONGEST_RUN_HOURS} hours, when row {run.tally.rows:,} was reached. "
        f"Send the file in parts.{_what_went_in(run)}"
    )


def _what_went_in(run: ImportRun) -> str:
    if run.lease.dry_run:
        return f" {_TRIED_OUT}"
    sentence = ""
    if run.tally.variants:
        sentence = f" The {run.tally.variants:,} items before that point were imported."
    if run.lease.replaces:
        sentence += (
            " Nothing was deleted." if run.tally.variants else " Nothing was imported and nothing deleted."
        )
    return sentence
