"""Catalog rows as values that compare: what a body makes of a row, and how urgent the difference is. Pure.

Every row has the clock of the last whole body about it, and one per group of fields of which an event may tell alone.
A group is as new as the later of its own clock and those around it: a product's body speaks for its variants too.
Clocks do not take part in comparing, nor does a variant's source: a row where they alone moved is not a row that differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from meta_sync.catalog.models import InventoryInput, Lane, ProductInput, VariantInput

__all__ = [
    "MEDIA",
    "PRODUCT_CLOCKS",
    "PRODUCT_CONTENT",
    "STOCK_CLOCKS",
    "VARIANT_CLOCKS",
    "VARIANT_CONTENT",
    "VARIANT_NOTES",
    "VARIANT_OFFER",
    "ProductState",
    "StockState",
    "VariantState",
    "is_older",
    "latest",
    "new_stock",
    "product_state",
    "search_document",
    "stock_state",
    "variant_state",
    "with_figures",
    "with_policy",
]

PRODUCT_CONTENT = (
    "title",
    "subtitle",
    "description",
    "slug",
    "link",
    "brand",
    "vendor",
    "thumbnail",
    "images",
    "categories",
    "google_product_category",
)
"""Columns of ``ProductState.content``, in its order."""

VARIANT_OFFER = ("price", "special_price", "special_price_start", "special_price_end", "availability")
"""Columns of ``VariantState.offer``, in its order."""

VARIANT_CONTENT = (
    "sku",
    "link",
    "condition",
    "thumbnail",
    "images",
    "ean",
    "upc",
    "barcode",
    "options",
)
"""Columns of ``VariantState.content``, in its order."""

MEDIA = ("thumbnail", "images")
"""The columns of pictures, in ``PRODUCT_CONTENT`` and in ``VARIANT_CONTENT``."""
PRODUCT_CLOCKS = ("source_updated_at", "basics_updated_at", "media_updated_at")
VARIANT_CLOCKS = ("source_updated_at", "media_updated_at")
VARIANT_NOTES = (*VARIANT_CLOCKS, "source")
"""What a variant's row says of its own history, in the order of ``VariantState.notes``. Nothing looks different for it."""
STOCK_CLOCKS = ("source_updated_at", "figures_updated_at", "policy_updated_at")

_PRODUCT_MEDIA = tuple(PRODUCT_CONTENT.index(name) for name in MEDIA)
_VARIANT_MEDIA = tuple(VARIANT_CONTENT.index(name) for name in MEDIA)

Clocks = tuple[datetime | None, ...]


def latest(*clocks: datetime | None) -> datetime | None:
    """The latest of the clocks that are known."""
    return max((clock for clock in clocks if clock is not None), default=None)


def is_older(clock: datetime | None, stored: datetime | None) -> bool:
    """Whether news of ``clock`` comes after later news; news without a clock never does."""
    return clock is not None and stored is not None and clock < stored


@dataclass(frozen=True, slots=True)
class ProductState:
    """One product row without its housekeeping columns."""

    product_id: str
    content: tuple[Any, ...]
    """Texts, images and categories, in the order of ``PRODUCT_CONTENT``."""
    status: str
    visibility: str
    source: str
    clock: datetime | None = field(compare=False)
    """The source's own time of the last whole body, or of the deletion. It speaks for the variants too."""
    deleted: bool
    basics_clock: datetime | None = field(default=None, compare=False)
    """Of news of the product's fields alone, pictures aside. Counts where it is later than ``clock``."""
    media_clock: datetime | None = field(default=None, compare=False)
    """Of news of the pictures alone. Counts where it is later than ``clock``."""

    @property
    def clocks(self) -> Clocks:
        """All clocks, in the order of ``PRODUCT_CLOCKS``."""
        return self.clock, self.basics_clock, self.media_clock

    @property
    def notes(self) -> tuple[object, ...]:
        """What is kept of the row's history and makes no row differ."""
        return self.clocks

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
        """Whether the row must be written, its clocks aside."""
        return self != before


