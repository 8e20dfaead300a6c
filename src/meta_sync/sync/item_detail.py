"""One item in full: its rows, whether it may be sent, what it would look like at Meta, and what the next drain would send.

Reads only; the verdicts come from the functions that the drain uses.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import and_, func, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.item_columns import catalog_item_columns, catalog_item_source
from meta_sync.catalog.models import CatalogItem, Lane
from meta_sync.catalog.tables import variants
from meta_sync.connection.models import ActiveLink
from meta_sync.core.errors import NotFoundError
from meta_sync.sync.control_tables import holds
from meta_sync.sync.decide import decide
from meta_sync.sync.eligibility import IneligibleReason
from meta_sync.sync.guard import HeldBy
from meta_sync.sync.item_queries import NO_LINK
from meta_sync.sync.mapping import MappedItem, Mapper
from meta_sync.sync.mapping_issues import MappingIssue
from meta_sync.sync.mapping_settings import MappingSettings
from meta_sync.sync.meta_ids import known_meta_id
from meta_sync.sync.models import Decision, DecisionKind, ItemState, Link, Method, Presence
from meta_sync.sync.reading import STATE_COLUMNS, state_from
from meta_sync.sync.tables import batches, intents, sync_state

__all__ = [
    "Eligibility",
    "ItemDetail",
    "ItemRecord",
    "NextRequest",
    "PendingIntent",
    "SyncStateView",
    "describe",
    "read_record",
]

_ITEM_WIDTH = len(fields(CatalogItem))
_STATE_WIDTH = len(STATE_COLUMNS)


@dataclass(frozen=True, slots=True)
class PendingIntent:
    """The intent that waits for an item."""

    lane: Lane
    first_at: datetime
    parked_by: int | None
    is_job_only: bool
    held_by: HeldBy | None = None
    """The hold of the guard that keeps it back."""


@dataclass(frozen=True, slots=True)
class SyncStateView:
    """What is recorded of an item at Meta."""

    state: ItemState
    last_handle: str | None
    last_pushed_at: datetime | None
    last_pushed_hash: bytes | None
    last_error: str | None
    confirmed_at: datetime | None
    retry_at: datetime | None
    updated_at: datetime
    meta_id: str | None
    """Meta's own id of the item, when Meta was asked for it and it can still be true."""


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Whether the item may be sent, and if not, why and what to do."""

    reason: IneligibleReason | None

    @property
    def is_eligible(self) -> bool:
        """Whether nothing stands in the way."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class NextRequest:
    """What the next drain would send for the item."""

    decision: DecisionKind
    reason: str | None
    method: Method | None
    data: dict[str, Any] | None
    held_by: HeldBy | None = None
    """A person decides first, by the hold that keeps it back."""


@dataclass(frozen=True, slots=True)
class ItemDetail:
    """One item in full."""

    item: CatalogItem
    catalog_id: str | None
    sync_state: SyncStateView | None
    pending_intent: PendingIntent | None
    eligibility: Eligibility
    issues: tuple[MappingIssue, ...]
    mapped: dict[str, Any] | None
    next_request: NextRequest | None
    """``None`` while no catalog is selected or the currency is not set: then nothing can be sent."""


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """All that is stored of one item, read in one snapshot."""

    item: CatalogItem
    link: ActiveLink | None
    state: ItemState
    view: SyncStateView | None
    """``None``: no row; ``state`` is that of a new item then."""
    intent: PendingIntent | None


# The newest attempt, whatever became of it.
_LAST_PUSHED_HASH = text(
    """
    SELECT payload_hash FROM batch_items WHERE link_id = :link_id AND variant_id = :variant_id
    ORDER BY created_on DESC, batch_id DESC LIMIT 1
    """
)

# Of an item in flight it stands with the batch.
_LAST_HANDLE = func.coalesce(
    select(batches.c.handle).where(batches.c.batch_id == sync_state.c.in_flight).scalar_subquery(),
    sync_state.c.last_handle,
).label("last_handle")
_STATE_EXTRAS = (
    _LAST_HANDLE,
    sync_state.c.last_pushed_at,
    sync_state.c.error_text,
    sync_state.c.confirmed_at,
    sync_state.c.retry_at,
    sync_state.c.updated_at,
)
_INTENT_COLUMNS = (
    intents.c.lane,
    intents.c.first_at,
    intents.c.parked_by,
    intents.c.job_id.is_not(None).label("is_job_only"),
    intents.c.held_by,
    select(holds.c.kind).where(holds.c.hold_id == intents.c.held_by).scalar_subquery().label("hold_kind"),
)


