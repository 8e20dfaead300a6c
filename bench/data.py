"""The data both programs work on: one connected store with items of about one kilobyte, and the way back to the start.

Both begin at the same point: every variant has a state row that says "never sent" and one entry in the queue.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import asyncpg
import msgspec
from pydantic import SecretStr

from bench.mapping_speed import PLAIN, make_item
from meta_sync.connection.repository import token_context
from meta_sync.core.crypto import Cipher

__all__ = ["STORE_ID", "drop_service", "load", "queue_limit", "queue_service", "reset_limit", "reset_service"]

STORE_ID = "store_bench"
_CREDENTIAL_ID = "credential_bench"
_CATALOG_ID = "1234567890"
_VARIANTS_PER_PRODUCT = 10

_LIMIT_TABLES = """
CREATE SCHEMA bench;
CREATE TABLE bench.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store_id text COLLATE "C" NOT NULL,
    variant_id text COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_store_idx ON bench.outbox (store_id, id);
CREATE TABLE bench.sync_state (
    store_id text COLLATE "C" NOT NULL,
    variant_id text COLLATE "C" NOT NULL,
    status smallint NOT NULL,
    sent_hash bytea,
    batch_id bigint,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (store_id, variant_id)
) WITH (fillfactor = 85);
CREATE TABLE bench.batch (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store_id text NOT NULL,
    items integer NOT NULL,
    status smallint NOT NULL,
    handle text
);
"""

_PRODUCT_COLUMNS = (
    *("store_id", "product_id", "title", "subtitle", "description", "slug", "status", "visibility", "brand"),
    *("vendor", "thumbnail", "images", "categories", "source", "version"),
)
_VARIANT_COLUMNS = (
    *("store_id", "variant_id", "product_id", "sku", "price", "thumbnail", "images", "ean", "options"),
    *("position", "version"),
)
_INVENTORY_COLUMNS = (
    *(
        "store_id",
        "variant_id",
        "track_inventory",
        "quantity_on_hand",
        "reserved_quantity",
        "allow_backorder",
    ),
    "version",
)
_SERVICE_TABLES = (
    *("sync_state", "intents", "batches", "batch_calls", "batch_items", "item_payloads", "item_events"),
    *("counters", "counter_deltas", "store_pauses", "jobs"),
)


async def load(connection: asyncpg.Connection[Any], *, rows: int, graph_host: str, cipher: Cipher) -> int:
    """Fill an empty, migrated database, as its owner. Returns the link's id."""
    await connection.execute(_LIMIT_TABLES)
    link_id = await _connect_store(connection, graph_host, cipher)
    products = rows // _VARIANTS_PER_PRODUCT
    await connection.copy_records_to_table("products", records=_products(products), columns=_PRODUCT_COLUMNS)
    await connection.copy_records_to_table("variants", records=_variants(rows), columns=_VARIANT_COLUMNS)
    await connection.copy_records_to_table("inventory", records=_stock(rows), columns=_INVENTORY_COLUMNS)
    for table in ("products", "variants", "inventory"):
        await connection.execute(f"VACUUM ANALYZE {table}")
    return link_id


async def _connect_store(connection: asyncpg.Connection[Any], graph_host: str, cipher: Cipher) -> int:
    settings = {
        "currency": "EUR",
        "storefront_base_url": "https://shop.example",
        "default_brand": "Shop",
        "sync_enabled": True,
    }
    await connection.execute(
        "INSERT INTO stores (store_id, public_id, name, settings) VALUES ($1, 'pub_bench', 'Bench', $2)",
        STORE_ID,
        msgspec.json.encode(settings).decode(),
    )
    token = cipher.encrypt(SecretStr("token-of-the-benchmark"), context=token_context(_CREDENTIAL_ID))
    await connection.execute(
        "INSERT INTO credentials (credential_id, store_id, access_token, token_kind, active) "
        "VALUES ($1, $2, $3, 'system_user', true)",
        _CREDENTIAL_ID,
        STORE_ID,
        token,
    )
    link_id: int = await connection.fetchval(
        "INSERT INTO catalog_links (store_id, graph_host, catalog_id, credential_id, active, was_empty) "
        "VALUES ($1, $2, $3, $4, true, true) RETURNING link_id",
        STORE_ID,
        graph_host,
        _CATALOG_ID,
        _CREDENTIAL_ID,
    )
    return link_id


