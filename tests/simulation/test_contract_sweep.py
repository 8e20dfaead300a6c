"""Operators, sweep, retries and ended sales, in memory and in PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, cast

import pytest

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.core.errors import ConflictError, NotFoundError
from meta_sync.core.queue import MemoryJobQueue
from meta_sync.sync import operations, retries, sale_windows, sweep
from meta_sync.sync.operations import OperationsService
from meta_sync.sync.retries import wake_retries
from meta_sync.sync.sale_windows import SaleWindows
from tests.simulation.contract import SENDING, Bench, open_bench
from tests.simulation.memory import Row

_ITEM_STATES = ("never_synced", "pending", "submitted", "synced", "failed", "skipped", "deleted")
_BATCH_STATES = ("sending", "open", "unknown", "given_up", "over")


@pytest.fixture(scope="module")
def bench(postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    with open_bench(postgres_server) as bench:
        yield bench
        bench.mirror.compare_tables()


class _Requests:
    """A database whose requests of a store see everything, as in a simulation."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    @asynccontextmanager
    async def store(self, store_id: str) -> AsyncIterator[Any]:
        del store_id
        async with self._bench.mirror.platform() as connection:
            yield connection


def _token(bench: Bench, store_id: str, **values: Any) -> None:
    given = {
        "credential_id": f"token_{store_id}",
        "store_id": store_id,
        "access_token": b"",
        "token_kind": "user",
        "active": True,
    }
    bench.put("credentials", **{**given, **values})


def _of(bench: Bench, table: str, store_id: str) -> dict[str, Row]:
    return {row["variant_id"]: row for row in bench.mirror.tables[table] if row["store_id"] == store_id}


# --- operators ----------------------------------------------------------------------------------------------------------


def _known_item(bench: Bench, store_id: str, link_id: int, **values: Any) -> None:
    """A state in which everything is set that an operator may clear; and another link's, which is no matter of theirs."""
    given = {
        "confirmed_hash": b"c",
        "confirmed_epoch": 1,
        "rejected_hash": b"r",
        "discarded_hash": b"d",
        "batch_limit": 10,
        "retry_at": bench.clock.now,
        "may_hold": ["color"],
        "image_version": 3,
        **values,
    }
    bench.state(store_id, link_id, "v", **given)
    bench.state(store_id, link_id + 1_000_000, "v", **given)


@pytest.mark.parametrize("status", [*_ITEM_STATES, None])
@pytest.mark.parametrize("force", [True, False])
async def test_an_item_is_synced_again(bench: Bench, force: bool, status: str | None) -> None:
    service = OperationsService(cast("Any", _Requests(bench)), MemoryJobQueue())
    for in_flight in (None, 5):
        store_id = bench.store()
        link_id = bench.link(store_id)
        bench.variant(store_id, "v", deleted_at=bench.clock.now if in_flight else None)
        if status is not None:
            known = {"status": status, "presence": "present", "excluded_at": bench.clock.now}
            _known_item(bench, store_id, link_id, in_flight=in_flight, **known)
        bench.clock.move(1)
        for refresh in (True, False):
            await service.resync(store_id, "v", force=force, refresh_images=refresh, actor="somebody")
        state = bench.mirror.tables["sync_state"].rows[link_id, "v"]
        assert state["image_version"] == 1 + 3 * (status is not None)
        changed = {"never_synced", "synced", "skipped", "deleted"} if force else {"never_synced"}
        assert state["status"] == ("pending" if status in {*changed, None} else status)
        events = [row for row in bench.mirror.tables["item_events"] if row["store_id"] == store_id]
        assert [row["kind"] for row in events] == ["resync", "resync"]


