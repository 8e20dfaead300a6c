from __future__ import annotations

import json
from typing import Any

import pytest

from meta_sync.graph.errors import ErrorFacts, NoAnswerError, NotConnectedError, classify_value
from meta_sync.graph.outcomes import (
    CannotAsk,
    NothingTaken,
    Refused,
    SubmitResult,
    Taken,
    TooLarge,
    Unknown,
    UnknownHandle,
    merge_report,
    status_error,
    submit_result,
)
from meta_sync.graph.tolerant import UNREADABLE, decode_json
from meta_sync.graph.usage import Usage, UsageEntry
from meta_sync.graph.wire import Answer, ReportLine, parse_report_page

_USAGE = Usage(7.0, 0, (UsageEntry("catalog_batch", 7.0, 0),))


def _answer(status: int, body: Any) -> Answer:
    value = decode_json(body) if isinstance(body, bytes) else json.loads(json.dumps(body))
    error = classify_value(status, {}, value)
    return Answer(None if value is UNREADABLE else value, _USAGE, error, status=status)


def _failed(code: int | None, message: str = "m", **more: Any) -> dict[str, Any]:
    return {
        "error": {
            "message": message,
            "type": "OAuthException",
            **({} if code is None else {"code": code}),
            **more,
        }
    }


_REDUCE = "Please reduce the amount of data you're asking for, then retry your request"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"handles": ["h"]}, Taken),
        (200, {"handles": ["h"], "error": {"code": 1, "message": "m"}}, Taken),
        (200, {"handles": []}, NothingTaken),
        (200, {"success": True}, Unknown),
        (200, {}, Unknown),
        (200, [], Unknown),
        (200, b'{"handles":["h"', Unknown),
        (200, b"", Unknown),
        (204, b"", Unknown),
        (200, _failed(190), Refused),
        (200, _failed(1), Unknown),
        (400, _failed(100), Refused),
        (400, _failed(100, error_subcode=33), Refused),
        (400, _failed(80014), Refused),
        (400, _failed(368), Refused),
        (500, _failed(190), Refused),
        (500, _failed(100), Refused),
        (400, _failed(1), Unknown),
        (500, _failed(2), Unknown),
        (500, _failed(None), Unknown),
        (400, _failed(1, _REDUCE), TooLarge),
        (500, _failed(2, _REDUCE), TooLarge),
        (413, b"<html>", TooLarge),
        (400, b"<html>", Unknown),
        (302, b"", Unknown),
        (429, b"", Unknown),
        (500, b"", Unknown),
        (502, b"<html>", Unknown),
        (503, {"message": "upstream"}, Unknown),
        (504, b"", Unknown),
    ],
)
def test_how_a_submit_ended(status: int, body: Any, expected: type[SubmitResult]) -> None:
    result = submit_result(_answer(status, body))
    assert type(result) is expected
    assert result.usage is _USAGE


@pytest.mark.parametrize("status", range(500, 600))
def test_a_5xx_without_graphs_word_is_always_unknown(status: int) -> None:
    for body in (b"", b"<html>", b"null", b"{}", b'{"error":null}'):
        assert type(submit_result(_answer(status, body))) is Unknown


def test_no_connection_is_definite_and_everything_later_is_not() -> None:
    early = NotConnectedError(ErrorFacts("x", nothing_sent=True))
    assert type(submit_result(Answer(None, Usage(), early))) is Refused
    assert type(submit_result(Answer(None, Usage(), NoAnswerError(ErrorFacts("x"))))) is Unknown


def test_what_was_taken_and_said() -> None:
    result = submit_result(
        _answer(
            200,
            {
                "handles": ["h", "i"],
                "validation_status": [{"retailer_id": "185", "errors": [{"message": "Duplicate"}]}],
            },
        )
    )
    assert isinstance(result, Taken)
    assert result.handle == "h"
    assert result.handles == ("h", "i")
    assert result.messages["185"].errors == ("Duplicate",)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"data": []}, None),
        (200, {"data": None}, None),
        (200, {}, None),
        (200, [], CannotAsk),
        (200, b"{", CannotAsk),
        (400, _failed(100), UnknownHandle),
        (400, _failed(100, error_subcode=2804050), UnknownHandle),
        (400, _failed(100, error_subcode=33), CannotAsk),
        (400, _failed(100, is_transient=True), CannotAsk),
        (400, _failed(100, "Invalid appsecret_proof provided in the API argument"), CannotAsk),
        (400, _failed(80009), CannotAsk),
        (400, _failed(190), CannotAsk),
        (400, _failed(2500), CannotAsk),
        (502, b"", CannotAsk),
    ],
)
def test_how_a_poll_failed(status: int, body: Any, expected: type[Any] | None) -> None:
    failed = status_error(_answer(status, body))
    assert failed is None if expected is None else type(failed) is expected


def _page(
    ids: list[str], *, handle: str | None = "h", total: int | None = None, after: str | None = None
) -> Any:
    node: dict[str, Any] = {"status": "finished", "errors": [{"id": one, "message": "m"} for one in ids]}
    if handle is not None:
        node["handle"] = handle
    if total is not None:
        node["errors_total_count"] = total
    paging = {"cursors": {"after": after}, "next": "https://graph.example/next"} if after else {}
    return parse_report_page({"data": [node], "paging": paging}, "h")


def test_pages_become_one_report() -> None:
    report = merge_report([_page(["A", "A"], total=3, after="c"), _page(["B"], handle=None)], "h")
    assert report.errors == (ReportLine("A", "m"), ReportLine("A", "m"), ReportLine("B", "m"))
    assert report.errors_total_count == 3
    assert report.warnings_total_count is None
    assert report.pages_complete


def test_a_server_that_ignores_the_cursor_does_not_look_complete() -> None:
    report = merge_report([_page(["A", "B"], total=4, after="c"), _page(["A", "B"], total=4)], "h")
    assert len(report.errors) == 2
    assert not report.pages_complete


@pytest.mark.parametrize("page", [_page([], after="c"), _page([], handle="other")])
def test_a_missing_or_foreign_page_makes_the_report_incomplete(page: Any) -> None:
    assert not merge_report([page], "h").pages_complete


def test_empty_pages_do_not_repeat_each_other() -> None:
    assert merge_report([_page([], after="c"), _page([])], "h").pages_complete
