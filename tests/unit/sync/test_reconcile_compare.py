"""Comparing what Meta shows with what it confirmed: nothing is called a difference that a locale may have made."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.core.currency import CURRENCIES, minor_unit_exponent
from meta_sync.sync.adopt_mapping import adopted_product, field_values
from meta_sync.sync.adopt_models import UnreadableItemError
from meta_sync.sync.mapping_fields import MANAGED_FIELDS
from meta_sync.sync.mapping_money import WHOLE_UNIT_CURRENCIES, PriceFormat
from meta_sync.sync.reconcile_compare import (
    CUT,
    MAX_FOUND_BYTES,
    READ_FIELDS,
    READ_NAMES,
    Match,
    bounded,
    compare,
    held_fields,
    price_readings,
)

_ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
_LOCALES: list[tuple[str, str, str, bool]] = [
    # Thousands, decimals, how the symbol stands, whether India's way of parting is used.
    (",", ".", "${}", False),
    (".", ",", "{}\u00a0€", False),
    ("\u202f", ",", "{} €", False),
    (" ", ",", "{} kr.", False),
    ("\u2019", ".", "CHF {}", False),
    ("'", ".", "{}", False),
    ("", ".", "{}", False),
    ("", ",", "R$ {}", False),
    (",", ".", "Rs. {}", True),
    ("\u066c", "\u066b", "{} د.إ", False),
]


def _decimals(currency: str) -> int:
    is_whole = currency in WHOLE_UNIT_CURRENCIES or minor_unit_exponent(currency) == 0
    return 0 if is_whole else 2


def _shown(amount: Decimal, decimals: int, locale: tuple[str, str, str, bool]) -> str:
    """The amount as the locale writes it, with exactly so many decimals."""
    thousands, point, symbol, is_indian = locale
    whole, _, rest = f"{amount:.{decimals}f}".partition(".")
    groups: list[str] = []
    width = 3
    while len(whole) > width:
        groups.insert(0, whole[-width:])
        whole = whole[:-width]
        width = 2 if is_indian else 3
    number = thousands.join([whole, *groups]) + (point + rest if rest else "")
    if "د" in symbol:
        number = number.translate(_ARABIC)
    return symbol.format(number)


_currencies = st.sampled_from(sorted(CURRENCIES))
_locales = st.sampled_from(_LOCALES)
_amounts = st.integers(min_value=1, max_value=10**11)


@given(currency=_currencies, subunits=_amounts, locale=_locales)
def test_a_price_is_never_different_for_its_locale(
    currency: str, subunits: int, locale: tuple[str, str, str, bool]
) -> None:
    prices = PriceFormat(currency)
    text = prices.text(prices.amount(subunits))
    amount = Decimal(text.split()[0])
    shown = {"price": _shown(amount, _decimals(currency), locale), "currency": currency}
    match = compare({"price": text}, shown).match
    assert match is not Match.DIFFERENT
    if minor_unit_exponent(currency) != 3:
        assert match is Match.EQUAL


@given(currency=_currencies, subunits=_amounts, other=_amounts, locale=_locales)
def test_another_price_is_never_equal(
    currency: str, subunits: int, other: int, locale: tuple[str, str, str, bool]
) -> None:
    prices = PriceFormat(currency)
    sent, shown = prices.amount(subunits), prices.amount(other)
    if sent == shown:
        return
    amount = Decimal(prices.text(shown).split()[0])
    answer = {"price": _shown(amount, _decimals(currency), locale), "currency": currency}
    match = compare({"price": prices.text(sent)}, answer).match
    assert match is not Match.EQUAL
    if minor_unit_exponent(currency) != 3:
        assert match is Match.DIFFERENT


def test_three_decimals_stay_ambiguous_where_the_currency_has_them() -> None:
    assert price_readings("KWD 1.230", "KWD") == {Decimal("1.230"), Decimal(1230)}
    assert compare({"price": "1.23 KWD"}, {"price": "KWD 1.230"}).match is Match.UNVERIFIABLE
    assert compare({"price": "1230.00 KWD"}, {"price": "KWD 1.230"}).match is Match.UNVERIFIABLE
    assert compare({"price": "1.24 KWD"}, {"price": "KWD 1.230"}).match is Match.DIFFERENT
    assert compare({"price": "1.23 KWD"}, {"price": "KWD 1.23"}).match is Match.EQUAL
    assert compare({"price": "1230.00 EUR"}, {"price": "1.230 €"}).match is Match.EQUAL


@pytest.mark.parametrize(
    ("confirmed", "shown", "match"),
    [
        ("19.90 EUR", {"price": "€19.9"}, Match.EQUAL),
        ("19.00 EUR", {"price": "€19"}, Match.EQUAL),
        ("1000 JPY", {"price": "¥1,000.00"}, Match.EQUAL),
        ("1000 JPY", {"price": "¥1,001"}, Match.DIFFERENT),
        ("19 HUF", {"price": "19,99 Ft"}, Match.DIFFERENT),
        ("19.90 EUR", {"price": "€19.90", "currency": "USD"}, Match.DIFFERENT),
        ("19.90 EUR", {"price": "€19.90", "currency": "???"}, Match.EQUAL),
        ("19.90 EUR", {}, Match.DIFFERENT),
        ("19.90 EUR", {"price": "free"}, Match.UNVERIFIABLE),
        ("19.90 EUR", {"price": "€19.90 – €29.90"}, Match.UNVERIFIABLE),
        ("19.90 EUR", {"price": "-19.90"}, Match.UNVERIFIABLE),
        ("19.90 EUR", {"price": 19.9}, Match.EQUAL),
        ("19.90 EUR", {"price": "9" * 100}, Match.UNVERIFIABLE),
    ],
)
def test_prices_one_by_one(confirmed: str, shown: dict[str, Any], match: Match) -> None:
    assert compare({"price": confirmed}, shown).match is match


def test_a_clear_is_shown_as_nothing() -> None:
    cleared = {"sale_price": "", "sale_price_effective_date": "", "brand": "", "additional_image_link": []}
    assert compare(cleared, {}).match is Match.EQUAL
    assert compare(cleared, {"sale_price": "€0.00", "additional_image_urls": []}).match is Match.EQUAL
    still = {"sale_price": "€5.00", "sale_price_end_date": "2026-01-01T00:00:00+0000", "brand": "Acme"}
    found = compare(cleared, still)
    assert found.match is Match.DIFFERENT
    assert found.differences.keys() == {"sale_price", "sale_price_effective_date", "brand"}


@pytest.mark.parametrize(
    ("field", "confirmed", "shown", "match"),
    [
        ("title", "A shirt", " A shirt\n", Match.EQUAL),
        ("title", "A shirt", "a shirt", Match.DIFFERENT),
        ("title", "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe", Match.DIFFERENT),
        ("availability", "in stock", "IN_STOCK", Match.EQUAL),
        ("availability", "in stock", "out of stock", Match.DIFFERENT),
        ("quantity_to_sell_on_facebook", 7, "7", Match.EQUAL),
        ("quantity_to_sell_on_facebook", 7, 8, Match.DIFFERENT),
        ("quantity_to_sell_on_facebook", 7, "many", Match.UNVERIFIABLE),
        ("google_product_category", "212", "Apparel & Accessories > Clothing", Match.UNVERIFIABLE),
        ("google_product_category", "212", None, Match.DIFFERENT),
        (
            "additional_image_link",
            ["https://a/1", "https://a/2"],
            ["https://a/2", "https://a/1"],
            Match.EQUAL,
        ),
        ("additional_image_link", ["https://a/1"], ["https://a/2"], Match.DIFFERENT),
        ("additional_image_link", ["https://a/1"], "https://a/1", Match.UNVERIFIABLE),
        (
            "additional_variant_attribute",
            "Fit:slim,Cut:low",
            [{"key": "Cut", "value": "low"}, {"key": "fit", "value": "slim"}],
            Match.EQUAL,
        ),
        ("additional_variant_attribute", "Fit:slim", [{"Fit": "slim"}], Match.EQUAL),
        ("additional_variant_attribute", "Fit:slim", [{"Fit": "wide"}], Match.DIFFERENT),
        ("additional_variant_attribute", "Fit:slim", "Fit:slim", Match.UNVERIFIABLE),
    ],
)
def test_fields_one_by_one(field: str, confirmed: Any, shown: Any, match: Match) -> None:
    found = compare({"id": "1", field: confirmed}, {READ_NAMES[field]: shown})
    assert found.match is match
    assert found.differences == ({} if match is Match.EQUAL else {field: [confirmed, shown]})


@pytest.mark.parametrize(
    ("confirmed", "start", "end", "match"),
    [
        (
            "2026-01-01T00:00+00:00/2026-02-01T00:00+00:00",
            "2026-01-01T01:00:00+0100",
            "2026-01-31T16:00:00-0800",
            "equal",
        ),
        (
            "2026-01-01T00:00+00:00/2026-02-01T00:00+00:00",
            "2026-01-01T00:00:00+0000",
            "2026-02-02T00:00:00+0000",
            "different",
        ),
        ("2026-01-01T00:00+00:00/2026-02-01T00:00+00:00", None, None, "different"),
        ("1970-01-01T00:00+00:00/2026-02-01T00:00+00:00", None, "2026-02-01T00:00:00+0000", "equal"),
        ("2026-01-01T00:00+00:00/2099-12-31T23:59+00:00", "2026-01-01T00:00:00+0000", "", "equal"),
        ("2026-01-01T00:00+00:00/2026-02-01T00:00+00:00", "2026-01-01", "1 February", "unverifiable"),
    ],
)
def test_windows_of_a_sale(confirmed: str, start: str | None, end: str | None, match: str) -> None:
    shown = {"sale_price_start_date": start, "sale_price_end_date": end}
    assert compare({"sale_price_effective_date": confirmed}, shown).match == match


def test_what_was_never_sent_is_not_compared() -> None:
    assert compare({"id": "1", "title": "A"}, {"name": "A", "brand": "X", "price": "€1"}).match is Match.EQUAL


def test_every_managed_field_is_read() -> None:
    assert {*READ_NAMES, "sale_price_effective_date"} == MANAGED_FIELDS
    assert set(READ_NAMES.values()) <= set(READ_FIELDS)
    shown = dict.fromkeys(READ_FIELDS, "x")
    assert held_fields(shown) == MANAGED_FIELDS
    assert held_fields({"name": "", "brand": None, "additional_image_urls": [], "color": "red"}) == {"color"}


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    payload=st.dictionaries(st.sampled_from(sorted(MANAGED_FIELDS)), _json, max_size=5),
    shown=st.dictionaries(st.sampled_from(READ_FIELDS), _json, max_size=8),
)
def test_whatever_meta_shows_is_compared(payload: dict[str, Any], shown: dict[str, Any]) -> None:
    found = compare(payload, shown)
    assert (found.match is Match.EQUAL) == (not found.differences)
    held_fields(shown)


@given(st.text(max_size=30), _currencies)
def test_whatever_stands_for_a_price_is_read(shown: str, currency: str) -> None:
    assert all(reading >= 0 for reading in price_readings(shown, currency))


def test_what_is_kept_is_bounded() -> None:
    small = {"id": "1", "name": "A", "description": "b" * 9000}
    assert bounded(small) == small
    # Every text and address that an item may have at once.
    legal = {
        "id": "1",
        "description": "\u0926" * 9_999,
        "additional_image_urls": ["https://a/" + "c" * 2000] * 20,
    }
    assert bounded(legal) == legal
    large = {
        "id": "1",
        "description": "b" * 130_000,
        "additional_image_urls": ["https://a/" + "c" * 2000] * 80,
    }
    kept = bounded(large)
    assert len(orjson.dumps(kept)) <= MAX_FOUND_BYTES
    assert kept["id"] == "1"
    assert kept["description"] == "b" * 500
    # What is not whole is nobody's value, and may stand for any.
    assert kept[CUT] is True
    assert held_fields(kept) == MANAGED_FIELDS
    with pytest.raises(UnreadableItemError):
        field_values(kept, currency="EUR")
    with pytest.raises(UnreadableItemError):
        adopted_product(kept, currency="EUR")
