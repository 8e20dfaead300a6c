from __future__ import annotations

import json
import pickle
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.graph.errors import (
    RULES,
    AccountState,
    AssetLostError,
    BlockedError,
    Category,
    CredentialsError,
    ErrorFacts,
    GraphError,
    InvalidRequestError,
    NoAnswerError,
    NotConnectedError,
    PermissionMissingError,
    ThrottledError,
    TooLargeError,
    TransientError,
    UnknownGraphError,
    UnreadableAnswerError,
    VersionRetiredError,
    classify,
)
from tests.unit.graph.test_tolerant import ANY_JSON

_REDUCE = "Please reduce the amount of data you're asking for, then retry your request"
_STATUSES = (200, 400, 401, 403, 404, 413, 429, 500, 503)

_BY_CODE: dict[int, type[GraphError]] = {
    **dict.fromkeys((1, 2), TransientError),
    **dict.fromkeys((3, 10, 415, *range(200, 300)), PermissionMissingError),
    **dict.fromkeys((4, 17, 32, 341, 613, *range(80000, 80100)), ThrottledError),
    **dict.fromkeys((101, 102, 104, 190, 452, 458, 459, 460, 463, 464, 465, 467, 492), CredentialsError),
    **dict.fromkeys((33, 803), AssetLostError),
    368: BlockedError,
    2635: VersionRetiredError,
    **dict.fromkeys((100, 110, 115, 324, 506, 801, 804, 2500, 10800, 10803, 2310019), InvalidRequestError),
}


def _body(code: int | None = None, subcode: int | None = None, message: str = "Said", **more: Any) -> bytes:
    error: dict[str, Any] = {"message": message, "type": "OAuthException", "fbtrace_id": "AbC", **more}
    if code is not None:
        error["code"] = code
    if subcode is not None:
        error["error_subcode"] = subcode
    return json.dumps({"error": error}).encode()


def _classify(status: int, body: bytes, headers: dict[str, str] | None = None) -> GraphError:
    error = classify(status, headers or {}, body)
    assert error is not None
    return error


@pytest.mark.parametrize("status", _STATUSES)
@pytest.mark.parametrize("code", sorted(_BY_CODE))
def test_a_known_code_decides_whatever_the_status(status: int, code: int) -> None:
    expected = _BY_CODE[code]
    if code in {1, 2} and status == 413:
        expected = TooLargeError
    error = _classify(status, _body(code))
    assert type(error) is expected
    assert error.code == code
    assert error.http_status == status
    assert error.reaction
    assert error.is_definite is (code not in {1, 2})


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, TransientError) for status in (408, *range(500, 600))),
        (429, ThrottledError),
        (401, CredentialsError),
        *((status, UnknownGraphError) for status in (200, 201, 400, 402, 403, 404, 405, 409, 410, 422, 451)),
    ],
)
def test_an_unknown_code_leaves_it_to_the_status(status: int, expected: type[GraphError]) -> None:
    assert type(_classify(status, _body(987654))) is expected


@pytest.mark.parametrize("status", range(100, 600))
def test_without_a_graph_error_the_status_decides(status: int) -> None:
    error = classify(status, {}, b"<html>Sorry, something went wrong.</html>")
    if status == 204:
        assert error is None
        return
    expected: type[GraphError] = UnreadableAnswerError
    if status >= 500 or status == 408:
        expected = TransientError
    elif status == 429:
        expected = ThrottledError
    elif status == 413:
        expected = TooLargeError
    elif status == 401:
        expected = CredentialsError
    assert type(error) is expected
    assert error is not None
    assert not error.facts.has_envelope
    assert not error.is_definite


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[]}',
        b'{"success":true}',
        b"true",
        b"[]",
        b"{}",
        b'{"error":null}',
        b'{"error":false}',
        b'{"error":{}}',
    ],
)
def test_success(body: bytes) -> None:
    assert classify(200, {}, body) is None


def test_half_an_answer_under_200_is_no_success() -> None:
    error = _classify(200, b'{"handles":["Ac')
    assert type(error) is UnreadableAnswerError
    assert error.retryable
    assert not error.facts.is_readable


def test_an_error_under_200_is_an_error() -> None:
    assert type(_classify(200, _body(190, 463))) is CredentialsError


@pytest.mark.parametrize("code", [None, 1, 2])
def test_reduce_the_amount_of_data_is_size_not_trouble(code: int | None) -> None:
    assert type(_classify(500, _body(code, message=_REDUCE))) is TooLargeError


def test_the_reduce_text_means_nothing_with_another_code() -> None:
    assert type(_classify(400, _body(190, message=_REDUCE))) is CredentialsError


