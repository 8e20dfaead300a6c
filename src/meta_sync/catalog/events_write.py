"""Taking events in: the rows they change, the intents that follow and the receipts of the events are one transaction.

A receipt is written with the effect or not at all, so an event that comes twice, even at the same moment, has one effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.events import (
    MAX_EVENTS,
    CatalogEvent,
    EventData,
    EventResult,
    IgnoredEvent,
    MediaNews,
    ProductDeletion,
    ProductPatch,
    RejectedEvent,
    StockNews,
    VariantDeletion,
    VariantNews,
    event_faults,
)
from meta_sync.catalog.events_merge import EventOutcome, EventWorkingSet, StockOwner
from meta_sync.catalog.models import ChangeSink, ProductInput, VariantInput
from meta_sync.catalog.products_write import save_working_set
from meta_sync.catalog.repository import ConcurrentWriteError, load_rows, stock_owners
from meta_sync.catalog.service import require_batch_size
from meta_sync.catalog.transactions import write_transaction
from meta_sync.catalog.validation import MAX_VARIANTS
from meta_sync.core.clock import Clock
from meta_sync.core.db import Database
from meta_sync.core.errors import ErrorDetail
from meta_sync.core.queue import JobName, JobQueue

__all__ = ["EventService"]

_UNNEST = "unnest(CAST(:sources AS text[]), CAST(:ids AS text[])) AS u (source, event_id)"
_RECEIPTS = text(
    f"""
    SELECT r.source, r.event_id FROM {_UNNEST}
    JOIN event_receipts AS r ON r.store_id = :store_id AND r.source = u.source AND r.event_id = u.event_id
    """
)
_WRITE_RECEIPTS = text(
    f"""
    INSERT INTO event_receipts (store_id, source, event_id)
    SELECT :store_id, u.source, u.event_id FROM {_UNNEST}
    ORDER BY u.source COLLATE "C", u.event_id COLLATE "C"
    ON CONFLICT DO NOTHING RETURNING 1
    """
)

_Name = tuple[str, str]
"""Source and id of an event."""


@dataclass(slots=True)
class _Touched:
    """Ids of the rows that events are about."""

    products: set[str] = field(default_factory=set)
    variants: set[str] = field(default_factory=set)
    stock: set[str] = field(default_factory=set)

    def add(self, data: EventData) -> None:
        match data:
            case ProductInput():
                self.products.add(data.id)
                self._add_variants(data.variants)
            case ProductPatch() | ProductDeletion():
                self.products.add(data.product_id)
            case MediaNews():
                self.products.add(data.product_id)
                self.variants.update(patch.variant_id for patch in data.variants)
            case VariantNews():
                self.products.add(data.product_id)
                self._add_variants([data.variant])
            case VariantDeletion():
                self.products.add(data.product_id)
                self.variants.add(data.variant_id)
            case StockNews():
                self.stock.add(data.variant_id)

    def _add_variants(self, given: Sequence[VariantInput]) -> None:
        self.variants.update(variant.id for variant in given)
        self.stock.update(variant.id for variant in given if variant.inventory is not None)


class EventService:
    """Takes the events of one store at a time."""

    def __init__(self, database: Database, sink: ChangeSink, queue: JobQueue, clock: Clock) -> None:
        self._database = database
        self._sink = sink
        self._queue = queue
        self._clock = clock

    async def take(
        self, store_id: str, events: Sequence[CatalogEvent | IgnoredEvent | RejectedEvent]
    ) -> EventResult:
        """Apply up to 1,000 events in the order given: the good ones go in, the bad ones are named.

        ``events`` is all that was sent; what the caller could not read stands in it as already rejected.

        Raises
        ------
        ValidationFailedError
            There are too many.
        UnavailableError
            Others kept writing the same rows.
        """
        require_batch_size(len(events), MAX_EVENTS, "events")
        now = self._clock()
        rejected = [event for event in events if isinstance(event, RejectedEvent)]
        good: list[CatalogEvent] = []
        for event in events:
            if not isinstance(event, CatalogEvent):
                continue
            if details := event_faults(event, now):
                sentence = f"{details[0].field} {details[0].message}."
                rejected.append(RejectedEvent(event.index, event.id, sentence, details))
            else:
                good.append(event)

        async def work(connection: AsyncConnection) -> tuple[EventResult, int]:
            return await self._apply(connection, store_id, good)

        result, enqueued = EventResult(), 0
        if good:
            result, enqueued = await write_transaction(self._database, store_id, work)
        result.ignored = sum(isinstance(event, IgnoredEvent) for event in events)
        result.rejected = sorted([*rejected, *result.rejected], key=lambda event: event.index)
        if enqueued:
            await self._queue.wake(JobName.DRAIN)
        return result

    async def _apply(
        self, connection: AsyncConnection, store_id: str, events: Sequence[CatalogEvent]
    ) -> tuple[EventResult, int]:
        working = await _load(connection, store_id, events)
        # Read after the rows are locked: a delivery of the same events that had them has committed its receipts by now.
        received = await _receipts(connection, store_id, events)
        new: set[_Name] = set()
        result = EventResult()
        for event in events:
            name = (event.source, event.id)
            if name in received or name in new:
                result.duplicates += 1
                continue
            outcome = working.apply(event.data, event.clock)
            if outcome in {EventOutcome.APPLIED, EventOutcome.STALE}:
                new.add(name)
                result.accepted += 1
                result.stale += outcome is EventOutcome.STALE
            else:
                result.rejected.append(_rejected(event, outcome))
        if new:
            await _write_receipts(connection, store_id, new)
        enqueued = await save_working_set(connection, store_id, working, self._sink)
        return result, len(enqueued)


async def _load(
    connection: AsyncConnection, store_id: str, events: Sequence[CatalogEvent]
) -> EventWorkingSet:
    """Lock and read what the events are about. Stock alone locks no product: it is the commonest news of all."""
    touched = _Touched()
    for event in events:
        touched.add(event.data)
    rows = await load_rows(connection, store_id, touched.products, touched.variants, touched.stock)
    loaded = {variant.variant_id for variant in rows.variants}
    owners = await stock_owners(connection, store_id, touched.stock - loaded)
    return EventWorkingSet(rows.products, rows.variants, rows.stock, [StockOwner(*owner) for owner in owners])


async def _receipts(connection: AsyncConnection, store_id: str, events: Sequence[CatalogEvent]) -> set[_Name]:
    names = sorted({(event.source, event.id) for event in events})
    rows = await connection.execute(_RECEIPTS, _parameters(store_id, names))
    return {(row[0], row[1]) for row in rows}


async def _write_receipts(connection: AsyncConnection, store_id: str, names: set[_Name]) -> None:
    written = await connection.execute(_WRITE_RECEIPTS, _parameters(store_id, sorted(names)))
    if len(written.all()) < len(names):
        # Another delivery of one of them came in between; it counts, and ours begins again.
        raise ConcurrentWriteError


def _parameters(store_id: str, names: Sequence[_Name]) -> dict[str, object]:
    return {
        "store_id": store_id,
        "sources": [source for source, _ in names],
        "ids": [event_id for _, event_id in names],
    }


def _rejected(event: CatalogEvent, outcome: EventOutcome) -> RejectedEvent:
    if outcome is EventOutcome.TOO_MANY_VARIANTS:
        fault = ErrorDetail("data.variant", f"would be one more than the {MAX_VARIANTS:,} a product may have")
        return RejectedEvent(event.index, event.id, f"{fault.field} {fault.message}.", [fault])
    match event.data:
        case StockNews(variant_id=variant_id) | VariantDeletion(variant_id=variant_id):
            field_name, sentence = "data.variantId", f"There is no variant {variant_id}."
        case VariantNews(variant=variant):
            field_name, sentence = "data.variant.id", f"There is no variant {variant.id}."
        case _:
            field_name, sentence = "data.variants", "The product does not have all of these variants."
    if outcome is EventOutcome.NO_PRODUCT:
        product_id = getattr(event.data, "product_id", "")
        field_name, sentence = "data.productId", f"There is no product {product_id}."
    fault = ErrorDetail(field_name, "names what this store does not have, or no longer has")
    return RejectedEvent(event.index, event.id, sentence, [fault], "NOT_FOUND")
