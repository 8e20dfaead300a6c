"""Feeds by address from the schedule to the catalog: a real database, a server that misbehaves, workers that die."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from meta_sync.catalog.ingest import feeds_fetch, feeds_rows
from meta_sync.catalog.ingest.feeds import FeedInput, FeedService, FeedView
from meta_sync.catalog.ingest.feeds_fetch import FeedFetcher, FetchLimits
from meta_sync.catalog.ingest.feeds_policy import (
    MOST_ATTEMPTS_ONCE,
    failure_of_status,
    wait_after_failure_seconds,
    wait_once_seconds,
    wait_seconds,
)
from meta_sync.catalog.ingest.import_runner import ImportRunner
from meta_sync.catalog.ingest.imports import ImportService, ImportView
from meta_sync.core.crypto import Cipher, generate_encryption_key
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, NotFoundError, ValidationFailedError
from meta_sync.core.queue import JobName
from meta_sync.sync.sweep import purge
from meta_sync.worker.pump import Pump
from tests.support.catalog import Bench, bench
from tests.support.feed_server import Answer, FeedServer, Heard, feed_server, plain, redirect

HEAD = "id,title,description,price,link,image_link,availability\n"
PASSWORD = "s3cret-pass"


def row(item_id: str, price: str = "1.00 USD") -> str:
    link = f"https://x.example/{item_id}"
    return f"{item_id},Title {item_id},Text,{price},{link},{link}.jpg,in stock\n"


def csv_feed(*rows: str) -> bytes:
    return (HEAD + "".join(rows)).encode()


class FeedBench:
    """A store, a server, and everything between them."""

    def __init__(self, b: Bench, server: FeedServer, key: str) -> None:
        self.b = b
        self.server = server
        self.key = key
        self.cipher = Cipher([SecretStr(key)])
        self.imports = ImportService(b.database, b.queue, max_upload_bytes=10_000_000)
        self.service = FeedService(b.database, self.cipher, server.client(), b.queue)
        self.runner = ImportRunner(b.database, b.sink, b.queue, lambda: b.now)

    def fetcher(self, **limits: Any) -> FeedFetcher:
        return FeedFetcher(
            self.b.database,
            self.cipher,
            self.server.client(),
            self.imports,
            limits=FetchLimits(**{"most_bytes": 10_000_000, "total_seconds": 5.0, **limits}),
            draw=lambda: 0.0,
        )

    def input(self, **fields: Any) -> FeedInput:
        given = {"source": "shop", "interval_seconds": 3600, **fields}
        return FeedInput(SecretStr(given.pop("url", self.server.url())), **given)

    async def create(self, **fields: Any) -> FeedView:
        return await self.service.create("s", self.input(**fields))

    async def once(self, **fields: Any) -> str:
        dry_run = fields.pop("dry_run", False)
        feed = self.input(**{"interval_seconds": None, "source": None, **fields})
        return await self.service.import_once("s", feed, dry_run=dry_run)

    async def sql(self, statement: str, **parameters: Any) -> list[Any]:
        async with self.b.database.platform() as connection:
            result = await connection.execute(text(statement), parameters)
            return list(result.all()) if result.returns_rows else []

    async def due(self) -> None:
        await self.sql("UPDATE import_feeds SET next_at = now() WHERE next_at IS NOT NULL")

    async def expire_leases(self) -> None:
        await self.sql("UPDATE import_feeds SET leased_until = now() WHERE leased_until IS NOT NULL")

    async def fetch(self, **limits: Any) -> None:
        await self.due()
        assert await self.fetcher(**limits).fetch_next()

    async def view(self, import_id: str | None) -> ImportView:
        assert import_id is not None
        return await self.imports.get("s", import_id)

    async def imports_there(self) -> list[tuple[Any, ...]]:
        found = await self.sql("SELECT status, size_bytes FROM imports ORDER BY created_at")
        return [tuple(one) for one in found]

    async def seconds_to_next(self) -> float:
        ((seconds,),) = await self.sql("SELECT extract(epoch FROM next_at - now()) FROM import_feeds")
        return float(seconds)


@pytest.fixture
async def f(database: Database) -> AsyncIterator[FeedBench]:
    async with feed_server() as server:
        made = FeedBench(bench(database), server, generate_encryption_key())
        await made.sql(
            "INSERT INTO stores (store_id, public_id, name, settings) VALUES"
            """ ('s', 's', 's', '{"currency": "USD"}'), ('t', 't', 't', '{"currency": "USD"}'),"""
            " ('bare', 'b', 'b', '{}')"
        )
        yield made


async def eventually(condition: Callable[[], bool | Awaitable[Any]]) -> None:
    deadline = asyncio.get_running_loop().time() + 20
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)


async def test_an_import_by_address_goes_all_the_way(f: FeedBench) -> None:
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a"), row("b")))
    import_id = await f.once(url=f.server.url("/feed.csv?token=s3cret"))
    assert f.b.queue.sent == [JobName.IMPORTS]
    before = await f.view(import_id)
    assert (before.status, before.file_name) == ("fetching", "feed.csv")
    assert not await f.runner.run_next()
    assert await f.fetcher().fetch_next()
    assert (await f.view(import_id)).status == "queued"
    assert not await f.fetcher().fetch_next()
    assert await f.runner.run_next()
    view = await f.view(import_id)
    assert (view.status, view.format, view.source, view.counts["created"]) == (
        "success",
        "google-csv",
        "google-csv",
        2,
    )
    assert len(f.server.heard) == 1
    # It is no feed of the store's.
    assert (await f.service.list("s")).rows == []
    ((feed_id, stored, shown),) = await f.sql("SELECT feed_id, url, shown_url FROM import_feeds")
    with pytest.raises(NotFoundError):
        await f.service.get("s", feed_id)
    assert b"s3cret" not in bytes(stored)
    assert shown == f.server.url("/feed.csv?token=***")


async def test_the_options_of_an_import_by_address_reach_it(f: FeedBench) -> None:
    import_id = await f.once(
        source="erp", format="google-csv", username="u", password=SecretStr(PASSWORD), dry_run=True,
        allow_mass_delete=True,
    )  # fmt: skip
    ((stored,),) = await f.sql("SELECT to_jsonb(i) FROM imports AS i")
    assert stored["import_id"] == import_id
    wanted = {"source": "erp", "format": "google-csv", "dry_run": True, "allow_mass_delete": True}
    assert {name: stored[name] for name in wanted} == wanted
    assert (
        await f.sql("SELECT 1 FROM import_feeds WHERE strpos(to_jsonb(import_feeds)::text, 's3cret') > 0")
        == []
    )


async def test_a_feed_is_imported_when_it_changed_and_only_then(f: FeedBench) -> None:
    content = csv_feed(row("a"))

    def answer(heard: Heard) -> bytes:
        if heard.headers.get("if-none-match") == '"1"':
            return plain(b"", 304, ETag='"1"')
        return plain(content, ETag='"1"', Last_Modified="Sun, 03 May 2026 10:00:00 GMT")

    f.server.answers["/feed.csv"] = answer
    feed = await f.create()
    assert (feed.last_result, feed.next_at is not None) == (None, True)
    assert await f.fetcher().fetch_next()
    feed = await f.service.get("s", feed.feed_id)
    assert (feed.last_result, feed.failures, feed.checked_at is not None) == ("imported", 0, True)
    assert 3590 < await f.seconds_to_next() <= 3600
    view = await f.view(feed.last_import_id)
    assert (view.status, view.source, view.size_bytes) == ("queued", "shop", len(content))

    # A feed whose import still runs waits, and asks nobody.
    await f.fetch()
    assert len(f.server.heard) == 1
    assert 20 < await f.seconds_to_next() <= 30
    assert await f.runner.run_next()

    await f.fetch()
    again = await f.service.get("s", feed.feed_id)
    assert (again.last_result, again.last_import_id) == ("not_modified", feed.last_import_id)
    assert f.server.heard[1].headers["if-none-match"] == '"1"'
    assert f.server.heard[1].headers["if-modified-since"] == "Sun, 03 May 2026 10:00:00 GMT"
    assert 3590 < await f.seconds_to_next() <= 3600

    # The same bytes from a server that knows no ETag.
    f.server.answers["/feed.csv"] = plain(content)
    await f.fetch()
    assert (await f.service.get("s", feed.feed_id)).last_result == "not_modified"
    assert len(await f.imports_there()) == 1

    f.server.answers["/feed.csv"] = plain(csv_feed(row("a", "2.00 USD"), row("b")))
    await f.fetch()
    assert await f.runner.run_next()
    changed = await f.service.get("s", feed.feed_id)
    view = await f.view(changed.last_import_id)
    assert (changed.last_result, view.counts["created"], view.counts["changed"]) == ("imported", 1, 1)


async def test_a_file_that_did_not_go_in_is_imported_again_though_it_is_the_same(f: FeedBench) -> None:
    f.server.answers["/feed.csv"] = plain(b"this is no feed\n", ETag='"1"')
    feed = await f.create()
    await f.fetch()
    seen = await f.service.get("s", feed.feed_id)
    assert seen.last_result == "error"
    assert seen.last_message == (await f.view(seen.last_import_id)).message
    await f.fetch()
    assert [status for status, _ in await f.imports_there()] == ["error", "error"]
    assert "if-none-match" not in f.server.heard[1].headers


async def test_compressed_on_the_way_is_a_compressed_file(f: FeedBench) -> None:
    packed = gzip.compress(csv_feed(row("a")))
    f.server.answers["/feed.csv"] = plain(packed, Content_Encoding="gzip")
    import_id = await f.once(format="google-csv")
    assert await f.fetcher().fetch_next()
    assert (await f.view(import_id)).size_bytes == len(packed)


async def test_failures_that_pass_are_tried_again_until_they_are_given_up(f: FeedBench) -> None:
    import_id = await f.once()
    waits = []
    for attempt in range(1, MOST_ATTEMPTS_ONCE + 1):
        f.server.answers["/feed.csv"] = plain(b"", 503) if attempt % 2 else b"HTTP/1.1 2"
        await f.fetch()
        view = await f.view(import_id)
        if attempt < MOST_ATTEMPTS_ONCE:
            assert view.status == "fetching"
            assert view.message is not None
            assert view.message.endswith("It is tried again.")
            waits.append(round(await f.seconds_to_next()))
    assert waits == [15, 60, 240, 960]
    view = await f.view(import_id)
    assert view.status == "error"
    assert view.message == "The server has a problem of its own (status 503)."
    assert view.finished_at is not None
    assert (
        await f.sql("SELECT 1 FROM import_feeds WHERE next_at IS NOT NULL OR leased_until IS NOT NULL") == []
    )

    passing = await f.once()
    f.server.answers["/feed.csv"] = plain(b"", 500)
    await f.fetch()
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a")))
    await f.fetch()
    view = await f.view(passing)
    assert (view.status, view.message) == ("queued", None)


FINAL: dict[str, tuple[Answer, str]] = {
    "404": (plain(b"", 404), "no file at this address"),
    "403": (plain(b"", 403), "refuses access"),
    "401": (plain(b"", 401), "user name"),
    "206": (plain(b"id", 206), "did not answer with a file"),
    "204": (plain(b"", 204), "did not answer with a file"),
    "304": (plain(b"", 304), "did not answer with a file"),
    "inside": (
        lambda heard: redirect(f"http://10.0.0.1:{heard.headers['host'].rpartition(':')[2]}/"),
        "private",
    ),
    "file": (redirect("file:///etc/passwd"), "must begin with http"),
    "around": (redirect("/feed.csv"), "more than 5 times"),
    "large": (plain(b"x" * 2_000), "larger than 1,000 bytes"),
}


@pytest.mark.parametrize("name", FINAL)
async def test_what_stays_wrong_ends_the_import_at_once(f: FeedBench, name: str) -> None:
    answer, words = FINAL[name]
    f.server.answers["/feed.csv"] = answer
    import_id = await f.once()
    await f.fetch(most_bytes=1_000)
    view = await f.view(import_id)
    assert view.status == "error"
    assert view.message is not None
    assert words in view.message
    assert not await f.fetcher().fetch_next()


async def test_a_name_that_leads_inside_is_refused_when_it_is_fetched(f: FeedBench) -> None:
    f.server.names["inside.example"] = ["127.0.0.1", "10.0.0.1"]
    import_id = await f.once(url=f.server.url(host="inside.example"))
    await f.fetch()
    view = await f.view(import_id)
    assert (view.status, f.server.heard) == ("error", [])
    assert view.message is not None
    assert "private or reserved network" in view.message


async def test_a_body_cut_short_makes_no_import(f: FeedBench) -> None:
    whole = plain(csv_feed(*(row(f"v{n}") for n in range(100))))
    f.server.answers["/feed.csv"] = whole[: whole.index(b"v50,")]
    feed = await f.create()
    await f.fetch()
    seen = await f.service.get("s", feed.feed_id)
    assert (seen.last_result, seen.failures, seen.last_import_id) == ("error", 1, None)
    assert seen.last_message is not None
    assert "broke off" in seen.last_message
    assert await f.imports_there() == []


async def test_a_replace_needs_a_proved_end(f: FeedBench) -> None:
    feed = await f.create(mode="replace")
    content = csv_feed(row("a"))
    f.server.answers["/feed.csv"] = b"HTTP/1.1 200 OK\r\n\r\n" + content
    await f.fetch()
    seen = await f.service.get("s", feed.feed_id)
    assert seen.last_result == "error"
    assert seen.last_message is not None
    assert "Content-Length" in seen.last_message
    f.server.answers["/feed.csv"] = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
        % (len(content), content)
    )
    await f.fetch()
    assert (await f.service.get("s", feed.feed_id)).last_result == "imported"
    await f.sql("UPDATE import_feeds SET mode = 'upsert'")
    await f.sql("UPDATE imports SET status = 'success'")
    f.server.answers["/feed.csv"] = b"HTTP/1.1 200 OK\r\n\r\n" + csv_feed(row("b"))
    await f.fetch()
    assert (await f.service.get("s", feed.feed_id)).last_result == "imported"


async def test_a_file_whose_end_is_not_proved_goes_in_with_a_remark(
    f: FeedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = HEAD.encode() + row("a").encode() + b"b,cut\n"
    f.server.answers["/feed.csv"] = b"HTTP/1.1 200 OK\r\n\r\n" + content
    import_id = await f.once()

    # Workers that die and those after them: the remark is made once.
    for place in ("feed.after_chunk", "feed.before_finish"):

        async def dies(name: str, place: str = place) -> None:
            if name == place:
                raise OSError("away")

        with monkeypatch.context() as patched:
            patched.setattr(feeds_fetch, "failpoint", dies)
            with pytest.raises(OSError, match="away"):
                await f.fetch()
        await f.expire_leases()
    await f.fetch()
    assert await f.runner.run(import_id)
    view = await f.view(import_id)
    assert (view.status, view.counts["created"], view.counts["failed"]) == ("partial", 1, 1)
    found = [one async for one in f.imports.report("s", import_id)]
    assert [(one.row, one.kind, one.rule) for one in found] == [
        (0, "warning", "unproved_end"),
        (2, "failure", "ragged_row"),
    ]
    assert found[0].message == (
        "The server did not say how long the file is, so it cannot be known whether it is whole."
    )
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a")))
    import_id = await f.once()
    await f.fetch()
    assert await f.runner.run(import_id)
    assert [one async for one in f.imports.report("s", import_id)] == []


async def test_a_slow_body_ends_with_the_time_for_it(f: FeedBench) -> None:
    drops: list[bytes | float] = [part for _ in range(500) for part in (b"x", 0.02)]
    f.server.answers["/feed.csv"] = [b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", *drops]
    import_id = await f.once()
    await f.fetch(total_seconds=0.3)
    view = await f.view(import_id)
    assert view.status == "fetching"
    assert view.message == "The server took too long to answer. It is tried again."


async def test_a_schedule_backs_off_and_is_never_faster_than_its_interval(f: FeedBench) -> None:
    feed = await f.create(interval_seconds=14_400)
    waits = []
    for _ in range(5):
        f.server.answers["/feed.csv"] = plain(b"", 404)
        await f.fetch()
        waits.append(round(await f.seconds_to_next()))
    assert waits == [14_400, 28_800, 57_600, 86_400, 86_400]
    assert (await f.service.get("s", feed.feed_id)).failures == 5
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a")))
    await f.fetch()
    seen = await f.service.get("s", feed.feed_id)
    assert (seen.failures, seen.last_message, seen.last_result) == (0, None, "imported")
    assert round(await f.seconds_to_next()) == 14_400


def test_waits() -> None:
    for draw in (0.0, 0.5, 1.0):
        for interval in (900, 3_600, 86_400, 2_592_000):
            assert interval <= wait_seconds(interval, draw) <= interval + 600
            waits = [wait_after_failure_seconds(interval, failures, draw) for failures in range(1, 40)]
            assert waits == sorted(waits)
            assert min(waits) >= interval
            assert max(waits) <= max(interval, 86_400) + 600
        assert wait_once_seconds(MOST_ATTEMPTS_ONCE, draw) is None
    passing = {status for status in range(200, 600) if failure_of_status(status).is_passing}
    assert passing == {408, 425, 429, *range(500, 600)}
    assert all(failure_of_status(status).message.endswith(").") for status in range(200, 600))


async def test_basic_authentication(f: FeedBench) -> None:
    def answer(heard: Heard) -> bytes:
        known = heard.headers.get("authorization") == "Basic dXNlcjpzM2NyZXQtcGFzcw=="
        return plain(csv_feed(row("a"))) if known else plain(b"", 401)

    f.server.answers["/feed.csv"] = answer
    feed = await f.create(username="user", password=SecretStr(PASSWORD))
    assert (feed.username, feed.has_password) == ("user", True)
    await f.fetch()
    assert (await f.service.get("s", feed.feed_id)).last_result == "imported"
    assert PASSWORD not in str(await f.sql("SELECT to_jsonb(import_feeds) FROM import_feeds"))


async def test_secrets_can_be_encrypted_anew_and_are_not_lost_in_silence(f: FeedBench) -> None:
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a")))
    feed = await f.create(username="user", password=SecretStr(PASSWORD))
    newer = generate_encryption_key()
    both = Cipher([SecretStr(newer), SecretStr(f.key)])
    async with f.b.database.platform() as connection:
        assert await feeds_rows.rotate_feed_secrets(connection, both) == 1
        assert await feeds_rows.rotate_feed_secrets(connection, both) == 0
    await f.fetch()
    seen = await f.service.get("s", feed.feed_id)
    assert seen.last_result == "error"
    assert seen.last_message is not None
    assert "encryption key is gone" in seen.last_message
    f.cipher = Cipher([SecretStr(newer)])
    await f.fetch()
    assert (await f.service.get("s", feed.feed_id)).last_result == "imported"


@pytest.mark.parametrize("status", [200, 404, 503])
async def test_an_address_fetched_once_is_forgotten_when_it_is_over(f: FeedBench, status: int) -> None:
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a")), status)
    await f.create(username="user", password=SecretStr(PASSWORD), url=f.server.url("/kept.csv"))
    await f.fetch()
    import_id = await f.once(username="user", password=SecretStr(PASSWORD))
    assert await f.fetcher().fetch_next(import_id=import_id)
    if status == 503:
        # It is needed for the next attempt, and forgotten after the last.
        ((url, password),) = await f.sql(
            "SELECT url, password FROM import_feeds WHERE interval_seconds IS NULL"
        )
        assert (len(url) > 40, len(password) > 20) == (True, True)
        for _ in range(MOST_ATTEMPTS_ONCE - 1):
            await f.sql("UPDATE import_feeds SET next_at = now() WHERE interval_seconds IS NULL")
            assert await f.fetcher().fetch_next(import_id=import_id)
    found = await f.sql(
        "SELECT url, password, shown_url, last_import_id FROM import_feeds WHERE next_at IS NULL"
    )
    assert [tuple(one) for one in found] == [(b"", None, f.server.url(), import_id)]
    newer = Cipher([SecretStr(generate_encryption_key()), SecretStr(f.key)])
    async with f.b.database.platform() as connection:
        assert await feeds_rows.rotate_feed_secrets(connection, newer) == 1
    kept = await f.sql("SELECT url, password FROM import_feeds WHERE next_at IS NOT NULL")
    assert all(len(url) > 40 and len(password) > 20 for url, password in kept)


async def test_what_a_feed_may_be(f: FeedBench) -> None:
    cases: dict[str, dict[str, Any]] = {
        "url": {"url": "ftp://shop.example/"},
        "source": {"source": "a\x00b"},
        "mode": {"mode": "nonsense"},
        "format": {"format": "nonsense"},
        "username": {"username": "a:b", "password": SecretStr("x")},
        "password": {"username": "a"},
    }
    for name, fields in cases.items():
        with pytest.raises(ValidationFailedError) as refused:
            await f.create(**fields)
        assert [detail.field for detail in refused.value.details] == [name]
    for url in ("http://127.0.0.2:{0}/", "http://10.0.0.1:{0}/", "http://shop.example:5432/"):
        with pytest.raises(ValidationFailedError):
            await f.once(url=url.format(f.server.port))
    with pytest.raises(ConflictError, match="currency"):
        await f.service.create("bare", f.input())
    with pytest.raises(ConflictError, match="currency"):
        await f.service.import_once("bare", f.input(interval_seconds=None))
    await f.create()
    with pytest.raises(ConflictError, match="of the source shop already"):
        await f.create()
    await f.service.create("t", f.input())
    await f.once(source="shop")


async def test_stores_see_only_their_own_feeds(f: FeedBench) -> None:
    feed = await f.create()
    for act in (f.service.get, f.service.delete, f.service.fetch):
        with pytest.raises(NotFoundError):
            await act("t", feed.feed_id)
    with pytest.raises(NotFoundError):
        await f.service.update("t", feed.feed_id, {"enabled": False})
    assert (await f.service.list("t")).rows == []
    assert (await f.service.list("s")).rows == [feed]


async def test_changes(f: FeedBench) -> None:
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a")), ETag='"1"')
    feed = await f.create(username="user", password=SecretStr(PASSWORD))
    await f.fetch()
    assert await f.runner.run_next()

    changed = await f.service.update("s", feed.feed_id, {"interval_seconds": 7_200})
    assert changed.interval_seconds == 7_200
    assert round(await f.seconds_to_next()) in range(7_190, 7_201)
    paused = await f.service.update("s", feed.feed_id, {"enabled": False})
    assert (paused.enabled, paused.next_at) == (False, None)
    assert not await f.fetcher().fetch_next()
    asked = await f.service.fetch("s", feed.feed_id)
    assert asked.next_at is not None
    assert await f.fetcher().fetch_next()
    after = await f.service.get("s", feed.feed_id)
    assert (after.last_result, after.next_at) == ("not_modified", None)
    resumed = await f.service.update("s", feed.feed_id, {"enabled": True})
    assert resumed.next_at is not None

    # What is fetched is something else now: nothing that was known of the old file counts.
    f.server.answers["/other.csv"] = plain(csv_feed(row("a")))
    with pytest.raises(ValidationFailedError) as refused:
        await f.service.update("s", feed.feed_id, {"url": SecretStr(f.server.url(host="other.example"))})
    assert refused.value.details[0].field == "password"
    moved = await f.service.update("s", feed.feed_id, {"url": SecretStr(f.server.url("/other.csv"))})
    assert moved.shown_url == f.server.url("/other.csv")
    assert moved.has_password
    assert await f.fetcher().fetch_next()
    heard = f.server.heard[-1]
    assert (heard.path, "if-none-match" in heard.headers) == ("/other.csv", False)
    assert "authorization" in heard.headers
    assert (await f.service.get("s", feed.feed_id)).last_result == "imported"
    cleared = await f.service.update("s", feed.feed_id, {"username": None, "password": None})
    assert (cleared.username, cleared.has_password) == (None, False)
    for name in ("url", "source", "mode", "interval_seconds", "enabled", "allow_mass_delete"):
        with pytest.raises(ValidationFailedError):
            await f.service.update("s", feed.feed_id, {name: None})
    await f.create(source="second")
    with pytest.raises(ConflictError):
        await f.service.update("s", feed.feed_id, {"source": "second"})


class Gate:
    """An answer that waits in its middle."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, _: Heard) -> bytes:
        self.reached.set()
        await self.open.wait()
        return self.answer


