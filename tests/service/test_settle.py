"""The end of a batch, written row by row: what was proved, what was not, and what was disturbed meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from meta_sync.catalog.models import InventoryInput
from meta_sync.core.db import Database
from meta_sync.sync import settle
from meta_sync.sync.codes import FailureCode
from meta_sync.sync.mapping_fields import MANAGED_FIELDS
from meta_sync.sync.models import BatchItem, Method, OpenBatch
from meta_sync.sync.outcome import Outcomes
from meta_sync.sync.record import batch_items
from tests.support.pipeline import Turn, assert_sums, assert_tidy, execute, fetch, one
from tests.support.world import World, open_world, variant

_OTHER_CATALOG = "7100195296759999"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        world.sandbox.add_catalog("7100195296754001", "Other", catalog_id=_OTHER_CATALOG)
        await world.connect()
        await world.run()
        yield world


async def _claimed(world: World, *, handle: str | None = "h1") -> OpenBatch:
    """A batch whose call was taken: what is ready goes out as far as our own rows go."""
    turn = await Turn.begin(world)
    batch = await turn.claim()
    assert batch is not None
    if handle is not None:
        taken = {"h": handle, "id": batch.batch_id}
        await execute(
            world,
            "UPDATE batches SET state = 'open', handle = :h, sent_at = now() WHERE batch_id = :id",
            **taken,
        )
        await execute(
            world, "UPDATE batch_calls SET state = 'open', handle = :h WHERE batch_id = :id", **taken
        )
    await turn.end()
    return batch


async def _finish(
    world: World,
    batch: OpenBatch,
    *,
    accepted: Sequence[str] = (),
    rejected: Mapping[str, str] | None = None,
    unknown: Sequence[str] = (),
    limit: int | None = None,
    codes: Mapping[str, str] | None = None,
) -> bool:
    async with world.database.platform() as connection:
        found, _ = await batch_items(connection, batch.batch_id)
        items = {item.variant_id: item for item in found}
        outcomes = Outcomes(
            accepted=[items[each] for each in accepted],
            rejected=[items[each] for each in rejected or {}],
            unknown=[items[each] for each in unknown],
            messages=dict(rejected or {}),
        )
        return await settle.settle_finished(
            connection,
            batch.batch_id,
            outcomes,
            already_rejected=sum(item.outcome == "rejected" for item in found),
            codes=codes or {},
            batch_limit=limit,
        )


async def _state(world: World, variant_id: str) -> dict[str, Any]:
    return (await world.states())[variant_id]


async def _force(world: World, variant_id: str) -> None:
    await world.operations.resync(world.store_id, variant_id, force=True, refresh_images=False, actor="test")


async def test_each_item_gets_the_end_that_the_report_gives_it(world: World) -> None:
    await world.put("p", variant("good", special_price=999), variant("bad"), variant("open"))
    batch = await _claimed(world)
    sent = {record["data"]["id"]: record["data"] for record in orjson.loads(batch.body)["requests"]}
    await execute(world, "UPDATE store_queue SET due_at = NULL")
    assert await _finish(
        world,
        batch,
        accepted=["good"],
        rejected={"bad": "No."},
        unknown=["open"],
        limit=100,
        codes={"bad": "x"},
    )
    states = await world.states()
    good, bad, unclear = states["good"], states["bad"], states["open"]
    assert (good["status"], good["presence"], good["in_flight"]) == ("synced", "present", None)
    assert (good["confirmed_price"], good["confirmed_availability"]) == ("19.99 EUR", "in stock")
    assert set(good["may_hold"]) == set(sent["good"]) - {"id"}
    assert good["confirmed_at"] is not None
    payload = await fetch(world, "SELECT variant_id, payload FROM item_payloads")
    assert [(name, orjson.loads(value)) for name, value in payload] == [("good", sent["good"])]
    assert (bad["status"], bad["code"], bad["error_text"], bad["attempts"]) == ("failed", "x", "No.", 1)
    assert (bad["presence"], bad["retailer_id"], bad["confirmed_epoch"], bad["may_hold"]) == (
        "absent",
        None,
        None,
        [],
    )
    assert bad["rejected_hash"] is not None
    assert await fetch(world, "SELECT variant_id, kind, code, message FROM item_events") == [
        ("bad", "refused", "x", "No.")
    ]
    assert (unclear["status"], unclear["presence"], unclear["confirmed_hash"]) == ("pending", "maybe", None)
    assert (unclear["batch_limit"], unclear["attempts"]) == (100, 0)
    assert set(unclear["may_hold"]) == set(sent["open"]) - {"id"}
    assert await fetch(world, "SELECT variant_id, parked_by, job_id FROM intents") == [("open", None, None)]
    outcomes = dict(await fetch(world, "SELECT variant_id, outcome FROM batch_items"))
    assert outcomes == {"good": None, "bad": "rejected", "open": "unknown"}
    over = "SELECT state, accepted, rejected, unknown, sent, body IS NULL, due_at IS NULL FROM batches"
    assert await one(world, over) == ("over", 1, 1, 1, 3, True, True)
    assert await one(world, "SELECT state FROM batch_calls") == "over"
    assert await one(world, "SELECT due_at <= now() FROM store_queue")
    # Whoever comes second finds it over and changes nothing.
    assert not await _finish(world, batch, accepted=["good", "bad", "open"])
    assert await world.states() == states
    await assert_sums(world)


async def test_a_quantity_is_confirmed_as_a_number(world: World) -> None:
    await world.put("p", variant("a"))
    stock = InventoryInput(track_inventory=True, quantity_on_hand=7)
    await world.catalog.put_inventory(world.store_id, [("a", stock)])
    batch = await _claimed(world)
    await _finish(world, batch, accepted=["a"])
    assert (await _state(world, "a"))["confirmed_quantity"] == 7


async def test_the_numbers_of_a_batch_must_add_up(world: World) -> None:
    """accepted + rejected + unknown = sent is the database's own promise, not a number we write."""
    await world.put("p", variant("a"), variant("b"))
    batch = await _claimed(world)
    with pytest.raises(IntegrityError, match="accounted"):
        await _finish(world, batch, accepted=["a"])
    assert await one(world, "SELECT state FROM batches") == "open"
    assert await _finish(world, batch, accepted=["a", "b"])


