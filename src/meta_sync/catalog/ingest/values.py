"""Small readers for single cells: words, numbers, codes, lists. Pure, without state, no knowledge of any file format."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable

__all__ = [
    "UnreadableValueError",
    "line_breaks",
    "plain_text",
    "quoted",
    "read_availability",
    "read_condition",
    "read_gtin",
    "read_quantity",
    "simplify",
    "split_images",
    "split_path",
    "split_unescaped",
]

_MAX_QUANTITY = 2**31 - 1
_SHOWN_CHARS = 60


class UnreadableValueError(ValueError):
    """A cell's value cannot be read. The message is a sentence that shows the value; the caller knows the column."""

    def __init__(self, message: str, *, rule: str = "unreadable") -> None:
        super().__init__(message)
        self.rule = rule


def quoted(text: str) -> str:
    """The text in quotation marks, cut and without control characters or halves of characters, for a message."""
    shown = "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split())
    )
    return f'"{shown}"' if len(shown) <= _SHOWN_CHARS else f'"{shown[: _SHOWN_CHARS - 1]}…"'


def simplify(text: str) -> str:
    """A name as its bare words: no case, accents or punctuation; words are joined by an underscore."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(char if char.isalnum() else " " for char in decomposed if not unicodedata.combining(char))
    return "_".join(kept.split())


# --- words --------------------------------------------------------------------------------------------------------

_AVAILABILITY = {
    simplify(word): meaning
    for meaning, words in {
        "in stock": "in stock|instock|available|in store only|instoreonly|online only|onlineonly|limited availability"
        "|limitedavailability|en stock|disponible|auf lager|vorrätig|verfügbar|in magazzino|disponibile|em estoque"
        "|disponível|op voorraad|w magazynie|dostępny|в наличии|stokta|stokta var",
        "out of stock": "out of stock|outofstock|sold out|soldout|unavailable|not available|discontinued|en rupture"
        "|rupture de stock|en rupture de stock|épuisé|non disponible|nicht auf lager|nicht vorrätig|ausverkauft"
        "|agotado|sin existencias|sin stock|no disponible|esaurito|non disponibile|esgotado|fora de estoque"
        "|sem estoque|niet op voorraad|uitverkocht|brak w magazynie|niedostępny|нет в наличии|stokta yok",
        "available for order": "available for order|availablefororder|backorder|back order|backordered|on backorder"
        "|onbackorder|made to order|madetoorder|sur commande|disponible sur commande|auf bestellung|bajo pedido"
        "|su ordinazione|sob encomenda|op bestelling|na zamówienie|под заказ",
        "preorder": "preorder|pre order|presale|pre sale|précommande|vorbestellung|vorbestellbar|reserva|preordine"
        "|pré venda|предзаказ",
    }.items()
    for word in words.split("|")
}

_CONDITION = {
    simplify(word): meaning
    for meaning, words in {
        "new": "new|brand new|newcondition|new with tags|neuf|neu|nuevo|nuovo|novo|nieuw|nowy|новый|yeni",
        "refurbished": "refurbished|refurbishedcondition|renewed|reconditioned|remanufactured|certified refurbished"
        "|reconditionné|generalüberholt|reacondicionado|ricondizionato|recondicionado|gereviseerd",
        "used": "used|usedcondition|second hand|pre owned|used like new|used good|used fair|open box|damagedcondition"
        "|occasion|d occasion|gebraucht|usado|usato|gebruikt|używany|б у",
    }.items()
    for word in words.split("|")
}


def _word(text: str) -> str:
    return simplify(
        text.rstrip("/ ").rpartition("/")[2]
    )  # "https://schema.org/InStock" names it in the last part


def read_availability(text: str) -> str | None:
    """One of ``in stock``, ``out of stock``, ``available for order``, ``preorder``; ``None`` for an unknown word."""
    return _AVAILABILITY.get(_word(text))


def read_condition(text: str) -> str | None:
    """One of ``new``, ``refurbished``, ``used``; ``None`` for an unknown word."""
    return _CONDITION.get(simplify(text)) or _CONDITION.get(_word(text))


# --- codes and numbers --------------------------------------------------------------------------------------------

_MANGLED = re.compile(r"[0-9](?:[.,][0-9]+)?E\+?[0-9]+", re.IGNORECASE)
_FORMULA_TEXT = re.compile(r'="(.*)"')
_WHOLE_FLOAT = re.compile(r"([0-9]{8,14})[.,]0+")
_QUANTITY = re.compile(r"([+-]?[0-9]+)(?:[.,][0-9]*)?")


def read_gtin(text: str) -> str | None:
    """The code as text, or ``None`` when a spreadsheet turned it into a rounded number (``1.58E+15``).

    Undoes what loses nothing: ``="0123"``, a leading apostrophe, ``4006381333931.0``, spaces and hyphens between
    digits. The check digit is the mapping's business.
    """
    text = text.strip()
    formula = _FORMULA_TEXT.fullmatch(text)
    text = (formula.group(1) if formula else text.removeprefix("'")).strip()
    if _MANGLED.fullmatch(text):
        return None
    whole = _WHOLE_FLOAT.fullmatch(text)
    if whole:
        return whole.group(1)
    digits = text.replace(" ", "").replace("-", "")
    return digits if digits.isascii() and digits.isdigit() else text


def read_quantity(text: str) -> int:
    """Whole pieces in stock; parts of a piece are cut off, and what is owed (a negative stock) counts as none.

    Raises
    ------
    UnreadableValueError
        The text is no number, or larger than any stock.
    """
    match = _QUANTITY.fullmatch(text.strip().replace("\u00a0", "").replace(" ", ""))
    if match is None or not match.group().isascii():
        raise UnreadableValueError(f"The quantity {quoted(text)} is not a number.")
    if len(match.group(1)) > 12 or int(match.group(1)) > _MAX_QUANTITY:
        raise UnreadableValueError(f"The quantity {quoted(text)} is too large.")
    return max(0, int(match.group(1)))


# --- text and lists -----------------------------------------------------------------------------------------------

_NEXT_ADDRESS = re.compile(r"[,;|](?=\s*(?:https?:)?//)|(?<!\s)\s++(?=https?://)", re.IGNORECASE)
"""What stands before a further address. A run of spaces is looked at once, however long it is."""
_UNESCAPED_COMMA = re.compile(r"(?<!\\),")


def plain_text(text: str) -> str:
    """A title or name with its HTML entities decoded. Such fields hold plain text, so an entity there is a leftover."""
    return html.unescape(text).strip() if "&" in text else text


def line_breaks(text: str) -> str:
    r"""The text with the two characters ``\n`` turned into line breaks, as exports write them. HTML stays."""
    return text.replace("\\r\\n", "\n").replace("\\n", "\n") if "\\" in text else text


def split_path(text: str) -> list[str]:
    """The titles of a category path ``A > B``, outer to inner."""
    parts = (part.strip() for part in html.unescape(text).split(">"))
    return [part for part in parts if part]


def split_unescaped(text: str) -> list[str]:
    r"""The values of a cell separated by commas; ``\,`` is a comma inside a value."""
    values = (part.replace("\\,", ",").strip() for part in _UNESCAPED_COMMA.split(text))
    return [value for value in values if value]


def split_images(texts: Iterable[str]) -> list[str]:
    """Addresses of pictures, each once and in order. A comma inside an address does not split it."""
    found: dict[str, None] = {}
    for text in texts:
        parts = _NEXT_ADDRESS.split(text) if "//" in text else text.split(",")
        found.update((part.strip(), None) for part in parts if part.strip())
    return list(found)
