"""Callers that go away and deadlines that pass in the middle of a transaction: no connection is lost or left in one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest

from meta_sync.catalog.models import ProductInput
from meta_sync.core.db import Database, DatabaseTimeouts
from meta_sync.core.outages import DatabaseAwayError, is_outage
from tests.support.api import Caller, open_api, product_body
from tests.support.database_faults import OwnPostgres, assert_nothing_leaked, until, way_to, with_database
from tests.support.failing_api import other_session, waiting_for_locks
from tests.support.pipeline import assert_sums, fetch
from tests.support.serving import serving
from tests.support.world import World, open_world, product, variant

_PATIENT = DatabaseTimeouts(connection_seconds=5, statement_seconds=10, lock_seconds=5)


@pytest.fixture
async def database(own_postgres: OwnPostgres) -> AsyncIterator[Database]:
    database = Database.connect(own_postgres.url, pool_size=3, timeouts=_PATIENT)
    yield database
    await database.dispose()


@pytest.fixture
async def world(database: Database, own_postgres: OwnPostgres) -> AsyncIterator[World]:
    async with open_world(database, own_postgres.url) as world:
        yield world


@pytest.fixture
async def other(own_postgres: OwnPostgres) -> AsyncIterator[asyncpg.Connection]:
    async with other_session(own_postgres) as connection:
        yield connection


async def test_clients_go_away_while_their_request_waits(
    world: World, own_postgres: OwnPostgres, other: asyncpg.Connection, database: Database
) -> None:
    """Scenario 42. The connections of the callers are cut; their requests end, and the pool is whole again."""
    async with open_api(world) as api, serving(api.app) as address:
        known = await api.caller()
        async with httpx.AsyncClient(base_url=address) as http:
            store = Caller(http, known.headers)
            assert (await store("PUT", "/catalog/products/p", json=product_body())).status_code == 200
            transaction = other.transaction()
            await transaction.start()
            await other.execute("UPDATE products SET title = 'Held'")
            bodies = [product_body(title=f"T{number}") for number in range(3)]
            putting = [asyncio.create_task(store("PUT", "/catalog/products/p", json=body)) for body in bodies]
            await until(lambda: waiting_for_locks(own_postgres) == 3)
            for task in putting:
                task.cancel()
            await asyncio.gather(*putting, return_exceptions=True)
        await transaction.rollback()
        await until(lambda: database.app.pool.checkedout() == 0)  # type: ignore[attr-defined]  # every queue pool counts
        await assert_nothing_leaked(database, own_postgres)
        answer = await known("PUT", "/catalog/products/p", json=product_body(title="After"))
        assert answer.status_code == 200
    await assert_sums(world)


async def test_a_deadline_passes_at_any_moment_of_a_transaction(
    world: World, own_postgres: OwnPostgres
) -> None:
    """Between any two messages, the first connection, BEGIN and COMMIT included: what was put is there whole or not."""
    await world.put("p", variant("a", 1), variant("b", 1))
    await world.connect()
    async with way_to(own_postgres, pool_size=2, timeouts=_PATIENT) as (proxy, slow):
        catalog = with_database(world, slow).catalog
        proxy.delay_seconds = 0.002
        loop = asyncio.get_running_loop()
        began = loop.time()
        await catalog.put_product(world.store_id, _two(2))
        whole_seconds = loop.time() - began
        cut_off = 0
        for step in range(_STEPS):
            if step % 10 == 0:
                # Connections are made anew now and then, which is then what is cut off.
                await slow.dispose()
            try:
                async with asyncio.timeout(whole_seconds * 1.2 * step / _STEPS):
                    await catalog.put_product(world.store_id, _two(step + 3))
            except TimeoutError:
                cut_off += 1
            prices = await fetch(world, "SELECT DISTINCT price FROM variants WHERE variant_id IN ('a', 'b')")
            assert len(prices) == 1
        assert cut_off > _STEPS / 3
        proxy.delay_seconds = 0
        await assert_nothing_leaked(slow, own_postgres)
        assert len(own_postgres.sql(_SESSIONS).split()) <= 2 * 2
        await catalog.put_product(world.store_id, _two(7777))
    await world.run()
    await world.assert_right()
    assert world.at_meta()["a"]["price"] == "77.77 EUR"


_STEPS = 60
_SESSIONS = (
    "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'meta-sync%' AND client_addr IS NULL "
    "AND state IS NOT NULL AND datname = current_database()"
)


async def test_a_deadline_passes_while_a_statement_waits(
    world: World, own_postgres: OwnPostgres, other: asyncpg.Connection, database: Database
) -> None:
    """The server is told to stop, too: nothing waits there for a lock in the name of somebody who has gone."""
    await world.put("p", variant("a"))
    transaction = other.transaction()
    await transaction.start()
    await other.execute("UPDATE products SET title = 'Held'")
    for _ in range(4):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.15):
                await world.put("p", variant("a", 5))
    await until(lambda: waiting_for_locks(own_postgres) == 0, 3)
    await assert_nothing_leaked(database, own_postgres)
    await transaction.rollback()
    await world.put("p", variant("a", 5))


async def test_a_deadline_passes_while_all_wait_for_a_connection(
    world: World, own_postgres: OwnPostgres, other: asyncpg.Connection
) -> None:
    tight = Database.connect(own_postgres.url, pool_size=1, timeouts=_PATIENT)
    catalog = with_database(world, tight).catalog
    await world.put("p", variant("a"))
    transaction = other.transaction()
    await transaction.start()
    await other.execute("UPDATE products SET title = 'Held'")
    waiting = [asyncio.create_task(catalog.delete_product(world.store_id, "p")) for _ in range(8)]
    await until(lambda: waiting_for_locks(own_postgres) == 1)
    for task in waiting[::2]:
        task.cancel()
    await transaction.rollback()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(end, asyncio.CancelledError) for end in ends) == 4
    assert not [end for end in ends if isinstance(end, Exception)]
    await assert_nothing_leaked(tight, own_postgres)
    await tight.dispose()


async def test_nobody_answers(world: World, own_postgres: OwnPostgres) -> None:
    """A server that takes everything and says nothing: on the way to it, and in the middle of a transaction."""
    hurried = DatabaseTimeouts(connection_seconds=0.3, statement_seconds=0.5, lock_seconds=0.3)
    async with way_to(own_postgres, pool_size=2, timeouts=hurried) as (proxy, silent):
        catalog = with_database(world, silent).catalog
        await catalog.put_product(world.store_id, _two(1))
        loop = asyncio.get_running_loop()
        proxy.mode = "blackhole"
        began = loop.time()
        # First the connections there are, then new ones.
        for _ in range(3):
            with pytest.raises(DatabaseAwayError, match="cannot be reached"):
                await catalog.put_product(world.store_id, _two(2))
        assert loop.time() - began < 3 * 5
        proxy.mode = "pass"
        await catalog.put_product(world.store_id, _two(3))
        async with asyncio.timeout(6):
            with pytest.raises(Exception) as failure:
                async with silent.platform() as connection:
                    proxy.mode = "blackhole"
                    await connection.exec_driver_sql("SELECT 1")
        assert is_outage(failure.value)
        proxy.mode = "pass"
        await catalog.put_product(world.store_id, _two(4))
        await assert_nothing_leaked(silent, own_postgres)


async def test_a_deadline_passes_while_nobody_answers(own_postgres: OwnPostgres) -> None:
    """The end of the transaction is not waited for as long as an answer would be: nobody is there to give one."""
    async with way_to(own_postgres, pool_size=1, timeouts=_PATIENT) as (proxy, silent):
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), silent.platform() as connection:
                await connection.exec_driver_sql("SELECT 1")
                proxy.mode = "blackhole"
                await connection.exec_driver_sql("SELECT 1")
        assert loop.time() - began < 6
        proxy.mode = "pass"
        await assert_nothing_leaked(silent, own_postgres)


def _two(price: int) -> ProductInput:
    return product("p", variant("a", price), variant("b", price))
