"""Between HTTP and Graph calls: reads every form a caller may send, and delivers answers whole, late, cut or not at all."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from meta_sync.sandbox.wire import Answer, Call, Delivery

__all__ = ["LARGEST_BODY_BYTES", "ConnectionLost", "GraphResponse", "read_call"]

LARGEST_BODY_BYTES = 28_000_000
"""Documented as "28 MB"; read here as decimal megabytes, the smaller meaning."""

OLDEST_VERSION = 21
NEWEST_VERSION = 26
"""Living versions of Graph in autumn 2026. Calls without a version get the oldest; expired ones fall forward to it."""

_VERSION = re.compile(r"v(\d{1,3})\.\d{1,2}")
_TIMEOUT_HOLD_SECONDS = 600.0
"""How long an answer that never comes keeps its connection, if the caller does not give up before."""

ConnectionLost = Callable[[Delivery], Exception]
"""Makes the exception that stands for a lost connection where there is no connection to cut."""

Sleep = Callable[[float], Awaitable[None]]


async def read_call(request: Request) -> Call:
    """Read version, token and parameters, from query, headers and a JSON, form or multipart body.

    Parameters of the body win over those of the query. A body on a GET is read too and may be anything.
    """
    segments = tuple(part for part in request.url.path.split("/") if part)
    version = ""
    if segments and (match := _VERSION.fullmatch(segments[0])) and int(match[1]) <= NEWEST_VERSION:
        version, segments = segments[0], segments[1:]
    params: dict[str, Any] = dict(request.query_params)
    body, too_large = await _read_body(request)
    unreadable = False
    if body and not too_large:
        sent = await _read_parameters(request, body)
        unreadable = sent is None and request.method != "GET"
        params |= sent or {}
    bearer = request.headers.get("authorization", "")
    token = bearer[7:].strip() if bearer[:7].lower() == "bearer " else params.get("access_token")
    params.pop("access_token", None)
    base_url = f"{request.url.scheme}://{request.url.netloc}" + (f"/{version}" if version else "")
    return Call(
        method=request.method,
        path=request.url.path,
        segments=segments,
        params=params,
        token=None if token is None else str(token),
        base_url=base_url,
        too_large=too_large,
        unreadable=unreadable,
    )


def api_version(path: str) -> str:
    """The version a call is answered in."""
    match = _VERSION.match(path.lstrip("/"))
    number = OLDEST_VERSION if match is None else min(max(int(match[1]), OLDEST_VERSION), NEWEST_VERSION)
    return f"v{number}.0"


async def _read_body(request: Request) -> tuple[bytes, bool]:
    """The body, and whether it is too large; of one that is too large nothing is kept, but all of it is read."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size <= LARGEST_BODY_BYTES:
                chunks.append(chunk)
            else:
                chunks.clear()
    except ClientDisconnect:
        return b"", False
    return b"".join(chunks), size > LARGEST_BODY_BYTES


async def _read_parameters(request: Request, body: bytes) -> dict[str, Any] | None:
    """The parameters of a body, or ``None`` when it cannot be read."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return await _read_multipart(request, body)
    if media_type == "application/x-www-form-urlencoded":
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True)
        except UnicodeDecodeError:
            return None
        return dict(pairs)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


async def _read_multipart(request: Request, body: bytes) -> dict[str, Any] | None:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        parser = MultiPartParser(request.headers, once(), max_part_size=LARGEST_BODY_BYTES)
        form = await parser.parse()
    except MultiPartException:
        return None
    values: dict[str, Any] = {}
    for name, value in form.multi_items():
        values[name] = (
            (await value.read()).decode(errors="replace") if isinstance(value, UploadFile) else value
        )
    await form.close()
    return values


class GraphResponse(Response):
    """An answer of Graph on its way to the caller.

    A lost one is lost for real: under uvicorn the connection is cut without an answer. In process there is no
    connection, so an exception is raised that the caller's transport hands on.
    """

    def __init__(self, answer: Answer, call: Call, *, sleep: Sleep, connection_lost: ConnectionLost) -> None:
        super().__init__(
            answer.content(),
            status_code=answer.status,
            media_type=answer.media_type,
            headers={
                **answer.headers,
                "facebook-api-version": api_version(call.path),
                "x-fb-trace-id": secrets.token_urlsafe(8),
            },
        )
        self._answer = answer
        self._sleep = sleep
        self._connection_lost = connection_lost

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._answer
        if answer.delay_seconds:
            await self._sleep(answer.delay_seconds)
        if answer.delivery == "whole":
            await super().__call__(scope, receive, send)
            return
        if answer.delivery == "half":
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            half = bytes(self.body)[: len(self.body) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
        await self._cut(scope, receive)

    async def _cut(self, scope: Scope, receive: Receive) -> None:
        delivery = self._answer.delivery
        # uvicorn's own send function, kept by the app: the object it belongs to holds the socket.
        transport = getattr(getattr(scope.get("sandbox.send"), "__self__", None), "transport", None)
        if transport is None:
            raise self._connection_lost(delivery)
        if delivery == "timeout":
            try:
                await asyncio.wait_for(_gone(receive), _TIMEOUT_HOLD_SECONDS)
            except TimeoutError:
                pass
            else:
                return
        transport.close() if delivery == "half" else transport.abort()
        await _gone(receive)


async def _gone(receive: Receive) -> None:
    """Wait until the server says that the connection is over; it then sends nothing of its own."""
    while (await receive())["type"] != "http.disconnect":
        pass
