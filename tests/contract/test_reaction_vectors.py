"""What the pipeline does about each recorded Graph answer: store, token, batch and budget, and what the merchant reads.

The expectations are made from the vectors' own words (class, account state, text) by the rules below, not from our table.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from meta_sync.graph.auth import GraphCredential
from meta_sync.graph.client import GraphClient
from meta_sync.graph.errors import GraphError, classify
from meta_sync.graph.governor import BudgetState, Purpose, WaitUntil, after_answer, decide_call
from meta_sync.graph.outcomes import (
    CannotAsk,
    Finished,
    Refused,
    Taken,
    Unknown,
    UnknownHandle,
    merge_report,
    status_error,
    submit_result,
)
from meta_sync.graph.retry import RetryPolicy
from meta_sync.graph.wire import parse_report_page
from meta_sync.sync.codes import entry_of, explain
from meta_sync.sync.models import BatchItem, Method
from meta_sync.sync.outcome import classify_report
from meta_sync.sync.reactions import PauseReason, pause_for, reaction_to
from tests.contract.vectors import CLASSES, Vector, answer_of, body_of, error_of, select

pytestmark = pytest.mark.shared

_NOW = datetime(2026, 11, 20, tzinfo=UTC)
_FAILURES = select(*CLASSES, catalogs_only=True)


@dataclass(frozen=True)
class _Expected:
    """The reaction as an operator would put it."""

    pause: str | None
    ends: str
    """``somebody``: when a person acts. ``seconds``, ``minutes``: by itself. ``budget``: with Meta's waiting time."""
    token_is_dead: bool = False
    split: bool = False
    says: tuple[str, ...] = ()


_RECONNECT = _Expected("needs_reconnect", "somebody", token_is_dead=True, says=("Connect the store to Meta",))
_ATTENTION = _Expected(
    "needs_reconnect", "somebody", says=("app secret", "Grant", "catalog", "connection check")
)
_EXPECTED: dict[tuple[str, str], _Expected] = {
    ("credentials", "needs_reconnect"): _RECONNECT,
    ("credentials", "needs_attention"): _ATTENTION,
    ("permission", "needs_attention"): _ATTENTION,
    ("rate_limited", "unchanged"): _Expected(None, "budget", says=("waiting time",)),
    ("transient", "unchanged"): _Expected("meta_unreachable", "seconds", says=("again later",)),
    ("unknown", "unchanged"): _Expected("meta_unreachable", "seconds", says=("again later",)),
    ("invalid_request", "unchanged"): _Expected(
        "blocked_by_meta", "minutes", split=True, says=("Correct what",)
    ),
}


def _expected(vector: Vector) -> _Expected:
    reaction = vector["right_reaction"]
    return _EXPECTED[reaction["class"], reaction.get("account_state", "unchanged")]


def _assert_reacts(error: GraphError, expected: _Expected) -> None:
    reaction = reaction_to(error)
    assert (reaction.pause, reaction.token_is_dead, reaction.split) == (
        expected.pause,
        expected.token_is_dead,
        expected.split,
    )
    assert any(part in error.reaction for part in expected.says), error.reaction
    assert error.reaction.endswith(".")
    pause = pause_for(error, _NOW, failures=0, jitter=1.0)
    if expected.ends == "budget":
        assert pause is None
        return
    assert pause is not None
    # The merchant reads Meta's words and what to do, and the operator finds the code.
    assert pause.message == error.message
    assert pause.code is not None
    assert pause.code.startswith("meta_" if error.code is None else str(error.code))
    shown = explain(pause.code, pause.message, reason=pause.reason)
    # Meta's flag that an unknown number will pass is not kept; the reason of the pause says as much.
    assert shown.action in {error.reaction, entry_of(pause.reason).action}
    assert (pause.until is None) is (expected.ends == "somebody")
    if pause.until is not None:
        is_short = pause.until - _NOW < timedelta(minutes=1)
        assert is_short is (expected.ends == "seconds")


