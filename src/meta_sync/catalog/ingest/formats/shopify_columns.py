"""Column names of Shopify's product export, in the older spelling (``Variant Price``) and the newer one (``Price``)."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from meta_sync.catalog.ingest.values import simplify

__all__ = ["ITEM_MEANINGS", "PRODUCT_MEANINGS", "VALUE_MEANINGS", "is_export", "market_of", "meaning_of"]

_NAMES = {
    "handle": "Handle|URL handle",
    "title": "Title",
    "description": "Body (HTML)|Body HTML|Description",
    "vendor": "Vendor",
    "category": "Product Category|Standardized Product Type",
    "type": "Type|Custom Product Type",
    "published": "Published|Published on online store",
    "status": "Status",
    "gift_card": "Gift Card",
    "name_1": "Option1 Name",
    "name_2": "Option2 Name",
    "name_3": "Option3 Name",
    "value_1": "Option1 Value",
    "value_2": "Option2 Value",
    "value_3": "Option3 Value",
    "sku": "Variant SKU|SKU",
    "gtin": "Variant Barcode|Barcode",
    "price": "Variant Price|Price",
    "compare_at": "Variant Compare At Price|Compare-at price",
    "tracker": "Variant Inventory Tracker|Inventory tracker",
    "quantity": "Variant Inventory Qty|Variant Inventory Quantity|Inventory quantity",
    "policy": "Variant Inventory Policy|Continue selling when out of stock",
    "image": "Image Src|Product image URL",
    "position": "Image Position",
    "variant_image": "Variant Image|Variant image URL",
    "google_category": "Google Shopping / Google Product Category",
    "gender": "Google Shopping / Gender",
    "age_group": "Google Shopping / Age Group",
    "mpn": "Google Shopping / MPN|Google Shopping / Manufacturer part number (MPN)",
    "condition": "Google Shopping / Condition",
}
_MEANINGS = {simplify(name): meaning for meaning, names in _NAMES.items() for name in names.split("|")}
_MARKET = re.compile(r"\s*(compare[\s-]+at\s+)?price\s*/\s*(\S.*?)\s*", re.IGNORECASE)
_CODE = re.compile(r"(?<![A-Za-z])[A-Z]{3}(?![A-Za-z])")

PRODUCT_MEANINGS = frozenset(
    [
        "title",
        "description",
        "vendor",
        "category",
        "type",
        "published",
        "status",
        "gift_card",
        "name_1",
        "name_2",
        "name_3",
        "google_category",
        "gender",
        "age_group",
        "condition",
    ]
)
"""What stands in one row of a handle and holds for all of them."""
VALUE_MEANINGS = ("value_1", "value_2", "value_3")
"""The values of the options, in their order: with the handle they make an item's id."""
ITEM_MEANINGS = frozenset([*VALUE_MEANINGS, "sku", "gtin", "price", "compare_at"])
"""What only the row of a variant has; a row without any of it adds pictures. Stock says nothing: some tools write
its policy into every row."""
_PROOF = frozenset(name for name in _MEANINGS if name.startswith(("variant_", "option")))
"""Columns by which ``Handle`` is Shopify's; ``URL handle`` is no other system's."""


@lru_cache(maxsize=1_024)
def meaning_of(name: str) -> str | None:
    """What a column holds, or ``None`` for columns that are not used.

    A market's own price is ``price/`` or ``compare_at/`` and the market's name.
    """
    market = _MARKET.fullmatch(name) if "/" in name else None
    if market:
        return f"{'compare_at' if market.group(1) else 'price'}/{market.group(2)}"
    return _MEANINGS.get(simplify(name))


def is_export(names: Collection[str]) -> bool:
    """Whether a header is that of a product export. The export of stock has handles and options, too."""
    simple = {simplify(name) for name in names}
    known = {meaning for name in names if (meaning := meaning_of(name))}
    if not known & {"price", "description", "image"}:
        return False
    return "url_handle" in simple or ("handle" in simple and bool(simple & _PROOF))


def market_of(names: Collection[str], currency: str) -> str | None:
    """The market whose prices are in the currency by its own name (``Price / International [USD]``), if there is one.

    Only a currency code counts: a market called after a country sells in whatever the merchant chose for it. Of
    several such markets it is the first by name, wherever its column stands.
    """
    markets = {
        meaning.partition("/")[2]
        for name in names
        if (meaning := meaning_of(name)) and meaning.startswith("price/")
    }
    return min((market for market in markets if currency in _CODE.findall(market)), default=None)
