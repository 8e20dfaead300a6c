"""What a claim and a further call of a batch do to the rows, in memory and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.exc import IntegrityError

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.connection import repository as connections
from meta_sync.graph.auth import GraphCredential
from meta_sync.stores.settings import settings_from_stored
from meta_sync.sync import claim_statements as claim
from meta_sync.sync import resend
from meta_sync.sync.claim import Plan, apply_plan, plan_turn
from meta_sync.sync.context import Access, StoreContext, mapping_settings
from meta_sync.sync.lease import Lease
from meta_sync.sync.models import OpenBatch, ReadyIntent
from meta_sync.sync.outbox import write_intents
from meta_sync.sync.reading import read_ready
from tests.simulation.contract import HOST, SENDING, Bench, open_bench
from tests.simulation.memory import Row

DEADLINE_SECONDS = 12.5
NO_LINK = 0
"""A link that has no states."""


@pytest.fixture(scope="module")
def bench(postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    with open_bench(postgres_server) as bench:
        yield bench


@pytest.fixture(autouse=True)
def _same_rows(bench: Bench) -> Iterator[None]:
    yield
    bench.mirror.compare_tables()


class Turn:
    """A store with a lease, and what one of its turns read."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.store_id = bench.store(mapping_epoch=4)
        self.link_id = bench.link(self.store_id, epoch=2)
        self.lease = Lease(self.store_id, "worker", 3)
        queue = {"lease_owner": "worker", "fence": 3, "leased_until": bench.clock.after(90)}
        bench.put("store_queue", store_id=self.store_id, **queue)
        texts = {"title": "A thing", "description": "Worth having", "slug": "thing", "brand": "Acme"}
        bench.product(self.store_id, "p", **texts, thumbnail="https://shop.example/1.jpg")
        self._known = 0

    def item(self, variant_id: str, state: dict[str, Any] | None = None, **variant: Any) -> None:
        """An item that may be sent, with an intent; with a state row when one is given."""
        self.bench.variant(self.store_id, variant_id, **{"price": 1999, **variant})
        self.intent(variant_id, state)

    def intent(self, variant_id: str, state: dict[str, Any] | None = None) -> None:
        """An intent; of an item with a state row when one is given. Those come first."""
        first_at = self.bench.clock.after(self.bench.number())
        self.bench.intent(self.store_id, variant_id, lane=1 if state is None else 0, first_at=first_at)
        if state is not None:
            self._known += 1
            self.bench.state(self.store_id, self.link_id, variant_id, **state)

    async def read(self) -> list[ReadyIntent]:
        """Everything that is ready, as one read would give it.

        The mirror tells row ids from other values by the first row of a result, so items with a state row and items
        without one are read apart.
        """
        async with self.bench.mirror.platform() as connection:
            known = []
            if self._known:
                known = await read_ready(connection, self.store_id, self.link_id, limit=self._known)
            rest = await read_ready(connection, self.store_id, NO_LINK, limit=1000)
        return known + [one for one in rest if one.variant_id not in {other.variant_id for other in known}]

    async def context(self) -> StoreContext:
        async with self.bench.mirror.platform() as connection:
            link = await connections.link(connection, self.link_id)
        assert link is not None
        settings = settings_from_stored(SENDING)
        mapping = mapping_settings(settings, None)
        assert mapping is not None
        credential = GraphCredential(SecretStr("token"), "1", None)
        access = Access(link, link.credential_id, credential, False, "v25.0")
        return StoreContext(self.store_id, settings, 4, mapping, access, ())

    async def plan(self) -> Plan:
        return plan_turn(await self.read(), await self.context(), now=self.bench.clock.now)

    async def apply(self, plan: Plan) -> OpenBatch | None:
        async with self.bench.mirror.platform() as connection:
            return await apply_plan(
                connection, await self.context(), self.lease, plan, deadline_seconds=DEADLINE_SECONDS
            )

    def state(self, variant_id: str) -> Row | None:
        return self.bench.mirror.tables["sync_state"].get(self.link_id, variant_id)

    def intents(self) -> dict[str, Row]:
        rows = self.bench.mirror.tables["intents"]
        return {row["variant_id"]: row for row in rows if row["store_id"] == self.store_id}

    def events(self) -> list[tuple[str, str, str]]:
        rows = self.bench.mirror.tables["item_events"]
        found = [row for row in rows if row["store_id"] == self.store_id]
        return [(row["variant_id"], row["kind"], row["code"]) for row in found]


def _sent(retailer_id: str, **values: Any) -> dict[str, Any]:
    """The state of an item that Meta confirmed in the link's epoch."""
    return {
        "status": "synced",
        "presence": "present",
        "retailer_id": retailer_id,
        "confirmed_hash": b"before",
        "confirmed_epoch": 2,
        "may_hold": ["title", "video"],
        **values,
    }