@pytest.mark.parametrize("status", [*_ITEM_STATES, None])
@pytest.mark.parametrize("presence", ["absent", "maybe", "present"])
async def test_an_item_is_taken_off(bench: Bench, presence: str, status: str | None) -> None:
    service = OperationsService(cast("Any", _Requests(bench)), MemoryJobQueue())
    store_id = bench.store()
    link_id = bench.link(store_id)
    bench.variant(store_id, "v")
    if status is not None:
        _known_item(bench, store_id, link_id, status=status, presence=presence, in_flight=5)
    bench.clock.move(1)
    first = bench.clock.now
    await service.exclude(store_id, "v", actor="somebody")
    bench.clock.move(1)
    await service.exclude(store_id, "v", actor="somebody else")
    state = bench.mirror.tables["sync_state"].rows[link_id, "v"]
    assert (state["excluded_at"], state["disturbed_at"]) == (first, bench.clock.now)
    known = "absent" if status is None else presence
    assert state["presence"] == ("maybe" if known == "present" else known)
    assert state["status"] == ("pending" if status in {"never_synced", "synced", None} else status)
    events = [row for row in bench.mirror.tables["item_events"] if row["store_id"] == store_id]
    assert [(row["kind"], row["code"]) for row in events] == [("excluded", "excluded_by_operator")] * 2


async def test_what_cannot_be_synced_again(bench: Bench) -> None:
    service = OperationsService(cast("Any", _Requests(bench)), MemoryJobQueue())
    store_id = bench.store()
    bench.link(store_id, active=False)
    with pytest.raises(NotFoundError):
        await service.resync(store_id, "v", force=True, refresh_images=False, actor="somebody")
    bench.variant(store_id, "v")
    with pytest.raises(ConflictError):
        await service.resync(store_id, "v", force=True, refresh_images=False, actor="somebody")


async def test_statements_of_operators_without_a_row(bench: Bench) -> None:
    row = {"link_id": 1, "variant_id": "none", "image_steps": 0}
    assert await bench.count(operations._FORGET, **row, managed=["b", "a"]) == 0
    assert await bench.count(operations._LOOK_AGAIN, **row) == 0
    assert await bench.count(operations._EXCLUDE, **row) == 0


# --- sweep --------------------------------------------------------------------------------------------------------------

_FORGOTTEN_CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "an intent": ({"intent": {}}, True),
    "nothing": ({}, False),
    "a parked intent": ({"intent": {"parked_by": 4}}, False),
    "a due store": ({"intent": {}, "queue": {"due_at": 5}}, False),
    "no switch": ({"intent": {}, "settings": {"sync_enabled": None}}, False),
    "switched off": ({"intent": {}, "settings": {"sync_enabled": False}}, False),
    "live": ({"intent": {}, "settings": {"feed_mode": "live"}}, True),
    "preview": ({"intent": {}, "settings": {"feed_mode": "preview"}}, False),
    "no currency": ({"intent": {}, "settings": {"currency": None}}, False),
    "no shop": ({"intent": {}, "settings": {"storefront_base_url": None}}, False),
    "no active link": ({"intent": {}, "link": {"active": False}}, False),
    "no token": ({"intent": {}, "token": None}, False),
    "a dead token": ({"intent": {}, "token": {"dead_at": 0}}, False),
    "an older token": ({"intent": {}, "token": {"active": False}}, True),
    "paused for good": ({"intent": {}, "pause": {}}, False),
    "paused for a while": ({"intent": {}, "pause": {"until": 99}}, True),
    "its link paused": ({"intent": {}, "pause": {"link_id": "own"}}, False),
    "another link paused": ({"intent": {}, "pause": {"link_id": 1_000_000}}, True),
    "a batch to send again": ({"batch": {}}, True),
    "of an older epoch": ({"batch": {"link_epoch": 7}}, False),
    "without its body": ({"batch": {"body": None}}, False),
    "sent too often": ({"batch": {"calls": 4}}, False),
    "without its items": ({"batch": {"sent": 2}}, False),
    "later": ({"batch": {"due_at": 1}}, False),
    "never": ({"batch": {"due_at": None}}, False),
    "of another link": ({"batch": {"link_id": 1_000_000}}, False),
    **{
        f"a batch {state}": ({"batch": {"state": state, "accepted": 1}}, state == "unknown")
        for state in _BATCH_STATES
    },
}


