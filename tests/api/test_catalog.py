"""The source catalog over HTTP: put, read, batch, stock, and ids that paths cannot carry."""

from __future__ import annotations

import copy
from typing import Any

from tests.support.api import Api, Caller, assert_error, product_body, tilde
from tests.support.world import World

NASTY_IDS = [
    "plain", "a/b", "100%", "%2F", "?", "#", ".", "..", "...", "~tilde", "a b", "a+b", "ünï/cödé", "日本", "a\\b", "a&b=c",
    "a;b", "a,b:c", " ", "😀", "x" * 200, "gid://shopify/ProductVariant/42", "'quoted\"", "%00",
]  # fmt: skip


async def test_put_read_delete(store: Caller) -> None:
    body = product_body(
        "v1", "v2", subtitle="Soft", images=["a.jpg"], categories=["Clothing", "Shirts"], source="erp",
        updatedAt="2026-05-03T10:00:00+02:00",
    )  # fmt: skip
    body["variants"][0].update(
        specialPrice=1499, specialPriceStart="2026-05-01T00:00:00Z", options={"Color": "Red", "Size": 42},
        inventory={"trackInventory": True, "quantityOnHand": 7},
    )  # fmt: skip
    result = await store.data("PUT", "/catalog/products/p", json=body)
    assert result == {"productId": "p", "variants": 2, "changed": 2, "enqueued": 2, "stale": False}
    again = await store.data("PUT", "/catalog/products/p", json=body)
    assert (again["changed"], again["enqueued"], again["stale"]) == (0, 0, False)
    older = await store.data(
        "PUT", "/catalog/products/p", json={**body, "title": "Old", "updatedAt": "2026-05-03T07:59:59Z"}
    )
    assert (older["changed"], older["stale"]) == (0, True)

    read = await store.data("GET", "/catalog/products/p")
    assert read["title"] == "T-shirt"
    assert read["updatedAt"] == "2026-05-03T08:00:00Z"
    assert read["variants"][0]["options"] == {"Color": "Red", "Size": "42"}
    assert read["variants"][0]["inventory"]["quantityOnHand"] == 7
    assert read["sync"] == {"counts": {"never_synced": 2}, "worstStatus": "never_synced", "lastSyncAt": None}

    gone = await store.data("DELETE", "/catalog/products/p")
    assert (gone["variants"], gone["changed"]) == (0, 2)
    assert_error(await store.get("/catalog/products/p"), 404, "NOT_FOUND")
    assert (await store.data("DELETE", "/catalog/products/p"))["changed"] == 0
    assert_error(await store("DELETE", "/catalog/products/never"), 404, "NOT_FOUND")


async def test_what_was_read_can_be_put_again_and_changes_nothing(store: Caller) -> None:
    body = product_body("v1", updatedAt="2026-05-03T08:00:00Z", description="<b>Ümlaut</b>")
    body["variants"][0].update(
        inventory={"trackInventory": True, "quantityOnHand": 1}, options={"Color": "Red"}
    )
    await store.data("PUT", "/catalog/products/p", json=body)
    read = await store.data("GET", "/catalog/products/p")
    result = await store.data("PUT", "/catalog/products/p", json=read)
    assert (result["changed"], result["enqueued"], result["stale"]) == (0, 0, False)
    after = await store.data("GET", "/catalog/products/p")
    assert after == read


async def test_ids_that_paths_cannot_carry_come_back_by_their_href(store: Caller) -> None:
    for number, nasty in enumerate(NASTY_IDS):
        product_id, body = f"{number}-{nasty}"[:200], product_body(nasty)
        path = f"/catalog/products/{tilde(product_id)}"
        await store.data("PUT", path, json=body)
        product = await store.data("GET", path)
        assert product["id"] == product_id
        assert (await store.data("GET", product["href"]))["id"] == product_id
        item = await store.data("GET", product["variants"][0]["href"])
        assert item["variant"]["id"] == nasty
        assert item["href"] == product["variants"][0]["href"]
        stock = (
            product["variants"][0]["href"].replace("/admin/meta/items/", "/catalog/variants/") + "/inventory"
        )
        assert (await store.data("PUT", stock, json={"quantityOnHand": 5}))["accepted"] == 1
    listed = await store.data("GET", "/admin/meta/items?limit=100&sort=variantId")
    assert sorted(item["variantId"] for item in listed) == sorted(NASTY_IDS)
    for item in listed:
        assert (await store.data("GET", item["href"]))["variant"]["id"] == item["variantId"]


