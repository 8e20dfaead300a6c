"""From Meta's report to one verdict per item. Silence is success only in a report that is complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meta_sync.graph.outcomes import BatchReport
from meta_sync.graph.wire import ItemMessages, ReportLine
from meta_sync.sync.models import BatchItem, Method
from meta_sync.sync.outcome import (
    Outcomes,
    classify_report,
    immediate_refusals,
    is_required_field_warning,
    next_batch_limit,
)

_CLEAN = BatchReport(
    errors=(),
    errors_total_count=0,
    warnings=(),
    warnings_total_count=0,
    invalid_ids=(),
    pages_complete=True,
)
_REQUIRED = 'A required field is missing: Products without "name" information can\'t be uploaded.'
_NO_REASON = ""


def _item(number: int, outcome: str | None = None, method: Method = Method.UPDATE) -> BatchItem:
    return BatchItem(f"variant-{number}", f"id {number}", method, outcome)


_THREE = [_item(1), _item(2), _item(3)]


def _errors(*lines: tuple[str, str]) -> tuple[ReportLine, ...]:
    return tuple(ReportLine(one, message) for one, message in lines)


def _numbers(outcomes: Outcomes) -> dict[str, list[int]]:
    parts = {
        "accepted": outcomes.accepted,
        "rejected": outcomes.rejected,
        "unknown": outcomes.unknown,
        "to_read_back": outcomes.to_read_back,
    }
    return {
        name: [int(item.variant_id.rpartition("-")[2]) for item in items]
        for name, items in parts.items()
        if items
    }


def _classified(report: BatchReport, items: Sequence[BatchItem] = _THREE) -> dict[str, list[int]]:
    return _numbers(classify_report(items, report))


def test_a_clean_report_accepts_all() -> None:
    assert _classified(_CLEAN) == {"accepted": [1, 2, 3]}


def test_a_complete_report_refuses_whom_it_names_and_accepts_the_rest() -> None:
    report = replace(
        _CLEAN,
        errors=_errors(("id 2", "Bad price."), ("id 2", "Bad link."), ("id 2", "Bad price.")),
        errors_total_count=3,
        invalid_ids=("id 2", "id 3"),
    )
    outcomes = classify_report(_THREE, report)
    assert _numbers(outcomes) == {"accepted": [1], "rejected": [2, 3]}
    assert outcomes.messages == {"variant-2": "Bad price. Bad link.", "variant-3": _NO_REASON}
    assert outcomes.is_complete


@pytest.mark.parametrize(
    "report",
    [
        replace(_CLEAN, errors=_errors(("id 2", "Bad.")), errors_total_count=2),
        replace(_CLEAN, errors=_errors(("id 2", "Bad.")), errors_total_count=None),
        replace(_CLEAN, errors=_errors(("id 2", "Bad.")), errors_total_count=1, pages_complete=False),
        replace(_CLEAN, errors=_errors(("id 2", "Bad."), ("ID 1", "Bad.")), errors_total_count=2),
        replace(_CLEAN, errors=_errors(("id 2", "Bad."), ("", "Bad.")), errors_total_count=2),
        replace(_CLEAN, errors=_errors(("id 2", "Bad.")), errors_total_count=1, invalid_ids=("id",)),
        replace(
            _CLEAN,
            errors=_errors(("id 2", "B.")),
            errors_total_count=1,
            warnings=_errors((" id 1", _REQUIRED)),
        ),
        replace(_CLEAN, invalid_ids=("id 2",), errors_total_count=None),
    ],
    ids=[
        "capped",
        "no total",
        "page missing",
        "other case",
        "no id",
        "trimmed id",
        "warned stranger",
        "ids only",
    ],
)
def test_an_incomplete_report_confirms_nobody_silently(report: BatchReport) -> None:
    outcomes = classify_report(_THREE, report)
    assert _numbers(outcomes) == {"rejected": [2], "unknown": [1, 3]}
    assert not outcomes.is_complete


def test_a_total_without_any_line_leaves_all_unknown() -> None:
    assert _classified(replace(_CLEAN, errors_total_count=1)) == {"unknown": [1, 2, 3]}
    assert _classified(replace(_CLEAN, pages_complete=False)) == {"unknown": [1, 2, 3]}


def test_without_a_total_only_two_empty_lists_are_a_success() -> None:
    """Meta was asked for the total: a report without it is not the whole report, and silence is no success."""
    without = replace(_CLEAN, errors_total_count=None)
    assert _classified(replace(without, names_nobody=True)) == {"accepted": [1, 2, 3]}
    assert _classified(without) == {"unknown": [1, 2, 3]}
    assert _classified(without, _THREE[:1]) == {"to_read_back": [1]}


def test_a_required_field_warning_is_looked_into() -> None:
    report = replace(
        _CLEAN, warnings=_errors(("id 2", _REQUIRED), ("id 3", "No category."), ("x", "No category."))
    )
    assert _classified(report) == {"accepted": [1, 3], "to_read_back": [2]}


def test_who_has_a_verdict_already_gets_no_second_one() -> None:
    items = [_item(1, "rejected"), _item(2), _item(3)]
    report = replace(_CLEAN, errors=_errors(("id 1", "Bad.")), errors_total_count=1)
    assert _classified(report, items) == {"accepted": [2, 3]}
    assert classify_report(items, report).messages == {}


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (replace(_CLEAN, errors=_errors(("ID 1", "Bad.")), errors_total_count=1), "Bad."),
        (replace(_CLEAN, errors=_errors(("", "Bad.")), errors_total_count=None), "Bad."),
        (
            replace(_CLEAN, errors=_errors(("id 1", "Bad.")), errors_total_count=9, pages_complete=False),
            "Bad.",
        ),
        (replace(_CLEAN, invalid_ids=("i",)), _NO_REASON),
        (replace(_CLEAN, errors_total_count=1), _NO_REASON),
        (replace(_CLEAN, errors_total_count=1, pages_complete=False), _NO_REASON),
    ],
)
def test_alone_every_error_is_the_item_s(report: BatchReport, message: str) -> None:
    outcomes = classify_report([_item(1)], report)
    assert _numbers(outcomes) == {"rejected": [1]}
    assert outcomes.messages == {"variant-1": message}
    assert outcomes.is_complete


@pytest.mark.parametrize(
    "report",
    [replace(_CLEAN, pages_complete=False), replace(_CLEAN, warnings=_errors(("other id", _REQUIRED)))],
)
def test_alone_and_in_doubt_the_item_is_looked_at(report: BatchReport) -> None:
    """Sent again, it would bring the same report for ever."""
    assert _classified(report, [_item(1)]) == {"to_read_back": [1]}


def test_alone_and_clean_the_item_is_accepted() -> None:
    assert _classified(_CLEAN, [_item(1)]) == {"accepted": [1]}


def test_the_last_of_many_is_not_alone() -> None:
    """The others had their verdict at once; an error without a known id may be theirs."""
    items = [_item(1, "rejected"), _item(2)]
    assert _classified(replace(_CLEAN, errors=_errors(("?", "Bad.")), errors_total_count=1), items) == {
        "unknown": [2]
    }


def test_an_empty_batch_has_no_verdicts() -> None:
    assert _classified(replace(_CLEAN, errors_total_count=3), []) == {}


def test_required_field_texts() -> None:
    assert is_required_field_warning(_REQUIRED)
    assert is_required_field_warning('"You cannot create a EntProductItem without required field price"')
    assert not is_required_field_warning("These fields have missing information: google_product_category.")


def test_refusals_at_once_are_of_our_ids_only() -> None:
    messages = {
        "id 1": ItemMessages(errors=("Unrecognised field.", "And another."), warnings=("w",)),
        "id 2": ItemMessages(warnings=("Only a warning.",)),
        "stranger": ItemMessages(errors=("Bad.",)),
        "": ItemMessages(errors=("Bad.",)),
    }
    assert immediate_refusals(_THREE, messages) == {"variant-1": "Unrecognised field. And another."}


@pytest.mark.parametrize(
    ("sent", "limit"), [(2500, 100), (101, 100), (100, 10), (11, 10), (10, 1), (2, 1), (1, 1)]
)
def test_batches_get_smaller_until_an_item_is_alone(sent: int, limit: int) -> None:
    assert next_batch_limit(sent) == limit


@given(st.integers(1, 5000))
def test_the_way_to_being_alone_is_short(sent: int) -> None:
    steps = 0
    while sent > 1:
        smaller = next_batch_limit(sent)
        assert smaller < sent
        sent, steps = smaller, steps + 1
    assert steps <= 3


# --- Any report ------------------------------------------------------------------------------------------------------

_IDS = st.one_of(
    st.integers(0, 9).map(lambda number: f"id {number}"),
    st.integers(0, 9).map(lambda number: f"ID {number}"),
    st.sampled_from(["", "id", " id 1", "id 1 ", "stranger"]),
)
_LINES = st.lists(
    st.builds(ReportLine, _IDS, st.sampled_from(["Bad.", "Worse.", "", _REQUIRED, "No category."])),
    max_size=6,
).map(tuple)
_REPORTS = st.builds(
    BatchReport,
    errors=_LINES,
    errors_total_count=st.one_of(st.none(), st.integers(0, 12)),
    warnings=_LINES,
    warnings_total_count=st.one_of(st.none(), st.integers(0, 12)),
    invalid_ids=st.lists(_IDS, max_size=4).map(tuple),
    pages_complete=st.booleans(),
    names_nobody=st.booleans(),
).filter(lambda report: not (report.names_nobody and (report.errors or report.invalid_ids)))
_BATCHES = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([None, None, None, "rejected"]), st.sampled_from(Method)),
    max_size=8,
    unique_by=lambda one: one[0],
).map(lambda rows: [_item(*row) for row in rows])


@given(_BATCHES, _REPORTS)
@settings(max_examples=400)
def test_every_pending_item_has_exactly_one_verdict(items: list[BatchItem], report: BatchReport) -> None:
    outcomes = classify_report(items, report)
    verdicts = [*outcomes.accepted, *outcomes.rejected, *outcomes.unknown, *outcomes.to_read_back]
    assert sorted(item.variant_id for item in verdicts) == sorted(
        item.variant_id for item in items if item.outcome is None
    )
    assert set(outcomes.messages) == {item.variant_id for item in outcomes.rejected}


@given(_BATCHES, _REPORTS)
@settings(max_examples=400)
def test_nobody_is_accepted_by_a_report_that_is_not_complete(
    items: list[BatchItem], report: BatchReport
) -> None:
    """Completeness spelled out once more, from the rule and not from the code."""
    accepted = classify_report(items, report).accepted
    if not accepted:
        return
    ours = {item.retailer_id for item in items}
    assert report.pages_complete
    assert {line.retailer_id for line in report.errors} <= ours
    assert set(report.invalid_ids) <= ours
    if report.errors_total_count is None:
        assert report.names_nobody
    else:
        assert len(report.errors) >= report.errors_total_count
    named = {line.retailer_id for line in report.errors} | set(report.invalid_ids)
    doubted = {line.retailer_id for line in report.warnings if is_required_field_warning(line.message)}
    assert doubted <= ours
    assert not {item.retailer_id for item in accepted} & (named | doubted)


_SPOILERS: list[Callable[[str], str]] = [str, str.upper, str.swapcase, lambda one: one[:2], lambda _: ""]


@st.composite
def _spoilt_truth(draw: st.DrawFn) -> tuple[list[BatchItem], set[str], BatchReport]:
    """A batch, the items Meta did not save, and a report of it that was cut, trimmed or worded differently."""
    items = [_item(number) for number in range(1, draw(st.integers(1, 8)) + 1)]
    lost = draw(st.sets(st.sampled_from([item.retailer_id for item in items])))
    lines = [
        ReportLine(one, message)
        for one in sorted(lost)
        for message in draw(st.lists(st.sampled_from(["Bad.", "Worse."]), min_size=1, max_size=3))
    ]
    as_warnings = draw(st.booleans())
    spoil = draw(st.sampled_from(_SPOILERS))
    cap = draw(st.one_of(st.none(), st.integers(0, 5)))
    ids = [spoil(one) for one in sorted(lost)][: draw(st.one_of(st.none(), st.integers(0, 3)))]
    shown = [ReportLine(spoil(line.retailer_id), line.message) for line in lines][:cap]
    total = draw(st.sampled_from([len(lines), len(lines), len(lines) + 1, None]))
    if as_warnings:
        warned = tuple(ReportLine(spoil(one), _REQUIRED) for one in sorted(lost))
        report = replace(_CLEAN, warnings=warned, errors_total_count=0)
    else:
        report = replace(_CLEAN, errors=tuple(shown), invalid_ids=tuple(ids), errors_total_count=total)
    return items, lost, replace(report, pages_complete=draw(st.sampled_from([True, True, False])))


@given(_spoilt_truth())
@settings(max_examples=500)
def test_what_meta_did_not_save_is_never_accepted(
    case: tuple[list[BatchItem], set[str], BatchReport],
) -> None:
    items, lost, report = case
    outcomes = classify_report(items, report)
    assert not lost & {item.retailer_id for item in outcomes.accepted}
    if len(items) > 1:
        assert {item.retailer_id for item in outcomes.rejected} <= lost, (
            "nobody is blamed for another's error"
        )
