"""What the statements of the guard do to the rows, in memory and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.sync import guard_statements as guard
from meta_sync.sync.guard import GuardKind
from meta_sync.sync.outbox import write_intents
from meta_sync.sync.reading import read_held, read_outside
from tests.simulation.contract import SENDING, Bench, open_bench
from tests.simulation.memory import Row

_HOUR = 3600
_KINDS = [kind.value for kind in GuardKind]


@pytest.fixture(scope="module")
def bench(postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    with open_bench(postgres_server) as bench:
        yield bench


@pytest.fixture(autouse=True)
def _same_rows(bench: Bench) -> Iterator[None]:
    yield
    # Nobody leases the holds of the tests before.
    bench.mirror.compare_tables()


class Shop:
    """A store with a link, and holds on both sides."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.store_id = bench.store(settings=SENDING, mapping_epoch=4)
        self.link_id = bench.link(self.store_id, epoch=2)

    @property
    def given(self) -> dict[str, Any]:
        return {"store_id": self.store_id, "link_id": self.link_id}

    async def look(self, *kinds: str) -> dict[str, Any]:
        asked = {**self.given, "epoch": 2, "mapping_epoch": 4, "kinds": list(kinds or _KINDS)}
        return {row[0]: tuple(row[1:]) for row in await self.bench.ask(guard.LOOK, **asked)}

    def hold(self, **values: Any) -> int:
        """A hold that nobody leases."""
        hold_id = 1_000_000 + self.bench.number()
        given = {"hold_id": hold_id, **self.given, "kind": "delete", "state": "held"}
        self.bench.put("holds", **{**given, "leased_until": self.bench.clock.after(10 * _HOUR), **values})
        return hold_id

    def row(self, hold_id: int) -> Row:
        row = self.bench.mirror.tables["holds"].get(hold_id)
        assert row is not None
        return row

    def sent(self, *variant_ids: str, guarded: int = 1, outcome: str | None = None, **batch: Any) -> None:
        """A batch of items of these kinds."""
        count = len(variant_ids)
        sums = {
            name: count * bool(guarded & bit)
            for name, bit in (("guarded_deletes", 1), ("guarded_out_of_stock", 2), ("guarded_prices", 4))
        }
        created_on = batch.get("created_at", self.bench.clock.now).date()
        batch_id = self.bench.batch(
            self.store_id, self.link_id, created_on=created_on, sent=count, **{**sums, **batch}
        )
        for one in variant_ids:
            self.bench.put(
                "batch_items",
                created_on=created_on,
                batch_id=batch_id,
                variant_id=one,
                **self.given,
                retailer_id=one,
                method="DELETE",
                fields=[],
                cleared=[],
                previous_may_hold=[],
                previous_presence="present",
                previous_status="synced",
                guarded=guarded,
                outcome=outcome,
            )

    async def numbers(self, hold_id: int, kinds: int = 1) -> tuple[int, int]:
        asked = {**self.given, "hold_id": hold_id, "kinds": kinds}
        (row,) = await self.bench.ask(guard.COUNT, **asked)
        return row[0], row[1]


@pytest.fixture
def shop(bench: Bench) -> Shop:
    return Shop(bench)


async def test_a_look_without_anything(shop: Shop) -> None:
    nothing = (None, None, 0, 0, 0, None, None, None, None, 0, None)
    assert await shop.look() == dict.fromkeys(_KINDS, nothing)
    assert list(await shop.look("price")) == ["price"]