async def test_a_batch_takes_the_good_and_names_the_bad(store: Caller) -> None:
    rows: list[Any] = [
        {"id": "p0", **product_body("v0")},
        {"id": "p1", **product_body("v1"), "titel": "typo"},
        "not even an object",
        {**product_body("v3")},
        {"id": "p4", **product_body("v0")},
        {"id": "p5", **product_body("v5")},
        {"id": "p6", "variants": [{"id": "v6", "price": 2**63}]},
    ]
    del rows[6]["variants"][0]["price"]
    rows[6]["variants"][0]["price"] = -1
    result = await store.data("POST", "/catalog/products/batch", json={"products": rows})
    assert (result["accepted"], result["changed"], result["enqueued"]) == (2, 2, 2)
    assert [(row["index"], row["id"]) for row in result["rejected"]] == [
        (1, "p1"), (2, None), (3, None), (4, "p4"), (6, "p6")
    ]  # fmt: skip
    assert all(row["errorCode"] == "VALIDATION_ERROR" and row["details"] for row in result["rejected"])
    assert result["rejected"][0]["details"] == [{"field": "titel", "message": "is not a known field"}]
    assert {product["id"] for product in await store.data("GET", "/catalog/products")} == {"p0", "p5"}
    assert (await store.data("POST", "/catalog/products/batch", json={"products": []}))["accepted"] == 0


async def test_batches_have_a_size(store: Caller) -> None:
    rows = [{"id": f"p{n}", "variants": []} for n in range(1_001)]
    response = await store("POST", "/catalog/products/batch", json={"products": rows})
    assert assert_error(response, 400, "VALIDATION_ERROR")["details"][0]["field"] == "products"
    items = [{"variantId": f"v{n}", "quantityOnHand": 1} for n in range(5_001)]
    response = await store("POST", "/catalog/inventory/batch", json={"items": items})
    assert assert_error(response, 400, "VALIDATION_ERROR")["details"][0]["field"] == "items"


async def test_stock(store: Caller) -> None:
    await store.data("PUT", "/catalog/products/p", json=product_body("v1", "v2"))
    body = {"trackInventory": True, "quantityOnHand": 3, "reservedQuantity": 1}
    assert (await store.data("PUT", "/catalog/variants/v1/inventory", json=body))["changed"] == 1
    assert (await store.data("PUT", "/catalog/variants/v1/inventory", json=body))["changed"] == 0
    result = await store.data(
        "POST", "/catalog/inventory/batch",
        json={"items": [{"variantId": "v2", "quantityOnHand": 9}, {"variantId": "ghost", "quantityOnHand": 1}]},
    )  # fmt: skip
    assert (result["accepted"], result["missing"]) == (1, ["ghost"])
    assert_error(await store("PUT", "/catalog/variants/ghost/inventory", json=body), 404, "NOT_FOUND")
    item = await store.data("GET", "/admin/meta/items/v1")
    assert item["inventory"] == {
        "trackInventory": True, "quantityOnHand": 3, "reservedQuantity": 1, "allowBackorder": False
    }  # fmt: skip


async def test_products_by_page_and_by_cursor(store: Caller) -> None:
    rows = [{"id": f"p{n:03}", **product_body(f"v{n:03}", source="a" if n % 2 else "b")} for n in range(25)]
    await store.data("POST", "/catalog/products/batch", json={"products": rows})
    expected = [row["id"] for row in rows]

    paged: list[str] = []
    for page in (1, 2, 3):
        body = (await store.get("/catalog/products", page=page, limit=10)).json()
        assert (body["metadata"]["page"], body["metadata"]["total"]) == (page, 25)
        assert body["metadata"]["totalIsExact"] is True
        paged += [product["id"] for product in body["data"]]
    assert paged == expected

    walked: list[str] = []
    cursor: str | None = None
    while True:
        parameters: dict[str, Any] = {"limit": 7, **({"cursor": cursor} if cursor else {})}
        body = (await store.get("/catalog/products", **parameters)).json()
        walked += [product["id"] for product in body["data"]]
        cursor = body["metadata"]["nextCursor"]
        if cursor is None:
            break
        assert body["metadata"]["page"] is None or len(walked) == 7
    assert walked == expected

    first = (await store.get("/catalog/products", limit=5, source="a")).json()
    assert first["metadata"]["total"] == 12
    stolen = {"cursor": first["metadata"]["nextCursor"], "limit": 5}
    assert_error(await store.get("/catalog/products", **stolen), 400, "VALIDATION_ERROR")
    assert_error(await store.get("/catalog/products", page=51, limit=200), 400, "VALIDATION_ERROR")


async def test_a_cursor_is_of_one_store(api: Api, store: Caller) -> None:
    rows = [{"id": f"p{n}", **product_body(f"v{n}")} for n in range(5)]
    await store.data("POST", "/catalog/products/batch", json={"products": rows})
    other = await api.factory.stores().create("Other", currency="EUR")
    foreign = await api.caller(other.store_id)
    for path in ("/catalog/products", "/admin/meta/items"):
        cursor = (await store.get(path, limit=2)).json()["metadata"]["nextCursor"]
        assert (await store.get(path, cursor=cursor, limit=2)).status_code == 200
        assert_error(await foreign.get(path, cursor=cursor, limit=2), 400, "VALIDATION_ERROR")
        forged = cursor[:-2] + ("AA" if not cursor.endswith("AA") else "BB")
        assert_error(await store.get(path, cursor=forged, limit=2), 400, "VALIDATION_ERROR")


