"""Every recorded or documented Graph answer beside the project, through our own classification."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meta_sync.graph.errors import (
    AssetLostError,
    CredentialsError,
    GraphError,
    InvalidRequestError,
    PermissionMissingError,
    ThrottledError,
    TransientError,
    UnknownGraphError,
    UnreadableAnswerError,
    classify,
)
from meta_sync.graph.governor import BudgetState, WaitUntil, after_answer, decide_call
from meta_sync.graph.outcomes import (
    Taken,
    Unknown,
    UnknownHandle,
    merge_report,
    status_error,
    submit_result,
)
from meta_sync.graph.tolerant import UNREADABLE, decode_json
from meta_sync.graph.usage import parse_usage
from meta_sync.graph.wire import Answer, parse_report_page

pytestmark = pytest.mark.shared

_PATH = Path(__file__).parents[2].parent / "shared" / "vectors" / "graph_errors.json"

_CLASSES: dict[str, tuple[type[GraphError], ...]] = {
    "credentials": (CredentialsError,),
    "permission": (PermissionMissingError, AssetLostError),
    "rate_limited": (ThrottledError,),
    "transient": (TransientError,),
    "invalid_request": (InvalidRequestError,),
    "unknown": (UnknownGraphError, UnreadableAnswerError),
}


def _load() -> list[Any]:
    if not _PATH.is_file():
        return [
            pytest.param(None, marks=pytest.mark.skip(reason="The vectors beside the project are not here."))
        ]
    return [pytest.param(vector, id=vector["id"]) for vector in json.loads(_PATH.read_bytes())]


def _select(*classes: str, edge: str = "") -> list[Any]:
    return [param for param in _load() if _fits(param.values[0], classes, edge)]


def _fits(vector: dict[str, Any] | None, classes: tuple[str, ...], edge: str) -> bool:
    if vector is None:
        return True
    has_answer = vector["status"] is not None
    return has_answer and vector["right_reaction"]["class"] in classes and vector["edge"].endswith(edge)


def _body(vector: dict[str, Any]) -> bytes:
    raw = vector.get("raw_body")
    return raw.encode() if raw is not None else json.dumps(vector["body"]).encode()


def _classify(vector: dict[str, Any]) -> GraphError | None:
    return classify(vector["status"], vector["headers"], _body(vector))


def _answer(vector: dict[str, Any]) -> Answer:
    value = decode_json(_body(vector))
    return Answer(
        None if value is UNREADABLE else value,
        parse_usage(vector["headers"]),
        _classify(vector),
        status=vector["status"],
    )


@pytest.mark.parametrize("vector", _select(*_CLASSES))
def test_failures_are_classified(vector: dict[str, Any]) -> None:
    reaction = vector["right_reaction"]
    error = _classify(vector)
    assert isinstance(error, _CLASSES[reaction["class"]])
    assert error.retryable is reaction["retry"]
    if "account_state" in reaction:
        assert error.account_state == reaction["account_state"]
    if "wait_s" in reaction:
        assert error.regain_seconds == reaction["wait_s"]


@pytest.mark.parametrize("vector", _select("ok", "pending", "partial_items"))
def test_successes_are_no_errors(vector: dict[str, Any]) -> None:
    assert _classify(vector) is None


@pytest.mark.parametrize("vector", [param for param in _select("ok")])
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


@pytest.mark.parametrize("vector", _select("pending", "unconfirmed", edge="/items_batch"))
def test_submits(vector: dict[str, Any]) -> None:
    result = submit_result(_answer(vector))
    if vector["right_reaction"]["class"] == "unconfirmed":
        assert isinstance(result, Unknown)
    else:
        assert isinstance(result, Taken)
        assert list(result.handles) == vector["body"]["handles"]


@pytest.mark.parametrize(
    "vector",
    _select(
        "ok", "pending", "partial_items", "unconfirmed", "invalid_request", edge="/check_batch_request_status"
    ),
)
def test_polls(vector: dict[str, Any]) -> None:
    answer = _answer(vector)
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
