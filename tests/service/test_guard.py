"""The guard on a real database and the sandbox: what is too much is held before its first call, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from meta_sync.catalog.models import InventoryInput
from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, NotFoundError
from meta_sync.core.failpoints import FailpointError, arm, disarm_all
from meta_sync.core.paging import CursorCodec
from meta_sync.sync import guard_count
from meta_sync.sync.guard import GuardKind, HeldBy
from meta_sync.sync.holds import Hold, HoldsService, HoldState
from meta_sync.sync.item_filters import ItemFilter
from meta_sync.sync.items import ItemsService
from meta_sync.sync.models import DecisionKind
from meta_sync.sync.ticks import Pipeline
from tests.support.pipeline import arm as misbehave
from tests.support.pipeline import assert_tidy, execute, fetch, one
from tests.support.world import World, open_world, product, variant

_PRODUCTS, _EACH = 10, 10
_TAKE_A_NUMBER = text("SELECT pg_current_xact_id()")
_OUT: dict[str, Any] = {"track_inventory": True, "quantity_on_hand": 0, "allow_backorder": False}
_IN: dict[str, Any] = {**_OUT, "quantity_on_hand": 5}


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    yield
    disarm_all()


class Shop:
    """A hundred items at Meta, and a guard that asks from thirty on."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.holds = HoldsService(world.database, utc_now, CursorCodec(b"k" * 32), world.queue)

    @property
    def store_id(self) -> str:
        return self.world.store_id

    async def put(self, *products: int, **fields: Any) -> None:
        """Put whole products, ten variants each; fields are those of the variants."""
        wanted = [
            product(f"p{number}", *(variant(f"p{number}-{index}", **fields) for index in range(_EACH)))
            for number in products
        ]
        await self.world.catalog.put_products(self.store_id, wanted)

    async def stock(self, *products: int, **inventory: Any) -> None:
        for number in products:
            stock = InventoryInput(**inventory)
            items = [(f"p{number}-{index}", stock) for index in range(_EACH)]
            await self.world.catalog.put_inventory(self.store_id, items)

    async def delete(self, *products: int) -> None:
        for number in products:
            await self.world.catalog.delete_product(self.store_id, f"p{number}")

    async def run(self, pipeline: Pipeline | None = None) -> None:
        """Until nothing is left but what is held."""
        await self.world.run(pipeline, until=self.is_at_rest)

    async def is_at_rest(self) -> bool:
        left = await self.world.leftovers()
        left["intents"] -= await one(self.world, "SELECT count(*) FROM intents WHERE held_by IS NOT NULL")
        unsettled = await one(
            self.world,
            "SELECT count(*) FROM holds WHERE finished_at IS NULL AND (state <> 'held' OR cursor IS NOT NULL)",
        )
        return not any(left.values()) and not unsettled

    async def only(self) -> Hold:
        """The only hold there ever was that anybody is shown."""
        found = (await self.holds.list(self.store_id)).holds
        assert len(found) == 1, found
        return found[0]

    async def held_ids(self) -> set[str]:
        return {row[0] for row in await fetch(self.world, "SELECT variant_id FROM intents WHERE held_by > 0")}

    async def release(self, hold: Hold, shown: int | None = None) -> Hold:
        return await self.holds.release(self.store_id, str(hold.hold_id), shown_items=shown, actor="me")

    async def discard(self, hold: Hold) -> Hold:
        return await self.holds.discard(self.store_id, str(hold.hold_id), actor="me")

    async def settle(self, hold: Hold) -> Hold:
        """Run until the hold is worked off, and everything else too."""
        await self.run()
        found = await self.holds.get(self.store_id, str(hold.hold_id))
        assert found.finished_at is not None
        return found


@pytest.fixture
async def shop(database: Database, database_url: str) -> AsyncIterator[Shop]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.stores.patch_settings(world.store_id, {"guardMinItems": 5})
        shop = Shop(world)
        await shop.put(*range(_PRODUCTS))
        await world.run()
        assert len(world.at_meta()) == 100
        # What was put was put long ago.
        await execute(world, "UPDATE batches SET created_at = created_at - interval '2 hours'")
        yield shop


