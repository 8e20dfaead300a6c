"""Checks on text that comes from outside, before it reaches a database or a log."""

from __future__ import annotations

import json
from typing import Any

import orjson

__all__ = ["encode_json", "text_fault"]


def encode_json(value: Any) -> bytes:
    """A value that was read from somebody else's JSON, as JSON again.

    JSON knows numbers beyond 64 bits, and a lenient reader leaves lone surrogates standing. The fast encoder has neither:
    then the slow one writes the number out, and a question mark for half a character.
    """
    try:
        return orjson.dumps(value, default=str)
    except TypeError:
        return json.dumps(value, default=str, ensure_ascii=False).encode("utf-8", "replace")


def text_fault(text: str) -> str | None:
    """Why a text cannot be stored, as a sentence without a subject, or ``None`` when it can.

    PostgreSQL refuses NUL, and UTF-8 has no lone surrogates; both would otherwise fail deep in the driver.
    """
    if "\x00" in text:
        return "must not contain the NUL character"
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "must not contain lone surrogates (half of a character)"
    return None
