"""kill -9 at every boundary of the pipeline: another worker ends the work, nothing is lost and nothing is sent wrong."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import pytest

from meta_sync.core.db import Database
from meta_sync.core.failpoints import FAILPOINTS
from tests.support.processes import WorkerProcess, let_leases_run_out, open_real_world, until_quiet
from tests.support.world import World, product, variant

pytestmark = pytest.mark.kill

_PRODUCTS = 40
_OF_THE_PIPELINE = [
    name
    for name in FAILPOINTS
    if name.partition(".")[0] in {"claim", "submit", "outcome", "poll", "settle", "job"}
]


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_real_world(database, database_url) as world:
        yield world


async def _fill(world: World, price: int) -> None:
    await world.catalog.put_products(
        world.store_id,
        [
            product(
                f"p{number}",
                variant(f"p{number}-a", price, special_price=price // 2),
                variant(f"p{number}-b", price),
            )
            for number in range(_PRODUCTS)
        ],
    )


_SECOND_PASSAGES = ("submit.after_call", "settle.before_commit")
"""Where the second passage differs from the first: other batches are already at Meta, or settled."""


@pytest.mark.parametrize(
    ("name", "passage"), [(name, 1) for name in _OF_THE_PIPELINE] + [(name, 2) for name in _SECOND_PASSAGES]
)
async def test_killed_at_a_failpoint(world: World, name: str, passage: int) -> None:
    await _fill(world, 1000)
    await world.connect()
    # Small batches, so that every boundary is passed more than once.
    await world.stores.patch_settings(world.store_id, {"batchSize": 50})
    with WorkerProcess(world, failpoints=f"{name}=kill@{passage}") as victim:
        assert await victim.wait() == -signal.SIGKILL, victim.log()
    # The world goes on while the worker is down.
    await world.put("p1", variant("p1-a", 7777))
    await world.catalog.delete_product(world.store_id, "p2")
    await let_leases_run_out(world)
    with WorkerProcess(world) as worker:
        await until_quiet(world, worker)
        await world.assert_right()
        assert worker.stop() == 0, worker.log()
    assert world.at_meta()["p1-a"]["price"] == "77.77 EUR"
    assert "sale_price" not in world.at_meta()["p1-a"]
    assert all(state["attempts"] == 0 for state in (await world.states()).values())