async def test_two_workers_never_fetch_one_feed_at_once(f: FeedBench) -> None:
    gate = Gate(plain(csv_feed(row("a"))))
    f.server.answers["/feed.csv"] = gate
    await f.create()
    await f.create(source="second")
    await f.service.create("t", f.input())
    first = asyncio.create_task(f.fetcher().fetch_next())
    await gate.reached.wait()
    # The other store's feed goes on; the same store's second one waits for the first.
    second = asyncio.create_task(f.fetcher().fetch_next())
    await eventually(lambda: len(f.server.heard) == 2)
    assert not await f.fetcher().fetch_next()
    gate.open.set()
    assert await first
    assert await second
    assert await f.fetcher().fetch_next()
    assert not await f.fetcher().fetch_next()
    assert len(f.server.heard) == 3


async def test_one_store_takes_no_second_place_in_the_same_moment(f: FeedBench) -> None:
    """Its slow servers would hold up the feeds of all other stores."""
    await f.create(source="one")
    await f.create(source="two")
    database = f.b.database

    async def leased_meanwhile() -> object:
        async with database.platform() as connection:
            return await feeds_rows.lease_feed(connection)

    async with database.platform() as connection:
        assert await feeds_rows.lease_feed(connection) is not None
        second = asyncio.create_task(leased_meanwhile())

        async def has_looked() -> bool:
            waiting = await f.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            return second.done() or bool(waiting)

        await eventually(has_looked)
    assert await second is None


