"""Comparing what was sent with what Meta shows, where a warning leaves doubt. Pure.

Only fields that read back as they were written are compared; prices come formatted, so they prove nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from meta_sync.sync.models import Method

__all__ = ["READ_BACK_FIELDS", "agrees", "sent_payloads"]

_WRITTEN_AS = {"name": "title", "url": "link", "description": "description", "availability": "availability"}
"""Meta's read names (documented) and the names we write."""

READ_BACK_FIELDS = ("id", "retailer_id", *_WRITTEN_AS)


def sent_payloads(body: bytes) -> dict[str, dict[str, Any]]:
    """The records of a stored body by retailer id; empty when there is no body."""
    if not body:
        return {}
    return {record["data"]["id"]: record["data"] for record in orjson.loads(body)["requests"]}


def agrees(sent: Mapping[str, Any] | None, found: Mapping[str, Any] | None, method: Method) -> bool:
    """Whether Meta shows what was sent."""
    if method is Method.DELETE:
        return found is None
    if sent is None or found is None:
        return False
    return all(_plain(found.get(read)) == _plain(sent.get(written)) for read, written in _WRITTEN_AS.items())


def _plain(value: Any) -> str:
    return "" if value is None else str(value).strip()