async def test_items_are_taken_in_flight(bench: Bench) -> None:
    turn = Turn(bench)
    times = {name: bench.clock.after(-5) for name in ("disturbed_at", "retry_at", "updated_at")}
    turn.item("new1")
    turn.item("new2")
    turn.item("known", _sent("known", **times, attempts=2, batch_limit=50, retries=3, code="x"))
    turn.item("older", _sent("older", confirmed_epoch=1, status="failed", rejected_hash=b"refused"))
    turn.item("asked", {"status": "never_synced"})
    turn.intent("gone", _sent("gone"))
    plan = await turn.plan()
    assert len(plan.attempts) == 6
    bench.clock.move(1.5)
    batch = await turn.apply(plan)
    assert batch is not None and batch.count == 6
    assert turn.intents() == {}
    known = turn.state("known")
    assert known is not None
    assert (known["status"], known["in_flight"], known["retry_at"]) == ("submitted", batch.batch_id, None)
    assert (known["confirmed_hash"], known["retries"], known["batch_limit"]) == (None, 3, 50)
    items = {row["variant_id"]: row for row in bench.mirror.tables["batch_items"].by_index(batch.batch_id)}
    assert items["known"]["previous_may_hold"] == ["title", "video"]
    assert "video" in items["known"]["cleared"]
    assert (items["gone"]["method"], items["gone"]["fields"]) == ("DELETE", [])
    assert items["older"]["previous_status"] == "failed"
    assert items["new1"]["previous_confirmed_epoch"] is None


async def test_what_moved_since_it_was_read_stays(bench: Bench) -> None:
    turn = Turn(bench)
    for variant_id in ("intent_moved", "intent_parked", "state_moved", "taken", "still"):
        turn.item(variant_id, _sent(variant_id))
    for variant_id in ("new_still", "state_made"):
        turn.item(variant_id)
    plan = await turn.plan()
    other = bench.number()
    async with bench.mirror.platform() as connection:
        await write_intents(connection, turn.store_id, ["intent_moved", "unread"], [2, 0])
        park = {"variant_ids": ["intent_parked", "nobody"], "batch_ids": [other, other]}
        await connection.execute(claim.PARK, {"store_id": turn.store_id, **park})
        # Whether another claim took the item or something else wrote its row is all the same.
        settle = {"variant_ids": ["state_moved", "taken"], "statuses": ["pending"] * 2, "codes": [None] * 2}
        await connection.execute(claim.SETTLE_WITHOUT_CALL, {"link_id": turn.link_id, **settle})
        identity = {"link_id": turn.link_id, "store_id": turn.store_id}
        await connection.execute(claim.NEW_STATES, {**identity, "variant_ids": ["state_made"]})
    batch = await turn.apply(plan)
    assert batch is not None and batch.count == 2
    assert sorted(turn.intents()) == [
        "intent_moved",
        "intent_parked",
        "state_made",
        "state_moved",
        "taken",
        "unread",
    ]
    assert turn.intents()["intent_parked"]["parked_by"] == other


async def test_a_plan_of_which_nothing_holds(bench: Bench) -> None:
    turn = Turn(bench)
    turn.item("only", _sent("only"))
    plan = await turn.plan()
    await bench.count(
        claim.SETTLE_WITHOUT_CALL,
        link_id=turn.link_id,
        variant_ids=["only"],
        statuses=["failed"],
        codes=["5"],
    )
    assert await turn.apply(plan) is None
    assert list(turn.intents()) == ["only"]
    async with bench.mirror.platform() as connection:
        assert await connection.scalar(claim.LOCK_INTENTS, {"row_ids": []}) is None
        assert await connection.scalar(claim.LOCK_INTENTS, {"row_ids": [plan.attempts[0].intent.row_id]}) == [
            turn.intents()["only"]["version"]
        ]


async def test_what_needs_no_call(bench: Bench) -> None:
    turn = Turn(bench)
    turn.item("unpriced", price=None)
    turn.item("unpriced_known", {"attempts": 2, "rejected_hash": b"r", "batch_limit": 5}, price=None)
    turn.item("unpriced_before", {"status": "skipped", "code": "missing_price"}, price=None)
    turn.item("dropped", {"code": "x"}, deleted_at=bench.clock.now)
    turn.item("dropped_new", deleted_at=bench.clock.now)
    turn.item("dropped_sent", {"retailer_id": "d", "confirmed_epoch": 2}, deleted_at=bench.clock.now)
    turn.intent("unknown")
    plan = await turn.plan()
    assert (len(plan.attempts), len(plan.settled)) == (0, 7)
    bench.clock.move(1)
    assert await turn.apply(plan) is None
    assert turn.intents() == {}
    assert turn.state("dropped") is None and turn.state("dropped_new") is None
    states = [turn.state(one) for one in ("unpriced", "unpriced_known", "dropped_sent")]
    assert [row and row["status"] for row in states] == ["skipped", "skipped", "deleted"]
    assert len(turn.events()) == 3


