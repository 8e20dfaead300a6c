"""Sales that begin and end by themselves at Meta: from a feed's local times to the second at which the price flips there."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from meta_sync.catalog.ingest.import_runner import ImportRunner
from meta_sync.catalog.ingest.imports import ImportService
from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.sync.decide import decide
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.models import DecisionKind
from meta_sync.sync.outbox import OutboxSink
from meta_sync.sync.reading import read_items
from tests.support.pipeline import assert_tidy
from tests.support.sale_windows import open_unswept_world
from tests.support.world import World

_SECOND = timedelta(seconds=1)
_YEAR_ONE = "1970-01-01T00:00:00Z"
_FOR_EVER = "2099-12-31T23:59:00Z"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_unswept_world(database, database_url) as world:
        yield world


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _price_at_meta(item: dict[str, str], moment: datetime) -> str:
    """What a shopper pays, from nothing but the fields that Meta holds: the window's end is no part of it."""
    window = item.get("sale_price_effective_date")
    if not item.get("sale_price"):
        return item["price"]
    if window is None:
        return item["sale_price"]
    start, end = (datetime.fromisoformat(bound) for bound in window.split("/"))
    assert start.tzinfo is not None
    assert end.tzinfo is not None
    return item["sale_price"] if start <= moment < end else item["price"]


# Zone; id: (what the file says, first second of the sale, first second after it). The clocks of 2090 change in Berlin on
# 26 March and 29 October at 01:00 UTC, in New York on 12 March at 07:00 UTC and 5 November at 06:00 UTC, and on Lord
# Howe, by half an hour, on 2 April (15:00 UTC of the 1st) and 1 October (15:30 UTC of 30 September).
_FILES: dict[str, dict[str, tuple[str, str, str]]] = {
    "Europe/Berlin": {
        "over-spring": ("2090-03-25T12:00/2090-03-27T12:00", "2090-03-25T11:00:00Z", "2090-03-27T10:00:00Z"),
        "starts-skipped": ("2090-03-26T02:30/2090-03-26T12:00", "2090-03-26T01:30:00Z", "2090-03-26T10:00:00Z"),
        "ends-skipped": ("2090-03-25/2090-03-26T02:15", "2090-03-24T23:00:00Z", "2090-03-26T01:15:00Z"),
        "over-autumn": ("2090-10-28T12:00/2090-10-30T12:00", "2090-10-28T10:00:00Z", "2090-10-30T11:00:00Z"),
        "starts-doubled": ("2090-10-29T02:30/2090-10-29T12:00", "2090-10-29T00:30:00Z", "2090-10-29T11:00:00Z"),
        "ends-doubled": ("2090-10-01/2090-10-29T02:45", "2090-09-30T22:00:00Z", "2090-10-29T00:45:00Z"),
        "that-day": ("2090-03-26/2090-03-26", "2090-03-25T23:00:00Z", "2090-03-26T21:59:00Z"),
        "that-day-autumn": ("2090-10-29/2090-10-29", "2090-10-28T22:00:00Z", "2090-10-29T22:59:00Z"),
        "with-offset": ("2090-03-26T02:30+0100/2090-03-26T12:00Z", "2090-03-26T01:30:00Z", "2090-03-26T12:00:00Z"),
        "only-start": ("2090-03-26T02:30/", "2090-03-26T01:30:00Z", _FOR_EVER),
        "only-end": ("/2090-10-29", _YEAR_ONE, "2090-10-29T22:59:00Z"),
        "to-the-second": ("2090-03-26T01:59:59/2090-03-26T03:00:01", "2090-03-26T00:59:59Z", "2090-03-26T01:00:01Z"),
    },
    "America/New_York": {
        "over-spring": ("2090-03-11T12:00/2090-03-13T12:00", "2090-03-11T17:00:00Z", "2090-03-13T16:00:00Z"),
        "starts-skipped": ("2090-03-12T02:30/2090-03-12T12:00", "2090-03-12T07:30:00Z", "2090-03-12T16:00:00Z"),
        "over-autumn": ("2090-11-04T12:00/2090-11-06T12:00", "2090-11-04T16:00:00Z", "2090-11-06T17:00:00Z"),
        "starts-doubled": ("2090-11-05T01:30/2090-11-05T12:00", "2090-11-05T05:30:00Z", "2090-11-05T17:00:00Z"),
        "ends-doubled": ("2090-11-01/2090-11-05T01:59", "2090-11-01T04:00:00Z", "2090-11-05T05:59:00Z"),
        "that-day": ("2090-11-05/2090-11-05", "2090-11-05T04:00:00Z", "2090-11-06T04:59:00Z"),
    },
    "Australia/Lord_Howe": {
        "over-autumn": ("2090-04-01T12:00/2090-04-03T12:00", "2090-04-01T01:00:00Z", "2090-04-03T01:30:00Z"),
        "starts-doubled": ("2090-04-02T01:45/2090-04-02T12:00", "2090-04-01T14:45:00Z", "2090-04-02T01:30:00Z"),
        "over-spring": ("2090-09-30T12:00/2090-10-02T12:00", "2090-09-30T01:30:00Z", "2090-10-02T01:00:00Z"),
        "starts-skipped": ("2090-10-01T02:15/2090-10-01T12:00", "2090-09-30T15:45:00Z", "2090-10-01T01:00:00Z"),
        "ends-after-skipped": ("2090-09-30/2090-10-01T02:30", "2090-09-29T13:30:00Z", "2090-09-30T15:30:00Z"),
        "that-day": ("2090-10-01/2090-10-01", "2090-09-30T13:30:00Z", "2090-10-01T12:59:00Z"),
    },
}  # fmt: skip


