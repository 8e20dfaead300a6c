"""Keyset cursors: opaque to the caller, signed, bound to the list they were made for."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import orjson

from meta_sync.core.errors import ErrorDetail, ValidationFailedError

__all__ = ["MAX_PAGE_ROWS", "CursorCodec", "require_page_within_reach"]

MAX_PAGE_ROWS = 10_000
"""How deep ``page`` reaches. Beyond it a cursor costs the same at any depth."""

_TAG_BYTES = 16


class CursorCodec:
    """Packs the sort key of the last row into text that nobody can forge or take to another list."""

    def __init__(self, key: bytes) -> None:
        self._key = hashlib.sha256(b"meta-sync cursor" + key).digest()

    def encode(self, scope: str, position: list[Any]) -> str:
        """A cursor for the list that ``scope`` names: store, path, filters and order."""
        body = orjson.dumps(position)
        return base64.urlsafe_b64encode(self._tag(scope, body) + body).decode().rstrip("=")

    def decode(self, scope: str, cursor: str) -> list[Any]:
        """The position packed into a cursor of the same list.

        Raises
        ------
        ValidationFailedError
            The cursor was damaged, forged, or made for another list or other filters.
        """
        try:
            raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            tag, body = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
            if hmac.compare_digest(tag, self._tag(scope, body)):
                position = orjson.loads(body)
                if isinstance(position, list):
                    return position
        except ValueError:
            pass
        raise ValidationFailedError(
            "The cursor is not valid for this list. Begin again without one.",
            details=[ErrorDetail("cursor", "is not valid for this list")],
        )

    def _tag(self, scope: str, body: bytes) -> bytes:
        return hmac.new(self._key, scope.encode() + b"\x00" + body, hashlib.sha256).digest()[:_TAG_BYTES]


def require_page_within_reach(page: int, limit: int) -> None:
    """Refuse a page beyond the first 10,000 rows, naming the cursor as the way on.

    Raises
    ------
    ValidationFailedError
        The page ends beyond the reach.
    """
    if page * limit > MAX_PAGE_ROWS:
        raise ValidationFailedError(
            f"page serves the first {MAX_PAGE_ROWS:,} rows. Use cursor with the nextCursor of a page to go deeper.",
            details=[ErrorDetail("page", "is too deep; use cursor")],
        )
