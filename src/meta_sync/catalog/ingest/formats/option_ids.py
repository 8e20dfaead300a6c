"""An item's id made of its product's handle and its option values, for files whose items have no id of their own.

Must not look at anything that a merchant fills in or corrects later, such as a SKU or a price: the id has to be the
same on the next import.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

__all__ = ["MAX_ITEM_ID_CHARS", "is_default_value", "item_id_of"]

MAX_ITEM_ID_CHARS = 100
"""Longer ids are refused by Meta."""

_HASH_CHARS = 12
_DEFAULT_VALUES = frozenset(("default title", "default option value", "default variant"))
"""What Shopify and Medusa write for a product that has no options."""
_KEPT = frozenset("-.+()*'!")
"""Punctuation that neither splits an address nor one of Meta's checkout links."""


def item_id_of(handle: str, option_values: Sequence[str]) -> str:
    """The id, such as ``shirt__Dark_blue__S~M``; the handle alone where there are no options.

    Two different lists of values never give the same id: parts are joined by two underscores, of which a value has
    none, a slash becomes a tilde, and what would break an address or a link becomes its code point (``=3a=``). Only
    runs of spaces and the two ways of writing an accent are not told apart. An id of more than 100 characters is
    cut and ends in a hash of the whole.
    """
    values = ["" if is_default_value(value) else value for value in map(_normal, option_values)]
    while values and not values[-1]:
        values.pop()
    words = "".join(char if char == "_" else _escaped(char) for char in _normal(handle))
    parts = ["".join("_" if char == " " else _escaped(char) for char in value) for value in values]
    found = "__".join((words.replace("__", "=5f==5f="), *parts))
    if len(found) <= MAX_ITEM_ID_CHARS:
        return found
    digest = hashlib.sha256(found.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]
    return f"{found[: MAX_ITEM_ID_CHARS - _HASH_CHARS - 1]}={digest}"


def is_default_value(text: str) -> bool:
    """Whether this is what a shop system writes for a product that has no options."""
    return text.casefold() in _DEFAULT_VALUES


def _normal(text: str) -> str:
    text = " ".join(text.split())
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _escaped(char: str) -> str:
    if char.isalnum() or char in _KEPT or unicodedata.category(char)[0] == "M":
        return char
    return "~" if char == "/" else f"={ord(char):x}="
