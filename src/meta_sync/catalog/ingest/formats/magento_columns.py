"""Column names of Magento's product files, and the cells that hold several values. Knows no row and no file.

Magento writes two layouts: that of the admin's export and import, whose ``additional_attributes`` hold every further
attribute, and that of the sample data's fixtures, where each attribute has a column and line ends part the values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from meta_sync.catalog.ingest.reader import Cell
from meta_sync.catalog.ingest.values import plain_text, simplify

__all__ = [
    "OPTION_MEANINGS",
    "is_product_table",
    "meaning_of",
    "pairs",
    "path_titles",
    "values_of",
    "variations",
    "with_attributes",
]

_NAMES = {
    "sku": "sku",
    "store_view": "store_view_code",
    "attribute_set": "attribute_set_code attribute_set",
    "type": "product_type",
    "websites": "product_websites",
    "name": "name",
    "description": "description",
    "short_description": "short_description",
    "online": "product_online",
    "visibility": "visibility",
    "price": "price",
    "special_price": "special_price",
    "sale_start": "special_price_from_date special_from_date",
    "sale_end": "special_price_to_date special_to_date",
    "url_key": "url_key",
    "image": "base_image image",
    "other_image": "small_image thumbnail_image thumbnail",
    "more_images": "additional_images",
    "hidden_images": "hide_from_product_page",
    "categories": "categories",
    "category_titles": "category",
    "attributes": "additional_attributes",
    "variations": "configurable_variations",
    "variation_labels": "configurable_variation_labels",
    "quantity": "qty",
    "empty_at": "out_of_stock_qty",
    "usual_empty_at": "use_config_min_qty",
    "in_stock": "is_in_stock",
    "backorders": "allow_backorders",
    "usual_backorders": "use_config_backorders",
    "manage_stock": "manage_stock",
    "usual_manage_stock": "use_config_manage_stock",
    "bundled": "bundle_options bundle_values",
    "grouped": "associated_sku associated_skus",
    "brand": "brand manufacturer",
    "ean": "ean ean13",
    "upc": "upc",
    "gtin": "gtin",
    "barcode": "barcode",
    "color": "color colour",
    "size": "size",
    "material": "material",
    "pattern": "pattern",
    "gender": "gender",
}
_MEANINGS = {name: meaning for meaning, names in _NAMES.items() for name in names.split()}
OPTION_MEANINGS = ("color", "size", "material", "pattern", "gender")
"""Attributes that every shop's product may have and that say what the item is, by their code."""
_FROM_ATTRIBUTES = frozenset(("brand", "ean", "upc", "gtin", "barcode", *OPTION_MEANINGS))
_NEEDED = frozenset(("sku", "name", "price"))
_PROOF = frozenset(("attribute_set", "store_view", "websites", "online", "attributes", "variations"))
"""Columns that nobody else's products have; one of them is enough."""

_NEXT_PAIR = re.compile(r",(?=[A-Za-z][A-Za-z0-9_]*=)")
"""A comma stands inside a value as well; one before ``code=`` begins the next pair."""
_SEPARATORS = re.compile(r"[|\r\n]+")
_UNESCAPED_SLASH = re.compile(r"(?<!\\)/")


def meaning_of(name: str) -> str | None:
    """What a column holds, or ``None`` for columns that are not used."""
    return _MEANINGS.get(simplify(name))


def is_product_table(meanings: frozenset[str]) -> bool:
    """Whether a header with these meanings is that of a product file."""
    return meanings >= _NEEDED and bool(meanings & _PROOF)


def pairs(text: str) -> list[tuple[str, str]]:
    """The pairs of ``code=value,code=value``; a value may be in quotation marks and may hold commas."""
    found: list[tuple[str, str]] = []
    for part in _NEXT_PAIR.split(text):
        code, equals, value = part.partition("=")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1].replace('""', '"').strip()
        if equals and code.strip() and value:
            found.append((code.strip(), value))
    return found


def variations(text: str) -> list[tuple[str, dict[str, str]]]:
    """SKU and options (by attribute code) of each variation in ``sku=A,size=S|sku=B,size=M``."""
    found: list[tuple[str, dict[str, str]]] = []
    for part in text.split("|"):
        options = dict(pairs(part))
        sku = options.pop("sku", None)
        if sku:
            found.append((sku, options))
    return found


def with_attributes(cells: dict[str, list[Cell]]) -> dict[str, list[Cell]]:
    """The cells, with those attributes of ``additional_attributes`` added that have no filled column of their own."""
    for cell in cells.get("attributes", ()):
        for code, value in pairs(cell.text):
            meaning = meaning_of(code)
            if meaning in _FROM_ATTRIBUTES and meaning is not None:
                cells.setdefault(meaning, []).append(Cell(cell.column, value))
    return cells


def values_of(text: str) -> list[str]:
    """The values of a multiple-select attribute: parted by ``|`` in exports, by line ends in fixtures."""
    values = (plain_text(value.strip()) for value in _SEPARATORS.split(text))
    return [value for value in values if value]


def path_titles(categories: str | None, titles: Sequence[str]) -> list[str]:
    r"""The titles of one category path, outer to inner.

    An export lists paths, each from the root category that no buyer sees: the deepest counts, the first of several.
    ``\/`` is a slash inside a title. A fixture lists titles of several paths without saying where one ends; two of
    them are a path for sure.
    """
    if not categories:
        return list(titles[:2])
    paths = (
        [part.replace("\\/", "/").strip() for part in _UNESCAPED_SLASH.split(path)][1:]
        for path in categories.split(",")
    )
    return max(([plain_text(part) for part in path if part] for path in paths), key=len, default=[])
