"""What events do to rows, intents and receipts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.events import (
    CatalogEvent,
    EventData,
    IgnoredEvent,
    MediaNews,
    MediaPatch,
    ProductDeletion,
    ProductPatch,
    RejectedEvent,
    VariantDeletion,
    VariantNews,
)
from meta_sync.catalog.events_write import EventService
from meta_sync.catalog.models import Lane, VariantInput
from meta_sync.core.db import Database
from meta_sync.core.errors import ErrorDetail, ValidationFailedError
from meta_sync.core.failpoints import FailpointError, arm, disarm_all
from meta_sync.core.queue import JobName
from meta_sync.sync.outbox import OutboxSink
from meta_sync.sync.sweep import purge
from tests.support.catalog import NOW, Bench, bench, product, stock, variant
from tests.support.events import Sender, T, changed, created, figures, policy, prices


@pytest.fixture(autouse=True)
def no_failpoints() -> Iterator[None]:
    yield
    disarm_all()


@pytest.fixture
def b(database: Database) -> Bench:
    return bench(database)


@pytest.fixture
def send(b: Bench) -> Sender:
    return Sender(b)


async def test_each_event_has_its_intents(b: Bench, send: Sender) -> None:
    live, content = Lane.LIVE, Lane.CONTENT
    await send.applied(product("p", variant("v1"), variant("v2"), variant("v3")), T[0])
    assert b.sink.take() == dict.fromkeys(("v1", "v2", "v3"), content)
    assert b.queue.sent == [JobName.DRAIN]
    await send.applied(ProductPatch("p", {"title": "New", "brand": None}), T[1])
    assert b.sink.take() == dict.fromkeys(("v1", "v2", "v3"), content)
    await send.applied(ProductPatch("p", {"status": "archived"}), T[2])
    assert b.sink.take() == dict.fromkeys(("v1", "v2", "v3"), live)
    await send.applied(MediaNews("p", {"thumbnail": "t.jpg"}), T[3])
    assert b.sink.take() == dict.fromkeys(("v1", "v2", "v3"), content)
    await send.applied(MediaNews("p", {}, [MediaPatch("v2", {"images": ["2.jpg"]})]), T[4])
    assert b.sink.take() == {"v2": content}
    await send.applied(created("v4"), T[5])
    assert b.sink.take() == {"v4": content}
    await send.applied(changed("v4", 5), T[6])
    assert b.sink.take() == {"v4": live}
    await send.applied(figures("v1", 5), T[6])
    assert b.sink.take() == {"v1": live}
    await send.applied(policy("v1", backorders=True), T[6])
    assert b.sink.take() == {"v1": live}
    await send.applied(VariantDeletion("p", "v4"), T[7])
    assert b.sink.take() == {"v4": live}
    await send.applied(ProductDeletion("p"), T[8])
    assert b.sink.take() == dict.fromkeys(("v1", "v2", "v3"), live)


async def test_an_event_that_changes_nothing_writes_no_row_and_no_intent(b: Bench, send: Sender) -> None:
    body = product("p", variant("v1", inventory=stock(3, track_inventory=True)), images=["a"])
    await send.applied(body, T[0])
    b.sink.take()
    before = await b.snapshot()
    for data in (
        body,
        ProductPatch("p", {"title": body.title}),
        ProductPatch("p", {}),
        MediaNews("p", {"images": ["a"]}, [MediaPatch("v1", {"thumbnail": None})]),
        changed("v1", inventory=stock(3)),
        figures("v1", 3),
        policy("v1"),
    ):
        await send.applied(data)
    assert await b.snapshot() == before
    assert b.sink.calls == []
    # A newer time moves the clock, and nothing else.
    versions = "SELECT version FROM products UNION ALL SELECT version FROM variants UNION ALL SELECT version FROM inventory"
    kept = await b.rows(versions)
    for data in (ProductPatch("p", {"title": body.title}), changed("v1"), figures("v1", 3), policy("v1")):
        await send.applied(data, T[5])
        await send.stale(data, T[4])
    assert await b.rows(versions) == kept
    assert b.sink.calls == []


async def test_patches_leave_alone_what_they_do_not_name_and_null_clears(b: Bench, send: Sender) -> None:
    given = product(
        "p",
        variant("v1", thumbnail="1.jpg", images=["1a.jpg"], sku="S"),
        variant("v2", thumbnail="2.jpg"),
        subtitle="Sub",
        thumbnail="t.jpg",
        images=["a", "b"],
        categories=["Men"],
    )
    await send.applied(given)
    await send.applied(ProductPatch("p", {"subtitle": None, "categories": []}))
    await send.applied(MediaNews("p", {"images": []}, [MediaPatch("v1", {"thumbnail": None})]))
    stored = (await b.catalog.get_product("s", "p")).product
    assert (stored.title, stored.subtitle, stored.categories) == (given.title, None, [])
    assert (stored.thumbnail, stored.images) == ("t.jpg", [])
    first, second = stored.variants
    assert (first.thumbnail, first.images, first.sku, first.price) == (None, ["1a.jpg"], "S", 1000)
    assert second.thumbnail == "2.jpg"


async def test_what_is_not_known_is_rejected_and_can_be_sent_again(b: Bench, send: Sender) -> None:
    unknown: list[EventData] = [
        ProductPatch("q", {"title": "x"}),
        MediaNews("q", {"thumbnail": "x"}),
        created("v9", product_id="q"),
        VariantDeletion("q", "v1"),
        ProductDeletion("q"),
    ]
    for data in unknown:
        await send.not_found(data, T[5])
    await send.applied(product("p", variant("v1")), T[1])
    await send.applied(product("other", variant("elsewhere")), T[1])
    unknown = [
        changed("v9"),
        VariantDeletion("p", "v9"),
        VariantDeletion("p", "elsewhere"),
        MediaNews("p", {"thumbnail": "not taken"}, [MediaPatch("v1", {"images": []}), MediaPatch("v9", {})]),
        MediaNews("p", {}, [MediaPatch("elsewhere", {"images": []})]),
        figures("v9", 1),
        policy("v9"),
    ]
    for data in unknown:
        await send.not_found(data, T[5])
    assert await b.rows("SELECT thumbnail FROM products WHERE product_id = 'p'") == [(None,)]
    event = send.event(created("v9", product_id="q"), T[5])
    assert len((await send.service.take("s", [event])).rejected) == 1
    await send.applied(product("q"), T[2])
    assert (await send.service.take("s", [event])).accepted == 1
    assert (await send.service.take("s", [event])).duplicates == 1


async def test_a_variant_moves_with_news_of_it(b: Bench, send: Sender) -> None:
    await send.applied(product("p", variant("v1"), variant("v2")), T[2])
    await send.applied(product("q", variant("w")), T[1])
    moved = VariantNews("q", VariantInput("v1", price=5), is_new=False)
    await send.stale(moved, T[1])
    await send.applied(moved, T[3])
    owners = await b.rows("SELECT variant_id, product_id FROM variants ORDER BY 1")
    assert owners == [("v1", "q"), ("v2", "p"), ("w", "q")]


async def test_events_of_a_request_are_applied_in_their_order(b: Bench, send: Sender) -> None:
    events = [
        send.event(created("v1")),
        send.event(product("p", variant("v2"))),
        send.event(created("v1", 1)),
        send.event(changed("v1", 2)),
        send.event(figures("v1", 3)),
        send.event(VariantDeletion("p", "v2")),
    ]
    result = await send.service.take("s", events)
    assert (result.accepted, len(result.rejected)) == (5, 1)
    assert await prices(b) == {"v1": 2}
    assert await b.rows("SELECT variant_id, quantity_on_hand FROM inventory") == [("v1", 3)]
    assert b.sink.take() == {"v1": Lane.CONTENT}


async def test_counts_add_up_and_faults_are_named(b: Bench, send: Sender) -> None:
    await send.applied(product("p", variant("v1")))
    good = send.event(changed("v1", 5))
    events = [
        good,
        good,
        IgnoredEvent(2),
        RejectedEvent(3, None, "No.", [ErrorDetail("id", "is required")]),
        send.event(changed("v1", -1)),
        send.event(ProductPatch("p", {"title": "\x00"})),
        send.event(MediaNews("p", {"images": ["\ud800"]}, [MediaPatch("v1", {"thumbnail": "\x00"})])),
        send.event(figures("v1", -1)),
        send.event(VariantDeletion("p" * 201, "\x1f")),
        send.event(changed("v1"), NOW + timedelta(minutes=10, seconds=1)),
        send.event(product("p", variant("v1", special_price=-1))),
        send.event(changed("v1", 6), NOW + timedelta(minutes=10)),
    ]
    events = [
        CatalogEvent(index, one.id, one.source, one.clock, one.data) if isinstance(one, CatalogEvent) else one
        for index, one in enumerate(events)
    ]
    result = await send.service.take("s", events)
    assert (result.accepted, result.duplicates, result.ignored) == (2, 1, 1)
    assert [one.index for one in result.rejected] == [3, 4, 5, 6, 7, 8, 9, 10]
    fields = {one.index: [detail.field for detail in one.details] for one in result.rejected}
    assert fields == {
        3: ["id"],
        4: ["data.variant.price"],
        5: ["data.title"],
        6: ["data.images[0]", "data.variants[0].thumbnail"],
        7: ["data.quantityOnHand"],
        8: ["data.productId", "data.variantId"],
        9: ["time"],
        10: ["data.variants[0].specialPrice"],
    }
    with pytest.raises(ValidationFailedError):
        await send.service.take("s", [good] * 1_001)


async def test_an_event_counts_once_per_source_and_id_and_store(b: Bench, send: Sender) -> None:
    for store_id in ("s", "t"):
        await b.catalog.put_product(store_id, product("p", variant("v1")))
    first = CatalogEvent(0, "1", "/a", None, figures("v1", 1))
    other_source = CatalogEvent(0, "1", "/b", None, figures("v1", 2))
    assert (await send.service.take("s", [first])).accepted == 1
    assert (await send.service.take("s", [other_source])).accepted == 1
    assert (await send.service.take("s", [first])).duplicates == 1
    assert await b.rows("SELECT quantity_on_hand FROM inventory") == [(2,)]
    assert (await send.service.take("t", [first])).accepted == 1
    assert len(await b.rows("SELECT 1 FROM event_receipts")) == 2


async def test_deliveries_at_the_same_time_have_one_effect(b: Bench, send: Sender) -> None:
    await send.applied(product("p", *(variant(f"v{number}") for number in range(6))))
    events = [send.event(figures(f"v{number}", number)) for number in range(6)]
    events += [send.event(created("new")), send.event(ProductPatch("p", {"title": "once"}))]
    shifted = [events[number:] + events[:number] for number in range(4)]
    results = await asyncio.gather(*(send.service.take("s", given) for given in shifted))
    assert sum(result.accepted for result in results) == len(events)
    assert sum(result.duplicates for result in results) == 3 * len(events)
    assert all(result.rejected == [] for result in results)


async def test_effect_intents_and_receipt_are_one_transaction(b: Bench, send: Sender) -> None:
    await send.applied(product("p", variant("v1")))
    service = EventService(b.database, OutboxSink(), b.queue, lambda: b.now)
    event = send.event(figures("v1", 3))
    arm("catalog.before_commit", "raise")
    with pytest.raises(FailpointError):
        await service.take("s", [event])
    disarm_all()
    for table in ("inventory", "intents"):
        assert await b.rows(f"SELECT 1 FROM {table}") == []
    arm("catalog.after_commit", "raise")
    with pytest.raises(FailpointError):
        await service.take("s", [event])
    disarm_all()
    assert (await service.take("s", [event])).duplicates == 1
    assert await b.rows("SELECT variant_id FROM intents") == [("v1",)]


async def test_a_thousand_events_are_few_statements(
    b: Bench, send: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [product(f"p{number}", variant(f"v{number}")) for number in range(1_000)]
    service = EventService(b.database, OutboxSink(), b.queue, lambda: b.now)
    began = time.perf_counter()
    made = await service.take("s", [send.event(body) for body in bodies])
    adjusted = await service.take("s", [send.event(figures(f"v{number}", 5)) for number in range(1_000)])
    assert (made.accepted, adjusted.accepted) == (1_000, 1_000)
    assert time.perf_counter() - began < 10, "far more than it takes, even on a busy machine"
    statements = 0

    async def counting(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal statements
        statements += 1
        return await execute(self, *arguments, **named)

    execute = AsyncConnection.execute
    monkeypatch.setattr(AsyncConnection, "execute", counting)
    await service.take("s", [send.event(figures(f"v{number}", 6)) for number in range(1_000)])
    assert statements < 15


async def test_old_receipts_are_purged(b: Bench, send: Sender) -> None:
    await send.applied(product("p", variant("v1")))
    await send.applied(figures("v1", 3))
    async with b.database.platform() as connection:
        await connection.execute(
            text(
                "UPDATE event_receipts SET received_at = now() - interval '31 days' WHERE event_id = 'event-1'"
            )
        )
        await purge(connection)
    assert await b.rows("SELECT event_id FROM event_receipts") == [("event-2",)]
