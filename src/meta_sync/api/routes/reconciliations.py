"""Reconciliations: what Meta shows compared with what it confirmed, and what is done about the difference."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from meta_sync.access.models import Permission
from meta_sync.api.context import Context, RequestContext
from meta_sync.api.documentation import errors
from meta_sync.api.parameters import CursorQuery, JobIdPath, LimitQuery, PageQuery
from meta_sync.api.path_ids import href
from meta_sync.api.routing import router
from meta_sync.api.schemas.adoption import DecidedItem, UndecidedItem, decided_items
from meta_sync.api.schemas.base import answer, paged
from meta_sync.api.schemas.reconciliations import (
    ReconciledItem,
    ReconciledItemPage,
    Reconciliation,
    ReconciliationAnswer,
    ReconciliationPage,
    RepairBody,
    RepairResult,
    RepairResultAnswer,
    StartedReconciliation,
    StartedReconciliationAnswer,
)
from meta_sync.api.security import requires
from meta_sync.core.paging import MAX_PAGE_ROWS, require_page_within_reach
from meta_sync.sync.reconcile_models import FindingState, Verdict
from meta_sync.sync.reconcile_repair import RepairPlan
from meta_sync.sync.reconcile_service import FindingFilter

__all__ = ["routes"]

routes = router("Reconciliations")

_PATH = "/admin/meta/reconciliations"


@routes.post(
    _PATH,
    operation_id="createReconciliation",
    summary="Compare with Meta",
    description=(
        "Starts reading the selected Meta catalog back and comparing every item with what Meta confirmed last. It changes"
        " nothing. What it finds is read a second time a quarter of an hour later, and believed only if that says the same."
        " One is made every day by itself. One per store runs at a time; a second one is answered 409, with the id of the"
        " first as `jobId` among the details."
    ),
    status_code=202,
    responses=errors("CONFLICT", "meta_not_connected"),
)
@requires(Permission.CATALOG_MANAGE, idempotent=True)
async def create_reconciliation(context: Context) -> StartedReconciliationAnswer:
    job_id = await context.factory.reconciliations().start(context.store_id, actor=context.actor)
    result = StartedReconciliation(job_id=job_id, status="queued", href=href(_PATH, job_id))
    return answer(StartedReconciliationAnswer, result, 202)


@routes.get(
    _PATH,
    operation_id="listReconciliations",
    summary="List the comparisons with Meta",
    description="Newest first. Kept for 30 days.",
)
@requires(Permission.CATALOG_VIEW)
async def list_reconciliations(
    context: Context, *, page: PageQuery = 1, limit: LimitQuery = 50, cursor: CursorQuery = None
) -> ReconciliationPage:
    scope = f"reconciliations\n{context.store_id}"
    after: tuple[str, str] | None = None
    if cursor is None:
        require_page_within_reach(page, limit)
    else:
        after_at, after_id = context.cursors.decode(scope, cursor)
        after = (after_at, after_id)
    found = await context.factory.reconciliations().page(
        context.store_id, limit=limit, offset=0 if after else (page - 1) * limit, after=after
    )
    last = found.reconciliations[-1].job if found.reconciliations and found.has_more else None
    return paged(
        ReconciliationPage,
        [Reconciliation.of(one) for one in found.reconciliations],
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
    operation_id="getReconciliation",
    summary="Read a comparison with Meta",
    description="How far it is and what it has found so far, as figures. The items are a list of their own.",
)
@requires(Permission.CATALOG_VIEW)
async def get_reconciliation(context: Context, job_id: JobIdPath) -> ReconciliationAnswer:
    found = await context.factory.reconciliations().get(context.store_id, job_id)
    return answer(ReconciliationAnswer, Reconciliation.of(found))


@routes.get(
    f"{_PATH}/{{jobId}}/items",
    operation_id="listReconciledItems",
    summary="List what a comparison found",
    description=(
        "Items that are not at Meta as Meta confirmed them, and items that the store never sent, in the order of their"
        " retailer ids. Items that agree are only counted."
    ),
)
@requires(Permission.CATALOG_VIEW)
async def list_reconciled_items(
    context: Context,
    job_id: JobIdPath,
    *,
    page: PageQuery = 1,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    verdict: Annotated[Verdict | None, Query(description="Only items of this verdict.")] = None,
    state: Annotated[FindingState | None, Query(description="Only findings in this state.")] = None,
) -> ReconciledItemPage:
    found = await context.factory.reconciliations().findings(
        context.store_id, job_id, FindingFilter(verdict, state), page=page, limit=limit, cursor=cursor
    )
    return paged(
        ReconciledItemPage,
        [ReconciledItem.of(one) for one in found.findings],
        page=page,
        limit=limit,
        cursor=cursor,
        total=min(found.total, MAX_PAGE_ROWS),
        total_is_exact=found.total <= MAX_PAGE_ROWS,
        next_cursor=found.next_cursor,
    )


@routes.post(
    f"{_PATH}/{{jobId}}/repair",
    operation_id="repairReconciliation",
    summary="Repair what a comparison found",
    description=(
        "Has items that two reads agree on decided anew and sent as the store has them then: what is missing or different is"
        " sent again, what should not be there is deleted. Items that the store never sent are left alone, unless they are"
        " listed in `deleteForeign`. Of different items, `take` and `pin` keep Meta's values instead. At most 1,000 by one call; `remaining` says how many are left. Repeating it does nothing twice."
    ),
    responses=errors("CONFLICT", "meta_not_connected"),
)
@requires(Permission.CATALOG_MANAGE)
async def repair_reconciliation(
    context: Context, job_id: JobIdPath, body: RepairBody | None = None
) -> RepairResultAnswer:
    wanted = body or RepairBody()
    await context.factory.reconciliations().get(context.store_id, job_id)
    decided, not_done = await _decide(context, job_id, wanted)
    repairs = context.factory.repairs()
    if not wanted.repairs:
        plan = RepairPlan([], 0)
    elif wanted.dry_run:
        plan = await repairs.plan(context.store_id, job_id, wanted.as_order())
    else:
        plan = await repairs.repair(context.store_id, job_id, wanted.as_order(), actor=context.actor)
    result = RepairResult.of(plan, dry_run=wanted.dry_run, decided=decided, not_done=not_done)
    return answer(RepairResultAnswer, result)


async def _decide(
    context: RequestContext, job_id: str, wanted: RepairBody
) -> tuple[list[DecidedItem], list[UndecidedItem]]:
    """Carry out what else is asked for than pushing what the store has."""
    decided: list[DecidedItem] = []
    not_done: list[UndecidedItem] = []
    pins = context.factory.pins()
    told: Any = {"dry_run": wanted.dry_run, "actor": context.actor}
    if wanted.take is not None:
        chosen = {one.retailer_id: one.fields for one in wanted.take}
        result = await pins.take(context.store_id, job_id, chosen, **told)
        decided += decided_items("taken", result)
        not_done += map(UndecidedItem.of, result.not_done)
    if wanted.pin is not None:
        chosen = {one.retailer_id: one.fields for one in wanted.pin}
        result = await pins.pin(context.store_id, job_id, chosen, **told)
        decided += decided_items("pinned", result)
        not_done += map(UndecidedItem.of, result.not_done)
    if wanted.delete_foreign is not None:
        adoption = context.factory.adoption()
        result = await adoption.delete_foreign(
            context.store_id, job_id, retailer_ids=wanted.delete_foreign, **told
        )
        decided += decided_items("deleted", result)
        not_done += map(UndecidedItem.of, result.not_done)
    return decided, not_done
