"""Setting a token: what Meta is asked, what is refused and why, what changes with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from meta_sync.connection import repository
from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher, DecryptionError, generate_encryption_key
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, NotFoundError, ServiceError, ValidationFailedError
from meta_sync.core.queue import JobName
from meta_sync.sandbox.faults import FaultKind, FaultSpec
from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN, DEMO_APP_ID, DEMO_APP_SECRET, DEMO_SYSTEM_USER_ID
from tests.service.connection_world import GRAPH_URL, NOW, World, make_world
from tests.support.secrets import tables_holding

DEMO_TOKEN = SecretStr(DEMO_ACCESS_TOKEN)


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    world = make_world(database)
    yield world
    assert world.transport.open_transactions == 0, "a transaction was open over a call to Meta"
    await world.http.aclose()


async def refusal(world: World, store_id: str, token: str) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await world.connection.set_token(store_id, SecretStr(token))
    assert await world.credential(store_id) is None
    assert token not in caught.value.message
    return caught.value


async def test_a_good_token_becomes_the_stores(world: World, database: Database) -> None:
    store_id = await world.store()
    answer = await world.connection.set_token(store_id, SecretStr(f" {DEMO_ACCESS_TOKEN}\n"))
    assert answer.pop("connectedAt")
    assert answer == {
        "connected": True,
        "accountId": DEMO_SYSTEM_USER_ID,
        "accountName": "Demo System User",
        "scope": "business_management,catalog_management,public_profile",
        "tokenKind": "system_user",
        "tokenExpiresAt": None,
    }
    stored = await world.credential(store_id)
    assert stored is not None
    assert stored.access_token.get_secret_value() == DEMO_ACCESS_TOKEN
    assert (stored.app_id, stored.account_id, stored.system_user_id) == (
        DEMO_APP_ID,
        DEMO_SYSTEM_USER_ID,
        DEMO_SYSTEM_USER_ID,
    )
    assert JobName.DRAIN in world.queue.sent
    assert await tables_holding(database, DEMO_ACCESS_TOKEN) == []
    assert DEMO_ACCESS_TOKEN not in repr(stored)


async def test_a_persons_token_has_no_system_user(world: World) -> None:
    expires_at = NOW.timestamp() + 3600
    store_id = await world.connected_store(token_type="USER", expires_at=expires_at)
    stored = await world.credential(store_id)
    assert stored is not None
    assert (stored.token_kind, stored.system_user_id) == ("user", None)
    assert stored.expires_at is not None
    assert stored.expires_at.timestamp() == expires_at


async def test_each_reason_for_a_refusal_has_its_own_sentence(world: World) -> None:
    store_id = await world.store()
    add = world.sandbox.add_token
    killed = add().value
    world.sandbox.kill_token(killed, 460)
    cases = [
        ("has expired", "authentication", add(expires_at=NOW.timestamp() - 1).value),
        ("is not valid", "authentication", "EAAnobodyEverIssuedThis"),
        ("is not valid. Generate a new one and set it here.", "authentication", killed),
        ("is of the kind PAGE", "authentication", add(token_type="PAGE").value),
        ("permission catalog_management.", "permission", add(scopes=["business_management"]).value),
        ("permission business_management.", "permission", add(scopes=["catalog_management"]).value),
        ("permission catalog_management and business_management", "permission", add(scopes=[]).value),
    ]
    for sentence, category, token in cases:
        error = await refusal(world, store_id, token)
        assert (error.status, error.code) == (400, "meta_account_error")
        assert sentence in error.message
        assert error.meta is not None
        assert error.meta["category"] == category
        assert error.meta["fbMessage"] is None or error.meta["fbMessage"] not in error.message
        if token == killed:
            assert "session" in error.meta["fbMessage"].lower()


async def test_a_token_of_another_app_is_refused(world: World) -> None:
    store_id = await world.store()
    # The sandbox knows one app only, so the store is told of another one with the sandbox's secret.
    real = world.sandbox.options
    try:
        world.sandbox.options = type(real)(app_id="999", app_secret=DEMO_APP_SECRET, demo=True)
        await world.stores.patch_settings(store_id, {"appId": "999", "appSecret": DEMO_APP_SECRET})
        await world.connection.set_token(store_id, DEMO_TOKEN)
    finally:
        world.sandbox.options = real
    with pytest.raises(ServiceError) as caught:
        await world.connection.set_token(store_id, DEMO_TOKEN)
    assert caught.value.code == "meta_misconfigured"
    await world.stores.patch_settings(store_id, {"appId": None, "appSecret": None})
    with pytest.raises(ServiceError, match="was issued to the Meta app 999") as caught:
        await world.select(store_id)
    assert caught.value.code == "meta_account_error"


@pytest.mark.parametrize("token", ["", "   ", "two words", "x" * 4097, "a\x00b", "tökén"])
async def test_what_is_no_token_is_refused_before_meta_is_asked(world: World, token: str) -> None:
    store_id = await world.store()
    with pytest.raises(ValidationFailedError) as caught:
        await world.connection.set_token(store_id, SecretStr(token))
    assert [fault.field for fault in caught.value.details] == ["accessToken"]
    assert world.transport.paths == []


@pytest.mark.parametrize("store_id", ["store_unknown", "", "\x00"])
async def test_an_unknown_store_is_not_found(world: World, store_id: str) -> None:
    with pytest.raises(NotFoundError):
        await world.connection.set_token(store_id, DEMO_TOKEN)
    with pytest.raises(NotFoundError):
        await world.select(store_id)


async def test_without_an_app_nothing_is_asked(world: World) -> None:
    store_id = await world.store()
    for settings in (
        Settings(graph_url=GRAPH_URL),
        Settings(graph_url=GRAPH_URL, app_id=DEMO_APP_ID),
        Settings(graph_url=GRAPH_URL, app_secret=SecretStr(DEMO_APP_SECRET)),
    ):
        with pytest.raises(ServiceError, match="No Meta app is configured") as caught:
            await world.service(settings).set_token(store_id, DEMO_TOKEN)
        assert (caught.value.status, caught.value.code) == (400, "meta_misconfigured")
    assert world.transport.paths == []


async def test_a_wrong_app_secret_is_named_as_such(world: World) -> None:
    store_id = await world.store()
    settings = Settings(graph_url=GRAPH_URL, app_id=DEMO_APP_ID, app_secret=SecretStr("not-the-secret"))
    with pytest.raises(ServiceError, match="does not accept the app id") as caught:
        await world.service(settings).set_token(store_id, DEMO_TOKEN)
    assert caught.value.code == "meta_misconfigured"
    assert caught.value.meta is not None
    assert "not-the-secret" not in caught.value.message


@pytest.mark.parametrize(
    ("fault", "status", "code", "category"),
    [
        ({"kind": FaultKind.GRAPH_ERROR, "edge": "me", "code": 4}, 503, "meta_rate_limited", "rate_limit"),
        ({"kind": FaultKind.HTML_500_BEFORE, "edge": "debug_token"}, 502, "meta_graph_error", "network"),
        ({"kind": FaultKind.TRANSIENT_BEFORE, "edge": "me"}, 502, "meta_graph_error", "network"),
        ({"kind": FaultKind.INVALID_JSON, "edge": "debug_token"}, 502, "meta_graph_error", "network"),
        ({"kind": FaultKind.BLOCKED, "edge": "me"}, 400, "meta_account_error", "permission"),
    ],
)
async def test_failures_of_meta_are_told_apart(
    world: World, fault: dict[str, Any], status: int, code: str, category: str
) -> None:
    store_id = await world.store()
    world.sandbox.faults.add(FaultSpec(count=None, **fault))
    error = await refusal(world, store_id, DEMO_ACCESS_TOKEN)
    assert (error.status, error.code) == (status, code)
    assert error.meta is not None
    assert error.meta["category"] == category
    assert (error.retry_after_seconds is not None) == (status == 503)


async def test_a_new_token_serves_the_selected_catalog_and_ends_the_wait(
    world: World, database: Database
) -> None:
    store_id = await world.connected_store()
    await world.select(store_id)
    old = await world.credential(store_id)
    other_store = await world.store("Other")
    assert old is not None
    for store in (store_id, other_store):
        await world.run(
            "INSERT INTO store_pauses (store_id, reason) VALUES (:s, 'needs_reconnect'), (:s, 'meta_unreachable')",
            s=store,
        )
        await world.run("INSERT INTO store_queue (store_id) VALUES (:s)", s=store)
    async with database.platform() as connection:
        assert await repository.mark_dead(connection, old.credential_id, 190, 463, "expired")
    await world.connection.set_token(store_id, DEMO_TOKEN)
    new, link = await world.credential(store_id), await world.link(store_id)
    assert new is not None
    assert link is not None
    assert new.credential_id != old.credential_id
    assert (link.credential_id, link.system_user_id, link.epoch) == (
        new.credential_id,
        DEMO_SYSTEM_USER_ID,
        1,
    )
    assert new.dead_at is None
    assert await world.run("SELECT store_id, reason FROM store_pauses ORDER BY reason, store_id") == sorted(
        [
            (store_id, "meta_unreachable"),
            (other_store, "meta_unreachable"),
            (other_store, "needs_reconnect"),
        ],
        key=lambda row: (row[1], row[0]),
    )
    assert await world.run("SELECT store_id FROM store_queue WHERE due_at <= now()") == [(store_id,)]
    # Nothing uses the old token any more, so it is not kept.
    assert await world.run("SELECT credential_id FROM credentials") == [(new.credential_id,)]


async def test_a_link_left_behind_keeps_its_token(world: World) -> None:
    store_id = await world.connected_store()
    await world.select(store_id)
    old = await world.credential(store_id)
    second = world.sandbox.add_catalog("7100195296754001", "Second")
    await world.select(store_id, second.id)
    await world.connection.set_token(store_id, DEMO_TOKEN)
    assert old is not None
    rows = await world.run(
        "SELECT active, credential_id = :c FROM catalog_links ORDER BY link_id", c=old.credential_id
    )
    assert rows == [(False, True), (True, False)]


async def test_dead_is_one_token_only(world: World, database: Database) -> None:
    first, second = await world.connected_store(), await world.connected_store()
    dead, alive = await world.credential(first), await world.credential(second)
    assert dead is not None
    assert alive is not None
    async with database.platform() as connection:
        assert await repository.mark_dead(connection, dead.credential_id, 190, 460, "password changed")
        assert not await repository.mark_dead(connection, dead.credential_id, 190, 463, "again")
        assert not await repository.mark_dead(connection, "cred_gone", 190, None, "of the past")
    marked = await world.credential(first)
    assert marked is not None
    assert (marked.dead_code, marked.dead_subcode, marked.dead_reason) == (190, 460, "password changed")
    assert await world.credential(second) == alive


async def test_an_app_changed_during_the_question_is_a_conflict(world: World) -> None:
    store_id = await world.store()

    async def change(_: str) -> None:
        await world.stores.patch_settings(store_id, {"appId": "999", "appSecret": "x" * 20})

    world.transport.during = change
    with pytest.raises(ConflictError):
        await world.connection.set_token(store_id, DEMO_TOKEN)
    assert await world.credential(store_id) is None
    world.transport.open_transactions = 0


async def test_tokens_set_at_the_same_time_leave_one(world: World) -> None:
    store_id = await world.store()
    tokens = [SecretStr(world.sandbox.add_token().value) for _ in range(3)]
    await asyncio.gather(*(world.connection.set_token(store_id, token) for token in tokens))
    assert len(await world.run("SELECT 1 FROM credentials WHERE active")) == 1
    # Other calls' transactions are open beside a call here, and that is in order.
    world.transport.open_transactions = 0


async def test_a_token_opens_in_its_own_row_only_and_moves_to_new_keys(
    world: World, database: Database
) -> None:
    first, second = await world.connected_store(), await world.connected_store()
    stored = await world.credential(first)
    assert stored is not None
    newest = SecretStr(generate_encryption_key())
    old_keys = [SecretStr(generate_encryption_key())]
    with pytest.raises(DecryptionError):
        async with database.store(first) as connection:
            await repository.active_credential(connection, Cipher(old_keys), first)
    await world.run(
        "UPDATE credentials SET access_token = (SELECT access_token FROM credentials WHERE store_id = :one)"
        " WHERE store_id = :two",
        one=first,
        two=second,
    )
    with pytest.raises(DecryptionError):
        await world.credential(second)
    with pytest.raises(ServiceError, match="stored token cannot be read") as caught:
        await world.select(second)
    assert caught.value.code == "meta_misconfigured"
    await world.run("DELETE FROM credentials WHERE store_id = :two", two=second)
    both = Cipher([newest, *world.cipher_keys])
    async with database.platform() as connection:
        assert await repository.rotate_tokens(connection, both) == 1
        assert await repository.rotate_tokens(connection, both) == 0
    async with database.store(first) as connection:
        moved = await repository.active_credential(connection, Cipher([newest]), first)
    assert moved is not None
    assert moved.access_token.get_secret_value() == world.tokens[first]


async def test_a_store_cannot_reach_the_token_of_another(world: World, database: Database) -> None:
    mine, other = await world.connected_store(), await world.connected_store()
    theirs = await world.credential(other)
    assert theirs is not None
    async with database.store(mine) as connection:
        assert await repository.credential(connection, world.cipher, theirs.credential_id) is None
        assert await repository.active_credential(connection, world.cipher, other) is None
        assert not await repository.mark_dead(connection, theirs.credential_id, 190, None, "spite")
        await repository.delete_unused_credentials(connection, other)
    assert await world.credential(other) == theirs
