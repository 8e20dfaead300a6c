"""Writers at the same time: no deadlock reaches the caller, no write is lost, counts are taken under the lock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from meta_sync.catalog.models import Lane
from meta_sync.catalog.repository import load_working_set
from meta_sync.catalog.service import CatalogService
from meta_sync.core.db import Database
from meta_sync.core.failpoints import FailpointError, arm, disarm_all
from meta_sync.core.queue import MemoryJobQueue
from meta_sync.sync.outbox import OutboxSink
from tests.support.catalog import NOW, Bench, bench, product, stock, variant


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    yield
    disarm_all()


@pytest.fixture
def b(database: Database) -> Bench:
    return bench(database)


@pytest.fixture
def piped(database: Database) -> Bench:
    """With the pipeline's own sink, for what must hold in the intents themselves."""
    made = bench(database)
    made.catalog = CatalogService(database, OutboxSink(), MemoryJobQueue(), lambda: NOW)
    return made


async def until_waiting(b: Bench, task: asyncio.Task[object]) -> None:
    while not await b.rows("SELECT 1 FROM pg_locks WHERE NOT granted"):
        assert not task.done()


async def test_writers_of_the_same_products_in_any_order_all_get_through(piped: Bench) -> None:
    randomness = random.Random(5)

    async def writer(price: int) -> None:
        for _ in range(6):
            names = [f"p{number}" for number in range(8)]
            randomness.shuffle(names)
            await piped.catalog.put_products(
                "s",
                [product(name, variant(f"{name}-a", price), variant(f"{name}-b", price)) for name in names],
            )
            ids = [f"{name}-a" for name in names]
            await piped.catalog.put_inventory("s", [(variant_id, stock(price)) for variant_id in ids])

    await asyncio.gather(*(writer(price) for price in (1, 2, 3)))
    assert len(await piped.rows("SELECT 1 FROM variants WHERE deleted_at IS NULL")) == 16
    assert len(await piped.rows("SELECT 1 FROM intents")) == 16
    prices = await piped.rows("SELECT product_id FROM variants GROUP BY 1 HAVING count(DISTINCT price) > 1")
    assert prices == [], "one body wins whole"


async def test_writers_that_pull_variants_from_each_other_all_get_through(piped: Bench) -> None:
    async def writer(name: str, seed: int) -> None:
        randomness = random.Random(seed)
        for _ in range(12):
            chosen = randomness.sample(range(6), 3)
            await piped.catalog.put_product("s", product(name, *(variant(f"v{number}") for number in chosen)))

    await asyncio.gather(*(writer(name, seed) for seed, name in enumerate(("p", "q", "r"))))
    await asyncio.gather(
        piped.catalog.put_product("s", product("p", variant("v0"), variant("v1"))),
        piped.catalog.put_product("s", product("q", variant("v2"), variant("v3"))),
        piped.catalog.put_product("s", product("r", variant("v4"), variant("v5"))),
    )
    live = await piped.rows(
        "SELECT product_id, variant_id FROM variants WHERE deleted_at IS NULL ORDER BY 1, 2"
    )
    assert live == [("p", "v0"), ("p", "v1"), ("q", "v2"), ("q", "v3"), ("r", "v4"), ("r", "v5")]


async def test_the_sibling_count_is_taken_under_the_lock(b: Bench) -> None:
    await b.catalog.put_product("s", product("p", variant("v1"), variant("v2"), variant("v3")))
    b.sink.take()
    async with b.database.store("s") as connection:
        working = await load_working_set(connection, "s", ["p"], [])
        assert len(working.variants) == 3
        task = asyncio.create_task(b.catalog.put_product("s", product("p", variant("v1"))))
        await until_waiting(b, task)
        await connection.execute(text("UPDATE variants SET deleted_at = now() WHERE variant_id = 'v2'"))
    await task
    # It saw two live variants, not three: v2 was gone by the time it had the lock.
    assert b.sink.take() == {"v1": Lane.CONTENT, "v3": Lane.LIVE}


