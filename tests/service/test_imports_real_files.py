"""Real feeds and exports: each goes in, every item is accounted for, and the second import finds nothing to do.

``pytest -s`` prints one line per file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from meta_sync.catalog.ingest.import_runner import ImportRunner
from meta_sync.catalog.ingest.imports import ImportService, ImportView
from meta_sync.core.db import Database
from tests.support.catalog import Bench, bench
from tests.unit.formats.test_shared_data import FILES

pytestmark = pytest.mark.shared

_BY_HAND = {"big/thai_thaiwatsadu_38k.json.gz", "big/amazon_uk_toys_10k.csv", "big/samsung_uk_crawl.ndjson"}
"""Long ones, with ids that repeat; ``test_import_compressed`` and the benchmark run such."""

_SETTLED = ("created", "changed", "unchanged", "skipped", "failed")


async def run(b: Bench, path: Path) -> ImportView:
    service = ImportService(b.database, b.queue, max_upload_bytes=100_000_000)

    async def pieces() -> AsyncIterator[bytes]:
        yield path.read_bytes()

    import_id = await service.create("s", file_name=path.name)
    await service.upload("s", import_id, pieces())
    await ImportRunner(b.database, b.sink, b.queue, lambda: b.now).run_next()
    return await service.get("s", import_id)


@pytest.mark.parametrize("name", [name for name in FILES if name not in _BY_HAND])
async def test_a_real_file_goes_in_once(database: Database, shared_data: Path, name: str) -> None:
    format_name, currency, items, _, failed, skipped, _ = FILES[name]
    b = bench(database)
    async with database.platform() as connection:
        await connection.execute(
            text(
                "INSERT INTO stores (store_id, public_id, name, settings)"
                " VALUES ('s', 's', 's', jsonb_build_object('currency', CAST(:currency AS text)))"
            ),
            {"currency": currency},
        )
    first = await run(b, shared_data / name)
    counts = first.counts
    print(f"\n{name} | {format_name} | " + " | ".join(f"{counts[one]}" for one in _SETTLED), end=" || ")
    assert first.format == format_name
    assert first.status in {"success", "partial"}, first.message
    assert sum(counts[one] for one in _SETTLED) == items + failed + skipped
    assert counts["created"] == counts["variants"] == len(b.sink.take())
    assert len(await b.rows("SELECT 1 FROM variants")) == counts["created"]
    before = await b.snapshot()
    second = await run(b, shared_data / name)
    print(" | ".join(f"{second.counts[one]}" for one in _SETTLED))
    assert (second.counts["unchanged"], second.counts["created"], second.counts["changed"]) == (
        counts["created"],
        0,
        0,
    )
    assert (second.counts["failed"], second.counts["skipped"]) == (counts["failed"], counts["skipped"])
    assert await b.snapshot() == before
    assert b.sink.calls == []
