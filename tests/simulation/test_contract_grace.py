"""The statements about a grace say the same on the memory and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.sync import claim_statements as claim
from meta_sync.sync import grace
from meta_sync.sync.models import GRACE_OVER
from tests.simulation.contract import Bench, open_bench

_BATCH = 77


@pytest.fixture(scope="module")
def bench(postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    with open_bench(postgres_server) as bench:
        yield bench
        bench.mirror.compare_tables()


async def test_a_grace_begins_for_what_the_batch_has_and_ends_for_what_no_other_has(bench: Bench) -> None:
    store_id = bench.store()
    link_id, other = bench.link(store_id), bench.link(bench.store())
    for variant_id, in_flight in (("mine", _BATCH), ("another's", _BATCH + 1), ("at rest", None)):
        bench.state(store_id, link_id, variant_id, in_flight=in_flight)
    bench.state(store_id, other, "mine", in_flight=_BATCH)
    ids = {"link_id": link_id, "variant_ids": ["mine", "another's", "at rest", "unknown"]}
    assert await bench.count(claim.GRACE_BEGINS, **ids, batch_id=_BATCH, days=3) == 1
    row = bench.mirror.tables["sync_state"].rows[link_id, "mine"]
    assert row["grace_until"] == bench.clock.now + timedelta(days=3)
    for variant_id in ("another's", "at rest"):
        state = bench.mirror.tables["sync_state"].rows[link_id, variant_id]
        assert state["grace_until"] is None
    assert await bench.count(claim.GRACE_ENDS, **ids, batch_id=None) == 0, "a batch has it"
    assert await bench.count(claim.GRACE_ENDS, **ids, batch_id=_BATCH) == 1


async def test_a_grace_that_is_over_becomes_one_intent(bench: Bench) -> None:
    store_id = bench.store()
    link_id, left = bench.link(store_id), bench.link(store_id, active=False)
    at = bench.clock.after
    for variant_id, until in (
        ("late", at(1)),
        ("now", at(0)),
        ("long ago", at(-9)),
        ("woken", GRACE_OVER),
        ("none", None),
    ):
        bench.state(store_id, link_id, variant_id, grace_until=until)
        bench.state(store_id, left, f"left {variant_id}", grace_until=until)

    async def end() -> bool:
        async with bench.mirror.platform() as connection:
            return await grace.end_grace(connection)

    assert not await end()
    intents = [row for row in bench.mirror.tables["intents"] if row["store_id"] == store_id]
    assert sorted((row["variant_id"], row["lane"]) for row in intents) == [("long ago", 0), ("now", 0)]
    versions = [row["version"] for row in intents]
    assert not await end()
    assert [row["version"] for row in intents] == versions
    over = {
        row["variant_id"] for row in bench.mirror.tables["sync_state"] if row["grace_until"] == GRACE_OVER
    }
    assert over == {"now", "long ago", "woken", "left now", "left long ago", "left woken"}
