"""Errors: which items failed and what to do about it, and what every code means."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query

from meta_sync.access.models import Permission
from meta_sync.api.context import Context
from meta_sync.api.parameters import CursorQuery, LimitQuery, PageQuery
from meta_sync.api.routing import router
from meta_sync.api.schemas.base import answer, paged
from meta_sync.api.schemas.errors import (
    ErrorCodes,
    ErrorCodesAnswer,
    ErrorPage,
    MetaFailedItem,
)
from meta_sync.api.schemas.items import LANE_NAMES
from meta_sync.api.security import requires
from meta_sync.catalog.models import Lane
from meta_sync.sync.item_filters import ItemFilter, ItemSort

__all__ = ["routes"]

routes = router("Errors")


@routes.get(
    "/admin/meta/errors",
    operation_id="listErrors",
    summary="List failed items",
    description=(
        "Every item that failed, with its code, what the code means, what to do about it, and Meta's words as they were"
        " said. Last pushed first, never pushed last; `sort=variantId` is stable while a sync is running."
    ),
)
@requires(Permission.CATALOG_VIEW)
async def list_errors(
    context: Context,
    *,
    page: PageQuery = 1,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    search: Annotated[
        str | None,
        Query(
            max_length=200, description="Text within variant id, sku, title or slug; case does not matter."
        ),
    ] = None,
    eligible_only: Annotated[
        bool,
        Query(
            alias="eligibleOnly", description="Only variants of active, public products that are not deleted."
        ),
    ] = False,
    product_id: Annotated[
        str | None, Query(alias="productId", description="Only items of this product.")
    ] = None,
    lane: Annotated[
        Literal["live", "content", "bulk"] | None, Query(description="Only items that wait in this lane.")
    ] = None,
    error_code: Annotated[
        str | None, Query(alias="errorCode", description="Only items with this code.")
    ] = None,
    sort: Annotated[ItemSort, Query(description="Order of the list.")] = ItemSort.LAST_PUSHED_AT,
) -> ErrorPage:
    wanted = ItemFilter(
        search=search or None,
        eligible_only=eligible_only,
        product_id=product_id,
        lane=Lane(LANE_NAMES.index(lane)) if lane else None,
        error_code=error_code,
        sort=sort,
    )
    found = await context.factory.errors().list(
        context.store_id, wanted, page=page, limit=limit, cursor=cursor
    )
    return paged(
        ErrorPage,
        [MetaFailedItem.of(one) for one in found.items],
        page=page,
        limit=limit,
        cursor=cursor,
        total=found.total,
        total_is_exact=found.is_total_exact,
        next_cursor=found.next_cursor,
    )


@routes.get(
    "/admin/meta/error-codes",
    operation_id="listErrorCodes",
    summary="Read the table of codes",
    description=(
        "Every code that the service shows, with what it means and what to do: for pages that explain codes. It changes"
        " with a new version only, so it is answered as a whole."
    ),
)
@requires(Permission.CATALOG_VIEW)
async def list_error_codes(context: Context) -> ErrorCodesAnswer:
    del context
    return answer(ErrorCodesAnswer, ErrorCodes.all())
