"""What the keys of flat JSON rows mean: the names of a feed's columns, also in camel case, by currency or by language.

Knows names only; which of several keys a file's rows are read from is decided where the rows are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from meta_sync.catalog.ingest.formats.google_fields import meaning_of
from meta_sync.catalog.ingest.values import simplify
from meta_sync.core.currency import is_currency

__all__ = ["ID_MEANINGS", "Key", "key_of"]

ID_MEANINGS = ("id", "sku", "model_code", "mpn", "asin", "article", "ean", "gtin", "upc", "barcode")
"""What may serve as the item's id, best first: the file's own id, then names that stay with an item."""

_OWN = {
    "model_code": "model_code",
    "model_number": "model_code",
    "asin": "asin",
    "article": "article",
    "article_number": "article",
    "compare_at_price": "regular_price",
    "old_price": "regular_price",
    "original_price": "regular_price",
    "list_price": "regular_price",
    "was_price": "regular_price",
    "regular_price": "regular_price",
    "current_price": "price",
    "stock": "stock",
    "stock_level": "quantity",
    "in_stock": "is_available",
    "is_in_stock": "is_available",
    "instock": "is_available",
    "available": "is_available",
    "is_available": "is_available",
    "pictures": "additional_image_link",
    "photos": "additional_image_link",
    "picture": "image_link",
    "photo": "image_link",
    "thumbnail": "image_link",
}
"""Names that crawlers and scripts write and that a feed's table does not have."""

_MONEY = frozenset(("price", "sale_price", "regular_price"))
_TRANSLATED = frozenset(
    ("title", "description", "link", "product_type", "brand", "color", "material", "pattern")
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LANGUAGE_CODES = (
    "ar az be bg bn bs ca cs da de el en es et eu fa fi fr ga gl he hi hr hu hy id is it ja ka kk km kn ko ky lo lt lv"
    " mk ml mn mr ms my nb ne nl nn no pa pl pt ro ru si sk sl sq sr sv sw ta te th tl tr uk ur uz vi zh"
)
_LANGUAGES = frozenset(_LANGUAGE_CODES.split())
_LANGUAGE = re.compile(r"(?P<base>.+?)_(?P<language>[a-z]{2}(?:_(?:[a-z]{2}|hans|hant))?)")
_AMBIGUOUS = frozenset(("id", "no"))
"""``category_id`` is rather a number than Indonesian; these count as languages only beside others."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a key means; in which language or currency its values are, where the name says so."""

    meaning: str
    language: str | None = None
    currency: str | None = None


@lru_cache(maxsize=1_024)  # rows repeat the same few dozen keys
def key_of(name: str, *, has_languages: bool = False) -> Key | None:
    """The meaning of a key, ``None`` for an unknown one. ``has_languages``: others of the file name a language."""
    if len(name) > 100:
        return None
    simple = simplify(_CAMEL.sub("_", name))
    meaning = _OWN.get(simple) or meaning_of(name) or meaning_of(simple)
    if meaning is not None:
        return Key(meaning)
    base, _, suffix = simple.rpartition("_")
    money = _OWN.get(base) or meaning_of(base)
    if money in _MONEY and len(suffix) == 3 and is_currency(suffix.upper()):
        return Key(money, currency=suffix.upper())
    match = _LANGUAGE.fullmatch(simple)
    if match is None or match["language"][:2] not in _LANGUAGES:
        return None
    meaning = meaning_of(match["base"])
    if meaning not in _TRANSLATED or (match["language"] in _AMBIGUOUS and not has_languages):
        return None
    return Key(meaning, language=match["language"])
