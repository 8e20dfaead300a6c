"""Reading the audit log: filters, pages, cursors, whose entries, and how long they are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.db import Database
from meta_sync.core.errors import ValidationFailedError
from meta_sync.core.paging import CursorCodec
from meta_sync.stores import audit_log
from meta_sync.stores.audit import THE_INSTALLATION, AuditAction, AuditTarget, record_action
from meta_sync.stores.audit_log import AuditEntry, AuditFilter, AuditLogService
from meta_sync.sync import sweep
from tests.support.world import World, open_world


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        async with database.platform() as connection:
            await connection.execute(text("DELETE FROM audit_log"))
        yield world


def log(world: World) -> AuditLogService:
    return AuditLogService(world.database, CursorCodec(b"key"))


async def entries(world: World, store_id: str | None = None, **wanted: Any) -> list[AuditEntry]:
    """All of a store's entries that fit, oldest first."""
    page = await log(world).list(store_id or world.store_id, AuditFilter(**wanted), limit=200)
    return page.entries[::-1]


async def fill(connection: AsyncConnection, store_id: str, count: int, *, days_old: int = 0) -> None:
    await connection.execute(
        text(
            """
            INSERT INTO audit_log (store_id, at, actor, action, target_type, target_id)
            SELECT :store_id, now() - make_interval(days => :days) - make_interval(secs => n / 3),
                   'key_' || n % 3, CASE n % 2 WHEN 0 THEN 'item_resynced' ELSE 'item_excluded' END, 'item', 'v' || n
            FROM generate_series(0, :count - 1) AS n
            """
        ),
        {"store_id": store_id, "count": count, "days": days_old},
    )


async def walked(world: World, limit: int, **wanted: Any) -> list[AuditEntry]:
    found: list[AuditEntry] = []
    cursor: str | None = None
    while True:
        page = await log(world).list(world.store_id, AuditFilter(**wanted), limit=limit, cursor=cursor)
        found += page.entries
        cursor = page.next_cursor
        if cursor is None:
            return found


def newest_first(found: list[AuditEntry]) -> bool:
    places = [(entry.at, entry.audit_id) for entry in found]
    return places == sorted(places, reverse=True) and len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 60),
        ({"action": "item_excluded"}, 30),
        ({"actor": "key_1"}, 20),
        ({"target": "v7"}, 1),
        ({"target": "v"}, 0),
        ({"action": "item_excluded", "actor": "key_1"}, 10),
        ({"target_type": "job"}, 0),
        ({"target_type": "item", "search": "KEY_2"}, 20),
        ({"search": "v5"}, 11),
        ({"search": "_Excl"}, 30),
        ({"search": "%"}, 0),
        ({"actor": "key_0", "search": "v1"}, 3),
    ],
)
async def test_filters_over_pages(
    world: World, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any], count: int
) -> None:
    async with world.database.platform() as connection:
        await fill(connection, world.store_id, 60)
        await fill(connection, "another", 60)
    for looked_at in (10_001, 7):
        monkeypatch.setattr(audit_log, "_LOOKED_AT", looked_at)
        found = await walked(world, 4, **wanted)
        assert len(found) == count
        assert newest_first(found)
    monkeypatch.undo()
    page = await log(world).list(world.store_id, AuditFilter(**wanted), limit=200)
    assert (page.total, page.is_total_exact, page.next_cursor) == (count, True, None)
    second = await log(world).list(world.store_id, AuditFilter(**wanted), page=2, limit=3)
    assert second.entries == page.entries[3:6]


async def test_times_bound_the_list_at_both_ends(world: World) -> None:
    async with world.database.platform() as connection:
        await fill(connection, world.store_id, 30)
    everything = (await log(world).list(world.store_id, limit=200)).entries
    since, until = everything[20].at, everything[5].at
    for more in ({}, {"action": "item_excluded"}, {"search": "v"}):
        found = await entries(world, since=since, until=until, **more)
        expected = [
            entry
            for entry in everything[::-1]
            if since <= entry.at < until and more.get("action", entry.action) == entry.action
        ]
        assert found == expected
        assert expected


async def test_a_cursor_is_good_for_its_own_list_only(world: World) -> None:
    async with world.database.platform() as connection:
        await fill(connection, world.store_id, 10)
    page = await log(world).list(world.store_id, AuditFilter(actor="key_1"), limit=1)
    for store_id, wanted in ((world.store_id, AuditFilter()), ("another", AuditFilter(actor="key_1"))):
        with pytest.raises(ValidationFailedError):
            await log(world).list(store_id, wanted, limit=1, cursor=page.next_cursor)


async def test_a_store_reads_and_writes_its_own_only(world: World, database: Database) -> None:
    other = await world.stores.create("Other")
    await world.stores.patch_settings(other.store_id, {"batchSize": 3})
    assert await entries(world) == []
    async with database.store(world.store_id) as connection:
        assert (await connection.execute(text("SELECT 1 FROM audit_log"))).all() == []
    given: dict[str, Any] = {
        "actor": "x",
        "action": AuditAction.STORE_RENAMED,
        "target_type": AuditTarget.STORE,
    }
    with pytest.raises(DBAPIError, match="row-level security"):
        async with database.store(world.store_id) as connection:
            await record_action(connection, other.store_id, **given)
    # What is recorded stays: a request may neither change nor delete it.
    for statement in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log"):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with database.store(other.store_id) as connection:
                await connection.execute(text(statement))


async def test_entries_go_when_the_retention_says(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    short = await world.stores.create("Short")
    await world.stores.patch_settings(short.store_id, {"retentionAuditDays": 30})
    async with world.database.platform() as connection:
        await connection.execute(text("DELETE FROM audit_log"))
        for store_id in (world.store_id, short.store_id, THE_INSTALLATION):
            for days_old in (10, 31, 401):
                await fill(connection, store_id, 3, days_old=days_old)
    monkeypatch.setattr(sweep, "_ROWS_AT_ONCE", 4)
    left, steps = [27], 0
    while True:
        async with world.database.platform() as connection:
            is_more = await sweep.purge(connection)
            left.append(await connection.scalar(text("SELECT count(*) FROM audit_log")) or 0)
        steps += 1
        assert steps < 6
        if not is_more:
            break
    assert left == [27, 23, 19, 15, 15], "a bounded number at a time"
    counts = [len(await entries(world, store_id)) for store_id in (world.store_id, short.store_id)]
    assert counts == [6, 3]
