"""Jobs: long work over the items of a store, started, watched and called off; and what is done to many items at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import orjson
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from meta_sync.access.models import Permission
from meta_sync.api.context import Context, RequestContext
from meta_sync.api.csv_lines import csv_line
from meta_sync.api.documentation import errors
from meta_sync.api.etags import NOT_MODIFIED, IfNoneMatch, unless_known
from meta_sync.api.event_stream import EventStreamResponse, LastEventId, Seen, documented_stream, stream
from meta_sync.api.import_report import import_report
from meta_sync.api.parameters import CursorQuery, JobIdPath, LimitQuery, PageQuery
from meta_sync.api.path_ids import href
from meta_sync.api.routing import router
from meta_sync.api.schemas.base import answer, paged
from meta_sync.api.schemas.jobs import (
    BulkResult,
    BulkResultAnswer,
    ChosenItemsBody,
    JobStatus,
    JobType,
    ResyncItemsBody,
    StartedSyncJob,
    StartedSyncJobAnswer,
    SyncJob,
    SyncJobAnswer,
    SyncJobBody,
    SyncJobPage,
)
from meta_sync.api.security import requires
from meta_sync.core.paging import MAX_PAGE_ROWS, require_page_within_reach
from meta_sync.sync.item_queries import ItemFilter
from meta_sync.sync.job_models import JobAction, JobFinding, JobOrder, JobScope, ScopeKind
from meta_sync.sync.models import Status

__all__ = ["routes"]

routes = router("Jobs")

_PATH = "/admin/meta/sync-jobs"


@routes.post(
    _PATH,
    operation_id="createSyncJob",
    summary="Start a sync",
    description=(
        "Looks at everything, at chosen variants or products, or at what a filter finds, and sends what differs from what"
        " Meta has confirmed. One sync per store runs at a time; a second one is answered 409, with the id of the first as"
        " `jobId` among the details."
    ),
    status_code=202,
    responses=errors("CONFLICT", "meta_not_connected"),
)
@requires(Permission.CATALOG_MANAGE, idempotent=True)
async def create_sync_job(context: Context, body: SyncJobBody | None = None) -> StartedSyncJobAnswer:
    order = (body or SyncJobBody()).as_order(context.actor)
    ordered = await context.factory.jobs().start(context.store_id, order)
    job_id = ordered.started.job_id
    result = StartedSyncJob(
        job_id=job_id, status="queued", href=href(_PATH, job_id), not_found=ordered.not_found
    )
    return answer(StartedSyncJobAnswer, result, 202)


@routes.get(
    _PATH,
    operation_id="listSyncJobs",
    summary="List jobs",
    description="Newest first, of all types, imports among them. Kept for 30 days.",
)
@requires(Permission.CATALOG_VIEW)
async def list_sync_jobs(
    context: Context,
    *,
    page: PageQuery = 1,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    type: Annotated[JobType | None, Query(description="Only jobs of this type.")] = None,  # noqa: A002 - the API's own word
    status: Annotated[JobStatus | None, Query(description="Only jobs in this status.")] = None,
) -> SyncJobPage:
    scope = f"sync-jobs\n{context.store_id}\n{type}\n{status}"
    after: tuple[str, str] | None = None
    if cursor is None:
        require_page_within_reach(page, limit)
    else:
        after_at, after_id = context.cursors.decode(scope, cursor)
        after = (after_at, after_id)
    found = await context.factory.jobs().page(
        context.store_id,
        type=type,
        status=status,
        limit=limit,
        offset=0 if after else (page - 1) * limit,
        after=after,
    )
    last = found.jobs[-1] if found.jobs and found.has_more else None
    return paged(
        SyncJobPage,
        [SyncJob.of(job) for job in found.jobs],
        page=page,
        limit=limit,
        cursor=cursor,
        total=min(found.total, MAX_PAGE_ROWS),
        total_is_exact=found.total <= MAX_PAGE_ROWS,
        next_cursor=context.cursors.encode(scope, [last.created_at.isoformat(), last.job_id])
        if last
        else None,
    )


@routes.get(
    f"{_PATH}/{{jobId}}",
    operation_id="getSyncJob",
    summary="Read a job",
    description=(
        "How far the job is. The answer has an `ETag`; with `If-None-Match` an unchanged job is answered 304 without a body."
    ),
    response_model=SyncJobAnswer,
    responses=NOT_MODIFIED,
)
@requires(Permission.CATALOG_VIEW)
async def get_sync_job(
    context: Context, job_id: JobIdPath, response: Response, if_none_match: IfNoneMatch = None
) -> SyncJobAnswer | Response:
    job = SyncJob.of(await context.factory.jobs().get(context.store_id, job_id))
    return unless_known(answer(SyncJobAnswer, job), _state_of(job), if_none_match, response)


@routes.get(
    f"{_PATH}/{{jobId}}/stream",
    operation_id="streamSyncJob",
    summary="Follow a job",
    **documented_stream("the job"),
)
@requires(Permission.CATALOG_VIEW)
async def stream_sync_job(
    context: Context, job_id: JobIdPath, request: Request, last_event_id: LastEventId = None
) -> EventStreamResponse:
    jobs = context.factory.jobs()
    await jobs.get(context.store_id, job_id)

    async def look() -> Seen:
        view = await jobs.get(context.store_id, job_id)
        job = SyncJob.of(view)
        state = _state_of(job).model_dump_json().encode()
        return Seen(job.model_dump_json(by_alias=True).encode(), view.is_over, state)

    return stream(request, context.store_id, look, last_event_id)


@routes.get(
    f"{_PATH}/{{jobId}}/report",
    operation_id="getSyncJobReport",
    summary="Download the report of a dry run or an import",
    description=(
        "Of a dry run one line per item that would be sent, in the order of the variant ids: what would be done, and the"
        " changed fields with what Meta confirmed last and what would be sent, as JSON. CSV that is safe to open in a"
        " spreadsheet; at most 10,000 lines, values cut to 500 characters. Of an import the same report as at the import"
        " itself; of any other job it is empty."
    ),
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "The report."}},
)
@requires(Permission.CATALOG_VIEW)
async def get_sync_job_report(context: Context, job_id: JobIdPath) -> StreamingResponse:
    jobs = context.factory.jobs()
    job = await jobs.get(context.store_id, job_id)
    if job.is_import:
        told = import_report(context.factory.imports().report(context.store_id, job_id))
    else:
        told = _report(jobs.report(context.store_id, job_id))
    return StreamingResponse(
        told,
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{job_id}.csv"'},
    )


async def _report(findings: AsyncIterator[JobFinding]) -> AsyncIterator[str]:
    yield csv_line(
        ["variantId", "productId", "retailerId", "decision", "reason", "changedFields", "before", "after"]
    )
    async for one in findings:
        before = {name: values[0] for name, values in one.changes.items()}
        after = {name: values[1] for name, values in one.changes.items()}
        yield csv_line(
            [
                one.variant_id,
                one.product_id,
                one.retailer_id,
                one.decision,
                one.reason,
                " ".join(one.changes),
                orjson.dumps(before).decode(),
                orjson.dumps(after).decode(),
            ]
        )


@routes.post(
    f"{_PATH}/{{jobId}}/cancel",
    operation_id="cancelSyncJob",
    summary="Cancel a job",
    description=(
        "The job asks for nothing more, what waits only for its sake is taken back, and what is at Meta already is followed"
        " to its end; then the job is `cancelled` and another one may start. Items that were to be sent in any case"
        " (`force`), or that a person took off Meta, are finished. An import ends where it is, between two pieces of its"
        " file: what had gone in stays, and its message says how far it was. Cancelling twice changes nothing. Answered 409: a"
        " job that has ended, a re-evaluation after changed settings, and an import while it deletes what its file leaves out."
    ),
    status_code=202,
    responses=errors("CONFLICT"),
)
@requires(Permission.CATALOG_MANAGE)
async def cancel_sync_job(context: Context, job_id: JobIdPath) -> SyncJobAnswer:
    job = await context.factory.jobs().cancel(context.store_id, job_id, actor=context.actor)
    return answer(SyncJobAnswer, SyncJob.of(job), 202)


async def _bulk(context: RequestContext, kind: str, scope: JobScope, action: JobAction) -> BulkResultAnswer:
    order = JobOrder(kind, scope, action, requested_by=context.actor)
    ordered = await context.factory.jobs().start(context.store_id, order)
    return answer(BulkResultAnswer, BulkResult.of(ordered), 202)


def _with_status(status: Status) -> JobScope:
    return JobScope(ScopeKind.FILTER, item_filter=ItemFilter(status=status))


@routes.post(
    "/admin/meta/items/bulk/resync-failed",
    operation_id="resyncFailedItems",
    summary="Resync all failed items",
    description="Has every failed item decided and sent again, also with what Meta refused before. One bulk resync at a time.",
    status_code=202,
    responses=errors("CONFLICT", "meta_not_connected"),
)
@requires(Permission.CATALOG_MANAGE, idempotent=True)
async def resync_failed_items(context: Context) -> BulkResultAnswer:
    return await _bulk(context, "resync", _with_status(Status.FAILED), JobAction.RETRY)


@routes.post(
    "/admin/meta/items/bulk/resync-skipped",
    operation_id="resyncSkippedItems",
    summary="Resync all skipped items",
    description="Has every skipped item decided anew. What a person took off Meta stays off. One bulk resync at a time.",
    status_code=202,
    responses=errors("CONFLICT", "meta_not_connected"),
)
@requires(Permission.CATALOG_MANAGE, idempotent=True)
async def resync_skipped_items(context: Context) -> BulkResultAnswer:
    return await _bulk(context, "resync", _with_status(Status.SKIPPED), JobAction.RETRY)


@routes.post(
    "/admin/meta/items/bulk/resync",
    operation_id="resyncItems",
    summary="Resync chosen items",
    description=(
        "Has the items decided and sent again, and ends their exclusion. Without `force`, what Meta has as it should be is"
        " not sent. One bulk resync at a time."
    ),
    status_code=202,
    responses=errors("CONFLICT", "meta_not_connected"),
)
@requires(Permission.CATALOG_MANAGE, idempotent=True)
async def resync_items(context: Context, body: ResyncItemsBody) -> BulkResultAnswer:
    action = JobAction.FORCE_RESYNC if body.force else JobAction.RESYNC
    return await _bulk(context, "resync", body.as_scope(), action)


@routes.post(
    "/admin/meta/items/bulk/delete-from-meta",
    operation_id="deleteItemsFromMeta",
    summary="Take chosen items off Meta",
    description="Deletes the items at Meta and keeps them off, until they are resynced by name. One removal at a time.",
    status_code=202,
    responses=errors("CONFLICT", "meta_not_connected"),
)
@requires(Permission.CATALOG_MANAGE, idempotent=True)
async def delete_items_from_meta(context: Context, body: ChosenItemsBody) -> BulkResultAnswer:
    return await _bulk(context, "removal", body.as_scope(), JobAction.EXCLUDE)


def _state_of(job: SyncJob) -> SyncJob:
    """The job without what the time of the look alone changes: then nothing has happened to it."""
    return job.model_copy(update={"rate_per_minute": None, "estimated_finish_at": None})
