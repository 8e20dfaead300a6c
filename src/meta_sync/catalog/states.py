"""Catalog rows as values that compare: what a body makes of a row, and how urgent the difference is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from meta_sync.catalog.models import InventoryInput, Lane, ProductInput, VariantInput

__all__ = [
    "ProductState",
    "StockState",
    "VariantState",
    "product_state",
    "search_document",
    "stock_state",
    "variant_state",
]


@dataclass(frozen=True, slots=True)
class ProductState:
    """One product row without its housekeeping columns."""

    product_id: str
    content: tuple[Any, ...]
    """Texts, images and categories, in the order of ``repository.PRODUCT_CONTENT``."""
    status: str
    visibility: str
    source: str
    clock: datetime | None
    """The source's own time of the last applied body."""
    deleted: bool

    @property
    def title(self) -> str | None:
        """What the shopper reads first."""
        title: str | None = self.content[0]
        return title

    def lane_against(self, before: ProductState | None) -> Lane | None:
        """How urgent the difference is for the product's variants; ``None`` when no item can depend on it."""
        if before is None:
            return Lane.CONTENT
        if (self.status, self.visibility, self.deleted) != (
            before.status,
            before.visibility,
            before.deleted,
        ):
            return Lane.LIVE
        return Lane.CONTENT if self.content != before.content else None

    def row_differs(self, before: ProductState | None) -> bool:
        """Whether the row must be written, its clock aside."""
        return before is None or replace(self, clock=before.clock) != before


@dataclass(frozen=True, slots=True)
class VariantState:
    """One variant row without its housekeeping columns."""

    variant_id: str
    product_id: str
    offer: tuple[Any, ...]
    """Price, special price with its window, availability: what shoppers must not see late."""
    content: tuple[Any, ...]
    """Everything else, in the order of ``repository.VARIANT_CONTENT``; the SKU is the first."""
    position: int
    deleted: bool

    def lane_against(self, before: VariantState | None, new_lane: Lane) -> Lane | None:
        """How urgent the difference is; ``None`` when the item cannot depend on it."""
        if before is None:
            return None if self.deleted else new_lane
        if self.deleted and before.deleted:
            return None
        if self.deleted != before.deleted or self.offer != before.offer:
            return Lane.LIVE
        if self.content != before.content or self.product_id != before.product_id:
            return Lane.CONTENT
        return None


@dataclass(frozen=True, slots=True)
class StockState:
    """One inventory row. Its clock is its own."""

    variant_id: str
    track_inventory: bool
    quantity_on_hand: int
    reserved_quantity: int
    allow_backorder: bool
    clock: datetime | None

    def row_differs(self, before: StockState | None) -> bool:
        """Whether the figures differ, the clock aside."""
        return before is None or replace(self, clock=before.clock) != before


def product_state(given: ProductInput, before: ProductState | None) -> ProductState:
    """The row that a body makes; without a clock in the body the stored one stays."""
    return ProductState(
        given.id,
        (
            given.title,
            given.subtitle,
            given.description,
            given.slug,
            given.link,
            given.brand,
            given.vendor,
            given.thumbnail,
            list(given.images),
            list(given.categories),
            given.google_product_category,
        ),
        given.status,
        given.visibility,
        given.source,
        given.updated_at or (before.clock if before else None),
        deleted=False,
    )


def variant_state(given: VariantInput, product_id: str, position: int) -> VariantState:
    """The row that a body makes."""
    return VariantState(
        given.id,
        product_id,
        (
            given.price,
            given.special_price,
            given.special_price_start,
            given.special_price_end,
            given.availability,
        ),
        (
            given.sku,
            given.link,
            given.condition,
            given.thumbnail,
            list(given.images),
            given.ean,
            given.upc,
            given.barcode,
            dict(given.options),
        ),
        position,
        deleted=False,
    )


def stock_state(variant_id: str, given: InventoryInput, before: StockState | None) -> StockState:
    """The row that a stock body makes: what it does not name stays. A new record tracks stock unless told not to."""
    base = before or StockState(
        variant_id,
        track_inventory=True,
        quantity_on_hand=0,
        reserved_quantity=0,
        allow_backorder=False,
        clock=None,
    )
    return StockState(
        variant_id,
        base.track_inventory if given.track_inventory is None else given.track_inventory,
        base.quantity_on_hand if given.quantity_on_hand is None else given.quantity_on_hand,
        base.reserved_quantity if given.reserved_quantity is None else given.reserved_quantity,
        base.allow_backorder if given.allow_backorder is None else given.allow_backorder,
        given.updated_at or base.clock,
    )


def search_document(product: ProductState, variant: VariantState) -> str:
    """Title, sku, slug and ids in lower case, one per line, so that a search never spans two of them."""
    parts: Sequence[str | None] = (
        product.title,
        variant.content[0],
        product.content[3],
        variant.variant_id,
        product.product_id,
    )
    return "\n".join(part.lower() for part in parts if part)
