"""Sales that begin and end by themselves at Meta: from a feed's local times to the second at which the price flips there.

And what is left for us to do: nothing at the start, nothing at the end, and some time later an empty sale price.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from meta_sync.catalog.ingest.import_runner import ImportRunner
from meta_sync.catalog.ingest.imports import ImportService
from meta_sync.core import failpoints
from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.core.failpoints import FailpointError
from meta_sync.sync import sale_windows
from meta_sync.sync.decide import decide
from meta_sync.sync.drain import database_time
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.models import DecisionKind
from meta_sync.sync.outbox import OutboxSink
from meta_sync.sync.reading import read_items
from meta_sync.sync.sale_windows import SaleWindows
from tests.support.pipeline import assert_tidy, execute, fetch, one
from tests.support.world import FAST, World, open_world, variant

_DELAY_SECONDS = 300.0
_SECOND = timedelta(seconds=1)
_YEAR_ONE = "1970-01-01T00:00:00Z"
_FOR_EVER = "2099-12-31T23:59:00Z"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.run()
        # Nothing is swept by the ticks of a test: it sweeps when it says so.
        world.timing = replace(FAST, sale_delay_seconds=3600.0)
        await execute(
            world, "UPDATE schedules SET next_at = now() + interval '1 h' WHERE name = 'sale_windows'"
        )
        yield world


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.disarm_all()


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


async def _now(world: World) -> datetime:
    async with world.database.platform() as connection:
        return await database_time(connection)


async def test_a_sale_begins_and_ends_without_a_call_and_is_emptied_later(world: World) -> None:
    """In real time, by the database's clock: a moment before the sale, the sale, the delay, then the clean-up."""
    world.timing = replace(FAST, sale_delay_seconds=1.0)
    await execute(world, "UPDATE schedules SET next_at = now() WHERE name = 'sale_windows'")
    pipeline = world.pipeline()
    # A machine that is too slow to see a sale of a second is given a longer one.
    for seconds in (1, 10, 60):
        start = (await _now(world)).replace(microsecond=0) + timedelta(seconds=seconds)
        end = start + timedelta(seconds=seconds)
        sale = {"special_price": 1000, "special_price_start": start, "special_price_end": end}
        await world.put("p", variant("a", 2000, **sale), variant("b", 2000))
        await world.run(pipeline)
        calls = world.calls()
        if await _now(world) < end:
            break
    else:
        pytest.fail("too slow to see anything")
    window = world.at_meta()["a"]["sale_price_effective_date"]
    assert [_instant(bound) for bound in window.split("/")] == [start, end]

    async def called_or(moment: datetime) -> bool:
        return world.calls() > calls or await _now(world) >= moment

    await world.run(pipeline, until=lambda: called_or(end + timedelta(seconds=0.9)))
    assert world.calls() == calls, "neither at the start nor at the end"
    assert world.at_meta()["a"]["sale_price"] == "10.00 EUR"
    await world.run(pipeline, until=lambda: world.calls() > calls)
    assert await _now(world) >= end + _SECOND
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.calls() == calls + 1
    assert "sale_price" not in world.at_meta()["a"]
    assert await one(world, "SELECT count(*) FROM batch_items WHERE variant_id = 'b'") == 1


async def _sell(world: World, count: int = 5, *, special: int = 1000) -> None:
    """Items with a sale that Meta knows and that ends in an hour, all at the same instant."""
    end = (await _now(world)).replace(microsecond=0) + timedelta(hours=1)
    variants = [
        variant(f"v{number}", 2000, special_price=special, special_price_end=end) for number in range(count)
    ]
    await world.put("p", *variants)
    await world.run()
    await _sweep(world)
    assert await _waiting(world) == {}


async def _time_passes(world: World, minutes: float = 60) -> None:
    """As if the clock had moved on: what is stored lies that much further back, and nobody is told."""
    await execute(
        world,
        "UPDATE store_queue SET sales_swept_to = sales_swept_to - make_interval(secs => :seconds)",
        seconds=minutes * 60,
    )
    await execute(
        world,
        "UPDATE variants SET special_price_end = special_price_end - make_interval(secs => :seconds)",
        seconds=minutes * 60,
    )


async def _sweep(world: World) -> int:
    """Sweep until there is nothing more; how many times it took."""
    sweeps = 1
    while await SaleWindows(world.database, delay_seconds=_DELAY_SECONDS).sweep():
        sweeps += 1
    return sweeps


