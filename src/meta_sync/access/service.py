"""API keys, and answers remembered for the Idempotency-Key header.

A key is shown once and stored as a hash. Where a credential stands in a request is the API's business.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.access import repository
from meta_sync.access.models import ApiKey, CreatedKey, Permission, Principal, RememberedAnswer, implied
from meta_sync.core.crypto import secret_hash
from meta_sync.core.db import Database
from meta_sync.core.errors import (
    ConflictError,
    ErrorDetail,
    NotFoundError,
    UnauthorizedError,
    ValidationFailedError,
)
from meta_sync.core.ids import new_id, new_secret
from meta_sync.core.text import text_fault
from meta_sync.core.timed_list import Position, TimedPage
from meta_sync.stores.audit import (
    COMMAND_LINE,
    THE_INSTALLATION,
    AuditAction,
    AuditTarget,
    record_action,
)
from meta_sync.stores.repository import read_store, require_possible_id

__all__ = ["AccessService", "request_hash"]

_KEY_SHAPE = re.compile(r"mk_[A-Za-z0-9_-]{20,200}")
_PREFIX_LENGTH = 9
"""``mk_`` and six characters: enough to recognise a key in a list, 36 of its 256 bits."""
_LONGEST_NAME = 200
_NOTE_USE_EVERY = timedelta(minutes=1)
"""Each request would otherwise write a row."""
_REMEMBERED_FOR = timedelta(hours=24)
_ABANDONED_AFTER = timedelta(minutes=15)
"""Longer than any request may take; a request that has no answer by then died with its process."""
_LONGEST_IDEMPOTENCY_KEY = 255


def request_hash(method: str, path: str, body: bytes) -> bytes:
    """What makes two requests the same to the Idempotency-Key: method, path with query, and every byte of the body."""
    digest = hashlib.sha256()
    for part in (method.upper().encode(), path.encode("utf-8", "surrogateescape"), body):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


class AccessService:
    """Makes, lists, ends and recognises API keys; remembers answers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_key(
        self,
        store_id: str | None,
        permissions: Iterable[str],
        name: str | None = None,
        *,
        actor: str = COMMAND_LINE,
    ) -> CreatedKey:
        """Make a key for a store, or for the platform when ``store_id`` is ``None``; ``actor`` is who asks for it.

        Raises
        ------
        NotFoundError
            There is no such store.
        ValidationFailedError
            No permission, an unknown one, one that a store's key cannot have, or a name that cannot be stored.
        """
        granted = _checked_permissions(permissions, of_store=store_id is not None)
        name = _checked_name(name)
        api_key = new_secret("mk")
        async with self._scope(store_id) as connection:
            if store_id is not None:
                await read_store(connection, store_id)
            row = await repository.insert_key(
                connection,
                key_id=new_id("key"),
                store_id=store_id,
                name=name,
                key_hash=secret_hash(api_key),
                key_prefix=api_key[:_PREFIX_LENGTH],
                permissions=granted,
            )
            await record_action(
                connection,
                store_id or THE_INSTALLATION,
                actor=actor,
                action=AuditAction.API_KEY_CREATED,
                target_type=AuditTarget.API_KEY,
                target_id=row.key_id,
                after={"name": name, "permissions": [one.value for one in granted]},
            )
        return CreatedKey(row.key_id, api_key, store_id, name, granted, row.created_at)

    async def list_keys(
        self, store_id: str | None, page: int, limit: int, *, after: Position | None = None
    ) -> TimedPage[ApiKey]:
        """A page (from 1) of the keys in use, newest first; ``None`` stands for the platform's.

        A position rules over the number of the page.

        Raises
        ------
        NotFoundError
            There is no such store.
        ValidationFailedError
            The page lies beyond what pages reach.
        """
        async with self._scope(store_id) as connection:
            if store_id is not None:
                await read_store(connection, store_id)
            return await repository.list_keys(connection, store_id, page, limit, after)

    async def revoke(self, key_id: str, *, actor: str = COMMAND_LINE) -> None:
        """End a key at once; ``actor`` is who asks for it.

        Raises
        ------
        NotFoundError
            There is no key in use under the id.
        """
        if text_fault(key_id) is None:
            async with self._database.platform() as connection:
                revoked = await repository.revoke_key(connection, key_id)
                if revoked is not None:
                    await record_action(
                        connection,
                        revoked.store_id or THE_INSTALLATION,
                        actor=actor,
                        action=AuditAction.API_KEY_REVOKED,
                        target_type=AuditTarget.API_KEY,
                        target_id=key_id,
                        before={
                            "name": revoked.name,
                            "permissions": [one.value for one in revoked.permissions],
                        },
                    )
                    return
        raise NotFoundError("There is no such API key, or it was revoked before.")

    async def authenticate(self, api_key: str) -> Principal:
        """Who a key stands for. It is looked up by its hash, so no comparison takes longer the closer a guess is.

        Raises
        ------
        UnauthorizedError
            It is no key, or one that was revoked. The message does not say which.
        """
        if not _KEY_SHAPE.fullmatch(api_key):
            raise UnauthorizedError("The API key is not valid.")
        async with self._database.platform() as connection:
            found = await repository.find_key(connection, secret_hash(api_key), used_within=_NOTE_USE_EVERY)
            if found is None:
                raise UnauthorizedError("The API key is not valid.")
            key, is_stale = found
            if is_stale:
                await repository.note_use(connection, key.key_id, used_within=_NOTE_USE_EVERY)
        return Principal(key.key_id, key.store_id, implied(key.permissions))

    async def replay(
        self, store_id: str | None, idempotency_key: str, request: bytes
    ) -> RememberedAnswer | None:
        """Take an Idempotency-Key for a request, or give the answer it already has.

        Parameters
        ----------
        store_id
            The store that the request is for; ``None`` for the platform's own.
        idempotency_key
            As the caller sent it.
        request
            The ``request_hash`` of the request.

        Returns
        -------
        RememberedAnswer or None
            The stored answer. ``None``: the key is taken now, and the caller runs the request and then calls
            ``remember_answer``, or ``forget`` if the answer is not worth keeping.

        Raises
        ------
        ConflictError
            The key was used for another request, or the same one still runs.
        ValidationFailedError
            The key is empty or too long or holds what no header should.
        """
        _require_sound_key(idempotency_key)
        async with self._scope(store_id) as connection:
            if await repository.claim_idempotency_key(
                connection,
                store_id or "",
                idempotency_key,
                request,
                forget_after=_REMEMBERED_FOR,
                abandoned_after=_ABANDONED_AFTER,
            ):
                return None
            taken = await repository.read_idempotency_key(connection, store_id or "", idempotency_key)
        if taken is not None and taken[0] != request:
            raise ConflictError("This Idempotency-Key was used for another request. Use a new one.")
        if taken is None or taken[1] is None:
            raise ConflictError("A request with this Idempotency-Key is still running. Ask again shortly.")
        return RememberedAnswer(taken[1], taken[2] or b"")

    async def remember_answer(
        self, store_id: str | None, idempotency_key: str, request: bytes, status: int, body: bytes
    ) -> None:
        """Keep the answer of the request that took the key, for 24 hours from its beginning."""
        async with self._scope(store_id) as connection:
            await repository.store_answer(
                connection, store_id or "", idempotency_key, request, status=status, body=body
            )

    async def forget(self, store_id: str | None, idempotency_key: str, request: bytes) -> None:
        """Free the key after a failure that the same request may outlive, such as an outage."""
        async with self._scope(store_id) as connection:
            await repository.delete_idempotency_claim(connection, store_id or "", idempotency_key, request)

    async def forget_expired(self) -> int:
        """Drop remembered answers that are over 24 hours old; returns how many."""
        async with self._database.platform() as connection:
            return await repository.delete_idempotency_keys_older_than(connection, _REMEMBERED_FOR)

    def _scope(self, store_id: str | None) -> AbstractAsyncContextManager[AsyncConnection]:
        if store_id is None:
            return self._database.platform()
        require_possible_id(store_id)
        return self._database.store(store_id)


