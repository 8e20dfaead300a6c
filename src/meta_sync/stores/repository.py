"""Rows of stores. Takes an open transaction and never commits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher
from meta_sync.core.errors import NotFoundError
from meta_sync.core.text import text_fault
from meta_sync.core.timed_list import Position, TimedList, TimedPage
from meta_sync.stores.models import Store
from meta_sync.stores.settings import (
    SECRET_FIELDS,
    StoreSettings,
    settings_from_stored,
    settings_to_stored,
)
from meta_sync.stores.tables import stores

__all__ = [
    "app_credentials",
    "insert_store",
    "list_stores",
    "load_secret",
    "load_settings",
    "lock_settings",
    "lock_store",
    "read_store",
    "rename_store",
    "require_possible_id",
    "rotate_secrets",
    "secret_context",
    "secrets_present",
    "write_secrets",
    "write_settings",
]

_STORE_COLUMNS = (
    stores.c.store_id,
    stores.c.public_id,
    stores.c.name,
    stores.c.mapping_epoch,
    stores.c.created_at,
    stores.c.updated_at,
)
_LIST = TimedList(_STORE_COLUMNS, stores.c.created_at, stores.c.store_id, lambda row: Store(*row))

# Built once: the pipeline asks these in every turn and for every handle.
_SETTINGS = select(stores.c.settings, stores.c.mapping_epoch).where(
    stores.c.store_id == bindparam("store_id")
)
_SECRETS = {
    column: select(stores.c[column]).where(stores.c.store_id == bindparam("store_id"))
    for column in sorted(SECRET_FIELDS)
}


def secret_context(column: str, store_id: str) -> str:
    """What a secret of a store is bound to."""
    return f"stores.{column}:{store_id}"


def require_possible_id(store_id: str) -> None:
    """Keep what no id looks like away from the database, which would fail on it.

    Raises
    ------
    NotFoundError
        No store can have the id.
    """
    if not store_id or text_fault(store_id) is not None:
        raise NotFoundError("There is no such store.")


async def insert_store(
    connection: AsyncConnection, *, store_id: str, public_id: str, name: str, settings: StoreSettings
) -> Store:
    """Add a store. Needs a transaction across stores: requests of a store cannot make one."""
    rows = await connection.execute(
        insert(stores)
        .values(store_id=store_id, public_id=public_id, name=name, settings=settings_to_stored(settings))
        .returning(*_STORE_COLUMNS)
    )
    return _store(rows.one())


async def list_stores(
    connection: AsyncConnection, page: int, limit: int, after: Position | None
) -> TimedPage[Store]:
    """A page of all stores, oldest first; a position rules over ``page``. Needs a transaction across stores.

    Raises
    ------
    ValidationFailedError
        The page lies beyond what pages reach.
    """
    return await _LIST.page(connection, page=page, limit=limit, after=after)


async def read_store(connection: AsyncConnection, store_id: str) -> Store:
    """One store.

    Raises
    ------
    NotFoundError
        There is no such store.
    """
    rows = await connection.execute(select(*_STORE_COLUMNS).where(stores.c.store_id == store_id))
    return _store(_found(rows.first()))


async def rename_store(connection: AsyncConnection, store_id: str, name: str) -> Store:
    """Give a store another name.

    Raises
    ------
    NotFoundError
        There is no such store.
    """
    rows = await connection.execute(
        update(stores)
        .where(stores.c.store_id == store_id)
        .values(name=name, updated_at=func.now())
        .returning(*_STORE_COLUMNS)
    )
    return _store(_found(rows.first()))


async def lock_store(connection: AsyncConnection, store_id: str) -> None:
    """Take the store's row, so that changes of settings, token and catalog go one after the other.

    Raises
    ------
    NotFoundError
        There is no such store.
    """
    rows = await connection.execute(
        select(stores.c.store_id).where(stores.c.store_id == store_id).with_for_update()
    )
    _found(rows.first())


async def load_settings(connection: AsyncConnection, store_id: str) -> tuple[StoreSettings, int]:
    """The settings of a store and its mapping epoch.

    Raises
    ------
    NotFoundError
        There is no such store.
    """
    row = _found((await connection.execute(_SETTINGS, {"store_id": store_id})).first())
    return settings_from_stored(row[0]), row[1]


async def lock_settings(connection: AsyncConnection, store_id: str) -> StoreSettings:
    """The settings of a store, its row locked until the transaction ends.

    Raises
    ------
    NotFoundError
        There is no such store.
    """
    rows = await connection.execute(
        select(stores.c.settings).where(stores.c.store_id == store_id).with_for_update()
    )
    return settings_from_stored(_found(rows.first()).settings)


async def write_settings(
    connection: AsyncConnection, store_id: str, settings: StoreSettings, *, raise_mapping_epoch: bool
) -> None:
    """Store settings; the row must be locked."""
    await connection.execute(
        update(stores)
        .where(stores.c.store_id == store_id)
        .values(
            settings=settings_to_stored(settings),
            mapping_epoch=stores.c.mapping_epoch + (1 if raise_mapping_epoch else 0),
            updated_at=func.now(),
        )
    )


async def secrets_present(connection: AsyncConnection, store_id: str) -> dict[str, bool]:
    """Which secrets a store has, by column."""
    columns = sorted(SECRET_FIELDS)
    rows = await connection.execute(
        select(*(stores.c[name].is_not(None).label(name) for name in columns)).where(
            stores.c.store_id == store_id
        )
    )
    row = _found(rows.mappings().first())
    return {name: bool(row[name]) for name in columns}


async def load_secret(
    connection: AsyncConnection, store_id: str, column: str, cipher: Cipher
) -> SecretStr | None:
    """One secret of a store, or ``None`` when it is not set.

    Raises
    ------
    DecryptionError
        No configured key opens it.
    """
    value = await connection.scalar(_SECRETS[column], {"store_id": store_id})
    if value is None:
        return None
    return cipher.decrypt(value, context=secret_context(column, store_id))


async def write_secrets(
    connection: AsyncConnection, store_id: str, secrets: Mapping[str, SecretStr | None], cipher: Cipher
) -> None:
    """Encrypt secrets into their columns; ``None`` removes one."""
    if not secrets:
        return
    values = {
        column: None if secret is None else cipher.encrypt(secret, context=secret_context(column, store_id))
        for column, secret in secrets.items()
    }
    await connection.execute(
        update(stores).where(stores.c.store_id == store_id).values(**values, updated_at=func.now())
    )


async def app_credentials(
    connection: AsyncConnection, store_id: str, cipher: Cipher, settings: Settings
) -> tuple[str | None, SecretStr | None]:
    """The Meta app a store uses, as id and secret: its own, where it has none the process's.

    The process's secret never goes with another app's id.

    Raises
    ------
    NotFoundError
        There is no such store.
    DecryptionError
        No configured key opens the store's secret.
    """
    own, _ = await load_settings(connection, store_id)
    app_id = own.app_id or settings.app_id
    secret = await load_secret(connection, store_id, "app_secret", cipher)
    if secret is None and app_id == settings.app_id:
        secret = settings.app_secret
    return app_id, secret


async def rotate_secrets(connection: AsyncConnection, cipher: Cipher) -> int:
    """Encrypt every secret of every store with the newest key; returns how many there were to do.

    Needs a transaction across stores.
    """
    columns = sorted(SECRET_FIELDS)
    rows = await connection.execute(
        select(stores.c.store_id, *(stores.c[name] for name in columns))
        .order_by(stores.c.store_id)
        .with_for_update()
    )
    rotated = 0
    for row in rows.mappings().all():
        store_id = row["store_id"]
        old = {name: row[name] for name in columns if row[name] and not cipher.is_current(row[name])}
        await write_secrets(
            connection,
            store_id,
            {
                name: cipher.decrypt(value, context=secret_context(name, store_id))
                for name, value in old.items()
            },
            cipher,
        )
        rotated += len(old)
    return rotated


def _found(row: Any) -> Any:
    if row is None:
        raise NotFoundError("There is no such store.")
    return row


def _store(row: Any) -> Store:
    return Store(row.store_id, row.public_id, row.name, row.mapping_epoch, row.created_at, row.updated_at)