async def test_a_mass_deletion_is_held_before_its_first_call(shop: Shop) -> None:
    calls = shop.world.calls()
    await shop.delete(*range(6))
    await shop.run()
    assert shop.world.calls() == calls
    hold = await shop.only()
    assert (hold.kind, hold.state, hold.items) == (GuardKind.DELETE, HoldState.HELD, 60)
    assert (hold.recent_items, hold.base_items, hold.threshold) == (0, 100, 30)
    assert len(await shop.held_ids()) == 60
    events = await fetch(shop.world, "SELECT variant_id, code FROM item_events WHERE kind = 'held'")
    assert sorted(events) == sorted((one, "held_delete") for one in await shop.held_ids())
    # Everything else flows on, also while counting goes on and for items of other kinds.
    await shop.put(9, price=2500)
    await shop.run()
    assert shop.world.calls() == calls + 1
    assert shop.world.at_meta()["p9-0"]["price"] == "25.00 EUR"
    assert len(shop.world.at_meta()) == 100


async def test_a_little_is_not_held(shop: Shop) -> None:
    await shop.delete(0, 1, 2)
    await shop.run()
    assert (await shop.holds.list(shop.store_id)).holds == []
    assert len(shop.world.at_meta()) == 70
    await assert_tidy(shop.world)


async def test_released_is_sent_and_not_counted_again(shop: Shop) -> None:
    await shop.delete(*range(6))
    await shop.run()
    decided = await shop.release(await shop.only())
    assert (decided.state, decided.decided_by, decided.items) == (HoldState.RELEASED, "me", 60)
    await shop.settle(decided)
    assert len(shop.world.at_meta()) == 40
    await assert_tidy(shop.world)
    assert await one(shop.world, "SELECT sum(guarded_deletes) FROM batches") == 0
    # Twenty more of a hundred: without what was released that is little.
    await shop.delete(6, 7)
    await shop.run()
    assert len(shop.world.at_meta()) == 20
    assert (await shop.only()).hold_id == decided.hold_id
    audited = await fetch(
        shop.world, "SELECT actor, action, target_id FROM audit_log WHERE target_type = 'hold'"
    )
    assert audited == [("me", "hold_released", str(decided.hold_id))]


async def test_a_released_item_stays_released_when_its_batch_has_no_verdict(shop: Shop) -> None:
    await shop.delete(*range(6))
    await shop.run()
    hold = await shop.only()
    misbehave(shop.world, "handle_error", count=1, share=0)
    await shop.release(hold)
    await shop.settle(hold)
    assert len(shop.world.at_meta()) == 40
    assert (await shop.only()).hold_id == hold.hold_id


async def test_a_release_covers_what_was_shown(shop: Shop) -> None:
    await shop.delete(*range(4))
    await shop.run()
    hold = await shop.only()
    await shop.delete(4)
    await shop.run()
    with pytest.raises(ConflictError, match="50 items by now"):
        await shop.release(hold, shown=40)
    assert (await shop.only()).state is HoldState.HELD
    # Looked at again, what is shown is what is there.
    assert (await shop.only()).items == 50
    await shop.settle(await shop.release(hold))
    assert len(shop.world.at_meta()) == 50
    with pytest.raises(ConflictError, match="not open any more"):
        await shop.discard(hold)
    with pytest.raises(NotFoundError):
        await shop.holds.get(shop.store_id, "99999999")


async def test_discarded_stays_so_over_a_bootstrap(shop: Shop) -> None:
    await shop.delete(*range(6))
    await shop.run()
    calls = shop.world.calls()
    hold = await shop.settle(await shop.discard(await shop.only()))
    assert (hold.state, hold.items) == (HoldState.DISCARDED, 60)
    assert await fetch(shop.world, "SELECT 1 FROM intents") == []
    await shop.world.jobs.start_bootstrap(shop.store_id, requested_by=None)
    await shop.run()
    assert (shop.world.calls(), len(shop.world.at_meta())) == (calls, 100)
    said = await fetch(shop.world, "SELECT DISTINCT kind, code FROM item_events WHERE kind = 'discarded'")
    assert said == [("discarded", "discarded")]
    # Put back, it wants what Meta has; taken away again later, it goes.
    await shop.put(0)
    await shop.run()
    assert shop.world.calls() == calls
    await shop.delete(0)
    await shop.run()
    assert len(shop.world.at_meta()) == 90


