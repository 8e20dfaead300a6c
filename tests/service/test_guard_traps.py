"""Ways in which a hold could last for ever, or keep back what nobody asked it to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from meta_sync.core.db import Database
from meta_sync.core.errors import NotFoundError
from meta_sync.sync import guard_decide
from meta_sync.sync.decide import decide
from meta_sync.sync.distrust import DistrustService
from meta_sync.sync.guard import GuardKind
from meta_sync.sync.holds import HoldState
from meta_sync.sync.models import DecisionKind
from meta_sync.sync.removal import RemovalService
from tests.service.test_guard import _IN, _OUT, Shop
from tests.support.pipeline import assert_tidy, execute, fetch, one
from tests.support.world import open_world, product, variant


@pytest.fixture
async def shop(database: Database, database_url: str) -> AsyncIterator[Shop]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.stores.patch_settings(world.store_id, {"guardMinItems": 5})
        shop = Shop(world)
        await shop.put(*range(10))
        await world.run()
        await execute(world, "UPDATE batches SET created_at = created_at - interval '2 hours'")
        yield shop


async def test_a_little_of_a_kind_goes_out_beside_many_that_another_hold_keeps_back(shop: Shop) -> None:
    """Those of both kinds wait under the first hold; they must not keep the second kind from everybody."""
    await shop.stock(*range(6), **_OUT)
    await shop.put(*range(6), price=1)
    await shop.run()
    assert (await shop.only()).items == 60
    # More than one call can take, so that no turn sees all that is ready.
    await shop.world.stores.patch_settings(shop.store_id, {"batchSize": 5})
    await shop.put(6, 7, price=2500)
    pipeline = shop.world.pipeline()
    for _ in range(60):
        await pipeline.drain_tick()
        await pipeline.jobs_tick()
        await pipeline.poll_tick()
    prices = [one["price"] for one in shop.world.at_meta().values()]
    assert prices.count("25.00 EUR") == 20
    assert await one(shop.world, "SELECT count(*) FROM holds WHERE kind = 'price'") <= 2
    # What waits under the first hold is still counted once that is released.
    held = await shop.only()
    await shop.settle(await shop.release(held))
    second = (await shop.holds.list(shop.store_id)).holds[0]
    assert (second.kind, second.state, second.items) == (GuardKind.PRICE, HoldState.HELD, 60)


async def test_little_of_two_kinds_at_once_is_counted_once_for_each(shop: Shop) -> None:
    """Each kind meets items that wait under the count of the other; neither may doubt the other for ever."""
    await shop.world.stores.patch_settings(shop.store_id, {"batchSize": 5})
    await shop.stock(0, 1, **_OUT)
    await shop.put(0, 1, price=2500)
    await shop.stock(*range(2, 10), **_IN)
    await shop.run()
    at_meta = shop.world.at_meta().values()
    assert sum(one["price"] == "25.00 EUR" for one in at_meta) == 20
    assert sum(one["availability"] == "out of stock" for one in at_meta) == 20
    assert (await shop.holds.list(shop.store_id)).holds == []
    counts = await fetch(shop.world, "SELECT kind, count(*) FROM holds GROUP BY 1")
    assert {kind for kind, _ in counts} == {"price", "out_of_stock"}
    assert all(times <= 3 for _, times in counts), counts
    await assert_tidy(shop.world)


async def test_what_a_released_hold_frees_is_counted_by_the_other_kind(shop: Shop) -> None:
    """Also where that was counted, and found to be little, while the first hold had it."""
    await shop.stock(*range(6), **_OUT)
    await shop.put(*range(6), price=1)
    await shop.run()
    first = await shop.only()
    kept = await fetch(shop.world, "SELECT kind, items, elsewhere_items FROM guard_counts")
    assert kept == [("price", 0, 60)]
    await shop.settle(await shop.release(first))
    assert {one["price"] for one in shop.world.at_meta().values()} == {"19.99 EUR"}
    assert {hold.kind for hold in (await shop.holds.list(shop.store_id)).holds} == {
        GuardKind.PRICE,
        GuardKind.OUT_OF_STOCK,
    }


async def test_a_hold_ends_when_the_setting_that_made_it_is_put_right(shop: Shop) -> None:
    """Nobody changes the rows then, and nobody would ever look at them again."""
    settings = shop.world.stores.patch_settings
    await settings(shop.store_id, {"mediaBaseUrl": "https://media.example", "guardMaxShare": 1.0})
    await shop.world.catalog.put_products(
        shop.store_id,
        [product(f"p{number}", variant(f"p{number}-0"), thumbnail="one.jpg") for number in range(6)],
    )
    await shop.run()
    await settings(shop.store_id, {"guardMaxShare": 0.3})
    await execute(shop.world, "UPDATE batches SET created_at = created_at - interval '2 hours'")
    before = shop.world.at_meta()
    await settings(shop.store_id, {"mediaBaseUrl": None, "guardMaxShare": 0.01})
    await shop.run()
    wrong = await shop.only()
    assert (wrong.kind, wrong.state, wrong.items) == (GuardKind.DELETE, HoldState.HELD, 6)
    await settings(shop.store_id, {"mediaBaseUrl": "https://media.example"})
    await shop.run()
    assert await shop.held_ids() == set()
    assert (await shop.only()).state is HoldState.DISSOLVED
    await assert_tidy(shop.world)
    assert shop.world.at_meta() == before


async def test_what_is_gone_from_meta_is_not_held_when_all_is_doubted(shop: Shop) -> None:
    """Deleting once more what Meta confirmed as deleted changes nothing there, and every store has much of it in time."""
    await shop.world.stores.patch_settings(shop.store_id, {"guardMaxShare": 1.0})
    await shop.delete(*range(6))
    await shop.run()
    await shop.world.stores.patch_settings(shop.store_id, {"guardMaxShare": 0.3})
    await execute(shop.world, "UPDATE batches SET created_at = created_at - interval '2 hours'")
    await execute(shop.world, "UPDATE sync_state SET confirmed_at = confirmed_at - interval '2 hours'")
    await DistrustService(shop.world.database, shop.world.queue).distrust(shop.store_id, requested_by="me")
    await shop.run()
    assert await fetch(shop.world, "SELECT 1 FROM holds") == []
    assert await one(shop.world, "SELECT count(*) FROM batch_items WHERE method = 'DELETE'") == 120
    await assert_tidy(shop.world)


async def test_another_setting_leaves_what_is_held_where_it_is(shop: Shop) -> None:
    calls = shop.world.calls()
    await shop.delete(*range(6))
    await shop.run()
    await shop.world.stores.patch_settings(shop.store_id, {"quantityPolicy": "exact"})
    await shop.run()
    assert (len(await shop.held_ids()), shop.world.calls()) == (60, calls)


@pytest.mark.parametrize("decided", [None, "discard"])
async def test_a_removal_of_everything_takes_what_was_held_or_discarded(
    shop: Shop, decided: str | None
) -> None:
    await shop.delete(*range(4))
    await shop.run()
    if decided:
        await shop.settle(await shop.discard(await shop.only()))
    await shop.put(*range(4, 8), price=1)
    await shop.run()
    removal = RemovalService(shop.world.database, shop.world.queue)
    await removal.start(shop.store_id, actor="somebody")
    await shop.run()
    assert shop.world.at_meta() == {}
    assert await fetch(shop.world, "SELECT 1 FROM intents") == []


async def test_the_dry_run_of_a_release_knows_of_a_removal(shop: Shop) -> None:
    await shop.put(*range(4), price=1)
    await shop.run()
    hold = await shop.only()
    await execute(shop.world, "UPDATE catalog_links SET removal_job_id = 'job'")
    found = await shop.holds.items(shop.store_id, str(hold.hold_id), limit=1)
    assert found.items[0].decision is DecisionKind.DELETE


async def test_what_meta_never_had_is_not_decided_about_to_be_counted(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live prices wait for the count, and a first sync may have a million items still to go."""
    decided: list[str] = []

    def watched(item: Any, *given: Any, **more: Any) -> Any:
        decided.append(item.variant_id)
        return decide(item, *given, **more)

    monkeypatch.setattr(guard_decide, "decide", watched)
    await shop.world.stores.patch_settings(shop.store_id, {"batchSize": 5})
    await shop.put(*range(10, 15))
    await shop.put(0, price=2500)
    await shop.run()
    assert {one["price"] for one in shop.world.at_meta().values()} == {"19.99 EUR", "25.00 EUR"}
    assert decided and {one.split("-")[0] for one in decided} == {"p0"}