async def _waiting(world: World) -> dict[str, tuple[int, bool]]:
    rows = await fetch(world, "SELECT variant_id, lane, job_id IS NOT NULL FROM intents")
    return {row[0]: (row[1], row[2]) for row in rows}


async def test_a_window_is_looked_at_once_and_some_minutes_late(world: World) -> None:
    await _sell(world)
    await _time_passes(world, 64)
    await _sweep(world)
    assert await _waiting(world) == {}, "over for less than the delay"
    await _time_passes(world, 2)
    await execute(world, "UPDATE store_queue SET due_at = NULL")
    await _sweep(world)
    assert await _waiting(world) == {f"v{number}": (2, True) for number in range(5)}
    assert await one(world, "SELECT due_at <= now() FROM store_queue") is True
    await world.run()
    await assert_tidy(world)
    assert not any("sale_price" in item for item in world.at_meta().values())
    await _sweep(world)
    assert await _waiting(world) == {}


async def test_windows_that_end_at_one_instant_are_not_skipped_between_pages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sale_windows, "_PAGE", 2)
    await _sell(world)
    await _time_passes(world, 120)
    assert await _sweep(world) == 3
    assert set(await _waiting(world)) == {f"v{number}" for number in range(5)}
    await world.run()
    await assert_tidy(world)


async def test_a_sweep_that_dies_between_pages_goes_on_where_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sale_windows, "_PAGE", 2)
    await _sell(world)
    await _time_passes(world, 120)
    failpoints.arm("sale_windows.after_page", "raise@1")
    with pytest.raises(FailpointError):
        await _sweep(world)
    assert set(await _waiting(world)) == {"v0", "v1"}
    versions = await fetch(world, "SELECT variant_id, version FROM intents ORDER BY 1")
    await _sweep(world)
    assert set(await _waiting(world)) == {f"v{number}" for number in range(5)}
    assert (await fetch(world, "SELECT variant_id, version FROM intents ORDER BY 1"))[:2] == versions
    await world.run()
    await assert_tidy(world)


async def test_the_watermark_and_the_intents_are_one_transaction(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _sell(world)
    await _time_passes(world, 120)
    before = await fetch(world, "SELECT sales_swept_to, sales_swept_id FROM store_queue")

    async def dies(*_: object) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(sale_windows, "mark_due", dies)
    with pytest.raises(ConnectionError):
        await _sweep(world)
    assert await fetch(world, "SELECT sales_swept_to, sales_swept_id FROM store_queue") == before
    assert await _waiting(world) == {}


async def test_two_workers_sweep_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sale_windows, "_PAGE", 2)
    await _sell(world)
    await _time_passes(world, 120)
    await asyncio.gather(*(_sweep(world) for _ in range(4)))
    await _sweep(world)
    assert set(await _waiting(world)) == {f"v{number}" for number in range(5)}
    await world.run()
    await assert_tidy(world)


async def test_a_watermark_that_another_worker_moved_is_left(world: World) -> None:
    """A worker that stood still must not set it back, or forth over what it has not looked at."""
    await _sell(world)
    await _time_passes(world, 120)
    async with world.database.platform() as connection:
        rows = (await connection.execute(sale_windows._STORES, {"delay_seconds": _DELAY_SECONDS})).all()
    stale = sale_windows._Store(*rows[0])
    await _sweep(world)
    await world.run()
    moved = await fetch(world, "SELECT sales_swept_to, sales_swept_id FROM store_queue")
    await SaleWindows(world.database, delay_seconds=_DELAY_SECONDS)._page(stale)
    assert await fetch(world, "SELECT sales_swept_to, sales_swept_id FROM store_queue") == moved
    assert await _waiting(world) == {}


@pytest.mark.parametrize("patch", [{"syncEnabled": False}, {"feedMode": "preview"}])
async def test_a_store_that_stands_still_meanwhile(world: World, patch: dict[str, object]) -> None:
    await _sell(world)
    await world.stores.patch_settings(world.store_id, patch)
    await _time_passes(world, 120)
    await _sweep(world)
    calls = world.calls()
    pipeline = world.pipeline()
    for _ in range(3):
        await pipeline.drain_tick()
        await pipeline.sweep_tick()
    assert world.calls() == calls
    await world.stores.patch_settings(world.store_id, {"syncEnabled": True, "feedMode": "live"})
    await world.run(pipeline)
    await assert_tidy(world)
    assert not any("sale_price" in item for item in world.at_meta().values())


