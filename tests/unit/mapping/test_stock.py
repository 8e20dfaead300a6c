"""Availability, quantity and condition."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meta_sync.sync.mapping_issues import IssueCode
from tests.unit.mapping.builders import SETTINGS, data_of, issue_codes, mapped

QUANTITY = "quantity_to_sell_on_facebook"


@pytest.mark.parametrize(
    ("on_hand", "reserved", "backorder", "availability", "quantity"),
    [
        (10, 0, False, "in stock", 10),
        (10, 9, False, "in stock", 1),
        (10, 10, False, "out of stock", 0),
        (3, 5, False, "out of stock", 0),
        (-2, 0, False, "out of stock", 0),
        (0, 0, True, "available for order", 0),
        (0, 4, True, "available for order", 0),
        (4, 0, True, "in stock", 4),
        (None, None, None, "out of stock", 0),
        (5, None, None, "in stock", 5),
        (51, 0, False, "in stock", 50),
        (50, 0, False, "in stock", 50),
        (0, -3, False, "in stock", 3),
    ],
)
def test_tracked_stock(
    on_hand: int | None, reserved: int | None, backorder: bool | None, availability: str, quantity: int
) -> None:
    data = data_of(
        track_inventory=True, quantity_on_hand=on_hand, reserved_quantity=reserved, allow_backorder=backorder
    )
    assert (data["availability"], data[QUANTITY]) == (availability, quantity)


@pytest.mark.parametrize("track", [None, False])
def test_stock_that_is_not_tracked_says_nothing(track: bool | None) -> None:
    data = data_of(track_inventory=track, quantity_on_hand=0, reserved_quantity=3)
    assert data["availability"] == "in stock"
    assert QUANTITY not in data


def test_quantity_policies() -> None:
    def quantity(policy: str, on_hand: int) -> int | None:
        settings = replace(SETTINGS, quantity_policy=policy)  # type: ignore[arg-type]  # a literal
        sent: int | None = data_of(settings, track_inventory=True, quantity_on_hand=on_hand).get(QUANTITY)
        return sent

    assert [quantity("capped", n) for n in (1, 50, 5_000)] == [1, 50, 50]
    assert [quantity("exact", n) for n in (1, 50, 5_000)] == [1, 50, 5_000]
    assert quantity("exact", 2**63) == 2**31 - 1
    assert [quantity("none", n) for n in (1, 0)] == [None, None]


def test_a_sold_piece_above_the_cap_is_no_change() -> None:
    assert (
        mapped(track_inventory=True, quantity_on_hand=90).hash
        == mapped(track_inventory=True, quantity_on_hand=89).hash
    )


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("in stock", "in stock"),
        ("in_stock", "in stock"),
        ("InStock", "in stock"),
        ("in-stock", "in stock"),
        ("https://schema.org/OutOfStock", "out of stock"),
        ("out of stock", "out of stock"),
        ("OUT_OF_STOCK", "out of stock"),
        ("Sold out", "out of stock"),
        ("backorder", "available for order"),
        ("available for order", "available for order"),
        ("preorder", "preorder"),
        ("PreOrder", "preorder"),
        ("discontinued", "discontinued"),
        ("", "in stock"),
        ("  ", "in stock"),
    ],
)
def test_the_feeds_own_word_counts_without_tracking(given: str, sent: str) -> None:
    result = mapped(availability=given)
    assert result.data["availability"] == sent
    assert result.issues == ()
    tracked = data_of(availability=given, track_inventory=True, quantity_on_hand=0)
    assert tracked["availability"] == "out of stock"


@pytest.mark.parametrize("given", ["Промо", "20", "/"])
def test_an_unknown_availability_is_never_passed_on(given: str) -> None:
    result = mapped(availability=given)
    assert result.data["availability"] == "in stock"
    assert issue_codes(result) == [IssueCode.AVAILABILITY_UNKNOWN]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("new", "new"),
        ("Used", "used"),
        ("brand new", "new"),
        ("second hand", "used"),
        ("renewed", "refurbished"),
        ("https://schema.org/RefurbishedCondition", "refurbished"),
        ("used_like_new", "used"),
        ("gebraucht", "used"),
        (None, "refurbished"),
        ("", "refurbished"),
        (" ", "refurbished"),
    ],
)
def test_condition(given: str | None, sent: str) -> None:
    result = mapped(replace(SETTINGS, default_condition="refurbished"), condition=given)
    assert result.data["condition"] == sent
    assert result.issues == ()


def test_an_unknown_condition_becomes_the_default() -> None:
    result = mapped(condition="other")
    assert result.data["condition"] == "new"
    assert issue_codes(result) == [IssueCode.CONDITION_UNKNOWN]


def test_a_default_that_is_no_condition_is_new() -> None:
    assert data_of(replace(SETTINGS, default_condition="shiny"))["condition"] == "new"
