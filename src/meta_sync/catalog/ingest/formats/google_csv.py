"""Google's and Meta's product feed as a table with commas or another separator, Meta's own template included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe, export_system
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.google_fields import FeedRows, meaning_of
from meta_sync.catalog.ingest.reader import Cell
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportFormat,
    Parsed,
    RowFailure,
    RowWarning,
)
from meta_sync.catalog.ingest.tables import Record, find_header, open_table
from meta_sync.catalog.ingest.values import simplify

__all__ = ["GoogleCsv"]

_PROOF = frozenset(("link", "image_link", "price", "availability"))
"""A table with id and title is a feed when it has one of these, too."""


class GoogleCsv(ImportFormat):
    """The feed as CSV: any usual separator, any usual spelling of the columns, help lines before the header."""

    name = "google-csv"
    delimiters = frozenset(",;|")
    """Separators that make a table look like this format. Reading takes any."""

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        header = find_header(decode_head(head), meaning_of)
        if header is None or not {"id", "title"} <= header.known or not header.known & _PROOF:
            return 0.0
        if export_system({simplify(name) for name in header.names}):
            return 0.0
        return 0.9 if header.delimiter in self.delimiters else 0.3

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        if decode_head(head).lstrip().startswith("<"):
            raise FileRefusedError(describe(head))
        table = open_table(file, context, meaning_of)
        if table is None or "id" not in table.header.known or len(table.header.known) < 2:
            raise FileRefusedError(describe(head))
        rows = FeedRows(self.name, context)
        columns = [(place, name, meaning_of(name)) for place, name in enumerate(table.header.names)]
        known = [(place, name, meaning) for place, name, meaning in columns if meaning is not None]
        if table.encoding.note:
            yield RowWarning(0, "file", table.encoding.note)
        for record in table.records():
            if record.fault:
                yield RowFailure(record.number, *record.fault, item_id=_item_id(record, known))
            else:
                yield from rows.read(record.number, _cells(record, known))


def _cells(record: Record, known: Sequence[tuple[int, str, str]]) -> Mapping[str, Sequence[Cell]]:
    cells: dict[str, list[Cell]] = {}
    for place, name, meaning in known:
        text = record.cells[place].strip()
        if text:
            cells.setdefault(meaning, []).append(Cell(name, text))
    return cells


def _item_id(record: Record, known: Sequence[tuple[int, str, str]]) -> str | None:
    """The id of a row that cannot be used, where the row is whole enough to have one that can be shown."""
    for place, _, meaning in known:
        if meaning == "id" and place < len(record.cells):
            text = record.cells[place].strip()
            return text if text and text.isprintable() and len(text) <= 100 else None
    return None
