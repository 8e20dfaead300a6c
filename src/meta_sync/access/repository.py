"""Rows of API keys and of remembered answers. Takes an open transaction and never commits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, and_, delete, func, insert, literal, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.access.models import ApiKey, Permission
from meta_sync.access.tables import api_keys, idempotency_keys
from meta_sync.core.timed_list import Position, TimedList, TimedPage

__all__ = [
    "claim_idempotency_key",
    "delete_idempotency_claim",
    "delete_idempotency_keys_older_than",
    "find_key",
    "insert_key",
    "list_keys",
    "note_use",
    "read_idempotency_key",
    "revoke_key",
    "store_answer",
]

_LISTED = (
    api_keys.c.key_id,
    api_keys.c.store_id,
    api_keys.c.name,
    api_keys.c.key_prefix,
    api_keys.c.permissions,
    api_keys.c.created_at,
    api_keys.c.last_used_at,
    api_keys.c.revoked_at,
)


async def insert_key(
    connection: AsyncConnection,
    *,
    key_id: str,
    store_id: str | None,
    name: str | None,
    key_hash: bytes,
    key_prefix: str,
    permissions: Sequence[Permission],
) -> ApiKey:
    """Add a key by its hash."""
    rows = await connection.execute(
        insert(api_keys)
        .values(
            key_id=key_id,
            store_id=store_id,
            name=name,
            key_hash=key_hash,
            key_prefix=key_prefix,
            permissions=[permission.value for permission in permissions],
        )
        .returning(*_LISTED)
    )
    return _api_key(rows.one())


async def list_keys(
    connection: AsyncConnection, store_id: str | None, page: int, limit: int, after: Position | None = None
) -> TimedPage[ApiKey]:
    """A page of the keys in use, newest first; a position rules over ``page``. ``None`` stands for the platform's.

    Raises
    ------
    ValidationFailedError
        The page lies beyond what pages reach.
    """
    owner = api_keys.c.store_id.is_(None) if store_id is None else api_keys.c.store_id == store_id
    return await _LIST.page(
        connection, owner, api_keys.c.revoked_at.is_(None), page=page, limit=limit, after=after
    )


async def revoke_key(connection: AsyncConnection, key_id: str) -> ApiKey | None:
    """End a key; ``None`` when there is none in use under the id. The row stays, as a record."""
    result = await connection.execute(
        update(api_keys)
        .where(api_keys.c.key_id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(*_LISTED)
    )
    row = result.first()
    return None if row is None else _api_key(row)


async def find_key(
    connection: AsyncConnection, key_hash: bytes, *, used_within: timedelta
) -> tuple[ApiKey, bool] | None:
    """The key in use with the hash, and whether its last noted use is longer ago than ``used_within``."""
    is_stale = or_(
        api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < func.now() - literal(used_within)
    ).label("is_stale")
    rows = await connection.execute(
        select(*_LISTED, is_stale).where(api_keys.c.key_hash == key_hash, api_keys.c.revoked_at.is_(None))
    )
    row = rows.first()
    return None if row is None else (_api_key(row), bool(row.is_stale))


async def note_use(connection: AsyncConnection, key_id: str, *, used_within: timedelta) -> None:
    """Note the use of a key unless another request just did. Waits for nobody."""
    due = (
        select(api_keys.c.key_id)
        .where(
            api_keys.c.key_id == key_id,
            or_(
                api_keys.c.last_used_at.is_(None),
                api_keys.c.last_used_at < func.now() - literal(used_within),
            ),
        )
        .with_for_update(skip_locked=True)
    )
    await connection.execute(
        update(api_keys).where(api_keys.c.key_id.in_(due)).values(last_used_at=func.now())
    )


async def claim_idempotency_key(
    connection: AsyncConnection,
    scope: str,
    key: str,
    request_hash: bytes,
    *,
    forget_after: timedelta,
    abandoned_after: timedelta,
) -> bool:
    """Take a key for a request that is about to run; ``False`` when it is taken.

    A key is free again when it is older than ``forget_after``, or when the same request took it longer than
    ``abandoned_after`` ago and never came to an answer: its process died.
    """
    statement = postgresql.insert(idempotency_keys).values(
        store_id=scope, idempotency_key=key, request_hash=request_hash
    )
    age = func.now() - idempotency_keys.c.created_at
    rows = await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[idempotency_keys.c.store_id, idempotency_keys.c.idempotency_key],
            set_={"request_hash": request_hash, "status": None, "body": None, "created_at": func.now()},
            where=or_(
                age > literal(forget_after),
                and_(
                    idempotency_keys.c.status.is_(None),
                    idempotency_keys.c.request_hash == request_hash,
                    age > literal(abandoned_after),
                ),
            ),
        ).returning(idempotency_keys.c.idempotency_key)
    )
    return rows.first() is not None


async def read_idempotency_key(
    connection: AsyncConnection, scope: str, key: str
) -> tuple[bytes, int | None, bytes | None] | None:
    """Request hash, status and body under a key; the status is ``None`` while the request runs."""
    query: Select[Any] = select(
        idempotency_keys.c.request_hash, idempotency_keys.c.status, idempotency_keys.c.body
    ).where(idempotency_keys.c.store_id == scope, idempotency_keys.c.idempotency_key == key)
    row = (await connection.execute(query)).first()
    return None if row is None else (bytes(row.request_hash), row.status, row.body)


async def store_answer(
    connection: AsyncConnection, scope: str, key: str, request_hash: bytes, *, status: int, body: bytes
) -> None:
    """Keep the answer of the request that took the key."""
    await connection.execute(
        update(idempotency_keys)
        .where(
            idempotency_keys.c.store_id == scope,
            idempotency_keys.c.idempotency_key == key,
            idempotency_keys.c.request_hash == request_hash,
            idempotency_keys.c.status.is_(None),
        )
        .values(status=status, body=body)
    )


async def delete_idempotency_claim(
    connection: AsyncConnection, scope: str, key: str, request_hash: bytes
) -> None:
    """Free a key whose request came to no answer worth keeping."""
    await connection.execute(
        delete(idempotency_keys).where(
            idempotency_keys.c.store_id == scope,
            idempotency_keys.c.idempotency_key == key,
            idempotency_keys.c.request_hash == request_hash,
            idempotency_keys.c.status.is_(None),
        )
    )


async def delete_idempotency_keys_older_than(connection: AsyncConnection, age: timedelta) -> int:
    """Drop what is no longer remembered, of all stores. Needs a transaction across stores."""
    result = await connection.execute(
        delete(idempotency_keys)
        .where(idempotency_keys.c.created_at < func.now() - literal(age))
        .returning(idempotency_keys.c.store_id)
    )
    return len(result.all())


def _api_key(row: Any) -> ApiKey:
    return _listed_key(tuple(row)[: len(_LISTED)])


def _listed_key(row: Sequence[Any]) -> ApiKey:
    key_id, store_id, name, prefix, permissions, created_at, last_used_at, revoked_at = row
    known = {permission.value for permission in Permission}
    return ApiKey(
        key_id=key_id,
        store_id=store_id,
        name=name,
        prefix=prefix,
        # A permission of another version grants nothing here.
        permissions=tuple(Permission(word) for word in permissions if word in known),
        created_at=created_at,
        last_used_at=last_used_at,
        revoked_at=revoked_at,
    )


_LIST = TimedList(_LISTED, api_keys.c.created_at, api_keys.c.key_id, _listed_key, newest_first=True)
