"""The claim: what was decided from a snapshot is applied only to what did not move since, and all of it at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import text

from meta_sync.catalog.models import VariantInput
from meta_sync.core.db import Database
from meta_sync.sync import claim
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.mapping_fields import FIELDS, MANAGED_FIELDS
from meta_sync.sync.models import DecisionKind
from tests.support.pipeline import Turn, assert_sums, assert_tidy, execute, fetch, one
from tests.support.world import World, open_world, product, variant

_OTHER_CATALOG = "7100195296759999"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        world.sandbox.add_catalog("7100195296754001", "Other", catalog_id=_OTHER_CATALOG)
        await world.connect()
        yield world


def _sku(variant_id: str, sku: str) -> VariantInput:
    given = variant(variant_id)
    given.sku = sku
    return given


async def _state(world: World, variant_id: str) -> dict[str, Any]:
    return (await world.states())[variant_id]


async def test_the_attempt_is_written_before_the_call(world: World) -> None:
    await world.put("p", variant("a", special_price=999))
    await world.put("q", variant("gone"))
    await world.run()
    before = await world.states()
    await world.put("p", variant("a", 2500), variant("b"))
    await world.catalog.delete_product(world.store_id, "q")
    await execute(world, "UPDATE intents SET lane = 2 WHERE variant_id <> 'gone'")
    turn = await Turn.begin(world)
    batch = await turn.claim()
    assert batch is not None
    assert (batch.count, batch.call_number) == (3, 1)
    assert await fetch(world, "SELECT * FROM intents") == []
    row = await one(
        world,
        "SELECT state, lane, sent, calls, link_epoch, body = :body, body_bytes, "
        "due_at - created_at BETWEEN interval '2 s' AND interval '4 s' FROM batches WHERE batch_id = :id",
        id=batch.batch_id,
        body=batch.body,
    )
    assert row == ("sending", 0, 3, 1, 1, True, len(batch.body), True)
    assert await one(
        world, "SELECT call_number, state FROM batch_calls WHERE batch_id = :id", id=batch.batch_id
    ) == (
        1,
        "sending",
    )
    states = await world.states()
    for state in states.values():
        assert state["in_flight"] == batch.batch_id
        assert (state["status"], state["presence"], state["confirmed_hash"]) == ("submitted", "maybe", None)
        assert (state["confirmed_epoch"], state["disturbed_at"]) == (1, None)
    assert {"sale_price", "item_group_id"} <= set(states["a"]["may_hold"])
    assert set(states["gone"]["may_hold"]) == set(before["gone"]["may_hold"])
    attempts = {
        row[0]: row[1:]
        for row in await fetch(
            world,
            "SELECT variant_id, retailer_id, method, previous_confirmed_hash, previous_confirmed_epoch, "
            "previous_presence, previous_status, previous_may_hold, fields, cleared, payload_hash, outcome "
            "FROM batch_items WHERE batch_id = :id",
            id=batch.batch_id,
        )
    }
    assert attempts["a"][:6] == ("a", "UPDATE", before["a"]["confirmed_hash"], 1, "present", "synced")
    assert set(attempts["a"][6]) == set(before["a"]["may_hold"])
    assert "item_group_id" in attempts["a"][7]
    assert attempts["a"][8] == ["sale_price"]
    assert attempts["gone"][:3] == ("gone", "DELETE", before["gone"]["confirmed_hash"])
    assert (attempts["gone"][7], attempts["gone"][8], bytes(attempts["gone"][9])) == ([], [], b"DELETE")
    assert attempts["b"][:7] == ("b", "UPDATE", None, None, "absent", "pending", [])
    assert all(attempt[10] is None for attempt in attempts.values())
    await assert_sums(world)
    await turn.end()
    # Nobody makes the call: found past its deadline, it is made again.
    await execute(world, "UPDATE batches SET due_at = now()")
    await world.run()
    await assert_tidy(world)


async def _price(world: World) -> None:
    await world.put("p", variant("a", 7777))


async def _delete(world: World) -> None:
    await world.catalog.delete_product(world.store_id, "p")


async def _resync(world: World) -> None:
    await world.operations.resync(world.store_id, "a", force=True, refresh_images=False, actor="test")


async def _state_moves(world: World) -> None:
    await execute(world, "UPDATE sync_state SET excluded_at = now() WHERE variant_id = 'a'")


async def _claimed_elsewhere(world: World) -> None:
    await execute(world, "DELETE FROM intents WHERE variant_id = 'a'")


@pytest.mark.parametrize("change", [_price, _delete, _resync, _state_moves, _claimed_elsewhere])
async def test_what_moved_since_it_was_read_waits_for_the_next_turn(
    world: World, change: Callable[[World], Awaitable[None]]
) -> None:
    """(1) and (2): the intent with another number, or the state row with another version, is left; the rest goes."""
    await world.put("p", variant("a"))
    await world.put("q", variant("b"))
    turn = await Turn.begin(world)
    assert len(turn.plan.attempts) == 2
    await change(world)
    batch = await turn.claim()
    assert batch is not None
    assert batch.count == 1
    assert b'"id":"a"' not in batch.body
    state = await _state(world, "a")
    assert (state["in_flight"], state["retailer_id"]) == (None, None)
    waiting = [row[0] for row in await fetch(world, "SELECT variant_id FROM intents")]
    assert waiting == ([] if change is _claimed_elsewhere else ["a"])
    await assert_sums(world)


async def test_a_skip_is_not_written_for_what_changed_since(world: World) -> None:
    await world.put("p", variant("a", None))
    turn = await Turn.begin(world)
    assert [decision.reason for _, decision in turn.plan.settled] == ["missing_price"]
    await world.put("p", variant("a"))
    assert await turn.claim() is None
    assert (await _state(world, "a"))["status"] == "pending"
    assert await fetch(world, "SELECT * FROM item_events") == []
    assert await one(world, "SELECT count(*) FROM intents") == 1


async def _epoch(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"defaultBrand": "Other"})


async def _preview(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"feedMode": "preview"})


async def _off(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"syncEnabled": False})


async def _pause(world: World) -> None:
    await execute(
        world,
        "INSERT INTO store_pauses (store_id, reason, until) VALUES (:id, 'meta_unreachable', now() + interval '1 h')",
        id=world.store_id,
    )


async def _other_link(world: World) -> None:
    await world.connect(catalog_id=_OTHER_CATALOG)


async def _there_and_back(world: World) -> None:
    await world.connect(catalog_id=_OTHER_CATALOG)
    await world.connect()


async def _lease_lost(world: World) -> None:
    await execute(world, "UPDATE store_queue SET fence = fence + 1, lease_owner = 'other'")


async def test_a_world_that_changed_since_the_plan_is_not_written_over(world: World) -> None:
    """(3): link, epochs, preview, switch, pause and lease are read again under the claim's locks."""
    await world.put("p", variant("a"))
    await world.put("q", variant("skipped", None))
    states = "SELECT link_id, variant_id, status, xmin FROM sync_state ORDER BY 1, 2"
    for change in (_epoch, _preview, _off, _pause, _other_link, _there_and_back, _lease_lost):
        await execute(world, "UPDATE store_queue SET due_at = now(), leased_until = NULL")
        turn = await Turn.begin(world)
        assert len(turn.plan.attempts) == len(turn.plan.settled) == 1
        await change(world)
        before = await fetch(world, states)
        assert await turn.claim() is None, change
        assert await fetch(world, states) == before, change
        assert await one(world, "SELECT count(*) FROM intents WHERE parked_by IS NULL") == 2, change
        assert await one(world, "SELECT count(*) FROM batches") == 0, change
        await world.stores.patch_settings(world.store_id, {"feedMode": "live", "syncEnabled": True})
        await execute(world, "DELETE FROM store_pauses")
    await execute(world, "UPDATE store_queue SET due_at = now(), leased_until = NULL")
    assert await (await Turn.begin(world)).claim() is not None


