"""Leases and pauses on a real PostgreSQL: who works on a store, and why it stands still. Database time only."""

from __future__ import annotations

from datetime import datetime, timedelta

from meta_sync.core.db import Database
from meta_sync.sync import lease as leases
from meta_sync.sync.drain import database_time
from meta_sync.sync.lease import Lease
from meta_sync.sync.outbox import mark_due
from meta_sync.sync.pauses import (
    Pause,
    PauseReason,
    active_pauses,
    clear_pause,
    failures_in_a_row,
    record_pause,
)
from tests.support.pipeline import execute, one

_QUEUED = (
    "SELECT leased_until IS NULL, lease_owner, due_at <= now() FROM store_queue WHERE store_id = :store_id"
)


async def _due(database: Database, *stores: str) -> None:
    for number, store_id in enumerate(stores):
        async with database.platform() as connection:
            await mark_due(connection, store_id)
        await execute(
            database,
            "UPDATE store_queue SET due_at = now() - make_interval(secs => :age) WHERE store_id = :store_id",
            age=100 - number,
            store_id=store_id,
        )


async def _take(database: Database, owner: str, *, alive: bool = True) -> Lease | None:
    async with database.platform() as connection:
        if alive:
            await leases.beat(connection, owner, version="1", queue="q")
        return await leases.take(connection, owner)


async def _holds(database: Database, lease: Lease, for_seconds: float = 0) -> bool:
    async with database.platform() as connection:
        return await leases.holds(connection, lease, for_seconds=for_seconds)


async def _release(
    database: Database, lease: Lease, *, again: bool = False, next_look: datetime | None = None
) -> None:
    async with database.platform() as connection:
        await leases.release(connection, lease, again=again, next_look=next_look)


async def test_a_lease_goes_to_one_and_comes_back(database: Database) -> None:
    assert await _take(database, "one") is None, "nothing is due"
    await _due(database, "older", "newer")
    first = await _take(database, "one")
    second = await _take(database, "two")
    assert first is not None
    assert second is not None
    assert (first.store_id, second.store_id) == ("older", "newer"), "the one that waits longest goes first"
    assert await _take(database, "two") is None
    assert await _holds(database, first, leases.LEASE_SECONDS - 5)
    assert not await _holds(database, first, leases.LEASE_SECONDS + 1)
    # Back to the end of the line, to a later time, or to whoever marks it.
    await _release(database, first, again=True)
    assert await one(database, _QUEUED, store_id="older") == (True, None, True)
    again = await _take(database, "two")
    assert again is not None
    assert (again.store_id, again.fence) == ("older", first.fence + 1)
    async with database.platform() as connection:
        later = await database_time(connection) + timedelta(hours=1)
    await _release(database, again, next_look=later)
    assert await one(database, _QUEUED, store_id="older") == (True, None, False)
    await _release(database, second)
    assert await one(database, _QUEUED, store_id="newer") == (True, None, None)
    assert await _take(database, "two") is None
    async with database.platform() as connection:
        await mark_due(connection, "older")
        await mark_due(connection, "newer")
    assert await _take(database, "two") is not None
    assert await _take(database, "two") is not None


async def test_two_takers_at_once_take_two_stores(database: Database) -> None:
    await _due(database, "a", "b")
    async with database.platform() as one_connection, database.platform() as other_connection:
        first = await leases.take(one_connection, "one")
        second = await leases.take(other_connection, "two")
        third = await leases.take(other_connection, "two")
    assert first is not None
    assert second is not None
    assert {first.store_id, second.store_id} == {"a", "b"}
    assert third is None or third.store_id == second.store_id, (
        "a row somebody holds is skipped, not waited for"
    )


