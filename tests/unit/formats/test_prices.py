from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.catalog.ingest.prices import MAX_MINOR_UNITS, read_price
from meta_sync.catalog.ingest.values import UnreadableValueError
from meta_sync.core.currency import CURRENCIES, minor_unit_exponent


@pytest.mark.parametrize(
    ("text", "currency", "minor_units"),
    [
        ("10 USD", "USD", 1000),
        ("USD 10.50", "USD", 1050),
        ("10.5USD", "USD", 1050),
        ("$10", "USD", 1000),
        ("US$ 10.00", "USD", 1000),
        ("$10 CAD", "CAD", 1000),
        ("10,50 €", "EUR", 1050),
        ("€10.50", "EUR", 1050),
        ("1.299,00 EUR", "EUR", 129900),
        ("1,299.00", "USD", 129900),
        ("1,299", "USD", 129900),
        ("1\u202f299,00\u00a0€", "EUR", 129900),
        ("1 299,00 EUR", "EUR", 129900),
        ("1'299.00 CHF", "CHF", 129900),
        ("1’299.– CHF", "CHF", 129900),
        ("10,- EUR", "EUR", 1000),
        ("1.299.000 EUR", "EUR", 129900000),
        ("₹1,00,000.50", "INR", 10000050),
        ("Rs.500", "INR", 50000),
        ("49,00 TND", "TND", 49000),
        ("1.234 KWD", "KWD", 1234),
        ("1,299.500 KWD", "KWD", 1299500),
        ("59.500 CLP", "CLP", 59500),
        ("1000.00 JPY", "JPY", 1000),
        ("¥1,000", "JPY", 1000),
        ("3 780 руб.", "RUB", 378000),
        ("١٬٢٩٩٫٥٠ AED", "AED", 129950),
        (".99", "USD", 99),
        ("0,500 EUR", "EUR", 50),
        ("0", "USD", 0),
    ],
)
def test_prices_as_shops_write_them(text: str, currency: str, minor_units: int) -> None:
    price = read_price(text, currency)
    assert price.minor_units == minor_units
    assert price.note is None


@pytest.mark.parametrize(
    "text", ["abc", "", "10 - 20 USD", "12.34.5", "1,2,3", "10 pcs.", "1E+3", "10%", "Infinity", "12 50"]
)
def test_what_is_no_price_is_refused_with_the_value(text: str) -> None:
    with pytest.raises(UnreadableValueError, match="cannot be read"):
        read_price(text, "USD")


def test_another_currency_is_named() -> None:
    with pytest.raises(UnreadableValueError, match=r"^The price is in EUR, but the store sells in USD\.$"):
        read_price("10 EUR", "USD")
    with pytest.raises(UnreadableValueError, match=r"^The price is in EUR, but the store sells in USD\.$"):
        read_price("10,50 €", "USD")
    with pytest.raises(UnreadableValueError, match=r"The sale price is in \$, but the store sells in EUR"):
        read_price("$10", "EUR", label="sale price")
    with pytest.raises(UnreadableValueError, match="XYZ is not the code of a currency in use"):
        read_price("10 XYZ", "USD")


def test_a_negative_or_huge_price_is_refused() -> None:
    for text in ("-1 USD", "USD -1", "(10.00)", "−5"):
        with pytest.raises(UnreadableValueError, match="negative"):
            read_price(text, "USD")
    for text in ("9" * 17, "9" * 400):
        with pytest.raises(UnreadableValueError, match="too large"):
            read_price(text, "USD")


def test_a_price_finer_than_the_minor_unit_is_rounded_half_up_and_said() -> None:
    for text, minor_units in (("10.0050", 1001), ("10.00499999", 1000), ("0.125", 13)):
        price = read_price(text, "USD")
        assert (price.minor_units, price.note is not None) == (minor_units, True)
    assert "rounded to 2 JPY" in str(read_price("1.5 JPY", "JPY").note)


def test_a_reading_that_could_be_wrong_by_a_thousand_is_said_or_refused() -> None:
    guess = read_price("1.299 EUR", "EUR")
    assert guess.minor_units == 130
    assert (
        guess.note
        == 'The price "1.299 EUR" was read as 1.30 EUR; if the dot separates thousands, leave it out.'
    )
    with pytest.raises(UnreadableValueError, match=r"two ways; write 49\.000 or 49000\.000"):
        read_price("49,000 TND", "TND")


def test_without_grouping_a_single_separator_is_always_the_decimal_mark() -> None:
    assert read_price("1,299", "EUR", grouped=False).minor_units == 130
    assert read_price("49,000", "TND", grouped=False).minor_units == 49000


_GROUPING = st.sampled_from(["", ",", ".", " ", "\u00a0", "\u202f", "'", "’"])


@given(
    minor_units=st.integers(0, MAX_MINOR_UNITS),
    currency=st.sampled_from(sorted(CURRENCIES)),
    group=_GROUPING,
    mark=st.sampled_from([".", ","]),
    where=st.sampled_from(["before", "after", "joined", "none"]),
)
def test_any_amount_in_any_style_reads_back(
    minor_units: int, currency: str, group: str, mark: str, where: str
) -> None:
    exponent = minor_unit_exponent(currency)
    whole, fraction = divmod(minor_units, 10**exponent)
    mark = mark if group != mark else {".": ",", ",": "."}[mark]
    number = f"{whole:,}".replace(",", group)
    if exponent:
        number += f"{mark}{fraction:0{exponent}d}"
    text = {
        "before": f"{currency} {number}",
        "after": f"{number} {currency}",
        "joined": f"{number}{currency}",
    }.get(where, number)
    is_ambiguous = exponent == 3 and mark == "," and whole < 1000 and whole > 0
    if is_ambiguous:
        with pytest.raises(UnreadableValueError, match="two ways"):
            read_price(text, currency)
        return
    price = read_price(text, currency)
    assert price.minor_units == minor_units
    assert price.names_currency == (where != "none")
    assert price.note is None


@given(st.decimals(0, 10**9, places=6), st.sampled_from(["USD", "JPY", "KWD"]))
def test_rounding_is_half_up_and_never_off_by_more_than_half(amount: Decimal, currency: str) -> None:
    price = read_price(f"{amount:f} {currency}", currency)
    exact = amount.scaleb(minor_unit_exponent(currency))
    assert Decimal("-0.5") <= exact - price.minor_units < Decimal("0.5")


@given(st.text(max_size=30), st.sampled_from(["USD", "JPY", "KWD"]))
def test_any_text_is_a_price_or_unreadable(text: str, currency: str) -> None:
    try:
        price = read_price(text, currency)
    except UnreadableValueError:
        return
    assert 0 <= price.minor_units <= MAX_MINOR_UNITS


@pytest.mark.parametrize(
    ("text", "currency", "amount"),
    [("10.005", "USD", "10.005"), ("1.299,50 EUR", "EUR", "1299.50"), ("7", "JPY", "7")],
)
def test_the_exact_amount_is_there_for_calculating(text: str, currency: str, amount: str) -> None:
    assert read_price(text, currency).amount == Decimal(amount)
