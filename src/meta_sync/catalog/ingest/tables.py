"""Reads delimited text: finds encoding, separator and header, then yields records in constant memory.

Knows no column of any format; the caller says which header names it recognises.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Self

from meta_sync.catalog.ingest.encoding import TextEncoding, open_text, read_head, sniff_encoding
from meta_sync.catalog.ingest.rows import FormatContext, RowFailure
from meta_sync.core.text import text_fault

__all__ = ["DELIMITERS", "Header", "Record", "RecordFault", "Table", "find_header", "open_table"]

DELIMITERS = (",", ";", "\t", "|")
MAX_RECORD_CHARS = 4_000_000
"""A longer record is not kept in memory. An unclosed quotation mark would otherwise swallow the rest of the file."""

_HEADER_RECORDS = 10
"""How many records at the top may be help lines or titles before the header."""
_CANCEL_EVERY_ROWS = 500
_SHOWN_CHARS = 200

KnownColumn = Callable[[str], str | None]
"""What a header name means, or ``None`` when the format does not know it."""


@dataclass(frozen=True, slots=True)
class Header:
    """Where the header is and how its table is separated."""

    names: list[str]
    delimiter: str
    position: int
    """Number of records (blank lines included) before it."""
    known: frozenset[str]
    """Meanings of the names that are known."""


class RecordFault(NamedTuple):
    """Why a row cannot be used."""

    column: str
    """As the file names it; ``row`` where it is not about one cell."""
    message: str
    rule: str
    """``ragged_row``, ``too_long`` or ``bad_text``."""
    value: str | None
    """The beginning of what the file says there."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row below the header, numbered from 1. Rows without any text are numbered, but not yielded."""

    number: int
    cells: list[str]
    fault: RecordFault | None = None
    """Why the row cannot be used, if so."""
    is_whole: bool = True
    """The cells are those of the header's columns, and of one row: no separator or quotation mark is missing."""
    unusable: frozenset[int] = frozenset()
    """Places of the cells whose text cannot be used."""

    def holds(self, places: Iterable[int]) -> bool:
        """Whether these cells can be relied on, whatever the others are."""
        return self.is_whole and self.unusable.isdisjoint(places)

    def failure(self, item_id: str | None) -> RowFailure:
        """The fault as a finding."""
        fault = self.fault or RecordFault("row", "The row cannot be read.", "unreadable", None)
        return RowFailure(self.number, fault.column, fault.message, item_id, fault.rule, fault.value)


@dataclass(frozen=True, slots=True)
class Table:
    """A delimited file whose header is known."""

    file: BinaryIO
    encoding: TextEncoding
    header: Header
    context: FormatContext
    pads_short_rows: bool = False
    """Cells that lack at the end of a row are empty cells: the system leaves them out. More cells stay a fault."""

    def records(self) -> Iterator[Record]:
        """Yield the rows with text in order; stops early when the import is cancelled."""
        number = 0
        widths: set[int] = set()
        if self.context.is_cancelled():  # the look through the file may have stopped before its end
            return
        with open_text(self.file, self.encoding) as stream:
            lines = _Lines(stream)
            reader = csv.reader(lines, delimiter=self.header.delimiter)
            for _ in range(self.header.position + 1):
                if _next_cells(reader) is None:
                    return
            while True:
                if number % _CANCEL_EVERY_ROWS == 0 and self.context.is_cancelled():
                    return
                lines.begin()
                cells = _next_cells(reader)
                if cells is None:
                    return
                for record in self._records(number + 1, cells, lines, widths):
                    number = record.number
                    if record.fault or any(record.cells):
                        yield record

    def _records(
        self, number: int, cells: list[str] | _TooLongError, lines: _Lines, widths: set[int]
    ) -> Iterator[Record]:
        """The rows in what was read as one; ``widths`` are the numbers of cells that short rows had so far."""
        if isinstance(cells, _TooLongError):
            message = "The row is too long; a quotation mark may be left open in it."
            shown = "".join(lines.taken[:1])[:_SHOWN_CHARS]
            yield Record(number, [], RecordFault("row", message, "too_long", shown), is_whole=False)
            return
        if len(lines.taken) > 1:
            # A lone quotation mark may have swallowed line ends: then the lines are rows when quoting is left aside.
            # A record that is whole is taken apart only if every line is, a ragged one if most are.
            singles = [self._split_plain(line) for line in lines.taken]
            rows = sum(len(single) in widths or not self._is_ragged(single) for single in singles)
            if rows == len(singles) or (rows * 2 > len(singles) and self._is_ragged(cells)):
                for place, single in enumerate(singles):
                    yield self._check(number + place, self._padded(single, lines, widths))
                return
        if lines.is_over and any(cells):
            # The rows below may all be in this cell, or the file was cut within it.
            message = "The row's last quotation mark is left open up to the end of the file."
            yield self._broken(number, cells, message)
            return
        yield self._check(number, self._padded(cells, lines, widths), is_one_line=len(lines.taken) < 2)

    def _padded(self, cells: list[str], lines: _Lines, widths: set[int]) -> list[str]:
        missing = len(self.header.names) - len(cells)
        if not self.pads_short_rows or missing <= 0 or len(cells) < 2 or not any(cells):
            return cells  # a single cell is a line of text rather than a row
        # A file that was cut ends in the middle of a row; such a row is short in a way no row before it was.
        if len(cells) not in widths and not lines.taken[-1].endswith(("\n", "\r")):
            return cells
        widths.add(len(cells))
        return cells + [""] * missing

    def _is_ragged(self, cells: Sequence[str]) -> bool:
        return len(cells) < len(self.header.names) or any(cells[len(self.header.names) :])

    def _split_plain(self, line: str) -> list[str]:
        return next(csv.reader([line], delimiter=self.header.delimiter, quoting=csv.QUOTE_NONE), [])

    def _broken(self, number: int, cells: list[str], message: str) -> Record:
        shown = self.header.delimiter.join(cell[:_SHOWN_CHARS] for cell in cells[:_SHOWN_CHARS])
        fault = RecordFault("row", message, "ragged_row", shown[:_SHOWN_CHARS])
        return Record(number, cells, fault, is_whole=False)

    def _check(self, number: int, cells: list[str], *, is_one_line: bool = True) -> Record:
        names = self.header.names
        if any(cells) and self._is_ragged(cells):
            message = (
                f"The row has {len(cells)} cells, but the header has {len(names)};"
                " a separator or a quotation mark may be missing."
            )
            return self._broken(number, cells, message)
        whole = "".join(cells)
        if len(whole) <= self.context.max_cell_chars and text_fault(whole) is None:
            return Record(number, cells)  # a table of eighty columns is not looked at cell by cell
        faults = {
            place: fault
            for place, (name, cell) in enumerate(zip(names, cells, strict=False))
            if (fault := _cell_fault(name, cell, self.context)) is not None
        }
        if not faults:
            return Record(number, cells)
        # An over-long cell of several lines may be one that a lone quotation mark made of whole rows.
        is_whole = is_one_line or all(fault.rule != "too_long" for fault in faults.values())
        first = faults[min(faults)]
        return Record(number, cells, first, is_whole=is_whole, unusable=frozenset(faults))


