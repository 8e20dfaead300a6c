"""Imports by address that are called off: before their file came, and of a feed that goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from meta_sync.catalog.ingest.import_cancel import called_off_sentence, cancel_import
from meta_sync.catalog.ingest.import_tally import Tally
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError
from tests.support.feed_server import plain
from tests.support.feeds import FeedBench, csv_feed, open_feeds, row


@pytest.fixture
async def f(database: Database) -> AsyncIterator[FeedBench]:
    async with open_feeds(database) as made:
        yield made


async def _cancel(f: FeedBench, import_id: str) -> bool:
    async with f.b.database.store("s") as connection:
        return await cancel_import(connection, "s", import_id)


async def test_called_off_before_its_file_came_nothing_is_fetched_for_it(f: FeedBench) -> None:
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a")))
    import_id = await f.once(format="google-csv")
    assert await _cancel(f, import_id)
    assert not await _cancel(f, import_id)
    while await f.fetcher().fetch_next():
        pass
    view = await f.view(import_id)
    assert (view.status, view.message, view.is_over) == (
        "cancelled",
        "The import was called off. Nothing was imported.",
        True,
    )
    assert await f.sql("SELECT 1 FROM import_chunks") == []
    assert not await f.runner.run_next()
    assert f.server.heard == []


async def test_a_feed_fetches_again_what_was_called_off(f: FeedBench) -> None:
    f.server.answers["/feed.csv"] = plain(csv_feed(row("a")))
    await f.create(format="google-csv")
    await f.fetch()
    ((import_id,),) = await f.sql("SELECT import_id FROM imports")
    assert await _cancel(f, import_id)
    await f.expire_leases()
    await f.fetch()
    statuses = await f.sql("SELECT status FROM imports ORDER BY created_at")
    assert [one for (one,) in statuses] == ["cancelled", "queued"], "the same file is no old news"
    assert await f.runner.run_next()
    assert await f.sql("SELECT variant_id FROM variants") == [("a",)]


async def test_an_upload_that_is_called_off_takes_nothing_more(f: FeedBench) -> None:
    import_id = await f.imports.create("s", format="google-csv")
    await f.imports.append_chunk("s", import_id, 0, b"id,")
    assert await _cancel(f, import_id)
    with pytest.raises(ConflictError):
        await f.imports.append_chunk("s", import_id, 1, b"title")
    with pytest.raises(ConflictError):
        await f.imports.finish_upload("s", import_id)
    await f.imports.abandon("s", import_id, "The upload broke off.")
    assert (await f.view(import_id)).status == "cancelled"


def test_the_sentence_says_what_went_in() -> None:
    unchanged = Tally(rows=40, entries=40, unchanged=40)
    assert "row 40, and no item was created or changed." in called_off_sentence(
        unchanged, replaces=False, dry_run=False
    )
    parents = Tally(rows=9, parent_entries=9)
    assert "Nothing was imported" not in called_off_sentence(parents, replaces=True, dry_run=False)
