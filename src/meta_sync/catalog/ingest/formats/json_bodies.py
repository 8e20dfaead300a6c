"""Reads products in our own body from decoded JSON: types only, field by field. What may be stored is judged later.

The API reads the same body with its own schema; the two agree on names, nulls and what a read adds. They part where a
file is not a request: unknown fields are left out with a warning, and a product without variants is only a product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from meta_sync.catalog.ingest.reader import FileNotes
from meta_sync.catalog.ingest.rows import (
    FormatContext,
    ImportedParent,
    ImportedVariant,
    Parsed,
    RowFailure,
    RowWarning,
)
from meta_sync.catalog.ingest.values import quoted
from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput
from meta_sync.core.text import text_fault

__all__ = ["BodyRows"]

_PRODUCT_TEXTS = {
    "title": "title",
    "subtitle": "subtitle",
    "description": "description",
    "slug": "slug",
    "link": "link",
    "brand": "brand",
    "vendor": "vendor",
    "thumbnail": "thumbnail",
    "googleProductCategory": "google_product_category",
}
_VARIANT_TEXTS = ("sku", "link", "condition", "thumbnail", "ean", "upc", "barcode", "availability")
_SHOWN_ONLY = frozenset(("href", "sync", "createdAt", "changedAt"))
"""What a read of the API adds to a body."""
_PRODUCT_KEYS = _SHOWN_ONLY.union(
    _PRODUCT_TEXTS,
    ("id", "status", "visibility", "images", "categories", "source", "updatedAt", "variants"),
)
_VARIANT_KEYS = _SHOWN_ONLY.union(
    _VARIANT_TEXTS,
    ("id", "price", "specialPrice", "specialPriceStart", "specialPriceEnd", "images", "options", "inventory"),
)
_INVENTORY_KEYS = frozenset(
    ("trackInventory", "quantityOnHand", "reservedQuantity", "allowBackorder", "updatedAt")
)
_MOST_TOPICS = 50
"""Remarks about the file that are made one by one."""
_MONEY = "must be a whole number of the currency's smallest unit, such as 1999 for 19.99"


class _FieldError(Exception):
    """A field of the body has a value of the wrong type."""

    def __init__(self, path: str, fault: str, value: object, *, rule: str = "wrong_type") -> None:
        super().__init__(path)
        self.path = path[:200]
        self.message = f"{self.path} {fault}."
        self.value = _shown(value)
        self.rule = rule


@dataclass(slots=True)
class _Fields:
    """One object of the body with the path that leads to it. A null is as good as nothing."""

    values: Mapping[str, object]
    prefix: str
    max_chars: int

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        return None if value is None else self._checked(name, value)

    def identifier(self) -> str:
        value = self.values.get("id")
        if value is None or value == "":
            raise _FieldError(f"{self.prefix}id", "is missing", value, rule="missing_id")
        return self._checked("id", value)

    def flag(self, name: str) -> bool | None:
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise _FieldError(self.prefix + name, "must be true or false", value)

    def integer(self, name: str, fault: str = "must be a whole number") -> int | None:
        value = self.values.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise _FieldError(self.prefix + name, fault, value)

    def instant(self, name: str) -> datetime | None:
        value = self.values.get(name)
        if value is None:
            return None
        fault = "must be an ISO 8601 time such as 2026-05-03T10:00:00+02:00"
        if not isinstance(value, str):
            raise _FieldError(self.prefix + name, fault, value)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise _FieldError(self.prefix + name, fault, value) from None
        try:
            return moment.astimezone(UTC) if moment.tzinfo else moment
        except OverflowError:
            return moment  # refused with the reason where the row is judged

    def texts(self, name: str) -> list[str]:
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise _FieldError(self.prefix + name, "must be a list of texts", value)
        return [self._checked(f"{name}[{place}]", one) for place, one in enumerate(value)]

    def options(self) -> dict[str, str]:
        value = self.values.get("options")
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise _FieldError(f"{self.prefix}options", "must be an object of names and values", value)
        return {
            self._checked("options", name): self._checked(f"options.{name}", _scalar_text(one))
            for name, one in value.items()
            if one is not None
        }

    def _checked(self, name: str, value: object) -> str:
        path = self.prefix + name
        if not isinstance(value, str):
            raise _FieldError(path, "must be a text in quotation marks", value)
        if len(value) > self.max_chars:
            raise _FieldError(
                path,
                f"has {len(value)} characters; at most {self.max_chars} are allowed",
                value,
                rule="too_long",
            )
        if fault := text_fault(value):
            raise _FieldError(path, fault, value, rule="bad_text")
        return value


class BodyRows:
    """Turns the products of one file into what an import takes. One object per file: it remembers what was said."""

    def __init__(self, source: str, context: FormatContext) -> None:
        self._source = source
        self._context = context
        self._notes = FileNotes()

    def read(self, row: int, body: Mapping[str, object]) -> Iterator[Parsed]:
        """One product: its variants, the product alone when it has none, or a failure for each of its items."""
        try:
            product = self._product(body)
            variants = [self._variant(place, one) for place, one in enumerate(_variants(body))]
        except _FieldError as fault:
            yield from _failures(row, body, fault, self._context.max_cell_chars)
            return
        yield from self._remarks(body)
        if not variants:
            yield ImportedParent(row, product)
        for variant in variants:
            yield ImportedVariant(row, product, variant)

    def _product(self, body: Mapping[str, object]) -> ProductInput:
        fields = _Fields(body, "", self._context.max_cell_chars)
        product = ProductInput(
            id=fields.identifier(),
            status=fields.text("status") or "active",
            visibility=fields.text("visibility") or "public",
            images=fields.texts("images"),
            categories=fields.texts("categories"),
            source=self._source,
            updated_at=fields.instant("updatedAt"),
        )
        for name, attribute in _PRODUCT_TEXTS.items():
            setattr(product, attribute, fields.text(name))
        return product

    def _variant(self, place: int, body: object) -> VariantInput:
        if not isinstance(body, dict):
            raise _FieldError(f"variants[{place}]", "must be an object", body)
        fields = _Fields(body, f"variants[{place}].", self._context.max_cell_chars)
        variant = VariantInput(
            id=fields.identifier(),
            price=fields.integer("price", _MONEY),
            special_price=fields.integer("specialPrice", _MONEY),
            special_price_start=fields.instant("specialPriceStart"),
            special_price_end=fields.instant("specialPriceEnd"),
            images=fields.texts("images"),
            options=fields.options(),
            inventory=_inventory(fields),
        )
        for name in _VARIANT_TEXTS:
            setattr(variant, name, fields.text(name))
        return variant

    def _remarks(self, body: Mapping[str, object]) -> Iterator[RowWarning]:
        """What of the body is not read, each name once per file."""
        yield from self._unknown("product", body, _PRODUCT_KEYS)
        if body.get("source") not in {None, self._source} and self._notes.first_time("source"):
            message = "The source in the products is not read: they belong to the source of this import."
            yield RowWarning(0, "source", message, rule="source_left_out")
        for variant in _variants(body):
            if not isinstance(variant, dict):
                continue
            yield from self._unknown("variant", variant, _VARIANT_KEYS)
            stock = variant.get("inventory")
            if isinstance(stock, dict):
                yield from self._unknown("variant's inventory", stock, _INVENTORY_KEYS)

    def _unknown(
        self, where: str, given: Mapping[str, object], known: frozenset[str]
    ) -> Iterator[RowWarning]:
        for name in given:
            if name in known:
                continue
            shown = name[:100]
            if len(self._notes.said) < _MOST_TOPICS:
                if self._notes.first_time(f"{where} {shown}"):
                    message = f"The field {quoted(shown)} of a {where} is not known and was left out."
                    yield RowWarning(0, shown, message, rule="unknown_field")
            elif f"{where} {shown}" not in self._notes.said and self._notes.first_time("many"):
                message = "There are more fields that are not known; they were left out."
                yield RowWarning(0, "file", message, rule="unknown_field")


def _variants(body: Mapping[str, object]) -> list[object]:
    variants = body.get("variants")
    if variants is None:
        return []
    if not isinstance(variants, list):
        raise _FieldError("variants", "must be a list", variants)
    return variants


def _inventory(variant: _Fields) -> InventoryInput | None:
    stock = variant.values.get("inventory")
    if stock is None:
        return None
    if not isinstance(stock, dict):
        raise _FieldError(f"{variant.prefix}inventory", "must be an object", stock)
    fields = _Fields(stock, f"{variant.prefix}inventory.", variant.max_chars)
    return InventoryInput(
        track_inventory=fields.flag("trackInventory"),
        quantity_on_hand=fields.integer("quantityOnHand"),
        reserved_quantity=fields.integer("reservedQuantity"),
        allow_backorder=fields.flag("allowBackorder"),
        updated_at=fields.instant("updatedAt"),
    )


def _failures(
    row: int, body: Mapping[str, object], fault: _FieldError, max_chars: int
) -> Iterator[RowFailure]:
    """The body goes in as a whole or not at all, so each of its items failed. What cannot be an id is none."""
    variants = body.get("variants")
    for variant in (variants if isinstance(variants, list) else None) or [None]:
        given = variant.get("id") if isinstance(variant, dict) else None
        item_id = given if isinstance(given, str) and 0 < len(given) <= max_chars else None
        if item_id is not None and text_fault(item_id):
            item_id = None
        yield RowFailure(row, fault.path, fault.message, item_id, fault.rule, fault.value)


def _scalar_text(value: object) -> object:
    """An option's value as the API reads it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        number = float(value)
        return str(number) if math.isfinite(number) else str(value)
    return str(value) if isinstance(value, int) else value


def _shown(value: object) -> str | None:
    """A value of the file for a finding, cut."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return "[…]" if isinstance(value, list) else "{…}"
    return str(value)[:200]
