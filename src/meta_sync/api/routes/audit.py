"""Who did what to a store."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from meta_sync.access.models import Permission
from meta_sync.api.context import Context
from meta_sync.api.parameters import CursorQuery, LimitQuery, PageQuery
from meta_sync.api.routing import router
from meta_sync.api.schemas.audit import AuditLogEntry, AuditLogPage
from meta_sync.api.schemas.base import Instant, paged
from meta_sync.api.security import requires
from meta_sync.stores.audit import AuditAction, AuditTarget
from meta_sync.stores.audit_log import AuditFilter

__all__ = ["routes"]

routes = router("History")


@routes.get(
    "/admin/meta/audit-log",
    operation_id="listAuditLog",
    summary="Read the audit log",
    description=(
        "Who changed what, newest first: settings, keys, the token, the catalog, feeds, jobs, and what was done to items by"
        " hand. Kept as long as the setting `retentionAuditDays` says. With `q`, `targetType` or more than one of `action`,"
        " `actor` and `target`, a page looks at the next 10,000 entries: it may hold fewer than `limit`, or none, and still"
        " have a `nextCursor`; `total` is then counted among the newest 10,000."
    ),
)
@requires(Permission.CATALOG_VIEW)
async def list_audit_log(
    context: Context,
    *,
    page: PageQuery = 1,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    action: Annotated[AuditAction | None, Query(description="Only this action.")] = None,
    actor: Annotated[
        str | None,
        Query(max_length=200, description="Only what this one did: the id of an API key, or `command line`."),
    ] = None,
    target: Annotated[
        str | None, Query(max_length=1000, description="Only what was done to the thing with this id.")
    ] = None,
    target_type: Annotated[
        AuditTarget | None,
        Query(alias="targetType", description="Only what was done to things of this kind."),
    ] = None,
    since: Annotated[
        Instant | None, Query(alias="from", description="Only entries at this time or later.")
    ] = None,
    until: Annotated[Instant | None, Query(alias="to", description="Only entries before this time.")] = None,
    q: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="Only entries with this text in action, actor or target, whatever its case.",
        ),
    ] = None,
) -> AuditLogPage:
    wanted = AuditFilter(action, actor, target, target_type, since, until, q)
    found = await context.factory.audit_log().list(
        context.store_id, wanted, page=page, limit=limit, cursor=cursor
    )
    return paged(
        AuditLogPage,
        [AuditLogEntry.of(entry) for entry in found.entries],
        page=page,
        limit=limit,
        cursor=cursor,
        total=found.total,
        total_is_exact=found.is_total_exact,
        next_cursor=found.next_cursor,
    )