async def test_an_item_that_was_disturbed_since_the_claim_is_not_confirmed(world: World) -> None:
    """(22): a resync while the batch is under way; what comes back is about what was known before it."""
    await world.put("p", variant("a"), variant("b"))
    await world.put("q", variant("gone"))
    await world.run()
    await world.put("p", variant("a", 5), variant("b", 5))
    await world.catalog.delete_product(world.store_id, "q")
    batch = await _claimed(world)
    for variant_id in ("a", "b", "gone"):
        await _force(world, variant_id)
    await _finish(world, batch, accepted=["a", "gone"], rejected={"b": "No."})
    states = await world.states()
    for variant_id in ("a", "b", "gone"):
        state = states[variant_id]
        assert (state["in_flight"], state["confirmed_hash"], state["presence"]) == (None, None, "maybe")
        assert (state["disturbed_at"], state["rejected_hash"]) == (None, None)
        assert set(state["may_hold"]) == MANAGED_FIELDS
        assert state["retailer_id"] == variant_id
    assert [states[each]["status"] for each in ("a", "b", "gone")] == ["pending", "failed", "pending"]
    assert states["a"]["confirmed_price"] == "19.99 EUR"
    assert sorted(row[0] for row in await fetch(world, "SELECT variant_id FROM intents")) == [
        "a",
        "b",
        "gone",
    ]
    await world.run()
    await assert_tidy(world)
    assert set((await _state(world, "a"))["may_hold"]) < MANAGED_FIELDS


async def test_a_refusal_gives_back_what_was_known_before(world: World) -> None:
    """(11)"""
    await world.put("p", variant("a", special_price=999))
    await world.put("q", variant("gone"))
    await world.run()
    before = await world.states()
    await world.put("p", variant("a", 5))
    await world.catalog.delete_product(world.store_id, "q")
    batch = await _claimed(world)
    await _finish(world, batch, rejected={"a": "No.", "gone": "No."})
    kept = ("confirmed_hash", "confirmed_epoch", "presence", "retailer_id", "confirmed_price")
    for variant_id, state in (await world.states()).items():
        assert {name: state[name] for name in kept} == {name: before[variant_id][name] for name in kept}
        assert set(state["may_hold"]) == set(before[variant_id]["may_hold"])
        assert (state["status"], state["attempts"]) == ("failed", 1)
    assert bytes((await _state(world, "gone"))["rejected_hash"]) == b"DELETE"