async def test_a_change_of_an_item_in_flight_is_parked_under_its_batch(world: World) -> None:
    await world.put("p", variant("a"))
    batch = await (await Turn.begin(world)).claim()
    assert batch is not None
    await execute(world, "UPDATE store_queue SET leased_until = NULL")
    await world.put("p", variant("a", 5))
    turn = await Turn.begin(world)
    assert [intent.variant_id for intent in turn.plan.in_flight] == ["a"]
    async with world.database.platform() as settling:
        await settling.execute(text("SELECT 1 FROM sync_state FOR UPDATE"))
        # Whoever settles the item holds its row: the claim neither waits nor parks under a batch that may be over.
        async with asyncio.timeout(3):
            assert await turn.claim() is None
        assert await one(world, "SELECT parked_by FROM intents") is None
    assert await turn.claim() is None
    assert await one(world, "SELECT parked_by FROM intents") == batch.batch_id
    await world.put("p", variant("a", 6))
    assert await one(world, "SELECT parked_by FROM intents") == batch.batch_id, "a newer change stays parked"
    await assert_sums(world)


async def test_a_writer_never_waits_for_a_settle(world: World) -> None:
    """It holds intents that the settle needs: waiting for a state row would be a deadlock."""
    await world.put("p", variant("a"))
    assert await (await Turn.begin(world)).claim() is not None
    async with world.database.platform() as settling:
        await settling.execute(text("UPDATE sync_state SET updated_at = now()"))
        async with asyncio.timeout(3):
            await world.put("p", variant("a", 5))
            assert await world.pipeline().jobs_tick() == 1


