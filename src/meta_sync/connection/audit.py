"""What the audit log is told of tokens and catalogs. Never the token; in the transaction of the change."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.models import ActiveLink, StoredCredential
from meta_sync.connection.tables import credentials
from meta_sync.stores.audit import AuditAction, AuditTarget, record_action
from meta_sync.stores.settings_changes import secret_change

__all__ = ["record_selection", "record_sync_switch", "record_token", "token_told"]


async def token_told(connection: AsyncConnection, store_id: str) -> dict[str, Any] | None:
    """What may be told of the token that the store uses now; ``None`` without one. Opens nothing."""
    columns = credentials.c
    rows = await connection.execute(
        select(columns.token_kind, columns.account_id, columns.account_name).where(
            columns.store_id == store_id, columns.active
        )
    )
    row = rows.first()
    return None if row is None else _told(*row)


async def record_token(
    connection: AsyncConnection, stored: StoredCredential, actor: str, *, before: dict[str, Any] | None
) -> None:
    """Record that a store has got a token; ``before`` is what ``token_told`` said of the former one."""
    was, now = secret_change(was=before is not None, now=True)
    told = _told(stored.token_kind, stored.account_id, stored.account_name)
    await record_action(
        connection,
        stored.store_id,
        actor=actor,
        action=AuditAction.TOKEN_SET,
        target_type=AuditTarget.TOKEN,
        target_id=stored.credential_id,
        before=None if before is None else {"accessToken": was, **before},
        after={"accessToken": now, **told, "scopes": list(stored.scopes), "expiresAt": stored.expires_at},
    )


async def record_selection(
    connection: AsyncConnection,
    before: ActiveLink | None,
    link: ActiveLink,
    actor: str,
    *,
    job_id: str | None,
) -> None:
    """Record that a store uses another catalog from now on, with the first sync that was started for it."""
    await record_action(
        connection,
        link.store_id,
        actor=actor,
        action=AuditAction.CATALOG_SELECTED,
        target_type=AuditTarget.CATALOG,
        target_id=link.catalog_id,
        before=None if before is None else _of_link(before),
        after={**_of_link(link), "jobId": job_id},
    )


async def record_sync_switch(
    connection: AsyncConnection, store_id: str, actor: str, *, enabled: bool
) -> None:
    """Record that sending was switched on or off with the selection: a change of the settings like any other."""
    await record_action(
        connection,
        store_id,
        actor=actor,
        action=AuditAction.SETTINGS_CHANGED,
        target_type=AuditTarget.STORE,
        target_id=store_id,
        before={"syncEnabled": not enabled},
        after={"syncEnabled": enabled},
    )


def _told(token_kind: str, account_id: str | None, account_name: str | None) -> dict[str, Any]:
    return {"tokenKind": token_kind, "accountId": account_id, "accountName": account_name}


def _of_link(link: ActiveLink) -> dict[str, Any]:
    return {
        "businessId": link.business_id,
        "businessName": link.business_name,
        "catalogId": link.catalog_id,
        "catalogName": link.catalog_name,
    }
