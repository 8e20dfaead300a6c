from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from meta_sync.graph.auth import GraphCredential
from meta_sync.graph.client import GraphClient
from meta_sync.graph.endpoints.catalog import BatchMethod, CatalogEndpoints, build_batch_body
from meta_sync.graph.endpoints.oauth import OAuthEndpoints
from meta_sync.graph.errors import AssetLostError, CredentialsError, GraphError, UnreadableAnswerError
from meta_sync.graph.outcomes import (
    CannotAsk,
    Ended,
    Finished,
    NothingTaken,
    Refused,
    StillRunning,
    Taken,
    TooLarge,
    Unknown,
    UnknownHandle,
)
from meta_sync.graph.wire import CatalogInfo, Identity, ReportLine

_CREDENTIAL = GraphCredential(SecretStr("EAABtoken0123456789"), "123", SecretStr("app-secret-0123456789"))
_NEXT = "https://graph.example/v25.0/never-follow-this?access_token=x"

Reply = tuple[int, Any] | Exception


class _Meta:
    """Answers in the given order, keeps the requests, and fails the test when asked too often."""

    def __init__(self, *replies: Reply, headers: dict[str, str] | None = None) -> None:
        self.replies = list(replies)
        self.headers = headers or {}
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        status, body = reply
        if isinstance(body, bytes):
            return httpx.Response(status, content=body, headers=self.headers)
        return httpx.Response(status, json=body, headers=self.headers)

    def params(self) -> list[dict[str, str]]:
        return [dict(request.url.params) for request in self.requests]

    def client(self) -> GraphClient:
        async def no_sleep(_seconds: float) -> None:
            return None

        http = httpx.AsyncClient(transport=httpx.MockTransport(self))
        return GraphClient(http, base_url="https://graph.example", version="v25.0", sleep=no_sleep)

    def catalog(self) -> CatalogEndpoints:
        return CatalogEndpoints(self.client())


def _failed(code: int, **more: Any) -> dict[str, Any]:
    return {"error": {"message": "m", "type": "OAuthException", "code": code, **more}}


# Writing


def test_the_body_is_joined_from_encoded_items() -> None:
    records: list[tuple[BatchMethod, bytes]] = [
        ("UPDATE", '{"id":"Ä-1","title":"T"}'.encode()),
        ("DELETE", b'{"id":"B"}'),
    ]
    assert json.loads(build_batch_body(records)) == {
        "item_type": "PRODUCT_ITEM",
        "allow_upsert": True,
        "requests": [
            {"method": "UPDATE", "data": {"id": "Ä-1", "title": "T"}},
            {"method": "DELETE", "data": {"id": "B"}},
        ],
    }
    assert json.loads(build_batch_body([]))["requests"] == []


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ((200, {"handles": ["h"]}), Taken),
        ((200, {"handles": []}), NothingTaken),
        ((400, _failed(190)), Refused),
        (httpx.ConnectError("x"), Refused),
        (httpx.ReadTimeout("x"), Unknown),
        ((500, b"<html>"), Unknown),
        ((200, b"<html>"), Unknown),
        ((413, b""), TooLarge),
    ],
)
async def test_a_batch_is_sent_once_and_its_end_told(reply: Reply, expected: type[Any]) -> None:
    meta = _Meta(reply)
    result = await meta.catalog().submit_batch(_CREDENTIAL, "77", b'{"requests":[]}')
    assert type(result) is expected
    (request,) = meta.requests
    assert (request.method, request.url.path) == ("POST", "/v25.0/77/items_batch")


async def test_the_usage_comes_with_every_outcome() -> None:
    usage = {"x-business-use-case-usage": '{"77":[{"type":"catalog_batch","call_count":42}]}'}
    replies: list[Reply] = [
        (200, {"handles": ["h"]}),
        (400, _failed(80014)),
        (500, b""),
        (200, {"handles": []}),
    ]
    for reply in replies:
        result = await _Meta(reply, headers=usage).catalog().submit_batch(_CREDENTIAL, "77", b"{}")
        assert result.usage.percent == 42


