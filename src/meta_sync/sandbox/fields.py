"""Which fields an item of ``PRODUCT_ITEM`` may carry when it is written, and what each may hold.

Source: Meta's items_batch reference and "Reference - Catalog" page. Where the two disagree about a length the
longer limit stands, so that the sandbox never refuses what Meta may take.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["FIELDS", "FieldSpec", "Kind", "is_empty", "text_of", "words"]


def words(text: str) -> frozenset[str]:
    """The words of a text; long lists of names read best as one."""
    return frozenset(text.split())


class Kind(Enum):
    """What a field's value is read as."""

    ANY = "any"
    TEXT = "text"
    URL = "url"
    URL_LIST = "url list"
    MEDIA_LIST = "media list"
    PRICE = "price"
    PERIOD = "period"
    QUANTITY = "quantity"
    NUMBER = "number"
    DIGITS = "digits"
    WORD = "word"
    FOLDED_WORD = "word in any case"
    VARIANT_ATTRIBUTES = "variant attributes"


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field: how it is read, and its longest text in characters or largest count of entries."""

    kind: Kind = Kind.TEXT
    max_length: int | None = None
    words: frozenset[str] = frozenset()


def _words(*words: str) -> frozenset[str]:
    return frozenset(words)


_ANY = FieldSpec(Kind.ANY)

FIELDS: dict[str, FieldSpec] = {
    "id": FieldSpec(max_length=100),
    "title": FieldSpec(max_length=200),
    "description": FieldSpec(max_length=9999),
    "availability": FieldSpec(
        Kind.WORD,
        words=_words(
            "in stock", "out of stock", "preorder", "available for order", "discontinued", "pending"
        ),
    ),
    "condition": FieldSpec(Kind.WORD, words=_words("new", "refurbished", "used")),
    "price": FieldSpec(Kind.PRICE),
    "link": FieldSpec(Kind.URL),
    "image": FieldSpec(Kind.MEDIA_LIST, max_length=21),
    "image_link": FieldSpec(Kind.URL),
    "brand": FieldSpec(max_length=100),
    "item_group_id": FieldSpec(max_length=100),
    "additional_image_link": FieldSpec(Kind.URL_LIST, max_length=50),
    "sale_price": FieldSpec(Kind.PRICE),
    "sale_price_effective_date": FieldSpec(Kind.PERIOD),
    "status": FieldSpec(Kind.WORD, words=_words("active", "archived")),
    "visibility": FieldSpec(Kind.WORD, words=_words("published", "staging", "hidden")),
    "quantity_to_sell_on_facebook": FieldSpec(Kind.QUANTITY),
    "inventory": FieldSpec(Kind.QUANTITY),
    "google_product_category": FieldSpec(max_length=250),
    "fb_product_category": FieldSpec(),
    "product_type": FieldSpec(max_length=750),
    "color": FieldSpec(max_length=200),
    "size": FieldSpec(max_length=200),
    "material": FieldSpec(max_length=200),
    "pattern": FieldSpec(max_length=100),
    "gender": FieldSpec(Kind.FOLDED_WORD, words=_words("female", "male", "unisex")),
    "age_group": FieldSpec(
        Kind.FOLDED_WORD,
        words=_words("adult", "all ages", "teen", "kids", "toddler", "infant", "newborn"),
    ),
    "additional_variant_attribute": FieldSpec(Kind.VARIANT_ATTRIBUTES),
    "rich_text_description": FieldSpec(max_length=9999),
    "gtin": FieldSpec(Kind.DIGITS, max_length=70),
    "mpn": FieldSpec(max_length=100),
    **{f"custom_label_{number}": FieldSpec(max_length=100) for number in range(5)},
    **{f"custom_number_{number}": FieldSpec(Kind.NUMBER) for number in range(5)},
    "internal_label": _ANY,
    "product_tags": _ANY,
    "shipping": _ANY,
    "shipping_weight": _ANY,
    "unit_price": _ANY,
    "base_price": _ANY,
    "video": FieldSpec(Kind.MEDIA_LIST, max_length=20),
    "applink": _ANY,
    "mobile_link": FieldSpec(Kind.URL),
    "expiration_date": FieldSpec(),
    "ordering_index": FieldSpec(Kind.QUANTITY),
    "vendor_id": FieldSpec(max_length=100),
    "user_rating": _ANY,
    "rating_count": _ANY,
    "disabled_capabilities": _ANY,
    "previous_id": FieldSpec(max_length=100),
    "origin_country": FieldSpec(),
    "importer_name": FieldSpec(),
    "importer_address": _ANY,
    "manufacturer_info": FieldSpec(),
    "wa_compliance_category": FieldSpec(),
    "commerce_tax_category": FieldSpec(),
}
"""Every field the two pages name. Anything else is "unrecognised": warned about and not stored."""


def is_empty(value: object) -> bool:
    """Whether a value means "clear this field" in an update. Zero and false are values."""
    return value is None or (isinstance(value, str | list | dict) and not value)


def text_of(value: object) -> str:
    """A scalar as the text Meta stores for it: numbers in plain digits, booleans as JSON writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
