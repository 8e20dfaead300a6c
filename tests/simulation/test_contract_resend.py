"""What is asked just before a call, and further calls of a batch, in memory and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.sync import claim_statements as claim
from meta_sync.sync import drain, resend
from tests.simulation.contract import Bench, open_bench

NO_LINK = -1
"""A link that does not exist."""


@pytest.fixture(scope="module")
def bench(postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    with open_bench(postgres_server) as bench:
        yield bench


@pytest.fixture(autouse=True)
def _same_rows(bench: Bench) -> Iterator[None]:
    yield
    bench.mirror.compare_tables()


@pytest.mark.parametrize(
    ("settings", "holds"),
    [
        ({"sync_enabled": True}, True),
        ({"sync_enabled": "true", "feed_mode": "live"}, True),
        ({"sync_enabled": True, "feed_mode": None}, True),
        ({"sync_enabled": None}, False),
        ({"sync_enabled": False}, False),
        ({}, False),
        ({"sync_enabled": True, "feed_mode": "preview"}, False),
    ],
)
async def test_settings_let_a_store_send(bench: Bench, settings: dict[str, Any], holds: bool) -> None:
    store_id = bench.store(settings=settings, mapping_epoch=4)
    link_id = bench.link(store_id, epoch=2)
    given = {"store_id": store_id, "link_id": link_id, "epoch": 2, "mapping_epoch": 4}
    assert await bench.ask(claim.GUARD, **given) == [(holds,)]
    batch_id = bench.batch(store_id, link_id, link_epoch=2, sent=0)
    assert await bench.ask(drain._MAY_SEND, store_id=store_id, batch_id=batch_id) == [(holds,)]
    again = {"batch_id": batch_id, "deadline_seconds": 5.0}
    assert await bench.ask(resend._OPEN, **again) == ([(2, b"body", 0, "catalog", None)] if holds else [])


async def test_the_guard(bench: Bench) -> None:
    store_id = bench.store(mapping_epoch=4)
    link_id, left = bench.link(store_id, epoch=2), bench.link(store_id, epoch=2, active=False)
    given = {"store_id": store_id, "link_id": link_id, "epoch": 2, "mapping_epoch": 4}
    answers: list[tuple[dict[str, Any], list[Any]]] = [
        ({"epoch": 1}, [(False,)]),
        ({"mapping_epoch": 3}, [(False,)]),
        ({"link_id": left}, [(False,)]),
        ({"link_id": 0}, []),
        ({"store_id": "unknown"}, []),
    ]
    for changes, answer in answers:
        assert await bench.ask(claim.GUARD, **{**given, **changes}) == answer
    for batch_link, epoch, allowed in [(link_id, 1, False), (left, 2, False), (link_id, 2, True)]:
        batch_id = bench.batch(store_id, batch_link, link_epoch=epoch)
        assert await bench.ask(drain._MAY_SEND, store_id=store_id, batch_id=batch_id) == [(allowed,)]
        assert await bench.ask(drain._MAY_SEND, store_id="unknown", batch_id=batch_id) == []
    unlinked = bench.batch(store_id, NO_LINK)
    assert await bench.ask(drain._MAY_SEND, store_id=store_id, batch_id=unlinked) == []
    assert await bench.ask(drain._MAY_SEND, store_id=store_id, batch_id=-1) == []


async def test_seconds_that_a_call_has_left(bench: Bench) -> None:
    batch_id = bench.batch("s", 1, state="sending", calls=2)
    bench.call(batch_id, 1)
    bench.call(batch_id, 2, deadline_at=bench.clock.after(7.25))
    asked = {"batch_id": batch_id, "call_number": 2}
    assert [float(row[0]) for row in await bench.ask(drain._SECONDS_LEFT, **asked)] == [7.25]
    assert await bench.ask(drain._SECONDS_LEFT, **{**asked, "call_number": 1}) == []
    assert await bench.ask(drain._SECONDS_LEFT, **{**asked, "call_number": 3}) == []
    bench.call(-1, 1)
    assert await bench.ask(drain._SECONDS_LEFT, batch_id=-1, call_number=1) == []
    bench.clock.move(8)
    assert [float(row[0]) for row in await bench.ask(drain._SECONDS_LEFT, **asked)] == [-0.75]
    for batch_state, call_state in [("unknown", "sending"), ("sending", "unknown")]:
        other = bench.batch("s", 1, state=batch_state)
        bench.call(other, 1, state=call_state)
        assert await bench.ask(drain._SECONDS_LEFT, batch_id=other, call_number=1) == []


def _split(bench: Bench, kind: str) -> int:
    """A part of a split of the kind."""
    split_id, part_id = bench.number(), bench.number()
    both = {"split_id": split_id, "store_id": "s", "link_id": 1}
    bench.put("splits", **both, link_epoch=1, kind=kind, state="open", calls=1)
    bench.put("split_parts", **both, part_id=part_id, level=0, items=1, state="sent")
    return part_id


async def test_the_oldest_batch_goes_again(bench: Bench) -> None:
    store_id, clock = bench.store(), bench.clock
    link_id = bench.link(store_id)
    waiting: list[dict[str, Any]] = [
        {"state": "open"},
        {"due_at": clock.after(1)},
        {"due_at": None},
        {"body": None},
        {"link_epoch": 2},
        {"calls": resend.MAX_CALLS},
        {"split_part": _split(bench, "suspect")},
        # Not all of its items are in flight under it any more.
        {"sent": 1},
    ]
    for values in waiting:
        bench.batch(store_id, link_id, **{"sent": 0, **values})
    assert await bench.ask(resend._DUE, link_id=link_id, epoch=1) == []
    oldest = bench.batch(store_id, link_id, calls=resend.MAX_CALLS - 1, sent=0)
    bench.batch(store_id, link_id, due_at=clock.after(-60), sent=0)
    assert await bench.ask(resend._DUE, link_id=link_id, epoch=1) == [(oldest,)]
    assert await bench.ask(resend._DUE, link_id=bench.link(bench.store()), epoch=1) == []


@pytest.mark.parametrize("kind", ["too_large", "suspect", "forgotten"])
async def test_parts_of_a_search_for_server_errors_do_not_go_again(bench: Bench, kind: str) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id)
    part_id = bench.number() if kind == "forgotten" else _split(bench, kind)
    batch_id = bench.batch(store_id, link_id, split_part=part_id, sent=0)
    due = await bench.ask(resend._DUE, link_id=link_id, epoch=1)
    opened = await bench.ask(resend._OPEN, batch_id=batch_id, deadline_seconds=1.0)
    if kind == "suspect":
        assert due == opened == []
    else:
        assert (due, opened) == ([(batch_id,)], [(2, b"body", 0, "catalog", part_id)])


async def test_a_further_call_is_opened_once(bench: Bench) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id, epoch=2)
    batch_id = bench.batch(
        store_id, link_id, link_epoch=2, sent=2, due_at=bench.clock.after(-9), hold_until=bench.clock.now
    )
    for variant_id in ("a", "b"):
        bench.state(store_id, link_id, variant_id, status="submitted", in_flight=batch_id)
    bench.clock.move(1)
    given = {"batch_id": batch_id, "deadline_seconds": 12.5}
    assert await bench.ask(resend._OPEN, **given) == [(2, b"body", 2, "catalog", None)]
    call = {"call_number": 2, "store_id": store_id, "link_id": link_id}
    assert await bench.count(resend._INSERT_CALL, **given, **call) == 1
    # Somebody else was first.
    assert await bench.ask(resend._OPEN, **given) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "given_up"},
        {"due_seconds": 1},
        {"due_at": None},
        {"calls": resend.MAX_CALLS},
        {"sent": 2},
        {"link_epoch": 1},
        {"body": None},
    ],
)
async def test_a_further_call_is_not_opened(bench: Bench, changes: dict[str, Any]) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id, epoch=2)
    if "due_seconds" in changes:
        changes = {"due_at": bench.clock.after(changes["due_seconds"])}
    batch_id = bench.batch(store_id, link_id, **{"link_epoch": 2, **changes})
    bench.state(store_id, link_id, "a", status="submitted", in_flight=batch_id)
    assert await bench.ask(resend._OPEN, batch_id=batch_id, deadline_seconds=1.0) == []
    assert await bench.ask(resend._OPEN, batch_id=-1, deadline_seconds=1.0) == []


async def test_a_link_that_was_left_gets_no_further_call(bench: Bench) -> None:
    store_id = bench.store()
    for link_id in (bench.link(store_id, active=False), bench.link("nobody"), NO_LINK):
        batch_id = bench.batch(store_id, link_id, sent=0)
        assert await bench.ask(resend._OPEN, batch_id=batch_id, deadline_seconds=1.0) == []