# Following


def _report(
    errors: list[tuple[str, str]],
    *,
    total: int | None = None,
    status: str = "finished",
    after: str | None = None,
    **more: Any,
) -> Reply:
    node: dict[str, Any] = {
        "handle": "h",
        "status": status,
        "errors": [{"id": i, "message": m} for i, m in errors],
    }
    if total is not None:
        node["errors_total_count"] = total
    body: dict[str, Any] = {"data": [{**node, **more}]}
    if after is not None:
        body["paging"] = {"cursors": {"after": after}, "next": _NEXT}
    return 200, body


async def _status(meta: _Meta) -> Any:
    return await meta.catalog().batch_status(_CREDENTIAL, "77", "h")


async def test_a_poll_asks_for_the_whole_report() -> None:
    meta = _Meta(
        _report(
            [("A", "bad")], total=1, ids_of_invalid_requests=["A"], warnings=[{"id": "B", "message": "w"}]
        )
    )
    result = await _status(meta)
    assert isinstance(result, Finished)
    assert result.report.errors == (ReportLine("A", "bad"),)
    assert result.report.warnings == (ReportLine("B", "w"),)
    assert result.report.invalid_ids == ("A",)
    assert result.report.errors_total_count == 1
    assert result.report.pages_complete
    (params,) = meta.params()
    assert meta.requests[0].url.path == "/v25.0/77/check_batch_request_status"
    assert params["handle"] == "h"
    assert params["load_ids_of_invalid_requests"] == "true"
    assert params["fields"] == (
        "handle,status,errors,errors_total_count,warnings,warnings_total_count,ids_of_invalid_requests"
    )


async def test_pages_are_followed_by_cursor_and_never_by_url() -> None:
    meta = _Meta(
        _report([("A", "1"), ("B", "2")], total=3, after="c1"),
        _report([("C", "3")], total=3, after="c2"),
        (200, {"data": []}),
    )
    result = await _status(meta)
    assert isinstance(result, Finished)
    assert [line.retailer_id for line in result.report.errors] == ["A", "B", "C"]
    assert result.report.pages_complete
    assert [params.get("after") for params in meta.params()] == [None, "c1", "c2"]
    assert {request.url.path for request in meta.requests} == {"/v25.0/77/check_batch_request_status"}


async def test_a_report_that_goes_in_circles_is_incomplete() -> None:
    meta = _Meta(_report([("A", "1")], total=2, after="c"), _report([("A", "1")], total=2, after="c"))
    result = await _status(meta)
    assert isinstance(result, Finished)
    assert not result.report.pages_complete
    assert len(result.report.errors) == 1


async def test_a_report_without_end_is_cut_and_incomplete() -> None:
    meta = _Meta(*(_report([(f"A{n}", "1")], after=f"c{n}") for n in range(60)))
    result = await _status(meta)
    assert isinstance(result, Finished)
    assert not result.report.pages_complete
    assert len(meta.requests) == 50


async def test_a_report_whose_next_page_cannot_be_named_is_incomplete() -> None:
    result = await _status(_Meta((200, {"data": [{"status": "finished"}], "paging": {"next": _NEXT}})))
    assert isinstance(result, Finished)
    assert not result.report.pages_complete


@pytest.mark.parametrize(
    ("node", "names_nobody"),
    [
        ({"errors": [], "ids_of_invalid_requests": []}, True),
        ({"errors": []}, False),
        ({"ids_of_invalid_requests": []}, False),
        ({}, False),
        ({"errors": None, "ids_of_invalid_requests": []}, False),
        ({"errors": [], "ids_of_invalid_requests": ["A"]}, False),
        ({"errors": [{"id": "A", "message": "bad"}], "ids_of_invalid_requests": []}, False),
    ],
)
async def test_a_list_that_is_left_out_is_not_an_empty_one(node: dict[str, Any], names_nobody: bool) -> None:
    result = await _status(_Meta((200, {"data": [{"handle": "h", "status": "finished", **node}]})))
    assert isinstance(result, Finished)
    assert result.report.errors_total_count is None
    assert result.report.names_nobody is names_nobody


