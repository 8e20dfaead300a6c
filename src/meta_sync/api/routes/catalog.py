"""The source catalog: products, variants and stock as the store has them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from pydantic import ValidationError

from meta_sync.access.models import Permission
from meta_sync.api.context import Context, RequestContext
from meta_sync.api.errors import row_details, validation_error
from meta_sync.api.parameters import CursorQuery, LimitQuery, PageQuery, ProductIdPath, VariantIdPath
from meta_sync.api.routing import router
from meta_sync.api.schemas.base import answer, paged
from meta_sync.api.schemas.catalog import (
    BatchProduct,
    BatchResult,
    BatchResultAnswer,
    InventoryBatch,
    InventoryBody,
    InventoryResultAnswer,
    Product,
    ProductAnswer,
    ProductBatch,
    ProductBody,
    ProductPage,
    ProductResultAnswer,
    RejectedProduct,
)
from meta_sync.api.security import requires
from meta_sync.catalog.ingest import batch
from meta_sync.catalog.models import ProductInput
from meta_sync.catalog.reading import StoredProduct
from meta_sync.core.errors import ErrorDetail, NotFoundError

__all__ = ["routes"]

routes = router("Catalog")


@routes.put(
    "/catalog/products/{productId}",
    operation_id="putProduct",
    summary="Put a product",
    description=(
        "Replaces a product with all its variants: variants missing from the body are deleted, and a variant of another"
        " product moves here. An identical body changes nothing and enqueues nothing."
    ),
)
@requires(Permission.PRODUCTS_WRITE)
async def put_product(context: Context, product_id: ProductIdPath, body: ProductBody) -> ProductResultAnswer:
    if body.id is not None and body.id != product_id:
        raise validation_error([ErrorDetail("id", "must be the id in the path, or absent")])
    result = await context.factory.catalog().put_product(context.store_id, body.given(product_id))
    return answer(ProductResultAnswer, result)


@routes.get(
    "/catalog/products/{productId}",
    operation_id="getProduct",
    summary="Read a product",
    description="The product as it was put, with how its variants stand at Meta.",
)
@requires(Permission.PRODUCTS_READ)
async def get_product(context: Context, product_id: ProductIdPath) -> ProductAnswer:
    stored = await context.factory.catalog().get_product(context.store_id, product_id)
    return answer(ProductAnswer, (await _with_sync(context, [stored]))[0])


@routes.delete(
    "/catalog/products/{productId}",
    operation_id="deleteProduct",
    summary="Delete a product",
    description="Deletes the product with its variants; their items are then deleted from Meta.",
)
@requires(Permission.PRODUCTS_WRITE)
async def delete_product(context: Context, product_id: ProductIdPath) -> ProductResultAnswer:
    result = await context.factory.catalog().delete_product(context.store_id, product_id)
    return answer(ProductResultAnswer, result)


@routes.get(
    "/catalog/products",
    operation_id="listProducts",
    summary="List products",
    description="Products in the order of their ids.",
)
@requires(Permission.PRODUCTS_READ)
async def list_products(
    context: Context,
    *,
    page: PageQuery = 1,
    limit: LimitQuery = 50,
    cursor: CursorQuery = None,
    source: Annotated[str | None, Query(description="Only products of this source.")] = None,
    status: Annotated[
        Literal["draft", "active", "archived"] | None, Query(description="Only products in this status.")
    ] = None,
) -> ProductPage:
    scope = f"products\n{context.store_id}\n{source!r}\n{status!r}"
    after = context.cursors.decode(scope, cursor)[0] if cursor is not None else None
    found = await context.factory.catalog().list_products(
        context.store_id, page=page, limit=limit, after=after, source=source, status=status
    )
    return paged(
        ProductPage,
        await _with_sync(context, found.products),
        page=page,
        limit=limit,
        cursor=cursor,
        total=found.total,
        total_is_exact=found.total_is_exact,
        next_cursor=context.cursors.encode(scope, [found.next_after]) if found.next_after else None,
    )


async def _with_sync(context: RequestContext, stored: list[StoredProduct]) -> list[Product]:
    ids = [one.product.id for one in stored]
    sync = await context.factory.items().product_sync(context.store_id, ids)
    return [Product.of(one, sync[one.product.id]) for one in stored]


@routes.post(
    "/catalog/products/batch",
    operation_id="putProducts",
    summary="Put many products",
    description="Up to 1,000 products. Good ones go in, bad ones are named by their place. Larger feeds go to imports.",
)
@requires(Permission.PRODUCTS_WRITE)
async def put_products(context: Context, body: ProductBatch) -> BatchResultAnswer:
    rows = [_batch_row(index, row) for index, row in enumerate(body.products)]
    result = await batch.put_batch(context.factory.catalog(), context.store_id, rows)
    rejected = [
        RejectedProduct(
            index=row.index,
            id=row.product_id,
            error_code=row.error_code,
            message=row.message,
            details=row.details,  # type: ignore[arg-type]  # read by attribute
        )
        for row in result.rejected
    ]
    shown = BatchResult(
        accepted=result.accepted, changed=result.changed, enqueued=result.enqueued, rejected=rejected
    )
    return answer(BatchResultAnswer, shown)


def _batch_row(index: int, row: object) -> ProductInput | batch.RejectedProduct:
    try:
        body = BatchProduct.model_validate(row)
    except ValidationError as error:
        details = row_details(error)
        product_id = row.get("id") if isinstance(row, dict) else None
        return batch.RejectedProduct(
            index,
            product_id if isinstance(product_id, str) else None,
            f"{details[0].field} {details[0].message}.",
            details,
        )
    return body.given(body.id)


@routes.put(
    "/catalog/variants/{variantId}/inventory",
    operation_id="putInventory",
    summary="Put the stock of a variant",
    description="Absolute figures. A field that is absent stays as it is.",
)
@requires(Permission.PRODUCTS_WRITE)
async def put_inventory(
    context: Context, variant_id: VariantIdPath, body: InventoryBody
) -> InventoryResultAnswer:
    items = [(variant_id, body.given())]
    result = await context.factory.catalog().put_inventory(context.store_id, items)
    if result.missing:
        raise NotFoundError("There is no such variant in this store.")
    return answer(InventoryResultAnswer, result)


@routes.post(
    "/catalog/inventory/batch",
    operation_id="putInventories",
    summary="Put the stock of many variants",
    description="Up to 5,000 variants. Ids of no live variant are named; the others go in.",
)
@requires(Permission.PRODUCTS_WRITE)
async def put_inventories(context: Context, body: InventoryBatch) -> InventoryResultAnswer:
    items = [(item.variant_id, item.given()) for item in body.items]
    return answer(
        InventoryResultAnswer, await context.factory.catalog().put_inventory(context.store_id, items)
    )