def test_a_lost_catalog_is_told_from_bad_data() -> None:
    lost = _classify(400, _body(100, 33))
    assert type(lost) is AssetLostError
    assert lost.account_state == "needs_attention"
    assert type(_classify(400, _body(100, 34))) is InvalidRequestError


@pytest.mark.parametrize("code", [100, 104, None])
def test_a_wrong_proof_concerns_the_app_secret(code: int | None) -> None:
    error = _classify(400, _body(code, message="Invalid appsecret_proof provided in the API argument"))
    assert type(error) is CredentialsError
    assert error.account_state == "needs_attention"
    assert "app secret" in error.reaction


def test_2500_is_bad_syntax_unless_it_speaks_of_the_token() -> None:
    assert (
        type(_classify(400, _body(2500, message='Syntax error "Expected end of string"')))
        is InvalidRequestError
    )
    token = _classify(400, _body(2500, message="An active access token must be used to query information"))
    assert type(token) is CredentialsError


def test_metas_transient_flag_counts_where_the_code_does_not_forbid_it() -> None:
    assert type(_classify(400, _body(100, is_transient=True))) is TransientError
    assert type(_classify(400, _body(987654, is_transient="true"))) is TransientError
    assert type(_classify(400, _body(190, is_transient=True))) is CredentialsError
    assert type(_classify(400, _body(324, is_transient=True))) is InvalidRequestError


@pytest.mark.parametrize(
    ("status", "body", "expected", "definite"),
    [
        (400, {"error": {"message": "(#4) Application request limit reached"}}, ThrottledError, True),
        (400, {"code": 613}, ThrottledError, True),
        (400, {"error_code": 190, "error_msg": "Session expired"}, CredentialsError, True),
        (400, {"error": "invalid_request", "error_description": "No"}, UnknownGraphError, False),
        (400, {"error": {"type": "OAuthException", "message": "Error validating"}}, CredentialsError, True),
        (500, {"error": {"type": "OAuthException", "message": "Sorry"}}, TransientError, False),
        (403, {"error": {"message": "Forbidden"}}, CredentialsError, True),
        (400, {"error": {"message": "What"}}, UnknownGraphError, False),
        (400, {"error": {"code": "190", "error_subcode": "463"}}, CredentialsError, True),
        (400, {"error": {"code": 0, "message": "(#200) no"}}, PermissionMissingError, True),
    ],
)
def test_other_shapes_of_an_error(status: int, body: Any, expected: type[GraphError], definite: bool) -> None:
    error = _classify(status, json.dumps(body).encode())
    assert type(error) is expected
    assert error.is_definite is definite


def test_a_success_with_a_code_field_is_a_success() -> None:
    assert classify(200, {}, b'{"code": 613}') is None


def test_every_fact_is_kept() -> None:
    error = _classify(
        400,
        _body(
            190,
            463,
            "Error validating access token",
            error_user_title="Title",
            error_user_msg="Text",
            is_transient=False,
            error_data='{"blame_field_specs":[["price"]]}',
        ),
    )
    facts = error.facts
    assert (facts.code, facts.subcode, facts.type, facts.http_status) == (190, 463, "OAuthException", 400)
    assert (facts.user_title, facts.user_message, facts.is_transient) == ("Title", "Text", False)
    assert facts.error_data == {"blame_field_specs": [["price"]]}
    assert error.to_error_meta() == {
        "fbType": "OAuthException",
        "fbCode": 190,
        "fbSubcode": 463,
        "fbTraceId": "AbC",
        "fbMessage": "Error validating access token",
        "category": "authentication",
    }
    assert error.to_log_context()["error"] == "CredentialsError"
    assert error.to_log_context()["httpStatus"] == 400
    assert str(error) == "Error validating access token (Meta code 190/463, HTTP 400, trace AbC)"
    assert repr(error) == f"CredentialsError({str(error)!r})"


@pytest.mark.parametrize("data", [{"a": 1}, '{"a":1}'])
def test_error_data_as_object_or_text(data: Any) -> None:
    assert _classify(400, _body(100, error_data=data)).facts.error_data == {"a": 1}


@pytest.mark.parametrize("data", ["nope", 5, None, "[]"])
def test_error_data_that_is_neither(data: Any) -> None:
    assert _classify(400, _body(100, error_data=data)).facts.error_data == {}