async def test_a_look_at_counters_and_batches(shop: Shop, bench: Bench) -> None:
    other = Shop(bench)
    for index, status in enumerate(("synced", "submitted", "pending", "failed", "deleted")):
        in_flight = 1 if status in {"synced", "submitted"} else None
        bench.state(shop.store_id, shop.link_id, f"v{index}", status=status, in_flight=in_flight)
    for one in ("a", "b", "c"):
        bench.intent(shop.store_id, one)
    bench.intent(other.store_id, "a")
    other.sent("a")
    shop.sent("a", "b", guarded=1)
    shop.sent("c", guarded=6)
    shop.sent("d", guarded=0)
    shop.sent("e", created_at=bench.clock.after(-_HOUR))
    shop.sent("f", created_at=bench.clock.after(-_HOUR + 1))
    shop.sent("g", state="over", rejected=1)
    shop.sent("h", state="over", accepted=1)
    found = await shop.look()
    assert {kind: row[2:5] for kind, row in found.items()} == {
        "delete": (3, 2, 4),
        "out_of_stock": (3, 2, 1),
        "price": (3, 2, 1),
    }


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, True),
        ({"link_epoch": 1}, False),
        ({"mapping_epoch": 3}, False),
        ({"kind": "price"}, False),
    ],
)
async def test_a_look_at_the_last_count(
    shop: Shop, bench: Bench, changes: dict[str, Any], *, counts: bool
) -> None:
    async with bench.mirror.platform() as connection:
        await write_intents(connection, shop.store_id, ["a", "b"], [0, 0])
    last = bench.mirror.sequences["version_seq"]
    given = {**shop.given, "kind": "delete", "link_epoch": 2, "mapping_epoch": 4, "watermark": last - 1}
    counted = {"counted_at": bench.clock.after(-590), "items": 7, "recent_items": 3, "base_items": 50}
    bench.put("guard_counts", **{**given, **counted, **changes})
    shop.sent("old", created_at=bench.clock.after(-606))
    shop.sent("as it was counted", created_at=bench.clock.after(-600))
    shop.sent("later", created_at=bench.clock.after(-5))
    (found,) = (await shop.look("delete")).values()
    assert found[4] == 3
    assert found[5:] == ((last - 1, 7, 1, 3, 2, 50) if counts else (None, None, None, None, 0, None))
    bench.clock.move(15)
    (found,) = (await shop.look("delete")).values()
    assert found[-1] is None and (found[5] is not None) is counts
    bench.clock.move(_HOUR)
    (found,) = (await shop.look("delete")).values()
    assert found[5] is None


async def test_one_open_hold_of_a_kind(shop: Shop) -> None:
    opened = await shop.bench.ask(guard.OPEN, **shop.given, kind="delete")
    assert await shop.bench.ask(guard.OPEN, **shop.given, kind="delete") == []
    found = await shop.look()
    assert found["delete"][:2] == (opened[0][0], "counting")
    assert found["price"][:2] == (None, None)
    row = shop.row(opened[0][0])
    assert (row["cursor"], row["state"], row["finished_at"]) == ("", "counting", None)
    assert row["watermark"] == shop.bench.mirror.sequences.get("version_seq", 0)
    assert await shop.bench.ask(guard.IS_SETTLED, hold_id=row["hold_id"]) == [(True,)]
    await shop.bench.count(guard.FINISH, hold_id=row["hold_id"])
    assert await shop.bench.count(guard.FINISH, hold_id=0) == 0
    assert await shop.bench.ask(guard.IS_SETTLED, hold_id=0) == []


async def test_a_lease_goes_to_who_waits_the_longest(shop: Shop, bench: Bench) -> None:
    at = bench.clock.after
    late = shop.hold(leased_until=at(-1), kind="price")
    early = shop.hold(leased_until=at(-2), kind="out_of_stock", fence=3)
    never = shop.hold(leased_until=None)
    shop.hold(leased_until=None, state="released", finished_at=at(-5))
    shop.hold(leased_until=bench.clock.now, state="dissolved")
    leased = [await bench.ask(guard.LEASE) for _ in range(4)]
    assert [one[0][0] for one in leased if one] == [never, early, late]
    assert leased[1][0][-2] == 4
    assert shop.row(early)["leased_until"] == at(guard._LEASE_SECONDS)
    assert await bench.count(guard.GIVE_BACK, hold_id=early, fence=3, seconds=5) == 0
    assert await bench.count(guard.GIVE_BACK, hold_id=early, fence=4, seconds=5) == 1
    assert shop.row(early)["leased_until"] == at(5)
    assert await bench.ask(guard.LOCK, hold_id=early, fence=4, state="held") == [(0, 0, 0)]
    for wrong in ({"fence": 3}, {"state": "counting"}, {"hold_id": 0}):
        asked = {"hold_id": early, "fence": 4, "state": "held", **wrong}
        assert await bench.ask(guard.LOCK, **asked) == []
    await bench.count(guard.FINISH, hold_id=early)
    assert await bench.ask(guard.LOCK, hold_id=early, fence=4, state="held") == []