def _products(count: int) -> Iterator[tuple[Any, ...]]:
    for number in range(count):
        item = make_item(number * _VARIANTS_PER_PRODUCT, description=PLAIN, sale=False)
        yield (
            *(STORE_ID, item.product_id, item.title, item.subtitle, item.description, item.slug),
            *(item.status, item.visibility, item.brand, item.vendor, item.product_thumbnail),
            *(list(item.product_images), list(item.categories), "api", number + 1),
        )


def _variants(count: int) -> Iterator[tuple[Any, ...]]:
    for number in range(count):
        item = make_item(number, description=PLAIN, sale=False)
        yield (
            *(STORE_ID, item.variant_id, item.product_id, item.sku, item.price, item.variant_thumbnail),
            *([], item.ean, msgspec.json.encode(item.options).decode(), number % _VARIANTS_PER_PRODUCT),
            number + 1,
        )


def _stock(count: int) -> Iterator[tuple[Any, ...]]:
    for number in range(count):
        item = make_item(number, description=PLAIN, sale=False)
        yield (
            *(STORE_ID, item.variant_id, item.track_inventory, item.quantity_on_hand),
            *(item.reserved_quantity, item.allow_backorder, number + 1),
        )


async def reset_limit(connection: asyncpg.Connection[Any]) -> None:
    """Back to the start for the limit program: nothing sent, everything queued."""
    await connection.execute("TRUNCATE bench.outbox, bench.sync_state, bench.batch")
    await connection.execute(
        "INSERT INTO bench.sync_state (store_id, variant_id, status) "
        "SELECT store_id, variant_id, 0 FROM variants ORDER BY variant_id"
    )
    await queue_limit(connection)


async def queue_limit(connection: asyncpg.Connection[Any]) -> None:
    """Queue every variant for the limit program, and let the server come to rest."""
    await connection.execute(
        "INSERT INTO bench.outbox (store_id, variant_id) SELECT store_id, variant_id FROM variants ORDER BY variant_id"
    )
    await _rest(connection, ("bench.outbox", "bench.sync_state", "bench.batch"))


async def drop_service(connection: asyncpg.Connection[Any]) -> None:
    """Empty the pipeline's tables, so that they cost the other program nothing."""
    await connection.execute(f"TRUNCATE {', '.join(_SERVICE_TABLES)}")
    await connection.execute("UPDATE store_queue SET due_at = NULL")


async def reset_service(connection: asyncpg.Connection[Any], link_id: int) -> None:
    """Back to the start for the service: what its catalog writes when a whole catalog is put into an empty store."""
    await drop_service(connection)
    await connection.execute(
        "INSERT INTO sync_state (link_id, variant_id, store_id, status) "
        "SELECT $1, variant_id, store_id, 'pending' FROM variants ORDER BY variant_id",
        link_id,
    )
    await queue_service(connection)


async def queue_service(connection: asyncpg.Connection[Any]) -> None:
    """Queue every variant for the service, and let the server come to rest."""
    # The intents of one request share their time; a request holds at most a thousand.
    await connection.execute(
        """
        INSERT INTO intents (store_id, variant_id, version, lane, first_at)
        SELECT store_id, variant_id, nextval('version_seq'), 2,
            now() - interval '1 minute' + (row_number() OVER (ORDER BY variant_id)) / 1000 * interval '1 millisecond'
        FROM variants ORDER BY variant_id
        """
    )
    await connection.execute("DELETE FROM batch_calls")
    await connection.execute(
        "INSERT INTO store_queue (store_id, due_at) VALUES ($1, now()) "
        "ON CONFLICT (store_id) DO UPDATE SET due_at = now(), leased_until = NULL",
        STORE_ID,
    )
    await _rest(connection, _SERVICE_TABLES)


async def _rest(connection: asyncpg.Connection[Any], tables: tuple[str, ...]) -> None:
    for table in tables:
        await connection.execute(f"VACUUM ANALYZE {table}")
    await connection.execute("CHECKPOINT")
