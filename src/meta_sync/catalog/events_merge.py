"""What events make of stored rows: a working set that also knows clocks of single groups of fields. Pure.

News older than what it is about is left out. Whatever the order in which the events of a source come, with those rejected
sent again, the same rows are live in the end: each group takes the latest news of it, a variant lives or not by the
latest of its own news and the bodies and the deletion of its product, and a product by its bodies and its deletion alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import Any

from typing_extensions import override

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
from meta_sync.catalog.models import InventoryInput, Lane, ProductInput
from meta_sync.catalog.states import (
    MEDIA,
    PRODUCT_CONTENT,
    VARIANT_CONTENT,
    ProductState,
    StockState,
    VariantState,
    is_older,
    latest,
    new_stock,
    variant_state,
    with_figures,
    with_policy,
)
from meta_sync.catalog.validation import MAX_VARIANTS
from meta_sync.catalog.working_set import WorkingSet

__all__ = ["EventOutcome", "EventWorkingSet", "StockOwner"]


class EventOutcome(Enum):
    """What became of an event."""

    APPLIED = auto()
    STALE = auto()
    """Left out whole: the store has later news."""
    NO_PRODUCT = auto()
    NO_VARIANT = auto()
    TOO_MANY_VARIANTS = auto()


@dataclass(frozen=True, slots=True)
class StockOwner:
    """A variant of which only the stock is in question."""

    variant_id: str
    deleted: bool
    clock: datetime | None
    """The latest of the variant's own and its product's."""


class EventWorkingSet(WorkingSet):
    """Stored rows, and what events have made of them so far.

    Parameters
    ----------
    products, variants, stock
        As in ``WorkingSet``.
    owners
        Variants that are not among ``variants``, because nothing but their stock is in question.
    """

    def __init__(
        self,
        products: Iterable[ProductState] = (),
        variants: Iterable[VariantState] = (),
        stock: Iterable[StockState] = (),
        owners: Iterable[StockOwner] = (),
    ) -> None:
        super().__init__(products, variants, stock)
        self._owners = {owner.variant_id: owner for owner in owners}

    def apply(self, data: EventData, clock: datetime | None) -> EventOutcome:
        """Apply one event. One that finds nothing to apply to changes nothing at all."""
        match data:
            case ProductInput():
                return self._synced(data, clock)
            case ProductPatch():
                return self._patch_product(data.product_id, data.fields, clock)
            case MediaNews():
                return self._put_media(data, clock)
            case VariantNews():
                return self._put_variant_news(data, clock)
            case VariantDeletion():
                return self._delete_variant_at(data, clock)
            case ProductDeletion():
                return self._delete_product_at(data.product_id, clock)
            case StockNews():
                return self._put_stock_news(data, clock)

    @override
    def put_stock(self, variant_id: str, given: InventoryInput) -> bool:
        """Apply quantities and policy each by its own clock: what an event does not name it says nothing about."""
        before = self.stock.get(variant_id)
        base = before or new_stock(variant_id)
        made, clock = base, given.updated_at
        if given.names_figures and not is_older(clock, latest(base.clock, base.figures_clock)):
            made = replace(with_figures(made, given), figures_clock=clock or base.figures_clock)
        if given.names_policy and not is_older(clock, latest(base.clock, base.policy_clock)):
            made = replace(with_policy(made, given), policy_clock=clock or base.policy_clock)
        if made is base:
            return False
        self.stock[variant_id] = made
        return made.row_differs(before)

    @override
    def changes(self, new_lane: Lane) -> dict[str, tuple[Lane, str]]:
        found = super().changes(new_lane)
        for variant_id in self.changed_stock():
            owner = self._owners.get(variant_id)
            if owner is not None and not owner.deleted:
                found.setdefault(variant_id, (Lane.LIVE, variant_id))
        return found

    def _synced(self, given: ProductInput, clock: datetime | None) -> EventOutcome:
        applied = self.put(_timed(given, clock))
        return EventOutcome.STALE if applied.stale and not applied.changed else EventOutcome.APPLIED

    def _patch_product(
        self, product_id: str, fields: Mapping[str, Any], clock: datetime | None
    ) -> EventOutcome:
        before = self.products.get(product_id)
        if before is None or before.deleted:
            return _of_no_product(before, clock)
        after = before
        media = {name: value for name, value in fields.items() if name in MEDIA}
        basics = {name: value for name, value in fields.items() if name not in MEDIA}
        if basics and not is_older(clock, latest(before.clock, before.basics_clock)):
            after = replace(_patched_product(after, basics), basics_clock=clock or before.basics_clock)
        if media and not is_older(clock, latest(before.clock, before.media_clock)):
            after = replace(_patched_product(after, media), media_clock=clock or before.media_clock)
        self.products[product_id] = after
        return EventOutcome.STALE if fields and after is before else EventOutcome.APPLIED

    def _put_media(self, data: MediaNews, clock: datetime | None) -> EventOutcome:
        found: list[tuple[VariantState, MediaPatch]] = []
        product = self.products.get(data.product_id)
        if product is None or product.deleted:
            return _of_no_product(product, clock)
        for patch in data.variants:
            variant = self.variants.get(patch.variant_id)
            if variant is None or variant.deleted or variant.product_id != data.product_id:
                if not _is_late(clock, self._known_until(data.product_id, patch.variant_id)):
                    return EventOutcome.NO_VARIANT
            elif not is_older(clock, latest(product.clock, variant.clock, variant.media_clock)):
                found.append((variant, patch))
        outcome = self._patch_product(data.product_id, data.fields, clock)
        for variant, patch in found:
            made = replace(variant, media_clock=clock or variant.media_clock)
            self.variants[variant.variant_id] = _patched_variant(made, patch.fields)
        if outcome is EventOutcome.APPLIED and not data.fields and data.variants and not found:
            return EventOutcome.STALE
        return EventOutcome.APPLIED if found else outcome

    def _put_variant_news(self, data: VariantNews, clock: datetime | None) -> EventOutcome:
        given, product_id = data.variant, data.product_id
        product, before = self.products.get(product_id), self.variants.get(given.id)
        if product is None or product.deleted:
            return _of_no_product(product, clock)
        is_gone = before is None or before.deleted
        known_until = self._known_until(product_id, given.id)
        if _is_late(clock, known_until) if is_gone and before else is_older(clock, known_until):
            if given.inventory is not None and before is not None:
                self.put_stock(given.id, _timed_stock(given.inventory, clock))
            return EventOutcome.STALE
        if is_gone and not data.is_new:
            return EventOutcome.NO_VARIANT
        if before is not None and not is_gone and before.product_id == product_id:
            position = before.position
        elif len(self._live[product_id]) >= MAX_VARIANTS:
            return EventOutcome.TOO_MANY_VARIANTS
        else:
            position = self._next_position(product_id)
        made = variant_state(given, product_id, position, before, clock)
        self._put_variant(replace(made, clock=clock or made.clock))
        if given.inventory is not None:
            self.put_stock(given.id, _timed_stock(given.inventory, clock))
        return EventOutcome.APPLIED

    def _delete_variant_at(self, data: VariantDeletion, clock: datetime | None) -> EventOutcome:
        product, before = self.products.get(data.product_id), self.variants.get(data.variant_id)
        if product is None:
            return EventOutcome.NO_PRODUCT
        known_until = self._known_until(data.product_id, data.variant_id)
        if is_older(clock, known_until):
            return EventOutcome.STALE
        if before is None or before.product_id != data.product_id:
            return EventOutcome.NO_VARIANT
        if not before.deleted:
            self._delete_variant(data.variant_id)
        # Without a time of its own the deletion is as late as all that was known of the variant.
        self.variants[data.variant_id] = replace(
            self.variants[data.variant_id], clock=clock or latest(*before.clocks)
        )
        return EventOutcome.APPLIED

    def _delete_product_at(self, product_id: str, clock: datetime | None) -> EventOutcome:
        before = self.products.get(product_id)
        if before is None:
            return EventOutcome.NO_PRODUCT
        if clock is None:
            self.delete(product_id)
            return EventOutcome.APPLIED
        if is_older(clock, before.clock):
            return EventOutcome.STALE
        for variant_id in list(self._live[product_id]):
            if not is_older(clock, self.variants[variant_id].clock):
                self._delete_variant(variant_id)
        # A variant of which there is later news shows that the product came back; its body is still on the way.
        is_gone = not self._live[product_id]
        self.products[product_id] = replace(before, clock=clock, deleted=is_gone)
        return EventOutcome.APPLIED

    def _put_stock_news(self, data: StockNews, clock: datetime | None) -> EventOutcome:
        stock = replace(data.stock, updated_at=clock)
        variant = self.variants.get(data.variant_id)
        if variant is not None:
            is_deleted, known_until = variant.deleted, self._known_until(variant.product_id, data.variant_id)
        elif owner := self._owners.get(data.variant_id):
            is_deleted, known_until = owner.deleted, owner.clock
        else:
            return EventOutcome.NO_VARIANT
        if is_deleted and not _is_late(clock, known_until):
            return EventOutcome.NO_VARIANT
        # Stock outlives a deletion: when the variant comes back it is as it was last told.
        kept = self.stock.get(data.variant_id)
        self.put_stock(data.variant_id, stock)
        taken = self.stock.get(data.variant_id) is not kept
        return EventOutcome.APPLIED if taken else EventOutcome.STALE

    @override
    def _never_was(self, variant_id: str) -> bool:
        # What has a time must be remembered: older news of the variant may still be on the way.
        stock = self.stock.get(variant_id)
        return super()._never_was(variant_id) and not any(
            clock is not None for row in (self.variants[variant_id], stock) if row for clock in row.clocks
        )

    def _known_until(self, product_id: str, variant_id: str) -> datetime | None:
        """Until when the store knows what became of a variant as one of the product."""
        known = latest(self.products[product_id].clock)
        variant = self.variants.get(variant_id)
        if variant is not None:
            known = latest(known, variant.clock, self.products[variant.product_id].clock)
        return known


def _is_late(clock: datetime | None, deleted_at: datetime | None) -> bool:
    """Whether news about what is gone was overtaken by the news that it is."""
    return clock is not None and deleted_at is not None and clock <= deleted_at


def _of_no_product(product: ProductState | None, clock: datetime | None) -> EventOutcome:
    is_late = product is not None and _is_late(clock, product.clock)
    return EventOutcome.STALE if is_late else EventOutcome.NO_PRODUCT


def _timed(given: ProductInput, clock: datetime | None) -> ProductInput:
    """The body as of the event's time; stock that has a clock of its own keeps it."""
    if clock is None:
        return given
    variants = [
        replace(variant, inventory=_timed_stock(variant.inventory, clock)) if variant.inventory else variant
        for variant in given.variants
    ]
    return replace(given, updated_at=clock, variants=variants)


def _timed_stock(given: InventoryInput, clock: datetime | None) -> InventoryInput:
    return replace(given, updated_at=given.updated_at or clock)


def _patched_product(state: ProductState, fields: Mapping[str, Any]) -> ProductState:
    content = dict(zip(PRODUCT_CONTENT, state.content, strict=True))
    named = {name: value for name, value in fields.items() if name in content}
    others = {name: value for name, value in fields.items() if name not in content}
    return replace(state, content=tuple({**content, **named}.values()), **others)


def _patched_variant(state: VariantState, fields: Mapping[str, Any]) -> VariantState:
    content = dict(zip(VARIANT_CONTENT, state.content, strict=True))
    return replace(state, content=tuple({**content, **fields}.values()))
