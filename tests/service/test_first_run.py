"""A catalog that has items already is written to only after a person has read what that would do, and approved it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, NotFoundError
from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN, DEMO_BUSINESS_ID, DEMO_CATALOG_ID
from meta_sync.sync.first_run import PREFLIGHT
from meta_sync.sync.job_models import JobView
from meta_sync.sync.status import StatusService, StoreStatus
from tests.support.pipeline import execute, fetch, one
from tests.support.world import World, open_world, variant

_OTHER_CATALOG = "7100195296759999"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        world.sandbox.add_catalog("7100195296754001", "Other", catalog_id=_OTHER_CATALOG)
        yield world


def fill(world: World, *retailer_ids: str, catalog_id: str = DEMO_CATALOG_ID, **fields: Any) -> None:
    """Items as another plug-in left them: other names, other prices, and a sale that never ends."""
    for retailer_id in retailer_ids:
        item = {
            "id": retailer_id,
            "title": "Old title",
            "description": "Old words",
            "price": "99.00 EUR",
            "sale_price": "49.00 EUR",
            "color": "red",
            "availability": "in stock",
            "condition": "new",
            "link": "https://old.example/p",
            "image_link": "https://old.example/p.jpg",
            "brand": "Old",
        }
        world.sandbox.catalog(catalog_id).store(retailer_id, item | fields)


async def _status(world: World) -> StoreStatus:
    return await StatusService(world.database, world.settings).status(world.store_id)


async def _job(world: World, kind: str) -> JobView:
    return next(job for job in await world.jobs.list(world.store_id) if job.type == kind)


async def _until_reported(world: World) -> None:
    """Work until the report is there, and long enough for anything to go out that would."""

    async def is_there() -> bool:
        return (await _job(world, PREFLIGHT)).is_over

    await world.run(until=is_there)
    pipeline = world.pipeline()
    for _ in range(5):
        await pipeline.sweep_tick()
        await pipeline.drain_tick()
        await pipeline.jobs_tick()


async def _select(world: World, catalog_id: str = DEMO_CATALOG_ID, *, dry_run: bool = False) -> Any:
    return await world.connection.select_catalog(
        world.store_id, DEMO_BUSINESS_ID, "Demo", catalog_id, "Demo", enable_sync=True, dry_run=dry_run
    )


async def test_nothing_is_sent_before_approval_and_no_old_field_survives_it(world: World) -> None:
    fill(world, "a", "b", "c")
    fill(world, "theirs")
    await world.put("p", variant("a"), variant("b", special_price=999), variant("new"))
    await world.connect()
    await _until_reported(world)
    assert world.calls() == 0
    assert all(
        one.method == "GET" for one in world.sandbox.requests if one.path.startswith(f"/{DEMO_CATALOG_ID}")
    )
    status = await _status(world)
    assert (status.pause_reason, status.paused_until) == ("held", None)
    assert status.last_error is not None
    assert (status.last_error.code, status.last_error.entry.group) == ("first_run_approval", "pause")
    waiting = await _job(world, "bootstrap")
    assert waiting.status == "running"
    assert (waiting.message or "").startswith("Paused: Nothing is sent until")
    # A change of the catalog does not get around it.
    await world.put("q", variant("c"))
    await _until_reported(world)
    assert world.calls() == 0
    await world.approve()
    assert (await _status(world)).pause_reason is None
    await world.run()
    assert (await _job(world, "bootstrap")).status == "success"
    left = world.at_meta()
    theirs = left.pop("theirs")
    assert (theirs["title"], theirs["sale_price"]) == ("Old title", "49.00 EUR")
    assert left == await world.wanted()
    assert [name for name in left if "color" in left[name]] == []
    assert {name for name in left if "sale_price" in left[name]} == {"b"}


async def test_an_empty_catalog_needs_no_approval(world: World) -> None:
    await world.put("p", variant("a"))
    await world.connect()
    await world.run()
    await world.assert_right()
    assert [job.type for job in await world.jobs.list(world.store_id)] == ["bootstrap"]
    assert await fetch(
        world, "SELECT first_run_approved_at IS NOT NULL, first_run_approved_by FROM catalog_links"
    ) == [(True, None)]


async def test_only_the_newest_finished_report_approves(world: World) -> None:
    fill(world, "a")
    await world.put("p", variant("a"))
    await world.connect()
    first = await _job(world, PREFLIGHT)
    with pytest.raises(ConflictError, match="not ready: queued"):
        await world.reports.approve(world.store_id, first.job_id, actor="me")
    with pytest.raises(ConflictError, match="being made already") as running:
        await world.reports.start(world.store_id, probe_images=False, actor="me")
    assert [one.message for one in running.value.details] == [first.job_id]
    await _until_reported(world)
    second = await world.reports.start(world.store_id, probe_images=False, actor="me")
    await world.jobs.cancel(world.store_id, second)
    await _until_reported(world)
    third = await world.reports.start(world.store_id, probe_images=False, actor="me")
    await _until_reported(world)
    with pytest.raises(ConflictError, match="not ready: cancelled"):
        await world.reports.approve(world.store_id, second, actor="me")
    with pytest.raises(ConflictError, match="a newer report") as newer:
        await world.reports.approve(world.store_id, first.job_id, actor="me")
    assert [one.message for one in newer.value.details] == [third]
    with pytest.raises(NotFoundError):
        await world.reports.approve(world.store_id, (await _job(world, "bootstrap")).job_id, actor="me")
    assert (await _status(world)).pause_reason == "held"
    approval = await world.reports.approve(world.store_id, third, actor="me")
    assert (approval.was_new, approval.catalog_id, approval.approved_by) == (True, DEMO_CATALOG_ID, "me")
    again = await world.reports.approve(world.store_id, third, actor="somebody else")
    assert (again.was_new, again.approved_at, again.approved_by) == (False, approval.approved_at, "me")
    entries = await fetch(world, "SELECT actor, target_id FROM audit_log WHERE action = 'first_run_approved'")
    assert entries == [("me", DEMO_CATALOG_ID)]
    await world.run()


async def test_each_catalog_is_approved_for_itself_and_once(world: World) -> None:
    fill(world, "a")
    fill(world, "a", catalog_id=_OTHER_CATALOG)
    await world.put("p", variant("a"))
    await world.connect()
    await _until_reported(world)
    of_the_first = (await _job(world, PREFLIGHT)).job_id
    await _select(world, _OTHER_CATALOG)
    with pytest.raises(ConflictError, match="No pre-flight report"):
        await world.reports.approve(world.store_id, of_the_first, actor="me")
    await _until_reported(world)
    await world.approve()
    await world.run()
    assert world.sandbox.catalog(_OTHER_CATALOG).items["a"]["title"] == "Product p"
    # The first one still waits, and what was reported about it before is too old.
    await _select(world)
    assert (await _status(world)).pause_reason == "held"
    with pytest.raises(ConflictError, match="No pre-flight report"):
        await world.reports.approve(world.store_id, of_the_first, actor="me")
    # Back to the one that was approved: it goes on at once.
    await _select(world, _OTHER_CATALOG)
    assert (await _status(world)).pause_reason is None
    await world.run()
    assert world.sandbox.catalog(DEMO_CATALOG_ID).items["a"]["title"] == "Old title"


async def test_an_emptied_catalog_is_approved_when_it_is_come_back_to(world: World) -> None:
    fill(world, "a")
    await world.connect()
    await _select(world, _OTHER_CATALOG)
    world.sandbox.catalog(DEMO_CATALOG_ID).remove("a")
    await world.put("p", variant("a"))
    await _select(world)
    assert (await _status(world)).pause_reason is None
    await world.run()
    await world.assert_right()


async def test_nobody_else_ends_the_pause(world: World) -> None:
    fill(world, "a")
    await world.put("p", variant("a"))
    await world.connect()
    await _until_reported(world)
    await world.connection.set_token(world.store_id, SecretStr(DEMO_ACCESS_TOKEN))
    await world.stores.patch_settings(
        world.store_id, {"syncEnabled": False, "appId": None, "graphVersion": "v24.0"}
    )
    await world.stores.patch_settings(world.store_id, {"syncEnabled": True, "defaultBrand": "Other"})
    await _select(world)
    await world.jobs.cancel(world.store_id, (await _job(world, "bootstrap")).job_id)
    # A turn of another worker, and one that begins anew.
    for owner in ("worker-2", "worker-3"):
        pipeline = world.pipeline(owner)
        await execute(world, "UPDATE store_queue SET due_at = now()")
        await pipeline.drain_tick()
        await pipeline.sweep_tick()
        await pipeline.jobs_tick()
    assert await fetch(world, "SELECT reason, link_id, code, until FROM store_pauses") == [
        ("held", 0, "first_run_approval", None)
    ]
    assert world.calls() == 0
    assert await one(world, "SELECT first_run_approved_at FROM catalog_links") is None
    await world.approve()
    await world.run()
    assert world.at_meta()["a"]["brand"] == "Acme"


async def test_a_dry_run_says_that_the_first_run_will_wait(world: World) -> None:
    await world.connection.set_token(world.store_id, SecretStr(DEMO_ACCESS_TOKEN))
    assert not (await _select(world, dry_run=True)).waits_for_approval
    fill(world, "a")
    assert (await _select(world, dry_run=True)).waits_for_approval
    assert await fetch(world, "SELECT 1 FROM catalog_links") == []
    assert (await _select(world)).waits_for_approval
    assert (await _select(world, dry_run=True)).waits_for_approval
    await _until_reported(world)
    await world.approve()
    assert not (await _select(world, dry_run=True)).waits_for_approval
    assert not (await _select(world)).waits_for_approval
