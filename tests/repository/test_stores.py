"""Stores and their settings on a real PostgreSQL: what is written, what is locked, what is never shown."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher, DecryptionError, generate_encryption_key
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, NotFoundError, ValidationFailedError
from meta_sync.stores import repository
from meta_sync.stores.service import StoreService
from tests.support.secrets import tables_holding

KEY = SecretStr(generate_encryption_key())
SECRET = "b7f0c2d1-store-app-secret"


class Listener:
    """Notes what it was told, and reads the row inside the transaction."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool, int]] = []
        self.fails = False

    async def settings_changed(
        self, connection: AsyncConnection, store_id: str, *, mapping_changed: bool, access_changed: bool
    ) -> None:
        _, epoch = await repository.load_settings(connection, store_id)
        self.told.append((store_id, mapping_changed, epoch))
        if self.fails:
            raise RuntimeError("the listener failed")


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def stores(database: Database, listener: Listener) -> StoreService:
    return StoreService(database, Cipher([KEY]), listener)


async def epoch(database: Database, store_id: str) -> int:
    async with database.store(store_id) as connection:
        return (await repository.load_settings(connection, store_id))[1]


async def test_a_store_is_made_with_what_it_begins_with(stores: StoreService) -> None:
    store = await stores.create(
        "  Shop  ",
        currency="eur",
        storefront_base_url="https://shop.example",
        media_base_url="https://media.example",
        enable_sync=True,
    )
    assert store.name == "Shop"
    assert store.store_id != store.public_id
    assert await stores.get(store.store_id) == store
    settings = await stores.settings(store.store_id)
    assert (settings.currency, settings.sync_enabled) == ("EUR", True)
    assert settings.storefront_base_url == "https://shop.example"
    assert settings.media_base_url == "https://media.example"


@pytest.mark.parametrize(
    ("name", "settings", "field"),
    [
        ("", {}, "name"),
        ("x" * 201, {}, "name"),
        ("a\x00b", {}, "name"),
        ("Shop", {"currency": "EURO"}, "currency"),
        ("Shop", {"storefront_base_url": "shop"}, "storefrontBaseUrl"),
    ],
)
async def test_a_store_is_not_made_of_nonsense(
    stores: StoreService, name: str, settings: dict[str, str], field: str
) -> None:
    with pytest.raises(ValidationFailedError) as caught:
        await stores.create(name, **settings)  # type: ignore[arg-type]  # given loosely on purpose
    assert [fault.field for fault in caught.value.details] == [field]
    assert await stores.list(1, 50) == ([], 0)


async def test_stores_are_listed_oldest_first_in_pages(stores: StoreService) -> None:
    made = [await stores.create(f"Shop {number}") for number in range(3)]
    first, total = await stores.list(1, 2)
    second, _ = await stores.list(2, 2)
    assert (first, second, total) == (made[:2], made[2:], 3)
    with pytest.raises(ValidationFailedError):
        await stores.list(201, 50)


async def test_a_store_is_renamed(stores: StoreService) -> None:
    store = await stores.create("Shop")
    assert (await stores.update(store.store_id, "Boutique")).name == "Boutique"
    assert (await stores.get(store.store_id)).name == "Boutique"


@pytest.mark.parametrize("store_id", ["store_unknown", "", "a\x00b", "\ud800"])
async def test_an_unknown_store_is_not_found(stores: StoreService, store_id: str) -> None:
    for attempt in (
        stores.get(store_id),
        stores.update(store_id, "x"),
        stores.settings(store_id),
        stores.settings_view(store_id),
        stores.patch_settings(store_id, {"batchSize": 5}),
    ):
        with pytest.raises(NotFoundError):
            await attempt


async def test_only_a_real_change_of_a_mapping_setting_raises_the_epoch(
    stores: StoreService, database: Database, listener: Listener
) -> None:
    store_id = (await stores.create("Shop", currency="EUR")).store_id
    assert await epoch(database, store_id) == 1

    await stores.patch_settings(store_id, {"currency": "EUR", "batchSize": 2500, "timezone": None})
    assert listener.told == []

    await stores.patch_settings(store_id, {"batchSize": 10, "timezone": "Europe/Berlin", "syncEnabled": True})
    assert listener.told == [(store_id, False, 1)]

    await stores.patch_settings(store_id, {"defaultBrand": "Acme", "batchSize": 10})
    assert listener.told[1:] == [(store_id, True, 2)]

    await stores.patch_settings(store_id, {"defaultBrand": None, "quantityPolicy": "exact"})
    assert listener.told[2:] == [(store_id, True, 3)]
    assert await epoch(database, store_id) == 3


