"""PostgreSQL restarts, goes away, falls silent, is read-only or full under a running worker: it goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from meta_sync.core import failpoints
from meta_sync.core.db import Database
from meta_sync.core.outages import DatabaseAwayError
from tests.support.commands import environment, run_command
from tests.support.database_faults import (
    SHORT,
    OwnPostgres,
    a_minute_later,
    assert_nothing_leaked,
    insist,
    running_worker,
    until,
    until_quiet,
    way_to,
)
from tests.support.pipeline import assert_tidy, one
from tests.support.world import World, open_world, variant

_Logs = Sequence[MutableMapping[str, Any]]


@pytest.fixture
async def database(own_postgres: OwnPostgres) -> AsyncIterator[Database]:
    database = Database.connect(own_postgres.url, pool_size=6, timeouts=SHORT)
    yield database
    await database.dispose()


@pytest.fixture
async def world(database: Database, own_postgres: OwnPostgres) -> AsyncIterator[World]:
    async with open_world(database, own_postgres.url) as world:
        yield world
    failpoints.disarm_all()


async def _fill(world: World) -> None:
    for number in range(4):
        await world.put(f"p{number}", variant(f"v{number}", special_price=5), variant(f"w{number}"))
    await world.connect()


async def _edit(world: World, price: int) -> None:
    """What a store does meanwhile; it repeats what was answered with an error."""
    await insist(lambda: world.put("p0", variant("v0", price), variant("w0")))
    await insist(lambda: world.catalog.delete_product(world.store_id, "p1"))
    await insist(lambda: world.put("p2", variant("v2", price)))


def _outages(logs: _Logs) -> list[MutableMapping[str, Any]]:
    assert not [log for log in logs if log["log_level"] in ("error", "critical")], logs
    return [log for log in logs if log["event"] == "A tick failed and will be tried again."]


@pytest.mark.parametrize("point", ["claim.before_commit", "outcome.before_commit", "settle.before_commit"])
async def test_the_server_restarts_in_mid_transaction(
    world: World, own_postgres: OwnPostgres, point: str
) -> None:
    """Scenario 36. Immediately, as after a crash: the open transaction is gone and its connection with it."""
    await _fill(world)
    failpoints.arm(point, "sleep:0.4@1")
    open_transaction = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
    with capture_logs() as logs:
        async with running_worker(world) as worker:
            await until(lambda: failpoints._armed[point].passed == 1)
            assert own_postgres.sql(open_transaction).strip() != "0"
            await asyncio.to_thread(own_postgres.crash)
            editing = asyncio.create_task(_edit(world, 7777))
            await asyncio.to_thread(own_postgres.start)
            await editing
            await a_minute_later(world)
            await until_quiet(world, worker)
    _outages(logs)
    await assert_tidy(world)
    assert world.at_meta()["v0"]["price"] == "77.77 EUR"
    assert all(state["attempts"] == 0 for state in (await world.states()).values())
    await assert_nothing_leaked(world.database, own_postgres)


async def test_the_server_is_down_for_a_while(world: World, own_postgres: OwnPostgres) -> None:
    """Scenario 37. Nobody listens: the driver raises a bare error of the socket, and each loop waits longer each time."""
    await _fill(world)
    with capture_logs() as logs:
        async with running_worker(world) as worker:
            await until(lambda: world.calls() > 0)
            await asyncio.to_thread(own_postgres.server.stop)
            with pytest.raises(DatabaseAwayError, match="cannot be reached"):
                await world.put("p3", variant("v3", 1))
            editing = asyncio.create_task(_edit(world, 8888))
            await until(lambda: any(log.get("failures", 0) >= 4 for log in logs))
            assert not worker.done()
            await asyncio.to_thread(own_postgres.start)
            await editing
            await a_minute_later(world)
            await until_quiet(world, worker)
            assert await one(world, "SELECT count(*) FROM worker_heartbeats WHERE worker_id = 'worker'") == 1
    outages = _outages(logs)
    # One line when it begins and one each time its length has doubled, each with its cause.
    assert len(outages) <= 3 * 10
    assert any("database cannot be reached" in log["reason"] for log in outages)
    assert any(log["event"] == "A tick that had failed works again." for log in logs)
    await assert_tidy(world)
    assert world.at_meta()["v0"]["price"] == "88.88 EUR"
    await assert_nothing_leaked(world.database, own_postgres)


async def test_the_server_falls_silent(world: World, own_postgres: OwnPostgres) -> None:
    """Nothing is refused and nothing answered, as behind a partition: no wait is for ever, no connection is kept."""
    await _fill(world)
    async with way_to(own_postgres) as (proxy, database):
        with capture_logs() as logs:
            async with running_worker(world, database) as worker:
                await until(lambda: world.calls() > 0)
                proxy.mode = "blackhole"
                await until(lambda: any(log.get("failures", 0) >= 2 for log in logs), 30)
                assert not worker.done()
                proxy.mode = "pass"
                await _edit(world, 9999)
                await a_minute_later(world)
                await until_quiet(world, worker)
        _outages(logs)
        await assert_tidy(world)
        await assert_nothing_leaked(database, own_postgres)


async def test_the_server_is_read_only_for_a_while(world: World, own_postgres: OwnPostgres) -> None:
    """Scenario 43: as after a fail-over to a server that is none yet."""
    await _fill(world)
    with capture_logs() as logs:
        async with running_worker(world) as worker:
            await until(lambda: world.calls() > 0)
            own_postgres.set("default_transaction_read_only", "on")
            await until(lambda: any("(25006)" in str(log.get("reason")) for log in logs))
            failures = asyncio.create_task(insist(lambda: world.put("p0", variant("v0", 7777))))
            await until(lambda: any(log.get("failures", 0) >= 4 for log in logs))
            own_postgres.set("default_transaction_read_only", "off")
            assert await failures > 0
            await a_minute_later(world)
            await until_quiet(world, worker)
    said = {log["reason"] for log in _outages(logs)}
    assert all("read-only transaction (25006)" in one for one in said), said
    await assert_tidy(world)
    assert world.at_meta()["v0"]["price"] == "77.77 EUR"


_FULL_DISK = """
    CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE 'could not extend file "base/1/2": No space left on device' USING ERRCODE = '53100'; END $$
