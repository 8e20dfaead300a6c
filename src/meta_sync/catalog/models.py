"""Plain types of the source catalog. They know nothing about Meta, HTTP or SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = [
    "META_SOURCE",
    "CatalogItem",
    "Change",
    "ChangeSink",
    "InventoryInput",
    "Lane",
    "ProductInput",
    "VariantInput",
]

META_SOURCE = "meta"
"""Source of what was adopted from Meta's catalog and is nobody else's yet."""


class Lane(IntEnum):
    """How urgent a change is. Smaller goes first."""

    LIVE = 0
    """Price, sale, stock, visibility, delete."""
    CONTENT = 1
    """Texts, images, attributes."""
    BULK = 2
    """Work whose only reason is a job or an import of new items."""


@dataclass(slots=True)
class InventoryInput:
    """Stock of one variant as given. ``None`` means the field was not given and stays as it is."""

    track_inventory: bool | None = None
    quantity_on_hand: int | None = None
    reserved_quantity: int | None = None
    allow_backorder: bool | None = None
    updated_at: datetime | None = None

    @property
    def names_figures(self) -> bool:
        """Whether it says anything about quantities."""
        return self.quantity_on_hand is not None or self.reserved_quantity is not None

    @property
    def names_policy(self) -> bool:
        """Whether it says anything about tracking or backorders."""
        return self.track_inventory is not None or self.allow_backorder is not None


@dataclass(slots=True)
class VariantInput:
    """One variant as given. Prices are integer minor units of the store's currency."""

    id: str
    sku: str | None = None
    link: str | None = None
    price: int | None = None
    special_price: int | None = None
    special_price_start: datetime | None = None
    special_price_end: datetime | None = None
    condition: str | None = None
    thumbnail: str | None = None
    images: list[str] = field(default_factory=list)
    ean: str | None = None
    upc: str | None = None
    barcode: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    availability: str | None = None
    inventory: InventoryInput | None = None


@dataclass(slots=True)
class ProductInput:
    """One product as given, with all its variants."""

    id: str
    title: str | None = None
    subtitle: str | None = None
    description: str | None = None
    slug: str | None = None
    link: str | None = None
    status: str = "active"
    visibility: str = "public"
    brand: str | None = None
    vendor: str | None = None
    thumbnail: str | None = None
    images: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    google_product_category: str | None = None
    source: str = "api"
    updated_at: datetime | None = None
    variants: list[VariantInput] = field(default_factory=list)


@dataclass(slots=True)
class CatalogItem:
    """A variant with its product and stock in one flat row: all that the mapping may read from the catalog.

    The order of the fields is the order of the columns in ``catalog.repository.CATALOG_ITEM_COLUMNS``; rows are
    unpacked into it by position because attribute access on result rows costs half the speed of a drain.
    """

    variant_id: str
    product_id: str
    title: str | None
    subtitle: str | None
    description: str | None
    slug: str | None
    product_link: str | None
    status: str
    visibility: str
    brand: str | None
    vendor: str | None
    product_thumbnail: str | None
    product_images: Sequence[str]
    categories: Sequence[str]
    google_product_category: str | None
    product_deleted: bool
    sku: str | None
    variant_link: str | None
    price: int | None
    special_price: int | None
    special_price_start: datetime | None
    special_price_end: datetime | None
    condition: str | None
    variant_thumbnail: str | None
    variant_images: Sequence[str]
    ean: str | None
    upc: str | None
    barcode: str | None
    options: dict[str, str]
    availability: str | None
    variant_deleted: bool
    track_inventory: bool | None
    """``None``: there is no inventory record."""
    quantity_on_hand: int | None
    reserved_quantity: int | None
    allow_backorder: bool | None
    live_variant_count: int
    """Live variants of the product, this one included, counted no further than two: whether it is a group matters."""
    group_id_taken: bool
    """Some variant of the store has the product's id as its own."""
    source: str | None = None
    """Whose it is: ``api``, ``meta`` for what was taken over from a catalog there, or a feed's name. No payload shows it."""


@dataclass(frozen=True, slots=True)
class Change:
    """A variant that may differ from Meta from now on, and how urgent that is."""

    variant_id: str
    lane: Lane


class ChangeSink(Protocol):
    """Told of every change inside the transaction that makes it. Implemented by the pipeline, joined at the factory."""

    async def record(self, connection: AsyncConnection, store_id: str, changes: Sequence[Change]) -> None:
        """Write one intent per change on the given connection, and mark the store due. Does not commit."""
        ...
