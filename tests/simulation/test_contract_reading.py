"""What a turn reads, in memory and in PostgreSQL: context, pauses, budget, items; and the intents that are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from meta_sync.catalog.models import Change, Lane
from meta_sync.cli.embedded_postgres import EmbeddedPostgres
from meta_sync.connection import repository as connections
from meta_sync.core.config import Settings, load_settings
from meta_sync.core.crypto import Cipher, generate_encryption_key
from meta_sync.graph.governor import BucketState, BudgetState
from meta_sync.stores import repository as stores
from meta_sync.stores.settings import SECRET_FIELDS
from meta_sync.sync import budget as budgets
from meta_sync.sync import outbox, pauses
from meta_sync.sync.budget import load_budget, save_budget
from meta_sync.sync.bulk import expect_bulk
from meta_sync.sync.context import Standstill, StoreContext, load_context
from meta_sync.sync.drain import database_time
from meta_sync.sync.outbox import OutboxSink
from meta_sync.sync.pauses import Pause, PauseReason
from meta_sync.sync.reading import read_items, read_part, read_ready
from tests.simulation.contract import HOST, Bench, open_bench

PROCESS = load_settings(
    {},
    env_file=None,
    database_url="postgresql://nobody@nowhere/none",
    encryption_keys=generate_encryption_key(),
    graph_url=f"http://{HOST}",
    app_id="1",
    app_secret="secret-of-the-process",
)
CIPHER = Cipher(PROCESS.encryption_keys)


@pytest.fixture(scope="module")
def bench(postgres_server: EmbeddedPostgres) -> Iterator[Bench]:
    with open_bench(postgres_server) as bench:
        yield bench


@pytest.fixture(autouse=True)
def _same_rows(bench: Bench) -> Iterator[None]:
    yield
    bench.mirror.compare_tables()


def _token(bench: Bench, store_id: str, credential_id: str | None = None, **values: Any) -> str:
    credential_id = credential_id or f"token_{store_id}"
    given = {
        "credential_id": credential_id,
        "store_id": store_id,
        "access_token": CIPHER.encrypt(
            SecretStr("a-token"), context=connections.token_context(credential_id)
        ),
        "token_kind": "system_user",
        "account_id": "7",
        "scopes": ["catalog_management"],
        "active": True,
        "expires_at": bench.clock.after(1000),
    }
    bench.put("credentials", **{**given, **values})
    return credential_id


async def _context(bench: Bench, store_id: str, process: Settings = PROCESS) -> StoreContext | Standstill:
    async with bench.mirror.platform() as connection:
        return await load_context(connection, store_id, CIPHER, process)


async def test_context_of_a_store_that_may_send(bench: Bench) -> None:
    store_id = bench.store(mapping_epoch=7, mapper_version=1)
    link_id = bench.link(store_id, business_name="Acme", epoch=3, was_empty=False, vertical="commerce")
    _token(bench, store_id)
    context = await _context(bench, store_id)
    assert isinstance(context, StoreContext)
    assert context.mapping_epoch == 7
    assert context.link.link_id == link_id
    assert context.access.link.token_kind == "system_user"
    assert context.standstill() is None


async def test_context_of_stores_that_may_not(bench: Bench) -> None:
    newer = bench.store(mapper_version=2)
    assert await _context(bench, newer) == Standstill("newer_mapper", bench.clock.after(0))
    unconnected = bench.store()
    bench.link(unconnected, active=False)
    assert await _context(bench, unconnected) == Standstill("not_connected")
    without_token = bench.store()
    bench.link(without_token)
    assert await _context(bench, without_token) == Standstill("not_connected")
    unset = bench.store(settings={})
    bench.link(unset)
    assert await _context(bench, unset) == Standstill("config_incomplete")


async def test_link_and_its_token(bench: Bench) -> None:
    store_id, other = bench.store(), bench.store()
    inactive = bench.link(store_id, active=False, credential_id="gone")
    # A token of another store is not this link's, whatever its name.
    borrowed = bench.link(store_id, credential_id=_token(bench, other))
    async with bench.mirror.platform() as connection:
        link = await connections.active_link(connection, store_id)
        assert link is not None and (link.link_id, link.token_kind) == (borrowed, "user")
        found = await connections.link(connection, inactive)
        assert found is not None and found.credential_id == "gone"
        assert await connections.link(connection, 0) is None
        assert await connections.credential(connection, CIPHER, "unknown") is None


async def test_token_dies_once(bench: Bench) -> None:
    store_id = bench.store()
    bench.link(store_id)
    token = _token(bench, store_id)
    async with bench.mirror.platform() as connection:
        assert await connections.mark_dead(connection, token, 190, None, "expired")
        assert not await connections.mark_dead(connection, token, 1, 2, "again")
        assert not await connections.mark_dead(connection, "unknown", 190, 460, "expired")
    context = await _context(bench, store_id)
    assert isinstance(context, StoreContext) and context.access.is_dead
    async with bench.mirror.platform() as connection:
        dead = await connections.credential(connection, CIPHER, token)
    assert dead is not None
    assert (dead.dead_at, dead.dead_code, dead.dead_reason) == (bench.clock.now, 190, "expired")


async def test_secrets(bench: Bench) -> None:
    store_id = bench.store()
    sealed = {
        name: CIPHER.encrypt(SecretStr(name), context=stores.secret_context(name, "with"))
        for name in SECRET_FIELDS
    }
    bench.store(store_id="with", **sealed)
    async with bench.mirror.platform() as connection:
        for name in SECRET_FIELDS:
            assert await stores.load_secret(connection, store_id, name, CIPHER) is None
            assert await stores.load_secret(connection, "unknown", name, CIPHER) is None
            secret = await stores.load_secret(connection, "with", name, CIPHER)
            assert secret is not None and secret.get_secret_value() == name
        rows = await connection.execute(stores._SETTINGS, {"store_id": "unknown"})
        assert rows.first() is None


async def test_pauses_are_kept_at_their_latest_end(bench: Bench) -> None:
    store_id, clock = bench.store(), bench.clock
    soon, late = clock.after(60), clock.after(600)
    ends = [(soon, soon), (late, late), (soon, late), (None, None), (late, None)]
    async with bench.mirror.platform() as connection:
        for number, (given, kept) in enumerate(ends, 1):
            pause = Pause(PauseReason.META_UNREACHABLE, given, f"code {number}", f"message {number}")
            await pauses.record_pause(connection, store_id, 5, pause)
            (active,) = await pauses.active_pauses(connection, store_id, 5)
            assert (active.until, active.code) == (kept, f"code {number}")
            failures = await pauses.failures_in_a_row(connection, store_id, 5, PauseReason.META_UNREACHABLE)
            assert failures == number
        assert await pauses.failures_in_a_row(connection, store_id, 6, PauseReason.META_UNREACHABLE) == 0
        clock.move(1)
        again = Pause(PauseReason.META_UNREACHABLE, None, None, "forever")
        await pauses.record_pause(connection, store_id, 5, again)


async def test_which_pauses_hold_and_end(bench: Bench) -> None:
    store_id, clock = bench.store(), bench.clock
    for reason, link_id, until, code in [
        ("meta_unreachable", 5, clock.after(10), None),
        ("blocked_by_meta", 5, None, "2635"),
        ("needs_reconnect", 0, clock.after(20), None),
        ("meta_unreachable", 0, clock.now, "2"),
        ("needs_reconnect", 5, clock.after(-1), "x2635"),
        ("meta_unreachable", 6, clock.after(99), "12635"),
        ("blocked_by_meta", 6, clock.after(30), "2635 old"),
        ("meta_unreachable", 8, clock.now, None),
    ]:
        bench.put("store_pauses", store_id=store_id, reason=reason, link_id=link_id, until=until, code=code)
    others = {"reason": "needs_reconnect", "until": clock.after(500)}
    bench.put("store_pauses", store_id=bench.store(), link_id=6, **others)
    async with bench.mirror.platform() as connection:
        active = await pauses.active_pauses(connection, store_id, 5)
        assert [one.until for one in active] == [None, clock.after(20), clock.after(10)]
        # One without an end counts as a minute; those of link 8 are over, and link 7 has none.
        for link_id, seconds in ((5, 60), (6, 99), (0, 20), (8, None), (7, None)):
            until = await pauses.questions_paused_until(connection, store_id, link_id)
            assert until == (None if seconds is None else clock.after(seconds))
        assert await pauses.clear_pause(connection, store_id, 5, PauseReason.META_UNREACHABLE)
        assert not await pauses.clear_pause(connection, store_id, 5, PauseReason.META_UNREACHABLE)
    assert await bench.count(pauses._END_ACCESS, store_id=store_id) == 4
    assert await bench.count(pauses._END_ACCESS, store_id="unknown") == 0


async def test_budget_is_read(bench: Bench) -> None:
    store_id, clock = bench.store(), bench.clock
    link_id = bench.link(store_id, usage_percent=12.5, throttle_count=2, questions_throttle_count=1)
    for number, started in enumerate([-3600.0, -3599.9, -1.0, 0.0], 1):
        bench.call(bench.number(), number, link_id=link_id, started_at=clock.after(started))
    bench.call(bench.number(), 1, link_id=0, started_at=clock.now)
    async with bench.mirror.platform() as connection:
        budget = await load_budget(connection, link_id)
        assert budget.call_times == tuple(clock.after(one) for one in (-3599.9, -1.0, 0.0))
        assert budget.calls == BucketState(None, 2, 12.5, None)
        assert (await load_budget(connection, link_id, with_calls=False)).call_times == ()
    assert await bench.ask(budgets._BUCKETS, link_id=0) == []


async def test_only_the_newest_calls_are_read(bench: Bench) -> None:
    link_id = bench.link(bench.store())
    calls = [{"call_number": number, "started_at": bench.clock.after(-number)} for number in range(502)]
    call = {"batch_id": bench.number(), "store_id": "s", "state": "over", "deadline_at": bench.clock.now}
    bench.put("batch_calls", *calls, **call, link_id=link_id)
    async with bench.mirror.platform() as connection:
        budget = await load_budget(connection, link_id)
    assert len(budget.call_times) == 500
    assert budget.call_times[0] == bench.clock.after(-499)


async def test_blocks_only_grow(bench: Bench) -> None:
    link_id, clock = bench.link(bench.store()), bench.clock
    before = BudgetState((), BucketState(), BucketState())
    ends = [(None, 5.0), (60.0, None), (30.0, 10.0), (None, 2.0), (90.0, None)]
    async with bench.mirror.platform() as connection:
        for number, (calls, questions) in enumerate(ends, 1):
            calls_end = None if calls is None else clock.after(calls)
            questions_end = None if questions is None else clock.after(questions)
            after = BudgetState(
                (),
                BucketState(calls_end, number, number / 3, clock.after(number)),
                BucketState(questions_end, number + 1, 99.5, None if number > 2 else clock.now),
            )
            await save_budget(connection, link_id, before, after)
            await save_budget(connection, 0, before, after)
            await save_budget(connection, link_id, before, before)
        saved = await load_budget(connection, link_id, with_calls=False)
    assert (saved.calls.blocked_until, saved.questions.blocked_until) == (clock.after(90), clock.after(10))


def _changes(*changes: tuple[str, Lane]) -> list[Change]:
    return [Change(variant_id, lane) for variant_id, lane in changes]


async def test_intents_are_written(bench: Bench) -> None:
    store_id, clock = bench.store(), bench.clock
    left, link_id = bench.link(store_id, active=False), bench.link(store_id)
    bench.state(store_id, link_id, "a", status="never_synced", updated_at=clock.after(-9))
    bench.state(store_id, link_id, "b", status="failed", updated_at=clock.after(-9))
    bench.state(store_id, left, "c", status="never_synced", updated_at=clock.after(-9))
    bench.state(store_id, link_id, "untouched", status="never_synced", updated_at=clock.after(-9))
    old = {"first_at": clock.after(-9), "parked_by": 3, "job_id": "job"}
    bench.intent(store_id, "b", lane=2, **old)
    bench.intent(store_id, "c", lane=0, **old)
    bench.intent(store_id, "untouched", lane=0, **old)
    async with bench.mirror.platform() as connection:
        changes = _changes(("c", Lane.BULK), ("a", Lane.BULK), ("b", Lane.CONTENT), ("a", Lane.LIVE))
        await OutboxSink().record(connection, store_id, changes)
        await OutboxSink().record(connection, store_id, [])
    clock.move(1)
    async with bench.mirror.platform() as connection:
        await OutboxSink().record(connection, store_id, _changes(("a", Lane.CONTENT), ("d", Lane.LIVE)))


async def test_nothing_is_known_of_items_without_a_link(bench: Bench) -> None:
    store_id = bench.store()
    bench.link(store_id, active=False)
    bench.state(store_id, bench.link(bench.store()), "a", status="never_synced")
    async with bench.mirror.platform() as connection:
        await OutboxSink().record(connection, store_id, _changes(("a", Lane.LIVE)))
    counts = [
        await bench.count(one, store_id=store_id, variant_ids=["a", "b"])
        for one in (outbox._INSERT_STATES, outbox._INTENDED)
    ]
    assert counts == [0, 0]


@pytest.mark.parametrize(
    ("due", "marked"), [("none", 1), ("later", 1), ("now", 0), ("earlier", 0), ("absent", 0)]
)
async def test_store_is_put_in_line(bench: Bench, due: str, marked: int) -> None:
    store_id, clock = bench.store(), bench.clock
    times = {"none": None, "later": clock.after(5), "now": clock.now, "earlier": clock.after(-5)}
    if due in times:
        bench.put("store_queue", store_id=store_id, due_at=times[due], fence=4, lease_owner="w")
    assert await bench.count(outbox._MARK_DUE, store_id=store_id) == marked
    assert await bench.count(outbox._INSERT_QUEUE, store_id=store_id) == (due == "absent")
    async with bench.mirror.platform() as connection:
        await outbox.mark_due(connection, store_id)


def _lay_out_catalog(bench: Bench) -> str:
    """Every kind of variant that the columns of an item tell apart."""
    store_id, clock = bench.store(), bench.clock
    texts = ("title", "subtitle", "description", "slug", "link", "brand", "vendor", "thumbnail")
    bench.product(
        store_id,
        "p",
        **{name: f"product's {name}" for name in texts},
        images=["1", "2"],
        categories=["c"],
        google_product_category="9",
        status="archived",
    )
    bench.product(store_id, "namesake", deleted_at=clock.now, visibility="private")
    bench.product(store_id, "pair")
    bench.put(
        "inventory",
        store_id=store_id,
        variant_id="full",
        track_inventory=True,
        quantity_on_hand=5,
        reserved_quantity=2,
        allow_backorder=True,
        version=1,
    )
    names = ("sku", "link", "condition", "thumbnail", "ean", "upc", "barcode", "availability")
    bench.variant(
        store_id,
        "full",
        **{name: f"variant's {name}" for name in names},
        price=1999,
        special_price=999,
        special_price_start=clock.now,
        special_price_end=clock.after(60),
        images=["3"],
        options={"size": "M", "colour": "red"},
    )
    bench.variant(store_id, "deleted", product_id="p", deleted_at=clock.now)
    bench.variant(store_id, "orphan", product_id="nowhere", deleted_at=clock.now)
    bench.variant(store_id, "namesake", product_id="namesake")
    for number in range(3):
        bench.variant(store_id, f"pair{number}", product_id="pair")
    other = bench.store()
    bench.variant(other, "p")
    bench.variant(other, "other", product_id="namesake")
    bench.product(other, "nowhere")
    return store_id


_VARIANTS = ["deleted", "full", "namesake", "orphan", "pair0", "pair1", "pair2"]


def _lay_out_states(bench: Bench, store_id: str, variant_ids: list[str]) -> int:
    """A link with a state for each of the items, the first and the second as full as can be."""
    link_id = bench.link(store_id)
    full: dict[str, Any] = {
        "status": "submitted",
        "presence": "maybe",
        "confirmed_hash": b"confirmed",
        "confirmed_epoch": 2,
        "may_hold": ["title", "price"],
        "rejected_hash": b"rejected",
        "discarded_hash": b"discarded",
        "in_flight": 77,
        "excluded_at": bench.clock.now,
        "batch_limit": 10,
        "image_version": 3,
        "code": "100",
        "attempts": 4,
    }
    for number, variant_id in enumerate(variant_ids):
        values = {**full, "retailer_id": f"id of {variant_id}"} if number < 2 else {}
        bench.state(store_id, link_id, variant_id, **values)
    return link_id


async def test_ready_intents(bench: Bench) -> None:
    store_id, clock = _lay_out_catalog(bench), bench.clock
    ids = [*_VARIANTS, "unknown"]
    # The order of lanes and times is none of the orders of ids.
    for number, variant_id in enumerate(ids):
        job_id = "job" if number % 2 else None
        bench.intent(store_id, variant_id, lane=2 - number % 3, first_at=clock.after(-number), job_id=job_id)
    bench.intent(store_id, "pair9", parked_by=5)
    bench.intent(bench.store(), "full")
    with_states, without = _lay_out_states(bench, store_id, ids), bench.link(store_id, active=False)
    expected = sorted(ids, key=lambda one: (2 - ids.index(one) % 3, -ids.index(one)))
    async with bench.mirror.platform() as connection:
        for link_id in (with_states, without):
            for limit in (1, 5, 50):
                ready = await read_ready(connection, store_id, link_id, limit=limit)
                assert [one.variant_id for one in ready] == expected[:limit]
        assert await read_ready(connection, bench.store(), with_states, limit=5) == []


async def test_items_of_splits_are_read_part_by_part(bench: Bench) -> None:
    store_id = bench.store()
    parts = {"a": None, "b": 5, "c": 6, "d": 5, "parked": 5}
    link_id = bench.link(store_id)
    for number, (variant_id, part_id) in enumerate(parts.items()):
        parked_by = 1 if variant_id == "parked" else None
        bench.intent(store_id, variant_id, first_at=bench.clock.after(-number), parked_by=parked_by)
        bench.state(store_id, link_id, variant_id, split_part=part_id)
    async with bench.mirror.platform() as connection:
        ready = await read_ready(connection, store_id, link_id, limit=9)
        assert [(one.variant_id, one.state.split_part) for one in ready] == [("a", None)]
        for part_id, expected in ((5, ["d", "b"]), (6, ["c"]), (7, [])):
            part = await read_part(connection, store_id, link_id, part_id, limit=9)
            assert [one.variant_id for one in part] == expected
        assert len(await read_part(connection, store_id, link_id, 5, limit=1)) == 1
        # Of another link: no item stands in a split there.
        assert await read_part(connection, store_id, -1, 5, limit=9) == []
        assert len(await read_ready(connection, store_id, -1, limit=9)) == 4


async def test_columns_of_ready_items(bench: Bench) -> None:
    store_id = _lay_out_catalog(bench)
    bench.intent(store_id, "full")
    bench.intent(store_id, "unknown", lane=1)
    link_id = _lay_out_states(bench, store_id, ["full", "unknown"])
    async with bench.mirror.platform() as connection:
        full, unknown = await read_ready(connection, store_id, link_id, limit=9)
    assert full.item is not None
    assert (full.item.product_link, full.item.variant_link) == ("product's link", "variant's link")
    assert (full.item.special_price_end, full.item.options["size"]) == (bench.clock.after(60), "M")
    assert (full.item.quantity_on_hand, full.item.reserved_quantity) == (5, 2)
    assert (full.item.live_variant_count, full.item.group_id_taken) == (1, False)
    assert (full.state.in_flight, full.state.is_excluded, full.state.attempts) == (77, True, 4)
    assert unknown.item is None
    assert unknown.state.rejected_hash == b"rejected"


async def test_pages_of_items(bench: Bench) -> None:
    store_id = _lay_out_catalog(bench)
    link_id = _lay_out_states(bench, store_id, ["full", "pair1"])
    async with bench.mirror.platform() as connection:
        seen: list[str] = []
        while page := await read_items(
            connection, store_id, link_id, after=seen[-1] if seen else None, limit=3
        ):
            seen += [item.variant_id for item, _ in page]
        assert seen == _VARIANTS
        assert len(await read_items(connection, store_id, 0, after=None, limit=50)) == len(_VARIANTS)


async def test_ties_are_read_in_any_order(bench: Bench) -> None:
    store_id, clock = bench.store(), bench.clock
    for variant_id in ("b", "c", "a"):
        bench.intent(store_id, variant_id, first_at=clock.now)
    async with bench.mirror.platform() as connection:
        ready = await read_ready(connection, store_id, 0, limit=3)
    assert [one.variant_id for one in ready] == ["a", "b", "c"]


async def test_time_and_plans(bench: Bench) -> None:
    bench.clock.move(86_400.25)
    async with bench.mirror.platform() as connection:
        assert await database_time(connection) == bench.clock.now
        await expect_bulk(connection)
