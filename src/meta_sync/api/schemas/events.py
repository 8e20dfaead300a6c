"""Events as they are sent: the envelope of CloudEvents 1.0 in JSON, and what each type carries.

Every event is read by itself, so that a bad one does not refuse the others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypeAliasType

from meta_sync.api.errors import row_details
from meta_sync.api.schemas.base import Answer, Body, ErrorDetailBody, Flag, Instant, Int64, Text, View
from meta_sync.api.schemas.catalog import BatchProduct, Texts, VariantBody
from meta_sync.catalog import events
from meta_sync.catalog.events import EventType
from meta_sync.catalog.models import InventoryInput
from meta_sync.core.errors import ErrorDetail

__all__ = [
    "BasicsUpdatedEvent",
    "CloudEvent",
    "EventBody",
    "EventResult",
    "EventResultAnswer",
    "MediaUpdate",
    "MediaUpdatedEvent",
    "OtherEvent",
    "OtherEventData",
    "PolicyUpdate",
    "PolicyUpdatedEvent",
    "ProductDeletedEvent",
    "ProductReference",
    "ProductSyncedEvent",
    "ProductUpdate",
    "RejectedEvent",
    "StockAdjustedEvent",
    "StockAdjustment",
    "VariantChange",
    "VariantCreatedEvent",
    "VariantDeletedEvent",
    "VariantMediaUpdate",
    "VariantReference",
    "VariantUpdatedEvent",
    "read_event",
]

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_JSON_TYPE = re.compile(r"(application|text)/([^\s;]+\+)?json\s*(;.*)?", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ID = Field(min_length=1, max_length=200)


def _plain(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must not contain control characters")
    return value


def _rfc_3339(value: object) -> object:
    if isinstance(value, str) and not _RFC_3339.fullmatch(value):
        raise ValueError("must be an RFC 3339 time such as 2026-05-03T10:00:00Z")
    return value.upper() if isinstance(value, str) else value


def _json_type(value: str) -> str:
    if not _JSON_TYPE.fullmatch(value):
        raise ValueError("must be application/json or absent: only JSON data is read here")
    return value


def _absent(value: object) -> object:
    if value is not None:
        raise ValueError("must be absent: only JSON data is read here")
    return value


Attribute = Annotated[Text, AfterValidator(_plain)]


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="allow")

    specversion: Literal["1.0"] = Field(description="Version of CloudEvents.")
    id: Attribute = Field(
        min_length=1, max_length=200, description="Names the event, together with `source`.", examples=["42"]
    )
    source: Attribute = Field(
        min_length=1,
        max_length=400,
        description="Who publishes the event, as a path or an address.",
        examples=["/shop/catalog"],
    )
    type: Attribute = Field(min_length=1, max_length=200, description="What kind of news it is.")
    time: Annotated[Instant, BeforeValidator(_rfc_3339)] | None = Field(
        default=None,
        description="When it happened. News older than what is stored of the same fields is left out.",
    )
    datacontenttype: Annotated[Text, AfterValidator(_json_type)] | None = Field(
        default=None, description="JSON, or absent."
    )
    data: Any = None
    data_base64: Annotated[Any, AfterValidator(_absent), WithJsonSchema({"type": "null"})] = Field(
        default=None, description="Must be absent: only JSON data is read here."
    )


class _Reference(Body):
    product_id: Text = _ID


class ProductReference(_Reference):
    """Data of `vendor.product.deleted`."""

    def given(self) -> events.ProductDeletion:
        """The event for the catalog."""
        return events.ProductDeletion(self.product_id)


class VariantReference(_Reference):
    """Data of `vendor.product.variant.deleted`."""

    variant_id: Text = _ID

    def given(self) -> events.VariantDeletion:
        """The event for the catalog."""
        return events.VariantDeletion(self.product_id, self.variant_id)


class VariantChange(_Reference):
    """Data of `vendor.product.variant.created` and `vendor.product.variant.updated`: the whole variant."""

    variant: VariantBody

    def given(self, *, is_new: bool) -> events.VariantNews:
        """The event for the catalog."""
        return events.VariantNews(self.product_id, self.variant.given(), is_new)


class _Patch(Body):
    """A body of which only the fields that were given count."""

    def patch(self, *names: str) -> dict[str, Any]:
        """What was given of the named fields, by their names in the catalog."""
        return {name: getattr(self, name) for name in names if name in self.model_fields_set}


class _ProductPatch(_Patch):
    """A patch of a product, which may name it as its body does or as the other events do."""

    id: Text | None = Field(
        default=None, min_length=1, max_length=200, description="The same as `productId`."
    )
    product_id: Text | None = Field(default=None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def _name_one_product(self) -> _ProductPatch:
        if self.id is None and self.product_id is None:
            raise ValueError("must name the product in productId")
        if self.id is not None and self.product_id not in {None, self.id}:
            raise ValueError("must not name two products, in id and in productId")
        return self

    @property
    def named(self) -> str:
        """The product's id."""
        return self.product_id if self.product_id is not None else self.id or ""


