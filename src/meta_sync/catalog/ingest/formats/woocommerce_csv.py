"""WooCommerce's product export (Products, Export) as CSV, in the language it was written in.

Decisions: an item's id is the ID cell, else the SKU. A variation belongs to the product its Parent cell names, by
``id:N`` or by SKU, wherever in the file that product stands; what the product says is in its own row, so the
variation brings only its own. Prices carry no currency and no grouping: they are the store's currency. The export has
no product address, so the slug WordPress makes of the name stands in for it. An external product is imported like a
simple one and its link stays its page in the shop, where the button to the External URL is: that address is another
shop's, and may be an affiliate link that moves buyers on. Stock that a variation shares with its product ("parent") is not counted per variation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO
from zoneinfo import ZoneInfo

from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.slugs import wordpress_slug
from meta_sync.catalog.ingest.formats.woocommerce_cells import (
    Columns,
    WooReader,
    deepest_path,
    kind_words,
    options,
    publication,
    stock,
)
from meta_sync.catalog.ingest.formats.woocommerce_columns import meaning_of
from meta_sync.catalog.ingest.reader import Cell, FileNotes, RowFaultError
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportedParent,
    ImportedVariant,
    ImportFormat,
    Parsed,
    RowSkip,
    RowWarning,
)
from meta_sync.catalog.ingest.tables import Table, find_header, open_table
from meta_sync.catalog.ingest.times import read_instant
from meta_sync.catalog.ingest.values import (
    line_breaks,
    plain_text,
    quoted,
    split_images,
    split_unescaped,
)
from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput

__all__ = ["WooCommerceCsv"]

_NEEDED = frozenset(("type", "name"))
_PROOF = frozenset(
    (
        "published",
        "visibility",
        "in_stock",
        "regular_price",
        "parent",
        "attribute",
        "short_description",
        "backorders",
    )
)
_VARIABLE = frozenset(("variable", "variable-subscription"))
_VARIATION = frozenset(("variation", "subscription_variation"))
_SINGLE = frozenset(("simple", "external", "subscription"))


class WooCommerceCsv(ImportFormat):
    """The export of WooCommerce's own exporter. Plugins' exports are other formats."""

    name = "woocommerce-csv"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        header = find_header(decode_head(head), meaning_of)
        return 0.95 if header is not None and _is_export(header.known) else 0.0

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        table = open_table(file, context, meaning_of)
        if table is None or not _is_export(table.header.known):
            raise FileRefusedError(describe(head))
        columns = Columns(table.header.names)
        parents = _parents(table, columns)
        if table.encoding.note:
            yield RowWarning(0, "file", table.encoding.note, rule="encoding")
        rows = _Rows(self.name, context, parents, has_ids="id" in table.header.known)
        for record in table.records():
            if record.fault:
                failure = columns.failure(record, "id", "sku")
                failure.is_item = not (
                    columns.holds(record, "type")
                    and _is_parent(set(kind_words(columns.first(record, "type"))))
                )
                yield failure
            else:
                yield from rows.read(columns.reader(record, context, rows.zone, rows.notes))


def _is_export(known: frozenset[str]) -> bool:
    return known >= _NEEDED and bool(known & {"id", "sku"}) and len(known & _PROOF) >= 2


def _is_parent(kinds: set[str]) -> bool:
    """Whether a row of these kinds is a product whose variations are the items."""
    return bool(kinds & _VARIABLE) and not kinds & _VARIATION


def _parents(table: Table, columns: Columns) -> dict[str, str]:
    """SKU to product id of the variable products, which may stand below their variations.

    This is the one thing that grows with the file: two short texts per variable product that has both.
    """
    found: dict[str, str] = {}
    for record in table.records():
        if record.fault:
            continue
        kind, sku, product_id = (columns.first(record, meaning) for meaning in ("type", "sku", "id"))
        if kind and sku and product_id and _VARIABLE & set(kind_words(kind)):
            found.setdefault(sku, product_id)
    return found


class _Rows:
    """Turns the rows of one export into what an import takes."""

    def __init__(
        self, source: str, context: FormatContext, parents: dict[str, str], *, has_ids: bool
    ) -> None:
        self.zone = ZoneInfo(context.timezone)
        self.notes = FileNotes()
        self._source = source
        self._parents = parents
        self._has_ids = has_ids

    def read(self, reader: WooReader) -> Iterator[Parsed]:
        item_id = reader.item_id
        kinds = set(kind_words(reader.text("type") or ""))
        try:
            parsed = self._row(reader, kinds)
        except RowFaultError as fault:
            yield fault.failure(reader.row, item_id, is_item=not _is_parent(kinds))
            return
        yield parsed
        for warning in reader.warnings:
            warning.item_id = item_id if warning.row else None
            yield warning

    def _row(self, reader: WooReader, kinds: set[str]) -> Parsed:
        kind = reader.cell("type")
        column = kind.column if kind else "Type"
        if "grouped" in kinds:
            message = "A grouped product is a list of other products and cannot be bought itself; those are imported."
            return RowSkip(reader.row, column, message, reader.item_id, "not_sold_alone", "grouped")
        if reader.item_id is None:
            message = "The row has neither an ID nor a SKU, so its item could not be found again."
            raise RowFaultError("ID", message, rule="missing_id")
        if kinds & _VARIATION:
            return self._variation(reader, reader.item_id)
        if _is_parent(kinds):
            return ImportedParent(reader.row, self._product(reader, reader.item_id))
        if kinds & _SINGLE or not kinds - {"", "virtual", "downloadable"}:
            product = self._product(reader, reader.item_id)
            return ImportedVariant(reader.row, product, self._variant(reader, reader.item_id))
        word = kind.text if kind else ""
        message = f"Products of the type {quoted(word)} are not imported."
        return RowSkip(reader.row, column, message, reader.item_id, "unknown_type", word)

    def _variation(self, reader: WooReader, item_id: str) -> Parsed:
        parent = reader.cell("parent")
        if parent is None:
            message = "The variation does not name the product it belongs to."
            raise RowFaultError("Parent", message, rule="missing_parent")
        product = ProductInput(id=self._parent_id(parent), source=self._source)
        variant = self._variant(reader, item_id)
        pictures = split_images(split_unescaped(reader.text("images") or ""))
        variant.thumbnail, variant.images = (pictures[0] if pictures else None), pictures[1:]
        if (
            reader.text("published") == "0"
        ):  # a variation whose Enabled box is not ticked is exported as private
            variant.availability, variant.inventory = "out of stock", InventoryInput(track_inventory=False)
            published = reader.cell("published")
            reader.warn(
                published.column if published else "Published",
                "The variation is switched off in the shop, so it counts as out of stock.",
                rule="switched_off",
            )
        return ImportedVariant(reader.row, product, variant, product_is_partial=True)

    def _parent_id(self, parent: Cell) -> str:
        prefix, colon, number = parent.text.partition(":")
        if colon and prefix.strip().casefold() == "id" and number.strip():
            return number.strip()
        known = self._parents.get(parent.text)
        if known is not None:
            return known
        if self._has_ids:
            message = f"The file has no variable product with the SKU {quoted(parent.text)}, which the variation names."
            raise RowFaultError(parent.column, message, rule="missing_parent", value=parent.text)
        return parent.text

    def _product(self, reader: WooReader, product_id: str) -> ProductInput:
        name, brands = reader.text("name"), split_unescaped(reader.text("brand") or "")
        description, short = reader.text("description"), reader.text("short_description")
        pictures = split_images(split_unescaped(reader.text("images") or ""))
        status, visibility = publication(reader)
        return ProductInput(
            id=product_id,
            title=plain_text(name) if name else None,
            subtitle=line_breaks(short) if short else None,
            description=line_breaks(description) if description else None,
            slug=reader.text("slug") or (wordpress_slug(name) if name else None),
            link=reader.text("permalink"),
            status=status,
            visibility=visibility,
            brand=plain_text(brands[0]) if brands else None,
            thumbnail=pictures[0] if pictures else None,
            images=pictures[1:],
            categories=deepest_path(reader.text("categories") or ""),
            source=self._source,
        )

    def _variant(self, reader: WooReader, item_id: str) -> VariantInput:
        ean, upc, barcode = reader.barcodes()
        variant = VariantInput(
            id=item_id,
            sku=reader.text("sku"),
            price=reader.price("regular_price", "regular price", states_currency=False, grouped=False),
            special_price=reader.price("sale_price", "sale price", states_currency=False, grouped=False),
            ean=ean,
            upc=upc,
            barcode=barcode,
            options=options(reader),
        )
        start = reader.read("sale_start", lambda text: read_instant(text, self.zone, end_of_day=False))
        end = reader.read("sale_end", lambda text: read_instant(text, self.zone, end_of_day=True))
        reader.set_sale_window(variant, start, end, meaning="sale_end")
        variant.availability, variant.inventory = stock(reader)
        return variant
