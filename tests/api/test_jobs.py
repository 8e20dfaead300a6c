"""Jobs and bulk actions over HTTP."""

from __future__ import annotations

import asyncio
import csv
import io
from typing import Any

import orjson
import pytest

from tests.api.test_sync import connect
from tests.support.api import Api, Caller, assert_error, product_body
from tests.support.pipeline import fetch
from tests.support.world import World

JOBS = "/admin/meta/sync-jobs"
FIELDS = {
    "id", "type", "status", "scope", "action", "lane", "dryRun", "description", "requestedBy", "createdAt", "startedAt",
    "finishedAt", "stage", "message", "percent", "counts", "ratePerMinute", "estimatedFinishAt", "error",
    "result", "href", "importHref",
}  # fmt: skip
COUNTS = {"total", "enqueued", "unchanged", "submitted", "synced", "failed", "skipped", "cancelled"}


async def _fill(world: World, store: Caller, *, run: bool = True) -> None:
    for number in range(3):
        await store.data("PUT", f"/catalog/products/p{number}", json=product_body(f"v{number}"))
    await connect(store, enableSync=True)
    if run:
        await world.run()


async def test_a_sync_from_its_start_to_its_end(world: World, store: Caller) -> None:
    await _fill(world, store)
    body = {"variantIds": ["v1", "v0", "none"], "force": True, "lane": "live", "description": "by hand"}
    answered = await store("POST", JOBS, json=body)
    assert answered.status_code == 202
    started = answered.json()["data"]
    assert (started["status"], started["notFound"]) == ("queued", ["none"])
    assert started["href"] == f"{JOBS}/{started['jobId']}"
    conflict = assert_error(await store("POST", JOBS), 409, "CONFLICT")
    assert started["jobId"] in conflict["message"]
    assert conflict["details"] == [{"field": "jobId", "message": started["jobId"]}]
    job = await store.data("GET", started["href"])
    assert set(job) == FIELDS
    assert set(job["counts"]) == COUNTS
    assert job["scope"] == {"kind": "variants", "ids": 3, "filter": None}
    assert (job["type"], job["action"], job["lane"], job["description"]) == (
        "sync",
        "force",
        "live",
        "by hand",
    )
    assert (job["stage"], job["percent"], job["counts"]["total"], job["estimatedFinishAt"]) == (
        "waiting",
        0,
        2,
        None,
    )
    await world.run()
    job = await store.data("GET", started["href"])
    assert (job["status"], job["percent"], job["counts"]["synced"]) == ("success", 100, 2)
    listed = await store("GET", f"{JOBS}?type=sync&status=success")
    assert [one["id"] for one in listed.json()["data"]] == [started["jobId"]]
    assert listed.json()["metadata"]["total"] == 1
    assert (await store("GET", f"{JOBS}?status=error")).json()["data"] == []


async def test_a_filter_is_a_scope(world: World, store: Caller) -> None:
    await _fill(world, store)
    body = {"filter": {"status": "synced", "search": "v1"}}
    started = await store.data("POST", JOBS, 202, json=body)
    job = await store.data("GET", started["href"])
    assert job["scope"]["kind"] == "filter"
    assert (job["scope"]["filter"]["status"], job["scope"]["filter"]["search"]) == ("synced", "v1")
    await world.run()
    assert (await store.data("GET", started["href"]))["counts"]["unchanged"] == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"variantIds": ["a"], "productIds": ["b"]}, None),
        ({"variantIds": []}, "variantIds"),
        ({"variantIds": ["x"] * 1001}, "variantIds"),
        ({"type": "import"}, "type"),
        ({"lane": "fast"}, "lane"),
        ({"filter": {"status": "nice"}}, "filter.status"),
        ({"force": 1}, "force"),
        ({"unknown": 1}, "unknown"),
    ],
    ids=str,
)
async def test_what_is_no_job_is_refused(store: Caller, body: dict[str, Any], field: str | None) -> None:
    answered = await store("POST", JOBS, json=body)
    error = assert_error(answered, 400, "VALIDATION_ERROR")
    if field is not None:
        assert field in [one["field"] for one in error["details"]]


async def test_without_a_catalog_there_is_nothing_to_sync(store: Caller) -> None:
    assert_error(await store("POST", JOBS), 409, "meta_not_connected")


async def test_the_same_key_starts_one_job(world: World, store: Caller) -> None:
    await _fill(world, store)
    headers = {"Idempotency-Key": "one"}
    first = await store("POST", JOBS, headers=headers)
    again = await store("POST", JOBS, headers=headers)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"