async def test_a_command_fetches_its_own_and_waits_for_nobody(f: FeedBench) -> None:
    """It runs in a process of its own, so it takes no place from others' feeds."""
    f.server.answers |= {"/slow.csv": Gate(b""), "/feed.csv": plain(csv_feed(row("a")))}
    due_longest = await f.service.create("t", f.input(url=f.server.url("/slow.csv")))
    await f.create(url=f.server.url("/slow.csv"))
    under_way = asyncio.create_task(f.fetcher().fetch_next())
    other = asyncio.create_task(f.fetcher().fetch_next())
    await eventually(lambda: len(f.server.heard) == 2)
    import_id = await f.once()
    assert not await f.fetcher().fetch_next()
    assert await f.fetcher().fetch_next(import_id=import_id)
    assert (await f.view(import_id)).status == "queued"
    assert not await f.fetcher().fetch_next(import_id=import_id)
    for task in (under_way, other):
        task.cancel()
    await asyncio.gather(under_way, other, return_exceptions=True)
    assert (await f.service.get("t", due_longest.feed_id)).checked_at is None


@pytest.mark.parametrize("once", [True, False])
async def test_a_worker_that_comes_back_from_the_dead_writes_nothing(f: FeedBench, *, once: bool) -> None:
    stale = Gate(plain(csv_feed(row("old"), *(row(f"old{n}") for n in range(50)))))
    f.server.answers["/feed.csv"] = stale
    await (f.once() if once else f.create())
    frozen = asyncio.create_task(f.fetcher().fetch_next())
    await stale.reached.wait()
    await f.expire_leases()
    fresh = csv_feed(row("new"))
    f.server.answers["/feed.csv"] = plain(fresh)
    await f.fetch()
    stale.open.set()
    assert await frozen
    assert await f.imports_there() == [("queued", len(fresh))]
    ((content,),) = await f.sql("SELECT content FROM import_chunks")
    assert bytes(content) == fresh