async def test_an_item_that_went_out_before_keeps_its_id_whoever_is_read_first(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"retailerIdTemplate": "{sku}"})
    await world.put("p", _sku("old", "X"))
    await world.run()
    await world.put("q", _sku("new", "X"))
    await world.put("p", _sku("old", "Y"), title="Changed")
    await execute(world, "UPDATE intents SET first_at = now() - interval '1 h' WHERE variant_id = 'new'")
    turn = await Turn.begin(world)
    assert [attempt.intent.variant_id for attempt in turn.plan.attempts] == ["old"]
    await turn.end()
    await world.run()
    assert world.at_meta()["X"]["title"] == "Changed"
    states = await world.states()
    assert (states["old"]["status"], states["old"]["retailer_id"]) == ("synced", "X")
    assert (states["new"]["status"], states["new"]["code"], states["new"]["retailer_id"]) == (
        "skipped",
        "id_in_use",
        None,
    )
    # Alone in its turn it is found in the ledger.
    await world.put("q", _sku("new", "X"), title="Again")
    await world.run()
    assert (await _state(world, "new"))["code"] == "id_in_use"
    assert world.at_meta()["X"]["title"] == "Changed"
    await assert_sums(world)


async def test_two_first_sends_under_one_id_are_one(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"retailerIdTemplate": "{sku}"})
    await world.put("p", _sku("a", "X"))
    await world.put("q", _sku("b", "X"))
    turn = await Turn.begin(world)
    assert [one.intent.variant_id for one in turn.plan.attempts] == ["a"]
    assert [(intent.variant_id, decision.reason) for intent, decision in turn.plan.settled] == [
        ("b", "id_in_use")
    ]
    batch = await turn.claim()
    assert batch is not None
    assert batch.count == 1


async def test_a_row_that_breaks_the_mapper_fails_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = Mapper.evaluate

    def breaks(self: Mapper, item: Any, **more: Any) -> Any:
        if item.variant_id == "poison":
            raise ValueError("what a row")
        return evaluate(self, item, **more)

    monkeypatch.setattr(Mapper, "evaluate", breaks)
    await world.put("p", variant("a"), variant("poison"))
    turn = await Turn.begin(world)
    batch = await turn.claim()
    assert batch is not None
    assert batch.count == 1
    state = await _state(world, "poison")
    assert (state["status"], state["code"], state["in_flight"]) == ("failed", "mapping_failed", None)
    assert await fetch(world, "SELECT kind, code FROM item_events") == [("fail", "mapping_failed")]
    assert await fetch(world, "SELECT * FROM intents") == []


