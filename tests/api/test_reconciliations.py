"""Comparing with Meta over HTTP: started, followed, read, tried out and repaired."""

from __future__ import annotations

from typing import Any

from meta_sync.sandbox.options import DEMO_CATALOG_ID
from tests.api.test_sync import connect
from tests.support.api import Api, Caller, assert_error, product_body
from tests.support.world import World

PATH = "/admin/meta/reconciliations"


async def _shop(world: World, store: Caller) -> None:
    for name in "abc":
        await store.data("PUT", f"/catalog/products/{name}", json=product_body(f"{name}/1"))
    await connect(store, enableSync=True)
    await world.run()


async def _reconciled(world: World, store: Caller) -> Any:
    started = await store.data("POST", PATH, status=202)

    async def is_over() -> bool:
        return bool((await store.data("GET", started["href"]))["status"] == "success")

    await world.run(until=is_over)
    return await store.data("GET", started["href"])


async def test_from_a_broken_catalog_to_one_without_drift(world: World, store: Caller) -> None:
    assert_error(await store("POST", PATH), 409, "meta_not_connected")
    await _shop(world, store)
    assert (await store.data("GET", "/admin/meta/status"))["lastReconciliation"] is None
    catalog = world.sandbox.catalog(DEMO_CATALOG_ID)
    catalog.remove("a/1")
    catalog.store("b/1", {**catalog.items["b/1"], "title": "Another"})
    catalog.store("other", {"id": "other", "title": "Mug"})

    found = await _reconciled(world, store)
    assert (found["stage"], found["percent"], found["itemsRead"], found["productCount"]) == (
        "done",
        100,
        3,
        3,
    )
    assert found["counts"] == {
        "compared": 2,
        "agreeing": 1,
        "missing": 1,
        "different": 1,
        "unverifiable": 0,
        "orphan": 0,
        "foreign": 1,
        "busy": 0,
    }
    assert (found["driftPercent"], found["error"], found["requestedBy"] is None) == (66.6667, None, False)
    status = await store.data("GET", "/admin/meta/status")
    assert status["lastReconciliation"] == {
        "jobId": found["id"],
        "at": found["finishedAt"],
        "driftPercent": 66.6667,
    }
    assert status["catalog"]["productCount"] == 3

    items = f"{found['href']}/items"
    listed = (await store("GET", items)).json()
    assert [(one["retailerId"], one["verdict"], one["state"]) for one in listed["data"]] == [
        ("a/1", "missing", "agreed"),
        ("b/1", "different", "agreed"),
        ("other", "foreign", "agreed"),
    ]
    [_, different, foreign] = listed["data"]
    assert [(one["field"], one["shown"]) for one in different["differences"]] == [("title", "Another")]
    assert (different["variantId"], foreign["variantId"], foreign["itemHref"]) == ("b/1", None, None)
    assert (await store("GET", different["itemHref"])).status_code == 200
    assert foreign["shown"]["name"] == "Mug"
    first = (await store("GET", f"{items}?limit=2")).json()
    assert first["metadata"]["total"] == 3
    rest = (await store("GET", f"{items}?limit=2&cursor={first['metadata']['nextCursor']}")).json()
    assert [one["retailerId"] for one in rest["data"]] == ["other"]
    only = (await store("GET", f"{items}?verdict=foreign&state=agreed")).json()
    assert [one["retailerId"] for one in only["data"]] == ["other"]
    assert (await store("GET", f"{items}?state=withdrawn")).json()["data"] == []
    assert_error(await store("GET", f"{items}?verdict=strange"), 400, "VALIDATION_ERROR")

    repair = f"{found['href']}/repair"
    plan = await store.data("POST", repair, json={"dryRun": True, "verdicts": ["missing"]})
    assert (plan["dryRun"], plan["repaired"], plan["remaining"]) == (True, 1, 0)
    assert [(one["variantId"], one["decision"]) for one in plan["items"]] == [("a/1", "upsert")]
    wrong: Any
    for wrong in ({"verdicts": ["foreign"]}, {"verdicts": []}, {"variantIds": ["a"], "retailerIds": ["a"]}):
        assert_error(await store("POST", repair, json=wrong), 400, "VALIDATION_ERROR")
    done = await store.data("POST", repair)
    assert (done["repaired"], [one["decision"] for one in done["items"]]) == (2, [None, None])
    await world.run()
    again = await _reconciled(world, store)
    assert (again["driftPercent"], again["counts"]["foreign"]) == (0, 1)

    listing = (await store("GET", PATH)).json()
    assert [one["id"] for one in listing["data"]] == [again["id"], found["id"]]
    newest = (await store("GET", f"{PATH}?limit=1")).json()
    older = (await store("GET", f"{PATH}?limit=1&cursor={newest['metadata']['nextCursor']}")).json()
    assert [one["id"] for one in older["data"]] == [found["id"]]
    job = await store.data("GET", f"/admin/meta/sync-jobs/{found['id']}")
    assert (job["type"], job["percent"], job["counts"]["unchanged"], job["result"]) == (
        "reconciliation",
        100,
        3,
        None,
    )
    timeline = (await store("GET", f"{different['itemHref']}/timeline")).json()["data"]
    assert "drift" in {one["kind"] for one in timeline}


async def test_one_at_a_time_and_called_off_like_any_job(api: Api, world: World, store: Caller) -> None:
    await _shop(world, store)
    started = await store.data("POST", PATH, status=202)
    refused = assert_error(await store("POST", PATH), 409, "CONFLICT")
    assert refused["details"][0]["message"] == started["jobId"]
    await store("POST", f"/admin/meta/sync-jobs/{started['jobId']}/cancel")
    await world.run()
    assert (await store.data("GET", started["href"]))["status"] == "cancelled"
    other = (await world.stores.create("Other")).store_id
    stranger = await api.caller(other)
    for path in ("", "/items"):
        assert_error(await stranger("GET", started["href"] + path), 404, "NOT_FOUND")
    assert_error(await stranger("POST", f"{started['href']}/repair"), 404, "NOT_FOUND")
    assert_error(await store("GET", f"{PATH}/job_unknown"), 404, "NOT_FOUND")