@dataclass(frozen=True, slots=True)
class VariantState:
    """One variant row without its housekeeping columns."""

    variant_id: str
    product_id: str
    offer: tuple[Any, ...]
    """Price, special price with its window, availability: what shoppers must not see late."""
    content: tuple[Any, ...]
    """Everything else, in the order of ``VARIANT_CONTENT``; the SKU is the first."""
    position: int
    deleted: bool
    clock: datetime | None = field(default=None, compare=False)
    """Of news of the variant alone. Counts where it is later than the product's."""
    media_clock: datetime | None = field(default=None, compare=False)
    """Of news of its pictures alone. Counts where it is later than ``clock`` and the product's."""
    source: str | None = field(default=None, compare=False)
    """Whose it is, where it is another's than its product; ``None``: its product's."""

    @property
    def clocks(self) -> Clocks:
        """All clocks, in the order of ``VARIANT_CLOCKS``."""
        return self.clock, self.media_clock

    @property
    def notes(self) -> tuple[object, ...]:
        """What is kept of the row's history and makes no row differ, in the order of ``VARIANT_NOTES``."""
        return *self.clocks, self.source

    def source_within(self, product: ProductState) -> str:
        """Whose the variant of this product is."""
        return product.source if self.source is None else self.source

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
    clock: datetime | None = field(compare=False)
    """Of the last body about the whole record."""
    figures_clock: datetime | None = field(default=None, compare=False)
    """Of news of the quantities alone. Counts where it is later than ``clock``."""
    policy_clock: datetime | None = field(default=None, compare=False)
    """Of news of tracking and backorders alone. Counts where it is later than ``clock``."""

    @property
    def clocks(self) -> Clocks:
        """All clocks, in the order of ``STOCK_CLOCKS``."""
        return self.clock, self.figures_clock, self.policy_clock

    @property
    def notes(self) -> tuple[object, ...]:
        """What is kept of the row's history and makes no row differ."""
        return self.clocks

    def row_differs(self, before: StockState | None) -> bool:
        """Whether the record must be written, its clocks aside."""
        return self != before


def product_state(given: ProductInput, before: ProductState | None) -> ProductState:
    """The row that a body makes; without a clock in the body the stored one stays.

    A group of which the store has later news stays as it is. Whether the body counts at all, the caller has decided.
    """
    clock = given.updated_at
    made = ProductState(
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
        clock or (before.clock if before else None),
        deleted=False,
        basics_clock=before.basics_clock if before else None,
        media_clock=before.media_clock if before else None,
    )
    if before is None:
        return made
    media = before.content if is_older(clock, before.media_clock) else made.content
    if is_older(clock, before.basics_clock):
        kept = {name: getattr(before, name) for name in ("content", "status", "visibility", "source")}
        made = replace(made, **kept)
    elif media is made.content:
        return made
    return replace(made, content=_with_media(made.content, media, _PRODUCT_MEDIA))


def variant_state(
    given: VariantInput,
    product_id: str,
    position: int,
    before: VariantState | None = None,
    clock: datetime | None = None,
) -> VariantState:
    """The row that a body of the given clock makes, its product's source; pictures of which the store has later news stay."""
    content: tuple[Any, ...] = (
        given.sku,
        given.link,
        given.condition,
        given.thumbnail,
        list(given.images),
        given.ean,
        given.upc,
        given.barcode,
        dict(given.options),
    )
    if before is not None and is_older(clock, before.media_clock):
        content = _with_media(content, before.content, _VARIANT_MEDIA)
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
        content,
        position,
        deleted=False,
        clock=before.clock if before else None,
        media_clock=before.media_clock if before else None,
    )


def _with_media(
    content: tuple[Any, ...], media_of: tuple[Any, ...], positions: tuple[int, ...]
) -> tuple[Any, ...]:
    """The content with the pictures of another one."""
    made = list(content)
    for position in positions:
        made[position] = media_of[position]
    return tuple(made)


def stock_state(variant_id: str, given: InventoryInput, before: StockState | None) -> StockState:
    """The row that a stock body makes: what it does not name stays, and so does a group with later news of its own.

    A new record tracks stock unless told not to. The body is one about the whole record: the caller has compared the
    record's clock, and it moves.
    """
    base = before or new_stock(variant_id)
    made = base
    if not is_older(given.updated_at, base.figures_clock):
        made = with_figures(made, given)
    if not is_older(given.updated_at, base.policy_clock):
        made = with_policy(made, given)
    return replace(made, clock=given.updated_at or base.clock)


def new_stock(variant_id: str) -> StockState:
    """A record of which nothing was said yet."""
    return StockState(
        variant_id,
        track_inventory=True,
        quantity_on_hand=0,
        reserved_quantity=0,
        allow_backorder=False,
        clock=None,
    )


def with_figures(base: StockState, given: InventoryInput) -> StockState:
    """The record with those of the quantities that are given."""
    on_hand, reserved = given.quantity_on_hand, given.reserved_quantity
    return replace(
        base,
        quantity_on_hand=base.quantity_on_hand if on_hand is None else on_hand,
        reserved_quantity=base.reserved_quantity if reserved is None else reserved,
    )


def with_policy(base: StockState, given: InventoryInput) -> StockState:
    """The record with those of tracking and backorders that are given."""
    tracks, backorders = given.track_inventory, given.allow_backorder
    return replace(
        base,
        track_inventory=base.track_inventory if tracks is None else tracks,
        allow_backorder=base.allow_backorder if backorders is None else backorders,
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