async def read_record(
    connection: AsyncConnection, store_id: str, link: ActiveLink | None, variant_id: str
) -> ItemRecord:
    """Read one item with its state at the link and the intent that waits for it.

    Raises
    ------
    NotFoundError
        The store has no such variant, or it was deleted and Meta never knew it.
    """
    link_id = link.link_id if link is not None else NO_LINK
    source = (
        catalog_item_source()
        .outerjoin(
            sync_state,
            and_(sync_state.c.link_id == literal(link_id), sync_state.c.variant_id == variants.c.variant_id),
        )
        .outerjoin(
            intents,
            and_(intents.c.store_id == variants.c.store_id, intents.c.variant_id == variants.c.variant_id),
        )
    )
    statement = (
        select(*catalog_item_columns(), *STATE_COLUMNS, *_STATE_EXTRAS, *_INTENT_COLUMNS)
        .select_from(source)
        .where(variants.c.store_id == store_id, variants.c.variant_id == variant_id)
    )
    row = (await connection.execute(statement)).first()
    if row is None:
        raise NotFoundError("There is no such item in this store.")
    values = tuple(row)
    item = CatalogItem(*values[:_ITEM_WIDTH])
    state_values = values[_ITEM_WIDTH : _ITEM_WIDTH + _STATE_WIDTH]
    view = None
    if link is not None and state_values[0] is not None:
        view = await _state_view(connection, link, variant_id, values[_ITEM_WIDTH:])
    if item.variant_deleted and view is None:
        raise NotFoundError("There is no such item in this store.")
    return ItemRecord(item, link, state_from(state_values), view, _intent(values[-len(_INTENT_COLUMNS) :]))


async def _state_view(
    connection: AsyncConnection, link: ActiveLink, variant_id: str, values: tuple[Any, ...]
) -> SyncStateView:
    extras = values[_STATE_WIDTH : _STATE_WIDTH + len(_STATE_EXTRAS)]
    handle, pushed_at, error, confirmed_at, retry_at, updated_at = extras
    pushed_hash = None
    if pushed_at is not None:
        pushed_hash = await connection.scalar(
            _LAST_PUSHED_HASH, {"link_id": link.link_id, "variant_id": variant_id}
        )
    state = state_from(values[:_STATE_WIDTH])
    meta_id = None
    if state.presence is not Presence.ABSENT:
        meta_id = await known_meta_id(connection, link, variant_id)
    return SyncStateView(
        state=state,
        last_handle=handle,
        last_pushed_at=pushed_at,
        last_pushed_hash=pushed_hash,
        last_error=error,
        confirmed_at=confirmed_at,
        retry_at=retry_at,
        updated_at=updated_at,
        meta_id=meta_id,
    )


def _intent(values: tuple[Any, ...]) -> PendingIntent | None:
    lane, first_at, parked_by, is_job_only, *hold = values
    if lane is None:
        return None
    return PendingIntent(Lane(lane), first_at, parked_by, bool(is_job_only), HeldBy.of(*hold))


_ANY_CURRENCY = MappingSettings(currency="USD")
"""Eligibility can be told before the currency is set; what the item would look like cannot."""


def describe(
    record: ItemRecord, mapping: MappingSettings | None, now: datetime, *, delete_grace_days: int = 0
) -> ItemDetail:
    """Judge the item as the drain would, at the given instant. Pure. ``mapping`` is ``None`` without a currency."""
    mapper = Mapper(mapping or _ANY_CURRENCY)
    state = record.state
    wanted = mapper.evaluate(
        record.item,
        excluded=state.is_excluded,
        retailer_id=state.retailer_id,
        now=now,
        image_version=state.image_version,
        pinned=state.pinned,
    )
    return ItemDetail(
        item=record.item,
        catalog_id=record.link.catalog_id if record.link is not None else None,
        sync_state=record.view,
        pending_intent=record.intent,
        eligibility=Eligibility(None if isinstance(wanted, MappedItem) else wanted.reason),
        issues=wanted.issues if mapping is not None else (),
        mapped=wanted.data if isinstance(wanted, MappedItem) and mapping is not None else None,
        next_request=_next_request(record, mapper, now, delete_grace_days) if mapping is not None else None,
    )


def _next_request(
    record: ItemRecord, mapper: Mapper, now: datetime, delete_grace_days: int
) -> NextRequest | None:
    link, state, intent = record.link, record.state, record.intent
    if link is None:
        return None
    if state.in_flight is not None and intent is None:
        # What is wanted is on its way; until that batch is over the drain does not look at the item again.
        return NextRequest(DecisionKind.NOOP, None, None, None)
    decision: Decision = decide(
        record.item,
        state,
        Link.of(link, delete_grace_days),
        mapper,
        now=now,
        is_job_only=_only_a_job_asks(record),
    )
    data = msgspec.json.decode(decision.payload) if decision.payload else None
    reason = decision.reason
    if reason is None and decision.kind is DecisionKind.KEEP:
        reason = state.code
    held_by = intent.held_by if intent is not None else None
    return NextRequest(decision.kind, reason, decision.method, data, held_by)


def _only_a_job_asks(record: ItemRecord) -> bool:
    if record.intent is not None:
        return record.intent.is_job_only
    # Nothing waits: until the row changes or its retry is due, a job is all that can look at the item.
    return record.view is None or record.view.retry_at is None
