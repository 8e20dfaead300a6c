"""Bodies of jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StringConstraints, model_validator

from meta_sync.api.path_ids import href
from meta_sync.api.schemas.base import Answer, Body, PagedAnswer, View
from meta_sync.api.schemas.items import LANE_NAMES
from meta_sync.catalog.models import Lane
from meta_sync.graph.errors import Category
from meta_sync.sync.codes import explain, names_of
from meta_sync.sync.item_queries import ItemFilter
from meta_sync.sync.job_models import (
    MAX_CHOSEN,
    JobAction,
    JobOrder,
    JobScope,
    JobView,
    OrderedJob,
    ScopeKind,
)
from meta_sync.sync.models import Status

__all__ = [
    "BulkResult",
    "BulkResultAnswer",
    "ChosenItemsBody",
    "JobStatus",
    "JobType",
    "LaneName",
    "ResyncItemsBody",
    "StartedSyncJob",
    "StartedSyncJobAnswer",
    "SyncJob",
    "SyncJobAnswer",
    "SyncJobBody",
    "SyncJobPage",
]

JobType = Literal[
    "bootstrap", "sync", "resync", "removal", "reevaluation", "import", "preflight", "reconciliation"
]
JobStatus = Literal["queued", "running", "cancelling", "cancelled", "success", "partial", "error"]
LaneName = Literal["live", "content", "bulk"]
_Id = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=1024)]
_Ids = Annotated[list[_Id], Field(min_length=1, max_length=MAX_CHOSEN)]


class JobFilter(Body):
    """Which items; every condition holds at once, as in the list of items."""

    status: Status | None = Field(default=None, description="Only items in this status.")
    search: Annotated[str, StringConstraints(strict=True, max_length=200)] | None = Field(
        default=None, description="Text within variant id, sku, title or slug; case does not matter."
    )
    eligible_only: StrictBool = Field(
        default=False, description="Only variants of active, public products that are not deleted."
    )
    product_id: _Id | None = Field(default=None, description="Only items of this product.")
    lane: LaneName | None = Field(default=None, description="Only items that wait in this lane.")
    error_code: _Id | None = Field(default=None, description="Only items with this code.")

    def as_filter(self) -> ItemFilter:
        """The filter as the list of items takes it."""
        return ItemFilter(
            status=self.status,
            search=self.search or None,
            eligible_only=self.eligible_only,
            product_id=self.product_id,
            lane=Lane(LANE_NAMES.index(self.lane)) if self.lane else None,
            error_code=self.error_code,
        )


def _chosen(variant_ids: list[str] | None, product_ids: list[str] | None) -> JobScope:
    if variant_ids is not None:
        return JobScope(ScopeKind.VARIANTS, tuple(sorted(set(variant_ids))))
    return JobScope(ScopeKind.PRODUCTS, tuple(sorted(set(product_ids or ()))))


class SyncJobBody(Body):
    """A sync that is asked for. Without a scope it is about everything."""

    type: Literal["sync"] = Field(default="sync", description="The only type that is started here.")
    variant_ids: _Ids | None = Field(default=None, description="Only these variants.")
    product_ids: _Ids | None = Field(default=None, description="Only the variants of these products.")
    filter: JobFilter | None = Field(default=None, description="Only items that the filter finds.")
    force: StrictBool = Field(
        default=False,
        description="Send also what Meta has as it should be. What a person took off Meta stays off.",
    )
    lane: LaneName = Field(default="bulk", description="How soon it goes before other work.")
    dry_run: StrictBool = Field(default=False, description="Send nothing; only say what would be sent.")
    description: Annotated[str, StringConstraints(strict=True, max_length=500)] | None = Field(
        default=None, description="For people; shown with the job."
    )

    @model_validator(mode="after")
    def _one_scope(self) -> SyncJobBody:
        given = [self.variant_ids, self.product_ids, self.filter]
        if sum(one is not None for one in given) > 1:
            raise ValueError("give one of variantIds, productIds and filter, or none of them for everything")
        return self

    def as_order(self, requested_by: str | None) -> JobOrder:
        """The job that is asked for."""
        scope = JobScope()
        if self.filter is not None:
            item_filter = self.filter.as_filter()
            scope = scope if item_filter == ItemFilter() else JobScope(ScopeKind.FILTER, (), item_filter)
        elif self.variant_ids is not None or self.product_ids is not None:
            scope = _chosen(self.variant_ids, self.product_ids)
        return JobOrder(
            self.type,
            scope,
            JobAction.FORCE if self.force else JobAction.LOOK,
            Lane(LANE_NAMES.index(self.lane)),
            dry_run=self.dry_run,
            description=self.description,
            requested_by=requested_by,
        )


class ChosenItemsBody(Body):
    """Chosen items: variants, or all variants of products."""

    variant_ids: _Ids | None = Field(default=None, description="These variants.")
    product_ids: _Ids | None = Field(default=None, description="The variants of these products.")

    @model_validator(mode="after")
    def _one_choice(self) -> ChosenItemsBody:
        if (self.variant_ids is None) is (self.product_ids is None):
            raise ValueError("give either variantIds or productIds")
        return self

    def as_scope(self) -> JobScope:
        """The items that are meant."""
        return _chosen(self.variant_ids, self.product_ids)


class ResyncItemsBody(ChosenItemsBody):
    """Chosen items that are to be sent again."""

    force: StrictBool = Field(default=False, description="Send also what Meta has as it should be.")


class BulkResult(View):
    """A bulk action that was started."""

    enqueued: int = Field(
        description="Items in scope as far as it is known now; the job says what becomes of them."
    )
    not_found: list[str] = Field(description="Ids that the catalog does not have.")
    job_id: str
    href: str = Field(description="The job.")

    @classmethod
    def of(cls, ordered: OrderedJob) -> BulkResult:
        """The action as answered."""
        started = ordered.started
        return cls(
            enqueued=started.total,
            not_found=ordered.not_found,
            job_id=started.job_id,
            href=href("/admin/meta/sync-jobs", started.job_id),
        )


class StartedSyncJob(View):
    """A job that was started."""

    job_id: str
    status: JobStatus
    href: str
    not_found: list[str] = Field(description="Ids of the scope that the catalog does not have.")


class SyncJobFilter(View):
    """The filter of a job."""

    status: Status | None
    search: str | None
    eligible_only: bool
    product_id: str | None
    lane: LaneName | None
    error_code: str | None


class SyncJobScope(View):
    """What a job is about."""

    kind: Literal["all", "variants", "products", "filter", "file"]
    ids: int | None = Field(description="How many variants or products were named; null where none were.")
    filter: SyncJobFilter | None


class SyncJobCounts(View):
    """Where the items stand. Each is in one count, those not looked at yet in `total` only; at the end they add up to it."""

    total: int = Field(
        description="Items in scope. Of a job with a filter and of an import it grows while they are found; known for"
        " certain once all are looked at."
    )
    enqueued: int = Field(
        description="Waiting to be sent, now. Of an import: created or changed by it, and so handed on to be sent."
    )
    unchanged: int = Field(
        description="Looked at and left alone: nothing differs, or Meta refused just this before. Of a dry run everything"
        " that was looked at, because nothing is sent; `result` tells it apart."
    )
    submitted: int = Field(description="At Meta, now.")
    synced: int = Field(description="Meta has them as they should be, or no longer where they should not be.")
    failed: int
    skipped: int = Field(description="Not fit to be sent, or gone, and not at Meta.")
    cancelled: int = Field(description="Called off with the job. They may still be sent for another reason.")


class DryRunDecisions(View):
    """Items by what would be done about them."""

    create: int
    update: int
    delete: int
    unchanged: int = Field(description="Nothing differs, or Meta refused just this before.")
    skip: int = Field(description="Not fit to be sent; `reasons` says why.")


class DryRunResult(View):
    """What a dry run has found so far. Items at Meta just now count as to be sent."""

    decisions: DryRunDecisions
    reasons: dict[str, int] = Field(description="Skipped items by their code.")
    batch_size: int = Field(description="Items per call, as the settings have it.")
    calls: int = Field(description="Calls to Meta at this batch size.")
    minutes: float | None = Field(
        description="Until the last call, by the budget as it stands, if nothing else is sent; null until all is looked at."
    )
    report_lines: int = Field(description="Lines of the report, at most 10,000.")

    @classmethod
    def of(cls, result: dict[str, Any]) -> DryRunResult:
        """What was found as answered."""
        found = result["decisions"]
        decisions = {name: found.get(name, 0) for name in DryRunDecisions.model_fields}
        return cls.model_validate({**result, "decisions": decisions})


class SyncJobError(View):
    """Why a job did not do all that was asked of it."""

    code: str = Field(description=f"One of {names_of('job', 'pause')}, or `CONFLICT`.")
    category: Category
    message: str = Field(description="What is the matter, as a sentence.")
    action: str = Field(description="What to do about it.")

    @classmethod
    def of(cls, view: JobView) -> SyncJobError | None:
        """The error of a job as answered."""
        if view.error_code is None:
            return None
        entry = explain(view.error_code)
        message = view.message or entry.sentence
        return cls(code=view.error_code, category=entry.category, message=message, action=entry.action)


class SyncJob(View):
    """Any long work over the items of a store."""

    id: str
    type: JobType = Field(
        description="bootstrap (everything), sync, resync (bulk), removal (bulk), reevaluation (settings changed), import"
        " (a file into the catalog), preflight (a check before a sync) or reconciliation (a comparison with Meta)."
    )
    status: JobStatus = Field(description="partial: some items failed.")
    scope: SyncJobScope
    action: Literal["look", "retry", "resync", "force", "force_resync", "exclude", "import"] = Field(
        description="What is done to an item: look (decide anew), retry (also what Meta refused before), resync (also what"
        " a person took off Meta), force (send it in any case), force_resync (both), exclude (take it off Meta) or import"
        " (take it from the file into the catalog)."
    )
    lane: LaneName
    dry_run: bool
    description: str | None = Field(description="As given; of an import the name of its file.")
    requested_by: str | None = Field(description="The API key, or null for the service itself.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    stage: Literal[
        "waiting",
        "enqueuing",
        "syncing",
        "fetching",
        "uploading",
        "scanning",
        "comparing",
        "asking",
        "reading",
        "rereading",
        "probing",
        "done",
    ]
    message: str | None = Field(
        description="What there is to say in words: why the job stands still while the store does, what an import had done"
        " when it was called off."
    )
    percent: int = Field(
        description="Items that have ended, of all; of an import, how much of its file is settled. 100 only when the job is"
        " over. 0 until it is known how many there are, which with a filter takes a look at all of them. Falls only where"
        " a re-evaluation begins anew, because a setting changed again."
    )
    counts: SyncJobCounts
    rate_per_minute: float | None = Field(
        description="Items that ended per minute in the last two to four minutes, 0 if none did; of a job that is over and"
        " of an import, since it began. Null before there is anything to tell."
    )
    estimated_finish_at: datetime | None = Field(
        description="At that rate; moves with every look. Null where nothing can be said: before the job is some seconds"
        " old, when nothing ended lately, and while the store stands still, as `message` then says."
    )
    error: SyncJobError | None = Field(
        description="Why it failed, or could not do all; null while all is well."
    )
    import_href: str | None = Field(description="The import with its rows, of a job of this type.")
    result: DryRunResult | None = Field(description="Of a dry run; null before its first page.")
    href: str

    @classmethod
    def of(cls, view: JobView) -> SyncJob:
        """The job as answered."""
        shown = {name: getattr(view, name) for name in cls.model_fields if name not in _MADE}
        made = {
            "id": view.job_id,
            "scope": _scope(view.scope),
            "action": view.action.value,
            "lane": LANE_NAMES[view.lane],
            "error": SyncJobError.of(view),
            "import_href": href("/catalog/imports", view.job_id) if view.is_import else None,
            "result": DryRunResult.of(view.result) if view.dry_run and view.result is not None else None,
            "href": href("/admin/meta/sync-jobs", view.job_id),
        }
        return cls.model_validate({**shown, **made})


_MADE = frozenset({"id", "scope", "action", "lane", "error", "import_href", "result", "href"})
"""Fields that the row does not have as they are shown."""


def _scope(scope: JobScope) -> SyncJobScope:
    shown = scope.item_filter
    lane = None if shown is None or shown.lane is None else LANE_NAMES[shown.lane]
    item_filter = (
        None
        if shown is None
        else {
            **{name: getattr(shown, name) for name in SyncJobFilter.model_fields if name != "lane"},
            "lane": lane,
        }
    )
    return SyncJobScope.model_validate(
        {
            "kind": scope.kind.value,
            "ids": len(scope.ids) if scope.ids else None,
            "filter": item_filter,
        }
    )


class SyncJobAnswer(Answer):
    data: SyncJob


class SyncJobPage(PagedAnswer):
    data: list[SyncJob]


class StartedSyncJobAnswer(Answer):
    data: StartedSyncJob


class BulkResultAnswer(Answer):
    data: BulkResult
