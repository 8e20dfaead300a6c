"""The special price and its window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from meta_sync.sync.mapping_issues import IssueCode
from meta_sync.sync.mapping_settings import MappingSettings
from tests.unit.mapping.builders import NOW, data_of, issue_codes, mapped

DAY = timedelta(days=1)
IST = timezone(timedelta(hours=5, minutes=30))


def sale(**changes: object) -> tuple[str | None, str | None]:
    data = data_of(**{"price": 2_000, "special_price": 1_500, **changes})
    return data.get("sale_price"), data.get("sale_price_effective_date")


def test_without_bounds_the_sale_runs_without_a_window() -> None:
    assert sale() == ("15.00 EUR", None)


def test_a_running_sale_carries_its_window() -> None:
    window = sale(special_price_start=NOW - DAY, special_price_end=NOW + DAY)
    assert window == ("15.00 EUR", "2026-09-30T12:00+00:00/2026-10-02T12:00+00:00")


def test_a_future_sale_is_sent_at_once() -> None:
    window = sale(special_price_start=NOW + DAY, special_price_end=NOW + 2 * DAY)
    assert window == ("15.00 EUR", "2026-10-02T12:00+00:00/2026-10-03T12:00+00:00")


def test_an_open_start_and_an_open_end_are_fixed_instants() -> None:
    assert sale(special_price_end=NOW + DAY)[1] == "1970-01-01T00:00+00:00/2026-10-02T12:00+00:00"
    assert sale(special_price_start=NOW - DAY)[1] == "2026-09-30T12:00+00:00/2099-12-31T23:59+00:00"


@pytest.mark.parametrize(
    ("after_end", "is_sent"),
    [(timedelta(seconds=-1), True), (timedelta(microseconds=-1), True), (timedelta(0), False), (DAY, False)],
)
def test_the_end_is_exclusive(after_end: timedelta, is_sent: bool) -> None:
    data = data_of(price=2_000, special_price=1_500, special_price_end=NOW, now=NOW + after_end)
    assert ("sale_price" in data) is is_sent
    assert ("sale_price_effective_date" in data) is is_sent


def test_the_end_counts_to_the_second() -> None:
    end = NOW + timedelta(seconds=30, microseconds=900_000)
    assert sale(special_price_end=end)[1] == "1970-01-01T00:00+00:00/2026-10-01T12:00:30+00:00"
    late = data_of(
        price=2_000,
        special_price=1_500,
        special_price_end=end,
        now=NOW + timedelta(seconds=30, milliseconds=100),
    )
    assert "sale_price" not in late


def test_an_ended_sale_needs_no_issue() -> None:
    result = mapped(price=2_000, special_price=1_500, special_price_end=NOW - DAY)
    assert result.issues == ()


def test_the_same_instant_in_another_zone_is_the_same_payload() -> None:
    utc = mapped(special_price=500, special_price_start=NOW - DAY, special_price_end=NOW + DAY)
    local = mapped(
        special_price=500,
        special_price_start=(NOW - DAY).astimezone(IST),
        special_price_end=(NOW + DAY).astimezone(IST),
    )
    assert utc.hash == local.hash


def test_a_bound_without_offset_is_read_as_utc() -> None:
    assert sale(special_price_end=(NOW + DAY).replace(tzinfo=None)) == sale(special_price_end=NOW + DAY)


@pytest.mark.parametrize("special", [2_000, 2_001, 9_999])
def test_a_special_price_not_below_the_price_is_dropped_with_its_window(special: int) -> None:
    result = mapped(price=2_000, special_price=special, special_price_end=NOW + DAY)
    assert "sale_price" not in result.data
    assert "sale_price_effective_date" not in result.data
    assert issue_codes(result) == [IssueCode.SALE_NOT_BELOW_PRICE]


def test_it_is_the_rounded_prices_that_are_compared() -> None:
    huf = MappingSettings(currency="HUF", storefront_base_url="https://shop.example")
    result = mapped(huf, price=100_040, special_price=99_960)
    assert result.data["price"] == "1000 HUF"
    assert "sale_price" not in result.data
    assert IssueCode.SALE_NOT_BELOW_PRICE in issue_codes(result)


@pytest.mark.parametrize(("currency", "special"), [("EUR", None), ("EUR", 0), ("EUR", -5), ("HUF", 49)])
def test_no_special_price_is_no_sale(currency: str, special: int | None) -> None:
    store = MappingSettings(currency=currency, storefront_base_url="https://shop.example")
    result = mapped(store, price=200_000, special_price=special, special_price_start=NOW)
    assert "sale_price" not in result.data
    assert "sale_price_effective_date" not in result.data
    assert result.issues == ()


@pytest.mark.parametrize("days", [1, 2])
def test_a_window_without_any_time_in_it_is_dropped(days: int) -> None:
    result = mapped(special_price=500, special_price_start=NOW + days * DAY, special_price_end=NOW + DAY)
    assert "sale_price" not in result.data
    assert issue_codes(result) == [IssueCode.SALE_WINDOW_EMPTY]


def test_bounds_beyond_the_open_ones_are_the_open_ones() -> None:
    start = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))  # before the first instant in UTC
    end = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(-timedelta(hours=12)))
    assert (
        sale(special_price_start=start, special_price_end=end)[1]
        == "1970-01-01T00:00+00:00/2099-12-31T23:59+00:00"
    )
    assert (
        sale(special_price_start=datetime(1960, 5, 1, tzinfo=UTC))[1]
        == "1970-01-01T00:00+00:00/2099-12-31T23:59+00:00"
    )
    assert (
        sale(special_price_end=datetime(2100, 1, 1, tzinfo=UTC))[1]
        == "1970-01-01T00:00+00:00/2099-12-31T23:59+00:00"
    )


def test_the_hash_stands_still_from_entry_to_end() -> None:
    def at(now: datetime) -> bytes:
        return mapped(
            special_price=500, special_price_start=NOW, special_price_end=NOW + 2 * DAY, now=now
        ).hash

    assert at(NOW - DAY) == at(NOW) == at(NOW + DAY) == at(NOW + 2 * DAY - timedelta(seconds=1))
    assert at(NOW + 2 * DAY) == mapped().hash
    assert at(NOW) != mapped().hash
