"""What a row of Wix's exports sells: price, discount, surcharge and stock. Amounts stay exact until the last step."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from meta_sync.catalog.ingest.formats.wix_cells import is_visible, stock
from meta_sync.catalog.ingest.prices import MAX_MINOR_UNITS, read_price
from meta_sync.catalog.ingest.reader import RowFaultError, RowReader
from meta_sync.catalog.ingest.values import quoted
from meta_sync.catalog.models import InventoryInput, VariantInput
from meta_sync.core.currency import minor_unit_exponent

__all__ = ["sell", "switch_off"]


def sell(variant: VariantInput, parent: RowReader, row: RowReader, *, has_surcharges: bool) -> None:
    """Give a variant what its row says: SKU, code, stock, price and sale price.

    ``parent`` is the row of its product, the same object as ``row`` where the product is the item.

    Raises
    ------
    RowFaultError
        A price, a code or the stock cannot be read.
    """
    variant.sku = row.text("sku")
    variant.ean, variant.upc, variant.barcode = row.barcodes()
    variant.availability, variant.inventory = stock(row)
    price, special = _discounted(parent, row) if has_surcharges else _struck_through(parent, row)
    if price is None:
        return
    variant.price = _minor_units(price, row)
    if special is None or special >= price:
        return
    if special > 0:
        reduced = _minor_units(special, row)
        variant.special_price = reduced if 0 < reduced < variant.price else None
        return
    cell = parent.cell("discount")
    row.warn(
        cell.column if cell else "discountValue",
        "The discount is as high as the price, so it was left out.",
        rule="discount_too_high",
        value=cell.text if cell else None,
    )


def switch_off(variant: VariantInput, row: RowReader) -> None:
    """A variant that the shop does not show cannot be bought."""
    if is_visible(row):
        return
    variant.availability, variant.inventory = "out of stock", InventoryInput(track_inventory=False)
    cell = row.cell("visible")
    row.warn(
        cell.column if cell else "visible",
        "The variant is switched off in the shop, so it counts as out of stock.",
        rule="switched_off",
    )


def _discounted(parent: RowReader, row: RowReader) -> tuple[Decimal | None, Decimal | None]:
    """The first export: the product's price and the variant's surcharge, less the product's discount."""
    price = _amount(parent, "price", "price")
    if price is None:
        return None, None
    if row is not parent:
        price += _amount(row, "surcharge", "surcharge") or 0
    discount = _amount(parent, "discount", "discount")
    if not discount or discount < 0:
        return price, None
    mode = parent.cell("discount_mode")
    word = mode.text.casefold() if mode else ""
    if word == "percent":
        return price, price * (100 - discount) / 100
    if word == "amount":
        return price, price - discount
    message = f"The kind of discount {quoted(word)} is not known, so the discount was left out."
    row.warn(mode.column if mode else "discountMode", message, rule="unknown_discount", value=word)
    return price, None


def _struck_through(parent: RowReader, row: RowReader) -> tuple[Decimal | None, Decimal | None]:
    """The newer export: a row's own price, and the higher one it replaced. A variant without one has its product's."""
    source = row if row.cell("price") else parent
    price, old = _amount(source, "price", "price"), _amount(source, "old_price", "struck-through price")
    return (old, price) if old is not None and price is not None and old > price else (price, None)


def _amount(reader: RowReader, meaning: str, label: str) -> Decimal | None:
    """An exact amount in units of the currency, which may be below zero; Wix groups no thousands."""

    def read(text: str) -> Decimal:
        text = text.removesuffix("%").strip()
        sign = -1 if text.startswith("-") else 1
        price = read_price(text.removeprefix("-"), reader.context.currency, label=label, grouped=False)
        return sign * price.amount

    return reader.read(meaning, read)


def _minor_units(price: Decimal, row: RowReader) -> int:
    units = int(price.scaleb(minor_unit_exponent(row.context.currency)).to_integral_value(ROUND_HALF_UP))
    if price >= 0 and units <= MAX_MINOR_UNITS:
        return units
    cell = row.cell("surcharge") or row.cell("price")
    word = "negative" if price < 0 else "too large"
    raise RowFaultError(
        cell.column if cell else "price", f"The price is {word}.", value=cell.text if cell else None
    )
