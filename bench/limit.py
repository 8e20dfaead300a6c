"""L: the same work by hand, as fast as we know how to do it safely. What it leaves out is what the service costs.

It claims by row id and deletes what it claims, maps with the project's own mapper, compares hashes, writes a batch row
and a minimal state table of its own, posts over a raw socket while it claims the next batch, and confirms. It keeps no
attempts, no body for a re-send, no counters, no lease, no governor, no pauses, and believes every answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, cast

import asyncpg
import msgspec
from typing_extensions import override

from bench.data import STORE_ID
from bench.program import Place, Work, connect, serve
from meta_sync.catalog.models import CatalogItem
from meta_sync.sync.mapping import MappedItem, Mapper
from meta_sync.sync.mapping_settings import MappingSettings

_CLAIM = """
WITH claimed AS MATERIALIZED (
    DELETE FROM bench.outbox WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM bench.outbox WHERE store_id = $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
    )) RETURNING variant_id
), wanted AS MATERIALIZED (
    SELECT DISTINCT variant_id FROM claimed
), touched AS MATERIALIZED (
    SELECT DISTINCT v.product_id FROM wanted AS w JOIN variants AS v ON v.store_id = $1 AND v.variant_id = w.variant_id
), counted AS MATERIALIZED (
    SELECT t.product_id, s.live, EXISTS (
            SELECT FROM variants AS n WHERE n.store_id = $1 AND n.variant_id = t.product_id
        ) AS group_id_taken
    FROM touched AS t, LATERAL (
        SELECT count(*) AS live FROM variants AS s
        WHERE s.store_id = $1 AND s.product_id = t.product_id AND s.deleted_at IS NULL
    ) AS s
)
SELECT v.variant_id, v.product_id, p.title, p.subtitle, p.description, p.slug, p.link, p.status, p.visibility, p.brand,
    p.vendor, p.thumbnail, p.images, p.categories, p.google_product_category, p.deleted_at IS NOT NULL,
    v.sku, v.link, v.price, v.special_price, v.special_price_start, v.special_price_end, v.condition, v.thumbnail,
    v.images, v.ean, v.upc, v.barcode, v.options, v.availability, v.deleted_at IS NOT NULL,
    i.track_inventory, i.quantity_on_hand, i.reserved_quantity, i.allow_backorder, c.live, c.group_id_taken,
    s.sent_hash
FROM wanted AS w
JOIN variants AS v ON v.store_id = $1 AND v.variant_id = w.variant_id
JOIN products AS p ON p.store_id = $1 AND p.product_id = v.product_id
JOIN counted AS c ON c.product_id = v.product_id
LEFT JOIN inventory AS i ON i.store_id = $1 AND i.variant_id = w.variant_id
LEFT JOIN bench.sync_state AS s ON s.store_id = $1 AND s.variant_id = w.variant_id
"""
_INSERT_BATCH = "INSERT INTO bench.batch (store_id, items, status) VALUES ($1, $2, 1) RETURNING id"
_UPSERT = """
INSERT INTO bench.sync_state (store_id, variant_id, status, sent_hash, batch_id)
SELECT $1, u.variant_id, 1, u.hash, $4 FROM unnest($2::text[], $3::bytea[]) AS u (variant_id, hash) ORDER BY 1, 2
ON CONFLICT (store_id, variant_id) DO UPDATE
SET status = 1, sent_hash = excluded.sent_hash, batch_id = excluded.batch_id, updated_at = now()
"""
_TAKEN = "UPDATE bench.batch SET handle = $2, status = 2 WHERE id = $1"
_OVER = "UPDATE bench.batch SET status = 3 WHERE id = $1"
_CONFIRM = """
UPDATE bench.sync_state AS s SET status = 3, updated_at = now() FROM unnest($2::text[]) AS u (variant_id)
WHERE s.store_id = $1 AND s.variant_id = u.variant_id AND s.batch_id = $3
"""
_WIDTH = len(fields(CatalogItem))


class _Post(asyncio.Protocol):
    """One connection, one request at a time, an answer that comes in one piece."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        self._answer.set_result(data.partition(b"\r\n\r\n")[2])

    async def send(self, body: bytes) -> bytes:
        self._answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        head = b"POST /items_batch HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.writelines([head % len(body), body])
        return await self._answer


class Limit:
    """The program, on two connections: one claims, the other confirms."""

    def __init__(
        self,
        reader: asyncpg.Connection[Any],
        writer: asyncpg.Connection[Any],
        post: _Post,
        batch_size: int,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._post = post
        self._batch_size = batch_size
        settings = MappingSettings(
            currency="EUR", storefront_base_url="https://shop.example", default_brand="Shop"
        )
        self._mapper = Mapper(settings)

    async def drain(self) -> None:
        """Until the outbox is empty and every answer is written down."""
        pending: asyncio.Task[None] | None = None
        while True:
            async with self._reader.transaction():
                rows = await self._reader.fetch(_CLAIM, STORE_ID, self._batch_size)
                if not rows:
                    break
                ids, hashes, payloads = self._changed(rows)
                batch_id = 0
                if ids:
                    batch_id = await self._reader.fetchval(_INSERT_BATCH, STORE_ID, len(ids))
                    await self._reader.execute(_UPSERT, STORE_ID, ids, hashes, batch_id)
            if ids:
                if pending is not None:
                    await pending
                pending = asyncio.create_task(self._send(batch_id, ids, payloads))
        if pending is not None:
            await pending

    def _changed(self, rows: list[Any]) -> tuple[list[str], list[bytes], list[bytes]]:
        ids, hashes, payloads = [], [], []
        now = datetime.now(UTC)
        evaluate = self._mapper.evaluate
        for row in rows:
            *values, sent_hash = row
            mapped = evaluate(CatalogItem(*values), excluded=False, retailer_id=None, now=now)
            assert isinstance(mapped, MappedItem)
            if mapped.hash != sent_hash:
                ids.append(values[0])
                hashes.append(mapped.hash)
                payloads.append(mapped.encoded)
        return ids, hashes, payloads

    async def _send(self, batch_id: int, ids: list[str], payloads: list[bytes]) -> None:
        body = b"".join(
            (
                b'{"item_type":"PRODUCT_ITEM","allow_upsert":true,"requests":[{"method":"UPDATE","data":',
                b'},{"method":"UPDATE","data":'.join(payloads),
                b"}]}",
            )
        )
        answer = msgspec.json.decode(await self._post.send(body))
        await self._writer.execute(_TAKEN, batch_id, answer["handles"][0])
        async with self._writer.transaction():
            await self._writer.execute(_OVER, batch_id)
            await self._writer.execute(_CONFIRM, STORE_ID, ids, batch_id)


async def _connect(url: str) -> asyncpg.Connection[Any]:
    connection = await connect(url)
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=msgspec.json.decode)
    return connection


async def open_works(place: Place) -> dict[str, Work]:
    loop = asyncio.get_running_loop()
    _, post = await loop.create_connection(_Post, "127.0.0.1", place.sink_port)
    reader, writer = await _connect(place.database_url), await _connect(place.database_url)
    return {"drain": Limit(reader, writer, post, place.batch_size).drain}


if __name__ == "__main__":
    serve(open_works)
