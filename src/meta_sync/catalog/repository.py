"""Reading and locking catalog rows for a write. Takes a connection, never commits; nothing here decides anything.

Lock order: the store's creation lock, products, inventory, each by sorted key; intents come after all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BindParameter,
    FromClause,
    Select,
    Text,
    any_,
    bindparam,
    func,
    select,
    text,
    true,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.states import (
    PRODUCT_CLOCKS,
    PRODUCT_CONTENT,
    STOCK_CLOCKS,
    VARIANT_CONTENT,
    VARIANT_NOTES,
    VARIANT_OFFER,
    ProductState,
    StockState,
    VariantState,
)
from meta_sync.catalog.tables import inventory, products, variants
from meta_sync.catalog.working_set import WorkingSet
from meta_sync.core.lookups import row_by_key, rows_with

__all__ = [
    "PRODUCT_CONTENT",
    "VARIANT_CONTENT",
    "VARIANT_OFFER",
    "ConcurrentWriteError",
    "LoadedRows",
    "live_variants",
    "load_rows",
    "load_stock",
    "load_working_set",
    "stock_owners",
]


class ConcurrentWriteError(Exception):
    """Another write moved or made a row between our look and our lock: the transaction must begin again."""


def _ids() -> BindParameter[Sequence[str]]:
    return bindparam("ids", type_=ARRAY(Text))


_STORE = bindparam("store_id", type_=Text)

# Several indexes of the variants begin with the store. Of tables that were never analysed, as in a shop's first import, the
# planner takes any of them for "this variant of this store" and reads the whole store for each look.
_WANTED = func.unnest(_ids()).table_valued("id").render_derived(name="wanted")


def _variant_by_id() -> FromClause:
    return row_by_key(
        variants,
        variants.c.store_id == _STORE,
        variants.c.variant_id,
        _WANTED.c.id,
        of=_WANTED,
        name="variant",
    )


def _known_variants() -> Select[Any]:
    variant = _variant_by_id()
    return select(variant.c.variant_id, variant.c.product_id).select_from(_WANTED.join(variant, true()))


def _live_variants() -> Select[Any]:
    variant = _variant_by_id()
    return (
        select(variant.c.variant_id, variant.c.product_id)
        .select_from(_WANTED.join(variant, true()))
        .where(variant.c.deleted_at.is_(None))
    )


def _owners_of_stock() -> Select[Any]:
    variant = _variant_by_id()
    product = row_by_key(
        products,
        products.c.store_id == _STORE,
        products.c.product_id,
        variant.c.product_id,
        of=variant,
        name="product",
    )
    return select(
        variant.c.variant_id,
        variant.c.deleted_at.is_not(None),
        func.greatest(variant.c.source_updated_at, product.c.source_updated_at),
    ).select_from(_WANTED.join(variant, true()).join(product, true()))


def _variants_of_products() -> Select[Any]:
    found = rows_with(
        variants.c.product_id,
        _WANTED.c.id,
        limit=_MOST_ROWS_OF_A_PRODUCT,
        columns=(
            variants.c.variant_id,
            variants.c.product_id,
            variants.c.position,
            variants.c.deleted_at.is_not(None).label("deleted"),
            *(variants.c[name] for name in VARIANT_NOTES),
            *(variants.c[name] for name in VARIANT_OFFER),
            *(variants.c[name] for name in VARIANT_CONTENT),
        ),
        within=variants.c.store_id == _STORE,
    )
    variant = found.correlate(_WANTED).lateral("variant")
    return select(*variant.c).select_from(_WANTED.join(variant, true()))


_MOST_ROWS_OF_A_PRODUCT = 1_000_000_000
"""No limit: a product's tombstones count too, and none may be missed."""

_PRODUCT_IDS = select(products.c.product_id).where(
    products.c.store_id == _STORE, products.c.product_id == any_(_ids())
)
_OWNERS = _known_variants()
_LOCK_PRODUCTS = (
    select(
        products.c.product_id,
        products.c.status,
        products.c.visibility,
        products.c.source,
        products.c.deleted_at.is_not(None),
        *(products.c[name] for name in PRODUCT_CLOCKS),
        *(products.c[name] for name in PRODUCT_CONTENT),
    )
    .where(products.c.store_id == _STORE, products.c.product_id == any_(_ids()))
    .order_by(products.c.product_id)
    .with_for_update()
)
_VARIANTS = _variants_of_products()
_LIVE_VARIANTS = _live_variants()
_STOCK_OWNERS = _owners_of_stock()
_LOCK_STOCK = (
    select(
        inventory.c.variant_id,
        inventory.c.track_inventory,
        inventory.c.quantity_on_hand,
        inventory.c.reserved_quantity,
        inventory.c.allow_backorder,
        *(inventory.c[name] for name in STOCK_CLOCKS),
    )
    .where(inventory.c.store_id == _STORE, inventory.c.variant_id == any_(_ids()))
    .order_by(inventory.c.variant_id)
    .with_for_update()
)
_CREATION_LOCK = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('meta_sync catalog creation ' || :store_id, 0))"
)

