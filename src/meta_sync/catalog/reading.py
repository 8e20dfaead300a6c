"""Reading products back in the shape in which they are put, so that what was read can be put again unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, Text, any_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import InventoryInput, ProductInput, VariantInput
from meta_sync.catalog.states import PRODUCT_CONTENT, STOCK_CLOCKS, VARIANT_CONTENT, VARIANT_OFFER
from meta_sync.catalog.tables import inventory, products, variants
from meta_sync.core.lookups import go_by_indexes
from meta_sync.core.paging import MAX_PAGE_ROWS, require_page_within_reach

__all__ = ["ProductPage", "StoredProduct", "page_of_products", "stored_product"]


@dataclass(slots=True)
class StoredProduct:
    """A product with its live variants, as it is stored."""

    product: ProductInput
    """The fields as they were put; ``updated_at`` is the source's clock, and each variant carries its stock."""
    version: int
    created_at: datetime
    changed_at: datetime
    """When the product's own row was last written by us."""


@dataclass(slots=True)
class ProductPage:
    """Some products in the order of their ids."""

    products: list[StoredProduct]
    total: int
    """Exact up to 10,000, then 10,000."""
    total_is_exact: bool
    next_after: str | None
    """The id after which the next page begins; ``None`` when there is none."""


_PRODUCT_COLUMNS = [
    products.c.product_id,
    products.c.status,
    products.c.visibility,
    products.c.source,
    # What a body must not be older than, to change the product's fields; GREATEST passes over what is not there.
    func.greatest(products.c.source_updated_at, products.c.basics_updated_at),
    products.c.version,
    products.c.created_at,
    products.c.updated_at,
    *(products.c[name] for name in PRODUCT_CONTENT),
]
_PRODUCT_FIXED = 8
_VARIANT_COLUMNS = [
    variants.c.product_id,
    variants.c.variant_id,
    inventory.c.track_inventory,
    inventory.c.quantity_on_hand,
    inventory.c.reserved_quantity,
    inventory.c.allow_backorder,
    func.greatest(*(inventory.c[name] for name in STOCK_CLOCKS)),
    *(variants.c[name] for name in VARIANT_OFFER),
    *(variants.c[name] for name in VARIANT_CONTENT),
]
_VARIANT_FIXED = 7


async def stored_product(connection: AsyncConnection, store_id: str, product_id: str) -> StoredProduct | None:
    """One product, or ``None`` when there is none or it was deleted."""
    statement = select(*_PRODUCT_COLUMNS).where(
        products.c.store_id == store_id,
        products.c.product_id == product_id,
        products.c.deleted_at.is_(None),
    )
    found = [_product(row) for row in await connection.execute(statement)]
    await _add_variants(connection, store_id, found)
    return found[0] if found else None


async def page_of_products(
    connection: AsyncConnection,
    store_id: str,
    *,
    page: int,
    limit: int,
    after: str | None,
    source: str | None,
    status: str | None,
) -> ProductPage:
    """A page by product id.

    Raises
    ------
    ValidationFailedError
        The page number reaches beyond the first 10,000 rows.
    """
    conditions = [products.c.store_id == store_id, products.c.deleted_at.is_(None)]
    if source is not None:
        conditions.append(products.c.source == source)
    if status is not None:
        conditions.append(products.c.status == status)
    await go_by_indexes(connection)
    within_reach = select(products.c.product_id).where(*conditions).limit(MAX_PAGE_ROWS + 1).subquery()
    total = (await connection.execute(select(func.count()).select_from(within_reach))).scalar_one()
    # The ids first: a deep page passes over as many rows as lie before it, and would read each of them in full.
    ids = select(products.c.product_id).where(*conditions).order_by(products.c.product_id).limit(limit + 1)
    if after is not None:
        ids = ids.where(products.c.product_id > after)
    else:
        require_page_within_reach(page, limit)
        ids = ids.offset((page - 1) * limit)
    chosen = products.c.product_id == any_(func.array(ids.scalar_subquery(), type_=ARRAY(Text)))
    statement = select(*_PRODUCT_COLUMNS).where(products.c.store_id == store_id, chosen)
    found = [_product(row) for row in await connection.execute(statement.order_by(products.c.product_id))]
    shown = found[:limit]
    await _add_variants(connection, store_id, shown)
    return ProductPage(
        shown,
        min(total, MAX_PAGE_ROWS),
        total <= MAX_PAGE_ROWS,
        shown[-1].product.id if len(found) > limit else None,
    )


async def _add_variants(connection: AsyncConnection, store_id: str, found: Sequence[StoredProduct]) -> None:
    by_id = {stored.product.id: stored.product for stored in found}
    if not by_id:
        return
    statement = (
        select(*_VARIANT_COLUMNS)
        .select_from(
            variants.outerjoin(
                inventory,
                (inventory.c.store_id == variants.c.store_id)
                & (inventory.c.variant_id == variants.c.variant_id),
            )
        )
        .where(
            variants.c.store_id == store_id,
            variants.c.product_id.in_(by_id),
            variants.c.deleted_at.is_(None),
        )
        .order_by(variants.c.product_id, variants.c.position, variants.c.variant_id)
    )
    for row in await connection.execute(statement):
        by_id[row[0]].variants.append(_variant(row))


def _product(row: Any) -> StoredProduct:
    product_id, status, visibility, source, clock, version, created_at, changed_at = row[:_PRODUCT_FIXED]
    content = dict(zip(PRODUCT_CONTENT, row[_PRODUCT_FIXED:], strict=True))
    product = ProductInput(
        product_id, status=status, visibility=visibility, source=source, updated_at=clock, **content
    )
    return StoredProduct(product, version, created_at, changed_at)


def _variant(row: Any) -> VariantInput:
    stock = InventoryInput(*row[2:_VARIANT_FIXED]) if row[2] is not None else None
    values = dict(zip((*VARIANT_OFFER, *VARIANT_CONTENT), row[_VARIANT_FIXED:], strict=True))
    return VariantInput(row[1], inventory=stock, **values)
