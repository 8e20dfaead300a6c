"""Hours of the pipeline within a second: due times are moved into the past instead of being waited for.

Every deadline of the pipeline is a time in the database and is compared with the database's clock, so that moving all of
them back by an hour is the same as an hour that went by. The sandbox's clock goes along.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
from sqlalchemy import text
from typing_extensions import override

from meta_sync.graph.client import GraphClient
from meta_sync.sync.drain import Timing
from meta_sync.sync.ticks import Pipeline
from tests.support.pipeline import fetch, one
from tests.support.world import World

__all__ = [
    "REAL_TIMING",
    "Call",
    "Journey",
    "Wire",
    "answers",
    "graph_error",
    "hurried",
    "line",
    "never_answers",
    "reworded",
    "wired",
]

REAL_TIMING = Timing(call_deadline_seconds=60.0)
"""The waits of production: nobody waits for them here."""

_TABLES = (
    "store_queue",
    "store_pauses",
    "batches",
    "batch_calls",
    "catalog_links",
    "schedules",
    "sync_state",
    "intents",
    "jobs",
)
_MOST_ROUNDS = 400
"""Rounds of ticks that find work at one instant; more of them would be a loop that never ends."""

# What is due by now and was not done waits for something else: an unknown call for its store's next turn, say.
_NEXT_DUE = """
    SELECT extract(epoch FROM min(at) - clock_timestamp())::float FROM (
        SELECT due_at AS at FROM store_queue
        UNION ALL SELECT due_at FROM batches WHERE state <> 'over'
        UNION ALL SELECT hold_until FROM batches WHERE state = 'unknown'
        UNION ALL SELECT retry_at FROM sync_state
    ) AS due WHERE at > clock_timestamp()
"""


async def _no_sleep(_seconds: float) -> None:
    return None


def hurried(world: World, owner: str = "worker-1", *, jitter: Callable[[], float] = lambda: 0.0) -> Pipeline:
    """A pipeline that does not sleep between the tries of one question either."""
    graph = GraphClient(world.http, base_url=world.settings.graph_url, version="v25.0", sleep=_no_sleep)
    return Pipeline(
        world.database,
        graph,
        world.cipher,
        world.settings,
        world.queue,
        owner=owner,
        timing=world.timing,
        jitter=jitter,
    )


class Journey:
    """A pipeline that travels through time; ``elapsed`` counts the seconds that went by."""

    def __init__(self, world: World, pipeline: Pipeline | None = None) -> None:
        self.world = world
        self.pipeline = pipeline or hurried(world)
        self.elapsed = 0.0
        self._began_at = time.monotonic()
        self._columns: list[tuple[Any, ...]] = []

    def now(self) -> float:
        """Seconds since the journey began, the real ones of the test included."""
        return self.elapsed + time.monotonic() - self._began_at

    async def pass_time(self, seconds: float) -> None:
        """Let time go by in which nobody does a thing."""
        if not self._columns:
            self._columns = await fetch(
                self.world,
                "SELECT quote_ident(table_name), quote_ident(column_name) FROM information_schema.columns"
                " WHERE table_schema = 'public' AND table_name = ANY(:tables)"
                " AND data_type = 'timestamp with time zone'",
                tables=list(_TABLES),
            )
        async with self.world.database.platform() as connection:
            for table in _TABLES:
                moved = ", ".join(
                    f"{column} = {column} - make_interval(secs => :seconds)"
                    for owner, column in self._columns
                    if owner == table
                )
                await connection.execute(text(f"UPDATE {table} SET {moved}"), {"seconds": seconds})
        self.world.sandbox.put_clock_forward(seconds)
        self.elapsed += seconds

    async def run_for(self, seconds: float, *, often: Callable[[], Awaitable[Any]] | None = None) -> None:
        """Run the ticks whenever something is due; ``often`` is done at every stop before that."""
        end = self.elapsed + seconds
        while True:
            if often is not None:
                await often()
            wait = await self._work_and_look()
            if self.elapsed + wait >= end:
                await self.pass_time(end - self.elapsed)
                return
            await self.pass_time(wait)

    async def run_until_quiet(self, *, most_seconds: float = 48 * 3600) -> None:
        """Run until nothing is left to do, however long that takes."""
        end = self.elapsed + most_seconds
        while True:
            wait = await self._work_and_look()
            if await self.world.is_quiet():
                return
            if self.elapsed + wait >= end:
                raise AssertionError(f"not quiet after {self.elapsed} s: {await self.world.leftovers()}")
            await self.pass_time(wait)

    async def work(self) -> None:
        """Do all that is due now."""
        for _ in range(_MOST_ROUNDS):
            done = await self.pipeline.drain_tick() + await self.pipeline.poll_tick()
            done += await self.pipeline.jobs_tick()
            await self.pipeline.sweep_tick()
            if not done and not await self._is_due():
                return
        raise AssertionError("the pipeline finds work for ever at one instant")

    async def _work_and_look(self) -> float:
        """Do what is due; the seconds until there is more, infinite where nothing waits."""
        for _ in range(3):
            await self.work()
            wait = await self._until_due()
            if wait is not None:
                return wait
        # What fell due between the work and the look has had its turn by now.
        return math.inf

    async def _until_due(self) -> float | None:
        wait = await one(self.world, _NEXT_DUE)
        return None if wait is None else max(0.0, float(wait)) + 0.001

    async def _is_due(self) -> bool:
        return bool(
            await one(self.world, "SELECT coalesce(bool_or(due_at <= now()), false) FROM store_queue")
        )


# --- What goes over the wire -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One request to Meta as it was made. ``items`` maps ids to what was sent, ``None`` for a delete."""

    at: float
    edge: str
    catalog_id: str
    handle: str | None
    items: dict[str, dict[str, Any] | None]


