"""The columns of Wix's product exports and what single cells of them say: pictures, stock, publication, options."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from meta_sync.catalog.ingest.reader import RowFaultError, RowReader
from meta_sync.catalog.ingest.values import quoted, read_quantity, simplify, split_images
from meta_sync.catalog.models import InventoryInput

__all__ = ["is_visible", "meaning_of", "option_part", "option_value", "pictures", "stock"]

_MEANINGS = {
    simplify(name): meaning
    for name, meaning in {
        "handleId": "handle",
        "handle": "handle",
        "fieldType": "kind",
        "name": "name",
        "description": "description",
        "plainDescription": "description",
        "productImageUrl": "media",
        "media": "media",
        "collection": "collection",
        "sku": "sku",
        "price": "price",
        "surcharge": "surcharge",
        "strikethroughPrice": "old_price",
        "visible": "visible",
        "discountMode": "discount_mode",
        "discountValue": "discount",
        "inventory": "inventory",
        "preOrderEnabled": "preorder",
        "barcode": "gtin",
        "brand": "brand",
    }.items()
}
_OPTION = re.compile(r"productoption(name|description|choices)([0-9]{1,2})")
_MEDIA_HOST = "https://static.wixstatic.com/media/"
"""Where Wix serves the files of its media manager from, by their name."""
_MEDIA_NAME = re.compile(
    r"[0-9a-z]+_[0-9a-f]{32}(?:~mv2\w*)?\.[A-Za-z0-9]{2,5}|[\w-]+~mv2\w*\.[A-Za-z0-9]{2,5}"
)
_MEDIA_IDENTIFIER = re.compile(r"wix:image://v1/([^/#?\s]+)", re.IGNORECASE)
_YES, _NO = frozenset(("true", "yes", "1")), frozenset(("false", "no", "0"))


@lru_cache(maxsize=256)
def meaning_of(name: str) -> str | None:
    """What a column holds, in either of the two headers Wix has written; ``None`` for columns that are not used."""
    simple = simplify(name)
    return _MEANINGS.get(simple) or ("option" if _OPTION.fullmatch(simple) else None)


def option_part(name: str) -> tuple[int, str] | None:
    """Number of the option and which of its parts the column holds."""
    found = _OPTION.fullmatch(simplify(name))
    return None if found is None else (int(found[2]), "name" if found[1] == "name" else "value")


def pictures(texts: Iterable[str]) -> list[str]:
    """Addresses of pictures; the names and identifiers of Wix's own media are completed, videos left out."""
    found: dict[str, None] = {}
    for text in texts:
        for part in text.split(";"):
            identifier = _MEDIA_IDENTIFIER.match(part.strip())
            if identifier:
                found[_MEDIA_HOST + identifier[1]] = None
            elif not part.strip().startswith("wix:"):
                found.update((_completed(address), None) for address in split_images([part]))
    return list(found)


def _completed(address: str) -> str:
    return _MEDIA_HOST + address if _MEDIA_NAME.fullmatch(address) else address


def is_visible(reader: RowReader) -> bool:
    """Whether the shop shows it; an empty cell says yes.

    Raises
    ------
    RowFaultError
        The cell says neither yes nor no.
    """
    cell = reader.cell("visible")
    word = cell.text.casefold() if cell else "true"
    if cell is not None and word not in _YES | _NO:
        raise RowFaultError(cell.column, f"{quoted(cell.text)} is neither true nor false.", value=cell.text)
    return word in _YES


def stock(reader: RowReader) -> tuple[str | None, InventoryInput | None]:
    """Availability, and whether the shop counts pieces: ``InStock`` and ``OutOfStock`` mean that it does not."""
    cell = reader.cell("inventory")
    if cell is None:
        return None, None
    takes_preorders = (reader.text("preorder") or "").casefold() in _YES
    word = simplify(cell.text).replace("_", "")
    availability: str | None
    if word in {"instock", "outofstock"}:
        availability = "in stock" if word == "instock" else "preorder" if takes_preorders else "out of stock"
        return availability, InventoryInput(track_inventory=False)
    if any(char.isdigit() for char in cell.text):
        quantity = reader.read("inventory", read_quantity) or 0
        availability = "preorder" if takes_preorders and quantity == 0 else None
        return availability, reader.counted_stock(availability, quantity, allow_backorder=False)
    reader.warn(
        cell.column,
        f"The stock {quoted(cell.text)} is not known and was left out.",
        rule="unknown_word",
        value=cell.text,
    )
    return None, None


def option_value(text: str) -> str:
    """An option's value without the colour's code before its name: ``rgb(0, 0, 0):black``, ``#fff:white``."""
    code, colon, name = text.partition(":")
    is_code = code.startswith("#") or code.casefold().startswith(("rgb(", "rgba("))
    return name.strip() if colon and is_code and name.strip() else text
