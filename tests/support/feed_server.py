"""A web server of the test on its own machine, down to the bytes: it can lie about lengths, stop half-way and dawdle."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from meta_sync.core.outbound import OutboundClient, OutboundTiming
from meta_sync.core.outbound_address import IpAddress

__all__ = ["Answer", "FeedServer", "Heard", "feed_server", "plain", "redirect"]


@dataclass(frozen=True)
class Heard:
    """One request as it came in."""

    path: str
    headers: Mapping[str, str]


Answer = bytes | Sequence[bytes | float] | Callable[[Heard], "Answer | Awaitable[Answer]"]
"""Bytes to send, pieces with pauses in seconds between them, or what makes one of both."""


@dataclass
class FeedServer:
    """Answers by path. Names in its resolver lead to it."""

    port: int
    answers: dict[str, Answer] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)
    looked_up: list[str] = field(default_factory=list)
    scheme: str = "http"

    def url(self, path: str = "/feed.csv", host: str = "shop.example") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    async def resolve(self, host: str, _: int) -> list[str]:
        self.looked_up.append(host)
        if host not in self.names:
            raise OSError("no such name")
        return self.names[host]

    def client(self, tls: ssl.SSLContext | None = None, **timing: float) -> OutboundClient:
        """The client of production, let to this server and to public addresses, of which none is asked."""
        return OutboundClient(
            resolve=self.resolve,
            is_allowed=lets_loopback_in,
            ports={self.port},
            timing=OutboundTiming(**{"connect_seconds": 2.0, "read_seconds": 2.0, **timing}),
            tls=tls,
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = [line.partition(":") for line in head[1:] if line]
            heard = Heard(head[0].split(" ")[1], {name.lower(): value.strip() for name, _, value in fields})
            self.heard.append(heard)
            answer = self.answers.get(heard.path.partition("?")[0], plain(b"nothing", 404))
            while callable(answer):
                made = answer(heard)
                answer = await made if isinstance(made, Awaitable) else made
            for piece in [answer] if isinstance(answer, bytes) else answer:
                if isinstance(piece, bytes):
                    writer.write(piece)
                    await writer.drain()
                else:
                    await asyncio.sleep(piece)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def lets_loopback_in(address: IpAddress) -> bool:
    """The rule of the tests: this machine's 127.0.0.1 stands for the public internet, everything else does not."""
    return address == ipaddress.ip_address("127.0.0.1")


def plain(body: bytes, status: int = 200, **headers: str) -> bytes:
    """A whole answer with its length."""
    lines = [f"HTTP/1.1 {status} Word", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if status in {204, 304} else body)


def redirect(location: str, status: int = 302) -> bytes:
    """An answer that leads elsewhere."""
    return plain(b"", status, Location=location)


@asynccontextmanager
async def feed_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[FeedServer]:
    """A server that listens; ``shop.example`` is its name."""
    made = FeedServer(0, names={"shop.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]})
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await made._serve(reader, writer)
        finally:
            writer.transport.abort()
            connections.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    made.scheme = "https" if tls else "http"
    try:
        yield made
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
