"""Reading Meta's catalog back: what is found, what is believed, and what a repair comes to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
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
from meta_sync.sync.reconcile import ReconcileHandler
from meta_sync.sync.reconcile_models import Finding, FindingState, Verdict
from meta_sync.sync.reconcile_repair import RepairOrder
from meta_sync.sync.reconcile_service import FindingFilter, Reconciliation
from meta_sync.sync.sweep import purge
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
    async def over() -> bool:
        return (await world.reconciliations.get(world.store_id, job_id)).job.is_over

    await _tick(world, over)
    return await world.reconciliations.get(world.store_id, job_id)


async def _tick(world: World, until: Callable[[], Awaitable[bool]]) -> None:
    """Read pages until the condition holds."""
    pipeline = world.pipeline()
    async with asyncio.timeout(20):
        while not await until():
            if not await pipeline.read_jobs_tick():
                await asyncio.sleep(0.005)


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


async def _start(world: World) -> str:
    return await world.reconciliations.start(world.store_id, actor="somebody")


def _arm(world: World, kind: FaultKind, **given: Any) -> None:
    world.sandbox.faults.add(FaultSpec.model_validate({"kind": kind, **given}))


async def _stage(world: World, job_id: str) -> str:
    return (await world.reconciliations.get(world.store_id, job_id)).job.stage


def _small_pages(world: World, items: int = 5, **more: Any) -> None:
    world.timing = replace(FAST, reconcile_page_items=items, **more)


# --- what is not believed -----------------------------------------------------------------------------------------------


async def test_what_the_second_read_does_not_find_again_is_withdrawn(world: World) -> None:
    catalog = _catalog(world)
    kept = dict(catalog.items["v00"])
    catalog.remove("v00")
    _change(world, "v01", title="Another title")
    _change(world, "v02", title="Another title")
    job_id = await _start(world)

    async def waits() -> bool:
        return await _stage(world, job_id) == "rereading"

    await _tick(world, waits)
    # It was Meta that was slow to show it; and somebody changed another field of the third.
    catalog.store("v00", kept)
    catalog.store("v01", {**catalog.items["v01"], "title": "Product p01"})
    _change(world, "v02", title="Product p02", brand="Bcme")
    found = await _to_the_end(world, job_id)
    states = {one.retailer_id: one.state for one in await _findings(world, found)}
    assert states == dict.fromkeys(("v00", "v01", "v02"), FindingState.WITHDRAWN)
    assert (found.tally.drift_percent, found.tally.agreeing) == (0, _ITEMS - 1)
    assert (await world.repairs.repair(world.store_id, job_id, RepairOrder(), actor="x")).steps == []


async def test_what_moves_is_busy_and_not_a_finding(world: World) -> None:
    catalog = _catalog(world)
    for retailer_id in ("v00", "v01", "v02"):
        catalog.remove(retailer_id)
    # Waits; in flight; sent within the quiet time.
    await world.put("p00", variant("v00", price=5))
    async with world.database.platform() as connection:
        await connection.execute(
            text(
                "UPDATE sync_state SET updated_at = now() - interval '1 hour', last_pushed_at = NULL, confirmed_at = NULL"
            )
        )
        await connection.execute(text("UPDATE variants SET updated_at = now() - interval '1 hour'"))
        await connection.execute(text("UPDATE sync_state SET in_flight = 999 WHERE variant_id = 'v01'"))
        await connection.execute(
            text(
                "UPDATE sync_state SET confirmed_at = now() - interval '10 minutes' WHERE variant_id = 'v02'"
            )
        )
    _small_pages(world, reconcile_quiet_seconds=900.0)
    found = await _reconcile(world)
    assert (found.tally.busy, found.tally.agreeing, await _findings(world, found)) == (3, _ITEMS - 3, [])
    assert found.tally.compared == _ITEMS - 3


async def test_what_was_sent_lately_is_not_even_suspected(world: World) -> None:
    async with world.database.platform() as connection:
        for table in ("sync_state", "variants"):
            await connection.execute(text(f"UPDATE {table} SET updated_at = now() - interval '1 hour'"))
        await connection.execute(
            text("UPDATE sync_state SET last_pushed_at = updated_at, confirmed_at = updated_at")
        )
    # Meta shows the state before the push, and will for longer than a second read waits here.
    _arm(world, FaultKind.READ_LAG, seconds=60)
    await world.put("p00", variant("v00", price=7777))
    await world.run()
    _small_pages(world, reconcile_quiet_seconds=900.0)
    found = await _reconcile(world)
    assert await _findings(world, found) == []
    assert (found.tally.busy, found.tally.agreeing) == (1, _ITEMS - 1)


async def test_a_lagging_read_and_another_locale_make_no_drift(world: World) -> None:
    """Read-after-write lag shows the state before the last push for a while; prices come formatted for a locale."""
    _arm(world, FaultKind.READ_LAG, seconds=0.5)
    _arm(world, FaultKind.LOCALE_PRICES, count=None)
    await world.put("p00", variant("v00", price=7777, special_price=5555))
    await world.run()
    _small_pages(world, reconcile_second_read_seconds=0.6)
    found = await _reconcile(world)
    assert await _agreed(world, found) == {}
    assert found.tally.drift_percent == 0


# --- ids and pages ------------------------------------------------------------------------------------------------------


async def test_ids_are_compared_byte_for_byte(world: World) -> None:
    """Meta's filters ignore case: the second read of a missing item is answered with its neighbour in capitals."""
    catalog = _catalog(world)
    catalog.store("V03", {**catalog.items["v03"], "id": "V03"})
    catalog.remove("v03")
    found = await _reconcile(world)
    assert await _agreed(world, found) == {"v03": "missing", "V03": "foreign"}


