"""The columns of one catalog item, in the order of ``models.CatalogItem``, for every query that maps items."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, FromClause, func, literal_column, select, type_coerce
from sqlalchemy.types import NullType

from meta_sync.catalog.tables import inventory, products, variants

__all__ = ["catalog_item_columns", "catalog_item_source"]


def _as_it_comes(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """An array as the driver reads it. SQLAlchemy would copy each list once more, at a fifth of a drain's time."""
    return type_coerce(column, NullType())


def catalog_item_columns() -> list[ColumnElement[Any]]:
    """Columns to unpack positionally into ``CatalogItem``."""
    sibling = variants.alias("sibling")
    namesake = variants.alias("namesake")
    # No further than two: counting all would cost the square of a product's variants.
    siblings = (
        select(literal_column("1"))
        .select_from(sibling)
        .where(
            sibling.c.store_id == variants.c.store_id,
            sibling.c.product_id == variants.c.product_id,
            sibling.c.deleted_at.is_(None),
        )
        .limit(literal_column("2"))
        .correlate(variants)
        .subquery()
    )
    live_variant_count = select(func.count()).select_from(siblings).scalar_subquery()
    # Not EXISTS: for many rows that is planned as a hash over every variant there is, built anew for each batch.
    namesakes = (
        select(literal_column("true"))
        .select_from(namesake)
        .where(namesake.c.store_id == variants.c.store_id, namesake.c.variant_id == variants.c.product_id)
        .scalar_subquery()
    )
    group_id_taken = func.coalesce(namesakes, literal_column("false"))
    return [
        variants.c.variant_id,
        variants.c.product_id,
        products.c.title,
        products.c.subtitle,
        products.c.description,
        products.c.slug,
        products.c.link.label("product_link"),
        func.coalesce(products.c.status, "draft").label("status"),
        func.coalesce(products.c.visibility, "private").label("visibility"),
        products.c.brand,
        products.c.vendor,
        products.c.thumbnail.label("product_thumbnail"),
        _as_it_comes(products.c.images).label("product_images"),
        _as_it_comes(products.c.categories).label("categories"),
        products.c.google_product_category,
        (products.c.deleted_at.is_not(None) | products.c.product_id.is_(None)).label("product_deleted"),
        variants.c.sku,
        variants.c.link.label("variant_link"),
        variants.c.price,
        variants.c.special_price,
        variants.c.special_price_start,
        variants.c.special_price_end,
        variants.c.condition,
        variants.c.thumbnail.label("variant_thumbnail"),
        _as_it_comes(variants.c.images).label("variant_images"),
        variants.c.ean,
        variants.c.upc,
        variants.c.barcode,
        variants.c.options,
        variants.c.availability,
        variants.c.deleted_at.is_not(None).label("variant_deleted"),
        inventory.c.track_inventory,
        inventory.c.quantity_on_hand,
        inventory.c.reserved_quantity,
        inventory.c.allow_backorder,
        live_variant_count.label("live_variant_count"),
        group_id_taken.label("group_id_taken"),
    ]


def catalog_item_source(base: FromClause = variants) -> FromClause:
    """Variants (or a join that begins with them) with their product and stock."""
    return base.outerjoin(
        products,
        (products.c.store_id == variants.c.store_id) & (products.c.product_id == variants.c.product_id),
    ).outerjoin(
        inventory,
        (inventory.c.store_id == variants.c.store_id) & (inventory.c.variant_id == variants.c.variant_id),
    )
