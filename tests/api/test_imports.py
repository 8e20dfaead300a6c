"""Files over HTTP: forms, raw bodies, reports, and what is refused."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from meta_sync.api import uploads
from tests.support.api import Api, Caller, assert_error

HEAD = "id,title,description,availability,condition,price,link,image_link,brand\n"


def feed(*rows: str) -> bytes:
    return (HEAD + "".join(rows)).encode()


def row(item_id: str, title: str = "Shirt", price: str = "19.99 EUR") -> str:
    return f"{item_id},{title},Good,in stock,new,{price},https://s.example/{item_id},https://s.example/i.jpg,Acme\n"


async def finished(api: Api, store: Caller, started: Any) -> Any:
    assert await api.factory.import_runner().run_next()
    return await store.data("GET", started["href"])


async def test_a_form(api: Api, store: Caller) -> None:
    started = await store.data(
        "POST", "/catalog/imports", 202,
        files={"file": ("feed.csv", feed(row("a"), row("b"), row("c", price="19.99 USD")), "text/csv")},
        data={"format": "google-csv", "mode": "upsert", "source": "main"},
    )  # fmt: skip
    assert set(started) == {"importId", "status", "href"}
    view = await finished(api, store, started)
    assert (view["status"], view["format"], view["mode"], view["source"]) == (
        "partial",
        "google-csv",
        "upsert",
        "main",
    )
    assert view["fileName"] == "feed.csv"
    assert view["progress"] == 100
    counts = view["counts"]
    assert (counts["created"], counts["failed"]) == (2, 1)
    assert (
        counts["created"] + counts["changed"] + counts["unchanged"] + counts["skipped"] + counts["failed"]
        == 3
    )
    assert [error["row"] for error in view["errors"]] == [3]
    assert {item["variantId"] for item in await store.data("GET", "/admin/meta/items")} == {"a", "b"}
    listed = await store("GET", "/catalog/imports")
    assert [one["importId"] for one in listed.json()["data"]] == [started["importId"]]
    assert listed.json()["metadata"]["total"] == 1


async def test_a_raw_body_streamed_in_odd_pieces(api: Api, store: Caller) -> None:
    content = feed(*(row(f"v{n}") for n in range(300)))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 977):
            yield content[start : start + 977]

    started = await store.data(
        "POST", "/catalog/imports?format=google-csv&source=erp&fileName=x.csv", 202, content=pieces(),
        headers={"Content-Type": "application/octet-stream"},
    )  # fmt: skip
    view = await finished(api, store, started)
    assert (view["status"], view["counts"]["created"], view["source"]) == ("success", 300, "erp")


def form(*parts: tuple[str, str, bytes]) -> dict[str, Any]:
    body = b""
    for disposition, kind, content in parts:
        body += (
            f"--edge\r\nContent-Disposition: form-data; {disposition}\r\n{kind}\r\n".encode()
            + content
            + b"\r\n"
        )
    return {
        "content": body + b"--edge--\r\n",
        "headers": {"Content-Type": "multipart/form-data; boundary=edge"},
    }


FILE = ('name="file"; filename="f.csv"', "Content-Type: text/csv\r\n", feed(row("a")))


async def test_fields_may_follow_a_file_that_is_not_large(
    api: Api, store: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = form(FILE, ('name="source"', "", b"late"))
    started = await store.data("POST", "/catalog/imports?format=google-csv", 202, **late)
    assert (await finished(api, store, started))["source"] == "late"

    monkeypatch.setattr(uploads, "_HELD_BYTES", 10)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(late["content"]), 50):
            yield late["content"][start : start + 50]

    response = await store(
        "POST", "/catalog/imports?format=google-csv", content=pieces(), headers=late["headers"]
    )
    assert assert_error(response, 400, "VALIDATION_ERROR")["details"][0]["field"] == "source"


async def test_forms_that_cannot_be_read(store: Caller) -> None:
    whole = form(FILE)
    cases: dict[str, dict[str, Any]] = {
        "no file": form(('name="format"', "", b"google-csv")),
        "two files": form(FILE, FILE),
        "cut off": {**whole, "content": whole["content"][:-20]},
        "no boundary": {**whole, "headers": {"Content-Type": "multipart/form-data"}},
        "not a form": {**whole, "content": b"hello"},
        "field too long": form(('name="source"', "", b"x" * 2_000), FILE),
        "field with NUL": form(('name="source"', "", b"a\x00b"), FILE),
        "field not UTF-8": form(('name="source"', "", b"\xff"), FILE),
        "too many parts": form(*[('name="x"', "", b"1")] * 30, FILE),
        "header too long": form((f'name="x"; y="{"z" * 10_000}"', "", b"1"), FILE),
        "empty file": form(('name="file"; filename="f.csv"', "", b"")),
        "unknown format": form(('name="format"', "", b"nonsense"), FILE),
        "unknown mode": form(('name="mode"', "", b"nonsense"), FILE),
    }
    for name, arguments in cases.items():
        response = await store("POST", "/catalog/imports", **arguments)
        assert response.status_code == 400, (name, response.text)
        assert_error(response, 400, response.json()["errorCode"])


async def test_what_is_not_offered_yet(store: Caller) -> None:
    response = await store("POST", "/catalog/imports", json={"url": "https://s.example/feed.csv"})
    assert "address" in assert_error(response, 400, "BAD_REQUEST")["message"]
    response = await store("POST", "/catalog/imports?mode=replace", content=feed(row("a")))
    assert_error(response, 409, "CONFLICT")


async def test_an_upload_that_broke_off_does_not_wait_for_ever(api: Api, store: Caller) -> None:
    whole = form(FILE)
    await store("POST", "/catalog/imports?format=google-csv", **{**whole, "content": whole["content"][:-20]})
    await store("POST", "/catalog/imports?format=google-csv", content=b"")
    async with api.world.database.platform() as connection:
        found = (await connection.execute(text("SELECT DISTINCT status FROM imports"))).scalars().all()
        left = await connection.scalar(text("SELECT count(*) FROM import_chunks"))
    assert set(found) <= {"error"}
    assert left == 0


async def test_the_report_is_safe_to_open(api: Api, store: Caller) -> None:
    content = feed(row('"=HYPERLINK(""http://evil"",""x"")"', price="free"), row("@b", price="-1"), row("ok"))
    started = await store.data(
        "POST",
        "/catalog/imports?format=google-csv",
        202,
        content=content,
        headers={"Content-Type": "text/csv"},
    )
    await finished(api, store, started)
    response = await store("GET", started["href"] + "/report")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in response.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [line["row"] for line in rows if line["kind"] == "failure"] == ["1", "2"]
    assert [line["itemId"] for line in rows][:2] == ['\'=HYPERLINK("http://evil","x")', "'@b"]
    assert not any(cell and cell[0] in "=+-@\t\r" for line in rows for cell in line.values())
    assert_error(await store("GET", "/catalog/imports/nowhere/report"), 404, "NOT_FOUND")


async def test_the_same_upload_twice_under_one_key(store: Caller) -> None:
    arguments = {
        "content": feed(row("a")),
        "headers": {"Content-Type": "text/csv", "Idempotency-Key": "up-1"},
    }
    first = await store.data("POST", "/catalog/imports?format=google-csv", 202, **arguments)
    again = await store.data("POST", "/catalog/imports?format=google-csv", 202, **arguments)
    assert first == again
    assert len(await store.data("GET", "/catalog/imports")) == 1
