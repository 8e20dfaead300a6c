"""Magento's products as CSV: the export and import file of the admin, and the fixtures of its sample data.

Decisions: an item's id is its SKU, compared without case where rows name each other, as Magento does. A configurable
product is a product without being an item; the products its ``configurable_variations`` name are its variants with the
options that stand there, wherever in the file either stands. One that two configurable products name belongs to the
first. An option is called by its attribute code where Meta knows a field of that name, else by the label the shop gives
it. A product that nothing names is its own; one that is not visible individually is private then. A grouped product is
a list of others and a bundle has no price before the buyer has chosen: both are left out. A row for a further store
view adds texts of another language or view to an item that has its row already: it is none itself. Prices are in the
base currency, which the file never names: the store's. Suggested retail prices are not the shop's and are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, Self
from zoneinfo import ZoneInfo

import orjson
from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.magento_cells import (
    kind_of,
    options,
    pictures,
    publication,
    read_date,
    slug,
    stock,
)
from meta_sync.catalog.ingest.formats.magento_columns import (
    OPTION_MEANINGS,
    is_product_table,
    meaning_of,
    pairs,
    path_titles,
    values_of,
    variations,
    with_attributes,
)
from meta_sync.catalog.ingest.formats.table_columns import TableColumns
from meta_sync.catalog.ingest.partial_exports import describe_table_part
from meta_sync.catalog.ingest.reader import FileNotes, RowFaultError, RowReader
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
from meta_sync.catalog.ingest.spill import SpilledLookup
from meta_sync.catalog.ingest.tables import Header, Record, Table, find_header, open_table
from meta_sync.catalog.ingest.values import line_breaks, plain_text, quoted, simplify
from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput

__all__ = ["MagentoCsv"]

_ITEMS = frozenset(("simple", "virtual", "downloadable"))
_NOT_SOLD_ALONE = {
    "grouped": "A grouped product is a list of other products, which are sold one by one; it is no item itself.",
    "bundle": "A bundle has no price before the buyer has chosen its parts, so it is no item itself.",
}
_MOST_NAMED = 5
"""SKUs that a message lists."""


class MagentoCsv(ImportFormat):
    """Product files of Magento 2 and Adobe Commerce. Magento 1 spreads a product over rows; that is another format."""

    name = "magento-csv"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        header = find_header(decode_head(head), meaning_of)
        return 0.95 if header is not None and _is_products(header) else 0.0

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        table = open_table(file, context, meaning_of)
        if table is None or not _is_products(table.header):
            raise FileRefusedError(describe(head))
        columns = TableColumns(table.header.names, meaning_of)
        if table.encoding.note:
            yield RowWarning(0, "file", table.encoding.note, rule="encoding")
        with _Families(table, columns) as families:
            rows = _Rows(self.name, context, families)
            for record in table.records():
                yield from _read(record, columns, families, rows)


def _is_products(header: Header) -> bool:
    columns = {simplify(name) for name in header.names}
    return is_product_table(header.known) and describe_table_part(columns) is None


def _read(record: Record, columns: TableColumns, families: _Families, rows: _Rows) -> Iterator[Parsed]:
    # Where these cells cannot be relied on, nobody knows whether the row is a further view.
    if columns.holds(record, "sku", "store_view") and families.is_further_view(record):
        fault = record.fault
        if fault:
            sku = columns.first(record, "sku")
            yield RowWarning(record.number, fault.column, fault.message, sku, fault.rule, fault.value)
        return
    if record.fault:
        failure = columns.failure(record, "sku")
        if columns.holds(record, "type", "variations"):
            named = columns.first(record, "type").casefold()
            failure.is_item = not (
                named == "configurable" or (not named and columns.first(record, "variations"))
            )
        yield failure
    else:
        yield from rows.read(record.number, columns, record)


class _Families:
    """What rows say of other rows, found in a first pass over the file. Large files spill to disk."""

    def __init__(self, table: Table, columns: TableColumns) -> None:
        self._columns = columns
        self._skus = SpilledLookup()
        self._parents = SpilledLookup()
        for record in table.records():
            if record.fault is None:
                self._note(record)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._skus.close()
        self._parents.close()

    def _note(self, record: Record) -> None:
        sku = self._columns.first(record, "sku")
        if not sku:
            return
        if not self._columns.first(record, "store_view"):
            self._skus.add(sku.casefold(), "")
        text = self._columns.first(record, "variations")
        if not text or self._columns.first(record, "type").casefold() not in {"", "configurable"}:
            return
        labels = dict(pairs(self._columns.first(record, "variation_labels")))
        for child, codes in variations(text):
            named = {_option_name(code, labels): value for code, value in codes.items()}
            self._parents.add(child.casefold(), orjson.dumps([sku, named]).decode())

    def is_further_view(self, record: Record) -> bool:
        """Whether the row only says what another store view shows. To be asked once per row, in order."""
        sku = self._columns.first(record, "sku")
        if not sku or not self._columns.first(record, "store_view"):
            return False
        return not self._skus.add(sku.casefold(), "")  # a file may have no rows but those of one view

    def is_in_file(self, sku: str) -> bool:
        """Whether a row has this SKU."""
        return sku.casefold() in self._skus

    def parent_of(self, sku: str) -> tuple[str, dict[str, str]] | None:
        """SKU of the configurable product that names this one, and the options it gives it."""
        found = self._parents.get(sku.casefold())
        if found is None:
            return None
        parent, named = orjson.loads(found)
        return parent, named


def _option_name(code: str, labels: dict[str, str]) -> str:
    if meaning_of(code) in OPTION_MEANINGS:
        return code
    return plain_text(labels.get(code, code))


class _Rows:
    """Turns the rows of one file into what an import takes."""

    def __init__(self, source: str, context: FormatContext, families: _Families) -> None:
        self._source = source
        self._context = context
        self._zone = ZoneInfo(context.timezone)
        self._families = families
        self._notes = FileNotes()

    def read(self, row: int, columns: TableColumns, record: Record) -> Iterator[Parsed]:
        """One row: what it is, then its warnings; or the one failure."""
        cells = with_attributes(columns.cells(record))
        reader = RowReader(row, cells, self._context, self._zone, self._notes)
        sku = reader.text("sku")
        try:
            parsed = self._row(reader, sku)
        except RowFaultError as fault:
            yield fault.failure(row, sku, is_item=kind_of(reader)[0] != "configurable")
            return
        yield parsed
        for warning in reader.warnings:
            warning.item_id = sku if warning.row else None
            yield warning

    def _row(self, reader: RowReader, sku: str | None) -> Parsed:
        kind, column = kind_of(reader)
        if kind in _NOT_SOLD_ALONE:
            return RowSkip(reader.row, column, _NOT_SOLD_ALONE[kind], sku, "not_sold_alone", kind)
        if sku is None:
            message = "The row has no SKU, so its item could not be found again."
            raise RowFaultError("sku", message, rule="missing_id")
        if kind == "configurable":
            self._check_variations(reader, sku)
            return ImportedParent(reader.row, self._product(reader, sku))
        if kind not in _ITEMS:
            message = f"Products of the type {quoted(kind)} are not imported."
            return RowSkip(reader.row, column, message, sku, "unknown_type", kind)
        family = self._families.parent_of(sku)
        if family is None:
            variant = self._variant(reader, sku, options(reader))
            return ImportedVariant(reader.row, self._product(reader, sku), variant)
        parent, named = family
        variant = self._variant(reader, sku, named)
        paths = pictures(reader)
        variant.thumbnail, variant.images = (paths[0] if paths else None), paths[1:]
        if publication(reader)[0] != "active":
            self._switch_off(reader, variant)
        product = ProductInput(id=parent, source=self._source)
        return ImportedVariant(reader.row, product, variant, product_is_partial=True)

    def _check_variations(self, reader: RowReader, sku: str) -> None:
        """Say which of the variations become no variants of this product."""
        cell = reader.cell("variations")
        named = [child for child, _ in variations(cell.text)] if cell else []
        missing = [child for child in named if not self._families.is_in_file(child)]
        taken = []
        for child in named:
            family = self._families.parent_of(child)
            if family is not None and family[0].casefold() != sku.casefold():
                taken.append(child)
        column = cell.column if cell else "configurable_variations"
        if missing:
            message = f"The file has no rows for these variations: {_listed(missing)}."
            reader.warn(column, message, rule="missing_variations")
        if taken:
            message = f"Another configurable product names these variations first: {_listed(taken)}."
            reader.warn(column, message, rule="shared_variations")

    def _switch_off(self, reader: RowReader, variant: VariantInput) -> None:
        variant.availability, variant.inventory = "out of stock", InventoryInput(track_inventory=False)
        cell = reader.cell("online")
        reader.warn(
            cell.column if cell else "product_online",
            "The variation is switched off in the shop, so it counts as out of stock.",
            rule="switched_off",
        )

    def _product(self, reader: RowReader, sku: str) -> ProductInput:
        name, brand = reader.text("name"), values_of(reader.text("brand") or "")
        description, short = reader.text("description"), reader.text("short_description")
        status, visibility = publication(reader)
        paths = pictures(reader)
        return ProductInput(
            id=sku,
            title=plain_text(name) if name else None,
            subtitle=line_breaks(short) if short else None,
            description=line_breaks(description) if description else None,
            slug=slug(reader),
            status=status,
            visibility=visibility,
            brand=brand[0] if brand else None,
            thumbnail=paths[0] if paths else None,
            images=paths[1:],
            categories=path_titles(
                reader.text("categories"), values_of(reader.text("category_titles") or "")
            ),
            source=self._source,
        )

    def _variant(self, reader: RowReader, sku: str, named: dict[str, str]) -> VariantInput:
        ean, upc, barcode = reader.barcodes()
        variant = VariantInput(
            id=sku,
            sku=sku,
            price=reader.price("price", "price", states_currency=False),
            special_price=reader.price("special_price", "special price", states_currency=False),
            ean=ean,
            upc=upc,
            barcode=barcode,
            options=named,
        )
        start = reader.read("sale_start", lambda text: read_date(text, self._zone, end_of_day=False))
        end = reader.read("sale_end", lambda text: read_date(text, self._zone, end_of_day=True))
        reader.set_sale_window(variant, start, end, meaning="sale_end")
        variant.availability, variant.inventory = stock(reader)
        return variant


def _listed(skus: list[str]) -> str:
    more = f" and {len(skus) - _MOST_NAMED} more" if len(skus) > _MOST_NAMED else ""
    return ", ".join(quoted(sku) for sku in skus[:_MOST_NAMED]) + more
