"""Reports of what a sync would do, and approving a first one, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from meta_sync.sandbox.options import DEMO_CATALOG_ID
from tests.api.test_sync import connect
from tests.support.api import Api, Caller, assert_error, product_body
from tests.support.pipeline import fetch
from tests.support.world import World

PREFLIGHT = "/admin/meta/preflight"
SELECT = "/admin/meta/select-catalog"
OLD = {"id": "v0", "title": "Old", "price": "9.00 EUR", "sale_price": "5.00 EUR", "color": "red"}
FOREIGN = {"id": "secret-foreign-item", "title": "Somebody's secret", "price": "1.00 EUR"}


async def _fill(world: World, store: Caller) -> Any:
    for item in (OLD, FOREIGN):
        world.sandbox.catalog(DEMO_CATALOG_ID).store(item["id"], item)
    await store.data("PUT", "/catalog/products/p0", json=product_body("v0"))
    await store.data("PUT", "/catalog/products/p1", json={**product_body("v1"), "status": "draft"})
    return await connect(store, enableSync=True)


async def test_a_first_sync_from_its_report_to_its_approval(world: World, store: Caller) -> None:
    await _fill(world, store)
    [made] = (await store.data("GET", PREFLIGHT))["reports"]
    assert (made["status"], made["waitsForApproval"], made["requestedBy"]) == ("queued", True, None)
    assert (made["catalog"], made["images"], made["variants"]) == (None, None, 0)
    assert_error(await store("POST", f"{made['href']}/approve"), 409, "CONFLICT")

    async def is_ready() -> bool:
        return bool((await store.data("GET", made["href"]))["status"] == "success")

    await world.run(until=is_ready)
    report = await store.data("GET", made["href"])
    assert (report["variants"], report["syncable"]) == (2, 1)
    [reason] = report["notSyncable"]
    assert (reason["code"], reason["count"], reason["severity"]) == ("product_not_active", 1, "info")
    assert [one["variantId"] for one in reason["examples"]] == ["v1"]
    assert (reason["sentence"], reason["action"]) != ("", "")
    catalog = report["catalog"]
    assert (catalog["catalogId"], catalog["items"], catalog["created"], catalog["unchanged"]) == (
        DEMO_CATALOG_ID,
        2,
        0,
        0,
    )
    assert [
        catalog[kind]["count"] for kind in ("changed", "deleted", "notSyncable", "foreign", "salesEnded")
    ] == [
        1,
        0,
        0,
        1,
        1,
    ]
    [changed] = catalog["changed"]["examples"]
    assert (changed["retailerId"], changed["variantId"], changed["salePrice"]) == ("v0", "v0", "€5.00")
    fields = {one["field"]: (one["meta"], one["store"]) for one in changed["changes"]}
    assert fields["color"] == ("red", None)
    assert fields["sale_price"] == ("€5.00", None)
    status = await store.data("GET", "/admin/meta/status")
    assert (status["pauseReason"], status["lastError"]["code"]) == ("held", "first_run_approval")
    job = await store.data("GET", f"/admin/meta/sync-jobs/{made['id']}")
    assert (job["type"], job["status"], job["percent"], job["result"]) == ("preflight", "success", 100, None)
    approved = await store.data("POST", f"{made['href']}/approve")
    assert (approved["jobId"], approved["catalogId"]) == (made["id"], DEMO_CATALOG_ID)
    assert approved["approvedBy"] is not None
    assert await store.data("POST", f"{made['href']}/approve") == approved
    report = await store.data("GET", made["href"])
    assert (report["waitsForApproval"], report["approvedBy"]) == (False, approved["approvedBy"])
    assert (await store.data("GET", "/admin/meta/status"))["pauseReason"] is None
    await world.run()
    assert "sale_price" not in world.at_meta()["v0"]


async def test_a_report_is_asked_for_once_at_a_time(world: World, store: Caller) -> None:
    answered = await store("POST", PREFLIGHT, json={"probeImages": False})
    assert answered.status_code == 202
    started = answered.json()["data"]
    assert (started["status"], started["href"]) == ("queued", f"{PREFLIGHT}/{started['jobId']}")
    conflict = assert_error(await store("POST", PREFLIGHT), 409, "CONFLICT")
    assert conflict["details"] == [{"field": "jobId", "message": started["jobId"]}]
    await world.run()
    report = await store.data("GET", started["href"])
    # Without a catalog it is about the store's own items.
    assert (report["status"], report["catalog"], report["waitsForApproval"]) == ("success", None, False)
    assert_error(await store("POST", f"{started['href']}/approve"), 409, "CONFLICT")
    assert_error(await store("GET", f"{PREFLIGHT}/job_unknown"), 404, "NOT_FOUND")
    assert_error(await store("POST", f"{PREFLIGHT}/job_unknown/approve"), 404, "NOT_FOUND")
    wrong = assert_error(await store("POST", PREFLIGHT, json={"probeImages": "yes"}), 400, "VALIDATION_ERROR")
    assert [one["field"] for one in wrong["details"]] == ["probeImages"]
    actions = await fetch(world, "SELECT action, target_id FROM audit_log WHERE action = 'job_started'")
    assert actions == [("job_started", started["jobId"])]


async def test_a_store_without_a_currency_is_told_so(api: Api) -> None:
    bare = await api.factory.stores().create("Bare")
    answered = await (await api.caller(bare.store_id))("POST", PREFLIGHT)
    assert "currency" in assert_error(answered, 409, "CONFLICT")["message"]


async def test_who_may_read_and_who_may_approve(api: Api, world: World, store: Caller) -> None:
    await _fill(world, store)
    await store.data("GET", PREFLIGHT)
    reader = await api.caller(permissions=["metaCatalog:view"])
    [made] = (await reader.data("GET", PREFLIGHT))["reports"]
    await reader.data("GET", made["href"])
    assert_error(await reader("POST", PREFLIGHT), 403, "FORBIDDEN")
    assert_error(await reader("POST", f"{made['href']}/approve"), 403, "FORBIDDEN")
    assert_error(await api.nobody("GET", PREFLIGHT), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("dry_run", [True, False])
async def test_two_stores_that_select_one_catalog(
    api: Api, world: World, store: Caller, dry_run: bool
) -> None:
    """The second is refused, and learns nothing of the first, nor of what is in the catalog."""
    await _fill(world, store)
    await world.run(until=lambda: _has_report(store))
    [report] = (await store.data("GET", PREFLIGHT))["reports"]
    other = await api.factory.stores().create("Other", currency="EUR")
    neighbour = await api.caller(other.store_id)
    with pytest.raises(AssertionError, match="409"):
        await connect(neighbour, enableSync=True, dryRun=dry_run)
    body = {"businessId": "1", "businessName": "B", "catalogId": DEMO_CATALOG_ID, "catalogName": "C"}
    answered = await neighbour("POST", SELECT, json={**body, "dryRun": dry_run})
    refused = assert_error(answered, 409, "CONFLICT")
    assert refused["details"] == []
    assert (await neighbour.data("GET", PREFLIGHT))["reports"] == []
    for method, path in (("GET", report["href"]), ("POST", f"{report['href']}/approve")):
        assert_error(await neighbour(method, path), 404, "NOT_FOUND")
    own = await neighbour.data("POST", PREFLIGHT, 202)
    await world.run(until=lambda: _has_report(neighbour))
    seen = (await neighbour("GET", own["href"])).text + answered.text
    assert (await neighbour.data("GET", own["href"]))["catalog"] is None
    status = await neighbour.data("GET", "/admin/meta/status")
    assert (status["selection"], status["catalog"]) == (None, None)
    for secret in (world.store_id, "Shop", FOREIGN["id"], "Somebody", report["id"]):
        assert secret not in seen.replace(own["jobId"], "")
    links = await fetch(world, "SELECT store_id FROM catalog_links WHERE active")
    assert links == [(world.store_id,)]
    pauses = await fetch(world, "SELECT store_id FROM store_pauses")
    assert pauses == [(world.store_id,)]


async def _has_report(caller: Caller) -> bool:
    reports = (await caller.data("GET", PREFLIGHT))["reports"]
    return bool(reports and reports[0]["status"] == "success")


async def test_selecting_says_whether_the_first_sync_waits(world: World, store: Caller) -> None:
    selected = await connect(store, dryRun=True)
    assert selected["waitsForApproval"] is False
    world.sandbox.catalog(DEMO_CATALOG_ID).store("x", {"id": "x", "title": "X", "price": "1.00 EUR"})
    assert (await connect(store, dryRun=True))["waitsForApproval"] is True
    assert (await connect(store))["waitsForApproval"] is True