async def test_a_batch_ends_at_its_limits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.catalog.put_products(world.store_id, [product(f"p{n}") for n in range(6)])
    await world.stores.patch_settings(world.store_id, {"batchSize": 4})
    turn = await Turn.begin(world)
    assert (len(turn.plan.attempts), turn.plan.left) == (4, 0), "no more is read than can be sent"
    await turn.end()
    turn = await Turn.begin(world, may_send=False)
    assert (len(turn.plan.attempts), turn.plan.left) == (0, 4)
    await turn.end()
    sizes = [len(attempt.decision.payload) for attempt in (await Turn.begin(world)).plan.attempts]
    await execute(world, "UPDATE store_queue SET leased_until = NULL")
    monkeypatch.setattr(claim, "MAX_BODY_BYTES", sizes[0] + sizes[1] + 64)
    turn = await Turn.begin(world)
    assert (len(turn.plan.attempts), turn.plan.left) == (2, 2)
    await turn.end()
    monkeypatch.undo()
    # An item that was in an unclear batch of 10 goes in a batch of its own, and takes nobody with it.
    await execute(world, "UPDATE sync_state SET batch_limit = 1 WHERE variant_id = 'p2-v'")
    turn = await Turn.begin(world)
    assert [one.intent.variant_id for one in turn.plan.attempts] == ["p0-v", "p1-v", "p3-v"]
    await execute(
        world, "UPDATE intents SET lane = 0, first_at = now() - interval '1 h' WHERE variant_id = 'p2-v'"
    )
    await turn.end()
    turn = await Turn.begin(world)
    assert [one.intent.variant_id for one in turn.plan.attempts] == ["p2-v"]
    assert turn.plan.left == 3


async def test_what_needs_no_call_is_written_without_one(world: World) -> None:
    await world.put("p", variant("same"), variant("draft"), variant("never"))
    await world.put("gone", variant("gone"))
    await world.put("unsent", variant("unsent", None))
    await world.run()
    await world.catalog.delete_product(world.store_id, "gone")
    await world.run()
    calls, events = world.calls(), await one(world, "SELECT count(*) FROM item_events")
    version = "SELECT xmin FROM sync_state WHERE variant_id = :id"
    same = await one(world, version, id="same")
    await world.catalog.delete_product(world.store_id, "unsent")
    for variant_id in ("same", "gone", "draft"):
        await world.operations.resync(
            world.store_id, variant_id, force=False, refresh_images=False, actor="t"
        )
    await execute(
        world,
        "UPDATE sync_state SET status = 'failed', attempts = 3, code = 'x', error_text = 'y', rejected_hash = 'z', "
        "batch_limit = 1 WHERE variant_id = 'draft'",
    )
    same = await one(world, version, id="same")
    await world.run()
    assert world.calls() == calls
    states = await world.states()
    assert "unsent" not in states, "dropped: nothing is known of it any more"
    assert (states["gone"]["status"], states["gone"]["retailer_id"]) == ("deleted", "gone"), (
        "the ledger stays"
    )
    assert await one(world, version, id="same") == same, "what is synced already is not written again"
    repaired = states["draft"]
    assert [
        repaired[name]
        for name in ("status", "attempts", "code", "error_text", "rejected_hash", "batch_limit")
    ] == [
        "synced",
        0,
        None,
        None,
        None,
        None,
    ]
    new_events = await fetch(world, "SELECT kind, code FROM item_events OFFSET :events", events=events)
    assert sorted(kind for kind, _ in new_events) == ["drop", "resync", "resync", "resync"]
    await assert_tidy(world)


async def test_an_item_without_a_row_gets_one_with_its_first_decision(world: World) -> None:
    """As a tombstone of a link that knew nothing of it; or somebody else makes the row in between."""
    await world.put("p", variant("a"), variant("b"), variant("skipped", None))
    await execute(world, "DELETE FROM sync_state")
    turn = await Turn.begin(world)
    link_id = turn.context.access.link.link_id
    await execute(
        world,
        "INSERT INTO sync_state (link_id, variant_id, store_id, status) VALUES (:link_id, 'b', :store_id, 'pending')",
        link_id=link_id,
        store_id=world.store_id,
    )
    batch = await turn.claim()
    assert batch is not None
    states = await world.states()
    assert (batch.count, states["a"]["in_flight"], states["b"]["in_flight"]) == (1, batch.batch_id, None)
    assert (states["skipped"]["status"], states["skipped"]["code"]) == ("skipped", "missing_price")
    assert await fetch(world, "SELECT variant_id FROM intents") == [("b",)]
    assert await one(world, "SELECT previous_status, previous_presence FROM batch_items") == (
        "pending",
        "absent",
    )
    await turn.end()
    assert (await (await Turn.begin(world)).claim()) is not None
    await assert_sums(world)


