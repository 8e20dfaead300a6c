"""Bodies of items: one row of the list, one item in full, and resyncing one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from meta_sync.api.path_ids import href
from meta_sync.api.schemas.base import Answer, Body, Flag, PagedAnswer, View
from meta_sync.catalog.models import CatalogItem
from meta_sync.graph.errors import Category
from meta_sync.sync.codes import entry_of, explain, names_of
from meta_sync.sync.guard import GuardKind, HeldBy
from meta_sync.sync.item_detail import ItemDetail, NextRequest, SyncStateView
from meta_sync.sync.items import ItemSummary
from meta_sync.sync.models import GRACE_OVER, DecisionKind, Method, Presence, Status

__all__ = [
    "ItemAnswer",
    "ItemPage",
    "MetaItemDetail",
    "MetaItemSummary",
    "ResyncBody",
    "ResyncResult",
    "ResyncResultAnswer",
]

LANE_NAMES = ("live", "content", "bulk")
"""Lanes as callers name them, by number."""


class ItemHold(View):
    """The hold that keeps an item back until a person decides."""

    hold_id: str = Field(description="The hold's `id`.", examples=["17"])
    kind: GuardKind = Field(description="What of the item is kept back: delete, out_of_stock or price.")

    @classmethod
    def of(cls, held_by: HeldBy | None) -> ItemHold | None:
        """The hold as answered, where there is one."""
        return None if held_by is None else cls(hold_id=str(held_by.hold_id), kind=held_by.kind)


class MetaItemSummary(View):
    """One item of the list."""

    variant_id: str
    product_id: str
    product_title: str
    product_slug: str
    product_status: str
    product_visibility: str
    sku: str | None
    price: int | None = Field(description="Whole minor units of the store's currency.")
    thumbnail: str | None
    deleted: bool = Field(description="The variant is gone from the store; the item may still be at Meta.")
    sync_status: Status
    presence: Presence = Field(description="Whether the item is at Meta.")
    pending_intent: bool = Field(description="Whether a newer state of the item waits to be looked at.")
    lane: str | None = Field(description="How urgent what waits is: live, content or bulk.")
    held_by: ItemHold | None = Field(description="The hold that keeps what waits back; null where none does.")
    meta_retailer_id: str | None = Field(description="The id it was first sent under.")
    last_handle: str | None
    last_pushed_at: datetime | None
    confirmed_at: datetime | None = Field(description="When Meta last said that the item is as it should be.")
    retry_at: datetime | None = Field(
        description="When the item is sent again by itself: after Meta ended its batch without a verdict, or after it "
        "was found to be the cause of a refused call that named nobody."
    )
    last_error: str | None = Field(
        description="What Meta said, word for word; null where it said nothing about the item."
    )
    error_code: str | None = Field(
        description=f"Why the item failed, waits or is left out: {names_of('item', 'skip', 'batch')}. More may be added."
    )
    error_category: Category | None = Field(description="Kind of the cause behind the code.")
    error_explanation: str | None = Field(description="What the code means, as a sentence.")
    error_action: str | None = Field(description="What to do about it, as a sentence.")
    attempts: int
    href: str

    @classmethod
    def of(cls, item: ItemSummary) -> MetaItemSummary:
        """The row as answered."""
        return cls(
            variant_id=item.variant_id,
            product_id=item.product_id,
            product_title=item.product_title or "",
            product_slug=item.product_slug or "",
            product_status=item.product_status or "draft",
            product_visibility=item.product_visibility or "private",
            sku=item.sku,
            price=item.price,
            thumbnail=item.thumbnail,
            deleted=item.deleted_at is not None,
            sync_status=item.sync_status,
            presence=item.presence,
            pending_intent=item.lane is not None,
            lane=None if item.lane is None else LANE_NAMES[item.lane],
            held_by=ItemHold.of(item.held_by),
            meta_retailer_id=item.meta_retailer_id,
            last_handle=item.last_handle,
            last_pushed_at=item.last_pushed_at,
            confirmed_at=item.confirmed_at,
            retry_at=item.retry_at,
            last_error=item.last_error,
            error_code=item.error_code,
            **_explained(item.error_code, item.last_error),
            attempts=item.attempts,
            href=href("/admin/meta/items", item.variant_id),
        )


class ItemVariant(View):
    """The variant behind an item."""

    id: str
    sku: str | None
    price: int | None
    special_price: int | None
    thumbnail: str | None
    deleted: bool


class ItemProduct(View):
    """The product behind an item."""

    id: str
    title: str
    slug: str
    source: str = Field(
        description="Whose the item is: `api`, `meta` for what was adopted there, or a feed's name."
    )
    status: str
    visibility: str
    thumbnail: str | None


class ItemInventory(View):
    """The stock behind an item."""

    track_inventory: bool
    quantity_on_hand: int
    reserved_quantity: int
    allow_backorder: bool


class ItemSyncState(View):
    """What is recorded of the item at the selected catalog."""

    status: Status
    presence: Presence
    pending_intent: bool
    meta_retailer_id: str | None
    meta_id: str | None = Field(
        description="Meta's own id of the item. Known once `getItemMetaStatus` was asked; null again when the item was "
        "taken off Meta or the catalog was left since."
    )
    catalog_id: str
    last_handle: str | None
    last_pushed_hash: str | None = Field(description="SHA-256 of the last payload sent, in hex.")
    last_pushed_at: datetime | None
    confirmed_hash: str | None = Field(description="SHA-256 of the payload Meta confirmed, in hex.")
    confirmed_at: datetime | None
    last_error: str | None = Field(
        description="What Meta said, word for word; null where it said nothing about the item."
    )
    error_code: str | None = Field(
        description=f"Why the item failed, waits or is left out: {names_of('item', 'skip', 'batch')}. More may be added."
    )
    error_category: Category | None = Field(description="Kind of the cause behind the code.")
    error_explanation: str | None = Field(description="What the code means, as a sentence.")
    error_action: str | None = Field(description="What to do about it, as a sentence.")
    attempts: int
    retry_at: datetime | None = Field(
        description="When the item is sent again by itself: after Meta ended its batch without a verdict, or after it "
        "was found to be the cause of a refused call that named nobody."
    )
    in_flight: bool = Field(description="Whether a batch with the item is under way.")
    excluded: bool = Field(description="Whether a person took the item off Meta.")
    pinned: dict[str, Any] = Field(
        description="By field the value of Meta's that is kept there in place of the store's; null: kept empty."
    )
    grace_until: datetime | None = Field(
        description="Until when an item that is to go is shown as out of stock. Null: it is not to go, or its grace is over."
    )
    updated_at: datetime


class ItemEligibility(View):
    """Whether the item may be sent."""

    eligible: bool
    reason: str | None = Field(description=f"One of {names_of('skip')}.")
    message: str | None = Field(description="The reason as a sentence.")
    next_step: str | None


class ItemIssue(View):
    """Something the mapping had to cut, drop or could not read."""

    code: str = Field(description=f"One of {names_of('issue')}.")
    field: str = Field(description="The item's field at Meta.")
    message: str
    action: str = Field(description="What to do about it, as a sentence.")


class NextRequestView(View):
    """What the next drain would send for the item."""

    decision: DecisionKind
    reason: str | None
    method: Method | None
    data: dict[str, Any] | None = Field(description="The record's data; fields to be emptied included.")
    held_by: ItemHold | None = Field(description="The hold that a person has to release before it is sent.")


class MetaItemDetail(View):
    """One item in full."""

    variant: ItemVariant
    product: ItemProduct
    inventory: ItemInventory | None
    sync_status: Status
    presence: Presence
    pending_intent: bool
    lane: str | None
    held_by: ItemHold | None = Field(description="The hold that keeps what waits back; null where none does.")
    sync_state: ItemSyncState | None
    eligibility: ItemEligibility
    issues: list[ItemIssue]
    mapped_item_data: dict[str, Any] | None = Field(description="The item as Meta is to have it.")
    next_request: NextRequestView | None = Field(
        description="Null while no catalog is selected or the currency is not set."
    )
    href: str

    @classmethod
    def of(cls, detail: ItemDetail) -> MetaItemDetail:
        """The item as answered."""
        item, view, intent = detail.item, detail.sync_state, detail.pending_intent
        reason = detail.eligibility.reason
        return cls(
            variant=_variant(item),
            product=_product(item),
            inventory=_inventory(item),
            sync_status=view.state.status if view else Status.NEVER_SYNCED,
            presence=view.state.presence if view else Presence.ABSENT,
            pending_intent=intent is not None,
            lane=None if intent is None else LANE_NAMES[intent.lane],
            held_by=ItemHold.of(None if intent is None else intent.held_by),
            sync_state=_sync_state(view, detail) if view else None,
            eligibility=ItemEligibility(
                eligible=reason is None,
                reason=reason.value if reason else None,
                message=reason.sentence if reason else None,
                next_step=reason.next_step if reason else None,
            ),
            issues=[
                ItemIssue(
                    code=issue.code,
                    field=issue.field,
                    message=issue.sentence,
                    action=entry_of(issue.code).action,
                )
                for issue in detail.issues
            ],
            mapped_item_data=detail.mapped,
            next_request=_next_request(detail.next_request) if detail.next_request else None,
            href=href("/admin/meta/items", item.variant_id),
        )


def _next_request(request: NextRequest) -> NextRequestView:
    return NextRequestView(
        decision=request.decision,
        reason=request.reason,
        method=request.method,
        data=request.data,
        held_by=ItemHold.of(request.held_by),
    )


def _explained(code: str | None, said: str | None) -> dict[str, Any]:
    """What the table says of a code, for the fields beside it."""
    entry = None if code is None else explain(code, said)
    return {
        "error_category": entry.category if entry else None,
        "error_explanation": entry.sentence if entry else None,
        "error_action": entry.action if entry else None,
    }


def _variant(item: CatalogItem) -> ItemVariant:
    return ItemVariant(
        id=item.variant_id,
        sku=item.sku,
        price=item.price,
        special_price=item.special_price,
        thumbnail=item.variant_thumbnail,
        deleted=item.variant_deleted,
    )


def _product(item: CatalogItem) -> ItemProduct:
    return ItemProduct(
        id=item.product_id,
        title=item.title or "",
        slug=item.slug or "",
        source=item.source or "api",
        status=item.status,
        visibility=item.visibility,
        thumbnail=item.product_thumbnail,
    )


def _inventory(item: CatalogItem) -> ItemInventory | None:
    if item.track_inventory is None:
        return None
    return ItemInventory(
        track_inventory=item.track_inventory,
        quantity_on_hand=item.quantity_on_hand or 0,
        reserved_quantity=item.reserved_quantity or 0,
        allow_backorder=bool(item.allow_backorder),
    )


def _sync_state(view: SyncStateView, detail: ItemDetail) -> ItemSyncState:
    state = view.state
    return ItemSyncState(
        status=state.status,
        presence=state.presence,
        pending_intent=detail.pending_intent is not None,
        meta_retailer_id=state.retailer_id,
        meta_id=view.meta_id,
        catalog_id=detail.catalog_id or "",
        last_handle=view.last_handle,
        last_pushed_hash=view.last_pushed_hash.hex() if view.last_pushed_hash else None,
        last_pushed_at=view.last_pushed_at,
        confirmed_hash=state.confirmed_hash.hex() if state.confirmed_hash else None,
        confirmed_at=view.confirmed_at,
        last_error=view.last_error,
        error_code=state.code,
        **_explained(state.code, view.last_error),
        attempts=state.attempts,
        retry_at=view.retry_at,
        in_flight=state.in_flight is not None,
        excluded=state.is_excluded,
        pinned=state.pinned or {},
        grace_until=state.grace_until if state.grace_until and state.grace_until > GRACE_OVER else None,
        updated_at=view.updated_at,
    )


class ResyncBody(Body):
    """How an item is resynced."""

    force: Flag = Field(default=True, description="Send it even if Meta has it as it should be.")
    refresh_images: Flag = Field(default=False, description="Let Meta fetch the images again.")


class ResyncResult(View):
    """An item that will be looked at again."""

    variant_id: str
    enqueued: bool


class ItemPage(PagedAnswer):
    data: list[MetaItemSummary]


class ItemAnswer(Answer):
    data: MetaItemDetail


class ResyncResultAnswer(Answer):
    data: ResyncResult
