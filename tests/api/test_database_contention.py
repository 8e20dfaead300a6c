"""Requests in each other's way, and too many or too slow ones: tried again a few times, then 503, and no pile-up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from meta_sync.core.db import Database, DatabaseTimeouts
from tests.support.api import Api, Caller, open_api
from tests.support.database_faults import SHORT, OwnPostgres, assert_nothing_leaked, until, with_database
from tests.support.failing_api import (
    break_products,
    mend_products,
    other_session,
    put,
    refused,
    served,
    title,
    waiting_for_locks,
)
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


@pytest.fixture
async def api(world: World) -> AsyncIterator[Api]:
    async with open_api(world) as api:
        yield api


@pytest.fixture
async def store(api: Api) -> AsyncIterator[Caller]:
    async with served(api) as store:
        yield store


@pytest.fixture
async def other(own_postgres: OwnPostgres) -> AsyncIterator[asyncpg.Connection]:
    async with other_session(own_postgres) as connection:
        yield connection


async def test_a_deadlock_is_tried_again_as_a_whole(
    store: Caller, own_postgres: OwnPostgres, other: asyncpg.Connection
) -> None:
    """Scenario 40. The other session waits longer before it looks for deadlocks, so that the victim is the request."""
    assert (await put(store)).status_code == 200
    before = own_postgres.log().count("deadlock detected")
    own_postgres.set("deadlock_timeout", "'50ms'")
    await other.execute("SET deadlock_timeout = '20s'")
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT 1 FROM intents FOR UPDATE")
    putting = asyncio.create_task(put(store, "Other"))
    await until(lambda: waiting_for_locks(own_postgres) == 1)
    await other.execute("SELECT 1 FROM products FOR UPDATE")
    await transaction.commit()
    assert (await putting).status_code == 200
    assert await title(store) == "Other"
    assert own_postgres.log().count("deadlock detected") == before + 1


async def test_a_serialization_failure_is_tried_again_as_a_whole(
    store: Caller, own_postgres: OwnPostgres, other: asyncpg.Connection
) -> None:
    assert (await put(store)).status_code == 200
    own_postgres.set("default_transaction_isolation", "'repeatable read'")
    transaction = other.transaction(isolation="read_committed")
    await transaction.start()
    await other.execute("UPDATE products SET title = title || ' of others'")
    putting = asyncio.create_task(put(store, "Other"))
    await until(lambda: waiting_for_locks(own_postgres) == 1)
    await transaction.commit()
    assert (await putting).status_code == 200
    assert await title(store) == "Other"


async def test_a_transaction_is_tried_again_a_few_times_only(
    store: Caller, own_postgres: OwnPostgres, database: Database
) -> None:
    assert (await put(store)).status_code == 200
    own_postgres.sql("CREATE SEQUENCE tries; GRANT ALL ON SEQUENCE tries TO PUBLIC")
    break_products(
        own_postgres, "PERFORM nextval('tries'); RAISE 'could not serialize access' USING ERRCODE = '40001'"
    )
    assert "written by others" in refused(await put(store, "Other"))["message"]
    assert own_postgres.sql("SELECT last_value FROM tries").strip() == "5"
    mend_products(own_postgres)
    assert await title(store) == "T-shirt"
    assert (await put(store, "Other")).status_code == 200
    await assert_nothing_leaked(database, own_postgres)


async def test_a_lock_that_does_not_come(
    store: Caller, own_postgres: OwnPostgres, other: asyncpg.Connection, database: Database
) -> None:
    assert (await put(store)).status_code == 200
    transaction = other.transaction()
    await transaction.start()
    await other.execute("UPDATE products SET title = 'Held'")
    began = asyncio.get_running_loop().time()
    assert "written by others" in refused(await put(store, "Other"))["message"]
    # Two waits of 0.3 s, no more.
    assert asyncio.get_running_loop().time() - began < 3
    await transaction.rollback()
    assert (await put(store, "Other")).status_code == 200
    await assert_nothing_leaked(database, own_postgres)


async def test_no_connection_is_free(
    world: World, own_postgres: OwnPostgres, other: asyncpg.Connection
) -> None:
    """Scenario 41: all places are taken by requests that wait for a lock; the others do not queue up behind them."""
    timeouts = DatabaseTimeouts(connection_seconds=0.4, statement_seconds=10, lock_seconds=2)
    tight = Database.connect(own_postgres.url, pool_size=2, timeouts=timeouts)
    async with open_api(with_database(world, tight)) as api:
        store = await api.caller()
        assert (await put(store)).status_code == 200
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE products SET title = 'Held'")
        loop = asyncio.get_running_loop()
        began = loop.time()
        first = [asyncio.create_task(put(store, f"T{number}")) for number in range(2)]
        await until(lambda: tight.app.pool.checkedout() == 2)  # type: ignore[attr-defined]  # every queue pool counts
        late = await asyncio.gather(*(put(store, f"L{number}") for number in range(20)))
        assert loop.time() - began < 2
        for response in late:
            refused(response)
        assert (await api.http.get("/health/live")).status_code == 200
        await transaction.rollback()
        assert {response.status_code for response in await asyncio.gather(*first)} == {200}
        assert (await put(store, "Last")).status_code == 200
        assert await title(store) == "Last"
        await assert_nothing_leaked(tight, own_postgres)
    await tight.dispose()


async def test_a_statement_takes_too_long(
    store: Caller, own_postgres: OwnPostgres, database: Database
) -> None:
    assert (await put(store)).status_code == 200
    break_products(own_postgres, "PERFORM pg_sleep(30)")
    began = asyncio.get_running_loop().time()
    refused(await put(store, "Other"))
    assert asyncio.get_running_loop().time() - began < 5
    await assert_nothing_leaked(database, own_postgres)
    mend_products(own_postgres)
    assert await title(store) == "T-shirt"
    assert (await put(store, "Other")).status_code == 200
