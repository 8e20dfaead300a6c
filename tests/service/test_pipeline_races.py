"""The pipeline under everything at once, on a real PostgreSQL: nothing lost, nothing twice, nothing stale, no deadlock."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from meta_sync.catalog.models import InventoryInput, VariantInput
from meta_sync.core.db import Database
from meta_sync.sandbox.options import DEMO_CATALOG_ID
from tests.support.pipeline import (
    arm,
    assert_sums,
    assert_tidy,
    before_claim,
    execute,
    fetch,
    gated,
    one,
)
from tests.support.world import World, open_world, variant

_OTHER_CATALOG = "7100195296759999"
_LOAD_SECONDS = 4.0
_LONGEST_LOAD_SECONDS = 60.0
_ENOUGH_EDITS = 50
_ENOUGH_CALLS = 5
_PRODUCTS, _VARIANTS = 6, 12


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Enough connections for everybody: waiting for one would hide the races."""
    database = Database.connect(database_url, pool_size=12)
    yield database
    await database.dispose()


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        world.sandbox.add_catalog("7100195296754001", "Other", catalog_id=_OTHER_CATALOG)
        await world.connect()
        await world.run()
        yield world


# --- One edit at each boundary -------------------------------------------------------------------------------------

Edit = Callable[[World, str], Awaitable[Any]]


async def _change(world: World, name: str) -> None:
    await world.put(name, variant(f"{name}-1", 7777), variant(f"{name}-2"))


async def _delete(world: World, name: str) -> None:
    await world.catalog.delete_product(world.store_id, name)


async def _delete_and_put_back(world: World, name: str) -> None:
    await world.catalog.delete_product(world.store_id, name)
    await world.put(name, variant(f"{name}-1", 555))


async def _stock(world: World, name: str) -> None:
    stock = InventoryInput(track_inventory=True, quantity_on_hand=0)
    await world.catalog.put_inventory(world.store_id, [(f"{name}-1", stock)])


async def _draft(world: World, name: str) -> None:
    await world.put(name, variant(f"{name}-1"), variant(f"{name}-2"), status="draft")


async def _resync(world: World, name: str) -> None:
    await world.operations.resync(world.store_id, f"{name}-1", force=True, refresh_images=True, actor="test")


async def _setting(world: World, name: str) -> None:
    await world.stores.patch_settings(world.store_id, {"defaultBrand": f"Brand of {name}"})


async def _move(world: World, name: str) -> None:
    await world.put(f"{name}-moved", variant(f"{name}-1", 4444), title="Moved")


_EDITS: list[Edit] = [_change, _delete, _delete_and_put_back, _stock, _draft, _resync, _setting, _move]
_CROWD = 4


async def _seeded(world: World, edit: Edit) -> str:
    """A product that is at Meta, with a sale, and a change of it that waits."""
    name = edit.__name__.strip("_")
    plain: list[VariantInput] = [variant(f"{name}-1", special_price=5), variant(f"{name}-2")]
    await world.put(name, *plain, brand=None)
    await world.run()
    await world.put(name, variant(f"{name}-1", 1500), variant(f"{name}-2"), brand=None)
    return name


async def _at(world: World, boundary: str, action: Callable[[], Awaitable[Any]]) -> None:
    if boundary != "claim":
        await _between(world, boundary, action)
        return
    pipeline = world.pipeline()
    before_claim(pipeline, action)
    await pipeline.drain_tick()


async def _between(world: World, edge: str, action: Callable[[], Awaitable[Any]]) -> None:
    """Do something after Meta has carried out a call and before we learn of it."""
    gate = gated(world, edge)
    stepped = world.pipeline()
    loop = asyncio.get_running_loop()

    async def step() -> None:
        end = loop.time() + 10
        while not gate.opened.is_set() and loop.time() < end:
            await stepped.drain_tick()
            await stepped.poll_tick()
            await stepped.jobs_tick()
            await asyncio.sleep(0.005)

    stepping = asyncio.create_task(step())
    async with asyncio.timeout(10):
        await gate.reached.wait()
    await action()
    gate.opened.set()
    await stepping


@pytest.mark.parametrize("boundary", ["claim", "items_batch", "check_batch_request_status"])
async def test_an_edit_at_any_boundary_ends_right(world: World, boundary: str) -> None:
    """Between read and claim, between claim and outcome, between report and settle."""
    for edit in _EDITS:
        name = await _seeded(world, edit)

        async def action(edit: Edit = edit, name: str = name) -> None:
            await edit(world, name)
            await assert_sums(world)

        await _at(world, boundary, action)
        await world.run()
        await assert_tidy(world)
        assert {state["attempts"] for state in (await world.states()).values()} == {0}


