"""Feeds by address for tests: a store, a server that the test steers, and everything between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr
from sqlalchemy import text

from meta_sync.catalog.ingest.feeds import FeedInput, FeedService, FeedView
from meta_sync.catalog.ingest.feeds_fetch import FeedFetcher, FetchLimits
from meta_sync.catalog.ingest.import_runner import ImportRunner
from meta_sync.catalog.ingest.imports import ImportService, ImportView
from meta_sync.core.crypto import Cipher, generate_encryption_key
from meta_sync.core.db import Database
from tests.support.catalog import Bench, bench
from tests.support.feed_server import FeedServer, feed_server

HEAD = "id,title,description,price,link,image_link,availability\n"
PASSWORD = "s3cret-pass"


def row(item_id: str, price: str = "1.00 USD") -> str:
    link = f"https://x.example/{item_id}"
    return f"{item_id},Title {item_id},Text,{price},{link},{link}.jpg,in stock\n"


def csv_feed(*rows: str) -> bytes:
    return (HEAD + "".join(rows)).encode()


class FeedBench:
    """A store, a server, and everything between them."""

    def __init__(self, b: Bench, server: FeedServer, key: str) -> None:
        self.b = b
        self.server = server
        self.key = key
        self.cipher = Cipher([SecretStr(key)])
        self.imports = ImportService(b.database, b.queue, max_upload_bytes=10_000_000)
        self.service = FeedService(b.database, self.cipher, server.client(), b.queue)
        self.runner = ImportRunner(b.database, b.sink, b.queue, lambda: b.now)

    def fetcher(self, **limits: Any) -> FeedFetcher:
        return FeedFetcher(
            self.b.database,
            self.cipher,
            self.server.client(),
            self.imports,
            limits=FetchLimits(**{"most_bytes": 10_000_000, "total_seconds": 5.0, **limits}),
            draw=lambda: 0.0,
        )

    def input(self, **fields: Any) -> FeedInput:
        given = {"source": "shop", "interval_seconds": 3600, **fields}
        return FeedInput(SecretStr(given.pop("url", self.server.url())), **given)

    async def create(self, **fields: Any) -> FeedView:
        return await self.service.create("s", self.input(**fields))

    async def once(self, **fields: Any) -> str:
        dry_run = fields.pop("dry_run", False)
        feed = self.input(**{"interval_seconds": None, "source": None, **fields})
        return await self.service.import_once("s", feed, dry_run=dry_run)

    async def sql(self, statement: str, **parameters: Any) -> list[Any]:
        async with self.b.database.platform() as connection:
            result = await connection.execute(text(statement), parameters)
            return list(result.all()) if result.returns_rows else []

    async def due(self) -> None:
        await self.sql("UPDATE import_feeds SET next_at = now() WHERE next_at IS NOT NULL")

    async def expire_leases(self) -> None:
        await self.sql("UPDATE import_feeds SET leased_until = now() WHERE leased_until IS NOT NULL")

    async def fetch(self, **limits: Any) -> None:
        await self.due()
        assert await self.fetcher(**limits).fetch_next()

    async def view(self, import_id: str | None) -> ImportView:
        assert import_id is not None
        return await self.imports.get("s", import_id)

    async def imports_there(self) -> list[tuple[Any, ...]]:
        found = await self.sql("SELECT status, size_bytes FROM imports ORDER BY created_at")
        return [tuple(one) for one in found]

    async def seconds_to_next(self) -> float:
        ((seconds,),) = await self.sql("SELECT extract(epoch FROM next_at - now()) FROM import_feeds")
        return float(seconds)


@asynccontextmanager
async def open_feeds(database: Database) -> AsyncIterator[FeedBench]:
    """A bench with the stores ``s`` and ``t``, and one without a currency."""
    async with feed_server() as server:
        made = FeedBench(bench(database), server, generate_encryption_key())
        await made.sql(
            "INSERT INTO stores (store_id, public_id, name, settings) VALUES"
            """ ('s', 's', 's', '{"currency": "USD"}'), ('t', 't', 't', '{"currency": "USD"}'),"""
            " ('bare', 'b', 'b', '{}')"
        )
        yield made


async def eventually(condition: Callable[[], bool | Awaitable[Any]]) -> None:
    deadline = asyncio.get_running_loop().time() + 20
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