"""
_FULL = "CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {} EXECUTE FUNCTION full_disk()"


async def test_the_disk_is_full_for_a_while(world: World, own_postgres: OwnPostgres) -> None:
    """Scenario 43. The server's own error, raised where it would be: when a row is to be written."""
    await _fill(world)
    own_postgres.sql(_FULL_DISK)
    tables = ("batches", "products", "sync_state")
    with capture_logs() as logs:
        async with running_worker(world) as worker:
            for table in tables:
                await asyncio.to_thread(own_postgres.sql, _FULL.format(table))
            putting = asyncio.create_task(insist(lambda: world.put("p0", variant("v0", 7777))))
            await until(lambda: any(log.get("failures", 0) >= 4 for log in logs))
            assert not putting.done()
            for table in tables:
                await asyncio.to_thread(own_postgres.sql, f"DROP TRIGGER full_disk ON {table}")
            assert await putting > 0
            await a_minute_later(world)
            await until_quiet(world, worker)
    said = {log["reason"] for log in _outages(logs)}
    assert all("No space left on device (53100)" in one for one in said), said
    await assert_tidy(world)
    assert world.at_meta()["v0"]["price"] == "77.77 EUR"


async def test_commands_say_what_is_wrong_in_a_sentence(
    world: World, own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    """At their start and in their middle; a traceback is for faults of ours."""
    key = world.settings.encryption_keys[0].get_secret_value()
    variables = environment(tmp_path, DATABASE_URL=own_postgres.url, ENCRYPTION_KEYS=key)

    async def run(*arguments: str) -> tuple[int, str]:
        ended = await asyncio.to_thread(run_command, tmp_path, list(arguments), variables)
        return ended.returncode, ended.stderr

    own_postgres.sql(_FULL_DISK)
    own_postgres.sql(_FULL.format("stores"))
    code, errors = await run("stores", "create", "Other")
    assert code == 1
    assert errors == (
        'meta-sync: The database failed: could not extend file "base/1/2": No space left on device (53100). '
        "What was asked for may not have been done.\n"
    )
    await asyncio.to_thread(own_postgres.server.stop)
    for arguments in (("status",), ("worker",)):
        code, errors = await run(*arguments)
        assert code == 2, errors
        assert errors.count("\n") == 1, errors
        assert errors.startswith("meta-sync: The database cannot be reached: ")
