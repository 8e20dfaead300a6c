"""The document and the service draw the same lines: what one of them allows the other does not refuse, and the reverse.

Found by schemathesis; each kind of fault has its own small test here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from meta_sync.api.app import openapi_document
from tests.api.test_feeds import FEED
from tests.support.api import Api, Caller, assert_error, product_body, tilde

DOCUMENT: dict[str, Any] = json.loads(openapi_document())


def allows(schema: str, value: Any) -> bool:
    """Whether the document allows a value where one of its schemas stands."""
    rules = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    return jsonschema_rs.is_valid(rules, value)


def _integers(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for one in value:
            yield from _integers(one)
    if isinstance(value, dict):
        if value.get("type") == "integer":
            yield value
        for one in value.values():
            yield from _integers(one)


def test_bounds_of_integers_are_integers_of_64_bits() -> None:
    bounds = [one[name] for one in _integers(DOCUMENT) for name in ("minimum", "maximum") if name in one]
    assert len(bounds) > 20
    assert {type(bound) for bound in bounds} == {int}
    assert max(bounds) == 2**63 - 1


SETTINGS = [
    ({"graphVersion": "v25.0"}, True),
    ({"graphVersion": "25"}, False),
    ({"currency": "EURO"}, False),
    ({"appId": "12 34"}, False),
    ({"appId": ""}, True),
    ({"storefrontBaseUrl": "ftp://shop.example"}, False),
    ({"storefrontBaseUrl": "https://shop.example?a"}, False),
    ({"storefrontProductPath": "product/{slug}"}, False),
    ({"storefrontProductPath": "/p/{sku}.html"}, True),
    ({"retailerIdTemplate": "{productId}"}, False),
    ({"features": ["catalog", "catalog"]}, False),
    ({"tokenExpiryAlertDays": [7, 7]}, False),
    ({"alertEmails": ["nobody"]}, False),
    ({"timezone": ""}, False),
    ({"appSecret": " "}, False),
    ({"appSecret": ""}, False),
    ({"appSecret": "x" * 4097}, False),
    ({"guardMaxShare": 0.0}, False),
    ({"batchSize": 5000}, True),
    ({"batchSize": 5001}, False),
    ({"batchSise": 1}, False),
]


async def test_settings(store: Caller) -> None:
    for patch, is_right in SETTINGS:
        assert allows("SettingsPatch", patch) is is_right, patch
        answered = await store("PATCH", "/admin/meta/settings", json=patch)
        assert answered.status_code == (200 if is_right else 400), (patch, answered.text)


VARIANTS = [
    ({"price": -1}, False),
    ({"specialPrice": 2**63}, False),
    ({"price": 2**63 - 1}, True),
    ({"images": None}, True),
    ({"options": None}, True),
    ({"options": {"Size": 42, "New": True, "Old": None}}, True),
    ({"options": {"Size": []}}, False),
    ({"availability": "soon"}, False),
    ({"availability": None}, True),
    ({"id": "a\tb"}, False),
    ({"id": "x" * 201}, False),
]


async def test_variants(store: Caller) -> None:
    for fields, is_right in VARIANTS:
        body = product_body()
        body["variants"][0].update(fields)
        assert allows("ProductBody", body) is is_right, fields
        answered = await store("PUT", "/catalog/products/p", json=body)
        assert answered.status_code == (200 if is_right else 400), (fields, answered.text)


FEEDS = [
    ({"mode": "replace"}, True),
    ({"mode": "merge"}, False),
    ({"mode": None}, False),
    ({"enabled": None}, False),
    ({"format": None}, True),
    ({"url": "ftp://shop.example/feed.csv"}, False),
    ({"intervalSeconds": 899}, False),
    ({"username": "a:b", "password": "c"}, False),
    ({"username": "", "password": "c"}, False),
    ({"username": "u" * 201, "password": "c"}, False),
    ({"username": "a", "password": "c" * 1001}, False),
    ({"username": "a", "password": "c"}, True),
]


async def test_feeds(store: Caller) -> None:
    feed = await store.data("POST", "/catalog/feeds", 201, json=FEED)
    for patch, is_right in FEEDS:
        assert allows("UpdateFeedBody", patch) is is_right, patch
        answered = await store("PATCH", feed["href"], json=patch)
        assert answered.status_code == (200 if is_right else 400), (patch, answered.text)


async def test_allow_names_what_the_document_has_at_an_address(api: Api) -> None:
    for path, operations in DOCUMENT["paths"].items():
        answered = await api.nobody("OPTIONS", path.replace("{", "").replace("}", ""))
        assert_error(answered, 405, "METHOD_NOT_ALLOWED")
        assert answered.headers["allow"] == ", ".join(sorted(method.upper() for method in operations)), path


async def test_a_product_called_batch_is_one_product(store: Caller) -> None:
    await store.data("PUT", f"/catalog/products/{tilde('batch')}", json=product_body())
    product = await store.data("GET", f"/catalog/products/{tilde('batch')}")
    assert product["href"] == f"/catalog/products/{tilde('batch')}"
    assert (await store.data("GET", product["href"]))["id"] == "batch"


async def test_a_row_that_is_no_object_is_named(store: Caller) -> None:
    result = await store.data("POST", "/catalog/products/batch", json={"products": [None, []]})
    for rejected in result["rejected"]:
        assert rejected["message"] == "body must be an object."
        assert rejected["details"] == [{"field": "body", "message": "must be an object"}]