async def test_a_silent_worker_loses_its_lease_and_every_right_of_it(database: Database) -> None:
    await _due(database, "a")
    stalled = await _take(database, "stalled")
    assert stalled is not None
    assert await _take(database, "other") is None, "it is alive"
    await execute(database, "UPDATE worker_heartbeats SET seen_at = now() - interval '11 seconds'")
    taken = await _take(database, "other")
    assert taken is not None
    assert taken.fence == stalled.fence + 1
    async with database.platform() as connection:
        assert not await leases.holds(connection, stalled, for_seconds=0)
        assert not await leases.renew(connection, stalled)
        await leases.release(connection, stalled, again=True, next_look=None)
        assert await leases.renew(connection, taken), "nobody took it away again"
        assert await leases.holds(connection, taken, for_seconds=leases.LEASE_SECONDS - 5)


async def test_a_lease_that_ran_out_is_free_although_its_owner_lives(database: Database) -> None:
    await _due(database, "a")
    slow = await _take(database, "slow")
    assert slow is not None
    await execute(database, "UPDATE store_queue SET leased_until = now() - interval '1 second'")
    assert not await _holds(database, slow)
    taken = await _take(database, "other")
    assert taken is not None
    assert not await _holds(database, slow)
    assert await _holds(database, taken)
    # The same owner's older turn is as stale as anybody's.
    await execute(database, "UPDATE store_queue SET leased_until = now() - interval '1 second'")
    own = await _take(database, "other")
    assert own is not None
    assert not await _holds(database, taken)
    async with database.platform() as connection:
        assert not await leases.renew(connection, taken)
        await leases.release(connection, taken, again=True, next_look=None)
    assert await _holds(database, own)


async def test_pauses_by_reason_and_link(database: Database) -> None:
    async with database.platform() as connection:
        now = await database_time(connection)
        soon, late = now + timedelta(minutes=1), now + timedelta(minutes=5)
        unreachable = PauseReason.META_UNREACHABLE
        assert await failures_in_a_row(connection, "s", 0, unreachable) == 0
        await record_pause(connection, "s", 0, Pause(unreachable, late, "1", "first"))
        await record_pause(connection, "s", 0, Pause(unreachable, soon, "2", "second"))
        assert await active_pauses(connection, "s", 7) == [Pause(unreachable, late, "2", "second")]
        assert await failures_in_a_row(connection, "s", 0, unreachable) == 2
        assert await failures_in_a_row(connection, "s", 7, unreachable) == 0
        await record_pause(connection, "s", 7, Pause(PauseReason.NEEDS_RECONNECT, None, "190", "dead"))
        await record_pause(connection, "s", 8, Pause(PauseReason.BLOCKED_BY_META, late, None, None))
        await record_pause(
            connection, "s", 0, Pause(PauseReason.BLOCKED_BY_META, now - timedelta(hours=1), None, None)
        )
        reasons = [pause.reason for pause in await active_pauses(connection, "s", 7)]
        assert reasons == [PauseReason.NEEDS_RECONNECT, unreachable], (
            "without an end first, no other link's, none over"
        )
        assert await active_pauses(connection, "another store", 7) == []
        # A pause without an end is not given one by a later failure.
        await record_pause(connection, "s", 7, Pause(PauseReason.NEEDS_RECONNECT, late, "190", "dead"))
        assert (await active_pauses(connection, "s", 7))[0].until is None
        await record_pause(connection, "s", 0, Pause(unreachable, None, None, None))
        assert [pause.until for pause in await active_pauses(connection, "s", 7)] == [None, None]
        assert not await clear_pause(connection, "s", 7, unreachable), "the store's, not the link's"
        assert await clear_pause(connection, "s", 0, unreachable)
        assert [pause.reason for pause in await active_pauses(connection, "s", 7)] == [
            PauseReason.NEEDS_RECONNECT
        ]
        assert await failures_in_a_row(connection, "s", 0, unreachable) == 0
        await clear_pause(connection, "s", 8, PauseReason.NEEDS_RECONNECT)
        assert len(await active_pauses(connection, "s", 7)) == 1, "another link's"
