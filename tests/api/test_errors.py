"""Every failure comes in the envelope, with the status and code of its kind, and never as a 500."""

from __future__ import annotations

import json
from dataclasses import replace
from unittest.mock import AsyncMock

import httpx
import pytest
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from structlog.testing import capture_logs

from meta_sync.api.errors import error_response, service_error
from meta_sync.catalog.service import CatalogService
from meta_sync.core.db import Database
from meta_sync.core.errors import ServiceError
from tests.support.api import Api, Caller, assert_error, open_api, product_body
from tests.support.world import World


def test_a_limit_on_requests_has_its_code_and_a_time_to_come_back() -> None:
    error = service_error(HTTPException(429, "Too many requests."))
    assert (error.code, error.status) == ("RATE_LIMITED", 429)
    assert error_response(error, "r").headers["Retry-After"] == "5"


JSON = {"Content-Type": "application/json"}

POISON: dict[str, bytes] = {
    "NaN": b'{"title": NaN, "variants": []}',
    "infinity": b'{"title": -Infinity, "variants": []}',
    "deep array": b'{"title": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "65 levels": b"[" * 65 + b"]" * 65,
    "duplicate keys": b'{"title": "a", "title": "b", "variants": []}',
    "duplicate nested keys": b'{"variants": [{"id": "v", "price": 1, "price": 2}]}',
    "NUL": b'{"title": "a\\u0000b", "variants": []}',
    "NUL in a key": b'{"variants": [{"id": "v", "options": {"a\\u0000": "b"}}]}',
    "raw control character": b'{"title": "a\x00b", "variants": []}',
    "lone surrogate": b'{"title": "\\ud800", "variants": []}',
    "lone surrogate in an id": b'{"variants": [{"id": "\\udfff"}]}',
    "2^63": b'{"variants": [{"id": "v", "price": 9223372036854775808}]}',
    "-2^63-1": b'{"variants": [{"id": "v", "price": -9223372036854775809}]}',
    "a million digits": b'{"variants": [{"id": "v", "price": ' + b"9" * 1_000_000 + b"}]}",
    "1e400": b'{"variants": [{"id": "v", "price": 1e400}]}',
    "fraction": b'{"variants": [{"id": "v", "price": 19.99}]}',
    "price as text": b'{"variants": [{"id": "v", "price": "1999"}]}',
    "price as boolean": b'{"variants": [{"id": "v", "price": true}]}',
    "not UTF-8": b'{"title": "\xff\xfe", "variants": []}',
    "UTF-16": '{"title": "a", "variants": []}'.encode("utf-16"),
    "cut off": b'{"title": "a", "variants": [',
    "trailing text": b'{"title": "a", "variants": []} more',
    "empty": b"",
    "a text": b'"text"',
    "a list": b"[]",
    "null": b"null",
    "unknown field": b'{"titel": "a", "variants": []}',
    "no variants": b'{"title": "a"}',
    "time without offset": b'{"updatedAt": "2026-05-03T10:00:00", "variants": []}',
    "time as number": b'{"updatedAt": 1777777777, "variants": []}',
    "year 1 east of Greenwich": b'{"updatedAt": "0001-01-01T00:00:00+14:00", "variants": []}',
    "time from tomorrow": b'{"updatedAt": "2999-01-01T00:00:00Z", "variants": []}',
    "empty id": b'{"variants": [{"id": ""}]}',
    "id of 10,000": b'{"variants": [{"id": "' + b"x" * 10_000 + b'"}]}',
    "control character in an id": b'{"variants": [{"id": "a\\nb"}]}',
    "store of another": b'{"storeId": "store_other", "variants": []}',
    "id that is not the path's": b'{"id": "other", "variants": []}',
    "wrong status": b'{"status": "sold", "variants": []}',
    "twice the same variant": b'{"variants": [{"id": "v"}, {"id": "v"}]}',
}


async def test_poison_is_refused_and_never_ours(store: Caller) -> None:
    for name, content in POISON.items():
        response = await store("PUT", "/catalog/products/p", content=content, headers=JSON)
        assert response.status_code == 400, (name, response.text)
        body = assert_error(response, 400, response.json()["errorCode"])
        assert body["errorCode"] in {"BAD_REQUEST", "VALIDATION_ERROR"}, name
        assert_error(await store.get("/catalog/products/p"), 404, "NOT_FOUND")