@pytest.mark.parametrize("vector", _FAILURES)
def test_the_store_the_token_and_the_merchant(vector: Vector) -> None:
    error = error_of(vector)
    assert error is not None
    _assert_reacts(error, _expected(vector))
    if vector["right_reaction"].get("stop_queue"):
        assert reaction_to(error).token_is_dead


def _blocked(state: BudgetState, now: datetime = _NOW) -> set[Purpose]:
    purposes: tuple[Purpose, Purpose] = ("call", "question")
    return {one for one in purposes if isinstance(decide_call(state, now, one), WaitUntil)}


@pytest.mark.parametrize("vector", _FAILURES)
def test_the_bucket_that_is_silent(vector: Vector) -> None:
    """The table and the governor agree; Meta's own waiting time is kept to the second, else it is a minute at least."""
    error = error_of(vector)
    assert error is not None
    state = after_answer(BudgetState(), _NOW, error.facts.usage, error, purpose="call")
    blocks = reaction_to(error).blocks
    assert (
        _blocked(state)
        == {
            None: set(),
            "calls": {"call"},
            "questions": {"question"},
            "both": {"call", "question"},
        }[blocks]
    )
    assert (blocks is not None) is (vector["right_reaction"]["class"] == "rate_limited")
    if blocks is None:
        return
    code = error.code
    assert blocks == {80014: "calls", 80009: "questions"}.get(code or 0, "both")
    wait = timedelta(seconds=vector["right_reaction"].get("wait_s") or 60)
    assert _blocked(state, _NOW + wait - timedelta(seconds=1)) == _blocked(state)
    assert _blocked(state, _NOW + wait) == set()


@pytest.mark.parametrize("vector", _FAILURES)
def test_the_batch(vector: Vector) -> None:
    """Only Graph's own refusal gives the items back at once; nothing that failed is a verdict on an item."""
    error = error_of(vector)
    assert error is not None
    is_unknown = vector["right_reaction"]["class"] == "unknown" or (
        vector["right_reaction"]["class"] in {"transient", "rate_limited"}
        and (error.code in {1, 2} or error.code is None)
    )
    assert reaction_to(error).call == ("unknown" if is_unknown else "refused")
    submitted = submit_result(answer_of(vector))
    assert isinstance(submitted, Unknown if is_unknown else Refused)
    asked = status_error(answer_of(vector))
    is_handle = vector["right_reaction"]["class"] == "invalid_request" and error.code == 100
    assert isinstance(asked, UnknownHandle if is_handle else CannotAsk)


# --- The same answers, worded otherwise ------------------------------------------------------------------------------

_TEXT_DECIDES = ("access token", "appsecret_proof")


def _said(vector: Vector) -> dict[str, Any] | None:
    body = vector["body"]
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else None


_WITH_ENVELOPE = [
    param for param in _FAILURES if param.values[0] is None or (_said(param.values[0]) or {}).get("code")
]


def _in_words(error: dict[str, Any]) -> None:
    error["code"] = str(error["code"])
    if "error_subcode" in error:
        error["error_subcode"] = str(error["error_subcode"])


def _with_data_as_text(error: dict[str, Any]) -> None:
    error["error_data"] = json.dumps({"blame_field_specs": [["price"]]})


def _in_french(error: dict[str, Any]) -> None:
    if not any(part in error["message"] for part in _TEXT_DECIDES):
        error["message"] = "Une erreur s’est produite."


def _bare(error: dict[str, Any]) -> None:
    for key in [key for key in error if key not in {"message", "code", "error_subcode"}]:
        del error[key]


def _never_transient(error: dict[str, Any]) -> None:
    error["is_transient"] = False


def _with_texts_for_people(error: dict[str, Any]) -> None:
    error |= {"error_user_title": "Titre", "error_user_msg": "Veuillez réessayer.", "extra": {"a": [1, None]}}


def _without_subcode(error: dict[str, Any]) -> None:
    error.pop("error_subcode", None)


