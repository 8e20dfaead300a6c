"""Feeds by address from the schedule to the catalog: a real database and a server that misbehaves."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from meta_sync.catalog.ingest import feeds_fetch
from meta_sync.catalog.ingest.feeds_policy import (
    MOST_ATTEMPTS_ONCE,
    failure_of_status,
    wait_after_failure_seconds,
    wait_once_seconds,
    wait_seconds,
)
from meta_sync.core.db import Database
from meta_sync.core.errors import NotFoundError
from meta_sync.core.queue import JobName
from tests.support.feed_server import Answer, Heard, plain, redirect
from tests.support.feeds import HEAD, PASSWORD, FeedBench, csv_feed, open_feeds, row


@pytest.fixture
async def f(database: Database) -> AsyncIterator[FeedBench]:
    async with open_feeds(database) as made:
        yield made


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
    assert (view.status, view.error_code) == ("error", "file_not_fetched")
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