async def test_a_move_that_comes_in_between_is_followed(b: Bench) -> None:
    await b.catalog.put_products("s", [product("p", variant("v"), variant("w")), product("q", variant("x"))])
    async with b.database.store("s") as connection:
        await load_working_set(connection, "s", ["p"], [])
        task = asyncio.create_task(b.catalog.put_product("s", product("p", variant("v"), variant("w"))))
        await until_waiting(b, task)
        await connection.execute(text("UPDATE variants SET product_id = 'q' WHERE variant_id = 'v'"))
    b.sink.take()
    result = await task
    assert result.variants == 2
    assert await b.rows("SELECT product_id FROM variants WHERE variant_id = 'v'") == [("p",)]
    assert b.sink.take() == dict.fromkeys("vwx", Lane.CONTENT)


async def test_two_writers_that_make_the_same_product_see_each_other(b: Bench) -> None:
    arm("catalog.before_commit", "sleep:0.2@1")
    first = asyncio.create_task(b.catalog.put_product("s", product("p", variant("v1"))))
    await asyncio.sleep(0)
    second = asyncio.create_task(b.catalog.put_product("s", product("q", variant("v1"), variant("v2"))))
    await asyncio.gather(first, second)
    owners = await b.rows("SELECT variant_id, product_id FROM variants WHERE deleted_at IS NULL ORDER BY 1")
    assert owners in ([("v1", "p"), ("v2", "q")], [("v1", "q"), ("v2", "q")])


async def test_stock_that_two_writers_make_first_is_compared_by_clock(b: Bench) -> None:
    await b.catalog.put_product("s", product("p", variant("v1")))
    async with b.database.store("s") as connection:
        await connection.execute(
            text(
                "INSERT INTO inventory (store_id, variant_id, track_inventory, quantity_on_hand, source_updated_at, version)"
                " VALUES ('s', 'v1', true, 2, :at, 1)"
            ),
            {"at": NOW},
        )
        older = [("v1", stock(1, updated_at=NOW.replace(hour=1)))]
        task = asyncio.create_task(b.catalog.put_inventory("s", older))
        await until_waiting(b, task)
    assert (await task).stale == ["v1"]
    assert await b.rows("SELECT quantity_on_hand FROM inventory") == [(2,)]


async def test_ten_thousand_updates_of_a_variant_leave_one_intent(piped: Bench) -> None:
    await piped.catalog.put_product("s", product("p", variant("v1")))
    for start in range(0, 10_000, 1_000):
        bodies = [product("p", variant("v1", price)) for price in range(start, start + 1_000)]
        await piped.catalog.put_products("s", bodies)
    for quantity in range(20):
        await piped.catalog.put_inventory("s", [("v1", stock(quantity))])
    assert await piped.rows("SELECT variant_id, lane FROM intents") == [("v1", 0)]
    assert await piped.rows("SELECT price FROM variants") == [(9_999,)]


async def test_a_failure_before_the_commit_leaves_nothing_and_after_it_everything(piped: Bench) -> None:
    arm("catalog.before_commit", "raise")
    with pytest.raises(FailpointError):
        await piped.catalog.put_product("s", product("p", variant("v1")))
    for table in ("products", "variants", "search_documents", "intents"):
        assert await piped.rows(f"SELECT 1 FROM {table}") == []
    disarm_all()
    arm("catalog.after_commit", "raise")
    with pytest.raises(FailpointError):
        await piped.catalog.put_product("s", product("p", variant("v1")))
    for table in ("products", "variants", "search_documents", "intents"):
        assert len(await piped.rows(f"SELECT 1 FROM {table}")) == 1


async def test_a_write_under_another_stores_name_is_refused_by_the_database(b: Bench) -> None:
    await b.catalog.put_product("s", product("p", variant("v1")))
    async with b.database.store("t") as connection:
        assert (await load_working_set(connection, "s", ["p"], ["v1"])).variants == {}
    with pytest.raises(DBAPIError, match="row-level security"):
        async with b.database.store("t") as connection:
            await connection.execute(
                text(
                    "INSERT INTO products (store_id, product_id, status, visibility, source, version)"
                    " VALUES ('s', 'x', 'active', 'public', 'api', 1)"
                )
            )


async def test_counters_follow_the_rows(b: Bench) -> None:
    await b.catalog.put_product("s", product("p", variant("v1"), variant("v2")))
    await b.catalog.put_product("s", product("p", variant("v1")))
    await b.catalog.put_product("s", product("q", variant("w")))
    await b.catalog.delete_product("s", "q")
    totals = await b.rows("SELECT name, sum(delta)::int FROM counter_deltas GROUP BY 1 ORDER BY 1")
    assert totals == [("products", 1), ("variants", 1)]
