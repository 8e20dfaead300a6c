"""Reads delimited text: finds encoding, separator and header, then yields records in constant memory.

Knows no column of any format; the caller says which header names it recognises.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Self

from meta_sync.catalog.ingest.encoding import TextEncoding, open_text, read_head, sniff_encoding
from meta_sync.catalog.ingest.rows import FormatContext
from meta_sync.core.text import text_fault

__all__ = ["DELIMITERS", "Header", "Record", "Table", "find_header", "open_table"]

DELIMITERS = (",", ";", "\t", "|")
MAX_RECORD_CHARS = 4_000_000
"""A longer record is not kept in memory. An unclosed quotation mark would otherwise swallow the rest of the file."""

_HEADER_RECORDS = 10
"""How many records at the top may be help lines or titles before the header."""
_CANCEL_EVERY_ROWS = 500

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


@dataclass(frozen=True, slots=True)
class Record:
    """One row below the header, numbered from 1. Rows without any text are numbered, but not yielded."""

    number: int
    cells: list[str]
    fault: tuple[str, str] | None = None
    """Column and sentence, where the row cannot be used."""


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
            yield Record(number, [], ("row", "The row is too long; a quotation mark may be left open in it."))
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
        yield self._check(number, self._padded(cells, lines, widths))

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

    def _check(self, number: int, cells: list[str]) -> Record:
        names = self.header.names
        if any(cells) and self._is_ragged(cells):
            message = (
                f"The row has {len(cells)} cells, but the header has {len(names)};"
                " a separator or a quotation mark may be missing."
            )
            return Record(number, cells, ("row", message))
        whole = "".join(cells)
        if len(whole) <= self.context.max_cell_chars and text_fault(whole) is None:
            return Record(number, cells)  # a table of eighty columns is not looked at cell by cell
        for name, cell in zip(names, cells, strict=False):
            if len(cell) > self.context.max_cell_chars:
                return Record(number, cells, (name, _too_long(len(cell), self.context)))
            fault = text_fault(cell)
            if fault:
                return Record(number, cells, (name, f"The text {fault}."))
        return Record(number, cells)


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


def _too_long(length: int, context: FormatContext) -> str:
    return f"The cell has {length} characters; at most {context.max_cell_chars} are allowed."


class _TooLongError(Exception):
    """A record is longer than may be kept."""


class _Lines:
    """The lines of a stream, each and all of one record bounded, the current record's lines remembered."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream
        self._chars = 0
        self.taken: list[str] = []

    def begin(self) -> None:
        """Forget the lines of the record before."""
        self.taken.clear()
        self._chars = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._stream.readline(MAX_RECORD_CHARS)
        if not line:
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
