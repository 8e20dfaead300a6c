"""A new mapper: every store is evaluated again once, and an older worker leaves it alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from meta_sync.core.db import Database
from meta_sync.sync import context, listener
from tests.support.world import World, open_world, variant


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.put("p", variant("a"))
        await world.run()
        yield world


async def _jobs(world: World) -> list[tuple[str, str]]:
    async with world.database.platform() as connection:
        rows = await connection.execute(text("SELECT type, status FROM jobs ORDER BY created_at"))
        return [(row[0], row[1]) for row in rows]


async def test_a_raised_version_evaluates_every_store_again_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (context, listener):
        monkeypatch.setattr(module, "MAPPER_VERSION", 2)
    for _ in range(2):
        async with world.database.platform() as connection:
            await listener.follow_mapper_version(connection)
    await world.run()
    assert [kind for kind, _ in await _jobs(world)] == ["bootstrap", "reevaluation"]
    await world.assert_right()


async def test_an_older_worker_leaves_the_store_alone(world: World) -> None:
    async with world.database.platform() as connection:
        await connection.execute(text("UPDATE stores SET mapper_version = 99"))
    await world.put("p", variant("a", 5000))
    pipeline = world.pipeline()
    for _ in range(3):
        await pipeline.drain_tick()
        await pipeline.sweep_tick()
    assert world.calls() == 1