async def test_what_is_in_flight_is_parked(bench: Bench) -> None:
    turn = Turn(bench)
    for variant_id in ("b", "a", "settled"):
        turn.item(variant_id, _sent(variant_id, confirmed_hash=None, status="submitted", in_flight=9))
    plan = await turn.plan()
    bench.state(turn.store_id, turn.link_id, "resting")
    asked = {"link_id": turn.link_id, "variant_ids": ["resting", "b", "a", "unknown"]}
    assert await bench.ask(claim.LOCK_IN_FLIGHT, **asked) == [("a", 9), ("b", 9)]
    assert await turn.apply(plan) is None
    assert {name: row["parked_by"] for name, row in turn.intents().items()} == {"a": 9, "b": 9, "settled": 9}
    assert await bench.ask(claim.LOCK_IN_FLIGHT, link_id=NO_LINK, variant_ids=["a"]) == []


async def test_ids_that_are_taken(bench: Bench) -> None:
    turn = Turn(bench)
    turn.item("first")
    turn.item("second")
    bench.state(turn.store_id, turn.link_id, "renamed", retailer_id="first")
    bench.state(turn.store_id, turn.link_id, "unsent")
    bench.state(turn.store_id, NO_LINK - 1 - bench.number(), "elsewhere", retailer_id="second")
    batch = await turn.apply(await turn.plan())
    assert batch is not None and batch.count == 1
    assert turn.events() == [("first", "skip", "id_in_use")]


async def _take(turn: Turn, ready: Sequence[ReadyIntent], **changes: Any) -> list[str] | None:
    given = {
        "link_id": turn.link_id,
        "store_id": turn.store_id,
        "batch_id": 500_000 + turn.bench.number(),
        "epoch": 3,
        "variant_ids": [one.variant_id for one in ready],
        "row_ids": [one.state_row_id for one in ready],
        "row_versions": [one.state_row_version for one in ready],
        "retailer_ids": [f"id of {one.variant_id}" for one in ready],
        "methods": ["UPDATE" for _ in ready],
        "payload_hashes": [None for _ in ready],
        "fields": [1 for _ in ready],
        "cleared": [2 for _ in ready],
        "may_hold": [3 for _ in ready],
        "guarded": [5 for _ in ready],
        "released": [2 for _ in ready],
        "sets": ["title,price", "", "title"],
    }
    async with turn.bench.mirror.platform() as connection:
        taken: list[str] | None = await connection.scalar(claim.TAKE_IN_FLIGHT, {**given, **changes})
    return taken


async def _three(bench: Bench) -> tuple[Turn, list[ReadyIntent]]:
    turn = Turn(bench)
    for variant_id in ("a", "b", "c"):
        turn.item(variant_id, {"may_hold": ["price"], "confirmed_hash": b"h", "presence": "present"})
    return turn, await turn.read()


async def test_sets_of_fields_are_meant_by_number(bench: Bench) -> None:
    turn, ready = await _three(bench)
    taken = await _take(turn, ready, fields=[1, 2, 9], cleared=[2, 3, 1], may_hold=[2, 1, 1])
    # The last has no set of that number: it is in flight without an attempt.
    assert taken is not None and sorted(taken) == ["a", "b"]
    rows = [turn.state(one) for one in "abc"]
    assert [row and row["may_hold"] for row in rows] == [[], ["title", "price"], ["title", "price"]]


async def test_sets_that_do_not_exist(bench: Bench) -> None:
    turn, ready = await _three(bench)
    assert await _take(turn, ready, cleared=[9, 2, 2], may_hold=[1, 9, 1]) == ["c"]
    rows = [turn.state(one) for one in "abc"]
    assert [row is not None and row["in_flight"] is not None for row in rows] == [True, False, True]


@pytest.mark.parametrize("what", ["another link", "no row ids", "row ids of others", "no versions"])
async def test_rows_are_named_by_all_that_is_given(bench: Bench, what: str) -> None:
    turn, ready = await _three(bench)
    changes: dict[str, tuple[str, Any]] = {
        "another link": ("link_id", NO_LINK),
        "no row ids": ("row_ids", []),
        "row ids of others": ("row_ids", [one.state_row_id for one in ready[1:]]),
        "no versions": ("row_versions", [None for _ in ready]),
    }
    name, value = changes[what]
    taken = await _take(turn, ready, **{name: value})
    assert (taken and sorted(taken)) == (["b", "c"] if what == "row ids of others" else None)