async def test_the_first_walk_begins_at_the_first_window_there_ever_was(world: World) -> None:
    """Before there was a watermark, a sale may have ended and stayed at Meta; one look each finds those."""
    await _sell(world)
    await world.put(
        "q", variant("quiet", 500, special_price=400, special_price_end=datetime(2020, 1, 1, tzinfo=UTC))
    )
    await world.run()
    await _time_passes(world, 100_000)
    await execute(world, "UPDATE store_queue SET sales_swept_to = NULL, sales_swept_id = ''")
    calls = world.calls()
    await _sweep(world)
    assert len(await _waiting(world)) == 6
    await world.run()
    await assert_tidy(world)
    assert world.calls() == calls + 1
    assert await one(world, "SELECT count(*) FROM batch_items WHERE variant_id = 'quiet'") == 1


async def test_a_store_without_ended_windows_is_not_written_to(world: World) -> None:
    await _sell(world)
    before = await one(world, "SELECT xmin::text FROM store_queue")
    await _sweep(world)
    assert await one(world, "SELECT xmin::text FROM store_queue") == before


async def test_an_item_in_flight_with_the_old_payload(world: World) -> None:
    """The intent is parked under the batch, and decided afresh when that is over."""
    await _sell(world, 1)
    await world.put("p", variant("v0", 1900, special_price=1000, special_price_end=await _in_an_hour(world)))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    assert (await world.states())["v0"]["in_flight"] is not None
    await _time_passes(world, 120)
    await _sweep(world)
    await pipeline.drain_tick()
    assert await one(world, "SELECT parked_by IS NOT NULL FROM intents") is True
    assert world.calls() == 2
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.calls() == 3
    assert "sale_price" not in world.at_meta()["v0"]


async def _in_an_hour(world: World) -> datetime:
    return (await _now(world)).replace(microsecond=0) + timedelta(hours=1)


async def test_an_item_that_waits_keeps_its_place_and_is_decided_by_the_later_clock(world: World) -> None:
    """Pending with a change: its intent is looked at as it is; a turn that read it before takes another number."""
    await _sell(world, 1)
    await world.put("p", variant("v0", 1900, special_price=1000, special_price_end=await _in_an_hour(world)))
    before = await one(world, "SELECT version, lane, first_at, job_id FROM intents")
    await _time_passes(world, 120)
    await _sweep(world)
    after = await one(world, "SELECT version, lane, first_at, job_id FROM intents")
    assert after[0] > before[0]
    assert after[1:] == before[1:]
    await world.run()
    await assert_tidy(world)
    assert world.calls() == 2


async def test_what_meta_refused_goes_again_only_where_the_payload_changes(world: World) -> None:
    """The end of a sale is no change that a person made: the same payload is not sent again for it."""
    end = await _in_an_hour(world)
    world.sandbox.refuse("sale", "No.")
    world.sandbox.refuse("none", "No.")
    await world.put("p", variant("sale", 2000, special_price=1000, special_price_end=end))
    await world.put("q", variant("none", 2000, special_price=3000, special_price_end=end))
    await world.run()
    assert {one: state["status"] for one, state in (await world.states()).items()} == {
        "sale": "failed",
        "none": "failed",
    }
    await _time_passes(world, 120)
    await _sweep(world)
    assert len(await _waiting(world)) == 2
    await world.run()
    sent = dict(await fetch(world, "SELECT variant_id, count(*) FROM batch_items GROUP BY 1"))
    assert sent == {"sale": 2, "none": 1}


async def test_a_window_that_was_moved_or_whose_variant_is_gone(world: World) -> None:
    await _sell(world, 3)
    await _time_passes(world, 120)
    end = await _in_an_hour(world)
    # One is prolonged after its end and before the sweep, one deleted.
    await world.put("p", variant("v0", 2000, special_price=1000, special_price_end=end), variant("v2", 2000))
    await world.run()
    await _sweep(world)
    assert await _waiting(world) == {}
    await assert_tidy(world)
    assert "sale_price" in world.at_meta()["v0"]
    assert set(world.at_meta()) == {"v0", "v2"}
