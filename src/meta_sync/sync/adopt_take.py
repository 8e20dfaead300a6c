"""Writes single values that Meta shows into the rows of the store's catalog. Pure: what a person's edit makes of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from meta_sync.catalog.states import (
    PRODUCT_CONTENT,
    VARIANT_CONTENT,
    VARIANT_OFFER,
    ProductState,
    VariantState,
)
from meta_sync.catalog.validation import AVAILABILITIES
from meta_sync.catalog.working_set import WorkingSet
from meta_sync.sync.adopt_mapping import price_subunits
from meta_sync.sync.adopt_models import NotDoneCode, UnreadableItemError
from meta_sync.sync.mapping_sale import OPEN_END, OPEN_START
from meta_sync.sync.mapping_words import option_field

__all__ = ["MONEY_FIELDS", "TAKEABLE", "take_values"]

MONEY_FIELDS = frozenset({"price", "sale_price", "sale_price_effective_date"})
"""Decided about together: a sale price of ours above a price of Meta's would be none."""

_OF_PRODUCT = {
    "title": "title",
    "description": "description",
    "brand": "brand",
    "google_product_category": "google_product_category",
}
_OF_VARIANT = {"link": "link", "image_link": "thumbnail", "condition": "condition", "mpn": "sku"}
_OPTIONS = frozenset({"color", "size", "material", "pattern", "gender", "age_group"})
_NEVER_EMPTY = frozenset({"title", "price", "availability", "condition"})
"""Meta shows nothing here only where it shows nothing at all; that is no value to take."""

TAKEABLE = (
    MONEY_FIELDS
    | _OF_PRODUCT.keys()
    | _OF_VARIANT.keys()
    | _OPTIONS
    | {"gtin", "product_type", "additional_image_link", "availability"}
)
"""Fields whose value the catalog has a place for."""


def take_values(working: WorkingSet, variant_id: str, values: Mapping[str, Any], *, currency: str) -> None:
    """Write the values, under the names and in the form we send, into the variant and its product.

    Raises
    ------
    UnreadableItemError
        A value has no place: it is empty where the catalog needs one, or follows from the stock.
    """
    if any(values[name] is None for name in _NEVER_EMPTY & values.keys()):
        raise UnreadableItemError(NotDoneCode.NOTHING_CHOSEN)
    variant = working.variants[variant_id]
    working.products[variant.product_id] = _product(working.products[variant.product_id], values)
    variant = _content(variant, values)
    variant = _offer(variant, values, currency)
    if "availability" in values:
        stock = working.stock.get(variant_id)
        if stock is not None and stock.track_inventory:
            raise UnreadableItemError(NotDoneCode.STOCK_DECIDES)
        word = values["availability"] if values["availability"] in AVAILABILITIES else "out of stock"
        variant = _with_offer(variant, availability=word)
    working.variants[variant_id] = variant


def _product(product: ProductState, values: Mapping[str, Any]) -> ProductState:
    content = dict(zip(PRODUCT_CONTENT, product.content, strict=True))
    content |= {ours: values[name] for name, ours in _OF_PRODUCT.items() if name in values}
    if "product_type" in values:
        parts = (values["product_type"] or "").split(">")
        content["categories"] = [title for part in parts if (title := part.strip())]
    return replace(product, content=tuple(content.values()))


def _content(variant: VariantState, values: Mapping[str, Any]) -> VariantState:
    content = dict(zip(VARIANT_CONTENT, variant.content, strict=True))
    content |= {ours: values[name] for name, ours in _OF_VARIANT.items() if name in values}
    if "gtin" in values:
        content |= {"ean": None, "upc": None, "barcode": values["gtin"]}
    if "additional_image_link" in values:
        content["images"] = list(values["additional_image_link"] or [])
    if chosen := _OPTIONS & values.keys():
        kept = {name: value for name, value in content["options"].items() if option_field(name) not in chosen}
        given = {name: str(values[name]) for name in sorted(chosen) if values[name] is not None}
        content["options"] = {**kept, **given}
    return replace(variant, content=tuple(content.values()))


def _offer(variant: VariantState, values: Mapping[str, Any], currency: str) -> VariantState:
    if "price" in values:
        variant = _with_offer(variant, price=_subunits(values["price"], currency))
    if "sale_price" in values:
        sale = values["sale_price"]
        start, end = _bounds(values.get("sale_price_effective_date"))
        variant = _with_offer(
            variant,
            special_price=None if sale is None else _subunits(sale, currency),
            special_price_start=start,
            special_price_end=end,
        )
    return variant


def _subunits(sent: str, currency: str) -> int:
    return price_subunits(sent.partition(" ")[0], currency)


def _bounds(window: str | None) -> tuple[datetime | None, datetime | None]:
    if not window:
        return None, None
    start, end = (datetime.fromisoformat(bound) for bound in window.split("/"))
    return (None if start == OPEN_START else start), (None if end == OPEN_END else end)


def _with_offer(variant: VariantState, **changed: Any) -> VariantState:
    offer = dict(zip(VARIANT_OFFER, variant.offer, strict=True)) | changed
    return replace(variant, offer=tuple(offer.values()))