_WORDINGS: list[Callable[[dict[str, Any]], None]] = [
    _in_words,
    _with_data_as_text,
    _in_french,
    _bare,
    _never_transient,
    _with_texts_for_people,
    _without_subcode,
]


@pytest.mark.parametrize("reword", _WORDINGS, ids=lambda reword: reword.__name__.strip("_"))
@pytest.mark.parametrize("vector", _WITH_ENVELOPE)
def test_the_wording_changes_nothing(vector: Vector, reword: Callable[[dict[str, Any]], None]) -> None:
    body = copy.deepcopy(vector["body"])
    reword(body["error"])
    error = classify(vector["status"], vector["headers"], json.dumps(body).encode())
    original = error_of(vector)
    assert error is not None
    assert original is not None
    assert (type(error), error.account_state) == (type(original), original.account_state)
    assert reaction_to(error) == reaction_to(original)
    _assert_reacts(error, _expected(vector))


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 500, 503])
@pytest.mark.parametrize(
    "vector",
    # A code that nobody knows leaves it to the status.
    [param for param in _WITH_ENVELOPE if param.values[0] is None or param.values[0]["id"] != "ge-079"],
)
def test_the_body_decides_and_not_the_status(vector: Vector, status: int) -> None:
    error = classify(status, vector["headers"], body_of(vector))
    original = error_of(vector)
    assert error is not None
    assert original is not None
    assert reaction_to(error) == reaction_to(original)


_UNREACHABLE = _EXPECTED["transient", "unchanged"]
_ODD: list[tuple[str, int, bytes, _Expected, str]] = [
    ("html 502", 502, b"<html>Bad Gateway</html>", _UNREACHABLE, "unknown"),
    ("html 500", 500, b"<!DOCTYPE html><title>Error</title>", _UNREACHABLE, "unknown"),
    ("nothing under 503", 503, b"", _UNREACHABLE, "unknown"),
    ("nothing under 200", 200, b"", _UNREACHABLE, "unknown"),
    ("half of it under 200", 200, b'{"handles":["Ac', _UNREACHABLE, "unknown"),
    ("error is a string, 503", 503, b'{"error":"Service down"}', _UNREACHABLE, "unknown"),
    (
        "transient without a known code",
        400,
        b'{"error":{"message":"Later","code":987654,"is_transient":true}}',
        _UNREACHABLE,
        "refused",
    ),
    (
        "code 2 as text, flag as text",
        500,
        b'{"error":{"message":"x","code":"2","is_transient":"true"}}',
        _UNREACHABLE,
        "unknown",
    ),
    (
        "token refused under 200, data as text",
        200,
        (
            b'{"error":{"message":"Gone","type":"OAuthException","code":"190","error_subcode":"460",'
            b'"error_data":"{\\"a\\":1}"}}'
        ),
        _RECONNECT,
        "refused",
    ),
    (
        "lost catalog without its subcode",
        400,
        (
            b'{"error":{"message":"Unsupported post request. Object with ID \'1\' does not exist, cannot be loaded due to '
            b'missing permissions, or does not support this operation.","type":"GraphMethodException","code":100}}'
        ),
        _ATTENTION,
        "refused",
    ),
    (
        "a code nobody knows",
        400,
        b'{"error":{"message":"What","type":"FacebookApiException","code":987654}}',
        _Expected("blocked_by_meta", "minutes", says=("Report this",)),
        "refused",
    ),
    (
        "error is a string, 400",
        400,
        b'{"error":"invalid_request","error_description":"No"}',
        _Expected("blocked_by_meta", "minutes", says=("Report this",)),
        "unknown",
    ),
]


@pytest.mark.parametrize(
    ("status", "body", "expected", "call"),
    [pytest.param(*rest, id=name) for name, *rest in _ODD],
)
def test_answers_of_odd_shapes(status: int, body: bytes, expected: _Expected, call: str) -> None:
    error = classify(status, {}, body)
    assert error is not None
    _assert_reacts(error, expected)
    assert reaction_to(error).call == call


