"""Bounds on what a sender may do with a request body: how long, how slow, in what coding. Pure ASGI.

uvicorn has no deadline for a body and FastAPI no limit of its size. A body is never held here: it is counted on its
way through, and a fault is raised where the endpoint reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meta_sync.core.errors import InvalidRequestError, PayloadTooLargeError, UnsupportedMediaTypeError

__all__ = ["BodyGuard", "BodyLimits"]

MEBIBYTE = 1024 * 1024
_DRAIN_BYTES = 64 * MEBIBYTE
_DRAIN_SECONDS = 5.0
_IMPORTS = "/catalog/imports"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How long and how slow a body may be."""

    default_bytes: int = 10 * MEBIBYTE
    batch_bytes: int = 32 * MEBIBYTE
    upload_bytes: int = 512 * MEBIBYTE
    stall_seconds: float = 10.0
    """Longest wait for the next piece."""
    allowance_seconds: float = 30.0
    """Time that any body may take; beyond it the sender must have kept up ``bytes_per_second`` on average."""
    bytes_per_second: int = 64 * 1024

    def of(self, scope: Scope) -> int:
        """The size limit at the request's address, in bytes."""
        path = scope["path"]
        if path == _IMPORTS:
            return self.upload_bytes
        takes_many = path.endswith("/batch") or path == "/catalog/events"
        return self.batch_bytes if takes_many else self.default_bytes


class BodyGuard:
    """Middleware that hands the body on under the limits, and takes leave of the sender in good order."""

    def __init__(self, app: ASGIApp, limits: BodyLimits, clock: Callable[[], float] | None = None) -> None:
        self._app = app
        self._limits = limits
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        clock = self._clock or asyncio.get_running_loop().time
        body = _Body(scope, receive, self._limits, clock)
        await self._app(scope, body.receive, body.leaving(send))


class _Body:
    """One request's body on its way through."""

    def __init__(
        self, scope: Scope, receive: Receive, limits: BodyLimits, clock: Callable[[], float]
    ) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        self._receive = receive
        self._limits = limits
        self._clock = clock
        self._limit_bytes = limits.of(scope)
        self._takes_files = scope["path"] == _IMPORTS
        self._began = clock()
        self._bytes = 0
        declared = headers.get(b"content-length", b"").decode("latin-1")
        self._declared_bytes = int(declared) if declared.isascii() and declared.isdigit() else None
        self._complete = not self._declared_bytes and b"transfer-encoding" not in headers
        coding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
        self._coding = "" if coding in {"identity", ""} or self._complete else coding
        # Such a sender waits for our word before it sends anything: there is nothing to drain.
        self._held_back = headers.get(b"expect", b"").lower() == b"100-continue"

    async def receive(self) -> Message:
        """The next piece, or the fault that keeps it from going on."""
        if self._coding:
            raise UnsupportedMediaTypeError(
                f"Compressed bodies are not read here (Content-Encoding: {self._coding[:40]}). Send the body as it is."
            )
        if self._declared_bytes is not None and self._declared_bytes > self._limit_bytes:
            raise self._too_large()
        message = await self._next(self._limits.stall_seconds)
        if self._bytes > self._limit_bytes:
            raise self._too_large()
        return message

    async def _next(self, wait_seconds: float) -> Message:
        if self._complete:
            return await self._receive()
        self._held_back = False
        earned = self._bytes / self._limits.bytes_per_second
        left = self._began + self._limits.allowance_seconds + earned - self._clock()
        try:
            async with asyncio.timeout(max(0.0, min(wait_seconds, left))):
                message = await self._receive()
        except TimeoutError:
            raise InvalidRequestError(
                "The body came too slowly and was given up. Send it without pauses, at 64 KiB per second or more."
            ) from None
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
        elif message["type"] == "http.disconnect":
            self._complete = True
            raise ClientDisconnect
        return message

    def leaving(self, send: Send) -> Send:
        """A ``send`` that first lets the sender finish within bounds, so that it can read an early answer.

        Closing a connection with unread bytes makes the kernel reset it, and the sender never sees why.
        """

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start" and not self._complete:
                await self._drain()
                if not self._complete:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        return guarded

    async def _drain(self) -> None:
        if self._held_back:
            return
        until = self._clock() + _DRAIN_SECONDS
        most = self._bytes + _DRAIN_BYTES
        try:
            while not self._complete and self._bytes < most and self._clock() < until:
                await self._next(until - self._clock())
        except (InvalidRequestError, ClientDisconnect):
            return

    def _too_large(self) -> PayloadTooLargeError:
        size = (
            f"{self._limit_bytes // MEBIBYTE} MiB"
            if self._limit_bytes >= MEBIBYTE
            else f"{self._limit_bytes} bytes"
        )
        advice = (
            "Compress the file with gzip, or send it in parts."
            if self._takes_files
            else "Catalogs of any size go to /catalog/imports."
        )
        return PayloadTooLargeError(f"The body is larger than the {size} that this address takes. {advice}")