@pytest.mark.parametrize("other", ["unknown", "over"])
async def test_a_refusal_proves_nothing_while_another_call_may_have_saved_the_item(
    world: World, other: str
) -> None:
    """(11): a call with an unknown end, or one whose own report was not the last."""
    await world.put("p", variant("a"))
    await world.run()
    await world.put("p", variant("a", 5, special_price=3))
    batch = await _claimed(world)
    await execute(
        world,
        "INSERT INTO batch_calls (batch_id, call_number, store_id, link_id, state, deadline_at, unknown_at) "
        "SELECT batch_id, 2, store_id, link_id, :other, now(), now() FROM batch_calls WHERE batch_id = :id",
        id=batch.batch_id,
        other=other,
    )
    await _finish(world, batch, rejected={"a": "No."})
    state = await _state(world, "a")
    assert (state["status"], state["presence"], state["confirmed_hash"]) == ("failed", "maybe", None)
    assert "sale_price" in state["may_hold"]
    assert state["retailer_id"] == "a"


async def test_a_batch_settles_only_what_it_still_has(world: World) -> None:
    """A worker stood still with the report of a batch that others gave up: its items are in flight again by now."""
    await world.put("p", variant("a"))
    await world.put("q", variant("gone"))
    await world.run()
    await world.put("p", variant("a", 5))
    await world.catalog.delete_product(world.store_id, "q")
    old = await _claimed(world)
    async with world.database.platform() as connection:
        assert await settle.give_up(connection, old.batch_id)
    newer = await _claimed(world, handle="h2")
    before = await world.states()
    assert {state["in_flight"] for state in before.values()} == {newer.batch_id}
    # Bound to the batch by the state row itself, whatever the attempts say.
    await execute(world, "UPDATE batch_items SET outcome = NULL WHERE batch_id = :id", id=old.batch_id)
    assert await _finish(world, old, accepted=["a", "gone"])
    assert await world.states() == before
    assert await _finish(world, newer, accepted=["a", "gone"])


async def test_a_confirmed_delete_empties_what_is_known(world: World) -> None:
    await world.put("p", variant("a", special_price=999))
    await world.run()
    await world.catalog.delete_product(world.store_id, "p")
    await _finish(world, await _claimed(world), accepted=["a"])
    state = await _state(world, "a")
    assert (state["status"], state["presence"], state["may_hold"]) == ("deleted", "absent", [])
    assert (state["confirmed_price"], state["confirmed_hash"], state["retailer_id"]) == (None, None, "a")
    assert await fetch(world, "SELECT * FROM item_payloads") == []


async def test_what_was_parked_is_freed_and_what_it_says_then_goes_out(world: World) -> None:
    """(14): unparking is last, and the intent of an item that goes again keeps its place in line."""
    await world.put("p", variant("a"), variant("b"))
    await execute(world, "UPDATE intents SET first_at = now() - interval '1 h', lane = 0")
    batch = await _claimed(world)
    await execute(world, "UPDATE batches SET created_at = now() - interval '1 h'")
    await world.put("p", variant("a", 5), variant("b", 5))
    assert await (await Turn.begin(world)).claim() is None
    await execute(world, "UPDATE intents SET lane = 2")
    await execute(world, "UPDATE store_queue SET leased_until = NULL, due_at = NULL")
    assert await one(world, "SELECT count(*) FROM intents WHERE parked_by = :id", id=batch.batch_id) == 2
    await _finish(world, batch, accepted=["a"], unknown=["b"], limit=1)
    rows = await fetch(
        world,
        "SELECT variant_id, lane, parked_by, first_at < now() - interval '59 min' FROM intents ORDER BY 1",
    )
    assert rows == [("a", 2, None, False), ("b", 0, None, True)]
    await world.run()
    await assert_tidy(world)


async def test_a_call_that_was_refused_gives_everything_back(world: World) -> None:
    await world.put("p", variant("known"), variant("sibling"))
    await world.run()
    await world.put("p", variant("known", 5), variant("sibling", 5), variant("new"))
    before = await world.states()
    batch = await _claimed(world, handle=None)
    await _force(world, "sibling")
    async with world.database.platform() as connection:
        assert await settle.release_refused(
            connection, batch.batch_id, code="190", message="Dead.", batch_limit=7
        )
        assert not await settle.release_refused(connection, batch.batch_id, code="190", message="Dead.")
    states = await world.states()
    kept = (
        "status",
        "confirmed_hash",
        "confirmed_epoch",
        "presence",
        "retailer_id",
        "attempts",
        "rejected_hash",
    )
    for variant_id in ("known", "new"):
        assert {name: states[variant_id][name] for name in kept} == {
            name: before[variant_id][name] for name in kept
        }
        assert set(states[variant_id]["may_hold"]) == set(before[variant_id]["may_hold"])
        assert (states[variant_id]["in_flight"], states[variant_id]["batch_limit"]) == (None, 7)
    disturbed = states["sibling"]
    assert (disturbed["status"], disturbed["presence"], disturbed["confirmed_hash"]) == (
        "pending",
        "maybe",
        None,
    )
    assert set(disturbed["may_hold"]) == MANAGED_FIELDS
    assert await one(world, "SELECT count(*) FROM intents WHERE parked_by IS NULL") == 3
    last = "SELECT state, sent, error_code, error_text FROM batches ORDER BY batch_id DESC LIMIT 1"
    assert await one(world, last) == ("over", 0, "190", "Dead.")
    assert await one(world, "SELECT state FROM batch_calls ORDER BY batch_id DESC LIMIT 1") == "refused"
    await assert_sums(world)