async def test_a_wrong_patch_changes_nothing_at_all(
    stores: StoreService, database: Database, listener: Listener
) -> None:
    store_id = (await stores.create("Shop")).store_id
    with pytest.raises(ValidationFailedError):
        await stores.patch_settings(store_id, {"defaultBrand": "Acme", "appSecret": SECRET, "catalogId": "1"})
    view = await stores.settings_view(store_id)
    assert (view["defaultBrand"], view["appSecret"]) == (None, None)
    assert (await epoch(database, store_id), listener.told) == (1, [])


async def test_a_failing_listener_takes_the_change_with_it(
    stores: StoreService, database: Database, listener: Listener
) -> None:
    store_id = (await stores.create("Shop")).store_id
    listener.fails = True
    with pytest.raises(RuntimeError):
        await stores.patch_settings(store_id, {"defaultBrand": "Acme"})
    assert (await stores.settings(store_id)).default_brand is None
    assert await epoch(database, store_id) == 1


async def test_patches_at_the_same_time_lose_nothing(stores: StoreService, database: Database) -> None:
    store_id = (await stores.create("Shop")).store_id
    patches: list[dict[str, Any]] = [
        {"batchSize": 7},
        {"defaultBrand": "Acme"},
        {"quantityPolicy": "none"},
        {"syncEnabled": True},
        {"appSecret": SECRET},
    ]
    await asyncio.gather(*(stores.patch_settings(store_id, patch) for patch in patches))
    view = await stores.settings_view(store_id)
    assert {key: view[key] for patch in patches for key in patch} == {
        "batchSize": 7,
        "defaultBrand": "Acme",
        "quantityPolicy": "none",
        "syncEnabled": True,
        "appSecret": "configured",
    }
    assert await epoch(database, store_id) == 3


async def test_a_patch_waits_for_the_lock_of_the_store(stores: StoreService, database: Database) -> None:
    store_id = (await stores.create("Shop")).store_id
    async with database.store(store_id) as connection:
        await repository.lock_store(connection, store_id)
        patch = asyncio.create_task(stores.patch_settings(store_id, {"batchSize": 9}))
        done, _ = await asyncio.wait([patch], timeout=0.2)
        assert not done
    assert (await patch)["batchSize"] == 9


async def test_only_what_differs_from_the_defaults_is_stored(
    stores: StoreService, database: Database
) -> None:
    store_id = (await stores.create("Shop")).store_id
    await stores.patch_settings(store_id, {"batchSize": 9, "features": ["catalog", "orders"]})
    await stores.patch_settings(store_id, {"batchSize": 2500})
    async with database.store(store_id) as connection:
        assert await connection.scalar(text("SELECT settings FROM stores")) == {
            "features": ["catalog", "orders"]
        }


async def test_the_currency_is_fixed_once_something_was_sent(
    stores: StoreService, database: Database
) -> None:
    store_id = (await stores.create("Shop", currency="EUR")).store_id
    await stores.patch_settings(store_id, {"currency": "USD"})
    async with database.store(store_id) as connection:
        link_id = await connection.scalar(
            text(
                "INSERT INTO catalog_links (store_id, graph_host, catalog_id, credential_id, active, was_empty) "
                "VALUES (:s, 'h', '1', 'c', false, true) RETURNING link_id"
            ),
            {"s": store_id},
        )
        await connection.execute(
            text(
                "INSERT INTO sync_state (link_id, variant_id, store_id, status) VALUES (:l, 'v', :s, 'never_synced')"
            ),
            {"l": link_id, "s": store_id},
        )
    await stores.patch_settings(store_id, {"currency": "EUR"})
    async with database.store(store_id) as connection:
        await connection.execute(text("UPDATE sync_state SET retailer_id = 'v'"))
    for value in ("USD", None):
        with pytest.raises(ConflictError, match="fixed at EUR"):
            await stores.patch_settings(store_id, {"currency": value})
    await stores.patch_settings(store_id, {"currency": "EUR", "batchSize": 3})
    assert (await stores.settings(store_id)).currency == "EUR"


async def test_the_view_shows_the_selected_catalog_and_never_a_secret(
    stores: StoreService, database: Database
) -> None:
    store_id = (await stores.create("Shop")).store_id
    before = await stores.settings_view(store_id)
    assert {
        key: before[key] for key in ("catalogId", "tokenKind", "appSecret", "verifyToken")
    } == dict.fromkeys(("catalogId", "tokenKind", "appSecret", "verifyToken"))
    async with database.store(store_id) as connection:
        await connection.execute(
            text(
                "INSERT INTO credentials (credential_id, store_id, access_token, token_kind, active) "
                "VALUES ('c', :s, '\\x00', 'system_user', true)"
            ),
            {"s": store_id},
        )
        await connection.execute(
            text(
                "INSERT INTO catalog_links (store_id, graph_host, catalog_id, catalog_name, business_id, business_name,"
                " system_user_id, credential_id, active, was_empty) "
                "VALUES (:s, 'h', '1', 'Main', '2', 'Acme', '3', 'c', true, true)"
            ),
            {"s": store_id},
        )
    view = await stores.patch_settings(store_id, {"appSecret": SECRET, "appId": "42"})
    assert (
        view
        | {
            "catalogId": "1",
            "catalogName": "Main",
            "businessId": "2",
            "businessName": "Acme",
            "systemUserId": "3",
            "tokenKind": "system_user",
            "appId": "42",
            "appSecret": "configured",
            "verifyToken": None,
            "conversionsAccessToken": None,
        }
        == view
    )
    assert SECRET not in repr(view)


