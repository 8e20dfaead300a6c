"""What the outside world does to a store: a merchant edits the catalog, somebody changes settings, catalog or token.

Each function works in the caller's transaction, on the memory as on PostgreSQL, and never commits. The catalog is read
and written by the product's own code. Settings, links and tokens are written by statements of this module, because the
services build theirs at the moment of use; they leave the rows that the services leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
from pydantic import SecretStr
from pydantic.alias_generators import to_camel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.inventory_write import write_stock
from meta_sync.catalog.models import Change, InventoryInput, Lane, ProductInput, VariantInput
from meta_sync.catalog.products_write import save_working_set
from meta_sync.catalog.repository import (
    PRODUCT_CONTENT,
    VARIANT_CONTENT,
    VARIANT_OFFER,
    live_variants,
    load_stock,
    load_working_set,
)
from meta_sync.catalog.states import ProductState, VariantState
from meta_sync.catalog.working_set import MergeOutcome, WorkingSet
from meta_sync.connection.repository import active_link, link, token_context
from meta_sync.core.crypto import Cipher
from meta_sync.core.errors import ConflictError
from meta_sync.stores.repository import load_settings
from meta_sync.stores.settings import MAPPING_FIELDS, READ_ONLY_FIELDS, StoreSettings, settings_to_stored
from meta_sync.stores.settings_patch import check_patch
from meta_sync.sync.distrust import distrust_link
from meta_sync.sync.first_run import approve_first_run
from meta_sync.sync.listener import PipelineListener
from meta_sync.sync.outbox import OutboxSink

__all__ = [
    "change_settings",
    "create_store",
    "delete_product",
    "delete_variant",
    "distrust",
    "put_product",
    "put_variant",
    "put_whole_product",
    "replace_token",
    "select_catalog",
    "set_inventory",
]

_NEW_STORE = text(
    """
    INSERT INTO stores (store_id, public_id, name, settings)
    VALUES (:store_id, :public_id, :name, CAST(:settings AS jsonb))
    """
)
_ANYTHING_SENT = text(
    """
    SELECT EXISTS (
        SELECT FROM catalog_links AS l JOIN sync_state AS s ON s.link_id = l.link_id
        WHERE l.store_id = :store_id AND s.retailer_id IS NOT NULL
    )
    """
)
_WRITE_SETTINGS = text(
    """
    UPDATE stores SET settings = CAST(:settings AS jsonb), mapping_epoch = mapping_epoch + :epoch_steps,
        updated_at = now()
    WHERE store_id = :store_id
    """
)
_USABLE_TOKEN = text(
    """
    SELECT credential_id, CASE WHEN token_kind = 'system_user' THEN account_id END FROM credentials
    WHERE store_id = :store_id AND active AND dead_at IS NULL
    """
)
_NOTE_CATALOG_FACTS = text(
    """
    UPDATE catalog_links SET vertical = :vertical, product_count = :product_count, checked_at = now()
    WHERE link_id = :link_id
    """
)
_LEAVE_LINK = text("UPDATE catalog_links SET active = false WHERE store_id = :store_id AND active")
_RETURN_TO_LINK = text(
    """
    UPDATE catalog_links SET epoch = epoch + 1, active = true, catalog_name = :catalog_name,
        business_id = :business_id, business_name = :business_name, system_user_id = :system_user_id,
        credential_id = :credential_id, was_empty = :was_empty, vertical = :vertical, product_count = :product_count,
        checked_at = now(), selected_at = now(),
        first_run_approved_at = CASE WHEN :was_empty THEN COALESCE(first_run_approved_at, now())
            ELSE first_run_approved_at END
    WHERE store_id = :store_id AND graph_host = :graph_host AND catalog_id = :catalog_id
    RETURNING link_id
    """
)
# Numbered by hand: rows of the setting-up bring their numbers and do not move the sequence.
_NEW_LINK = text(
    """
    INSERT INTO catalog_links (link_id, store_id, graph_host, catalog_id, active, catalog_name, business_id,
        business_name, system_user_id, credential_id, was_empty, vertical, product_count, checked_at,
        first_run_approved_at)
    SELECT COALESCE(max(link_id), 0) + 1, :store_id, :graph_host, :catalog_id, true, :catalog_name, :business_id,
        :business_name, :system_user_id, :credential_id, :was_empty, :vertical, :product_count, now(),
        CASE WHEN :was_empty THEN now() END
    FROM catalog_links
    RETURNING link_id
    """
)
# The reading of Meta's items has tests of its own: here its report is simply there.
_REPORT = text(
    """
    UPDATE jobs SET status = 'success', finished_at = now()
    WHERE store_id = :store_id AND type = 'preflight' AND status IN ('queued', 'running')
    RETURNING job_id
    """
)
_RETIRE_TOKENS = text("UPDATE credentials SET active = false WHERE store_id = :store_id AND active")
# Any number that no other token has.
_NEXT_NUMBER = text("SELECT nextval('version_seq')")
_NEW_TOKEN = text(
    """
    INSERT INTO credentials (credential_id, store_id, access_token, app_id, token_kind, account_id, active, checked_at)
    VALUES (:credential_id, :store_id, :access_token, :app_id, :token_kind, :account_id, true, now())
    """
)
_USE_TOKEN = text(
    """
    UPDATE catalog_links SET credential_id = :credential_id, system_user_id = :system_user_id
    WHERE store_id = :store_id AND active
    """
)
_DROP_UNUSED_TOKENS = text(
    """
    DELETE FROM credentials AS c WHERE c.store_id = :store_id AND NOT c.active AND NOT EXISTS (
        SELECT FROM catalog_links AS l WHERE l.store_id = :store_id AND l.credential_id = c.credential_id
    )
    """
)
_END_RECONNECT_PAUSE = text(
    "DELETE FROM store_pauses WHERE store_id = :store_id AND reason = 'needs_reconnect' RETURNING 1"
)
_MAKE_DUE = text(
    "UPDATE store_queue SET due_at = LEAST(COALESCE(due_at, now()), now()) WHERE store_id = :store_id"
)


async def put_product(connection: AsyncConnection, store_id: str, product_id: str, **fields: Any) -> set[str]:
    """Make a product or change fields of it (those of ``ProductInput``); others stay. Its variants stay as they are.

    A deleted product comes back; its variants do not. Returns the variants that the pipeline looks at again.
    """
    working = await load_working_set(connection, store_id, [product_id], [])
    known = working.products.get(product_id)
    given = ProductInput(product_id) if known is None else _product_input(known)
    working.merge_product(replace(given, **fields))
    return await _save(connection, store_id, working)


async def put_variant(
    connection: AsyncConnection, store_id: str, product_id: str, variant_id: str, **fields: Any
) -> set[str]:
    """Make a variant or change fields of it (those of ``VariantInput``, stock aside); others stay.

    A deleted variant comes back; one of another product moves. Nothing happens while there is no such product, or it is
    deleted. Returns the variants that the pipeline looks at again.
    """
    working = await load_working_set(connection, store_id, [product_id], [variant_id])
    known = working.variants.get(variant_id)
    given = VariantInput(variant_id) if known is None else _variant_input(known)
    if working.merge_variant(product_id, replace(given, **fields)) is MergeOutcome.NO_PRODUCT:
        return set()
    return await _save(connection, store_id, working)


async def put_whole_product(connection: AsyncConnection, store_id: str, product: ProductInput) -> set[str]:
    """Replace a product with all its variants, as the API does: those that it does not name are deleted."""
    working = await load_working_set(
        connection,
        store_id,
        [product.id],
        [one.id for one in product.variants],
        [one.id for one in product.variants if one.inventory is not None],
    )
    working.put(product)
    return await _save(connection, store_id, working)


async def delete_variant(connection: AsyncConnection, store_id: str, variant_id: str) -> set[str]:
    """Delete a variant, softly. Nothing happens when there is none, or it is deleted already."""
    working = await load_working_set(connection, store_id, [], [variant_id])
    doomed = working.variants.get(variant_id)
    if doomed is None or doomed.deleted:
        return set()
    # Only by putting the product without it does a variant go.
    product = _product_input(working.products[doomed.product_id])
    siblings = [one for one in working.variants.values() if not one.deleted and one is not doomed]
    siblings = [one for one in siblings if one.product_id == doomed.product_id]
    siblings.sort(key=lambda one: (one.position, one.variant_id))
    working.put(replace(product, variants=[_variant_input(one) for one in siblings]))
    return await _save(connection, store_id, working)


async def delete_product(connection: AsyncConnection, store_id: str, product_id: str) -> set[str]:
    """Delete a product with its variants, softly. Nothing happens when the store never had it."""
    working = await load_working_set(connection, store_id, [product_id], [])
    if product_id not in working.products:
        return set()
    working.delete(product_id)
    return await _save(connection, store_id, working)


async def set_inventory(
    connection: AsyncConnection, store_id: str, variant_id: str, **fields: Any
) -> set[str]:
    """Set stock (fields of ``InventoryInput``) of a live variant; others stay. Nothing happens to a dead one."""
    live = await live_variants(connection, store_id, [variant_id])
    working = WorkingSet(stock=await load_stock(connection, store_id, live))
    if variant_id in live:
        working.put_stock(variant_id, InventoryInput(**fields))
    changed = working.changed_stock()
    await write_stock(connection, store_id, working)
    if changed:
        await OutboxSink().record(connection, store_id, [Change(one, Lane.LIVE) for one in changed])
    return set(changed)


async def create_store(connection: AsyncConnection, store_id: str, settings: Mapping[str, Any]) -> None:
    """Make a store with settings by their snake-case names, those that selecting a catalog decides left out."""
    checked = check_patch(StoreSettings(), _patch(settings)).settings
    await connection.execute(
        _NEW_STORE,
        {
            "store_id": store_id,
            "public_id": f"pub_{store_id}",
            "name": "Shop",
            "settings": orjson.dumps(settings_to_stored(checked)).decode(),
        },
    )


async def change_settings(
    connection: AsyncConnection,
    store_id: str,
    settings: Mapping[str, Any],
    *,
    mapping_changed: bool | None = None,
) -> bool:
    """Change settings by their snake-case names; ``None`` puts one back to its default. Whether anything was written.

    Parameters
    ----------
    mapping_changed
        Whether payloads depend on the change. Left out, it is found as the service finds it. ``True`` looks at every
        item again even so.

    Raises
    ------
    ConflictError
        The currency was to change after something was sent in it.
    ValueError
        ``mapping_changed`` is ``False`` although payloads depend on what changed.
    """
    before, _ = await load_settings(connection, store_id)
    after = check_patch(before, _patch(settings)).settings
    if before.currency not in {None, after.currency} and await connection.scalar(
        _ANYTHING_SENT, {"store_id": store_id}
    ):
        raise ConflictError("The currency is fixed since items were sent in it.")
    differing = {name for name in StoreSettings.model_fields if getattr(before, name) != getattr(after, name)}
    if mapping_changed is False and differing & MAPPING_FIELDS:
        raise ValueError(f"Payloads depend on {sorted(differing & MAPPING_FIELDS)}.")
    mapping_changed = bool(mapping_changed or differing & MAPPING_FIELDS)
    if not differing and not mapping_changed:
        return False
    stored = {
        "store_id": store_id,
        "settings": orjson.dumps(settings_to_stored(after)).decode(),
        "epoch_steps": int(mapping_changed),
    }
    await connection.execute(_WRITE_SETTINGS, stored)
    await PipelineListener().settings_changed(
        connection,
        store_id,
        mapping_changed=mapping_changed,
        access_changed=not differing.isdisjoint({"app_id", "graph_version"}),
    )
    return True


async def select_catalog(
    connection: AsyncConnection,
    store_id: str,
    graph_host: str,
    catalog_id: str,
    *,
    was_empty: bool,
    business_name: str = "Business",
) -> int | None:
    """Make a Meta catalog the store's, the link's number. Nothing happens while the store has no token that works.

    Raises
    ------
    IntegrityError
        Another store uses the catalog.
    """
    token = (await connection.execute(_USABLE_TOKEN, {"store_id": store_id})).first()
    if token is None:
        return None
    facts = {"vertical": "commerce", "product_count": 0 if was_empty else 1}
    current = await active_link(connection, store_id)
    if current is not None and (current.graph_host, current.catalog_id) == (graph_host, catalog_id):
        await connection.execute(_NOTE_CATALOG_FACTS, {"link_id": current.link_id, **facts})
        if await connection.scalar(_END_RECONNECT_PAUSE, {"store_id": store_id}) is not None:
            await connection.execute(_MAKE_DUE, {"store_id": store_id})
        return current.link_id
    await connection.execute(_LEAVE_LINK, {"store_id": store_id})
    values = {
        "store_id": store_id,
        "graph_host": graph_host,
        "catalog_id": catalog_id,
        "catalog_name": "Catalog",
        "business_id": "1",
        "business_name": business_name,
        "credential_id": token[0],
        "system_user_id": token[1],
        "was_empty": was_empty,
        **facts,
    }
    known: int | None = await connection.scalar(_RETURN_TO_LINK, values)
    link_id: int | None = known if known is not None else await connection.scalar(_NEW_LINK, values)
    assert link_id is not None
    selected = await link(connection, link_id)
    assert selected is not None
    await PipelineListener().link_selected(connection, selected, returning=known is not None)
    return link_id


async def approve(connection: AsyncConnection, store_id: str) -> bool:
    """Approve the first run into the store's catalog, if it waits for that; whether it did."""
    job_id = await connection.scalar(_REPORT, {"store_id": store_id})
    selected = await active_link(connection, store_id)
    if job_id is None or selected is None:
        return False
    return await approve_first_run(connection, selected, job_id, actor="somebody")


