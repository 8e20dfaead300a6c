"""Throwing old rows away: bounded each time, gone on with soon, and an import goes last of what belongs to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from meta_sync.core.db import Database
from meta_sync.sync import sweep
from tests.support.world import World, open_world

_OLD = "now() - interval '31 days'"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        yield world


async def sql(world: World, statement: str) -> list[tuple[Any, ...]]:
    async with world.database.platform() as connection:
        result = await connection.execute(text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_ROWS_AT_ONCE", 4)
    monkeypatch.setattr(sweep, "_CHUNKS_AT_ONCE", 2)


async def fill(world: World, table: str, columns: str, values: str, count: int) -> None:
    await sql(
        world,
        f"INSERT INTO {table} (store_id, {columns}) SELECT '{world.store_id}', {values}"
        f" FROM generate_series(1, {count}) AS n",
    )


async def fill_all(world: World) -> None:
    imports = "import_id, status, mode, created_at, finished_at"
    await fill(world, "imports", imports, f"'old' || n, 'success', 'upsert', {_OLD}, {_OLD}", 2)
    await fill(world, "imports", imports, "'new' || n, 'success', 'upsert', now(), now()", 1)
    findings = 'import_id, finding_number, kind, "row", field, message'
    for import_id in ("old1", "old2", "new1"):
        await fill(world, "import_findings", findings, f"'{import_id}', n, 'failure', n, 'f', 'm'", 3)
    await fill(world, "import_chunks", "import_id, chunk_number, content", "'old2', n, ''", 5)
    await fill(world, "event_receipts", "source, event_id, received_at", f"'s', 'old' || n, {_OLD}", 6)
    await fill(world, "event_receipts", "source, event_id, received_at", "'s', 'new' || n, now()", 1)


async def left(world: World) -> tuple[Any, ...]:
    tables = ("imports", "import_findings", "import_chunks", "event_receipts")
    (counted,) = await sql(world, "SELECT " + ", ".join(f"(SELECT count(*) FROM {one})" for one in tables))
    return counted


async def purge(world: World) -> bool:
    async with world.database.platform() as connection:
        return await sweep.purge(connection)


async def test_a_purge_takes_a_bounded_step_and_says_whether_there_is_more(world: World) -> None:
    await fill_all(world)
    assert await left(world) == (3, 9, 5, 7)
    assert await purge(world)
    # Imports wait for what belongs to them: without their row nobody would find it any more.
    whole = "SELECT import_id FROM imports"
    for table in ("import_findings", "import_chunks"):
        assert await sql(world, f"SELECT 1 FROM {table} WHERE import_id NOT IN ({whole})") == []
    steps = 1
    while await purge(world):
        steps += 1
        assert steps < 5
    await purge(world)
    assert await left(world) == (1, 3, 0, 1)
    assert await sql(world, "SELECT event_id FROM event_receipts") == [("new1",)]


@pytest.mark.parametrize("table", ["import_findings", "import_chunks", "event_receipts", "import_seen"])
async def test_any_of_them_brings_the_next_purge_forward(
    world: World, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    await fill_all(world)
    monkeypatch.setattr(sweep, "_SEEN_AT_ONCE", 4)
    await fill(world, "import_seen", "import_id, kind, id", "'old2', 'v', n::text", 5)
    for other in {"import_findings", "import_chunks", "event_receipts", "import_seen"} - {table}:
        await sql(world, f"DELETE FROM {other}")

    async def seconds_to_next() -> float:
        ((seconds,),) = await sql(
            world, "SELECT extract(epoch FROM next_at - now()) FROM schedules WHERE name = 'purge'"
        )
        return float(seconds)

    await world.pipeline("worker").sweep_tick()
    assert await seconds_to_next() < 60
    for _ in range(4):
        await sql(world, "UPDATE schedules SET next_at = now() WHERE name = 'purge'")
        await world.pipeline("worker").sweep_tick()
    assert await seconds_to_next() > 3_000
    assert (await left(world))[0] == 1