async def test_an_item_of_a_batch_with_an_unknown_end_may_hold_all_of_it(world: World) -> None:
    await world.put("p", variant("a"))
    await world.run()
    await world.put("p", variant("a", 5, special_price=3))
    batch = await _claimed(world, handle=None)
    async with world.database.platform() as connection:
        assert await settle.release_unknown(
            connection,
            batch.batch_id,
            already_rejected=0,
            unsettled=1,
            code=FailureCode.NO_ANSWER,
            batch_limit=3,
        )
        assert not await settle.release_unknown(
            connection, batch.batch_id, already_rejected=0, unsettled=1, code=FailureCode.NO_ANSWER
        )
    state = await _state(world, "a")
    assert (state["status"], state["presence"], state["confirmed_hash"]) == ("pending", "maybe", None)
    assert (state["attempts"], state["batch_limit"], state["code"]) == (0, 3, None)
    assert "sale_price" in state["may_hold"]
    await assert_sums(world)
    # The sale is over before it was ever confirmed: still, Meta may hold it.
    await world.put("p", variant("a", 5))
    turn = await Turn.begin(world)
    assert "sale_price" in turn.plan.attempts[0].decision.cleared


async def test_a_given_up_batch_that_ends_disturbs_what_came_after(world: World) -> None:
    """(21), for an item that was confirmed since, one that is in flight again, and one that was deleted since."""
    await world.put("p", variant("a", special_price=999), variant("b", special_price=999))
    await world.put("q", variant("gone"))
    old = await _claimed(world)
    async with world.database.platform() as connection:
        assert await settle.give_up(connection, old.batch_id)
        assert not await settle.give_up(connection, old.batch_id)
    for state in (await world.states()).values():
        assert (state["status"], state["code"], state["in_flight"]) == ("failed", "poll_timeout", None)
        assert (state["confirmed_hash"], state["presence"], state["attempts"]) == (None, "maybe", 0)
    assert await one(world, "SELECT state, body IS NULL, due_at > now() + interval '9 min' FROM batches") == (
        "given_up",
        True,
        True,
    )
    await world.put("p", variant("a"), variant("b"))
    await world.catalog.delete_product(world.store_id, "q")
    await world.run()
    await world.put("p", variant("a"), variant("b", 5))
    await execute(world, "UPDATE store_queue SET due_at = now(), leased_until = NULL")
    newer = await _claimed(world, handle=None)
    assert await one(world, "SELECT in_flight FROM sync_state WHERE variant_id = 'b'") == newer.batch_id
    async with world.database.platform() as connection:
        assert await settle.disturb_late(connection, old.batch_id, already_rejected=0, unsettled=3)
        assert not await settle.disturb_late(connection, old.batch_id, already_rejected=0, unsettled=3)
    states = await world.states()
    assert [states[each]["status"] for each in ("a", "b", "gone")] == ["pending", "submitted", "pending"]
    for variant_id in ("a", "b", "gone"):
        state = states[variant_id]
        assert (state["confirmed_hash"], state["rejected_hash"], state["presence"]) == (None, None, "maybe")
        assert state["disturbed_at"] is not None
    assert "sale_price" in states["a"]["may_hold"]
    assert len(set(states["a"]["may_hold"])) == len(states["a"]["may_hold"])
    assert sorted(row[0] for row in await fetch(world, "SELECT variant_id FROM intents")) == [
        "a",
        "b",
        "gone",
    ]
    await execute(world, "UPDATE batches SET due_at = now() WHERE state = 'sending'")
    await world.run()
    await assert_tidy(world)
    assert await one(world, "SELECT unknown FROM batches WHERE batch_id = :id", id=old.batch_id) == 3


