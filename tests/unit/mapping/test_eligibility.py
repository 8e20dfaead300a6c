"""Reasons, their order, their sentences."""

from __future__ import annotations

import itertools

import pytest

from meta_sync.sync.eligibility import IneligibleReason, eligibility
from meta_sync.sync.mapping import Ineligible, evaluate
from tests.unit.mapping.builders import NOW, SETTINGS, make_item

IN_ORDER: list[tuple[str, dict[str, object]]] = [
    ("product_deleted", {"product_deleted": True}),
    ("variant_deleted", {"variant_deleted": True}),
    ("excluded_by_operator", {}),
    ("product_not_active", {"status": "draft"}),
    ("product_not_public", {"visibility": "private"}),
    ("missing_price", {"price": None}),
    ("missing_storefront_slug", {"slug": None}),
    ("missing_title", {"title": None}),
    ("missing_image", {"product_thumbnail": None}),
    ("missing_identifier", {"brand": None}),
    ("invalid_id", {"variant_id": ""}),
]


def reason_for(names: set[str]) -> str | None:
    changes: dict[str, object] = {}
    for name, change in IN_ORDER:
        if name in names:
            changes |= change
    item = make_item(**changes)
    excluded = "excluded_by_operator" in names
    reason = eligibility(item, SETTINGS, excluded=excluded, retailer_id=None)
    result = evaluate(item, SETTINGS, excluded=excluded, retailer_id=None, now=NOW)
    assert reason == (result.reason if isinstance(result, Ineligible) else None)
    return reason


def test_the_reasons_are_these_in_this_order() -> None:
    assert [reason.value for reason in IneligibleReason] == [name for name, _ in IN_ORDER]


def test_nothing_wrong_is_no_reason() -> None:
    assert reason_for(set()) is None


@pytest.mark.parametrize("name", [name for name, _ in IN_ORDER])
def test_each_reason_alone(name: str) -> None:
    assert reason_for({name}) == name


def test_of_two_reasons_the_earlier_one_is_given() -> None:
    for (earlier, _), (later, _) in itertools.combinations(IN_ORDER, 2):
        assert reason_for({earlier, later}) == earlier


@pytest.mark.parametrize("status", ["draft", "archived", "Active", "", "deleted"])
def test_only_active_products(status: str) -> None:
    item = make_item(status=status)
    assert (
        eligibility(item, SETTINGS, excluded=False, retailer_id=None) is IneligibleReason.PRODUCT_NOT_ACTIVE
    )


@pytest.mark.parametrize("visibility", ["private", "hidden", "PUBLIC", ""])
def test_only_public_products(visibility: str) -> None:
    item = make_item(visibility=visibility)
    assert (
        eligibility(item, SETTINGS, excluded=False, retailer_id=None) is IneligibleReason.PRODUCT_NOT_PUBLIC
    )


def test_the_frozen_id_is_the_one_that_is_judged() -> None:
    item = make_item(variant_id="x" * 101)
    assert eligibility(item, SETTINGS, excluded=False, retailer_id="ok") is None
    assert eligibility(make_item(), SETTINGS, excluded=False, retailer_id="") is IneligibleReason.INVALID_ID


@pytest.mark.parametrize("reason", IneligibleReason)
def test_every_reason_explains_itself(reason: IneligibleReason) -> None:
    for text in (reason.sentence, reason.next_step):
        assert text.endswith(".")
        assert text[0].isupper()
    assert reason.sentence != reason.next_step
