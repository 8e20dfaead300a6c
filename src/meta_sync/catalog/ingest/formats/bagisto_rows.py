"""What the columns of Bagisto's product file mean, and how one row becomes what an import takes. Knows no file.

Decisions: an item's id is its SKU. A configurable product is a product without being an item; a child names it in
``parent_sku``, or is named by it in ``configurable_variants``, which is also where the child's options stand. A row of
further language or channel adds to an item that is there already: the first row of a SKU counts. Prices for customer
groups and quantities are not sent. A grouped product is a list of others; a bundle has a price only once the buyer has
chosen its parts: both are left out. A child that is switched off cannot be bought, but stays an item of its product. Stock is the sum over
all inventory sources. The file never names a currency: its prices are in the base currency, the store's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from zoneinfo import ZoneInfo

from meta_sync.catalog.ingest.reader import Cell, FileNotes, RowFaultError, RowReader
from meta_sync.catalog.ingest.rows import (
    FormatContext,
    ImportedParent,
    ImportedVariant,
    Parsed,
    RowFailure,
    RowSkip,
    RowWarning,
)
from meta_sync.catalog.ingest.spill import SpilledLookup
from meta_sync.catalog.ingest.times import read_instant
from meta_sync.catalog.ingest.values import (
    UnreadableValueError,
    line_breaks,
    plain_text,
    quoted,
    read_quantity,
    simplify,
    split_images,
)
from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput

__all__ = ["BagistoFile", "BagistoRows", "is_bagisto", "is_parent", "meaning_of"]

Cells = Mapping[str, Sequence[Cell]]

_COLUMN_NAMES = """
    sku parent_sku locale channel attribute_family_code type categories images name description short_description
    status visible_individually price special_price special_price_from special_price_to customer_group_prices url_key
    manage_stock inventories configurable_variants brand color size ean upc gtin barcode
"""
_COLUMNS = frozenset(_COLUMN_NAMES.split())
_NEEDED = frozenset(("sku", "attribute_family_code"))
_PROOF = frozenset(("type", "parent_sku", "url_key", "inventories"))
_ITEMS = frozenset(("simple", "virtual", "downloadable", "booking"))
_NO, _YES = frozenset(("0", "false", "no")), frozenset(("1", "true", "yes"))
_MOST_QUANTITY = 2**31 - 1


def meaning_of(name: str) -> str | None:
    """The attribute code that a column or XML attribute stands for, where it is one that is read."""
    code = simplify(name)
    return code if code in _COLUMNS else None


def is_bagisto(known: Iterable[str]) -> bool:
    """Whether columns of these meanings are those of Bagisto's product file."""
    codes = frozenset(known)
    return codes >= _NEEDED and bool(codes & _PROOF)


def is_parent(cells: Cells) -> bool:
    """Whether the row is a product whose variants are the items."""
    return _text(cells, "type").casefold() == "configurable"


@dataclass(slots=True)
class BagistoFile:
    """What has to be known of the whole file before its first row can be read: filled by a first pass."""

    children: SpilledLookup = field(default_factory=SpilledLookup)
    """SKU of a child to its product and options, where the product names it."""
    first_views: SpilledLookup = field(default_factory=SpilledLookup)
    """SKU to the channel and language of its first row."""
    views: set[str] = field(default_factory=set)
    """Channels and languages; no more than two are kept, since only one or several matters."""

    def look_at(self, cells: Cells) -> None:
        """Take note of one row, in the first pass."""
        if len(self.views) < 2:
            self.views.add(_view(cells))
        product_sku = _text(cells, "sku")
        for part in _text(cells, "configurable_variants").split("|"):
            pairs = [pair.partition("=") for pair in part.split(",")]
            named = {
                name.strip(): value.strip() for name, _, value in pairs if name.strip() and value.strip()
            }
            child_sku = named.pop("sku", "")
            if child_sku and product_sku:
                self.children.add(child_sku, json.dumps([product_sku, named]))

    def adds_to_known_item(self, cells: Cells) -> bool:
        """Whether the row is an item's row for a further channel or language; asked once of each row, in order."""
        sku = _text(cells, "sku")
        if len(self.views) < 2 or not sku:
            return False
        view = _view(cells)
        return not self.first_views.add(sku, view) and self.first_views.get(sku) != view

    def child(self, sku: str) -> tuple[str, dict[str, str]] | None:
        """The product that names this SKU as its child, and the child's options."""
        known = self.children.get(sku)
        if known is None:
            return None
        product_sku, options = json.loads(known)
        return product_sku, options

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.children.close()
        self.first_views.close()


def _text(cells: Cells, meaning: str) -> str:
    found = cells.get(meaning)
    return found[0].text if found else ""


def _view(cells: Cells) -> str:
    return f"{_text(cells, 'channel')}\n{_text(cells, 'locale')}"


