"""What may be stored at all. Pure: whether an item may go to Meta is the mapping's business, not decided here.

Fields are named as the caller wrote them (``variants[3].specialPrice``), messages are sentences without a subject.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput
from meta_sync.core.errors import ErrorDetail
from meta_sync.core.text import text_fault

__all__ = [
    "AVAILABILITIES",
    "MAX_CLOCK_LEAD",
    "MAX_ID_CHARS",
    "MAX_VARIANTS",
    "STATUSES",
    "VISIBILITIES",
    "clock_faults",
    "id_fault",
    "validate_inventory",
    "validate_product",
    "validate_products",
]

AVAILABILITIES = ("in stock", "out of stock", "available for order", "preorder")
STATUSES = ("draft", "active", "archived")
VISIBILITIES = ("public", "private")

MAX_ID_CHARS = 200
"""Longer ids would not fit twice into an index entry at four bytes a character."""
MAX_VARIANTS = 2_000
"""Variants of one product: all of them are read and locked together."""
MAX_CLOCK_LEAD = timedelta(minutes=10)
"""A source clock further ahead is wrong, and believing it would make every later change look stale."""

_MAX_INTEGER = 2**63 - 1

_PRODUCT_TEXTS = (
    ("title", "title"),
    ("subtitle", "subtitle"),
    ("description", "description"),
    ("slug", "slug"),
    ("link", "link"),
    ("brand", "brand"),
    ("vendor", "vendor"),
    ("thumbnail", "thumbnail"),
    ("google_product_category", "googleProductCategory"),
)
_VARIANT_TEXTS = (
    ("sku", "sku"),
    ("link", "link"),
    ("condition", "condition"),
    ("thumbnail", "thumbnail"),
    ("ean", "ean"),
    ("upc", "upc"),
    ("barcode", "barcode"),
)
_QUANTITIES = (("quantity_on_hand", "quantityOnHand"), ("reserved_quantity", "reservedQuantity"))


def validate_product(product: ProductInput, *, now: datetime | None = None) -> list[ErrorDetail]:
    """Every fault of one product with its variants; an empty list means that it can be stored.

    Without ``now`` the source clocks are not compared with the present.
    """
    return list(_product_faults(product, now))


def validate_products(
    products: Sequence[ProductInput], *, now: datetime | None = None
) -> dict[int, list[ErrorDetail]]:
    """Faults by index, for the products that have any: their own, and a variant that an earlier good product names too."""
    faults: dict[int, list[ErrorDetail]] = {}
    owners: dict[str, str] = {}
    for index, product in enumerate(products):
        found = validate_product(product, now=now)
        found.extend(
            ErrorDetail(
                f"variants[{position}].id", f"is a variant of product {owners[variant.id]} in the same batch"
            )
            for position, variant in enumerate(product.variants)
            if owners.get(variant.id, product.id) != product.id
        )
        if found:
            faults[index] = found
        else:
            owners.update((variant.id, product.id) for variant in product.variants)
    return faults


def validate_inventory(
    inventory: InventoryInput, *, prefix: str = "", now: datetime | None = None
) -> Iterator[ErrorDetail]:
    """Faults of one stock body, each field named behind the prefix."""
    for attribute, name in _QUANTITIES:
        yield from _integer(getattr(inventory, attribute), prefix + name)
    yield from _instant(inventory.updated_at, f"{prefix}updatedAt", now)


def clock_faults(clock: datetime | None, field: str, now: datetime) -> Iterator[ErrorDetail]:
    """Faults of a source's clock, seen from now."""
    yield from _instant(clock, field, now)


def id_fault(value: str) -> str | None:
    """Why a text cannot be an id, or ``None`` when it can."""
    if not 1 <= len(value) <= MAX_ID_CHARS:
        return f"must have 1 to {MAX_ID_CHARS} characters"
    if value.isascii() and value.isprintable():
        return None
    if fault := text_fault(value):
        return fault
    if any(unicodedata.category(character) == "Cc" for character in value):
        return "must not contain control characters"
    return None


