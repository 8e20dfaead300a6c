"""Errors: which items failed and what to do about it, and what every code means."""

from __future__ import annotations

from meta_sync.access.models import Permission
from meta_sync.api.context import Context
from meta_sync.api.item_filter_query import ItemFilterQuery
from meta_sync.api.parameters import CursorQuery, LimitQuery, PageQuery
from meta_sync.api.routing import router
from meta_sync.api.schemas.base import answer, paged
from meta_sync.api.schemas.errors import (
    ErrorCodes,
    ErrorCodesAnswer,
    ErrorPage,
    MetaFailedItem,
)
from meta_sync.api.security import requires

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
    wanted: ItemFilterQuery,
) -> ErrorPage:
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
