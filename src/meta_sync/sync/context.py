"""What a turn of the pipeline needs to know of a store, read in one go. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.models import ActiveLink, graph_host
from meta_sync.connection.repository import active_link, credential
from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher, DecryptionError
from meta_sync.graph.auth import GraphCredential
from meta_sync.stores.repository import app_credentials, load_settings
from meta_sync.stores.settings import StoreSettings, missing_keys
from meta_sync.sync.mapping import MAPPER_VERSION
from meta_sync.sync.mapping_settings import MappingSettings
from meta_sync.sync.models import Link
from meta_sync.sync.pauses import Pause, active_pauses

__all__ = [
    "UNREADABLE_TOKEN",
    "Access",
    "Standstill",
    "StoreContext",
    "link_access",
    "load_context",
    "mapping_settings",
]


UNREADABLE_TOKEN = "unreadable_token"  # noqa: S105 - a reason, not a token
"""Standstill: the encryption key is not the one that the token was stored with."""

_NEWER_MAPPER = text(
    "SELECT now() FROM stores WHERE store_id = :store_id AND mapper_version > :mapper_version"
)
"""A newer version of the service has taken the store over since this worker took its lease: the store is given back
due as it was, and its own workers take it."""


@dataclass(frozen=True, slots=True)
class Standstill:
    """Why nothing is sent for a store just now; ``until`` is ``None`` when somebody has to act."""

    reason: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach one link's catalog."""

    link: ActiveLink
    credential_id: str
    credential: GraphCredential
    is_dead: bool
    graph_version: str


@dataclass(frozen=True, slots=True)
class StoreContext:
    """A store whose items can be decided about."""

    store_id: str
    settings: StoreSettings
    mapping_epoch: int
    mapping: MappingSettings
    access: Access
    pauses: tuple[Pause, ...]

    @property
    def link(self) -> Link:
        """The link as decisions see it."""
        return Link.of(self.access.link, self.settings.delete_grace_days)

    def standstill(self) -> Standstill | None:
        """Why nothing may be sent now, or ``None``."""
        if not self.settings.sync_enabled:
            return Standstill("sync_disabled")
        if self.settings.feed_mode == "preview":
            return Standstill("preview")
        if self.access.is_dead:
            return Standstill("needs_reconnect")
        if self.pauses:
            # Those without an end come first.
            return Standstill(self.pauses[0].reason, self.pauses[0].until)
        return None


def mapping_settings(settings: StoreSettings, business_name: str | None) -> MappingSettings | None:
    """The part of the settings that payloads depend on; ``None`` until the currency is set."""
    if settings.currency is None:
        return None
    return MappingSettings(
        currency=settings.currency,
        storefront_base_url=settings.storefront_base_url,
        storefront_product_path=settings.storefront_product_path,
        media_base_url=settings.media_base_url,
        default_condition=settings.default_condition,
        default_brand=settings.default_brand,
        business_name=business_name,
        identifier_exists_fallback=settings.identifier_exists_fallback,
        retailer_id_template=settings.retailer_id_template,
        quantity_policy=settings.quantity_policy,
    )


async def link_access(
    connection: AsyncConnection, link: ActiveLink, settings: StoreSettings, cipher: Cipher, process: Settings
) -> Access | None:
    """The way to a link's catalog, with the token it was selected with or got since; ``None`` without a way there.

    Raises
    ------
    DecryptionError
        The token was stored under a key that this process does not have.
    """
    stored = await credential(connection, cipher, link.credential_id)
    if stored is None or link.graph_host != graph_host(process.graph_url):
        return None
    app_id, app_secret = await app_credentials(connection, link.store_id, cipher, process)
    return Access(
        link=link,
        credential_id=stored.credential_id,
        credential=GraphCredential(stored.access_token, app_id or "", app_secret),
        is_dead=stored.dead_at is not None,
        graph_version=settings.graph_version,
    )


async def load_context(
    connection: AsyncConnection, store_id: str, cipher: Cipher, process: Settings
) -> StoreContext | Standstill:
    """Everything a turn needs, or why the store cannot have one."""
    settings, mapping_epoch = await load_settings(connection, store_id)
    newer_until = await connection.scalar(
        _NEWER_MAPPER, {"store_id": store_id, "mapper_version": MAPPER_VERSION}
    )
    if newer_until is not None:
        return Standstill("newer_mapper", newer_until)
    link = await active_link(connection, store_id)
    if link is None:
        return Standstill("not_connected")
    mapping = mapping_settings(settings, link.business_name)
    if mapping is None or missing_keys(settings, link=True):
        return Standstill("config_incomplete")
    try:
        access = await link_access(connection, link, settings, cipher, process)
    except DecryptionError:
        return Standstill(UNREADABLE_TOKEN)
    if access is None:
        # Also a link to another Graph host (a sandbox, say) than the one this process talks to.
        return Standstill("not_connected")
    pauses = await active_pauses(connection, store_id, link.link_id)
    return StoreContext(store_id, settings, mapping_epoch, mapping, access, tuple(pauses))