async def test_short_pages_are_no_end(database: Database, database_url: str) -> None:
    options = SandboxOptions(processing_delay_seconds=0.01, profile="adverse", seed=5)
    async with open_world(database, database_url, options) as world:
        await _fill(world)
        _small_pages(world, 3)
        catalog = _catalog(world)
        catalog.remove("v05")
        _change(world, "v07", price="1.00 EUR")
        found = await _reconcile(world)
        assert await _agreed(world, found) == {"v05": "missing", "v07": "different"}
        assert found.tally.compared == _ITEMS - 1


async def test_a_walk_is_begun_anew_when_meta_loses_the_place(world: World) -> None:
    _small_pages(world)
    catalog = _catalog(world)
    catalog.remove("v11")
    lost = {"code": 100, "message": "(#100) Invalid cursor"}
    _arm(world, FaultKind.GRAPH_ERROR, edge="products", skip=1, **lost)
    found = await _reconcile(world)
    assert await _agreed(world, found) == {"v11": "missing"}
    assert found.tally.compared == _ITEMS - 1
    # Where the first page is refused there is no place to lose.
    _arm(world, FaultKind.GRAPH_ERROR, edge="products", **lost)
    refused = await _reconcile(world)
    assert (refused.job.status, refused.job.error_code) == ("error", "reading_refused")
    # And a place that is lost each time is not looked for for ever.
    _arm(world, FaultKind.GRAPH_ERROR, edge="products", skip=1, probability=0.999999, **lost)
    again = await _reconcile(world)
    assert (again.job.status, again.job.error_code) == ("error", "reading_refused")
    assert await _keys(world) == 0


@pytest.mark.parametrize(
    ("change", "looked_at"), [("result", 20_000), ("result || '{\"productCount\": null}'", 50_000_000)]
)
async def test_a_list_that_leads_in_a_circle_is_left(world: World, change: str, looked_at: int) -> None:
    """Also where Meta does not tell how many items there are."""
    _small_pages(world)
    job_id = await _start(world)
    await world.pipeline().read_jobs_tick()
    async with world.database.platform() as connection:
        moved = f"UPDATE jobs SET looked_at = {looked_at}, result = {change} WHERE job_id = :id"
        await connection.execute(text(moved), {"id": job_id})
    found = await _to_the_end(world, job_id)
    assert (found.job.status, found.job.error_code) == ("error", "reading_refused")


