"""Reads JSON that somebody else wrote: whatever arrives, these functions answer and never raise.

Only shapes are handled here; what a value means is decided by the callers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

__all__ = [
    "UNREADABLE",
    "decode_json",
    "header",
    "identifier",
    "integer",
    "items",
    "mapping",
    "number",
    "scrub",
    "text",
    "truth",
]

UNREADABLE: Final = object()
"""Stands for "this is no JSON", since ``None`` is a JSON value."""

_LARGEST_INTEGER = 2**63 - 1
"""What a database column holds; anything beyond is as good as missing."""

_TOKEN_SHAPES = re.compile(
    r"\b(?:EAA|IGA|IGQ)[A-Za-z0-9_-]{8,}"  # user, page, system user and Instagram tokens
    r"|\b\d{5,}(?:\||%7C)[A-Za-z0-9_-]{8,}"  # app tokens: id|secret
    r"|(?<=access_token=)[^&\s\"']+|(?<=input_token=)[^&\s\"']+|(?<=fb_exchange_token=)[^&\s\"']+"
    r"|(?<=client_secret=)[^&\s\"']+|(?<=appsecret_proof=)[^&\s\"']+"
)


def decode_json(body: bytes) -> Any:
    """The JSON value of a body, or ``UNREADABLE``.

    The strict and fast reader goes first. The lenient one takes what real servers send beside it: lone
    surrogates, raw control characters, a byte order mark.
    """
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(body.decode("utf-8-sig", "replace"), strict=False)
    except (ValueError, RecursionError):
        return UNREADABLE


def header(headers: Mapping[str, str], name: str) -> str | None:
    """A header's value whatever its case, also from a plain dictionary."""
    wanted = name.lower()
    for key, value in headers.items():
        if key.lower() == wanted:
            return value
    return None


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """The value if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any, limit: int | None = None) -> str | None:
    """A text that can be stored (no NUL, no lone surrogates), cut to ``limit`` characters; ``None`` for all
    else.
    """
    if not isinstance(value, str):
        return None
    clean: str = value.replace("\x00", "\ufffd")
    if not clean.isascii():
        clean = clean.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return clean if limit is None or len(clean) <= limit else clean[: limit - 1] + "…"


def identifier(value: Any) -> str | None:
    """An id as text. Ids are compared byte for byte, so a text is left as it is, bar what no database can
    hold.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:  # Python refuses to print integers of more than 4,300 digits
            return None
    return text(value)


def integer(value: Any) -> int | None:
    """A whole number, also from a text or a whole float; ``None`` for all else and beyond 64 bits."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,19}\s*", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST_INTEGER:
        return None
    return value


def number(value: Any) -> float | None:
    """A finite number, also from a text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def truth(value: Any) -> bool:
    """Whether the value says yes: ``true``, ``1`` or one of these as text."""
    return value is True or value == 1 or (isinstance(value, str) and value.strip().lower() in {"true", "1"})


def scrub(message: str) -> str:
    """The message without anything that looks like an access token or an app secret.

    Meta repeats malformed tokens in its messages (observed: "Malformed access token EAAB…").
    """
    return _TOKEN_SHAPES.sub("[secret]", message)