Answerer = Callable[[httpx.Request], Awaitable[httpx.Response]]


@dataclass
class _Script:
    edge: str | None
    catalog_id: str | None
    handle: str | None
    answerer: Answerer
    left: int | None
    forwards: bool = False


@dataclass
class Wire(httpx.AsyncBaseTransport):
    """Between the client and the sandbox: writes every call down and answers in Meta's stead where it was told to."""

    inner: httpx.AsyncBaseTransport
    calls: list[Call] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic
    scripts: list[_Script] = field(default_factory=list)

    def answer(
        self,
        answerer: Answerer,
        *,
        edge: str | None = None,
        catalog_id: str | None = None,
        handle: str | None = None,
        count: int | None = 1,
        forwards: bool = False,
    ) -> None:
        """Answer matching calls this way; ``forwards`` lets Meta carry them out all the same."""
        self.scripts.append(_Script(edge, catalog_id, handle, answerer, count, forwards))

    def made(self, edge: str | None = None, catalog_id: str | None = None) -> list[Call]:
        """The calls to an edge, oldest first."""
        return [
            one for one in self.calls if edge in (None, one.edge) and catalog_id in (None, one.catalog_id)
        ]

    def posts(self, retailer_id: str) -> list[dict[str, Any] | None]:
        """What was sent for one item, oldest first."""
        return [one.items[retailer_id] for one in self.calls if retailer_id in one.items]

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        call = self._note(request)
        self.calls.append(call)
        for script in self.scripts:
            matches = (
                script.left != 0
                and script.edge in (None, call.edge)
                and script.catalog_id in (None, call.catalog_id)
                and script.handle in (None, call.handle)
            )
            if matches:
                if script.left is not None:
                    script.left -= 1
                if script.forwards:
                    await self.inner.handle_async_request(request)
                return await script.answerer(request)
        return await self.inner.handle_async_request(request)

    def _note(self, request: httpx.Request) -> Call:
        _, _, catalog_id, edge = (*request.url.path.split("/"), "", "")[:4]
        items = {}
        if edge == "items_batch":
            for record in orjson.loads(request.content)["requests"]:
                is_delete = record["method"] == "DELETE"
                items[record["data"]["id"]] = None if is_delete else record["data"]
        return Call(self.clock(), edge, catalog_id, request.url.params.get("handle"), items)


def wired(world: World) -> Wire:
    """Put a wire between the world's pipelines, made from now on, and the sandbox."""
    wire = Wire(world.http._transport)
    world.http = httpx.AsyncClient(transport=wire)
    return wire


def answers(status: int, body: Any, headers: dict[str, str] | None = None) -> Answerer:
    """Always the same answer; bytes go out as they are."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)

    async def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=content, headers=headers)

    return answer


def graph_error(
    code: int, subcode: int | None = None, *, status: int = 400, headers: dict[str, str] | None = None
) -> Answerer:
    """Graph's refusal with a code."""
    error: dict[str, Any] = {"message": f"(#{code}) Refused", "type": "OAuthException", "code": code}
    if subcode is not None:
        error["error_subcode"] = subcode
    return answers(status, {"error": {**error, "fbtrace_id": "AbC"}}, headers)


def never_answers() -> Answerer:
    """The connection stays silent until the caller has had enough."""

    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        raise httpx.ReadTimeout("no answer", request=request)

    return answer


def line(retailer_id: str, message: str) -> dict[str, Any]:
    """One entry of a report's errors or warnings."""
    return {"line": 1, "id": retailer_id, "message": message}


def reworded(wire: Wire, changes: dict[str, Any]) -> Answerer:
    """What the sandbox says of a batch, with other words in it."""

    async def answer(request: httpx.Request) -> httpx.Response:
        response = await wire.inner.handle_async_request(request)
        body = orjson.loads(await response.aread())
        body["data"][0].update(changes)
        return httpx.Response(response.status_code, content=orjson.dumps(body))

    return answer