_BASICS = (
    "title",
    "subtitle",
    "description",
    "slug",
    "link",
    "status",
    "visibility",
    "brand",
    "vendor",
    "thumbnail",
    "images",
    "categories",
    "google_product_category",
    "source",
)


class ProductUpdate(_ProductPatch):
    """Data of `vendor.product.basics.updated`: absent fields stay, null clears."""

    title: Text | None = None
    subtitle: Text | None = None
    description: Text | None = None
    slug: Text | None = None
    link: Text | None = None
    status: Literal["draft", "active", "archived"] = "active"
    visibility: Literal["public", "private"] = "public"
    brand: Text | None = None
    vendor: Text | None = None
    thumbnail: Text | None = None
    images: Texts = Field(default_factory=list)
    categories: Texts = Field(default_factory=list)
    google_product_category: Text | None = None
    source: Text = Field(default="api", min_length=1, max_length=200)
    updated_at: Instant | None = Field(default=None, description="Counts when the event has no `time`.")

    def given(self) -> events.ProductPatch:
        """The event for the catalog."""
        return events.ProductPatch(self.named, self.patch(*_BASICS))


class VariantMediaUpdate(_Patch):
    """Pictures of a variant: absent fields stay, null clears."""

    id: Text = _ID
    thumbnail: Text | None = None
    images: Texts = Field(default_factory=list)


class MediaUpdate(_ProductPatch):
    """Data of `vendor.product.media.updated`: absent fields stay, null clears."""

    thumbnail: Text | None = None
    images: Texts = Field(default_factory=list)
    variants: list[VariantMediaUpdate] | None = None

    def given(self) -> events.MediaNews:
        """The event for the catalog."""
        patches = [events.MediaPatch(one.id, one.patch("thumbnail", "images")) for one in self.variants or ()]
        return events.MediaNews(self.named, self.patch("thumbnail", "images"), patches)


class _StockChange(_Patch):
    variant_id: Text = _ID

    @model_validator(mode="after")
    def _say_something(self) -> _StockChange:
        said = self.model_fields_set - {"variant_id"}
        if all(getattr(self, name) is None for name in said):
            raise ValueError("must say at least one figure or flag beside variantId")
        return self


class StockAdjustment(_StockChange):
    """Data of `inventory.stock.adjusted`: absolute figures; an absent one stays."""

    quantity_on_hand: Int64 | None = Field(default=None, examples=[5])
    reserved_quantity: Int64 | None = Field(default=None, examples=[1])

    def given(self) -> events.StockNews:
        """The event for the catalog."""
        stock = InventoryInput(
            quantity_on_hand=self.quantity_on_hand, reserved_quantity=self.reserved_quantity
        )
        return events.StockNews(self.variant_id, stock)


class PolicyUpdate(_StockChange):
    """Data of `inventory.policy.updated`: an absent field stays."""

    track_inventory: Flag | None = None
    allow_backorder: Flag | None = None

    def given(self) -> events.StockNews:
        """The event for the catalog."""
        stock = InventoryInput(track_inventory=self.track_inventory, allow_backorder=self.allow_backorder)
        return events.StockNews(self.variant_id, stock)


_Type = Field(description="Says what `data` is.")
_Data = Field(description="What the type of the event says.")


class ProductSyncedEvent(_Envelope):
    """A whole product as it is now."""

    type: Literal["vendor.product.synced"] = _Type
    data: BatchProduct = _Data


class BasicsUpdatedEvent(_Envelope):
    """Fields of a product as they are now, without its variants."""

    type: Literal["vendor.product.basics.updated"] = _Type
    data: ProductUpdate = _Data


class MediaUpdatedEvent(_Envelope):
    """Pictures of a product and of its variants as they are now."""

    type: Literal["vendor.product.media.updated"] = _Type
    data: MediaUpdate = _Data


class VariantCreatedEvent(_Envelope):
    """A variant that a product has from now on."""

    type: Literal["vendor.product.variant.created"] = _Type
    data: VariantChange = _Data


class VariantUpdatedEvent(_Envelope):
    """A variant as it is now."""

    type: Literal["vendor.product.variant.updated"] = _Type
    data: VariantChange = _Data


class VariantDeletedEvent(_Envelope):
    """A variant that a product has no more."""

    type: Literal["vendor.product.variant.deleted"] = _Type
    data: VariantReference = _Data


class ProductDeletedEvent(_Envelope):
    """A product that is no more."""

    type: Literal["vendor.product.deleted"] = _Type
    data: ProductReference = _Data


class StockAdjustedEvent(_Envelope):
    """A variant's stock as it is now."""

    type: Literal["inventory.stock.adjusted"] = _Type
    data: StockAdjustment = _Data


