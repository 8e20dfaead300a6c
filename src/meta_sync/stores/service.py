"""Stores and their settings: making them, reading them, changing them in one transaction with what depends on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.alias_generators import to_camel
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.crypto import Cipher
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.errors import ConflictError, ErrorDetail, ValidationFailedError
from meta_sync.core.ids import new_id
from meta_sync.core.text import text_fault
from meta_sync.core.timed_list import Position, TimedPage
from meta_sync.stores import neighbours, repository
from meta_sync.stores.audit import COMMAND_LINE, AuditAction, AuditTarget, record_action
from meta_sync.stores.models import SettingsListener, Store
from meta_sync.stores.settings import MAPPING_FIELDS, StoreSettings
from meta_sync.stores.settings_changes import changes_of
from meta_sync.stores.settings_patch import SECRET_SHOWN_AS, CheckedPatch, check_patch

__all__ = ["StorePage", "StoreService"]

StorePage = tuple[list[Store], int]
"""Stores of a page, and how many there are, counted no further than pages reach."""

_LONGEST_NAME = 200


class StoreService:
    """Makes stores and keeps their settings.

    Parameters
    ----------
    database
        Where they are.
    cipher
        Encrypts the secrets among the settings.
    listener
        Told of each change of settings inside its transaction; ``None`` where nobody needs to know.
    """

    def __init__(self, database: Database, cipher: Cipher, listener: SettingsListener | None) -> None:
        self._database = database
        self._cipher = cipher
        self._listener = listener

    async def create(
        self,
        name: str,
        *,
        currency: str | None = None,
        storefront_base_url: str | None = None,
        media_base_url: str | None = None,
        enable_sync: bool = False,
        actor: str = COMMAND_LINE,
    ) -> Store:
        """Make a store, with the settings it needs to begin with.

        Here and below ``actor`` is who asks, for the audit log; whoever has no credential is at the command line.

        Raises
        ------
        ValidationFailedError
            The name or a setting is wrong.
        """
        name = _checked_name(name)
        checked = check_patch(
            StoreSettings(),
            {
                "currency": currency,
                "storefrontBaseUrl": storefront_base_url,
                "mediaBaseUrl": media_base_url,
                "syncEnabled": enable_sync,
            },
        )
        async with self._database.platform() as connection:
            store = await repository.insert_store(
                connection,
                store_id=new_id("store"),
                public_id=new_id("pub"),
                name=name,
                settings=checked.settings,
            )
            _, given = changes_of(StoreSettings(), checked.settings)
            await record_action(
                connection,
                store.store_id,
                actor=actor,
                action=AuditAction.STORE_CREATED,
                target_type=AuditTarget.STORE,
                target_id=store.store_id,
                after={"name": name, **given},
            )
            return store

    async def list(self, page: int, limit: int) -> StorePage:
        """A page (from 1) of all stores, oldest first, and their number.

        Raises
        ------
        ValidationFailedError
            The page lies beyond what pages reach.
        """
        found = await self.page(page, limit)
        return found.rows, found.total

    async def page(self, page: int, limit: int, *, after: Position | None = None) -> TimedPage[Store]:
        """A page of all stores, oldest first; a position rules over the number of the page.

        Raises
        ------
        ValidationFailedError
            The page lies beyond what pages reach.
        """
        async with self._database.platform() as connection:
            return await repository.list_stores(connection, page, limit, after)

    async def get(self, store_id: str) -> Store:
        """One store.

        Raises
        ------
        NotFoundError
            There is no such store.
        """
        repository.require_possible_id(store_id)
        async with self._database.store(store_id) as connection:
            return await repository.read_store(connection, store_id)

    async def update(self, store_id: str, name: str, *, actor: str = COMMAND_LINE) -> Store:
        """Give a store another name.

        Raises
        ------
        NotFoundError
            There is no such store.
        ValidationFailedError
            The name is empty, too long or cannot be stored.
        """
        repository.require_possible_id(store_id)
        name = _checked_name(name)
        async with self._database.store(store_id) as connection:
            await repository.lock_store(connection, store_id)
            before = await repository.read_store(connection, store_id)
            if before.name == name:
                return before
            renamed = await repository.rename_store(connection, store_id, name)
            await record_action(
                connection,
                store_id,
                actor=actor,
                action=AuditAction.STORE_RENAMED,
                target_type=AuditTarget.STORE,
                target_id=store_id,
                before={"name": before.name},
                after={"name": name},
            )
            return renamed

    async def settings(self, store_id: str) -> StoreSettings:
        """The settings of a store, for use; secrets are not among them.

        Raises
        ------
        NotFoundError
            There is no such store.
        """
        repository.require_possible_id(store_id)
        async with self._database.store(store_id) as connection:
            settings, _ = await repository.load_settings(connection, store_id)
            return settings

    async def settings_view(self, store_id: str) -> dict[str, Any]:
        """The settings of a store, for showing: camel case, secrets as "configured" or ``None``, the catalog included.

        Raises
        ------
        NotFoundError
            There is no such store.
        """
        repository.require_possible_id(store_id)
        async with self._database.store(store_id) as connection:
            settings, _ = await repository.load_settings(connection, store_id)
            present = await repository.secrets_present(connection, store_id)
            catalog = await neighbours.selected_catalog(connection, store_id)
        secrets = {name: SECRET_SHOWN_AS if there else None for name, there in present.items()}
        view = settings.model_dump(mode="json", by_alias=True)
        view.update({to_camel(name): value for name, value in (secrets | catalog).items()})
        return view

    async def patch_settings(
        self, store_id: str, patch: Mapping[str, Any], *, actor: str = COMMAND_LINE
    ) -> dict[str, Any]:
        """Change settings and return them as ``settings_view`` does. ``None`` puts a key back to its default.

        The mapping epoch rises in the same transaction if a setting that payloads depend on got another value, and the
        listener acts within it. A patch that changes nothing writes nothing.

        Raises
        ------
        NotFoundError
            There is no such store.
        ValidationFailedError
            A key is unknown or read-only, or a value is wrong; ``details`` names each.
        ConflictError
            The currency was to change after something was sent in it.
        """
        repository.require_possible_id(store_id)

        async def work() -> None:
            async with self._database.store(store_id) as connection:
                before = await repository.lock_settings(connection, store_id)
                checked = check_patch(before, patch)
                if before.currency not in {None, checked.settings.currency}:
                    await _require_nothing_sent(connection, store_id, before)
                if checked.settings != before or checked.secrets:
                    await self._record(connection, store_id, before, checked, actor)
                    await self._write(connection, store_id, before, checked)

        await retry_transaction(work)
        return await self.settings_view(store_id)

    async def _record(
        self,
        connection: AsyncConnection,
        store_id: str,
        before: StoreSettings,
        checked: CheckedPatch,
        actor: str,
    ) -> None:
        """Record a change before it is written: of secrets only this tells which were there."""
        present = await repository.secrets_present(connection, store_id) if checked.secrets else {}
        was, now = changes_of(before, checked.settings, checked.secrets, present)
        if now:
            await record_action(
                connection,
                store_id,
                actor=actor,
                action=AuditAction.SETTINGS_CHANGED,
                target_type=AuditTarget.STORE,
                target_id=store_id,
                before=was,
                after=now,
            )

    async def _write(
        self, connection: AsyncConnection, store_id: str, before: StoreSettings, checked: CheckedPatch
    ) -> None:
        mapping_changed = any(
            getattr(before, name) != getattr(checked.settings, name) for name in MAPPING_FIELDS
        )
        await repository.write_settings(
            connection, store_id, checked.settings, raise_mapping_epoch=mapping_changed
        )
        await repository.write_secrets(connection, store_id, checked.secrets, self._cipher)
        if self._listener is not None:
            access_changed = bool(checked.secrets) or any(
                getattr(before, name) != getattr(checked.settings, name)
                for name in ("app_id", "graph_version")
            )
            await self._listener.settings_changed(
                connection, store_id, mapping_changed=mapping_changed, access_changed=access_changed
            )


async def _require_nothing_sent(connection: AsyncConnection, store_id: str, settings: StoreSettings) -> None:
    if await neighbours.anything_sent(connection, store_id):
        raise ConflictError(
            f"The currency is fixed at {settings.currency} since items were sent in it. Use another store for "
            "another currency.",
            details=[ErrorDetail("currency", "cannot change after items were sent")],
        )


def _checked_name(name: str) -> str:
    name = name.strip()
    fault = text_fault(name)
    if not name:
        fault = "must not be empty"
    elif len(name) > _LONGEST_NAME:
        fault = f"must have at most {_LONGEST_NAME} characters"
    if fault is not None:
        raise ValidationFailedError(f"name {fault}.", details=[ErrorDetail("name", fault)])
    return name
