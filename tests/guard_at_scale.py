"""A feed that would delete three items in five of a large store: held before its first call, discarded, then released.

Not part of the test suite by its size. By hand::

    python -m tests.guard_at_scale --variants 100000

A real PostgreSQL, a worker in a process of its own, and the sandbox as Meta. Stock of the items that stay is changed all
the while; how long each change takes until Meta has it is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from meta_sync.catalog.ingest.imports import ImportService
from meta_sync.catalog.models import InventoryInput
from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.core.logging import configure_logging
from meta_sync.core.paging import CursorCodec
from meta_sync.sandbox.options import DEMO_CATALOG_ID, SandboxOptions
from meta_sync.sync.drain import Timing
from meta_sync.sync.holds import Hold, HoldsService, HoldState
from tests.support.forked import Changes, ForkedWorker
from tests.support.imports import feed, rows_of
from tests.support.pipeline import assert_sums, one
from tests.support.postgres import fresh_database, running_postgres
from tests.support.processes import open_real_world, until_quiet
from tests.support.world import World

__all__ = ["run_guard_at_scale"]

_CHUNK_BYTES = 1_000_000
_MOST_SECONDS = 900.0
_KEPT_SHARE = 0.4


class Scale:
    """The store, its worker, and what was measured."""

    def __init__(self, world: World, worker: ForkedWorker, variants: int) -> None:
        self.world = world
        self.worker = worker
        self.ids = [f"v{number:07}" for number in range(variants)]
        self.kept = self.ids[: int(variants * _KEPT_SHARE)]
        self.holds = HoldsService(world.database, utc_now, CursorCodec(b"k" * 32), world.queue)
        self.lags: list[float] = []
        self.lines: list[str] = []

    async def until(self, what: str, is_so: Callable[[], object]) -> float:
        """Wait for something; how long it took."""
        began = time.monotonic()
        while True:
            answer = is_so()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return time.monotonic() - began
            assert self.worker.process.poll() is None, self.worker.log()[-3000:]
            assert time.monotonic() - began < _MOST_SECONDS, f"{what}: {await self.world.leftovers()}"
            await asyncio.sleep(0.05)

    async def imported(self, ids: list[str]) -> float:
        """Import a feed of these items, and nothing else; how long it took."""
        service = ImportService(self.world.database, self.world.queue, max_upload_bytes=1_000_000_000)
        store_id = self.world.store_id
        content = feed(*rows_of(*ids, price="10.00 EUR"))
        import_id = await service.create(
            store_id, file_name="feed.csv", mode="replace", source="feed", allow_mass_delete=True
        )
        for number, start in enumerate(range(0, len(content), _CHUNK_BYTES)):
            await service.append_chunk(store_id, import_id, number, content[start : start + _CHUNK_BYTES])
        await service.finish_upload(store_id, import_id)

        async def is_over() -> bool:
            view = await service.get(store_id, import_id)
            assert view.status not in {"error", "cancelled"}, view
            return view.status in {"success", "partial"}

        return await self.until("the import", is_over)

    async def _open(self) -> Hold | None:
        found = (await self.holds.list(self.world.store_id, state=HoldState.HELD)).holds
        return found[0] if found else None

    async def held(self) -> Hold:
        """The hold, once it is one, with nothing of its kind sent."""
        seconds = await self.until("a hold", self._open)
        hold = await self._open()
        assert hold is not None
        assert hold.items == len(self.ids) - len(self.kept), hold
        assert len(self.world.at_meta()) == len(self.ids)
        counting = await one(
            self.world,
            "SELECT extract(epoch FROM held_at - created_at) FROM holds WHERE hold_id = :id",
            id=hold.hold_id,
        )
        self.lines.append(
            f"held: {hold.items} of {hold.base_items}, {float(counting):.1f} s after the first was seen, "
            f"{seconds:.1f} s after the import"
        )
        return hold

    async def worked_off(self, hold: Hold) -> float:
        async def is_finished() -> bool:
            return (await self.holds.get(self.world.store_id, str(hold.hold_id))).finished_at is not None

        return await self.until("the end of the hold", is_finished)

    async def change_stock(self) -> None:
        """Change the stock of one item that stays after another, each once Meta has the one before."""
        dice = random.Random(7)
        while True:
            variant_id, quantity = dice.choice(self.kept), dice.randint(1, 40)
            before = self.world.sandbox.catalog(DEMO_CATALOG_ID).items[variant_id]
            if str(before.get("quantity_to_sell_on_facebook")) == str(quantity):
                continue
            stock = InventoryInput(track_inventory=True, quantity_on_hand=quantity)
            await self.world.catalog.put_inventory(self.world.store_id, [(variant_id, stock)])
            self.lags.append(await self.until("a stock change", lambda: self._has(variant_id, quantity)))
            await asyncio.sleep(0.2)

    def _has(self, variant_id: str, quantity: int) -> bool:
        found = self.world.sandbox.catalog(DEMO_CATALOG_ID).items[variant_id]
        return str(found.get("quantity_to_sell_on_facebook")) == str(quantity)


@asynccontextmanager
async def _opened(database_url: str, variants: int) -> AsyncIterator[Scale]:
    database = Database.connect(database_url, pool_size=8)
    options = SandboxOptions(processing_delay_seconds=0.5, calls_per_hour=1_000_000)
    changes = Changes(timing=Timing(), calls_per_hour=1_000_000)
    try:
        async with open_real_world(database, database_url, options) as world:
            await world.stores.patch_settings(world.store_id, {"defaultBrand": "Acme"})
            with ForkedWorker(world, changes=changes) as worker:
                yield Scale(world, worker, variants)
                assert worker.stop() == 0, worker.log()
    finally:
        await database.dispose()


async def run_guard_at_scale(database_url: str, *, variants: int) -> str:
    """Run it; what happened, a line for each thing."""
    began = time.monotonic()
    async with _opened(database_url, variants) as scale:
        world = scale.world
        scale.lines.append(f"first import: {await scale.imported(scale.ids):.1f} s")
        await world.connect()
        await until_quiet(world, scale.worker, _MOST_SECONDS)
        assert len(world.at_meta()) == variants
        scale.lines.append(
            f"everything at Meta after {time.monotonic() - began:.0f} s, with {world.calls()} calls"
        )
        stock = asyncio.create_task(scale.change_stock())
        try:
            await _discarded(scale)
            await _released(scale)
        finally:
            stock.cancel()
            with suppress(asyncio.CancelledError):
                await stock
        await until_quiet(world, scale.worker, _MOST_SECONDS)
        await world.assert_right()
        await assert_sums(world)
        lags = sorted(scale.lags)
        assert lags, "no stock change came through"
        scale.lines.append(
            f"{len(lags)} stock changes meanwhile, until Meta had them: "
            f"median {lags[len(lags) // 2]:.1f} s, longest {lags[-1]:.1f} s"
        )
    scale.lines.append(f"{variants} variants, all right, after {time.monotonic() - began:.0f} s")
    return "\n".join(scale.lines)


async def _discarded(scale: Scale) -> None:
    world = scale.world
    scale.lines.append(f"import without three in five: {await scale.imported(scale.kept):.1f} s")
    hold = await scale.held()
    await scale.holds.discard(world.store_id, str(hold.hold_id), actor="me")
    scale.lines.append(f"discarded in {await scale.worked_off(hold):.1f} s")
    started = await world.jobs.start_bootstrap(world.store_id, requested_by=None)

    async def is_over() -> bool:
        return (await world.jobs.get(world.store_id, started.job_id)).finished_at is not None

    scale.lines.append(f"a bootstrap over it: {await scale.until('the bootstrap', is_over):.1f} s")
    assert len(world.at_meta()) == len(scale.ids)


async def _released(scale: Scale) -> None:
    world = scale.world
    scale.lines.append(f"import with everything again: {await scale.imported(scale.ids):.1f} s")

    async def is_settled() -> bool:
        # The stock changes go on, so there is always something that waits.
        return bool(
            await one(world, "SELECT count(*) < 20 FROM intents") and len(world.at_meta()) == len(scale.ids)
        )

    await scale.until("what was put back", is_settled)
    await scale.imported(scale.kept)
    hold = await scale.held()
    began = time.monotonic()
    await scale.holds.release(world.store_id, str(hold.hold_id), shown_items=hold.items, actor="me")
    freed = await scale.worked_off(hold)
    await scale.until("the deletion", lambda: len(world.at_meta()) == len(scale.kept))
    scale.lines.append(f"released: freed in {freed:.1f} s, gone at Meta in {time.monotonic() - began:.1f} s")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=int, default=100_000)
    arguments = parser.parse_args()
    configure_logging("WARNING", "console")
    with running_postgres() as server, fresh_database(server) as url:
        print(asyncio.run(run_guard_at_scale(url, variants=arguments.variants)))


if __name__ == "__main__":
    main()
