"""What the guard counts, and when it is too much. Pure: no clock, no database, no Meta.

The guard stands between a decision and its call. It knows three kinds of change that a broken import or a wrong setting
makes by the thousand: items deleted, items shown as out of stock, and prices changed. One item may be of several kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from meta_sync.sync.mapping_sale import OPEN_END, OPEN_START
from meta_sync.sync.models import Decision, DecisionKind, ItemState, Presence

__all__ = [
    "NOT_GUARDED",
    "Bounds",
    "GuardKind",
    "HeldBy",
    "allowed_items",
    "first_kind",
    "is_within_shown",
    "kinds_in",
    "kinds_of",
    "may_trip",
    "trips",
]

NOT_GUARDED = 0
"""The kinds of a decision that the guard does not count, as bits."""

_ASKED_FOR = frozenset({"excluded_by_operator"})
"""Reasons of deletes that a person asked for by name."""

_OUT_OF_STOCK = "out of stock"

_MORE_THAN_SHOWN = (11, 10)
"""A release covers at most this many times what was shown: a hold that still grows is to be looked at again."""


class GuardKind(StrEnum):
    """A kind of change that is counted by itself. The order is that in which a hold takes an item of several kinds."""

    DELETE = "delete"
    OUT_OF_STOCK = "out_of_stock"
    PRICE = "price"

    @property
    def bit(self) -> int:
        """The kind among several in one number."""
        return _BITS[self]


_BITS = {GuardKind.DELETE: 1, GuardKind.OUT_OF_STOCK: 2, GuardKind.PRICE: 4}
_KINDS_IN = tuple(tuple(kind for kind in GuardKind if bits & _BITS[kind]) for bits in range(8))


@dataclass(frozen=True, slots=True)
class HeldBy:
    """The hold that keeps an item back."""

    hold_id: int
    kind: GuardKind

    @classmethod
    def of(cls, hold_id: int | None, kind: str | None) -> HeldBy | None:
        """The hold in two columns of a row, where there is one."""
        return None if hold_id is None or kind is None else cls(hold_id, GuardKind(kind))


class _Shown(msgspec.Struct):
    """The fields of a payload that the guard looks at; the rest is skipped without being read."""

    price: str | None = None
    availability: str | None = None
    sale_price: str | None = None
    sale_price_effective_date: str | None = None


_read_shown = msgspec.json.Decoder(_Shown).decode


def kinds_in(bits: int) -> tuple[GuardKind, ...]:
    """The kinds that a number stands for, in their order."""
    return _KINDS_IN[bits]


def first_kind(bits: int) -> GuardKind:
    """Of the kinds of an item, the one whose hold takes it."""
    return _KINDS_IN[bits][0]


def kinds_of(decision: Decision, state: ItemState, *, now: datetime) -> int:
    """The kinds of what a decision would change at Meta, as bits.

    A delete counts unless a person excluded the item, or Meta has confirmed it before and only an older epoch of the
    link has it asked for once more. Everything else is measured against what Meta confirmed last, so
    an item that Meta never confirmed changes nothing.
    """
    if decision.kind is DecisionKind.DELETE:
        is_told = decision.reason in _ASKED_FOR or state.presence is Presence.ABSENT
        return NOT_GUARDED if is_told else GuardKind.DELETE.bit
    if decision.kind is not DecisionKind.UPSERT:
        return NOT_GUARDED
    if state.confirmed_availability is None and state.confirmed_price is None:
        return NOT_GUARDED
    shown = _read_shown(decision.payload)
    bits = NOT_GUARDED
    if shown.availability == _OUT_OF_STOCK and state.confirmed_availability not in {None, _OUT_OF_STOCK}:
        bits |= GuardKind.OUT_OF_STOCK.bit
    # A record that says nothing of the price changes none.
    if (
        state.confirmed_price is not None
        and shown.price is not None
        and (shown.price != state.confirmed_price or _changes_sale(shown, state, now))
    ):
        bits |= GuardKind.PRICE.bit
    return bits


@dataclass(frozen=True, slots=True)
class _Sale:
    price: str
    start: datetime
    end: datetime


def _sale(price: str | None, window: str | None) -> _Sale | None:
    if not price:
        return None
    if not window:
        return _Sale(price, OPEN_START, OPEN_END)
    start, _, end = window.partition("/")
    return _Sale(price, _instant(start), _instant(end))


def _confirmed_sale(text: str | None) -> _Sale | None:
    """The sale in ``confirmed_sale``: amount, currency, and the window where there is one."""
    if not text:
        return None
    amount, currency, *window = text.split(" ", 2)
    return _sale(f"{amount} {currency}", window[0] if window else None)


def _instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _changes_sale(shown: _Shown, state: ItemState, now: datetime) -> bool:
    """Whether a buyer sees another sale than the one Meta was told of: begun sooner, ended sooner, or of another price.

    What begins or ends by the window that Meta confirmed is nothing new to Meta. Where Meta may hold a sale that was
    never noted (it was confirmed before sales were, or its outcome is not known), nothing can be said.
    """
    if state.confirmed_sale is None and "sale_price" in state.may_hold:
        return False
    wanted = _sale(shown.sale_price, shown.sale_price_effective_date)
    confirmed = _confirmed_sale(state.confirmed_sale)
    if confirmed is not None and confirmed.end <= now:
        confirmed = None
    if wanted is None or confirmed is None:
        return wanted is not confirmed
    if wanted.price != confirmed.price:
        return True
    begins_sooner = max(wanted.start, now) < max(confirmed.start, now)
    takes_away = wanted.end < confirmed.end or max(wanted.start, now) > max(confirmed.start, now)
    return begins_sooner or takes_away


def allowed_items(base: int, *, max_share: float, min_items: int) -> int:
    """How many items of a kind may change within an hour without being asked about.

    Parameters
    ----------
    base
        Items at Meta at the start of the hour.
    max_share
        Of the base, 0 to 1.
    min_items
        Fewer than this are never asked about.
    """
    # In decimals: 0.29 of 100 is 29, and a hair less than that as a float.
    return max(int(Decimal(str(max_share)) * base), min_items - 1)


def trips(count: int, base: int, *, max_share: float, min_items: int) -> bool:
    """Whether so many items are more than the share of the base and at least the least number.

    A share of 1 lets everything go, without its being counted.
    """
    return max_share < 1 and count > allowed_items(base, max_share=max_share, min_items=min_items)


def is_within_shown(held: int, shown: int) -> bool:
    """Whether a release of so many covers what is held now."""
    most, of = _MORE_THAN_SHOWN
    return held * of <= shown * most


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known of one kind without counting. Each number is at least the true one, but for the base."""

    pending: int
    """Items that wait with the kind."""
    sent: int
    """Items that went out with it in the last hour."""
    counted: int | None
    """Both, as of the last count, with all that was asked for since; ``None`` without a count that still holds."""
    base: int
    """Items at Meta; at most the true number."""

    @property
    def most(self) -> int:
        """The number that cannot be exceeded."""
        most = self.pending + self.sent
        return most if self.counted is None else min(most, self.counted)


def may_trip(bounds: Bounds, *, max_share: float, min_items: int) -> bool:
    """Whether the kind has to be counted before anything of it goes out."""
    return trips(bounds.most, bounds.base, max_share=max_share, min_items=min_items)
