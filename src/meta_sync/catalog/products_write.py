"""Writing the difference that a working set holds: one statement per table, keys sorted. Never commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.arrays import array_literal, columns_of
from meta_sync.catalog.inventory_write import moving_clocks, write_stock
from meta_sync.catalog.models import Change, ChangeSink, Lane
from meta_sync.catalog.states import (
    PRODUCT_CLOCKS,
    PRODUCT_CONTENT,
    VARIANT_CLOCKS,
    VARIANT_CONTENT,
    VARIANT_NOTES,
    VARIANT_OFFER,
    ProductState,
    VariantState,
    search_document,
)
from meta_sync.catalog.working_set import WorkingSet

__all__ = ["save_working_set"]

_ARRAYS = frozenset({"images", "categories"})
_TYPES = {
    "price": "bigint",
    "special_price": "bigint",
    "special_price_start": "timestamptz",
    "special_price_end": "timestamptz",
    **dict.fromkeys((*PRODUCT_CLOCKS, *VARIANT_CLOCKS), "timestamptz"),
    "position": "integer",
    "deleted": "boolean",
}
"""Element types of the array parameters; everything else is text."""
_PRODUCT_COLUMNS = (
    "product_id",
    "status",
    "visibility",
    "source",
    "deleted",
    *PRODUCT_CLOCKS,
    *PRODUCT_CONTENT,
)
_VARIANT_COLUMNS = (
    "variant_id",
    "product_id",
    "position",
    "deleted",
    *VARIANT_NOTES,
    *VARIANT_OFFER,
    *VARIANT_CONTENT,
)


def _upsert(table: str, key: str, columns: Sequence[str]) -> str:
    """An upsert of a soft-deletable table from one array parameter per column."""
    parameters = ", ".join(f"CAST(:{name} AS {_TYPES.get(name, 'text')}[])" for name in columns)
    stored = [name for name in columns if name != "deleted"]
    values = ", ".join(_value(name) for name in stored)
    updates = ", ".join(f"{name} = excluded.{name}" for name in stored if name != key)
    return f"""
    INSERT INTO {table} AS t (store_id, version, deleted_at, {", ".join(stored)})
    SELECT :store_id, nextval('version_seq'), CASE WHEN u.deleted THEN now() END, {values}
    FROM unnest({parameters}) AS u ({", ".join(columns)})
    ORDER BY u.{key} COLLATE "C"
    ON CONFLICT (store_id, {key}) DO UPDATE
    SET version = excluded.version, updated_at = now(), {updates},
        deleted_at = CASE WHEN excluded.deleted_at IS NOT NULL THEN coalesce(t.deleted_at, excluded.deleted_at) END
    """


def _value(name: str) -> str:
    if name in _ARRAYS:
        return f"CAST(u.{name} AS text[])"
    return "CAST(u.options AS jsonb)" if name == "options" else f"u.{name}"


_UPSERT_PRODUCTS = text(_upsert("products", "product_id", _PRODUCT_COLUMNS))
_UPSERT_VARIANTS = text(_upsert("variants", "variant_id", _VARIANT_COLUMNS))
_MOVE_CLOCKS = text(moving_clocks("products", "product_id", PRODUCT_CLOCKS))
_MOVE_VARIANT_NOTES = text(moving_clocks("variants", "variant_id", VARIANT_CLOCKS, texts=("source",)))
_UPSERT_DOCUMENTS = text(
    """
    INSERT INTO search_documents (store_id, variant_id, document)
    SELECT :store_id, u.variant_id, u.document
    FROM unnest(CAST(:variant_id AS text[]), CAST(:document AS text[])) AS u (variant_id, document)
    ORDER BY u.variant_id COLLATE "C"
    ON CONFLICT (store_id, variant_id) DO UPDATE SET document = excluded.document
    """
)


async def save_working_set(
    connection: AsyncConnection,
    store_id: str,
    working: WorkingSet,
    sink: ChangeSink,
    *,
    new_lane: Lane = Lane.CONTENT,
) -> dict[str, str]:
    """Write what differs and tell the sink; the variants enqueued, each with the product whose body caused it.

    Raises
    ------
    ConcurrentWriteError
        Another write made one of the inventory records meanwhile.
    """
    if changed_products := working.changed_products():
        await _execute(
            connection, _UPSERT_PRODUCTS, store_id, _PRODUCT_COLUMNS, map(_product_row, changed_products)
        )
    if moved_clocks := working.moved_clocks():
        rows = [(product.product_id, *product.clocks) for product in moved_clocks]
        await _execute(connection, _MOVE_CLOCKS, store_id, ("product_id", *PRODUCT_CLOCKS), rows)
    if changed_variants := working.changed_variants():
        await _execute(
            connection, _UPSERT_VARIANTS, store_id, _VARIANT_COLUMNS, map(_variant_row, changed_variants)
        )
    if moved_variants := working.moved_variant_notes():
        notes = [(variant.variant_id, *variant.notes) for variant in moved_variants]
        await _execute(connection, _MOVE_VARIANT_NOTES, store_id, ("variant_id", *VARIANT_NOTES), notes)
    await write_stock(connection, store_id, working)
    if documents := _changed_documents(working):
        await _execute(connection, _UPSERT_DOCUMENTS, store_id, ("variant_id", "document"), documents)
    changes = working.changes(new_lane)
    if changes:
        recorded = [Change(variant_id, changes[variant_id][0]) for variant_id in sorted(changes)]
        await sink.record(connection, store_id, recorded)
    return {variant_id: cause for variant_id, (_, cause) in changes.items()}


async def _execute(
    connection: AsyncConnection, statement: Any, store_id: str, names: Sequence[str], rows: Any
) -> None:
    await connection.execute(statement, {"store_id": store_id, **columns_of(names, rows)})


def _product_row(product: ProductState) -> tuple[Any, ...]:
    texts = list(product.content)
    for position, name in enumerate(PRODUCT_CONTENT):
        if name in _ARRAYS:
            texts[position] = array_literal(texts[position])
    return (
        product.product_id,
        product.status,
        product.visibility,
        product.source,
        product.deleted,
        *product.clocks,
        *texts,
    )


def _variant_row(variant: VariantState) -> tuple[Any, ...]:
    texts = list(variant.content)
    for position, name in enumerate(VARIANT_CONTENT):
        if name in _ARRAYS:
            texts[position] = array_literal(texts[position])
        elif name == "options":
            texts[position] = orjson.dumps(texts[position]).decode()
    return (
        variant.variant_id,
        variant.product_id,
        variant.position,
        variant.deleted,
        *variant.notes,
        *variant.offer,
        *texts,
    )


def _changed_documents(working: WorkingSet) -> list[tuple[str, str]]:
    """Search rows that differ. Tombstones keep theirs in step: their items can still be looked up."""
    found = []
    for variant_id in sorted(working.variants):
        after = working.variants[variant_id]
        before = working.variants_before.get(variant_id)
        product_after = working.products[after.product_id]
        if before is None and after.deleted:
            continue
        if before is not None:
            product_before = working.products_before[before.product_id]
            if (before, product_before) == (after, product_after):
                continue
            if search_document(product_before, before) == search_document(product_after, after):
                continue
        found.append((variant_id, search_document(product_after, after)))
    return found
