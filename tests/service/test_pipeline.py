"""The pipeline against a real PostgreSQL and a sandbox that is kind: what is accepted ends right at Meta."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from meta_sync.core.db import Database
from tests.support.world import World, open_world, variant


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        yield world


async def test_a_product_reaches_meta_and_is_confirmed(world: World) -> None:
    await world.put("p1", variant("a", options={"color": "Red"}), variant("b", options={"color": "Blue"}))
    await world.run()
    await world.assert_right()
    states = await world.states()
    assert {state["status"] for state in states.values()} == {"synced"}
    assert {state["presence"] for state in states.values()} == {"present"}


async def test_unchanged_costs_no_call(world: World) -> None:
    await world.put("p1")
    await world.run()
    calls = world.calls()
    await world.jobs.start_bootstrap(world.store_id, requested_by="test")
    await world.run()
    await world.assert_right()
    assert world.calls() == calls == 1
