"""Medusa's product file as CSV: the export of version 2 and the template of version 1, with any separator.

Decisions: every row is a variant with its product. Ids are Medusa's own where the file has them. A new variant's id is
made of handle and option values, never of the SKU, which may be filled in or corrected later; a new product's is its
handle, unless another row of the file names the id that belongs to that handle. The price is the one of the store's
currency without a region; where that is empty, it is the region's of that currency, the first by name. Prices are in
whole currency units (version 2 stores them so, version 1 writes them so). A proposed or rejected product is not for
sale yet, so it is a draft, as is one whose status is left empty. Without a quantity (version 2 exports none) the
stored stock stays. Categories, types and collections that are only ids of Medusa say nothing and are left out, and so
is every column that is not known: shops add their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO
from zoneinfo import ZoneInfo

from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.medusa_columns import MedusaColumns, meaning_of
from meta_sync.catalog.ingest.formats.option_ids import is_default_value, item_id_of
from meta_sync.catalog.ingest.formats.table_columns import TableColumns
from meta_sync.catalog.ingest.reader import Cell, FileNotes, RowFaultError, RowReader
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportedVariant,
    ImportFormat,
    Parsed,
    RowFailure,
    RowSkip,
    RowWarning,
)
from meta_sync.catalog.ingest.spill import SpilledLookup
from meta_sync.catalog.ingest.tables import Table, find_header, open_table
from meta_sync.catalog.ingest.values import (
    line_breaks,
    plain_text,
    quoted,
    read_quantity,
    simplify,
    split_images,
)
from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput

__all__ = ["MedusaCsv"]

_STATUSES = {"published": "active", "draft": "draft", "proposed": "draft", "rejected": "draft"}
_YES = frozenset(("true", "1", "yes"))
_ID_MEANINGS = ("variant_id", "handle", "product_id")
"""What makes an item's id, besides the option values."""
_ID_PREFIXES = ("pcat_", "ptyp_", "pcol_")


class MedusaCsv(ImportFormat):
    """The file that Medusa's admin exports and imports."""

    name = "medusa-csv"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        header = find_header(decode_head(head), meaning_of)
        return 0.97 if header is not None and MedusaColumns(header.names, "").is_export else 0.0

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        table = open_table(file, context, meaning_of)
        columns = MedusaColumns(table.header.names if table else (), context.currency)
        if table is None or not columns.is_export:
            raise FileRefusedError(describe(head))
        if table.encoding.note:
            yield RowWarning(0, "file", table.encoding.note, rule="encoding")
        places = TableColumns(table.header.names, meaning_of)
        values = [value for _, _, value in columns.options]
        with SpilledLookup() as product_ids:
            if columns.may_name_products:
                _collect_product_ids(table, places, product_ids)
            rows = _Rows(self.name, context, columns, product_ids)
            for record in table.records():
                if record.fault:
                    yield places.failure(
                        record,
                        *_ID_MEANINGS,
                        *values,
                        make_id=lambda record: _item_id(places.cells(record), values),
                    )
                else:
                    yield from rows.read(record.number, places.cells(record))


def _collect_product_ids(table: Table, places: TableColumns, product_ids: SpilledLookup) -> None:
    """The product id of each handle, which a row that was added by hand may leave out."""
    last = ""
    for record in table.records():
        if record.fault:
            continue
        handle, product_id = (places.first(record, meaning) for meaning in ("handle", "product_id"))
        if handle and product_id and handle != last:
            product_ids.add(handle, product_id)
            last = handle


def _item_id(cells: Mapping[str, Sequence[Cell]], values: Sequence[str]) -> str | None:
    """Medusa's own id of the variant, else one of handle and option values; ``None`` where there is neither."""

    def text(meaning: str) -> str:
        found = cells.get(meaning)
        return found[0].text if found else ""

    handle = text("handle") or text("product_id")
    return text("variant_id") or (item_id_of(handle, list(map(text, values))) if handle else None)


