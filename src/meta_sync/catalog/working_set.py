"""The rows one write is about, held in memory: bodies are applied here in order, then the difference is written once.

Pure. It decides by clocks what is stale, follows moves between products, and says which items may have changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, auto
from typing import TypeVar

from meta_sync.catalog.models import META_SOURCE, InventoryInput, Lane, ProductInput, VariantInput
from meta_sync.catalog.states import (
    ProductState,
    StockState,
    VariantState,
    is_older,
    latest,
    product_state,
    stock_state,
    variant_state,
)
from meta_sync.catalog.validation import MAX_VARIANTS

__all__ = ["Applied", "MergeOutcome", "WorkingSet"]

_Add = Callable[[str, Lane, str], None]
_State = TypeVar("_State", ProductState, VariantState, StockState)


@dataclass(slots=True)
class Applied:
    """What one body did: to which product, and which variants it touched."""

    product_id: str
    variants: int
    """Live variants of the product afterwards."""
    touched: set[str] = field(default_factory=set)
    row_changed: bool = False
    """A row was written, if only with another order of variants or another source."""
    stale: bool = False
    """The product's fields were left out, because the store has later news of them."""

    @property
    def changed(self) -> int:
        """Variants whose item may look different, or 1 when rows changed that no item depends on."""
        return len(self.touched) or int(self.row_changed)


class MergeOutcome(Enum):
    """What became of one row of a file."""

    CREATED = auto()
    CHANGED = auto()
    UNCHANGED = auto()
    STALE = auto()
    """The stored product carries a later source time."""
    NO_PRODUCT = auto()
    TOO_MANY_VARIANTS = auto()