async def test_a_page_that_is_too_much_is_halved(world: World) -> None:
    _small_pages(world, 40)
    _arm(world, FaultKind.REDUCE_DATA, edge="products", count=2)
    before = len(world.sandbox.requests)
    found = await _reconcile(world)
    assert (found.job.status, found.tally.compared) == ("success", _ITEMS)
    # Forty, twenty, ten, and the two that are left behind the ten.
    assert len(world.sandbox.requests) - before == 4
    async with world.database.platform() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM store_pauses"))).scalar_one() == 0


async def test_what_was_asked_for_in_small_pieces_is_asked_for_in_larger_ones_again(world: World) -> None:
    """Meta was slow for a minute, or does not take one id: a large catalog is not read ten by ten for that."""
    _small_pages(world, 40)
    for number in range(30):
        _catalog(world).store(f"x{number:02d}", {"id": f"x{number:02d}", "title": "Mug"})
    _arm(world, FaultKind.REDUCE_DATA, edge="products", count=2)
    job_id = await _start(world)

    async def waits() -> bool:
        return await _stage(world, job_id) == "rereading"

    await _tick(world, waits)
    walked = (await world.reconciliations.get(world.store_id, job_id)).job.result
    assert walked is not None
    assert walked["pageItems"] > 10
    # A hundred, fifty, twenty-five and so on, until the one item is left that it is about.
    _arm(world, FaultKind.GRAPH_ERROR, edge="products", count=7, code=100, status=400, message="No filter")
    before = len(world.sandbox.requests)
    found = await _to_the_end(world, job_id)
    assert (found.job.status, found.tally.foreign) == ("success", 29)
    # Seven refusals; then 2, 4, 8, 16 items at a time.
    assert len(world.sandbox.requests) - before == 7 + 4


# --- waits and interruptions --------------------------------------------------------------------------------------------


async def test_throttling_makes_it_wait_and_stops_no_call(world: World) -> None:
    _small_pages(world)
    job_id = await _start(world)
    pipeline = world.pipeline()
    assert await pipeline.read_jobs_tick() == 1
    _arm(world, FaultKind.THROTTLED, edge="products", minutes=5)
    assert await pipeline.read_jobs_tick() == 1
    found = await world.reconciliations.get(world.store_id, job_id)
    assert (found.job.status, found.job.looked_at) == ("running", 5)
    assert found.job.message is not None
    assert found.job.message.startswith("Waits: ")
    calls = len(world.sandbox.requests)
    assert await pipeline.read_jobs_tick() == 0
    assert len(world.sandbox.requests) == calls
    # 80009 is about questions: what is sent is not held back.
    before = world.calls()
    await world.put("p00", variant("v00", price=4321))
    while await pipeline.drain_tick():
        pass
    assert world.calls() == before + 1


async def test_a_dead_token_makes_it_wait_for_another(world: World) -> None:
    _small_pages(world)
    job_id = await _start(world)
    pipeline = world.pipeline()
    await pipeline.read_jobs_tick()
    _arm(world, FaultKind.TOKEN_ERROR, edge="products", subcode=463)
    await pipeline.read_jobs_tick()
    # Nothing is asked with the dead token.
    calls = len(world.sandbox.requests)
    async with world.database.platform() as connection:
        await connection.execute(
            text("UPDATE jobs SET leased_until = now() WHERE job_id = :id"), {"id": job_id}
        )
    await pipeline.read_jobs_tick()
    assert len(world.sandbox.requests) == calls
    found = await world.reconciliations.get(world.store_id, job_id)
    assert found.job.status == "running"
    await world.connection.set_token(world.store_id, SecretStr(DEMO_ACCESS_TOKEN))
    found = await _to_the_end(world, job_id)
    assert (found.job.status, found.job.message, found.tally.compared) == ("success", None, _ITEMS)


async def test_nobody_waits_for_access_for_ever(world: World) -> None:
    job_id = await _start(world)
    _arm(world, FaultKind.TOKEN_ERROR, edge="products", subcode=463)
    pipeline = world.pipeline()
    await pipeline.read_jobs_tick()
    async with world.database.platform() as connection:
        await connection.execute(
            text(
                "UPDATE jobs SET leased_until = now(), started_at = now() - interval '25 hours' WHERE job_id = :id"
            ),
            {"id": job_id},
        )
    found = await _to_the_end(world, job_id)
    assert (found.job.status, found.job.error_code) == ("error", "reading_gave_up")


