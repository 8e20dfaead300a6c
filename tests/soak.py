"""A bootstrap under fire: random ``kill -9`` of real workers, edits going on, Redis flushed and taken away.

Not part of the test suite by its size; the suite runs a small one. By hand::

    python -m tests.soak --variants 20000 --kills 20 --redis

Ends with an error unless the sandbox holds exactly what the mapper makes of the catalog, with nothing left to do.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from sqlalchemy import text

from meta_sync.cli.embedded_redis import EmbeddedRedis, find_redis_server
from meta_sync.core.db import Database
from meta_sync.sandbox.options import SandboxOptions
from tests.support.postgres import fresh_database, running_postgres
from tests.support.processes import WorkerProcess, let_leases_run_out, open_real_world, until_quiet
from tests.support.world import World, product, variant

_PER_PRODUCT = 4


async def fill(world: World, variants: int) -> None:
    products = [
        product(
            f"p{number}",
            *(
                variant(f"p{number}-{letter}", 1000 + number % 900, options={"size": letter})
                for letter in "abcd"[:_PER_PRODUCT]
            ),
        )
        for number in range(variants // _PER_PRODUCT)
    ]
    for start in range(0, len(products), 500):
        await world.catalog.put_products(world.store_id, products[start : start + 500])


async def edit(world: World, dice: random.Random, products: int) -> None:
    """One edit of the kinds that merchants make."""
    number = dice.randrange(products)
    product_id = f"p{number}"
    kind = dice.randrange(5)
    if kind == 0:
        await world.catalog.delete_product(world.store_id, product_id)
        return
    kept = dice.sample("abcd", dice.randint(1, 4))
    await world.put(
        product_id,
        *(
            variant(
                f"{product_id}-{letter}",
                dice.randint(100, 9999),
                special_price=dice.choice([None, 99]),
                options={"size": letter} if kind != 1 else {},
            )
            for letter in sorted(kept)
        ),
        title=f"Product {number} edition {dice.randrange(1000)}",
        status="archived" if kind == 2 else "active",
    )


async def _edit_until(world: World, dice: random.Random, products: int, stop: asyncio.Event) -> int:
    edits = 0
    while not stop.is_set():
        await edit(world, dice, products)
        edits += 1
        try:
            await asyncio.wait_for(stop.wait(), 0.05)
        except TimeoutError:
            continue
    return edits


def _redis(directory: Path | None) -> EmbeddedRedis | None:
    if directory is None:
        return None
    binary = find_redis_server()
    assert binary is not None, "no redis-server on this machine"
    return EmbeddedRedis(directory, binary)


def _flush(redis: EmbeddedRedis) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(redis.url.removeprefix("unix://"))
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(64).startswith(b"+OK")


async def soak(
    database_url: str,
    *,
    variants: int,
    kills: int,
    seed: int,
    redis_directory: Path | None = None,
    away_seconds: float = 60,
) -> str:
    """Run it; a sentence with what happened."""
    dice = random.Random(seed)
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        database = Database.connect(database_url, pool_size=4)
        stack.push_async_callback(database.dispose)
        world = await stack.enter_async_context(
            open_real_world(
                database, database_url, SandboxOptions(processing_delay_seconds=0.3, calls_per_hour=100_000)
            )
        )
        redis = _redis(redis_directory)
        if redis is not None:
            redis.start()
            stack.callback(redis.stop)
        await fill(world, variants)
        await world.connect()
        # So much changes in so short a time that the guard counts again and again; nobody is there to be asked.
        size = max(50, min(2500, variants // 20))
        await world.stores.patch_settings(world.store_id, {"batchSize": size, "guardMaxShare": 1.0})
        stop = asyncio.Event()
        edits = asyncio.create_task(_edit_until(world, dice, variants // _PER_PRODUCT, stop))
        for number in range(kills):
            with WorkerProcess(world, redis_url=redis.url if redis else "") as victim:
                await asyncio.sleep(dice.uniform(1.5, 5.0))
                if redis is not None and number in {kills // 3, kills // 2}:
                    _flush(redis)
                if redis is not None and number == kills // 4:
                    redis.stop()
                    await asyncio.sleep(away_seconds)
                    redis.start()
                assert victim.process.poll() is None, victim.log()
                victim.kill()
            await let_leases_run_out(world)
        stop.set()
        edited = await edits
        with WorkerProcess(world, redis_url=redis.url if redis else "") as worker:
            await until_quiet(world, worker, 600)
            await world.assert_right()
            assert worker.stop() == 0, worker.log()
        async with database.platform() as connection:
            odd = await connection.scalar(
                text(
                    "SELECT count(*) FROM batches WHERE state = 'over' AND accepted + rejected + unknown <> sent"
                )
            )
            batches = await connection.scalar(text("SELECT count(*) FROM batches"))
            unknown = await connection.scalar(
                text("SELECT count(*) FROM batch_calls WHERE state = 'unknown'")
            )
        assert odd == 0
        return (
            f"{variants} variants, {kills} kills, {edited} edits, {batches} batches, {unknown} calls without an answer, "
            f"{len(world.at_meta())} items at the sandbox, all right, after {time.monotonic() - began:.0f} s (seed {seed})"
        )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--redis", action="store_true", help="run a Redis, flush it twice and take it away for a minute"
    )
    arguments = parser.parse_args()
    with (
        running_postgres() as server,
        fresh_database(server) as url,
        tempfile.TemporaryDirectory() as directory,
    ):
        print(
            asyncio.run(
                soak(
                    url,
                    variants=arguments.variants,
                    kills=arguments.kills,
                    seed=arguments.seed,
                    redis_directory=Path(directory) if arguments.redis else None,
                )
            )
        )


if __name__ == "__main__":
    main()