@pytest.mark.parametrize("change", ["update", "delete", "pause"])
async def test_a_change_stops_a_fetch_that_is_under_way(f: FeedBench, change: str) -> None:
    gate = Gate(plain(csv_feed(row("a"))))
    f.server.answers["/feed.csv"] = gate
    feed = await f.create()
    fetching = asyncio.create_task(f.fetcher().fetch_next())
    await gate.reached.wait()
    if change == "delete":
        await f.service.delete("s", feed.feed_id)
    else:
        changes = {"enabled": False} if change == "pause" else {"source": "other"}
        await f.service.update("s", feed.feed_id, changes)
    gate.open.set()
    assert await fetching
    assert await f.imports_there() == []
    if change == "update":
        assert await f.fetcher().fetch_next()
        assert [status for status, _ in await f.imports_there()] == ["queued"]
    else:
        assert not await f.fetcher().fetch_next()


async def test_a_worker_that_is_stopped_gives_the_feed_back(f: FeedBench) -> None:
    gate = Gate(plain(csv_feed(row("a"))))
    f.server.answers["/feed.csv"] = gate
    import_id = await f.once()
    fetching = asyncio.create_task(f.fetcher().fetch_next())
    await gate.reached.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a")))
    assert await f.fetcher().fetch_next()
    assert (await f.view(import_id)).status == "queued"