async def test_two_items_never_go_under_one_id(bench: Bench) -> None:
    turn, ready = await _three(bench)
    with pytest.raises(IntegrityError):
        await _take(turn, ready, retailer_ids=["one", "two", "one"])
    assert turn.state("b") == {**(turn.state("b") or {}), "in_flight": None, "retailer_id": None}
    # Of another link's item it says nothing.
    bench.state(turn.store_id, bench.link("elsewhere"), "z", retailer_id="one")
    assert await _take(turn, ready[:2], retailer_ids=["one", "two"]) == ["a", "b"]


async def test_items_in_flight_are_not_taken(bench: Bench) -> None:
    turn = Turn(bench)
    turn.item("a", {"in_flight": 8})
    turn.item("b", {})
    assert await _take(turn, await turn.read()) == ["b"]
    # Its row moved when it was taken.
    assert await _take(turn, (await turn.read())[:1]) is None


@pytest.mark.parametrize("what", ["lease", "pause", "epoch"])
async def test_a_world_that_changed_stops_the_claim(bench: Bench, what: str) -> None:
    turn = Turn(bench)
    turn.item("a", {})
    plan = await turn.plan()
    context = await turn.context()
    if what == "lease":
        turn.lease = Lease(turn.store_id, "worker", 4)
    if what == "pause":
        bench.put("store_pauses", store_id=turn.store_id, reason="meta_unreachable", link_id=turn.link_id)
    if what == "epoch":
        context = replace(context, mapping_epoch=5)
    async with bench.mirror.platform() as connection:
        made = await apply_plan(connection, context, turn.lease, plan, deadline_seconds=DEADLINE_SECONDS)
    assert made is None
    assert list(turn.intents()) == ["a"]


async def test_states_that_are_settled_without_a_call(bench: Bench) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id)
    full = {"code": "1", "error_text": "e", "attempts": 3, "rejected_hash": b"r", "batch_limit": 9}
    for variant_id in ("noop", "skip", "absent_code"):
        bench.state(store_id, link_id, variant_id, **full, confirmed_hash=b"c", retries=2)
    bench.state(store_id, link_id, "flying", **full, in_flight=3)
    bench.clock.move(1)
    settled = await bench.count(
        claim.SETTLE_WITHOUT_CALL,
        link_id=link_id,
        variant_ids=["noop", "skip", "absent_code", "flying", "nobody"],
        statuses=["synced", "skipped", "failed", "failed", "failed"],
        codes=[None, "missing_price", None, "x", "x"],
    )
    assert settled == 3
    bench.state(store_id, link_id, "unconfirmed")
    given: dict[str, Any] = {"variant_ids": ["unconfirmed"], "statuses": ["synced"], "codes": [None]}
    with pytest.raises(IntegrityError):
        await bench.count(claim.SETTLE_WITHOUT_CALL, link_id=link_id, **given)


async def test_states_are_made_and_dropped(bench: Bench) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id)
    bench.state(store_id, link_id, "flying", in_flight=3)
    bench.state(store_id, link_id, "sent", retailer_id="r")
    ids = ["new", "flying", "sent", "another"]
    bench.clock.move(1)
    assert await bench.count(claim.NEW_STATES, store_id=store_id, link_id=link_id, variant_ids=ids) == 2
    read = {"store_id": store_id, "link_id": link_id, "variant_ids": [*ids, "third"]}
    assert [row[0] for row in await bench.ask(claim.NEW_STATES_READ, **read)] == ["third"]
    assert await bench.count(claim.DROP_STATES, link_id=link_id, variant_ids=["new", "sent", "flying"]) == 1
    assert await bench.count(claim.DROP_STATES, link_id=NO_LINK, variant_ids=["another"]) == 0


async def test_a_batch_and_its_call_are_written_once(bench: Bench) -> None:
    numbers = [row[0] for _ in range(2) for row in await bench.ask(claim.NEXT_BATCH_ID)]
    assert numbers[1] == numbers[0] + 1
    batch = {"batch_id": numbers[0], "store_id": "s", "link_id": 3, "graph_host": HOST, "catalog_id": "c"}
    more = {"lane": 2, "body": b"b", "body_bytes": 1, "epoch": 6, "mapping_epoch": 7, "sent": 8}
    more |= {"guarded_deletes": 1, "guarded_out_of_stock": 2, "guarded_prices": 3}
    assert await bench.count(claim.INSERT_BATCH, **batch, **more, split_part=5, deadline_seconds=0.25) == 1
    call = {"batch_id": numbers[0], "store_id": "s", "link_id": 3, "deadline_seconds": 0.25}
    assert await bench.count(claim.INSERT_CALL, **call) == 1
    with pytest.raises(IntegrityError):
        await bench.count(resend._INSERT_CALL, **call, call_number=1)
    assert await bench.count(resend._INSERT_CALL, **call, call_number=2) == 1
