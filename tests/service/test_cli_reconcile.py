"""``meta-sync reconcile``: what it says of a catalog that is right, of one that is not, and of its repair."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from meta_sync.core.db import Database
from meta_sync.sandbox.options import DEMO_CATALOG_ID
from tests.support.world import World, open_world, product


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.catalog.put_products(world.store_id, [product(f"p{number}") for number in range(4)])
        await world.connect()
        await world.run()
        yield world


async def _reconcile(world: World, directory: Path, *arguments: str) -> tuple[int | None, str]:
    """The exit code and what the command said, with a worker beside it."""
    database_url, (key, *_) = world.settings.database_url, world.settings.encryption_keys
    assert database_url is not None
    given = {
        "META_SYNC_DATABASE_URL": database_url.get_secret_value(),
        "META_SYNC_ENCRYPTION_KEYS": key.get_secret_value(),
        "META_SYNC_DATA_DIR": str(directory),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("META_SYNC_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "meta_sync", "reconcile", "--store", world.store_id, *arguments),
        env={**kept, **given},
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    pipeline = world.pipeline()
    said = asyncio.create_task(process.communicate())
    while not said.done():
        await pipeline.read_jobs_tick()
        await asyncio.sleep(0.01)
    output, errors = said.result()
    assert b"Traceback" not in errors, errors.decode()
    return process.returncode, output.decode()


async def test_drift_is_told_and_repaired(world: World, tmp_path: Path) -> None:
    catalog = world.sandbox.catalog(DEMO_CATALOG_ID)
    catalog.remove("p0-v")
    catalog.store("p1-v", {**catalog.items["p1-v"], "price": "1.00 EUR"})
    catalog.store("mug", {"id": "mug", "title": "Mug"})
    catalog.feeds["mug"] = {"id": "77", "name": "Weekly feed"}
    code, said = await _reconcile(world, tmp_path, "--watch")
    assert code == 1
    assert "Read 4 items, compared 3: 2 are as Meta confirmed them." in said
    assert "p0-v\tis not there\t" in said
    assert "p1-v\tis another\tprice: 19.99 EUR -> €1.00" in said
    assert "mug\tis not this store's\tMug from the feed Weekly feed" in said
    assert "Drift: 50 % (1 missing, 1 different, 1 of others)." in said
    assert f"meta-sync reconcile --store {world.store_id} --repair" in said

    code, said = await _reconcile(world, tmp_path, "--repair", "--json")
    told = orjson.loads(said)
    assert (code, told["repaired"], told["reconciliation"]["counts"]["missing"]) == (0, 2, 1)
    assert {one["retailerId"]: one["verdict"] for one in told["items"]} == {
        "mug": "foreign",
        "p0-v": "missing",
        "p1-v": "different",
    }
    await world.run()
    await world.assert_right(refused={"mug"})
