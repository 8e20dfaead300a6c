"""Real feeds and exports, from the file to "confirmed by Meta": what they are messy about is the point."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meta_sync.catalog.ingest.import_runner import ImportRunner
from meta_sync.catalog.ingest.imports import ImportService
from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.sandbox.options import DEMO_CATALOG_ID
from meta_sync.sync.outbox import OutboxSink
from tests.support.world import World, open_world

pytestmark = pytest.mark.shared

_FILES = {
    "feeds/awin_product_feed_swimwear.csv": "EUR",
    "feeds/google_atom_ru_ekipland.xml": "RUB",
    "feeds/google_csv_emirates_en.csv": "AED",
    "feeds/google_rss_es_opispot_variants.xml": "USD",
    "feeds/google_rss_faragent.xml": "USD",
    "feeds/google_rss_pt_mattos.xml": "BRL",
    "feeds/google_rss_ramiel.xml": "EUR",
    "feeds/google_rss_ru_ola.xml": "RUB",
    "feeds/google_rss_tr_mevlana.xml": "TRY",
    "feeds/google_tsv_es_ar_petsstore.tsv": "ARS",
    "feeds/google_tsv_gmc_learning.tsv": "EUR",
    "feeds/meta_csv_es_santopadre.csv": "USD",
    "feeds/meta_rss_es_santopadre.xml": "USD",
    "feeds/meta_rss_kspatthar.xml": "INR",
    "feeds/meta_rss_sundorica.xml": "BDT",
    "meta_template/meta_template_en.csv": "USD",
    "meta_template/meta_template_fr.csv": "TND",
    "meta_template/meta_template_short_excel_mangled.csv": "USD",
    "stores/woocommerce_export_ru.csv": "RUB",
    "stores/woocommerce_importer_fixture.csv": "USD",
    "stores/woocommerce_sample_products.csv": "USD",
}


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        yield world


async def _import(world: World, path: Path) -> Any:
    service = ImportService(world.database, world.queue, max_upload_bytes=64 * 1024 * 1024)
    runner = ImportRunner(world.database, OutboxSink(), world.queue, utc_now)

    async def pieces() -> AsyncIterator[bytes]:
        yield path.read_bytes()

    import_id = await service.create(world.store_id, file_name=path.name)
    await service.upload(world.store_id, import_id, pieces())
    assert await runner.run_next()
    return await service.get(world.store_id, import_id)


@pytest.mark.parametrize("name", sorted(_FILES))
async def test_a_real_file_ends_right_at_meta(world: World, shared_data: Path, name: str) -> None:
    path = shared_data / name
    await world.stores.patch_settings(world.store_id, {"currency": _FILES[name]})
    view = await _import(world, path)
    counts = view.counts
    assert view.status in {"success", "partial"}, view.message
    assert counts["created"] > 0
    assert all(finding.message.endswith(".") or finding.message for finding in view.errors)
    await world.run()
    refused = {
        state["retailer_id"]
        for state in (await world.states()).values()
        if state["status"] == "failed" and state["retailer_id"]
    }
    await world.assert_right(refused=refused)
    states = await world.states()
    ends = Counter((state["status"], state["code"]) for state in states.values())
    assert {status for status, _ in ends} <= {"synced", "skipped", "failed"}
    assert sum(ends.values()) == counts["created"]
    print(f"{path.name}: {counts} {dict(ends)}")
    for state in states.values():
        if state["status"] == "failed":
            assert state["error_text"], state
            print("   ", state["variant_id"], state["error_text"])
    # Once more: nothing changes and nothing is enqueued.
    calls = world.calls()
    again = (await _import(world, path)).counts
    assert again["created"] == again["changed"] == 0
    assert again["unchanged"] == counts["created"]
    assert (await world.leftovers())["intents"] == 0
    await world.run()
    assert world.calls() == calls
    assert len(world.sandbox.catalog(DEMO_CATALOG_ID).items) == ends[("synced", None)]
