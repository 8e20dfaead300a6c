"""Prices: minor units of ISO 4217 in, Meta's texts out."""

from __future__ import annotations

import pytest

from meta_sync.sync.eligibility import IneligibleReason
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.mapping_issues import IssueCode
from meta_sync.sync.mapping_money import PriceFormat
from meta_sync.sync.mapping_settings import MappingSettings
from tests.unit.mapping.builders import data_of, issue_codes, mapped, refusal


def store(currency: str) -> MappingSettings:
    return MappingSettings(currency=currency, storefront_base_url="https://shop.example")


@pytest.mark.parametrize(
    ("currency", "subunits", "text"),
    [
        ("INR", 29_900, "299.00 INR"),
        ("USD", 5, "0.05 USD"),
        ("USD", 50, "0.50 USD"),
        ("EUR", 123_456_789_01, "123456789.01 EUR"),
        ("JPY", 1_000, "1000 JPY"),
        ("KRW", 1, "1 KRW"),
        ("VND", 4_000_000, "4000000 VND"),
        ("CLP", 5_990, "5990 CLP"),
        ("PYG", 10, "10 PYG"),
        ("ISK", 700, "700 ISK"),
        # ISO gives these two decimals; Meta counts whole units.
        ("HUF", 123_400, "1234 HUF"),
        ("TWD", 99_900, "999 TWD"),
        ("IDR", 1_500_000, "15000 IDR"),
        ("COP", 100, "1 COP"),
        ("CRC", 250_000, "2500 CRC"),
        # No decimals in ISO, and not in Meta's list of whole units.
        ("UGX", 1_000, "1000 UGX"),
        ("XAF", 7, "7 XAF"),
        # Three decimals in ISO.
        ("KWD", 1_230, "1.23 KWD"),
        ("BHD", 10, "0.01 BHD"),
    ],
)
def test_a_price_that_fits_is_written_as_it_is(currency: str, subunits: int, text: str) -> None:
    result = mapped(store(currency), price=subunits)
    assert result.data["price"] == text
    assert IssueCode.PRICE_PRECISION_LOST not in issue_codes(result)


@pytest.mark.parametrize(
    ("currency", "subunits", "text"),
    [
        ("KWD", 1_234, "1.23 KWD"),
        ("KWD", 1_235, "1.24 KWD"),  # half goes up, also after an even digit:
        ("KWD", 1_225, "1.23 KWD"),
        ("JOD", 9_999, "10.00 JOD"),
        ("HUF", 123_450, "1235 HUF"),
        ("HUF", 123_449, "1234 HUF"),
        ("TWD", 50, "1 TWD"),
        ("COP", 9_007_199_254_740_993_50, "9007199254740994 COP"),  # beyond what a float can hold
    ],
)
def test_a_price_that_does_not_fit_is_rounded_half_up_and_says_so(
    currency: str, subunits: int, text: str
) -> None:
    result = mapped(store(currency), price=subunits)
    assert result.data["price"] == text
    assert [(found.code, found.field) for found in result.issues] == [
        (IssueCode.PRICE_PRECISION_LOST, "price")
    ]
    assert text in result.issues[0].sentence


@pytest.mark.parametrize(
    ("currency", "subunits"), [("EUR", None), ("EUR", 0), ("EUR", -1), ("HUF", 49), ("KWD", 4), ("JPY", 0)]
)
def test_a_price_that_meta_counts_as_nothing_is_none(currency: str, subunits: int | None) -> None:
    assert refusal(store(currency), price=subunits) is IneligibleReason.MISSING_PRICE


def test_a_sale_price_loses_precision_with_an_issue_of_its_own() -> None:
    result = mapped(store("KWD"), price=2_000, special_price=1_234)
    assert result.data["sale_price"] == "1.23 KWD"
    assert [(found.code, found.field) for found in result.issues] == [
        (IssueCode.PRICE_PRECISION_LOST, "sale_price")
    ]


def test_no_price_is_a_number_in_the_payload() -> None:
    data = data_of(store("EUR"), price=1_990, special_price=990)
    assert type(data["price"]) is str
    assert type(data["sale_price"]) is str


def test_an_unknown_currency_stops_the_mapper_not_an_item() -> None:
    with pytest.raises(KeyError):
        Mapper(store("XXX"))
    with pytest.raises(KeyError):
        PriceFormat("eur")