@pytest.mark.parametrize(
    "point", ["reconcile.after_page", "read_job.after_page", "reconcile.after_second_read"]
)
async def test_a_worker_that_dies_between_pages_loses_and_repeats_nothing(world: World, point: str) -> None:
    _small_pages(world)
    catalog = _catalog(world)
    catalog.remove("v02")
    catalog.store("other", {"id": "other", "title": "Mug"})
    job_id = await _start(world)
    failpoints.arm(point, "sleep:60@1" if "second" in point else "sleep:60@2")
    died = 0
    while not (await world.reconciliations.get(world.store_id, job_id)).job.is_over:
        try:
            async with asyncio.timeout(0.7):
                await world.pipeline().read_jobs_tick()
        except TimeoutError:
            died += 1
        # Its lease runs out, and another worker takes the job.
        async with world.database.platform() as connection:
            await connection.execute(
                text("UPDATE jobs SET leased_until = NULL WHERE job_id = :id"), {"id": job_id}
            )
    failpoints.disarm_all()
    found = await world.reconciliations.get(world.store_id, job_id)
    assert died
    assert await _agreed(world, found) == {"v02": "missing", "other": "foreign"}
    assert (found.job.status, found.job.looked_at, found.tally.compared) == ("success", _ITEMS, _ITEMS - 1)


async def test_a_fault_of_ours_ends_it_instead_of_being_repeated_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    job_id = await _start(world)
    monkeypatch.setattr(ReconcileHandler, "step", broken)
    found = await _to_the_end(world, job_id)
    assert (found.job.status, found.job.error_code) == ("error", "reading_stopped")


async def test_it_is_called_off_between_pages(world: World) -> None:
    _small_pages(world)
    job_id = await _start(world)
    with pytest.raises(ConflictError) as refused:
        await _start(world)
    assert refused.value.details[0].message == job_id
    await world.pipeline().read_jobs_tick()
    await world.jobs.cancel(world.store_id, job_id, actor="somebody")
    found = await _to_the_end(world, job_id)
    assert (found.job.status, found.job.looked_at) == ("cancelled", 5)
    assert await _keys(world) == 0
    await _reconcile(world)


async def test_another_catalog_ends_it_and_its_repairs(world: World) -> None:
    _small_pages(world)
    _catalog(world).remove("v02")
    over = await _reconcile(world)
    job_id = await _start(world)
    await world.pipeline().read_jobs_tick()
    world.sandbox.add_catalog("7100195296754001", "Other", catalog_id="7100195296759999")
    await world.connect(catalog_id="7100195296759999")
    found = await world.reconciliations.get(world.store_id, job_id)
    assert (found.job.status, found.job.error_code) == ("cancelled", "catalog_changed")
    with pytest.raises(ConflictError):
        await world.repairs.repair(world.store_id, over.job.job_id, RepairOrder(), actor="x")


# --- repair -------------------------------------------------------------------------------------------------------------


async def test_a_repair_decides_from_the_rows_as_they_are_then(world: World) -> None:
    catalog = _catalog(world)
    for retailer_id in ("v00", "v01", "v02"):
        catalog.remove(retailer_id)
    _change(world, "v03", sale_price="1.00 EUR", brand="Bcme")
    found = await _reconcile(world)
    # A change between the finding and its repair, and one that is in flight while it is repaired.
    await world.put("p00", variant("v00", price=4444))
    await world.catalog.delete_product(world.store_id, "p01")
    await world.run()
    chosen = RepairOrder(frozenset({Verdict.MISSING}), variant_ids=("v02", "v00"))
    plan = await world.repairs.repair(world.store_id, found.job.job_id, chosen, actor="x")
    assert sorted(one.variant_id for one in plan.steps) == ["v00", "v02"]
    rest = await world.repairs.repair(world.store_id, found.job.job_id, RepairOrder(), actor="x")
    assert sorted(one.variant_id for one in rest.steps) == ["v01", "v03"]
    # What stands at Meta beside what we have is cleared: the sale price was nobody's.
    assert "sale_price" in (await world.states())["v03"]["may_hold"]
    await world.run()
    await world.assert_right()
    findings = await _findings(world, found, state=FindingState.REPAIRED)
    assert {one.acted_by for one in findings} == {"x"}