def _checked_permissions(words: Iterable[str], *, of_store: bool) -> tuple[Permission, ...]:
    known = {permission.value: permission for permission in Permission}
    asked = list(dict.fromkeys(words))
    fault = None
    if not asked:
        fault = "must name at least one permission"
    for word in asked:
        if word not in known:
            fault = f"names an unknown permission; known are {', '.join(known)}"
        elif of_store and known[word] is Permission.PLATFORM_ADMIN:
            fault = "must not contain platform:admin for a key of a store"
    if fault is not None:
        raise ValidationFailedError(f"permissions {fault}.", details=[ErrorDetail("permissions", fault)])
    return tuple(known[word] for word in asked)


def _checked_name(name: str | None) -> str | None:
    name = name.strip() if name else None
    if not name:
        return None
    fault = text_fault(name)
    if len(name) > _LONGEST_NAME:
        fault = f"must have at most {_LONGEST_NAME} characters"
    if fault is not None:
        raise ValidationFailedError(f"name {fault}.", details=[ErrorDetail("name", fault)])
    return name


def _require_sound_key(key: str) -> None:
    if not 0 < len(key) <= _LONGEST_IDEMPOTENCY_KEY or not key.isprintable():
        fault = f"must have 1 to {_LONGEST_IDEMPOTENCY_KEY} printable characters"
        raise ValidationFailedError(
            f"Idempotency-Key {fault}.", details=[ErrorDetail("Idempotency-Key", fault)]
        )
