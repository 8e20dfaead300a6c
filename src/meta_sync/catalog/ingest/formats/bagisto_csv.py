"""Bagisto's product file (Data Transfer) as CSV: which rows there are. What they mean stands in `bagisto_rows`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.bagisto_rows import (
    BagistoFile,
    BagistoRows,
    is_bagisto,
    is_parent,
    meaning_of,
)
from meta_sync.catalog.ingest.formats.table_columns import TableColumns
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportFormat,
    Parsed,
    RowWarning,
)
from meta_sync.catalog.ingest.tables import find_header, open_table

__all__ = ["BagistoCsv"]


class BagistoCsv(ImportFormat):
    """The file as a table. It is read twice: first for what products say about their children."""

    name = "bagisto-csv"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        text = decode_head(head)
        if text.lstrip().startswith("<"):
            return 0.0
        header = find_header(text, meaning_of)
        return 0.95 if header is not None and is_bagisto(header.known) else 0.0

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        table = None if decode_head(head).lstrip().startswith("<") else open_table(file, context, meaning_of)
        if table is None or not is_bagisto(table.header.known):
            raise FileRefusedError(describe(head))
        columns = TableColumns(table.header.names, meaning_of)
        with BagistoFile() as known:
            for record in table.records():
                if not record.fault:
                    known.look_at(columns.cells(record))
            if table.encoding.note:
                yield RowWarning(0, "file", table.encoding.note, rule="encoding")
            rows = BagistoRows(self.name, context, known)
            for record in table.records():
                if record.fault:
                    failure = columns.failure(record, "sku")
                    if columns.holds(record, "type"):
                        failure.is_item = not is_parent(columns.cells(record))
                    yield failure
                else:
                    yield from rows.read(record.number, columns.cells(record))
