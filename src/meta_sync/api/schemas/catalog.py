"""Bodies of the source catalog. Shapes and types only; what may be stored is judged by the catalog itself."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, WithJsonSchema, model_validator
from pydantic_core import CoreSchema, core_schema

from meta_sync.api.path_ids import href
from meta_sync.api.schemas.base import (
    Answer,
    Body,
    ErrorDetailBody,
    Flag,
    Instant,
    Int64,
    PagedAnswer,
    Text,
    View,
)
from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput
from meta_sync.catalog.reading import StoredProduct
from meta_sync.catalog.validation import AVAILABILITIES, MAX_VARIANTS
from meta_sync.sync.items import ProductSync
from meta_sync.sync.models import Status

__all__ = [
    "BatchProduct",
    "BatchResult",
    "BatchResultAnswer",
    "Inventory",
    "InventoryBatch",
    "InventoryBatchItem",
    "InventoryBody",
    "InventoryResult",
    "InventoryResultAnswer",
    "Product",
    "ProductAnswer",
    "ProductBatch",
    "ProductBody",
    "ProductPage",
    "ProductResult",
    "ProductResultAnswer",
    "ProductSyncView",
    "RejectedProduct",
    "Variant",
    "VariantBody",
]

_SHOWN_ONLY = frozenset({"href", "sync", "createdAt", "changedAt"})
"""What a read adds to a body: let through unread, so that what was got can be put again."""


def _scalar_text(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _present(value: object) -> object:
    return {} if value is None else _without_nulls(value)


def _without_nulls(value: object) -> object:
    return {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else value


def _null_as_empty(value: object) -> object:
    return [] if value is None else value


_SCALARS = [{"type": name} for name in ("string", "number", "boolean", "null")]
_TEXTS = {"type": "array", "items": {"type": "string"}}

OptionText = Annotated[Text, BeforeValidator(_scalar_text)]
Options = Annotated[
    dict[Text, OptionText],
    BeforeValidator(_present),
    WithJsonSchema(
        {"anyOf": [{"type": "object", "additionalProperties": {"anyOf": _SCALARS}}, {"type": "null"}]}
    ),
]
Texts = Annotated[
    list[Text], BeforeValidator(_null_as_empty), WithJsonSchema({"anyOf": [_TEXTS, {"type": "null"}]})
]
NO_CONTROLS: dict[str, Any] = {"pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"}
"""Of ids, as the catalog judges them."""


class _Forgiving(Body):
    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_reads_add(cls, value: Any) -> Any:
        if isinstance(value, dict) and not _SHOWN_ONLY.isdisjoint(value):
            return {key: one for key, one in value.items() if key not in _SHOWN_ONLY}
        return value


class InventoryBody(Body):
    """Stock of one variant, absolute. A field that is absent or null stays as it is."""

    track_inventory: Flag | None = None
    quantity_on_hand: Int64 | None = None
    reserved_quantity: Int64 | None = None
    allow_backorder: Flag | None = None
    updated_at: Instant | None = Field(
        default=None, description="The source's clock: older than what is stored means ignored."
    )

    def given(self) -> InventoryInput:
        """The stock for the catalog."""
        return InventoryInput(
            self.track_inventory,
            self.quantity_on_hand,
            self.reserved_quantity,
            self.allow_backorder,
            self.updated_at,
        )


class VariantBody(_Forgiving):
    """One variant. Prices are whole minor units of the store's currency (1999 is 19.99 EUR)."""

    id: Text = Field(
        min_length=1,
        max_length=200,
        description="Unique in the store.",
        examples=["TEE-1-RED-M"],
        json_schema_extra=NO_CONTROLS,
    )
    sku: Text | None = None
    link: Text | None = None
    price: Int64 | None = Field(default=None, examples=[1999])
    special_price: Int64 | None = None
    special_price_start: Instant | None = None
    special_price_end: Instant | None = None
    condition: Text | None = Field(default=None, description="new, refurbished or used.")
    thumbnail: Text | None = None
    images: Texts = Field(default_factory=list)
    ean: Text | None = None
    upc: Text | None = None
    barcode: Text | None = None
    options: Options = Field(default_factory=dict, examples=[{"Color": "Red", "Size": "M"}])
    availability: Text | None = Field(
        default=None,
        description="Used only when stock is not tracked.",
        examples=["in stock"],
        json_schema_extra={"anyOf": [{"type": "string", "enum": list(AVAILABILITIES)}, {"type": "null"}]},
    )
    inventory: InventoryBody | None = Field(default=None, description="Absent: the stock is left alone.")

    def given(self) -> VariantInput:
        """The variant for the catalog."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "inventory"}
        return VariantInput(inventory=self.inventory.given() if self.inventory else None, **values)


class ProductBody(_Forgiving):
    """One product with all its variants: variants that are missing here are deleted."""

    id: Text | None = Field(default=None, description="May stand here too; the path rules.")
    title: Text | None = Field(default=None, examples=["T-shirt"])
    subtitle: Text | None = None
    description: Text | None = None
    slug: Text | None = Field(default=None, examples=["t-shirt"])
    link: Text | None = None
    status: Literal["draft", "active", "archived"] = "active"
    visibility: Literal["public", "private"] = "public"
    brand: Text | None = None
    vendor: Text | None = None
    thumbnail: Text | None = None
    images: Texts = Field(default_factory=list)
    categories: Texts = Field(
        default_factory=list, description="Outer to inner.", examples=[["Clothing", "Shirts"]]
    )
    google_product_category: Text | None = None
    source: Text = Field(
        default="api",
        min_length=1,
        max_length=200,
        description="Who owns the product: `api`, `meta` or a feed's name.",
        json_schema_extra=NO_CONTROLS,
    )
    updated_at: Instant | None = Field(
        default=None,
        description="The source's clock: older than what is stored means ignored, and the answer says so.",
    )
    variants: list[VariantBody] = Field(json_schema_extra={"maxItems": MAX_VARIANTS})

    def given(self, product_id: str) -> ProductInput:
        """The product for the catalog."""
        left_out = {"id", "variants"}
        values = {name: getattr(self, name) for name in type(self).model_fields if name not in left_out}
        return ProductInput(id=product_id, variants=[variant.given() for variant in self.variants], **values)


class BatchProduct(ProductBody):
    """One product of a batch."""

    id: Text = Field(min_length=1, max_length=200, json_schema_extra=NO_CONTROLS)


class _Rows:
    """A list whose entries are checked one by one later, so that a bad one does not refuse the others."""

    def __init__(self, kind: type[Body], most: int) -> None:
        self._kind = kind
        self._most = most

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # The wrapped schema only documents; the function never hands anything on to it.
        return core_schema.no_info_wrap_validator_function(
            self._rows, core_schema.list_schema(handler.generate_schema(self._kind), max_length=self._most)
        )

    def _rows(self, value: Any, _: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError("must be a list")  # noqa: TRY004 - becomes a fault of the field
        if len(value) > self._most:
            raise ValueError(f"must have at most {self._most:,} entries; this one has {len(value):,}")
        return value


class ProductBatch(Body):
    """Up to 1,000 products. Good ones go in, bad ones are named."""

    products: Annotated[list[Any], _Rows(BatchProduct, 1_000)]


class InventoryBatchItem(InventoryBody):
    """Stock of one variant of a batch."""

    variant_id: Text = Field(min_length=1, max_length=200, json_schema_extra=NO_CONTROLS)


class InventoryBatch(Body):
    """Stock of up to 5,000 variants."""

    items: list[InventoryBatchItem] = Field(max_length=5_000)


class ProductResult(View):
    """What became of a product."""

    product_id: str
    variants: int = Field(description="Live variants afterwards.")
    changed: int = Field(description="Variants whose item may look different.")
    enqueued: int = Field(description="Variants that are looked at again because of it.")
    stale: bool = Field(description="The stored product carries a later source time: the body was ignored.")


class RejectedProduct(View):
    """A product of a batch that did not go in."""

    index: int
    id: str | None
    error_code: str
    message: str
    details: list[ErrorDetailBody]


class BatchResult(View):
    """What became of a batch."""

    accepted: int
    changed: int
    enqueued: int
    rejected: list[RejectedProduct]


class InventoryResult(View):
    """What became of stock."""

    accepted: int
    changed: int
    enqueued: int
    missing: list[str] = Field(description="Ids of no live variant of the store.")
    stale: list[str] = Field(description="Variants whose stored stock carries a later source time.")


class Inventory(View):
    """Stock of one variant."""

    track_inventory: bool | None
    quantity_on_hand: int | None
    reserved_quantity: int | None
    allow_backorder: bool | None
    updated_at: datetime | None


class Variant(View):
    """One variant as it is stored."""

    id: str
    sku: str | None
    link: str | None
    price: int | None
    special_price: int | None
    special_price_start: datetime | None
    special_price_end: datetime | None
    condition: str | None
    thumbnail: str | None
    images: list[str]
    ean: str | None
    upc: str | None
    barcode: str | None
    options: dict[str, str]
    availability: str | None
    inventory: Inventory | None
    href: str = Field(description="Path of the item.")


class ProductSyncView(View):
    """How the product's variants stand at Meta."""

    counts: dict[Status, int] = Field(description="Variants by status.")
    worst_status: Status | None
    last_sync_at: datetime | None


