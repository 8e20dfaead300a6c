"""The twins of polling and of recording calls do what the statements do in PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.sync import poll_statements as poll
from meta_sync.sync import record_statements
from tests.simulation.contract import Bench, open_bench
from tests.simulation.memory import Row
from tests.simulation.settle_world import SettleWorld

_STATES = ("sending", "open", "unknown", "given_up", "over")
_FOLLOWED = ("sending", "open", "given_up")
_CALL_STATES = ("sending", "open", "unknown", "refused", "given_up", "over")
_SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def bench(postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    with open_bench(postgres_server) as bench:
        yield bench


@pytest.fixture
def world(bench: Bench) -> Iterator[SettleWorld]:
    world = SettleWorld(bench)
    yield world
    world.end()


def _at(world: SettleWorld, seconds: float | None) -> datetime | None:
    """So many seconds from now, or never."""
    return None if seconds is None else world.clock.after(seconds)


def _in_every_state(world: SettleWorld, **values: Any) -> list[Row]:
    return [world.batch(state, **values) for state in _STATES]


def test_claiming_takes_what_is_due(world: SettleWorld) -> None:
    times = (None, -1, 0, 1)
    expected = {}
    for due_at, hold_until, calls in itertools.product(times, times, (3, 4)):
        at = {"due_at": _at(world, due_at), "hold_until": _at(world, hold_until)}
        for batch in _in_every_state(world, calls=calls, polls=calls, sent_at=world.clock.now, **at):
            is_free = calls == 4 or (hold_until is not None and hold_until <= 0)
            expected[batch["batch_id"]] = (
                due_at is not None
                and due_at <= 0
                and (is_free if batch["state"] == "unknown" else batch["state"] != "over")
            )
    claimed = {row[0] for row in world.run(poll.CLAIM, most=1000)}
    assert {one: one in claimed for one in expected} == expected


def test_claiming_takes_the_earliest_first(world: SettleWorld) -> None:
    world.run(poll.CLAIM, most=1000)
    late, early, middle = (
        world.batch("open", due_at=world.clock.now - count * _SECOND)["batch_id"] for count in (1, 3, 2)
    )
    assert {row[0] for row in world.run(poll.CLAIM, most=2)} == {early, middle}
    assert [row[0] for row in world.run(poll.CLAIM, most=2)] == [late]


def test_a_batch_is_put_off(world: SettleWorld) -> None:
    cases = [
        (batch, {"seconds": seconds, "until": _at(world, until)})
        for seconds, until in itertools.product((0, 2, 2.0000005, 61.1234565), (None, -1, 30, 100))
        for batch in _in_every_state(world)
    ]
    for batch, said in cases:
        done = world.run(poll.LATER, batch_id=batch["batch_id"], **said)
        assert done.rowcount == (batch["state"] != "over")
    assert world.run(poll.LATER, batch_id=1, seconds=1, until=None).rowcount == 0


def test_a_lost_call_is_unknown(world: SettleWorld) -> None:
    for batch, calls in itertools.product(
        _in_every_state(world, calls=2, hold_until=world.clock.now), (1, 2)
    ):
        done = world.run(poll.LOST_CALL, batch_id=batch["batch_id"], calls=calls, hold_seconds=180.5)
        assert done.rowcount == (batch["state"] == "sending" and calls == 2)


def test_only_calls_without_an_answer_are_lost(world: SettleWorld) -> None:
    batch, other = world.batch("sending"), world.batch("sending")
    for number, state in enumerate((*_CALL_STATES, "sending"), 1):
        world.call(batch, number, state, error_code="7")
        world.call(other, number, state)
    assert world.run(poll.LOST_CALLS, batch_id=batch["batch_id"]).rowcount == 2


def test_the_end_of_a_hold(world: SettleWorld) -> None:
    cases = [
        (batch, until)
        for until in (None, -1, 0, 1)
        for batch in _in_every_state(world, hold_until=_at(world, until))
    ]
    for batch, until in cases:
        is_over, hold_until = world.run(poll.HOLD, batch_id=batch["batch_id"]).one()
        assert is_over == (batch["state"] == "unknown" and (until is None or until <= 0))
        assert hold_until == batch["hold_until"]
    assert world.run(poll.HOLD, batch_id=1).all() == []


def test_another_call_of_the_batch(world: SettleWorld) -> None:
    batches = []
    for state, other_handle, number in itertools.product(_CALL_STATES, ("mine", "another", None), (1, 3)):
        batches.append(world.batch("open", calls=3)["batch_id"])
        world.call({"batch_id": batches[-1]}, 2, "over", handle="mine")
        unknown_at = world.clock.after(-45) if number == 1 else None
        world.call({"batch_id": batches[-1]}, number, state, handle=other_handle, unknown_at=unknown_at)
    found = [
        world.run(poll.OTHER_CALL, batch_id=batch_id, handle=handle, hold_seconds=hold_seconds).all()
        for handle in ("mine", "another", None)
        for hold_seconds in (0, 30, 45, 90)
        for batch_id in batches
    ]
    assert [] in found
    assert any(found)


def test_of_several_other_calls_the_first_open_one_counts(world: SettleWorld) -> None:
    batch = world.batch("open", calls=4)
    said = {"batch_id": batch["batch_id"], "handle": "h3", "hold_seconds": 0}
    world.call(batch, 1, "sending", handle=None)
    assert world.run(poll.OTHER_CALL, **said).one()[0] is None
    world.call(batch, 3, "open", handle="h3")
    assert world.run(poll.OTHER_CALL, **said).one()[0] is None
    world.call(batch, 4, "open", handle="h4")
    assert world.run(poll.OTHER_CALL, **said).one()[0] == "h4"
    world.call(batch, 2, "open", handle="h2")
    assert world.run(poll.OTHER_CALL, **said).one()[0] == "h2"
    assert world.run(poll.OTHER_CALL, **{**said, "handle": None}).one()[0] == "h2"
    assert world.run(poll.OTHER_CALL, **{**said, "handle": "h2"}).one()[0] == "h3"


def test_the_next_handle_is_followed(world: SettleWorld) -> None:
    cases = [(batch, asked) for asked in ("asked", None) for batch in _in_every_state(world)]
    for batch, _ in cases:
        for number, call in enumerate(itertools.product(_CALL_STATES, ("asked", "other", None)), 1):
            world.call(batch, number, call[0], handle=call[1])
    for batch, asked in cases:
        said = {"handle": asked, "next_handle": f"next{batch['batch_id']}"}
        done = world.run(poll.NEXT_HANDLE, batch_id=batch["batch_id"], **said)
        assert done.rowcount == (batch["state"] in {"open", "given_up"})
    assert world.run(poll.NEXT_HANDLE, batch_id=1, handle="asked", next_handle="next").rowcount == 0


def test_a_handle_belongs_to_one_batch(world: SettleWorld) -> None:
    first, second = world.batch("open"), world.batch("open")
    with pytest.raises(IntegrityError):
        world.run(poll.NEXT_HANDLE, batch_id=second["batch_id"], handle=None, next_handle=first["handle"])
    world.call(second)
    with pytest.raises(IntegrityError):
        world.run(
            record_statements.TAKEN,
            batch_id=world.batch("sending")["batch_id"],
            handle=first["handle"],
            first_poll_seconds=2,
        )


def test_the_stored_body(world: SettleWorld) -> None:
    for batch in [world.batch(body=body) for body in (None, b"", b"body")]:
        assert world.run(poll.BODY, batch_id=batch["batch_id"]).scalar() == batch["body"]
    assert world.run(poll.BODY, batch_id=1).scalar() is None


def test_a_question_is_noted_with_its_store(world: SettleWorld) -> None:
    assert world.run(poll.POLLED, store_id=world.store_id).rowcount == 1
    assert world.row("store_queue", world.store_id)["last_poll_at"] == world.clock.now
    assert world.run(poll.POLLED, store_id="nobody").rowcount == 0


def test_a_call_that_was_taken(world: SettleWorld) -> None:
    cases = [
        (batch, first_poll_seconds)
        for first_poll_seconds, until in itertools.product((0, 2.5), (None, -10, 10))
        for batch in _in_every_state(
            world, hold_until=_at(world, until), error_code="2", error_text="No.", handle=None
        )
    ]
    for batch, _ in cases:
        world.call(batch, 1, "unknown", error_code="2")
        world.call(batch, 2, "sending")
    for batch, first_poll_seconds in cases:
        said = {"batch_id": batch["batch_id"], "call_number": 2, "handle": f"new{batch['batch_id']}"}
        assert world.run(record_statements.CALL_TAKEN, **said).rowcount == 1
        taken = world.run(record_statements.TAKEN, **said, first_poll_seconds=first_poll_seconds)
        assert len(taken.all()) == (batch["state"] in {"sending", "unknown"})
    nobody = {"batch_id": 1, "call_number": 1, "handle": "new"}
    assert world.run(record_statements.CALL_TAKEN, **nobody).rowcount == 0
    assert world.run(record_statements.TAKEN, **nobody, first_poll_seconds=1).all() == []


def test_a_call_of_unknown_end(world: SettleWorld) -> None:
    times = (None, 1, 1000)
    cases = [
        (
            world.batch(state, calls=calls, due_at=_at(world, due_at), hold_until=_at(world, hold_until)),
            call_number,
        )
        for state, due_at, hold_until in itertools.product(_STATES, times, times)
        for calls, call_number in ((1, 1), (3, 3), (6, 6), (3, 1))
    ]
    for batch, call_number in cases:
        done = world.run(
            record_statements.UNKNOWN,
            batch_id=batch["batch_id"],
            call_number=call_number,
            code=None if call_number == 1 else "2",
            message="No answer.",
            hold_seconds=180.0,
            resend_seconds=10.0,
        )
        assert done.rowcount == (batch["state"] not in {"given_up", "over"})


@pytest.mark.parametrize(
    ("statement", "ended"),
    [
        (record_statements.CALL_UNKNOWN, {"sending"}),
        (record_statements.CALL_UNKNOWN_LATE, {"unknown"}),
        (record_statements.CALL_REFUSED, set(_CALL_STATES)),
        (record_statements.DROP_CALL, set(_CALL_STATES)),
    ],
)
def test_the_end_of_one_call(world: SettleWorld, statement: Any, ended: set[str]) -> None:
    batch, other = world.batch(), world.batch()
    for number, state in enumerate(_CALL_STATES, 1):
        world.call(batch, number, state, unknown_at=world.clock.after(-1))
        world.call(other, number, state)
    world.flush()
    world.clock.move(5)
    for number, state in enumerate((*_CALL_STATES, "none"), 1):
        said: dict[str, Any] = {"batch_id": batch["batch_id"], "call_number": number}
        if statement in {record_statements.CALL_UNKNOWN, record_statements.CALL_REFUSED}:
            said |= {"code": None if number % 2 else "7", "message": "No."}
        if statement is record_statements.CALL_UNKNOWN:
            said["is_server_error"] = number % 2 == 1
        assert world.run(statement, **said).rowcount == (state in ended)


def test_a_refused_resend_leaves_the_batch_unknown(world: SettleWorld) -> None:
    cases = [
        (batch, call_number, not_made, is_final)
        for call_number, not_made, is_final in itertools.product((1, 2), (0, 1), (False, True))
        for until in (None, -10, 10)
        for batch in _in_every_state(world, calls=2, hold_until=_at(world, until))
    ]
    for batch, call_number, not_made, is_final in cases:
        said = {"batch_id": batch["batch_id"], "call_number": call_number, "resend_seconds": 10.25}
        done = world.run(record_statements.BACK_TO_UNKNOWN, **said, not_made=not_made, is_final=is_final)
        assert done.rowcount == (batch["state"] == "sending" and call_number == 2)


def test_server_errors_are_counted_and_their_content_is_known_again(world: SettleWorld) -> None:
    values = [(None, None), (b"body", None), (b"", None), (b"body", b"hash"), (None, b"hash")]
    batches = [world.batch("sending", body=body, body_hash=body_hash) for body, body_hash in values]
    for batch in batches:
        assert world.run(record_statements.SERVER_ERROR, batch_id=batch["batch_id"]).rowcount == 1
    assert world.run(record_statements.SERVER_ERROR, batch_id=batches[0]["batch_id"]).rowcount == 1
    assert world.row("batches", batches[0]["batch_id"])["server_errors"] == 2
    assert world.run(record_statements.SERVER_ERROR, batch_id=1).rowcount == 0


def test_reading_a_batch(world: SettleWorld) -> None:
    batch = world.full_batch()
    identity = {"batch_id": batch["batch_id"]}
    items = world.run(record_statements.ITEMS, **identity).all()
    assert {"UPDATE", "DELETE"} == {item[2] for item in items}
    assert len(items) == len(world.variants(batch)) - 3
    assert world.run(record_statements.CALLS, **identity).all() == [(1, batch["state"])]
    assert world.run(record_statements.CREATED_ON, **identity).scalar_one() == batch["created_on"]
    assert world.run(record_statements.NOW).scalar_one() == world.clock.now
    link = {"link_id": world.link_id}
    assert world.run(record_statements.CREDENTIAL_IN_USE, **link).scalar_one() == f"token{world.number}"
    for statement in (record_statements.ITEMS, record_statements.CALLS, record_statements.CREATED_ON):
        assert world.run(statement, batch_id=1).all() == []
    assert world.run(record_statements.CREDENTIAL_IN_USE, link_id=9999).all() == []


def test_how_often_an_item_was_blamed_for_the_same(world: SettleWorld) -> None:
    kinds = itertools.product(("failed", "pending"), (b"same", b"other", None), (b"same", None), (0, 3))
    for number, (previous_status, retry_hash, payload_hash, retries) in enumerate(kinds):
        batch = world.batch("sending")
        variant_id = f"v{batch['batch_id']}-{number}"
        world.attempt(batch, variant_id, previous_status=previous_status, payload_hash=payload_hash)
        world.state(variant_id, batch["batch_id"], retry_hash=retry_hash, retries=retries)
        blamed = world.run(record_statements.BLAMED, batch_id=batch["batch_id"]).scalar()
        is_same = previous_status == "failed" and retry_hash == payload_hash == b"same"
        assert blamed == (retries if is_same else None)
    assert world.run(record_statements.BLAMED, batch_id=1).all() == []
