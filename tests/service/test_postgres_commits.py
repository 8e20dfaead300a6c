"""A COMMIT whose connection is cut: before the server sees it, or after, so that nobody knows whether it was done.

Each boundary of the pipeline, with the real statements, a real server and real sockets. Whatever the end was, the next
look finds what is in the database, and Meta is told nothing twice but what one lost answer allows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from meta_sync.core.db import Database, DatabaseTimeouts
from meta_sync.sandbox.options import DEMO_CATALOG_ID
from meta_sync.sync import (
    claim_statements,
    job_statements,
    lease,
    poll_statements,
    record_statements,
    resend,
    settle_statements,
    sweep,
)
from tests.support.database_faults import (
    CommitCut,
    OwnPostgres,
    a_minute_later,
    tick_through,
    way_to,
    with_database,
)
from tests.support.pipeline import arm, assert_sums, assert_tidy, fetch
from tests.support.proxy import When
from tests.support.world import World, open_world, variant

_CLEAN: dict[str, Any] = {
    "lease": lease._TAKE,
    "claim": claim_statements.INSERT_BATCH,
    "check before the call": lease._RENEW,
    "outcome": record_statements.TAKEN,
    "release": lease._RELEASE,
    "claim of a handle": poll_statements.CLAIM,
    "answer about a handle": poll_statements.POLLED,
    "settle": settle_statements.CONFIRM,
    "lease of a job": job_statements.LEASE,
    "page of a job": job_statements.ADVANCE,
    "look of a job": job_statements.COUNT,
    "what a job follows": job_statements.NEW_PAGE,
    "end of a job": job_statements.FINISH,
    "heartbeat": lease._BEAT,
    "sweep": sweep._FORGOTTEN,
    "fold of counters": sweep._FOLD,
}
"""Every kind of transaction of a first sync, by a statement of it."""

_AFTER_A_LOST_ANSWER: dict[str, Any] = {
    "unknown outcome": record_statements.UNKNOWN,
    "second call": resend._OPEN,
}


@pytest.fixture
async def world(own_postgres: OwnPostgres) -> AsyncIterator[World]:
    database = Database.connect(own_postgres.url, pool_size=4)
    async with open_world(database, own_postgres.url) as world:
        yield world
    await database.dispose()


_PATIENT = DatabaseTimeouts(connection_seconds=10.0, statement_seconds=20.0, lock_seconds=5.0)
"""Cut connections are closed, so nobody waits here; and a busy machine is no outage."""


async def _sync_through_a_cut(world: World, server: OwnPostgres, statement: Any, when: When) -> None:
    """A first sync and a deletion, with one COMMIT cut, by a worker that goes on afterwards."""
    await world.put("p", variant("a", special_price=900), variant("b"))
    await world.put("q", variant("c"))
    await world.connect()
    async with way_to(server, timeouts=_PATIENT) as (proxy, database):
        pipeline = with_database(world, database).pipeline()
        cut = CommitCut(proxy, database, statement, when)
        failures: list[Exception] = []
        for _ in range(200):
            failures += await tick_through(pipeline)
            await assert_sums(world)
            if cut.has_struck:
                break
            await a_minute_later(world)
        assert cut.has_struck, "nothing was committed there"
        # What the world does while nobody knows.
        await world.put("p", variant("a", 1500), variant("b"))
        await world.catalog.delete_product(world.store_id, "q")
        await a_minute_later(world)
        # The same worker, through the same pools: they mend themselves.
        await world.run(pipeline)
    assert len(failures) <= 1, failures
    await assert_tidy(world)


def _times_sent(world: World) -> dict[str, int]:
    return world.sandbox.catalog(DEMO_CATALOG_ID).applied_counts


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("boundary", _CLEAN)
async def test_a_commit_that_is_cut(
    world: World, own_postgres: OwnPostgres, boundary: str, when: When
) -> None:
    await _sync_through_a_cut(world, own_postgres, _CLEAN[boundary], when)
    # b never changed: it goes once, also where the database was cut with Meta's answer in the hands of the worker.
    assert _times_sent(world)["b"] == 1
    unsure = await fetch(world, "SELECT count(*) FROM batch_calls WHERE state = 'unknown'")
    assert all(state["attempts"] == 0 for state in (await world.states()).values())
    assert unsure[0][0] <= 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("boundary", _AFTER_A_LOST_ANSWER)
async def test_a_commit_that_is_cut_after_a_lost_answer(
    world: World, own_postgres: OwnPostgres, boundary: str, when: When
) -> None:
    """Meta carried the call out and its answer was lost; then the database is cut where that is noted, or sent again."""
    arm(world, "drop_after", edge="items_batch")
    await _sync_through_a_cut(world, own_postgres, _AFTER_A_LOST_ANSWER[boundary], when)
    assert _times_sent(world)["b"] == 2


async def test_a_store_that_could_not_be_given_back_is_given_back_later(
    world: World, own_postgres: OwnPostgres
) -> None:
    """A live worker's lease is nobody else's for a minute and a half; after an outage it must not keep its stores."""
    await world.put("p", variant("a"))
    await world.connect()
    async with way_to(own_postgres, timeouts=_PATIENT) as (proxy, database):
        pipeline = with_database(world, database).pipeline()
        await pipeline.jobs_tick()
        cut = CommitCut(proxy, database, lease._RELEASE, "before")
        await pipeline.drain_tick()
        assert cut.has_struck
        leased = "SELECT leased_until > now() + interval '30 s' FROM store_queue"
        assert await fetch(world, leased) == [(True,)]
        await world.put("p", variant("a", 1500))
        await world.run(pipeline)
    await assert_tidy(world)
    assert await fetch(world, "SELECT leased_until FROM store_queue") == [(None,)]
