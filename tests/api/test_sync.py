"""Token, selection, status, full sync and items over HTTP, against the sandbox, to the end."""

from __future__ import annotations

from typing import Any

from meta_sync.sandbox.options import (
    DEMO_ACCESS_TOKEN,
    DEMO_BUSINESS_ID,
    DEMO_CATALOG_ID,
    DEMO_SYSTEM_USER_ID,
)
from tests.support.api import Api, Caller, assert_error, product_body
from tests.support.secrets import tables_holding
from tests.support.world import World

SELECTION = {
    "businessId": DEMO_BUSINESS_ID, "businessName": "Acme", "catalogId": DEMO_CATALOG_ID, "catalogName": "Master"
}  # fmt: skip

SUMMARY_FIELDS = {
    "variantId", "productId", "productTitle", "productSlug", "productStatus", "productVisibility", "sku", "price",
    "thumbnail", "syncStatus", "metaRetailerId", "lastHandle", "lastPushedAt", "lastError", "attempts", "presence",
    "pendingIntent", "href",
}  # fmt: skip
STATUS_FIELDS = {
    "connected", "accountId", "connectedAt", "scope", "syncEnabled", "configuration", "selection", "counts",
    "connectionState", "tokenExpiresAt", "lastSyncAt", "lastSyncStatus", "lastError", "errorCount24h", "pausedUntil",
    "pauseReason", "lastDrainAt", "lastPollAt", "feedMode", "budget", "catalog",
}  # fmt: skip
COUNT_FIELDS = {
    "synced", "submitted", "pending", "failed", "skipped", "deleted", "outboxPending", "handlesPending", "neverSynced",
    "total", "held",
}  # fmt: skip


async def connect(store: Caller, **more: Any) -> Any:
    await store.data("POST", "/admin/meta/token", json={"accessToken": DEMO_ACCESS_TOKEN})
    return await store.data("POST", "/admin/meta/select-catalog", json={**SELECTION, **more})


async def test_from_an_empty_store_to_a_synced_item(world: World, store: Caller) -> None:
    await store.data("PUT", "/catalog/products/p", json=product_body("v1", "v2"))
    connected = await store.data("POST", "/admin/meta/token", json={"accessToken": DEMO_ACCESS_TOKEN})
    assert (connected["connected"], connected["tokenKind"]) == (True, "system_user")
    assert DEMO_ACCESS_TOKEN not in str(connected)
    dry = await store.data("POST", "/admin/meta/select-catalog", json={**SELECTION, "dryRun": True})
    assert dry["jobId"] is None
    assert (await store.data("GET", "/admin/meta/status"))["selection"] is None

    selected = await connect(store, enableSync=True)
    assert (selected["systemUserId"], selected["catalogId"], selected["tokenKind"]) == (
        DEMO_SYSTEM_USER_ID, DEMO_CATALOG_ID, "system_user"
    )  # fmt: skip
    assert selected["jobId"]
    status = await store.data("GET", "/admin/meta/status")
    assert set(status) >= STATUS_FIELDS
    assert set(status["counts"]) == COUNT_FIELDS
    assert (status["connected"], status["syncEnabled"], status["pauseReason"]) == (True, True, None)
    assert status["configuration"] == {"oauthClient": "configured", "feed": "configured", "missingKeys": []}
    assert status["selection"]["catalogName"] == "Master"

    await world.run()
    status = await store.data("GET", "/admin/meta/status")
    assert (status["counts"]["synced"], status["counts"]["total"], status["lastSyncStatus"]) == (
        2,
        2,
        "success",
    )
    assert status["budget"]["callsLastHour"] == 1

    listed = await store.data("GET", "/admin/meta/items?status=synced")
    assert [item["variantId"] for item in listed] == ["v1", "v2"]
    assert set(listed[0]) >= SUMMARY_FIELDS
    assert (listed[0]["presence"], listed[0]["pendingIntent"], listed[0]["metaRetailerId"]) == (
        "present", False, "v1"
    )  # fmt: skip
    product = await store.data("GET", "/catalog/products/p")
    assert product["sync"]["counts"] == {"synced": 2}
    assert product["sync"]["lastSyncAt"] is not None
    assert await tables_holding(world.database, DEMO_ACCESS_TOKEN) == []


