"""Batches and their items, and what happened to a store lately."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from meta_sync.access.models import Permission
from meta_sync.api.context import Context
from meta_sync.api.parameters import CursorQuery, LimitQuery, PageQuery
from meta_sync.api.routing import router
from meta_sync.api.schemas.base import paged
from meta_sync.api.schemas.handles import (
    ActivityEntryView,
    ActivityPage,
    MetaHandle,
    MetaHandleAnswer,
    MetaHandleDetail,
    MetaHandlePage,
)
from meta_sync.api.security import requires
from meta_sync.sync.attempts import AttemptOutcome
from meta_sync.sync.handles import BatchState

__all__ = ["routes"]

routes = router("History")


@routes.get(
    "/admin/meta/handles",
    operation_id="listHandles",
    summary="List batches",
    description="The calls that carried items to Meta, newest first, each with its handle and what became of it.",
)
@requires(Permission.CATALOG_VIEW)
async def list_handles(
    context: Context,
    *,
    page: PageQuery = 1,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    state: Annotated[BatchState | None, Query(description="Only batches in this state.")] = None,
) -> MetaHandlePage:
    found = await context.factory.handles().list(
        context.store_id, state=state, page=page, limit=limit, cursor=cursor
    )
    return paged(
        MetaHandlePage,
        [MetaHandle.of(batch) for batch in found.batches],
        page=page,
        limit=limit,
        cursor=cursor,
        total=found.total,
        total_is_exact=found.is_total_exact,
        next_cursor=found.next_cursor,
    )


@routes.get(
    "/admin/meta/handles/{id}",
    operation_id="getHandle",
    summary="Read a batch",
    description="One batch with its calls and a page of its items. The paging is that of the items.",
)
@requires(Permission.CATALOG_VIEW)
async def get_handle(
    context: Context,
    batch_id: Annotated[str, Path(alias="id", description="The batch's `id`, not Meta's handle.")],
    *,
    page: PageQuery = 1,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    outcome: Annotated[AttemptOutcome | None, Query(description="Only items of which this became.")] = None,
) -> MetaHandleAnswer:
    found = await context.factory.handles().detail(
        context.store_id, batch_id, outcome=outcome, page=page, limit=limit, cursor=cursor
    )
    return paged(
        MetaHandleAnswer,
        MetaHandleDetail.of_detail(found),
        page=page,
        limit=limit,
        cursor=cursor,
        total=found.total,
        total_is_exact=found.is_total_exact,
        next_cursor=found.next_cursor,
    )


@routes.get(
    "/admin/meta/activity",
    operation_id="listActivity",
    summary="List what happened",
    description=(
        "What happened to the store lately, newest first: batches, jobs, imports, pauses, changed settings, selected"
        " catalogs and new tokens. What happened to one item stands in its timeline."
    ),
)
@requires(Permission.CATALOG_VIEW)
async def list_activity(
    context: Context, *, page: PageQuery = 1, limit: LimitQuery = 50, cursor: CursorQuery = None
) -> ActivityPage:
    found = await context.factory.activity().list(context.store_id, page=page, limit=limit, cursor=cursor)
    return paged(
        ActivityPage,
        [ActivityEntryView.of(entry) for entry in found.entries],
        page=page,
        limit=limit,
        cursor=cursor,
        total=found.total,
        total_is_exact=found.is_total_exact,
        next_cursor=found.next_cursor,
    )