async def test_counting(shop: Shop, bench: Bench) -> None:
    hold_id = shop.hold(state="counting", cursor="")
    for one in ("a", "b", "c"):
        bench.intent(shop.store_id, one)
    async with bench.mirror.platform() as connection:
        page = await read_outside(connection, shop.store_id, 0, hold_id, after="", limit=2)
        assert [one.variant_id for one in page] == ["a", "b"]
        parked = {"hold_id": hold_id, "row_ids": [page[0].row_id]}
        await connection.execute(guard.PARK_UNDER, parked)
    async with bench.mirror.platform() as connection:
        page = await read_outside(connection, shop.store_id, 0, hold_id, after="", limit=5)
        assert [one.variant_id for one in page] == ["b", "c"]
        held = await read_held(connection, hold_id, 0, after="", limit=5)
        assert [one.variant_id for one in held] == ["a"]
        assert await read_held(connection, hold_id, 0, after="a", limit=5) == []
    place = {"hold_id": hold_id, "cursor": "b", "in_flight": 2, "elsewhere": 1}
    assert await bench.count(guard.ADVANCE, **place) == 1
    assert await bench.count(guard.ADVANCE, **place) == 1
    row = shop.row(hold_id)
    assert (row["cursor"], row["items"], row["recent_items"]) == ("b", 4, 2)
    assert await bench.count(guard.ADVANCE, **{**place, "hold_id": 0}) == 0
    # What went out and waits again counts once, what was refused not at all.
    shop.sent("a", "x", "y")
    shop.sent("x", "z", guarded=3)
    shop.sent("w", guarded=4)
    shop.sent("no", outcome="rejected")
    shop.sent("refused", state="over", rejected=1)
    shop.sent("old", created_at=bench.clock.after(-_HOUR))
    assert await shop.numbers(hold_id) == (1, 3)
    assert await shop.numbers(hold_id, kinds=4) == (1, 1)


async def test_the_base_is_what_was_there_an_hour_ago(shop: Shop, bench: Bench) -> None:
    for index, (presence, since) in enumerate(
        (("present", None), ("maybe", None), ("absent", None), ("absent", -_HOUR + 1), ("absent", -_HOUR))
    ):
        at = None if since is None else bench.clock.after(since)
        bench.state(shop.store_id, shop.link_id, f"v{index}", presence=presence, confirmed_at=at)
    bench.state(shop.store_id, shop.link_id + 1_000_000, "other", presence="present")
    assert await bench.ask(guard.BASE, link_id=shop.link_id) == [(3,)]


async def test_the_end_of_counting(shop: Shop, bench: Bench) -> None:
    hold_id = shop.hold(state="counting", cursor="x")
    given = {"hold_id": hold_id, "items": 5, "recent": 4, "base": 9, "threshold": 2, "seconds": 3.5}
    assert await bench.count(guard.COUNTED, **given, state="held", cursor="") == 1
    held_at = bench.clock.now
    bench.clock.move(5)
    assert await bench.count(guard.COUNTED, **given, state="held", cursor=None) == 1
    row = shop.row(hold_id)
    assert (row["held_at"], row["counted_at"], row["cursor"]) == (held_at, bench.clock.now, None)
    assert await bench.count(guard.COUNTED, **{**given, "hold_id": 0}, state="held", cursor=None) == 0
    other = shop.hold(state="counting", kind="price")
    assert (
        await bench.count(guard.COUNTED, **{**given, "hold_id": other}, state="dissolved", cursor=None) == 1
    )
    assert shop.row(other)["held_at"] is None
    counted = {"epoch": 1, "mapping_epoch": 2, "watermark": 3, "items": 4, "recent": 5, "base": 6}
    for items, elsewhere in ((4, 1), (7, 0)):
        note = {**shop.given, "kind": "price", **counted, "items": items, "elsewhere": elsewhere}
        assert await bench.count(guard.NOTE_COUNT, **note) == 1


async def test_what_another_hold_may_have_freed(shop: Shop, bench: Bench) -> None:
    asked = {**shop.given, "hold_id": shop.hold(state="counting", created_at=bench.clock.now)}
    shop.hold(state="held", kind="price")
    shop.hold(state="dissolved", kind="price", finished_at=bench.clock.after(-1))
    shop.hold(state="released", link_id=shop.link_id + 1_000_000)
    assert await bench.ask(guard.OTHERS_FREE, **asked) == [(False,)]
    released = shop.hold(state="released", kind="price")
    assert await bench.ask(guard.OTHERS_FREE, **asked) == [(True,)]
    bench.clock.move(2)
    await bench.count(guard.FINISH, hold_id=released)
    assert await bench.ask(guard.OTHERS_FREE, **asked) == [(True,)]
    later = {**shop.given, "hold_id": shop.hold(state="dissolved", created_at=bench.clock.after(1))}
    assert await bench.ask(guard.OTHERS_FREE, **later) == [(False,)]
    assert await bench.ask(guard.OTHERS_FREE, **{**later, "link_id": 0}) == [(False,)]


