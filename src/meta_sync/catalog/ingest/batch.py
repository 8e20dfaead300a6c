"""A batch of products of which the good ones go in and the bad ones are named. The all-or-nothing form is the service's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from meta_sync.catalog.models import ProductInput
from meta_sync.catalog.service import (
    MAX_BATCH_PRODUCTS,
    CatalogService,
    ProductResult,
    require_batch_size,
)
from meta_sync.catalog.validation import validate_products
from meta_sync.core.errors import ErrorDetail

__all__ = ["BatchResult", "RejectedProduct", "put_batch"]


@dataclass(slots=True)
class RejectedProduct:
    """A product that was left out, by its place in the batch."""

    index: int
    product_id: str | None
    message: str
    details: list[ErrorDetail] = field(default_factory=list)
    error_code: str = "VALIDATION_ERROR"


@dataclass(slots=True)
class BatchResult:
    """What became of a batch."""

    accepted: int
    """Products that went in, unchanged and stale ones among them."""
    changed: int
    """Variants, as in ``ProductResult``."""
    enqueued: int
    rejected: list[RejectedProduct] = field(default_factory=list)
    results: list[ProductResult] = field(default_factory=list)
    """Of the accepted products, in their order."""


async def put_batch(
    catalog: CatalogService,
    store_id: str,
    rows: Sequence[ProductInput | RejectedProduct],
) -> BatchResult:
    """Put the good products, in order: of the same product the last body wins.

    ``rows`` is the whole batch; what the caller could not even read as a product stands in it as already rejected.
    A variant named by two products of the batch belongs to the first; the second product is rejected.

    Raises
    ------
    ValidationFailedError
        There are more than 1,000 products.
    """
    require_batch_size(len(rows), MAX_BATCH_PRODUCTS, "products")
    readable = [(index, row) for index, row in enumerate(rows) if isinstance(row, ProductInput)]
    rejected = [row for row in rows if isinstance(row, RejectedProduct)]
    faults = validate_products([product for _, product in readable], now=catalog.clock())
    good: list[ProductInput] = []
    for position, (index, product) in enumerate(readable):
        if details := faults.get(position):
            rejected.append(RejectedProduct(index, product.id, _sentence(details), details))
        else:
            good.append(product)
    results = await catalog.put_products(store_id, good)
    return BatchResult(
        accepted=len(results),
        changed=sum(result.changed for result in results),
        enqueued=sum(result.enqueued for result in results),
        rejected=sorted(rejected, key=lambda row: row.index),
        results=results,
    )


def _sentence(details: Sequence[ErrorDetail]) -> str:
    return f"{details[0].field} {details[0].message}."
