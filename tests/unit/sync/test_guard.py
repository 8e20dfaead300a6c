"""What the guard counts, and when it is too much."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.sync.decide import decide
from meta_sync.sync.guard import (
    NOT_GUARDED,
    Bounds,
    GuardKind,
    allowed_items,
    first_kind,
    is_within_shown,
    kinds_in,
    kinds_of,
    may_trip,
    trips,
)
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.models import (
    DELETE_HASH,
    NEW_ITEM,
    Decision,
    DecisionKind,
    ItemState,
    Link,
    Presence,
    Status,
)
from tests.unit.mapping.builders import ITEMS, NOW, SETTINGS, make_item

_LINK = Link(1, epoch=1, was_empty=True)
_MAPPER = Mapper(SETTINGS)
_PRICE, _STOCK = GuardKind.PRICE.bit, GuardKind.OUT_OF_STOCK.bit


def _confirmed(payload: dict[str, Any]) -> ItemState:
    """The state of an item after Meta confirmed the payload."""
    sale = " ".join(filter(None, (payload.get("sale_price"), payload.get("sale_price_effective_date"))))
    return replace(
        NEW_ITEM,
        status=Status.SYNCED,
        presence=Presence.PRESENT,
        retailer_id=payload["id"],
        confirmed_hash=b"earlier",
        confirmed_epoch=1,
        may_hold=frozenset(payload),
        confirmed_price=payload.get("price"),
        confirmed_availability=payload.get("availability"),
        confirmed_sale=sale or None,
    )


def _decided(state: ItemState = NEW_ITEM, *, now: datetime = NOW, **changes: Any) -> Decision:
    return decide(make_item(**changes), state, _LINK, _MAPPER, now=now)


def _after(now: datetime = NOW, /, **changes: Any) -> ItemState:
    """The state of an item after what it was then is confirmed."""
    return _confirmed(msgspec.json.decode(_decided(now=now, **changes).payload))


def _kinds(
    before: dict[str, Any], after: dict[str, Any], *, then: datetime = NOW, now: datetime = NOW
) -> int:
    state = _after(then, **before)
    return kinds_of(_decided(state, now=now, **after), state, now=now)


_OUT: dict[str, Any] = {"track_inventory": True, "quantity_on_hand": 0, "allow_backorder": False}
_IN: dict[str, Any] = {**_OUT, "quantity_on_hand": 5}


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        ({}, {}, NOT_GUARDED),
        ({}, {"title": "Another name"}, NOT_GUARDED),
        ({"price": 1000}, {"price": 1001}, _PRICE),
        (_IN, _OUT, _STOCK),
        (_OUT, _IN, NOT_GUARDED),
        (_OUT, {**_OUT, "title": "Another name"}, NOT_GUARDED),
        ({**_IN, "price": 1000}, {**_OUT, "price": 900}, _PRICE | _STOCK),
        ({"price": 1000}, {"price": 1000, "special_price": 900}, _PRICE),
        ({"price": 1000, "special_price": 900}, {"price": 1000, "special_price": 900}, NOT_GUARDED),
        ({"price": 1000, "special_price": 900}, {"price": 1000, "special_price": 800}, _PRICE),
        ({"price": 1000, "special_price": 900}, {"price": 1000}, _PRICE),
    ],
)
def test_kinds_of_an_update(before: dict[str, Any], after: dict[str, Any], kinds: int) -> None:
    assert _kinds(before, after) == kinds


_HOUR = timedelta(hours=1)


def _window(start: int | None, end: int | None, price: int = 900) -> dict[str, Any]:
    """A sale by hours from now."""
    return {
        "price": 1000,
        "special_price": price,
        "special_price_start": None if start is None else NOW + start * _HOUR,
        "special_price_end": None if end is None else NOW + end * _HOUR,
    }


_NO_SALE = {"price": 1000}


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        # Within the confirmed window, whatever the clock says.
        (_window(-5, 5), _window(-5, 5), False),
        (_window(1, 5), _window(1, 5), False),
        (_window(-5, -1), _NO_SALE, False),
        (_window(-5, 0), _NO_SALE, False),
        (_window(-5, -1), _window(-5, -1), False),
        # Ended before its end, called off before its start, or sooner over.
        (_window(-5, 5), _NO_SALE, True),
        (_window(None, None), _NO_SALE, True),
        (_window(1, 5), _NO_SALE, True),
        (_window(-5, 5), _window(-5, 2), True),
        (_window(-5, 5), _window(1, 5), True),
        (_window(1, 5), _window(2, 5), True),
        # Begins before it was to begin.
        (_window(1, 5), _window(-1, 5), True),
        (_window(-5, -1), _window(-5, 5), True),
        # Goes on for longer, at the price that Meta shows already; begun long ago, or longer ago.
        (_window(-5, 5), _window(-5, 9), False),
        (_window(-5, 5), _window(-9, 5), False),
        (_window(-5, 5), _window(-5, 5, 800), True),
    ],
)
def test_sale_windows_that_meta_knows(before: dict[str, Any], after: dict[str, Any], counts: bool) -> None:
    kinds = _kinds(before, after, then=NOW - 6 * _HOUR)
    assert kinds == (_PRICE if counts else NOT_GUARDED)


@pytest.mark.parametrize(
    ("reason", "kinds"),
    [
        ("product_deleted", GuardKind.DELETE.bit),
        ("missing_price", GuardKind.DELETE.bit),
        ("excluded_by_operator", NOT_GUARDED),
    ],
)
def test_deletes_but_for_those_a_person_asked_for(reason: str, kinds: int) -> None:
    decision = Decision(DecisionKind.DELETE, reason, "v1", b"{}", DELETE_HASH)
    for presence in (Presence.PRESENT, Presence.MAYBE):
        assert kinds_of(decision, replace(NEW_ITEM, presence=presence), now=NOW) == kinds


def test_what_meta_has_deleted_before_is_not_counted_again() -> None:
    decision = Decision(DecisionKind.DELETE, "product_deleted", "v1", b"{}", DELETE_HASH)
    assert kinds_of(decision, replace(NEW_ITEM, presence=Presence.ABSENT), now=NOW) == NOT_GUARDED


def test_what_meta_never_confirmed_changes_nothing() -> None:
    assert kinds_of(_decided(**_OUT, price=1), NEW_ITEM, now=NOW) == NOT_GUARDED


def test_a_sale_that_nobody_noted_is_not_compared() -> None:
    """Confirmed by a version that did not keep sales: an item that has one since then is not to be asked about."""
    state = replace(_after(**_window(-5, 5)), confirmed_sale=None)
    assert kinds_of(_decided(state, **_window(-5, 5), title="Another"), state, now=NOW) == NOT_GUARDED
    assert kinds_of(_decided(state, **{**_window(-5, 5), "price": 2000}), state, now=NOW) == _PRICE


def test_a_record_without_a_price_changes_none() -> None:
    state = _after(**_window(-1, 5), **_IN)
    decision = Decision(
        DecisionKind.UPSERT, None, "v1", b'{"id":"v1","availability":"out of stock"}', b"partly"
    )
    assert kinds_of(decision, state, now=NOW) == _STOCK


@given(ITEMS, st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)))
def test_the_same_row_is_of_no_kind(item: Any, later: datetime) -> None:
    """Whatever an item is, sending what Meta confirmed of it, earlier or later, is no change of price or stock."""
    decision = decide(item, NEW_ITEM, _LINK, _MAPPER, now=NOW)
    if decision.kind is not DecisionKind.UPSERT:
        return
    state = _confirmed(msgspec.json.decode(decision.payload))
    again = decide(item, state, _LINK, _MAPPER, now=max(later, NOW))
    assert again.kind is DecisionKind.UPSERT
    assert kinds_of(again, state, now=max(later, NOW)) == NOT_GUARDED


@given(st.integers(0, 7))
def test_bits_stand_for_kinds(bits: int) -> None:
    kinds = kinds_in(bits)
    assert sum(kind.bit for kind in kinds) == bits
    assert list(kinds) == [kind for kind in GuardKind if kind in kinds]
    if kinds:
        assert first_kind(bits) is kinds[0]


_SHARES = st.integers(0, 999).map(lambda one: one / 1000)
_COUNTS = st.integers(0, 3_000_000)


@given(_COUNTS, _COUNTS, _SHARES, st.integers(1, 1000))
def test_more_than_the_share_and_at_least_the_least(
    count: int, base: int, share: float, min_items: int
) -> None:
    exact = Fraction(str(share)) * base
    expected = count > exact and count >= min_items
    assert trips(count, base, max_share=share, min_items=min_items) is expected
    allowed = allowed_items(base, max_share=share, min_items=min_items)
    assert not trips(allowed, base, max_share=share, min_items=min_items)
    assert trips(allowed + 1, base, max_share=share, min_items=min_items)


@given(_COUNTS, _COUNTS, st.integers(1, 1000))
def test_a_share_of_one_lets_everything_go(count: int, base: int, min_items: int) -> None:
    assert not trips(count, base, max_share=1.0, min_items=min_items)


def test_the_share_is_that_of_the_decimal_number() -> None:
    assert allowed_items(100, max_share=0.29, min_items=1) == 29
    assert allowed_items(1_000_000, max_share=0.3, min_items=1) == 300_000
    assert allowed_items(0, max_share=0.3, min_items=50) == 49


@given(
    pending=st.integers(0, 1000),
    sent=st.integers(0, 1000),
    base=st.integers(0, 5000),
    more_pending=st.integers(0, 500),
    more_sent=st.integers(0, 500),
    less_base=st.integers(0, 500),
    counted_more=st.none() | st.integers(0, 2000),
    share=_SHARES,
    min_items=st.integers(1, 100),
)
def test_what_trips_may_trip(
    pending: int,
    sent: int,
    base: int,
    more_pending: int,
    more_sent: int,
    less_base: int,
    counted_more: int | None,
    share: float,
    min_items: int,
) -> None:
    """Bounds on the safe side never let pass what a count would stop."""
    limits: dict[str, Any] = {"max_share": share, "min_items": min_items}
    bounds = Bounds(
        pending=pending + more_pending,
        sent=sent + more_sent,
        counted=None if counted_more is None else pending + sent + counted_more,
        base=max(base - less_base, 0),
    )
    if trips(pending + sent, base, **limits):
        assert may_trip(bounds, **limits)


@pytest.mark.parametrize(
    ("held", "shown", "is_within"),
    [(110, 100, True), (111, 100, False), (0, 0, True), (1, 0, False), (1, 1, True), (2, 1, False)],
)
def test_a_release_covers_a_tenth_more_than_was_shown(held: int, shown: int, *, is_within: bool) -> None:
    assert is_within_shown(held, shown) is is_within
