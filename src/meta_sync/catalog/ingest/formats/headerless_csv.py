"""A delimited file of products without a line of column names.

Decisions: id, title and price are read where what stands in the columns leaves no doubt, and besides them a category
path, the product's page and its pictures where there is no doubt either; nothing else. The file is told once which
column was read as what. Every other format goes first, and so does the refusal of a file that names its columns in a
way nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe
from meta_sync.catalog.ingest.encoding import HEAD_BYTES, decode_head, read_head, sniff_encoding
from meta_sync.catalog.ingest.formats.google_fields import FeedRows
from meta_sync.catalog.ingest.formats.headerless_shape import Shape, find_shape
from meta_sync.catalog.ingest.formats.table_columns import TableColumns
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportFormat,
    Parsed,
    RowWarning,
)
from meta_sync.catalog.ingest.tables import Header, Table

__all__ = ["HeaderlessCsv"]

_JUST_SURE_ENOUGH = 0.51
_WORDS = {
    "id": "the id",
    "title": "the title",
    "price": "the price",
    "product_type": "the category",
    "link": "the product's page",
    "image_link": "a picture",
}


class HeaderlessCsv(ImportFormat):
    """Products by what stands in the columns."""

    name = "headerless-csv"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        return _JUST_SURE_ENOUGH if _shape(head) is not None else 0.0

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        shape = _shape(head)
        if shape is None:
            raise FileRefusedError(describe(head))
        encoding = sniff_encoding(file, context.is_cancelled)
        names = [f"column {place + 1}" for place in range(shape.width)]
        meanings = {names[place]: meaning for place, meaning in shape.meanings.items()}
        header = Header(names, shape.delimiter, -1, frozenset(meanings.values()))
        columns = TableColumns(names, meanings.get)
        if encoding.note:
            yield RowWarning(0, "file", encoding.note, rule="encoding")
        yield RowWarning(0, "file", _sentence(meanings), rule="no_header")
        rows = FeedRows(self.name, context)
        for record in Table(file, encoding, header, context).records():
            if record.fault:
                yield columns.failure(record, "id")
            else:
                yield from rows.read(record.number, columns.cells(record))


def _shape(head: bytes) -> Shape | None:
    return find_shape(decode_head(head), is_cut=len(head) >= HEAD_BYTES)


def _sentence(meanings: dict[str, str]) -> str:
    order = list(_WORDS)
    found = sorted(meanings.items(), key=lambda pair: order.index(pair[1]))
    *parts, last = [f"{name} as {_WORDS[meaning]}" for name, meaning in found]
    return (
        "The file has no line of column names. By what they hold, the columns were read like this:"
        f" {', '.join(parts)} and {last}; the others were left out. Please check that this is right."
    )