def _feed(rows: dict[str, tuple[str, str, str]]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file)
    columns = "id title price sale_price sale_price_effective_date link image_link availability brand"
    writer.writerow(columns.split())
    for item_id, (window, _, _) in rows.items():
        link = f"https://shop.example/{item_id}"
        offer = ["20.00 EUR", "15.00 EUR", window]
        writer.writerow([item_id, f"Item {item_id}", *offer, link, f"{link}.jpg", "in stock", "Acme"])
    return file.getvalue().encode()


async def _import(world: World, content: bytes) -> None:
    service = ImportService(world.database, world.queue, max_upload_bytes=1_000_000)
    import_id = await service.create(world.store_id, file_name="feed.csv")
    await service.append_chunk(world.store_id, import_id, 0, content)
    await service.finish_upload(world.store_id, import_id)
    runner = ImportRunner(world.database, OutboxSink(), world.queue, utc_now)
    assert await runner.run_next()
    view = await service.get(world.store_id, import_id)
    assert view.status == "success", view


@pytest.mark.parametrize("zone", _FILES)
async def test_a_price_flips_at_the_right_second_over_a_change_of_the_clocks(world: World, zone: str) -> None:
    """From the file through the real import and pipeline to what Meta holds, against instants written by hand."""
    await world.stores.patch_settings(world.store_id, {"timezone": zone})
    await world.run()
    calls = world.calls()
    await _import(world, _feed(_FILES[zone]))
    await world.run()
    await assert_tidy(world)
    assert world.calls() == calls + 1
    held = world.at_meta()
    for item_id, (_, first, after) in _FILES[zone].items():
        seconds = [_instant(first) - _SECOND, _instant(first), _instant(after) - _SECOND, _instant(after)]
        prices = [_price_at_meta(held[item_id], moment) for moment in seconds]
        assert prices == ["20.00 EUR", "15.00 EUR", "15.00 EUR", "20.00 EUR"], (item_id, held[item_id])


@pytest.mark.parametrize("zone", _FILES)
async def test_no_call_is_wanted_until_the_window_is_over(world: World, zone: str) -> None:
    """What the drain would decide of the stored rows at each of those seconds: nothing, then one clean-up."""
    await world.stores.patch_settings(world.store_id, {"timezone": zone})
    await _import(world, _feed(_FILES[zone]))
    await world.run()
    context = await world.context()
    mapper = Mapper(context.mapping)
    async with world.database.platform() as connection:
        page = await read_items(connection, world.store_id, context.link.link_id, after=None, limit=100)
    assert len(page) == len(_FILES[zone])
    for item, state in page:
        _, first, after = _FILES[zone][item.variant_id]
        for moment in (_instant(first) - _SECOND, _instant(first), _instant(after) - _SECOND):
            if moment > datetime(2000, 1, 1, tzinfo=UTC):
                assert decide(item, state, context.link, mapper, now=moment).kind is DecisionKind.NOOP
        if item.special_price_end is not None:
            decision = decide(item, state, context.link, mapper, now=_instant(after))
            assert decision.kind is DecisionKind.UPSERT
            assert decision.cleared == {"sale_price", "sale_price_effective_date"}