def _product_faults(product: ProductInput, now: datetime | None) -> Iterator[ErrorDetail]:
    yield from _identifier(product.id, "id")
    yield from _identifier(product.source, "source")
    yield from _texts(product, _PRODUCT_TEXTS, "")
    yield from _list(product.images, "images")
    yield from _list(product.categories, "categories")
    yield from _word(product.status, STATUSES, "status")
    yield from _word(product.visibility, VISIBILITIES, "visibility")
    yield from _instant(product.updated_at, "updatedAt", now)
    if len(product.variants) > MAX_VARIANTS:
        yield ErrorDetail("variants", f"must have at most {MAX_VARIANTS:,} entries")
        return
    first: dict[str, int] = {}
    for position, variant in enumerate(product.variants):
        prefix = f"variants[{position}]."
        yield from _variant_faults(variant, prefix, now)
        if (earlier := first.setdefault(variant.id, position)) != position:
            yield ErrorDetail(f"{prefix}id", f"is the id of variants[{earlier}] too")


def _variant_faults(variant: VariantInput, prefix: str, now: datetime | None) -> Iterator[ErrorDetail]:
    yield from _identifier(variant.id, f"{prefix}id")
    yield from _texts(variant, _VARIANT_TEXTS, prefix)
    yield from _list(variant.images, f"{prefix}images")
    yield from _integer(variant.price, f"{prefix}price")
    yield from _integer(variant.special_price, f"{prefix}specialPrice")
    yield from _instant(variant.special_price_start, f"{prefix}specialPriceStart", None)
    yield from _instant(variant.special_price_end, f"{prefix}specialPriceEnd", None)
    if variant.availability is not None:
        yield from _word(variant.availability, AVAILABILITIES, f"{prefix}availability")
    for name, value in variant.options.items():
        if fault := text_fault(name) or text_fault(value):
            yield ErrorDetail(f"{prefix}options", f"{fault} (in an option's name or value)")
    if variant.inventory is not None:
        yield from validate_inventory(variant.inventory, prefix=f"{prefix}inventory.", now=now)


def _identifier(value: str, field: str) -> Iterator[ErrorDetail]:
    if fault := id_fault(value):
        yield ErrorDetail(field, fault)


def _texts(
    given: ProductInput | VariantInput, names: Sequence[tuple[str, str]], prefix: str
) -> Iterator[ErrorDetail]:
    for attribute, name in names:
        value: str | None = getattr(given, attribute)
        if value is not None and (fault := text_fault(value)):
            yield ErrorDetail(prefix + name, fault)


def _list(values: Sequence[str], field: str) -> Iterator[ErrorDetail]:
    for position, value in enumerate(values):
        if fault := text_fault(value):
            yield ErrorDetail(f"{field}[{position}]", fault)


def _word(value: str, words: Sequence[str], field: str) -> Iterator[ErrorDetail]:
    if value not in words:
        yield ErrorDetail(field, f"must be one of: {', '.join(words)}")


def _integer(value: int | None, field: str) -> Iterator[ErrorDetail]:
    if value is not None and not 0 <= value <= _MAX_INTEGER:
        yield ErrorDetail(field, f"must be a whole number from 0 to {_MAX_INTEGER}")


def _instant(value: datetime | None, field: str, now: datetime | None) -> Iterator[ErrorDetail]:
    if value is None:
        return
    if value.tzinfo is None:
        yield ErrorDetail(field, "must have an offset, such as Z or +01:00")
        return
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        yield ErrorDetail(field, "must lie within the years 1 to 9999 in UTC")
        return
    if now is not None and moment > now + MAX_CLOCK_LEAD:
        yield ErrorDetail(
            field,
            f"must not be more than {MAX_CLOCK_LEAD.seconds // 60} minutes ahead of this server's clock",
        )