async def test_a_row_that_changes_is_decided_afresh(shop: Shop) -> None:
    await shop.delete(*range(6))
    await shop.run()
    hold = await shop.only()
    await shop.put(0, price=2500)
    await shop.run()
    assert len(await shop.held_ids()) == 50
    assert shop.world.at_meta()["p0-0"]["price"] == "25.00 EUR"
    # Still of the kind, it goes back under the hold.
    await shop.world.put("p1", variant("p1-0"))
    await shop.world.put("p1", variant("p1-1"))
    await shop.run()
    assert "p1-0" in await shop.held_ids()
    assert "p1-1" not in await shop.held_ids()
    assert (await shop.only()).hold_id == hold.hold_id


async def test_a_hold_that_falls_below_the_threshold_dissolves(shop: Shop) -> None:
    await shop.delete(*range(4))
    await shop.run()
    hold = await shop.only()
    await shop.put(0, 1)
    await execute(shop.world, "UPDATE holds SET leased_until = NULL")
    await shop.run()
    # The end of counting is looked at again every minute; nobody waits for it here.
    await execute(shop.world, "UPDATE holds SET leased_until = NULL WHERE finished_at IS NULL")
    found = await shop.settle(hold)
    assert (found.state, found.items) == (HoldState.DISSOLVED, 20)
    assert len(shop.world.at_meta()) == 80
    await assert_tidy(shop.world)


async def test_prices_and_stock_are_kinds_of_their_own(shop: Shop) -> None:
    await shop.put(*range(4), price=1)
    await shop.stock(*range(4, 8), **_IN)
    await shop.run()
    assert {(hold.kind, hold.items) for hold in (await shop.holds.list(shop.store_id)).holds} == {
        (GuardKind.PRICE, 40)
    }
    assert str(shop.world.at_meta()["p4-0"]["quantity_to_sell_on_facebook"]) == "5"
    await shop.stock(*range(4, 8), **_OUT)
    await shop.run()
    found = {hold.kind: hold for hold in (await shop.holds.list(shop.store_id)).holds}
    assert {kind: hold.items for kind, hold in found.items()} == {
        GuardKind.PRICE: 40,
        GuardKind.OUT_OF_STOCK: 40,
    }
    told = await fetch(shop.world, "SELECT code, count(*) FROM item_events WHERE kind = 'held' GROUP BY 1")
    assert dict(told) == {"held_price": 40, "held_out_of_stock": 40}
    at_meta = shop.world.at_meta()
    assert {one["price"] for one in at_meta.values()} == {"19.99 EUR"}
    assert {one["availability"] for one in at_meta.values()} == {"in stock"}
    await _is_shown_with_the_item(shop, found[GuardKind.PRICE])
    page = await shop.holds.items(shop.store_id, str(found[GuardKind.PRICE].hold_id), limit=3)
    assert (page.total, len(page.items), page.items[0].variant_id) == (40, 3, "p0-0")
    assert page.items[0].decision is DecisionKind.UPSERT
    assert page.items[0].changes["price"] == ["19.99 EUR", "0.01 EUR"]
    following = await shop.holds.items(
        shop.store_id, str(found[GuardKind.PRICE].hold_id), limit=100, cursor=page.next_cursor
    )
    second = await shop.holds.items(shop.store_id, str(found[GuardKind.PRICE].hold_id), limit=3, page=2)
    assert [one.variant_id for one in following.items[:3]] == [one.variant_id for one in second.items]
    assert len(following.items) == 37
    # One is decided without the other.
    await shop.settle(await shop.release(found[GuardKind.OUT_OF_STOCK]))
    at_meta = shop.world.at_meta()
    assert {one["price"] for one in at_meta.values()} == {"19.99 EUR"}
    assert sum(one["availability"] == "out of stock" for one in at_meta.values()) == 40


