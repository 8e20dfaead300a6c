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
from meta_sync.sync import job_runner, job_statements, listener
from meta_sync.sync.job_runner import JobRunner
from meta_sync.sync.jobs import insert_job
from meta_sync.sync.listener import PipelineListener, follow_mapper_version
from meta_sync.sync.mapping import MAPPER_VERSION
from tests.simulation.contract import HOST, Bench, open_bench
from tests.simulation.memory import Row

PROCESS = load_settings(
    {},
    env_file=None,
    database_url="postgresql://nobody@nowhere/none",
    encryption_keys=generate_encryption_key(),
    graph_url=f"http://{HOST}",
)
_STATUSES = ("queued", "running", "cancelling", "cancelled", "success", "partial", "error")
_BATCH_STATES = ("sending", "open", "unknown", "given_up", "over")
_ITEM_STATES = ("never_synced", "pending", "submitted", "failed", "skipped", "deleted")


@pytest.fixture(scope="module")
def bench(postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    with open_bench(postgres_server) as bench:
        yield bench
        bench.mirror.compare_tables()


def _job(bench: Bench, store_id: str, link_id: int | None, **values: Any) -> str:
    """A job that runs and is held for long, so that nobody takes it."""
    job_id = f"job_{bench.number()}"
    given = {
        "job_id": job_id,
        "store_id": store_id,
        "link_id": link_id,
        "type": "bootstrap",
        "status": "running",
        "mapping_epoch": 3,
        "fence": 7,
        "leased_until": bench.clock.after(1_000_000),
        "started_at": bench.clock.now,
    }
    bench.put("jobs", **{**given, **values})
    return job_id


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


# First, because it goes through the stores of every other test.
async def test_a_new_mapper_raises_every_older_store_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = bench.store(mapper_version=MAPPER_VERSION + 2)
    older = [bench.store(mapper_version=MAPPER_VERSION) for _ in range(2)]
    bench.link(older[0])
    monkeypatch.setattr(listener, "MAPPER_VERSION", MAPPER_VERSION + 1)
    more = True
    while more:
        async with bench.mirror.platform() as connection:
            more = await follow_mapper_version(connection)
    stores = bench.mirror.tables["stores"]
    assert {row["mapper_version"] for row in stores} == {MAPPER_VERSION + 1, MAPPER_VERSION + 2}
    assert [stores.rows[one,]["mapping_epoch"] for one in (newer, *older)] == [1, 2, 2]


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


@pytest.mark.parametrize("status", _STATUSES)
async def test_one_unfinished_job_of_a_kind(bench: Bench, status: str) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id)
    _job(bench, store_id, link_id, status=status)
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
        _job(bench, store_ids[0], 1, status="queued", leased_until=None, created_at=at(-5), started_at=None),
        _job(bench, store_ids[1], 1, leased_until=None, created_at=at(-9)),
        _job(bench, store_ids[2], 1, leased_until=at(-1), created_at=at(-99)),
        _job(bench, store_ids[3], 1, leased_until=at(-2), created_at=at(-1)),
        _job(bench, store_ids[4], 1, leased_until=at(0), created_at=at(-50)),
    ]
    for status in set(_STATUSES) - {"queued", "running"}:
        _job(bench, store_ids[5], 1, type=status, status=status, leased_until=None)
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
    given = {"store_id": store_id, "link_id": link_id, "job_id": "job_x", "variant_ids": wanted}
    assert await bench.count(job_statements.ENQUEUE, **given) == len(wanted) - 2
    assert await bench.count(job_statements.STATES, **given) == 3
    assert (
        await bench.count(job_statements.INTENDED, **{**given, "variant_ids": [*wanted, "without a state"]})
        == 1
    )
    intents = {
        row["variant_id"]: row for row in bench.mirror.tables["intents"] if row["store_id"] == store_id
    }
    assert (intents["pending"]["lane"], intents["new"]["lane"], intents["new"]["job_id"]) == (0, 2, "job_x")
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
        job_id = _job(
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


# --- the end ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["waiting", "enqueuing", "syncing"])
@pytest.mark.parametrize("last_batch_id", [None, 1])
@pytest.mark.parametrize("owner", ["the job", "another", None])
@pytest.mark.parametrize("begun_before", [-1, 0, 1])
async def test_the_last_batch_is_noted_when_no_intent_is_left(
    bench: Bench, stage: str, last_batch_id: int | None, owner: str | None, begun_before: int
) -> None:
    store_id, other = bench.store(), bench.store()
    link_id = bench.link(store_id)
    job_id = _job(bench, store_id, link_id, stage=stage, last_batch_id=last_batch_id)
    bench.intent(other, "v", job_id=job_id)
    bench.intent(
        store_id,
        "v",
        first_at=bench.clock.after(-begun_before),
        job_id=job_id if owner == "the job" else owner,
    )
    newest = max([bench.batch(store_id, one) for one in (link_id, link_id + 1_000_000)])
    bench.batch(other, link_id)
    assert await bench.count(job_statements.NOTE_LAST_BATCH, job_id=job_id, fence=8) == 0
    noted = await bench.count(job_statements.NOTE_LAST_BATCH, job_id=job_id, fence=7)
    waits = owner == "the job" or begun_before >= 0
    assert noted == (stage == "syncing" and last_batch_id is None and not waits)
    if noted:
        assert _stored(bench, job_id)["last_batch_id"] == newest


async def test_a_job_that_never_began_waits_for_its_own_intents_only(bench: Bench) -> None:
    store_id = bench.store()
    job_id = _job(bench, store_id, 1, stage="syncing", started_at=None)
    bench.intent(store_id, "v", first_at=bench.clock.after(-99))
    assert await bench.count(job_statements.NOTE_LAST_BATCH, job_id=job_id, fence=7) == 1


@pytest.mark.parametrize("state", _BATCH_STATES)
async def test_a_job_ends_when_what_was_sent_has_ended(bench: Bench, state: str) -> None:
    for own_link, is_later, status in itertools.product((True, False), (True, False), _ITEM_STATES):
        store_id = bench.store()
        link_id = bench.link(store_id)
        counts = {"accepted": 1} if state == "over" else {}
        batch_id = bench.batch(store_id, link_id if own_link else link_id + 1_000_000, state=state, **counts)
        job_id = _job(
            bench, store_id, link_id, stage="syncing", last_batch_id=batch_id - is_later, message="said"
        )
        bench.state(store_id, link_id, "v", status=status)
        bench.state(store_id, link_id + 1_000_000, "v", status="failed")
        ended = await bench.ask(job_statements.FINISH, job_id=job_id, fence=7)
        is_open = state not in {"over", "given_up"} and own_link and not is_later
        assert len(ended) == (not is_open)
        if ended:
            expected = "partial" if status == "failed" else "success"
            assert (_stored(bench, job_id)["status"], _stored(bench, job_id)["message"]) == (expected, "said")


@pytest.mark.parametrize(
    "values",
    [
        {"stage": "enqueuing"},
        {"last_batch_id": None},
        {"status": "cancelled"},
        {"fence": 8},
        {"link_id": None},
    ],
    ids=str,
)
async def test_a_job_that_is_not_so_far_does_not_end(bench: Bench, values: dict[str, Any]) -> None:
    given = {"link_id": 5, "stage": "syncing", "last_batch_id": 1, **values}
    job_id = _job(bench, bench.store(), given.pop("link_id"), **given)
    ended = await bench.ask(job_statements.FINISH, job_id=job_id, fence=7)
    assert len(ended) == ("link_id" in values)


@pytest.mark.parametrize("retries", [0, 1, 4, 5, 9])
async def test_items_without_a_verdict_are_waited_for_some_tries(bench: Bench, retries: int) -> None:
    for values in ({}, {"retry_at": bench.clock.after(9)}, {"in_flight": 5}, {"intent": True}):
        store_id = bench.store()
        link_id = bench.link(store_id)
        job_id = _job(bench, store_id, link_id, stage="syncing", last_batch_id=0)
        if "intent" in values:
            bench.intent(store_id, "v")
        more = {name: value for name, value in values.items() if name != "intent"}
        bench.state(store_id, link_id, "v", retries=retries, **more)
        bench.state(store_id, link_id, "given up", retries=9, retry_at=bench.clock.now)
        bench.state(store_id, link_id + 1_000_000, "v", retries=1, retry_at=bench.clock.now)
        ended = await bench.ask(job_statements.FINISH, job_id=job_id, fence=7)
        goes_again = retries > 0 and bool(values)
        assert len(ended) == (not goes_again or retries >= 5)
        if ended:
            assert f": {1 + goes_again}." in _stored(bench, job_id)["message"]


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
    # It waits for its intents.
    bench.clock.move(0.1)
    assert await runner.run_next()
    assert _stored(bench, started.job_id)["last_batch_id"] is None
    assert not await runner.run_next()


async def test_a_job_of_a_link_that_was_left_is_cancelled(bench: Bench) -> None:
    await _put_others_aside(bench)
    store_id = bench.store()
    bench.link(store_id)
    job_id = _job(bench, store_id, 1_000_000, leased_until=None)
    cipher = Cipher(PROCESS.encryption_keys)
    runner = JobRunner(cast("Any", bench.mirror), cipher, PROCESS, MemoryJobQueue(), look_seconds=2)
    assert await runner.run_next()
    assert _stored(bench, job_id)["status"] == "cancelled"


# --- listeners ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", _STATUSES)
async def test_a_raised_epoch_sends_the_re_evaluation_back(bench: Bench, status: str) -> None:
    store_id, other = bench.store(mapping_epoch=8), bench.store()
    given = {
        "cursor": "v",
        "looked_at": 4,
        "unchanged": 2,
        "enqueued": 2,
        "stage": "syncing",
        "last_batch_id": 1,
    }
    job_id = _job(bench, store_id, 1, type="reevaluation", status=status, **given)
    _job(bench, store_id, 1, **given)
    _job(bench, other, 1, type="reevaluation", **given)
    restarted = await bench.ask(listener._RESTART, store_id=store_id)
    assert [row[0] for row in restarted] == ([job_id] if status in {"queued", "running"} else [])
    nobody = f"no such store {status}"
    _job(bench, nobody, 1, type="reevaluation", status=status)
    await bench.ask(listener._RESTART, store_id=nobody)


@pytest.mark.parametrize("is_linked", [True, False])
@pytest.mark.parametrize("mapping_changed", [True, False])
@pytest.mark.parametrize("access_changed", [True, False])
async def test_settings_that_changed(
    bench: Bench, is_linked: bool, mapping_changed: bool, access_changed: bool
) -> None:
    store_id = bench.store()
    bench.put("store_pauses", store_id=store_id, reason="needs_reconnect")
    if is_linked:
        bench.link(store_id)
    for _ in range(2):
        async with bench.mirror.platform() as connection:
            await PipelineListener().settings_changed(
                connection, store_id, mapping_changed=mapping_changed, access_changed=access_changed
            )
        bench.clock.move(1)
    made = [row for row in bench.mirror.tables["jobs"] if row["store_id"] == store_id]
    assert [row["type"] for row in made] == ["reevaluation"] * (is_linked and mapping_changed)


async def test_what_selecting_a_catalog_writes(bench: Bench) -> None:
    store_id, other = bench.store(), bench.store()
    link_id, left = bench.link(store_id), bench.link(store_id, active=False)
    for one in (store_id, other):
        bench.variant(one, "live")
        bench.variant(one, "known")
        bench.variant(one, "deleted", deleted_at=bench.clock.now)
        bench.intent(one, "live", parked_by=3)
        bench.intent(one, "known")
        for pause_link in (0, link_id, left):
            bench.put("store_pauses", store_id=one, reason="meta_unreachable", link_id=pause_link)
        for status in _STATUSES:
            _job(bench, one, link_id, type=status, status=status)
    bench.state(store_id, link_id, "known", status="failed")
    given = {"store_id": store_id, "link_id": link_id}
    assert await bench.count(listener._ALL_STATES, **given) == 1
    assert await bench.count(listener._UNPARK_STORE, store_id=store_id) == 1
    assert await bench.count(listener._CANCEL_OLD_JOBS, store_id=store_id) == 3
    assert await bench.count(listener._CLEAR_PAUSES, **given) == 2
