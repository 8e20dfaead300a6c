"""The twins of settling do what the statements do in PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.sync import settle
from meta_sync.sync import settle_statements as statements
from meta_sync.sync.codes import FailureCode
from meta_sync.sync.models import Method
from meta_sync.sync.outcome import Outcomes
from meta_sync.sync.record import batch_items
from tests.simulation.contract import Bench, open_bench
from tests.simulation.memory import Row
from tests.simulation.settle_world import SettleWorld

_STATES = ("sending", "open", "unknown", "given_up", "over")
_CALL_STATES = ("sending", "open", "unknown", "refused", "given_up", "over")


@pytest.fixture(scope="module")
def bench(postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    with open_bench(postgres_server) as bench:
        yield bench


@pytest.fixture
def world(bench: Bench) -> Iterator[SettleWorld]:
    world = SettleWorld(bench)
    yield world
    world.end()


@asynccontextmanager
async def _transaction(world: SettleWorld) -> AsyncIterator[Any]:
    world.commit()
    world.flush()
    async with world.mirror.platform() as connection:
        yield connection


def _said(world: SettleWorld, batch: Row, count: int = 60) -> dict[str, Any]:
    """Refusals of many items of the batch, some of which it never had, had before, or has no more."""
    ids = [*world.variants(batch)[-count:], "nobody"]
    return {
        "variant_ids": ids,
        "codes": [f"code{number}" for number, _ in enumerate(ids)],
        "messages": [f"No. {number}" for number, _ in enumerate(ids)],
    }


# Each with what else it is told. Ids are given as numbers of items.
_OF_ITEMS: list[tuple[Any, dict[str, Any]]] = [
    (statements.CONFIRM, {}),
    (statements.CONFIRM, {"except_ids": range(0, 40, 3)}),
    (statements.CONFIRM_DELETE, {}),
    (statements.CONFIRM_DELETE, {"except_ids": range(0, 40, 3)}),
    *((statements.FREE_REFUSED, {"is_certain": is_certain}) for is_certain in (True, False)),
    *(
        (statements.RELEASE, {"is_certain": is_certain, "batch_limit": limit})
        for is_certain, limit in itertools.product((True, False), (None, 5))
    ),
    *(
        (statement, {"only_ids": only_ids, "batch_limit": limit})
        for statement in (statements.MAKE_UNKNOWN, statements.MAKE_GIVEN_UP)
        for only_ids, limit in ((None, None), (None, 5), (range(0, 50, 2), 1), (range(0), None))
    ),
    *(
        (statements.MAKE_WAIT, {"waits": waits, "code": "batch_dropped", "message": "Again.", **more})
        for waits in ([60.0], [1.5, 3.25, 6.0000005])
        for more in ({}, {"batch_limit": 7, "only_ids": range(0, 50, 2)})
    ),
    *((statements.MARK_UNKNOWN, {"only_ids": only_ids}) for only_ids in (None, range(0, 50, 2))),
    (statements.EVERY_OUTCOME_UNKNOWN, {}),
    (statements.DISTURB, {}),
    *(
        (statements.INTEND_AGAIN, {"only_ids": only_ids, "only_without_outcome": only_without})
        for only_ids, only_without in itertools.product((None, range(0, 50, 2)), (True, False))
    ),
    (statements.UNPARK, {}),
    (statements.UNPARK_OF, {"variant_ids": range(0, 70, 2)}),
    (statements.UNPARK_OF, {"variant_ids": range(0)}),
]


@pytest.mark.parametrize(("statement", "told"), _OF_ITEMS)
def test_what_becomes_of_the_items(world: SettleWorld, statement: Any, told: dict[str, Any]) -> None:
    batch = world.full_batch()
    world.flush()
    world.clock.move(1)
    variants = world.variants(batch)
    more = {
        name: [variants[number] for number in value] if isinstance(value, range) else value
        for name, value in told.items()
    }
    done = world.run(statement, **world.settle_parameters(batch, **more))
    is_nobody = [] in (more.get("only_ids"), more.get("variant_ids"))
    assert (done.rowcount > 0) is not is_nobody


def test_lane_and_age_of_a_batch_go_to_its_intents(world: SettleWorld) -> None:
    for lane, seconds in itertools.product((0, 1, 2), (-90, -30, 0)):
        batch = world.batch(lane=lane, created_at=world.clock.after(seconds))
        for number in range(6):
            world.attempt(batch, f"v{batch['batch_id']}-{number}")
            if number:
                world.intent(f"v{batch['batch_id']}-{number}", None)
        parameters = world.settle_parameters(batch)
        assert world.run(statements.INTEND_AGAIN, **parameters).rowcount == 6


@pytest.mark.parametrize("values", [{"handle": None}, {"with_body": False}], ids=["no handle", "no body"])
def test_what_becomes_of_the_items_without_handle_or_body(world: SettleWorld, values: dict[str, Any]) -> None:
    every: list[tuple[Any, dict[str, Any]]] = [
        (statements.CONFIRM, {}),
        (statements.CONFIRM_DELETE, {}),
        (statements.RELEASE, {}),
        (statements.MAKE_UNKNOWN, {}),
        (statements.FREE_REFUSED, {}),
    ]
    batches = [world.full_batch(**values) for _ in every]
    for (statement, told), batch in zip(every, batches, strict=True):
        world.run(statement, **world.settle_parameters(batch, **told))


@pytest.mark.parametrize(
    "statement", [statements.REFUSE, statements.NOTE_REFUSED, statements.RECORD_REFUSALS]
)
def test_refusals(world: SettleWorld, statement: Any) -> None:
    batches = [world.full_batch() for _ in (True, False)]
    for is_certain, batch in zip((True, False), batches, strict=True):
        parameters = world.settle_parameters(batch, is_certain=is_certain, **_said(world, batch))
        assert world.run(statement, **parameters).rowcount > 0


def test_a_confirmed_payload_keeps_its_bytes(world: SettleWorld) -> None:
    batch = world.full_batch()
    world.run(statements.CONFIRM, **world.settle_parameters(batch))
    payloads = {row["payload"] for row in world.mirror.tables["item_payloads"]}
    # The space after the comma is the sender's.
    assert any(b"[1, 2]" in payload for payload in payloads)


@pytest.mark.parametrize("disturbed", [False, True])
@pytest.mark.parametrize(
    "statement",
    [
        statements.CONFIRM,
        statements.CONFIRM_DELETE,
        statements.REFUSE,
        statements.FREE_REFUSED,
        statements.RELEASE,
        statements.MAKE_UNKNOWN,
        statements.MAKE_GIVEN_UP,
        statements.DISTURB,
    ],
)
def test_items_that_a_late_event_cannot_find_in_flight(
    world: SettleWorld, statement: Any, disturbed: bool
) -> None:
    """A synced item in flight keeps its state, which the table forbids without a confirmed payload."""
    outcome = {statements.FREE_REFUSED: "rejected", statements.DISTURB: "unknown"}.get(statement)
    method = "DELETE" if statement is statements.CONFIRM_DELETE else "UPDATE"
    disturbed_at = world.clock.now if disturbed else None
    for previous in (b"before", None):
        batch = world.batch()
        variant_id = f"v{batch['batch_id']}"
        known = {"previous_confirmed_hash": previous, "previous_status": "synced"}
        world.attempt(batch, variant_id, method, outcome=outcome, **known)
        values = {"disturbed_at": disturbed_at, "confirmed_hash": None}
        world.state(variant_id, batch["batch_id"], status="synced", **values)
        said = {"variant_ids": [variant_id], "codes": ["code"], "messages": ["No."]}
        try:
            world.run(statement, **world.settle_parameters(batch, **said))
        except IntegrityError:
            continue
        world.commit()


def test_who_was_blamed_without_a_word_goes_again_ever_more_rarely(world: SettleWorld) -> None:
    times = (0, 1, 2, 4, 5, 9, 10, 11, 2000)
    for status, in_flight, count in itertools.product(("failed", "pending"), (None, 7), times):
        world.state(f"{status}-{in_flight}-{count}", in_flight, status=status)
    world.flush()
    world.clock.move(5)
    for status, in_flight, count in itertools.product(("failed", "pending"), (None, 7), times):
        said = {"link_id": world.link_id, "variant_id": f"{status}-{in_flight}-{count}", "times": count}
        is_blamed = status == "failed" and in_flight is None
        assert world.run(statements.TRY_AGAIN, **said).rowcount == is_blamed
    nobody = {"link_id": world.link_id, "variant_id": "nobody", "times": 0}
    assert world.run(statements.TRY_AGAIN, **nobody).rowcount == 0


@pytest.mark.parametrize("was_refused", [False, True])
def test_a_batch_is_over_once(world: SettleWorld, was_refused: bool) -> None:
    batches = [world.batch(state, body=b"body") for state in _STATES]
    for batch in batches:
        said = {"batch_id": batch["batch_id"], "error_code": None, "error_text": "Why."}
        counts = (0, 3, 0) if was_refused else (1, 2, 1)
        accepted, rejected, unknown = counts
        given = {"accepted": accepted, "rejected": rejected, "unknown": unknown, "was_refused": was_refused}
        done = world.run(statements.OVER, **said, **given).all()
        assert len(done) == (batch["state"] != "over")
        assert world.run(statements.OVER, **said, **given).all() == []
        assert world.run(statements.DROP_BODY, batch_id=batch["batch_id"]).rowcount == 1
    assert world.run(statements.DROP_BODY, batch_id=1).rowcount == 0


def test_a_batch_that_does_not_add_up_is_not_over(world: SettleWorld) -> None:
    batch = world.batch()
    counts = {"accepted": 1, "rejected": 1, "unknown": 1, "was_refused": False}
    with pytest.raises(IntegrityError):
        world.run(statements.OVER, batch_id=batch["batch_id"], error_code=None, error_text=None, **counts)


def test_the_calls_of_a_batch(world: SettleWorld) -> None:
    sets = [states for count in (0, 1, 2) for states in itertools.product(_CALL_STATES, repeat=count)]
    batches = [world.batch() for _ in sets]
    for batch, states in zip(batches, sets, strict=True):
        for number, state in enumerate(states, 1):
            world.call(batch, number, state)
    for batch, states in zip(batches, sets, strict=True):
        made = [state for state in states if state != "refused"]
        is_certain = world.run(statements.IS_CERTAIN, batch_id=batch["batch_id"]).scalar_one()
        assert is_certain == (len(made) <= 1 and "unknown" not in made)
        state = "refused" if len(states) == 1 else "over"
        done = world.run(statements.CALLS_OVER, batch_id=batch["batch_id"], state=state)
        assert done.rowcount == sum(one in {"sending", "open", "given_up"} for one in states)


def test_giving_up_and_opening_again(world: SettleWorld) -> None:
    batches = [world.batch(state, body=b"body") for state in _STATES]
    for batch in batches:
        for number in range(3):
            day = batch["created_on"] if number else world.clock.after(-86400).date()
            world.attempt(batch, f"v{batch['batch_id']}-{number}", created_on=day)
    for batch in batches:
        given_up = world.run(statements.GIVE_UP, batch_id=batch["batch_id"]).all()
        assert len(given_up) == (batch["state"] == "open")
        again = {"batch_id": batch["batch_id"], "handle": f"late{batch['batch_id']}"}
        opened = world.run(statements.REOPEN, **again, first_poll_seconds=2.5).all()
        assert opened == ([(batch["created_on"],)] if batch["state"] == "over" else [])
    over = world.batch("over", handle=None)
    without = {"batch_id": world.batch("over")["batch_id"], "handle": None}
    assert world.run(statements.REOPEN, **without, first_poll_seconds=180).all()
    known = world.batch("over", handle="known")
    same = {"batch_id": known["batch_id"], "handle": "known", "first_poll_seconds": 2}
    assert not world.run(statements.REOPEN, **same).all()
    with pytest.raises(IntegrityError):
        handle = batches[0]["handle"]
        world.run(statements.REOPEN, batch_id=over["batch_id"], handle=handle, first_poll_seconds=2)


@pytest.mark.parametrize("calls", [("open",), ("refused", "open"), ("unknown", "open")])
async def test_settling_what_meta_finished(world: SettleWorld, calls: tuple[str, ...]) -> None:
    batch = world.full_batch(some_unknown=False)
    for number, state in enumerate(calls, 1):
        world.call(batch, number, state)
    async with _transaction(world) as connection:
        items, _ = await batch_items(connection, batch["batch_id"])
        rejected = [item for item in items if item.outcome == "rejected"]
        left = sorted((item for item in items if item.outcome is None), key=lambda item: item.variant_id)
        outcomes = Outcomes(accepted=left[:20], rejected=left[20:35], unknown=left[35:])
        outcomes.messages |= {item.variant_id: "No." for item in outcomes.rejected}
        assert {item.method for item in outcomes.accepted} == {Method.UPDATE, Method.DELETE}
        for is_first in (True, False):
            settled = await settle.settle_finished(
                connection,
                batch["batch_id"],
                outcomes,
                already_rejected=len(rejected),
                codes={left[21].variant_id: "cannot_clear"},
                batch_limit=10,
            )
            assert settled is is_first


@pytest.mark.parametrize("waits", [None, [30.0, 60.0]])
async def test_releasing_what_is_unknown(world: SettleWorld, waits: list[float] | None) -> None:
    batch = world.full_batch("unknown", some_unknown=False)
    world.call(batch, 1, "unknown")
    world.call(batch, 2, "open")
    async with _transaction(world) as connection:
        items, _ = await batch_items(connection, batch["batch_id"])
        rejected = sum(item.outcome == "rejected" for item in items)
        assert await settle.release_unknown(
            connection,
            batch["batch_id"],
            already_rejected=rejected,
            unsettled=len(items) - rejected,
            code=FailureCode.NO_ANSWER,
            batch_limit=3,
            waits=waits,
        )


@pytest.mark.parametrize("is_certain", [True, False])
async def test_a_call_that_was_refused(world: SettleWorld, is_certain: bool) -> None:
    batch = world.full_batch("sending")
    world.call(batch, 1, "sending" if is_certain else "unknown")
    others = world.variants(batch)[:7]
    identity = world.settle_parameters(batch)
    async with _transaction(world) as connection:
        settled = settle.settle_refused_at_once if is_certain else settle.note_refused
        await settled(connection, identity, {one: "No." for one in others}, {others[0]: "cannot_clear"})
        said: dict[str, Any] = {"code": "7", "message": "Not now.", "batch_limit": 4, "already_rejected": 7}
        assert await settle.release_refused(connection, batch["batch_id"], **said)
        assert not await settle.release_refused(connection, batch["batch_id"], **said)


async def test_a_handle_that_ends_after_it_was_given_up(world: SettleWorld) -> None:
    batch = world.full_batch(some_unknown=False)
    world.call(batch, 1, "open")
    async with _transaction(world) as connection:
        assert await settle.give_up(connection, batch["batch_id"])
        assert not await settle.give_up(connection, batch["batch_id"])
    world.compare()
    world.clock.move(700)
    async with _transaction(world) as connection:
        items, _ = await batch_items(connection, batch["batch_id"])
        rejected = sum(item.outcome == "rejected" for item in items)
        counts = {"already_rejected": rejected, "unsettled": len(items) - rejected}
        assert await settle.disturb_late(connection, batch["batch_id"], **counts)
    world.compare()
    async with _transaction(world) as connection:
        for is_over in (True, False):
            late = await settle.follow_late_handle(
                connection, batch["batch_id"], f"late{batch['batch_id']}", first_poll_seconds=2
            )
            assert late is is_over
