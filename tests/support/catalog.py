"""A catalog over a real database with a sink that remembers, and short ways to build bodies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import Change, InventoryInput, Lane, ProductInput, VariantInput
from meta_sync.catalog.service import CatalogService
from meta_sync.core.db import Database
from meta_sync.core.queue import MemoryJobQueue

NOW = datetime(2026, 5, 3, 12, tzinfo=UTC)


@dataclass
class RecordingSink:
    """Remembers what it is told; in the tests that read it every transaction commits."""

    calls: list[tuple[str, list[Change]]] = field(default_factory=list)

    async def record(self, connection: AsyncConnection, store_id: str, changes: Sequence[Change]) -> None:
        assert connection.in_transaction()
        self.calls.append((store_id, list(changes)))

    def take(self) -> dict[str, Lane]:
        """The lanes by variant since the last call, which must name each variant once per transaction."""
        found: dict[str, Lane] = {}
        for _, changes in self.calls:
            ids = [change.variant_id for change in changes]
            assert ids == sorted(set(ids))
            found.update((change.variant_id, change.lane) for change in changes)
        self.calls.clear()
        return found


@dataclass
class Bench:
    """Everything a catalog test needs."""

    database: Database
    sink: RecordingSink
    queue: MemoryJobQueue
    catalog: CatalogService
    now: datetime = NOW

    async def rows(self, query: str, store_id: str = "s") -> list[tuple[Any, ...]]:
        async with self.database.store(store_id) as connection:
            return [tuple(row) for row in await connection.execute(text(query))]

    async def snapshot(self, store_id: str = "s") -> dict[str, list[tuple[Any, ...]]]:
        """Every catalog row with its system version: equal snapshots mean that nothing was written."""
        return {
            table: await self.rows(f"SELECT t.xmin::text, t.* FROM {table} t ORDER BY 3", store_id)
            for table in ("products", "variants", "inventory", "search_documents")
        }


def bench(database: Database) -> Bench:
    sink, queue = RecordingSink(), MemoryJobQueue()
    made = Bench(database, sink, queue, None)  # type: ignore[arg-type]  # set on the next line
    made.catalog = CatalogService(database, sink, queue, lambda: made.now)
    return made


def product(product_id: str = "p", *variants: VariantInput, **fields: Any) -> ProductInput:
    fields.setdefault("title", f"Title of {product_id}")
    return ProductInput(product_id, variants=list(variants), **fields)


def variant(variant_id: str, price: int | None = 1000, **fields: Any) -> VariantInput:
    return VariantInput(variant_id, price=price, **fields)


def stock(on_hand: int | None = None, **fields: Any) -> InventoryInput:
    return InventoryInput(quantity_on_hand=on_hand, **fields)
