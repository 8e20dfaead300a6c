"""What a caller sees when things go wrong around the API, and what one store can learn of another: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from meta_sync.core.crypto import Cipher, generate_encryption_key
from meta_sync.core.db import Database, DatabaseRole, create_engine, retry_transaction
from tests.support.api import Api, Caller, assert_error, open_api, product_body
from tests.support.world import World

PATCH: dict[str, Any] = {"json": {"defaultBrand": "Acme"}}


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url, role=None)
    yield engine
    await engine.dispose()


@asynccontextmanager
async def locked_store(database: Database) -> AsyncIterator[None]:
    """Every store's row is held by somebody else."""
    async with database.platform() as connection:
        await connection.execute(text("SELECT 1 FROM stores FOR UPDATE"))
        yield


async def _backend_that_waits(owner: AsyncEngine) -> int:
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(20):
        while True:
            async with owner.connect() as connection:
                pid = (await connection.execute(text(waiting))).scalars().first()
            if pid is not None:
                return int(pid)
            await asyncio.sleep(0.01)


def _checked_out(database: Database) -> int:
    count: int = database.app.pool.checkedout()  # type: ignore[attr-defined]  # the pool is a QueuePool
    return count


async def test_a_connection_that_dies_in_mid_transaction_is_a_503(
    store: Caller, world: World, owner: AsyncEngine
) -> None:
    async with locked_store(world.database):
        asked = asyncio.create_task(store("PATCH", "/admin/meta/settings", **PATCH))
        pid = await _backend_that_waits(owner)
        async with owner.connect() as connection:
            await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        answer = await asked
        body = assert_error(answer, 503, "SERVICE_UNAVAILABLE")
        assert int(answer.headers["retry-after"]) > 0
        # The commit may have got through before its answer was lost: nothing else may be claimed.
        assert "may not have been done" in body["message"]
    await store.data("PATCH", "/admin/meta/settings", **PATCH)
    assert _checked_out(world.database) == 0


async def test_a_caller_that_goes_away_gives_its_connection_back(
    store: Caller, world: World, owner: AsyncEngine
) -> None:
    async with locked_store(world.database):
        for _ in range(8):
            asked = asyncio.create_task(store("PATCH", "/admin/meta/settings", **PATCH))
            await _backend_that_waits(owner)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        assert _checked_out(world.database) == 0
    await store.data("PATCH", "/admin/meta/settings", **PATCH)


async def test_a_pool_with_nothing_to_give_is_a_503(store: Caller, world: World, database_url: str) -> None:
    tight = Database(
        create_engine(database_url, role=DatabaseRole.APP, pool_size=1),
        create_engine(database_url, role=DatabaseRole.WORKER, pool_size=1),
    )
    # The test does not wait as long as a caller would.
    tight.app.pool._timeout = 0.1  # type: ignore[attr-defined]  # the part under test is not public
    async with open_api(replace(world, database=tight)) as api, tight.app.connect():
        answer = await api.http.get("/admin/meta/settings", headers=store.headers)
        assert_error(answer, 503, "SERVICE_UNAVAILABLE")
        assert int(answer.headers["retry-after"]) > 0
    await tight.dispose()


async def test_a_lock_that_does_not_come_is_asked_for_twice_and_no_more(database: Database) -> None:
    tries = 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        async with database.platform() as connection:
            await connection.execute(text("DO $$ BEGIN RAISE SQLSTATE '55P03'; END $$"))

    with pytest.raises(DBAPIError):
        await retry_transaction(work)
    assert tries == 2


# --- remembered answers -------------------------------------------------------------------------------------------


async def _second_store(api: Api) -> str:
    return (await api.factory.stores().create("Second", currency="EUR")).store_id


async def test_one_idempotency_key_in_two_stores_is_two_keys(api: Api, store: Caller) -> None:
    other = await api.caller(await _second_store(api))
    named = {"headers": {"Idempotency-Key": "the-same"}}
    file = b'id,title,price\n1,T,"1 EUR"\n'
    ids = set()
    for caller in (store, other, store, other):
        answer = await caller(
            "POST", "/catalog/imports", params={"format": "google-csv"}, content=file, **named
        )
        assert answer.status_code == 202, answer.text
        ids.add(answer.json()["data"]["importId"])
    assert len(ids) == 2


async def test_an_answer_whose_encryption_key_is_gone_is_no_fault_of_ours(api: Api) -> None:
    named: dict[str, Any] = {"json": {"name": "A"}, "headers": {"Idempotency-Key": "once"}}
    platform = await api.platform()
    await platform.data("POST", "/platform/stores", **named)
    api.context.cipher = Cipher([SecretStr(generate_encryption_key())])
    body = assert_error(await platform("POST", "/platform/stores", **named), 409, "CONFLICT")
    assert "encrypted with a key that is gone" in body["message"]


# --- one store and another ----------------------------------------------------------------------------------------


async def test_the_same_ids_in_two_stores_are_two_of_everything(api: Api, store: Caller) -> None:
    other = await api.caller(await _second_store(api))
    await store.data("PUT", "/catalog/products/p1", json=product_body("v1", title="Ours"))
    await other.data("PUT", "/catalog/products/p1", json=product_body("v1", title="Theirs"))
    assert (await store.data("GET", "/catalog/products/p1"))["title"] == "Ours"
    await other.data("DELETE", "/catalog/products/p1")
    assert [one["id"] for one in await store.data("GET", "/catalog/products")] == ["p1"]
    found = await store.data("GET", "/admin/meta/items", params={"search": "theirs"})
    assert found == []


async def test_a_cursor_of_items_is_of_one_store_and_one_filter(api: Api, store: Caller) -> None:
    other = await api.caller(await _second_store(api))
    for caller in (store, other):
        await caller.data("PUT", "/catalog/products/p1", json=product_body("v1", "v2", "v3"))
    page = (await store.get("/admin/meta/items", limit=1, sort="variantId")).json()
    cursor = page["metadata"]["nextCursor"]
    assert (await store.get("/admin/meta/items", limit=1, sort="variantId", cursor=cursor)).status_code == 200
    assert_error(
        await other.get("/admin/meta/items", limit=1, sort="variantId", cursor=cursor),
        400,
        "VALIDATION_ERROR",
    )
    assert_error(
        await store.get("/admin/meta/items", limit=1, sort="variantId", productId="p1", cursor=cursor),
        400,
        "VALIDATION_ERROR",
    )


async def test_what_was_refused_is_not_repeated_in_the_answer(store: Caller) -> None:
    canary = "EAABCANARYCANARY CANARY"
    for method, path, body in (
        ("POST", "/admin/meta/token", {"accessToken": canary}),
        ("POST", "/admin/meta/token", {"accessToken": [canary]}),
        ("POST", "/admin/meta/token", [canary]),
        ("PATCH", "/admin/meta/settings", {"appSecret": [canary]}),
        ("PATCH", "/admin/meta/settings", {"appSecret": canary + "\x07"}),
        ("PATCH", "/admin/meta/settings", {"appId": canary}),
    ):
        answer = await store(method, path, json=body)
        assert (answer.status_code, "CANARY" in answer.text) == (400, False), answer.text
