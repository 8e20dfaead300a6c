"""The control surface under /_sandbox, and what the log keeps to itself."""

from __future__ import annotations

import json

from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN, DEMO_BUSINESS_ID, DEMO_CATALOG_ID
from tests.sandbox.support import World, item, update


async def test_a_world_is_built_from_outside(world: World) -> None:
    client = world.client
    business = (await client.post("/_sandbox/businesses", json={"name": "Shop"})).json()
    body = {"business_id": business["id"], "name": "Main", "data_sources": [{"id": "1", "name": "Feed"}]}
    catalog = (await client.post("/_sandbox/catalogs", json=body)).json()
    shared = {"business_id": DEMO_BUSINESS_ID, "shared_with": [business["id"]]}
    lent = (await client.post("/_sandbox/catalogs", json=shared)).json()
    token = (
        await client.post(
            "/_sandbox/tokens",
            json={"business_ids": [business["id"]], "catalog_ids": [catalog["id"]], "expires_in": 60},
        )
    ).json()
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    sources = (await client.get(f"/{catalog['id']}/data_sources", headers=headers)).json()
    assert sources["data"] == [{"id": "1", "name": "Feed"}]
    assert (await client.get(f"/{DEMO_CATALOG_ID}", headers=headers)).status_code == 400
    assert world.state.businesses[business["id"]].client_catalog_ids == [lent["id"]]
    killed = {"access_token": token["access_token"], "subcode": 460}
    assert (await client.post("/_sandbox/tokens/kill", json=killed)).status_code == 200
    dead = await client.get("/me", headers=headers)
    assert dead.json()["error"]["error_subcode"] == 460


async def test_faults_are_armed_listed_and_removed(world: World) -> None:
    client = world.client
    armed = (await client.post("/_sandbox/faults", json={"kind": "blocked", "probability": 1})).json()
    assert armed["count"] is None
    assert (await world.get("me")).status_code == 400
    [listed] = (await client.get("/_sandbox/faults")).json()["data"]
    assert (listed["id"], listed["fired"], listed["left"]) == (armed["id"], 1, None)
    assert (await client.delete(f"/_sandbox/faults/{armed['id']}")).status_code == 200
    assert (await client.delete(f"/_sandbox/faults/{armed['id']}")).status_code == 404
    assert (await world.get("me")).status_code == 200
    await client.post("/_sandbox/faults", json={"kind": "blocked"})
    await client.delete("/_sandbox/faults")
    assert (await world.get("me")).status_code == 200


async def test_mistakes_are_explained(world: World) -> None:
    for body in ({"kind": "earthquake"}, {"kind": "slow", "seconds": -1}, {"kind": "slow", "speed": 1}, {}):
        response = await world.client.post("/_sandbox/faults", json=body)
        assert response.status_code == 400
        assert ":" in response.json()["error"]
    assert (await world.client.post("/_sandbox/faults", content=b"{")).status_code == 400
    assert (await world.client.get("/_sandbox/requests?limit=all")).status_code == 400
    assert (await world.client.get("/_sandbox/catalogs/1/items")).status_code == 404
    unknown = {"business_id": "1"}
    assert (await world.client.post("/_sandbox/catalogs", json=unknown)).status_code == 404
    assert (await world.client.post("/_sandbox/tokens/kill", json={"access_token": "x"})).status_code == 404


async def test_the_log_tells_calls_apart_and_keeps_no_token(world: World) -> None:
    await world.send(update("A"), update("B"))
    await world.client.get(f"/v26.0/{DEMO_CATALOG_ID}/products", params={"access_token": DEMO_ACCESS_TOKEN})
    await world.client.get("/nonsense", params={"access_token": "EAAother"})
    text = (await world.client.get("/_sandbox/requests")).text
    assert DEMO_ACCESS_TOKEN not in text
    assert "EAAother" not in text
    latest = json.loads(text)["data"]
    assert [(entry["edge"], entry["status"], entry["records"]) for entry in latest] == [
        ("unknown", 400, 0),
        ("products", 200, 0),
        ("items_batch", 200, 2),
    ]
    assert latest[2] | {"time": ""} == {
        "time": "",
        "method": "POST",
        "path": f"/v26.0/{DEMO_CATALOG_ID}/items_batch",
        "edge": "items_batch",
        "catalog_id": DEMO_CATALOG_ID,
        "records": 2,
        "status": 200,
        "error_code": None,
        "fault": None,
    }
    only = (await world.client.get("/_sandbox/requests?edge=products&limit=5")).json()["data"]
    assert [entry["edge"] for entry in only] == ["products"]
    await world.client.delete("/_sandbox/requests")
    assert (await world.client.get("/_sandbox/requests")).json() == {"data": []}


