"""Looking into and stepping through the pipeline of a world: what its rows say, and one boundary at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from sqlalchemy import text
from typing_extensions import override

from meta_sync.core.db import Database
from meta_sync.sandbox.faults import FaultKind, FaultSpec
from meta_sync.sync import lease as leases
from meta_sync.sync.claim import Plan, apply_plan, plan_turn
from meta_sync.sync.context import StoreContext
from meta_sync.sync.drain import database_time
from meta_sync.sync.lease import Lease
from meta_sync.sync.models import OpenBatch
from meta_sync.sync.reading import read_ready
from meta_sync.sync.ticks import Pipeline
from tests.support.world import World

__all__ = [
    "Gate",
    "Turn",
    "arm",
    "assert_sums",
    "assert_tidy",
    "before_claim",
    "execute",
    "fetch",
    "follow_due",
    "gated",
    "one",
]


async def fetch(source: World | Database, sql: str, **values: Any) -> list[tuple[Any, ...]]:
    """Rows of a query across stores."""
    database = source.database if isinstance(source, World) else source
    async with database.platform() as connection:
        return [tuple(row) for row in (await connection.execute(text(sql), values)).all()]


async def one(source: World | Database, sql: str, **values: Any) -> Any:
    """The only row of a query; its value when it has a single one."""
    rows = await fetch(source, sql, **values)
    assert len(rows) == 1, rows
    return rows[0][0] if len(rows[0]) == 1 else rows[0]


async def execute(source: World | Database, sql: str, **values: Any) -> None:
    """A statement across stores, committed."""
    database = source.database if isinstance(source, World) else source
    async with database.platform() as connection:
        await connection.execute(text(sql), values)


def arm(world: World, kind: str, **fields: Any) -> None:
    """Let the sandbox misbehave."""
    world.sandbox.faults.add(FaultSpec(kind=FaultKind(kind), **fields))


class Turn:
    """One turn of the world's store taken apart: lease, read and plan, claim."""

    def __init__(self, world: World, lease: Lease, context: StoreContext, plan: Plan) -> None:
        self.world = world
        self.lease = lease
        self.context = context
        self.plan = plan

    @classmethod
    async def begin(cls, world: World, *, owner: str = "turn", may_send: bool = True) -> Turn:
        """Take the lease, read what is ready and decide about it."""
        async with world.database.platform() as connection:
            await leases.beat(connection, owner, version="test", queue="test")
            lease = await leases.take(connection, owner)
        assert lease is not None, "the store is not due"
        context = await world.context()
        async with world.database.platform() as connection:
            link_id = context.access.link.link_id
            ready = await read_ready(connection, world.store_id, link_id, limit=context.settings.batch_size)
            now = await database_time(connection)
        return cls(world, lease, context, plan_turn(ready, context, now=now, may_send=may_send))

    async def claim(self) -> OpenBatch | None:
        """Apply the plan and commit."""
        async with self.world.database.platform() as connection:
            return await apply_plan(connection, self.context, self.lease, self.plan, deadline_seconds=3)

    async def end(self) -> None:
        """Give the store back, due at once."""
        async with self.world.database.platform() as connection:
            await leases.release(connection, self.lease, again=True, next_look=None)


def before_claim(pipeline: Pipeline, action: Callable[[], Awaitable[Any]]) -> None:
    """Do something once, after the next turn has read and decided and before it locks a row."""
    drain: Any = pipeline._drain
    claim = drain._claim

    async def hooked(*args: Any) -> Any:
        drain._claim = claim
        await action()
        return await claim(*args)

    drain._claim = hooked


class Gate:
    """Holds an answer (or its loss) back until it is opened. ``reached`` is set when the call has been carried out."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()


class _Gated(httpx.AsyncBaseTransport):
    def __init__(self, inner: httpx.AsyncBaseTransport, edge: str, gate: Gate) -> None:
        self._inner = inner
        self._edge = edge
        self._gate: Gate | None = gate

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._gate is None or not request.url.path.endswith(self._edge):
            return await self._inner.handle_async_request(request)
        gate, self._gate = self._gate, None
        try:
            return await self._inner.handle_async_request(request)
        finally:
            gate.reached.set()
            await gate.opened.wait()


def gated(world: World, edge: str = "items_batch") -> Gate:
    """Hold back the answer of the next call to an edge, for pipelines made from now on."""
    gate = Gate()
    world.http = httpx.AsyncClient(transport=_Gated(world.http._transport, edge, gate))
    return gate


async def follow_due(pipeline: Pipeline) -> None:
    """Follow everything that is due until nothing is."""
    while await pipeline.poll_tick():
        pass


_REAL_COUNTS = """
    SELECT link_id, status AS name, count(*) AS value FROM sync_state GROUP BY 1, 2
    UNION ALL SELECT 0, 'intents', count(*) FROM intents
    UNION ALL SELECT 0, 'variants', count(*) FROM variants WHERE deleted_at IS NULL
    UNION ALL SELECT 0, 'products', count(*) FROM products WHERE deleted_at IS NULL
