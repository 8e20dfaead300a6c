"""What the worker tests share: a world with small batches, what was posted of each item, and a call under way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from tests.support.pipeline import arm
from tests.support.processes import WorkerProcess
from tests.support.world import World, product, variant

__all__ = ["eventually", "fill", "posts", "slow_call"]


async def eventually(
    condition: Callable[[], object | Awaitable[object]],
    what: str,
    seconds: float = 30,
    process: WorkerProcess | None = None,
) -> None:
    """Wait until a condition holds, or say what was waited for in vain."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = condition()
                if isinstance(answer, Awaitable):
                    answer = await answer
                if answer:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        log = "" if process is None else process.log()[-3000:]
        raise AssertionError(f"waited {seconds} s in vain for {what}\n{log}") from None


async def fill(world: World, products: int, *, batch_size: int, price: int = 1000) -> None:
    """That many products ``p0``… with one variant ``v0``… each, in a connected store."""
    await world.catalog.put_products(
        world.store_id, [product(f"p{number}", variant(f"v{number}", price)) for number in range(products)]
    )
    await world.connect()
    await world.stores.patch_settings(world.store_id, {"batchSize": batch_size, "guardMaxShare": 1.0})


def posts(world: World) -> Counter[str]:
    """How often a record of each item was accepted by the sandbox, from now on. Kept up to date."""
    counted: Counter[str] = Counter()
    processor: Any = world.sandbox.processor
    accept = processor.accept

    def counting(catalog: Any, records: Any, **rest: Any) -> Any:
        counted.update(record.id for record in records)
        return accept(catalog, records, **rest)

    processor.accept = counting
    return counted


async def slow_call(world: World, seconds: float, *, process: WorkerProcess | None = None) -> None:
    """Let the next call's answer take its time, and return when Meta has carried the call out."""
    before = world.calls()
    arm(world, "slow", edge="items_batch", seconds=seconds)
    await eventually(lambda: world.calls() > before, "a call", process=process)