async def test_a_skip_is_an_event_once(world: World) -> None:
    for title in ("One", "Two", "Three"):
        await world.put("p", variant("a", None), title=title)
        await world.run()
        # Not even while the refusals of an earlier version still count.
        await execute(world, "UPDATE sync_state SET attempts = 1")
    assert await fetch(world, "SELECT kind, code FROM item_events") == [("skip", "missing_price")]
    await world.put("p", variant("a"), title="Three", thumbnail=None)
    await world.run()
    assert (await _state(world, "a"))["code"] == "missing_image"
    assert await one(world, "SELECT count(*) FROM item_events") == 2


async def test_what_was_refused_stays_as_it_is_for_a_job(world: World) -> None:
    world.sandbox.refuse("a", "No.")
    await world.put("p", variant("a"))
    await world.run()
    before = await _state(world, "a")
    await world.jobs.start_bootstrap(world.store_id, requested_by=None)
    await world.run()
    assert await _state(world, "a") == before
    assert await fetch(world, "SELECT * FROM intents") == []


async def test_the_first_push_into_a_catalog_with_items_empties_what_is_not_ours(world: World) -> None:
    """(23): an item that somebody else put there may hold every field that we manage."""
    old = {
        "id": "v",
        "title": "Old",
        "brand": "Old",
        "sale_price": "1.00 EUR",
        "color": "Red",
        "custom_label_4": "keep",
    }
    world.sandbox.catalog(_OTHER_CATALOG).store("v", dict(old))
    world.sandbox.catalog(_OTHER_CATALOG).store("stranger", {**old, "id": "stranger"})
    await world.connect(catalog_id=_OTHER_CATALOG)
    await world.run()
    await world.approve()
    await world.put("p", variant("v"), variant("stranger", None))
    turn = await Turn.begin(world)
    attempt = turn.plan.attempts[0]
    optional = {name for name, field in FIELDS.items() if not field.required}
    assert attempt.decision.cleared == optional - attempt.decision.fields
    assert attempt.base_may_hold == MANAGED_FIELDS
    assert [decision.kind for _, decision in turn.plan.settled] == [DecisionKind.SKIP], (
        "a stranger's item stays"
    )
    await turn.end()
    await world.run()
    items = world.sandbox.catalog(_OTHER_CATALOG).items
    assert "stranger" in items
    found = {name: value for name, value in items["v"].items() if value not in ("", [])}
    assert found == {**(await world.wanted())["v"], "custom_label_4": "keep"}
    state = await _state(world, "v")
    assert set(state["may_hold"]) == set(attempt.decision.fields)
    # From now on it is known.
    calls = world.calls()
    await world.jobs.start_bootstrap(world.store_id, requested_by=None)
    await world.run()
    assert world.calls() == calls


async def test_a_first_send_that_was_refused_does_not_make_a_stranger_s_item_ours(world: World) -> None:
    world.sandbox.catalog(_OTHER_CATALOG).store("v", {"id": "v", "title": "Somebody's"})
    await world.connect(catalog_id=_OTHER_CATALOG)
    await world.run()
    await world.approve()
    world.sandbox.refuse("v", "No.")
    await world.put("p", variant("v"))
    await world.run()
    state = await _state(world, "v")
    assert (state["status"], state["retailer_id"], state["confirmed_epoch"]) == ("failed", None, None)
    await world.catalog.delete_product(world.store_id, "p")
    await world.run()
    assert "v" in world.sandbox.catalog(_OTHER_CATALOG).items
