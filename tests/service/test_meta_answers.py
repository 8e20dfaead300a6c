"""Answers that are slow, long or worded oddly, partly over a real socket: no slot is held, no memory, no store.

The numbers are those of docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from typing_extensions import override

from meta_sync.core.db import Database
from meta_sync.graph.client import make_http_client
from meta_sync.graph.endpoints.catalog import CatalogEndpoints
from tests.support.journey import REAL_TIMING, Journey, answers, reworded, wired
from tests.support.pipeline import assert_tidy
from tests.support.world import World, open_world, variant
from tests.unit.graph.servers import read_request, serve

_HOUR = 3600.0
_DAY = 24 * _HOUR
_BATCH = "items_batch"
_QUESTION = "check_batch_request_status"
_OTHER_CATALOG = "7100195296700001"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        world.timing = REAL_TIMING
        await world.connect()
        await Journey(world).run_until_quiet()
        yield world


# --- 32, 33: slow, long and odd answers, over a socket ---------------------------------------------------------------


_TRIES = {_BATCH: 1, _QUESTION: 3}
"""A question is asked three times in a row, a call is made once."""


class _ToServer(httpx.AsyncBaseTransport):
    """Sends one edge through the real HTTP client to a server on this machine, then all to the sandbox again."""

    def __init__(self, inner: httpx.AsyncBaseTransport, edge: str, base_url: str) -> None:
        self._inner = inner
        self._edge = edge
        self._base_url = httpx.URL(base_url)
        self._http = make_http_client()
        self.left = _TRIES[edge]

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith(self._edge) or self.left == 0:
            return await self._inner.handle_async_request(request)
        self.left -= 1
        url = request.url.copy_with(
            scheme=self._base_url.scheme, host=self._base_url.host, port=self._base_url.port
        )
        copy = httpx.Request(
            request.method,
            url,
            headers=request.headers,
            content=await request.aread(),
            extensions=request.extensions,
        )
        return await self._http._transport.handle_async_request(copy)

    @override
    async def aclose(self) -> None:
        await self._http.aclose()


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then: every single read succeeds, and the answer never ends."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("edge", [_BATCH, _QUESTION])
async def test_a_dripping_answer_holds_a_slot_no_longer_than_its_deadline(
    world: World, edge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32: every read is in time, the whole is not. The slot is free again and the work goes on."""
    world.timing = replace(REAL_TIMING, call_deadline_seconds=0.4)
    defaults = CatalogEndpoints.batch_status.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "deadline_seconds", 0.4)
    async with serve(_drip) as base_url:
        transport = _ToServer(world.http._transport, edge, base_url)
        world.http = httpx.AsyncClient(transport=transport)
        await world.put("p", variant("a"))
        journey = Journey(world)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await journey.pipeline.drain_tick()
        if edge == _QUESTION:
            await journey.pass_time(10)
            await journey.pipeline.poll_tick()
        assert loop.time() - began < 3
        state = (await world.states())["a"]
        assert (state["status"], state["attempts"]) == ("submitted", 0)
        assert transport.left == 0
        await journey.run_until_quiet()
        await transport.aclose()
    await assert_tidy(world)


_LONG_BYTES = 60_000_000
_BOUND_BYTES = 40_000_000


@pytest.mark.parametrize("status", ["500 Internal Server Error", "400 Bad Request", "200 OK"])
@pytest.mark.parametrize("edge", [_BATCH, _QUESTION])
async def test_a_huge_answer_is_not_read_to_its_end(world: World, edge: str, status: str) -> None:
    """33: memory stays bounded, and what was not read decides nothing."""
    sent = {"bytes": 0}

    async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        sent["bytes"] = 0
        head = f"HTTP/1.1 {status}\r\ncontent-length: {_LONG_BYTES}\r\n\r\n"
        writer.write(head.encode() + b'{"error":{"message":"')
        while sent["bytes"] < _LONG_BYTES:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent["bytes"] += 65_536

    async with serve(pours) as base_url:
        transport = _ToServer(world.http._transport, edge, base_url)
        world.http = httpx.AsyncClient(transport=transport)
        await world.put("p", variant("a"))
        journey = Journey(world)
        tracemalloc.start()
        await journey.pipeline.drain_tick()
        if edge == _QUESTION:
            await journey.pass_time(10)
            await journey.pipeline.poll_tick()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert transport.left == 0
        await transport.aclose()
        assert sent["bytes"] < _LONG_BYTES, "the connection was closed before the end"
    assert peak < _BOUND_BYTES
    state = (await world.states())["a"]
    assert (state["status"], state["attempts"]) == ("submitted", 0)
    await journey.run_until_quiet()
    await assert_tidy(world)


_WORDS = ["SCHEDULED", " Dispatched ", "in_progress", "zebra", "", "FINISHING"]


async def test_status_words_nobody_knows_mean_still_running(world: World) -> None:
    """33: and ``Finished`` in any case is the end."""
    wire = wired(world)
    for word in _WORDS:
        wire.answer(answers(200, {"data": [{"status": word}]}), edge=_QUESTION)
    await world.put("p", variant("a"))
    journey = Journey(world)
    for _ in _WORDS:
        await journey.run_for(20)
    wire.answer(reworded(wire, {"status": "Finished"}), edge=_QUESTION)
    await journey.run_until_quiet()
    assert len(wire.posts("a")) == 1
    assert len(wire.made(_QUESTION)) == len(_WORDS) + 1
    await assert_tidy(world)