async def replace_token(
    connection: AsyncConnection,
    cipher: Cipher,
    store_id: str,
    token: str,
    *,
    app_id: str = "1",
    account_id: str = "1",
    is_system_user: bool = True,
) -> str:
    """Give the store another token, with which the active link goes on; the number under which it is kept."""
    credential_id = f"cred_{await connection.scalar(_NEXT_NUMBER)}"
    identity = {"store_id": store_id}
    await connection.execute(_RETIRE_TOKENS, identity)
    await connection.execute(
        _NEW_TOKEN,
        {
            **identity,
            "credential_id": credential_id,
            "access_token": cipher.encrypt(SecretStr(token), context=token_context(credential_id)),
            "app_id": app_id,
            "token_kind": "system_user" if is_system_user else "user",
            "account_id": account_id,
        },
    )
    system_user_id = account_id if is_system_user else None
    await connection.execute(
        _USE_TOKEN, {**identity, "credential_id": credential_id, "system_user_id": system_user_id}
    )
    await connection.execute(_DROP_UNUSED_TOKENS, identity)
    await connection.execute(_END_RECONNECT_PAUSE, identity)
    await connection.execute(_MAKE_DUE, identity)
    return credential_id


async def distrust(connection: AsyncConnection, store_id: str) -> str:
    """Take nothing that Meta confirmed as known any more, and look at every item again; the job that does it.

    Raises
    ------
    NotFoundError
        There is no such store.
    ConflictError
        No catalog is selected.
    """
    return (await distrust_link(connection, store_id, requested_by=None)).job_id


def _patch(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {to_camel(name): value for name, value in settings.items() if name not in READ_ONLY_FIELDS}


async def _save(connection: AsyncConnection, store_id: str, working: WorkingSet) -> set[str]:
    return set(await save_working_set(connection, store_id, working, OutboxSink()))


def _product_input(state: ProductState) -> ProductInput:
    """A body that changes nothing, without a source time."""
    content = dict(zip(PRODUCT_CONTENT, state.content, strict=True))
    return ProductInput(
        state.product_id, status=state.status, visibility=state.visibility, source=state.source, **content
    )


def _variant_input(state: VariantState) -> VariantInput:
    offer = dict(zip(VARIANT_OFFER, state.offer, strict=True))
    return VariantInput(state.variant_id, **offer, **dict(zip(VARIANT_CONTENT, state.content, strict=True)))