@pytest.mark.parametrize("name", _FORGOTTEN_CASES)
async def test_forgotten_stores(bench: Bench, name: str) -> None:
    case, is_forgotten = _FORGOTTEN_CASES[name]

    def at(values: dict[str, Any]) -> dict[str, Any]:
        times = {"due_at", "dead_at", "until"}
        return {
            key: bench.clock.after(value) if key in times and value is not None else value
            for key, value in values.items()
        }

    store_id = bench.store(settings={**SENDING, **case.get("settings", {})})
    link_id = bench.link(store_id, **case.get("link", {}))
    bench.put("store_queue", store_id=store_id, **at(case.get("queue", {})))
    if (token := case.get("token", {})) is not None:
        _token(bench, store_id, **at(token))
    if "intent" in case:
        bench.intent(store_id, "v", **case["intent"])
    if "pause" in case:
        pause = {"link_id": 0, **at(case["pause"])}
        pause["link_id"] = link_id if pause["link_id"] == "own" else pause["link_id"]
        bench.put("store_pauses", store_id=store_id, reason="meta_unreachable", **pause)
    if "batch" in case:
        values = {
            "link_id": link_id,
            "link_epoch": 1,
            "calls": 1,
            "body": b"{}",
            "sent": 1,
            **at(case["batch"]),
        }
        batch_id = bench.batch(store_id, **values)
        bench.state(store_id, link_id, "sent", in_flight=batch_id)
    before = bench.mirror.tables["store_queue"].rows[store_id,]["due_at"]
    async with bench.mirror.platform() as connection:
        await sweep.mark_forgotten_stores(connection)
    after = bench.mirror.tables["store_queue"].rows[store_id,]["due_at"]
    assert after == (bench.clock.now if is_forgotten else before)


async def test_intents_parked_under_nothing_are_freed(bench: Bench) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id)
    bench.intent(store_id, "ready")
    for variant_id, in_flight in (("carried", 77), ("free", None), ("of another batch", 78)):
        bench.intent(store_id, variant_id, parked_by=77)
        bench.state(store_id, link_id, variant_id, in_flight=in_flight)
    bench.intent(store_id, "without a state", parked_by=77)
    await bench.count(sweep._UNPARK_ORPHANS)
    parked = {name for name, row in _of(bench, "intents", store_id).items() if row["parked_by"]}
    assert parked == {"carried"}


async def test_items_of_searches_that_are_over_are_freed(bench: Bench) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id)
    for state in ("waiting", "open", "over"):
        split_id, part_id = bench.number(), bench.number()
        given = {"store_id": store_id, "link_id": link_id}
        bench.put("splits", split_id=split_id, **given, link_epoch=1, kind="suspect", state=state, calls=1)
        part = {"split_id": split_id, "part_id": part_id, "level": 1, "items": 1, "state": "waiting"}
        bench.put("split_parts", **given, **part)
        bench.state(store_id, link_id, state, split_part=part_id)
    bench.state(store_id, link_id, "of no part", split_part=bench.number())
    assert await bench.count(sweep._FREE_ORPHANS) == 2
    held = {name for name, row in _of(bench, "sync_state", store_id).items() if row["split_part"]}
    assert held == {"waiting", "open"}


async def test_schedules(bench: Bench) -> None:
    async def is_due(seconds: float) -> bool:
        async with bench.mirror.platform() as connection:
            return await sweep.due_schedule(connection, "work", every_seconds=seconds)

    async def soon(name: str) -> None:
        async with bench.mirror.platform() as connection:
            await sweep.run_soon(connection, name, in_seconds=2.5)

    assert await is_due(10.000_000_5)
    assert not await is_due(10)
    bench.clock.move(10)
    assert await is_due(0.1)
    await soon("work")
    await soon("no such work")
    bench.clock.move(2.499999)
    assert not await is_due(10)
    bench.clock.move(0.000001)
    assert await is_due(10)


# --- retries ------------------------------------------------------------------------------------------------------------


async def _wake(bench: Bench) -> bool:
    async with bench.mirror.platform() as connection:
        return await wake_retries(connection)


