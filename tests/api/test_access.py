"""Who may call what: every route declares it, every route keeps it, and no store sees another's."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from meta_sync.access.models import Permission
from meta_sync.api.app import api_routes
from meta_sync.api.routing import GuardedRoute, router
from meta_sync.api.security import Scope, access_of
from tests.support.api import Api, Caller, assert_error, product_body
from tests.support.world import World

OPEN = {"GET /health/live", "GET /health/ready", "GET /openapi.json", "GET /docs"}
ANY_CREDENTIAL = {"GET /admin/me"}


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    route: APIRoute

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


OPERATIONS = [
    Operation(method, route.path, route) for route in api_routes() for method in sorted(route.methods or ())
]
GUARDED = [one for one in OPERATIONS if one.name not in OPEN | ANY_CREDENTIAL]

BODIES: dict[str, dict[str, Any]] = {
    "createStore": {"json": {"name": "Other"}},
    "updateStore": {"json": {"name": "Other"}},
    "createApiKey": {"json": {"permissions": ["catalog:read"]}},
    "putProduct": {"json": product_body("v1", title="Intruder")},
    "putProducts": {"json": {"products": [{"id": "p1", **product_body("v1", title="Intruder")}]}},
    "putInventory": {"json": {"quantityOnHand": 666}},
    "putInventories": {"json": {"items": [{"variantId": "v1", "quantityOnHand": 666}]}},
    "createImport": {"content": b"id\ttitle\n1\tx\n", "headers": {"Content-Type": "text/csv"}},
    "createFeed": {
        "json": {"url": "https://intruder.example/f.csv", "source": "main", "intervalSeconds": 3600},
    },
    "updateFeed": {"json": {"url": "https://intruder.example/f.csv"}},
    "setToken": {"json": {"accessToken": "EAAintruderintruderintruder"}},
    "selectCatalog": {
        "json": {"businessId": "1", "businessName": "b", "catalogId": "2", "catalogName": "c"},
    },
    "updateSettings": {"json": {"defaultBrand": "Intruder"}},
}


def required_by_the_table(method: str, path: str) -> Permission | None:
    """The table of the API's contract, written a second time."""
    if path.startswith("/platform/"):
        return Permission.PLATFORM_ADMIN
    if path.startswith("/admin/meta/"):
        return Permission.CATALOG_VIEW if method == "GET" else Permission.CATALOG_MANAGE
    if path.startswith("/catalog/"):
        return Permission.PRODUCTS_READ if method == "GET" else Permission.PRODUCTS_WRITE
    return None


def test_every_route_declares_what_the_table_says() -> None:
    assert {one.name for one in OPERATIONS if access_of(one.route.endpoint).scope is Scope.OPEN} == OPEN
    for operation in GUARDED:
        access = access_of(operation.route.endpoint)
        assert access.permission is required_by_the_table(operation.method, operation.path), operation.name
        assert isinstance(operation.route, GuardedRoute)
        platform = operation.path.startswith("/platform/")
        assert access.scope is (Scope.PLATFORM if platform else Scope.STORE)
    assert {one.name for one in OPERATIONS} - {one.name for one in GUARDED} == OPEN | ANY_CREDENTIAL


def test_a_route_without_a_declaration_cannot_be_made() -> None:
    async def endpoint() -> None: ...

    with pytest.raises(TypeError, match="declares no access"):
        router("Test").get("/somewhere")(endpoint)


def test_the_app_serves_the_guarded_routes_and_nothing_else(api: Api) -> None:
    served = [context.original_route for context in iter_route_contexts(api.app.router.routes)]
    assert len(served) == len(api_routes()) > 30
    assert {id(route) for route in served} == {id(route) for route in api_routes()}


async def call(caller: Caller, operation: Operation, ids: dict[str, str], **headers: str) -> Any:
    path = operation.path
    for name, value in ids.items():
        path = path.replace("{" + name + "}", value)
    arguments = dict(BODIES.get(operation.route.operation_id or "", {}))
    arguments["headers"] = {**arguments.get("headers", {}), **headers}
    return await caller(operation.method, path, **arguments)