async def test_one_item_in_full(world: World, store: Caller) -> None:
    await connect(store, enableSync=True)
    await store.data("PUT", "/catalog/products/p", json=product_body("v1"))
    waiting = await store.data("GET", "/admin/meta/items/v1")
    assert set(waiting) >= {
        "variant", "product", "inventory", "syncState", "eligibility", "mappedItemData", "nextRequest"
    }  # fmt: skip
    assert (waiting["syncStatus"], waiting["pendingIntent"]) == ("pending", True)
    assert waiting["eligibility"] == {"eligible": True, "reason": None, "message": None, "nextStep": None}
    assert waiting["nextRequest"]["decision"] == "upsert"
    assert waiting["nextRequest"]["method"] == "UPDATE"
    assert waiting["nextRequest"]["data"] == waiting["mappedItemData"]
    await world.run()
    synced = await store.data("GET", "/admin/meta/items/v1")
    state = synced["syncState"]
    assert (state["status"], state["presence"], state["catalogId"]) == ("synced", "present", DEMO_CATALOG_ID)
    assert state["confirmedHash"] == state["lastPushedHash"]
    assert len(state["confirmedHash"]) == 64
    assert (state["metaId"], state["pendingIntent"], state["lastError"]) == (None, False, None)
    assert synced["nextRequest"]["decision"] == "noop"

    await store.data("PUT", "/catalog/products/p", json=product_body("v1", status="archived"))
    leaving = await store.data("GET", "/admin/meta/items/v1")
    assert leaving["eligibility"]["reason"] == "product_not_active"
    assert leaving["eligibility"]["nextStep"]
    assert leaving["mappedItemData"] is None
    assert leaving["nextRequest"] == {
        "decision": "delete", "reason": "product_not_active", "method": "DELETE", "data": {"id": "v1"}, "heldBy": None
    }  # fmt: skip
    assert (leaving["syncStatus"], leaving["pendingIntent"]) == ("synced", True)


async def test_resync_sends_again_by_both_paths(world: World, store: Caller) -> None:
    await connect(store, enableSync=True)
    await store.data("PUT", "/catalog/products/p", json=product_body("v1"))
    await world.run()
    calls = world.calls()
    for path in ("/admin/meta/resync/v1", "/admin/meta/items/v1/resync"):
        assert await store.data("POST", path) == {"variantId": "v1", "enqueued": True}
        await world.run()
        calls += 1
        assert world.calls() == calls
    await store.data("POST", "/admin/meta/items/v1/resync", json={"force": False})
    await world.run()
    assert world.calls() == calls
    await store.data("POST", "/admin/meta/items/v1/resync", json={"refreshImages": True})
    await world.run()
    assert world.calls() == calls + 1
    assert_error(await store("POST", "/admin/meta/items/nowhere/resync"), 404, "NOT_FOUND")
    assert_error(
        await store("POST", "/admin/meta/items/v1/resync", json={"force": "yes"}), 400, "VALIDATION_ERROR"
    )


async def test_bootstrap(world: World, store: Caller) -> None:
    assert_error(await store("POST", "/admin/meta/bootstrap"), 409, "meta_not_connected")
    await connect(store, enableSync=True)
    await store.data("PUT", "/catalog/products/p", json=product_body("v1", "v2"))
    assert_error(await store("POST", "/admin/meta/bootstrap"), 409, "CONFLICT")
    await world.run()
    started = await store.data("POST", "/admin/meta/bootstrap", 202)
    assert started["enqueuedVariants"] == 2
    assert started["jobId"]
    calls = world.calls()
    await world.run()
    assert world.calls() == calls


async def test_meta_says_no(api: Api, store: Caller) -> None:
    error = assert_error(
        await store("POST", "/admin/meta/token", json={"accessToken": "EAAnotatokenatall123"}), 400, "meta_account_error"
    )  # fmt: skip
    assert "EAAnotatokenatall123" not in str(error)
    assert_error(await store("POST", "/admin/meta/select-catalog", json=SELECTION), 409, "meta_not_connected")
    await connect(store)
    response = await store("POST", "/admin/meta/select-catalog", json={**SELECTION, "catalogId": "999"})
    assert_error(response, 400, "meta_account_error")
    other = await api.factory.stores().create(
        "Other", currency="EUR", storefront_base_url="https://o.example"
    )
    rival = await api.caller(other.store_id)
    await rival.data("POST", "/admin/meta/token", json={"accessToken": DEMO_ACCESS_TOKEN})
    taken = assert_error(await rival("POST", "/admin/meta/select-catalog", json=SELECTION), 409, "CONFLICT")
    assert api.world.store_id not in str(taken)
    assert "Shop" not in str(taken)


async def test_health(api: Api) -> None:
    live = await api.nobody.data("GET", "/health/live")
    assert live["status"] == "live"
    ready = await api.nobody.data("GET", "/health/ready")
    assert ready == {"status": "ready", "database": "ok", "queue": "in-process"}