"""
_COUNTED = """
    SELECT link_id, name, sum(value)::bigint FROM (
        SELECT link_id, name, value FROM counters UNION ALL SELECT link_id, name, delta FROM counter_deltas
    ) AS c GROUP BY 1, 2
"""


async def assert_sums(world: World) -> None:
    """What must hold at any instant: every statement below is one snapshot."""
    wrong = await fetch(
        world,
        """
        SELECT b.batch_id, b.state, b.sent, b.accepted, b.rejected, b.unknown,
            count(i.variant_id), count(*) FILTER (WHERE i.outcome = 'rejected'),
            count(*) FILTER (WHERE i.outcome = 'unknown')
        FROM batches AS b LEFT JOIN batch_items AS i USING (created_on, batch_id)
        WHERE b.state = 'over' GROUP BY b.batch_id
        HAVING b.accepted + b.rejected + b.unknown <> b.sent
            OR b.sent NOT IN (count(i.variant_id), b.rejected)
            OR b.rejected <> count(*) FILTER (WHERE i.outcome = 'rejected')
            OR b.unknown <> count(*) FILTER (WHERE i.outcome = 'unknown')
        """,
    )
    assert not wrong, wrong
    lost = await fetch(
        world,
        """
        SELECT s.variant_id, s.in_flight, b.state FROM sync_state AS s LEFT JOIN batches AS b ON b.batch_id = s.in_flight
        WHERE s.in_flight IS NOT NULL AND (b.state IS NULL OR b.state NOT IN ('sending', 'open', 'unknown')
            OR NOT EXISTS (SELECT FROM batch_items AS i WHERE i.batch_id = b.batch_id AND i.variant_id = s.variant_id))
        """,
    )
    assert not lost, f"in flight under a batch that will not settle them: {lost}"
    twice = await fetch(
        world,
        """
        SELECT i.link_id, i.variant_id, array_agg(b.batch_id) FROM batch_items AS i JOIN batches AS b USING (batch_id)
        WHERE b.state IN ('sending', 'open', 'unknown') AND i.outcome IS NULL GROUP BY 1, 2 HAVING count(*) > 1
        """,
    )
    assert not twice, f"under way twice: {twice}"
    parked = await fetch(
        world,
        """
        SELECT i.variant_id, i.parked_by FROM intents AS i WHERE i.parked_by IS NOT NULL
          AND NOT EXISTS (SELECT FROM sync_state AS s WHERE s.in_flight = i.parked_by AND s.variant_id = i.variant_id)
        """,
    )
    assert not parked, f"parked for ever: {parked}"
    both = await fetch(
        world, "SELECT variant_id FROM sync_state WHERE in_flight IS NOT NULL AND retry_at IS NOT NULL"
    )
    assert not both, f"in flight and to be tried again: {both}"
    mixed = await fetch(
        world,
        f"""
        SELECT coalesce(r.link_id, c.link_id), coalesce(r.name, c.name), r.value, c.sum
        FROM ({_REAL_COUNTS}) AS r FULL JOIN ({_COUNTED}) AS c ON c.link_id = r.link_id AND c.name = r.name
        WHERE coalesce(r.value, 0) <> coalesce(c.sum, 0)
        """,
    )
    assert not mixed, f"counted wrongly: {mixed}"


async def assert_tidy(world: World) -> None:
    """``World.assert_right`` and ``assert_sums``, and nothing kept that is of no use any more."""
    await world.assert_right()
    await assert_sums(world)
    assert await one(world, "SELECT count(*) FROM batches WHERE state = 'over' AND body IS NOT NULL") == 0
