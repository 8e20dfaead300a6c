"""Ids in paths. An id is the store's own text; one that a path cannot carry is written ``~`` + base64url."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import quote

from meta_sync.core.errors import ErrorDetail, ValidationFailedError
from meta_sync.core.text import text_fault

__all__ = ["href", "read_path_id", "write_path_id"]

_UNSAFE = frozenset("/%?#\\")
"""Proxies and clients decode, merge or cut these before a server sees them."""

_TAKEN = frozenset({"", ".", "..", "batch", "bulk"})
"""No segments at all, or words that stand where an id stands in the addresses of what is done to many objects."""


def write_path_id(value: str) -> str:
    """The id as one path segment that reads back as the same id."""
    if value in _TAKEN or value.startswith("~") or not _UNSAFE.isdisjoint(value):
        return "~" + base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")
    return quote(value, safe="-._~!$&'()*+,;=:@")


def read_path_id(segment: str) -> str:
    """The id that a decoded path segment stands for.

    Raises
    ------
    ValidationFailedError
        The segment begins with ``~`` but is not base64url of UTF-8 text, or the id could not be stored.
    """
    value = segment
    if segment.startswith("~"):
        encoded = segment[1:]
        try:
            padded = (encoded + "=" * (-len(encoded) % 4)).encode("ascii")
            value = base64.b64decode(padded, altchars=b"-_", validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise _bad("is not base64url of an id after the ~") from None
    fault = text_fault(value)
    if fault is not None:
        raise _bad(fault)
    if not value:
        raise _bad("is empty")
    return value


def href(collection: str, value: str) -> str:
    """The path of one object of a collection such as ``/admin/meta/items``."""
    return f"{collection}/{write_path_id(value)}"


def _bad(fault: str) -> ValidationFailedError:
    return ValidationFailedError(
        f"The id in the path cannot be read: it {fault}.", details=[ErrorDetail("path", fault)]
    )