async def test_stores_and_settings(api: Api, world: World) -> None:
    platform = await api.platform()
    made = await platform.data(
        "POST", "/platform/stores", json={"name": "Shop 2", "currency": "jpy", "storefrontBaseUrl": "https://s.example"}
    )  # fmt: skip
    assert await platform.data("GET", f"/platform/stores/{made['storeId']}") == made
    renamed = await platform.data("PATCH", f"/platform/stores/{made['storeId']}", json={"name": "Shop II"})
    assert renamed["name"] == "Shop II"
    listed = await platform("GET", "/platform/stores")
    assert [store["name"] for store in listed.json()["data"]] == ["Shop", "Shop II"]
    assert listed.json()["metadata"] == {
        "page": 1, "limit": 50, "total": 2, "totalIsExact": True, "nextCursor": None
    }  # fmt: skip
    assert_error(await platform.get("/platform/stores/nowhere"), 404, "NOT_FOUND")
    assert_error(await platform("POST", "/platform/stores", json={"name": " "}), 400, "VALIDATION_ERROR")

    store = await api.caller(made["storeId"])
    settings = await store.data("GET", "/admin/meta/settings")
    assert (settings["currency"], settings["graphVersion"], settings["batchSize"]) == ("JPY", "v25.0", 2500)
    assert (settings["appSecret"], settings["catalogId"], settings["syncEnabled"]) == (None, None, False)
    changed = await store.data(
        "PATCH", "/admin/meta/settings", json={"appSecret": "hush-hush", "batchSize": 100, "syncEnabled": True}
    )  # fmt: skip
    assert (changed["appSecret"], changed["batchSize"], changed["syncEnabled"]) == ("configured", 100, True)
    assert (await store.data("PATCH", "/admin/meta/settings", json={"batchSize": None}))["batchSize"] == 2500
    for bad in (
        {"batchSize": 0},
        {"catalogId": "1"},
        {"nonsense": 1},
        {"currency": "XXX"},
        {"batchSize": "5"},
    ):
        response = await store("PATCH", "/admin/meta/settings", json=bad)
        assert assert_error(response, 400, "VALIDATION_ERROR")["details"][0]["field"] in bad
    assert_error(await store("PATCH", "/admin/meta/settings", json=[]), 400, "VALIDATION_ERROR")


async def test_a_body_that_nobody_reads_is_no_matter(store: Caller) -> None:
    """The document knows no 415 where no body is taken."""
    headers = {"Idempotency-Key": "once", "Content-Type": "application/json", "Content-Encoding": "br"}
    answered = await store("POST", "/admin/meta/bootstrap", content=b"{}", headers=headers)
    assert_error(answered, 409, "meta_not_connected")


async def test_the_same_idempotency_key_creates_once(api: Api) -> None:
    platform = await api.platform()
    headers = {"Idempotency-Key": "once-1"}
    first = await platform("POST", "/platform/stores", json={"name": "Once"}, headers=headers)
    again = await platform("POST", "/platform/stores", json={"name": "Once"}, headers=headers)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = await platform("POST", "/platform/stores", json={"name": "Twice"}, headers=headers)
    assert_error(other, 409, "CONFLICT")
    names = [store["name"] for store in await platform.data("GET", "/platform/stores")]
    assert names.count("Once") == 1
    bad = await platform("POST", "/platform/stores", json={"name": ""}, headers={"Idempotency-Key": "bad-1"})
    assert_error(bad, 400, "VALIDATION_ERROR")
    good = await platform(
        "POST", "/platform/stores", json={"name": "Good"}, headers={"Idempotency-Key": "bad-1"}
    )
    assert good.status_code == 200, "a refused request does not use the key up"


async def test_a_created_key_is_not_left_in_the_clear(api: Api, world: World) -> None:
    from tests.support.secrets import tables_holding

    platform = await api.platform()
    path = f"/platform/stores/{world.store_id}/api-keys"
    body = {"permissions": ["catalog:read"], "name": "till"}
    made = await platform.data("POST", path, json=body, headers={"Idempotency-Key": "key-1"})
    again = await platform.data("POST", path, json=body, headers={"Idempotency-Key": "key-1"})
    assert again["apiKey"] == made["apiKey"]
    assert await tables_holding(world.database, made["apiKey"]) == []
    listed = await platform.data("GET", path)
    assert [key["name"] for key in listed] == ["till"]
    assert made["apiKey"] not in str(copy.deepcopy(listed))
