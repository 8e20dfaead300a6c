"""What the rows of one handle of Shopify's export become: items with their product.

Decisions are told in ``shopify_csv``; nothing here knows where in the file the rows stand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from zoneinfo import ZoneInfo

from meta_sync.catalog.ingest.formats.option_ids import is_default_value, item_id_of
from meta_sync.catalog.ingest.formats.shopify_columns import VALUE_MEANINGS, market_of, meaning_of
from meta_sync.catalog.ingest.formats.shopify_rows import MOST_PICTURES, Block, Head, Row
from meta_sync.catalog.ingest.reader import Cells, FileNotes, RowFaultError, RowReader
from meta_sync.catalog.ingest.rows import (
    FormatContext,
    ImportedVariant,
    Parsed,
    RowFailure,
    RowSkip,
    RowWarning,
)
from meta_sync.catalog.ingest.values import (
    line_breaks,
    plain_text,
    quoted,
    read_condition,
    read_quantity,
    simplify,
    split_images,
    split_path,
)
from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput

__all__ = ["ShopifyProducts"]

_OF_ALL_ITEMS = ("gender", "age_group", "condition")
"""Stated once for the product, where Meta wants it of each item."""
_YES = frozenset(("true", "1", "yes", "y", "web", "global"))
_NO = frozenset(("false", "0", "no", "n"))
_STATUSES = {
    "active": ("active", "public"),
    "draft": ("draft", "public"),
    "archived": ("archived", "public"),
    "unlisted": ("active", "private"),
}


class ShopifyProducts:
    """Turns the rows of handles into what an import takes. One object per file: it remembers what was already said."""

    def __init__(self, source: str, context: FormatContext, names: Collection[str]) -> None:
        self._source = source
        self._context = context
        self._zone = ZoneInfo(context.timezone)
        self._notes = FileNotes()
        self._market = market_of(names, context.currency)
        self._meanings = {meaning_of(name) for name in names}

    def read(self, block: Block, head: Head) -> Iterator[Parsed]:
        """The rows of the block in order; ``head`` is what all rows of the handle say of the product."""
        reader = self._reader(block.rows[0].number, {key: [cell] for key, cell in head.cells.items()})
        product: ProductInput | None = None
        fault: RowFaultError | None = None
        try:
            product = self._product(reader, block.handle, head)
        except RowFaultError as error:
            fault = error
        untold = reader.warnings
        single = _single_item(block, head)
        for row in block.rows:
            if row.failure:
                yield row.failure
            elif not row.handle:
                yield _without_handle(row)
            elif row.is_item or row is single:
                yield from self._item(row, head, product, fault, untold)
                untold = []
            elif not head.has_items and "title" not in head.cells:
                message = (
                    f"The file has no product with the handle {quoted(row.handle)}, so the row says nothing."
                )
                yield RowWarning(row.number, "Handle", message, rule="no_product", value=row.handle)

    def _item(
        self,
        row: Row,
        head: Head,
        product: ProductInput | None,
        fault: RowFaultError | None,
        product_warnings: list[RowWarning],
    ) -> Iterator[Parsed]:
        cells = {meaning: [head.cells[meaning]] for meaning in _OF_ALL_ITEMS if meaning in head.cells}
        reader = self._reader(row.number, cells | row.cells)
        values = [reader.text(meaning) or "" for meaning in VALUE_MEANINGS]
        item_id = item_id_of(row.handle, values)
        gift = head.cells.get("gift_card")
        if gift is not None and gift.text.casefold() in _YES:
            message = "A gift card stands for money and is no product to advertise, so it was left out."
            yield RowSkip(row.number, gift.column, message, item_id, "not_sold_alone", gift.text)
            return
        try:
            if product is None:
                raise fault or AssertionError
            variant = self._variant(reader, item_id, _options(reader, head, values))
        except RowFaultError as error:
            yield error.failure(row.number, item_id)
            return
        # Without a column of titles the file changes items of products that the store knows.
        yield ImportedVariant(row.number, product, variant, product_is_partial="title" not in self._meanings)
        for warning in (*product_warnings, *reader.warnings):
            warning.item_id = item_id if warning.row else None
            yield warning

    def _product(self, reader: RowReader, handle: str, head: Head) -> ProductInput:
        title, description, vendor = reader.text("title"), reader.text("description"), reader.text("vendor")
        if title is None and "title" in self._meanings:
            # The names of its options are missing with it, and so is whether it is for sale.
            message = f"The row that describes the product {quoted(handle)} is missing or cannot be read."
            raise RowFaultError("Title", message, rule="missing_parent", value=handle)
        status, visibility = _publication(reader)
        pictures = split_images(head.addresses())
        if head.has_more_pictures:
            message = (
                f"The product has more than {MOST_PICTURES} pictures; the first {MOST_PICTURES} are kept."
            )
            reader.warn("Image Src", message, rule="too_many")
        return ProductInput(
            id=handle,
            title=plain_text(title) if title else None,
            description=line_breaks(description) if description else None,
            slug=handle,
            status=status,
            visibility=visibility,
            vendor=plain_text(vendor) if vendor else None,
            thumbnail=pictures[0] if pictures else None,
            images=pictures[1:],
            categories=_categories(reader),
            google_product_category=plain_text(reader.text("google_category") or "") or None,
            source=self._source,
        )

    def _variant(self, reader: RowReader, item_id: str, options: dict[str, str]) -> VariantInput:
        pictures = split_images(reader.texts("variant_image"))
        ean, upc, barcode = reader.barcodes()
        price, special_price = self._prices(reader)
        return VariantInput(
            id=item_id,
            sku=reader.text("sku") or reader.text("mpn"),
            price=price,
            special_price=special_price,
            condition=reader.word("condition", "condition", read_condition),
            thumbnail=pictures[0] if pictures else None,
            images=pictures[1:],
            ean=ean,
            upc=upc,
            barcode=barcode,
            options=options,
            inventory=self._inventory(reader),
        )

    def _prices(self, reader: RowReader) -> tuple[int | None, int | None]:
        """The price, and the lower one where the older one stands beside it."""
        price, compare_at = "price", "compare_at"
        if self._market is not None:
            if reader.cell(f"price/{self._market}"):
                price, compare_at = f"price/{self._market}", f"compare_at/{self._market}"
            elif self._notes.first_time("market"):
                column = f"Price / {self._market}"
                message = f"Where {quoted(column)} is empty, the price without a market counts."
                reader.warnings.append(RowWarning(0, column, message, rule="other_price"))
        current = reader.price(price, "price", states_currency=False)
        if current is None:
            message = "The row has no price, so the item cannot be offered yet."
            reader.warn("Variant Price", message, rule="no_price")
        before = reader.price(compare_at, "compare-at price", states_currency=False)
        # A price of nothing is no sale: as one, it would be left out and the item offered for the price before.
        if current and before is not None and before > current:
            return before, current
        return current, None

    def _inventory(self, reader: RowReader) -> InventoryInput | None:
        tracker, policy = reader.text("tracker"), (reader.text("policy") or "deny").casefold()
        if policy not in {"continue", "deny", *_YES, *_NO}:
            cell = reader.cell("policy")
            column = cell.column if cell else "Variant Inventory Policy"
            reader.warn(
                column,
                f"The inventory policy {quoted(policy)} is not known; it counts as deny.",
                rule="unknown_word",
            )
        allow_backorder = policy == "continue" or policy in _YES
        if tracker is None and "tracker" in self._meanings:
            return InventoryInput(track_inventory=False)
        quantity = reader.read("quantity", read_quantity)
        if quantity is not None:
            return reader.counted_stock(None, quantity, allow_backorder=allow_backorder)
        if tracker is not None and self._notes.first_time("stock"):
            message = "The file counts no stock (Shopify leaves it out for shops with several locations), so stock stays as it is."
            reader.warnings.append(RowWarning(0, "Variant Inventory Qty", message, rule="no_stock"))
        return None

    def _reader(self, row: int, cells: Cells) -> RowReader:
        return RowReader(row, cells, self._context, self._zone, self._notes)


def _publication(reader: RowReader) -> tuple[str, str]:
    """Status and visibility. What is not in the online store has no page there that an item could link to."""
    published, cell = reader.cell("published"), reader.cell("status")
    status, visibility = "active", "public"
    if cell is not None:
        known = _STATUSES.get(cell.text.casefold())
        if known is None:
            message = f"The status {quoted(cell.text)} is neither active, draft, archived nor unlisted."
            raise RowFaultError(cell.column, message, value=cell.text)
        status, visibility = known
    if published is not None and published.text.casefold() not in _YES:
        if published.text.casefold() not in _NO:
            message = f"{quoted(published.text)} is neither true nor false."
            raise RowFaultError(published.column, message, value=published.text)
        visibility = "private"
    return status, visibility


def _categories(reader: RowReader) -> list[str]:
    """Shopify's category, outer to inner, and within it the merchant's own type."""
    path = split_path(reader.text("category") or "")
    if [part.casefold() for part in path] == ["uncategorized"]:
        path = []
    own = plain_text(reader.text("type") or "")
    if own and own.casefold() not in {part.casefold() for part in path}:
        path.append(own)
    return path


def _options(reader: RowReader, head: Head, values: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for number, value in enumerate(values, start=1):
        name = head.cells.get(f"name_{number}")
        if value and not is_default_value(value):
            options.setdefault(plain_text(name.text) if name else f"Option{number}", plain_text(value))
    taken = {simplify(name) for name in options}
    for field in ("gender", "age_group"):
        text = reader.text(field)
        if text and field not in taken:
            options[field] = plain_text(text)
    return options


def _single_item(block: Block, head: Head) -> Row | None:
    """A product whose rows say nothing of any variant is one item all the same: its first row with a title."""
    if head.has_items or head.is_told:
        return None
    return next((row for row in block.rows if row.handle and "title" in row.cells), None)


def _without_handle(row: Row) -> Parsed:
    if row.is_item or "title" in row.cells:
        message = "The row has no handle, so it cannot be said which product it belongs to."
        return RowFailure(row.number, "Handle", message, rule="missing_id")
    message = "The row has no handle and belongs to no product; it was left out."
    return RowWarning(row.number, "Handle", message, rule="no_product")
