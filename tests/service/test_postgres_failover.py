"""Scenario 39: the database is an older one than a moment ago. It says less than Meta holds, and ``distrust`` mends that.

The copy stands for a replica that lacks the last commits, and for a restored backup alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from meta_sync.core.db import Database
from meta_sync.sync.distrust import DistrustService
from tests.support.database_faults import OwnPostgres, a_minute_later
from tests.support.pipeline import assert_sums, assert_tidy, gated, one
from tests.support.world import World, open_world, variant


@pytest.fixture
async def database(own_postgres: OwnPostgres) -> AsyncIterator[Database]:
    database = Database.connect(own_postgres.url, pool_size=4)
    yield database
    await database.dispose()


@pytest.fixture
async def world(database: Database, own_postgres: OwnPostgres) -> AsyncIterator[World]:
    async with open_world(database, own_postgres.url) as world:
        yield world


async def _copy(world: World, server: OwnPostgres) -> Callable[[], Awaitable[None]]:
    """Keep the data as they are now; what is returned goes back to them."""
    older = f"{server.name}_older"
    await world.database.dispose()
    await asyncio.to_thread(
        server.server.psql, "postgres", f'CREATE DATABASE "{older}" TEMPLATE "{server.name}"'
    )

    async def restore() -> None:
        await world.database.dispose()
        for statement in (
            f'DROP DATABASE "{server.name}" WITH (FORCE)',
            f'ALTER DATABASE "{older}" RENAME TO "{server.name}"',
        ):
            await asyncio.to_thread(server.server.psql, "postgres", statement)

    return restore


async def _distrust(world: World) -> None:
    await DistrustService(world.database, world.queue).distrust(world.store_id, requested_by="test")


async def _differences(world: World) -> set[str]:
    """Ids that Meta holds otherwise than the catalog wants them."""
    wanted, found = await world.wanted(), world.at_meta()
    return {one for one in wanted.keys() | found.keys() if wanted.get(one) != found.get(one)}


async def test_an_older_database_is_distrusted_and_converges(world: World, own_postgres: OwnPostgres) -> None:
    for name in ("same", "edited", "deleted", "put-back"):
        await world.put(name, variant(name, 1000))
    await world.connect()
    await world.run()
    await world.catalog.delete_product(world.store_id, "put-back")
    await world.run()
    await world.put("unsent", variant("unsent", 1000))
    restore = await _copy(world, own_postgres)
    # The commits that get lost: Meta has carried all of it out.
    await world.put("edited", variant("edited", 2000, special_price=1500))
    await world.catalog.delete_product(world.store_id, "deleted")
    await world.put("put-back", variant("put-back", 2000))
    await world.put("unsent", variant("unsent", 2000, special_price=1500))
    await world.put("unheard-of", variant("unheard-of", 2000))
    await world.run()
    await assert_tidy(world)
    await restore()
    # By itself the pipeline sends what waited, and takes the rest as known: promised is only what the rows know.
    await world.run()
    assert await _differences(world) == {"edited", "deleted", "put-back", "unsent", "unheard-of"}
    await _distrust(world)
    await world.run()
    await assert_sums(world)
    # Of what the database never heard of, only reading Meta's side back can know.
    assert await _differences(world) == {"unheard-of"}
    assert (await world.states())["put-back"]["status"] == "deleted"
    # The shop pushes it once more, as it does with everything after a restored backup: nothing of the old one stays.
    await world.put("unheard-of", variant("unheard-of", 3000))
    await world.run()
    await assert_tidy(world)


async def test_items_in_flight_in_an_older_database(world: World, own_postgres: OwnPostgres) -> None:
    """Its batch is followed to its end, and settles nothing that the later pushes have overtaken."""
    await world.put("p", variant("a", 1000), variant("b", 1000))
    await world.connect()
    pipeline = world.pipeline()
    await pipeline.jobs_tick()
    await pipeline.drain_tick()
    assert (await world.states())["a"]["in_flight"] is not None
    restore = await _copy(world, own_postgres)
    await world.run(pipeline)
    await world.put("p", variant("a", 2000, special_price=1500), variant("b", 1000))
    await world.run(pipeline)
    await restore()
    await _distrust(world)
    await a_minute_later(world)
    await world.run()
    await assert_tidy(world)
    assert world.at_meta()["a"]["price"] == "10.00 EUR"


async def test_a_call_whose_batch_got_lost(world: World, own_postgres: OwnPostgres) -> None:
    """The worker that made it comes back with a handle for a batch that is in no row: it says so, and goes on."""
    await world.put("p", variant("a", 1000))
    await world.connect()
    await world.run()
    restore = await _copy(world, own_postgres)
    await world.put("p", variant("a", 2000, special_price=1500))
    gate = gated(world)
    pipeline = world.pipeline()
    calling = asyncio.create_task(pipeline.drain_tick())
    await gate.reached.wait()
    await restore()
    with capture_logs() as logs:
        gate.opened.set()
        assert await calling == 1
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == [
        "A further handle came back for a batch."
    ]
    assert await one(world, "SELECT count(*) FROM batches WHERE state <> 'over'") == 0
    await world.run(pipeline)
    assert await _differences(world) == {"a"}
    await _distrust(world)
    await world.run(pipeline)
    await assert_tidy(world)
