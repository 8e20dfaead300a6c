"""The client against transports and servers that fail at every point of a call."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from meta_sync.graph.auth import GraphCredential, appsecret_proof
from meta_sync.graph.client import GraphClient, make_http_client
from meta_sync.graph.errors import (
    CredentialsError,
    NoAnswerError,
    NotConnectedError,
    TransientError,
    UnreadableAnswerError,
)
from meta_sync.graph.retry import RetryPolicy
from meta_sync.graph.wire import Answer
from tests.unit.graph.servers import answer, read_request, serve

_CREDENTIAL = GraphCredential(SecretStr("EAABtoken0123456789"), "123", SecretStr("app-secret-0123456789"))
_ONCE = RetryPolicy(attempts=1)


async def _no_sleep(_seconds: float) -> None:
    return None


def _mock(handler: Callable[[httpx.Request], httpx.Response]) -> GraphClient:
    http = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    return GraphClient(http, base_url="https://graph.example/", version="v25.0", sleep=_no_sleep)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with make_http_client() as client:
        yield client


async def _write(
    http: httpx.AsyncClient, base_url: str, *, deadline_seconds: float = 5.0, limit: int = 1000
) -> Answer:
    client = GraphClient(http, base_url=base_url, version="v25.0", retry_policy=_ONCE)
    return await client.write_json(
        _CREDENTIAL,
        "77",
        "items_batch",
        body=b'{"a":1}',
        deadline_seconds=deadline_seconds,
        max_answer_bytes=limit,
    )


# What is sent


async def test_a_read_carries_token_proof_and_language() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(
            200, json={"id": "77"}, headers={"X-App-Usage": '{"call_count":28}', "x-fb-trace-id": "T"}
        )

    result = await _mock(handler).read(_CREDENTIAL, "77", params={"fields": "id,name"})
    assert result.value == {"id": "77"}
    assert (result.error, result.status, result.trace_id, result.usage.percent) == (None, 200, "T", 28)
    (request,) = seen
    assert request.method == "GET"
    assert request.url.path == "/v25.0/77"
    assert dict(request.url.params) == {
        "fields": "id,name",
        "locale": "en_US",
        "appsecret_proof": appsecret_proof("EAABtoken0123456789", "app-secret-0123456789"),
    }
    assert request.headers["authorization"] == "Bearer EAABtoken0123456789"
    assert "access_token" not in request.url.params


async def test_a_write_sends_the_bytes_it_was_given() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"handles": ["h"]})

    body = '{"requests":[{"data":{"title":"Ünïcode"}}]}'.encode()
    await _mock(handler).write_json(_CREDENTIAL, "77", "items_batch", body=body, deadline_seconds=5)
    (request,) = seen
    assert request.method == "POST"
    assert request.content == body
    assert request.headers["content-type"] == "application/json"
    assert request.url.params["locale"] == "en_US"
    assert "appsecret_proof" in request.url.params


async def test_without_an_app_secret_there_is_no_proof() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"proof": "appsecret_proof" in request.url.params})

    result = await _mock(handler).read(GraphCredential(SecretStr("EAABtoken"), "123"), "me")
    assert result.value == {"proof": False}


async def test_another_version_shares_the_connections() -> None:
    client = _mock(lambda request: httpx.Response(200, json={"path": request.url.path}))
    assert (await client.for_version("v26.0").read(_CREDENTIAL, "me")).value == {"path": "/v26.0/me"}
    assert client.for_version("v25.0") is client
    assert repr(client) == "GraphClient(https://graph.example/v25.0)"


@pytest.mark.parametrize("path", ["", "..", ".", "a/b", "7?x=1", "7#", "ü", "a b", "%2e%2e"])
async def test_an_id_cannot_lead_a_call_elsewhere(path: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        await _mock(lambda _: httpx.Response(200)).read(_CREDENTIAL, path)


@pytest.mark.parametrize("base_url", ["", "ftp://x", "https://user:pw@x", "https://x?a=1", "https://"])
async def test_a_wrong_graph_url_is_refused(http: httpx.AsyncClient, base_url: str) -> None:
    with pytest.raises(ValueError, match="Graph URL"):
        GraphClient(http, base_url=base_url, version="v25.0")


@pytest.mark.parametrize("version", ["", "25.0", "v25", "v25.0/../x", "latest"])
async def test_a_wrong_version_is_refused(http: httpx.AsyncClient, version: str) -> None:
    with pytest.raises(ValueError, match="version"):
        GraphClient(http, base_url="https://x", version=version)


async def test_the_http_client_takes_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with make_http_client() as client:
        assert client.trust_env is False
        assert client.follow_redirects is False
        assert client._mounts == {}


@pytest.mark.parametrize("token", ["", "EAAB\n", "EAAB canary", "EAABü", "\x00", "a\r\nx: y"])
async def test_a_token_that_cannot_stand_in_a_header_is_never_sent(token: str) -> None:
    def handler(_request: httpx.Request) -> httpx.Response:
        raise AssertionError("sent")

    result = await _mock(handler).write_json(
        GraphCredential(SecretStr(token), "123"), "77", "items_batch", body=b"{}", deadline_seconds=5
    )
    assert isinstance(result.error, CredentialsError)
    assert result.error.is_definite
    assert result.error.account_state == "needs_reconnect"
    assert not token or token not in str(result.error)


# How a call can end


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (httpx.ConnectError("x"), NotConnectedError),
        (httpx.ConnectTimeout("x"), NotConnectedError),
        (httpx.PoolTimeout("x"), NotConnectedError),
        (httpx.UnsupportedProtocol("x"), NotConnectedError),
        (httpx.WriteError("x"), NoAnswerError),
        (httpx.WriteTimeout("x"), NoAnswerError),
        (httpx.ReadError("x"), NoAnswerError),
        (httpx.ReadTimeout("x"), NoAnswerError),
        (httpx.CloseError("x"), NoAnswerError),
        (httpx.RemoteProtocolError("x"), NoAnswerError),
        (httpx.LocalProtocolError("x"), NoAnswerError),
        (httpx.DecodingError("x"), NoAnswerError),
        (ConnectionResetError("x"), NoAnswerError),
    ],
)
async def test_what_each_failure_of_the_transport_means(
    failure: Exception, expected: type[Exception]
) -> None:
    def handler(_request: httpx.Request) -> httpx.Response:
        raise failure

    result = await _mock(handler).write_json(_CREDENTIAL, "77", "items_batch", body=b"{}", deadline_seconds=5)
    assert type(result.error) is expected
    assert result.error is not None
    assert result.error.is_definite is (expected is NotConnectedError)
    assert result.error.__cause__ is None
    assert result.error.__context__ is None, "the exception of httpx holds the request and with it the token"
    assert (result.value, result.status) == (None, None)


async def test_nobody_listens(http: httpx.AsyncClient) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    result = await _write(http, f"http://127.0.0.1:{port}")
    assert type(result.error) is NotConnectedError


async def test_our_deadline_during_the_connection_means_nothing_was_sent(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    import anyio

    async def never(*_args: Any, **_kwargs: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(anyio, "connect_tcp", never)
    result = await _write(http, "http://127.0.0.1:1", deadline_seconds=0.05)
    assert type(result.error) is NotConnectedError
    assert result.error.is_definite


async def test_closed_before_the_answer(http: httpx.AsyncClient) -> None:
    async def behaviour(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with serve(behaviour) as url:
        assert type((await _write(http, url)).error) is NoAnswerError


async def test_closed_before_the_request_was_read(http: httpx.AsyncClient) -> None:
    async def behaviour(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with serve(behaviour) as url:
        assert type((await _write(http, url)).error) is NoAnswerError


async def test_cut_within_the_body(http: httpx.AsyncClient) -> None:
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b'{"handles":["h"', length=500))
        await writer.drain()

    async with serve(behaviour) as url:
        result = await _write(http, url)
    assert type(result.error) is NoAnswerError
    assert result.value is None


async def test_an_answer_that_never_comes_ends_at_the_deadline(http: httpx.AsyncClient) -> None:
    async def behaviour(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await reader.read()

    async with serve(behaviour) as url:
        result = await _write(http, url, deadline_seconds=0.2)
    assert type(result.error) is NoAnswerError
    assert "0.2 seconds" in str(result.error)


async def test_a_dripping_answer_ends_at_the_deadline(http: httpx.AsyncClient) -> None:
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b"", length=10_000))
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serve(behaviour) as url:
        started_at = asyncio.get_running_loop().time()
        result = await _write(http, url, deadline_seconds=0.3, limit=100_000)
        assert asyncio.get_running_loop().time() - started_at < 3
    assert type(result.error) is NoAnswerError


async def test_cancelling_the_caller_is_not_an_answer(http: httpx.AsyncClient) -> None:
    arrived = asyncio.Event()

    async def behaviour(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.set()
        await reader.read()

    async with serve(behaviour) as url:
        task = asyncio.create_task(_write(http, url))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("status", "expected"),
    [("200 OK", UnreadableAnswerError), ("500 Oops", TransientError), ("400 Bad", UnreadableAnswerError)],
)
async def test_a_long_answer_is_not_read_to_its_end(
    http: httpx.AsyncClient, status: str, expected: type[Exception]
) -> None:
    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b" " * 5000, status, length=20_000_000))
        await writer.drain()
        await reader.read()

    async with serve(behaviour) as url:
        result = await _write(http, url)
    assert type(result.error) is expected
    assert result.value is None
    assert result.error is not None
    assert not result.error.is_definite


async def test_the_bound_counts_unpacked_bytes(http: httpx.AsyncClient) -> None:
    packed = gzip.compress(b'"' + b"x" * 2000 + b'"')

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(packed, headers="content-encoding: gzip\r\n"))
        await writer.drain()

    async with serve(behaviour) as url:
        assert type((await _write(http, url, limit=1000)).error) is UnreadableAnswerError
        result = await _write(http, url, limit=3000)
        assert result.error is None
        assert result.value == "x" * 2000


async def test_a_redirect_is_not_followed(http: httpx.AsyncClient) -> None:
    seen: list[bytes] = []

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(answer(b"", "302 Found", headers="location: http://127.0.0.1:9/evil\r\n"))
        await writer.drain()

    async with serve(behaviour) as url:
        result = await _write(http, url)
    assert type(result.error) is UnreadableAnswerError
    assert len(seen) == 1


async def test_cookies_of_one_store_do_not_travel_with_another(http: httpx.AsyncClient) -> None:
    seen: list[bytes] = []

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(answer(b"{}", headers="set-cookie: sid=canary; Path=/\r\n"))
        await writer.drain()

    async with serve(behaviour) as url:
        await _write(http, url)
        await _write(http, url)
    assert len(seen) == 2
    assert b"canary" not in seen[1]


# Repeating


async def test_reads_are_repeated_and_writes_are_not() -> None:
    calls: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        return httpx.Response(503)

    client = _mock(handler)
    assert type((await client.read(_CREDENTIAL, "77")).error) is TransientError
    assert calls == ["GET"] * 3
    await client.write_json(_CREDENTIAL, "77", "items_batch", body=b"{}", deadline_seconds=5)
    assert calls == ["GET"] * 3 + ["POST"]


async def test_a_dead_token_is_not_tried_twice() -> None:
    calls: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        return httpx.Response(400, json={"error": {"code": 190, "message": "m", "type": "OAuthException"}})

    assert type((await _mock(handler).read(_CREDENTIAL, "77")).error) is CredentialsError
    assert calls == ["GET"]


async def test_the_end_of_a_version_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    warning = {"x-ad-api-version-warning": "auto-upgraded to v26.0"}
    client = _mock(lambda _: httpx.Response(200, json={}, headers=warning))
    with caplog.at_level(logging.WARNING, "meta_sync"):
        await client.read(_CREDENTIAL, "me")
        await client.read(_CREDENTIAL, "me")
    (record,) = caplog.records
    assert record.getMessage() == "Meta is retiring the Graph API version in use; set a newer one"
    assert record.__dict__["meta_says"] == "auto-upgraded to v26.0"