@pytest.mark.parametrize("boundary", ["claim", "items_batch", "check_batch_request_status"])
async def test_another_catalog_at_any_boundary_and_back(world: World, boundary: str) -> None:
    await world.put("p", variant("a", special_price=5), variant("b"))
    await world.run()
    await world.put("p", variant("a", 1500), variant("b"), variant("c"))

    async def away() -> None:
        await world.connect(catalog_id=_OTHER_CATALOG)

    async def back() -> None:
        await world.connect()

    for action in (away, back, away, back):
        await _at(world, boundary, action)
        if action is away:
            await world.put("p", variant("a", 1600), variant("c", 1600))
    # In the middle of it all: it settles on the catalog that is selected.
    await world.run()
    await assert_tidy(world)
    epoch = await one(world, "SELECT epoch FROM catalog_links WHERE active")
    assert epoch == 3
    assert {
        (s["status"], s["confirmed_epoch"]) for s in (await world.states()).values() if s["variant_id"] != "b"
    } == {("synced", 3)}
    # What somebody changed while we were away is cleared, field by field.
    await world.connect(catalog_id=_OTHER_CATALOG)
    item = world.sandbox.catalog(DEMO_CATALOG_ID).items["a"]
    item.update(sale_price="1.00 EUR", color="Odd", additional_image_link=["https://x.example/i.jpg"])
    await world.connect()
    await world.run()
    await assert_tidy(world)


# --- Two workers -----------------------------------------------------------------------------------------------------


async def test_two_workers_send_every_change_once(world: World) -> None:
    """I3: many products, two workers side by side, and each change is posted exactly once."""
    await world.catalog.put_products(world.store_id, [])
    for number in range(30):
        await world.put(f"p{number}", variant(f"v{number}"))
    first, second = world.pipeline("first"), world.pipeline("second")
    await world.stores.patch_settings(world.store_id, {"batchSize": 5})
    await asyncio.gather(world.run(first), world.run(second))
    await assert_tidy(world)
    counts = world.sandbox.catalog(DEMO_CATALOG_ID).applied_counts
    assert set(counts.values()) == {1}
    assert len(counts) == 30


async def test_a_takeover_in_the_middle_of_a_call_keeps_its_handle(world: World) -> None:
    """The worker that lost its lease stores the handle, and the batch goes on as if nothing had been."""
    gate = gated(world)
    silent = asyncio.create_task(world.pipeline("silent").drain_tick())
    await world.put("p", variant("a"))
    await execute(world, "UPDATE store_queue SET due_at = now(), leased_until = NULL")
    if not gate.reached.is_set():
        await silent
        silent = asyncio.create_task(world.pipeline("silent").drain_tick())
    await gate.reached.wait()
    await execute(world, "UPDATE worker_heartbeats SET seen_at = now() - interval '11 s'")
    await world.put("p", variant("a", 5))
    await world.put("q", variant("b"))
    other = world.pipeline("other")
    assert await other.drain_tick() == 1
    fence = await one(world, "SELECT fence FROM store_queue")
    assert await fetch(world, "SELECT variant_id, parked_by IS NULL FROM intents") == [("a", False)]
    gate.opened.set()
    await silent
    assert await one(world, "SELECT fence FROM store_queue") == fence
    assert await one(world, "SELECT count(*) FROM batches WHERE state = 'open'") == 2
    await world.run(other)
    await assert_tidy(world)
    assert world.sandbox.catalog(DEMO_CATALOG_ID).applied_counts == {"a": 2, "b": 1}


# --- Everything at once ----------------------------------------------------------------------------------------------


class _Applied:
    """What the sandbox applied, item by item. Prices are versions here: they only ever grow."""

    def __init__(self, world: World) -> None:
        self.prices: dict[str, list[int]] = {}
        catalog = world.sandbox.catalog(DEMO_CATALOG_ID)
        store = catalog.store

        def recorded(retailer_id: str, item: dict[str, Any]) -> None:
            self.prices.setdefault(retailer_id, []).append(int(item["price"].split()[0].replace(".", "")))
            store(retailer_id, item)

        catalog.store = recorded  # type: ignore[method-assign]  # put in place of the real one for this test

    def stale(self) -> dict[str, list[int]]:
        return {one: prices for one, prices in self.prices.items() if prices != sorted(prices)}