async def test_a_failure_on_a_later_page_is_no_report() -> None:
    result = await _status(_Meta(_report([("A", "1")], after="c"), (400, _failed(100))))
    assert isinstance(result, CannotAsk), "the handle is known, it was just answered for"


@pytest.mark.parametrize("status", ["finished", "FINISHED", " Finished "])
async def test_finished_in_any_spelling(status: str) -> None:
    assert isinstance(await _status(_Meta(_report([], status=status))), Finished)


@pytest.mark.parametrize(
    "status",
    ["scheduled", "dispatched", "STARTED", "in_progress", "complete", "finished?", "", "fin\u0131shed"],
)
async def test_any_other_word_means_still_running(status: str) -> None:
    result = await _status(_Meta(_report([], status=status)))
    assert isinstance(result, StillRunning)
    assert result.status == status.lower()


@pytest.mark.parametrize(
    "body", [{"data": []}, {"data": None}, {}, {"data": [{"status": None}]}, {"data": [None]}]
)
async def test_no_word_at_all_means_still_running(body: Any) -> None:
    result = await _status(_Meta((200, body)))
    assert isinstance(result, StillRunning)
    assert result.status == ""


@pytest.mark.parametrize(
    ("status", "expected"), [("Error", "error"), ("canceled", "canceled"), ("cancelled", "canceled")]
)
async def test_an_end_without_a_verdict(status: str, expected: str) -> None:
    result = await _status(_Meta(_report([], status=status)))
    assert isinstance(result, Ended)
    assert result.status == expected


async def test_a_page_that_is_not_finished_ends_the_reading() -> None:
    assert isinstance(
        await _status(_Meta(_report([], after="c"), _report([], status="started"))), StillRunning
    )


async def test_an_unknown_handle_and_a_lost_catalog_are_told_apart() -> None:
    assert isinstance(await _status(_Meta((400, _failed(100)))), UnknownHandle)
    lost = await _status(_Meta((400, _failed(100, error_subcode=33))))
    assert isinstance(lost, CannotAsk)
    assert isinstance(lost.error, AssetLostError)


async def test_not_being_able_to_ask() -> None:
    result = await _status(_Meta(httpx.ReadTimeout("x"), (500, b""), httpx.ConnectError("x")))
    assert isinstance(result, CannotAsk)
    meta = _Meta((400, _failed(80009)))
    assert isinstance(await _status(meta), CannotAsk)
    assert len(meta.requests) == 1, "a throttled question is not repeated"


# Reading


async def test_items_are_found_by_filter() -> None:
    meta = _Meta((200, {"data": [{"id": "1", "retailer_id": 'S"1'}]}))
    found = await meta.catalog().find_items(_CREDENTIAL, "77", ['S"1', "ü,2", 'S"1'], ["id", "retailer_id"])
    assert found.value.items == ({"id": "1", "retailer_id": 'S"1'},)
    assert not found.value.has_next
    (params,) = meta.params()
    assert json.loads(params["filter"]) == {"retailer_id": {"is_any": ['S"1', "ü,2"]}}
    assert params["fields"] == "id,retailer_id"


async def test_many_ids_are_asked_in_urls_of_bearable_length() -> None:
    ids = [f"{n:03d}" + "ü" * 97 for n in range(120)]
    meta = _Meta(*((200, {"data": []}) for _ in range(120)))
    await meta.catalog().find_items(_CREDENTIAL, "77", ids)
    asked = [json.loads(params["filter"])["retailer_id"]["is_any"] for params in meta.params()]
    assert [one for chunk in asked for one in chunk] == ids
    assert max(len(request.url.raw_path) for request in meta.requests) < 6000
    short = _Meta((200, {"data": []}), (200, {"data": []}))
    await short.catalog().find_items(_CREDENTIAL, "77", [str(n) for n in range(150)])
    assert len(short.requests) == 2


async def test_finding_nothing_asks_nothing() -> None:
    meta = _Meta()
    assert (await meta.catalog().find_items(_CREDENTIAL, "77", [])).value.items == ()


