"""Checks on text that comes from outside, before it reaches a database or a log."""

from __future__ import annotations

__all__ = ["text_fault"]


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
