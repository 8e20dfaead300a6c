"""A store connected to the sandbox: made at the first start, found again at later ones."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from meta_sync.access.models import Permission
from meta_sync.factory import Factory
from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN, DEMO_BUSINESS_ID, DEMO_CATALOG_ID

__all__ = ["SandboxStore", "connected_store"]

_MOST_STORES = 200
_PERMISSIONS = (Permission.CATALOG_MANAGE, Permission.PRODUCTS_WRITE)


@dataclass(frozen=True, slots=True)
class SandboxStore:
    """The store, and its key when it was made just now: a key is shown once."""

    store_id: str
    name: str
    api_key: str | None


async def connected_store(
    factory: Factory, name: str, *, currency: str, storefront_url: str, media_url: str
) -> SandboxStore:
    """Find the store of that name or make it, and connect it to the sandbox that runs now.

    A sandbox forgets everything when it ends. It comes back at another port, which is another link to the pipeline:
    selecting its catalog starts a first sync that sends everything again.

    Raises
    ------
    ServiceError
        The sandbox refuses or does not answer.
    """
    stores, _ = await factory.stores().list(1, _MOST_STORES)
    store = next((store for store in stores if store.name == name), None)
    api_key = None
    if store is None:
        store = await factory.stores().create(
            name,
            currency=currency,
            storefront_base_url=storefront_url,
            media_base_url=media_url,
            enable_sync=True,
        )
        api_key = (await factory.access().create_key(store.store_id, _PERMISSIONS, "sandbox")).api_key
    connection = factory.connection()
    await connection.set_token(store.store_id, SecretStr(DEMO_ACCESS_TOKEN))
    await connection.select_catalog(
        store.store_id,
        DEMO_BUSINESS_ID,
        "Sandbox business",
        DEMO_CATALOG_ID,
        "Sandbox catalog",
        enable_sync=True,
        dry_run=False,
    )
    return SandboxStore(store.store_id, store.name, api_key)
