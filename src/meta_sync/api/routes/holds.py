"""Holds of the guard: changes that are too many at once, and what a person decides about them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from meta_sync.access.models import Permission
from meta_sync.api.context import Context
from meta_sync.api.documentation import errors
from meta_sync.api.parameters import CursorQuery, LimitQuery, PageQuery
from meta_sync.api.routing import router
from meta_sync.api.schemas.base import answer, paged
from meta_sync.api.schemas.holds import (
    MetaHeldItem,
    MetaHeldItemPage,
    MetaHold,
    MetaHoldAnswer,
    MetaHoldPage,
    ReleaseHoldBody,
)
from meta_sync.api.security import requires
from meta_sync.sync.holds import HoldState

__all__ = ["routes"]

routes = router("Holds")

_PATH = "/admin/meta/holds"

HoldIdPath = Annotated[str, Path(alias="holdId", description="The hold's `id`.")]


@routes.get(
    _PATH,
    operation_id="listHolds",
    summary="List holds",
    description=(
        "Changes that would delete, empty or reprice so many items within an hour that they wait for a person, newest"
        " first. Only the kind in question waits, and only for the items concerned."
    ),
)
@requires(Permission.CATALOG_VIEW)
async def list_holds(
    context: Context,
    *,
    page: PageQuery = 1,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    state: Annotated[HoldState | None, Query(description="Only holds in this state.")] = None,
) -> MetaHoldPage:
    found = await context.factory.holds().list(
        context.store_id, state=state, page=page, limit=limit, cursor=cursor
    )
    return paged(
        MetaHoldPage,
        [MetaHold.of(hold) for hold in found.holds],
        page=page,
        limit=limit,
        cursor=cursor,
        total=found.total,
        total_is_exact=found.is_total_exact,
        next_cursor=found.next_cursor,
    )


@routes.get(
    f"{_PATH}/{{holdId}}",
    operation_id="getHold",
    summary="Read a hold",
    description="One hold: how many items it keeps back, of how many, and what became of it.",
)
@requires(Permission.CATALOG_VIEW)
async def get_hold(context: Context, hold_id: HoldIdPath) -> MetaHoldAnswer:
    hold = await context.factory.holds().get(context.store_id, hold_id)
    return answer(MetaHoldAnswer, MetaHold.of(hold))


@routes.get(
    f"{_PATH}/{{holdId}}/items",
    operation_id="listHeldItems",
    summary="List what a hold keeps back",
    description=(
        "The items in the order of their variant ids, each with what releasing it would do as the store has it now: the dry"
        " run of a release. Empty once the hold is worked off."
    ),
)
@requires(Permission.CATALOG_VIEW)
async def list_held_items(
    context: Context,
    hold_id: HoldIdPath,
    *,
    page: PageQuery = 1,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
) -> MetaHeldItemPage:
    found = await context.factory.holds().items(
        context.store_id, hold_id, page=page, limit=limit, cursor=cursor
    )
    return paged(
        MetaHeldItemPage,
        [MetaHeldItem.of(item) for item in found.items],
        page=page,
        limit=limit,
        cursor=cursor,
        total=found.total,
        total_is_exact=found.is_total_exact,
        next_cursor=found.next_cursor,
    )


@routes.post(
    f"{_PATH}/{{holdId}}/release",
    operation_id="releaseHold",
    summary="Release a hold",
    description=(
        "Lets everything go that the hold keeps back, as the store has it when it is sent. Answered 409 when it keeps back"
        " more than a tenth more than `shownItems`, while it is being counted, and once it is decided."
    ),
    status_code=202,
    responses=errors("CONFLICT"),
)
@requires(Permission.CATALOG_MANAGE)
async def release_hold(
    context: Context, hold_id: HoldIdPath, body: ReleaseHoldBody | None = None
) -> MetaHoldAnswer:
    shown = body.shown_items if body is not None else None
    hold = await context.factory.holds().release(
        context.store_id, hold_id, shown_items=shown, actor=context.actor
    )
    return answer(MetaHoldAnswer, MetaHold.of(hold), 202)


@routes.post(
    f"{_PATH}/{{holdId}}/discard",
    operation_id="discardHold",
    summary="Discard a hold",
    description=(
        "Leaves Meta as it is: each item is left alone until the store wants something else of it, also by later syncs."
        " Answered 409 while the hold is being counted, and once it is decided."
    ),
    status_code=202,
    responses=errors("CONFLICT"),
)
@requires(Permission.CATALOG_MANAGE)
async def discard_hold(context: Context, hold_id: HoldIdPath) -> MetaHoldAnswer:
    hold = await context.factory.holds().discard(context.store_id, hold_id, actor=context.actor)
    return answer(MetaHoldAnswer, MetaHold.of(hold), 202)
