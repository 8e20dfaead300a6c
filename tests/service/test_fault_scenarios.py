"""What a crash, a lost answer, a storm of edits or a greedy neighbour leaves behind: everything right, hardly anything twice.

The numbers are those of docs/reliability.md. A crash is a failpoint that raises: what the process would have done next is
not done (tests/worker kills real processes at the same points).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from meta_sync.catalog.models import InventoryInput
from meta_sync.core import failpoints
from meta_sync.core.db import Database
from meta_sync.core.failpoints import FailpointError
from meta_sync.sandbox.options import DEMO_BUSINESS_ID, DEMO_CATALOG_ID
from meta_sync.sync import mapping
from meta_sync.sync.mapping import Mapper
from tests.support.journey import REAL_TIMING, Journey, Wire, answers, hurried, never_answers, wired
from tests.support.pipeline import assert_sums, assert_tidy, execute, fetch, gated, one
from tests.support.world import World, open_world, product, variant

_HOLD_SECONDS = REAL_TIMING.unknown_hold_seconds


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        world.timing = REAL_TIMING
        await world.connect()
        await Journey(world).run_until_quiet()
        yield world


@pytest.fixture(autouse=True)
def _nothing_armed() -> Iterator[None]:
    yield
    failpoints.disarm_all()


def _prices(wire: Wire, retailer_id: str = "a") -> list[str | None]:
    """The prices that were sent for an item, ``None`` for a delete."""
    return [None if data is None else data["price"] for data in wire.posts(retailer_id)]


async def _crash(world: World, name: str) -> None:
    """Run a pipeline until it dies at a failpoint."""
    failpoints.arm(name, "raise")
    victim = Journey(world, hurried(world, "victim"))
    with pytest.raises(FailpointError):
        await victim.run_for(60)
    failpoints.disarm_all()


# --- 1-5: a crash at each boundary -----------------------------------------------------------------------------------

_POSTS_AFTER_A_CRASH = {
    "claim.before_commit": 1,
    "claim.after_commit": 1,
    "submit.before_call": 1,
    "submit.after_call": 2,
    "outcome.before_commit": 2,
    "outcome.after_commit": 1,
    "poll.before_ask": 1,
    "poll.after_ask": 1,
    "settle.before_commit": 1,
    "settle.after_commit": 1,
}


@pytest.mark.parametrize(("name", "posts"), _POSTS_AFTER_A_CRASH.items())
async def test_a_crash_sends_twice_only_what_meta_may_have_without_our_knowing(
    world: World, name: str, posts: int
) -> None:
    wire = wired(world)
    await world.put("p", variant("a", special_price=999), variant("b"))
    await _crash(world, name)
    await Journey(world, hurried(world, "other")).run_until_quiet()
    assert [len(wire.posts(one)) for one in ("a", "b")] == [posts, posts]
    assert world.sandbox.catalog(DEMO_CATALOG_ID).applied_counts == {"a": posts, "b": posts}
    states = (await world.states()).values()
    assert {(state["status"], state["attempts"]) for state in states} == {("synced", 0)}
    await assert_tidy(world)


@pytest.mark.parametrize("name", ["submit.after_call", "outcome.before_commit"])
async def test_what_changed_after_a_crash_goes_out_when_the_lost_call_cannot_be_at_work_any_more(
    world: World, name: str
) -> None:
    """3: Meta has the old content and we do not know it. The old bytes go once more at most, the new ones after the hold."""
    wire = wired(world)
    await world.put("p", variant("a", 1000))
    await _crash(world, name)
    crashed_at = 0.0
    await world.put("p", variant("a", 2000))
    journey = Journey(world, hurried(world, "other"))
    wire.clock = journey.now
    await journey.run_until_quiet()
    assert _prices(wire) in (["10.00 EUR", "20.00 EUR"], ["10.00 EUR", "10.00 EUR", "20.00 EUR"])
    new = next(call for call in wire.made("items_batch") if call.items["a"] == wire.posts("a")[-1])
    found_lost_at = REAL_TIMING.call_deadline_seconds - 1
    assert new.at - crashed_at > found_lost_at + _HOLD_SECONDS, "not before the hold after the discovery"
    assert world.at_meta()["a"]["price"] == "20.00 EUR"
    assert (await world.states())["a"]["attempts"] == 0
    await assert_tidy(world)


# --- 6-8: answers that say nothing -----------------------------------------------------------------------------------

_LOST_ANSWERS = {
    "6 applied, no answer": (never_answers(), True),
    "7 not applied, no answer": (never_answers(), False),
    "8 half an answer": (answers(200, b'{"handles":["AczwcA6EbBC'), True),
    "8 no JSON": (answers(200, b"<html>Please log in</html>"), True),
    "8 nothing at all": (answers(200, b""), True),
    "8 no handle": (answers(200, {"success": True}), True),
}


@pytest.mark.parametrize(("answer", "applied"), _LOST_ANSWERS.values(), ids=_LOST_ANSWERS)
async def test_an_answer_that_says_nothing_is_no_failure(world: World, answer: Any, applied: bool) -> None:
    """The item is under way, not failed; equal bytes may follow at once, a change only after the hold."""
    wire = wired(world)
    wire.answer(answer, edge="items_batch", forwards=applied)
    await world.put("p", variant("a", 1000, special_price=500))
    journey = Journey(world)
    wire.clock = journey.now
    await journey.pipeline.drain_tick()
    state = (await world.states())["a"]
    assert (state["status"], state["presence"], state["attempts"]) == ("submitted", "maybe", 0)
    assert await fetch(world, "SELECT state, accepted, rejected FROM batches") == [("unknown", 0, 0)]
    assert "sale_price" in state["may_hold"], "Meta may have it"
    await world.put("p", variant("a", 2000))
    await journey.run_until_quiet()
    assert _prices(wire) == ["10.00 EUR", "10.00 EUR", "20.00 EUR"]
    assert wire.made("items_batch")[-1].at >= _HOLD_SECONDS
    last = wire.posts("a")[-1]
    assert last is not None
    assert last["sale_price"] == "", "cleared, since Meta may hold it"
    await assert_tidy(world)
    assert (await world.states())["a"]["attempts"] == 0


# --- 13-16: edits before, during and between drains ------------------------------------------------------------------


async def test_an_update_during_the_call_waits_for_its_end(world: World) -> None:
    """13"""
    wire = wired(world)
    gate = gated(world)
    await world.put("p", variant("a", 1000))
    pipeline = world.pipeline()
    calling = asyncio.create_task(pipeline.drain_tick())
    await gate.reached.wait()
    for price in (1100, 1200, 1300):
        await world.put("p", variant("a", price))
        assert await world.pipeline("second").drain_tick() == 0, "one call per store at a time"
    gate.opened.set()
    await calling
    for _ in range(3):
        await pipeline.drain_tick()
    assert _prices(wire) == ["10.00 EUR"], "the handle is open"
    assert await fetch(world, "SELECT variant_id, parked_by IS NOT NULL FROM intents") == [("a", True)]
    await Journey(world, pipeline).run_until_quiet()
    assert _prices(wire) == ["10.00 EUR", "13.00 EUR"]
    await assert_tidy(world)


async def test_created_deleted_and_created_before_a_drain_is_one_record(world: World) -> None:
    """14"""
    wire = wired(world)
    await world.put("p", variant("a", 1000))
    await world.catalog.delete_product(world.store_id, "p")
    await world.put("p", variant("a", 2000))
    await Journey(world).run_until_quiet()
    assert _prices(wire) == ["20.00 EUR"]
    # The other way round, of an item that is at Meta: one delete, and nothing of what was in between.
    await world.catalog.delete_product(world.store_id, "p")
    await world.put("p", variant("a", 3000))
    await world.catalog.delete_product(world.store_id, "p")
    await Journey(world).run_until_quiet()
    assert _prices(wire) == ["20.00 EUR", None]
    assert len(wire.made("items_batch")) == 2
    await assert_tidy(world)
    assert world.at_meta() == {}
    # Created and deleted before Meta ever saw it: nothing at all.
    await world.put("q", variant("b"))
    await world.catalog.delete_product(world.store_id, "q")
    await Journey(world).run_until_quiet()
    assert wire.posts("b") == []
    await assert_tidy(world)


_UPDATES = 10_000


async def test_ten_thousand_updates_of_one_variant_are_one_post(world: World) -> None:
    """15: and one row in the queue, however many transactions there were."""
    await world.put("p", variant("a"), variant("b"))
    await Journey(world).run_until_quiet()
    wire = wired(world)
    for first in range(0, _UPDATES, 100):
        stocks = [
            ("a", InventoryInput(track_inventory=True, quantity_on_hand=1 + number % 40))
            for number in range(first, first + 100)
        ]
        await world.catalog.put_inventory(world.store_id, stocks)
    assert await fetch(world, "SELECT variant_id FROM intents") == [("a",)]
    await Journey(world).run_until_quiet()
    assert [data and data["quantity_to_sell_on_facebook"] for data in wire.posts("a")] == [40]
    assert wire.posts("b") == []
    await assert_tidy(world)


async def test_there_and_back_before_a_drain_costs_nothing(world: World) -> None:
    """16"""
    await world.put("p", variant("a", 1000))
    await Journey(world).run_until_quiet()
    wire = wired(world)
    before = (await world.states())["a"]
    await world.put("p", variant("a", 2000))
    assert (await world.states())["a"]["status"] == "synced", "what Meta has is still what it confirmed"
    await world.put("p", variant("a", 1000))
    await Journey(world).run_until_quiet()
    assert wire.made("items_batch") == []
    after = (await world.states())["a"]
    assert (after["status"], after["confirmed_hash"]) == ("synced", before["confirmed_hash"])
    await assert_tidy(world)


# --- 17-19: poison, a new mapper, a whale ----------------------------------------------------------------------------


async def test_a_row_the_mapper_breaks_on_is_shown_and_the_others_go(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """17"""
    await world.stores.patch_settings(world.store_id, {"guardMaxShare": 1.0})
    evaluate = Mapper.evaluate

    def breaks(self: Mapper, item: Any, **more: Any) -> Any:
        if item is not None and item.variant_id == "v7":
            raise ValueError("what a row")
        return evaluate(self, item, **more)

    wire = wired(world)
    monkeypatch.setattr(Mapper, "evaluate", breaks)
    await world.put("p", *[variant(f"v{number}") for number in range(60)])
    await Journey(world).run_until_quiet()
    assert [len(call.items) for call in wire.made("items_batch")] == [59]
    states = await world.states()
    assert {one for one, state in states.items() if state["status"] != "synced"} == {"v7"}
    poisoned = states["v7"]
    assert (poisoned["status"], poisoned["code"]) == ("failed", "mapping_failed")
    await assert_sums(world)
    # Repaired by the next version of the program, it goes with its next change.
    monkeypatch.setattr(Mapper, "evaluate", evaluate)
    await world.put("p", *[variant(f"v{number}", 1000 + (number == 7)) for number in range(60)])
    await Journey(world).run_until_quiet()
    assert (await world.states())["v7"]["status"] == "synced"
    await assert_tidy(world)


async def test_a_new_mapper_sends_every_item_once_within_the_budget(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """18: equal payloads under another version count as different, once, and no faster than the budget allows."""
    names = [f"v{number}" for number in range(8)]
    await world.catalog.put_products(world.store_id, [product(f"p-{one}", variant(one)) for one in names])
    await Journey(world).run_until_quiet()
    wire = wired(world)
    await world.stores.patch_settings(world.store_id, {"batchSize": 1})
    await execute(world, _HALF_OF_AN_HOUR_S_CALLS)
    for name, module in list(sys.modules.items()):
        if name.startswith("meta_sync.") and hasattr(module, "MAPPER_VERSION"):
            monkeypatch.setattr(module, "MAPPER_VERSION", 2)
    monkeypatch.setattr(mapping, "_HASH_PREFIX", b"2\n")
    journey = Journey(world)
    wire.clock = journey.now
    await journey.run_for(60)
    await journey.run_until_quiet()
    assert {one: len(wire.posts(one)) for one in names} == dict.fromkeys(names, 1)
    at = [call.at for call in wire.made("items_batch")]
    assert all(second - first >= 17 for first, second in pairwise(at)), "spaced by 18 seconds and more"
    await journey.run_for(600)
    assert len(wire.made("items_batch")) == len(names)
    await assert_tidy(world)


_HALF_OF_AN_HOUR_S_CALLS = """
    INSERT INTO batch_calls (batch_id, call_number, store_id, link_id, state, started_at, deadline_at)
    SELECT -n, 1, store_id, link_id, 'over', now(), now() FROM catalog_links, generate_series(1, 110) AS n WHERE active
