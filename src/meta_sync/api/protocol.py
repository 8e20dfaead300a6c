"""uvicorn's HTTP protocol with bounds on the head of a request, which an app never gets to see.

Without them a sender that drips its headers, or says nothing at all, holds a connection for ever, and a head of any
size is taken into memory.
"""

from __future__ import annotations

import asyncio
import secrets
from asyncio.events import TimerHandle

import orjson
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["GuardedProtocol"]


class GuardedProtocol(HttpToolsProtocol):
    """Closes connections whose next request does not show its head in time and within bounds."""

    head_seconds = 10.0
    """From the connection, or from the first byte of a further request, to the end of its headers."""
    head_bytes = 64 * 1024
    """Room for a token, a traceparent and everything proxies add; a head beyond it is no client's."""

    _deadline: TimerHandle | None = None
    _in_head = True
    _bytes = 0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        super().connection_made(transport)
        self._arm()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._bytes += len(data)
        super().data_received(data)
        # Counted before it is known where the head ends, judged after: a body in the same packet is no fault.
        if self._in_head and self._bytes > self.head_bytes and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._deadline is None:
            self._arm()

    @override
    def on_headers_complete(self) -> None:
        self._disarm()
        self._in_head = False
        super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        self._in_head = True
        self._bytes = 0
        super().on_message_complete()

    @override
    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be read as HTTP in the same envelope as everything else, and close."""
        body = {
            "message": msg,
            "statusCode": 400,
            "errorCode": "BAD_REQUEST",
            "details": [],
            "requestId": f"req_{secrets.token_hex(12)}",
        }
        content = orjson.dumps(body)
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"x-request-id: {body['requestId']}\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.head_seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
