"""Rows of tokens and links. Takes an open transaction and never commits."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr
from sqlalchemy import and_, bindparam, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.models import ActiveLink, KnownLink, StoredCredential, TokenVerdict
from meta_sync.connection.tables import catalog_links, credentials
from meta_sync.core.crypto import Cipher
from meta_sync.graph.wire import CatalogInfo

__all__ = [
    "activate_link",
    "active_credential",
    "active_link",
    "credential",
    "delete_unused_credentials",
    "insert_active_credential",
    "is_used_elsewhere",
    "known_link",
    "link",
    "mark_dead",
    "rotate_tokens",
    "token_context",
    "update_catalog_facts",
    "use_credential",
]

_LONGEST_REASON = 500

_LINKS_WITH_KIND = select(catalog_links, credentials.c.token_kind).select_from(
    catalog_links.outerjoin(
        credentials,
        and_(
            credentials.c.credential_id == catalog_links.c.credential_id,
            credentials.c.store_id == catalog_links.c.store_id,
        ),
    )
)

# Built once: the pipeline asks these in every turn and for every handle.
_ACTIVE_LINK = _LINKS_WITH_KIND.where(
    catalog_links.c.store_id == bindparam("store_id"), catalog_links.c.active
)
_LINK = _LINKS_WITH_KIND.where(catalog_links.c.link_id == bindparam("link_id"))
_CREDENTIAL = select(credentials).where(credentials.c.credential_id == bindparam("credential_id"))
_MARK_DEAD = (
    update(credentials)
    .where(credentials.c.credential_id == bindparam("of_credential"), credentials.c.dead_at.is_(None))
    .values(
        dead_at=func.now(),
        dead_code=bindparam("code"),
        dead_subcode=bindparam("subcode"),
        dead_reason=bindparam("reason"),
    )
    .returning(credentials.c.credential_id)
)


def token_context(credential_id: str) -> str:
    """What a token is bound to."""
    return f"credentials.access_token:{credential_id}"


async def active_link(connection: AsyncConnection, store_id: str) -> ActiveLink | None:
    """The link a store uses now."""
    row = (await connection.execute(_ACTIVE_LINK, {"store_id": store_id})).first()
    return None if row is None else _link(row)


async def link(connection: AsyncConnection, link_id: int) -> ActiveLink | None:
    """A link, active or not."""
    row = (await connection.execute(_LINK, {"link_id": link_id})).first()
    return None if row is None else _link(row)


async def known_link(
    connection: AsyncConnection, store_id: str, *, host: str, catalog_id: str
) -> KnownLink | None:
    """How the store stands to a catalog that it used at any time."""
    row = (
        await connection.execute(
            select(catalog_links.c.active, catalog_links.c.first_run_approved_at.is_not(None)).where(
                catalog_links.c.store_id == store_id,
                catalog_links.c.graph_host == host,
                catalog_links.c.catalog_id == catalog_id,
            )
        )
    ).first()
    return None if row is None else KnownLink(row[0], row[1])


async def is_used_elsewhere(
    connection: AsyncConnection, store_id: str, *, host: str, catalog_id: str
) -> bool:
    """Whether another store uses the catalog now. Needs a transaction across stores."""
    answer = await connection.scalar(
        select(
            exists().where(
                catalog_links.c.graph_host == host,
                catalog_links.c.catalog_id == catalog_id,
                catalog_links.c.active,
                catalog_links.c.store_id != store_id,
            )
        )
    )
    return bool(answer)


async def activate_link(
    connection: AsyncConnection,
    token: StoredCredential,
    catalog: CatalogInfo,
    *,
    host: str,
    catalog_name: str,
    business_id: str,
    business_name: str,
) -> tuple[ActiveLink, bool]:
    """Make a catalog the one the store uses; the store's row must be locked.

    An empty catalog is approved with it: nothing is there that the first sync could change.

    Returns
    -------
    tuple
        The link, and whether the store used it before: its epoch is one higher then.
    """
    same = and_(
        catalog_links.c.store_id == token.store_id,
        catalog_links.c.graph_host == host,
        catalog_links.c.catalog_id == catalog.id,
    )
    await connection.execute(
        update(catalog_links)
        .where(catalog_links.c.store_id == token.store_id, catalog_links.c.active)
        .values(active=False)
    )
    values = {
        "catalog_name": catalog_name,
        "business_id": business_id,
        "business_name": business_name,
        "system_user_id": token.system_user_id,
        "credential_id": token.credential_id,
        "active": True,
        "was_empty": catalog.product_count == 0,
        "vertical": catalog.vertical,
        "product_count": catalog.product_count,
        "checked_at": func.now(),
        "selected_at": func.now(),
        "removal_job_id": None,
    }
    approved = {"first_run_approved_at": func.now()} if catalog.product_count == 0 else {}
    kept = {name: func.coalesce(catalog_links.c[name], value) for name, value in approved.items()}
    rows = await connection.execute(
        update(catalog_links)
        .where(same)
        .values(**values, **kept, epoch=catalog_links.c.epoch + 1)
        .returning(catalog_links.c.link_id)
    )
    link_id = rows.scalar()
    is_known = link_id is not None
    if not is_known:
        rows = await connection.execute(
            insert(catalog_links)
            .values(store_id=token.store_id, graph_host=host, catalog_id=catalog.id, **values, **approved)
            .returning(catalog_links.c.link_id)
        )
        link_id = rows.scalar_one()
    made = await link(connection, link_id)
    assert made is not None
    return made, is_known


async def update_catalog_facts(connection: AsyncConnection, link_id: int, catalog: CatalogInfo) -> None:
    """Note what Meta just said of a link's catalog."""
    await connection.execute(
        update(catalog_links)
        .where(catalog_links.c.link_id == link_id)
        .values(vertical=catalog.vertical, product_count=catalog.product_count, checked_at=func.now())
    )