async def test_another_store_knows_nothing_of_a_hold(shop: Shop) -> None:
    await shop.delete(*range(6))
    await shop.run()
    hold_id = str((await shop.only()).hold_id)
    other = (
        await shop.world.stores.create("Other", currency="EUR", storefront_base_url="https://o.example")
    ).store_id
    assert (await shop.holds.list(other)).holds == []
    for ask in (
        shop.holds.get(other, hold_id),
        shop.holds.items(other, hold_id),
        shop.holds.release(other, hold_id, actor="me"),
        shop.holds.discard(other, hold_id, actor="me"),
    ):
        with pytest.raises(NotFoundError):
            await ask
    async with shop.world.database.store(other) as connection:
        for table in ("holds", "guard_counts", "intents", "audit_log", "job_keys", "reconcile_findings"):
            seen = f"SELECT count(*) FROM {table} WHERE store_id <> '{other}'"
            assert await connection.scalar(text(seen)) == 0
    assert (await shop.only()).state is HoldState.HELD


@pytest.mark.parametrize("hold_id", ["9" * 19, "9" * 5000, "0" * 5000, "-1", "²", ""])
async def test_a_number_that_no_hold_has_is_not_found(shop: Shop, hold_id: str) -> None:
    with pytest.raises(NotFoundError):
        await shop.holds.get(shop.store_id, hold_id)
