"""The installation's own endpoints: stores, API keys, and who the caller is."""

from __future__ import annotations

from meta_sync.access.models import Permission
from meta_sync.api.context import Context
from meta_sync.api.parameters import CursorQuery, KeyIdPath, LimitQuery, PageQuery, StoreIdPath
from meta_sync.api.routing import router
from meta_sync.api.schemas.base import answer, paged
from meta_sync.api.schemas.platform import (
    ApiKeyPage,
    ApiKeyView,
    Caller,
    CallerAnswer,
    CallerStore,
    CreateApiKeyBody,
    CreatedApiKeyAnswer,
    CreateStoreBody,
    RevokedApiKey,
    RevokedApiKeyAnswer,
    StoreAnswer,
    StorePage,
    UpdateStoreBody,
)
from meta_sync.api.security import requires, requires_credential
from meta_sync.core.timed_list import Position

__all__ = ["routes"]

routes = router("Platform")

_MOST_STORES_SHOWN = 200


@routes.post(
    "/platform/stores",
    operation_id="createStore",
    summary="Create a store",
    description="Makes a tenant. Its settings can be given now or later with `PATCH /admin/meta/settings`.",
)
@requires(Permission.PLATFORM_ADMIN, idempotent=True)
async def create_store(context: Context, body: CreateStoreBody) -> StoreAnswer:
    store = await context.factory.stores().create(
        body.name,
        currency=body.currency,
        storefront_base_url=body.storefront_base_url,
        media_base_url=body.media_base_url,
        enable_sync=body.enable_sync,
        actor=context.actor,
    )
    return answer(StoreAnswer, store)


@routes.get(
    "/platform/stores",
    operation_id="listStores",
    summary="List stores",
    description="All stores of the installation, oldest first.",
)
@requires(Permission.PLATFORM_ADMIN)
async def list_stores(
    context: Context, page: PageQuery = 1, limit: LimitQuery = 50, cursor: CursorQuery = None
) -> StorePage:
    after = Position.read(context.cursors, "stores", cursor)
    found = await context.factory.stores().page(page, limit, after=after)
    return paged(
        StorePage,
        found.rows,
        page=page,
        limit=limit,
        cursor=cursor,
        total=found.total,
        total_is_exact=found.is_total_exact,
        next_cursor=found.next_cursor(context.cursors, "stores"),
    )


@routes.get(
    "/platform/stores/{storeId}",
    operation_id="getStore",
    summary="Read a store",
    description="One store of the installation.",
)
@requires(Permission.PLATFORM_ADMIN)
async def get_store(context: Context, store_id: StoreIdPath) -> StoreAnswer:
    return answer(StoreAnswer, await context.factory.stores().get(store_id))


@routes.patch(
    "/platform/stores/{storeId}",
    operation_id="updateStore",
    summary="Rename a store",
    description="Changes the store's name. Settings are changed with `PATCH /admin/meta/settings`.",
)
@requires(Permission.PLATFORM_ADMIN)
async def update_store(context: Context, store_id: StoreIdPath, body: UpdateStoreBody) -> StoreAnswer:
    renamed = await context.factory.stores().update(store_id, body.name, actor=context.actor)
    return answer(StoreAnswer, renamed)


@routes.post(
    "/platform/stores/{storeId}/api-keys",
    operation_id="createApiKey",
    summary="Create an API key of a store",
    description="The answer is the only place where the key is shown.",
)
@requires(Permission.PLATFORM_ADMIN, idempotent=True)
async def create_api_key(
    context: Context,
    store_id: StoreIdPath,
    body: CreateApiKeyBody,
) -> CreatedApiKeyAnswer:
    key = await context.factory.access().create_key(
        store_id, body.permissions, body.name, actor=context.actor
    )
    return answer(CreatedApiKeyAnswer, key)


@routes.get(
    "/platform/stores/{storeId}/api-keys",
    operation_id="listApiKeys",
    summary="List the API keys of a store",
    description="Keys in use, newest first, without the keys themselves.",
)
@requires(Permission.PLATFORM_ADMIN)
async def list_api_keys(
    context: Context,
    store_id: StoreIdPath,
    page: PageQuery = 1,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
) -> ApiKeyPage:
    scope = f"api-keys\n{store_id}"
    after = Position.read(context.cursors, scope, cursor)
    found = await context.factory.access().list_keys(store_id, page, limit, after=after)
    return paged(
        ApiKeyPage,
        [ApiKeyView.of(key) for key in found.rows],
        page=page,
        limit=limit,
        cursor=cursor,
        total=found.total,
        total_is_exact=found.is_total_exact,
        next_cursor=found.next_cursor(context.cursors, scope),
    )


@routes.delete(
    "/platform/api-keys/{keyId}",
    operation_id="revokeApiKey",
    summary="Revoke an API key",
    description="Ends the key at once.",
)
@requires(Permission.PLATFORM_ADMIN)
async def revoke_api_key(context: Context, key_id: KeyIdPath) -> RevokedApiKeyAnswer:
    await context.factory.access().revoke(key_id, actor=context.actor)
    return answer(RevokedApiKeyAnswer, RevokedApiKey(key_id=key_id, revoked=True))


@routes.get(
    "/admin/me",
    operation_id="getCaller",
    summary="Who am I",
    description="The stores and permissions of the credential the request was made with.",
)
@requires_credential()
async def get_caller(context: Context) -> CallerAnswer:
    principal = context.principal
    stores = context.factory.stores()
    if principal.store_id is None:
        shown, _ = await stores.list(1, _MOST_STORES_SHOWN)
    else:
        shown = [await stores.get(principal.store_id)]
    caller = Caller(
        key_id=principal.key_id,
        platform=principal.is_platform,
        permissions=sorted(principal.permissions),
        stores=[CallerStore.model_validate(store) for store in shown],
        all_stores=principal.is_platform,
    )
    return answer(CallerAnswer, caller)