async def test_retry_times_that_have_come_become_intents(bench: Bench) -> None:
    store_id, other = bench.store(), bench.store()
    link_id, left = bench.link(store_id), bench.link(store_id, active=False)
    other_link = bench.link(other)
    at = bench.clock.after
    for variant_id, seconds in (("late", 1), ("now", 0), ("earlier", -1), ("never", None)):
        retry_at = None if seconds is None else at(seconds)
        bench.state(store_id, link_id, variant_id, retry_at=retry_at)
        bench.state(store_id, left, variant_id, retry_at=retry_at)
    catalog = bench.mirror.tables["catalog_links"].rows[link_id,]["catalog_id"]
    for handle, lane, seconds in (("h1", 0, -50), ("h2", 2, -60)):
        bench.batch(store_id, link_id, handle=handle, catalog_id=catalog, lane=lane, created_at=at(seconds))
    bench.batch(store_id, link_id, handle="h3", catalog_id="another", lane=0, created_at=at(-70))
    for number, last_handle in enumerate(("h1", "h2", "h3", None)):
        # Each once without an intent, once with an older one and once with a newer one.
        for variant_id in (f"a{number}", f"b{number}", f"c{number}"):
            bench.state(store_id, link_id, variant_id, retry_at=at(-number), last_handle=last_handle)
        bench.intent(store_id, f"b{number}", lane=1, first_at=at(-90), job_id="job", parked_by=3)
        bench.intent(store_id, f"c{number}", lane=2, first_at=at(-0.5))
    bench.state(other, other_link, "now", retry_at=at(0))
    bench.put("store_queue", store_id=other, due_at=at(9))
    assert not await _wake(bench)
    intents = _of(bench, "intents", store_id)
    assert intents.keys() - {"a", "b"} >= {"now", "earlier", "a0", "a3"}
    assert not intents.keys() & {"late", "never"}
    lanes = {name: intents[name]["lane"] for name in ("a0", "a1", "a2", "b1", "c1", "c3")}
    assert lanes == {"a0": 0, "a1": 2, "a2": 1, "b1": 1, "c1": 2, "c3": 1}
    assert (intents["c0"]["first_at"], intents["b0"]["first_at"]) == (at(-50), at(-90))
    waiting = [row for row in bench.mirror.tables["sync_state"] if row["retry_at"] is not None]
    assert {row["variant_id"] for row in waiting if row["store_id"] == store_id} == {"late"}
    assert not await _wake(bench)


async def test_no_more_retries_at_once_than_are_allowed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limit is in the statement's text: here only the twin's own is seen to be the same.
    assert f"LIMIT {retries._AT_ONCE}" in retries._DUE.text
    monkeypatch.setattr(retries, "_AT_ONCE", 2)
    store_id = bench.store()
    link_id = bench.link(store_id)
    for number in range(3):
        bench.mirror.tables["sync_state"].insert(
            bench.clock.now,
            link_id=link_id,
            variant_id=f"v{number}",
            store_id=store_id,
            status="pending",
            retry_at=bench.clock.after(-number),
        )
    connection = super(type(bench.mirror), bench.mirror).open()
    rows = connection.run(retries._DUE, {})
    assert [row[2] for row in rows] == ["v2", "v1"]
    connection.rollback()


async def test_a_retry_time_that_was_moved_stays(bench: Bench) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id)
    bench.state(store_id, link_id, "v", retry_at=bench.clock.after(1))
    bench.state(store_id, link_id, "claimed meanwhile")
    given = {"link_ids": [link_id] * 4, "variant_ids": ["v", "v", "claimed meanwhile", "none"]}
    assert await bench.count(retries._CLEAR, **given) == 0
    bench.clock.move(1)
    assert await bench.count(retries._CLEAR, **given) == 1


# --- ended sales --------------------------------------------------------------------------------------------------------


def _watermark(bench: Bench, store_id: str) -> tuple[datetime | None, str]:
    row = bench.mirror.tables["store_queue"].rows[store_id,]
    return row["sales_swept_to"], row["sales_swept_id"]


