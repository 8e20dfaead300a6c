"""Files over HTTP: forms, raw bodies, reports, and what is refused."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from meta_sync.api import event_stream, uploads
from meta_sync.api.event_stream import Seen, StreamTimes
from meta_sync.core import paging, timed_list
from tests.support.api import Api, Caller, assert_error

HEAD = "id,title,description,availability,condition,price,link,image_link,brand\n"


def feed(*rows: str) -> bytes:
    return (HEAD + "".join(rows)).encode()


def row(item_id: str, title: str = "Shirt", price: str = "19.99 EUR") -> str:
    return f"{item_id},{title},Good,in stock,new,{price},https://s.example/{item_id},https://s.example/i.jpg,Acme\n"


async def finished(api: Api, store: Caller, started: Any) -> Any:
    assert await api.factory.import_runner().run_next()
    return await store.data("GET", started["href"])


async def test_a_file_may_be_called_as_its_owner_writes(store: Caller) -> None:
    name = "каталог 日本.csv"
    head = f'--edge\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    started = await store.data(
        "POST",
        "/catalog/imports",
        202,
        content=head.encode() + feed(row("a")) + b"\r\n--edge--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=edge"},
    )
    view = await store.data("GET", started["href"])
    assert view["fileName"] == name


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
        "no switch": form(('name="dryRun"', "", b"perhaps"), FILE),
        "a number for a switch": form(('name="dryRun"', "", b"0"), FILE),
    }
    for name, arguments in cases.items():
        response = await store("POST", "/catalog/imports", **arguments)
        assert response.status_code == 400, (name, response.text)
        assert_error(response, 400, response.json()["errorCode"])


async def test_a_dry_run_asked_for_in_the_query_is_one_by_address_too(store: Caller) -> None:
    started = await store.data(
        "POST", "/catalog/imports?dryRun=true&mode=replace", 202, json={"url": "https://s.example/feed.csv"}
    )
    view = await store.data("GET", started["href"])
    assert (view["dryRun"], view["mode"], view["allowMassDelete"]) == (True, "replace", False)


async def test_a_long_list_of_imports_is_read_to_its_end(
    api: Api, store: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (paging, timed_list):
        monkeypatch.setattr(module, "MAX_PAGE_ROWS", 6)
    async with api.world.database.platform() as connection:
        # Three of each moment, so that the time alone is no place.
        await connection.execute(
            text(
                "INSERT INTO imports (store_id, import_id, status, mode, created_at) SELECT :store_id, 'i' || n,"
                " 'success', 'upsert', now() - n / 3 * interval '1 minute' FROM generate_series(1, 8) AS n"
            ),
            {"store_id": api.world.store_id},
        )
    read: list[str] = []
    parameters: dict[str, Any] = {"limit": 3}
    for page in (1, None, None):
        answered = (await store.get("/catalog/imports", **parameters)).json()
        read += [one["importId"] for one in answered["data"]]
        metadata = answered["metadata"]
        assert (metadata["page"], metadata["total"], metadata["totalIsExact"]) == (page, 6, False)
        parameters["cursor"] = metadata["nextCursor"]
    assert parameters["cursor"] is None
    assert read == [f"i{number}" for number in range(1, 9)]
    second = (await store.get("/catalog/imports", limit=3, page=2)).json()
    assert [one["importId"] for one in second["data"]] == read[3:6]
    assert second["metadata"]["nextCursor"]
    deep = assert_error(await store.get("/catalog/imports", limit=3, page=3), 400, "VALIDATION_ERROR")
    assert "cursor" in deep["message"]
    # A cursor of another list or store, or one that was made up, is none of this one.
    other = await api.caller((await api.factory.stores().create("Other")).store_id)
    cursor = second["metadata"]["nextCursor"]
    for caller, path, given in (
        (other, "imports", cursor),
        (store, "feeds", cursor),
        (store, "imports", "x"),
    ):
        response = await caller.get(f"/catalog/{path}", cursor=given)
        assert assert_error(response, 400, "VALIDATION_ERROR")["details"][0]["field"] == "cursor"


async def test_a_form_does_not_take_a_switch_of_the_query_back(store: Caller) -> None:
    off = (('name="dryRun"', "", b"false"), ('name="allowMassDelete"', "", b"False"))
    started = await store.data(
        "POST", "/catalog/imports?dryRun=true&allowMassDelete=true&format=google-csv", 202, **form(*off, FILE)
    )
    view = await store.data("GET", started["href"])
    assert (view["dryRun"], view["allowMassDelete"]) == (True, True)


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
    formula = row("evil", price="free").replace("evil", '"=HYPERLINK(""http://evil"",""x"")"', 1)
    content = feed(formula, row("@b", price="-1"), row("ok"))
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


async def test_a_body_shorter_than_announced_is_no_file(api: Api, store: Caller) -> None:
    """A server in front may pass on what came before a sender died as if that were all."""
    content = feed(row("a"), row("b"))
    response = await store(
        "POST", "/catalog/imports?format=google-csv&mode=replace", content=content,
        headers={"Content-Type": "text/csv", "Content-Length": str(len(content) + 80)},
    )  # fmt: skip
    assert "were announced" in assert_error(response, 400, "BAD_REQUEST")["message"]
    assert not await api.factory.import_runner().run_next()


async def test_a_replacing_form_and_its_refusal(api: Api, store: Caller) -> None:
    ids = [f"v{n}" for n in range(10)]
    await finished(
        api, store,
        await store.data("POST", "/catalog/imports?source=main", 202, content=feed(*map(row, ids))),
    )  # fmt: skip
    half = {"file": ("feed.csv", feed(*map(row, ids[:4])), "text/csv")}
    data = {"mode": "replace", "source": "main"}
    view = await finished(
        api, store, await store.data("POST", "/catalog/imports", 202, files=half, data=data)
    )
    assert (view["status"], view["errorCode"], view["counts"]["deleted"]) == ("error", "CONFLICT", 0)
    view = await finished(
        api, store,
        await store.data("POST", "/catalog/imports", 202, files=half, data={**data, "dryRun": "true"}),
    )  # fmt: skip
    assert (view["dryRun"], view["status"], view["counts"]["deleted"]) == (True, "error", 6)
    assert len(await store.data("GET", "/catalog/products")) == 10
    view = await finished(
        api, store,
        await store.data("POST", "/catalog/imports", 202, files=half, data={**data, "allowMassDelete": "true"}),
    )  # fmt: skip
    assert (view["status"], view["allowMassDelete"], view["counts"]["deleted"]) == ("success", True, 6)
    assert len(await store.data("GET", "/catalog/products")) == 4


async def test_errors_and_report_say_the_rule_and_what_the_file_says(api: Api, store: Caller) -> None:
    content = feed(row("a", price="1.00 USD"), row("b"), row("b", title="=cmd()"), row("x" * 300))
    started = await store.data("POST", "/catalog/imports?format=google-csv", 202, content=content)
    view = await finished(api, store, started)
    told = {error["row"]: (error["rule"], error["value"]) for error in view["errors"]}
    assert told[1][0] == "wrong_currency"
    assert told[3] == ("repeated_id", "b")
    assert told[4] == ("invalid", "x" * 199 + "…")
    response = await store("GET", started["href"] + "/report")
    lines = list(csv.DictReader(io.StringIO(response.text)))
    assert list(lines[0]) == ["row", "kind", "itemId", "field", "value", "rule", "message"]
    assert {(line["row"], line["rule"], line["value"]) for line in lines} >= {("3", "repeated_id", "b")}


def events(text: str) -> list[dict[str, str]]:
    """The events of a stream, comments left out."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append(fields)
    return found


