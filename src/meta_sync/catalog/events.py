"""Events about the source catalog as plain values, and what is wrong with one. Pure; knows neither HTTP nor SQL.

The names of the types are those that shops publish; they may be sent by anybody and in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput
from meta_sync.catalog.validation import clock_faults, id_fault, validate_inventory, validate_product
from meta_sync.core.errors import ErrorDetail

__all__ = [
    "MAX_EVENTS",
    "CatalogEvent",
    "EventData",
    "EventResult",
    "EventType",
    "IgnoredEvent",
    "MediaNews",
    "MediaPatch",
    "ProductDeletion",
    "ProductPatch",
    "RejectedEvent",
    "StockNews",
    "VariantDeletion",
    "VariantNews",
    "event_faults",
]

MAX_EVENTS = 1_000
"""Of one request, which is one transaction."""


class EventType(StrEnum):
    """The events that mean something here."""

    PRODUCT_SYNCED = "vendor.product.synced"
    BASICS_UPDATED = "vendor.product.basics.updated"
    MEDIA_UPDATED = "vendor.product.media.updated"
    VARIANT_CREATED = "vendor.product.variant.created"
    VARIANT_UPDATED = "vendor.product.variant.updated"
    VARIANT_DELETED = "vendor.product.variant.deleted"
    PRODUCT_DELETED = "vendor.product.deleted"
    STOCK_ADJUSTED = "inventory.stock.adjusted"
    POLICY_UPDATED = "inventory.policy.updated"


@dataclass(frozen=True, slots=True)
class ProductPatch:
    """Fields of a product that changed, by their names in ``ProductInput``; what is not named stays."""

    product_id: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MediaPatch:
    """Pictures of a variant that changed: ``thumbnail`` and ``images``, each only when it was given."""

    variant_id: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MediaNews:
    """Pictures of a product, and of some of its variants."""

    product_id: str
    fields: Mapping[str, Any]
    variants: Sequence[MediaPatch] = ()


@dataclass(frozen=True, slots=True)
class VariantNews:
    """A whole variant of a product. Its siblings stay as they are."""

    product_id: str
    variant: VariantInput
    is_new: bool
    """The variant may be unknown or deleted until now."""


@dataclass(frozen=True, slots=True)
class VariantDeletion:
    """A variant is gone."""

    product_id: str
    variant_id: str


@dataclass(frozen=True, slots=True)
class ProductDeletion:
    """A product is gone with all its variants."""

    product_id: str


@dataclass(frozen=True, slots=True)
class StockNews:
    """Quantities of a variant, or its policy."""

    variant_id: str
    stock: InventoryInput


EventData = (
    ProductInput | ProductPatch | MediaNews | VariantNews | VariantDeletion | ProductDeletion | StockNews
)


@dataclass(frozen=True, slots=True)
class CatalogEvent:
    """One event that can be understood."""

    index: int
    """Its place in what was sent."""
    id: str
    source: str
    """Together with the id it names the event, within one store."""
    clock: datetime | None
    """When it happened, by the source's clock."""
    data: EventData
    clock_field: str = "time"
    """Where the sender wrote the clock."""


@dataclass(frozen=True, slots=True)
class IgnoredEvent:
    """An event of a type that means nothing here."""

    index: int


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that did not go in. It leaves no receipt: repaired, or once its object is known, it can be sent again."""

    index: int
    id: str | None
    message: str
    details: Sequence[ErrorDetail] = ()
    error_code: str = "VALIDATION_ERROR"


@dataclass(slots=True)
class EventResult:
    """What became of the events of a request. Accepted, duplicates, ignored and rejected are all of them."""

    accepted: int = 0
    stale: int = 0
    """Of the accepted: left out, because the store has later news."""
    duplicates: int = 0
    ignored: int = 0
    rejected: list[RejectedEvent] = field(default_factory=list)


def event_faults(event: CatalogEvent, now: datetime) -> list[ErrorDetail]:
    """Why an event cannot be stored; an empty list means that it can."""
    return [*clock_faults(event.clock, event.clock_field, now), *_data_faults(event.data, now)]


def _data_faults(data: EventData, now: datetime) -> Iterator[ErrorDetail]:
    match data:
        case ProductInput():
            # Its clock is the event's.
            yield from _inside(validate_product(replace(data, updated_at=None), now=now), "data.")
        case ProductPatch():
            yield from _inside(
                validate_product(ProductInput(data.product_id, **data.fields), now=now), "data."
            )
        case MediaNews():
            yield from _inside(validate_product(ProductInput(data.product_id, **data.fields)), "data.")
            pictured = [VariantInput(one.variant_id, **one.fields) for one in data.variants]
            yield from _inside(validate_product(ProductInput("any", variants=pictured)), "data.")
        case VariantNews():
            body = ProductInput(data.product_id, variants=[data.variant])
            for detail in validate_product(body, now=now):
                name = detail.field.replace("variants[0]", "variant", 1)
                yield ErrorDetail("data.productId" if name == "id" else f"data.{name}", detail.message)
        case VariantDeletion():
            yield from _id_faults(data.product_id, "data.productId")
            yield from _id_faults(data.variant_id, "data.variantId")
        case ProductDeletion():
            yield from _id_faults(data.product_id, "data.productId")
        case StockNews():
            yield from _id_faults(data.variant_id, "data.variantId")
            yield from validate_inventory(data.stock, prefix="data.", now=now)


def _inside(details: Sequence[ErrorDetail], prefix: str) -> Iterator[ErrorDetail]:
    return (ErrorDetail(f"{prefix}{detail.field}", detail.message) for detail in details)


def _id_faults(value: str, name: str) -> Iterator[ErrorDetail]:
    if fault := id_fault(value):
        yield ErrorDetail(name, fault)
