"""The pipeline against a sandbox that misbehaves, one fault at a time: an outage is no data error, silence no success."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from meta_sync.core.crypto import Cipher, generate_encryption_key
from meta_sync.core.db import Database
from meta_sync.sandbox.faults import FaultKind, FaultSpec
from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN
from tests.support.world import World, open_world, variant


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.run()
        yield world


def _arm(world: World, name: str, **fields: object) -> None:
    world.sandbox.faults.add(FaultSpec(kind=FaultKind(name), **fields))  # type: ignore[arg-type]  # given loosely on purpose


async def _pause(world: World) -> list[tuple[str, str | None]]:
    async with world.database.platform() as connection:
        rows = await connection.execute(text("SELECT reason, code FROM store_pauses"))
        return [(row[0], row[1]) for row in rows]


_NEEDS_MORE = {"token_error", "access_lost", "throttled", "handle_never", "blocked"}
"""These wait for a person or for minutes; each has a test of its own below."""


@pytest.mark.parametrize("kind", sorted(kind.value for kind in FaultKind if kind.value not in _NEEDS_MORE))
async def test_after_any_single_fault_meta_ends_right(world: World, kind: str) -> None:
    """Every fault the sandbox knows, once, while two products are created, changed and deleted."""
    _arm(world, kind, count=1, seconds=1)
    await world.put("p", variant("a", special_price=999), variant("b"))
    await world.put("q", variant("c"), variant("d", None))
    await world.run()
    await world.put("p", variant("a"), variant("b", 5000))
    await world.catalog.delete_product(world.store_id, "q")
    await world.run()
    await world.assert_right()
    statuses = {one: state["status"] for one, state in (await world.states()).items()}
    assert statuses["a"] == statuses["b"] == "synced"
    assert all(state["attempts"] == 0 for state in (await world.states()).values())


async def _ticks(world: World, count: int = 6) -> None:
    pipeline = world.pipeline()
    for _ in range(count):
        await pipeline.drain_tick()
        await pipeline.poll_tick()
        await pipeline.sweep_tick()


async def test_a_throttled_catalog_is_left_alone_until_the_regain_time(world: World) -> None:
    _arm(world, "throttled", count=1, edge="items_batch")
    await world.put("p", variant("a"))
    await _ticks(world)
    assert world.calls() == 1
    async with world.database.platform() as connection:
        waits = await connection.scalar(text("SELECT calls_blocked_until > now() FROM catalog_links"))
        assert waits
        world.sandbox.put_clock_forward(90)
        await connection.execute(
            text("UPDATE catalog_links SET calls_blocked_until = NULL, usage_percent = 0")
        )
        await connection.execute(text("UPDATE store_queue SET due_at = now()"))
    await world.run()
    await world.assert_right()
    assert (await world.states())["a"]["attempts"] == 0


@pytest.mark.parametrize("kind", ["token_error", "access_lost"])
async def test_a_lost_connection_pauses_the_store_until_somebody_reconnects(world: World, kind: str) -> None:
    _arm(world, kind, edge="items_batch")
    await world.put("p", variant("a"))
    await _ticks(world)
    assert world.calls() == 1, "a token known dead is not used again"
    assert [reason for reason, _ in await _pause(world)] == ["needs_reconnect"]
    assert (await world.states())["a"]["status"] == "pending"
    world.sandbox.faults.clear()
    await world.connection.set_token(world.store_id, SecretStr(DEMO_ACCESS_TOKEN))
    await world.run()
    await world.assert_right()
    assert await _pause(world) == []
    assert (await world.states())["a"]["attempts"] == 0


async def test_a_block_for_policy_silences_the_store_for_long_and_fails_no_item(world: World) -> None:
    _arm(world, "blocked", count=1, edge="items_batch")
    await world.put("p", variant("a"))
    await _ticks(world)
    assert world.calls() == 1
    assert [reason for reason, _ in await _pause(world)] == ["blocked_by_meta"]
    async with world.database.platform() as connection:
        is_long = await connection.scalar(
            text("SELECT until > now() + interval '30 minutes' FROM store_pauses")
        )
        assert is_long
        await connection.execute(text("UPDATE store_pauses SET until = now()"))
        await connection.execute(text("UPDATE store_queue SET due_at = now()"))
    await world.run()
    await world.assert_right()
    assert (await world.states())["a"]["attempts"] == 0


async def test_a_handle_that_never_ends_is_given_up_and_its_items_go_again(world: World) -> None:
    _arm(world, "handle_never", count=1)
    await world.put("p", variant("a"))
    await _ticks(world)
    assert (await world.states())["a"]["status"] == "submitted"
    async with world.database.platform() as connection:
        await connection.execute(
            text(
                "UPDATE batches SET sent_at = now() - interval '31 minutes', due_at = now() WHERE state = 'open'"
            )
        )
    pipeline = world.pipeline()
    await pipeline.poll_tick()
    state = (await world.states())["a"]
    assert (state["status"], state["code"], state["confirmed_hash"]) == ("failed", "poll_timeout", None)
    await world.run(pipeline)
    await world.assert_right()
    assert (await world.states())["a"]["status"] == "synced"


async def test_a_given_up_handle_that_ends_late_disturbs_what_was_confirmed_since(world: World) -> None:
    _arm(world, "handle_late", count=1, seconds=3600)
    await world.put("p", variant("a", 1000, special_price=500))
    await _ticks(world)
    async with world.database.platform() as connection:
        await connection.execute(
            text(
                "UPDATE batches SET sent_at = now() - interval '31 minutes', due_at = now() WHERE state = 'open'"
            )
        )
    await world.put("p", variant("a", 2000))
    await world.run()
    assert (await world.states())["a"]["status"] == "synced"
    # Meta applies the old batch after all, over the newer one.
    world.sandbox.put_clock_forward(3601)
    async with world.database.platform() as connection:
        await connection.execute(text("UPDATE batches SET due_at = now() WHERE state = 'given_up'"))
    await world.run()
    await world.assert_right()
    assert "sale_price" not in world.at_meta()["a"]
    assert world.calls() == 3


async def test_an_outage_pauses_the_store_and_fails_no_item(world: World) -> None:
    _arm(world, "html_500_before", count=3, edge="items_batch")
    await world.put("p", variant("a"))
    await _ticks(world, 2)
    assert [reason for reason, _ in await _pause(world)] == ["meta_unreachable"]
    await world.run()
    await world.assert_right()
    assert await _pause(world) == []


async def test_a_lost_encryption_key_is_said_and_heals_with_the_key(world: World) -> None:
    await world.put("p", variant("a"))
    right = world.cipher
    world.cipher = Cipher((SecretStr(generate_encryption_key()),))
    await _ticks(world, 3)
    assert [reason for reason, _ in await _pause(world)] == ["needs_reconnect"]
    assert world.calls() == 0
    world.cipher = right
    async with world.database.platform() as connection:
        await connection.execute(text("UPDATE store_pauses SET until = now()"))
        await connection.execute(text("UPDATE store_queue SET due_at = now()"))
    await world.run()
    await world.assert_right()
