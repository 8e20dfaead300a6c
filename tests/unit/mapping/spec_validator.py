"""Meta's product data specification as a check of finished items, written apart from the mapper.

It shares no constant and no function with the product: a wrong limit there must not be a wrong limit here.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

REQUIRED = {"id", "title", "description", "availability", "condition", "price", "link", "image_link"}
LIMITS = {
    "id": 100,
    "title": 200,
    "description": 9999,
    "brand": 100,
    "mpn": 100,
    "gtin": 14,
    "item_group_id": 100,
    "google_product_category": 250,
    "product_type": 750,
    "color": 100,
    "size": 200,
    "material": 200,
    "pattern": 100,
    "custom_label_0": 100,
    "custom_label_1": 100,
}
ENUMS = {
    "availability": {"in stock", "out of stock", "available for order", "preorder", "discontinued"},
    "condition": {"new", "refurbished", "used"},
    "gender": {"female", "male", "unisex"},
    "age_group": {"adult", "all ages", "teen", "kids", "toddler", "infant", "newborn"},
}
OTHERS = {
    "price",
    "sale_price",
    "sale_price_effective_date",
    "link",
    "image_link",
    "additional_image_link",
    "quantity_to_sell_on_facebook",
    "additional_variant_attribute",
}
PLAIN_TEXT = (
    "title",
    "description",
    "brand",
    "color",
    "size",
    "material",
    "pattern",
    "product_type",
    "custom_label_0",
)
WHOLE = {"CLP", "COP", "CRC", "HUF", "ISK", "IDR", "JPY", "KRW", "PYG", "TWD", "VND"}
CORE_ATTRIBUTES = {"color", "size", "material", "pattern", "gender", "age_group"}
TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
MONEY = re.compile(r"([0-9]+(?:\.[0-9]{1,2})?) ([A-Z]{3})")


def faults(data: dict[str, Any], currency: str) -> list[str]:
    """Everything Meta would hold against the item, as sentences."""
    found = [f"missing {name}" for name in REQUIRED - data.keys()]
    found += [
        f"unknown field {name}" for name in data.keys() - REQUIRED - LIMITS.keys() - ENUMS.keys() - OTHERS
    ]
    found += [f"{name} is empty" for name, value in data.items() if value in ("", [], None)]
    found += [f"{name} is too long" for name, limit in LIMITS.items() if len(data.get(name, "")) > limit]
    found += [
        f"{name} is no word of Meta's"
        for name, words in ENUMS.items()
        if name in data and data[name] not in words
    ]
    found += [f"{name} has markup" for name in PLAIN_TEXT if TAG.search(data.get(name, ""))]
    found += [f"{name} is not on one line" for name in PLAIN_TEXT if not _is_one_line(data.get(name, ""))]
    if not {"brand", "gtin", "mpn"} & data.keys():
        found.append("no identifier")
    if data.get("item_group_id") == data["id"]:
        found.append("the group has the item's id")
    return found + _money(data, currency) + _addresses(data) + _stock(data) + _gtin(data) + _attributes(data)


def _is_one_line(text: str) -> bool:
    return text == " ".join(text.split())


def _amount(text: str, currency: str) -> Decimal:
    match = MONEY.fullmatch(text)
    assert match is not None, text
    assert match[2] == currency, text
    assert currency not in WHOLE or "." not in match[1], text
    return Decimal(match[1])


def _money(data: dict[str, Any], currency: str) -> list[str]:
    price = _amount(data["price"], currency)
    found = [] if price > 0 else ["price is not positive"]
    if "sale_price" in data and not 0 < _amount(data["sale_price"], currency) < price:
        found.append("sale price is not between zero and the price")
    if "sale_price_effective_date" in data:
        if "sale_price" not in data:
            found.append("a sale window without a sale price")
        start, end = (datetime.fromisoformat(bound) for bound in data["sale_price_effective_date"].split("/"))
        if start.utcoffset() is None or end.utcoffset() is None or start >= end:
            found.append("bad sale window")
    return found


def _addresses(data: dict[str, Any]) -> list[str]:
    others = data.get("additional_image_link", [])
    images = [data["image_link"], *others]
    found = []
    for url in (data["link"], *images):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            found.append(f"bad address {url!r}")
        if not url.isascii() or not url.isprintable() or " " in url or re.search("%(?![0-9A-Fa-f]{2})", url):
            found.append(f"address not encoded {url!r}")
        assert parts.port is None or parts.port > 0
    if len(others) > 20 or len(set(images)) < len(images):
        found.append("too many images, or one twice")
    return found


def _stock(data: dict[str, Any]) -> list[str]:
    quantity = data.get("quantity_to_sell_on_facebook", 1)
    if type(quantity) is not int or quantity < 0 or (quantity == 0 and data["availability"] == "in stock"):
        return [f"bad quantity {quantity!r}"]
    return []


def _gtin(data: dict[str, Any]) -> list[str]:
    if "gtin" not in data:
        return []
    text = data["gtin"]
    if not re.fullmatch("[0-9]{8}|[0-9]{12,14}", text):
        return [f"bad gtin {text!r}"]
    total = 0
    for place, digit in enumerate(reversed(text)):
        total += int(digit) * (3 if place % 2 else 1)
    return [] if total % 10 == 0 else ["gtin with a wrong check digit"]


def _attributes(data: dict[str, Any]) -> list[str]:
    found = []
    for pair in data.get("additional_variant_attribute", "a:b").split(","):
        name, *rest = pair.split(":")
        if not name or len(rest) != 1 or not rest[0] or name.casefold().replace(" ", "_") in CORE_ATTRIBUTES:
            found.append(f"bad attribute {pair!r}")
    return found
