"""The columns of one catalog item, in the order of ``models.CatalogItem``, for every query that maps items."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    FromClause,
    func,
    literal_column,
    select,
    true,
    type_coerce,
)
from sqlalchemy.types import NullType

from meta_sync.catalog.tables import inventory, products, variants
from meta_sync.core.lookups import row_by_key, rows_with

__all__ = ["catalog_item_columns", "catalog_item_source"]


class _Parts(NamedTuple):
    """What belongs to a variant: one row each, or none."""

    product: FromClause
    stock: FromClause


@cache
def _parts(variant: FromClause) -> _Parts:
    return _Parts(
        row_by_key(
            products,
            products.c.store_id == variant.c.store_id,
            products.c.product_id,
            variant.c.product_id,
            of=variant,
            name="product",
        ),
        row_by_key(
            inventory,
            inventory.c.store_id == variant.c.store_id,
            inventory.c.variant_id,
            variant.c.variant_id,
            of=variant,
            name="stock",
        ),
    )


def _as_it_comes(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """An array as the driver reads it. SQLAlchemy would copy each list once more, at a fifth of a drain's time."""
    return type_coerce(column, NullType())


def catalog_item_columns(variant: FromClause = variants) -> list[ColumnElement[Any]]:
    """Columns to unpack positionally into ``CatalogItem``, of rows of ``variants`` under whatever name."""
    product, stock = _parts(variant)
    sibling = variants.alias("sibling")
    namesake = variants.alias("namesake")
    # No further than two: counting all would cost the square of a product's variants.
    siblings = rows_with(
        sibling.c.product_id,
        variant.c.product_id,
        limit=2,
        columns=(literal_column("1"),),
        within=(sibling.c.store_id == variant.c.store_id) & sibling.c.deleted_at.is_(None),
    )
    live_variant_count = (
        select(func.count()).select_from(siblings.correlate(variant).subquery()).scalar_subquery()
    )
    # Not EXISTS: for many rows that is planned as a hash over every variant there is, built anew for each batch.
    namesakes = rows_with(
        namesake.c.variant_id,
        variant.c.product_id,
        limit=1,
        columns=(literal_column("true"),),
        within=namesake.c.store_id == variant.c.store_id,
    )
    group_id_taken = func.coalesce(namesakes.correlate(variant).scalar_subquery(), literal_column("false"))
    return [
        variant.c.variant_id,
        variant.c.product_id,
        product.c.title,
        product.c.subtitle,
        product.c.description,
        product.c.slug,
        product.c.link.label("product_link"),
        func.coalesce(product.c.status, "draft").label("status"),
        func.coalesce(product.c.visibility, "private").label("visibility"),
        product.c.brand,
        product.c.vendor,
        product.c.thumbnail.label("product_thumbnail"),
        _as_it_comes(product.c.images).label("product_images"),
        _as_it_comes(product.c.categories).label("categories"),
        product.c.google_product_category,
        (product.c.deleted_at.is_not(None) | product.c.product_id.is_(None)).label("product_deleted"),
        variant.c.sku,
        variant.c.link.label("variant_link"),
        variant.c.price,
        variant.c.special_price,
        variant.c.special_price_start,
        variant.c.special_price_end,
        variant.c.condition,
        variant.c.thumbnail.label("variant_thumbnail"),
        _as_it_comes(variant.c.images).label("variant_images"),
        variant.c.ean,
        variant.c.upc,
        variant.c.barcode,
        variant.c.options,
        variant.c.availability,
        variant.c.deleted_at.is_not(None).label("variant_deleted"),
        stock.c.track_inventory,
        stock.c.quantity_on_hand,
        stock.c.reserved_quantity,
        stock.c.allow_backorder,
        live_variant_count.label("live_variant_count"),
        group_id_taken.label("group_id_taken"),
        func.coalesce(variant.c.source, product.c.source).label("source"),
    ]


def catalog_item_source(base: FromClause | None = None, variant: FromClause = variants) -> FromClause:
    """Variants (or a join that holds them, as ``variant``) with their product and stock."""
    product, stock = _parts(variant)
    return (variant if base is None else base).outerjoin(product, true()).outerjoin(stock, true())