class BagistoRows:
    """Turns the rows of one file into what an import takes. One object per file: it remembers what was already said."""

    def __init__(self, source: str, context: FormatContext, file: BagistoFile) -> None:
        self._source = source
        self._context = context
        self._zone = ZoneInfo(context.timezone)
        self._notes = FileNotes()
        self._file = file

    def read(self, row: int, cells: Cells) -> Iterator[Parsed]:
        """One row: nothing for one that adds to a known item, else what it is with its warnings."""
        reader = RowReader(row, cells, self._context, self._zone, self._notes)
        sku = reader.text("sku")
        if sku is None:
            message = "The row has no SKU, so its item could not be found again."
            yield RowFailure(row, "sku", message, rule="missing_id", is_item=not is_parent(cells))
            return
        if self._file.adds_to_known_item(cells):
            if self._notes.first_time("views"):
                message = "The file has rows in further languages or channels; of each product the first row counts."
                yield RowWarning(0, "locale", message, rule="further_language")
            return
        try:
            parsed = self._row(reader, sku)
        except RowFaultError as fault:
            yield fault.failure(row, sku, is_item=not is_parent(cells))
            return
        yield parsed
        for warning in reader.warnings:
            warning.item_id = sku if warning.row else None
            yield warning

    def _row(self, reader: RowReader, sku: str) -> Parsed:
        cell = reader.cell("type")
        column, kind = (cell.column, cell.text.casefold()) if cell else ("type", "simple")
        if kind == "grouped":
            message = "A grouped product is a list of other products and cannot be bought itself; those are imported."
            return RowSkip(reader.row, column, message, sku, "not_sold_alone", kind)
        if kind == "bundle":
            message = "A bundle has no price until the buyer has chosen its parts, so it is no item; its parts are imported."
            return RowSkip(reader.row, column, message, sku, "not_sold_alone", kind)
        if is_parent(reader.cells):
            return ImportedParent(reader.row, self._product(reader, sku))
        if kind not in _ITEMS:
            message = f"{quoted(cell.text if cell else kind)} is not a product type of Bagisto."
            raise RowFaultError(column, message, rule="unknown_type", value=cell.text if cell else None)
        if reader.cell("customer_group_prices") and self._notes.first_time("group prices"):
            message = "Prices for customer groups and for larger quantities are left out; the price and the special price go in."
            reader.warnings.append(RowWarning(0, "customer_group_prices", message, rule="group_prices"))
        named_by = self._file.child(sku)
        parent_sku = reader.text("parent_sku") or (named_by[0] if named_by else None)
        variant = self._variant(reader, sku, named_by[1] if named_by else None)
        if parent_sku is None or parent_sku == sku:
            return ImportedVariant(reader.row, self._product(reader, sku), variant)
        self._as_child(reader, variant)
        product = ProductInput(id=parent_sku, source=self._source)
        return ImportedVariant(reader.row, product, variant, product_is_partial=True)

    def _as_child(self, reader: RowReader, variant: VariantInput) -> None:
        pictures = _pictures(reader)
        variant.thumbnail, variant.images = (pictures[0] if pictures else None), pictures[1:]
        if not _flag(reader, "status"):
            variant.availability, variant.inventory = "out of stock", InventoryInput(track_inventory=False)
            message = "The variant is switched off in the shop, so it counts as out of stock."
            reader.warn("status", message, rule="switched_off")

    def _product(self, reader: RowReader, sku: str) -> ProductInput:
        name, brand = reader.text("name"), reader.text("brand")
        description, short = reader.text("description"), reader.text("short_description")
        pictures = _pictures(reader)
        categories = [part.strip() for part in (reader.text("categories") or "").split("/")]
        return ProductInput(
            id=sku,
            title=plain_text(name) if name else None,
            subtitle=line_breaks(short) if short else None,
            description=line_breaks(description) if description else None,
            slug=reader.text("url_key"),
            status="active" if _flag(reader, "status") else "draft",
            visibility="public" if _flag(reader, "visible_individually") else "private",
            brand=plain_text(brand) if brand else None,
            thumbnail=pictures[0] if pictures else None,
            images=pictures[1:],
            categories=[plain_text(part) for part in categories if part],
            source=self._source,
        )

    def _variant(self, reader: RowReader, sku: str, named: Mapping[str, str] | None) -> VariantInput:
        ean, upc, barcode = reader.barcodes()
        variant = VariantInput(
            id=sku,
            sku=sku,
            price=reader.price("price", "price", states_currency=False, grouped=False),
            special_price=reader.price(
                "special_price", "special price", states_currency=False, grouped=False
            ),
            ean=ean,
            upc=upc,
            barcode=barcode,
            options={name: plain_text(value) for name, value in (named or _own_options(reader)).items()},
            inventory=_inventory(reader),
        )
        start = reader.read(
            "special_price_from", lambda text: read_instant(text, self._zone, end_of_day=False)
        )
        end = reader.read("special_price_to", lambda text: read_instant(text, self._zone, end_of_day=True))
        reader.set_sale_window(variant, start, end, meaning="special_price_to")
        return variant


def _pictures(reader: RowReader) -> list[str]:
    """Addresses or file names; Bagisto takes every comma for the end of one."""
    return split_images((reader.text("images") or "").split(","))


def _own_options(reader: RowReader) -> dict[str, str]:
    return {name: text for name in ("color", "size") if (text := reader.text(name))}


def _flag(reader: RowReader, meaning: str) -> bool:
    """A yes or no; an empty cell says nothing, which is no reason to hide a product."""
    cell = reader.cell(meaning)
    if cell is None or cell.text.casefold() in _YES:
        return True
    if cell.text.casefold() in _NO:
        return False
    raise RowFaultError(cell.column, f"{quoted(cell.text)} is neither 1 nor 0.", value=cell.text)


def _inventory(reader: RowReader) -> InventoryInput | None:
    """Pieces over all sources of ``default=100,second=20``; a product whose stock is not managed is not counted."""
    cell = reader.cell("inventories")
    quantity = None
    if cell is not None:
        try:
            counts = [read_quantity(part.rpartition("=")[2]) for part in cell.text.split(",") if part.strip()]
        except UnreadableValueError as error:
            raise RowFaultError(cell.column, str(error), rule=error.rule, value=cell.text) from None
        quantity = min(sum(counts), _MOST_QUANTITY) if counts else None
    is_managed = _flag(reader, "manage_stock")
    if quantity is None and is_managed:
        return None
    return InventoryInput(track_inventory=is_managed, quantity_on_hand=quantity)
