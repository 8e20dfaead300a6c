"""A proxy on loopback between a client and a server that makes the network misbehave, on request and in the test's loop.

It knows no protocol. Never wait for a process that talks through it with a blocking call: the proxy runs in the same
event loop as the test and would stand still with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import Literal, Self

__all__ = ["Cut", "Mode", "TcpProxy"]

Mode = Literal["pass", "blackhole", "reset", "refuse"]
"""``pass`` forwards. ``blackhole`` takes connections and bytes and answers nothing; what it held goes on when it is
``pass`` again, as after a partition. ``reset`` cuts every connection there is and each new one at once. ``refuse`` cuts
them too and listens no more."""

When = Literal["before", "after", "hang"]

_CHUNK_BYTES = 65536


@dataclass(eq=False)
class Cut:
    """Strikes when a pattern passes towards the server.

    ``before``: the server never sees the chunk with the pattern. ``after``: it gets the chunk and carries it out, and the
    client never sees the answer. ``hang``: nothing is cut, but from this chunk on nothing passes on any connection.
    """

    pattern: bytes
    when: When
    skip: int
    struck: asyncio.Event = field(default_factory=asyncio.Event)


class TcpProxy:
    """Listens on a free port of 127.0.0.1 and forwards to one server; an asynchronous context manager.

    Parameters
    ----------
    host, port
        The server. A host that begins with ``/`` is the path of its Unix socket, and the port is not used.

    Attributes
    ----------
    delay_seconds
        Before each chunk goes on, either way.
    connections
        How many were accepted so far.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        self._host = host
        self._upstream_port = port
        self.port = 0
        self.delay_seconds = 0.0
        self.connections = 0
        self._mode: Mode = "pass"
        self._passing = asyncio.Event()
        self._passing.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._cuts: list[Cut] = []
        self._answer_bytes_left: int | None = None

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close_listener()
        self.cut_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def mode(self) -> Mode:
        """What happens to connections now; see ``Mode``. After ``refuse``, go back with ``listen_again``."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        if self._server is None and mode != "refuse":
            raise RuntimeError("the proxy does not listen: await listen_again() first")
        self._mode = mode
        if mode == "pass":
            self._passing.set()
        else:
            self._passing.clear()
        if mode == "refuse":
            self._close_listener()
        if mode in ("reset", "refuse"):
            self.cut_all()

    async def listen_again(self) -> None:
        """End ``refuse``: listen on the same port and forward."""
        if self._server is None:
            await self._listen()
        self.mode = "pass"

    def cut_on(self, pattern: bytes, *, when: When = "before", skip: int = 0) -> Cut:
        """Cut the connection on which the pattern passes towards the server next, once.

        ``skip`` passages go through first. Await ``struck`` of what is returned to know that it happened.
        """
        cut = Cut(pattern, when, skip)
        self._cuts.append(cut)
        return cut

    def hang_on(self, pattern: bytes) -> Cut:
        """Become a blackhole when the pattern is about to pass towards the server."""
        cut = Cut(pattern, "hang", 0)
        self._cuts.append(cut)
        return cut

    def cut_after_answer_bytes(self, count: int) -> None:
        """Cut the connection on which that many further bytes have come from the server, all connections counted."""
        self._answer_bytes_left = count

    def cut_all(self) -> None:
        """Reset every connection there is."""
        for writer in list(self._open):
            _reset(writer)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self._open.add(writer)
        try:
            # Cancelled only by our own end, which waits for the task and wants no report of it.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._open.discard(writer)
            _reset(writer)
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode in ("reset", "refuse"):
            return
        server_reader, server_writer = await self._connect()
        upward = asyncio.create_task(self._upward(reader, server_writer, writer))
        downward = asyncio.create_task(self._downward(server_reader, writer))
        try:
            # The server's end closes the connection; the client's only says that nothing more will be asked.
            done, _ = await asyncio.wait([upward, downward], return_when=asyncio.FIRST_COMPLETED)
            if upward in done and upward.exception() is None and not upward.result():
                await downward
        finally:
            server_writer.close()
            for task in (upward, downward):
                task.cancel()
            await asyncio.gather(upward, downward, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._host.startswith("/"):
            return await asyncio.open_unix_connection(self._host)
        return await asyncio.open_connection(self._host, self._upstream_port)

    async def _upward(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> bool:
        """Forward what the client says; whether the connection was cut."""
        tail = b""
        while data := await reader.read(_CHUNK_BYTES):
            await self._held()
            cut = self._struck(tail, data)
            if cut is not None and cut.when == "hang":
                self.mode = "blackhole"
                cut.struck.set()
                await self._held()
                cut = None
            if cut is not None and cut.when == "before":
                _reset(client)
                cut.struck.set()
                return True
            server.write(data)
            await server.drain()
            if cut is not None:
                # The server reads to the end and answers into the void: what it was told is carried out.
                _reset(client)
                if server.can_write_eof():
                    server.write_eof()
                cut.struck.set()
                return False
            tail = (tail + data)[-256:]
        if server.can_write_eof():
            server.write_eof()
        return False

    async def _downward(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while data := await server.read(_CHUNK_BYTES):
            await self._held()
            if client not in self._open or client.is_closing():
                continue
            if self._answer_bytes_left is not None:
                data = data[: self._answer_bytes_left]
                self._answer_bytes_left -= len(data)
            client.write(data)
            await client.drain()
            if self._answer_bytes_left == 0:
                self._answer_bytes_left = None
                return

    async def _held(self) -> None:
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        await self._passing.wait()

    def _struck(self, tail: bytes, data: bytes) -> Cut | None:
        for cut in self._cuts:
            # Only what ends in the new chunk counts: the tail was looked through before.
            seen = tail[-(len(cut.pattern) - 1) :] + data if len(cut.pattern) > 1 else data
            if cut.pattern not in seen:
                continue
            if cut.skip > 0:
                cut.skip -= 1
                continue
            self._cuts.remove(cut)
            return cut
        return None


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with an RST, as a host does that has died and come back."""
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.is_closing():
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(RuntimeError):
        writer.transport.abort()
