"""PrestaShop's products as CSV: the file its back office imports, and the list of products it exports.

Decisions: a file of combinations is recognised, too, but says only what a combination adds to a price, so its rows
fail unless they carry the product's price as well. The column Status of the list that begins with ``Product ID`` says
whether a product is sold out (that is what PrestaShop 1.7 writes there); in a list that begins with ``ID`` it says
whether the product is switched on. Columns are known by their English names. The file never names a currency.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.prestashop_columns import (
    is_combination_table,
    is_product_table,
    meaning_of,
)
from meta_sync.catalog.ingest.formats.prestashop_rows import Layout, PrestaShopRows, item_id_in
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

__all__ = ["PrestaShopCsv"]

_ID_MEANINGS = ("id", "reference", "attributes", "values")
"""What makes the id of a product or combination."""
_STATUS_IS_STOCK = (
    "The column Status of this list says which products are sold out. Which are switched off is not in the file,"
    " so all count as switched on."
)


class PrestaShopCsv(ImportFormat):
    """The back office's table of products or combinations, with semicolons or commas."""

    name = "prestashop-csv"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        header = find_header(decode_head(head), meaning_of)
        return 0.95 if header is not None and _is_ours(header.names) else 0.0

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        # The shop's own sample lacks a cell at the end of most rows of combinations.
        table = open_table(file, context, meaning_of, pads_short_rows=True)
        if table is None or not _is_ours(table.header.names):
            raise FileRefusedError(describe(head))
        columns = TableColumns(table.header.names, meaning_of)
        if table.encoding.note:
            yield RowWarning(0, "file", table.encoding.note, rule="encoding")
        layout = _layout(self.name, table.header.names)
        rows = PrestaShopRows(layout, context)
        if layout.status_is_stock and "status" in table.header.known:
            rows.note("status", "Status", _STATUS_IS_STOCK)
        for record in table.records():
            if record.fault:
                yield columns.failure(
                    record,
                    *_ID_MEANINGS,
                    make_id=lambda record: item_id_in(columns.cells(record)),
                )
            else:
                yield from rows.read(record.number, columns.cells(record))


def _is_ours(names: list[str]) -> bool:
    return is_product_table(names) or is_combination_table(names)


def _layout(source: str, names: list[str]) -> Layout:
    id_column = next((name for name in names if meaning_of(name) == "id"), "Product ID")
    return Layout(source, id_column, status_is_stock=simplify(id_column) == "product_id")
