"""Sends events to a catalog bench, and says in a word what must become of each."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from meta_sync.catalog.events import CatalogEvent, EventData, EventResult, StockNews, VariantNews
from meta_sync.catalog.events_write import EventService
from meta_sync.catalog.models import InventoryInput, VariantInput
from tests.support.catalog import NOW, Bench

T = [NOW - timedelta(hours=1) + timedelta(minutes=minute) for minute in range(10)]
"""Times of a source, one after the other."""


class Sender:
    """Sends events, each under an id of its own."""

    def __init__(self, b: Bench) -> None:
        self.service = EventService(b.database, b.sink, b.queue, lambda: b.now)
        self.sent = 0

    def event(self, data: EventData, clock: datetime | None = None, event_id: str | None = None) -> Any:
        self.sent += 1
        return CatalogEvent(0, event_id or f"event-{self.sent}", "/shop", clock, data)

    async def __call__(self, data: EventData, clock: datetime | None = None) -> EventResult:
        return await self.service.take("s", [self.event(data, clock)])

    async def applied(self, data: EventData, clock: datetime | None = None) -> None:
        result = await self(data, clock)
        assert (result.accepted, result.stale, result.rejected) == (1, 0, [])

    async def stale(self, data: EventData, clock: datetime | None = None) -> None:
        result = await self(data, clock)
        assert (result.accepted, result.stale, result.rejected) == (1, 1, [])

    async def not_found(self, data: EventData, clock: datetime | None = None) -> None:
        result = await self(data, clock)
        assert (result.accepted, [one.error_code for one in result.rejected]) == (0, ["NOT_FOUND"])


def changed(variant_id: str, price: int = 1000, **fields: Any) -> VariantNews:
    return VariantNews("p", VariantInput(variant_id, price=price, **fields), is_new=False)


def created(variant_id: str, price: int = 1000, product_id: str = "p", **fields: Any) -> VariantNews:
    return VariantNews(product_id, VariantInput(variant_id, price=price, **fields), is_new=True)


def figures(variant_id: str, on_hand: int, reserved: int = 0) -> StockNews:
    return StockNews(variant_id, InventoryInput(quantity_on_hand=on_hand, reserved_quantity=reserved))


def policy(variant_id: str, *, tracks: bool = True, backorders: bool = False) -> StockNews:
    return StockNews(variant_id, InventoryInput(track_inventory=tracks, allow_backorder=backorders))


async def titles(b: Bench) -> dict[str, str]:
    return dict(await b.rows("SELECT product_id, title FROM products WHERE deleted_at IS NULL"))


async def prices(b: Bench) -> dict[str, int]:
    return dict(await b.rows("SELECT variant_id, price FROM variants WHERE deleted_at IS NULL"))