async def _is_shown_with_the_item(shop: Shop, hold: Hold) -> None:
    items = ItemsService(shop.world.database, utc_now, CursorCodec(b"k" * 32))
    shown = await items.detail(shop.store_id, "p0-0")
    assert shown.pending_intent is not None and shown.next_request is not None
    expected = HeldBy(hold.hold_id, hold.kind)
    assert (shown.pending_intent.held_by, shown.next_request.held_by) == (expected, expected)
    listed = (await items.list(shop.store_id, ItemFilter(product_id="p0"), limit=1)).items
    assert [one.held_by for one in listed] == [expected]
    free = (await items.list(shop.store_id, ItemFilter(product_id="p9"), limit=1)).items
    assert [one.held_by for one in free] == [None]


async def test_both_kinds_of_one_item_are_asked_about_one_after_the_other(shop: Shop) -> None:
    await shop.stock(*range(6), **_OUT)
    await shop.put(*range(6), price=1)
    await shop.run()
    first = await shop.only()
    assert (first.kind, first.items) == (GuardKind.OUT_OF_STOCK, 60)
    calls = shop.world.calls()
    await shop.settle(await shop.release(first))
    assert shop.world.calls() == calls
    second = (await shop.holds.list(shop.store_id)).holds[0]
    assert (second.kind, second.items) == (GuardKind.PRICE, 60)
    await shop.settle(await shop.release(second))
    assert sum(one["price"] == "0.01 EUR" for one in shop.world.at_meta().values()) == 60
    assert len((await shop.holds.list(shop.store_id)).holds) == 2


async def test_a_sale_that_begins_or_ends_as_confirmed_is_not_held(shop: Shop) -> None:
    await shop.world.stores.patch_settings(shop.store_id, {"guardMaxShare": 1.0})
    ends = datetime.now(UTC) + timedelta(seconds=1)
    sale = {"special_price": 999, "special_price_end": ends}
    await shop.put(*range(6), **sale)
    await shop.run()
    assert (
        await one(shop.world, "SELECT count(*) FROM sync_state WHERE confirmed_sale LIKE '9.99 EUR 1970-%'")
        == 60
    )
    await shop.world.stores.patch_settings(shop.store_id, {"guardMaxShare": 0.3})
    await execute(shop.world, "UPDATE batches SET created_at = created_at - interval '2 hours'")

    async def is_ended() -> bool:
        return bool(
            await one(shop.world, "SELECT count(*) = 0 FROM sync_state WHERE confirmed_sale IS NOT NULL")
        )

    await shop.world.run(until=is_ended)
    await shop.run()
    assert (await shop.holds.list(shop.store_id)).holds == []
    assert not any("sale_price" in one for one in shop.world.at_meta().values())


async def test_a_drip_is_counted_over_an_hour(shop: Shop) -> None:
    for number in range(3):
        await shop.put(number, price=1)
        await shop.run()
    assert (await shop.holds.list(shop.store_id)).holds == []
    await shop.put(3, price=1)
    await shop.run()
    hold = await shop.only()
    assert (hold.items, hold.recent_items, hold.base_items) == (10, 30, 100)
    # What goes again and again counts once.
    await shop.settle(await shop.discard(hold))
    await shop.put(0, 1, 2, price=2)
    await shop.run()
    assert (await shop.only()).hold_id == hold.hold_id
    assert shop.world.at_meta()["p0-0"]["price"] == "0.02 EUR"
    # An hour later it is forgotten.
    await execute(shop.world, "UPDATE batches SET created_at = created_at - interval '2 hours'")
    await shop.put(4, 5, price=1)
    await shop.run()
    assert shop.world.at_meta()["p5-0"]["price"] == "0.01 EUR"


