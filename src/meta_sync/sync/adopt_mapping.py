"""From an item as Meta shows it to rows of the store's catalog, and to values of the fields we write. Pure.

The mapping turned round, as far as it can be: what Meta shows under names of its own becomes the product and the variant
that the mapping would make such an item of. Prices are shown as formatted texts; one that allows for two readings is
never taken for either.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from meta_sync.catalog.models import META_SOURCE, InventoryInput, ProductInput, VariantInput
from meta_sync.catalog.validation import AVAILABILITIES, validate_product
from meta_sync.core.currency import is_currency, minor_unit_exponent
from meta_sync.sync.adopt_models import NotDoneCode, UnreadableItemError
from meta_sync.sync.mapping_fields import MANAGED_FIELDS
from meta_sync.sync.mapping_money import PriceFormat
from meta_sync.sync.mapping_sale import OPEN_END, OPEN_START
from meta_sync.sync.mapping_words import AVAILABILITIES as AVAILABILITY_WORDS
from meta_sync.sync.mapping_words import fold, option_field
from meta_sync.sync.reconcile_compare import CUT, READ_NAMES, price_readings

__all__ = ["adopted_product", "field_values", "price_subunits", "shown_options"]

_OPTION_FIELDS = ("color", "size", "material", "pattern", "gender", "age_group")
_SHOWN = frozenset({"published"})
"""Meta's words of an item that shoppers can see; one that hides it is kept hidden."""
_NOT_KEPT = frozenset({"item_group_id"})
"""Fields that stand for the store's own structure: Meta's value of one is never kept in place of ours."""


def adopted_product(found: Mapping[str, Any], *, currency: str) -> ProductInput:
    """The product of source ``meta``, with its one variant, that an item at Meta becomes.

    The variant has the item's id; the product that of its group, or the item's where it has none. Members of one group
    come as products of the same id.

    Raises
    ------
    UnreadableItemError
        The price, its currency or a value of it cannot be taken over.
    """
    _require_whole(found)
    retailer_id = str(found["retailer_id"])
    price, sale = _prices(found, currency)
    start, end = _window(found)
    variant = VariantInput(
        id=retailer_id,
        sku=_text(found, "manufacturer_part_number"),
        link=_text(found, "url"),
        price=price,
        special_price=sale,
        special_price_start=start if sale is not None else None,
        special_price_end=end if sale is not None else None,
        condition=_text(found, "condition"),
        thumbnail=_text(found, "image_url"),
        images=_links(found),
        barcode=_text(found, "gtin"),
        options=shown_options(found),
        availability=_availability(found),
        inventory=_stock(found),
    )
    product = ProductInput(
        id=_group_id(found) or retailer_id,
        title=_text(found, "name"),
        description=_text(found, "description"),
        visibility="public" if _is_shown(found) else "private",
        brand=_text(found, "brand"),
        categories=_categories(found),
        google_product_category=_text(found, "category"),
        source=META_SOURCE,
        variants=[variant],
    )
    if validate_product(product):
        raise UnreadableItemError(NotDoneCode.NOT_STORABLE)
    return product


def field_values(found: Mapping[str, Any], *, currency: str) -> dict[str, Any]:
    """By field, under the names and in the form we write, what Meta shows; ``None`` for what it shows nothing of.

    Fields that cannot be read for certain are left out.

    Raises
    ------
    UnreadableItemError
        What was kept of the item is not whole.
    """
    _require_whole(found)
    values: dict[str, Any] = {}
    for name, read_name in READ_NAMES.items():
        shown = found.get(read_name)
        values[name] = shown if shown not in (None, "", []) else None
    values["availability"] = AVAILABILITY_WORDS.get(fold(str(found.get("availability") or "")))
    options = {
        name: value
        for name, value in shown_options(found).items()
        if option_field(name) not in _OPTION_FIELDS
    }
    pairs = [f"{name}:{value}" for name, value in sorted(options.items()) if not {",", ":"} & {*name, *value}]
    values["additional_variant_attribute"] = ",".join(pairs) or None
    quantity = values["quantity_to_sell_on_facebook"]
    values["quantity_to_sell_on_facebook"] = quantity if isinstance(quantity, int) else None
    try:
        price, sale = _prices(found, currency)
    except UnreadableItemError:
        del values["price"], values["sale_price"]
    else:
        money = PriceFormat(currency)
        values["price"] = None if price is None else money.text(money.amount(price))
        values["sale_price"] = None if sale is None else money.text(money.amount(sale))
        values["sale_price_effective_date"] = _window_text(found) if sale is not None else None
    return {name: value for name, value in values.items() if name in MANAGED_FIELDS - _NOT_KEPT}


