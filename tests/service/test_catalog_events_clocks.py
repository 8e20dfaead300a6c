"""Which news counts when events, bodies and deletions come in any order."""

from __future__ import annotations

from datetime import timedelta

import pytest

from meta_sync.catalog.events import (
    MediaNews,
    MediaPatch,
    ProductDeletion,
    ProductPatch,
    VariantDeletion,
)
from meta_sync.core.db import Database
from meta_sync.core.errors import NotFoundError
from tests.support.catalog import Bench, bench, product, stock, variant
from tests.support.events import Sender, T, changed, created, figures, policy, prices, titles


@pytest.fixture
def b(database: Database) -> Bench:
    return bench(database)


@pytest.fixture
def send(b: Bench) -> Sender:
    return Sender(b)


async def test_each_group_has_its_own_clock(b: Bench, send: Sender) -> None:
    await send.applied(product("p", variant("v1", inventory=stock(1)), title="body"), T[1])
    await send.applied(ProductPatch("p", {"title": "basics"}), T[5])
    # News of other groups, older than the basics and newer than the body.
    await send.applied(MediaNews("p", {"thumbnail": "m"}, [MediaPatch("v1", {"thumbnail": "v"})]), T[4])
    await send.applied(changed("v1", 7, thumbnail="not this"), T[3])
    await send.applied(figures("v1", 9), T[3])
    await send.applied(policy("v1", backorders=True), T[2])
    await send.stale(ProductPatch("p", {"title": "late"}), T[4])
    await send.stale(MediaNews("p", {"thumbnail": "late"}, [MediaPatch("v1", {"images": []})]), T[3])
    await send.stale(changed("v1", 1), T[2])
    await send.stale(figures("v1", 0), T[2])
    await send.stale(policy("v1"), T[1])
    stored = (await b.catalog.get_product("s", "p")).product
    assert (stored.title, stored.thumbnail, stored.updated_at) == ("basics", "m", T[5])
    one = stored.variants[0]
    assert (one.price, one.thumbnail) == (7, "v")
    assert one.inventory is not None
    assert (one.inventory.quantity_on_hand, one.inventory.allow_backorder) == (9, True)
    assert one.inventory.updated_at == T[3]


@pytest.mark.parametrize("by_event", [True, False])
async def test_a_body_leaves_out_the_groups_of_which_there_is_later_news(
    b: Bench, send: Sender, by_event: bool
) -> None:
    await b.catalog.put_product("s", product("p", variant("v1"), variant("v2"), updated_at=T[0]))
    await send.applied(MediaNews("p", {"images": ["event"]}, [MediaPatch("v1", {"images": ["v"]})]), T[5])
    await send.applied(changed("v2", 5), T[5])
    await send.applied(created("new"), T[5])
    body = product(
        "p",
        variant("v1", 2, images=["body"]),
        variant("v2", 2),
        title="body",
        images=["body"],
        updated_at=T[2],
    )
    if by_event:
        await send.applied(body, T[2])
    else:
        assert not (await b.catalog.put_product("s", body)).stale
    assert await titles(b) == {"p": "body"}
    assert await prices(b) == {"v1": 2, "v2": 5, "new": 1000}
    assert await b.rows("SELECT images FROM products") == [(["event"],)]
    assert await b.rows("SELECT images FROM variants WHERE variant_id = 'v1'") == [(["v"],)]
    # Later than all of it: everything is as the body says.
    body.updated_at = T[6]
    assert not (await b.catalog.put_product("s", body)).stale
    assert await prices(b) == {"v1": 2, "v2": 2}
    assert await b.rows("SELECT images FROM products") == [(["body"],)]


async def test_a_body_older_than_the_basics_says_stale_and_still_brings_the_rest(
    b: Bench, send: Sender
) -> None:
    await b.catalog.put_product("s", product("p", variant("v1"), updated_at=T[0]))
    await send.applied(ProductPatch("p", {"title": "event"}), T[5])
    result = await b.catalog.put_product("s", product("p", variant("v1", 9), title="body", updated_at=T[2]))
    assert (result.stale, result.changed) == (True, 1)
    assert (await titles(b), await prices(b)) == ({"p": "event"}, {"v1": 9})
    result = await b.catalog.put_product("s", product("p", variant("v1", 8), title="body"))
    assert (result.stale, await titles(b)) == (False, {"p": "body"}), "without a clock a body always counts"


async def test_what_was_read_after_events_can_be_put_again(b: Bench, send: Sender) -> None:
    await send.applied(product("p", variant("v1", inventory=stock(1)), variant("v2")), T[0])
    await send.applied(ProductPatch("p", {"title": "x"}), T[2])
    await send.applied(changed("v1", 3), T[4])
    await send.applied(figures("v1", 3), T[4])
    stored = await b.catalog.get_product("s", "p")
    result = await b.catalog.put_product("s", stored.product)
    assert (result.changed, result.stale, result.variants) == (0, False, 2)


