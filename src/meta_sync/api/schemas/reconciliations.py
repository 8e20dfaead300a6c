"""Bodies of reconciliations: how far one is, what it found, and what is done about it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictBool, StringConstraints, model_validator

from meta_sync.api.path_ids import href
from meta_sync.api.schemas.adoption import ChosenFields, DecidedItem, RetailerIds, UndecidedItem
from meta_sync.api.schemas.base import Answer, Body, PagedAnswer, View
from meta_sync.api.schemas.jobs import JobStatus, SyncJobError
from meta_sync.sync.reconcile_models import REPAIRABLE, Finding, FindingState, Verdict
from meta_sync.sync.reconcile_repair import RepairOrder, RepairPlan, RepairStep
from meta_sync.sync.reconcile_service import Reconciliation as FoundReconciliation

__all__ = [
    "ReconciledItem",
    "ReconciledItemPage",
    "Reconciliation",
    "ReconciliationAnswer",
    "ReconciliationPage",
    "RepairBody",
    "RepairResult",
    "RepairResultAnswer",
    "StartedReconciliation",
    "StartedReconciliationAnswer",
]

_PATH = "/admin/meta/reconciliations"

RepairableVerdict = Literal[Verdict.MISSING, Verdict.DIFFERENT, Verdict.ORPHAN]
_Id = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=1024)]
_Ids = Annotated[list[_Id], Field(min_length=1, max_length=1000)]
_Chosen = Annotated[list[ChosenFields], Field(min_length=1, max_length=1000)]


class StartedReconciliation(View):
    """A reconciliation that was started."""

    job_id: str
    status: JobStatus
    href: str = Field(description="The reconciliation.")


class ReconciliationCounts(View):
    """Items by what reading them came to. While it runs, as one read saw them; at the end, as two reads agree."""

    compared: int = Field(description="Items of the store's that Meta shows and that were compared.")
    agreeing: int = Field(description="Of these: as Meta confirmed them last.")
    missing: int = Field(description="Meta confirmed them and does not show them.")
    different: int = Field(description="Meta shows other values than it confirmed.")
    unverifiable: int = Field(
        description="Meta shows a value in a way that allows for the confirmed one and for another; no drift."
    )
    orphan: int = Field(description="At Meta, sent by this store, and not the store's any more.")
    foreign: int = Field(
        description="At Meta, and never sent by this store: another tool's, a feed's, a person's."
    )
    busy: int = Field(description="Not compared, because they moved while they were read.")


class Reconciliation(View):
    """A comparison of what Meta shows with what it has confirmed."""

    id: str = Field(description="Of the job, too: it is followed and cancelled like any other.")
    status: JobStatus
    stage: Literal["waiting", "reading", "comparing", "rereading", "done"] = Field(
        description="reading: Meta's items, page by page; comparing: looking for what Meta did not show; rereading: what"
        " seemed wrong, once more, a quarter of an hour later."
    )
    message: str | None = Field(description="What it waits for, in words.")
    percent: int = Field(description="Of the items in the catalog, how many were read.")
    requested_by: str | None = Field(description="The API key, or null for the daily one.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    product_count: int | None = Field(
        description="Items in the catalog as Meta counted them at the beginning."
    )
    items_read: int = Field(description="Items read so far.")
    counts: ReconciliationCounts
    drift_percent: float = Field(
        description="Missing, different and orphaned items, in percent of those compared and missing."
    )
    error: SyncJobError | None = Field(description="Why it ended early; null while all is well.")
    href: str

    @classmethod
    def of(cls, found: FoundReconciliation) -> Reconciliation:
        """The reconciliation as answered."""
        job = found.job
        return cls(
            id=job.job_id,
            status=job.status,  # type: ignore[arg-type]  # the column's own check allows no other
            stage=job.stage,  # type: ignore[arg-type]  # written by the handler only
            message=job.message,
            percent=job.percent,
            requested_by=job.requested_by,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            product_count=found.product_count,
            items_read=job.looked_at,
            counts=ReconciliationCounts.model_validate(found.tally.stored()),
            drift_percent=found.tally.drift_percent,
            error=SyncJobError.of(job),
            href=href(_PATH, job.job_id),
        )


class ReconciledDifference(View):
    """One field that is not as it was confirmed."""

    field: str = Field(description="By the name under which it is sent.")
    confirmed: Any = Field(description="As it was sent and confirmed last; empty: it was cleared.")
    shown: Any = Field(description="As Meta shows it, prices formatted; null: Meta shows nothing.")


class ReconciledItem(View):
    """One item that is not at Meta as it should be, or not the store's."""

    retailer_id: str = Field(description="The item's id at Meta, byte for byte.")
    variant_id: str | None = Field(description="Null where the store has never sent an item of this id.")
    product_id: str | None
    verdict: Verdict = Field(description="What is wrong with it.")
    state: FindingState = Field(
        description="suspected: one read says so; agreed: two do; withdrawn: the second one did not. Then what was done."
    )
    differences: list[ReconciledDifference] = Field(description="The fields that make it what it is.")
    shown: dict[str, Any] | None = Field(
        description="What Meta shows, under Meta's names; null of a missing item."
    )
    meta_id: str | None = Field(description="Meta's own id of the item.")
    feed_id: str | None = Field(
        description="The feed that put the item there, as Meta names it: it has to be changed there."
    )
    first_read_at: datetime = Field(description="When Meta was asked first.")
    second_read_at: datetime | None = Field(description="When Meta was asked again.")
    acted_at: datetime | None = Field(description="When something was done about it.")
    acted_by: str | None = Field(description="Who did it.")
    item_href: str | None = Field(description="The store's own item.")

    @classmethod
    def of(cls, finding: Finding) -> ReconciledItem:
        """The finding as answered."""
        shown = {
            name: getattr(finding, name)
            for name in cls.model_fields
            if name not in {"differences", "shown", "item_href"}
        }
        variant_id = finding.variant_id
        return cls(
            **shown,
            differences=[
                ReconciledDifference(field=name, confirmed=values[0], shown=values[1])
                for name, values in sorted(finding.differences.items())
            ],
            shown=finding.found,
            item_href=None if variant_id is None else href("/admin/meta/items", variant_id),
        )