def open_table(
    file: BinaryIO, context: FormatContext, known: KnownColumn, *, pads_short_rows: bool = False
) -> Table | None:
    """Look through the file once for its encoding and find the header; ``None`` when there is no header to be known.

    ``pads_short_rows``: see `Table`.

    Raises
    ------
    FileRefusedError
        The text cannot be decoded.
    """
    encoding = sniff_encoding(file, context.is_cancelled)
    header = find_header(read_head(file).decode(encoding.codec, "replace"), known)
    if header is None or not header.known:
        return None
    return Table(file, encoding, header, context, pads_short_rows)


def find_header(head: str, known: KnownColumn) -> Header | None:
    """The record among the first ones, and the separator, that name the most known columns.

    Without any known name it is the first line with text, split by the separator that gives the most cells.
    ``None`` for a text without any line.
    """
    best: Header | None = None
    for delimiter in DELIMITERS:
        for position, cells in enumerate(_first_records(head, delimiter)):
            names = [cell.strip().strip("\ufeff").strip() for cell in cells]
            if not any(names):
                continue
            meanings = frozenset(meaning for name in names if (meaning := known(name)) is not None)
            rank = (len(meanings), -position, len(names))
            if best is None or rank > (len(best.known), -best.position, len(best.names)):
                best = Header(names, delimiter, position, meanings)
    return best


def _first_records(head: str, delimiter: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter)
    try:
        for _ in range(_HEADER_RECORDS):
            cells = next(reader, None)
            if cells is None:
                return
            yield cells
    except csv.Error:
        return


def _cell_fault(name: str, cell: str, context: FormatContext) -> RecordFault | None:
    if len(cell) > context.max_cell_chars:
        message = f"The cell has {len(cell)} characters; at most {context.max_cell_chars} are allowed."
        return RecordFault(name, message, "too_long", cell[:_SHOWN_CHARS])
    fault = text_fault(cell)
    return RecordFault(name, f"The text {fault}.", "bad_text", cell[:_SHOWN_CHARS]) if fault else None


class _TooLongError(Exception):
    """A record is longer than may be kept."""


class _Lines:
    """The lines of a stream, each and all of one record bounded, the current record's lines remembered."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream
        self._chars = 0
        self.taken: list[str] = []
        self.is_over = False
        """The stream ended within the current record, so a quotation mark is left open in it."""

    def begin(self) -> None:
        """Forget the lines of the record before."""
        self.taken.clear()
        self.is_over = False
        self._chars = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(MAX_RECORD_CHARS)
        if not line:
            self.is_over = True
            raise StopIteration
        self._chars += len(line)
        if self._chars >= MAX_RECORD_CHARS:
            while line and not line.endswith(("\n", "\r")):
                line = self._stream.readline(MAX_RECORD_CHARS)
            raise _TooLongError
        self.taken.append(line)
        return line


def _next_cells(reader: Iterator[list[str]]) -> list[str] | _TooLongError | None:
    """The next record, why there is none, or ``None`` at the end."""
    # The module's own limit is one for the whole process and shorter than a cell may be; it is only ever raised.
    if csv.field_size_limit() < MAX_RECORD_CHARS:
        csv.field_size_limit(MAX_RECORD_CHARS)
    try:
        return next(reader, None)
    except _TooLongError as error:
        return error
    except csv.Error:
        return _TooLongError()
