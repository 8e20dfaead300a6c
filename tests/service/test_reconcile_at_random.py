"""One small seed of ``tests.reconcile_at_random``: what is broken by hand is named exactly, while the shop goes on."""

from __future__ import annotations

from meta_sync.core.db import Database
from tests.reconcile_at_random import run_seed
from tests.support.world import open_world


async def test_a_catalog_broken_by_hand_is_told_apart_from_a_busy_one(
    database: Database, database_url: str
) -> None:
    async with open_world(database, database_url) as world:
        said = await run_seed(world, 1, items=200, share=0.2)
    assert said["edits"] > 50
