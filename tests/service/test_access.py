"""API keys and remembered answers, on a real PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from meta_sync.access import repository
from meta_sync.access.models import Permission, Principal, RememberedAnswer, implied
from meta_sync.access.service import AccessService, request_hash
from meta_sync.core.crypto import secret_hash
from meta_sync.core.db import Database
from meta_sync.core.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
    ValidationFailedError,
)
from meta_sync.core.timed_list import Position
from tests.support.secrets import tables_holding


@pytest.fixture
async def access(database: Database) -> AccessService:
    async with database.platform() as connection:
        for store in ("a", "b"):
            await connection.execute(
                text("INSERT INTO stores (store_id, public_id, name) VALUES (:s, :s, :s)"), {"s": store}
            )
    return AccessService(database)


def test_manage_implies_view_and_write_implies_read_and_nothing_else() -> None:
    for higher, lower in (
        ("metaCatalog:manage", "metaCatalog:view"),
        ("catalog:write", "catalog:read"),
        ("orders:manage", "orders:view"),
        ("messages:manage", "messages:view"),
    ):
        assert implied([Permission(higher)]) == {higher, lower}
        assert implied([Permission(lower)]) == {lower}
    for alone in ("conversions:write", "platform:admin"):
        assert implied([Permission(alone)]) == {alone}


def test_a_principal_is_held_to_its_permissions() -> None:
    principal = Principal("key_1", "a", frozenset({Permission.CATALOG_VIEW}))
    principal.require(Permission.CATALOG_VIEW)
    assert not principal.is_platform
    with pytest.raises(ForbiddenError, match="metaCatalog:manage"):
        principal.require(Permission.CATALOG_MANAGE)


async def test_a_key_is_shown_once_and_stands_for_its_store(
    access: AccessService, database: Database
) -> None:
    created = await access.create_key("a", ["metaCatalog:manage", "catalog:read"], "Backend")
    assert created.api_key.startswith("mk_")
    principal = await access.authenticate(created.api_key)
    assert principal == Principal(
        created.key_id,
        "a",
        frozenset({Permission.CATALOG_MANAGE, Permission.CATALOG_VIEW, Permission.PRODUCTS_READ}),
    )
    assert await tables_holding(database, created.api_key) == []
    assert await tables_holding(database, created.api_key.removeprefix("mk_")) == []
    found = await access.list_keys("a", 1, 50)
    [listed] = found.rows
    assert (listed.key_id, listed.name, listed.store_id, found.total) == (created.key_id, "Backend", "a", 1)
    assert created.api_key.startswith(listed.prefix)
    assert created.api_key not in repr(listed)


async def test_keys_are_listed_newest_first_by_page_and_behind_a_place(
    access: AccessService, database: Database
) -> None:
    made = [(await access.create_key("a", ["catalog:read"])).key_id for _ in range(7)]
    await access.create_key("b", ["catalog:read"])
    await access.revoke(made.pop(3))
    async with database.platform() as connection:
        # Two of one moment stand in the order of their ids.
        await connection.execute(
            text("UPDATE api_keys SET created_at = '2026-01-01T00:00:00Z' WHERE key_id = ANY(:ids)"),
            {"ids": made[:2]},
        )
    expected = [*reversed(made[2:]), *sorted(made[:2])]
    by_page = [await access.list_keys("a", number, 2) for number in (1, 2, 3)]
    assert [key.key_id for page in by_page for key in page.rows] == expected
    assert {(page.total, page.is_total_exact) for page in by_page} == {(6, True)}
    found: list[str] = []
    after: Position | None = None
    for is_last in (False, False, False, False, False, True):
        page = await access.list_keys("a", 1 if after is None else 9, 1, after=after)
        found += [key.key_id for key in page.rows]
        after = page.last
        assert (after is None) is is_last
    assert found == expected
    with pytest.raises(ValidationFailedError):
        await access.list_keys("a", 201, 50)


async def test_a_platform_key_belongs_to_no_store(access: AccessService) -> None:
    created = await access.create_key(None, ["platform:admin"])
    principal = await access.authenticate(created.api_key)
    assert principal.is_platform
    assert principal.permissions == {Permission.PLATFORM_ADMIN}
    assert [key.key_id for key in (await access.list_keys(None, 1, 50)).rows] == [created.key_id]
    assert (await access.list_keys("a", 1, 50)).rows == []


@pytest.mark.parametrize(
    ("permissions", "name", "field"),
    [
        ([], None, "permissions"),
        (["catalog:everything"], None, "permissions"),
        (["platform:admin"], None, "permissions"),
        (["catalog:read"], "a\x00", "name"),
        (["catalog:read"], "x" * 201, "name"),
    ],
)
async def test_a_key_is_not_made_of_nonsense(
    access: AccessService, permissions: list[str], name: str | None, field: str
) -> None:
    with pytest.raises(ValidationFailedError) as caught:
        await access.create_key("a", permissions, name)
    assert [fault.field for fault in caught.value.details] == [field]


async def test_no_key_for_a_store_that_is_not_there(access: AccessService) -> None:
    for store_id in ("nowhere", "", "\x00"):
        with pytest.raises(NotFoundError):
            await access.create_key(store_id, ["catalog:read"])
        with pytest.raises(NotFoundError):
            await access.list_keys(store_id, 1, 50)


async def test_a_revoked_key_opens_nothing_at_once(access: AccessService) -> None:
    created = await access.create_key("a", ["catalog:read"])
    await access.authenticate(created.api_key)
    await access.revoke(created.key_id)
    with pytest.raises(UnauthorizedError):
        await access.authenticate(created.api_key)
    assert (await access.list_keys("a", 1, 50)).rows == []
    for gone in (created.key_id, "key_unknown", "a\x00"):
        with pytest.raises(NotFoundError):
            await access.revoke(gone)


@pytest.mark.parametrize(
    "guess", ["", "mk_", "mk_" + "x" * 43, "mk_" + "x" * 5000, "Bearer mk", "mk_\x00" + "x" * 30, "mk_é" * 20]
)
async def test_a_guess_is_refused_without_a_hint(access: AccessService, guess: str) -> None:
    with pytest.raises(UnauthorizedError) as caught:
        await access.authenticate(guess)
    assert caught.value.message == "The API key is not valid."


async def test_the_stored_hash_is_not_a_key(access: AccessService) -> None:
    created = await access.create_key("a", ["catalog:read"])
    with pytest.raises(UnauthorizedError):
        await access.authenticate("mk_" + secret_hash(created.api_key).hex())


async def test_use_is_noted_at_most_once_a_minute_and_waits_for_nobody(
    access: AccessService, database: Database
) -> None:
    created = await access.create_key("a", ["catalog:read"])
    await access.authenticate(created.api_key)
    [first] = (await access.list_keys("a", 1, 50)).rows
    assert first.last_used_at is not None
    await access.authenticate(created.api_key)
    [second] = (await access.list_keys("a", 1, 50)).rows
    assert second.last_used_at == first.last_used_at
    async with database.platform() as connection:
        await connection.execute(text("UPDATE api_keys SET last_used_at = now() - interval '61 seconds'"))
    async with database.platform() as connection:
        await connection.execute(text("SELECT 1 FROM api_keys FOR UPDATE"))
        async with asyncio.timeout(5):
            await access.authenticate(created.api_key)
    await access.authenticate(created.api_key)
    [third] = (await access.list_keys("a", 1, 50)).rows
    assert third.last_used_at is not None
    assert third.last_used_at >= first.last_used_at


async def test_a_store_cannot_see_or_make_keys_of_others(access: AccessService, database: Database) -> None:
    await access.create_key("b", ["catalog:read"])
    await access.create_key(None, ["platform:admin"])
    async with database.store("a") as connection:
        assert (await repository.list_keys(connection, "b", 1, 50)).rows == []
        assert (await repository.list_keys(connection, None, 1, 50)).rows == []
    for owner in ("b", None):
        async with database.store("a") as connection:
            with pytest.raises(DBAPIError, match="row-level security"):
                await repository.insert_key(
                    connection,
                    key_id="k",
                    store_id=owner,
                    name=None,
                    key_hash=b"1",
                    key_prefix="mk_",
                    permissions=[Permission.PLATFORM_ADMIN],
                )


async def test_the_same_request_gets_the_same_answer(access: AccessService) -> None:
    request = request_hash("POST", "/catalog/imports", b"{}")
    assert await access.replay("a", "key-1", request) is None
    await access.remember_answer("a", "key-1", request, 202, b'{"importId":"1"}')
    for _ in range(2):
        assert await access.replay("a", "key-1", request) == RememberedAnswer(202, b'{"importId":"1"}')


@pytest.mark.parametrize(
    "other",
    [
        request_hash("POST", "/catalog/imports", b"{ }"),
        request_hash("PUT", "/catalog/imports", b"{}"),
        request_hash("POST", "/catalog/imports?x", b"{}"),
        request_hash("POST", "/catalog/import", b"s{}"),
    ],
)
async def test_another_request_under_the_same_key_is_a_conflict(access: AccessService, other: bytes) -> None:
    request = request_hash("POST", "/catalog/imports", b"{}")
    await access.replay("a", "key-1", request)
    with pytest.raises(ConflictError, match="another request"):
        await access.replay("a", "key-1", other)
    await access.remember_answer("a", "key-1", request, 200, b"")
    with pytest.raises(ConflictError, match="another request"):
        await access.replay("a", "key-1", other)


async def test_a_request_that_still_runs_is_a_conflict_and_one_of_many_wins(access: AccessService) -> None:
    request = request_hash("POST", "/x", b"")
    outcomes = await asyncio.gather(
        *(access.replay("a", "key-1", request) for _ in range(4)), return_exceptions=True
    )
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 3


async def test_a_forgotten_request_may_run_again(access: AccessService) -> None:
    request = request_hash("POST", "/x", b"")
    await access.replay("a", "key-1", request)
    await access.forget("a", "key-1", request)
    assert await access.replay("a", "key-1", request) is None
    await access.remember_answer("a", "key-1", request, 200, b"done")
    await access.forget("a", "key-1", request)
    assert await access.replay("a", "key-1", request) == RememberedAnswer(200, b"done")


async def test_answers_are_kept_for_a_day(access: AccessService, database: Database) -> None:
    request, other = request_hash("POST", "/x", b"1"), request_hash("POST", "/x", b"2")
    await access.replay("a", "key-1", request)
    await access.remember_answer("a", "key-1", request, 200, b"done")
    await age(database, "23 hours 59 minutes")
    assert await access.replay("a", "key-1", request) == RememberedAnswer(200, b"done")
    assert await access.forget_expired() == 0
    await age(database, "2 minutes")
    assert await access.replay("a", "key-1", other) is None
    await age(database, "25 hours")
    assert await access.forget_expired() == 1


async def test_a_key_taken_by_a_process_that_died_is_free_for_the_same_request(
    access: AccessService, database: Database
) -> None:
    request = request_hash("POST", "/x", b"1")
    await access.replay("a", "key-1", request)
    await age(database, "16 minutes")
    with pytest.raises(ConflictError):
        await access.replay("a", "key-1", request_hash("POST", "/x", b"2"))
    assert await access.replay("a", "key-1", request) is None
    with pytest.raises(ConflictError, match="still running"):
        await access.replay("a", "key-1", request)


async def test_stores_do_not_share_idempotency_keys(access: AccessService) -> None:
    request = request_hash("POST", "/x", b"")
    for store_id in ("a", "b", None):
        assert await access.replay(store_id, "key-1", request) is None
        await access.remember_answer(store_id, "key-1", request, 200, str(store_id).encode())
    for store_id in ("a", "b", None):
        answer = await access.replay(store_id, "key-1", request)
        assert answer == RememberedAnswer(200, str(store_id).encode())


@pytest.mark.parametrize("key", ["", "x" * 256, "a\x00", "a\nb", "\ud800"])
async def test_an_unsound_idempotency_key_is_refused(access: AccessService, key: str) -> None:
    with pytest.raises(ValidationFailedError):
        await access.replay("a", key, b"1")


async def age(database: Database, interval: str) -> None:
    """Make every remembered answer older."""
    async with database.platform() as connection:
        await connection.execute(
            text(f"UPDATE idempotency_keys SET created_at = created_at - interval '{interval}'")
        )
