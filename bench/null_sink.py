"""A Graph API that costs nothing: it counts what is posted, answers a handle, and calls every handle finished.

Run it as ``python -m bench.null_sink``; the first line it prints is its port. It stays until standard input closes.
While it records, it also reads the items out of every body, so that two programs can be held to the same ones; that
costs time, so recorded passes are not counted.
"""

from __future__ import annotations

import asyncio
import sys
from hashlib import sha256
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import msgspec
import uvloop
from typing_extensions import override

__all__ = ["Counts", "NullSink"]


class _Body(msgspec.Struct):
    requests: list[_Record]


class _Record(msgspec.Struct):
    method: str
    data: msgspec.Raw


_decode = msgspec.json.Decoder(_Body).decode


class Counts:
    """What was posted since the last look."""

    def __init__(self) -> None:
        self.calls = 0
        self.body_bytes = 0
        self.items: list[bytes] = []
        self.is_recording = False
        self.handles = 0

    def add(self, body: bytes | None, length: int) -> bytes:
        """Count one posted body; returns the answer."""
        self.calls += 1
        self.body_bytes += length
        self.handles += 1
        if body is not None:
            self.items += [sha256(bytes(record.data)).digest() for record in _decode(body).requests]
        return b'{"handles":["h%d"]}' % self.handles

    def take(self, *, record: bool) -> dict[str, Any]:
        """The counts, which begin anew; from now on items are recorded or not."""
        digest = sha256(b"".join(sorted(self.items))).hexdigest()
        said = {
            "calls": self.calls,
            "body_bytes": self.body_bytes,
            "items": len(self.items),
            "digest": digest,
        }
        self.calls = self.body_bytes = 0
        self.items = []
        self.is_recording = record
        return said


class NullSink(asyncio.Protocol):
    """One connection. Knows just enough HTTP/1.1 for clients that are our own."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._head = b""
        self._target = ""
        self._left = -1
        self._length = 0
        self._chunks: list[bytes] = []

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self._head = b""
            self._begin(head)
        self._left -= len(data)
        if self._counts.is_recording:
            self._chunks.append(data)
        if self._left <= 0:
            self._left = -1
            self._end()

    def _begin(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        self._target = lines[0].split(b" ")[1].decode()
        lengths = [line[15:] for line in lines if line[:15].lower() == b"content-length:"]
        self._left = self._length = int(lengths[0]) if lengths else 0

    def _end(self) -> None:
        path = urlsplit(self._target).path
        if path == "/bench/take":
            answer = msgspec.json.encode(self._counts.take(record=self._target.endswith("record")))
        elif path.endswith("/check_batch_request_status"):
            handle = parse_qs(urlsplit(self._target).query)["handle"][0]
            answer = _finished(handle)
        else:
            body = b"".join(self._chunks) if self._counts.is_recording else None
            answer = self._counts.add(body, self._length)
        self._chunks = []
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
            answer
        )
        self._transport.write(head + answer)


def _finished(handle: str) -> bytes:
    report = {
        "handle": handle,
        "status": "finished",
        "errors": [],
        "errors_total_count": 0,
        "warnings": [],
        "warnings_total_count": 0,
        "ids_of_invalid_requests": [],
    }
    return msgspec.json.encode({"data": [report]})


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    counts = Counts()
    server = await loop.create_server(lambda: NullSink(counts), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(_serve())
