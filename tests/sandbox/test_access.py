"""Who may call what, in which order Graph says no, and in which forms a call may come."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest

from meta_sync.sandbox.options import (
    DEMO_ACCESS_TOKEN,
    DEMO_APP_ID,
    DEMO_APP_SECRET,
    DEMO_BUSINESS_ID,
    DEMO_CATALOG_ID,
)
from tests.sandbox.support import BEARER, World, error_of, update

PATH = f"/v26.0/{DEMO_CATALOG_ID}/items_batch"


def proof(message: str, secret: str = DEMO_APP_SECRET) -> str:
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize("prefix", ["/v26.0", "/v21.0", "/v20.0", ""])
async def test_versions_and_none(world: World, prefix: str) -> None:
    response = await world.client.get(f"{prefix}/me", headers=BEARER)
    assert response.json()["name"] == "Demo System User"
    assert response.headers["facebook-api-version"] == ("v26.0" if prefix == "/v26.0" else "v21.0")


async def test_a_version_that_does_not_exist_is_a_path(world: World) -> None:
    response = await world.client.get("/v99.0/me", headers=BEARER)
    assert error_of(response) == (400, 2500, None)


@pytest.mark.parametrize("where", ["bearer", "query", "form", "json"])
@pytest.mark.parametrize("body", ["json", "form", "multipart"])
async def test_every_form_of_token_and_body(world: World, where: str, body: str) -> None:
    fields: dict[str, Any] = {"item_type": "PRODUCT_ITEM", "allow_upsert": "true"}
    records = [update("A")]
    fields["requests"] = records if body == "json" else json.dumps(records)
    if where in ("form", "json"):
        fields["access_token"] = DEMO_ACCESS_TOKEN
    arguments: dict[str, Any] = {
        "json": {"json": fields},
        "form": {"data": fields},
        "multipart": {"files": {name: (None, value) for name, value in fields.items()}},
    }[body]
    response = await world.client.post(
        PATH,
        headers=BEARER if where == "bearer" else {},
        params={"access_token": DEMO_ACCESS_TOKEN} if where == "query" else {},
        **arguments,
    )
    assert response.status_code == 200, response.text
    assert list(response.json()) == ["handles"]
    world.clock.forward(2)
    assert list(world.catalog.items) == ["A"]


async def test_a_get_may_carry_a_json_body(world: World) -> None:
    response = await world.client.request("GET", "/v24.0/me", headers=BEARER, json={})
    assert response.status_code == 200


async def test_a_large_multipart_field_is_read(world: World) -> None:
    records = json.dumps([update(f"A{number}", description="x" * 900) for number in range(2000)])
    files = {"item_type": (None, "PRODUCT_ITEM"), "requests": (None, records)}
    response = await world.client.post(PATH, headers=BEARER, files=files)
    assert len(response.json()["handles"]) == 1


@pytest.mark.parametrize(("subcode", "expected"), [(458, 458), (460, 460), (463, 463), (467, 467), (0, None)])
async def test_a_killed_token(world: World, subcode: int, expected: int | None) -> None:
    world.state.kill_token(DEMO_ACCESS_TOKEN, subcode)
    response = await world.get(DEMO_CATALOG_ID)
    assert error_of(response) == (400, 190, expected)
    assert response.json()["error"]["type"] == "OAuthException"


async def test_a_token_expires(world: World) -> None:
    token = world.state.add_token(expires_at=world.state.now() + 60)
    headers = {"Authorization": f"Bearer {token.value}"}
    assert (await world.client.get("/me", headers=headers)).status_code == 200
    world.clock.forward(60)
    assert error_of(await world.client.get("/me", headers=headers)) == (400, 190, 463)


async def test_the_order_of_refusals(make_world: Callable[..., World]) -> None:
    """Token, proof, scope, access, budget, parameters: each is seen only when the ones before it pass."""
    world = make_world(require_proof=True, calls_per_hour=0)
    state = world.state
    foreign = state.add_catalog(state.add_business("Other").id, "Foreign")
    token = state.add_token(scopes=[], business_ids=[DEMO_BUSINESS_ID])
    path, headers = f"/{foreign.id}/items_batch", {"Authorization": f"Bearer {token.value}"}
    params: dict[str, str] = {}

    async def call() -> tuple[int, int, int | None]:
        return error_of(await world.client.post(path, params=params, headers=headers, json={}))

    state.kill_token(token.value, 463)
    assert await call() == (400, 190, 463)
    token.dead_subcode = None
    assert await call() == (400, 100, None)
    params = {"appsecret_proof": proof(token.value)}
    assert await call() == (403, 200, None)
    token.scopes = frozenset({"catalog_management"})
    assert await call() == (400, 100, 33)
    path = PATH
    assert await call() == (400, 80014, None)


@pytest.mark.parametrize("require", [True, False])
async def test_a_proof_that_is_sent_is_checked(make_world: Callable[..., World], require: bool) -> None:
    world = make_world(require_proof=require)
    now = int(world.state.now())
    token = DEMO_ACCESS_TOKEN
    good: list[dict[str, Any]] = [
        {"appsecret_proof": proof(token)},
        {"appsecret_proof": proof(f"{token}|{now}"), "appsecret_time": now},
    ]
    bad: list[dict[str, Any]] = [
        {"appsecret_proof": proof(token, "another secret")},
        {"appsecret_proof": proof(token).upper()},
        {"appsecret_proof": "é"},
        {"appsecret_proof": proof(f"{token}|{now - 301}"), "appsecret_time": now - 301},
        {"appsecret_proof": proof(f"{token}|{now}"), "appsecret_time": now + 1},
    ]
    for params in good:
        assert (await world.get("me", **params)).status_code == 200
    for params in bad:
        response = await world.get("me", **params)
        assert error_of(response) == (400, 100, None)
        assert response.json()["error"]["type"] == "GraphMethodException"
    assert (await world.get("me")).status_code == (400 if require else 200)


async def test_an_object_that_is_not_assigned_reads_like_one_that_is_not_there(world: World) -> None:
    state = world.state
    token = state.add_token(catalog_ids=[])
    headers = {"Authorization": f"Bearer {token.value}"}
    hidden = await world.client.get(f"/{DEMO_CATALOG_ID}/products", headers=headers)
    missing = await world.client.get("/466000000000000/products", headers=headers)
    assert error_of(hidden) == error_of(missing) == (400, 100, 33)
    assert "Unsupported get request. Object with ID '466000000000000'" in missing.json()["error"]["message"]
    posted = await world.client.post(PATH, headers=headers)
    assert posted.json()["error"]["message"].startswith("Unsupported post request.")


async def test_businesses_and_catalogs(world: World) -> None:
    state = world.state
    lent = state.add_catalog(state.add_business("Lender").id, "Lent")
    state.businesses[DEMO_BUSINESS_ID].client_catalog_ids.append(lent.id)

    businesses = (await world.get("me/businesses", fields="id,name,verification_status")).json()
    assert businesses["data"] == [
        {"id": DEMO_BUSINESS_ID, "name": "Demo Business", "verification_status": "verified"}
    ]
    owned = (
        await world.get(f"{DEMO_BUSINESS_ID}/owned_product_catalogs", fields="name,vertical,product_count")
    ).json()
    assert owned["data"] == [
        {"name": "Demo Catalog", "vertical": "commerce", "product_count": 0, "id": DEMO_CATALOG_ID}
    ]
    shared = (await world.get(f"{DEMO_BUSINESS_ID}/client_product_catalogs")).json()
    assert shared["data"] == [{"id": lent.id, "name": "Lent"}]
    assigned = (await world.get("me/assigned_product_catalogs")).json()
    assert {entry["id"] for entry in assigned["data"]} == {DEMO_CATALOG_ID, lent.id}
    node = (await world.get(DEMO_CATALOG_ID, fields="id,name,business{id}")).json()
    assert node == {"id": DEMO_CATALOG_ID, "name": "Demo Catalog", "business": {"id": DEMO_BUSINESS_ID}}
    assert (await world.get(f"{DEMO_CATALOG_ID}/data_sources")).json() == {"data": []}


async def test_an_empty_edge_has_no_paging(world: World) -> None:
    assert (await world.get(f"{DEMO_BUSINESS_ID}/client_product_catalogs")).json() == {"data": []}


async def test_catalogs_are_created_and_paged(world: World) -> None:
    for number in range(3):
        body = {"name": f"New {number}"}
        created = await world.client.post(
            f"/v26.0/{DEMO_BUSINESS_ID}/owned_product_catalogs", json=body, headers=BEARER
        )
        assert world.state.has_catalog(created.json()["id"])
    names, after = [], None
    while True:
        params = {"limit": 2, "fields": "name"} | ({"after": after} if after else {})
        page = (await world.get(f"{DEMO_BUSINESS_ID}/owned_product_catalogs", **params)).json()
        names += [entry["name"] for entry in page["data"]]
        if "next" not in page["paging"]:
            break
        after = page["paging"]["cursors"]["after"]
    assert names == ["Demo Catalog", "New 0", "New 1", "New 2"]


async def test_the_first_catalog_needs_accepted_terms(world: World) -> None:
    business = world.state.add_business("Fresh", terms_accepted=False)
    token = world.state.add_token()
    response = await world.client.post(
        f"/{business.id}/owned_product_catalogs",
        json={"name": "First"},
        headers={"Authorization": f"Bearer {token.value}"},
    )
    assert error_of(response) == (403, 200, None)


async def test_debug_token(world: World) -> None:
    app = f"{DEMO_APP_ID}|{DEMO_APP_SECRET}"

    async def debug(value: str, caller: str = app) -> dict[str, Any]:
        response = await world.client.get(
            "/debug_token", params={"input_token": value, "access_token": caller}
        )
        assert response.status_code == 200, response.text
        data = response.json()["data"]
        assert isinstance(data, dict)
        return data

    alive = await debug(DEMO_ACCESS_TOKEN)
    assert alive["is_valid"] is True
    assert (alive["type"], alive["app_id"], alive["expires_at"]) == ("SYSTEM_USER", DEMO_APP_ID, 0)
    assert alive["granular_scopes"] == [{"scope": "business_management"}, {"scope": "catalog_management"}]
    limited = world.state.add_token(catalog_ids=[DEMO_CATALOG_ID], scopes=["catalog_management"])
    assert (await debug(limited.value))["granular_scopes"] == [
        {"scope": "catalog_management", "target_ids": [DEMO_CATALOG_ID]}
    ]
    world.state.kill_token(limited.value, 460)
    dead = await debug(limited.value, DEMO_ACCESS_TOKEN)
    assert dead["is_valid"] is False
    assert dead["scopes"] == []
    assert (dead["error"]["code"], dead["error"]["subcode"]) == (190, 460)
    wrong = await world.client.get(
        "/debug_token", params={"input_token": DEMO_ACCESS_TOKEN, "access_token": f"{DEMO_APP_ID}|wrong"}
    )
    assert error_of(wrong) == (400, 190, None)


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("me", {"fields": "id,shoe_size"}, 100),
        ("me", {"fields": "id,name{"}, 2500),
        ("me", {"fields": "id}"}, 2500),
        ("me/nonsense", {}, 2500),
        (f"{DEMO_CATALOG_ID}/products", {"limit": "many"}, 100),
        (f"{DEMO_CATALOG_ID}/products", {"after": "nonsense"}, 100),
        (f"{DEMO_CATALOG_ID}/products", {"filter": "{"}, 100),
    ],
)
async def test_bad_parameters(world: World, path: str, params: dict[str, str], code: int) -> None:
    assert error_of(await world.get(path, **params))[:2] == (400, code)
