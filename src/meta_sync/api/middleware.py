"""What surrounds every request: its id, one line in the log, the answer of last resort, and CORS. Pure ASGI."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from urllib.parse import quote

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meta_sync.api.errors import error_response, service_error
from meta_sync.core.logging import get_logger

__all__ = ["Cors", "RequestBoundary", "request_id_of"]

_logger = get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._\-]{1,128}")
"""What is taken over from a caller: nothing that could break a log line or a header."""

_QUIET_PATHS = frozenset({"/health/live", "/health/ready"})


def request_id_of(scope: Scope) -> str:
    """The id of the request, as logged and as answered in ``X-Request-Id``."""
    return str(scope.get("state", {}).get("request_id", ""))


class RequestBoundary:
    """Gives the request its id, logs it once without its query, and answers what nobody caught."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.perf_counter()
        status = 0

        async def numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, numbered)
            except ClientDisconnect:
                status = status or 499
            except Exception as error:
                rendered = service_error(error)
                if rendered.status == 500:
                    _logger.exception("A request failed.", path=_path(scope), error=type(error).__name__)
                elif rendered.status > 500:
                    # Something is away: the type says it all, and there will be one for every request.
                    _logger.warning("A request could not be served.", error=type(error).__name__)
                if status:
                    # The answer has begun; all that is left is to cut it off, so that nobody takes it for whole.
                    raise
                await error_response(rendered, request_id)(scope, receive, numbered)
            finally:
                _log(scope, status, time.perf_counter() - began)


def _path(scope: Scope) -> str:
    return quote(scope["path"], safe="/~:@!$&'()*+,;=-._")[:500]


def _log(scope: Scope, status: int, seconds: float) -> None:
    state = scope.get("state", {})
    write = _logger.debug if scope["path"] in _QUIET_PATHS else _logger.info
    write(
        "A request was answered.",
        method=scope["method"][:16],
        path=_path(scope),
        status=status,
        duration_ms=round(seconds * 1000, 1),
        store_id=state.get("store_id"),
        key_id=state.get("key_id"),
    )


class Cors:
    """Lets browsers of the configured origins in. Without origins, nothing is added."""

    _ALLOWED = (
        "Authorization, X-API-Key, X-Store-Id, X-Request-Id, Content-Type, Idempotency-Key, Last-Event-ID, "
        "If-None-Match"
    )
    _METHODS = "GET, POST, PUT, PATCH, DELETE"
    _EXPOSED = "X-Request-Id, Retry-After, ETag, Allow, Content-Disposition"

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._origins = frozenset(origin.rstrip("/") for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._origins:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        allowed = bool(origin) and ("*" in self._origins or origin in self._origins)
        if allowed and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            start: Message = {"type": "http.response.start", "status": 204, "headers": []}
            answer = MutableHeaders(scope=start)
            answer["Access-Control-Allow-Origin"] = origin
            answer["Access-Control-Allow-Methods"] = self._METHODS
            answer["Access-Control-Allow-Headers"] = self._ALLOWED
            answer["Access-Control-Max-Age"] = "600"
            answer["Vary"] = "Origin"
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return

        async def opened(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.add_vary_header("Origin")
                if allowed:
                    answer["Access-Control-Allow-Origin"] = origin
                    answer["Access-Control-Expose-Headers"] = self._EXPOSED
            await send(message)

        await self._app(scope, receive, opened)
