"""``meta-sync jobs``: the jobs of a store, one of them, and calling one off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from meta_sync.cli import job_commands
from meta_sync.core.db import Database
from meta_sync.sync.job_models import JobOrder, JobScope, ScopeKind
from tests.support.commands import environment, run_command
from tests.support.pipeline import execute
from tests.support.world import World, open_world, product

Meta = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.catalog.put_products(world.store_id, [product(f"p{number}") for number in range(4)])
        await world.connect()
        await world.run()
        yield world


@pytest.fixture
def jobs(world: World, tmp_path: Path) -> Meta:
    """The command, on the world's database."""
    database_url, (key, *_) = world.settings.database_url, world.settings.encryption_keys
    assert database_url is not None
    variables = environment(
        tmp_path,
        DATABASE_URL=database_url.get_secret_value(),
        ENCRYPTION_KEYS=key.get_secret_value(),
        GRAPH_URL=world.settings.graph_url,
    )

    async def run(*arguments: str) -> tuple[int, str, str]:
        command = ["jobs", *arguments, "--store", world.store_id]
        ended = await asyncio.to_thread(run_command, tmp_path, command, variables)
        return ended.returncode, ended.stdout, ended.stderr

    return run


async def test_a_job_is_called_off(world: World, jobs: Meta) -> None:
    order = JobOrder("sync", JobScope(ScopeKind.VARIANTS, ("p0-v", "p1-v")), requested_by="key_1")
    job_id = (await world.jobs.start(world.store_id, order)).started.job_id
    code, output, errors = await jobs("show", job_id)
    assert (code, errors) == (0, "")
    assert output.startswith(f"{job_id} (sync) of 2 chosen variants, made at ")
    assert " UTC for key_1.\n0 %, waits for a worker; 2 items.\n" in output
    code, output, errors = await jobs("cancel", job_id)
    assert (code, errors) == (0, "")
    assert f"The job {job_id} is being called off. Look again with: meta-sync jobs show {job_id}" in output
    pipeline = world.pipeline()
    while await pipeline.jobs_tick():
        pass
    # Once more changes nothing.
    code, output, _ = await jobs("cancel", job_id)
    assert (code, output) == (0, f"The job {job_id} is called off: cancelled; 2 items: 2 cancelled.\n")
    code, output, _ = await jobs("show", job_id, "--json")
    assert (code, orjson.loads(output)["status"], orjson.loads(output)["counts"]["cancelled"]) == (
        3, "cancelled", 2,
    )  # fmt: skip


async def test_what_cannot_be_called_off_is_said(world: World, jobs: Meta) -> None:
    (first,) = await world.jobs.list(world.store_id)
    assert first.status == "success"
    assert await jobs("cancel", first.job_id) == (1, "", "meta-sync: The job has ended: success.\n")
    assert await jobs("cancel", "job_none") == (1, "", "meta-sync: No such job.\n")
    assert (await jobs("show", first.job_id))[0] == 0


async def test_the_jobs_of_a_store(world: World, jobs: Meta) -> None:
    world.sandbox.refuse("p1-v", "No.")
    await execute(world, "UPDATE variants SET price = price + 1 WHERE variant_id = 'p1-v'")
    job_id = (await world.jobs.start(world.store_id, JobOrder("sync", dry_run=True))).started.job_id
    await world.run()
    await world.jobs.start(world.store_id, JobOrder("sync", description="of [red]April"))
    await world.run()
    code, output, errors = await jobs("list", "--limit", "2")
    assert (code, errors) == (0, "These are the newest 2; --limit shows more.\n")
    head, newest, older = (line.split("\t") for line in output.splitlines())
    assert head == ["job", "type", "status", "percent", "items", "failed", "began (UTC)", "of what"]
    assert (newest[1:6], newest[7]) == (["sync", "partial", "100", "4", "1"], "everything (of [red]April)")
    assert older[:3] == [job_id, "sync, dry run", "success"]
    code, output, _ = await jobs("show", newest[0])
    assert (code, "Some items of the job failed" in output, "meta-sync errors --store" in output) == (
        3, True, True,
    )  # fmt: skip
    code, output, _ = await jobs("list", "--type", "bootstrap", "--json")
    shown = orjson.loads(output)
    assert ([job["type"] for job in shown["jobs"]], shown["hasMore"]) == (["bootstrap"], False)
    code, output, _ = await jobs("list", "--status", "error")
    assert (code, output) == (0, "There is no such job.\n")


async def test_what_a_job_is_about(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (job,) = await world.jobs.list(world.store_id)
    file = replace(job, scope=JobScope(ScopeKind.FILE), description="feed\x1b[31m.csv", progress=50)
    one = replace(job, scope=JobScope(ScopeKind.PRODUCTS, ("p",)), is_paused=True)
    job_commands._show_jobs([job, file, one, replace(job, scope=JobScope(ScopeKind.FILTER))])
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    about = ["everything", "feed\ufffd[31m.csv", "1 chosen product", "what a filter finds"]
    assert [row[-1] for row in rows] == about
    assert [row[2] for row in rows] == ["success", "success", "paused", "success"]
