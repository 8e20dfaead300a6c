"""A world for tests of sale windows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from meta_sync.core.db import Database
from tests.support.pipeline import execute
from tests.support.world import FAST, World, open_world

__all__ = ["open_unswept_world"]


@asynccontextmanager
async def open_unswept_world(database: Database, database_url: str) -> AsyncIterator[World]:
    """Connected and at rest. Nothing is swept by the ticks of a test: it sweeps when it says so."""
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.run()
        world.timing = replace(FAST, sale_delay_seconds=3600.0)
        await execute(
            world, "UPDATE schedules SET next_at = now() + interval '1 h' WHERE name = 'sale_windows'"
        )
        yield world
