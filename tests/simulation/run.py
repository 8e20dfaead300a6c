"""Runs seeds: one whole history each, judged at its end.

python -m tests.simulation --seeds 1000            the seeds 0 to 999
python -m tests.simulation --first 77 --trace      one seed, with everything that happened
python -m tests.simulation --without hold          with a protective rule switched off
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import orjson

from meta_sync.stores import repository
from meta_sync.stores.settings import StoreSettings, settings_from_stored
from meta_sync.sync import jobs, read_jobs, ticks
from tests.simulation.clock import VirtualLoop, run_virtual
from tests.simulation.memory import MemoryDatabase
from tests.simulation.oracle import is_quiet, judge
from tests.simulation.people import People
from tests.simulation.tables import make_tables
from tests.simulation.twins import load
from tests.simulation.world import Plan, SimulatedWorld

__all__ = ["Result", "run_seed"]

_WATCHED = (
    "sync_state",
    "intents",
    "batches",
    "batch_calls",
    "splits",
    "split_parts",
    "store_pauses",
    "jobs",
    "reconcile_findings",
)

_LONGEST_REST_SECONDS = 30 * 3600.0
"""A handle that is given up is asked on for 24 hours; nothing may take longer."""

MakeDatabase = Callable[[dict[str, Any], VirtualLoop], AbstractContextManager[MemoryDatabase]]


@dataclass(slots=True)
class Result:
    """What came of one seed."""

    seed: int
    wrong: list[str]
    calls: int
    questions: int
    kills: int
    freezes: int
    seconds: float
    """Virtual."""
    trace: list[str] = field(default_factory=list)


def run_seed(
    seed: int,
    *,
    trace: bool = False,
    plan: Plan | None = None,
    make_database: MakeDatabase | None = None,
) -> Result:
    """Run one seed from its beginning to its end.

    Parameters
    ----------
    plan
        Instead of the one that the seed draws.
    make_database
        Another database than the plain memory, given tables and loop.
    """
    load()
    plan = plan or Plan.drawn(seed)
    loop = VirtualLoop()
    tables = make_tables()
    opened = (
        nullcontext(MemoryDatabase(tables, loop.database_time))
        if make_database is None
        else make_database(tables, loop)
    )
    with opened as database, _surroundings(seed):
        world = SimulatedWorld(plan, loop, tables, database, random.Random(f"history {seed}"))
        if trace:
            world.trace = []
            for name in _WATCHED:
                tables[name].watchers.append(world.log_row)
        if plan.refused:
            world.meta.unwanted = _unwanted
        if plan.poison:
            world.meta.poisonous = _poisonous
        wrong = run_virtual(_history(world), loop)
        return Result(
            seed,
            wrong,
            world.meta.calls,
            world.meta.questions,
            world.kills,
            world.freezes,
            loop.time(),
            world.trace or [],
        )


def _unwanted(data: Any) -> str | None:
    return (
        "The price information under  is invalid." if str(data.get("price", "")).startswith("19.13") else None
    )


def _poisonous(data: Any) -> bool:
    return "poison" in str(data.get("title", ""))


async def _history(world: SimulatedWorld) -> list[str]:
    people = People(world)
    await people.set_up()
    others = [People(world, is_other=True)] if world.plan.two_stores else []
    for other in others:
        # Whoever of two has waited as long comes first by chance.
        await asyncio.sleep(0.1)
        await other.set_up()
    supervisor = asyncio.create_task(world.supervise(), name="supervisor")
    deciding = asyncio.create_task(people.decide_holds(), name="holds") if world.plan.guarded else None
    reading = asyncio.create_task(people.read_back(), name="reading") if world.plan.reconciles else None
    await asyncio.gather(*(one.live() for one in (people, *others)))
    if reading is not None:
        reading.cancel()
    for somebody in (people, *others):
        await somebody.rest()
    await _until_quiet(world, world.loop.time())
    if reading is not None and is_quiet(world):
        await people.put_drift_right()
        await _until_quiet(world, world.loop.time())
    supervisor.cancel()
    if deciding is not None:
        deciding.cancel()
    for process in world.processes:
        process.cancel()
    wrong = [one.text for one in world.violations]
    if not wrong or is_quiet(world):
        wrong += await judge(world)
    for one in wrong:
        world.log("WRONG", one)
    return wrong


async def _until_quiet(world: SimulatedWorld, began: float) -> None:
    while world.loop.time() - began < _LONGEST_REST_SECONDS and not world.violations:
        if is_quiet(world):
            # What is quiet now must stay so, past the hold, every back-off and every lease.
            await asyncio.sleep(1200)
            if is_quiet(world):
                return
        else:
            await asyncio.sleep(60)


_KNOWN_SETTINGS: dict[bytes, StoreSettings] = {}


def _settings_from_stored(stored: Any) -> StoreSettings:
    key = orjson.dumps(stored, option=orjson.OPT_SORT_KEYS)
    if key not in _KNOWN_SETTINGS:
        _KNOWN_SETTINGS[key] = settings_from_stored(stored)
    return _KNOWN_SETTINGS[key]


@contextmanager
def _surroundings(seed: int) -> Iterator[None]:
    """What is random or of no matter elsewhere in the product."""
    state = random.getstate()
    random.seed(seed)
    numbers = iter(range(1, 10**9))

    async def nothing(*_: Any, **__: Any) -> bool:
        return False

    with (
        patch.object(jobs, "new_id", lambda prefix: f"{prefix}_{next(numbers):06}"),
        patch.object(read_jobs, "new_id", lambda prefix: f"{prefix}_{next(numbers):06}"),
        patch.object(ticks, "fold_counters", nothing),
        patch.object(ticks, "keep_partitions", nothing),
        patch.object(ticks, "purge", nothing),
        # The same few settings are read in every turn and for every handle.
        patch.object(repository, "settings_from_stored", _settings_from_stored),
    ):
        yield
    random.setstate(state)