_FIXED_PRODUCT_COLUMNS = 5 + len(PRODUCT_CLOCKS)
_FIXED_VARIANT_COLUMNS = 4 + len(VARIANT_NOTES)
_OFFER_END = _FIXED_VARIANT_COLUMNS + len(VARIANT_OFFER)


@dataclass(frozen=True, slots=True)
class LoadedRows:
    """What a write is about, locked."""

    products: Sequence[ProductState]
    variants: Sequence[VariantState]
    """All variants of the products, deleted ones among them."""
    stock: Sequence[StockState]


async def load_working_set(
    connection: AsyncConnection,
    store_id: str,
    product_ids: Iterable[str],
    variant_ids: Iterable[str],
    stock_ids: Iterable[str] = (),
) -> WorkingSet:
    """``load_rows`` as the set that whole bodies are applied to.

    Raises
    ------
    ConcurrentWriteError
        A named variant moved to a product that is not locked.
    """
    rows = await load_rows(connection, store_id, product_ids, variant_ids, stock_ids)
    return WorkingSet(rows.products, rows.variants, rows.stock)


async def load_rows(
    connection: AsyncConnection,
    store_id: str,
    product_ids: Iterable[str],
    variant_ids: Iterable[str],
    stock_ids: Iterable[str] = (),
) -> LoadedRows:
    """Lock and read the products, those that own the named variants now, and all their variants.

    A write that makes a product or a variant first takes the store's creation lock: two writers making the same row,
    or a variant and the product whose group it renames, would otherwise not see each other.

    Raises
    ------
    ConcurrentWriteError
        A named variant moved to a product that is not locked.
    """
    products_named, variants_named = set(product_ids), set(variant_ids)
    existing = await _existing_products(connection, store_id, products_named)
    owners = await _owners(connection, store_id, variants_named)
    if products_named - existing or variants_named - owners.keys():
        await connection.execute(_CREATION_LOCK, {"store_id": store_id})
        owners = await _owners(connection, store_id, variants_named)
    # A new variant may carry a product's id: that product's group is renamed, so its count is taken under its lock too.
    to_lock = sorted(products_named | set(owners.values()) | (variants_named - owners.keys()))
    locked = [_product(row) for row in await _all(connection, _LOCK_PRODUCTS, store_id, to_lock)]
    found = [
        _variant(row)
        for row in await _all(connection, _VARIANTS, store_id, [product.product_id for product in locked])
    ]
    if owners.keys() - {variant.variant_id for variant in found}:
        raise ConcurrentWriteError
    return LoadedRows(locked, found, await load_stock(connection, store_id, stock_ids))


async def load_stock(
    connection: AsyncConnection, store_id: str, variant_ids: Iterable[str]
) -> list[StockState]:
    """Lock and read the inventory of the variants that have any."""
    wanted = sorted(set(variant_ids))
    return [StockState(*row) for row in await _all(connection, _LOCK_STOCK, store_id, wanted)]


async def live_variants(
    connection: AsyncConnection, store_id: str, variant_ids: Iterable[str]
) -> dict[str, str]:
    """Those of the variants that exist and are not deleted, each with its product."""
    rows = await _all(connection, _LIVE_VARIANTS, store_id, sorted(set(variant_ids)))
    return {row[0]: row[1] for row in rows}


async def stock_owners(
    connection: AsyncConnection, store_id: str, variant_ids: Iterable[str]
) -> list[tuple[str, bool, datetime | None]]:
    """Those of the variants that the store ever had: id, whether deleted, and until when that is known. Locks nothing."""
    rows = await _all(connection, _STOCK_OWNERS, store_id, sorted(set(variant_ids)))
    return [(row[0], row[1], row[2]) for row in rows]


async def _existing_products(
    connection: AsyncConnection, store_id: str, product_ids: Collection[str]
) -> set[str]:
    return {row[0] for row in await _all(connection, _PRODUCT_IDS, store_id, product_ids)}


async def _owners(connection: AsyncConnection, store_id: str, variant_ids: Collection[str]) -> dict[str, str]:
    return {row[0]: row[1] for row in await _all(connection, _OWNERS, store_id, variant_ids)}


async def _all(connection: AsyncConnection, statement: Any, store_id: str, ids: Collection[str]) -> list[Any]:
    if not ids:
        return []
    result = await connection.execute(statement, {"store_id": store_id, "ids": list(ids)})
    return list(result.all())


def _product(row: tuple[Any, ...]) -> ProductState:
    product_id, status, visibility, source, deleted = row[:5]
    clock, basics_clock, media_clock = row[5:_FIXED_PRODUCT_COLUMNS]
    content = tuple(row[_FIXED_PRODUCT_COLUMNS:])
    return ProductState(
        product_id, content, status, visibility, source, clock, deleted, basics_clock, media_clock
    )


def _variant(row: tuple[Any, ...]) -> VariantState:
    return VariantState(
        row[0],
        row[1],
        tuple(row[_FIXED_VARIANT_COLUMNS:_OFFER_END]),
        tuple(row[_OFFER_END:]),
        *row[2:_FIXED_VARIANT_COLUMNS],
    )