class PolicyUpdatedEvent(_Envelope):
    """How a variant's stock is kept from now on."""

    type: Literal["inventory.policy.updated"] = _Type
    data: PolicyUpdate = _Data


class OtherEventData(BaseModel):
    """Data of an event whose type means nothing here."""

    model_config = ConfigDict(extra="allow")


class OtherEvent(_Envelope):
    """An event of any other type: it means nothing here and is counted as ignored."""

    type: Attribute = Field(
        min_length=1,
        max_length=200,
        description="None of the types that mean something here.",
        json_schema_extra={"not": {"enum": [kind.value for kind in EventType]}},
    )
    data: OtherEventData = _Data


# A discriminator would say less: with it, a type that it does not map is no event at all.
CloudEvent = TypeAliasType(
    "CloudEvent",
    Annotated[
        ProductSyncedEvent
        | BasicsUpdatedEvent
        | MediaUpdatedEvent
        | VariantCreatedEvent
        | VariantUpdatedEvent
        | VariantDeletedEvent
        | ProductDeletedEvent
        | StockAdjustedEvent
        | PolicyUpdatedEvent
        | OtherEvent,
        Field(
            description="One event in the JSON format of CloudEvents 1.0: its `type` says what its `data` is. Further attributes"
            " are let through unread."
        ),
    ],
)


class _Documented:
    """Anything, documented as one event or a list of them: each is read by itself, later."""

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        one = handler.generate_schema(CloudEvent)
        either = core_schema.union_schema([one, core_schema.list_schema(one, max_length=events.MAX_EVENTS)])
        return core_schema.no_info_wrap_validator_function(lambda value, _: value, either)


EventBody = Annotated[Any, _Documented()]


class RejectedEvent(View):
    """An event that did not go in. It can be sent again under the same id."""

    index: int = Field(description="Its place among those sent, from 0.")
    id: str | None
    error_code: str
    message: str
    details: list[ErrorDetailBody]


class EventResult(View):
    """What became of the events: accepted, duplicates, ignored and rejected are all that were sent."""

    accepted: int
    stale: int = Field(description="Of the accepted: left out, because the store has later news.")
    duplicates: int = Field(description="Taken before under the same `source` and `id`.")
    ignored: int = Field(description="Of a type that means nothing here.")
    rejected: list[RejectedEvent]


class EventResultAnswer(Answer):
    data: EventResult


def read_event(index: int, value: Any) -> events.CatalogEvent | events.IgnoredEvent | events.RejectedEvent:
    """One event as the catalog knows it, or what is wrong with it."""
    event_id = value.get("id") if isinstance(value, dict) else None
    shown_id = event_id if isinstance(event_id, str) else None
    try:
        event = _Envelope.model_validate(value)
    except ValidationError as error:
        return _refused(index, shown_id, row_details(error, whole="event"))
    if event.type not in _TYPES:
        return events.IgnoredEvent(index)
    try:
        data, updated_at = _data(EventType(event.type), event.data)
    except ValidationError as error:
        named = [
            ErrorDetail(f"data.{one.field}" if one.field else "data", one.message)
            for one in row_details(error, whole="")
        ]
        return _refused(index, shown_id, named)
    if event.time is None and updated_at is not None:
        return events.CatalogEvent(index, event.id, event.source, updated_at, data, "data.updatedAt")
    return events.CatalogEvent(index, event.id, event.source, event.time, data)


_TYPES = frozenset(EventType)


def _data(kind: EventType, value: Any) -> tuple[events.EventData, datetime | None]:
    """What the event says, and the clock that stands in it."""
    match kind:
        case EventType.PRODUCT_SYNCED:
            body = BatchProduct.model_validate(value)
            return body.given(body.id), body.updated_at
        case EventType.BASICS_UPDATED:
            basics = ProductUpdate.model_validate(value)
            return basics.given(), basics.updated_at
        case EventType.MEDIA_UPDATED:
            return MediaUpdate.model_validate(value).given(), None
        case EventType.VARIANT_CREATED | EventType.VARIANT_UPDATED:
            is_new = kind is EventType.VARIANT_CREATED
            return VariantChange.model_validate(value).given(is_new=is_new), None
        case EventType.VARIANT_DELETED:
            return VariantReference.model_validate(value).given(), None
        case EventType.PRODUCT_DELETED:
            return ProductReference.model_validate(value).given(), None
        case EventType.STOCK_ADJUSTED:
            return StockAdjustment.model_validate(value).given(), None
        case EventType.POLICY_UPDATED:
            return PolicyUpdate.model_validate(value).given(), None


def _refused(index: int, event_id: str | None, details: Sequence[ErrorDetail]) -> events.RejectedEvent:
    named = [ErrorDetail(one.field or "event", one.message) for one in details]
    return events.RejectedEvent(index, event_id, f"{named[0].field} {named[0].message}.", named)
