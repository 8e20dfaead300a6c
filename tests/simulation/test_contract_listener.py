"""What changes of settings and of the catalog begin, in memory and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.sync import job_statements, listener
from meta_sync.sync.listener import PipelineListener, follow_mapper_version
from meta_sync.sync.mapping import MAPPER_VERSION
from tests.simulation.contract import Bench, open_bench
from tests.simulation.job_rows import STATUSES, job_row


@pytest.fixture(scope="module")
def bench(postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    with open_bench(postgres_server) as bench:
        yield bench
        bench.mirror.compare_tables()


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


@pytest.mark.parametrize("status", STATUSES)
async def test_a_raised_epoch_sends_the_re_evaluation_back(bench: Bench, status: str) -> None:
    store_id, other = bench.store(mapping_epoch=8), bench.store()
    given = {
        "cursor": "v",
        "looked_at": 4,
        "unchanged": 2,
        "enqueued": 2,
        "submitted": 1,
        "synced": 2,
        "failed": 3,
        "skipped": 4,
        "undecided": 1,
        "stage": "syncing",
    }
    job_id = job_row(bench, store_id, 1, type="reevaluation", status=status, **given)
    job_row(bench, store_id, 1, **given)
    job_row(bench, other, 1, type="reevaluation", **given)
    restarted = await bench.ask(listener._RESTART, store_id=store_id)
    is_unfinished = status in {"queued", "running", "cancelling"}
    assert [row[0] for row in restarted] == ([job_id] if is_unfinished else [])
    nobody = f"no such store {status}"
    job_row(bench, nobody, 1, type="reevaluation", status=status)
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
        bench.intent(one, "parked for a job", parked_by=3, job_id="job_old")
        bench.intent(one, "of several", job_id=job_statements.SEVERAL_JOBS)
        bench.intent(one, "of the clock", job_id=job_statements.THE_CLOCK)
        bench.intent(one, "parked for the clock", parked_by=3, job_id=job_statements.THE_CLOCK)
        for pause_link in (0, link_id, left):
            bench.put("store_pauses", store_id=one, reason="meta_unreachable", link_id=pause_link)
        for status in STATUSES:
            job_row(bench, one, link_id, type=status, status=status)
    bench.state(store_id, link_id, "known", status="failed")
    given = {"store_id": store_id, "link_id": link_id}
    assert await bench.count(listener._ALL_STATES, **given) == 1
    assert await bench.ask(listener._LOCK_INTENTS, store_id=store_id) == [(4,)]
    assert await bench.count(listener._FREE_INTENTS, store_id=store_id, job_id="job_new") == 4
    intents = [row for row in bench.mirror.tables["intents"] if row["store_id"] == store_id]
    assert {row["parked_by"] for row in intents} == {None}
    assert {row["variant_id"]: row["job_id"] for row in intents} == {
        "live": None,
        "known": None,
        "parked for a job": "job_new",
        "of several": "job_new",
        "of the clock": job_statements.THE_CLOCK,
        "parked for the clock": job_statements.THE_CLOCK,
    }
    assert await bench.count(listener._CANCEL_OLD_JOBS, store_id=store_id) == 3
    assert await bench.count(listener._CLEAR_PAUSES, **given) == 2
