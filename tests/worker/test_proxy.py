"""The proxy of the fault tests itself: what it forwards, holds and cuts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.support.proxy import TcpProxy


class Echo:
    """A server that keeps what it was told and says it again."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.changed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                self.heard.append(data)
                self.changed.set()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def hears(self, data: bytes) -> None:
        async with asyncio.timeout(2):
            while data not in self.heard:
                self.changed.clear()
                await self.changed.wait()


class Client:
    """One connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def says(self, data: bytes, answer: bytes | None = None) -> None:
        self.writer.write(data)
        async with asyncio.timeout(2):
            assert await self.reader.readexactly(len(data)) == (answer or data)

    async def is_cut(self) -> None:
        async with asyncio.timeout(2):
            try:
                with contextlib.suppress(ConnectionResetError):
                    assert await self.reader.read(1) == b""
            finally:
                self.writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, TcpProxy]]:
    echo = Echo()
    async with (
        await asyncio.start_server(echo.serve, "127.0.0.1", 0) as server,
        TcpProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy,
    ):
        yield echo, proxy


async def _connect(proxy: TcpProxy) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", proxy.port))


async def test_what_a_blackhole_holds_goes_on_afterwards(echo: tuple[Echo, TcpProxy]) -> None:
    _, proxy = echo
    client = await _connect(proxy)
    await client.says(b"one")
    proxy.mode = "blackhole"
    client.writer.write(b"two")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.reader.read(1)
    proxy.mode = "pass"
    async with asyncio.timeout(2):
        assert await client.reader.readexactly(3) == b"two"
    client.writer.close()


async def test_a_cut_before_keeps_the_pattern_from_the_server(echo: tuple[Echo, TcpProxy]) -> None:
    server, proxy = echo
    client = await _connect(proxy)
    await client.says(b"first")
    cut = proxy.cut_on(b"COMMIT")
    client.writer.write(b"COMMIT")
    await client.is_cut()
    assert cut.struck.is_set()
    assert server.heard == [b"first"]


async def test_a_cut_after_loses_only_the_answer(echo: tuple[Echo, TcpProxy]) -> None:
    server, proxy = echo
    client = await _connect(proxy)
    cut = proxy.cut_on(b"COMMIT", when="after", skip=1)
    await client.says(b"COMMIT")
    # Split over two packets.
    await client.says(b"COM")
    client.writer.write(b"MIT")
    await client.is_cut()
    assert cut.struck.is_set()
    await server.hears(b"MIT")


async def test_an_answer_is_cut_at_a_byte(echo: tuple[Echo, TcpProxy]) -> None:
    _, proxy = echo
    client = await _connect(proxy)
    proxy.cut_after_answer_bytes(2)
    client.writer.write(b"abc")
    async with asyncio.timeout(2):
        # The reset may overtake what came before it.
        with contextlib.suppress(ConnectionResetError):
            assert await client.reader.readexactly(2) == b"ab"
    await client.is_cut()


async def test_refused_and_reset_connections(echo: tuple[Echo, TcpProxy]) -> None:
    _, proxy = echo
    client = await _connect(proxy)
    await client.says(b"there")
    proxy.mode = "refuse"
    await client.is_cut()
    with pytest.raises(ConnectionRefusedError):
        await _connect(proxy)
    await proxy.listen_again()
    client = await _connect(proxy)
    await client.says(b"again")
    proxy.mode = "reset"
    await client.is_cut()
    await (await _connect(proxy)).is_cut()
    proxy.mode = "pass"
    client = await _connect(proxy)
    await client.says(b"back")
    client.writer.close()