async def test_an_item_in_flight_is_repaired_after_it(world: World) -> None:
    catalog = _catalog(world)
    _change(world, "v00", title="Another title")
    found = await _reconcile(world)
    await world.put("p00", variant("v00", price=4444))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    assert (await world.states())["v00"]["in_flight"] is not None
    await world.repairs.repair(world.store_id, found.job.job_id, RepairOrder(), actor="x")
    # Its batch does not confirm it, so that whatever it came to, the item goes again.
    before = catalog.applied_counts["v00"]
    await world.run(pipeline)
    await world.assert_right()
    assert catalog.applied_counts["v00"] == before + 2


async def test_reconciliations_are_a_stores_own(world: World) -> None:
    found = await _reconcile(world)
    other = (await world.stores.create("Other")).store_id
    for read in (
        world.reconciliations.get(other, found.job.job_id),
        world.reconciliations.findings(other, found.job.job_id, FindingFilter()),
        world.repairs.repair(other, found.job.job_id, RepairOrder(), actor="x"),
    ):
        with pytest.raises(NotFoundError):
            await read
    page = await world.reconciliations.page(world.store_id, limit=10)
    assert [one.job.job_id for one in page.reconciliations] == [found.job.job_id]


async def test_one_is_started_every_day(world: World) -> None:
    async def started() -> int:
        return (await world.reconciliations.page(world.store_id, limit=10)).total

    async def sweep() -> None:
        async with world.database.platform() as connection:
            await connection.execute(
                text("UPDATE schedules SET next_at = now() WHERE name = 'reconciliations'")
            )
        await world.pipeline().sweep_tick()

    await sweep()
    assert await started() == 0
    async with world.database.platform() as connection:
        await connection.execute(
            text(
                "UPDATE catalog_links SET selected_at = now() - interval '25 hours', first_run_approved_at = now() - interval '25 hours'"
            )
        )
    await sweep()
    await sweep()
    assert await started() == 1
    await _tick(world, world.is_quiet)
    await sweep()
    assert await started() == 1
    async with world.database.platform() as connection:
        await connection.execute(text("UPDATE jobs SET created_at = now() - interval '25 hours'"))
    await sweep()
    assert await started() == 2


async def test_what_is_old_goes(world: World) -> None:
    _catalog(world).remove("v00")
    await _reconcile(world)
    async with world.database.platform() as connection:
        await connection.execute(
            text(
                "INSERT INTO job_keys (job_id, kind, key, store_id) SELECT job_id, 'seen0', 'x', store_id FROM jobs"
            )
        )
        await purge(connection)
        assert (await connection.execute(text("SELECT count(*) FROM job_keys"))).scalar_one() == 1
        assert (await connection.execute(text("SELECT count(*) FROM reconcile_findings"))).scalar_one() == 1
        await connection.execute(text("UPDATE jobs SET finished_at = now() - interval '31 days'"))
        await purge(connection)
        assert (await connection.execute(text("SELECT count(*) FROM reconcile_findings"))).scalar_one() == 0


async def test_only_the_newest_keep_lists_of_what_may_be_the_whole_catalog(world: World) -> None:
    _catalog(world).store("other", {"id": "other", "title": "Mug"})
    _catalog(world).remove("v00")
    jobs = [(await _reconcile(world)).job.job_id for _ in range(3)]
    async with world.database.platform() as connection:
        await purge(connection)
        rows = await connection.execute(text("SELECT job_id, verdict FROM reconcile_findings"))
        kept = {tuple(row) for row in rows}
    assert kept == {(one, "missing") for one in jobs} | {(one, "foreign") for one in jobs[1:]}
