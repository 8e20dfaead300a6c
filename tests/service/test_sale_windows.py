"""What a sale that ends by itself at Meta leaves for us to do: nothing at the start, nothing at the end, and some time later
an empty sale price.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from meta_sync.core import failpoints
from meta_sync.core.db import Database
from meta_sync.core.failpoints import FailpointError
from meta_sync.sync import sale_windows
from meta_sync.sync.drain import database_time
from meta_sync.sync.sale_windows import SaleWindows
from tests.support.pipeline import assert_tidy, execute, fetch, one
from tests.support.sale_windows import open_unswept_world
from tests.support.world import FAST, World, variant

_DELAY_SECONDS = 300.0
_SECOND = timedelta(seconds=1)


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_unswept_world(database, database_url) as world:
        yield world


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.disarm_all()


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
    assert [datetime.fromisoformat(bound) for bound in window.split("/")] == [start, end]

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
