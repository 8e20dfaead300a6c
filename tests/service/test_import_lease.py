"""A format may read for long before its first row: the import stays the worker's own meanwhile, or is let go of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from threading import Event
from typing import BinaryIO

import pytest

from meta_sync.catalog.ingest import import_run, import_runner
from meta_sync.catalog.ingest.import_rows import give_back, lease_import
from meta_sync.catalog.ingest.rows import FormatContext, ImportedVariant, Parsed
from meta_sync.catalog.models import ProductInput, VariantInput
from meta_sync.core.db import Database
from tests.support.imports import ImportBench, feed, open_imports


class LongLook:
    """A format that looks through its whole file first, for as long as it is told."""

    name = "google-csv"

    def __init__(self) -> None:
        self.began, self.may_end = Event(), Event()
        self.was_cancelled = False

    def recognises(self, head: bytes, file_name: str | None) -> float:
        return 1.0

    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        self.began.set()
        while not self.may_end.wait(0.01):
            if context.is_cancelled():
                self.was_cancelled = True
                return
        yield ImportedVariant(1, ProductInput("a", title="T"), VariantInput("a", price=1))


@pytest.fixture
async def i(database: Database) -> AsyncIterator[ImportBench]:
    async with open_imports(database) as imports:
        yield imports


@pytest.fixture
def long_look(monkeypatch: pytest.MonkeyPatch) -> LongLook:
    look = LongLook()
    monkeypatch.setattr(import_run, "_RENEW_SECONDS", 0.05)
    monkeypatch.setattr(import_runner, "format_by_name", lambda name: look)
    return look


async def _leased_for(i: ImportBench) -> float:
    rows = await i.b.rows("SELECT extract(epoch FROM leased_until - now())::float8 FROM imports")
    return float(rows[0][0])


async def test_the_lease_is_renewed_while_a_file_is_looked_through(
    i: ImportBench, long_look: LongLook
) -> None:
    import_id = await i.uploaded(feed())
    running = asyncio.create_task(i.runner.run_next())
    await asyncio.to_thread(long_look.began.wait, 10)
    await i.sql("UPDATE imports SET leased_until = now() + interval '1 second'")
    async with asyncio.timeout(10):
        while await _leased_for(i) < 5:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)
    assert await i.runner.run_next() is False, "somebody else took it"
    long_look.may_end.set()
    assert await running
    assert (await i.service.get("s", import_id)).counts["created"] == 1


async def test_whoever_lost_the_lease_stops_looking(i: ImportBench, long_look: LongLook) -> None:
    await i.uploaded(feed())
    running = asyncio.create_task(i.runner.run_next())
    await asyncio.to_thread(long_look.began.wait, 10)
    await i.sql("UPDATE imports SET fence = fence + 1")
    async with asyncio.timeout(10):
        await running
    assert long_look.was_cancelled
    assert await i.b.rows("SELECT 1 FROM variants") == []


async def test_an_import_that_was_begun_is_not_overtaken_by_one_that_came_before_it(
    i: ImportBench, database: Database
) -> None:
    """The slower upload is the older import; begun in the middle of the other it would see half of what that does."""
    slow = await i.service.create("s", source="main")
    await i.service.append_chunk("s", slow, 0, feed(("a", "1.00 USD")))
    begun = await i.uploaded(feed(("a", "2.00 USD")), source="main")
    async with database.platform() as connection:
        assert await lease_import(connection, begun) is not None
    await i.service.finish_upload("s", slow)
    # A worker died, or writes one transaction that is longer than its lease.
    await i.expire_leases()
    assert not await i.runner.run(slow)
    async with database.platform() as connection:
        lease = await lease_import(connection, begun)
        assert lease is not None
        # Its process is stopped: the import waits as if it had not been started, and is still half-way.
        await give_back(connection, lease)
    assert not await i.runner.run(slow)
    assert await i.runner.run(begun)
    assert await i.runner.run(slow)
