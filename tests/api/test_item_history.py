"""An item's timeline, Meta's live view of it and taking it off Meta; batches and happenings: all over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from meta_sync.access.models import Permission
from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN, DEMO_CATALOG_ID
from tests.api.test_sync import connect
from tests.support.api import Api, Caller, assert_error, product_body
from tests.support.pipeline import arm, one
from tests.support.world import World

PAGE = {"page", "limit", "total", "totalIsExact", "nextCursor"}


@pytest.fixture
async def synced(world: World, store: Caller) -> Caller:
    await connect(store, enableSync=True)
    await store.data("PUT", "/catalog/products/p", json=product_body("v1", "V1", "a/b"))
    await world.run()
    return store


async def test_a_timeline_in_pages(world: World, synced: Caller) -> None:
    await synced.data("POST", "/admin/meta/items/v1/resync")
    await world.run()
    body = (await synced.get("/admin/meta/items/v1/timeline")).json()
    assert set(body["metadata"]) == PAGE
    assert (body["metadata"]["total"], body["metadata"]["totalIsExact"]) == (4, True)
    assert {entry["kind"] for entry in body["data"]} == {"state", "attempt", "resync"}
    assert all(entry["message"] for entry in body["data"])
    attempt = next(entry["attempt"] for entry in body["data"] if entry["attempt"])
    assert (attempt["outcome"], attempt["method"], len(attempt["payloadHash"])) == ("accepted", "UPDATE", 64)
    assert attempt["batchHref"] == f"/admin/meta/handles/{attempt['batchId']}"
    assert DEMO_ACCESS_TOKEN not in str(body)
    found: list[Any] = []
    cursor = None
    while True:
        more = {"limit": 1} if cursor is None else {"limit": 1, "cursor": cursor}
        page = (await synced.get("/admin/meta/items/v1/timeline", **more)).json()
        found += page["data"]
        cursor = page["metadata"]["nextCursor"]
        if cursor is None:
            break
    assert found == body["data"]
    href = next(
        item["href"] for item in await synced.data("GET", "/admin/meta/items") if item["variantId"] == "a/b"
    )
    assert await synced.data("GET", f"{href}/timeline")
    assert_error(await synced.get("/admin/meta/items/nowhere/timeline"), 404, "NOT_FOUND")
    assert_error(await synced.get("/admin/meta/items/v1/timeline", cursor="x"), 400, "VALIDATION_ERROR")


async def test_what_meta_shows_now(world: World, synced: Caller) -> None:
    shown: dict[str, Any] = {}
    for _ in range(5):  # Meta names its usage after a few calls only.
        shown = await synced.data("GET", "/admin/meta/items/v1/meta-status")
    assert (shown["found"], shown["retailerId"], shown["catalogId"]) == (True, "v1", DEMO_CATALOG_ID)
    assert (shown["availability"], shown["currency"], shown["errors"]) == ("in stock", "EUR", [])
    assert shown["price"].startswith("€")
    assert shown["metaId"]
    assert shown["metaId"] != (await synced.data("GET", "/admin/meta/items/V1/meta-status"))["metaId"]
    # The answer's usage is part of the budget that the pipeline spends.
    assert await one(world, "SELECT questions_usage_at IS NOT NULL FROM catalog_links") is True


async def test_metas_id_is_kept_while_it_can_be_true(world: World, synced: Caller) -> None:
    async def kept() -> Any:
        state = (await synced.data("GET", "/admin/meta/items/v1"))["syncState"]
        return None if state is None else state["metaId"]

    async def shown() -> Any:
        return (await synced.data("GET", "/admin/meta/items/v1/meta-status"))["metaId"]

    assert await kept() is None
    first = await shown()
    assert await kept() == first is not None
    await synced.data("POST", "/admin/meta/items/v1/resync")
    assert await kept() == first
    await world.run()
    assert await kept() == first
    # Taken off and brought back it is another item.
    await synced.data("POST", "/admin/meta/items/v1/delete-from-meta", 202)
    await world.run()
    assert await kept() is None
    await synced.data("POST", "/admin/meta/items/v1/resync")
    await world.run()
    assert await kept() is None
    again = await shown()
    assert await kept() == again is not None
    # A delete whose outcome nobody knows, and a catalog that was left and chosen again.
    async with world.database.platform() as connection:
        await connection.execute(
            text("UPDATE batch_items SET method = 'DELETE', created_at = now() WHERE variant_id = 'v1'")
        )
    assert await kept() is None
    await shown()
    assert await kept() is None
    async with world.database.platform() as connection:
        await connection.execute(text("UPDATE batch_items SET method = 'UPDATE' WHERE variant_id = 'v1'"))
    await shown()
    assert await kept() is not None
    async with world.database.platform() as connection:
        await connection.execute(text("UPDATE catalog_links SET epoch = epoch + 1"))
    assert await kept() is None
    await shown()
    assert await kept() is not None
    # Somebody else deleted it.
    async with world.database.platform() as connection:
        await connection.execute(text("UPDATE sync_state SET retailer_id = 'gone' WHERE variant_id = 'v1'"))
    assert await shown() is None
    assert await kept() is None


async def test_ids_are_compared_exactly(world: World, synced: Caller) -> None:
    await synced.data("POST", "/admin/meta/items/V1/delete-from-meta", 202)
    await world.run()
    # Meta's filter finds the other one.
    missing = await synced.data("GET", "/admin/meta/items/V1/meta-status")
    assert (missing["found"], missing["retailerId"], missing["metaId"], missing["price"]) == (
        False,
        "V1",
        None,
        None,
    )


async def _not_asked(store: Caller, path: str) -> str:
    """The sentence of an answer that never came near Meta."""
    shown = await store.data("GET", path)
    assert (shown["found"], shown["catalogId"], shown["retailerId"]) == (False, None, None)
    (error,) = shown["errors"]
    return str(error["message"])


async def test_meta_cannot_be_asked(world: World, store: Caller) -> None:
    await store.data("PUT", "/catalog/products/p", json=product_body("v1"))
    path = "/admin/meta/items/v1/meta-status"
    assert_error(await store.get("/admin/meta/items/nowhere/meta-status"), 404, "NOT_FOUND")
    assert await _not_asked(store, path) == "No Meta catalog is selected yet."
    await connect(store)
    assert_error(await store.get("/admin/meta/items/nowhere/meta-status"), 404, "NOT_FOUND")
    assert (await store.data("GET", path))["found"] is False

    arm(world, "throttled")
    throttled = await store.get(path)
    assert_error(throttled, 503, "meta_rate_limited")
    assert int(throttled.headers["retry-after"]) > 0
    # From then on Meta is left alone.
    requests = len(world.sandbox.requests)
    again = await store.get(path)
    assert_error(again, 503, "meta_rate_limited")
    assert 0 < int(again.headers["retry-after"]) <= 900
    assert len(world.sandbox.requests) == requests


async def test_an_outage_is_told_and_ends(world: World, store: Caller) -> None:
    await store.data("PUT", "/catalog/products/p", json=product_body("v1"))
    await connect(store)
    path = "/admin/meta/items/v1/meta-status"
    async with world.database.platform() as connection:
        await connection.execute(
            text(
                "INSERT INTO store_pauses (store_id, reason, until) "
                "VALUES (:store_id, 'meta_unreachable', now() + interval '40 seconds')"
            ),
            {"store_id": world.store_id},
        )
    away = await store.get(path)
    assert_error(away, 503, "SERVICE_UNAVAILABLE")
    assert 0 < int(away.headers["retry-after"]) <= 40
    async with world.database.platform() as connection:
        await connection.execute(text("UPDATE store_pauses SET until = now()"))
    assert (await store.data("GET", path))["found"] is False
    arm(world, "token_error")
    assert_error(await store.get(path), 400, "meta_account_error")
    assert await one(world, "SELECT dead_at IS NOT NULL FROM credentials") is True
    assert "no longer accepts" in await _not_asked(store, path)


async def test_taken_off_meta_and_brought_back(world: World, synced: Caller) -> None:
    path = "/admin/meta/items/v1/delete-from-meta"
    for _ in range(2):
        assert await synced.data("POST", path, 202) == {"variantId": "v1", "enqueued": True}
        await world.run()
        assert set(world.at_meta()) == {"V1", "a/b"}
    calls = world.calls()
    await synced.data("POST", path, 202)
    await world.run()
    assert world.calls() == calls
    item = await synced.data("GET", "/admin/meta/items/v1")
    assert (item["syncState"]["excluded"], item["eligibility"]["reason"]) == (True, "excluded_by_operator")
    await synced.data("POST", "/admin/meta/items/v1/resync")
    await world.run()
    assert set(world.at_meta()) == {"v1", "V1", "a/b"}
    assert_error(await synced("POST", "/admin/meta/items/nowhere/delete-from-meta"), 404, "NOT_FOUND")


async def test_before_a_catalog_is_selected_there_is_nothing_to_take_off(store: Caller) -> None:
    await store.data("PUT", "/catalog/products/p", json=product_body("v1"))
    path = "/admin/meta/items/v1/delete-from-meta"
    assert_error(await store("POST", path), 409, "meta_not_connected")


async def test_batches_and_happenings(world: World, synced: Caller) -> None:
    body = (await synced.get("/admin/meta/handles", state="over")).json()
    assert set(body["metadata"]) == PAGE
    [batch] = body["data"]
    assert (batch["sent"], batch["accepted"], batch["state"], batch["errorCode"]) == (3, 3, "over", None)
    assert isinstance(batch["id"], str)
    detail = (await synced.get(batch["href"], limit=2)).json()
    assert {key: detail["data"][key] for key in batch} == batch
    assert [item["variantId"] for item in detail["data"]["items"]] == ["V1", "a/b"]
    assert (detail["metadata"]["total"], len(detail["data"]["callLog"])) == (3, 1)
    rest = await synced.data(
        "GET", batch["href"], params={"limit": 2, "cursor": detail["metadata"]["nextCursor"]}
    )
    assert [(item["variantId"], item["outcome"]) for item in rest["items"]] == [("v1", "accepted")]
    assert_error(await synced.get("/admin/meta/handles/77777"), 404, "NOT_FOUND")
    assert_error(await synced.get("/admin/meta/handles", state="lost"), 400, "VALIDATION_ERROR")

    happened = (await synced.get("/admin/meta/activity")).json()
    assert set(happened["metadata"]) == PAGE
    kinds = {entry["kind"] for entry in happened["data"]}
    assert {"token_set", "catalog_selected", "batch_sent", "batch_ended", "job_started"} <= kinds
    ended = next(entry for entry in happened["data"] if entry["kind"] == "batch_ended")
    assert ended["subject"] == {"type": "batch", "id": batch["id"], "href": batch["href"]}
    assert DEMO_ACCESS_TOKEN not in str(happened)


async def test_seeing_is_not_steering(api: Api, synced: Caller) -> None:
    viewer = await api.caller(permissions=[Permission.CATALOG_VIEW])
    for path in ("/admin/meta/items/v1/timeline", "/admin/meta/handles", "/admin/meta/activity"):
        assert (await viewer.get(path)).status_code == 200
    assert_error(await viewer("POST", "/admin/meta/items/v1/delete-from-meta"), 403, "FORBIDDEN")
