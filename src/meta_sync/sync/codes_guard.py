"""Codes of the guard: why an item is kept back until a person decides, and what a person decided."""

from __future__ import annotations

from enum import StrEnum

from meta_sync.sync.code_entry import CodeEntry, table

__all__ = ["GUARD", "HeldCode", "held_code"]


class HeldCode(StrEnum):
    """Codes of items that a hold keeps back, and of those that a person left as they are."""

    HELD_DELETE = "held_delete"
    HELD_OUT_OF_STOCK = "held_out_of_stock"
    HELD_PRICE = "held_price"
    DISCARDED = "discarded"


def held_code(kind: str) -> HeldCode:
    """The code of items held for a kind of change."""
    return HeldCode(f"held_{kind}")


_RELEASE = "Look at the hold. Release it if that is what you want, or discard it to leave Meta as it is."

GUARD: tuple[CodeEntry, ...] = (
    *table(
        "item",
        "catalog",
        "warning",
        (
            (
                "held_delete",
                "So many items would be deleted from Meta at once that they are kept until a person has decided.",
                _RELEASE,
            ),
            (
                "held_out_of_stock",
                "So many items would be shown as out of stock at once that they are kept as they are until a person has decided.",
                _RELEASE,
            ),
            (
                "held_price",
                "So many prices would change at once that they are kept as they are until a person has decided.",
                _RELEASE,
            ),
        ),
    ),
    CodeEntry(
        "discarded",
        "item",
        "catalog",
        "info",
        "A person has decided that this change is not to reach Meta.",
        "Nothing to do: the item is left as it is until the store wants something else of it. To send it all the same, resync it.",
    ),
)