class _Rows:
    """Turns the rows of one file into what an import takes. One object per file: it remembers what was already said."""

    def __init__(
        self, source: str, context: FormatContext, columns: MedusaColumns, product_ids: SpilledLookup
    ) -> None:
        self._source = source
        self._context = context
        self._columns = columns
        self._product_ids = product_ids
        self._zone = ZoneInfo(context.timezone)
        self._notes = FileNotes()

    def read(self, row: int, cells: dict[str, list[Cell]]) -> Iterator[Parsed]:
        """One row: the variant and its warnings, the reason why it is left out, or the one failure."""
        reader = RowReader(row, cells, self._context, self._zone, self._notes)
        handle = reader.text("handle")
        product_id = (
            reader.text("product_id") or (self._product_ids.get(handle) if handle else None) or handle
        )
        item_id = _item_id(cells, [value for _, _, value in self._columns.options])
        if product_id is None or item_id is None:
            message = "The row has neither a product id nor a handle, so its product is not known."
            yield RowFailure(row, "Product Handle", message, item_id, rule="missing_id")
            return
        skip = _left_out(reader, item_id)
        if skip is not None:
            yield skip
            return
        try:
            product, variant = self._product(reader, product_id), self._variant(reader, item_id)
        except RowFaultError as fault:
            yield fault.failure(row, item_id)
            return
        yield ImportedVariant(row, product, variant)
        for warning in reader.warnings:
            warning.item_id = item_id if warning.row else None
            yield warning

    def _product(self, reader: RowReader, product_id: str) -> ProductInput:
        title, subtitle = reader.text("title"), reader.text("subtitle")
        description = reader.text("description")
        pictures = split_images(reader.texts("product_thumbnail", *self._columns.images))
        return ProductInput(
            id=product_id,
            title=plain_text(title) if title else None,
            subtitle=line_breaks(subtitle) if subtitle else None,
            description=line_breaks(description) if description else None,
            slug=reader.text("handle"),
            status=self._status(reader),
            thumbnail=pictures[0] if pictures else None,
            images=pictures[1:],
            categories=self._categories(reader),
            source=self._source,
        )

    def _variant(self, reader: RowReader, item_id: str) -> VariantInput:
        pictures = split_images(reader.texts("variant_thumbnail"))
        ean, upc, barcode = reader.barcodes()
        return VariantInput(
            id=item_id,
            sku=reader.text("sku"),
            price=self._price(reader),
            thumbnail=pictures[0] if pictures else None,
            images=pictures[1:],
            ean=ean,
            upc=upc,
            barcode=barcode,
            options=self._options(reader),
            inventory=self._inventory(reader),
        )

    def _status(self, reader: RowReader) -> str:
        cell = reader.cell("status")
        if cell is None:
            return "draft" if self._columns.has_status else "active"
        status = _STATUSES.get(cell.text.casefold())
        if status is None:
            message = f"The status {quoted(cell.text)} is neither published, draft, proposed nor rejected."
            raise RowFaultError(cell.column, message, value=cell.text)
        return status

    def _categories(self, reader: RowReader) -> list[str]:
        """The first category that is a name, else the product's type."""
        names = (plain_text(text) for text in reader.texts(*self._columns.categories, "type"))
        return next(([name] for name in names if not name.startswith(_ID_PREFIXES)), [])

    def _price(self, reader: RowReader) -> int | None:
        columns, currency = self._columns, self._context.currency
        if reader.cell(columns.price):
            return reader.price(columns.price, "price", states_currency=False)
        for meaning in columns.region_prices:
            cell = reader.cell(meaning)
            if cell is not None:
                if self._notes.first_time(meaning):
                    message = f"Where there is no price in {currency} for everywhere, the one in {quoted(cell.column)} counts."
                    reader.warnings.append(RowWarning(0, cell.column, message, rule="region_price"))
                return reader.price(meaning, "price", states_currency=False)
        other = next((cell for meaning in columns.other_prices if (cell := reader.cell(meaning))), None)
        if other is not None:
            message = f"The row has no price in {currency}, the store's currency, but one in {quoted(other.column)}."
            raise RowFaultError(other.column, message, rule="wrong_currency", value=other.text)
        message = "The row has no price, so the item cannot be offered yet."
        reader.warn(f"Variant Price {currency}", message, rule="no_price")
        return None

    def _options(self, reader: RowReader) -> dict[str, str]:
        options: dict[str, str] = {}
        for number, name, value in self._columns.options:
            text = reader.text(value)
            if text and not is_default_value(text):
                options.setdefault(plain_text(reader.text(name) or f"Option {number}"), plain_text(text))
        material = reader.text("material")
        if material and "material" not in {simplify(name) for name in options}:
            options["material"] = plain_text(material)
        return options

    def _inventory(self, reader: RowReader) -> InventoryInput | None:
        managed = reader.text("manage_inventory")
        if managed is not None and managed.casefold() not in _YES:
            return InventoryInput(track_inventory=False)
        quantity = reader.read("quantity", read_quantity)
        if quantity is not None:
            allow_backorder = (reader.text("allow_backorder") or "").casefold() in _YES
            return reader.counted_stock(None, quantity, allow_backorder=allow_backorder)
        if managed is not None and self._notes.first_time("stock"):
            message = "The file counts no stock for variants whose inventory is managed, so their stock stays as it is."
            reader.warnings.append(RowWarning(0, "Variant Inventory Quantity", message, rule="no_stock"))
        return None


def _left_out(reader: RowReader, item_id: str) -> RowSkip | None:
    """Why a row that is an item is left out on purpose."""
    deleted, gift = reader.cell("deleted"), reader.cell("gift_card")
    if deleted is not None:
        message = "The product or variant was deleted in the shop."
        return RowSkip(reader.row, deleted.column, message, item_id, "deleted", deleted.text)
    if gift is not None and gift.text.casefold() in _YES:
        message = "A gift card stands for money and is no product to advertise, so it was left out."
        return RowSkip(reader.row, gift.column, message, item_id, "not_sold_alone", gift.text)
    return None
