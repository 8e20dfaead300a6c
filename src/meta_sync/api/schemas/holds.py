"""Bodies of holds: what the guard keeps back, what releasing it would do, and what was decided."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from meta_sync.api.path_ids import href
from meta_sync.api.schemas.base import Answer, Body, Int64, PagedAnswer, View
from meta_sync.sync.codes import entry_of
from meta_sync.sync.codes_guard import held_code
from meta_sync.sync.guard import GuardKind
from meta_sync.sync.holds import HeldItem, Hold, HoldState
from meta_sync.sync.models import DecisionKind

__all__ = [
    "MetaHeldItem",
    "MetaHeldItemPage",
    "MetaHold",
    "MetaHoldAnswer",
    "MetaHoldPage",
    "ReleaseHoldBody",
]

_PATH = "/admin/meta/holds"


class MetaHold(View):
    """Changes of one kind that are so many at once that they wait for a person."""

    id: str = Field(description="Names the hold.", examples=["17"])
    kind: GuardKind = Field(
        description=(
            "`delete`: items would be deleted at Meta. `out_of_stock`: items would be shown as out of stock. `price`: prices"
            " or sale prices would change."
        )
    )
    state: HoldState = Field(
        description=(
            "`counting`: it is being counted whether they are too many. `held`: they wait for a decision. `released`: they"
            " are sent as the store has them. `discarded`: Meta is left as it is. `dissolved`: they became few again and"
            " went out."
        )
    )
    code: str = Field(description="The code that its items carry.", examples=["held_delete"])
    message: str = Field(description="What the code means.")
    items: int = Field(
        description="Items that are kept back, as counted at `countedAt`; once decided, as many as there were then."
    )
    recent_items: int = Field(description="Items of which the same kind went out within the hour before.")
    base_items: int = Field(description="Items that were at Meta when that hour began.")
    threshold: int = Field(description="How many of them may change in an hour without being asked about.")
    catalog_id: str | None = Field(description="The Meta catalog that they are meant for.")
    created_at: datetime = Field(description="When counting began.")
    held_at: datetime | None = Field(description="Since when they wait for a decision.")
    counted_at: datetime | None = Field(description="When they were counted last; about once a minute.")
    decided_at: datetime | None = Field(description="When a person decided.")
    decided_by: str | None = Field(description="Who decided.")
    finished_at: datetime | None = Field(description="When the last of its items was worked off.")
    href: str = Field(description="Where to read it.")

    @classmethod
    def of(cls, hold: Hold) -> MetaHold:
        """The hold as answered."""
        code = held_code(hold.kind)
        return cls(
            id=str(hold.hold_id),
            kind=hold.kind,
            state=hold.state,
            code=code.value,
            message=entry_of(code.value).sentence,
            items=hold.items,
            recent_items=hold.recent_items,
            base_items=hold.base_items,
            threshold=hold.threshold,
            catalog_id=hold.catalog_id,
            created_at=hold.created_at,
            held_at=hold.held_at,
            counted_at=hold.counted_at,
            decided_at=hold.decided_at,
            decided_by=hold.decided_by,
            finished_at=hold.finished_at,
            href=href(_PATH, str(hold.hold_id)),
        )


class MetaHeldItem(View):
    """One item that a hold keeps back, and what releasing it would do as the store has it now."""

    variant_id: str = Field(description="The variant's own id.")
    product_id: str | None = Field(description="Its product.")
    sku: str | None = Field(description="Its stock keeping unit.")
    product_title: str | None = Field(description="What the product is called.")
    retailer_id: str | None = Field(description="The id it has at Meta.")
    waits_since: datetime = Field(description="Since when the change waits.")
    decision: DecisionKind | None = Field(
        description="What would be done; null while that cannot be told, such as without a currency."
    )
    reason: str | None = Field(description="Why it would be deleted, as a code.")
    changes: dict[str, list[str | None]] = Field(
        description="By field of Meta's, what Meta confirmed last and what would be sent; long texts are cut.",
        examples=[{"price": ["19.99 EUR", "0.01 EUR"]}],
    )
    href: str = Field(description="The item as it stands now.")

    @classmethod
    def of(cls, item: HeldItem) -> MetaHeldItem:
        """The item as answered."""
        return cls(
            variant_id=item.variant_id,
            product_id=item.product_id,
            sku=item.sku,
            product_title=item.title,
            retailer_id=item.retailer_id,
            waits_since=item.first_at,
            decision=item.decision,
            reason=item.reason,
            changes=item.changes,
            href=href("/admin/meta/items", item.variant_id),
        )


class ReleaseHoldBody(Body):
    """What the person saw who releases a hold."""

    shown_items: Int64 | None = Field(
        default=None,
        ge=0,
        description="How many items were shown; without it, as many as were last counted.",
        examples=[120],
    )


class MetaHoldPage(PagedAnswer):
    data: list[MetaHold]


class MetaHoldAnswer(Answer):
    data: MetaHold


class MetaHeldItemPage(PagedAnswer):
    data: list[MetaHeldItem]
