"""The columns of Spree's product export and import template, and what single cells of them say."""

from __future__ import annotations

import re
from functools import lru_cache

from meta_sync.catalog.ingest.reader import RowFaultError, RowReader
from meta_sync.catalog.ingest.values import plain_text, quoted, read_quantity, simplify, split_path
from meta_sync.catalog.models import InventoryInput

__all__ = ["brand", "categories", "is_export", "meaning_of", "option_part", "status", "stock"]

_MEANINGS = {
    "slug": "slug",
    "sku": "sku",
    "name": "name",
    "status": "status",
    "description": "description",
    "price": "price",
    "compare_at_price": "compare_at_price",
    "currency": "currency",
    "brand_name": "brand",
    "brand": "brand",
    "vendor_name": "vendor",
    "seller_name": "vendor",
    "barcode": "gtin",
    "track_inventory": "track_inventory",
    "inventory_count": "quantity",
    "inventory_backorderable": "backorderable",
    "product_type": "product_type",
    "tax_category": "tax_category",
    "available_on": "available_on",
    "discontinue_on": "discontinue_on",
}
_NUMBERED = re.compile(r"(image)[0-9]{1,3}_src|(category)[0-9]{1,3}")
_FIELD = re.compile(r"(?:custom_field|metafield)_\w+?_(brand|manufacturer)")
_OPTION = re.compile(r"option([0-9]{1,2})_(name|value)")
_NEEDED = frozenset(("slug", "sku", "name", "price"))
_PROOF = frozenset(
    (
        "compare_at_price",
        "quantity",
        "backorderable",
        "track_inventory",
        "option",
        "tax_category",
        "available_on",
        "discontinue_on",
    )
)
_YES, _NO = frozenset(("true", "t", "1", "yes")), frozenset(("false", "f", "0", "no"))


@lru_cache(maxsize=256)
def meaning_of(name: str) -> str | None:
    """What a column holds; ``None`` for columns that are not used."""
    simple = simplify(name)
    if found := _MEANINGS.get(simple):
        return found
    if numbered := _NUMBERED.fullmatch(simple):
        return numbered[1] or numbered[2]
    if field := _FIELD.fullmatch(simple):
        return f"field_{field[1]}"
    return "option" if _OPTION.fullmatch(simple) else None


def option_part(name: str) -> tuple[int, str] | None:
    """Number of the option and which of its parts the column holds."""
    found = _OPTION.fullmatch(simplify(name))
    return None if found is None else (int(found[1]), found[2])


def is_export(known: frozenset[str]) -> bool:
    """Whether a table with columns of these meanings is Spree's."""
    return known >= _NEEDED and len(known & _PROOF) >= 2


def status(reader: RowReader) -> str:
    """Status of the product; an empty cell means that it is on sale.

    Raises
    ------
    RowFaultError
        Spree has no such status.
    """
    cell = reader.cell("status")
    if cell is None:
        return "active"
    word = cell.text.casefold()
    if word not in {"active", "draft", "archived"}:
        message = f"The status {quoted(cell.text)} is neither active, draft nor archived."
        raise RowFaultError(cell.column, message, value=cell.text)
    return word


def brand(reader: RowReader) -> str | None:
    """The brand's own column, else a custom field of that name, else the manufacturer."""
    found = reader.text("brand") or reader.text("field_brand") or reader.text("field_manufacturer")
    return plain_text(found) if found else None


def categories(reader: RowReader) -> list[str]:
    """The deepest of the category paths ``A -> B``, else the kind of product."""
    paths = (split_path(text.replace("->", ">")) for text in reader.texts("category"))
    deepest = max(paths, key=len, default=[])
    return deepest or [plain_text(text) for text in reader.texts("product_type")]


def stock(reader: RowReader) -> InventoryInput | None:
    """Stock, where the row says anything of it."""
    tracked, backorder = (_flag(reader, meaning) for meaning in ("track_inventory", "backorderable"))
    quantity = None
    if (reader.text("quantity") or "").casefold() in {"∞", "infinity"}:  # what is not counted never runs out
        tracked = False
    else:
        quantity = reader.read("quantity", read_quantity)
    if quantity is None and tracked is None:
        return None
    if tracked is None:
        tracked = True
    if tracked and quantity is None:
        return None
    return InventoryInput(track_inventory=tracked, quantity_on_hand=quantity, allow_backorder=backorder)


def _flag(reader: RowReader, meaning: str) -> bool | None:
    cell = reader.cell(meaning)
    if cell is None:
        return None
    word = cell.text.casefold()
    if word not in _YES | _NO:
        reader.warn(
            cell.column,
            f"{quoted(cell.text)} is neither true nor false and was left out.",
            rule="unknown_word",
            value=cell.text,
        )
        return None
    return word in _YES
