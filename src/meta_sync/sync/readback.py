"""Comparing what was sent with what Meta shows, where a warning leaves doubt. Pure.

Texts are compared as they are. Prices come formatted in some locale, so only their digits are: that tells a price that
was not saved from one that was, and takes no formatting for a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from meta_sync.sync.codes_pipeline import FailureCode
from meta_sync.sync.models import Method
from meta_sync.sync.outcome import Outcomes

__all__ = ["READ_BACK_FIELDS", "agrees", "resolve_doubts", "sent_payloads"]

_WRITTEN_AS = {"name": "title", "url": "link", "description": "description", "availability": "availability"}
"""Meta's read names (documented) and the names we write."""

_AMOUNTS = ("price", "sale_price")

READ_BACK_FIELDS = ("id", "retailer_id", *_WRITTEN_AS, *_AMOUNTS)


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
    return all(
        _plain(found.get(read)) == _plain(sent.get(written)) for read, written in _WRITTEN_AS.items()
    ) and all(_may_be(found.get(name), _plain(sent.get(name))) for name in _AMOUNTS)


def _may_be(shown: Any, sent: str) -> bool:
    """Whether what is shown can be the amount that was sent, ``"19.90 EUR"``. No field at all says nothing."""
    digits = "".join(filter(str.isdecimal, _plain(shown)))
    if shown is None:
        return True
    whole, _, decimals = sent.partition(" ")[0].partition(".")
    if not whole:
        return not digits.strip("0")
    return digits in {whole + decimals, whole + decimals.rstrip("0")}


def resolve_doubts(
    outcomes: Outcomes,
    sent: Mapping[str, Mapping[str, Any]],
    found: Mapping[str, Mapping[str, Any]] | None,
    *,
    is_alone: bool,
    is_early: bool,
) -> bool:
    """Give each item that the report leaves in doubt a verdict; ``False`` when it is too early for one.

    What Meta shows as it was sent is saved. The rest goes again in smaller batches. An item that was alone already is
    looked at again for a while, because Meta shows an item some time after it has saved it.

    Parameters
    ----------
    sent, found
        Payloads as they were sent and as Meta shows them, by retailer id; ``None``: they could not be looked for.
    """
    for item in outcomes.to_read_back:
        shown = None if found is None else found.get(item.retailer_id)
        if found is not None and agrees(sent.get(item.retailer_id), shown, item.method):
            outcomes.accepted.append(item)
        elif not is_alone:
            outcomes.unknown.append(item)
        elif is_early:
            return False
        elif found is None:
            outcomes.unknown.append(item)
        else:
            outcomes.rejected.append(item)
            outcomes.messages[item.variant_id] = ""
            outcomes.codes[item.variant_id] = FailureCode.NOT_SAVED
    outcomes.to_read_back.clear()
    return True


def _plain(value: Any) -> str:
    return "" if value is None else str(value).strip()
