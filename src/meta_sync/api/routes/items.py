"""Items: what of the store's variants is at Meta, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Query

from meta_sync.access.models import Permission
from meta_sync.api.context import Context, RequestContext
from meta_sync.api.documentation import errors
from meta_sync.api.item_filter_query import ItemFilterQuery
from meta_sync.api.parameters import CursorQuery, ItemLimitQuery, LimitQuery, PageQuery, VariantIdPath
from meta_sync.api.routing import router
from meta_sync.api.schemas.base import answer, paged
from meta_sync.api.schemas.item_history import (
    MetaItemLiveStatus,
    MetaItemLiveStatusAnswer,
    RemovalResult,
    RemovalResultAnswer,
    TimelineEntryView,
    TimelinePage,
)
from meta_sync.api.schemas.items import (
    ItemAnswer,
    ItemPage,
    MetaItemDetail,
    MetaItemSummary,
    ResyncBody,
    ResyncResult,
    ResyncResultAnswer,
)
from meta_sync.api.security import requires
from meta_sync.sync.models import Status

__all__ = ["routes"]

routes = router("Items")


@routes.get(
    "/admin/meta/items",
    operation_id="listItems",
    summary="List items",
    description=(
        "Every live variant with its state at Meta, and deleted ones that have a record there. Last pushed first, never"
        " pushed last; `sort=variantId` is stable while a sync is running."
    ),
)
@requires(Permission.CATALOG_VIEW)
async def list_items(
    context: Context,
    *,
    page: PageQuery = 1,
    limit: ItemLimitQuery = 50,
    cursor: CursorQuery = None,
    status: Annotated[Status | None, Query(description="Only items in this status.")] = None,
    wanted: ItemFilterQuery,
) -> ItemPage:
    found = await context.factory.items().list(
        context.store_id, replace(wanted, status=status), page=page, limit=limit, cursor=cursor
    )
    return paged(
        ItemPage,
        [MetaItemSummary.of(item) for item in found.items],
        page=page,
        limit=limit,
        cursor=cursor,
        total=found.total,
        total_is_exact=found.is_total_exact,
        next_cursor=found.next_cursor,
    )


@routes.get(
    "/admin/meta/items/{variantId}",
    operation_id="getItem",
    summary="Read an item",
    description="The variant, its state at Meta, whether it may be sent, and what the next drain would send.",
)
@requires(Permission.CATALOG_VIEW)
async def get_item(context: Context, variant_id: VariantIdPath) -> ItemAnswer:
    detail = await context.factory.items().detail(context.store_id, variant_id)
    return answer(ItemAnswer, MetaItemDetail.of(detail))


@routes.post(
    "/admin/meta/items/{variantId}/resync",
    operation_id="resyncItem",
    summary="Resync an item",
    description="Sends the item again, also when Meta has it as it should be, and lifts an exclusion.",
    responses=errors("meta_not_connected"),
)
@requires(Permission.CATALOG_MANAGE)
async def resync_item(
    context: Context,
    variant_id: VariantIdPath,
    body: ResyncBody | None = None,
) -> ResyncResultAnswer:
    return await _resync(context, variant_id, body)


@routes.post(
    "/admin/meta/resync/{variantId}",
    operation_id="resyncVariant",
    summary="Resync an item (by its older path)",
    description="The same as `POST /admin/meta/items/{variantId}/resync`.",
    responses=errors("meta_not_connected"),
)
@requires(Permission.CATALOG_MANAGE)
async def resync_variant(
    context: Context,
    variant_id: VariantIdPath,
    body: ResyncBody | None = None,
) -> ResyncResultAnswer:
    return await _resync(context, variant_id, body)


@routes.get(
    "/admin/meta/items/{variantId}/timeline",
    operation_id="getItemTimeline",
    summary="Read an item's timeline",
    description=(
        "What happened to the item, newest first: how it stands, every attempt to send it with Meta's answer, and what"
        " was noted of it. Attempts are kept as long as batches, notes as long as the timeline."
    ),
)
@requires(Permission.CATALOG_VIEW)
async def get_item_timeline(
    context: Context,
    variant_id: VariantIdPath,
    *,
    page: PageQuery = 1,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
) -> TimelinePage:
    found = await context.factory.timeline().timeline(
        context.store_id, variant_id, page=page, limit=limit, cursor=cursor
    )
    return paged(
        TimelinePage,
        [TimelineEntryView.of(entry) for entry in found.entries],
        page=page,
        limit=limit,
        cursor=cursor,
        total=found.total,
        total_is_exact=found.is_total_exact,
        next_cursor=found.next_cursor,
    )


@routes.get(
    "/admin/meta/items/{variantId}/meta-status",
    operation_id="getItemMetaStatus",
    summary="Ask Meta about an item",
    description=(
        "Asks Meta at this moment what it shows of the item, found by exactly its id. Nothing is changed. Meta shows an"
        " item some time after it has taken it, so `found: false` shortly after a push is no fault. A store that is not"
        " connected, or whose settings are incomplete, gets `found: false` with the reason in `errors`."
    ),
    responses=errors(
        "meta_misconfigured",
        "meta_account_error",
        "meta_graph_error",
        "meta_rate_limited",
    ),
)
@requires(Permission.CATALOG_VIEW)
async def get_item_meta_status(context: Context, variant_id: VariantIdPath) -> MetaItemLiveStatusAnswer:
    status = await context.factory.live_status().ask(context.store_id, variant_id)
    return answer(MetaItemLiveStatusAnswer, MetaItemLiveStatus.of(status))


@routes.post(
    "/admin/meta/items/{variantId}/delete-from-meta",
    operation_id="deleteItemFromMeta",
    summary="Take an item off Meta",
    description=(
        "Deletes the item at Meta and keeps it off, whatever changes in the catalog; the catalog itself is untouched."
        " Doing it again changes nothing. It is undone by resyncing the item by name."
    ),
    status_code=202,
    responses=errors("meta_not_connected"),
)
@requires(Permission.CATALOG_MANAGE)
async def delete_item_from_meta(context: Context, variant_id: VariantIdPath) -> RemovalResultAnswer:
    await context.factory.operations().exclude(context.store_id, variant_id, actor=context.actor)
    return answer(RemovalResultAnswer, RemovalResult(variant_id=variant_id, enqueued=True), 202)


async def _resync(context: RequestContext, variant_id: str, body: ResyncBody | None) -> ResyncResultAnswer:
    wanted = body or ResyncBody()
    await context.factory.operations().resync(
        context.store_id,
        variant_id,
        force=wanted.force,
        refresh_images=wanted.refresh_images,
        actor=context.actor,
    )
    return answer(ResyncResultAnswer, ResyncResult(variant_id=variant_id, enqueued=True))