KILLS = ("feed.after_fetch", "feed.after_chunk", "feed.before_finish", "feed.after_finish")


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("name", KILLS)
async def test_a_killed_fetch_is_taken_over(
    f: FeedBench, database_url: str, name: str, *, once: bool
) -> None:
    # More than one piece, so that a death between two of them leaves half a file.
    content = csv_feed(*(row(f"v{number}") for number in range(20_000)))
    assert len(content) > 1024 * 1024
    f.server.answers["/feed.csv"] = plain(content, ETag='"1"')
    waiting = await f.once() if once else None
    feed = None if once else await f.create()
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.feed_process", str(f.server.port),
        env={
            **os.environ,
            "META_SYNC_DATABASE_URL": database_url,
            "META_SYNC_ENCRYPTION_KEYS": f.key,
            "META_SYNC_FAILPOINTS": f"{name}=kill",
        },
    )  # fmt: skip
    assert await victim.wait() == -signal.SIGKILL
    assert not await f.fetcher().fetch_next(), "the dead worker's lease is still there"
    await f.expire_leases()
    assert await f.fetcher().fetch_next()
    if feed is not None and name == "feed.after_finish":
        # The import was in line when the worker died; the feed waits for it, and then finds nothing new.
        assert await f.runner.run_next()
        await f.fetch()
    ((status, size_bytes),) = await f.imports_there()
    assert (status, size_bytes) == (
        "success" if feed and name == "feed.after_finish" else "queued",
        len(content),
    )
    if status == "queued":
        stored = await f.sql("SELECT content FROM import_chunks ORDER BY chunk_number")
        assert b"".join(bytes(one) for (one,) in stored) == content
    if waiting is not None:
        assert (await f.view(waiting)).status == "queued"
        assert await f.sql("SELECT 1 FROM import_feeds WHERE next_at IS NOT NULL") == []
    if feed is not None:
        seen = await f.service.get("s", feed.feed_id)
        assert seen.last_result in {"imported", "not_modified"}
        assert 3590 < await f.seconds_to_next() <= 3600