class RepairBody(Body):
    """What to repair. Without a choice: everything that two reads agree on and that is the store's own."""

    model_config = ConfigDict(
        json_schema_extra={
            "not": {
                "required": ["variantIds", "retailerIds"],
                "properties": {"variantIds": {"type": "array"}, "retailerIds": {"type": "array"}},
            }
        }
    )

    verdicts: Annotated[list[RepairableVerdict], Field(min_length=1)] | None = Field(
        default=None, description="Only items of these verdicts."
    )
    variant_ids: _Ids | None = Field(default=None, description="Only these variants.")
    retailer_ids: _Ids | None = Field(default=None, description="Only the items with these ids.")
    take: _Chosen | None = Field(
        default=None,
        description="Different items of which Meta's values become the store's. With this, `pin` or `deleteForeign`, only what"
        " they name is dealt with, unless items to repair are chosen as well.",
    )
    pin: _Chosen | None = Field(
        default=None,
        description="Different items of which Meta's values are kept at Meta, whatever the store says.",
    )
    delete_foreign: RetailerIds | None = Field(
        default=None,
        description="Items that the store never sent and that are to be deleted at Meta. Those of a data feed are refused.",
    )
    dry_run: StrictBool = Field(
        default=False, description="Change nothing; only say what would be decided of each item."
    )

    @property
    def repairs(self) -> bool:
        """Whether items are to be sent as the store has them, beside what else is decided."""
        chosen = (self.verdicts, self.variant_ids, self.retailer_ids)
        others = (self.take, self.pin, self.delete_foreign)
        return any(one is not None for one in chosen) or all(one is None for one in others)

    @model_validator(mode="after")
    def _one_choice(self) -> RepairBody:
        if self.variant_ids is not None and self.retailer_ids is not None:
            raise ValueError("give variantIds or retailerIds, not both")
        return self

    def as_order(self) -> RepairOrder:
        """The repair that is asked for."""
        return RepairOrder(
            REPAIRABLE if self.verdicts is None else frozenset(self.verdicts),
            None if self.variant_ids is None else tuple(self.variant_ids),
            None if self.retailer_ids is None else tuple(self.retailer_ids),
        )


class RepairedItem(View):
    """One item of a repair."""

    retailer_id: str = Field(description="The item's id at Meta.")
    variant_id: str
    verdict: Verdict = Field(description="What was wrong with it.")
    decision: str | None = Field(
        description="Of a dry run: what would be done as the rows stand (upsert, delete, keep, skip, noop). Null otherwise: it"
        " is decided when it is sent."
    )
    reason: str | None = Field(description="Why, where there is a reason beyond the item's own values.")

    @classmethod
    def of(cls, step: RepairStep) -> RepairedItem:
        """The step as answered."""
        return cls.model_validate(step)


class RepairResult(View):
    """What was repaired, or would be."""

    dry_run: bool
    repaired: int = Field(description="Items that are decided anew and sent; of a dry run, that would be.")
    remaining: int = Field(description="Items of the same choice that are left: ask again.")
    items: list[RepairedItem] = Field(description="In the order of the variant ids.")
    decided: list[DecidedItem] = Field(
        description="What `take`, `pin` and `deleteForeign` came to; of a dry run, would come to."
    )
    not_done: list[UndecidedItem] = Field(
        description="Items of these three that were left as they are, and why."
    )

    @classmethod
    def of(
        cls,
        plan: RepairPlan,
        *,
        dry_run: bool,
        decided: list[DecidedItem] | None = None,
        not_done: list[UndecidedItem] | None = None,
    ) -> RepairResult:
        """The repair as answered."""
        items = [RepairedItem.of(one) for one in plan.steps]
        return cls(
            dry_run=dry_run,
            repaired=len(items),
            remaining=plan.remaining,
            items=items,
            decided=decided or [],
            not_done=not_done or [],
        )


class StartedReconciliationAnswer(Answer):
    data: StartedReconciliation


class ReconciliationAnswer(Answer):
    data: Reconciliation


class ReconciliationPage(PagedAnswer):
    data: list[Reconciliation]


class ReconciledItemPage(PagedAnswer):
    data: list[ReconciledItem]


class RepairResultAnswer(Answer):
    data: RepairResult
