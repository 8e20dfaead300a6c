from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.graph.usage import Usage, UsageEntry, merge_usage, parse_usage
from tests.unit.graph.test_tolerant import ANY_JSON

_HEADERS = ("x-business-use-case-usage", "X-App-Usage", "x-ad-account-usage")


def _business(*counters: dict[str, Any], key: str = "1234567890") -> dict[str, str]:
    return {"X-Business-Use-Case-Usage": json.dumps({key: list(counters)})}


def test_no_header_means_nothing_said() -> None:
    assert parse_usage({}) == Usage(0.0, 0, ())


def test_the_fullest_counter_counts_and_minutes_become_seconds() -> None:
    usage = parse_usage(
        _business(
            {"type": "catalog_batch", "call_count": 28, "total_cputime": 81, "total_time": 25},
            {"type": "catalog_management", "call_count": 100, "estimated_time_to_regain_access": 19},
        )
    )
    assert usage.percent == 100
    assert usage.regain_seconds == 1140
    assert usage.entries == (
        UsageEntry("catalog_batch", 81, 0),
        UsageEntry("catalog_management", 100, 1140),
    )


def test_numbers_may_be_texts() -> None:
    usage = parse_usage(
        _business({"type": "catalog_batch", "call_count": "97", "estimated_time_to_regain_access": "3"})
    )
    assert (usage.percent, usage.regain_seconds) == (97, 180)


def test_app_usage() -> None:
    usage = parse_usage({"x-app-usage": '{"call_count":72,"total_cputime":73,"total_time":74}'})
    assert usage == Usage(74, 0, (UsageEntry("app", 74, 0),))


@pytest.mark.parametrize(("percent", "regain_seconds"), [(9.67, 0), (100, 100)])
def test_the_ad_accounts_reset_is_seconds_and_a_wait_only_when_full(
    percent: float, regain_seconds: int
) -> None:
    usage = parse_usage(
        {"x-ad-account-usage": json.dumps({"acc_id_util_pct": percent, "reset_time_duration": 100})}
    )
    assert (usage.percent, usage.regain_seconds) == (percent, regain_seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "not json",
        "null",
        "[]",
        "5",
        '{"1":[]}',
        '{"1":null}',
        '{"1":[null]}',
        '{"1":[{}]}',
        '{"1":"x"}',
        "\ud800",
    ],
)
def test_junk_counts_as_absent(value: str) -> None:
    for name in _HEADERS:
        usage = parse_usage({name: value})
        assert (usage.percent, usage.regain_seconds) == (0, 0)


def test_waits_are_bounded_and_never_negative() -> None:
    assert parse_usage(_business({"estimated_time_to_regain_access": 10**9})).regain_seconds == 24 * 3600
    assert parse_usage(_business({"call_count": -5, "estimated_time_to_regain_access": -5})) == Usage(
        0, 0, (UsageEntry("", 0, 0),)
    )


def test_more_entries_than_documented_are_left_out() -> None:
    usage = parse_usage({**_business(*({"call_count": n} for n in range(100)))})
    assert len(usage.entries) == 32


@given(st.dictionaries(st.sampled_from(_HEADERS), st.text() | ANY_JSON.map(json.dumps)))
def test_parsing_never_raises(headers: dict[str, str]) -> None:
    usage = parse_usage(headers)
    assert 0 <= usage.percent <= 1e6
    assert 0 <= usage.regain_seconds <= 24 * 3600


@given(ANY_JSON, ANY_JSON)
def test_any_counter_is_survived(kind: Any, figure: Any) -> None:
    counter = {"type": kind, "call_count": figure, "estimated_time_to_regain_access": figure}
    assert len(parse_usage(_business(counter)).entries) == 1


def test_later_counters_replace_those_of_their_kind() -> None:
    first = Usage(90, 60, (UsageEntry("catalog_batch", 90, 60), UsageEntry("app", 5, 0)))
    second = Usage(10, 0, (UsageEntry("catalog_batch", 10, 0),))
    merged = merge_usage(first, second)
    assert merged == Usage(10, 0, (UsageEntry("app", 5, 0), UsageEntry("catalog_batch", 10, 0)))
    assert merge_usage(first, Usage()) == first
