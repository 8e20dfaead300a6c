"""``meta-sync sync``: watched to its end, tried out, and left running by Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from meta_sync.core.db import Database
from meta_sync.sync.job_models import JobOrder
from tests.support.pipeline import execute
from tests.support.world import World, open_world, product


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.catalog.put_products(world.store_id, [product(f"p{number}") for number in range(4)])
        await world.connect()
        await world.run()
        yield world


async def _command(world: World, directory: Path, *arguments: str) -> asyncio.subprocess.Process:
    database_url, (key, *_) = world.settings.database_url, world.settings.encryption_keys
    assert database_url is not None
    given = {
        "META_SYNC_DATABASE_URL": database_url.get_secret_value(),
        "META_SYNC_ENCRYPTION_KEYS": key.get_secret_value(),
        "META_SYNC_DATA_DIR": str(directory),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("META_SYNC_")}
    command = (sys.executable, "-m", "meta_sync", "sync", "--store", world.store_id, *arguments)
    return await asyncio.create_subprocess_exec(
        *command,
        env={**kept, **given},
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def _worked_off(world: World, process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    """What the command said, with a worker beside it."""
    pipeline = world.pipeline()
    said = asyncio.create_task(process.communicate())
    while not said.done():
        await pipeline.jobs_tick()
        await pipeline.drain_tick()
        await pipeline.poll_tick()
        await asyncio.sleep(0.01)
    output, errors = said.result()
    return process.returncode, output.decode(), errors.decode()


async def test_a_sync_is_watched_to_its_end(world: World, tmp_path: Path) -> None:
    await execute(world, "UPDATE variants SET price = price + 1 WHERE variant_id <> 'p0-v'")
    process = await _command(world, tmp_path, "--watch")
    code, output, errors = await _worked_off(world, process)
    assert code == 0, errors
    assert "is about 4 variants" in output
    assert "The job is over: success; 4 items: 1 unchanged, 3 synced." in output
    await world.assert_right()


async def test_what_failed_shows_in_the_exit_code(world: World, tmp_path: Path) -> None:
    world.sandbox.refuse("p1-v", "No.")
    await execute(world, "UPDATE variants SET price = price + 1 WHERE variant_id = 'p1-v'")
    process = await _command(world, tmp_path, "--watch", "--json")
    code, output, _ = await _worked_off(world, process)
    job: dict[str, Any] = orjson.loads(output)
    assert (code, job["status"], job["counts"]["failed"], job["counts"]["unchanged"]) == (1, "partial", 1, 3)
    assert (job["error"]["code"], job["error"]["category"]) == ("items_failed", "product")


async def test_a_dry_run_says_what_would_be_sent(world: World, tmp_path: Path) -> None:
    await execute(world, "UPDATE variants SET price = price + 1 WHERE variant_id = 'p0-v'")
    calls = world.calls()
    process = await _command(world, tmp_path, "--dry-run")
    code, output, errors = await _worked_off(world, process)
    assert code == 0, errors
    assert "Nothing was sent. A sync would create 0, update 1, delete 0, skip 0 and leave 3 alone." in output
    assert "It takes one call to Meta, of up to 2,500 items; all can go out at once." in output
    assert "4 items: 4 looked at" not in output, "the result says it better"
    (job,) = [job for job in await world.jobs.list(world.store_id) if job.dry_run]
    assert f"Item by item: GET /admin/meta/sync-jobs/{job.job_id}/report" in output
    assert world.calls() == calls


async def test_ctrl_c_leaves_the_job_running_and_says_so(world: World, tmp_path: Path) -> None:
    process = await _command(world, tmp_path, "--watch")
    assert process.stdout is not None
    first = await asyncio.wait_for(process.stdout.readline(), 30)
    assert b"The job job_" in first
    await asyncio.wait_for(process.stdout.readline(), 30)
    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 130
    assert "goes on by itself" in errors.decode()
    assert (await world.jobs.list(world.store_id))[0].status == "queued"
    # Who watches again joins it.
    again = await _command(world, tmp_path, "--watch")
    assert again.stdout is not None
    assert await asyncio.wait_for(again.stdout.readline(), 30) == first
    code, output, errors_again = await _worked_off(world, again)
    assert code == 0, errors_again
    assert "is running already" in errors_again
    assert "success" in output


async def test_a_dry_run_under_way_is_not_taken_for_a_sync(world: World, tmp_path: Path) -> None:
    await world.jobs.start(world.store_id, JobOrder("sync", dry_run=True))
    process = await _command(world, tmp_path, "--watch")
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert "A sync is running already" in errors.decode()
