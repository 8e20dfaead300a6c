"""What adopting and deciding about what Meta shows speaks of: results, reasons, and their codes. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from meta_sync.sync.codes import entry_of

__all__ = [
    "ActResult",
    "NotDone",
    "NotDoneCode",
    "UnreadableItemError",
]


class NotDoneCode(StrEnum):
    """Why something that a person asked for about an item at Meta was not done."""

    NOT_AMONG_FINDINGS = "not_among_findings"
    """The reconciliation has no finding of this id that two reads agreed on and that nobody acted on."""
    ID_TAKEN = "id_taken"
    """A variant of the store has this id."""
    PRODUCT_ID_TAKEN = "product_id_taken"
    """The store's own product has the id of the item's group."""
    PRICE_UNCLEAR = "price_unclear"
    """Meta shows a price that can be read in several ways, or not at all."""
    OTHER_CURRENCY = "other_currency"
    NOT_STORABLE = "not_storable"
    """A value of it cannot be a value of the store's catalog."""
    GROUP_FULL = "group_full"
    FROM_A_FEED = "from_a_feed"
    """A feed put the item there, and would again."""
    NOTHING_CHOSEN = "nothing_chosen"
    """None of the fields that were chosen can be taken or pinned."""
    CHANGED_SINCE = "changed_since"
    """It was sent, or changed in the store, since Meta was read."""
    STOCK_DECIDES = "stock_decides"
    """The availability follows from the stock."""

    @property
    def sentence(self) -> str:
        """What is the matter, for a merchant."""
        return entry_of(self).sentence

    @property
    def next_step(self) -> str:
        """What to do about it."""
        return entry_of(self).action


class UnreadableItemError(Exception):
    """What Meta shows of an item cannot be taken over.

    Attributes
    ----------
    code
        Why.
    """

    def __init__(self, code: NotDoneCode) -> None:
        super().__init__(code.value)
        self.code = code


@dataclass(frozen=True, slots=True)
class NotDone:
    """An item that was left as it is, and why."""

    retailer_id: str
    code: NotDoneCode


@dataclass(slots=True)
class ActResult:
    """What became of items that a person decided about.

    Attributes
    ----------
    done
        Retailer ids of the items that it was done for, or, of a dry run, would be.
    not_done
        The others, each with the reason.
    products
        Products that were made.
    remaining
        Whether findings are left that one call does not reach: ask again.
    fields
        By retailer id the fields and values that were written or pinned.
    """

    done: list[str] = field(default_factory=list)
    not_done: list[NotDone] = field(default_factory=list)
    products: int = 0
    remaining: bool = False
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)

    def refuse(self, retailer_id: str, code: NotDoneCode) -> None:
        """Leave an item as it is."""
        self.not_done.append(NotDone(retailer_id, code))
