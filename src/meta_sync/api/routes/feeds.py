"""Feeds by address: files that are fetched on a schedule and imported behind the answer."""

from __future__ import annotations

from meta_sync.access.models import Permission
from meta_sync.api.context import Context
from meta_sync.api.documentation import errors
from meta_sync.api.parameters import CursorQuery, FeedIdPath, LimitQuery, PageQuery
from meta_sync.api.routing import router
from meta_sync.api.schemas.base import answer, paged
from meta_sync.api.schemas.feeds import (
    CreateFeedBody,
    DeletedFeed,
    DeletedFeedAnswer,
    Feed,
    FeedAnswer,
    FeedPage,
    UpdateFeedBody,
)
from meta_sync.api.security import requires
from meta_sync.core.timed_list import Position

__all__ = ["routes"]

routes = router("Imports")


@routes.post(
    "/catalog/feeds",
    operation_id="createFeed",
    summary="Add a feed by address",
    description=(
        "Fetches a file again and again, the first time at once, and imports it where it changed. The address and the"
        " password are stored encrypted and never shown."
    ),
    status_code=201,
    responses=errors("CONFLICT"),
)
@requires(Permission.PRODUCTS_WRITE, idempotent=True)
async def create_feed(context: Context, body: CreateFeedBody) -> FeedAnswer:
    feed = body.to_input(source=body.source, interval_seconds=body.interval_seconds, enabled=body.enabled)
    view = await context.factory.feeds().create(context.store_id, feed, actor=context.actor)
    return answer(FeedAnswer, Feed.of(view), 201)


@routes.get(
    "/catalog/feeds",
    operation_id="listFeeds",
    summary="List feeds",
    description="The feeds of the store with the result of their last fetch, oldest first.",
)
@requires(Permission.PRODUCTS_READ)
async def list_feeds(
    context: Context, page: PageQuery = 1, limit: LimitQuery = 50, cursor: CursorQuery = None
) -> FeedPage:
    scope = f"feeds\n{context.store_id}"
    after = Position.read(context.cursors, scope, cursor)
    found = await context.factory.feeds().list(context.store_id, page, limit, after=after)
    return paged(
        FeedPage,
        [Feed.of(view) for view in found.rows],
        page=page,
        limit=limit,
        cursor=cursor,
        total=found.total,
        total_is_exact=found.is_total_exact,
        next_cursor=found.next_cursor(context.cursors, scope),
    )


@routes.get(
    "/catalog/feeds/{feedId}",
    operation_id="getFeed",
    summary="Read a feed",
    description="One feed with the result of its last fetch.",
)
@requires(Permission.PRODUCTS_READ)
async def get_feed(context: Context, feed_id: FeedIdPath) -> FeedAnswer:
    return answer(FeedAnswer, Feed.of(await context.factory.feeds().get(context.store_id, feed_id)))


@routes.patch(
    "/catalog/feeds/{feedId}",
    operation_id="updateFeed",
    summary="Change a feed",
    description=(
        "A change of what is fetched or how it is read stops a fetch under way and fetches anew at once. For an address"
        " on another server the password has to be given again."
    ),
    responses=errors("CONFLICT"),
)
@requires(Permission.PRODUCTS_WRITE)
async def update_feed(context: Context, feed_id: FeedIdPath, body: UpdateFeedBody) -> FeedAnswer:
    view = await context.factory.feeds().update(
        context.store_id, feed_id, body.changes(), actor=context.actor
    )
    return answer(FeedAnswer, Feed.of(view))


@routes.delete(
    "/catalog/feeds/{feedId}",
    operation_id="deleteFeed",
    summary="Delete a feed",
    description="Ends its schedule. What was imported from it stays, and an import that has its file goes on.",
)
@requires(Permission.PRODUCTS_WRITE)
async def delete_feed(context: Context, feed_id: FeedIdPath) -> DeletedFeedAnswer:
    await context.factory.feeds().delete(context.store_id, feed_id, actor=context.actor)
    return answer(DeletedFeedAnswer, DeletedFeed(feed_id=feed_id, deleted=True))


@routes.post(
    "/catalog/feeds/{feedId}/fetch",
    operation_id="fetchFeed",
    summary="Fetch a feed now",
    description="Fetches behind the answer, also a feed that is switched off. A file that is the same makes no import.",
    status_code=202,
)
@requires(Permission.PRODUCTS_WRITE)
async def fetch_feed(context: Context, feed_id: FeedIdPath) -> FeedAnswer:
    view = await context.factory.feeds().fetch(context.store_id, feed_id, actor=context.actor)
    return answer(FeedAnswer, Feed.of(view), 202)
