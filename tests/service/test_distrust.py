"""``meta-sync distrust``: what Meta confirmed does not count any more, and everything goes out again, cleared fields too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, NotFoundError
from meta_sync.sandbox.options import DEMO_CATALOG_ID
from meta_sync.sync.distrust import DistrustService
from tests.support.commands import environment, run_command
from tests.support.pipeline import assert_tidy, before_claim, fetch, one
from tests.support.world import World, open_world, variant


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        yield world


def _service(world: World) -> DistrustService:
    return DistrustService(world.database, world.queue)


async def _distrust(world: World) -> None:
    await _service(world).distrust(world.store_id, requested_by="test")


async def test_everything_goes_again_and_what_others_put_there_is_cleared(world: World) -> None:
    await world.put("p", variant("a"), variant("b"))
    await world.put("q", variant("gone"))
    await world.connect()
    await world.run()
    await world.catalog.delete_product(world.store_id, "q")
    await world.run()
    items = world.sandbox.catalog(DEMO_CATALOG_ID).items
    # Somebody edits in Commerce Manager: a sale that never ends, one item deleted, a deleted one put back.
    items["a"]["sale_price"] = "1.00 EUR"
    items["gone"] = dict(items["a"], id="gone")
    del items["b"]
    calls = world.calls()
    await world.run()
    assert world.calls() == calls
    await _distrust(world)
    await world.run()
    await assert_tidy(world)
    assert await one(world, "SELECT status FROM jobs ORDER BY created_at DESC LIMIT 1") == "success"


async def test_an_item_that_was_never_sent_may_be_there_all_the_same(world: World) -> None:
    """The catalog was empty when it was selected; the rows that knew of the push are lost."""
    await world.connect()
    await world.run()
    world.sandbox.catalog(DEMO_CATALOG_ID).items["a"] = {"id": "a", "sale_price": "1.00 EUR", "color": "Odd"}
    await _distrust(world)
    await world.put("p", variant("a"))
    await world.run()
    await assert_tidy(world)


async def test_a_claim_that_was_decided_before_is_not_made(world: World) -> None:
    await world.put("p", variant("a"))
    await world.connect()
    await world.run()
    world.sandbox.catalog(DEMO_CATALOG_ID).items["a"]["color"] = "Odd"
    await world.put("p", variant("a", 1500))
    pipeline = world.pipeline()
    before_claim(pipeline, lambda: _distrust(world))
    calls = world.calls()
    await pipeline.drain_tick()
    assert world.calls() == calls
    await world.run(pipeline)
    await assert_tidy(world)


async def test_a_batch_under_way_confirms_nothing_for_the_new_epoch(world: World) -> None:
    await world.put("p", variant("a"))
    await world.connect()
    pipeline = world.pipeline()
    await pipeline.jobs_tick()
    await pipeline.drain_tick()
    assert (await world.states())["a"]["in_flight"] is not None
    await _distrust(world)
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.sandbox.catalog(DEMO_CATALOG_ID).applied_counts["a"] == 2


async def test_a_bootstrap_under_way_begins_anew(world: World) -> None:
    await world.put("p", variant("a"), variant("b"))
    await world.connect()
    pipeline = world.pipeline()
    await pipeline.jobs_tick()
    await asyncio.gather(_distrust(world), _distrust(world), pipeline.jobs_tick())
    statuses = await fetch(world, "SELECT status FROM jobs ORDER BY created_at")
    assert [row[0] for row in statuses].count("cancelled") == 2
    assert await one(world, "SELECT epoch FROM catalog_links") == 3
    await world.run(pipeline)
    await assert_tidy(world)


async def test_there_must_be_a_store_with_a_catalog(world: World) -> None:
    with pytest.raises(ConflictError, match="No Meta catalog is selected"):
        await _distrust(world)
    with pytest.raises(NotFoundError):
        await _service(world).distrust("store_none", requested_by=None)


async def test_the_command(world: World, tmp_path: Path) -> None:
    await world.put("p", variant("a"))
    settings = world.settings
    assert settings.database_url is not None
    variables = environment(
        tmp_path,
        DATABASE_URL=settings.database_url.get_secret_value(),
        ENCRYPTION_KEYS=settings.encryption_keys[0].get_secret_value(),
    )

    async def run(*arguments: str) -> tuple[int, str, str]:
        ended = await asyncio.to_thread(run_command, tmp_path, ["distrust", *arguments], variables)
        return ended.returncode, ended.stdout, ended.stderr

    await world.connect()
    await world.run()
    code, output, errors = await run("--all")
    assert code == 0, errors
    assert output.startswith(f"{world.store_id}: nothing that Meta confirmed counts any more")
    await world.run()
    await assert_tidy(world)
    assert world.sandbox.catalog(DEMO_CATALOG_ID).applied_counts["a"] == 2
    assert await run("--store", "store_none") == (1, "", "meta-sync: There is no such store.\n")