"""
_SMALL_STORES = 12


async def test_a_whale_leaves_every_other_store_its_turn(world: World) -> None:
    """19: between two turns of the whale every store that is due has one. Counted in turns, not in seconds."""
    await world.stores.patch_settings(world.store_id, {"batchSize": 10})
    whale = [product(f"p{number}", variant(f"w{number}")) for number in range(300)]
    small = [await _another_store(world, number) for number in range(_SMALL_STORES)]
    wire = wired(world)
    await world.catalog.put_products(world.store_id, whale)
    pipeline = world.pipeline()
    for _ in range(3):
        await pipeline.drain_tick()
    for one_of_them in small:
        await one_of_them.put("p", variant("s"))
    # Nobody polls: every turn that follows is a turn of somebody who has something to send.
    while await pipeline.drain_tick():
        pass
    order = [call.catalog_id for call in wire.made("items_batch")]
    assert order.count(DEMO_CATALOG_ID) == 30
    others = [catalog_id for catalog_id in order if catalog_id != DEMO_CATALOG_ID]
    assert len(others) == len(set(others)) == _SMALL_STORES
    last = max(order.index(catalog_id) for catalog_id in others)
    assert last < 3 + _SMALL_STORES + 2, "the whale has had one turn among them, two at most"
    # And while the small ones keep changing, the whale is not starved either.
    await Journey(world, pipeline).run_until_quiet()
    await assert_tidy(world)
    for one_of_them in small:
        assert (await one_of_them.states())["s"]["status"] == "synced"


async def _another_store(world: World, number: int) -> World:
    store = await world.stores.create(
        f"Shop {number}", currency="EUR", storefront_base_url="https://shop.example"
    )
    catalog_id = f"71001952967{number:05}"
    world.sandbox.add_catalog(DEMO_BUSINESS_ID, f"Catalog {number}", catalog_id=catalog_id)
    other = replace(world, store_id=store.store_id)
    await other.connect(catalog_id=catalog_id)
    await Journey(other).run_until_quiet()
    return other


async def test_two_whales_take_turns(world: World) -> None:
    """19: two stores with much to send get the same number of turns, whoever was first."""
    other = await _another_store(world, 1)
    wire = wired(world)
    for one_of_them in (world, other):
        await one_of_them.stores.patch_settings(one_of_them.store_id, {"batchSize": 5})
        await one_of_them.catalog.put_products(
            one_of_them.store_id, [product(f"p{number}", variant(f"w{number}")) for number in range(100)]
        )
    pipeline = world.pipeline()
    for _ in range(30):
        await pipeline.drain_tick()
    counts = [
        len(wire.made("items_batch", catalog_id)) for catalog_id in (DEMO_CATALOG_ID, "7100195296700001")
    ]
    assert min(counts) >= 12, counts
    await Journey(world, pipeline).run_until_quiet()
    assert await one(world, "SELECT count(*) FROM sync_state WHERE status = 'synced'") == 200
    await assert_tidy(world)
