"""Hundreds of real kills: at every failpoint and at random, on a real PostgreSQL, with an adverse sandbox and edits going on.

Not part of the test suite by its length; the suite kills once at each failpoint and runs a small one of this. By hand::

    python -m tests.many_kills --kills 300

Ends with an error unless the sandbox holds exactly what the mapper makes of the catalog, with nothing in flight and nothing
left to do.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack

from sqlalchemy import text

from meta_sync.core.db import Database
from meta_sync.core.failpoints import FAILPOINTS
from meta_sync.sandbox.options import SandboxOptions
from tests.soak import edit, fill
from tests.support.forked import Changes, ForkedWorker
from tests.support.postgres import fresh_database, running_postgres
from tests.support.processes import let_leases_run_out, open_real_world, until_quiet
from tests.support.world import World

__all__ = ["OF_THE_PIPELINE", "kill_many"]

OF_THE_PIPELINE = tuple(
    name for name in FAILPOINTS if name.partition(".")[0] not in {"catalog", "feed", "import", "sale_windows"}
)
"""The boundaries that a worker passes while it sends."""

_CHANGES = Changes(calls_per_hour=1_000_000)
_LONGEST_LIFE_SECONDS = 6.0
_QUIET_SECONDS = 900


async def _kill_one(world: World, dice: random.Random, name: str | None) -> str:
    """Start a worker and end it: at a passage of the failpoint, or at any moment. How it ended."""
    armed = "" if name is None else f"{name}=kill@{dice.choice([1, 1, 1, 2, 4])}"
    life_seconds = dice.uniform(0.05, 1.5) if name is None else _LONGEST_LIFE_SECONDS
    with ForkedWorker(world, changes=_CHANGES, failpoints=armed) as victim:
        try:
            await victim.wait(life_seconds)
        except AssertionError:
            victim.kill()
            ended = "at random"
        else:
            ended = name or "by itself"
    await let_leases_run_out(world)
    return ended


async def kill_many(database_url: str, *, variants: int, kills: int, seed: int) -> str:
    """Run it; a sentence with what happened."""
    dice = random.Random(seed)
    began = time.monotonic()
    options = SandboxOptions(
        processing_delay_seconds=0.1, calls_per_hour=1_000_000, profile="adverse", seed=seed
    )
    ends: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        database = Database.connect(database_url, pool_size=4)
        stack.push_async_callback(database.dispose)
        world = await stack.enter_async_context(open_real_world(database, database_url, options))
        await fill(world, variants)
        await world.connect()
        await world.stores.patch_settings(
            world.store_id, {"batchSize": max(5, variants // 20), "guardMaxShare": 1.0}
        )
        products = max(1, variants // 4)
        for number in range(kills):
            for _ in range(dice.randrange(1, 6)):
                await edit(world, dice, products)
            # Half of them at a boundary, each in its turn.
            name = OF_THE_PIPELINE[number // 2 % len(OF_THE_PIPELINE)] if number % 2 else None
            ends[await _kill_one(world, dice, name)] += 1
            if number % 25 == 24:
                print(f"{number + 1} kills after {time.monotonic() - began:.0f} s", flush=True)
        with ForkedWorker(world, changes=_CHANGES) as worker:
            await until_quiet(world, worker, _QUIET_SECONDS)
            await world.assert_right()
            assert worker.stop() == 0, worker.log()
        async with database.platform() as connection:
            odd, batches, unknown = (
                await connection.execute(
                    text(
                        """
                        SELECT (SELECT count(*) FROM batches
                                WHERE state = 'over' AND accepted + rejected + unknown <> sent),
                            (SELECT count(*) FROM batches),
                            (SELECT count(*) FROM batch_calls WHERE state = 'unknown')
                        """
                    )
                )
            ).one()
        assert odd == 0
    at = ", ".join(f"{name} {count}" for name, count in sorted(ends.items()))
    return (
        f"{kills} kills ({at}), {variants} variants, {batches} batches, {unknown} calls without an answer, "
        f"{len(world.at_meta())} items at the sandbox, all right, after {time.monotonic() - began:.0f} s (seed {seed})"
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=int, default=200)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with running_postgres() as server, fresh_database(server) as url:
        print(
            asyncio.run(
                kill_many(url, variants=arguments.variants, kills=arguments.kills, seed=arguments.seed)
            )
        )


if __name__ == "__main__":
    main()
