"""Every recorded or documented Graph answer beside the project, through our own classification."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meta_sync.graph.governor import BudgetState, WaitUntil, after_answer, decide_call
from meta_sync.graph.outcomes import (
    Taken,
    Unknown,
    UnknownHandle,
    merge_report,
    status_error,
    submit_result,
)
from meta_sync.graph.usage import parse_usage
from meta_sync.graph.wire import parse_report_page
from tests.contract.vectors import CLASSES, answer_of, error_of, select

pytestmark = pytest.mark.shared


@pytest.mark.parametrize("vector", select(*CLASSES))
def test_failures_are_classified(vector: dict[str, Any]) -> None:
    reaction = vector["right_reaction"]
    error = error_of(vector)
    assert isinstance(error, CLASSES[reaction["class"]])
    assert error.retryable is reaction["retry"]
    assert error.account_state == reaction.get("account_state", "unchanged")
    if "wait_s" in reaction:
        assert error.regain_seconds == reaction["wait_s"]


@pytest.mark.parametrize("vector", select("ok", "pending", "partial_items"))
def test_successes_are_no_errors(vector: dict[str, Any]) -> None:
    assert error_of(vector) is None


@pytest.mark.parametrize("vector", [param for param in select("ok")])
def test_usage_of_successes(vector: dict[str, Any]) -> None:
    reaction = vector["right_reaction"]
    usage = parse_usage(vector["headers"])
    now = datetime(2026, 11, 20, tzinfo=UTC)
    decision = decide_call(after_answer(BudgetState(), now, usage, None, purpose="question"), now, "question")
    if "slow_down" in reaction:
        assert isinstance(decision, WaitUntil) is reaction["slow_down"]
    if "min_wait_s" in reaction:
        assert isinstance(decision, WaitUntil)
        assert decision.at >= now + timedelta(seconds=reaction["min_wait_s"])


@pytest.mark.parametrize("vector", select("pending", "unconfirmed", edge="/items_batch"))
def test_submits(vector: dict[str, Any]) -> None:
    result = submit_result(answer_of(vector))
    if vector["right_reaction"]["class"] == "unconfirmed":
        assert isinstance(result, Unknown)
    else:
        assert isinstance(result, Taken)
        assert list(result.handles) == vector["body"]["handles"]


@pytest.mark.parametrize(
    "vector",
    select(
        "ok", "pending", "partial_items", "unconfirmed", "invalid_request", edge="/check_batch_request_status"
    ),
)
def test_polls(vector: dict[str, Any]) -> None:
    answer = answer_of(vector)
    failed = status_error(answer)
    if vector["right_reaction"]["class"] == "invalid_request":
        assert isinstance(failed, UnknownHandle)
        return
    assert failed is None
    page = parse_report_page(answer.value, "h")
    if page.status != "finished":
        assert page.status in {"started", "error", ""}
        return
    report = merge_report([page], "h")
    named = {line.retailer_id for line in report.errors} | set(report.invalid_ids)
    is_complete = report.pages_complete and len(report.errors) >= (report.errors_total_count or 0)
    for item, expected in vector["right_reaction"]["items"].items():
        if expected == "synced":
            assert is_complete
            assert item not in named
        elif expected.startswith("rejected or"):
            assert item in named or not is_complete
        elif expected.startswith("rejected"):
            assert item in named
        else:
            assert expected == "unconfirmed"
            assert not is_complete
            assert item not in named