async def test_poison_in_a_batch_spares_the_others_or_refuses_all(store: Caller) -> None:
    for name in ("NUL", "lone surrogate", "2^63", "unknown field", "id of 10,000", "no variants"):
        row = POISON[name].replace(b"{", b'{"id": "bad", ', 1)
        body = b'{"products": [' + row + b"," + json.dumps({"id": "good", **product_body()}).encode() + b"]}"
        response = await store("POST", "/catalog/products/batch", content=body, headers=JSON)
        assert response.status_code in {200, 400}, (name, response.text)
        if response.status_code == 200:
            assert [row["index"] for row in response.json()["data"]["rejected"]] == [0]


async def test_details_name_the_field_as_it_was_written(store: Caller) -> None:
    body = product_body("a", "b")
    body["variants"][1]["specialPrice"] = "cheap"
    error = assert_error(await store("PUT", "/catalog/products/p", json=body), 400, "VALIDATION_ERROR")
    assert error["details"] == [{"field": "variants[1].specialPrice", "message": "must be a whole number"}]
    assert "cheap" not in json.dumps(error)


async def test_sentences_call_a_value_by_its_field(store: Caller) -> None:
    bodies = {"": "must not be empty", "x" * 201: "must have at most 200 characters"}
    for name, sentence in bodies.items():
        response = await store("PUT", "/catalog/products/p", json={"variants": [{"id": name}]})
        error = assert_error(response, 400, "VALIDATION_ERROR")
        assert error["details"] == [{"field": "variants[0].id", "message": sentence}]
    token = assert_error(
        await store("POST", "/admin/meta/token", json={"accessToken": ""}), 400, "VALIDATION_ERROR"
    )
    assert token["details"] == [{"field": "accessToken", "message": "must not be empty"}]
    response = await store("GET", "/admin/meta/items?eligibleOnly=perhaps")
    query = assert_error(response, 400, "VALIDATION_ERROR")
    assert query["details"] == [{"field": "eligibleOnly", "message": "must be true or false"}]


async def test_unknown_address(store: Caller) -> None:
    for path in (
        "/nothing",
        "/catalog",
        "/catalog/products/",
        "/catalog/products/a/b",
        "//",
        "/admin/meta/items/",
    ):
        assert_error(await store.get(path), 404, "NOT_FOUND")


