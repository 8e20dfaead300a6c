"""The few facts a store's settings need from tables of packages above this one.

Those packages may not be imported here, so the columns are named by text, as foreign keys are; a test holds them against
the schema. Reads only, and nothing but these facts.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, column, exists, select, table
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.stores.settings import READ_ONLY_FIELDS

__all__ = ["NEIGHBOUR_TABLES", "anything_sent", "selected_catalog"]

_links = table(
    "catalog_links",
    column("link_id"),
    column("store_id"),
    column("active"),
    column("credential_id"),
    column("business_id"),
    column("business_name"),
    column("catalog_id"),
    column("catalog_name"),
    column("system_user_id"),
)
_credentials = table("credentials", column("credential_id"), column("store_id"), column("token_kind"))
_states = table("sync_state", column("link_id"), column("store_id"), column("retailer_id"))

NEIGHBOUR_TABLES = (_links, _credentials, _states)


async def selected_catalog(connection: AsyncConnection, store_id: str) -> dict[str, Any]:
    """What selecting a catalog decided, by the snake-case names of the read-only settings; all ``None`` without one."""
    rows = await connection.execute(
        select(
            _links.c.business_id,
            _links.c.business_name,
            _links.c.catalog_id,
            _links.c.catalog_name,
            _links.c.system_user_id,
            _credentials.c.token_kind,
        )
        .select_from(
            _links.outerjoin(
                _credentials,
                and_(
                    _credentials.c.credential_id == _links.c.credential_id,
                    _credentials.c.store_id == _links.c.store_id,
                ),
            )
        )
        .where(_links.c.store_id == store_id, _links.c.active)
    )
    row = rows.mappings().first()
    return dict(row) if row is not None else dict.fromkeys(READ_ONLY_FIELDS)


async def anything_sent(connection: AsyncConnection, store_id: str) -> bool:
    """Whether any item of the store was ever sent: its id at Meta is frozen at that moment."""
    sent = exists().where(_states.c.link_id == _links.c.link_id, _states.c.retailer_id.is_not(None))
    answer = await connection.scalar(select(exists().where(_links.c.store_id == store_id, sent)))
    return bool(answer)
