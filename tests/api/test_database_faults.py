"""The API over a PostgreSQL that is away, cut, full, read-only, locked or slow: 503 with a sentence, and no 2xx untrue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from meta_sync.core import failpoints
from meta_sync.core.db import Database
from meta_sync.sync import outbox
from tests.support.api import Api, Caller, open_api
from tests.support.database_faults import (
    SHORT,
    CommitCut,
    OwnPostgres,
    assert_nothing_leaked,
    until,
    way_to,
    with_database,
)
from tests.support.failing_api import break_products, mend_products, put, refused, served, title
from tests.support.pipeline import assert_tidy, one
from tests.support.proxy import When
from tests.support.world import World, open_world


@pytest.fixture
async def database(own_postgres: OwnPostgres) -> AsyncIterator[Database]:
    database = Database.connect(own_postgres.url, pool_size=3, timeouts=SHORT)
    yield database
    await database.dispose()


@pytest.fixture
async def world(database: Database, own_postgres: OwnPostgres) -> AsyncIterator[World]:
    async with open_world(database, own_postgres.url) as world:
        yield world
    failpoints.disarm_all()


@pytest.fixture
async def api(world: World) -> AsyncIterator[Api]:
    async with open_api(world) as api:
        yield api


@pytest.fixture
async def store(api: Api) -> AsyncIterator[Caller]:
    async with served(api) as store:
        yield store


async def test_the_server_is_down(store: Caller, own_postgres: OwnPostgres, database: Database) -> None:
    """Scenario 37: an answer at once, the process stays alive, and the first request after it is served."""
    assert (await put(store)).status_code == 200
    await asyncio.to_thread(own_postgres.server.stop)
    began = asyncio.get_running_loop().time()
    for _ in range(2):
        refused(await put(store, "Other"))
        refused(await store.get("/admin/meta/status"))
        refused(await store.get("/health/ready"))
        assert (await store.get("/health/live")).status_code == 200
    assert asyncio.get_running_loop().time() - began < 5
    await asyncio.to_thread(own_postgres.start)
    assert (await store.get("/health/ready")).status_code == 200
    assert await title(store) == "T-shirt"
    assert (await put(store, "Other")).status_code == 200
    await assert_nothing_leaked(database, own_postgres)


async def test_the_server_crashes_in_a_request(
    store: Caller, own_postgres: OwnPostgres, database: Database
) -> None:
    """Scenario 36: what was not committed is not there, and is said not to be certain."""
    assert (await put(store)).status_code == 200
    failpoints.arm("catalog.before_commit", "sleep:0.4@1")
    putting = asyncio.create_task(put(store, "Other"))
    await until(lambda: failpoints._armed["catalog.before_commit"].passed == 1)
    await asyncio.to_thread(own_postgres.crash)
    assert "may not have been done" in refused(await putting)["message"]
    await asyncio.to_thread(own_postgres.start)
    assert await title(store) == "T-shirt"
    assert (await put(store, "Other")).status_code == 200
    await assert_nothing_leaked(database, own_postgres)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_answer_to_a_commit_is_lost(world: World, own_postgres: OwnPostgres, when: When) -> None:
    """Scenario 38: nobody knows whether it is stored, so it is 503; the same request again changes nothing more."""
    await world.connect()
    async with way_to(own_postgres) as (proxy, database), open_api(with_database(world, database)) as api:
        store = await api.caller()
        cut = CommitCut(proxy, database, outbox._UPSERT_INTENTS, when)
        assert "may not have been done" in refused(await put(store))["message"]
        assert cut.has_struck
        again = (await put(store)).json()["data"]
        assert again["enqueued"] == (1 if when == "before" else 0), again
        await assert_nothing_leaked(database, own_postgres)
    assert await one(world, "SELECT count(*) FROM intents") == 1
    await world.run()
    await assert_tidy(world)
    assert set(world.at_meta()) == {"v1"}


async def test_the_server_is_read_only(store: Caller, own_postgres: OwnPostgres, database: Database) -> None:
    """Scenario 43. The pools leave such a server: after a fail-over the address leads to another one."""
    assert (await put(store)).status_code == 200
    own_postgres.set("default_transaction_read_only", "on")
    await until(lambda: own_postgres.sql("SHOW default_transaction_read_only").strip() == "on")
    before = await _sessions(own_postgres)
    refused(await put(store, "Other"))
    assert not before & await _sessions(own_postgres)
    assert await title(store) == "T-shirt"
    own_postgres.set("default_transaction_read_only", "off")
    await until(lambda: own_postgres.sql("SHOW default_transaction_read_only").strip() == "off")
    assert (await put(store, "Other")).status_code == 200
    assert await title(store) == "Other"
    await assert_nothing_leaked(database, own_postgres)


async def _sessions(server: OwnPostgres) -> set[str]:
    """Those of requests of stores; the worker's role only reads in them."""
    rows = server.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'meta-sync app'")
    return set(rows.split())


async def test_the_disk_is_full(store: Caller, own_postgres: OwnPostgres, database: Database) -> None:
    assert (await put(store)).status_code == 200
    break_products(
        own_postgres, "RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'"
    )
    refused(await put(store, "Other"))
    assert await title(store) == "T-shirt"
    mend_products(own_postgres)
    assert (await put(store, "Other")).status_code == 200
    await assert_nothing_leaked(database, own_postgres)
