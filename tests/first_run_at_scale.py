"""A first run into a catalog of very many items that another plug-in made: read, approved, and nothing old left.

Not part of the test suite by its size. By hand::

    python -m tests.first_run_at_scale --items 5000

A real PostgreSQL and the sandbox as Meta, in one process. Half of the items are the store's own by their ids, with other
texts and prices, fields that the store does not have, and a sale price on every third; the other half are not its own.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from meta_sync.catalog.models import VariantInput
from meta_sync.core.db import Database
from meta_sync.core.logging import configure_logging
from meta_sync.sandbox.options import DEMO_CATALOG_ID, SandboxOptions
from tests.support.postgres import fresh_database, running_postgres
from tests.support.world import World, open_world, product, variant

__all__ = ["run_first_run_at_scale"]

_PER_PRODUCT = 5
_PRODUCTS_AT_ONCE = 200


def _old_item(number: int, retailer_id: str) -> dict[str, Any]:
    item = {
        "id": retailer_id,
        "title": f"Old title {number}",
        "description": "Old words",
        "price": "99.00 EUR",
        "color": "red",
        "material": "wood",
        "custom_label_0": "old",
        "additional_image_link": ["https://old.example/2.jpg"],
        "availability": "in stock",
        "condition": "new",
        "link": "https://old.example/p",
        "image_link": "https://old.example/p.jpg",
        "brand": "Old",
    }
    if number % 3 == 0:
        sale = {
            "sale_price": "49.00 EUR",
            "sale_price_effective_date": "2026-01-01T00:00+00:00/2030-01-01T00:00+00:00",
        }
        item |= sale
    return item


async def _fill(world: World, items: int) -> list[str]:
    """The catalog at Meta and the store's own; the ids that both have."""
    shared = [f"v{number:06}" for number in range(items // 2)]
    catalog = world.sandbox.catalog(DEMO_CATALOG_ID)
    for number, retailer_id in enumerate(shared):
        catalog.store(retailer_id, _old_item(number, retailer_id))
    for number in range(items - len(shared)):
        catalog.store(f"theirs-{number:06}", _old_item(number, f"theirs-{number:06}"))
    variants: list[VariantInput] = [variant(one) for one in shared]
    products = [
        product(f"p{start:06}", *variants[start : start + _PER_PRODUCT])
        for start in range(0, len(variants), _PER_PRODUCT)
    ]
    for start in range(0, len(products), _PRODUCTS_AT_ONCE):
        await world.catalog.put_products(world.store_id, products[start : start + _PRODUCTS_AT_ONCE])
    return shared


async def run_first_run_at_scale(world: World, items: int) -> list[str]:
    """Do it, and say in lines what was seen; fails where a promise is broken."""
    lines = []
    shared = await _fill(world, items)
    theirs = {one: dict(data) for one, data in world.at_meta().items() if one not in set(shared)}
    await world.connect()
    began = time.monotonic()

    async def is_read() -> bool:
        [report] = await world.reports.list(world.store_id)
        return report.status == "success"

    await world.run(until=is_read)
    lines.append(f"report after {time.monotonic() - began:.1f} s")
    pipeline = world.pipeline()
    for _ in range(20):
        await pipeline.sweep_tick()
        await pipeline.drain_tick()
        await pipeline.jobs_tick()
    assert world.calls() == 0, "something was sent before the approval"
    [report] = await world.reports.list(world.store_id)
    tally = report.result["catalog"]["tally"]
    of_sale = len(range(0, len(shared), 3))
    assert (tally["items"], tally["changed"]["count"], tally["foreign"]["count"]) == (
        items,
        len(shared),
        items - len(shared),
    )
    assert tally["salesEnded"]["count"] == of_sale
    questions = sum(one.path.endswith("/products") for one in world.sandbox.requests)
    lines.append(
        f"{tally['items']:,} items in {questions} questions: {tally['changed']['count']:,} would change,"
        f" {of_sale:,} of them lose a sale, {tally['foreign']['count']:,} are left alone"
    )
    await world.approve()
    began = time.monotonic()
    await world.run()
    left = world.at_meta()
    lines.append(f"first run in {time.monotonic() - began:.1f} s and {world.calls()} calls")
    assert {one: left.pop(one) for one in theirs} == theirs, "an item of somebody else was changed"
    assert left == await world.wanted(), "an old field survived"
    assert not any("sale_price" in data or "color" in data for data in left.values())
    lines.append(f"{len(left):,} items are as the store has them, and {len(theirs):,} as they were")
    return lines


async def _run(url: str, items: int) -> list[str]:
    database = Database.connect(url)
    try:
        async with open_world(database, url, SandboxOptions(processing_delay_seconds=0.01)) as world:
            return await run_first_run_at_scale(world, items)
    finally:
        await database.dispose()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=5_000)
    arguments = parser.parse_args()
    configure_logging("ERROR", "console")
    with running_postgres() as server, fresh_database(server) as url:
        print("\n".join(asyncio.run(_run(url, arguments.items))))


if __name__ == "__main__":
    main()
