"""Breaks a catalog by hand at random while the shop goes on, and asks whether the report names exactly what was broken.

``python -m tests.reconcile_at_random --seeds 50 --items 2000`` runs as many seeds as are asked for, each in a database of
its own: 50 items deleted at Meta, 40 prices changed, 20 unknown ids and 30 of a feed put there, while live edits go on at
200 a minute, scaled to how much shorter the waits are. The report must name exactly these, the repair must bring what is
ours back, the next report must be empty, and Meta must never be told to delete a product that lives.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from dataclasses import dataclass, field, replace
from typing import Any

from meta_sync.catalog.models import ProductInput
from meta_sync.core.db import Database
from meta_sync.sandbox.options import DEMO_CATALOG_ID, SandboxOptions
from meta_sync.sync.reconcile_models import FindingState
from meta_sync.sync.reconcile_repair import RepairOrder
from meta_sync.sync.reconcile_service import FindingFilter, Reconciliation
from tests.support.postgres import fresh_database, running_postgres
from tests.support.world import FAST, World, open_world, product, variant

__all__ = ["Broken", "run_seed"]

_SCALE = 600.0
"""How much shorter the waits are: fifteen minutes are a second and a half, and so 200 edits a minute are 2,000 a second;
as many are made as the machine can."""
_EDITS_PER_SECOND = 200 / 60 * _SCALE
_WAIT_SECONDS = 900 / _SCALE
_MOST_AT_ONCE = 25
_DELETION_CHANCE = 0.1

_TIMING = replace(
    FAST,
    reconcile_quiet_seconds=_WAIT_SECONDS,
    reconcile_second_read_seconds=_WAIT_SECONDS,
    reconcile_page_items=100,
)


@dataclass
class Broken:
    """What was broken by hand, by retailer id."""

    deleted: set[str] = field(default_factory=set)
    prices: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    fed: set[str] = field(default_factory=set)

    @property
    def expected(self) -> dict[str, str]:
        """The report that names exactly these."""
        return {
            **dict.fromkeys(self.deleted, "missing"),
            **dict.fromkeys(self.prices, "different"),
            **dict.fromkeys(self.unknown | self.fed, "foreign"),
        }


def _id(number: int) -> str:
    return f"v{number:05d}"


async def _fill(world: World, items: int) -> None:
    await world.connect()
    # The edits change more prices than a guard lets pass.
    await world.stores.patch_settings(world.store_id, {"guardMaxShare": 1.0})
    for start in range(0, items, 500):
        await world.catalog.put_products(
            world.store_id,
            [
                product(f"p{number:05d}", variant(_id(number), 1000 + number))
                for number in range(start, min(start + 500, items))
            ],
        )
    await world.run()


def _break(world: World, dice: random.Random, items: list[int], share: float) -> Broken:
    """Break items by hand, as many as the share of 50, 40, 20 and 30 says."""
    catalog = world.sandbox.catalog(DEMO_CATALOG_ID)
    deleted, prices, unknown, fed = (max(1, round(share * most)) for most in (50, 40, 20, 30))
    chosen = [_id(number) for number in dice.sample(items, deleted + prices)]
    broken = Broken(set(chosen[:deleted]), set(chosen[deleted:]))
    for retailer_id in broken.deleted:
        catalog.remove(retailer_id)
    for retailer_id in broken.prices:
        catalog.store(retailer_id, {**catalog.items[retailer_id], "price": f"{dice.randint(1, 9)}.55 EUR"})
    for number in range(unknown):
        broken.unknown.add(f"other-{number}")
        catalog.store(f"other-{number}", {"id": f"other-{number}", "title": "Mug", "price": "5.00 EUR"})
    for number in range(fed):
        broken.fed.add(f"fed-{number}")
        catalog.store(f"fed-{number}", {"id": f"fed-{number}", "title": "Cup", "price": "7.00 EUR"})
        catalog.feeds[f"fed-{number}"] = {"id": "77", "name": "Weekly feed"}
    return broken


class Shop:
    """Live edits of items that nobody broke, and the worker that sends them, until told to stop."""

    def __init__(self, world: World, dice: random.Random, items: list[int]) -> None:
        self._world = world
        self._dice = dice
        self._items = items
        self._is_open = True
        self.edits = 0
        self.deleted: set[str] = set()

    async def edit(self) -> None:
        """Change prices, stock and titles, and take a product off now and then."""
        began = time.monotonic()
        while self._is_open:
            due = int((time.monotonic() - began) * _EDITS_PER_SECOND) - self.edits
            live = [number for number in self._items if _id(number) not in self.deleted]
            chosen = self._dice.sample(live, min(len(live), max(1, min(due, _MOST_AT_ONCE))))
            if self._dice.random() < _DELETION_CHANCE:
                gone = chosen.pop()
                self.deleted.add(_id(gone))
                await self._world.catalog.delete_product(self._world.store_id, f"p{gone:05d}")
                self.edits += 1
            if chosen:
                edited = [self._edited(number) for number in chosen]
                await self._world.catalog.put_products(self._world.store_id, edited)
                self.edits += len(edited)
            await asyncio.sleep(0.001)

    def _edited(self, number: int) -> ProductInput:
        price, title = self._dice.randint(500, 99_999), f"Product {number} {self._dice.randint(0, 3)}"
        return product(f"p{number:05d}", variant(_id(number), price), title=title)

    async def send(self) -> None:
        """What a worker does."""
        pipeline = self._world.pipeline("worker-2")
        while self._is_open:
            done = await pipeline.drain_tick() + await pipeline.poll_tick()
            await pipeline.sweep_tick()
            await asyncio.sleep(0 if done else 0.01)

    def close(self) -> None:
        """Let both end."""
        self._is_open = False


async def _reconcile(world: World) -> Reconciliation:
    job_id = await world.reconciliations.start(world.store_id, actor="somebody")
    pipeline = world.pipeline("worker-3")
    async with asyncio.timeout(120):
        while True:
            done = await pipeline.read_jobs_tick()
            found = await world.reconciliations.get(world.store_id, job_id)
            if found.job.is_over:
                assert found.job.status == "success", found.job
                return found
            await asyncio.sleep(0 if done else 0.02)


async def _agreed(world: World, job_id: str) -> dict[str, str]:
    named: dict[str, str] = {}
    cursor = None
    while True:
        page = await world.reconciliations.findings(
            world.store_id, job_id, FindingFilter(state=FindingState.AGREED), limit=100, cursor=cursor
        )
        named |= {one.retailer_id: one.verdict.value for one in page.findings}
        cursor = page.next_cursor
        if cursor is None:
            return named


def _watch_deletions(world: World) -> set[str]:
    """Every id that Meta is told to delete from now on."""
    told: set[str] = set()
    catalog = world.sandbox.catalog(DEMO_CATALOG_ID)
    remove = catalog.remove

    def noted(retailer_id: str) -> None:
        told.add(retailer_id)
        remove(retailer_id)

    catalog.remove = noted  # type: ignore[method-assign]  # the sandbox itself is left as it is
    return told


async def run_seed(world: World, seed: int, *, items: int, share: float = 1.0) -> dict[str, Any]:
    """One seed; says what was done, or fails."""
    dice = random.Random(seed)
    world.timing = _TIMING
    await _fill(world, items)
    numbers = list(range(items))
    dice.shuffle(numbers)
    for_edits, to_break = numbers[: items // 2], numbers[items // 2 :]
    # What was just filled in has to be quiet for as long as a finding needs.
    await asyncio.sleep(_WAIT_SECONDS)
    broken = _break(world, dice, to_break, share)
    told = _watch_deletions(world)
    shop = Shop(world, dice, for_edits)
    beside = [asyncio.create_task(shop.edit()), asyncio.create_task(shop.send())]
    try:
        first = await _reconcile(world)
        named = await _agreed(world, first.job.job_id)
        assert named == broken.expected, (seed, set(named.items()) ^ set(broken.expected.items()))
        order = RepairOrder()
        plan = await world.repairs.repair(world.store_id, first.job.job_id, order, actor="somebody")
        assert {one.retailer_id for one in plan.steps} == broken.deleted | broken.prices
    finally:
        shop.close()
        await asyncio.gather(*beside)
    world.timing = replace(_TIMING, reconcile_quiet_seconds=0.0, reconcile_second_read_seconds=0.05)
    await world.run()
    foreign = {one: world.at_meta()[one] for one in broken.unknown | broken.fed}
    assert len(foreign) == len(broken.unknown | broken.fed)
    second = await _reconcile(world)
    assert second.tally.drift_percent == 0, (seed, second.tally)
    assert await _agreed(world, second.job.job_id) == dict.fromkeys(foreign, "foreign")
    assert told <= shop.deleted, (seed, told - shop.deleted)
    await world.assert_right(refused=set(foreign))
    return {"seed": seed, "edits": shop.edits, "busy": first.tally.busy, "deleted": len(shop.deleted)}


async def _run_one(address: str, seed: int, items: int) -> dict[str, Any]:
    database = Database.connect(address)
    try:
        options = SandboxOptions(processing_delay_seconds=0.02, seed=seed)
        async with open_world(database, address, options) as world:
            return await run_seed(world, seed, items=items)
    finally:
        await database.dispose()


def main() -> None:
    """Run the seeds that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--items", type=int, default=2000)
    given = parser.parse_args()
    with running_postgres() as server:
        for seed in range(given.first, given.first + given.seeds):
            began = time.monotonic()
            with fresh_database(server) as address:
                said = asyncio.run(_run_one(address, seed, given.items))
            print(said, f"{time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
