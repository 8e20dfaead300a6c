"""The events of a source end in the same rows whatever the order in which they come, repeated or sent again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meta_sync.catalog.events import (
    EventData,
    MediaNews,
    MediaPatch,
    ProductDeletion,
    ProductPatch,
    StockNews,
    VariantDeletion,
    VariantNews,
)
from meta_sync.catalog.events_merge import EventOutcome, EventWorkingSet
from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput

BEGIN = datetime(2026, 5, 3, tzinfo=UTC)
VARIANTS = "abc"
KINDS = ("sync", "basics", "media", "create", "update", "delete", "end", "stock", "policy")

Event = tuple[datetime, EventData]


@dataclass
class Shop:
    """One product as its shop has it: every event tells of something that just happened there."""

    is_there: bool = False
    live: set[str] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)

    def do(self, kind: str, variant_id: str) -> None:
        """Let something happen; what is told carries the number of the event in every value."""
        number = len(self.events) + 1
        if not self.is_there:
            kind = "sync"
        elif variant_id not in self.live and kind in {"update", "delete", "stock", "policy"}:
            kind = "create"
        elif variant_id in self.live and kind == "create":
            kind = "update"
        happened = getattr(self, f"_{kind}")(variant_id, number)
        self.events.append((BEGIN + timedelta(minutes=number), happened))

    def _sync(self, variant_id: str, number: int) -> EventData:
        # The shop may have made or dropped a variant without telling of it in any other way.
        self.is_there, self.live = True, self.live ^ {variant_id}
        variants = [_variant(one, number, with_stock=True) for one in sorted(self.live)]
        return ProductInput("p", **_basics(number), **_media(number), variants=variants)

    def _basics(self, variant_id: str, number: int) -> EventData:
        return ProductPatch("p", _basics(number))

    def _media(self, variant_id: str, number: int) -> EventData:
        patches = [MediaPatch(one, _media(number)) for one in self.live & {variant_id}]
        return MediaNews("p", _media(number), patches)

    def _end(self, variant_id: str, number: int) -> EventData:
        self.is_there, self.live = False, set()
        return ProductDeletion("p")

    def _create(self, variant_id: str, number: int) -> EventData:
        self.live.add(variant_id)
        return VariantNews("p", _variant(variant_id, number, with_stock=True), is_new=True)

    def _update(self, variant_id: str, number: int) -> EventData:
        return VariantNews("p", _variant(variant_id, number, with_stock=number % 2 == 0), is_new=False)

    def _delete(self, variant_id: str, number: int) -> EventData:
        self.live.remove(variant_id)
        return VariantDeletion("p", variant_id)

    def _stock(self, variant_id: str, number: int) -> EventData:
        return StockNews(variant_id, InventoryInput(quantity_on_hand=number, reserved_quantity=number))

    def _policy(self, variant_id: str, number: int) -> EventData:
        return StockNews(variant_id, _policy(number))


def _basics(number: int) -> dict[str, Any]:
    status = ("active", "draft")[number % 2]
    return {"title": f"title {number}", "brand": f"brand {number}", "status": status}


def _media(number: int) -> dict[str, Any]:
    return {"thumbnail": f"{number}.jpg", "images": [f"{number}-1.jpg"]}


def _policy(number: int) -> InventoryInput:
    return InventoryInput(track_inventory=number % 3 != 0, allow_backorder=number % 2 == 0)


def _variant(variant_id: str, number: int, *, with_stock: bool) -> VariantInput:
    policy = _policy(number)
    stock = InventoryInput(policy.track_inventory, number, number, policy.allow_backorder)
    return VariantInput(
        variant_id, price=number, sku=f"s{number}", **_media(number), inventory=stock if with_stock else None
    )


class Store:
    """Stored rows to which requests of any size are applied."""

    def __init__(self) -> None:
        self.working = EventWorkingSet()

    def deliver(self, events: Sequence[Event]) -> list[Event]:
        """One request; the events that were rejected."""
        rejected = [
            (clock, data)
            for clock, data in events
            if self.working.apply(data, clock) not in {EventOutcome.APPLIED, EventOutcome.STALE}
        ]
        kept = self.working
        variants = {one.variant_id: one for one in (*kept.changed_variants(), *kept.moved_variant_notes())}
        stock = {variant_id: kept.stock[variant_id] for variant_id in kept.changed_stock()}
        stock.update((one.variant_id, one) for one in kept.moved_stock_clocks())
        products = {one.product_id: one for one in (*kept.changed_products(), *kept.moved_clocks())}
        self.working = EventWorkingSet(
            {**kept.products_before, **products}.values(),
            {**kept.variants_before, **variants}.values(),
            {**kept.stock_before, **stock}.values(),
        )
        return rejected

    def seen(self) -> Any:
        """All that an item can depend on."""
        product = self.working.products.get("p")
        if product is None or product.deleted:
            return None
        return (
            product.content,
            product.status,
            {
                one.variant_id: (one.offer, one.content, self.working.stock.get(one.variant_id))
                for one in self.working.variants.values()
                if not one.deleted
            },
        )


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Event], list[list[Event]]]:
    """The events of a shop in their order, and in another one, some of them twice, parted into requests."""
    happenings = st.tuples(st.sampled_from(KINDS), st.sampled_from(VARIANTS))
    shop = Shop()
    shop.do("sync", "a")
    for kind, variant_id in draw(st.lists(happenings, max_size=10)):
        shop.do(kind, variant_id)
    repeated = draw(st.lists(st.sampled_from(shop.events), max_size=3))
    mixed = draw(st.permutations(shop.events + repeated))
    requests: list[list[Event]] = [[]]
    for event in mixed:
        if draw(st.booleans()):
            requests.append([])
        requests[-1].append(event)
    return shop.events, requests


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(deliveries())
def test_any_order_of_delivery_ends_in_the_same_rows(
    delivery: tuple[list[Event], list[list[Event]]],
) -> None:
    events, requests = delivery
    in_order = Store()
    for event in events:
        assert in_order.deliver([event]) == [], "a source tells of nothing that it does not have"
    mixed = Store()
    rejected = [event for request in requests for event in mixed.deliver(request)]
    while rejected:
        again = mixed.deliver(rejected)
        if len(again) == len(rejected):
            break
        rejected = again
    assert mixed.seen() == in_order.seen()