# --- Transport and successes -----------------------------------------------------------------------------------------

_CREDENTIAL = GraphCredential(SecretStr("EAABtoken0123456789"), "123", None)
_TRANSPORT: dict[str, tuple[httpx.TransportError, str]] = {
    "connection_refused": (httpx.ConnectError("All connection attempts failed"), "refused"),
    "dns_failure": (httpx.ConnectError("[Errno -2] Name or service not known"), "refused"),
    "reset_after_send": (httpx.ReadError("reset"), "unknown"),
    "timeout": (httpx.ReadTimeout("late"), "unknown"),
}


async def _write(handler: Callable[[httpx.Request], httpx.Response]) -> Any:
    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        client = GraphClient(
            http, base_url="https://graph.example", version="v25.0", retry_policy=RetryPolicy(attempts=1)
        )
        return await client.write_json(_CREDENTIAL, "1", "items_batch", body=b"{}", deadline_seconds=5)


@pytest.mark.parametrize("vector", select("transport", answered=False))
async def test_calls_without_an_answer(vector: Vector) -> None:
    """Whatever the network does pauses the store for seconds; whether the batch was carried out depends on the moment."""
    failure, call = _TRANSPORT[vector["right_reaction"]["transport"]]

    def fails(_request: httpx.Request) -> httpx.Response:
        raise failure

    answer = await _write(fails)
    assert answer.error.retryable is vector["right_reaction"]["retry"]
    reaction = reaction_to(answer.error)
    assert (reaction.pause, reaction.token_is_dead, reaction.split) == (
        PauseReason.META_UNREACHABLE,
        False,
        False,
    )
    assert reaction.call == call
    assert isinstance(submit_result(answer), Refused if call == "refused" else Unknown)


@pytest.mark.parametrize("vector", select("ok", "pending", catalogs_only=True))
async def test_answers_through_the_client(vector: Vector, caplog: pytest.LogCaptureFixture) -> None:
    """A success stays one on the whole way; the end of an API version is told to the operator."""
    answer = await _write(
        lambda _request: httpx.Response(vector["status"], headers=vector["headers"], content=body_of(vector))
    )
    assert answer.error is None
    warned = any("retiring" in record.message for record in caplog.records)
    assert warned is vector["right_reaction"].get("operator_warning", False)


@pytest.mark.parametrize("vector", select("pending", edge="/items_batch"))
def test_every_handle_and_warning_is_kept(vector: Vector) -> None:
    result = submit_result(answer_of(vector))
    assert isinstance(result, Taken)
    assert list(result.handles) == vector["body"]["handles"]
    assert not any(said.errors for said in result.messages.values()), "a warning refuses nothing"
    warned = {one["retailer_id"] for one in vector["body"].get("validation_status", ())}
    assert set(result.messages) == warned


@pytest.mark.parametrize("vector", select("ok", "partial_items", edge="/check_batch_request_status"))
def test_each_item_of_a_report(vector: Vector) -> None:
    sent = [BatchItem(one, one, Method.UPDATE, None) for one in vector["right_reaction"]["sent"]]
    report = merge_report([parse_report_page(vector["body"], "h")], "h")
    outcomes = classify_report(sent, Finished(report, answer_of(vector).usage).report)
    found = {
        **{item.retailer_id: "synced" for item in outcomes.accepted},
        **{item.retailer_id: "rejected" for item in outcomes.rejected},
        **{item.retailer_id: "unconfirmed" for item in (*outcomes.unknown, *outcomes.to_read_back)},
    }
    for item, expected in vector["right_reaction"]["items"].items():
        assert found[item] in expected.split(", never")[0], (item, expected)
        if "two texts" in expected:
            texts = {line["message"] for line in vector["body"]["data"][0]["errors"]}
            assert all(one in outcomes.messages[item] for one in texts)