class WorkingSet:
    """Stored rows, and what bodies have made of them so far."""

    def __init__(
        self,
        products: Iterable[ProductState] = (),
        variants: Iterable[VariantState] = (),
        stock: Iterable[StockState] = (),
    ) -> None:
        self.products_before = {product.product_id: product for product in products}
        self.variants_before = {variant.variant_id: variant for variant in variants}
        self.stock_before = {row.variant_id: row for row in stock}
        self.products = dict(self.products_before)
        self.variants = dict(self.variants_before)
        self.stock = dict(self.stock_before)
        self._live: defaultdict[str, set[str]] = defaultdict(set)
        for variant in self.variants_before.values():
            if not variant.deleted:
                self._live[variant.product_id].add(variant.variant_id)
        self._moved_to: dict[str, str] = {}

    def put(self, given: ProductInput) -> Applied:
        """Apply one whole product: variants that it does not name are deleted.

        What the store has later news of is left out: all but clocked stock when a later body is stored, else the groups
        and the variants of which an event told later.
        """
        before = self.products.get(given.id)
        if _is_stale(given, before):
            touched = {variant.id for variant in given.variants if self._put_clocked_stock(given.id, variant)}
            return Applied(given.id, len(self._live[given.id]), touched, stale=True)
        applied = self._put_product(given, before)
        for variant_id in self._live[given.id] - {variant.id for variant in given.variants}:
            if is_older(given.updated_at, self.variants[variant_id].clock):
                continue
            self._delete_variant(variant_id)
            applied.touched.add(variant_id)
        position = -1
        for variant in given.variants:
            was = self.variants.get(variant.id)
            if _has_later_news(was, given.updated_at):
                if self._put_clocked_stock(given.id, variant):
                    applied.touched.add(variant.id)
                continue
            # A position that still rises is kept: removing the first variant must not rewrite all the others.
            keeps = was is not None and not was.deleted and was.product_id == given.id
            position = was.position if was and keeps and was.position > position else position + 1
            now = self._put_variant(variant_state(variant, given.id, position, was, given.updated_at))
            applied.row_changed |= now != was
            if now.lane_against(was, Lane.CONTENT) is not None:
                applied.touched.add(variant.id)
            if variant.inventory is not None and self.put_stock(variant.id, variant.inventory):
                applied.touched.add(variant.id)
        applied.variants = len(self._live[given.id])
        return applied

    def delete(self, product_id: str) -> Applied:
        """Delete a product with its variants; its clocks stay, so that late news cannot revive it."""
        applied = Applied(product_id, 0)
        before = self.products[product_id]
        if not before.deleted:
            # All that was known of it is what was deleted, news of single groups included.
            self.products[product_id] = replace(before, deleted=True, clock=latest(*before.clocks))
            applied.row_changed = True
        for variant_id in list(self._live[product_id]):
            self._delete_variant(variant_id)
            applied.touched.add(variant_id)
        return applied

    def delete_variants(self, variant_ids: Iterable[str]) -> None:
        """Delete variants that are here and live; their products stay."""
        for variant_id in variant_ids:
            self._delete_variant(variant_id)

    def merge_product(self, given: ProductInput, *, revives: bool = False) -> Applied:
        """Apply the fields of a product and leave its variants alone; a body older than the row changes nothing.

        ``revives``: what was deleted comes back also with the clock that it had then.
        """
        before = self.products.get(given.id)
        if before is not None and _is_over(
            before.clock, given.updated_at, deleted=before.deleted and not revives
        ):
            return Applied(given.id, len(self._live[given.id]), stale=True)
        applied = self._put_product(given, before)
        if before is not None:
            self._keep_owners(before, self.products[given.id])
        return applied

    def merge_variant(
        self,
        product_id: str,
        given: VariantInput,
        *,
        clock: datetime | None = None,
        revives: bool = False,
        source: str | None = None,
    ) -> MergeOutcome:
        """Apply one variant to a product that exists, leaving its other variants alone.

        ``clock`` is the source time that the row gives its product; ``revives`` as in `merge_product`; ``source``
        is whose the variant becomes, without one its product's. That alone is no change.
        """
        product = self.products.get(product_id)
        if product is None:
            return MergeOutcome.NO_PRODUCT
        if product.deleted:
            is_late = _is_over(product.clock, clock, deleted=not revives)
            return MergeOutcome.STALE if is_late else MergeOutcome.NO_PRODUCT
        before = self.variants.get(given.id)
        if is_older(clock, product.clock) or _has_later_news(before, clock, revives=revives):
            return MergeOutcome.STALE
        is_new = before is None or before.deleted
        if before is not None and not is_new and before.product_id == product_id:
            position = before.position
        elif len(self._live[product_id]) >= MAX_VARIANTS:
            return MergeOutcome.TOO_MANY_VARIANTS
        else:
            position = self._next_position(product_id)
        made = variant_state(given, product_id, position, before, clock)
        changed = self._put_variant(replace(made, source=_unless(source, product.source))) != before
        if given.inventory is not None:
            changed |= self.put_stock(given.id, given.inventory)
        if is_new:
            return MergeOutcome.CREATED
        return MergeOutcome.CHANGED if changed else MergeOutcome.UNCHANGED

    def put_stock(self, variant_id: str, given: InventoryInput) -> bool:
        """Apply stock by its own clock; whether the record changed."""
        before = self.stock.get(variant_id)
        if self.stock_is_stale(variant_id, given) or not (given.names_figures or given.names_policy):
            return False
        after = stock_state(variant_id, given, before)
        self.stock[variant_id] = after
        return after.row_differs(before)

    def stock_is_stale(self, variant_id: str, given: InventoryInput) -> bool:
        """Whether the stored stock carries later source times than the body for all that the body names."""
        before = self.stock.get(variant_id)
        if before is None or is_older(given.updated_at, before.clock):
            return before is not None
        named = [before.figures_clock] * given.names_figures + [before.policy_clock] * given.names_policy
        return bool(named) and all(is_older(given.updated_at, clock) for clock in named)

    def changes(self, new_lane: Lane) -> dict[str, tuple[Lane, str]]:
        """Per affected variant how urgent it is, and the product whose body caused it. ``new_lane`` is for new variants."""
        found: dict[str, tuple[Lane, str]] = {}

        def add(variant_id: str, lane: Lane, cause: str) -> None:
            known = found.get(variant_id)
            if known is None or lane < known[0]:
                found[variant_id] = (lane, known[1] if known else cause)

        for variant_id, variant in self.variants.items():
            before = self.variants_before.get(variant_id)
            lane = variant.lane_against(before, new_lane)
            if lane is None:
                continue
            add(variant_id, lane, variant.product_id)
            if before is not None and before.product_id != variant.product_id:
                owners = self.products[variant.product_id], self.products_before[before.product_id]
                if owners[0].lane_against(owners[1]) is Lane.LIVE:
                    add(variant_id, Lane.LIVE, variant.product_id)
        for variant_id in self.changed_stock():
            stocked = self.variants.get(variant_id)
            if stocked is not None and not stocked.deleted:
                self._add_known(add, [variant_id], Lane.LIVE, stocked.product_id)
        for product_id, product in self.products.items():
            product_lane = product.lane_against(self.products_before.get(product_id))
            if product_lane is not None:
                self._add_known(add, self._live[product_id], product_lane, product_id)
        for product_id, cause in self._regrouped().items():
            self._add_known(add, self._live[product_id], Lane.CONTENT, cause)
        for variant_id in self._changed_hands():
            add(variant_id, Lane.CONTENT, self.variants[variant_id].product_id)
        return found

    def changed_products(self) -> list[ProductState]:
        """Rows to write, sorted by id."""
        return [
            self.products[product_id]
            for product_id in sorted(self.products)
            if self.products[product_id].row_differs(self.products_before.get(product_id))
        ]

    def moved_clocks(self) -> list[ProductState]:
        """Rows of which only clocks moved, sorted by id."""
        return _moved(self.products, self.products_before)

    def changed_variants(self) -> list[VariantState]:
        """Rows to write, sorted by id. A variant that came and went within the write never was."""
        return [
            after
            for variant_id, after in sorted(self.variants.items())
            if after != self.variants_before.get(variant_id) and not self._never_was(variant_id)
        ]

    def moved_variant_notes(self) -> list[VariantState]:
        """Variants of which only clocks or the source moved, sorted by id."""
        return _moved(self.variants, self.variants_before)

    def changed_stock(self) -> list[str]:
        """Variants whose figures changed, sorted."""
        return sorted(
            variant_id
            for variant_id, after in self.stock.items()
            if after.row_differs(self.stock_before.get(variant_id)) and not self._never_was(variant_id)
        )

    def moved_stock_clocks(self) -> list[StockState]:
        """Stock of which only clocks moved, sorted by id."""
        return _moved(self.stock, self.stock_before)

    def _put_product(self, given: ProductInput, before: ProductState | None) -> Applied:
        after = product_state(given, before)
        self.products[given.id] = after
        applied = Applied(given.id, len(self._live[given.id]), row_changed=after.row_differs(before))
        applied.stale = before is not None and is_older(given.updated_at, before.basics_clock)
        if after.lane_against(before) is not None:
            applied.touched.update(self._live[given.id])
        return applied

    def _keep_owners(self, before: ProductState, after: ProductState) -> None:
        """Whoever takes a product over has not named its variants yet: they stay whose they were."""
        if before.source == after.source:
            return
        for variant_id in self._live[after.product_id]:
            variant = self.variants[variant_id]
            owner = _unless(variant.source_within(before), after.source)
            self.variants[variant_id] = replace(variant, source=owner)

    def _put_variant(self, after: VariantState) -> VariantState:
        before = self.variants.get(after.variant_id)
        if before is not None and not before.deleted and before.product_id != after.product_id:
            self._live[before.product_id].discard(after.variant_id)
            self._moved_to[before.product_id] = after.product_id
        self._live[after.product_id].add(after.variant_id)
        self.variants[after.variant_id] = after
        return after

    def _put_clocked_stock(self, product_id: str, given: VariantInput) -> bool:
        """Of what comes too late only stock with a clock of its own counts, for variants that the product still has."""
        return (
            given.inventory is not None
            and given.inventory.updated_at is not None
            and given.id in self._live[product_id]
            and self.put_stock(given.id, given.inventory)
        )

    def _delete_variant(self, variant_id: str) -> None:
        before = self.variants[variant_id]
        self._live[before.product_id].discard(variant_id)
        self.variants[variant_id] = replace(before, deleted=True)

    def _never_was(self, variant_id: str) -> bool:
        after = self.variants.get(variant_id)
        return after is not None and after.deleted and variant_id not in self.variants_before

    def _next_position(self, product_id: str) -> int:
        return 1 + max((self.variants[sibling].position for sibling in self._live[product_id]), default=-1)

    def _add_known(self, add: _Add, variant_ids: Iterable[str], lane: Lane, cause: str) -> None:
        """A new variant goes in the lane of new variants, whatever else changed beside it."""
        for variant_id in variant_ids:
            if variant_id in self.variants_before:
                add(variant_id, lane, cause)

    def _changed_hands(self) -> list[str]:
        """Live variants that were adopted from Meta and are so no more, or the other way round: other rules hold for them."""
        found = []
        for variant_id, after in self.variants.items():
            before = self.variants_before.get(variant_id)
            if before is None or before.deleted or after.deleted:
                continue
            owner_before = before.source_within(self.products_before[before.product_id])
            owner = after.source_within(self.products[after.product_id])
            if owner != owner_before and META_SOURCE in {owner, owner_before}:
                found.append(variant_id)
        return found

    def _regrouped(self) -> dict[str, str]:
        """Products whose group id came, went or was renamed, each with the product whose body caused it."""
        live_before: defaultdict[str, int] = defaultdict(int)
        for variant in self.variants_before.values():
            live_before[variant.product_id] += not variant.deleted
        regrouped = {
            product_id: self._moved_to.get(product_id, product_id)
            for product_id in self.products
            if (live_before[product_id] > 1) != (len(self._live[product_id]) > 1)
        }
        for variant_id, variant in self.variants.items():
            # An item id that equals a group id renames the group, for good: tombstones keep their id.
            is_new = variant_id not in self.variants_before and not variant.deleted
            if is_new and len(self._live.get(variant_id, ())) > 1:
                regrouped.setdefault(variant_id, variant.product_id)
        return regrouped


def _is_stale(given: ProductInput, before: ProductState | None) -> bool:
    """Whether a later whole body is stored. On a tombstone one of the same time is: it is the news that was deleted."""
    return before is not None and _is_over(before.clock, given.updated_at, deleted=before.deleted)


def _has_later_news(variant: VariantState | None, clock: datetime | None, *, revives: bool = False) -> bool:
    """Whether the store was told of the variant itself later than the body's clock."""
    return variant is not None and _is_over(variant.clock, clock, deleted=variant.deleted and not revives)


def _unless(source: str | None, product_source: str) -> str | None:
    """The source as a variant has it: none of its own where it is its product's."""
    return None if source == product_source else source


def _is_over(stored: datetime | None, clock: datetime | None, *, deleted: bool) -> bool:
    return is_older(clock, stored) or (deleted and clock is not None and clock == stored)


def _moved(after: Mapping[str, _State], before: Mapping[str, _State]) -> list[_State]:
    return [
        row
        for row_id, row in sorted(after.items())
        if (was := before.get(row_id)) is not None and row.notes != was.notes and row == was
    ]
