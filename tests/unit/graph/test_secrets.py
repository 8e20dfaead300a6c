"""Secrets planted in a call, looked for in everything that comes out of it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr

from meta_sync.graph.auth import GraphCredential, appsecret_proof
from meta_sync.graph.client import GraphClient, make_http_client
from meta_sync.graph.errors import NotConnectedError
from meta_sync.graph.retry import RetryPolicy
from tests.unit.graph.servers import answer, read_request, serve


async def _no_sleep(_seconds: float) -> None:
    return None


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with make_http_client() as client:
        yield client


_CANARIES = {
    "token": "EAABcanaryTOKEN0123456789",
    "app_secret": "canary-APP-SECRET-0123456789",
    "input_token": "canaryINPUTtoken0123456789",
}
_SECRET_CREDENTIAL = GraphCredential(SecretStr(_CANARIES["token"]), "123", SecretStr(_CANARIES["app_secret"]))


def _assert_clean(text: str) -> None:
    proof = appsecret_proof(_CANARIES["token"], _CANARIES["app_secret"])
    for secret in (*_CANARIES.values(), proof):
        assert secret not in text


@pytest.mark.parametrize(
    "reply",
    [
        answer(b'{"id":"1"}'),
        answer(
            json.dumps(
                {"error": {"code": 190, "message": f"Malformed access token {_CANARIES['token']}"}}
            ).encode(),
            "400 Bad",
        ),
        answer(
            json.dumps({"error": {"code": 100, "message": f"bad {_CANARIES['input_token']}"}}).encode(),
            "400 Bad",
        ),
        answer(
            json.dumps({"error": {"code": 100, "message": f"bad {_CANARIES['app_secret']}"}}).encode(),
            "400 Bad",
        ),
        answer(
            json.dumps(
                {"data": [], "paging": {"next": f"https://x/?access_token={_CANARIES['token']}"}}
            ).encode()
        ),
        answer(b"", "302 Found", headers="location: https://x/?a=b\r\n"),
        answer(b"oops", "500 Oops"),
        answer(b"x", length=50),
        b"no http at all\r\n\r\n",
        b"",
    ],
)
async def test_planted_secrets_never_come_out(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, reply: bytes
) -> None:
    seen: list[bytes] = []

    async def behaviour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(reply)
        await writer.drain()

    # Whoever configured logging in this process before may have silenced the library; here it must speak.
    with (
        caplog.at_level(logging.DEBUG),
        caplog.at_level(logging.DEBUG, "httpx"),
        caplog.at_level(logging.DEBUG, "httpcore"),
    ):
        async with serve(behaviour) as url:
            client = GraphClient(http, base_url=url, version="v25.0", sleep=_no_sleep)
            result = await client.read(
                _SECRET_CREDENTIAL,
                "debug_token",
                params={"fields": "id"},
                secret_params={"input_token": SecretStr(_CANARIES["input_token"])},
            )
    assert _CANARIES["input_token"].encode() in seen[0], "the transport has to get the real URL"
    assert any(
        "debug_token" in record.getMessage() for record in caplog.records if record.name == "httpx"
    ) or not (reply.startswith(b"HTTP"))
    for record in caplog.records:
        _assert_clean(record.getMessage())
        _assert_clean(repr(record.args))
    _assert_clean(repr(result))
    _assert_clean(repr(client))
    if result.error is not None:
        _assert_clean(
            f"{result.error} {result.error!r} {result.error.args!r} {result.error.to_log_context()}"
        )


async def test_secrets_survive_no_refused_connection(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        caplog.at_level(logging.DEBUG, "httpx"),
        caplog.at_level(logging.DEBUG, "httpcore"),
    ):
        client = GraphClient(
            http, base_url="http://127.0.0.1:1", version="v25.0", retry_policy=RetryPolicy(attempts=1)
        )
        result = await client.read(_SECRET_CREDENTIAL, "me")
    assert type(result.error) is NotConnectedError
    _assert_clean(caplog.text + repr(result))


async def test_the_request_itself_shows_no_secret() -> None:
    shown: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        shown.extend([repr(request), str(request.url), repr(request.url), repr(request.headers)])
        return httpx.Response(200, json={})

    mock = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    await GraphClient(mock, base_url="https://graph.example", version="v25.0").read(
        _SECRET_CREDENTIAL, "debug_token", secret_params={"input_token": SecretStr(_CANARIES["input_token"])}
    )
    _assert_clean(" ".join(shown))
    assert "input_token=%5Bsecret%5D" in shown[1]
