"""Feeds by address over HTTP: bodies, answers, what is refused, and that nothing secret comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from meta_sync.cli import catalog_commands
from tests.support.api import Api, Caller, assert_error
from tests.support.feed_server import FeedServer, Heard, feed_server, plain

CONTENT = (
    b"id,title,description,availability,condition,price,link,image_link,brand\n"
    b"a,Shirt,Good,in stock,new,19.99 EUR,https://s.example/a,https://s.example/i.jpg,Acme\n"
)
URL = "https://shop.example/feeds/google.csv?token=s3cret-token"
FEED: dict[str, Any] = {"url": URL, "source": "main", "intervalSeconds": 3600}
KEYS = {
    "feedId", "source", "shownUrl", "username", "password", "format", "mode", "allowMassDelete", "intervalSeconds",
    "enabled", "nextAt", "checkedAt", "lastResult", "lastMessage", "lastImportId", "failures", "createdAt", "updatedAt",
    "href",
}  # fmt: skip


@pytest.fixture
async def server(api: Api) -> AsyncIterator[FeedServer]:
    async with feed_server() as server:
        api.context.outbound = server.client()
        yield server


async def test_an_import_by_address(api: Api, store: Caller, server: FeedServer) -> None:
    def answer(heard: Heard) -> bytes:
        return plain(CONTENT) if heard.headers.get("authorization") == "Basic dTpw" else plain(b"", 401)

    server.answers["/feed.csv"] = answer
    body = {"url": server.url(), "source": "erp", "username": "u", "password": "p", "mode": "upsert"}
    started = await store.data("POST", "/catalog/imports", 202, json=body)
    assert set(started) == {"importId", "status", "href"}
    assert started["status"] == "fetching"
    assert await api.factory.feed_fetcher().fetch_next()
    assert await api.factory.import_runner().run_next()
    view = await store.data("GET", started["href"])
    assert (view["status"], view["source"], view["fileName"]) == ("success", "erp", "feed.csv")
    assert view["counts"]["created"] == 1


async def test_the_command_fetches_its_own_address(api: Api, store: Caller, server: FeedServer) -> None:
    async def away(_: Heard) -> bytes:
        await asyncio.Event().wait()
        return b""

    server.answers |= {"/slow.csv": away, "/feed.csv": plain(CONTENT)}
    await store.data("POST", "/catalog/feeds", 201, json={**FEED, "url": server.url("/slow.csv")})
    started = await store.data("POST", "/catalog/imports", 202, json={"url": server.url()})
    async with asyncio.timeout(30):
        view = await catalog_commands._run_to_end(
            api.factory, api.world.store_id, started["importId"], quiet=True
        )
    assert view.status == "success"
    assert [heard.path for heard in server.heard] == ["/feed.csv"]


async def test_a_fetch_that_fails_says_why(api: Api, store: Caller, server: FeedServer) -> None:
    started = await store.data("POST", "/catalog/imports", 202, json={"url": server.url("/none.csv")})
    assert await api.factory.feed_fetcher().fetch_next()
    view = await store.data("GET", started["href"])
    assert (view["status"], view["message"]) == ("error", "There is no file at this address (status 404).")


async def test_the_query_completes_the_body(store: Caller) -> None:
    started = await store.data(
        "POST", "/catalog/imports?source=query&format=google-csv", 202, json={"url": URL, "source": "body"}
    )
    view = await store.data("GET", started["href"])
    assert (view["source"], view["format"]) == ("body", "google-csv")


async def test_a_switch_is_on_wherever_it_was_asked_for_and_null_says_nothing(store: Caller) -> None:
    query = "?dryRun=true&allowMassDelete=true&source=query&mode=replace"
    for said in (False, None):
        body = {"url": URL, "dryRun": said, "allowMassDelete": said, "source": None, "mode": None}
        started = await store.data("POST", f"/catalog/imports{query}", 202, json=body)
        view = await store.data("GET", started["href"])
        assert (view["dryRun"], view["allowMassDelete"]) == (True, True)
        assert (view["source"], view["mode"]) == ("query", "replace")
    body = {"url": URL, "dryRun": True}
    started = await store.data("POST", "/catalog/imports?dryRun=false", 202, json=body)
    assert (await store.data("GET", started["href"]))["dryRun"]
    # What is no switch at all is refused, whatever the query says.
    for word in ("no", "", 0):
        wrong = await store("POST", f"/catalog/imports{query}", json={"url": URL, "dryRun": word})
        assert assert_error(wrong, 400, "VALIDATION_ERROR")["details"][0]["field"] == "dryRun"


async def test_the_same_key_begins_one_import(store: Caller) -> None:
    again = {"json": {"url": URL}, "headers": {"Idempotency-Key": "once"}}
    first = await store.data("POST", "/catalog/imports", 202, **again)
    assert await store.data("POST", "/catalog/imports", 202, **again) == first
    assert (await store("GET", "/catalog/imports")).json()["metadata"]["total"] == 1
    # As many bytes, but another file.
    again["json"] = {"url": URL.replace("feed", "deef")}
    assert len(again["json"]["url"]) == len(URL) != 0
    assert again["json"]["url"] != URL
    assert_error(await store("POST", "/catalog/imports", **again), 409, "CONFLICT")


BAD_IMPORTS: dict[str, tuple[Any, str]] = {
    "no url": ({}, "url"),
    "url is no text": ({"url": 5}, "url"),
    "unknown field": ({"url": URL, "uri": "x"}, "uri"),
    "loopback": ({"url": "http://127.0.0.1/"}, "url"),
    "octal": ({"url": "http://0177.0.0.1/"}, "url"),
    "metadata": ({"url": "http://169.254.169.254/latest"}, "url"),
    "mapped": ({"url": "http://[::ffff:10.0.0.1]/"}, "url"),
    "file": ({"url": "file:///etc/passwd"}, "url"),
    "port": ({"url": "http://shop.example:5432/"}, "url"),
    "userinfo": ({"url": "https://user:pw@shop.example/"}, "url"),
    "control": ({"url": "https://shop.example/\u0001"}, "url"),
    "mode": ({"url": URL, "mode": "sometimes"}, "mode"),
    "format": ({"url": URL, "format": "vhs"}, "format"),
    "empty source": ({"url": URL, "source": ""}, "source"),
    "password alone": ({"url": URL, "password": "s3cret-pass"}, "username"),
    "dryRun": ({"url": URL, "dryRun": "yes"}, "dryRun"),
}


@pytest.mark.parametrize("name", BAD_IMPORTS)
async def test_imports_by_address_that_are_refused(store: Caller, name: str) -> None:
    body, field = BAD_IMPORTS[name]
    error = assert_error(await store("POST", "/catalog/imports", json=body), 400, "VALIDATION_ERROR")
    assert [detail["field"] for detail in error["details"]] == [field]
    assert "s3cret" not in str(error)


async def test_bodies_that_are_no_object_or_no_json(store: Caller) -> None:
    for content in (b"[]", b'"https://shop.example/"', b"{", b"", b"\xff", b'{"url": 1, "url": 2}'):
        response = await store(
            "POST", "/catalog/imports", content=content, headers={"Content-Type": "application/json"}
        )
        assert response.status_code == 400, content
        assert_error(response, 400, response.json()["errorCode"])
    large = await store("POST", "/catalog/imports", json={"url": URL, "source": "x" * 100_000})
    assert "application/octet-stream" in assert_error(large, 413, "PAYLOAD_TOO_LARGE")["message"]


async def test_the_life_of_a_feed(api: Api, store: Caller, server: FeedServer) -> None:
    server.answers["/feed.csv"] = plain(CONTENT, ETag='"1"')
    body = {
        **FEED,
        "url": server.url("/feed.csv?token=s3cret-token"),
        "username": "u",
        "password": "s3cret-pass",
    }
    response = await store("POST", "/catalog/feeds", json=body)
    assert response.status_code == 201, response.text
    feed = response.json()["data"]
    assert set(feed) == KEYS
    assert feed["shownUrl"] == server.url("/feed.csv?token=***")
    assert (feed["username"], feed["password"]) == ("u", "configured")
    assert (feed["mode"], feed["enabled"], feed["lastResult"], feed["failures"]) == ("upsert", True, None, 0)
    assert await api.factory.feed_fetcher().fetch_next()
    read = await store.data("GET", feed["href"])
    assert (read["lastResult"], read["checkedAt"] is not None) == ("imported", True)
    assert await api.factory.import_runner().run_next()
    assert (await store.data("GET", f"/catalog/imports/{read['lastImportId']}"))["status"] == "success"
    listed = await store("GET", "/catalog/feeds")
    assert listed.json()["data"] == [read]
    assert listed.json()["metadata"]["total"] == 1

    asked = await store.data("POST", f"{feed['href']}/fetch", 202)
    assert asked["nextAt"] < read["nextAt"]
    changed = await store.data(
        "PATCH",
        feed["href"],
        json={"intervalSeconds": 900, "enabled": False, "username": None, "password": None},
    )
    assert (changed["intervalSeconds"], changed["nextAt"], changed["password"]) == (900, None, None)
    everything = [listed.text, str(read), str(asked), str(changed), response.text]
    assert not any("s3cret" in one for one in everything)
    assert await store.data("DELETE", feed["href"]) == {"feedId": feed["feedId"], "deleted": True}
    for method in ("GET", "DELETE"):
        assert_error(await store(method, feed["href"]), 404, "NOT_FOUND")
    assert_error(await store("PATCH", feed["href"], json={}), 404, "NOT_FOUND")
    assert_error(await store("POST", f"{feed['href']}/fetch"), 404, "NOT_FOUND")


BAD_FEEDS: dict[str, tuple[dict[str, Any], str]] = {
    "no source": ({"source": None}, "source"),
    "too often": ({"intervalSeconds": 899}, "intervalSeconds"),
    "too seldom": ({"intervalSeconds": 2_592_001}, "intervalSeconds"),
    "no number": ({"intervalSeconds": "3600"}, "intervalSeconds"),
    "url": ({"url": "http://localhost/"}, "url"),
    "enabled": ({"enabled": 1}, "enabled"),
    "username": ({"username": "a:b", "password": "x"}, "username"),
    "dry runs are for imports": ({"dryRun": True}, "dryRun"),
}


@pytest.mark.parametrize("name", BAD_FEEDS)
async def test_feeds_that_are_refused(store: Caller, name: str) -> None:
    fields, field = BAD_FEEDS[name]
    error = assert_error(
        await store("POST", "/catalog/feeds", json={**FEED, **fields}), 400, "VALIDATION_ERROR"
    )
    assert [detail["field"] for detail in error["details"]] == [field]


async def test_one_feed_per_source(store: Caller) -> None:
    feed = await store.data("POST", "/catalog/feeds", 201, json=FEED)
    assert_error(await store("POST", "/catalog/feeds", json=FEED), 409, "CONFLICT")
    second = await store.data("POST", "/catalog/feeds", 201, json={**FEED, "source": "second"})
    assert_error(await store("PATCH", second["href"], json={"source": "main"}), 409, "CONFLICT")
    for fields, field in (
        ({"url": "http://10.0.0.1/"}, "url"),
        ({"url": None}, "url"),
        ({"intervalSeconds": None}, "intervalSeconds"),
        ({"intervalSeconds": 1}, "intervalSeconds"),
        ({"mode": "x"}, "mode"),
        ({"nextAt": None}, "nextAt"),
        ({"password": "x"}, "username"),
    ):
        error = assert_error(await store("PATCH", feed["href"], json=fields), 400, "VALIDATION_ERROR")
        assert [detail["field"] for detail in error["details"]] == [field]
    assert await store.data("PATCH", feed["href"], json={}) == feed


async def test_pages_of_feeds(store: Caller) -> None:
    for number in range(3):
        await store.data("POST", "/catalog/feeds", 201, json={**FEED, "source": f"s{number}"})
    page = (await store.get("/catalog/feeds", page=2, limit=2)).json()
    assert [one["source"] for one in page["data"]] == ["s2"]
    assert (page["metadata"]["total"], page["metadata"]["totalIsExact"]) == (3, True)
    assert page["metadata"]["nextCursor"] is None
    first = (await store.get("/catalog/feeds", limit=2)).json()
    second = (await store.get("/catalog/feeds", limit=2, cursor=first["metadata"]["nextCursor"])).json()
    assert second["data"] == page["data"]
    assert (second["metadata"]["page"], second["metadata"]["nextCursor"]) == (None, None)
