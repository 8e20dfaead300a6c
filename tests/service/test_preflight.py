"""What a pre-flight report says of a store and of its Meta catalog, and what it does when Meta cannot be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError
from meta_sync.core.outbound import OutboundClient
from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN, DEMO_CATALOG_ID, SandboxOptions
from meta_sync.sync import preflight, preflight_keys
from meta_sync.sync.preflight_reports import PreflightReport
from tests.service.test_first_run import fill
from tests.support.pipeline import arm, execute, one
from tests.support.world import World, open_world, variant


@pytest.fixture(params=["lenient", "strict"])
async def world(
    request: pytest.FixtureRequest, database: Database, database_url: str
) -> AsyncIterator[World]:
    options = SandboxOptions(processing_delay_seconds=0.01, profile=request.param)
    async with open_world(database, database_url, options) as world:
        yield world


async def _report(world: World, **options: Any) -> PreflightReport:
    """A whole report, however it came to be."""
    reports = await world.reports.list(world.store_id)
    if not reports or reports[0].status not in {"queued", "running"}:
        await world.reports.start(world.store_id, probe_images=options.get("probe_images", False), actor="me")
    await _read_until(world, "success", "error", "cancelled")
    return (await world.reports.list(world.store_id))[0]


async def _read_until(world: World, *statuses: str) -> None:
    """Work on the newest report alone, so that nothing else changes what it sees."""
    pipeline = world.pipeline()
    for _ in range(500):
        if (await world.reports.list(world.store_id))[0].status in statuses:
            return
        await pipeline.read_jobs_tick()
    raise AssertionError(await world.reports.list(world.store_id))


def _counts(report: PreflightReport) -> dict[str, int]:
    scan = report.result["scan"]
    return {code: found["count"] for code, found in (scan["reasons"] | scan["warnings"]).items()}


def _examples(report: PreflightReport, code: str) -> list[str]:
    return [example["variantId"] for example in report.result["scan"]["warnings"][code]["examples"]]


async def test_what_is_odd_about_the_items_of_a_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_PAGE", 3)
    monkeypatch.setattr("meta_sync.sync.preflight_keys.MOST_VARIANTS_PER_GROUP", 2)
    await world.stores.patch_settings(world.store_id, {"retailerIdTemplate": "{sku}"})
    same = {"title": "Same", "description": "Same words"}
    await world.put("a", variant("a1"), **same)
    await world.put("b", variant("b1"), variant("b2"), **same)
    await world.put("c", variant("c1"), title="Other")
    await world.put("d", variant("d1", None), variant("d2"))
    await world.put("draft", variant("x"), status="draft")
    await world.put("gone", variant("y"))
    await world.catalog.delete_product(world.store_id, "gone")
    await world.put("e", variant("E1"), variant("e1"))
    await execute(world, "UPDATE variants SET sku = 'SKU-twice' WHERE variant_id IN ('c1', 'd2')")
    report = await _report(world)
    assert (report.status, report.result.get("catalog"), report.catalog_id) == ("success", None, None)
    assert (report.result["scan"]["variants"], report.result["scan"]["syncable"]) == (9, 7)
    found = _counts(report)
    assert found.pop("group_without_attribute") == 5
    assert found == {
        "missing_price": 1,
        "product_not_active": 1,
        "duplicate_title_and_description": 2,
        "ids_differ_by_case": 2,
        "id_in_use": 2,
    }
    assert _examples(report, "duplicate_title_and_description") in (["a1"], ["b1"])
    assert _examples(report, "ids_differ_by_case") == ["E1"]
    [twice] = report.result["scan"]["warnings"]["id_in_use"]["examples"]
    assert (twice["variantId"], twice["retailerId"]) in {("c1", "SKU-twice"), ("d2", "SKU-twice")}
    assert await one(world, "SELECT count(*) FROM job_keys") == 0


async def test_a_product_of_very_many_variants_is_named(world: World) -> None:
    await world.put("p", *(variant(f"v{number:03}") for number in range(301)))
    report = await _report(world)
    [example] = report.result["scan"]["warnings"]["group_too_large"]["examples"]
    assert (example["productId"], example["message"]) == ("p", "The product has 301 variants.")


async def test_what_becomes_of_a_catalog_that_has_items(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_META_PAGE", 2)
    await world.put("p", variant("same"), variant("other"), variant("new"))
    await world.put("q", variant("draft"), status="draft")
    await world.connect(sync=False)
    wanted = await world.wanted()
    catalog = world.sandbox.catalog(DEMO_CATALOG_ID)
    catalog.store("same", dict(wanted["same"]))
    catalog.store("Same", dict(wanted["same"]) | {"id": "Same"})
    fill(world, "other", "draft", "theirs")
    fill(world, "dollar", price="5.00 USD", sale_price="4.00 USD")
    catalog.data_sources.append({"id": "5150", "name": "Nightly", "ingestion_source_type": "PRIMARY"})
    report = await _report(world)
    tally = report.result["catalog"]["tally"]
    assert (tally["items"], tally["unchanged"]) == (6, 1)
    kinds = {kind: [example["retailerId"] for example in tally[kind]["examples"]] for kind in _KINDS}
    assert {kind: sorted(ids) for kind, ids in kinds.items()} == {
        "changed": ["other"],
        "deleted": [],
        "unfit": ["draft"],
        "foreign": ["Same", "dollar", "theirs"],
        "salesEnded": ["other"],
    }
    changes = tally["changed"]["examples"][0]["changes"]
    assert {"title", "price", "sale_price", "color"} <= changes.keys()
    assert (changes["title"], changes["color"]) == (["Old title", "Product p"], ["red", None])
    assert tally["currencies"] == {"EUR": 5, "USD": 1}
    assert [source["name"] for source in report.result["sources"]] == ["Nightly"]
    found = _counts(report)
    assert (found["catalog_currency_differs"], found["feed_writes_catalog"]) == (1, 1)


_KINDS = ("changed", "deleted", "unfit", "foreign", "salesEnded")


async def test_what_was_sent_once_and_is_no_longer_wanted_would_be_deleted(world: World) -> None:
    await world.put("p", variant("a"), variant("b"))
    await world.connect()
    await world.run()
    await world.stores.patch_settings(world.store_id, {"syncEnabled": False})
    await world.catalog.delete_product(world.store_id, "p")
    report = await _report(world)
    tally = report.result["catalog"]["tally"]
    assert (tally["items"], tally["deleted"]["count"], tally["foreign"]["count"]) == (2, 2, 0)
    assert (report.result["scan"]["variants"], report.result["scan"]["deletes"]) == (0, 2)


async def test_a_dead_token_is_waited_for(world: World) -> None:
    fill(world, "a")
    await world.connect()
    world.sandbox.kill_token(DEMO_ACCESS_TOKEN)
    pipeline = world.pipeline()
    for _ in range(5):
        await pipeline.read_jobs_tick()
    [report] = await world.reports.list(world.store_id)
    assert report.status == "running"
    assert "connect the store" in (report.message or "")
    fresh = world.sandbox.add_token().value
    await world.connection.set_token(world.store_id, SecretStr(fresh))
    await execute(world, "UPDATE jobs SET leased_until = now() WHERE type = 'preflight'")
    report = await _report(world)
    assert (report.status, report.result["catalog"]["tally"]["items"]) == ("success", 1)


async def test_meta_wants_silence_or_has_trouble(world: World) -> None:
    fill(world, "a")
    await world.connect()
    arm(world, "graph_error", edge="products", code=80009, status=400, message="Too many calls", count=1)
    pipeline = world.pipeline()
    for _ in range(4):
        await pipeline.read_jobs_tick()
    [report] = await world.reports.list(world.store_id)
    assert (report.status, "Meta allows" in (report.message or "")) == ("running", True)
    assert await one(world, "SELECT leased_until > now() FROM jobs WHERE type = 'preflight'")
    await execute(
        world, "UPDATE catalog_links SET questions_blocked_until = NULL, questions_usage_percent = 0"
    )
    await execute(world, "DELETE FROM store_pauses WHERE reason <> 'held'")
    await execute(world, "UPDATE jobs SET leased_until = now() WHERE type = 'preflight'")
    assert (await _report(world)).status == "success"


async def test_an_answer_that_is_too_much_is_asked_for_in_smaller_pages(world: World) -> None:
    fill(world, *(f"i{number}" for number in range(30)))
    await world.connect()
    arm(
        world,
        "graph_error",
        edge="products",
        code=1,
        status=400,
        message="Please reduce the amount of data you're asking for, then retry your request",
        count=2,
    )
    report = await _report(world)
    assert (report.status, report.result["catalog"]["limit"]) == ("success", preflight._META_PAGE // 4)
    assert report.result["catalog"]["tally"]["items"] == 30


async def test_a_cursor_that_meta_no_longer_knows_begins_the_walk_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_META_PAGE", 10)
    fill(world, *(f"i{number:02}" for number in range(25)))
    await world.connect()
    pipeline = world.pipeline()
    begun = "SELECT count(*) FROM jobs WHERE type = 'preflight' AND stage = 'reading' AND cursor IS NOT NULL"
    while not await one(world, begun):
        await pipeline.read_jobs_tick()
    arm(world, "graph_error", edge="products", code=100, status=400, message="Invalid cursors", count=1)
    report = await _report(world)
    assert (report.status, report.result["catalog"]["walks"]) == ("success", 2)
    assert report.result["catalog"]["tally"]["items"] == 25
    arm(world, "graph_error", edge="products", code=100, status=400, message="No such field", count=None)
    report = await _report(world)
    assert (report.status, report.error_code) == ("error", "reading_refused")
    assert "No such field" in (report.message or "")


async def test_it_is_called_off_and_cut_short_by_another_catalog(world: World) -> None:
    fill(world, "a")
    await world.connect()
    await world.pipeline().read_jobs_tick()
    [report] = await world.reports.list(world.store_id)
    await world.jobs.cancel(world.store_id, report.job_id)
    await _read_until(world, "cancelled")
    with pytest.raises(ConflictError):
        await world.reports.approve(world.store_id, report.job_id, actor="me")
    again = await world.reports.start(world.store_id, probe_images=False, actor="me")
    # As if the selection came between a question and its answer.
    await execute(world, "UPDATE jobs SET link_id = 0 WHERE job_id = :job_id", job_id=again)
    await _read_until(world, "cancelled")
    assert (await world.reports.get(world.store_id, again)).error_code == "catalog_changed"
    assert await one(world, "SELECT count(*) FROM job_keys") == 0


async def test_a_worker_that_dies_on_the_way_leaves_the_report_whole(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_PAGE", 4)
    await world.put("p", *(variant(f"v{number}") for number in range(10)))
    fill(world, "v1", "theirs")
    await world.connect()
    keep = preflight_keys.keep_keys
    died: list[bool] = []

    async def dies_once(*given: Any) -> None:
        await keep(*given)
        if len(died) < 2:
            died.append(True)
            raise ConnectionError("the database went away")

    monkeypatch.setattr(preflight, "keep_keys", dies_once)
    pipeline = world.pipeline()
    for _ in range(30):
        try:
            await pipeline.read_jobs_tick()
        except ConnectionError:
            await execute(world, "UPDATE jobs SET leased_until = now() WHERE type = 'preflight'")
    [report] = await world.reports.list(world.store_id)
    assert (report.status, len(died)) == ("success", 2)
    assert report.result["scan"]["variants"] == 10
    tally = report.result["catalog"]["tally"]
    assert (tally["changed"]["count"], tally["foreign"]["count"]) == (1, 1)


async def test_a_report_without_a_currency_waits_for_it(world: World) -> None:
    bare = await world.stores.create("Bare", storefront_base_url="https://shop.example")
    world.store_id = bare.store_id
    fill(world, "a")
    await world.connect()
    pipeline = world.pipeline()
    await pipeline.read_jobs_tick()
    [report] = await world.reports.list(world.store_id)
    assert (report.status, "Fill in the settings" in (report.message or "")) == ("running", True)
    await world.stores.patch_settings(world.store_id, {"currency": "EUR"})
    await execute(world, "UPDATE jobs SET leased_until = now() WHERE type = 'preflight'")
    assert (await _report(world)).status == "success"


async def test_images_are_looked_at_once_each_and_never_inside(world: World) -> None:
    """The shop's images are at an address that leads to this machine, which nobody may ask."""

    async def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    asked: list[str] = []
    world.outbound = OutboundClient(resolve=resolve)
    await world.put("p", *(variant(f"v{number:02}") for number in range(20)))
    for number in range(20):
        await world.put(f"q{number}", thumbnail=f"https://shop.example/images/{number}.jpg")
    report = await _report(world, probe_images=True)
    images = report.result["images"]
    assert (report.status, images["checked"], images["good"]) == ("success", 21, 0)
    assert images["findings"]["image_not_public"]["count"] == 21
    assert len(asked) == 21
    assert "seen" not in images
