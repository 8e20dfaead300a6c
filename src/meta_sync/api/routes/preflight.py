"""What a sync would do, before it does it: reports, and the approval of a first sync into a catalog that has items."""

from __future__ import annotations

from meta_sync.access.models import Permission
from meta_sync.api.context import Context
from meta_sync.api.documentation import errors
from meta_sync.api.parameters import JobIdPath
from meta_sync.api.path_ids import href
from meta_sync.api.routing import router
from meta_sync.api.schemas.base import answer
from meta_sync.api.schemas.preflight import (
    FirstRunApproval,
    FirstRunApprovalAnswer,
    Preflight,
    PreflightAnswer,
    PreflightBody,
    PreflightList,
    PreflightListAnswer,
    StartedPreflight,
    StartedPreflightAnswer,
)
from meta_sync.api.security import requires

__all__ = ["routes"]

routes = router("Pre-flight")

_PATH = "/admin/meta/preflight"


@routes.post(
    _PATH,
    operation_id="createPreflight",
    summary="Check before a sync",
    description=(
        "Starts a report: which items can be sent and which cannot, what is odd about them, and what the Meta catalog that is"
        " selected holds already. It changes nothing. One is made by itself when a catalog is selected that has items. One"
        " report per store is made at a time; a second request is answered 409, with the id of the first as `jobId` among the"
        " details."
    ),
    status_code=202,
    responses=errors("CONFLICT"),
)
@requires(Permission.CATALOG_MANAGE, idempotent=True)
async def create_preflight(context: Context, body: PreflightBody | None = None) -> StartedPreflightAnswer:
    wanted = body or PreflightBody()
    job_id = await context.factory.preflight().start(
        context.store_id, probe_images=wanted.probe_images, actor=context.actor
    )
    result = StartedPreflight(job_id=job_id, status="queued", href=href(_PATH, job_id))
    return answer(StartedPreflightAnswer, result, 202)


@routes.get(
    _PATH,
    operation_id="listPreflights",
    summary="List the checks before a sync",
    description="The newest reports, newest first. Kept for 30 days.",
)
@requires(Permission.CATALOG_VIEW)
async def list_preflights(context: Context) -> PreflightListAnswer:
    found = await context.factory.preflight().list(context.store_id)
    return answer(PreflightListAnswer, PreflightList(reports=[Preflight.of(one) for one in found]))


@routes.get(
    f"{_PATH}/{{jobId}}",
    operation_id="getPreflight",
    summary="Read a check before a sync",
    description=(
        "The report as far as it is made. How far that is, the job of the same id says; it can be cancelled like any other."
    ),
)
@requires(Permission.CATALOG_VIEW)
async def get_preflight(context: Context, job_id: JobIdPath) -> PreflightAnswer:
    return answer(
        PreflightAnswer, Preflight.of(await context.factory.preflight().get(context.store_id, job_id))
    )


@routes.post(
    f"{_PATH}/{{jobId}}/approve",
    operation_id="approvePreflight",
    summary="Approve the first sync",
    description=(
        "Lets the store send into the selected catalog, which had items when it was selected. Only the newest report that is"
        " ready can be approved. Approving again changes nothing."
    ),
    responses=errors("CONFLICT"),
)
@requires(Permission.CATALOG_MANAGE)
async def approve_preflight(context: Context, job_id: JobIdPath) -> FirstRunApprovalAnswer:
    approval = await context.factory.preflight().approve(context.store_id, job_id, actor=context.actor)
    return answer(FirstRunApprovalAnswer, FirstRunApproval.of(approval))
