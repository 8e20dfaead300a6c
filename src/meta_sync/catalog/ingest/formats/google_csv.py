"""Google's and Meta's product feed as a table with commas or another separator, Meta's own template included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe, export_system
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.google_fields import FeedRows, meaning_of
from meta_sync.catalog.ingest.formats.table_columns import TableColumns
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportFormat,
    Parsed,
    RowWarning,
)
from meta_sync.catalog.ingest.tables import find_header, open_table
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
        columns = TableColumns(table.header.names, meaning_of)
        if table.encoding.note:
            yield RowWarning(0, "file", table.encoding.note, rule="encoding")
        for record in table.records():
            if record.fault:
                yield columns.failure(record, "id")
            else:
                yield from rows.read(record.number, columns.cells(record))