async def test_an_excluded_item_is_asked_for_by_name(shop: Shop) -> None:
    for number in range(6):
        for index in range(_EACH):
            await shop.world.operations.exclude(shop.store_id, f"p{number}-{index}", actor="me")
    await shop.run()
    assert len(shop.world.at_meta()) == 40
    assert await fetch(shop.world, "SELECT 1 FROM holds") == []


async def test_another_catalog_frees_everything(shop: Shop) -> None:
    await shop.delete(*range(6))
    await shop.run()
    other = "7100195296759999"
    shop.world.sandbox.add_catalog("7100195296754001", "Other", catalog_id=other)
    await shop.world.connect(catalog_id=other)
    await shop.run()
    hold = await shop.only()
    assert hold.state is HoldState.DISSOLVED and hold.finished_at is not None
    assert await fetch(shop.world, "SELECT 1 FROM intents") == []
    assert len(shop.world.sandbox.catalog(other).items) == 40
    assert len(shop.world.at_meta()) == 100


async def test_a_job_does_not_wait_for_what_is_held(shop: Shop) -> None:
    await shop.put(*range(4), price=1)
    await shop.run()
    started = await shop.world.jobs.start_bootstrap(shop.store_id, requested_by=None)
    await shop.run()
    job = await shop.world.jobs.get(shop.store_id, started.job_id)
    assert (job.status, job.counts.skipped) == ("success", 40)
    assert len(await shop.held_ids()) == 40


async def test_many_workers_and_pages_hold_the_same(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_count, "_PAGE", 7)
    calls = shop.world.calls()
    await shop.delete(*range(6))
    pipelines = [shop.world.pipeline(f"worker-{number}") for number in range(3)]
    await asyncio.gather(*(shop.run(pipeline) for pipeline in pipelines))
    hold = await shop.only()
    assert (hold.state, hold.items, shop.world.calls()) == (HoldState.HELD, 60, calls)
    assert len(await shop.held_ids()) == 60


async def test_a_kill_between_pages_goes_on_where_it_was(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_count, "_PAGE", 20)
    await shop.world.stores.patch_settings(shop.store_id, {"batchSize": 10})
    await shop.delete(*range(6))
    pipeline = shop.world.pipeline()
    while not await fetch(shop.world, "SELECT 1 FROM holds"):
        await pipeline.drain_tick()
    arm("guard.after_page", "raise@2")
    with pytest.raises(FailpointError):
        while True:
            await pipeline.jobs_tick()
    disarm_all()
    state, cursor = await one(shop.world, "SELECT state, cursor FROM holds")
    assert state == "counting" and cursor > ""
    await shop.run(shop.world.pipeline("other"))
    hold = await shop.only()
    assert (hold.state, hold.items) == (HoldState.HELD, 60)


async def test_counting_waits_for_who_began_before(shop: Shop) -> None:
    """What another transaction commits after its page was counted would be missed, and never looked for again."""
    async with shop.world.database.platform() as connection:
        await connection.execute(_TAKE_A_NUMBER)
        await shop.delete(*range(6))
        pipeline = shop.world.pipeline()
        while not await fetch(shop.world, "SELECT 1 FROM holds"):
            await pipeline.drain_tick()
        while await pipeline.jobs_tick():
            pass
        assert await one(shop.world, "SELECT state FROM holds") == "counting"
        assert shop.world.calls() == await one(shop.world, "SELECT count(*) FROM batches")
    await shop.run()
    assert (await shop.only()).state is HoldState.HELD


async def test_what_was_counted_is_not_counted_at_every_turn(shop: Shop) -> None:
    await shop.world.stores.patch_settings(shop.store_id, {"batchSize": 10})
    # As many as may go at once, and more that are of no kind: the counters alone cannot tell.
    await shop.put(*range(3), price=1)
    await shop.stock(*range(3, 10), **_IN)
    await shop.run()
    assert (await shop.holds.list(shop.store_id)).holds == []
    counted = await fetch(shop.world, "SELECT kind, state FROM holds")
    assert counted in ([], [("price", "dissolved")])
    assert sum(one["price"] == "0.01 EUR" for one in shop.world.at_meta().values()) == 30
