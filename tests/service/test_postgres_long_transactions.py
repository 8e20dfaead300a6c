"""Transactions that stay open for long: what they write is not passed over, and nobody pays for what they keep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from meta_sync.core import failpoints
from meta_sync.core.db import Database
from tests.support.database_faults import OwnPostgres, until, with_database
from tests.support.pipeline import assert_tidy, one
from tests.support.world import World, open_world, product, variant


@pytest.fixture
async def database(own_postgres: OwnPostgres) -> AsyncIterator[Database]:
    database = Database.connect(own_postgres.url, pool_size=6)
    yield database
    await database.dispose()


@pytest.fixture
async def world(database: Database, own_postgres: OwnPostgres) -> AsyncIterator[World]:
    async with open_world(database, own_postgres.url) as world:
        yield world
    failpoints.disarm_all()


async def test_a_writer_that_commits_late_is_not_passed_over(world: World) -> None:
    """Scenario 12: its number is lower than those that were worked off before it was there to be seen."""
    names = ("early", "late", "quick")
    for name in names:
        await world.put(name, variant(name, 1000))
    await world.connect()
    await world.run()
    await world.put("early", variant("early", 2000))
    failpoints.arm("catalog.before_commit", "sleep:1.5@1")
    late = asyncio.create_task(world.put("late", variant("late", 2000)))
    await until(lambda: failpoints._armed["catalog.before_commit"].passed == 1)
    await world.put("quick", variant("quick", 2000))
    # What was there is worked off, and the store is not due any more: the late writer found it due and left it so.
    await world.run()
    assert not late.done()
    assert await one(world, "SELECT due_at FROM store_queue") is None
    assert {name: world.at_meta()[name]["price"] for name in names} == {
        "early": "20.00 EUR",
        "late": "10.00 EUR",
        "quick": "20.00 EUR",
    }
    await late
    order = "SELECT array_agg(variant_id ORDER BY version) FROM variants"
    assert await one(world, order) == ["early", "late", "quick"]
    await world.run()
    await assert_tidy(world)
    assert world.at_meta()["late"]["price"] == "20.00 EUR"


_BLOCKS = """
    SELECT sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::int FROM pg_statio_user_tables
    WHERE relname IN ('intents', 'sync_state', 'store_queue')
"""
_PAGES = """
    SELECT sum(pg_total_relation_size(oid) / 8192)::int FROM pg_class
    WHERE relname IN ('intents', 'sync_state', 'store_queue')
"""
_DEAD_INTENTS = """
    INSERT INTO intents (store_id, variant_id, version, lane, first_at)
    SELECT store_id, 'gone-' || n, n, 0, now() - interval '1 day' FROM stores, generate_series(1, 20000) AS n
"""


async def test_a_long_transaction_elsewhere_makes_no_claim_slow(
    world: World, own_postgres: OwnPostgres
) -> None:
    """Scenario 20: what was worked off stays in the tables while an old snapshot is open; it is passed over once.

    Counted in blocks of the tables that a claim works on, not in time: a claim that looks for each of its rows among
    the dead ones would touch some hundred times as many.
    """
    products = [product(f"p{number}", variant(f"v{number}")) for number in range(200)]
    await world.catalog.put_products(world.store_id, products)
    await world.connect()
    await world.stores.patch_settings(world.store_id, {"guardMaxShare": 1.0})
    own_postgres.sql("ANALYZE")
    await world.run()
    # A single connection, so that it can be told to hand in its figures.
    alone = Database.connect(own_postgres.url, pool_size=1)

    async def blocks() -> int:
        async with alone.platform() as connection:
            await connection.execute(text("SELECT pg_stat_force_next_flush()"))
        return int(await one(alone, _BLOCKS))

    async def claim(price: int) -> int:
        changed = [product(f"p{number}", variant(f"v{number}", price)) for number in range(200)]
        await world.catalog.put_products(world.store_id, changed)
        before = await blocks()
        calls = world.calls()
        assert await with_database(world, alone).pipeline("alone").drain_tick() == 1
        assert world.calls() == calls + 1
        return await blocks() - before

    own_postgres.sql("ANALYZE")
    usual = await claim(1500)
    await world.run()
    async with world.database.platform() as snapshot:
        await snapshot.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        await snapshot.execute(text("SELECT count(*) FROM intents"))
        own_postgres.sql(_DEAD_INTENTS)
        own_postgres.sql("DELETE FROM intents")
        own_postgres.sql("VACUUM ANALYZE intents")
        with_dead_rows = await claim(2500)
        pages = await one(alone, _PAGES)
        print(usual, with_dead_rows, pages)
        assert with_dead_rows < usual + 3 * pages
    await alone.dispose()
    await world.run()
    await assert_tidy(world)
