"""Says in words what a row would make of an item. Pure; for dry runs, which show it, and never decides anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from meta_sync.catalog.ingest.import_tally import quotable
from meta_sync.catalog.models import ProductInput, VariantInput
from meta_sync.catalog.repository import PRODUCT_CONTENT, VARIANT_CONTENT, VARIANT_OFFER
from meta_sync.catalog.states import ProductState, StockState, VariantState
from meta_sync.catalog.working_set import WorkingSet
from meta_sync.core.currency import minor_unit_exponent

__all__ = ["describe_change", "describe_new"]

_LONGEST_SHOWN_CHARS = 60
_MOST_DIFFERENCES = 8
"""More are counted rather than listed: the line is for a person who looks through thousands."""
_MONEY = frozenset(("price", "special price"))

_Difference = tuple[str, Any, Any]


def describe_new(product: ProductInput, variant: VariantInput, currency: str) -> str:
    """One line about an item that the store does not have yet."""
    parts = [product.title or product.id]
    if variant.price is not None:
        parts.append(_money(variant.price, currency))
    return quotable(", ".join(parts), 2 * _LONGEST_SHOWN_CHARS)


def describe_change(
    working: WorkingSet, variant_id: str, *, with_product: bool, currency: str
) -> tuple[str, str]:
    """The fields that differ, and per field what it is and what it would be (``price 19.99 -> 17.99 EUR``).

    ``with_product``: the row also changed the fields of the product.
    """
    after = working.variants[variant_id]
    before = working.variants_before[variant_id]
    found = list(_variant_differences(before, after))
    found += _stock_differences(working.stock_before.get(variant_id), working.stock.get(variant_id))
    if with_product:
        found += _product_differences(
            working.products_before.get(after.product_id), working.products[after.product_id]
        )
    lines = [_line(*difference, currency) for difference in found[:_MOST_DIFFERENCES]]
    if len(found) > _MOST_DIFFERENCES:
        lines.append(f"and {len(found) - _MOST_DIFFERENCES} more")
    # Clocks and the order of a product's variants are written as well, and are nothing to look at.
    sentence = "; ".join(lines) or "only its time or its place in the product"
    return ", ".join(name for name, _, _ in found), sentence


def _variant_differences(before: VariantState, after: VariantState) -> Iterator[_Difference]:
    if before.product_id != after.product_id:
        yield "product", before.product_id, after.product_id
    yield from _by_name(VARIANT_OFFER, before.offer, after.offer)
    yield from _by_name(VARIANT_CONTENT, before.content, after.content)


def _product_differences(before: ProductState | None, after: ProductState) -> Iterator[_Difference]:
    if before is None:
        return
    if before.deleted:
        yield "product deleted", True, False
    for name in ("status", "visibility", "source"):
        if getattr(before, name) != getattr(after, name):
            yield name, getattr(before, name), getattr(after, name)
    for label, old, new in _by_name(PRODUCT_CONTENT, before.content, after.content):
        yield f"product {label}" if label in {"link", "thumbnail", "images"} else label, old, new


def _stock_differences(before: StockState | None, after: StockState | None) -> Iterator[_Difference]:
    if after is None:
        return
    for name in ("track_inventory", "quantity_on_hand", "reserved_quantity", "allow_backorder"):
        old, new = getattr(before, name, None), getattr(after, name)
        if old != new:
            yield name.replace("_", " "), old, new


def _by_name(names: Sequence[str], before: Sequence[Any], after: Sequence[Any]) -> Iterator[_Difference]:
    for name, old, new in zip(names, before, after, strict=True):
        if old != new:
            yield name.replace("_", " "), old, new


def _line(name: str, before: Any, after: Any, currency: str) -> str:
    if name in _MONEY:
        if before is None or after is None:
            old, new = ("none" if amount is None else _money(amount, currency) for amount in (before, after))
            return f"{name} {old} -> {new}"
        return f"{name} {_amount(before, currency)} -> {_money(after, currency)}"
    old, new = _shown(before), _shown(after)
    # Long texts often differ behind the cut.
    return f"{name} differs" if old == new else f"{name} {old} -> {new}"


def _shown(value: Any) -> str:
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        value = ", ".join(f"{key}: {one}" for key, one in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        value = ", ".join(map(str, value))
    return quotable(str(value), _LONGEST_SHOWN_CHARS)


def _money(amount: int, currency: str) -> str:
    return f"{_amount(amount, currency)} {currency}"


def _amount(amount: int, currency: str) -> str:
    exponent = minor_unit_exponent(currency)
    if not exponent:
        return str(amount)
    whole, rest = divmod(amount, 10**exponent)
    return f"{whole}.{rest:0{exponent}d}"