async def use_credential(connection: AsyncConnection, token: StoredCredential) -> None:
    """Let the active link of the token's store go on with that token. Links left behind keep theirs."""
    await connection.execute(
        update(catalog_links)
        .where(catalog_links.c.store_id == token.store_id, catalog_links.c.active)
        .values(
            credential_id=token.credential_id,
            system_user_id=token.system_user_id,
        )
    )


async def credential(
    connection: AsyncConnection, cipher: Cipher, credential_id: str
) -> StoredCredential | None:
    """A token, opened.

    Raises
    ------
    DecryptionError
        No configured key opens it.
    """
    row = (await connection.execute(_CREDENTIAL, {"credential_id": credential_id})).first()
    return None if row is None else _credential(row, cipher)


async def active_credential(
    connection: AsyncConnection, cipher: Cipher, store_id: str
) -> StoredCredential | None:
    """The token a store uses now, opened.

    Raises
    ------
    DecryptionError
        No configured key opens it.
    """
    rows = await connection.execute(
        select(credentials).where(credentials.c.store_id == store_id, credentials.c.active)
    )
    row = rows.first()
    return None if row is None else _credential(row, cipher)


async def insert_active_credential(
    connection: AsyncConnection,
    cipher: Cipher,
    *,
    credential_id: str,
    store_id: str,
    access_token: SecretStr,
    app_id: str,
    verdict: TokenVerdict,
) -> StoredCredential:
    """Add a token and make it the one the store uses; the store's row must be locked."""
    await connection.execute(
        update(credentials)
        .where(credentials.c.store_id == store_id, credentials.c.active)
        .values(active=False)
    )
    rows = await connection.execute(
        insert(credentials)
        .values(
            credential_id=credential_id,
            store_id=store_id,
            access_token=cipher.encrypt(access_token, context=token_context(credential_id)),
            app_id=app_id,
            token_kind=verdict.token_kind,
            account_id=verdict.account_id,
            account_name=verdict.account_name,
            scopes=list(verdict.scopes),
            expires_at=verdict.expires_at,
            active=True,
            checked_at=func.now(),
        )
        .returning(credentials)
    )
    return _credential(rows.one(), cipher)


async def delete_unused_credentials(connection: AsyncConnection, store_id: str) -> None:
    """Drop tokens of a store that neither it nor any of its links uses."""
    used = exists().where(
        catalog_links.c.store_id == store_id, catalog_links.c.credential_id == credentials.c.credential_id
    )
    await connection.execute(
        delete(credentials).where(credentials.c.store_id == store_id, ~credentials.c.active, ~used)
    )


async def mark_dead(
    connection: AsyncConnection, credential_id: str, code: int | None, subcode: int | None, reason: str
) -> bool:
    """Note that Meta no longer accepts this very token; whether that was news."""
    said = {
        "of_credential": credential_id,
        "code": code,
        "subcode": subcode,
        "reason": reason[:_LONGEST_REASON],
    }
    return (await connection.execute(_MARK_DEAD, said)).first() is not None


async def rotate_tokens(connection: AsyncConnection, cipher: Cipher) -> int:
    """Encrypt every token of every store with the newest key; returns how many there were to do.

    Needs a transaction across stores.
    """
    rows = await connection.execute(
        select(credentials.c.credential_id, credentials.c.access_token)
        .order_by(credentials.c.credential_id)
        .with_for_update()
    )
    rotated = 0
    for credential_id, sealed in rows.all():
        if cipher.is_current(sealed):
            continue
        context = token_context(credential_id)
        plain = cipher.decrypt(sealed, context=context)
        await connection.execute(
            update(credentials)
            .where(credentials.c.credential_id == credential_id)
            .values(access_token=cipher.encrypt(plain, context=context))
        )
        rotated += 1
    return rotated


def _link(row: Any) -> ActiveLink:
    return ActiveLink(
        link_id=row.link_id,
        store_id=row.store_id,
        graph_host=row.graph_host,
        catalog_id=row.catalog_id,
        catalog_name=row.catalog_name,
        business_id=row.business_id,
        business_name=row.business_name,
        system_user_id=row.system_user_id,
        # Without its token, as after a disconnect, a link has no System User to speak of.
        token_kind=row.token_kind or "user",
        credential_id=row.credential_id,
        epoch=row.epoch,
        was_empty=row.was_empty,
        vertical=row.vertical,
        product_count=row.product_count,
        checked_at=row.checked_at,
        first_run_approved_at=row.first_run_approved_at,
        removal_job_id=row.removal_job_id,
    )


def _credential(row: Any, cipher: Cipher) -> StoredCredential:
    return StoredCredential(
        credential_id=row.credential_id,
        store_id=row.store_id,
        access_token=cipher.decrypt(row.access_token, context=token_context(row.credential_id)),
        app_id=row.app_id,
        token_kind=row.token_kind,
        account_id=row.account_id,
        account_name=row.account_name,
        scopes=tuple(row.scopes),
        expires_at=row.expires_at,
        is_active=row.active,
        dead_at=row.dead_at,
        dead_code=row.dead_code,
        dead_subcode=row.dead_subcode,
        dead_reason=row.dead_reason,
        created_at=row.created_at,
        checked_at=row.checked_at,
    )