async def test_an_equal_time_applies_and_an_absent_one_keeps_the_clock(b: Bench, send: Sender) -> None:
    await send.applied(product("p", variant("v1")), T[1])
    for price, clock in ((2, T[3]), (3, T[3]), (4, None)):
        await send.applied(changed("v1", price), clock)
        assert await prices(b) == {"v1": price}
    await send.stale(changed("v1", 5), T[2])


async def test_tombstones_keep_their_clock(b: Bench, send: Sender) -> None:
    await send.applied(product("p", variant("v1"), variant("v2")), T[0])
    await send.applied(VariantDeletion("p", "v1"), T[4])
    await send.stale(changed("v1"), T[3])
    await send.stale(created("v1"), T[4])
    await send.stale(product("p", variant("v1")), T[0] - timedelta(minutes=1))
    await send.not_found(changed("v1"), T[5])
    assert await prices(b) == {"v2": 1000}
    await send.applied(VariantDeletion("p", "v1"), T[5])
    await send.stale(created("v1"), T[5])
    await send.applied(created("v1"), T[6])
    assert await prices(b) == {"v1": 1000, "v2": 1000}
    await send.applied(ProductDeletion("p"), T[7])
    await send.applied(ProductDeletion("p"), T[7])
    for data in (ProductPatch("p", {"title": "x"}), MediaNews("p", {}), changed("v1"), created("v9")):
        await send.stale(data, T[6])
        await send.not_found(data, T[8])
        await send.not_found(data)
    await send.stale(product("p", variant("v1")), T[7])
    assert await prices(b) == {}
    await send.applied(product("p", variant("v1")), T[8])
    assert await prices(b) == {"v1": 1000}


async def test_a_deletion_without_a_time_deletes_all_that_was_known(b: Bench, send: Sender) -> None:
    await send.applied(product("p", variant("v1"), variant("v2")), T[0])
    await send.applied(ProductPatch("p", {"title": "x"}), T[3])
    await send.applied(changed("v1"), T[3])
    await send.applied(VariantDeletion("p", "v1"))
    await send.stale(created("v1"), T[3])
    await send.applied(ProductDeletion("p"))
    await send.stale(product("p"), T[3])
    await send.applied(product("p", variant("v2")), T[4])
    assert await prices(b) == {"v2": 1000}


async def test_a_late_deletion_leaves_what_there_is_later_news_of(b: Bench, send: Sender) -> None:
    await send.applied(product("p", variant("v1"), variant("v2")), T[0])
    await send.applied(changed("v1", 5), T[5])
    await send.stale(VariantDeletion("p", "v1"), T[4])
    await send.applied(ProductDeletion("p"), T[3])
    assert await prices(b) == {"v1": 5}
    await send.stale(product("p", variant("v2")), T[2])
    await send.applied(product("p", variant("v1"), variant("v2")), T[4])
    assert await prices(b) == {"v1": 5, "v2": 1000}


async def test_stock_outlives_a_deletion_and_is_remembered_when_it_comes_late(b: Bench, send: Sender) -> None:
    await send.applied(product("p", variant("v1"), variant("v2")), T[0])
    await send.applied(VariantDeletion("p", "v1"), T[4])
    b.sink.take()
    await send.applied(figures("v1", 7), T[3])
    await send.not_found(figures("v1", 8), T[5])
    assert b.sink.calls == []
    await send.applied(created("v1"), T[6])
    assert await b.rows("SELECT quantity_on_hand FROM inventory") == [(7,)]


async def test_a_deletion_of_what_was_made_in_the_same_request_is_remembered(b: Bench, send: Sender) -> None:
    await send.applied(product("p", variant("v1")), T[0])
    b.sink.take()
    events = [send.event(created("v9"), T[1]), send.event(VariantDeletion("p", "v9"), T[5])]
    assert (await send.service.take("s", events)).accepted == 2
    assert b.sink.calls == []
    await send.stale(created("v9"), T[4])
    assert await prices(b) == {"v1": 1000}


async def test_later_news_of_a_variant_that_came_and_went_in_a_request_is_remembered(
    b: Bench, send: Sender
) -> None:
    events = [
        send.event(product("p", variant("v1", inventory=stock(1))), T[1]),
        send.event(MediaNews("p", {}, [MediaPatch("v1", {"thumbnail": "later"})]), T[5]),
        send.event(figures("v1", 7), T[5]),
        send.event(product("p"), T[3]),
    ]
    assert (await send.service.take("s", events)).accepted == 4
    assert await prices(b) == {}
    await send.applied(product("p", variant("v1", thumbnail="body", inventory=stock(2))), T[4])
    stored = (await b.catalog.get_product("s", "p")).product.variants[0]
    assert stored.thumbnail == "later"
    assert stored.inventory is not None
    assert stored.inventory.quantity_on_hand == 7


async def test_a_product_deleted_by_an_event_is_gone(b: Bench, send: Sender) -> None:
    await send.applied(product("p", variant("v1")), T[1])
    await send.applied(ProductDeletion("p"), T[2])
    with pytest.raises(NotFoundError):
        await b.catalog.get_product("s", "p")
    assert (await b.catalog.put_product("s", product("p", variant("v1"), updated_at=T[2]))).stale
    assert not (await b.catalog.put_product("s", product("p", variant("v1"), updated_at=T[3]))).stale