async def test_raw_items_are_paged(world: World) -> None:
    await world.report(*(update(f"A{number}") for number in range(3)))
    first = (await world.client.get(f"/_sandbox/catalogs/{DEMO_CATALOG_ID}/items?limit=2")).json()
    shown = {"retailer_id": "A0", "fields": item("A0"), "applied": 1, "product_feed": None}
    assert first["data"][0] == shown
    assert (first["total"], first["next_offset"]) == (3, 2)
    rest = (await world.client.get(f"/_sandbox/catalogs/{DEMO_CATALOG_ID}/items?limit=2&offset=2")).json()
    assert (len(rest["data"]), rest["next_offset"]) == (1, None)


async def test_a_catalog_is_broken_by_hand(world: World) -> None:
    path = f"/_sandbox/catalogs/{DEMO_CATALOG_ID}/items"
    feed = {"id": "77", "name": "Weekly feed"}
    put = [
        {"id": "a", "fields": {"title": "Mug", "price": "5.00 EUR", "sale_price": "4.00 EUR"}},
        {"id": "b", "fields": {"title": "Cup"}, "product_feed": feed},
    ]
    assert (await world.client.post(path, json={"items": put})).json() == {"items": 2}
    change = {"items": [{"id": "a", "fields": {"price": "6.00 EUR", "sale_price": ""}}]}
    assert (await world.client.patch(path, json=change)).json() == {"items": 1}

    async def shown() -> list[dict[str, object]]:
        fields = "retailer_id,name,price,sale_price,product_feed"
        found: list[dict[str, object]] = (
            await world.get(f"{DEMO_CATALOG_ID}/products", fields=fields)
        ).json()["data"]
        return found

    mug = {"retailer_id": "a", "name": "Mug", "price": "€6.00"}
    strip = [{name: one[name] for name in one if name != "id"} for one in await shown()]
    assert strip == [mug, {"retailer_id": "b", "name": "Cup", "product_feed": feed}]
    unknown = {"items": [{"id": "b", "fields": {"title": "X"}}, {"id": "c", "fields": {}}]}
    assert (await world.client.patch(path, json=unknown)).status_code == 404
    gone = {"ids": ["b", "b", "c"]}
    assert (await world.client.request("DELETE", path, json=gone)).json() == {"items": 1}
    [left] = await shown()
    assert left["name"] == "Mug"
    # A feed's item that is made anew by somebody else is no longer the feed's.
    await world.client.post(path, json={"items": [{"id": "b", "fields": {"title": "Bowl"}}]})
    assert "product_feed" not in (await shown())[1]


async def test_refusals_come_and_go(world: World) -> None:
    await world.client.post("/_sandbox/refusals", json={"retailer_id": "A", "text": "Never"})
    assert (await world.report(update("A")))["errors"][0]["message"] == "Never"
    lifted = await world.client.request("DELETE", "/_sandbox/refusals", json={"retailer_id": "A"})
    assert lifted.json() == {"success": True}
    assert (await world.report(update("A")))["errors"] == []


async def test_the_clock_can_be_put_forward(world: World) -> None:
    handle = await world.handle(update("A"))
    await world.client.post("/_sandbox/clock", json={"advance_seconds": 2})
    assert (await world.status(handle))["status"] == "finished"


async def test_a_reset_forgets_everything_but_the_demo_world(world: World) -> None:
    handle = await world.handle(update("A"))
    world.fault("blocked", count=None)
    world.state.add_business("Gone")
    assert (await world.client.post("/_sandbox/reset")).json() == {"success": True}
    overview = (await world.client.get("/_sandbox")).json()
    assert [entry["id"] for entry in overview["businesses"]] == [DEMO_BUSINESS_ID]
    assert overview["catalogs"][0]["items"] == overview["faults"] == overview["requests"] == 0
    response = await world.get(f"{DEMO_CATALOG_ID}/check_batch_request_status", handle=handle)
    assert response.status_code == 400
