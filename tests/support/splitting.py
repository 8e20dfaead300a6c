"""Refused calls: what makes Meta refuse them, and what must be said of it in the end."""

from __future__ import annotations

from typing import Any

from tests.support.pipeline import (
    arm,
    execute,
    fetch,
)
from tests.support.world import World, product, variant

__all__ = [
    "REFUSAL_TEXT",
    "assert_named",
    "assert_no_split",
    "everything_is_refused",
    "pause",
    "pause_ends",
    "poison",
    "put_many",
    "stands_still",
]

REFUSAL_TEXT = "(#100) Param price must be a string"


def poison(world: World, *retailer_ids: str, code: int = 100, **fields: Any) -> None:
    for retailer_id in retailer_ids:
        fault = {"code": code, "message": REFUSAL_TEXT, "count": None, **fields}
        arm(world, "poison", retailer_id=retailer_id, **fault)


def everything_is_refused(world: World) -> None:
    arm(world, "graph_error", count=None, edge="items_batch", code=100, message=REFUSAL_TEXT)


async def put_many(world: World, count: int) -> None:
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        await world.catalog.put_products(
            world.store_id, [product(f"p{number:04}", variant(f"v{number:04}")) for number in numbers]
        )


async def pause(world: World) -> list[tuple[Any, ...]]:
    return await fetch(
        world,
        "SELECT reason, code, message, until > now() + interval '14 m' AND until <= now() + interval '15 m' "
        "FROM store_pauses",
    )


async def pause_ends(world: World) -> None:
    await execute(world, "UPDATE store_pauses SET until = now()")
    await execute(world, "UPDATE store_queue SET due_at = now()")


async def stands_still(world: World) -> bool:
    return bool(await fetch(world, "SELECT 1 FROM store_pauses WHERE until > now()"))


async def assert_no_split(world: World) -> None:
    assert await fetch(world, "SELECT 1 FROM splits WHERE state <> 'over'") == []
    assert await fetch(world, "SELECT 1 FROM sync_state WHERE split_part IS NOT NULL") == []


async def assert_named(world: World, *ids: str, presence: str = "absent") -> None:
    states = await world.states()
    assert {name for name, state in states.items() if state["status"] != "synced"} == set(ids)
    for name in ids:
        state = states[name]
        assert (state["status"], state["code"], state["error_text"]) == (
            "failed",
            "rejected_by_meta",
            REFUSAL_TEXT,
        )
        assert (state["attempts"], state["presence"]) == (1, presence)
        assert state["rejected_hash"] is not None
    assert {state["attempts"] for name, state in states.items() if name not in ids} <= {0}