async def fill(api: Api) -> dict[str, str]:
    """One of everything in the world's store."""
    owner, platform = await api.caller(), await api.platform()
    await owner.data("PUT", "/catalog/products/p1", json=product_body("v1", title="Mine"))
    started = await owner.data(
        "POST", "/catalog/imports?format=google-csv", 202, content=b"id,title\n1,x\n",
        headers={"Content-Type": "text/csv"},
    )  # fmt: skip
    feed = await owner.data(
        "POST", "/catalog/feeds", 201,
        json={"url": "https://shop.example/f.csv", "source": "main", "intervalSeconds": 3600},
    )  # fmt: skip
    key = await platform.data(
        "POST", f"/platform/stores/{api.world.store_id}/api-keys", json={"permissions": ["catalog:read"]}
    )
    return {
        "storeId": api.world.store_id,
        "keyId": key["keyId"],
        "productId": "p1",
        "variantId": "v1",
        "importId": started["importId"],
        "feedId": feed["feedId"],
    }


async def test_no_credential_and_bad_credentials(api: Api) -> None:
    ids = {"storeId": "s", "keyId": "k", "productId": "p", "variantId": "v", "importId": "i", "feedId": "f"}
    for operation in [*GUARDED, *(one for one in OPERATIONS if one.name in ANY_CREDENTIAL)]:
        assert_error(await call(api.nobody, operation, ids), 401, "UNAUTHORIZED")
    _, key = await api.key(api.world.store_id)
    for headers in (
        {"Authorization": "Bearer mk_" + "x" * 43},
        {"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"},
        {"Authorization": f"Basic {key}"},
        {"Authorization": key},
        {"Authorization": "Bearer "},
        {"X-API-Key": ""},
        {"X-API-Key": key + "x"},
        {"X-API-Key": key, "Authorization": "Bearer mk_" + "x" * 43},
        {"Cookie": f"key={key}"},
    ):
        response = await api.nobody("GET", "/admin/meta/status", headers=headers)
        assert_error(response, 401, "UNAUTHORIZED")
        assert response.headers["www-authenticate"] == "Bearer"
    assert_error(await api.nobody("GET", f"/admin/meta/status?api_key={key}"), 401, "UNAUTHORIZED")


async def test_a_credential_is_asked_for_before_a_body_is_read(api: Api) -> None:
    response = await api.nobody("PUT", "/catalog/products/p", content=b"{not json")
    assert_error(response, 401, "UNAUTHORIZED")


async def test_a_permission_that_is_missing(api: Api) -> None:
    ids = await fill(api)
    others = {
        permission: [one for one in Permission if one is not Permission.PLATFORM_ADMIN]
        for permission in Permission
    }
    for permission in Permission:
        if permission is not Permission.PLATFORM_ADMIN:
            others[permission] = [
                one for one in others[permission]
                if one is not permission and one is not _implier(permission)
            ]  # fmt: skip
    callers: dict[Permission, Caller] = {}
    for operation in GUARDED:
        needed = access_of(operation.route.endpoint).permission
        assert needed is not None
        if needed not in callers:
            callers[needed] = await api.caller(permissions=others[needed])
        response = await call(callers[needed], operation, ids)
        error = assert_error(response, 403, "FORBIDDEN")
        assert needed.value in error["message"], operation.name


def _implier(permission: Permission) -> Permission | None:
    implied = {"view": "manage", "read": "write"}
    area, _, verb = permission.value.partition(":")
    word = f"{area}:{implied.get(verb, '')}"
    return Permission(word) if word in {one.value for one in Permission} else None


async def test_manage_implies_view_and_write_implies_read(api: Api) -> None:
    caller = await api.caller(permissions=["metaCatalog:manage", "catalog:write"])
    assert (await caller.get("/admin/meta/status")).status_code == 200
    assert (await caller.get("/catalog/products")).status_code == 200


async def test_another_store_reaches_nothing_of_this_one(api: Api) -> None:
    """Every route with a foreign key and this store's ids: refused or empty, and nothing here moves."""
    ids = await fill(api)
    other = await api.factory.stores().create(
        "Other", currency="EUR", storefront_base_url="https://o.example"
    )
    intruder = await api.caller(other.store_id)
    owner = await api.caller()
    before = [await owner.data("GET", path) for path in watched(ids)]
    secrets = {"Mine", api.world.store_id, ids["keyId"]}
    for operation in GUARDED:
        response = await call(intruder, operation, ids)
        platform = operation.path.startswith("/platform/")
        if platform:
            assert_error(response, 403, "FORBIDDEN")
        elif "{" in operation.path and operation.method == "GET":
            assert_error(response, 404, "NOT_FOUND")
        elif operation.route.operation_id in {"putProduct", "putProducts"}:
            # Ids are the store's own: the intruder's product of the same id is another product.
            assert response.status_code == 200
            await intruder.data("DELETE", "/catalog/products/p1")
        assert not any(secret in response.text for secret in secrets), operation.name
        named = await call(intruder, operation, ids, **{"X-Store-Id": api.world.store_id})
        assert_error(named, 403, "FORBIDDEN")
    assert [await owner.data("GET", path) for path in watched(ids)] == before


