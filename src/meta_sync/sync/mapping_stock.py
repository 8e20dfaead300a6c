"""Availability, quantity and condition of an item."""

from __future__ import annotations

from typing import Final

from meta_sync.catalog.models import CatalogItem
from meta_sync.sync.mapping_draft import Draft
from meta_sync.sync.mapping_issues import IssueCode
from meta_sync.sync.mapping_settings import QuantityPolicy
from meta_sync.sync.mapping_words import AVAILABILITIES, CONDITIONS, fold

__all__ = ["QUANTITY_CAPS", "fill_condition", "fill_stock"]

QUANTITY_CAPS: Final[dict[QuantityPolicy, int | None]] = {
    "capped": 50,  # a stock above it needs no push for every sold piece
    "exact": 2**31 - 1,  # Meta documents no limit; more does not fit a 32-bit number
    "none": None,
}
"""The largest quantity that is sent, by policy; ``None``: no quantity is sent."""


def fill_stock(item: CatalogItem, cap: int | None, draft: Draft) -> None:
    """Add ``availability`` and, for tracked stock, ``quantity_to_sell_on_facebook``.

    A quantity of 0 is never sent with ``in stock``, which Meta would flag.
    """
    data = draft.data
    if not item.track_inventory:
        data["availability"] = _own_word(item.availability, draft) if item.availability else "in stock"
        return
    left = (item.quantity_on_hand or 0) - (item.reserved_quantity or 0)
    if left > 0:
        data["availability"] = "in stock"
    else:
        left = 0
        data["availability"] = "available for order" if item.allow_backorder else "out of stock"
    if cap is not None:
        data["quantity_to_sell_on_facebook"] = min(left, cap)


def _own_word(text: str, draft: Draft) -> str:
    word = AVAILABILITIES.get(text) or AVAILABILITIES.get(
        fold(text.rpartition("/")[2])
    )  # http://schema.org/InStock
    if word is None:
        word = "in stock"
        if text.strip():
            draft.note(IssueCode.AVAILABILITY_UNKNOWN, "availability", text)
    return word


def fill_condition(text: str | None, default: str, draft: Draft) -> None:
    """Add ``condition``: the item's own word where Meta has one for it, else the default."""
    if not text:
        draft.data["condition"] = default
        return
    word = CONDITIONS.get(text) or CONDITIONS.get(fold(text.rpartition("/")[2]))
    if word is None:
        word = default
        if text.strip():
            draft.note(IssueCode.CONDITION_UNKNOWN, "condition", text)
    draft.data["condition"] = word