async def test_ended_sales_are_looked_at_once(bench: Bench) -> None:
    store_id, quiet = bench.store(), bench.store()
    bench.link(store_id)
    for one in (store_id, quiet):
        bench.put("store_queue", store_id=one)
    at = bench.clock.after
    ends = {"a": -301, "b": -300, "c": -299, "d": 5, "e": None, "f": -400, "g": -350}
    for variant_id, seconds in ends.items():
        end = None if seconds is None else at(seconds)
        bench.variant(
            store_id, variant_id, special_price_end=end, deleted_at=at(0) if variant_id == "g" else None
        )
    bench.intent(store_id, "f", lane=0, job_id="job", first_at=at(-9))
    sales = SaleWindows(cast("Any", bench.mirror), delay_seconds=300.0)
    assert not await sales.sweep()
    intents = _of(bench, "intents", store_id)
    assert intents.keys() == {"a", "f"}
    assert (intents["a"]["lane"], intents["a"]["job_id"]) == (2, "sale_window")
    assert (intents["f"]["lane"], intents["f"]["job_id"]) == (0, "sale_window")
    first = (at(-300), "")
    assert (_watermark(bench, store_id), _watermark(bench, quiet)) == (first, first)
    # What ended at the watermark itself belongs to the next walk; who has nothing new keeps the place.
    bench.clock.move(0.5)
    assert not await sales.sweep()
    assert _of(bench, "intents", store_id).keys() == {"a", "b", "f"}
    swept = _watermark(bench, store_id)
    bench.clock.move(0.25)
    assert not await sales.sweep()
    assert _watermark(bench, store_id) == swept
    assert _watermark(bench, quiet) == first


async def test_stores_are_swept_in_the_order_of_their_watermarks(bench: Bench) -> None:
    at = bench.clock.after
    places = {
        bench.store(): place for place in ((None, ""), (at(-500), "a"), (at(-500), "b"), (at(-900), ""))
    }
    for store_id, (swept_to, swept_id) in places.items():
        bench.put("store_queue", store_id=store_id, sales_swept_to=swept_to, sales_swept_id=swept_id)
        bench.variant(store_id, "b", special_price_end=at(-500))
    rows = await bench.ask(sale_windows._STORES, delay_seconds=300.5)
    found = [row[0] for row in rows if row[0] in places]
    unswept, before_b, at_b, old = places
    assert found == [unswept, old, before_b]
    assert at_b not in found
    assert {row[3] for row in rows} == {at(-300.5)}


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_watermark_moves_only_from_where_it_was(bench: Bench, is_first: bool) -> None:
    now = bench.clock.now
    stored = (None, "") if is_first else (now, "v")
    for swept_to, swept_id in itertools.product((None, now), ("", "v")):
        store_id = bench.store()
        bench.put("store_queue", store_id=store_id, sales_swept_to=stored[0], sales_swept_id=stored[1])
        given = {"store_id": store_id, "swept_to": swept_to, "swept_id": swept_id, "to_at": now, "to_id": "x"}
        moved = await bench.ask(sale_windows._ADVANCE, **given)
        assert len(moved) == ((swept_to, swept_id) == stored)


async def test_a_page_of_ended_sales(bench: Bench) -> None:
    store_id = bench.store()
    at = bench.clock.after
    for variant_id in ("a", "b", "Z", "é"):
        bench.variant(store_id, variant_id, special_price_end=at(-5))
    bench.variant(store_id, "0", special_price_end=at(-4))
    bench.variant(store_id, "later", special_price_end=at(0))
    given = {"store_id": store_id, "up_to": at(0), "most": 5}
    all_of_them = await bench.ask(sale_windows._ENDED, **given, swept_to=None, swept_id="")
    assert [row[1] for row in all_of_them] == ["Z", "a", "b", "é", "0"]
    given["most"] = 3
    after_a = await bench.ask(sale_windows._ENDED, **given, swept_to=at(-5), swept_id="a")
    assert [row[1] for row in after_a] == ["b", "é", "0"]
    given["most"] = 2
    assert len(await bench.ask(sale_windows._ENDED, **given, swept_to=at(-5), swept_id="a")) == 2
