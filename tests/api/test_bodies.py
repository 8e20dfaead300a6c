"""Bodies that are too large, too slow or never end: bounded, told why, and over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx
import pytest
import uvicorn
from typing_extensions import override

from meta_sync.api.body_guard import BodyLimits
from meta_sync.api.protocol import GuardedProtocol
from tests.support.api import Api, Caller, assert_error, open_api, product_body
from tests.support.world import World

LIMITS = BodyLimits(
    default_bytes=20_000,
    batch_bytes=60_000,
    upload_bytes=200_000,
    stall_seconds=0.4,
    allowance_seconds=0.8,
    bytes_per_second=1_000_000,
)


class QuickProtocol(GuardedProtocol):
    head_seconds = 0.4


class Server(uvicorn.Server):
    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Live:
    """The app behind a real socket."""

    api: Api
    port: int
    headers: dict[str, str]

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    def head(self, method: str, path: str, *more: str) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: api", *(f"{k}: {v}" for k, v in self.headers.items())]
        return ("\r\n".join([*lines, "Content-Type: application/json", *more]) + "\r\n\r\n").encode()


@pytest.fixture
async def live(world: World) -> AsyncIterator[Live]:
    async with open_api(world, limits=LIMITS) as api:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            config = uvicorn.Config(
                api.app, loop="none", http=QuickProtocol, ws="none", log_config=None, access_log=False, lifespan="off"
            )  # fmt: skip
            server = Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
                await asyncio.sleep(0.005)
            caller = await api.caller()
            yield Live(api, listener.getsockname()[1], caller.headers)
            server.should_exit = True
            server.force_exit = True
            await serving


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], dict[str, object]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status = int(head.split(" ", 2)[1])
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.splitlines()[1:] if line)
    }
    return status, headers, json.loads(await reader.readexactly(int(headers["content-length"])))


async def test_the_limit_by_declared_length(live: Live) -> None:
    reader, writer = await live.open()
    writer.write(live.head("PUT", "/catalog/products/p", "Content-Length: 50000000", "Expect: 100-continue"))
    status, headers, body = await asyncio.wait_for(answer(reader), 2)
    assert (status, body["errorCode"]) == (413, "PAYLOAD_TOO_LARGE")
    assert headers["connection"] == "close"
    assert await reader.read() == b""
    writer.close()


async def test_the_limit_while_streaming(live: Live) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(10_000):
            yield b" " * 1_000

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{live.port}", headers=live.headers) as http:
        response = await http.put(
            "/catalog/products/p", content=endless(), headers={"Content-Type": "application/json"}
        )
        assert_error(response, 413, "PAYLOAD_TOO_LARGE")
        assert "20000 bytes" in response.json()["message"]
        assert response.json()["message"].endswith("Catalogs of any size go to /catalog/imports.")


async def test_the_limit_of_batches_and_imports_is_their_own(live: Live) -> None:
    products = [{"id": f"p{n}", **product_body(f"v{n}", description="x" * 300)} for n in range(60)]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{live.port}", headers=live.headers) as http:
        response = await http.post("/catalog/products/batch", json={"products": products})
        assert response.status_code == 200, response.text
        assert response.json()["data"]["accepted"] == 60
        body = "id,title\n" + "1,x\n" * 40_000
        response = await http.post(
            "/catalog/imports?format=google-csv", content=body, headers={"Content-Type": "text/csv"}
        )
        assert response.status_code == 202, response.text
        response = await http.post(
            "/catalog/imports?format=google-csv", content=body * 3, headers={"Content-Type": "text/csv"}
        )
        assert_error(response, 413, "PAYLOAD_TOO_LARGE")
        assert response.json()["message"].endswith("Compress the file with gzip, or send it in parts.")


async def test_a_sender_that_stops(live: Live) -> None:
    reader, writer = await live.open()
    writer.write(live.head("PUT", "/catalog/products/p", "Content-Length: 100") + b'{"title"')
    status, headers, body = await asyncio.wait_for(answer(reader), 8)
    assert (status, body["errorCode"]) == (400, "BAD_REQUEST")
    assert "slowly" in str(body["message"])
    assert headers["connection"] == "close"
    writer.close()


async def test_a_sender_that_drips(live: Live) -> None:
    reader, writer = await live.open()
    writer.write(live.head("PUT", "/catalog/products/p", "Transfer-Encoding: chunked"))

    async def drip() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"1\r\n \r\n")
                await writer.drain()
                await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    status, _, body = await asyncio.wait_for(answer(reader), 10)
    assert (status, body["errorCode"]) == (400, "BAD_REQUEST")
    dripping.cancel()
    writer.close()


async def test_a_head_that_drips_and_a_silent_socket(live: Live) -> None:
    silent, silent_writer = await live.open()
    reader, writer = await live.open()

    async def drip() -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(b"GET /health/live HTTP/1.1\r\n")
            while True:
                writer.write(b"X-A: b\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 3) == b""
    assert await asyncio.wait_for(silent.read(), 3) == b""
    dripping.cancel()
    writer.close()
    silent_writer.close()


async def test_a_head_that_is_too_long(live: Live) -> None:
    reader, writer = await live.open()
    writer.write(b"GET /health/live HTTP/1.1\r\nX-A: " + b"a" * 200_000)
    status, _, body = await asyncio.wait_for(answer(reader), 3)
    assert (status, body["errorCode"]) == (400, "BAD_REQUEST")
    writer.close()


async def test_what_is_not_http_at_all(live: Live) -> None:
    reader, writer = await live.open()
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    status, _, body = await asyncio.wait_for(answer(reader), 3)
    assert (status, body["errorCode"]) == (400, "BAD_REQUEST")
    writer.close()


async def test_a_connection_serves_again_after_an_early_answer(live: Live) -> None:
    """A refused caller's body is read away, so that the next request on the connection is understood."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{live.port}") as http:
        refused = await http.put("/catalog/products/p", json=product_body(description="x" * 10_000))
        assert_error(refused, 401, "UNAUTHORIZED")
        assert "connection" not in refused.headers
        served = await http.get("/catalog/products", headers=live.headers)
        assert served.status_code == 200


async def test_a_sender_that_goes_away_leaves_nothing(live: Live) -> None:
    _, writer = await live.open()
    writer.write(live.head("PUT", "/catalog/products/p", "Content-Length: 100") + b'{"title"')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    caller = Caller(live.api.http, live.headers)
    assert_error(await caller.get("/catalog/products/p"), 404, "NOT_FOUND")
