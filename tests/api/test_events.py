"""Events over HTTP: envelopes as CloudEvents 1.0 writes them, one by one and in batches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from meta_sync.access.models import Permission
from meta_sync.api.app import openapi_document
from meta_sync.catalog.events import EventType
from tests.support.api import Api, Caller, assert_error, product_body

ONE = "application/cloudevents+json"
MANY = "application/cloudevents-batch+json"
PLAIN = "application/json"


def event(kind: str, data: Any, event_id: str = "1", **attributes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": event_id, "source": "/shop", "type": kind, "data": data, **attributes
    }  # fmt: skip


def synced(product_id: str, *variant_ids: str, event_id: str = "0", **fields: Any) -> dict[str, Any]:
    return event(
        "vendor.product.synced", {"id": product_id, **product_body(*variant_ids, **fields)}, event_id
    )


def stock(variant_id: str, on_hand: Any = 5, event_id: str = "1", **attributes: Any) -> dict[str, Any]:
    data = {"variantId": variant_id, "quantityOnHand": on_hand, "reservedQuantity": 0}
    return event("inventory.stock.adjusted", data, event_id, **attributes)


async def post(store: Caller, body: Any, kind: str = MANY, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await store("POST", "/catalog/events", content=content, headers={"Content-Type": kind, **headers})


async def send(store: Caller, *events: Any) -> Mapping[str, Any]:
    response = await post(store, list(events))
    assert response.status_code == 202, response.text
    data: dict[str, Any] = response.json()["data"]
    counted = data["accepted"] + data["duplicates"] + data["ignored"] + len(data["rejected"])
    assert counted == len(events)
    return data


@pytest.mark.parametrize("kind", [ONE, f"{ONE}; charset=UTF-8", ONE.upper(), PLAIN])
async def test_one_event(store: Caller, kind: str) -> None:
    response = await post(store, synced("p", "v1"), kind)
    assert (response.status_code, response.json()["statusCode"]) == (202, 202)
    expected = {"accepted": 1, "stale": 0, "duplicates": 0, "ignored": 0, "rejected": []}
    assert response.json()["data"] == expected
    assert (await post(store, synced("p", "v1"), kind)).json()["data"] == {
        **expected, "accepted": 0, "duplicates": 1
    }  # fmt: skip


@pytest.mark.parametrize("kind", [MANY, f"{MANY};charset=utf-8", PLAIN])
async def test_several_events(store: Caller, kind: str) -> None:
    response = await post(store, [synced("p", "v1"), stock("v1")], kind)
    assert response.json()["data"]["accepted"] == 2
    read = await store.data("GET", "/catalog/products/p")
    assert read["variants"][0]["inventory"]["quantityOnHand"] == 5
    assert (await post(store, [], kind)).json()["data"]["accepted"] == 0


async def test_all_types_with_their_data(store: Caller) -> None:
    variant = {"id": "v2", "sku": "S2", "price": 500}
    data = await send(
        store,
        synced("p", "v1"),
        event("vendor.product.variant.created", {"productId": "p", "variant": variant}),
        event("vendor.product.variant.updated", {"productId": "p", "variant": {**variant, "price": 600}}, "2"),
        event("vendor.product.basics.updated", {"id": "p", "title": "New", "brand": None}, "3"),
        event("vendor.product.basics.updated", {"productId": "p", "categories": ["A", "B"]}, "4"),
        event(
            "vendor.product.media.updated",
            {"productId": "p", "thumbnail": None, "images": ["a"], "variants": [{"id": "v1", "images": ["b"]}]},
            "5",
        ),
        stock("v1", 7, "6"),
        event("inventory.policy.updated", {"variantId": "v1", "trackInventory": True, "allowBackorder": True}, "7"),
    )  # fmt: skip
    assert (data["accepted"], data["rejected"]) == (8, [])
    read = await store.data("GET", "/catalog/products/p")
    assert (read["title"], read["brand"], read["categories"]) == ("New", None, ["A", "B"])
    assert (read["thumbnail"], read["images"], read["variants"][0]["images"]) == (None, ["a"], ["b"])
    assert (read["variants"][1]["price"], read["slug"]) == (600, "t-shirt")
    inventory = read["variants"][0]["inventory"]
    assert (inventory["quantityOnHand"], inventory["allowBackorder"]) == (7, True)
    await send(store, event("vendor.product.variant.deleted", {"productId": "p", "variantId": "v2"}, "8"))
    assert len((await store.data("GET", "/catalog/products/p"))["variants"]) == 1
    await send(store, event("vendor.product.deleted", {"productId": "p"}, "9"))
    assert_error(await store.get("/catalog/products/p"), 404, "NOT_FOUND")


def test_the_document_says_which_data_a_type_has() -> None:
    schemas = json.loads(openapi_document())["components"]["schemas"]
    names = [one["$ref"].rpartition("/")[2] for one in schemas["CloudEvent"]["anyOf"]]
    found = {}
    for name in names:
        fields = schemas[name]["properties"]
        found[fields["type"].get("const")] = fields["data"]["$ref"].rpartition("/")[2]
    assert found == {
        "vendor.product.synced": "BatchProduct",
        "vendor.product.basics.updated": "ProductUpdate",
        "vendor.product.media.updated": "MediaUpdate",
        "vendor.product.variant.created": "VariantChange",
        "vendor.product.variant.updated": "VariantChange",
        "vendor.product.variant.deleted": "VariantReference",
        "vendor.product.deleted": "ProductReference",
        "inventory.stock.adjusted": "StockAdjustment",
        "inventory.policy.updated": "PolicyUpdate",
        None: "OtherEventData",
    }
    # Each type is read as one kind of event, and every other type as the last.
    assert set(found) - {None} == set(EventType)
    assert schemas["OtherEvent"]["properties"]["type"]["not"] == {"enum": [*EventType]}


async def test_the_time_of_an_event_is_its_clock(store: Caller) -> None:
    await send(store, {**synced("p", "v1"), "time": "2026-05-03T10:00:00Z"})
    title = "vendor.product.basics.updated"
    newer = event(title, {"id": "p", "title": "New"}, "1", time="2026-05-03t12:00:00.123456789+02:00")
    older = event(title, {"id": "p", "title": "Old"}, "2", time="2026-05-03T10:00:00Z")
    assert (await send(store, newer, older))["stale"] == 1
    read = await store.data("GET", "/catalog/products/p")
    assert (read["title"], read["updatedAt"]) == ("New", "2026-05-03T10:00:00.123456Z")
    # Where the event has no time, the clock in its data counts.
    clocked = event(title, {"id": "p", "title": "Older", "updatedAt": "2026-05-03T09:00:00Z"}, "3")
    assert (await send(store, clocked))["stale"] == 1
    ahead = (datetime.now(UTC) + timedelta(minutes=11)).isoformat()
    result = await send(store, event(title, {"id": "p", "title": "Ahead"}, "4", time=ahead))
    assert [one["details"][0]["field"] for one in result["rejected"]] == ["time"]
    result = await send(store, synced("p", "v1", event_id="5", updatedAt=ahead))
    assert [one["details"][0]["field"] for one in result["rejected"]] == ["data.updatedAt"]


BAD_ENVELOPES: list[tuple[Any, str]] = [
    ({"specversion": "0.3"}, "specversion"),
    ({"specversion": 1.0}, "specversion"),
    ({"specversion": None}, "specversion"),
    ({"id": ""}, "id"),
    ({"id": 7}, "id"),
    ({"id": "x" * 201}, "id"),
    ({"id": "a\nb"}, "id"),
    ({"source": ""}, "source"),
    ({"source": "x" * 401}, "source"),
    ({"type": ""}, "type"),
    ({"type": None}, "type"),
    ({"time": "yesterday"}, "time"),
    ({"time": "2026-05-03"}, "time"),
    ({"time": "2026-05-03T10:00:00"}, "time"),
    ({"time": "2026-05-03T10:00:60Z"}, "time"),
    ({"time": "0001-01-01T00:00:00+14:00"}, "time"),
    ({"time": 1777800000}, "time"),
    ({"datacontenttype": "text/xml"}, "datacontenttype"),
    ({"data_base64": "e30="}, "data_base64"),
    ({"data": None}, "data"),
    ({"data": []}, "data"),
    ({"data": "{}"}, "data"),
    ({"data": {}}, "data.variantId"),
    ({"data": {"variantId": "v1"}}, "data"),
    ({"data": {"variantId": "v1", "quantityOnHand": None}}, "data"),
    ({"data": {"variantId": "v1", "quantityOnHand": 1.5}}, "data.quantityOnHand"),
    ({"data": {"variantId": "v1", "quantityOnHand": -1}}, "data.quantityOnHand"),
    ({"data": {"variantId": "v1", "quantityOnHand": 1, "quantity": 1}}, "data.quantity"),
]


async def test_bad_events_are_named_and_good_ones_go_in(store: Caller) -> None:
    await send(store, synced("p", "v1"))
    bad = [{**stock("v1", 9, f"bad-{number}"), **broken} for number, (broken, _) in enumerate(BAD_ENVELOPES)]
    data = await send(store, stock("v1", 3, "first"), *bad, "no event", None, stock("v1", 4, "last"))
    assert data["accepted"] == 2
    rejected = data["rejected"]
    assert [one["index"] for one in rejected] == list(range(1, len(bad) + 3))
    assert [one["details"][0]["field"] for one in rejected[: len(bad)]] == [
        field for _, field in BAD_ENVELOPES
    ]
    assert rejected[-1]["details"][0]["field"] == "event"
    for one in rejected:
        assert one["errorCode"] == "VALIDATION_ERROR"
        assert one["message"].endswith(".")
    assert [one["id"] for one in rejected[9:11]] == ["bad-9", "bad-10"]
    assert rejected[4]["id"] is None
    read = await store.data("GET", "/catalog/products/p")
    assert read["variants"][0]["inventory"]["quantityOnHand"] == 4


async def test_patches_that_cannot_be(store: Caller) -> None:
    await send(store, synced("p", "v1"))
    basics, media = "vendor.product.basics.updated", "vendor.product.media.updated"
    cases: list[tuple[str, Any, str]] = [
        (basics, {"title": "x"}, "data"),
        (basics, {"id": "p", "productId": "q"}, "data"),
        (basics, {"id": "p", "status": None}, "data.status"),
        (basics, {"id": "p", "status": "gone"}, "data.status"),
        (basics, {"id": "p", "source": None}, "data.source"),
        (basics, {"id": "p", "variants": []}, "data.variants"),
        (basics, {"id": "p", "titel": "x"}, "data.titel"),
        (media, {"productId": "p", "images": [1]}, "data.images[0]"),
        (media, {"productId": "p", "variants": [{"images": []}]}, "data.variants[0].id"),
        ("vendor.product.variant.updated", {"productId": "p"}, "data.variant"),
        ("vendor.product.variant.updated", {"productId": "p", "variant": {"id": ""}}, "data.variant.id"),
        ("vendor.product.variant.deleted", {"productId": "p"}, "data.variantId"),
        ("vendor.product.deleted", {"productId": 1}, "data.productId"),
        ("vendor.product.synced", {"id": "p"}, "data.variants"),
        ("inventory.policy.updated", {"variantId": "v1", "trackInventory": "yes"}, "data.trackInventory"),
    ]
    data = await send(store, *(event(kind, given, f"e{n}") for n, (kind, given, _) in enumerate(cases)))
    assert [one["details"][0]["field"] for one in data["rejected"]] == [field for _, _, field in cases]


async def test_what_is_not_there_is_not_found(store: Caller) -> None:
    data = await send(
        store,
        stock("nobody"),
        event("vendor.product.basics.updated", {"id": "nothing", "title": "x"}, "2"),
        event("vendor.product.deleted", {"productId": "nothing"}, "3"),
    )
    assert [(one["id"], one["errorCode"]) for one in data["rejected"]] == [
        ("1", "NOT_FOUND"), ("2", "NOT_FOUND"), ("3", "NOT_FOUND")
    ]  # fmt: skip
    await send(store, synced("p", "nobody"))
    assert (await send(store, stock("nobody")))["accepted"] == 1


async def test_other_types_and_attributes_are_let_through(store: Caller) -> None:
    data = await send(
        store,
        event("vendor.order.placed", {"orderId": 7}),
        event("inventory.stock.adjusted.v2", None, "2"),
        {"specversion": "1.0", "id": "3", "source": "/shop", "type": "Vendor.Product.Deleted"},
    )
    assert data["ignored"] == 3
    rich = {
        **synced("p", "v1"), "subject": "p", "dataschema": None, "datacontenttype": "application/json; charset=utf-8",
        "time": None, "data_base64": None, "traceparent": "00-1-2-01", "comexampleextension": True,
    }  # fmt: skip
    assert (await send(store, rich))["accepted"] == 1


async def test_bodies_that_are_no_events(store: Caller) -> None:
    cases: list[tuple[Any, str, int, str]] = [
        ([synced("p")], ONE, 400, "VALIDATION_ERROR"),
        (synced("p"), MANY, 400, "VALIDATION_ERROR"),
        ("text", PLAIN, 400, "VALIDATION_ERROR"),
        (b"null", PLAIN, 400, "VALIDATION_ERROR"),
        (b"", PLAIN, 400, "VALIDATION_ERROR"),
        ([stock("v1")] * 1_001, MANY, 400, "VALIDATION_ERROR"),
        (synced("p"), "application/xml", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (synced("p"), "application/problem+json", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"{", ONE, 400, "BAD_REQUEST"),
        (b'[{"id": NaN}]', MANY, 400, "BAD_REQUEST"),
        (b'[{"id": "1", "id": "2"}]', MANY, 400, "BAD_REQUEST"),
        (b"[" * 100_000, MANY, 400, "BAD_REQUEST"),
        (b'[{"id": "\\u0000"}]', MANY, 400, "VALIDATION_ERROR"),
        (b'[{"id": "\\ud800"}]', MANY, 400, "VALIDATION_ERROR"),
        (b'[{"data": 9223372036854775808}]', MANY, 400, "VALIDATION_ERROR"),
        (b"[" + b"1" * 1_000_000 + b"]", MANY, 400, "VALIDATION_ERROR"),
        ("é".encode("latin-1"), ONE, 400, "BAD_REQUEST"),
    ]
    for body, kind, status, code in cases:
        assert_error(await post(store, body, kind), status, code)
    assert await store.data("GET", "/catalog/products") == []


async def test_who_may_send(api: Api) -> None:
    reader = await api.caller(permissions=[Permission.PRODUCTS_READ])
    assert_error(await post(reader, [synced("p")]), 403, "FORBIDDEN")
    assert_error(await post(api.nobody, [synced("p")]), 401, "UNAUTHORIZED")


async def test_a_request_can_be_repeated(store: Caller) -> None:
    body = [synced("p", "v1"), stock("v1")]
    first = await post(store, body, **{"Idempotency-Key": "k"})
    again = await post(store, body, **{"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["data"]) == (202, first.json()["data"])
    assert again.headers["idempotency-replayed"] == "true"
    assert (await post(store, body)).json()["data"]["duplicates"] == 2
