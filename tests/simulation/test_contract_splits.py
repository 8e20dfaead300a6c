"""The twins of splits do what the statements do in PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.sync import split_statements as statements
from meta_sync.sync import splits
from meta_sync.sync.models import OpenBatch
from meta_sync.sync.splits import OutageWait, Refusal
from meta_sync.sync.splitting import Part, PartState, SplitKind
from tests.simulation.contract import Bench, open_bench
from tests.simulation.memory import Row
from tests.simulation.settle_world import SettleWorld

_SPLIT_STATES = ("waiting", "open", "over")
_BATCH_STATES = ("sending", "open", "unknown", "given_up", "over")
_HOUR = 3600
_WAIT = OutageWait()


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


def _split(world: SettleWorld, state: str = "open", **values: Any) -> int:
    """A split, with a number far from those that the statements take."""
    split_id = 1_000_000 + world.bench.number()
    given = {
        "split_id": split_id,
        "store_id": world.store_id,
        "link_id": world.link_id,
        "link_epoch": 3,
        "kind": "bad_parameter",
        "state": state,
        "calls": 4,
        "error_code": "100",
        "error_text": "No.",
    }
    world.put("splits", **{**given, **values})
    return split_id


def _part(world: SettleWorld, split_id: int, state: str = "waiting", **values: Any) -> int:
    part_id = 1_000_000 + world.bench.number()
    given = {
        "part_id": part_id,
        "split_id": split_id,
        "store_id": world.store_id,
        "link_id": world.link_id,
        "level": 1,
        "items": 5,
        "state": state,
    }
    world.put("split_parts", **{**given, **values})
    return part_id


def _held(world: SettleWorld, part_id: int | None, count: int, **values: Any) -> list[str]:
    """Items that are in the part."""
    names = [f"h{world.bench.number():06}" for _ in range(count)]
    # Not in the order of their ids.
    for name in names[1:] + names[:1]:
        world.state(name, None, status="pending", disturbed_at=None, split_part=part_id, **values)
    return names


def _another_link(world: SettleWorld, **values: Any) -> int:
    """The link of another store; a store has one active link."""
    link_id = world.link_id + 500_000
    world.put("stores", store_id=f"s{link_id}", public_id=f"s{link_id}", name="Another")
    world.link(link_id, store_id=f"s{link_id}", **values)
    return link_id


def _part_of(world: SettleWorld, name: str) -> Any:
    return world.row("sync_state", world.link_id, name)["split_part"]


def test_only_splits_of_the_link_that_are_not_over_are_locked(world: SettleWorld) -> None:
    ids = [_split(world, state) for state in (*_SPLIT_STATES, "open")]
    _split(world, link_id=world.link_id + 500_000)
    locked = world.run(statements.LOCK, link_id=world.link_id).scalars()
    assert locked == [ids[0], ids[1], ids[3]]


@pytest.mark.parametrize(("epoch", "active"), [(3, True), (4, True), (3, False)])
def test_reading_splits(world: SettleWorld, epoch: int, active: bool) -> None:
    other = _another_link(world, epoch=epoch, active=active)
    hours = (0, -23.9, -24, -25)
    for link_id, state, age in itertools.product((world.link_id, other), _SPLIT_STATES, hours):
        taken_at = world.clock.now if state == "open" else None
        created_at = world.clock.after(age * _HOUR)
        split_id = _split(world, state, link_id=link_id, created_at=created_at, taken_at=taken_at)
        whole = _part(world, split_id, "refused", level=0, link_id=link_id)
        for part_state in PartState:
            part_id = _part(world, split_id, part_state.value, parent_id=whole, link_id=link_id)
            world.batch("open", split_part=part_id)
        for batch_state, batch_link in itertools.product((*_BATCH_STATES, None), (world.link_id, other)):
            part_id = _part(world, split_id, "sent", link_id=link_id)
            if batch_state is not None:
                world.batch(batch_state, split_part=part_id, link_id=batch_link)
    _split(world, link_id=other)
    states = {row[12] for row in world.run(statements.SPLITS, link_id=world.link_id)}
    assert states == set(PartState)
    is_current = {row[7] for row in world.run(statements.SPLITS, link_id=other)}
    assert is_current == ({True, False} if epoch == 3 and active else {False})
    assert world.run(statements.SPLITS, link_id=1).all() == []


@pytest.mark.parametrize(
    ("link", "opens"), [({}, True), ({"epoch": 4}, False), ({"active": False}, False), (None, False)]
)
def test_a_split_is_opened_for_the_link_in_use(
    world: SettleWorld, link: dict[str, Any] | None, opens: bool
) -> None:
    link_id = world.link_id + 500_000 if link is None else _another_link(world, **link)
    batch = world.batch(link_id=link_id)
    said = {"kind": SplitKind.TOO_LARGE, "calls": 1, "code": "4", "message": "No."}
    opened = world.run(statements.OPEN, batch_id=batch["batch_id"], **said).all()
    assert len(opened) == opens
    assert world.run(statements.OPEN, batch_id=1, **said).all() == []


def test_a_part_belongs_to_its_split(world: SettleWorld) -> None:
    split_id = _split(world)
    said = {"level": 2, "items": 7, "state": PartState.DOUBTED}
    for parent_id in (None, 7):
        assert world.run(statements.NEW_PART, split_id=split_id, parent_id=parent_id, **said).all()
    assert world.run(statements.NEW_PART, split_id=1, parent_id=None, **said).all() == []


def test_items_of_a_batch_are_held(world: SettleWorld) -> None:
    batch = world.full_batch("unknown", with_body=False)
    for number, (outcome, part, in_flight) in enumerate(
        itertools.product((None, "unknown", "rejected"), (None, 7), (None, 8))
    ):
        variant_id = f"w{number}"
        world.attempt(batch, variant_id, outcome=outcome)
        world.state(variant_id, in_flight, split_part=part)
    said = {"link_id": world.link_id, "part_id": 5}
    # Three that are not in flight in a full batch besides.
    assert world.run(statements.HOLD_ITEMS, batch_id=batch["batch_id"], **said).rowcount == 2 + 4
    assert world.run(statements.HOLD_ITEMS, batch_id=1, **said).rowcount == 0


@pytest.mark.parametrize("count", [1, 2, 5])
def test_halving(world: SettleWorld, count: int) -> None:
    split_id = _split(world)
    part_id, first_id, second_id = (_part(world, split_id) for _ in range(3))
    names = _held(world, part_id, count)
    others = _held(world, first_id, 1) + _held(world, None, 1)
    assert world.run(statements.COUNT_ITEMS, part_id=part_id).scalar_one() == count
    first = (count + 1) // 2
    halved = {"part_id": part_id, "first_items": first, "first_id": first_id}
    second = second_id if count > 1 else None
    assert world.run(statements.HALVE, **halved, second_id=second).rowcount == count
    parts = sorted(_part_of(world, name) for name in names)
    assert parts == [first_id] * first + [second_id] * (count - first)
    assert [_part_of(world, name) for name in others] == [first_id, None]
    assert world.run(statements.COUNT_ITEMS, part_id=part_id).scalar_one() == 0
    assert world.run(statements.FREE_PART, part_id=first_id).rowcount == first + 1


def test_the_state_and_the_calls_of_a_part(world: SettleWorld) -> None:
    split_id = _split(world)
    part_id, _ = _part(world, split_id), _part(world, split_id)
    lost = _part(world, 1)
    assert world.run(statements.SET_STATE, part_id=part_id, state=PartState.SENT).rowcount == 1
    assert world.run(statements.SET_STATE, part_id=1, state=PartState.SENT).rowcount == 0
    for one, done in ((part_id, 1), (lost, 0), (1, 0)):
        assert world.run(statements.COUNT_CALL, part_id=one).rowcount == done
    batch = world.batch()
    states = ("sending", "open", "unknown", "refused", "given_up", "over")
    for number, state in enumerate(states, 1):
        world.call(batch, number, state)
    for number, state in enumerate((*states, "none"), 1):
        said = {"batch_id": batch["batch_id"], "call_number": number}
        assert world.run(statements.UNCOUNT_CALL, **said, part_id=part_id).rowcount == (state == "sending")
        assert world.run(statements.UNCOUNT_CALL, **said, part_id=lost).rowcount == 0
    assert world.row("splits", split_id)["calls"] == 4


def test_a_taken_call_proves_what_began_before_it(world: SettleWorld) -> None:
    batch = world.batch()
    world.call(batch, 1, started_at=world.clock.after(-10))
    for state, age, taken in itertools.product(_SPLIT_STATES, (-11, -10, -9), (None, -5)):
        taken_at = None if taken is None else world.clock.after(taken)
        split_id = _split(world, state, created_at=world.clock.after(age), taken_at=taken_at)
        for part_state in PartState:
            _part(world, split_id, part_state.value)
    _split(world, link_id=world.link_id + 500_000, created_at=world.clock.after(-11))
    said = {"link_id": world.link_id, "batch_id": batch["batch_id"]}
    assert world.run(statements.PROVE, **said, call_number=2).all() == []
    proved = world.run(statements.PROVE, **said, call_number=1).scalars()
    assert len(proved) == 2 * 2 * 2
    assert world.run(statements.UNDOUBT, split_ids=proved[:3]).rowcount == 3
    assert world.run(statements.UNDOUBT, split_ids=[]).rowcount == 0


@pytest.mark.parametrize(
    "statement", [statements.STOP_WAITING, statements.BEGIN_SEARCH, statements.END, statements.END_OF_STORE]
)
def test_the_state_of_a_split(world: SettleWorld, statement: Any) -> None:
    ids = [_split(world, state, taken_at=world.clock.after(-1)) for state in _SPLIT_STATES]
    other = _split(world, store_id="another")
    world.flush()
    world.clock.move(60)
    said: dict[str, Any] = {"code": "2", "message": None} if statement is statements.BEGIN_SEARCH else {}
    if statement is statements.END_OF_STORE:
        assert world.run(statement, store_id=world.store_id).rowcount == 2
        return
    done = [world.run(statement, split_id=one, **said).rowcount for one in (*ids, other, 1)]
    assert (
        done
        == {
            statements.STOP_WAITING: [1, 0, 0, 0, 0],
            statements.BEGIN_SEARCH: [1, 1, 1, 1, 0],
            statements.END: [1, 1, 0, 1, 0],
        }[statement]
    )


@pytest.mark.parametrize("limit", [None, 3])
def test_freeing_what_splits_hold(world: SettleWorld, limit: int | None) -> None:
    held = []
    for state, store_id in itertools.product(_SPLIT_STATES, (world.store_id, "another")):
        split_id = _split(world, state, store_id=store_id)
        held.append(split_id)
        for _ in range(2):
            _held(world, _part(world, split_id), 2)
    _held(world, None, 2)
    assert world.run(statements.FREE, split_id=held[0], batch_limit=limit).rowcount == 4
    assert world.run(statements.FREE, split_id=held[4], batch_limit=limit).rowcount == 4
    assert len(world.run(statements.LOCK_OF_STORE, store_id=world.store_id).all()) == 2
    # Whatever the rows of a split say: what is left behind under one that is over is free too.
    assert world.run(statements.FREE_OF_STORE, store_id=world.store_id).rowcount == 16
    assert world.run(statements.FREE, split_id=1, batch_limit=limit).rowcount == 0


def test_other_calls_that_are_under_way(world: SettleWorld) -> None:
    for state, part in itertools.product(_BATCH_STATES, (None, 7)):
        world.link_id += 500_000
        world.batch(state, split_part=part)
        under_way = world.run(statements.OTHERS_UNDER_WAY, link_id=world.link_id).scalar_one()
        assert under_way == (state in {"sending", "unknown"} and part is None)


def test_reading_a_released_batch(world: SettleWorld) -> None:
    values: dict[str, Any] = {"split_part": 7, "server_errors": 2, "error_code": "2", "error_text": "No."}
    for batch in (world.batch("over"), world.batch("over", **values)):
        row = world.run(statements.RELEASED, batch_id=batch["batch_id"]).one()
        assert row[3:6] == (batch["split_part"], batch["server_errors"], batch["sent"])
    assert world.run(statements.RELEASED, batch_id=1).all() == []


def _failed(world: SettleWorld, ages: list[int | None], **values: Any) -> Row:
    """A batch with server errors so many seconds ago."""
    batch = world.batch("over", **{"server_errors": 1, **values})
    for number, age in enumerate(ages, 1):
        unknown_at = None if age is None else world.clock.after(-age)
        world.call(batch, number, "unknown", server_error=True, unknown_at=unknown_at)
    world.call(batch, 100, "unknown", server_error=False, unknown_at=world.clock.after(-5 * _HOUR))
    return batch


@pytest.mark.parametrize("kin", ["body", "part", "both"])
def test_a_suspicious_batch(world: SettleWorld, kin: str) -> None:
    """Of the others, only those count that carried the same, had errors too, and are not too old."""
    same: dict[str, Any] = {"body_hash": b"h"} if kin != "part" else {}
    if kin != "body":
        same["split_part"] = 7
    this = _failed(world, [0], **same)
    _failed(world, [900], **same)
    _failed(world, [None], **same)
    _failed(world, [9000], **{**same, "server_errors": 0})
    _failed(world, [9000], **same, created_at=world.clock.after(-24 * _HOUR))
    _failed(world, [9000], **same, link_id=world.link_id + 500_000)
    _failed(world, [9000], body_hash=b"another", split_part=8)
    _failed(world, [9000])
    for errors, after_seconds in itertools.product((0, 2, 3, 4), (0, 899.5, 900, 901)):
        said = {"errors": errors, "after_seconds": after_seconds}
        found = world.run(statements.IS_SUSPICIOUS, batch_id=this["batch_id"], **said).scalar()
        assert found == (errors <= 3 and after_seconds <= 900)


def test_a_batch_that_nothing_is_known_against(world: SettleWorld) -> None:
    every = [
        _failed(world, []),
        _failed(world, [3, 4], server_errors=0, body_hash=b"h"),
        _failed(world, [None], split_part=9),
        _failed(world, [5, 900]),
    ]
    ids = [batch["batch_id"] for batch in every]
    for batch_id, errors in itertools.product((*ids, 1), (0, 1)):
        said = {"batch_id": batch_id, "errors": errors, "after_seconds": 0}
        assert not world.run(statements.IS_SUSPICIOUS, **said).scalar()


async def test_a_search_from_its_begin_to_its_end(world: SettleWorld) -> None:
    """As the pipeline does it: five items, of which Meta takes none but in the end the calls of others."""
    batch = world.batch("over")
    names = [f"s{number}" for number in range(5)]
    for name in names:
        world.attempt(batch, name)
        world.state(name, None, status="pending", disturbed_at=None)
    whole = _open_batch(world, batch, len(names))
    refusal = Refusal(SplitKind.BAD_PARAMETER, "100", "No.")
    async with _transaction(world) as connection:
        await splits.refused(connection, whole, refusal, None, is_verdict=False, wait=_WAIT)
    turns = 0
    while part := await _next_call(world):
        turns += 1
        call = _call_of(world, part)
        async with _transaction(world) as connection:
            search = await splits.search_of(connection, call)
            assert search is not None
            if "s4" in _names(world, part.part_id):
                is_alone = part.items == 1
                await splits.refused(connection, call, refusal, search, is_verdict=is_alone, wait=_WAIT)
            else:
                await splits.taken(connection, call, _WAIT)
    assert 3 < turns < 20
    assert {_part_of(world, name) for name in names} == {None}


async def test_a_search_that_finds_nobody_blames_the_store(world: SettleWorld) -> None:
    batch = world.batch("over")
    for number in range(8):
        world.attempt(batch, f"s{number}")
        world.state(f"s{number}", None, status="pending", disturbed_at=None)
    whole = _open_batch(world, batch, 8)
    async with _transaction(world) as connection:
        search = await splits.keep_together(connection, whole)
        assert search is not None
        await splits.begin_search(connection, search, "2", "Please try again.")
        assert await splits.nothing_else_to_try(connection, world.store_id, world.link_id, _WAIT)
    refusal = Refusal(SplitKind.SUSPECT, "2", "Please try again.")
    while part := await _next_call(world):
        call = _call_of(world, part)
        async with _transaction(world) as connection:
            search = await splits.search_of(connection, call)
            await splits.refused(connection, call, refusal, search, is_verdict=False, wait=_WAIT)
    assert [row["reason"] for row in world.mirror.tables["store_pauses"]] == ["meta_unreachable"]
    assert {row["split_part"] for row in world.mirror.tables["sync_state"]} == {None}


async def test_the_splits_of_a_store_end_with_its_link(world: SettleWorld) -> None:
    split_id = _split(world)
    names = _held(world, _part(world, split_id), 3)
    async with _transaction(world) as connection:
        await splits.end_splits_of_store(connection, world.store_id)
    assert {_part_of(world, name) for name in names} == {None}
    assert world.row("splits", split_id)["state"] == "over"


def _names(world: SettleWorld, part_id: int) -> set[str]:
    return {row["variant_id"] for row in world.mirror.tables["sync_state"] if row["split_part"] == part_id}


async def _next_call(world: SettleWorld) -> Part | None:
    """The part that goes next, with its call counted."""
    async with _transaction(world) as connection:
        part = (await splits.look(connection, world.store_id, world.link_id, _WAIT)).part
        if part is not None:
            assert await splits.begin_call(connection, world.store_id, world.link_id, part.part_id)
            await splits.count_call(connection, part.part_id)
    return part


def _call_of(world: SettleWorld, part: Part) -> OpenBatch:
    batch = world.batch("sending", split_part=part.part_id)
    world.call(batch, 1)
    return _open_batch(world, batch, part.items, part.part_id)


def _open_batch(world: SettleWorld, batch: Row, count: int, part_id: int | None = None) -> OpenBatch:
    return OpenBatch(batch["batch_id"], 1, world.store_id, world.link_id, "catalog", b"", count, part_id)