def test_the_trace_id_may_come_from_the_header() -> None:
    error = _classify(502, b"Bad Gateway", {"X-FB-Trace-ID": "XyZ"})
    assert error.facts.fb_trace_id == "XyZ"
    assert str(error) == "Meta answered with HTTP status 502 and no explanation. (HTTP 502, trace XyZ)"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "90"}, 90),
        ({"Retry-After": "99999"}, 3600),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "0"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "Fri, 20 Nov 2026 10:02:00 GMT", "Date": "Fri, 20 Nov 2026 10:00:00 GMT"}, 120),
        ({"Retry-After": "Fri, 20 Nov 2026 09:00:00 GMT", "Date": "Fri, 20 Nov 2026 10:00:00 GMT"}, None),
        ({"Retry-After": "Fri, 20 Nov 2026 10:02:00 GMT"}, None),
        ({"Retry-After": "Fri, 20 Nov 2026 10:02:00 -0000", "Date": "Fri, 20 Nov 2026 10:00:00 GMT"}, None),
        (
            {
                "x-business-use-case-usage": '{"1":[{"estimated_time_to_regain_access":3}]}',
                "Retry-After": "90",
            },
            180,
        ),
        ({}, None),
    ],
)
def test_how_long_a_throttled_caller_waits(headers: dict[str, str], seconds: int | None) -> None:
    assert _classify(429, _body(4), headers).regain_seconds == seconds


def test_only_throttling_has_a_regain_time() -> None:
    assert _classify(503, b"", {"Retry-After": "90"}).regain_seconds is None


@pytest.mark.parametrize(
    ("code", "scope"), [(80014, "calls"), (80009, "questions"), (4, "both"), (17, "both"), (80004, "both")]
)
def test_what_throttling_concerns(code: int, scope: str) -> None:
    error = _classify(400, _body(code))
    assert isinstance(error, ThrottledError)
    assert error.scope == scope


@pytest.mark.parametrize(
    ("kind", "category", "retryable"),
    [
        (NotConnectedError, "network", True),
        (NoAnswerError, "network", True),
        (TransientError, "network", True),
        (UnreadableAnswerError, "network", True),
        (ThrottledError, "rate_limit", True),
        (CredentialsError, "authentication", False),
        (PermissionMissingError, "permission", False),
        (AssetLostError, "catalog", False),
        (BlockedError, "permission", False),
        (InvalidRequestError, "product", False),
        (TooLargeError, "unknown", False),
        (VersionRetiredError, "unknown", False),
        (UnknownGraphError, "unknown", False),
    ],
)
def test_every_class_has_its_category(kind: type[GraphError], category: str, retryable: bool) -> None:
    error = kind(ErrorFacts("Text"))
    assert (error.category, error.retryable) == (category, retryable)
    assert category in get_args(Category)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == "Text"


def test_only_a_failed_connection_is_known_to_have_sent_nothing() -> None:
    assert NotConnectedError(ErrorFacts("x", nothing_sent=True)).is_definite
    assert not NoAnswerError(ErrorFacts("x")).is_definite


def test_the_table_ends_with_a_row_that_always_fits_and_speaks_plainly() -> None:
    assert RULES[-1].fits(ErrorFacts("x"))
    for rule in RULES:
        assert rule.reaction.endswith(".")
        assert rule.account_state in get_args(AccountState)
        assert rule.says == rule.says.lower()


def test_texts_are_cut_storable_and_without_tokens() -> None:
    error = _classify(400, _body(190, message="Malformed access token EAABcanary0123456789\x00" + "x" * 5000))
    assert "canary" not in str(error)
    assert "\x00" not in error.message
    assert len(error.message) <= 1000


@given(st.integers(100, 599), st.binary(max_size=300))
def test_no_bytes_make_it_raise(status: int, body: bytes) -> None:
    classify(status, {}, body)


@given(
    st.integers(100, 599),
    st.dictionaries(
        st.sampled_from(
            [
                "message",
                "type",
                "code",
                "error_subcode",
                "error_data",
                "is_transient",
                "fbtrace_id",
                "error_user_msg",
            ]
        ),
        ANY_JSON,
    ),
    st.dictionaries(
        st.sampled_from(["Retry-After", "Date", "x-app-usage", "x-fb-trace-id"]), st.text(max_size=30)
    ),
)
def test_no_error_object_makes_it_raise(status: int, error: dict[str, Any], headers: dict[str, str]) -> None:
    for body in ({"error": error}, error):
        found = classify(status, headers, json.dumps(body).encode())
        if found is not None:
            str(found)
            json.dumps(found.to_error_meta())


@given(st.integers(100, 599), ANY_JSON)
def test_no_json_makes_it_raise(status: int, value: Any) -> None:
    classify(status, {}, json.dumps(value).encode())
    classify(status, {}, json.dumps({"error": value}).encode())
