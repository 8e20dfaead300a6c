"""Bodies about one item's past and present at Meta: its timeline, Meta's live view of it, and taking it off Meta."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from meta_sync.api.path_ids import href
from meta_sync.api.schemas.base import Answer, PagedAnswer, View
from meta_sync.sync.attempts import AttemptOutcome
from meta_sync.sync.live_status import LiveIssue, LiveStatus
from meta_sync.sync.models import Method
from meta_sync.sync.timeline import AttemptFacts, TimelineEntry

__all__ = [
    "MetaItemLiveStatus",
    "MetaItemLiveStatusAnswer",
    "RemovalResult",
    "RemovalResultAnswer",
    "TimelineEntryView",
    "TimelinePage",
]


class TimelineAttempt(View):
    """One attempt to send an item."""

    batch_id: str
    batch_href: str = Field(description="The batch it went out in; gone once batches of its age are deleted.")
    handle: str | None = Field(description="Meta's id of the call, once Meta took it.")
    catalog_id: str | None
    method: Method
    retailer_id: str = Field(description="The id it was sent under.")
    outcome: AttemptOutcome = Field(
        description=(
            "`under_way`: Meta works on it. `unknown`: Meta did not say, so it counts as not confirmed and is sent"
            " again. `returned`: the whole call was refused, so nothing was saved."
        )
    )
    payload_hash: str | None = Field(description="SHA-256 of the payload, in hex; null for a deletion.")
    fields: list[str] = Field(description="Fields that were sent with a value.")
    cleared: list[str] = Field(description="Fields that were sent empty.")
    finished_at: datetime | None = Field(description="When the batch was over.")

    @classmethod
    def of(cls, attempt: AttemptFacts) -> TimelineAttempt:
        """The attempt as answered."""
        return cls(
            batch_id=str(attempt.batch_id),
            batch_href=href("/admin/meta/handles", str(attempt.batch_id)),
            handle=attempt.handle,
            catalog_id=attempt.catalog_id,
            method=Method(attempt.method),
            retailer_id=attempt.retailer_id,
            outcome=attempt.outcome,
            payload_hash=attempt.payload_hash.hex() if attempt.payload_hash else None,
            fields=list(attempt.fields),
            cleared=list(attempt.cleared),
            finished_at=attempt.finished_at,
        )


class TimelineEntryView(View):
    """One thing that happened to an item."""

    id: str = Field(description="Unique within the timeline.", examples=["attempt:1042"])
    at: datetime
    kind: str = Field(
        description=(
            "`state`: how the item stands, at the time it last changed. `attempt`: it was sent, or deleted. `skip`: it"
            " was left out. `fail`: it could not be prepared. `refused`: Meta refused it. `resync`, `excluded`:"
            " somebody asked for that. Further kinds may follow."
        ),
        examples=["attempt"],
    )
    message: str = Field(
        description="What happened, as a sentence.",
        examples=["The item was sent in batch 1042. Meta accepted it."],
    )
    code: str | None = Field(description="The code it stands under in the table of codes.")
    meta_text: str | None = Field(description="What Meta said, in its own words.")
    actor: str | None = Field(description="Who asked for it: the id of an API key, or a part of the service.")
    attempt: TimelineAttempt | None = Field(description="Of an attempt only.")

    @classmethod
    def of(cls, entry: TimelineEntry) -> TimelineEntryView:
        """The entry as answered."""
        return cls(
            id=entry.id,
            at=entry.at,
            kind=entry.kind,
            message=entry.message,
            code=entry.code,
            meta_text=entry.meta_text,
            actor=entry.actor,
            attempt=TimelineAttempt.of(entry.attempt) if entry.attempt else None,
        )


class MetaItemIssue(View):
    """Something Meta says is wrong with an item."""

    message: str = Field(
        description="Meta's title and description, joined.",
        examples=["Missing or invalid images: The main image of this item cannot be displayed."],
    )
    type: str | None = Field(
        description="Meta's machine-readable name of it.", examples=["IMAGE_RESOLUTION_LOW"]
    )
    priority: str | None = Field(examples=["HIGH"])
    call_to_action: str | None = Field(description="What Meta suggests to do.")

    @classmethod
    def of(cls, issue: LiveIssue) -> MetaItemIssue:
        """The issue as answered."""
        said = ": ".join(one for one in (issue.title, issue.description) if one)
        return cls(
            message=said or issue.type or "Meta names an error without a text.",
            type=issue.type,
            priority=issue.priority,
            call_to_action=issue.call_to_action,
        )


class MetaItemLiveStatus(View):
    """An item as Meta shows it at this moment. Texts are Meta's own."""

    found: bool = Field(
        description="Whether Meta shows an item with exactly this id. One that was sent moments ago may not show yet."
    )
    retailer_id: str | None = Field(description="The id that was looked for; null when Meta was not asked.")
    catalog_id: str | None = Field(
        description="Where it was looked for; null when Meta was not asked, and `errors` says what is missing."
    )
    checked_at: datetime
    meta_id: str | None = Field(description="Meta's own id of the item.")
    name: str | None
    availability: str | None = Field(examples=["in stock"])
    price: str | None = Field(
        description="As Meta formats it, which depends on its locale.", examples=["€19.90"]
    )
    sale_price: str | None
    currency: str | None
    visibility: str | None = Field(examples=["published"])
    review_status: str | None = Field(description="Meta's verdict on the item.", examples=["approved"])
    image_status: str | None = Field(
        description="What became of Meta's fetching the image.", examples=["FETCHED"]
    )
    errors: list[MetaItemIssue]

    @classmethod
    def of(cls, status: LiveStatus) -> MetaItemLiveStatus:
        """The item as answered."""
        shown: dict[str, Any] = {name: getattr(status, name) for name in cls.model_fields if name != "errors"}
        return cls(**shown, errors=[MetaItemIssue.of(one) for one in status.issues])


class RemovalResult(View):
    """An item that will be taken off Meta."""

    variant_id: str
    enqueued: bool


class TimelinePage(PagedAnswer):
    data: list[TimelineEntryView]


class MetaItemLiveStatusAnswer(Answer):
    data: MetaItemLiveStatus


class RemovalResultAnswer(Answer):
    data: RemovalResult