async def test_half_an_import_of_a_dead_worker_does_not_stay(f: FeedBench, database_url: str) -> None:
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a")))
    feed = await f.create()
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.feed_process", str(f.server.port),
        env={
            **os.environ,
            "META_SYNC_DATABASE_URL": database_url,
            "META_SYNC_ENCRYPTION_KEYS": f.key,
            "META_SYNC_FAILPOINTS": "feed.after_chunk=kill",
        },
    )  # fmt: skip
    assert await victim.wait() == -signal.SIGKILL
    assert [status for status, _ in await f.imports_there()] == ["fetching"]
    await f.expire_leases()
    f.server.answers["/feed.csv"] = plain(b"", 404)
    assert await f.fetcher().fetch_next()
    ((status, message),) = await f.sql("SELECT status, message FROM imports")
    assert (status, message) == ("error", "There is no file at this address (status 404).")
    assert await f.sql("SELECT 1 FROM import_chunks") == []
    assert (await f.service.get("s", feed.feed_id)).last_message == message


async def test_the_worker_fetches_and_imports_by_itself(f: FeedBench) -> None:
    class Idle:
        async def drain_tick(self) -> int:
            return 0

        poll_tick = jobs_tick = drain_tick

        async def sweep_tick(self) -> None: ...

    f.server.answers["/feed.csv"] = plain(csv_feed(row("a"), row("b")))
    stop = asyncio.Event()
    pump = Pump(Idle(), f.runner, f.fetcher())
    f.b.queue.listen(pump.wake)
    running = asyncio.create_task(pump.run(stop))
    try:
        feed = await f.create()
        await eventually(lambda: f.sql("SELECT 1 FROM imports WHERE status = 'success'"))
    finally:
        stop.set()
        assert await running
    view = await f.view((await f.service.get("s", feed.feed_id)).last_import_id)
    assert view.counts["created"] == 2


