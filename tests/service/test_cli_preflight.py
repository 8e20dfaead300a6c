"""``meta-sync preflight``: what it says of a store and of a catalog that has items, and the approval."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from meta_sync.core.db import Database
from tests.service.test_first_run import fill
from tests.support.world import World, open_world, variant


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        fill(world, "a", "theirs")
        await world.put("p", variant("a"), variant("unpriced", None))
        await world.connect()
        yield world


async def _preflight(
    world: World, directory: Path, *arguments: str, works: bool = True
) -> tuple[int | None, str, str]:
    """The exit code and what the command said, with or without a worker beside it."""
    database_url, (key, *_) = world.settings.database_url, world.settings.encryption_keys
    assert database_url is not None
    given = {
        "META_SYNC_DATABASE_URL": database_url.get_secret_value(),
        "META_SYNC_ENCRYPTION_KEYS": key.get_secret_value(),
        "META_SYNC_DATA_DIR": str(directory),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("META_SYNC_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "meta_sync", "preflight", "--store", world.store_id, *arguments),
        env={**kept, **given},
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    pipeline = world.pipeline()
    said = asyncio.create_task(process.communicate())
    while not said.done():
        if works:
            await pipeline.read_jobs_tick()
        await asyncio.sleep(0.01)
    output, errors = said.result()
    assert b"Traceback" not in errors, errors.decode()
    return process.returncode, output.decode(), errors.decode()


async def test_a_first_run_is_read_and_approved(world: World, tmp_path: Path) -> None:
    code, _, errors = await _preflight(world, tmp_path, "--approve", works=False)
    assert (code, "No report is ready" in errors) == (1, True)

    code, said, _ = await _preflight(world, tmp_path)
    assert code == 0
    assert "2 variants were looked at, of which 1 can be sent." in said
    assert "The variant has no price above zero" in said
    assert "shows 2 items." in said
    assert "other than in the store\t1\t" in said
    assert "not of this store\t1\tleaves them as they are" in said
    assert "a\tOld title\tcolor\tred\t" in said
    assert "theirs\tOld title\tprice\t€99.00\t" in said
    assert f"meta-sync preflight --store {world.store_id} --approve" in said
    assert world.calls() == 0

    code, said, _ = await _preflight(world, tmp_path, "--approve")
    assert (code, "may begin" in said) == (0, True)
    code, said, _ = await _preflight(world, tmp_path, "--approve", "--json")
    assert (code, orjson.loads(said)["wasNew"]) == (0, False)
    await world.run()
    assert "sale_price" not in world.at_meta()["a"]


async def test_a_report_for_a_machine_and_what_cannot_be(world: World, tmp_path: Path) -> None:
    code, said, _ = await _preflight(world, tmp_path, "--json")
    report = orjson.loads(said)
    assert (code, report["status"], report["syncable"], report["catalog"]["foreign"]["count"]) == (
        0,
        "success",
        1,
        1,
    )
    code, _, errors = await _preflight(world, tmp_path, "--approve", "--probe-images")
    assert (code, "--approve makes no report" in errors) == (2, True)
