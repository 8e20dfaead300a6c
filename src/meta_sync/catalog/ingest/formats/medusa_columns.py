"""Column names of Medusa's product export (version 2) and of the template for imports (version 1)."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from meta_sync.catalog.ingest.values import simplify

__all__ = ["MedusaColumns", "meaning_of"]

_NAMES = {
    "product_id": "Product Id",
    "handle": "Product Handle",
    "title": "Product Title",
    "subtitle": "Product Subtitle",
    "description": "Product Description",
    "status": "Product Status",
    "product_thumbnail": "Product Thumbnail",
    "gift_card": "Product Is Giftcard",
    "deleted": "Product Deleted At|Variant Deleted At",
    "type": "Product Type|Product Type Value",
    "variant_id": "Variant Id",
    "sku": "Variant Sku",
    "ean": "Variant Ean",
    "upc": "Variant Upc",
    "barcode": "Variant Barcode",
    "manage_inventory": "Variant Manage Inventory",
    "allow_backorder": "Variant Allow Backorder",
    "quantity": "Variant Inventory Quantity",
    "material": "Variant Material|Product Material",
    "variant_thumbnail": "Variant Thumbnail",
}
_MEANINGS = {simplify(name): meaning for meaning, names in _NAMES.items() for name in names.split("|")}
_NUMBERED = re.compile(
    r"product_(?P<image>image)_(?P<place>[0-9]{1,3})(?:_url)?|image_(?P<url>[0-9]{1,3})_url"
    r"|(?:variant_)?option_(?P<option>[0-9]{1,2})_(?P<part>name|value)"
    r"|product_category_(?P<category>[0-9]{1,3})(?:_name)?"
)
_PRICE = re.compile(
    r"(?:variant\s+)?price\s+(?:(?P<code>[A-Z]{3})|(?P<region>\S.*?)\s*\[\s*(?P<region_code>[A-Z]{3})\s*\])",
    re.IGNORECASE,
)


@lru_cache(maxsize=1_024)
def meaning_of(name: str) -> str | None:
    """What a column holds, or ``None`` for columns that are not used.

    Prices are ``price/USD`` and, for a region, ``price/USD/Europe``; options are ``option_1_name`` and
    ``option_1_value``; pictures and categories carry their number.
    """
    price = _PRICE.fullmatch(name.strip())
    if price:
        code, region = price.group("code") or price.group("region_code"), price.group("region")
        return f"price/{code.upper()}/{region}" if region else f"price/{code.upper()}"
    simple = simplify(name)
    numbered = _NUMBERED.fullmatch(simple)
    if numbered is None:
        return _MEANINGS.get(simple)
    if numbered.group("option"):
        return f"option_{int(numbered.group('option'))}_{numbered.group('part')}"
    if numbered.group("category"):
        return f"category_{int(numbered.group('category'))}"
    return f"image_{int(numbered.group('place') or numbered.group('url'))}"


class MedusaColumns:
    """The numbered and named columns of one file, each kind in an order that does not depend on the file's."""

    def __init__(self, names: Collection[str], currency: str) -> None:
        meanings = {meaning for name in names if (meaning := meaning_of(name))}
        self.images = _by_number(meanings, "image_")
        self.categories = _by_number(meanings, "category_")
        self.options = [
            (number, f"option_{number}_name", f"option_{number}_value")
            for number in sorted(
                {int(meaning.split("_")[1]) for meaning in meanings if meaning.startswith("option_")}
            )
        ]
        self.price = f"price/{currency}"
        """The plain price in the store's currency, whether there is such a column or not."""
        own = {meaning for meaning in meanings if meaning.startswith(f"{self.price}/")}
        self.region_prices = sorted(own, key=lambda meaning: (meaning.casefold(), meaning))
        prices = {meaning for meaning in meanings if meaning.startswith("price/")}
        self.other_prices = sorted(prices - own - {self.price})
        self.is_export = "handle" in meanings and bool(
            meanings & {"title", "variant_id", "sku", "option_1_value"} or prices
        )
        """Whether the columns are those of Medusa: no other system has a column ``Product Handle`` beside these."""
        self.has_status = "status" in meanings
        self.may_name_products = "product_id" in meanings


def _by_number(meanings: Collection[str], prefix: str) -> list[str]:
    return sorted(
        (meaning for meaning in meanings if meaning.startswith(prefix)),
        key=lambda meaning: int(meaning.removeprefix(prefix)),
    )