async def test_counts_that_left_something_out_are_forgotten(shop: Shop, bench: Bench) -> None:
    counted = {"epoch": 1, "mapping_epoch": 2, "watermark": 3, "items": 4, "recent": 5, "base": 6}
    for kind, elsewhere in (("price", 1), ("delete", 2), ("out_of_stock", 0)):
        await bench.count(guard.NOTE_COUNT, **shop.given, kind=kind, **counted, elsewhere=elsewhere)
    given = {"link_id": shop.link_id, "kind": "delete"}
    assert [await bench.count(guard.FORGET_COUNTS, **given) for _ in range(2)] == [1, 0]


async def test_all_open_holds_of_a_store_are_dissolved(shop: Shop, bench: Bench) -> None:
    holds = [shop.hold(cursor="v"), shop.hold(kind="price", state="counting"), shop.hold(state="released")]
    assert await bench.count(guard.DISSOLVE_OPEN, store_id=shop.store_id) == 2
    rows = [shop.row(one) for one in holds]
    assert [row["state"] for row in rows] == ["dissolved", "dissolved", "released"]
    assert [(row["cursor"], row["leased_until"]) for row in rows[:2]] == [(None, None)] * 2
    # Nobody leases them in the tests after.
    for one in holds:
        await bench.count(guard.FINISH, hold_id=one)


async def test_what_is_held_is_told_and_freed_by_pages(shop: Shop, bench: Bench) -> None:
    hold_id = shop.hold()
    for one in ("a", "b", "c"):
        bench.intent(shop.store_id, one, held_by=hold_id, released_kinds=2)
    bench.intent(shop.store_id, "d")
    asked = {**shop.given, "hold_id": hold_id, "code": "held_delete", "most": 2}
    assert await bench.ask(guard.EVENTS_OF_HOLD, **asked, after="") == [(2, "b")]
    assert await bench.ask(guard.EVENTS_OF_HOLD, **asked, after="b") == [(1, "c")]
    assert await bench.ask(guard.EVENTS_OF_HOLD, **asked, after="c") == [(0, None)]
    free = {"hold_id": hold_id, "store_id": shop.store_id, "kinds": 1, "most": 2}
    assert [await bench.ask(guard.FREE, **free) for _ in range(3)] == [[(2,)], [(1,)], [(0,)]]
    intents = {
        row["variant_id"]: row for row in bench.mirror.tables["intents"] if row["store_id"] == shop.store_id
    }
    assert {one: row["released_kinds"] for one, row in intents.items()} == {"a": 3, "b": 3, "c": 3, "d": 0}
    assert {row["held_by"] for row in intents.values()} == {None}


async def test_what_was_decided(shop: Shop, bench: Bench) -> None:
    hold_id = shop.hold()
    for one in ("a", "b"):
        bench.intent(shop.store_id, one, held_by=hold_id)
        bench.state(shop.store_id, shop.link_id, one, in_flight=4 if one == "b" else None)
    async with bench.mirror.platform() as connection:
        page = await read_held(connection, hold_id, shop.link_id, after="", limit=5)
    row_ids = [one.row_id for one in page]
    asked = {"hold_id": hold_id, "row_ids": row_ids}
    (found,) = await bench.ask(guard.LOCK_HELD, **asked)
    assert sorted(found[0]) == sorted(one.version for one in page)
    assert await bench.ask(guard.LOCK_HELD, **{**asked, "hold_id": 0}) == [(None,)]
    noted = {"variant_ids": ["a", "b", "none"], "payload_hashes": [b"1", b"2", b"3"]}
    assert await bench.count(guard.DISCARD, link_id=shop.link_id, **noted) == 1
    assert await bench.count(guard.FREE_ROWS, row_ids=row_ids) == 2
    decided = {"hold_id": hold_id, "state": "discarded", "actor": "me", "items": 2}
    assert await bench.count(guard.DECIDED, **decided) == 1
    assert await bench.count(guard.DECIDED, **{**decided, "hold_id": 0}) == 0
    row = shop.row(hold_id)
    assert (row["state"], row["decided_by"], row["items"], row["leased_until"]) == (
        "discarded",
        "me",
        2,
        None,
    )
