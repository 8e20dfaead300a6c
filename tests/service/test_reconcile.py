"""Reading Meta's catalog back: what is found, what is believed, and what a repair comes to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from meta_sync.core import failpoints
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, NotFoundError
from meta_sync.sandbox.faults import FaultKind, FaultSpec
from meta_sync.sandbox.model import Catalog
from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN, DEMO_CATALOG_ID, SandboxOptions
from meta_sync.sync.reconcile_models import Finding, FindingState, Verdict
from meta_sync.sync.reconcile_repair import RepairOrder
from meta_sync.sync.reconcile_service import FindingFilter, Reconciliation
from tests.support.world import FAST, World, open_world, variant

_ITEMS = 12


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as made:
        await _fill(made)
        yield made


async def _fill(world: World, items: int = _ITEMS) -> None:
    await world.connect()
    for number in range(items):
        await world.put(f"p{number:02d}", variant(f"v{number:02d}", price=1000 + number))
    await world.run()
    await world.assert_right()


def _catalog(world: World) -> Catalog:
    return world.sandbox.catalog(DEMO_CATALOG_ID)


def _change(world: World, retailer_id: str, **fields: Any) -> None:
    catalog = _catalog(world)
    catalog.store(retailer_id, {**catalog.items[retailer_id], **fields})


async def _reconcile(world: World) -> Reconciliation:
    job_id = await world.reconciliations.start(world.store_id, actor="somebody")
    return await _to_the_end(world, job_id)


async def _to_the_end(world: World, job_id: str) -> Reconciliation:
    pipeline = world.pipeline()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 20
    while loop.time() < deadline:
        done = await pipeline.read_jobs_tick()
        found = await world.reconciliations.get(world.store_id, job_id)
        if found.job.is_over:
            return found
        await asyncio.sleep(0 if done else 0.005)
    raise AssertionError(f"not over: {found.job}")


async def _findings(world: World, found: Reconciliation, **wanted: Any) -> list[Finding]:
    page = await world.reconciliations.findings(
        world.store_id, found.job.job_id, FindingFilter(**wanted), limit=100
    )
    return page.findings


async def _agreed(world: World, found: Reconciliation) -> dict[str, str]:
    findings = await _findings(world, found, state=FindingState.AGREED)
    return {one.retailer_id: one.verdict.value for one in findings}


async def _keys(world: World) -> int:
    async with world.database.platform() as connection:
        return int((await connection.execute(text("SELECT count(*) FROM job_keys"))).scalar_one())


async def test_a_catalog_that_is_right_has_no_drift(world: World) -> None:
    found = await _reconcile(world)
    assert (found.job.status, found.job.percent, found.job.looked_at) == ("success", 100, _ITEMS)
    assert found.tally.stored() == {
        "compared": _ITEMS,
        "agreeing": _ITEMS,
        "missing": 0,
        "different": 0,
        "unverifiable": 0,
        "orphan": 0,
        "foreign": 0,
        "busy": 0,
    }
    assert found.tally.drift_percent == 0
    assert await _findings(world, found) == []
    assert await _keys(world) == 0


async def test_each_kind_of_drift_is_found_named_and_repaired(world: World) -> None:
    catalog = _catalog(world)
    catalog.remove("v00")
    _change(world, "v01", price="1.00 EUR")
    _change(world, "v02", title="Another title", brand="Bcme")
    catalog.store("other", {"id": "other", "title": "Mug", "price": "5.00 EUR"})
    catalog.store("fed", {"id": "fed", "title": "Cup"})
    catalog.feeds["fed"] = {"id": "77", "name": "Weekly feed"}
    # Sent by us and deleted by us, and there again: a restored backup of another tool, say.
    gone = dict(catalog.items["v03"])
    await world.catalog.delete_product(world.store_id, "p03")
    await world.run()
    catalog.store("v03", gone)

    found = await _reconcile(world)
    assert await _agreed(world, found) == {
        "v00": "missing",
        "v01": "different",
        "v02": "different",
        "v03": "orphan",
        "other": "foreign",
        "fed": "foreign",
    }
    tally = found.tally
    assert (tally.compared, tally.agreeing, tally.busy) == (_ITEMS - 1, _ITEMS - 4, 0)
    assert tally.drift_percent == round(100 * 4 / _ITEMS, 4)
    by_id = {one.retailer_id: one for one in await _findings(world, found)}
    assert by_id["v01"].differences == {"price": ["10.01 EUR", "€1.00"]}
    assert by_id["v02"].differences.keys() == {"title", "brand"}
    assert (by_id["v02"].variant_id, by_id["v02"].product_id) == ("v02", "p02")
    assert (by_id["fed"].feed_id, by_id["other"].feed_id) == ("77", None)
    assert by_id["other"].found is not None
    assert by_id["other"].found["name"] == "Mug"
    assert by_id["v00"].found is None

    plan = await world.repairs.plan(world.store_id, found.job.job_id, RepairOrder())
    assert {one.retailer_id: one.decision for one in plan.steps} == {
        "v00": "upsert",
        "v01": "upsert",
        "v02": "upsert",
        "v03": "delete",
    }
    assert (await world.leftovers())["intents"] == 0
    repaired = await world.repairs.repair(world.store_id, found.job.job_id, RepairOrder(), actor="somebody")
    assert (len(repaired.steps), repaired.remaining) == (4, 0)
    again = await world.repairs.repair(world.store_id, found.job.job_id, RepairOrder(), actor="somebody")
    assert again.steps == []
    await world.run()
    catalog.remove("other")
    catalog.remove("fed")
    await world.assert_right()
    after = await _reconcile(world)
    assert (after.tally.drift_percent, await _findings(world, after)) == (0, [])
