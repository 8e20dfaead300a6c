"""Writing and reading the source catalog. Each write and the intents that follow from it are one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.inventory_write import write_stock
from meta_sync.catalog.models import Change, ChangeSink, InventoryInput, Lane, ProductInput
from meta_sync.catalog.products_write import save_working_set
from meta_sync.catalog.reading import ProductPage, StoredProduct, page_of_products, stored_product
from meta_sync.catalog.repository import live_variants, load_stock, load_working_set
from meta_sync.catalog.transactions import write_transaction
from meta_sync.catalog.validation import id_fault, validate_inventory, validate_product, validate_products
from meta_sync.catalog.working_set import Applied, WorkingSet
from meta_sync.core.clock import Clock
from meta_sync.core.db import Database
from meta_sync.core.errors import ErrorDetail, NotFoundError, ValidationFailedError
from meta_sync.core.queue import JobName, JobQueue

__all__ = [
    "MAX_BATCH_PRODUCTS",
    "MAX_INVENTORY_ITEMS",
    "CatalogService",
    "InventoryResult",
    "ProductResult",
]

MAX_BATCH_PRODUCTS = 1_000
MAX_INVENTORY_ITEMS = 5_000
"""Both keep one transaction, and with it the time its rows stay locked, well under a second."""


@dataclass(slots=True)
class ProductResult:
    """What became of one product body."""

    product_id: str
    variants: int
    """Live variants of the product afterwards."""
    changed: int
    """Variants whose item may look different, deleted ones among them; 1 when only rows changed that no item depends on."""
    enqueued: int
    """Variants that the pipeline looks at again because of it, those of other products among them."""
    stale: bool = False
    """The stored product carries a later source time: the body was ignored."""


@dataclass(slots=True)
class InventoryResult:
    """What became of stock bodies."""

    accepted: int
    """Bodies whose variant exists."""
    changed: int
    enqueued: int
    missing: list[str] = field(default_factory=list)
    """Ids of no live variant of the store."""
    stale: list[str] = field(default_factory=list)
    """Variants whose stored stock carries a later source time: the body was ignored."""


class CatalogService:
    """Puts, deletes and reads products and stock of one store at a time."""

    def __init__(self, database: Database, sink: ChangeSink, queue: JobQueue, clock: Clock) -> None:
        self._database = database
        self._sink = sink
        self._queue = queue
        self.clock = clock

    async def put_product(self, store_id: str, product: ProductInput) -> ProductResult:
        """Replace one product with all its variants.

        Raises
        ------
        ValidationFailedError
            A field cannot be stored; the details name it.
        """
        _raise_for(validate_product(product, now=self.clock()))
        return (await self._put_valid(store_id, [product]))[0]

    async def put_products(self, store_id: str, products: Sequence[ProductInput]) -> list[ProductResult]:
        """Replace up to 1,000 products, in order: of the same product the last body wins. All of them or none.

        ``ingest.batch.put_batch`` leaves out the bad ones instead.

        Raises
        ------
        ValidationFailedError
            Too many products, or fields that cannot be stored (``products[2].variants[0].price``).
        """
        require_batch_size(len(products), MAX_BATCH_PRODUCTS, "products")
        faults = validate_products(products, now=self.clock())
        _raise_for(
            [
                ErrorDetail(f"products[{index}].{detail.field}", detail.message)
                for index, details in faults.items()
                for detail in details
            ]
        )
        return await self._put_valid(store_id, products)

    async def delete_product(self, store_id: str, product_id: str) -> ProductResult:
        """Delete a product with its variants. Deleting it again changes nothing.

        Raises
        ------
        NotFoundError
            The store never had such a product.
        """
        _raise_for_id(product_id)

        async def work(connection: AsyncConnection) -> ProductResult:
            working = await load_working_set(connection, store_id, [product_id], [])
            if product_id not in working.products:
                raise NotFoundError(f"There is no product {product_id}.")
            applied = working.delete(product_id)
            enqueued = await save_working_set(connection, store_id, working, self._sink)
            return ProductResult(product_id, 0, applied.changed, len(enqueued))

        result = await write_transaction(self._database, store_id, work)
        await self._wake(result.enqueued)
        return result

    async def put_inventory(
        self, store_id: str, items: Sequence[tuple[str, InventoryInput]]
    ) -> InventoryResult:
        """Set the stock of up to 5,000 variants, in order. Fields that a body does not name stay as they are.

        Raises
        ------
        ValidationFailedError
            Too many items, or fields that cannot be stored (``items[7].quantityOnHand``).
        """
        require_batch_size(len(items), MAX_INVENTORY_ITEMS, "items")
        _raise_for(_inventory_faults(items, self.clock()))

        async def work(connection: AsyncConnection) -> InventoryResult:
            ids = [variant_id for variant_id, _ in items]
            live = await live_variants(connection, store_id, ids)
            working = WorkingSet(stock=await load_stock(connection, store_id, live))
            result = InventoryResult(0, 0, 0)
            for variant_id, given in items:
                if variant_id not in live:
                    result.missing.append(variant_id)
                    continue
                result.accepted += 1
                if working.stock_is_stale(variant_id, given):
                    result.stale.append(variant_id)
                else:
                    working.put_stock(variant_id, given)
            changed = working.changed_stock()
            await write_stock(connection, store_id, working)
            if changed:
                changes = [Change(variant_id, Lane.LIVE) for variant_id in changed]
                await self._sink.record(connection, store_id, changes)
            result.changed = result.enqueued = len(changed)
            return result

        result = await write_transaction(self._database, store_id, work)
        await self._wake(result.enqueued)
        return result

    async def get_product(self, store_id: str, product_id: str) -> StoredProduct:
        """One product with its live variants and their stock.

        Raises
        ------
        NotFoundError
            There is none, or it was deleted.
        """
        _raise_for_id(product_id)
        async with self._database.store(store_id) as connection:
            found = await stored_product(connection, store_id, product_id)
        if found is None:
            raise NotFoundError(f"There is no product {product_id}.")
        return found

    async def list_products(
        self,
        store_id: str,
        *,
        page: int = 1,
        limit: int = 50,
        after: str | None = None,
        source: str | None = None,
        status: str | None = None,
    ) -> ProductPage:
        """A page of products by id, those after the id ``after`` when it is given, else page number ``page``."""
        async with self._database.store(store_id) as connection:
            return await page_of_products(
                connection, store_id, page=page, limit=limit, after=after, source=source, status=status
            )

    async def _put_valid(self, store_id: str, products: Sequence[ProductInput]) -> list[ProductResult]:
        if not products:
            return []

        async def work(connection: AsyncConnection) -> list[ProductResult]:
            variants = [variant for product in products for variant in product.variants]
            working = await load_working_set(
                connection,
                store_id,
                (product.id for product in products),
                (variant.id for variant in variants),
                (variant.id for variant in variants if variant.inventory is not None),
            )
            applied = [working.put(product) for product in products]
            causes = await save_working_set(connection, store_id, working, self._sink)
            return _results(applied, causes)

        results = await write_transaction(self._database, store_id, work)
        await self._wake(sum(result.enqueued for result in results))
        return results

    async def _wake(self, enqueued: int) -> None:
        if enqueued:
            await self._queue.wake(JobName.DRAIN)


def require_batch_size(given: int, most: int, field_name: str) -> None:
    """Refuse a batch with more entries than one transaction should hold.

    Raises
    ------
    ValidationFailedError
        There are more than ``most``.
    """
    if given > most:
        raise ValidationFailedError(
            f"A batch holds at most {most:,} {field_name}; this one has {given:,}.",
            details=[ErrorDetail(field_name, f"must have at most {most:,} entries")],
        )


def _results(applied: Sequence[Applied], causes: dict[str, str]) -> list[ProductResult]:
    """One result per body; of several bodies of a product the last one counts what was enqueued."""
    enqueued: dict[str, int] = {}
    for cause in causes.values():
        enqueued[cause] = enqueued.get(cause, 0) + 1
    results = [
        ProductResult(one.product_id, one.variants, one.changed, enqueued.pop(one.product_id, 0), one.stale)
        for one in reversed(applied)
    ]
    return results[::-1]


def _inventory_faults(items: Sequence[tuple[str, InventoryInput]], now: datetime) -> list[ErrorDetail]:
    faults: list[ErrorDetail] = []
    for index, (variant_id, given) in enumerate(items):
        if fault := id_fault(variant_id):
            faults.append(ErrorDetail(f"items[{index}].variantId", fault))
        faults.extend(validate_inventory(given, prefix=f"items[{index}].", now=now))
    return faults


def _raise_for_id(product_id: str) -> None:
    # An id that cannot be stored cannot be found either; asking the database would fail on some of them.
    if id_fault(product_id):
        raise NotFoundError("There is no such product.")


def _raise_for(details: Sequence[ErrorDetail]) -> None:
    if details:
        first = details[0]
        raise ValidationFailedError(f"{first.field} {first.message}.", details=details)