async def test_a_handle_for_a_batch_that_is_over_is_followed_again(world: World) -> None:
    """(19)"""
    await world.put("p", variant("a"), variant("b"))
    batch = await _claimed(world)
    async with world.database.platform() as connection:
        assert not await settle.follow_late_handle(connection, batch.batch_id, "h2", first_poll_seconds=0)
    await _finish(world, batch, accepted=["a"], rejected={"b": "No."})
    async with world.database.platform() as connection:
        assert await settle.follow_late_handle(connection, batch.batch_id, "h2", first_poll_seconds=0)
        assert not await settle.follow_late_handle(connection, batch.batch_id, "h3", first_poll_seconds=0)
    row = "SELECT state, handle, sent, accepted, rejected, due_at <= now() FROM batches"
    assert await one(world, row) == ("given_up", "h2", 2, 0, 0, True)
    assert (await _state(world, "a"))["status"] == "synced", "until it ends"
    async with world.database.platform() as connection:
        assert await settle.disturb_late(connection, batch.batch_id, already_rejected=0, unsettled=2)
    assert {state["presence"] for state in (await world.states()).values()} == {"maybe"}
    await world.run()
    await assert_tidy(world)


async def test_an_item_refused_in_the_answer_is_free_at_once(world: World) -> None:
    await world.put("p", variant("a"), variant("b"))
    batch = await _claimed(world)
    await world.put("p", variant("a", 5), variant("b", 5))
    await (await Turn.begin(world)).claim()
    await execute(world, "UPDATE store_queue SET leased_until = NULL")
    async with world.database.platform() as connection:
        created_on = await connection.scalar(text("SELECT created_on FROM batches"))
        identity = {
            "batch_id": batch.batch_id,
            "store_id": batch.store_id,
            "link_id": batch.link_id,
            "created_on": created_on,
        }
        await settle.settle_refused_at_once(connection, identity, {"b": "Bad field."}, {"b": "cannot_clear"})
    parked = dict(await fetch(world, "SELECT variant_id, parked_by FROM intents"))
    assert parked == {"a": batch.batch_id, "b": None}
    state = await _state(world, "b")
    assert (state["status"], state["code"], state["in_flight"]) == ("failed", "cannot_clear", None)
    assert await _finish(world, batch, accepted=["a"])
    assert await one(world, "SELECT accepted, rejected, sent FROM batches") == (1, 1, 2)
    await world.run()
    await assert_tidy(world)


async def test_an_older_link_s_batch_settles_only_its_own_rows(world: World) -> None:
    """(15), (24): the store is on another catalog, then back in a later epoch, when the handle ends."""
    await world.put("p", variant("a", special_price=999))
    batch = await _claimed(world)
    await world.put("p", variant("a"))
    await (await Turn.begin(world)).claim()
    assert await one(world, "SELECT count(*) FROM intents WHERE parked_by = :id", id=batch.batch_id) == 1
    await world.connect(catalog_id=_OTHER_CATALOG)
    assert await one(world, "SELECT count(*) FROM intents WHERE parked_by IS NOT NULL") == 0
    await execute(world, "UPDATE store_queue SET leased_until = NULL")
    await world.run(until=lambda: "a" in world.sandbox.catalog(_OTHER_CATALOG).items)
    await execute(
        world, "UPDATE batches SET due_at = now() + interval '1 h' WHERE batch_id = :id", id=batch.batch_id
    )
    there = await world.states()
    await world.connect()
    await _finish(world, batch, accepted=["a"])
    rows = {
        row[0]: row[1:]
        for row in await fetch(
            world,
            "SELECT l.active, status, confirmed_epoch, l.epoch FROM sync_state JOIN catalog_links l USING (link_id)",
        )
    }
    assert rows[True] == ("synced", 1, 2), (
        "what was confirmed in the first epoch counts as unknown in the second"
    )
    assert rows[False][0] in {"submitted", "synced"}
    assert there["a"]["link_id"] != batch.link_id
    turn = await Turn.begin(world)
    assert "sale_price" in turn.plan.attempts[0].decision.cleared
    await turn.end()
    await world.run()
    await assert_tidy(world)


@pytest.mark.parametrize(
    ("message", "cleared", "code"),
    [
        ("The sale_price information under  is invalid.", ["sale_price"], "cannot_clear"),
        ("contains unrecognised field: 'Color'", ["size", "color"], "cannot_clear"),
        ("The sale_price information under  is invalid.", ["color"], "rejected_by_meta"),
        ("The price information under  is invalid.", ["sale_price"], "rejected_by_meta"),
        ("'nonsense'", ["nonsense"], "rejected_by_meta"),
        ("Bad.", [], "rejected_by_meta"),
    ],
)
def test_a_refused_clear_is_told_apart(message: str, cleared: list[str], code: str) -> None:
    item = BatchItem("v", "v", Method.UPDATE, None)
    assert settle.refusal_code(item, message, {"v": cleared} if cleared else {}) == code
