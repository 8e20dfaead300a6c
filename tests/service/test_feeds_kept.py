"""What a feed may be, what is kept of it and of its secrets, and who sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from meta_sync.catalog.ingest import feeds_rows
from meta_sync.catalog.ingest.feeds_policy import (
    MOST_ATTEMPTS_ONCE,
)
from meta_sync.core.crypto import Cipher, generate_encryption_key
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, NotFoundError, ValidationFailedError
from tests.support.feed_server import Heard, plain
from tests.support.feeds import PASSWORD, FeedBench, csv_feed, open_feeds, row


@pytest.fixture
async def f(database: Database) -> AsyncIterator[FeedBench]:
    async with open_feeds(database) as made:
        yield made


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
