"""Imports over a real database: a bench that uploads and runs files, and small feeds."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text

from meta_sync.catalog.ingest.import_runner import ImportRunner
from meta_sync.catalog.ingest.import_views import ImportFinding
from meta_sync.catalog.ingest.imports import ImportService, ImportView
from meta_sync.core.db import Database
from tests.support.catalog import Bench, bench

__all__ = ["ImportBench", "counted", "feed", "open_imports", "rows_of"]

COLUMNS = ("id", "title", "price", "link", "image_link", "availability", "item_group_id")


def feed(*rows: Sequence[str]) -> bytes:
    """A Google CSV; a row is id, price and optionally group and title."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        item_id, price, group, title = (*row, "", "")[:4]
        link = f"https://x.example/{item_id}"
        writer.writerow(
            [item_id, title or f"Title {group or item_id}", price, link, f"{link}.jpg", "in stock", group]
        )
    return file.getvalue().encode()


def rows_of(*ids: str, price: str = "1.00 USD", group: str = "") -> list[tuple[str, str, str]]:
    """Rows for `feed` that differ by their id only."""
    return [(item_id, price, group) for item_id in ids]


def counted(view: ImportView) -> tuple[int, ...]:
    """created, changed, unchanged, skipped, failed, deleted."""
    return tuple(
        view.counts[name] for name in ("created", "changed", "unchanged", "skipped", "failed", "deleted")
    )


class ImportBench:
    """Uploads, runs and looks at imports of the store ``s``."""

    def __init__(self, b: Bench) -> None:
        self.b = b
        self.service = ImportService(b.database, b.queue, max_upload_bytes=10_000_000)
        self.runner = ImportRunner(b.database, b.sink, b.queue, lambda: b.now)

    async def uploaded(self, content: bytes, **fields: Any) -> str:
        """The id of an import whose file is there."""
        import_id = await self.service.create("s", file_name=fields.pop("file_name", "feed.csv"), **fields)
        await self.service.append_chunk("s", import_id, 0, content)
        await self.service.finish_upload("s", import_id)
        return import_id

    async def run(self, content: bytes, **fields: Any) -> ImportView:
        """The import of a file after it was run once."""
        import_id = await self.uploaded(content, **fields)
        assert await self.runner.run(import_id)
        return await self.service.get("s", import_id)

    async def replace(self, content: bytes, **fields: Any) -> ImportView:
        """`run` in mode ``replace``."""
        return await self.run(content, mode="replace", **fields)

    async def live(self) -> list[str]:
        """Ids of the items that the store has."""
        rows = await self.b.rows("SELECT variant_id FROM variants WHERE deleted_at IS NULL ORDER BY 1")
        return [row[0] for row in rows]

    async def report(self, import_id: str) -> list[ImportFinding]:
        """Every line of the report."""
        return [finding async for finding in self.service.report("s", import_id)]

    async def sql(self, statement: str) -> None:
        """Change something behind the service's back."""
        async with self.b.database.platform() as connection:
            await connection.execute(text(statement))

    async def expire_leases(self) -> None:
        """Let imports that stopped be started again."""
        await self.sql("UPDATE imports SET leased_until = now() WHERE leased_until IS NOT NULL")


@asynccontextmanager
async def open_imports(database: Database) -> AsyncIterator[ImportBench]:
    """A bench with the stores ``s`` and ``t``."""
    made = ImportBench(bench(database))
    await made.sql(
        "INSERT INTO stores (store_id, public_id, name, settings) VALUES"
        """ ('s', 's', 's', '{"currency": "USD"}'), ('t', 't', 't', '{"currency": "USD"}')"""
    )
    yield made
