"""Real feeds and exports: each goes in, every item is accounted for, and the second import finds nothing to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from meta_sync.catalog.ingest.import_runner import ImportRunner
from meta_sync.catalog.ingest.imports import ImportService, ImportView
from meta_sync.core.db import Database
from tests.support.catalog import Bench, bench

pytestmark = pytest.mark.shared

_FILES = (
    ("feeds/google_rss_es_opispot_variants.xml", "USD"),
    ("feeds/google_rss_tr_mevlana.xml", "TRY"),
    ("feeds/google_csv_emirates_en.csv", "AED"),
    ("feeds/google_tsv_es_ar_petsstore.tsv", "ARS"),
    ("feeds/meta_csv_es_santopadre.csv", "USD"),
    ("stores/woocommerce_sample_products.csv", "USD"),
    ("stores/woocommerce_export_ru.csv", "RUB"),
)


async def run(b: Bench, path: Path) -> ImportView:
    service = ImportService(b.database, b.queue, max_upload_bytes=100_000_000)

    async def pieces() -> AsyncIterator[bytes]:
        yield path.read_bytes()

    import_id = await service.create("s", file_name=path.name)
    await service.upload("s", import_id, pieces())
    await ImportRunner(b.database, b.sink, b.queue, lambda: b.now).run_next()
    return await service.get("s", import_id)


@pytest.mark.parametrize(("name", "currency"), _FILES)
async def test_a_real_file_goes_in_once(
    database: Database, shared_data: Path, name: str, currency: str
) -> None:
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
    assert first.status in {"success", "partial"}, first.message
    counts = first.counts
    assert counts["created"] == counts["variants"] == len(b.sink.take()) > 0
    assert len(await b.rows("SELECT 1 FROM variants")) == counts["created"]
    before = await b.snapshot()
    second = await run(b, shared_data / name)
    assert (second.counts["unchanged"], second.counts["created"], second.counts["changed"]) == (
        counts["created"],
        0,
        0,
    )
    assert (second.counts["failed"], second.counts["skipped"]) == (counts["failed"], counts["skipped"])
    assert await b.snapshot() == before
    assert b.sink.calls == []
