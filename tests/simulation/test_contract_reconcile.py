"""The statements about reading Meta back and repairing say the same on the memory and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.sync import job_reading, read_jobs
from meta_sync.sync import reconcile_repair as repair
from meta_sync.sync import reconcile_statements as statements
from tests.simulation.contract import HOST, SENDING, Bench, open_bench

_DAY_SECONDS = 86400.0


@pytest.fixture(scope="module")
def bench(postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    with open_bench(postgres_server) as bench:
        yield bench
        bench.mirror.compare_tables()


def _items(bench: Bench, store_id: str, link_id: int) -> list[str]:
    """Items of every kind that a statement tells apart; their ids."""
    at = bench.clock.after
    bench.product(store_id, "p")
    states: dict[str, dict[str, Any]] = {
        "there": {"presence": "present", "status": "synced", "confirmed_hash": b"h", "confirmed_epoch": 1},
        "older": {"presence": "present", "status": "synced", "confirmed_hash": b"h", "confirmed_epoch": 0},
        "never sent": {"retailer_id": "theirs"},
        "no epoch": {"presence": "present", "status": "synced", "confirmed_hash": b"h"},
        "gone": {"presence": "absent", "status": "deleted", "confirmed_epoch": 1, "confirmed_at": at(-9)},
        "waits": {"presence": "maybe", "confirmed_epoch": 1, "last_pushed_at": at(5)},
        "in flight": {"in_flight": 7, "confirmed_epoch": 1, "may_hold": ["title"]},
        "retries": {"retry_at": at(3), "confirmed_epoch": 1, "grace_until": at(99)},
        "left": {
            "confirmed_hash": b"x",
            "discarded_hash": b"y",
            "confirmed_epoch": 1,
            "may_hold": ["sale_price"],
        },
        "adopted": {"confirmed_hash": b"x", "discarded_hash": b"x", "confirmed_epoch": 1},
        "without a row": {"presence": "present", "confirmed_epoch": 1},
    }
    for variant_id, values in states.items():
        bench.state(store_id, link_id, variant_id, **{"retailer_id": variant_id, **values})
        if variant_id != "without a row":
            deleted_at = at(-1) if variant_id == "gone" else None
            bench.variant(store_id, variant_id, deleted_at=deleted_at, updated_at=at(-20))
    bench.intent(store_id, "waits")
    for variant_id in ("there", "left"):
        bench.put(
            "item_payloads",
            link_id=link_id,
            variant_id=variant_id,
            store_id=store_id,
            payload=b'{"id":"%b"}' % variant_id.encode(),
            confirmed_at=at(-9),
        )
    return sorted(states)


async def _job(bench: Bench, store_id: str, link_id: int, **values: object) -> str:
    job_id = f"job_{bench.number()}"
    given = {
        "job_id": job_id,
        "store_id": store_id,
        "link_id": link_id,
        "type": "reconciliation",
        "description": None,
        "requested_by": None,
        "total": 3,
        "result": "{}",
    }
    assert await bench.count(read_jobs._INSERT, **{**given, **values}) == 1
    return job_id


async def test_a_job_is_leased_moved_given_back_and_ended_by_who_has_it(bench: Bench) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id)
    job_id = await _job(bench, store_id, link_id, result='{"a": 1}')
    [row] = await bench.ask(read_jobs._LEASE)
    assert (row[0], row[4], row[9]) == (job_id, "running", {"a": 1})
    assert await bench.ask(read_jobs._LEASE) == []
    mine, theirs = ({"job_id": job_id, "fence": fence} for fence in (row[7], row[7] - 1))
    page = {"stage": "reading", "cursor": "c", "result": '{"b": 2}', "looked_at": 5, "seconds": 2.5}
    until = bench.clock.after(60)
    assert await bench.ask(read_jobs._ADVANCE, **theirs, **page, total=9, until=None) == []
    assert await bench.ask(read_jobs._ADVANCE, **mine, **page, total=9, until=None)
    assert await bench.ask(read_jobs._ADVANCE, **mine, **page, total=None, until=until)
    assert await bench.ask(read_jobs._IS_OURS, **mine)
    assert await bench.ask(read_jobs._IS_OURS, **theirs) == []
    waits = {"seconds": 1.0, "until": None, "message": "Waits."}
    assert await bench.count(read_jobs._GIVE_BACK, **theirs, **waits) == 0
    assert await bench.count(read_jobs._GIVE_BACK, **mine, **waits) == 1
    assert len(await bench.ask(job_reading._ONE, store_id=store_id, job_id=job_id)) == 1
    assert await bench.ask(job_reading._ONE, store_id="another", job_id=job_id) == []
    keys = {"job_id": job_id, "kind": "seen0", "store_id": store_id}
    assert len(await bench.ask(statements.SEEN, **keys, keys=["a", "b"])) == 2
    assert await bench.ask(statements.SEEN, **keys, keys=["b", "c"]) == [("c",)]
    ended = {"status": "success", "message": None, "error_code": None, "result": None}
    assert await bench.ask(read_jobs._END, **theirs, **ended) == []
    assert await bench.ask(read_jobs._END, **mine, **ended)
    assert await bench.ask(read_jobs._END, **mine, **ended) == []
    assert await bench.count(read_jobs._DROP_KEYS, job_id=job_id, most=2) == 2
    assert await bench.count(read_jobs._DROP_KEYS, job_id=job_id, most=2) == 1


async def test_the_ledger_and_what_was_not_met(bench: Bench) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id)
    ids = _items(bench, store_id, link_id)
    own = {"store_id": store_id, "link_id": link_id}
    found = await bench.ask(statements.LEDGER, **own, retailer_ids=[*ids, "nobody", "theirs"])
    assert {row[1] for row in found} == {one for one in ids if one not in {"never sent", "no epoch"}}
    job_id = await _job(bench, store_id, link_id)
    page = {**own, "epoch": 1, "job_id": job_id, "kind": "seen0"}
    rows = await bench.ask(statements.UNSEEN, **page, after="", most=100)
    assert [row[0] for row in rows if row[3]] == ["there"]
    assert len(await bench.ask(statements.UNSEEN, **page, after="gone", most=2)) == 2
    await bench.ask(statements.SEEN, job_id=job_id, kind="seen0", store_id=store_id, keys=["there"])
    rows = await bench.ask(statements.UNSEEN, **page, after="", most=100)
    assert not any(row[3] for row in rows)
    assert await bench.count(statements.NOTE_COUNT, link_id=link_id, product_count=4) == 1


async def test_findings_are_settled_and_repaired(bench: Bench) -> None:
    store_id = bench.store()
    link_id = bench.link(store_id)
    ids = _items(bench, store_id, link_id)
    job_id = await _job(bench, store_id, link_id)
    own = {"job_id": job_id, "store_id": store_id, "link_id": link_id}
    names = [*ids, "foreign"]
    found = {
        "read_at": bench.clock.now,
        "retailer_ids": names,
        "variant_ids": [*ids, None],
        "product_ids": ["p"] * len(ids) + [None],
        "verdicts": [("missing", "different", "orphan")[number % 3] for number in range(len(ids))]
        + ["foreign"],
        "differences": ['{"price": ["1", "2"]}'] * len(names),
        "found": [None, *['{"name": "x"}'] * len(ids)],
        "meta_ids": [None, *["7"] * len(ids)],
        "feed_ids": [None] * len(names),
    }
    assert len(await bench.ask(statements.INSERT_FINDINGS, **own, **found)) == len(names)
    again = {name: value[:2] if isinstance(value, list) else value for name, value in found.items()}
    assert await bench.ask(statements.INSERT_FINDINGS, **own, **again) == [(None,), (None,)]
    assert len(await bench.ask(statements.CHUNK, job_id=job_id, after=names[0], most=3)) == 3
    settled = {
        "read_at": bench.clock.after(9),
        "retailer_ids": names,
        "states": ["withdrawn", *["agreed"] * len(ids)],
        "differences": [None, *['{"title": [1, 2]}'] * len(ids)],
        "found": [None, None, *['{"name": "y"}'] * (len(ids) - 1)],
        "meta_ids": [None, *["8"] * len(ids)],
        "feed_ids": [None, *["9"] * len(ids)],
    }
    assert await bench.count(statements.SETTLE_FINDINGS, job_id=job_id, **settled) == len(names)
    assert await bench.count(statements.SETTLE_FINDINGS, job_id=job_id, **settled) == 0
    assert len(await bench.ask(statements.AGREED, job_id=job_id)) == 4
    wanted = {"job_id": job_id, "store_id": store_id, "verdicts": ["different", "missing", "orphan"]}
    everything = {"retailer_ids": None, "variant_ids": None}
    assert len(await bench.ask(repair._FIND, **wanted, **everything, most=1000)) == len(ids) - 1
    assert len(await bench.ask(repair._FIND, **wanted, retailer_ids=names[:3], variant_ids=None, most=9)) == 2
    assert await bench.ask(repair._COUNT, **wanted, retailer_ids=None, variant_ids=names[2:4]) == [(2,)]
    assert await bench.ask(repair._LINK_OF_JOB, job_id=job_id) == [(link_id,)]
    acted = {**own, "variant_ids": ids, "actor": "somebody"}
    assert await bench.ask(repair._LOCK_IN_FLIGHT, **acted) == [(1,)]
    held = ["title,price" if number % 2 else "" for number in range(len(ids))]
    disturbed = await bench.ask(repair._DISTURB, **acted, retailer_ids=ids, held=held)
    assert {one for (one,) in disturbed} == {one for one in ids if one != "never sent"}
    assert await bench.count(repair._ACTED, **acted, retailer_ids=ids) == len(ids) - 1
    assert await bench.count(repair._ACTED, **acted, retailer_ids=ids) == 0
    assert await bench.count(repair._EVENTS, **acted) == len(ids)


async def test_stores_that_are_to_be_read_back(bench: Bench) -> None:
    before = bench.clock.now
    given = {"graph_host": HOST, "day_seconds": _DAY_SECONDS, "most": 100}
    approved = {"first_run_approved_at": before, "selected_at": before}
    due, off, dead, read = (
        bench.store(settings={**SENDING, "sync_enabled": on}) for on in (True, False, True, True)
    )
    links = {one: bench.link(one, **approved) for one in (due, off, dead, read)}
    bench.link(bench.store(), first_run_approved_at=None)
    for store_id in links:
        bench.put(
            "credentials",
            credential_id=f"token_{store_id}",
            store_id=store_id,
            access_token=b"t",
            app_id="1",
            token_kind="user",
            active=True,
            dead_at=before if store_id == dead else None,
        )
    bench.clock.move(_DAY_SECONDS)
    await _job(bench, read, links[read])
    rows = await bench.ask(statements.DUE_STORES, **given)
    assert {row[0] for row in rows} == {due}
    bench.clock.move(7 * _DAY_SECONDS)
    assert {row[0] for row in await bench.ask(statements.DUE_STORES, **given)} == {due}