async def test_an_unchanged_job_is_not_told_twice(world: World, store: Caller) -> None:
    await _fill(world, store)
    started = await store.data("POST", JOBS, 202)
    first = await store("GET", started["href"])
    tag = first.headers["etag"]
    again = await store("GET", started["href"], headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    await world.run()
    later = await store("GET", started["href"], headers={"If-None-Match": tag})
    assert later.status_code == 200
    assert later.headers["etag"] != tag


async def test_a_job_is_followed_to_its_end(world: World, store: Caller) -> None:
    await _fill(world, store)
    started = await store.data("POST", JOBS, 202)
    running = asyncio.create_task(world.run())
    answered = await store("GET", f"{started['href']}/stream")
    await running
    assert answered.headers["content-type"].startswith("text/event-stream")
    events = [part.splitlines() for part in answered.text.split("\n\n") if "data:" in part]
    assert events[-1][0] == "event: done"
    told = orjson.loads(events[-1][2].removeprefix("data: "))
    assert (told["id"], told["status"], set(told)) == (started["jobId"], "success", FIELDS)
    for _, _, data in events:
        counts = orjson.loads(data.removeprefix("data: "))["counts"]
        assert sum(counts.values()) - counts["total"] <= counts["total"]
    assert_error(await store("GET", f"{JOBS}/none/stream"), 404, "NOT_FOUND")


async def test_a_job_is_cancelled(world: World, store: Caller) -> None:
    await _fill(world, store)
    started = await store.data("POST", JOBS, 202)
    answered = await store("POST", f"{started['href']}/cancel")
    assert (answered.status_code, answered.json()["data"]["status"]) == (202, "cancelling")
    await world.run()
    job = await store.data("GET", started["href"])
    assert (job["status"], job["counts"]["cancelled"]) == ("cancelled", 3)
    done = await store.data("POST", JOBS, 202)
    await world.run()
    assert_error(await store("POST", f"{done['href']}/cancel"), 409, "CONFLICT")
    assert_error(await store("POST", f"{JOBS}/none/cancel"), 404, "NOT_FOUND")


async def test_the_list_is_paged(world: World, store: Caller) -> None:
    await _fill(world, store)
    ids = []
    for _ in range(3):
        ids.append((await store.data("POST", JOBS, 202))["jobId"])
        await world.run()
    first = (await store("GET", f"{JOBS}?limit=2")).json()
    assert [one["id"] for one in first["data"]] == [ids[2], ids[1]]
    assert (first["metadata"]["total"], first["metadata"]["totalIsExact"]) == (4, True)
    cursor = first["metadata"]["nextCursor"]
    second = (await store("GET", f"{JOBS}?limit=2&cursor={cursor}")).json()
    assert [one["type"] for one in second["data"]] == ["sync", "bootstrap"]
    assert second["metadata"]["nextCursor"] is None
    by_page = (await store("GET", f"{JOBS}?limit=2&page=2")).json()
    assert by_page["data"] == second["data"]
    assert_error(await store("GET", f"{JOBS}?type=sync&cursor={cursor}"), 400, "VALIDATION_ERROR")
    assert_error(await store("GET", f"{JOBS}?page=51&limit=200"), 400, "VALIDATION_ERROR")


async def test_bulk_actions(world: World, store: Caller) -> None:
    world.sandbox.refuse("v1", "No.")
    await _fill(world, store)
    bulk = "/admin/meta/items/bulk"
    world.sandbox.lift_refusal("v1")
    failed = await store("POST", f"{bulk}/resync-failed")
    assert failed.status_code == 202
    assert (failed.json()["data"]["enqueued"], failed.json()["data"]["notFound"]) == (1, [])
    assert_error(await store("POST", f"{bulk}/resync-skipped"), 409, "CONFLICT")
    await world.run()
    assert (await store.data("GET", failed.json()["data"]["href"]))["counts"]["synced"] == 1
    removed = await store.data("POST", f"{bulk}/delete-from-meta", 202, json={"productIds": ["p0", "none"]})
    assert (removed["enqueued"], removed["notFound"]) == (1, ["none"])
    await world.run()
    assert set(world.at_meta()) == {"v1", "v2"}
    skipped = await store.data("POST", f"{bulk}/resync-skipped", 202)
    assert skipped["enqueued"] == 0
    await world.run()
    back = await store.data("POST", f"{bulk}/resync", 202, json={"variantIds": ["v0"], "force": True})
    await world.run()
    assert (await store.data("GET", back["href"]))["type"] == "resync"
    assert set(world.at_meta()) == {"v0", "v1", "v2"}
    assert_error(await store("POST", f"{bulk}/resync", json={}), 400, "VALIDATION_ERROR")
    assert_error(await store("POST", f"{bulk}/resync"), 400, "VALIDATION_ERROR")


async def test_who_may(world: World, api: Api, store: Caller) -> None:
    await _fill(world, store)
    started = await store.data("POST", JOBS, 202)
    viewer = await api.caller(permissions=["metaCatalog:view"])
    assert (await viewer("GET", started["href"])).status_code == 200
    assert_error(await viewer("POST", JOBS), 403, "FORBIDDEN")
    assert_error(await viewer("POST", f"{started['href']}/cancel"), 403, "FORBIDDEN")


async def test_a_dry_run_tells_and_sends_nothing(world: World, store: Caller) -> None:
    await _fill(world, store)
    await store.data("PUT", "/catalog/products/p0", json=product_body("v0", brand="=Other"))
    await store.data("PUT", "/catalog/products/new", json=product_body("n"))
    await store.data("DELETE", "/catalog/products/p1")
    await store.data("PUT", "/catalog/products/bad", json=product_body("b", thumbnail=None))
    before = await _kept(world)
    calls = world.calls()
    started = await store.data("POST", JOBS, 202, json={"dryRun": True})
    pipeline = world.pipeline()
    while await pipeline.jobs_tick():
        pass
    job = await store.data("GET", started["href"])
    assert (job["status"], job["dryRun"], job["counts"]["total"], job["counts"]["unchanged"]) == (
        "success", True, 5, 5
    )  # fmt: skip
    result = job["result"]
    assert result["decisions"] == {"create": 1, "update": 1, "delete": 1, "unchanged": 1, "skip": 1}
    assert (result["reasons"], result["calls"], result["minutes"], result["reportLines"]) == (
        {"missing_image": 1}, 1, 0.0, 3
    )  # fmt: skip
    report = await store("GET", f"{started['href']}/report")
    assert report.headers["content-type"].startswith("text/csv")
    lines = {line["variantId"]: line for line in csv.DictReader(io.StringIO(report.text))}
    assert {one: line["decision"] for one, line in lines.items()} == {
        "v0": "update",
        "n": "create",
        "v1": "delete",
    }
    assert lines["v0"]["changedFields"] == "brand custom_label_1"
    for place, brand in (("before", "Acme"), ("after", "=Other")):
        assert orjson.loads(lines["v0"][place]) == {"brand": brand, "custom_label_1": brand}
    assert orjson.loads(lines["n"]["before"])["title"] is None
    assert (await _kept(world), world.calls()) == (before, calls)
    forced = await store.data("POST", JOBS, 202, json={"dryRun": True, "force": True})
    while await pipeline.jobs_tick():
        pass
    decisions = (await store.data("GET", forced["href"]))["result"]["decisions"]
    assert (decisions["update"], decisions["unchanged"]) == (2, 0)


async def _kept(world: World) -> list[Any]:
    return [
        await fetch(world, f"SELECT * FROM {name} ORDER BY 1, 2")
        for name in ("intents", "sync_state", "batches", "job_pages")
    ]


async def test_a_dry_run_without_settings_says_so(world: World, store: Caller) -> None:
    await _fill(world, store)
    await store.data("PATCH", "/admin/meta/settings", json={"storefrontBaseUrl": None})
    started = await store.data("POST", JOBS, 202, json={"dryRun": True})
    while await world.pipeline().jobs_tick():
        pass
    job = await store.data("GET", started["href"])
    assert (job["status"], job["counts"]["cancelled"]) == ("error", 3)
    assert (job["error"]["code"], job["error"]["category"]) == ("config_incomplete", "catalog")
    assert "missing" in job["error"]["message"]
    assert job["error"]["action"].startswith("Fill in")


async def test_an_item_called_bulk_is_one_item(world: World, store: Caller) -> None:
    await _fill(world, store)
    await store.data("PUT", "/catalog/products/odd", json=product_body("bulk"))
    await world.run()
    item = await store.data("GET", "/admin/meta/items/bulk")
    assert item["href"].startswith("/admin/meta/items/~")
    await store.data("POST", f"{item['href']}/resync")
    assert (await store.data("GET", item["href"]))["pendingIntent"] is not None
    assert (await store("GET", JOBS)).json()["metadata"]["total"] == 1, "the first sync, and no other job"