class Product(View):
    """One product as it is stored, with how it stands at Meta."""

    id: str
    title: str | None
    subtitle: str | None
    description: str | None
    slug: str | None
    link: str | None
    status: str
    visibility: str
    brand: str | None
    vendor: str | None
    thumbnail: str | None
    images: list[str]
    categories: list[str]
    google_product_category: str | None
    source: str
    updated_at: datetime | None = Field(description="The source's clock.")
    variants: list[Variant]
    created_at: datetime
    changed_at: datetime
    href: str
    sync: ProductSyncView

    @classmethod
    def of(cls, stored: StoredProduct, sync: ProductSync) -> Product:
        """The product as answered."""
        given = stored.product
        shown = {name: getattr(given, name) for name in ProductInput.__slots__ if name != "variants"}
        return cls(
            **shown,
            variants=[_variant(variant) for variant in given.variants],
            created_at=stored.created_at,
            changed_at=stored.changed_at,
            href=href("/catalog/products", given.id),
            sync=ProductSyncView.model_validate(sync),
        )


def _variant(given: VariantInput) -> Variant:
    shown = {name: getattr(given, name) for name in VariantInput.__slots__ if name != "inventory"}
    stock = Inventory.model_validate(given.inventory) if given.inventory else None
    return Variant(**shown, inventory=stock, href=href("/admin/meta/items", given.id))


class ProductAnswer(Answer):
    data: Product


class ProductPage(PagedAnswer):
    data: list[Product]


class ProductResultAnswer(Answer):
    data: ProductResult


class BatchResultAnswer(Answer):
    data: BatchResult


class InventoryResultAnswer(Answer):
    data: InventoryResult
