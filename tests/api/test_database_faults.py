"""The API over a PostgreSQL that is away, cut, full, read-only, locked or slow: 503 with a sentence, and no 2xx untrue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from meta_sync.core import failpoints
from meta_sync.core.db import Database, DatabaseTimeouts
from meta_sync.sync import outbox
from tests.support.api import Api, Caller, assert_error, open_api, product_body
from tests.support.database_faults import (
    SHORT,
    CommitCut,
    OwnPostgres,
    assert_nothing_leaked,
    until,
    way_to,
    with_database,
)
from tests.support.pipeline import assert_tidy, one
from tests.support.proxy import When
from tests.support.serving import serving
from tests.support.world import World, open_world

_PUT = ("PUT", "/catalog/products/p")


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
    """A caller over real sockets."""
    known = await api.caller()
    async with serving(api.app) as address, httpx.AsyncClient(base_url=address, timeout=20) as http:
        yield Caller(http, known.headers)


@pytest.fixture
async def other(own_postgres: OwnPostgres) -> AsyncIterator[asyncpg.Connection]:
    """Another session of the server, which stands in the way."""
    connection = await asyncpg.connect(
        host=str(own_postgres.server.socket_directory), user="postgres", database=own_postgres.name, ssl=False
    )
    yield connection
    await connection.close(timeout=5)


def _refused(response: httpx.Response) -> dict[str, Any]:
    body = assert_error(response, 503, "SERVICE_UNAVAILABLE")
    assert 0 < int(response.headers["retry-after"]) <= 10
    assert "try again" in body["message"]
    for inside in ("asyncpg", "postgres", "SELECT", "UPDATE", "127.0.0.1", "sqlalchemy"):
        assert inside not in response.text
    return body


async def _put(store: Caller, title: str = "T-shirt") -> httpx.Response:
    return await store(*_PUT, json=product_body(title=title))


async def _title(store: Caller) -> str:
    return str((await store.data("GET", _PUT[1]))["title"])


# --- Away -----------------------------------------------------------------------------------------------------------


async def test_the_server_is_down(store: Caller, own_postgres: OwnPostgres, database: Database) -> None:
    """Scenario 37: an answer at once, the process stays alive, and the first request after it is served."""
    assert (await _put(store)).status_code == 200
    await asyncio.to_thread(own_postgres.server.stop)
    began = asyncio.get_running_loop().time()
    for _ in range(2):
        _refused(await _put(store, "Other"))
        _refused(await store.get("/admin/meta/status"))
        _refused(await store.get("/health/ready"))
        assert (await store.get("/health/live")).status_code == 200
    assert asyncio.get_running_loop().time() - began < 5
    await asyncio.to_thread(own_postgres.start)
    assert (await store.get("/health/ready")).status_code == 200
    assert await _title(store) == "T-shirt"
    assert (await _put(store, "Other")).status_code == 200
    await assert_nothing_leaked(database, own_postgres)


async def test_the_server_crashes_in_a_request(
    store: Caller, own_postgres: OwnPostgres, database: Database
) -> None:
    """Scenario 36: what was not committed is not there, and is said not to be certain."""
    assert (await _put(store)).status_code == 200
    failpoints.arm("catalog.before_commit", "sleep:0.4@1")
    putting = asyncio.create_task(_put(store, "Other"))
    await until(lambda: failpoints._armed["catalog.before_commit"].passed == 1)
    await asyncio.to_thread(own_postgres.crash)
    assert "may not have been done" in _refused(await putting)["message"]
    await asyncio.to_thread(own_postgres.start)
    assert await _title(store) == "T-shirt"
    assert (await _put(store, "Other")).status_code == 200
    await assert_nothing_leaked(database, own_postgres)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_answer_to_a_commit_is_lost(world: World, own_postgres: OwnPostgres, when: When) -> None:
    """Scenario 38: nobody knows whether it is stored, so it is 503; the same request again changes nothing more."""
    await world.connect()
    async with way_to(own_postgres) as (proxy, database), open_api(with_database(world, database)) as api:
        store = await api.caller()
        cut = CommitCut(proxy, database, outbox._UPSERT_INTENTS, when)
        assert "may not have been done" in _refused(await _put(store))["message"]
        assert cut.has_struck
        again = (await _put(store)).json()["data"]
        assert again["enqueued"] == (1 if when == "before" else 0), again
        await assert_nothing_leaked(database, own_postgres)
    assert await one(world, "SELECT count(*) FROM intents") == 1
    await world.run()
    await assert_tidy(world)
    assert set(world.at_meta()) == {"v1"}


# --- In each other's way -------------------------------------------------------------------------------------------


async def test_a_deadlock_is_tried_again_as_a_whole(
    store: Caller, own_postgres: OwnPostgres, other: asyncpg.Connection
) -> None:
    """Scenario 40. The other session waits longer before it looks for deadlocks, so that the victim is the request."""
    assert (await _put(store)).status_code == 200
    before = own_postgres.log().count("deadlock detected")
    own_postgres.set("deadlock_timeout", "'50ms'")
    await other.execute("SET deadlock_timeout = '20s'")
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT 1 FROM intents FOR UPDATE")
    putting = asyncio.create_task(_put(store, "Other"))
    await until(lambda: _waits_for_a_lock(own_postgres))
    await other.execute("SELECT 1 FROM products FOR UPDATE")
    await transaction.commit()
    assert (await putting).status_code == 200
    assert await _title(store) == "Other"
    assert own_postgres.log().count("deadlock detected") == before + 1


def _waits_for_a_lock(server: OwnPostgres) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return server.sql(waiting).strip() != "0"


async def test_a_serialization_failure_is_tried_again_as_a_whole(
    store: Caller, own_postgres: OwnPostgres, other: asyncpg.Connection
) -> None:
    assert (await _put(store)).status_code == 200
    own_postgres.set("default_transaction_isolation", "'repeatable read'")
    transaction = other.transaction(isolation="read_committed")
    await transaction.start()
    await other.execute("UPDATE products SET title = title || ' of others'")
    putting = asyncio.create_task(_put(store, "Other"))
    await until(lambda: _waits_for_a_lock(own_postgres))
    await transaction.commit()
    assert (await putting).status_code == 200
    assert await _title(store) == "Other"


async def test_a_transaction_is_tried_again_a_few_times_only(
    store: Caller, own_postgres: OwnPostgres, database: Database
) -> None:
    assert (await _put(store)).status_code == 200
    own_postgres.sql("CREATE SEQUENCE tries; GRANT ALL ON SEQUENCE tries TO PUBLIC")
    _break(
        own_postgres, "PERFORM nextval('tries'); RAISE 'could not serialize access' USING ERRCODE = '40001'"
    )
    assert "written by others" in _refused(await _put(store, "Other"))["message"]
    assert own_postgres.sql("SELECT last_value FROM tries").strip() == "5"
    _mend(own_postgres)
    assert await _title(store) == "T-shirt"
    assert (await _put(store, "Other")).status_code == 200
    await assert_nothing_leaked(database, own_postgres)


async def test_a_lock_that_does_not_come(
    store: Caller, own_postgres: OwnPostgres, other: asyncpg.Connection, database: Database
) -> None:
    assert (await _put(store)).status_code == 200
    transaction = other.transaction()
    await transaction.start()
    await other.execute("UPDATE products SET title = 'Held'")
    began = asyncio.get_running_loop().time()
    assert "written by others" in _refused(await _put(store, "Other"))["message"]
    # Two waits of 0.3 s, no more.
    assert asyncio.get_running_loop().time() - began < 3
    await transaction.rollback()
    assert (await _put(store, "Other")).status_code == 200
    await assert_nothing_leaked(database, own_postgres)


# --- Too much, too slow --------------------------------------------------------------------------------------------


async def test_no_connection_is_free(
    world: World, own_postgres: OwnPostgres, other: asyncpg.Connection
) -> None:
    """Scenario 41: all places are taken by requests that wait for a lock; the others do not queue up behind them."""
    timeouts = DatabaseTimeouts(connection_seconds=0.4, statement_seconds=10, lock_seconds=2)
    tight = Database.connect(own_postgres.url, pool_size=2, timeouts=timeouts)
    async with open_api(with_database(world, tight)) as api:
        store = await api.caller()
        assert (await _put(store)).status_code == 200
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE products SET title = 'Held'")
        loop = asyncio.get_running_loop()
        began = loop.time()
        first = [asyncio.create_task(_put(store, f"T{number}")) for number in range(2)]
        await until(lambda: tight.app.pool.checkedout() == 2)  # type: ignore[attr-defined]  # every queue pool counts
        late = await asyncio.gather(*(_put(store, f"L{number}") for number in range(20)))
        assert loop.time() - began < 2
        for response in late:
            _refused(response)
        assert (await api.http.get("/health/live")).status_code == 200
        await transaction.rollback()
        assert {response.status_code for response in await asyncio.gather(*first)} == {200}
        assert (await _put(store, "Last")).status_code == 200
        assert await _title(store) == "Last"
        await assert_nothing_leaked(tight, own_postgres)
    await tight.dispose()


async def test_a_statement_takes_too_long(
    store: Caller, own_postgres: OwnPostgres, database: Database
) -> None:
    assert (await _put(store)).status_code == 200
    _break(own_postgres, "PERFORM pg_sleep(30)")
    began = asyncio.get_running_loop().time()
    _refused(await _put(store, "Other"))
    assert asyncio.get_running_loop().time() - began < 5
    await assert_nothing_leaked(database, own_postgres)
    _mend(own_postgres)
    assert await _title(store) == "T-shirt"
    assert (await _put(store, "Other")).status_code == 200


# --- Not to be written to -----------------------------------------------------------------------------------------


async def test_the_server_is_read_only(store: Caller, own_postgres: OwnPostgres, database: Database) -> None:
    """Scenario 43. The pools leave such a server: after a fail-over the address leads to another one."""
    assert (await _put(store)).status_code == 200
    own_postgres.set("default_transaction_read_only", "on")
    await until(lambda: own_postgres.sql("SHOW default_transaction_read_only").strip() == "on")
    before = await _sessions(own_postgres)
    _refused(await _put(store, "Other"))
    assert not before & await _sessions(own_postgres)
    assert await _title(store) == "T-shirt"
    own_postgres.set("default_transaction_read_only", "off")
    await until(lambda: own_postgres.sql("SHOW default_transaction_read_only").strip() == "off")
    assert (await _put(store, "Other")).status_code == 200
    assert await _title(store) == "Other"
    await assert_nothing_leaked(database, own_postgres)


async def _sessions(server: OwnPostgres) -> set[str]:
    """Those of requests of stores; the worker's role only reads in them."""
    rows = server.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'meta-sync app'")
    return set(rows.split())


async def test_the_disk_is_full(store: Caller, own_postgres: OwnPostgres, database: Database) -> None:
    assert (await _put(store)).status_code == 200
    _break(own_postgres, "RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'")
    _refused(await _put(store, "Other"))
    assert await _title(store) == "T-shirt"
    _mend(own_postgres)
    assert (await _put(store, "Other")).status_code == 200
    await assert_nothing_leaked(database, own_postgres)


def _break(server: OwnPostgres, body: str) -> None:
    server.sql(
        f"CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$"
    )
    server.sql("CREATE TRIGGER broken BEFORE INSERT OR UPDATE ON products EXECUTE FUNCTION broken()")


def _mend(server: OwnPostgres) -> None:
    server.sql("DROP TRIGGER broken ON products")
