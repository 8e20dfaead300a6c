"""Bodies of batches (Meta's handles) with their items, and of what happened to a store."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from meta_sync.api.path_ids import href
from meta_sync.api.schemas.base import PagedAnswer, View
from meta_sync.api.schemas.items import LANE_NAMES
from meta_sync.sync.activity import ActivityEntry, SubjectType
from meta_sync.sync.attempts import AttemptOutcome
from meta_sync.sync.codes import explain
from meta_sync.sync.handles import BatchCall, BatchDetail, BatchRecord, BatchState, BatchSummary
from meta_sync.sync.models import Method

__all__ = ["ActivityEntryView", "ActivityPage", "MetaHandle", "MetaHandleAnswer", "MetaHandlePage"]

_HREFS = {"batch": "/admin/meta/handles", "job": "/admin/meta/sync-jobs", "import": "/catalog/imports"}


class MetaHandle(View):
    """One batch: a call to Meta with many items, followed until Meta said what became of each."""

    id: str = Field(examples=["1042"])
    handle: str | None = Field(description="Meta's id of the call, once Meta took it.")
    state: BatchState = Field(
        description=(
            "`sending`: the call is being made. `open`: Meta took it and works on it. `unknown`: the call ended without"
            " an answer. `given_up`: Meta did not finish it in time; its items went out again. `over`: done."
        )
    )
    lane: str = Field(description="live, content or bulk: the most urgent of its items.")
    catalog_id: str
    sent: int = Field(description="Items that Meta was sent; 0 when the whole call was refused.")
    accepted: int
    rejected: int
    unknown: int = Field(description="Items of which Meta did not say what became of them.")
    calls: int = Field(description="How often it was sent.")
    polls: int = Field(description="How often Meta was asked about it.")
    body_bytes: int
    created_at: datetime
    sent_at: datetime | None = Field(description="When Meta took it.")
    finished_at: datetime | None
    next_look_at: datetime | None = Field(description="When it is looked after next; null once it is over.")
    error_code: str | None
    error_message: str | None = Field(description="What the code means.")
    meta_text: str | None = Field(description="What Meta said, in its own words.")
    href: str

    @classmethod
    def of(cls, batch: BatchSummary) -> MetaHandle:
        """The batch as answered."""
        return cls.model_validate(_facts(batch))


def _facts(batch: BatchSummary) -> dict[str, object]:
    code = batch.error_code
    return {
        "id": str(batch.batch_id),
        "handle": batch.handle,
        "state": batch.state,
        "lane": LANE_NAMES[batch.lane],
        "catalog_id": batch.catalog_id,
        "sent": batch.sent,
        "accepted": batch.accepted,
        "rejected": batch.rejected,
        "unknown": batch.unknown,
        "calls": batch.calls,
        "polls": batch.polls,
        "body_bytes": batch.body_bytes,
        "created_at": batch.created_at,
        "sent_at": batch.sent_at,
        "finished_at": batch.finished_at,
        "next_look_at": batch.due_at,
        "error_code": code,
        "error_message": explain(code, batch.error_text).sentence if code else None,
        "meta_text": batch.error_text,
        "href": href("/admin/meta/handles", str(batch.batch_id)),
    }


class MetaHandleCall(View):
    """One call of a batch. Without an answer the same bytes go out again."""

    number: int
    state: str = Field(description="sending, open, unknown, refused, given_up or over.")
    handle: str | None
    started_at: datetime
    error_code: str | None
    meta_text: str | None = Field(description="What Meta said, in its own words.")

    @classmethod
    def of(cls, call: BatchCall) -> MetaHandleCall:
        """The call as answered."""
        return cls(
            number=call.number,
            state=call.state,
            handle=call.handle,
            started_at=call.started_at,
            error_code=call.error_code,
            meta_text=call.error_text,
        )


class MetaHandleItem(View):
    """One item of a batch."""

    variant_id: str
    retailer_id: str = Field(description="The id it was sent under.")
    method: Method
    outcome: AttemptOutcome
    meta_text: str | None = Field(description="What Meta said of it, in its own words.")
    payload_hash: str | None = Field(description="SHA-256 of the payload, in hex; null for a deletion.")
    href: str = Field(description="The item as it stands now.")

    @classmethod
    def of(cls, record: BatchRecord) -> MetaHandleItem:
        """The item as answered."""
        return cls(
            variant_id=record.variant_id,
            retailer_id=record.retailer_id,
            method=Method(record.method),
            outcome=record.outcome,
            meta_text=record.error_text,
            payload_hash=record.payload_hash.hex() if record.payload_hash else None,
            href=href("/admin/meta/items", record.variant_id),
        )


class MetaHandleDetail(MetaHandle):
    """One batch with its calls and a page of its items."""

    call_log: list[MetaHandleCall] = Field(description="Its calls, newest first.")
    items: list[MetaHandleItem] = Field(
        description="A page of its items in the order of their variant ids; `metadata` says where it stands."
    )

    @classmethod
    def of_detail(cls, detail: BatchDetail) -> MetaHandleDetail:
        """The batch as answered."""
        return cls.model_validate(
            {
                **_facts(detail.batch),
                "call_log": [MetaHandleCall.of(one) for one in detail.calls],
                "items": [MetaHandleItem.of(one) for one in detail.items],
            }
        )


class ActivitySubject(View):
    """What an entry is about."""

    type: SubjectType
    id: str | None
    href: str | None = Field(description="Where to read it; null where it has no address of its own.")


class ActivityEntryView(View):
    """One thing that happened to a store."""

    id: str = Field(description="Unique within the list.", examples=["batch_ended:1042"])
    at: datetime
    kind: str = Field(
        description=(
            "`batch_sent`, `batch_ended`, `job_started`, `job_ended`, `import_started`, `import_ended`, `pause_began`,"
            " `pause_ended`, `settings_changed`, `catalog_selected`, `token_set`. Further kinds may follow."
        ),
        examples=["batch_ended"],
    )
    message: str = Field(
        description="What happened, as a sentence.",
        examples=["Batch 1042 is over: 120 of 120 items accepted."],
    )
    subject: ActivitySubject
    code: str | None = Field(description="The code it stands under in the table of codes.")
    meta_text: str | None = Field(description="What was said with it: by Meta, or by the import's format.")
    actor: str | None = Field(description="Who asked for it.")

    @classmethod
    def of(cls, entry: ActivityEntry) -> ActivityEntryView:
        """The entry as answered."""
        collection, subject_id = _HREFS.get(entry.subject.type), entry.subject.id
        return cls(
            id=entry.id,
            at=entry.at,
            kind=entry.kind,
            message=entry.message,
            subject=ActivitySubject(
                type=entry.subject.type,
                id=subject_id,
                href=href(collection, subject_id) if collection and subject_id else None,
            ),
            code=entry.code,
            meta_text=entry.meta_text,
            actor=entry.actor,
        )


class MetaHandlePage(PagedAnswer):
    data: list[MetaHandle]


class MetaHandleAnswer(PagedAnswer):
    data: MetaHandleDetail


class ActivityPage(PagedAnswer):
    data: list[ActivityEntryView]