class _Load:
    def __init__(self, world: World) -> None:
        self.world = world
        self.loop = asyncio.get_running_loop()
        self.begun = self.loop.time()
        self.versions = itertools.count(1000)
        self.edits = 0
        self.locks = [asyncio.Lock() for _ in range(_PRODUCTS)]

    def goes_on(self) -> bool:
        """Until enough has happened, however slow the machine is; and no longer than that machine may hang."""
        passed_seconds = self.loop.time() - self.begun
        enough = self.edits > _ENOUGH_EDITS and self.world.calls() > _ENOUGH_CALLS
        return passed_seconds < (_LOAD_SECONDS if enough else _LONGEST_LOAD_SECONDS)

    async def repeat(
        self, action: Callable[[random.Random], Awaitable[Any]], seed: int, pause: float
    ) -> None:
        chance = random.Random(seed)
        while self.goes_on():
            await action(chance)
            self.edits += 1
            await asyncio.sleep(pause)

    async def put(self, chance: random.Random) -> None:
        number = chance.randrange(_PRODUCTS)
        # The lock of the product decides the order of writes; so does this one of the versions.
        async with self.locks[number]:
            variants = [
                variant(f"{number}-{k}", next(self.versions), special_price=chance.choice([None, 7]))
                for k in range(chance.randrange(1, _VARIANTS + 1))
            ]
            await self.world.put(f"p{number}", *variants)

    async def delete(self, chance: random.Random) -> None:
        number = chance.randrange(_PRODUCTS)
        async with self.locks[number]:
            if f"p{number}" in {row[0] for row in await fetch(self.world, "SELECT product_id FROM products")}:
                await self.world.catalog.delete_product(self.world.store_id, f"p{number}")

    async def stock(self, chance: random.Random) -> None:
        ids = {f"{chance.randrange(_PRODUCTS)}-{chance.randrange(_VARIANTS)}" for _ in range(20)}
        stock = InventoryInput(track_inventory=True, quantity_on_hand=chance.randrange(5))
        await self.world.catalog.put_inventory(self.world.store_id, [(one, stock) for one in ids])

    async def resync(self, chance: random.Random) -> None:
        found = await fetch(self.world, "SELECT variant_id FROM variants WHERE deleted_at IS NULL")
        if found:
            await self.world.operations.resync(
                self.world.store_id, chance.choice(found)[0], force=True, refresh_images=False, actor="load"
            )

    async def settings(self, chance: random.Random) -> None:
        patch: dict[str, Any] = chance.choice(
            [{"defaultCondition": chance.choice(["new", "used"])}, {"batchSize": chance.choice([10, 100])}]
        )
        await self.world.stores.patch_settings(self.world.store_id, patch)

    async def lost_leases(self, chance: random.Random) -> None:
        """Leases end early all the time, so that stalled turns and fresh ones meet; and the hour's calls are forgotten."""
        await execute(self.world, "UPDATE store_queue SET leased_until = NULL, due_at = now()")
        await execute(
            self.world, "UPDATE batch_calls SET started_at = started_at - interval '2 h' WHERE state = 'over'"
        )

    async def watch(self, chance: random.Random) -> None:
        await assert_sums(self.world)

    async def work(self, owner: str, *, polls: bool) -> None:
        pipeline = self.world.pipeline(owner)
        while self.goes_on():
            done = await (pipeline.poll_tick() if polls else pipeline.drain_tick())
            done += await pipeline.jobs_tick()
            await pipeline.sweep_tick()
            await asyncio.sleep(0 if done else 0.003)


@pytest.mark.parametrize("hostile", [False, True], ids=["kind", "hostile"])
async def test_everything_at_once(world: World, hostile: bool) -> None:
    # The guard counts all the time, and there is nobody to be asked.
    await world.stores.patch_settings(world.store_id, {"guardMaxShare": 1.0})
    if hostile:
        arm(world, "drop_after", edge="items_batch", count=None, probability=0.06)
        arm(world, "drop_before", edge="items_batch", count=None, probability=0.03)
        arm(world, "handle_error", count=None, probability=0.05)
        arm(world, "errors_capped", count=None, probability=0.5, limit=0)
        arm(world, "transient_before", edge="items_batch", count=None, probability=0.02)
    applied = _Applied(world)
    load = _Load(world)
    async with asyncio.TaskGroup() as tasks:
        for owner in ("one", "two"):
            for polls in (False, True):
                tasks.create_task(load.work(owner, polls=polls))
        for seed, (action, pause) in enumerate(
            [
                (load.put, 0.004),
                (load.put, 0.004),
                (load.delete, 0.25),
                (load.stock, 0.02),
                (load.resync, 0.05),
                (load.settings, 0.4),
                (load.lost_leases, 0.5),
                (load.watch, 0.3),
            ]
        ):
            tasks.create_task(load.repeat(action, seed, pause))
    world.sandbox.faults.clear()
    await world.run()
    await assert_tidy(world)
    assert applied.stale() == {}, "an older version was applied after a newer one"
    states = await world.states()
    assert {state["status"] for state in states.values()} <= {"synced", "deleted", "skipped"}
    assert {state["attempts"] for state in states.values()} == {0}
    await execute(world, "UPDATE schedules SET next_at = now()")
    await world.pipeline().sweep_tick()
    assert await one(world, "SELECT count(*) FROM counter_deltas") == 0
    await assert_sums(world)
    deadlocks = await one(world, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert deadlocks == 0
    assert load.edits > _ENOUGH_EDITS
    assert world.calls() > _ENOUGH_CALLS