async def test_wrong_method_names_those_that_are_served(store: Caller) -> None:
    response = await store("PATCH", "/catalog/products/p")
    assert_error(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "DELETE, GET, PUT"
    for method in ("TRACE", "OPTIONS", "HEAD", "POST"):
        response = await store(method, "/admin/meta/status")
        assert response.status_code == 405
        assert response.headers["allow"] == "GET"


async def test_a_body_that_is_not_json_by_its_type(store: Caller) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/xml", ""):
        response = await store(
            "PUT", "/catalog/products/p", content=b'{"variants": []}', headers={"Content-Type": kind}
        )
        assert_error(response, 415, "UNSUPPORTED_MEDIA_TYPE")


async def test_compressed_bodies_are_refused(store: Caller) -> None:
    for coding in ("gzip", "br", "deflate, gzip"):
        response = await store(
            "PUT",
            "/catalog/products/p",
            content=b"\x1f\x8b" + b"0" * 100,
            headers={**JSON, "Content-Encoding": coding},
        )
        assert_error(response, 415, "UNSUPPORTED_MEDIA_TYPE")
        # A compressed file is another matter than a compressed body: it is inflated where imports are run.
        response = await store(
            "POST",
            "/catalog/imports",
            content=b"\x1f\x8b" + b"0" * 100,
            headers={"Content-Type": "application/octet-stream", "Content-Encoding": coding},
        )
        assert_error(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    response = await store(
        "PUT",
        "/catalog/products/p",
        content=json.dumps(product_body()).encode(),
        headers={**JSON, "Content-Encoding": "identity"},
    )
    assert response.status_code == 200


BAD_QUERIES = (
    "page=0", "page=-1", "page=x", "page=1.5", "page=" + "9" * 400, "limit=0", "limit=101", "limit=1000000000",
    "status=sold", "sort=price; DROP TABLE variants", "sort=-variantId", "lane=fast", "eligibleOnly=perhaps",
    "cursor=x", "cursor=%2F%2F%2F", "cursor=", "search=%00", "page=101&limit=100", "search=" + "x" * 201,
)  # fmt: skip


async def test_bad_queries(store: Caller) -> None:
    for query in BAD_QUERIES:
        error = assert_error(await store("GET", f"/admin/meta/items?{query}"), 400, "VALIDATION_ERROR")
        assert error["details"], query


async def test_ids_in_paths_that_cannot_be_read(store: Caller) -> None:
    for path in ("a%00b", "~", "~!!!", "~gA", "~AA", "~IA=="):
        response = await store("GET", f"/admin/meta/items/{path}")
        assert_error(response, response.status_code, response.json()["errorCode"])
        assert response.json()["errorCode"] in {"VALIDATION_ERROR", "NOT_FOUND"}, path


async def test_our_own_fault_says_nothing_of_our_insides(
    store: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        CatalogService, "get_product", AsyncMock(side_effect=RuntimeError("the password is hunter2"))
    )
    response = await store.get("/catalog/products/p")
    assert_error(response, 500, "INTERNAL_SERVER_ERROR")
    assert "hunter2" not in response.text
    assert "Traceback" not in response.text


async def test_a_database_that_is_away(store: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (
        ConnectionRefusedError("no"),
        OSError("unreachable"),
        TimeoutError(),
        PoolTimeoutError("QueuePool limit"),
        InterfaceError("SELECT 1", {}, Exception("connection is closed")),
        DBAPIError("SELECT 1", {}, Exception("gone"), connection_invalidated=True),
    ):
        monkeypatch.setattr(CatalogService, "get_product", AsyncMock(side_effect=error))
        response = await store.get("/catalog/products/p")
        assert_error(response, 503, "SERVICE_UNAVAILABLE")
        assert int(response.headers["retry-after"]) > 0


async def test_a_database_that_is_really_away(world: World) -> None:
    away = Database.connect("postgresql://nobody@127.0.0.1:1/nothing")
    async with open_api(replace(world, database=away)) as api:
        assert (await api.http.get("/health/live")).status_code == 200
        for path in ("/health/ready", "/admin/meta/status"):
            response = await api.http.get(path, headers={"X-API-Key": "mk_" + "x" * 43})
            assert_error(response, 503, "SERVICE_UNAVAILABLE")
            assert "127.0.0.1" not in response.text
    await away.dispose()


async def test_what_meta_said_goes_along(store: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = {
        "fbType": "OAuthException", "fbCode": 190, "fbSubcode": None, "fbTraceId": "A1", "fbMessage": "No.", "category": "authentication",
    }  # fmt: skip

    refusal = ServiceError("Meta refused.", code="meta_graph_error", status=502, meta=meta)
    monkeypatch.setattr(CatalogService, "get_product", AsyncMock(side_effect=refusal))
    error = assert_error(await store.get("/catalog/products/p"), 502, "meta_graph_error")
    assert error["meta"] == meta


async def test_the_request_id_is_taken_over_only_when_it_is_harmless(store: Caller) -> None:
    for given in ("abc-1.2_3", "x" * 128):
        response = await store("GET", "/admin/me", headers={"X-Request-Id": given})
        assert response.headers["x-request-id"] == given
    for given in ("a b", "x" * 129, "a;b", "\x1b[31m", "é"):
        response = await store("GET", "/admin/me", headers={"X-Request-Id": given.encode("latin-1")})
        assert response.headers["x-request-id"].startswith("req_")


async def test_the_log_has_one_line_without_the_query(world: World, store: Caller) -> None:
    with capture_logs() as records:
        await store("GET", "/admin/meta/items?search=a-secret&access_token=EAAsecret")
        await store("GET", "/nothing%0D%0Aforged%1B[31m")
    answered = [record for record in records if record["event"] == "A request was answered."]
    assert [record["status"] for record in answered] == [200, 404]
    assert answered[0]["path"] == "/admin/meta/items"
    assert answered[0]["store_id"] == world.store_id
    assert "secret" not in json.dumps(records, default=str)
    assert "\n" not in answered[1]["path"]
    assert "\x1b" not in answered[1]["path"]


async def test_browsers_of_configured_origins_only(api: Api) -> None:
    async with open_api(api.world, cors_origins=("https://admin.example",)) as open_to_browsers:
        http = open_to_browsers.http
        asked = {"Origin": "https://admin.example", "Access-Control-Request-Method": "PUT"}
        preflight = await http.request("OPTIONS", "/admin/meta/status", headers=asked)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == "https://admin.example"
        assert "X-Store-Id" in preflight.headers["access-control-allow-headers"]
        refused = await http.get("/admin/meta/status", headers={"Origin": "https://admin.example"})
        assert_error(refused, 401, "UNAUTHORIZED")
        assert refused.headers["access-control-allow-origin"] == "https://admin.example"
        stranger = await http.get("/admin/meta/status", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in stranger.headers
    plain: httpx.Response = await api.http.get("/health/live", headers={"Origin": "https://admin.example"})
    assert "access-control-allow-origin" not in plain.headers
