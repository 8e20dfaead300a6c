"""Shopify's product export (Products, Export) as CSV, in the older spelling of its columns and the newer one.

Decisions: the product is the handle, and so is its slug. An item's id is made of handle and option values, never of
the SKU, which is often missing or the same for all sizes, and may be filled in later. What stands in the first row of
a handle holds for all its rows, wherever in the file they are; a row without SKU, barcode, option value and price
adds pictures. A compare-at price that is higher is the price, the lower one the sale price. Prices are the shop's own
and name no currency; a market's price counts only where the market's name holds the store's currency code, because
the file does not say what currency a market sells in. A product that is not published in the online store is private:
it may be sold elsewhere, so it is no draft, but it has no page to link to; so is an unlisted one, which only those are
to find who have its address. Without a tracker stock is not counted; with one, but without a quantity (shops with
several locations), the stored stock stays. The vendor stands in for the brand, as in Shopify's own feeds. Shopify's
category is not Google's, so only the column of Google's own gives Google's category.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.shopify_columns import is_export, meaning_of
from meta_sync.catalog.ingest.formats.shopify_products import ShopifyProducts
from meta_sync.catalog.ingest.formats.shopify_rows import Head, blocks, find_scattered
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportedVariant,
    ImportFormat,
    Parsed,
    RowWarning,
)
from meta_sync.catalog.ingest.tables import find_header, open_table

__all__ = ["ShopifyCsv"]


class ShopifyCsv(ImportFormat):
    """The export of Shopify's own admin, and what merchants make of it by hand."""

    name = "shopify-csv"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        header = find_header(decode_head(head), meaning_of)
        return 0.97 if header is not None and is_export(header.names) else 0.0

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        table = open_table(file, context, meaning_of)
        if table is None or not is_export(table.header.names):
            raise FileRefusedError(describe(head))
        if table.encoding.note:
            yield RowWarning(0, "file", table.encoding.note, rule="encoding")
        products = ShopifyProducts(self.name, context, table.header.names)
        with find_scattered(lambda: blocks(table)) as scattered:
            for block in blocks(table):
                whole = scattered.get(block.handle) or Head.of(block.rows)
                for parsed in products.read(block, whole):
                    yield parsed
                    if isinstance(parsed, ImportedVariant):
                        scattered.tell(block.handle, whole)
