"""How one product or combination of PrestaShop becomes what an import takes, whether it stood in a table or in XML.

Decisions: an item's id is the product's id, else its reference; that of a combination is made of the product's id and
the attributes' values, because the shop's own file gives it no id. A price with tax goes before one without, and what
is sold without is said once. A discount is an amount or a percentage off that price. A combination says what it adds
to the price of its product: without that price in its row it fails. What cannot be ordered is out of stock; a product
whose price the shop does not show is private.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

from meta_sync.catalog.ingest.formats.option_ids import item_id_of
from meta_sync.catalog.ingest.formats.prestashop_values import (
    category_path,
    combination_options,
    read_percent,
    says_nothing,
    switch,
)
from meta_sync.catalog.ingest.prices import Price, read_price
from meta_sync.catalog.ingest.reader import Cell, FileNotes, RowFaultError, RowReader
from meta_sync.catalog.ingest.rows import FormatContext, ImportedVariant, Parsed, RowWarning
from meta_sync.catalog.ingest.times import read_instant
from meta_sync.catalog.ingest.values import (
    UnreadableValueError,
    line_breaks,
    plain_text,
    quoted,
    read_condition,
    read_quantity,
    split_images,
)
from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput
from meta_sync.core.currency import minor_unit_exponent

__all__ = ["Layout", "PrestaShopRows", "item_id_in"]

Cells = Mapping[str, Sequence[Cell]]

_PRICES = ("price_with_tax", "price_without_tax", "price")
_CODES = ("ean", "upc", "barcode")
_BACKORDERS = {"0": False, "1": True}
"""What happens when nothing is left: refused, taken; any other number is the shop's configuration."""
_NEGATIVE = re.compile(r"\s*[-\N{MINUS SIGN}]\s*")


@dataclass(frozen=True, slots=True)
class Layout:
    """What the words of one file mean."""

    source: str
    id_column: str = "Product ID"
    """What the file calls the product's id."""
    status_is_stock: bool = False
    """The column Status says whether the product is sold out, not whether it is switched on."""
    zero_is_no_count: bool = False
    """The shop keeps its stock elsewhere and writes 0 here."""


def item_id_in(cells: Cells) -> str | None:
    """The id of the product or combination that a row is; ``None`` where the row does not say which one."""
    product_id = _first_text(cells, "id") or _first_text(cells, "reference")
    attributes = cells.get("attributes")
    if product_id is None or not attributes:
        return product_id
    try:
        options = combination_options(attributes[0], next(iter(cells.get("values", ())), None))
    except RowFaultError:
        return None
    return item_id_of(product_id, list(options.values()))


def _first_text(cells: Cells, meaning: str) -> str | None:
    found = cells.get(meaning)
    return found[0].text if found else None


