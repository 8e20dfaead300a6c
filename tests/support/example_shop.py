"""A shop that lives through every operation of the API once, so that its answers can be shown as examples."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import httpx

from meta_sync.api.errors import error_response, service_error
from meta_sync.api.event_stream import MOST_STREAMS, OpenStreams
from meta_sync.core.outages import DatabaseAwayError
from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN, DEMO_BUSINESS_ID, DEMO_CATALOG_ID
from tests.support.api import Api, Caller, open_api
from tests.support.example_adoption import live_through_adoption
from tests.support.example_holds import decide_holds
from tests.support.example_reconciliations import live_through_reconciliations
from tests.support.examples import Recorder
from tests.support.feed_server import FeedServer, plain
from tests.support.pipeline import arm, execute

__all__ = ["live_through_everything"]

JOBS = "/admin/meta/sync-jobs"
PREFLIGHT = "/admin/meta/preflight"
RECONCILIATIONS = "/admin/meta/reconciliations"
SHIRT: dict[str, Any] = {
    "title": "Linen shirt",
    "description": "<p>A light shirt of washed linen.</p>",
    "slug": "linen-shirt",
    "brand": "Loom & Leaf",
    "thumbnail": "/img/linen-shirt.jpg",
    "images": ["/img/linen-shirt-back.jpg"],
    "categories": ["Clothing", "Shirts"],
    "updatedAt": "2026-05-03T09:58:00+02:00",
    "variants": [
        {
            "id": "shirt-blue-m",
            "sku": "LS-BL-M",
            "price": 5900,
            "specialPrice": 4900,
            "ean": "4006381333931",
            "options": {"Color": "Blue", "Size": "M"},
            "inventory": {"trackInventory": True, "quantityOnHand": 12, "reservedQuantity": 1},
        },
        {
            "id": "shirt-blue-l",
            "sku": "LS-BL-L",
            "price": 5900,
            "options": {"Color": "Blue", "Size": "L"},
            "inventory": {"trackInventory": True, "quantityOnHand": 3, "reservedQuantity": 0},
        },
    ],
}
MUG: dict[str, Any] = {
    "id": "mug",
    "title": "Stoneware mug",
    "slug": "stoneware-mug",
    "brand": "Loom & Leaf",
    "thumbnail": "/img/mug.jpg",
    "variants": [{"id": "mug-sand", "sku": "MUG-SA", "price": 1800, "options": {"Color": "Sand"}}],
}
SELECTION = {
    "businessId": DEMO_BUSINESS_ID,
    "businessName": "Loom & Leaf",
    "catalogId": DEMO_CATALOG_ID,
    "catalogName": "Loom & Leaf",
}
FEED = (
    "id,title,description,availability,condition,price,link,image_link,brand\n"
    "bowl-1,Stoneware bowl,A bowl,in stock,new,24.00 EUR,https://loomleaf.example/bowl,https://loomleaf.example/bowl.jpg,Loom\n"
    "bowl-2,Oak bowl,A bowl,in stock,new,twenty,https://loomleaf.example/oak,https://loomleaf.example/oak.jpg,Loom\n"
)
FEED_URL = "/feeds/google.csv"


async def live_through_everything(to: Recorder, api: Api, server: FeedServer) -> dict[str, str]:
    """Call every operation, and fail wherever one can; the secrets that came up, with what is to be shown instead."""
    platform, shop, secrets = await _platform(to, api)
    await _common_failures(to, api, platform, shop)
    await _catalog(to, shop)
    await _connection(to, api, shop)
    await _items(to, api, shop)
    await decide_holds(to, api, shop)
    await _imports(to, api, shop)
    await _feeds(to, api, shop, server)
    await _jobs(to, api, shop)
    await _ends(to, api, shop)
    return secrets


async def _platform(to: Recorder, api: Api) -> tuple[Caller, Caller, dict[str, str]]:
    """The shop and its key."""
    platform = await api.platform()
    body = {"name": "Loom and Leaf", "storefrontBaseUrl": "https://loomleaf.example"}
    store = await to.success("createStore", platform, "POST", "/platform/stores", json=body)
    path = f"/platform/stores/{store['storeId']}"
    await to.success("updateStore", platform, "PATCH", path, json={"name": "Loom & Leaf"})
    await to.success("getStore", platform, "GET", path)
    wanted = {"permissions": ["metaCatalog:manage", "catalog:write"], "name": "Shop back end"}
    made = await to.success("createApiKey", platform, "POST", f"{path}/api-keys", json=wanted)
    await to.success("listApiKeys", platform, "GET", f"{path}/api-keys")
    spare = await platform.data("POST", f"{path}/api-keys", json=wanted)
    await to.success("revokeApiKey", platform, "DELETE", f"/platform/api-keys/{spare['keyId']}")
    await to.failure("revokeApiKey", "NOT_FOUND", platform, "DELETE", f"/platform/api-keys/{spare['keyId']}")
    await to.failure("getStore", "NOT_FOUND", platform, "GET", "/platform/stores/store_unknown")
    await to.failure("createStore", "VALIDATION_ERROR", platform, "POST", "/platform/stores", json={})
    api.world.store_id = store["storeId"]
    await to.success("listStores", platform, "GET", "/platform/stores?limit=1&page=2")
    shop = Caller(api.http, {"Authorization": f"Bearer {made['apiKey']}"})
    await to.success("getCaller", shop, "GET", "/admin/me")
    shown = f"mk_{'this-is-shown-once-'.ljust(43, '0')}"
    return platform, shop, {made["apiKey"]: shown, spare["apiKey"]: "", made["apiKey"][:9]: shown[:9]}


async def _common_failures(to: Recorder, api: Api, platform: Caller, shop: Caller) -> None:
    """Errors that read the same everywhere."""
    items = "/admin/meta/items"
    await to.failure(None, "UNAUTHORIZED", api.nobody, "GET", items)
    reader = await api.caller(permissions=["catalog:read"])
    await to.failure(None, "FORBIDDEN", reader, "GET", items)
    await to.failure(None, "BAD_REQUEST", platform, "GET", items)
    named = {"X-Store-Id": "store_unknown"}
    await to.failure(None, "NOT_FOUND", platform, "GET", items, headers=named)
    await to.failure(None, "VALIDATION_ERROR", shop, "GET", f"{items}?limit=1000")
    await to.failure(None, "METHOD_NOT_ALLOWED", shop, "DELETE", items)
    large = {"Content-Type": "application/json"}
    body = b" " * (10 * 1024 * 1024 + 1)
    await to.failure(
        None, "PAYLOAD_TOO_LARGE", shop, "PUT", "/catalog/products/x", content=body, headers=large
    )
    await to.failure(
        None,
        "UNSUPPORTED_MEDIA_TYPE",
        shop,
        "PUT",
        "/catalog/products/x",
        content=b"{}",
        headers={"Content-Type": "text/plain"},
    )
    for code, error in (
        ("INTERNAL_SERVER_ERROR", RuntimeError("x")),
        ("SERVICE_UNAVAILABLE", DatabaseAwayError("x")),
    ):
        answer = error_response(service_error(error), f"req_{'0' * 24}")
        to.keep(None, code, httpx.Response(answer.status_code, content=bytes(answer.body)))
    once = {"Idempotency-Key": "order-1"}
    await platform("POST", "/platform/stores", json={"name": "A"}, headers=once)
    await to.failure(None, "CONFLICT", platform, "POST", "/platform/stores", json={"name": "B"}, headers=once)


async def _catalog(to: Recorder, shop: Caller) -> None:
    path = "/catalog/products/shirt"
    await to.success("putProduct", shop, "PUT", path, json=SHIRT)
    broken = {"title": "Bowl", "variants": [{"id": "bowl", "price": "12.00"}]}
    await to.failure("putProduct", "VALIDATION_ERROR", shop, "PUT", "/catalog/products/bowl", json=broken)
    await to.success(
        "putProducts",
        shop,
        "POST",
        "/catalog/products/batch",
        json={"products": [MUG, {"id": "bowl", "variants": [{"id": "bowl-1"}, {"id": "bowl-1"}]}]},
    )
    await to.success(
        "putInventory",
        shop,
        "PUT",
        "/catalog/variants/shirt-blue-m/inventory",
        json={"quantityOnHand": 11, "reservedQuantity": 2},
    )
    await to.failure(
        "putInventory",
        "NOT_FOUND",
        shop,
        "PUT",
        "/catalog/variants/nothing/inventory",
        json={"quantityOnHand": 1},
    )
    stock = [
        {"variantId": "shirt-blue-l", "quantityOnHand": 4},
        {"variantId": "nothing", "quantityOnHand": 1},
    ]
    await to.success("putInventories", shop, "POST", "/catalog/inventory/batch", json={"items": stock})
    event = {"specversion": "1.0", "source": "/shop/inventory", "time": "2026-05-03T10:00:00Z"}
    adjusted = {
        **event,
        "id": "stock-4711",
        "type": "inventory.stock.adjusted",
        "data": {"variantId": "shirt-blue-m", "quantityOnHand": 10, "reservedQuantity": 1},
    }
    other = {**event, "id": "mail-1", "type": "shop.mail.sent", "data": {}}
    wrong = {**adjusted, "id": "stock-4712", "data": {"variantId": "shirt-blue-m"}}
    await to.success("sendEvents", shop, "POST", "/catalog/events", json=[adjusted, other, wrong])
    for operation, method in (("getProduct", "GET"), ("deleteProduct", "DELETE")):
        await to.failure(operation, "NOT_FOUND", shop, method, "/catalog/products/nothing")


async def _connection(to: Recorder, api: Api, shop: Caller) -> None:
    settings, token, select = "/admin/meta/settings", "/admin/meta/token", "/admin/meta/select-catalog"
    started = (
        ("bootstrap", "/admin/meta/bootstrap", None),
        ("createSyncJob", JOBS, {"dryRun": True}),
        ("resyncFailedItems", "/admin/meta/items/bulk/resync-failed", None),
        ("resyncSkippedItems", "/admin/meta/items/bulk/resync-skipped", None),
        ("resyncItems", "/admin/meta/items/bulk/resync", {"variantIds": ["mug-sand"]}),
        ("deleteItemsFromMeta", "/admin/meta/items/bulk/delete-from-meta", {"variantIds": ["mug-sand"]}),
        ("resyncItem", "/admin/meta/items/mug-sand/resync", None),
        ("resyncVariant", "/admin/meta/resync/mug-sand", None),
        ("deleteItemFromMeta", "/admin/meta/items/mug-sand/delete-from-meta", None),
        ("selectCatalog", select, SELECTION),
        ("createReconciliation", RECONCILIATIONS, None),
    )
    for operation, path, body in started:
        await to.failure(operation, "meta_not_connected", shop, "POST", path, json=body)
    upload = {"content": FEED, "headers": {"Content-Type": "text/csv"}}
    await to.failure("createImport", "CONFLICT", shop, "POST", "/catalog/imports", **upload)
    await to.success(
        "updateSettings",
        shop,
        "PATCH",
        settings,
        json={"currency": "EUR", "mediaBaseUrl": "https://cdn.loomleaf.example", "syncEnabled": True},
        headers={"X-Request-Id": f"req_{'7' * 24}"},
    )
    await to.failure("updateSettings", "VALIDATION_ERROR", shop, "PATCH", settings, json={"batchSize": 0})
    look = await to.success("createPreflight", shop, "POST", PREFLIGHT, json={"probeImages": False})
    await to.failure("createPreflight", "CONFLICT", shop, "POST", PREFLIGHT)
    await to.failure("approvePreflight", "CONFLICT", shop, "POST", f"{look['href']}/approve")
    await to.success("getSettings", shop, "GET", settings)
    await to.success("listAuditLog", shop, "GET", "/admin/meta/audit-log?action=settings_changed")
    refused = {"json": {"accessToken": "EAA-of-another-day"}}
    given = {"accessToken": DEMO_ACCESS_TOKEN}
    for kept_for in (None, "setToken"):
        await to.failure(kept_for, "meta_account_error", shop, "POST", token, **refused)
        for code, number in _FAILURES_OF_META:
            _fail(api, number)
            await to.failure(kept_for, code, shop, "POST", token, json=given)
            api.world.sandbox.faults.clear()
        async with open_api(api.world, app_id=None) as bare:
            without_app = Caller(bare.http, shop.headers)
            await to.failure(kept_for, "meta_misconfigured", without_app, "POST", token, **refused)
    await to.success("setToken", shop, "POST", token, json=given)
    lost = {**SELECTION, "catalogId": "1"}
    await to.failure("selectCatalog", "meta_account_error", shop, "POST", select, json=lost)
    async with open_api(api.world, app_id=None) as bare:
        without_app = Caller(bare.http, shop.headers)
        await to.failure("selectCatalog", "meta_misconfigured", without_app, "POST", select, json=SELECTION)
    for code, number in _FAILURES_OF_META:
        _fail(api, number)
        await to.failure("selectCatalog", code, shop, "POST", select, json=SELECTION)
        api.world.sandbox.faults.clear()
    catalog = api.world.sandbox.catalog(DEMO_CATALOG_ID)
    old = {"title": "Old shirt", "price": "79.00 EUR", "sale_price": "59.00 EUR", "availability": "in stock"}
    for retailer_id in ("shirt-blue-m", "old-shirt"):
        catalog.store(retailer_id, {"id": retailer_id, **old})
    feed = {"id": "5150", "name": "Nightly feed", "upload_type": "SCHEDULED"}
    catalog.data_sources.append({**feed, "ingestion_source_type": "PRIMARY"})
    await to.success("selectCatalog", shop, "POST", select, json=SELECTION)
    other = await api.factory.stores().create("Other", currency="EUR")
    neighbour = await api.caller(other.store_id)
    await neighbour.data("POST", token, json=given)
    await to.failure("selectCatalog", "CONFLICT", neighbour, "POST", select, json=SELECTION)
    await _preflight(to, api, shop)


_FAILURES_OF_META = (("meta_graph_error", 2), ("meta_rate_limited", 4))


def _fail(api: Api, code: int) -> None:
    """Have Meta answer every call with this code."""
    arm(api.world, "graph_error", code=code, status=500, message="Please try again later.", count=None)


async def _items(to: Recorder, api: Api, shop: Caller) -> None:
    items = "/admin/meta/items"
    api.world.sandbox.refuse("shirt-blue-l", "The image at image_link could not be downloaded.")
    await api.world.run()
    await to.success("listItems", shop, "GET", f"{items}?limit=2&sort=variantId")
    await to.success("getItem", shop, "GET", f"{items}/shirt-blue-m")
    await to.success("getItemMetaStatus", shop, "GET", f"{items}/shirt-blue-m/meta-status")
    await to.success("listErrors", shop, "GET", "/admin/meta/errors")
    await to.success("getStatus", shop, "GET", "/admin/meta/status")
    [batch] = await to.success("listHandles", shop, "GET", "/admin/meta/handles")
    await to.success("getHandle", shop, "GET", batch["href"])
    await to.success("getProduct", shop, "GET", "/catalog/products/shirt")
    await to.success("listProducts", shop, "GET", "/catalog/products?limit=1")
    await to.failure(
        "updateSettings", "CONFLICT", shop, "PATCH", "/admin/meta/settings", json={"currency": "USD"}
    )
    for operation, method, path in (
        ("getPreflight", "GET", f"{PREFLIGHT}/job_unknown"),
        ("approvePreflight", "POST", f"{PREFLIGHT}/job_unknown/approve"),
        ("getItem", "GET", f"{items}/nothing"),
        ("getItemTimeline", "GET", f"{items}/nothing/timeline"),
        ("getItemMetaStatus", "GET", f"{items}/nothing/meta-status"),
        ("resyncItem", "POST", f"{items}/nothing/resync"),
        ("resyncVariant", "POST", "/admin/meta/resync/nothing"),
        ("deleteItemFromMeta", "POST", f"{items}/nothing/delete-from-meta"),
        ("getHandle", "GET", "/admin/meta/handles/4711"),
    ):
        await to.failure(operation, "NOT_FOUND", shop, method, path)
    body = {"force": True, "refreshImages": False}
    await to.success("resyncItem", shop, "POST", f"{items}/shirt-blue-m/resync", json=body)
    await to.success("resyncVariant", shop, "POST", "/admin/meta/resync/shirt-blue-m", json=body)
    await live_through_reconciliations(to, api, shop)
    await live_through_adoption(to, api, shop)


async def _preflight(to: Recorder, api: Api, shop: Caller) -> None:
    """The catalog had items when it was selected: what would become of them is read before anything is sent."""
    pipeline = api.world.pipeline()
    while await pipeline.read_jobs_tick():
        pass
    [look] = (await shop.data("GET", PREFLIGHT))["reports"][:1]
    await to.success("getPreflight", shop, "GET", look["href"])
    await to.success("listPreflights", shop, "GET", PREFLIGHT)
    await to.success("approvePreflight", shop, "POST", f"{look['href']}/approve")


async def _imports(to: Recorder, api: Api, shop: Caller) -> None:
    imports = "/catalog/imports"
    csv = {"Content-Type": "application/octet-stream"}
    query = "?source=main&format=google-csv&fileName=google.csv"
    started = await to.success(
        "createImport", shop, "POST", imports + query, content=FEED, headers=csv, sent_as=FEED
    )
    await api.factory.import_runner().run_next()
    path = started["href"]
    await to.success("getImport", shop, "GET", path)
    await to.success("getImportReport", shop, "GET", f"{path}/report")
    await to.success("streamImport", shop, "GET", f"{path}/stream")
    await to.success("listImports", shop, "GET", imports)
    for operation, end in (("getImport", ""), ("getImportReport", "/report"), ("streamImport", "/stream")):
        await to.failure(operation, "NOT_FOUND", shop, "GET", f"{imports}/import_unknown{end}")
    streams: OpenStreams = api.app.state.streams
    with ExitStack() as places:
        for _ in range(MOST_STREAMS):
            places.enter_context(streams.place(api.world.store_id))
        await to.failure("streamImport", "RATE_LIMITED", shop, "GET", f"{path}/stream")
    to.examples["createImport"]["requests"] |= {
        "application/json": {"url": f"https://loomleaf.example{FEED_URL}", "source": "main", "dryRun": True},
        "multipart/form-data": {"source": "main", "dryRun": True, "file": FEED},
    }


async def _feeds(to: Recorder, api: Api, shop: Caller, server: FeedServer) -> None:
    feeds = "/catalog/feeds"
    server.names["loomleaf.example"] = ["127.0.0.1"]
    server.answers[FEED_URL] = plain(FEED.encode())
    api.context.outbound = server.client()
    body = {"url": server.url(FEED_URL, "loomleaf.example"), "source": "main", "intervalSeconds": 3600}
    feed = await to.success("createFeed", shop, "POST", feeds, json=body)
    await to.failure("createFeed", "CONFLICT", shop, "POST", feeds, json=body)
    other = await shop.data("POST", feeds, 201, json={**body, "source": "outlet"})
    taken = {"json": {"source": "outlet"}}
    await to.failure("updateFeed", "CONFLICT", shop, "PATCH", feed["href"], **taken)
    await to.success("deleteFeed", shop, "DELETE", other["href"])
    await to.success("fetchFeed", shop, "POST", f"{feed['href']}/fetch")
    await api.factory.feed_fetcher().fetch_next()
    await api.factory.import_runner().run_next()
    await to.success("updateFeed", shop, "PATCH", feed["href"], json={"intervalSeconds": 7200})
    await to.success("getFeed", shop, "GET", feed["href"])
    await to.success("listFeeds", shop, "GET", feeds)
    for operation, method, end in (
        ("getFeed", "GET", ""),
        ("updateFeed", "PATCH", ""),
        ("deleteFeed", "DELETE", ""),
        ("fetchFeed", "POST", "/fetch"),
    ):
        more: dict[str, Any] = {"json": {}} if method == "PATCH" else {}
        await to.failure(operation, "NOT_FOUND", shop, method, f"{feeds}/feed_unknown{end}", **more)


async def _jobs(to: Recorder, api: Api, shop: Caller) -> None:
    bulk = "/admin/meta/items/bulk"
    await api.world.run()
    body = {"filter": {"search": "shirt"}, "dryRun": True, "description": "What would the new titles change?"}
    # Nothing is sent meanwhile, so that there is something to show.
    await shop.data("PATCH", "/admin/meta/settings", json={"syncEnabled": False})
    await shop.data(
        "PUT", "/catalog/products/shirt", json={**SHIRT, "title": "Washed linen shirt", "updatedAt": None}
    )
    started = await to.success("createSyncJob", shop, "POST", JOBS, json=body)
    await to.failure("createSyncJob", "CONFLICT", shop, "POST", JOBS, json=body)
    path = started["href"]

    async def is_over() -> bool:
        return bool((await shop.data("GET", path))["status"] == "success")

    await api.world.run(until=is_over)
    await to.success("getSyncJobReport", shop, "GET", f"{path}/report")
    await to.success("streamSyncJob", shop, "GET", f"{path}/stream")
    await to.failure("cancelSyncJob", "CONFLICT", shop, "POST", f"{path}/cancel")
    streams: OpenStreams = api.app.state.streams
    with ExitStack() as places:
        for _ in range(MOST_STREAMS):
            places.enter_context(streams.place(api.world.store_id))
        await to.failure("streamSyncJob", "RATE_LIMITED", shop, "GET", f"{path}/stream")
    await to.success("getSyncJob", shop, "GET", path)
    await shop.data("PATCH", "/admin/meta/settings", json={"syncEnabled": True})
    running = await to.success("bootstrap", shop, "POST", "/admin/meta/bootstrap")
    await to.failure("bootstrap", "CONFLICT", shop, "POST", "/admin/meta/bootstrap")
    await to.success("cancelSyncJob", shop, "POST", f"{JOBS}/{running['jobId']}/cancel")
    await api.world.run()
    for operation, name, chosen in (
        ("resyncFailedItems", "resync-failed", None),
        ("resyncSkippedItems", "resync-skipped", None),
        ("resyncItems", "resync", {"variantIds": ["shirt-blue-m", "nothing"], "force": True}),
        ("deleteItemsFromMeta", "delete-from-meta", {"productIds": ["mug"]}),
    ):
        more = {} if chosen is None else {"json": chosen}
        await to.success(operation, shop, "POST", f"{bulk}/{name}", **more)
        await to.failure(operation, "CONFLICT", shop, "POST", f"{bulk}/{name}", **more)
        await api.world.run()
    for operation, method, end in (
        ("getSyncJob", "GET", ""),
        ("getSyncJobReport", "GET", "/report"),
        ("streamSyncJob", "GET", "/stream"),
        ("cancelSyncJob", "POST", "/cancel"),
    ):
        await to.failure(operation, "NOT_FOUND", shop, method, f"{JOBS}/job_unknown{end}")
    await to.success("listSyncJobs", shop, "GET", f"{JOBS}?limit=2")


async def _ends(to: Recorder, api: Api, shop: Caller) -> None:
    path = "/admin/meta/items/shirt-blue-m"
    await to.success("deleteItemFromMeta", shop, "POST", f"{path}/delete-from-meta")
    await api.world.run()
    await to.success("getItemTimeline", shop, "GET", f"{path}/timeline")
    await to.success("listActivity", shop, "GET", "/admin/meta/activity?limit=5")
    for code, number in (*_FAILURES_OF_META, ("meta_account_error", 190)):
        _fail(api, number)
        await to.failure("getItemMetaStatus", code, shop, "GET", f"{path}/meta-status")
        api.world.sandbox.faults.clear()
        # Meta would be left alone for a while.
        await execute(api.world, "DELETE FROM store_pauses")
        await execute(
            api.world, "UPDATE catalog_links SET questions_blocked_until = NULL, calls_blocked_until = NULL"
        )
    await to.success("deleteProduct", shop, "DELETE", "/catalog/products/shirt")
    await to.success("getLiveness", api.nobody, "GET", "/health/live")
    await to.success("getReadiness", api.nobody, "GET", "/health/ready")
