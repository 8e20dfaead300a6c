"""Jobs, and what begins them, in memory and in PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, cast

import pytest
from sqlalchemy.exc import IntegrityError

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.core.config import load_settings
from meta_sync.core.crypto import Cipher, generate_encryption_key
from meta_sync.core.queue import MemoryJobQueue
from meta_sync.sync import job_runner, job_statements
from meta_sync.sync.job_models import READ_TYPES
from meta_sync.sync.job_runner import JobRunner
from meta_sync.sync.jobs import insert_job
from tests.simulation.contract import HOST, Bench, open_bench
from tests.simulation.job_rows import STATUSES, job_row
from tests.simulation.memory import Row

PROCESS = load_settings(
    {},
    env_file=None,
    database_url="postgresql://nobody@nowhere/none",
    encryption_keys=generate_encryption_key(),
    graph_url=f"http://{HOST}",
)
_ITEM_STATES = ("never_synced", "pending", "submitted", "failed", "skipped", "deleted")


@pytest.fixture(scope="module")
def bench(postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    with open_bench(postgres_server) as bench:
        yield bench
        bench.mirror.compare_tables()


def _stored(bench: Bench, job_id: str) -> Row:
    row = bench.mirror.tables["jobs"].get(job_id)
    assert row is not None
    return row


async def _lease_all(bench: Bench) -> list[str]:
    """Take every job that is free, in the order in which they are given."""
    taken = []
    while rows := await bench.ask(job_statements.LEASE):
        taken.append(rows[0][0])
    return taken


async def _put_others_aside(bench: Bench) -> None:
    """No job of another test is free for the rest of this one."""
    bench.clock.move(100)
    while rows := await bench.ask(job_statements.LEASE):
        job_id, fence = rows[0][0], rows[0][6]
        await bench.count(job_statements.UNLEASE, job_id=job_id, fence=fence, seconds=1_000_000)


# --- beginning ----------------------------------------------------------------------------------------------------------


async def test_a_job_counts_what_it_will_look_at(bench: Bench) -> None:
    store_id, other = bench.store(mapping_epoch=9), bench.store()
    link_id, another_link = bench.link(store_id, epoch=2), bench.number()
    bench.variant(other, "of another store")
    expected = 0
    for is_deleted, presence, retailer_id, epoch, status in itertools.product(
        (False, True),
        ("absent", "maybe", "present"),
        (None, "sent"),
        (None, 1, 2),
        ("deleted", "pending", "never_synced"),
    ):
        variant_id = f"{is_deleted} {presence} {retailer_id} {epoch} {status}"
        known = {"presence": presence, "confirmed_epoch": epoch, "retailer_id": retailer_id and variant_id}
        known["status"] = status
        bench.variant(store_id, variant_id, deleted_at=bench.clock.now if is_deleted else None)
        bench.state(store_id, link_id, variant_id, **known)
        is_sent = bool(retailer_id and (presence != "absent" or epoch != 2))
        expected += not is_deleted or is_sent or status != "deleted"
    for deleted_at in (None, bench.clock.now):
        bench.variant(store_id, f"unknown {deleted_at}", deleted_at=deleted_at)
        known = {"presence": "present", "retailer_id": f"sent {deleted_at}"}
        bench.state(store_id, another_link, f"unknown {deleted_at}", **known)
    async with bench.mirror.platform() as connection:
        started = await insert_job(connection, store_id, link_id, "bootstrap", requested_by="somebody")
        nothing = await insert_job(connection, "no such store", link_id, "bootstrap", requested_by=None)
    assert started.total == expected + 1
    assert nothing.total == 0
    # A link that is not there has no epoch to compare with.
    async with bench.mirror.platform() as connection:
        started_without = await insert_job(
            connection, store_id, another_link, "of no link", requested_by=None
        )
    assert started_without.total == 54 + 2
    row = _stored(bench, started.job_id)
    assert (row["status"], row["stage"], row["mapping_epoch"]) == ("queued", "waiting", 9)


@pytest.mark.parametrize("status", STATUSES)
async def test_one_unfinished_job_of_a_kind(bench: Bench, status: str) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id)
    job_row(bench, store_id, link_id, status=status)
    is_unfinished = status in {"queued", "running", "cancelling"}
    assert len(await bench.ask(job_statements.RUNNING, store_id=store_id, type="bootstrap")) == is_unfinished
    assert await bench.ask(job_statements.RUNNING, store_id=store_id, type="reevaluation") == []

    async def begin(kind: str) -> None:
        async with bench.mirror.platform() as connection:
            await insert_job(connection, store_id, link_id, kind, requested_by=None)

    await begin("reevaluation")
    if is_unfinished:
        with pytest.raises(IntegrityError):
            await begin("bootstrap")
    else:
        await begin("bootstrap")


async def test_jobs_are_taken_in_turn(bench: Bench) -> None:
    await _put_others_aside(bench)
    store_ids = [bench.store() for _ in range(6)]
    at = bench.clock.after
    made = [
        job_row(
            bench, store_ids[0], 1, status="queued", leased_until=None, created_at=at(-5), started_at=None
        ),
        job_row(bench, store_ids[1], 1, leased_until=None, created_at=at(-9)),
        job_row(bench, store_ids[2], 1, leased_until=at(-1), created_at=at(-99)),
        job_row(bench, store_ids[3], 1, leased_until=at(-2), created_at=at(-1)),
        job_row(bench, store_ids[4], 1, leased_until=at(0), created_at=at(-50)),
    ]
    for status in set(STATUSES) - {"queued", "running", "cancelling"}:
        job_row(bench, store_ids[5], 1, type=status, status=status, leased_until=None)
    for reading in READ_TYPES:
        job_row(bench, store_ids[5], 1, type=reading, status="queued", leased_until=None)
    bench.clock.move(0.5)
    assert await _lease_all(bench) == [made[1], made[0], made[3], made[2], made[4]]
    first = _stored(bench, made[0])
    assert (first["started_at"], first["fence"]) == (bench.clock.now, 8)
    bench.clock.move(60)
    assert await _lease_all(bench) == []
    bench.clock.move(0.000001)
    assert sorted(await _lease_all(bench)) == sorted(made)


# --- a page -------------------------------------------------------------------------------------------------------------


async def test_what_a_page_writes(bench: Bench) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id)
    wanted = ["new", *_ITEM_STATES, "Zebra", "éclair"]
    for status in _ITEM_STATES:
        bench.state(store_id, link_id, status, status=status)
        bench.state(store_id, link_id + 1_000_000, status, status="never_synced")
    bench.state(store_id, link_id, "not wanted", status="never_synced")
    bench.intent(store_id, "pending", lane=0, first_at=bench.clock.after(-5))
    bench.intent(store_id, "failed", parked_by=5, job_id="older")
    bench.intent(store_id, "skipped", job_id="job_x")
    bench.intent(store_id, "deleted", job_id=job_statements.THE_CLOCK)
    given = {"store_id": store_id, "link_id": link_id, "job_id": "job_x", "variant_ids": wanted, "lane": 2}
    assert await bench.count(job_statements.ENQUEUE, **given) == len(wanted) - 3
    assert await bench.count(job_statements.ENQUEUE, **given) == 1
    assert await bench.count(job_statements.STATES, **given) == 3
    assert (
        await bench.count(job_statements.INTENDED, **{**given, "variant_ids": [*wanted, "without a state"]})
        == 1
    )
    intents = {
        row["variant_id"]: row for row in bench.mirror.tables["intents"] if row["store_id"] == store_id
    }
    assert (intents["pending"]["lane"], intents["new"]["lane"], intents["new"]["job_id"]) == (0, 2, "job_x")
    asked_by = [intents[one]["job_id"] for one in ("pending", "skipped", "failed", "deleted")]
    assert asked_by == [None, "job_x", job_statements.SEVERAL_JOBS, job_statements.THE_CLOCK]
    by_version = sorted(
        (name for name in wanted if intents[name]["version"] > 0), key=lambda name: intents[name]["version"]
    )
    assert by_version == sorted(by_version)


@pytest.mark.parametrize("status", ["running", "cancelled"])
@pytest.mark.parametrize("fence", [7, 8])
@pytest.mark.parametrize("epoch", [3, 4, None])
async def test_only_who_holds_the_job_moves_it(
    bench: Bench, status: str, fence: int, epoch: int | None
) -> None:
    store_id = bench.store()
    for stored_epoch in (3, None):
        job_id = job_row(
            bench, store_id, 1, type=str(stored_epoch), status=status, mapping_epoch=stored_epoch, enqueued=5
        )
        page = {
            "job_id": job_id,
            "fence": fence,
            "mapping_epoch": epoch,
            "cursor": "v2",
            "looked_at": 3,
            "enqueued": 2,
            "unchanged": 1,
            "stage": "enqueuing",
        }
        moved = await bench.ask(job_statements.ADVANCE, **page)
        is_ours = status == "running" and fence == 7
        assert len(moved) == (is_ours and epoch == stored_epoch)
        await bench.ask(job_statements.ADVANCE, **{**page, "cursor": None, "stage": "syncing"})
        given_back = await bench.count(job_statements.UNLEASE, job_id=job_id, fence=fence, seconds=1.2345678)
        assert given_back == is_ours
        assert await bench.count(job_statements.LINK_GONE, job_id=job_id, fence=fence) == (fence == 7)
        assert await bench.ask(job_statements.ADVANCE, **{**page, "job_id": "none"}) == []


@pytest.mark.parametrize("total", [0, 4, 5, 100])
async def test_a_total_that_was_counted_never_grows(bench: Bench, total: int) -> None:
    store_id = bench.store()
    given: dict[str, Any] = {"total": total, "enqueued": 2, "unchanged": 1}
    walked, called_off = (job_row(bench, store_id, 1, type=kind, **given) for kind in ("sync", "bootstrap"))
    page = {"fence": 7, "mapping_epoch": 3, "cursor": "v", "looked_at": 2, "enqueued": 1, "unchanged": 1}
    await bench.ask(job_statements.ADVANCE, job_id=walked, stage="enqueuing", **page)
    totals = [_total(bench, walked)]
    await bench.ask(job_statements.ADVANCE, job_id=walked, stage="syncing", **page)
    totals.append(_total(bench, walked))
    assert totals == [total, min(total or 7, 7)]
    await bench.ask(job_statements.CANCEL, store_id=store_id, job_id=called_off)
    assert _total(bench, called_off) == (total or 3)


def _total(bench: Bench, job_id: str) -> int:
    [row] = [row for row in bench.mirror.tables["jobs"] if row["job_id"] == job_id]
    return int(row["total"])


# --- what becomes of the items ------------------------------------------------------------------------------------------


_KINDS = {"held": "price", "counting": "delete"}


async def test_what_is_read_of_an_item(bench: Bench) -> None:
    store_id, other = bench.store(), bench.store()
    link_id = bench.link(store_id)
    at = bench.clock.after
    bench.state(store_id, link_id, "a", status="failed", code="x", retries=2, retry_at=at(5))
    bench.state(store_id, link_id, "b", in_flight=4, confirmed_at=at(-3))
    bench.state(store_id, link_id + 1_000_000, "d", status="failed")
    bench.intent(store_id, "b", first_at=at(-2), job_id="job_y")
    bench.intent(store_id, "c", first_at=at(-1))
    bench.intent(other, "d")
    given = {"store_id": store_id, "link_id": link_id, "kind": "price"}
    for variant_id, state in (("e", "held"), ("f", "counting")):
        hold_id = 1_000_000 + bench.number()
        bench.put("holds", **{**given, "hold_id": hold_id, "state": state, "kind": _KINDS[state]})
        bench.intent(store_id, variant_id, held_by=hold_id)
    ids = ["c", "a", "d", "b", "e", "f"]
    rows = {
        row[0]: row
        for row in await bench.ask(job_statements.FACTS, store_id=store_id, link_id=link_id, variant_ids=ids)
    }
    assert list(rows) == ids
    assert rows["a"][1:] == ("failed", None, True, 2, None, None, None, "x", False)
    assert (rows["e"][-1], rows["f"][-1]) == (True, False)
    assert (rows["b"][2], rows["b"][5:8]) == (4, (at(-3), at(-2), "job_y"))
    assert rows["c"][1:] == (None, None, False, None, None, at(-1), None, None, False)
    assert set(rows["d"][1:]) == {None, False}
    newest = max(bench.batch(store_id, link_id), bench.batch(store_id, link_id + 1_000_000))
    bench.batch(other, link_id)
    assert await bench.ask(job_statements.NEWEST_BATCH, store_id=store_id) == [(newest,)]
    assert await bench.ask(job_statements.NEWEST_BATCH, store_id="nobody") == [(0,)]


async def test_the_pages_of_a_job(bench: Bench) -> None:
    store_id = bench.store()
    job_id, other_id = (job_row(bench, store_id, 1, type=kind) for kind in ("sync", "bootstrap"))
    for owner, first_id in ((job_id, "c"), (job_id, "a"), (other_id, "a"), (job_id, "b")):
        page = {"job_id": owner, "first_id": first_id, "store_id": store_id}
        await bench.count(job_statements.NEW_PAGE, **page, variant_ids=[first_id, "z"])
    key = {"job_id": job_id, "first_id": "a"}
    bench.clock.move(1)
    kept: dict[str, Any] = {"variant_ids": None, "submitted": 1, "last_batch_id": None}
    assert await bench.count(job_statements.KEEP_PAGE, **key, **kept) == 1
    bench.clock.move(1)
    kept = {"variant_ids": ["z"], "submitted": 0, "last_batch_id": 7}
    assert await bench.count(job_statements.KEEP_PAGE, **{**key, "first_id": "b"}, **kept) == 1
    assert await bench.count(job_statements.KEEP_PAGE, **{**key, "first_id": "none"}, **kept) == 0
    rows = await bench.ask(job_statements.PAGES, job_id=job_id, most=9)
    assert [(row[0], row[1], row[3], row[4]) for row in rows] == [
        ("c", ["c", "z"], None, 0),
        ("a", ["a", "z"], None, 1),
        ("b", ["z"], 7, 0),
    ]
    assert len(await bench.ask(job_statements.PAGES, job_id=job_id, most=2)) == 2
    assert await bench.count(job_statements.DROP_PAGE, **key) == 1
    assert await bench.count(job_statements.DROP_PAGE, **key) == 0
    assert await bench.count(job_statements.DROP_PAGES, job_id=job_id) == 2
    assert len(await bench.ask(job_statements.PAGES, job_id=other_id, most=9)) == 1
    await bench.count(job_statements.DROP_PAGES, job_id=other_id)


@pytest.mark.parametrize("status", ["running", "cancelling", "cancelled"])
@pytest.mark.parametrize("fence", [7, 8])
@pytest.mark.parametrize("epoch", [3, None])
async def test_only_who_holds_the_job_counts(
    bench: Bench, status: str, fence: int, epoch: int | None
) -> None:
    job_id = job_row(bench, bench.store(), 1, status=status)
    bound = {"job_id": job_id, "fence": fence, "mapping_epoch": epoch, "status": "running"}
    held = await bench.ask(job_statements.HOLD, **bound)
    assert len(held) == (status == "running" and fence == 7 and epoch == 3)
    moved = {"submitted": -1, "synced": 2, "failed": 3, "skipped": 4, "undecided": 1}
    for _ in range(2):
        assert await bench.count(job_statements.COUNT, job_id=job_id, let_go=3, **moved) == 1
    row = _stored(bench, job_id)
    assert {name: row[name] for name in moved} == {name: 2 * one for name, one in moved.items()}
    assert row["enqueued"] == -6
    assert await bench.count(job_statements.COUNT, job_id="none", let_go=0, **moved) == 0


# --- calling off --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
async def test_who_is_called_off(bench: Bench, status: str) -> None:
    store_id = bench.store()
    job_id = job_row(bench, store_id, 1, status=status)
    assert await bench.ask(job_statements.CANCEL, store_id="another", job_id=job_id) == []
    assert await bench.ask(job_statements.CANCEL, store_id=store_id, job_id="none") == []
    must_end = job_row(bench, store_id, 2, status=status, type="reevaluation")
    assert await bench.ask(job_statements.CANCEL, store_id=store_id, job_id=must_end) == []
    called_off = await bench.ask(job_statements.CANCEL, store_id=store_id, job_id=job_id)
    assert len(called_off) == (status in {"queued", "running"})
    if called_off:
        row = _stored(bench, job_id)
        assert (row["status"], row["leased_until"]) == ("cancelling", None)
        await _put_others_aside(bench)


async def test_only_the_job_s_own_intents_are_taken_back(bench: Bench) -> None:
    store_id, other = bench.store(), bench.store()
    for variant_id, job_id in (("a", "job_x"), ("b", None), ("c", "job_y"), ("d", "job_x"), ("e", "job_x")):
        bench.intent(store_id, variant_id, job_id=job_id, parked_by=3 if variant_id == "d" else None)
    bench.intent(other, "a", job_id="job_x")
    given = {"store_id": store_id, "job_id": "job_x", "variant_ids": ["d", "c", "b", "a", "none"]}
    assert await bench.ask(job_statements.WITHDRAW, **given) == [(["a", "d"],)]
    assert await bench.ask(job_statements.WITHDRAW, **given) == [(None,)]
    left = sorted(row["variant_id"] for row in bench.mirror.tables["intents"] if row["store_id"] == store_id)
    assert left == ["b", "c", "e"]


async def test_what_a_job_took_over_is_taken_back_in_the_order_of_the_ids(bench: Bench) -> None:
    store_id, other = bench.store(), bench.store()
    for variant_id, job_id in (("d", "job_x"), ("b", None), ("c", "job_y"), ("a", "job_x"), ("Z", "job_x")):
        bench.intent(store_id, variant_id, job_id=job_id, parked_by=3 if variant_id == "d" else None)
    bench.intent(other, "a", job_id="job_x")
    given = {"store_id": store_id, "job_id": "job_x", "most": 2}
    assert await bench.ask(job_statements.WITHDRAW_AHEAD, **given, after="d") == [(None,)]
    assert await bench.ask(job_statements.WITHDRAW_AHEAD, **given, after="") == [(["Z", "a"],)]
    assert await bench.ask(job_statements.WITHDRAW_AHEAD, **given, after="a") == [(["d"],)]
    left = sorted(row["variant_id"] for row in bench.mirror.tables["intents"] if row["store_id"] == store_id)
    assert left == ["b", "c"]


async def test_what_never_was_at_meta_waits_for_nothing_any_more(bench: Bench) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id)
    for status in _ITEM_STATES:
        bench.state(store_id, link_id, status, status=status)
    for name, value in (("retailer_id", "x"), ("in_flight", 4), ("retry_at", bench.clock.now)):
        bench.state(store_id, link_id, name, status="pending", **{name: value})
    bench.state(store_id, link_id, "not named", status="pending")
    ids = [*_ITEM_STATES, "retailer_id", "in_flight", "retry_at", "none"]
    assert await bench.count(job_statements.UNINTENDED, link_id=link_id, variant_ids=ids) == 1
    row = bench.mirror.tables["sync_state"].get(link_id, "pending")
    assert row is not None
    assert row["status"] == "never_synced"


# --- the end ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["waiting", "enqueuing", "syncing"])
@pytest.mark.parametrize("status", ["running", "cancelling", "cancelled"])
@pytest.mark.parametrize("counts", [{}, {"failed": 2}, {"failed": 2, "undecided": 1}], ids=str)
async def test_a_job_ends_when_it_follows_nothing_any_more(
    bench: Bench, stage: str, status: str, counts: dict[str, int]
) -> None:
    store_id = bench.store()
    job_id = job_row(bench, store_id, 1, stage=stage, status=status, message="said", **counts)
    page = {"job_id": job_id, "first_id": "a", "store_id": store_id}
    await bench.count(job_statements.NEW_PAGE, **page, variant_ids=["a"])
    assert await bench.ask(job_statements.FINISH, job_id=job_id, fence=7) == []
    await bench.count(job_statements.DROP_PAGES, job_id=job_id)
    assert await bench.ask(job_statements.FINISH, job_id=job_id, fence=8) == []
    ended = await bench.ask(job_statements.FINISH, job_id=job_id, fence=7)
    assert len(ended) == (status == "cancelling" or (status == "running" and stage == "syncing"))
    if ended:
        row = _stored(bench, job_id)
        expected = "cancelled" if status == "cancelling" else "partial" if counts else "success"
        assert (row["status"], row["stage"], row["finished_at"]) == (expected, "done", bench.clock.now)
        assert (": 1." in row["message"]) == ("undecided" in counts)


# --- a whole job --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bootstrap", "reevaluation"])
async def test_a_job_from_end_to_end(bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(job_runner, "_PAGE", 2)
    store_id = bench.store()
    link_id = bench.link(store_id)
    bench.put(
        "credentials",
        credential_id=f"token_{store_id}",
        store_id=store_id,
        access_token=b"nobody can open this",
        token_kind="system_user",
        active=True,
    )
    bench.product(store_id, "p", title="A chair", slug="chair")
    for variant_id in ("a", "b", "c"):
        bench.variant(store_id, variant_id, price=100)
    bench.variant(store_id, "d", deleted_at=bench.clock.now)
    bench.put("store_queue", store_id=store_id, due_at=None)
    await _put_others_aside(bench)
    async with bench.mirror.platform() as connection:
        started = await insert_job(connection, store_id, link_id, kind, requested_by=None)
    cipher = Cipher(PROCESS.encryption_keys)
    runner = JobRunner(cast("Any", bench.mirror), cipher, PROCESS, MemoryJobQueue(), look_seconds=2)
    for _ in range(3):
        bench.clock.move(0.1)
        assert await runner.run_next()
    row = _stored(bench, started.job_id)
    assert (row["stage"], row["cursor"], row["looked_at"], row["enqueued"]) == ("syncing", "d", 4, 3)
    assert row["total"] == 3
    # It waits for its intents.
    bench.clock.move(0.1)
    assert await runner.run_next()
    pages = [one for one in bench.mirror.tables["job_pages"] if one["job_id"] == started.job_id]
    assert [(one["variant_ids"], one["last_batch_id"]) for one in pages] == [
        (["a", "b"], None),
        (["c"], None),
    ]
    assert not await runner.run_next()
    # Called off, it takes back what nobody else asked for.
    called_off = await bench.ask(job_statements.CANCEL, store_id=store_id, job_id=started.job_id)
    assert len(called_off) == (kind == "bootstrap")
    if not called_off:
        return
    bench.clock.move(0.1)
    assert await runner.run_next()
    row = _stored(bench, started.job_id)
    assert (row["status"], row["synced"], row["total"]) == ("cancelled", 0, 3)
    assert [one for one in bench.mirror.tables["intents"] if one["store_id"] == store_id] == []
    assert {one["status"] for one in bench.mirror.tables["sync_state"] if one["store_id"] == store_id} == {
        "never_synced"
    }


async def test_a_job_of_a_link_that_was_left_is_cancelled(bench: Bench) -> None:
    await _put_others_aside(bench)
    store_id = bench.store()
    bench.link(store_id)
    job_id = job_row(bench, store_id, 1_000_000, leased_until=None)
    cipher = Cipher(PROCESS.encryption_keys)
    runner = JobRunner(cast("Any", bench.mirror), cipher, PROCESS, MemoryJobQueue(), look_seconds=2)
    assert await runner.run_next()
    assert _stored(bench, job_id)["status"] == "cancelled"