async def test_a_stream_follows_an_import_to_its_end(
    api: Api, store: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "_TIMES", StreamTimes(look=0.01, idle_look=0.01))
    started = await store.data(
        "POST", "/catalog/imports?format=google-csv", 202, content=feed(row("a"), row("b"))
    )
    response, view = await asyncio.gather(
        store("GET", started["href"] + "/stream"), finished(api, store, started)
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    told = events(response.text)
    assert [event["event"] for event in told[-1:]] == ["done"]
    assert {event["event"] for event in told[:-1]} <= {"progress"}
    assert json.loads(told[-1]["data"]) == view
    again = await store("GET", started["href"] + "/stream", headers={"Last-Event-ID": told[-1]["id"]})
    assert [event["event"] for event in events(again.text)] == ["done"]
    assert_error(await store("GET", "/catalog/imports/nowhere/stream"), 404, "NOT_FOUND")


async def _told(states: list[bytes | Exception], last: str | None = None, **times: float) -> list[str]:
    """What a stream says of an object that goes through these states, the last of which is its end."""
    left = list(states)

    async def look() -> Seen:
        state = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(state, Exception):
            raise state
        # What stands behind a colon moves by itself.
        return Seen(state, state == b"end", state.partition(b":")[0])

    given = StreamTimes(**{"look": 0.0, "idle_look": 0.0, **times})
    return [piece.decode() async for piece in event_stream.follow(look, last_event_id=last, times=given)]


async def test_a_stream_says_each_state_once_and_goes_on_after_an_outage() -> None:
    pieces = await _told([b"one", b"one:2", OSError("away"), b"one", b"two", b"end"])
    told = events("".join(pieces))
    assert [(event["event"], event["data"]) for event in told] == [
        ("progress", "one"),
        ("progress", "two"),
        ("done", "end"),
    ]
    resumed = events("".join(await _told([b"one", b"two", b"end"], last=told[0]["id"])))
    assert [event["data"] for event in resumed] == ["two", "end"]
    with pytest.raises(RuntimeError):
        await _told([b"one", RuntimeError("ours")])


async def test_a_stream_stays_alive_and_has_an_end() -> None:
    pieces = await _told([b"one"], comment=0.0, life=0.05, idle_look=0.005)
    assert pieces[0].startswith("retry: ")
    assert [event["event"] for event in events("".join(pieces))] == ["progress"]
    assert pieces.count(": still here\n\n") > 1


async def test_a_store_follows_few_imports_at_once(
    api: Api, store: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "_TIMES", StreamTimes(look=0.01, idle_look=0.01))
    streams = api.app.state.streams = event_stream.OpenStreams(most_per_store=2)
    started = await store.data("POST", "/catalog/imports?format=google-csv", 202, content=feed(row("a")))
    path = started["href"] + "/stream"

    async def open_now(number: int) -> None:
        deadline = asyncio.get_running_loop().time() + 20
        while True:
            if streams.open_of(api.world.store_id) == number:
                return
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)

    following = [asyncio.create_task(store("GET", path)) for _ in range(2)]
    await open_now(2)
    refused = await store("GET", path)
    assert "2 jobs and imports at once" in assert_error(refused, 429, "RATE_LIMITED")["message"]
    assert int(refused.headers["retry-after"]) > 0
    # Another store has its own places, and one that went away gives its place back.
    other = await api.factory.stores().create("Other")
    with streams.place(other.store_id):
        following.pop().cancel()
        await open_now(1)
    following.append(asyncio.create_task(store("GET", path)))
    await open_now(2)
    await finished(api, store, started)
    for response in await asyncio.gather(*following):
        assert (response.status_code, events(response.text)[-1]["event"]) == (200, "done")
    assert (streams.open_of(api.world.store_id), streams.open_of(other.store_id)) == (0, 0)