async def test_idle_feeds_are_not_read(f: FeedBench) -> None:
    feed = await f.create()
    await f.sql(
        """
        INSERT INTO import_feeds (feed_id, store_id, source, shown_url, url, mode, interval_seconds, next_at)
        SELECT 'x' || n, 'x' || n % 100, n::text, '', '', 'upsert', 3600, now() + interval '1 hour'
        FROM generate_series(1, 5000) AS n
        """
    )
    await f.sql("ANALYZE import_feeds")
    async with f.b.database.platform() as connection:
        plan = await connection.execute(
            text("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + str(feeds_rows._LEASE)),
            {"seconds": 1, "import_id": None},
        )
        (found,) = plan.scalar_one()
    assert found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"] < 100
    assert (await f.service.get("s", feed.feed_id)).failures == 0


async def test_addresses_fetched_once_go_with_their_imports(f: FeedBench) -> None:
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a")))
    kept = await f.create(source="kept")
    assert await f.fetcher().fetch_next()
    await f.once()
    assert await f.fetcher().fetch_next()
    await f.once()
    await f.sql("UPDATE imports SET status = 'success', finished_at = now() WHERE status = 'queued'")

    async def swept() -> list[Any]:
        async with f.b.database.platform() as connection:
            await purge(connection)
        return await f.sql("SELECT interval_seconds, next_at IS NULL FROM import_feeds ORDER BY created_at")

    assert len(await swept()) == 3
    await f.sql("UPDATE imports SET finished_at = now() - interval '31 days' WHERE finished_at IS NOT NULL")
    assert [tuple(one) for one in await swept()] == [(3600, False), (None, False)]
    await f.sql("DELETE FROM import_feeds WHERE interval_seconds IS NULL")
    # A feed whose last import is gone still knows its file.
    await f.fetch()
    assert (await f.service.get("s", kept.feed_id)).last_result == "not_modified"
    await f.sql("UPDATE imports SET created_at = now() - interval '2 days' WHERE status = 'fetching'")
    await swept()
    assert await f.sql("SELECT 1 FROM imports WHERE status = 'fetching'") == []