def _require_whole(found: Mapping[str, Any]) -> None:
    """Refuse what was cut to be kept: half a text, or a field that only seems to be empty, is nobody's value."""
    if CUT in found:
        raise UnreadableItemError(NotDoneCode.NOT_STORABLE)


def price_subunits(shown: str, currency: str) -> int:
    """A formatted price in the currency's minor units.

    Raises
    ------
    UnreadableItemError
        It allows for several amounts, or for none that the currency has.
    """
    readings = {reading for reading in price_readings(shown, currency) if reading > 0}
    if len(readings) != 1:
        raise UnreadableItemError(NotDoneCode.PRICE_UNCLEAR)
    subunits = readings.pop() * Decimal(10) ** minor_unit_exponent(currency)
    if subunits != int(subunits):
        raise UnreadableItemError(NotDoneCode.PRICE_UNCLEAR)
    return int(subunits)


def shown_options(found: Mapping[str, Any]) -> dict[str, str]:
    """The options of a variant that Meta's attributes stand for."""
    options = {name: value for name in _OPTION_FIELDS if (value := _text(found, name)) is not None}
    shown = found.get("additional_variant_attributes")
    for one in shown if isinstance(shown, list) else ():
        if not isinstance(one, Mapping):
            continue
        pairs = [(one["key"], one["value"])] if {"key", "value"} <= one.keys() else list(one.items())
        for name, value in pairs:
            if name and value and option_field(str(name)) is None:
                options.setdefault(str(name).strip(), str(value).strip())
    return options


def _prices(found: Mapping[str, Any], currency: str) -> tuple[int | None, int | None]:
    """Price and sale price in minor units of the store's currency; ``None`` for what is not shown."""
    shown, sale = _text(found, "price"), _text(found, "sale_price")
    theirs = (_text(found, "currency") or "").upper()
    if shown is None:
        return None, None
    if is_currency(theirs) and theirs != currency:
        raise UnreadableItemError(NotDoneCode.OTHER_CURRENCY)
    return price_subunits(shown, currency), None if sale is None else price_subunits(sale, currency)


def _window(found: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    """The bounds of the sale; those that stand for none are none."""
    start, end = _instant(found, "sale_price_start_date"), _instant(found, "sale_price_end_date")
    return (None if start == OPEN_START else start), (None if end == OPEN_END else end)


def _window_text(found: Mapping[str, Any]) -> str | None:
    start, end = _window(found)
    if start is None and end is None:
        return None
    bounds = (start or OPEN_START, end or OPEN_END)
    return "/".join(one.isoformat(timespec="seconds" if one.second else "minutes") for one in bounds)


def _instant(found: Mapping[str, Any], name: str) -> datetime | None:
    shown = _text(found, name)
    if shown is None:
        return None
    try:
        moment = datetime.fromisoformat(shown)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _availability(found: Mapping[str, Any]) -> str | None:
    """Meta's word where the store's catalog has it; what is not sold any more is out of stock."""
    shown = _text(found, "availability")
    if shown is None:
        return None
    word = AVAILABILITY_WORDS.get(fold(shown))
    return word if word in AVAILABILITIES else "out of stock"


def _stock(found: Mapping[str, Any]) -> InventoryInput | None:
    """A stock record where Meta shows a quantity that agrees with the availability; else the word alone decides."""
    quantity = found.get("quantity_to_sell_on_facebook")
    if not isinstance(quantity, int) or not 0 <= quantity < 2**31:
        return None
    expected = "in stock" if quantity else "out of stock"
    if _availability(found) != expected:
        return None
    return InventoryInput(
        track_inventory=True, quantity_on_hand=quantity, reserved_quantity=0, allow_backorder=False
    )


def _is_shown(found: Mapping[str, Any]) -> bool:
    visibility = _text(found, "visibility")
    return visibility is None or visibility.casefold() in _SHOWN


def _group_id(found: Mapping[str, Any]) -> str | None:
    own = _text(found, "retailer_product_group_id")
    group = found.get("product_group")
    return own or (_text(group, "retailer_id") if isinstance(group, Mapping) else None)


def _categories(found: Mapping[str, Any]) -> list[str]:
    shown = _text(found, "product_type") or ""
    return [title for part in shown.split(">") if (title := part.strip())]


def _links(found: Mapping[str, Any]) -> list[str]:
    shown = found.get("additional_image_urls")
    return [one for one in shown if isinstance(one, str) and one] if isinstance(shown, list) else []


def _text(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None