class PrestaShopRows:
    """Turns the rows of one file into what an import takes. One object per file: it remembers what was already said."""

    def __init__(self, layout: Layout, context: FormatContext) -> None:
        self._layout = layout
        self._context = context
        self._zone = ZoneInfo(context.timezone)
        self._notes = FileNotes()
        self._said: list[RowWarning] = []

    def note(self, topic: str, column: str, message: str) -> None:
        """Say something about the file, once, with the next row."""
        if self._notes.first_time(topic):
            self._said.append(RowWarning(0, column, message))

    def read(self, row: int, cells: Cells) -> Iterator[Parsed]:
        """One row: the variant and its warnings, or the one failure."""
        yield from self._read(row, cells)
        yield from self._said
        self._said.clear()

    def _read(self, row: int, cells: Cells) -> Iterator[Parsed]:
        told = {meaning: found for meaning, found in cells.items() if not _is_empty_code(meaning, found)}
        reader = RowReader(row, told, self._context, self._zone, self._notes)
        product_id = reader.text("id") or reader.text("reference")
        try:
            parsed = self._row(reader, product_id)
        except RowFaultError as fault:
            yield fault.failure(row, item_id_in(cells))
            return
        yield parsed
        for warning in reader.warnings:
            warning.item_id = parsed.variant.id if warning.row else None
            yield warning

    def _row(self, reader: RowReader, product_id: str | None) -> ImportedVariant:
        if product_id is None:
            message = "The row has neither an id nor a reference, so its item could not be found again."
            raise RowFaultError(self._layout.id_column, message, rule="missing_id")
        product = self._product(reader, product_id)
        attributes = reader.cell("attributes")
        if attributes is not None:
            variant = self._combination(reader, product_id, attributes)
        else:
            variant = self._variant(reader, product_id, self._price(reader), {})
        return ImportedVariant(reader.row, product, variant)

    def _product(self, reader: RowReader, product_id: str) -> ProductInput:
        name, brand = reader.text("name"), reader.text("brand")
        description, short = reader.text("description"), reader.text("short_description")
        is_active = switch(reader, "active", default=True)
        if not self._layout.status_is_stock:
            is_active = is_active and switch(reader, "status", default=True)
        is_hidden = (reader.text("visibility") or "").casefold() == "none"
        if not switch(reader, "shows_price", default=True):
            is_hidden = True
            cell = reader.cell("shows_price")
            reader.warn(
                cell.column if cell else "Show price",
                "The shop does not show the price of this product, so the product is private.",
            )
        pictures = split_images(reader.texts("images", "image"))
        categories = reader.cell("categories")
        path = category_path(categories.text) if categories else []
        if categories and not path and any(char.isdigit() for char in categories.text):
            message = "Categories that are given by their numbers are left out; names are read."
            self.note("categories", categories.column, message)
        return ProductInput(
            id=product_id,
            title=plain_text(name) if name else None,
            subtitle=line_breaks(short) if short else None,
            description=line_breaks(description) if description else None,
            slug=reader.text("slug"),
            status="active" if is_active else "draft",
            visibility="private" if is_hidden else "public",
            brand=plain_text(brand) if brand else None,
            thumbnail=pictures[0] if pictures else None,
            images=pictures[1:],
            categories=path,
            source=self._layout.source,
        )

    def _combination(self, reader: RowReader, product_id: str, attributes: Cell) -> VariantInput:
        options = combination_options(attributes, reader.cell("values"))
        impact = reader.cell("impact")
        price = self._price(reader) if impact else None
        if price is None or impact is None:
            added = impact or reader.cell("price")
            words = f"adds {quoted(added.text)} to" if added else "has"
            raise RowFaultError(
                added.column if added else attributes.column,
                f"The combination {words} the price of product {product_id}, which the file does not say;"
                " import a file in which each combination stands with the price of its product.",
                rule="no_price",
                value=added.text if added else None,
            )
        total = self._in_minor_units(price.amount + self._difference(impact))
        if total < 0:
            message = f"With {quoted(impact.text)} added the price of the combination would be negative."
            raise RowFaultError(impact.column, message, value=impact.text)
        variant = self._variant(reader, item_id_of(product_id, list(options.values())), price, options)
        if variant.special_price is not None and total != price.minor_units:
            variant.special_price = variant.special_price_start = variant.special_price_end = None
            reader.warn(
                impact.column,
                "The discount of the product was left out for this combination.",
                rule="discount_left_out",
            )
        variant.price = total
        pictures = split_images(reader.texts("images", "image"))
        variant.thumbnail, variant.images = (pictures[0] if pictures else None), pictures[1:]
        return variant

    def _variant(
        self, reader: RowReader, item_id: str, price: Price | None, options: dict[str, str]
    ) -> VariantInput:
        ean, upc, barcode = reader.barcodes()
        variant = VariantInput(
            id=item_id,
            sku=reader.text("reference") or reader.text("mpn"),
            price=price.minor_units if price else None,
            special_price=self._discounted(reader, price),
            condition=reader.word("condition", "condition", read_condition),
            ean=ean,
            upc=upc,
            barcode=barcode,
            options=options,
        )
        start = self._date(reader, "discount_start", end_of_day=False)
        end = self._date(reader, "discount_end", end_of_day=True)
        reader.set_sale_window(variant, start, end, meaning="discount_end")
        variant.availability, variant.inventory = self._stock(reader)
        return variant

    def _stock(self, reader: RowReader) -> tuple[str | None, InventoryInput | None]:
        quantity = reader.read("quantity", read_quantity)
        if quantity == 0 and self._layout.zero_is_no_count:
            quantity = None
            message = (
                "PrestaShop keeps its stock apart from the products and writes a quantity of 0 here;"
                " it is not taken as sold out."
            )
            self.note("quantity", "quantity", message)
        if not switch(reader, "orderable", default=True):
            return "out of stock", InventoryInput(track_inventory=False, quantity_on_hand=quantity)
        if quantity is None:
            return None, None
        backorders = _BACKORDERS.get(reader.text("when_empty") or "")
        return None, reader.counted_stock(None, quantity, allow_backorder=backorders)

    def _price(self, reader: RowReader) -> Price | None:
        found = next(((meaning, cell) for meaning in _PRICES if (cell := reader.cell(meaning))), None)
        if found is None:
            return None
        meaning, cell = found
        price = self._money(cell, "price")
        if meaning == "price_without_tax":
            message = (
                "The prices are without tax and are taken as they are; where buyers see prices with tax,"
                " export those."
            )
            self.note("tax", cell.column, message)
        return price

    def _discounted(self, reader: RowReader, price: Price | None) -> int | None:
        """The price less the discount: the amount, else the percentage. None where nothing would be taken off or left."""
        percent = reader.read("discount_percent", read_percent)
        cell = reader.cell("discount_amount")
        amount = self._money(cell, "discount").amount if cell else None
        if price is None or not (amount or percent):
            return None
        reduced = price.amount - amount if amount else price.amount * (100 - (percent or 0)) / 100
        special = self._in_minor_units(reduced)
        if special <= 0:
            cell = cell if amount and cell else reader.cell("discount_percent")
            message = "The discount leaves nothing of the price and was left out."
            reader.warn(cell.column if cell else "discount", message, rule="discount_too_high")
            return None
        return special if special < price.minor_units else None

    def _money(self, cell: Cell, label: str) -> Price:
        try:
            price = read_price(cell.text, self._context.currency, label=label, grouped=False)
        except UnreadableValueError as error:
            raise RowFaultError(cell.column, str(error), rule=error.rule, value=cell.text) from None
        if price.note:
            message = "Prices in the file have more decimals than the currency; they are rounded to its smallest unit."
            self.note("rounding", cell.column, message)
        return price

    def _difference(self, cell: Cell) -> Decimal:
        """What is added to a price, or taken off it."""
        sign = _NEGATIVE.match(cell.text)
        if sign is None:
            return self._money(cell, "impact on price").amount
        return -self._money(Cell(cell.column, cell.text[sign.end() :]), "impact on price").amount

    def _in_minor_units(self, amount: Decimal) -> int:
        exponent = minor_unit_exponent(self._context.currency)
        return int(amount.scaleb(exponent).to_integral_value(ROUND_HALF_UP))

    def _date(self, reader: RowReader, meaning: str, *, end_of_day: bool) -> datetime | None:
        cell = reader.cell(meaning)
        if cell is None or says_nothing(cell.text):
            return None
        return reader.read(meaning, lambda text: read_instant(text, self._zone, end_of_day=end_of_day))


def _is_empty_code(meaning: str, found: Sequence[Cell]) -> bool:
    return meaning in _CODES and says_nothing(found[0].text)
