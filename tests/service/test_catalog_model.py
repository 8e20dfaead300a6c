"""Random sequences of writes against a plain model of what they mean: rows, intents and answers must agree at each step."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, BinaryIO

import pytest
from sqlalchemy import select, text

from meta_sync.catalog.ingest import import_runner
from meta_sync.catalog.ingest.import_runner import ImportRunner
from meta_sync.catalog.ingest.imports import ImportService
from meta_sync.catalog.ingest.rows import FormatContext, ImportedVariant, Parsed
from meta_sync.catalog.item_columns import catalog_item_columns, catalog_item_source
from meta_sync.catalog.models import CatalogItem, InventoryInput, Lane, ProductInput, VariantInput
from meta_sync.catalog.tables import variants
from meta_sync.core.db import Database
from tests.support.catalog import NOW, Bench, bench

# Few ids, some of them both a product's and a variant's, so that moves, namesakes and revivals happen all the time.
PRODUCT_IDS = ["a", "b", "c", "x"]
VARIANT_IDS = ["a", "b", "x", "1", "2", "3"]
CLOCKS = [None, *(NOW + timedelta(minutes=minute) for minute in range(5))]


@dataclass
class Model:
    """The catalog as its rules say it, with no thought of speed."""

    products: dict[str, ProductInput] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    variants: dict[str, tuple[str, VariantInput]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    stock: dict[str, InventoryInput] = field(default_factory=dict)

    def stale(self, given: ProductInput) -> bool:
        stored = self.products.get(given.id)
        if stored is None or stored.updated_at is None or given.updated_at is None:
            return False
        if given.id in self.dead:
            return given.updated_at <= stored.updated_at
        return given.updated_at < stored.updated_at

    def put(self, given: ProductInput) -> bool:
        if self.stale(given):
            for one in given.variants:
                if one.inventory and one.inventory.updated_at and self.is_live(one.id, given.id):
                    self.put_stock(one.id, one.inventory)
            return False
        self.put_fields(given)
        named = {one.id for one in given.variants}
        for variant_id, (owner, _) in self.variants.items():
            if owner == given.id and variant_id not in named:
                self.gone.add(variant_id)
        for one in given.variants:
            self.put_variant(given.id, one)
        return True

    def put_fields(self, given: ProductInput) -> None:
        stored = self.products.get(given.id)
        clock = given.updated_at or (stored.updated_at if stored else None)
        self.products[given.id] = replace(given, variants=[], updated_at=clock)
        self.dead.discard(given.id)

    def put_variant(self, product_id: str, given: VariantInput) -> None:
        self.variants[given.id] = (product_id, replace(given, inventory=None))
        self.gone.discard(given.id)
        if given.inventory:
            self.put_stock(given.id, given.inventory)

    def put_stock(self, variant_id: str, given: InventoryInput) -> None:
        stored = self.stock.get(variant_id)
        if stored and stored.updated_at and given.updated_at and given.updated_at < stored.updated_at:
            return
        base = stored or InventoryInput(True, 0, 0, False, None)
        said = {name: value for name in ("track_inventory", "quantity_on_hand", "reserved_quantity",
                "allow_backorder", "updated_at") if (value := getattr(given, name)) is not None}  # fmt: skip
        if set(said) <= {"updated_at"}:
            return
        self.stock[variant_id] = replace(base, **said)

    def delete(self, product_id: str) -> None:
        self.dead.add(product_id)
        self.gone.update(
            variant_id for variant_id, (owner, _) in self.variants.items() if owner == product_id
        )

    def forget(self, variant_ids: set[str]) -> None:
        """What came and went within one write never was."""
        for variant_id in variant_ids:
            del self.variants[variant_id]
            self.stock.pop(variant_id, None)
            self.gone.discard(variant_id)

    def is_live(self, variant_id: str, product_id: str | None = None) -> bool:
        owner = self.variants.get(variant_id, (None,))[0]
        return owner is not None and variant_id not in self.gone and product_id in {None, owner}

    def items(self) -> dict[str, CatalogItem]:
        return {variant_id: self.item(variant_id) for variant_id in self.variants}

    def item(self, variant_id: str) -> CatalogItem:
        owner, one = self.variants[variant_id]
        of, counted = self.products[owner], self.stock.get(variant_id)
        siblings = min(2, sum(self.is_live(other, owner) for other in self.variants))
        return CatalogItem(
            variant_id, owner, of.title, of.subtitle, of.description, of.slug, of.link, of.status, of.visibility,
            of.brand, of.vendor, of.thumbnail, of.images, of.categories, of.google_product_category,
            owner in self.dead, one.sku, one.link, one.price, one.special_price, one.special_price_start,
            one.special_price_end, one.condition, one.thumbnail, one.images, one.ean, one.upc, one.barcode,
            one.options, one.availability, variant_id in self.gone,
            counted.track_inventory if counted else None, counted.quantity_on_hand if counted else None,
            counted.reserved_quantity if counted else None, counted.allow_backorder if counted else None,
            siblings, owner in self.variants,
        )  # fmt: skip


def payload(item: CatalogItem | None) -> Any:
    """What a push of the item depends on: the group only where there is one, nothing once it is deleted."""
    if item is None or item.variant_deleted:
        return None
    grouped = item.live_variant_count > 1
    return replace(item, live_variant_count=int(grouped), group_id_taken=grouped and item.group_id_taken)


async def stored_items(b: Bench) -> dict[str, CatalogItem]:
    statement = select(*catalog_item_columns()).select_from(catalog_item_source())
    async with b.database.store("s") as connection:
        return {
            row[0]: replace(CatalogItem(*row), source=None)
            for row in await connection.execute(statement.where(variants.c.store_id == "s"))
        }


class Writes:
    """Random bodies over few values, so that equal ones are common."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def stock(self) -> InventoryInput | None:
        pick = self.random.choice
        if self.random.random() < 0.5:
            return None
        return InventoryInput(
            pick([None, True, False]),
            pick([None, 0, 1]),
            pick([None, 0, 1]),
            pick([None, True]),
            pick(CLOCKS),
        )

    def variant(self, variant_id: str) -> VariantInput:
        pick = self.random.choice
        return VariantInput(
            variant_id,
            sku=pick([None, "S"]),
            price=pick([None, 1, 2]),
            images=pick([[], ["i"]]),
            options=pick([{}, {"size": "1"}]),
            inventory=self.stock(),
        )

    def product(self, product_id: str, variant_ids: list[str]) -> ProductInput:
        pick = self.random.choice
        return ProductInput(
            product_id,
            title=pick(["t", "T"]),
            status=pick(["active", "active", "draft"]),
            updated_at=pick(CLOCKS),
            source=pick(["api", "feed"]),
            variants=[self.variant(variant_id) for variant_id in variant_ids],
        )

    def batch(self) -> list[ProductInput]:
        """Products whose variants do not overlap, sometimes the same product twice."""
        ids = self.random.sample(VARIANT_IDS, self.random.randint(0, len(VARIANT_IDS)))
        first, second = self.random.choice(PRODUCT_IDS), self.random.choice(PRODUCT_IDS)
        cut = self.random.randint(0, len(ids))
        if self.random.random() < 0.4:
            return [self.product(first, ids)]
        return [self.product(first, ids[:cut]), self.product(second, ids[cut:])]


