"""What Meta's shoppers may see stands in rows of its own: always exactly what products and variants say, however written."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from meta_sync.catalog.events import EventData, ProductDeletion, ProductPatch, VariantDeletion
from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.core.db import Database
from meta_sync.core.migrations import migrations_directory, upgrade
from tests.service.test_catalog_model import PRODUCT_IDS, VARIANT_IDS, Writes
from tests.support.catalog import NOW, Bench, bench, product, variant
from tests.support.events import Sender, created
from tests.support.imports import ImportBench, feed, rows_of
from tests.support.postgres import fresh_database

_TRUTH = """
    SELECT v.store_id, v.variant_id FROM variants AS v JOIN products AS p USING (store_id, product_id)
    WHERE v.deleted_at IS NULL AND p.deleted_at IS NULL AND p.status = 'active' AND p.visibility = 'public'
"""


async def offered(database: Database) -> set[tuple[str, str]]:
    """What is kept, which must be true."""
    async with database.platform() as connection:
        kept = {(row[0], row[1]) for row in await connection.execute(text("TABLE offered_variants"))}
        true = {(row[0], row[1]) for row in await connection.execute(text(_TRUTH))}
    assert kept == true
    return kept


async def make_stores(database: Database, *store_ids: str) -> None:
    async with database.platform() as connection:
        for store_id in store_ids:
            await connection.execute(
                text(
                    "INSERT INTO stores (store_id, public_id, name, settings)"
                    ' VALUES (:s, :s, :s, \'{"currency": "USD"}\')'
                ),
                {"s": store_id},
            )


async def by_event(b: Bench, send: Sender, rng: random.Random, minute: int) -> None:
    news: list[EventData] = [
        ProductPatch(rng.choice(PRODUCT_IDS), {"status": rng.choice(["active", "draft"])}),
        ProductPatch(rng.choice(PRODUCT_IDS), {"visibility": rng.choice(["public", "private"])}),
        created(rng.choice(VARIANT_IDS), product_id=rng.choice(PRODUCT_IDS)),
        VariantDeletion(rng.choice(PRODUCT_IDS), rng.choice(VARIANT_IDS)),
        ProductDeletion(rng.choice(PRODUCT_IDS)),
    ]
    b.now = NOW + timedelta(minutes=minute)
    await send(rng.choice(news), b.now)


@pytest.mark.parametrize("seed", range(3))
async def test_random_writes_by_every_way_of_the_service(database: Database, seed: int) -> None:
    await make_stores(database, "s")
    b, writes = bench(database), Writes(seed)
    rng, send = writes.random, Sender(b)
    seen = set()
    for number in range(40):
        way = rng.random()
        if way < 0.4:
            await b.catalog.put_products("s", writes.batch())
        elif way < 0.5 and await b.rows("SELECT 1 FROM products WHERE product_id = 'a'"):
            await b.catalog.delete_product("s", "a")
        elif way < 0.85:
            await by_event(b, send, rng, number)
        else:
            ids = rng.sample(VARIANT_IDS, 3)
            rows = [row for one in ids for row in rows_of(one, group=rng.choice(PRODUCT_IDS))]
            await ImportBench(b).run(
                feed(*rows), mode=rng.choice(["upsert", "replace"]), allow_mass_delete=True
            )
        seen.add(frozenset(await offered(database)))
    assert len(seen) > 5


async def test_a_replaced_file_and_moved_variants(database: Database) -> None:
    await make_stores(database, "s", "t")
    i = ImportBench(bench(database))
    await i.run(feed(*rows_of("a", "b", "c", group="g"), *rows_of(*(f"i{n}" for n in range(10)))))
    assert {one for _, one in await offered(database)} == {"a", "b", "c", *(f"i{n}" for n in range(10))}
    await i.replace(feed(*rows_of("a", "c", group="g"), *rows_of(*(f"i{n}" for n in range(9)))))
    assert {one for _, one in await offered(database)} == {"a", "c", *(f"i{n}" for n in range(9))}
    catalog = i.b.catalog
    await catalog.put_product("s", product("hidden", variant("h"), status="draft"))
    assert ("s", "h") not in await offered(database)
    # A variant goes to a product that nobody sees, and back.
    await catalog.put_product("s", product("hidden", variant("h"), variant("a"), status="draft"))
    assert ("s", "a") not in await offered(database)
    await catalog.put_product("s", product("seen", variant("h"), variant("a")))
    assert {("s", "a"), ("s", "h")} <= await offered(database)
    await catalog.put_product("t", product("seen", variant("h"), visibility="private"))
    assert ("t", "h") not in await offered(database)


@pytest.mark.parametrize("seed", range(3))
async def test_random_statements_over_many_rows(database: Database, seed: int) -> None:
    """Whatever is written past the service, a restored table for instance."""
    await make_stores(database, "s", "t")
    rng = random.Random(seed)
    statements = (
        "UPDATE products SET status = (ARRAY['active', 'draft'])[1 + ({n} + length(product_id)) % 2] WHERE {p}",
        "UPDATE products SET visibility = (ARRAY['public', 'private'])[1 + {n} % 2] WHERE {p}",
        "UPDATE products SET deleted_at = CASE WHEN {n} % 2 = 0 THEN now() END WHERE {p}",
        "UPDATE products SET title = 'another' WHERE {p}",
        "UPDATE variants SET deleted_at = CASE WHEN {n} % 2 = 0 THEN now() END WHERE {v}",
        "UPDATE variants SET product_id = 'p{n}' WHERE {v}",
        "UPDATE variants SET price = {n} WHERE {v}",
        "DELETE FROM variants WHERE {v}",
        "DELETE FROM products WHERE {p}",
        """INSERT INTO products (store_id, product_id, status, visibility, source, version)
        SELECT s, 'p' || i, 'active', 'public', 'api', 1
        FROM (VALUES ('s'), ('t')) AS of (s), generate_series(0, 9) AS i
        ON CONFLICT (store_id, product_id) DO UPDATE SET status = 'active', deleted_at = NULL""",
        """INSERT INTO variants (store_id, variant_id, product_id, version)
        SELECT s, 'v' || i, 'p' || i % 10, 1
        FROM (VALUES ('s'), ('t')) AS of (s), generate_series(0, 39) AS i
        ON CONFLICT (store_id, variant_id) DO UPDATE SET product_id = excluded.product_id, deleted_at = NULL""",
    )
    values: dict[str, Any] = {}
    for number in range(60):
        values["n"] = rng.randrange(10)
        values["p"] = f"store_id = 's' AND product_id <= 'p{rng.randrange(10)}'"
        values["v"] = rng.choice(["store_id = 't'", f"variant_id <= 'v{rng.randrange(40)}'"])
        chosen = statements[-1] if number == 0 else rng.choice(statements)
        async with database.platform() as connection:
            await connection.execute(text(chosen.format(**values)))
        await offered(database)


async def test_a_store_that_was_there_before_is_offered_by_the_migration(
    postgres_server: EmbeddedPostgres,
) -> None:
    with fresh_database(postgres_server) as url:
        config = Config()
        config.set_main_option("script_location", str(migrations_directory()))
        config.attributes["url"] = url
        await asyncio.to_thread(command.downgrade, config, "0005")
        name = url.split("/")[3].split("?", maxsplit=1)[0]
        # More products than one page of the migration, in more than one store.
        for store_id, status in (("a", "active"), ("b", "draft"), ("c", "active")):
            postgres_server.psql(
                name,
                "INSERT INTO products (store_id, product_id, status, visibility, source, version) SELECT"
                f" '{store_id}', 'p' || i, '{status}', 'public', 'api', 1 FROM generate_series(1, 700) AS i;"
                " INSERT INTO variants (store_id, variant_id, product_id, version, deleted_at) SELECT"
                f" '{store_id}', 'v' || i, 'p' || i % 700 + 1, 1, CASE WHEN i % 9 = 0 THEN now() END"
                " FROM generate_series(1, 1400) AS i",
            )
        await upgrade(url)
        database = Database.connect(url)
        try:
            assert len(await offered(database)) == 2 * (1400 - 1400 // 9)
        finally:
            await database.dispose()