async def test_secrets_are_nowhere_in_plain_text_and_open_in_their_own_row_only(
    stores: StoreService, database: Database
) -> None:
    cipher = Cipher([KEY])
    one, two = [(await stores.create(name)).store_id for name in ("One", "Two")]
    await stores.patch_settings(one, {"appSecret": SECRET, "verifyToken": SECRET})
    assert await tables_holding(database, SECRET) == []
    async with database.store(one) as connection:
        loaded = await repository.load_secret(connection, one, "app_secret", cipher)
        assert loaded is not None
        assert loaded.get_secret_value() == SECRET
        # Moved to another column of the same row.
        await connection.execute(text("UPDATE stores SET conversions_access_token = app_secret"))
        with pytest.raises(DecryptionError):
            await repository.load_secret(connection, one, "conversions_access_token", cipher)
    async with database.platform() as connection:
        await connection.execute(
            text(
                "UPDATE stores SET app_secret = (SELECT app_secret FROM stores WHERE store_id = :one)"
                " WHERE store_id = :two"
            ),
            {"one": one, "two": two},
        )
    async with database.store(two) as connection:
        with pytest.raises(DecryptionError):
            await repository.load_secret(connection, two, "app_secret", cipher)


async def test_null_removes_a_secret(stores: StoreService, database: Database) -> None:
    store_id = (await stores.create("Shop")).store_id
    await stores.patch_settings(store_id, {"appSecret": SECRET})
    view = await stores.patch_settings(store_id, {"appSecret": None})
    assert view["appSecret"] is None
    async with database.store(store_id) as connection:
        assert await connection.scalar(text("SELECT app_secret FROM stores")) is None


async def test_secrets_move_to_the_newest_key(stores: StoreService, database: Database) -> None:
    store_id = (await stores.create("Shop")).store_id
    await stores.patch_settings(store_id, {"appSecret": SECRET, "verifyToken": "verify-me-please"})
    newest = SecretStr(generate_encryption_key())
    async with database.platform() as connection:
        assert await repository.rotate_secrets(connection, Cipher([newest, KEY])) == 2
        assert await repository.rotate_secrets(connection, Cipher([newest, KEY])) == 0
    async with database.store(store_id) as connection:
        loaded = await repository.load_secret(connection, store_id, "app_secret", Cipher([newest]))
        assert loaded is not None
        assert loaded.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, ("100", "process-secret")),
        ({"appId": "100"}, ("100", "process-secret")),
        ({"appSecret": "own-secret"}, ("100", "own-secret")),
        ({"appId": "200", "appSecret": "own-secret"}, ("200", "own-secret")),
        # The process's secret must not go with another app's id.
        ({"appId": "200"}, ("200", None)),
    ],
)
async def test_the_app_of_a_store_overrides_the_process(
    stores: StoreService, database: Database, own: dict[str, str], expected: tuple[str, str | None]
) -> None:
    store_id = (await stores.create("Shop")).store_id
    await stores.patch_settings(store_id, own)
    process = Settings(app_id="100", app_secret=SecretStr("process-secret"))
    async with database.store(store_id) as connection:
        app_id, secret = await repository.app_credentials(connection, store_id, Cipher([KEY]), process)
    assert (app_id, secret and secret.get_secret_value()) == expected


async def test_a_store_cannot_reach_another_one(stores: StoreService, database: Database) -> None:
    mine, other = [(await stores.create(name)).store_id for name in ("Mine", "Other")]
    async with database.store(mine) as connection:
        with pytest.raises(NotFoundError):
            await repository.read_store(connection, other)
        with pytest.raises(NotFoundError):
            await repository.load_settings(connection, other)
        with pytest.raises(NotFoundError):
            await repository.rename_store(connection, other, "Taken over")
        with pytest.raises(NotFoundError):
            await repository.lock_store(connection, other)
        settings, _ = await repository.load_settings(connection, mine)
        await repository.write_settings(connection, other, settings, raise_mapping_epoch=True)
    assert await epoch(database, other) == 1
    async with database.store(mine) as connection:
        with pytest.raises(DBAPIError, match="permission denied"):
            await repository.insert_store(
                connection, store_id=mine + "x", public_id="p", name="n", settings=settings
            )
