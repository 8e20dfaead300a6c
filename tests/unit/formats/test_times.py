from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.catalog.ingest.times import read_instant, read_window
from meta_sync.catalog.ingest.values import UnreadableValueError

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")


def at(*parts: int) -> datetime:
    year, month, day, hour, minute, second = (*parts, 0, 0, 0)[:6]
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2020-04-30T09:30-08:00/2020-05-30T23:59-08:00", at(2020, 4, 30, 17, 30), at(2020, 5, 31, 7, 59)),
        ("2016-02-24T13:00-0800 / 2016-02-29T15:30-0800", at(2016, 2, 24, 21), at(2016, 2, 29, 23, 30)),
        ("2026-01-10/2026-01-20", at(2026, 1, 9, 23), at(2026, 1, 20, 22, 59)),
        ("2026-07-10/2026-07-20", at(2026, 7, 9, 22), at(2026, 7, 20, 21, 59)),
        ("2026-07-10T08:00/2026-07-20 9:05:07", at(2026, 7, 10, 6), at(2026, 7, 20, 7, 5, 7)),
        ("2026-07-10T08:00:00Z/", at(2026, 7, 10, 8), None),
        ("/2026-07-10T08:00:00.5+02", None, at(2026, 7, 10, 6)),
        ("2026-07-10", at(2026, 7, 9, 22), None),
    ],
)
def test_windows(text: str, start: datetime | None, end: datetime | None) -> None:
    assert read_window(text, BERLIN) == (start, end)


def test_a_local_time_that_is_skipped_moves_forward() -> None:
    # 02:30 does not exist in Berlin on 2026-03-29: the clocks go from 02:00 to 03:00.
    assert read_instant("2026-03-29T02:30", BERLIN, end_of_day=False).astimezone(BERLIN).hour == 3
    assert read_instant("2026-03-29T02:30", BERLIN, end_of_day=False) == at(2026, 3, 29, 1, 30)


def test_a_local_time_that_comes_twice_is_the_first() -> None:
    assert read_instant("2026-11-01T01:30", NEW_YORK, end_of_day=False) == at(2026, 11, 1, 5, 30)


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "01/02/2026",
        "2026-02-30",
        "2026-13-01",
        "2026-01-01T25:00",
        "2026-01-01T10:00+99:00",
        "0000-01-01",
    ],
)
def test_what_is_no_date_is_refused_with_the_value(text: str) -> None:
    with pytest.raises(UnreadableValueError):
        read_instant(text, BERLIN, end_of_day=False)


@given(
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)),
    st.sampled_from([ZoneInfo("Australia/Adelaide"), ZoneInfo("Pacific/Kiritimati")]),
)
def test_dates_at_the_ends_of_time_do_not_crash(moment: datetime, zone: ZoneInfo) -> None:
    try:
        read = read_instant(moment.isoformat(" ", "seconds"), zone, end_of_day=False)
    except UnreadableValueError:
        assert moment.year in {1, 9999}
        return
    assert read.tzinfo is UTC


@given(st.text(max_size=40))
def test_any_text_is_a_window_or_unreadable(text: str) -> None:
    with contextlib.suppress(UnreadableValueError):
        read_window(text, BERLIN)