async def test_who_asks_again_is_told_when_nothing_moved(api: Api, store: Caller) -> None:
    started = await store.data("POST", "/catalog/imports?format=google-csv", 202, content=feed(row("a")))
    first = await store("GET", started["href"])
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    assert tag.endswith('"')
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = await store("GET", started["href"], headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    for other in ('W/"other"', tag.strip('W/"'), '""', ""):
        again = await store("GET", started["href"], headers={"If-None-Match": other})
        assert (again.status_code, again.headers["etag"], again.json()) == (200, tag, first.json())
    await finished(api, store, started)
    moved = await store("GET", started["href"], headers={"If-None-Match": tag})
    assert (moved.status_code, moved.json()["data"]["status"]) == (200, "success")
    assert moved.headers["etag"] != tag


async def test_a_tag_shows_nobody_an_import_of_another_store(api: Api, store: Caller) -> None:
    started = await store.data("POST", "/catalog/imports?format=google-csv", 202, content=feed(row("a")))
    other = await api.factory.stores().create("Other")
    for caller, status in ((api.nobody, 401), (await api.caller(other.store_id), 404)):
        response = await caller("GET", started["href"], headers={"If-None-Match": "*"})
        assert response.status_code == status


@pytest.mark.parametrize("switch", ["dryrun", "dry_run", "colour"])
async def test_a_switch_that_is_spelt_wrongly_imports_nothing(store: Caller, switch: str) -> None:
    files = {"file": ("feed.csv", feed(row("a")), "text/csv")}
    in_query = await store("POST", f"/catalog/imports?{switch}=true", files=files)
    assert_error(in_query, 400, "VALIDATION_ERROR")
    in_form = await store("POST", "/catalog/imports", files=files, data={switch: "true"})
    assert_error(in_form, 400, "VALIDATION_ERROR")
    for answer in (in_query, in_form):
        assert answer.json()["details"][0]["field"] == switch
        assert "dryRun" in answer.json()["message"]
