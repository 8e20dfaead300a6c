"""What the elements of a YML offer mean, and how one offer becomes a variant with its product. Knows no file.

Decisions: an item's id is the offer's id. Offers of one ``group_id`` are variants of one product, and their ``param``
elements its options; the params of an offer on its own are characteristics, not options. ``available="false"`` is out of
stock, as the shops' modules write it. An offer switched off by ``disabled`` is hidden, or out of stock where it is one of
a group; one marked ``deleted`` is left out. A higher ``oldprice`` is the price and ``price`` the sale price. Books,
records, tickets and tours are products like others. Marks such as ``{{campaign_id}}`` in an address stay: it is still an address.
Promo codes, delivery and pickup are not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from zoneinfo import ZoneInfo

from meta_sync.catalog.ingest.reader import Cell, FileNotes, RowFaultError, RowReader
from meta_sync.catalog.ingest.rows import (
    FormatContext,
    ImportedVariant,
    Parsed,
    RowFailure,
    RowSkip,
    RowWarning,
)
from meta_sync.catalog.ingest.values import (
    UnreadableValueError,
    line_breaks,
    plain_text,
    quoted,
    read_condition,
    read_quantity,
    simplify,
    split_images,
)
from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput

__all__ = ["MEANINGS", "OfferRows", "currency_code", "item_id_in"]

MEANINGS = {
    "url": "link",
    "price": "price",
    "oldprice": "oldprice",
    "currencyid": "currency_id",
    "categoryid": "category",
    "picture": "picture",
    "name": "name",
    "typeprefix": "type_prefix",
    "vendor": "vendor",
    "model": "model",
    "artist": "artist",
    "title": "title",
    "vendorcode": "sku",
    "shop-sku": "shop_sku",
    "description": "description",
    "available": "available",
    "disabled": "disabled",
    "count": "quantity",
    "stock_quantity": "quantity",
    "quantity_in_stock": "quantity",
    "condition": "condition",
}
"""Elements of an offer that are read, by their names in lower case."""

_CONDITIONS = {
    "likenew": "used",
    "used": "used",
    "preowned": "used",
    "showcasesample": "used",
    "reduction": "used",
    "refurbished": "refurbished",
    "new": "new",
}
"""Nothing that a buyer would not call new goes out as new."""
_YES, _NO = frozenset(("true", "1", "yes")), frozenset(("false", "0", "no"))
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{[A-Za-z_]+\}")
_OLD_CODES = {"RUR": "RUB", "BYR": "BYN"}
_MOST_QUANTITY = 2**31 - 1

Cells = Mapping[str, Sequence[Cell]]
Categories = Callable[[str], list[str] | None]
"""The path of a category, outer to inner; ``None`` for one that the file does not list."""


def currency_code(text: str) -> str:
    """The ISO 4217 code of a currency as YML writes it: the rouble has its old code there."""
    code = text.strip().upper()
    return _OLD_CODES.get(code, code)


def item_id_in(cells: Cells) -> str | None:
    """The offer's id, else the shop's own SKU."""
    return next((found[0].text for meaning in ("id", "shop_sku") if (found := cells.get(meaning))), None)


class OfferRows:
    """Turns the offers of one file into what an import takes. One object per file: it remembers what was already said."""

    def __init__(self, source: str, context: FormatContext, categories: Categories) -> None:
        self._source = source
        self._context = context
        self._zone = ZoneInfo(context.timezone)
        self._notes = FileNotes()
        self._category_path = lru_cache(maxsize=1_024)(categories)
        self.main_currency: str | None = None
        """The currency that the file counts in, where it says so."""

    def read(self, row: int, cells: Cells) -> Iterator[Parsed]:
        """One offer: the variant and its warnings, or why there is none."""
        reader = RowReader(row, cells, self._context, self._zone, self._notes)
        item_id = item_id_in(cells)
        if item_id is None:
            yield RowFailure(row, "id", "The offer has no id.", rule="missing_id")
            return
        if (reader.text("deleted") or "").casefold() in _YES:
            message = "The offer is marked as deleted, so it is no item any more."
            yield RowSkip(row, "deleted", message, item_id, "deleted", reader.text("deleted"))
            return
        try:
            variant = self._variant(reader, item_id)
            product = self._product(reader, item_id)
            self._switch_off(reader, product, variant)
        except RowFaultError as fault:
            yield fault.failure(row, item_id)
            return
        yield ImportedVariant(row, product, variant)
        for warning in reader.warnings:
            warning.item_id = item_id if warning.row else None
            yield warning

    def _product(self, reader: RowReader, item_id: str) -> ProductInput:
        title, vendor, description = _title(reader), reader.text("vendor"), reader.text("description")
        return ProductInput(
            id=reader.text("group_id") or item_id,
            title=plain_text(title) if title else None,
            description=line_breaks(description) if description else None,
            brand=plain_text(vendor) if vendor else None,
            categories=list(self._categories(reader)),
            source=self._source,
        )

    def _categories(self, reader: RowReader) -> list[str]:
        for category_id in reader.texts("category"):
            path = self._category_path(category_id)
            if path is not None:
                return path
        if reader.cell("category") and self._notes.first_time("category"):
            message = "Some offers name a category that the file does not list before them; they carry none."
            reader.warnings.append(RowWarning(0, "categoryId", message, rule="unknown_category"))
        return []

    def _variant(self, reader: RowReader, item_id: str) -> VariantInput:
        self._check_currency(reader)
        price = reader.price("price", "price", states_currency=not self._names_currency(reader))
        old = reader.price("oldprice", "old price", states_currency=False)
        is_sale = price is not None and old is not None and old > price
        pictures = split_images(reader.texts("picture"))
        ean, upc, barcode = reader.barcodes()
        variant = VariantInput(
            id=item_id,
            sku=reader.text("shop_sku") or reader.text("sku"),
            link=self._link(reader),
            price=old if is_sale else price,
            special_price=price if is_sale else None,
            condition=reader.word("condition", "condition", _condition),
            thumbnail=pictures[0] if pictures else None,
            images=pictures[1:],
            ean=ean,
            upc=upc,
            barcode=barcode,
            options=_options(reader) if reader.cell("group_id") else {},
        )
        if reader.text("price_from") == "true":
            reader.warn(
                "price", "The price is the lowest of several; it goes in as the price.", rule="price_from"
            )
        variant.availability = _availability(reader)
        variant.inventory = _inventory(reader, variant.availability)
        return variant

    def _check_currency(self, reader: RowReader) -> None:
        cell = reader.cell("currency_id")
        code = currency_code(cell.text) if cell else self.main_currency
        if code is not None and code != self._context.currency:
            shown = quoted(cell.text) if cell else code
            raise RowFaultError(
                cell.column if cell else "currencyId",
                f"The price is in {shown}, but the store sells in {self._context.currency}.",
                rule="wrong_currency",
                value=cell.text if cell else code,
            )

    def _names_currency(self, reader: RowReader) -> bool:
        return reader.cell("currency_id") is not None or self.main_currency is not None

    def _link(self, reader: RowReader) -> str | None:
        link = reader.text("link")
        if link and "{" in link and _TEMPLATE.search(link) and self._notes.first_time("template"):
            message = (
                "Links hold marks such as {{campaign_id}} that only the advertising system they were made for fills in;"
                " the links go in as they are."
            )
            reader.warnings.append(RowWarning(0, "url", message, rule="template_marks"))
        return link

    def _switch_off(self, reader: RowReader, product: ProductInput, variant: VariantInput) -> None:
        if (reader.text("disabled") or "").casefold() not in _YES:
            return
        if reader.cell("group_id") is None:
            product.visibility = "private"
            return
        variant.availability, variant.inventory = "out of stock", InventoryInput(track_inventory=False)
        reader.warn(
            "disabled", "The offer is switched off, so its item counts as out of stock.", rule="switched_off"
        )


def _title(reader: RowReader) -> str | None:
    """The name, or what the custom types have in its place."""
    name = reader.text("name")
    if name:
        return name
    meanings = ("type_prefix", "vendor", "model") if reader.cell("model") else ("artist", "title")
    return " ".join(text for meaning in meanings if (text := reader.text(meaning))) or None


def _options(reader: RowReader) -> dict[str, str]:
    options: dict[str, str] = {}
    for cell in reader.cells.get("param", ()):
        name = plain_text(cell.column)
        if name:
            options.setdefault(name, plain_text(cell.text))
    return options


def _condition(text: str) -> str | None:
    return _CONDITIONS.get(simplify(text).replace("_", "")) or read_condition(text)


def _availability(reader: RowReader) -> str | None:
    cell = reader.cell("available")
    if cell is None:
        return None
    word = cell.text.casefold()
    if word in _YES:
        return "in stock"
    if word in _NO:
        return "out of stock"
    if word == "unknown":
        return "preorder"
    reader.warn(
        cell.column,
        f"The value {quoted(cell.text)} is neither true nor false and was left out.",
        rule="unknown_word",
        value=cell.text,
    )
    return None


def _inventory(reader: RowReader, availability: str | None) -> InventoryInput | None:
    """Stock where the offer counts pieces, all in one or by outlet."""
    quantity = reader.read("quantity", read_quantity)
    outlets = reader.cells.get("outlet", ())
    if quantity is None and outlets:
        try:
            quantity = min(sum(read_quantity(outlet.text) for outlet in outlets), _MOST_QUANTITY)
        except UnreadableValueError as error:
            shown = ", ".join(outlet.text for outlet in outlets)
            raise RowFaultError("instock", str(error), rule=error.rule, value=shown) from None
    if quantity is None:
        return None
    return reader.counted_stock(availability, quantity, allow_backorder=None)