def watched(ids: dict[str, str]) -> list[str]:
    return [
        "/catalog/products/p1",
        "/admin/meta/items/v1",
        "/admin/meta/settings",
        "/catalog/imports",
        f"/catalog/imports/{ids['importId']}",
        f"/catalog/feeds/{ids['feedId']}",
        "/catalog/feeds",
    ]


async def test_a_store_key_may_name_its_own_store(world: World, store: Caller) -> None:
    response = await store("GET", "/admin/meta/status", headers={"X-Store-Id": world.store_id})
    assert response.status_code == 200


async def test_a_platform_key_names_its_store(api: Api, world: World) -> None:
    platform = await api.platform()
    assert_error(await platform.get("/admin/meta/status"), 400, "BAD_REQUEST")
    for name in ("store_nowhere", "x" * 5_000):
        response = await platform("GET", "/admin/meta/status", headers={"X-Store-Id": name})
        assert_error(response, 404, "NOT_FOUND")
    response = await platform("GET", "/admin/meta/status", headers={"X-Store-Id": ""})
    assert_error(response, 400, "BAD_REQUEST")
    named = Caller(api.http, {**platform.headers, "X-Store-Id": world.store_id})
    await named.data("PUT", "/catalog/products/p", json=product_body())
    assert (await (await api.caller()).data("GET", "/catalog/products/p"))["title"] == "T-shirt"


async def test_a_platform_key_needs_the_permission_too(api: Api, world: World) -> None:
    platform = await api.platform(["platform:admin"])
    assert (await platform.get("/platform/stores")).status_code == 200
    response = await platform("GET", "/admin/meta/status", headers={"X-Store-Id": world.store_id})
    assert_error(response, 403, "FORBIDDEN")


async def test_a_revoked_key_is_over_at_once(api: Api, world: World) -> None:
    platform = await api.platform()
    made = await platform.data(
        "POST", f"/platform/stores/{world.store_id}/api-keys", json={"permissions": ["catalog:read"]}
    )
    caller = Caller(api.http, {"X-API-Key": made["apiKey"]})
    assert (await caller.get("/catalog/products")).status_code == 200
    await platform.data("DELETE", f"/platform/api-keys/{made['keyId']}")
    assert_error(await caller.get("/catalog/products"), 401, "UNAUTHORIZED")
    assert_error(await platform("DELETE", f"/platform/api-keys/{made['keyId']}"), 404, "NOT_FOUND")


async def test_who_am_i(api: Api, world: World) -> None:
    caller = await api.caller(permissions=["catalog:write"])
    me = await caller.data("GET", "/admin/me")
    assert me["permissions"] == ["catalog:read", "catalog:write"]
    assert [store["storeId"] for store in me["stores"]] == [world.store_id]
    assert (me["platform"], me["allStores"]) == (False, False)
    platform = await (await api.platform()).data("GET", "/admin/me")
    assert (platform["platform"], platform["allStores"]) == (True, True)
    assert set(itertools.chain(platform["permissions"])) == {one.value for one in Permission}


async def test_stores_and_keys_are_listed_behind_a_cursor(api: Api) -> None:
    platform = await api.platform()
    keys = f"/platform/stores/{api.world.store_id}/api-keys"
    for number in range(3):
        await platform.data("POST", "/platform/stores", json={"name": f"Shop {number}"})
        await platform.data("POST", keys, json={"permissions": ["catalog:read"]})
    cursors: dict[str, str] = {}
    for path, name in (("/platform/stores", "storeId"), (keys, "keyId")):
        whole = await platform.data("GET", path)
        found: list[str] = []
        asked: dict[str, Any] = {"limit": 1}
        for _ in whole:
            body = (await platform("GET", path, params=asked)).json()
            found += [row[name] for row in body["data"]]
            about = body["metadata"]
            assert (about["total"], about["totalIsExact"], about["limit"]) == (len(whole), True, 1)
            assert about["page"] == (None if "cursor" in asked else 1)
            cursors[path] = asked.get("cursor", "")
            asked = {"limit": 1, "cursor": about["nextCursor"]}
        assert found == [row[name] for row in whole]
        assert asked["cursor"] is None
    for path, other in ((keys, "/platform/stores"), ("/platform/stores", keys)):
        for cursor in (cursors[other], "x", cursors[path][:-2] + "AA"):
            assert_error(await platform.get(path, cursor=cursor), 400, "VALIDATION_ERROR")