class Listed:
    """A format that yields the rows it was given, whatever the file holds."""

    name = "google-csv"

    def __init__(self, rows: list[ImportedVariant]) -> None:
        self.rows = rows

    def recognises(self, head: bytes, file_name: str | None) -> float:
        return 1.0

    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        yield from self.rows


async def import_rows(b: Bench, model: Model, writes: Writes, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[ImportedVariant] = []
    for number in range(1, writes.random.randint(2, 7)):
        one = writes.variant(writes.random.choice(VARIANT_IDS))
        of = replace(writes.product(writes.random.choice(PRODUCT_IDS), []), updated_at=None)
        rows.append(ImportedVariant(number, of, one, product_is_partial=writes.random.random() < 0.3))
    monkeypatch.setattr(import_runner, "format_by_name", lambda name: Listed(rows))
    monkeypatch.setattr(import_runner, "_CHUNK_ENTRIES", writes.random.randint(1, 4))
    service = ImportService(b.database, b.queue, max_upload_bytes=100)
    import_id = await service.create("s", format="google-csv", source="file")
    await service.append_chunk("s", import_id, 0, b"x")
    await service.finish_upload("s", import_id)
    assert await ImportRunner(b.database, b.sink, b.queue, lambda: NOW).run_next()
    seen: set[str] = set()
    named: set[str] = set()
    failed = 0
    for row in rows:
        if row.variant.id in seen:
            failed += 1
            continue
        seen.add(row.variant.id)
        if not row.product_is_partial and row.product.id not in named:
            named.add(row.product.id)
            model.put_fields(replace(row.product, source="file"))
        if row.product.id not in model.products or row.product.id in model.dead:
            failed += 1
            continue
        model.put_variant(row.product.id, row.variant)
    view = await service.get("s", import_id)
    went_in = view.counts["created"] + view.counts["changed"] + view.counts["unchanged"]
    status = "success" if not failed else "partial" if went_in else "error"
    assert (view.status, view.counts["failed"]) == (status, failed)
    assert sum(view.counts[name] for name in ("created", "changed", "unchanged", "skipped", "failed")) == len(
        rows
    )


async def step(b: Bench, model: Model, writes: Writes, monkeypatch: pytest.MonkeyPatch) -> bool:
    """One random write to both; whether it was an import."""
    kind = writes.random.random()
    if kind < 0.5:
        batch = writes.batch()
        results = await b.catalog.put_products("s", batch)
        known = set(model.variants)
        assert [not result.stale for result in results] == [model.put(given) for given in batch]
        model.forget((model.variants.keys() - known) & model.gone)
    elif kind < 0.6:
        product_id = writes.random.choice(PRODUCT_IDS)
        if product_id in model.products:
            await b.catalog.delete_product("s", product_id)
            model.delete(product_id)
    elif kind < 0.8:
        items = [(pick, writes.stock() or InventoryInput()) for pick in writes.random.sample(VARIANT_IDS, 3)]
        result = await b.catalog.put_inventory("s", items)
        assert result.missing == [variant_id for variant_id, _ in items if not model.is_live(variant_id)]
        for variant_id, given in items:
            if model.is_live(variant_id):
                model.put_stock(variant_id, given)
    else:
        await import_rows(b, model, writes, monkeypatch)
        return True
    return False


def documents(model: Model) -> dict[str, str]:
    found = {}
    for variant_id, (owner, one) in model.variants.items():
        of = model.products[owner]
        parts = [of.title, one.sku, of.slug, variant_id, owner]
        found[variant_id] = "\n".join(part.lower() for part in parts if part)
    return found


@pytest.mark.parametrize("seed", range(6))
async def test_rows_intents_and_answers_agree_with_the_model(
    database: Database, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    b, model, writes = bench(database), Model(), Writes(seed)
    async with database.platform() as connection:
        await connection.execute(
            text(
                "INSERT INTO stores (store_id, public_id, name, settings) VALUES ('s', 's', 's', '{\"currency\": \"USD\"}')"
            )
        )
    for _ in range(70):
        before = model.items()
        by_import = await step(b, model, writes, monkeypatch)
        after = model.items()
        assert await stored_items(b) == after
        assert dict(await b.rows("SELECT variant_id, document FROM search_documents")) == documents(model)
        clocks: dict[str, datetime | None] = dict(
            await b.rows("SELECT product_id, source_updated_at FROM products")
        )
        assert clocks == {one.id: one.updated_at for one in model.products.values()}
        changed = {
            variant_id
            for variant_id in after
            if payload(before.get(variant_id)) != payload(after[variant_id])
        }
        lanes = {}
        for _, changes in b.sink.calls:
            lanes.update({change.variant_id: change.lane for change in changes})
        if by_import:
            # An import is several transactions: what one of them changed the next may change back.
            assert changed <= lanes.keys()
        else:
            assert lanes.keys() == changed
            assert Lane.BULK not in lanes.values()
        for variant_id in changed & before.keys():
            old, new = before[variant_id], after[variant_id]
            if (
                old.variant_deleted != new.variant_deleted
                or old.price != new.price
                or old.status != new.status
            ):
                assert lanes[variant_id] is Lane.LIVE or by_import
        b.sink.calls.clear()
