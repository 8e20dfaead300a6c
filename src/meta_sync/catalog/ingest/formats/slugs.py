"""The slug WordPress makes of a title, which WooCommerce's default permalink holds."""

from __future__ import annotations

import html
import re
import unicodedata
from urllib.parse import quote

__all__ = ["wordpress_slug"]

_MAX_ENCODED_BYTES = 200
"""WordPress cuts the percent-encoded slug here."""

_LETTERS = str.maketrans(
    {
        "ß": "s", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "đ": "d", "Đ": "D", "ð": "d",
        "Ð": "D", "þ": "th", "Þ": "TH", "ł": "l", "Ł": "L", "ı": "i", "ħ": "h", "Ħ": "H", "ŋ": "n", "Ŋ": "N",
        "€": "E", "£": "", "×": "x",
    }
)  # fmt: skip
_TAG = re.compile(r"<[^<>]*+>")
_DASHES = re.compile(r"[./\u00a0\u2010-\u2015]")
_DROPPED = frozenset(
    "«»‹›“”‘’‚‛„‟•©®°…™¡¿´ˊ\u0300\u0301\u0304\u030c\u0341"
    "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\ufeff"
)
"""Characters beyond ASCII that WordPress takes out; it keeps all others."""


def wordpress_slug(title: str) -> str | None:
    """The slug of a product whose permalink was never edited, decoded (``комбинезон``, not ``%d0%ba…``).

    A second product of the same title gets ``-2`` appended by WordPress; that cannot be known from one row.
    """
    text = _TAG.sub("", html.unescape(title))
    text = "".join(map(_without_accent, text)).translate(_LETTERS).lower()
    text = _DASHES.sub("-", text)
    text = "".join(filter(_is_kept, text))
    text = re.sub(r"-+", "-", "-".join(text.split())).strip("-")
    return _cut(text).strip("-") or None


def _is_kept(char: str) -> bool:
    return (char.isalnum() or char in "-_ \t\n") if char.isascii() else char not in _DROPPED


def _without_accent(char: str) -> str:
    if char.isascii():
        return char
    base = unicodedata.normalize("NFD", char)[0]
    return base if base.isascii() and base.isalpha() else char  # other scripts keep their marks


def _cut(text: str) -> str:
    size = 0
    for place, char in enumerate(text):
        size += len(quote(char, safe=""))
        if size > _MAX_ENCODED_BYTES:
            return text[:place]
    return text
