"""The catalog's own reads and writes, so that edits in a simulation go through the code of the product.

Search documents have no table here: nothing in the pipeline reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from meta_sync.catalog import inventory_write, products_write, repository, states
from tests.simulation.memory import Row, Rows, Table, Transaction, twin

__all__ = ["jsonb"]


def jsonb(text: str) -> Any:
    """An object in the order in which PostgreSQL keeps its keys: by length, then by bytes."""
    value = json.loads(text)
    return {key: value[key] for key in sorted(value, key=lambda name: (len(name.encode()), name.encode()))}


@lru_cache(maxsize=1024)
def _array(literal: str) -> tuple[str, ...]:
    """The values of ``catalog.arrays.array_literal``, which escapes as JSON does."""
    return tuple(json.loads(f"[{literal[1:-1]}]", strict=False))


def _named(t: Transaction, table: str, column: str, p: Mapping[str, Any]) -> list[Row]:
    """Rows of the store whose column has one of the ids."""
    ids = set(p["ids"])
    return [row for row in getattr(t, table) if row["store_id"] == p["store_id"] and row[column] in ids]


@twin(repository._CREATION_LOCK)
def creation_lock(t: Transaction, p: Mapping[str, Any]) -> Rows:
    # Transactions do not overlap here.
    del t, p
    return Rows([(None,)])


@twin(repository._PRODUCT_IDS)
def product_ids(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows((row["product_id"],) for row in _named(t, "products", "product_id", p))


@twin(repository._OWNERS)
def owners(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows((row["variant_id"], row["product_id"]) for row in _named(t, "variants", "variant_id", p))


@twin(repository._LOCK_PRODUCTS)
def lock_products(t: Transaction, p: Mapping[str, Any]) -> Rows:
    rows = sorted(_named(t, "products", "product_id", p), key=lambda row: row["product_id"])
    return Rows(
        (
            row["product_id"],
            row["status"],
            row["visibility"],
            row["source"],
            row["deleted_at"] is not None,
            *(row[name] for name in states.PRODUCT_CLOCKS),
            *(row[name] for name in repository.PRODUCT_CONTENT),
        )
        for row in rows
    )


@twin(repository._VARIANTS)
def variants_of(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows(
        (
            row["variant_id"],
            row["product_id"],
            row["position"],
            row["deleted_at"] is not None,
            *(row[name] for name in states.VARIANT_NOTES),
            *(row[name] for name in repository.VARIANT_OFFER),
            *(row[name] for name in repository.VARIANT_CONTENT),
        )
        for row in _named(t, "variants", "product_id", p)
    )


@twin(repository._LIVE_VARIANTS)
def live_variants(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows(
        (row["variant_id"], row["product_id"])
        for row in _named(t, "variants", "variant_id", p)
        if row["deleted_at"] is None
    )


@twin(repository._LOCK_STOCK)
def lock_stock(t: Transaction, p: Mapping[str, Any]) -> Rows:
    rows = sorted(_named(t, "inventory", "variant_id", p), key=lambda row: row["variant_id"])
    return Rows(tuple(row[name] for name in inventory_write._COLUMNS) for row in rows)


def _given(columns: Sequence[str], p: Mapping[str, Any]) -> list[Row]:
    """The rows of array parameters, one per column, in the order of their first column."""
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*(p[name] for name in columns), strict=True)
    ]
    return sorted(rows, key=lambda row: str(row[columns[0]]))


def _upsert(t: Transaction, table: Table, columns: Sequence[str], p: Mapping[str, Any]) -> Rows:
    rows = _given(columns, p)
    for values in rows:
        version = t.nextval("version_seq")
        is_deleted = values.pop("deleted")
        for name in ("images", "categories"):
            if name in values:
                values[name] = list(_array(values[name]))
        if "options" in values:
            values["options"] = jsonb(values["options"])
        known = table.get(p["store_id"], values[columns[0]])
        if known is None:
            table.insert(
                t.now,
                store_id=p["store_id"],
                version=version,
                deleted_at=t.now if is_deleted else None,
                **values,
            )
        else:
            deleted_at = (known["deleted_at"] or t.now) if is_deleted else None
            table.update(known, version=version, updated_at=t.now, deleted_at=deleted_at, **values)
    return Rows(rowcount=len(rows))


@twin(products_write._UPSERT_PRODUCTS)
def upsert_products(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _upsert(t, t.products, products_write._PRODUCT_COLUMNS, p)


@twin(products_write._UPSERT_VARIANTS)
def upsert_variants(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _upsert(t, t.variants, products_write._VARIANT_COLUMNS, p)


def _move_clocks(t: Transaction, table: Table, key: str, clocks: Sequence[str], p: Mapping[str, Any]) -> Rows:
    changed = 0
    for values in _given((key, *clocks), p):
        row = table.get(p["store_id"], values.pop(key))
        if row is not None:
            table.update(row, **values)
            changed += 1
    return Rows(rowcount=changed)


@twin(products_write._MOVE_CLOCKS)
def move_product_clocks(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _move_clocks(t, t.products, "product_id", states.PRODUCT_CLOCKS, p)


@twin(products_write._MOVE_VARIANT_NOTES)
def move_variant_notes(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _move_clocks(t, t.variants, "variant_id", states.VARIANT_NOTES, p)


@twin(products_write._UPSERT_DOCUMENTS)
def upsert_documents(t: Transaction, p: Mapping[str, Any]) -> Rows:
    del t
    return Rows(rowcount=len(p["variant_id"]))


@twin(inventory_write._INSERT)
def insert_stock(t: Transaction, p: Mapping[str, Any]) -> Rows:
    inserted = []
    for values in _given(inventory_write._COLUMNS, p):
        version = t.nextval("version_seq")
        if t.inventory.get(p["store_id"], values["variant_id"]) is None:
            t.inventory.insert(t.now, store_id=p["store_id"], version=version, **values)
            inserted.append((values["variant_id"],))
    return Rows(inserted)


@twin(inventory_write._UPDATE)
def update_stock(t: Transaction, p: Mapping[str, Any]) -> Rows:
    changed = 0
    for values in _given(inventory_write._COLUMNS, p):
        row = t.inventory.get(p["store_id"], values["variant_id"])
        if row is not None:
            t.inventory.update(row, version=t.nextval("version_seq"), updated_at=t.now, **values)
            changed += 1
    return Rows(rowcount=changed)


@twin(inventory_write._MOVE_CLOCKS)
def move_stock_clocks(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _move_clocks(t, t.inventory, "variant_id", states.STOCK_CLOCKS, p)