async def test_found_items_come_from_all_pages_within_bounds() -> None:
    more = {"cursors": {"after": "c"}, "next": _NEXT}
    meta = _Meta((200, {"data": [{"id": "1"}], "paging": more}), (200, {"data": [{"id": "2"}]}))
    found = await meta.catalog().find_items(_CREDENTIAL, "77", ["a"])
    assert [item["id"] for item in found.value.items] == ["1", "2"]
    assert not found.value.has_next
    endless = _Meta(*((200, {"data": [], "paging": more}) for _ in range(40)))
    found = await endless.catalog().find_items(_CREDENTIAL, "77", ["a"])
    assert found.value.has_next
    assert len(endless.requests) == 21


async def test_a_catalog_is_walked_by_cursor() -> None:
    meta = _Meta(
        (
            200,
            {
                "data": [],
                "paging": {"cursors": {"after": "c1"}, "next": _NEXT},
                "summary": {"total_count": 2},
            },
        ),
        (200, {"data": [{"id": "1"}], "paging": {"cursors": {"after": "c2"}}}),
    )
    catalog = meta.catalog()
    first = await catalog.list_products(_CREDENTIAL, "77", limit=5, with_total=True)
    assert (first.value.has_next, first.value.after, first.value.total_count) == (True, "c1", 2)
    second = await catalog.list_products(_CREDENTIAL, "77", after=first.value.after)
    assert (second.value.has_next, second.value.after) == (False, None)
    params = meta.params()
    assert (params[0]["limit"], params[0]["summary"], params[1]["after"]) == ("5", "true", "c1")


async def test_a_catalog() -> None:
    body = {"id": "77", "name": "Main", "vertical": "commerce", "product_count": 316}
    read = await _Meta((200, body)).catalog().get_catalog(_CREDENTIAL, "77")
    assert read.value == CatalogInfo("77", "Main", "commerce", 316)


def _reads() -> list[Callable[[_Meta], Any]]:
    secret = SecretStr("app-secret-0123456789")
    return [
        lambda meta: meta.catalog().get_catalog(_CREDENTIAL, "77"),
        lambda meta: meta.catalog().list_products(_CREDENTIAL, "77"),
        lambda meta: meta.catalog().find_items(_CREDENTIAL, "77", ["a"]),
        lambda meta: OAuthEndpoints(meta.client()).me(_CREDENTIAL),
        lambda meta: OAuthEndpoints(meta.client()).debug_token("123", secret, SecretStr("EAABother")),
    ]


@pytest.mark.parametrize("read", _reads())
async def test_a_failed_read_raises_its_error(read: Callable[[_Meta], Any]) -> None:
    with pytest.raises(CredentialsError) as caught:
        await read(_Meta((400, _failed(190))))
    assert isinstance(caught.value, GraphError)


@pytest.mark.parametrize("read", _reads())
async def test_an_answer_to_another_question_raises(read: Callable[[_Meta], Any]) -> None:
    with pytest.raises(UnreadableAnswerError):
        await read(_Meta((200, {"success": True})))


async def test_the_identity_of_a_token() -> None:
    meta = _Meta((200, {"id": "1022", "name": "Jane Doe"}))
    assert (await OAuthEndpoints(meta.client()).me(_CREDENTIAL)).value == Identity("1022", "Jane Doe")


async def test_a_token_is_examined_as_the_app() -> None:
    meta = _Meta((200, {"data": {"is_valid": True, "app_id": "123", "expires_at": 0, "scopes": ["x"]}}))
    oauth = OAuthEndpoints(meta.client())
    info = await oauth.debug_token("123", SecretStr("app-secret-0123456789"), SecretStr("EAABother"))
    assert info.value.is_valid
    assert info.value.expires_at is None
    (request,) = meta.requests
    assert request.headers["authorization"] == "Bearer 123|app-secret-0123456789"
    assert request.url.params["input_token"] == "EAABother"
    assert "access_token" not in request.url.params
    assert "EAABother" not in str(request.url)
