"""What puts, deletes and stock bodies do to rows and intents."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from meta_sync.catalog.models import Lane
from meta_sync.core.db import Database
from meta_sync.core.errors import NotFoundError, ValidationFailedError
from meta_sync.core.queue import JobName
from tests.support.catalog import NOW, Bench, bench, product, stock, variant

T1, T2, T3 = (NOW + timedelta(minutes=minute) for minute in (1, 2, 3))


@pytest.fixture
def b(database: Database) -> Bench:
    return bench(database)


async def test_a_new_product_is_stored_whole_and_enqueued_in_the_content_lane(b: Bench) -> None:
    given = product(
        "p",
        variant(
            "v1",
            1999,
            sku="SKU-1",
            special_price=1500,
            special_price_start=datetime(2026, 1, 1, tzinfo=UTC),
            special_price_end=datetime(2026, 9, 1, tzinfo=UTC),
            images=['a "quoted" \\ image', "", "NULL", "{x,y}"],
            options={"Größe": "XL", 'q"': "\\"},
            inventory=stock(5, reserved_quantity=1, updated_at=T1),
        ),
        variant("v2", 2**63 - 1),
        title="Blue Shirt",
        slug="blue-shirt",
        images=["one", "two"],
        categories=["Men", "Shirts"],
        updated_at=T1,
    )
    result = await b.catalog.put_product("s", given)
    assert (result.variants, result.changed, result.enqueued, result.stale) == (2, 2, 2, False)
    assert b.sink.take() == {"v1": Lane.CONTENT, "v2": Lane.CONTENT}
    assert b.queue.sent == [JobName.DRAIN]
    stored = await b.catalog.get_product("s", "p")
    given.variants[0].inventory.track_inventory = True  # type: ignore[union-attr]  # given by the line above
    given.variants[0].inventory.allow_backorder = False  # type: ignore[union-attr]  # given by the line above
    assert stored.product == given
    documents = await b.rows("SELECT variant_id, document FROM search_documents ORDER BY 1")
    assert documents == [
        ("v1", "blue shirt\nsku-1\nblue-shirt\nv1\np"),
        ("v2", "blue shirt\nblue-shirt\nv2\np"),
    ]


async def test_an_identical_body_writes_nothing_and_enqueues_nothing(b: Bench) -> None:
    given = product(
        "p",
        variant("v1", options={"size": "1"}, inventory=stock(3)),
        variant("v2", images=["x"]),
        updated_at=T1,
    )
    await b.catalog.put_product("s", given)
    b.sink.take()
    b.queue.sent.clear()
    before = await b.snapshot()
    result = await b.catalog.put_product("s", given)
    assert (result.variants, result.changed, result.enqueued, result.stale) == (2, 0, 0, False)
    assert await b.snapshot() == before
    assert b.sink.calls == []
    assert b.queue.sent == []


async def test_what_was_read_can_be_put_again_without_a_change(b: Bench) -> None:
    await b.catalog.put_product("s", product("p", variant("v1", inventory=stock(3, updated_at=T1)), slug="x"))
    stored = await b.catalog.get_product("s", "p")
    assert (await b.catalog.put_product("s", stored.product)).changed == 0


@pytest.mark.parametrize(
    ("change", "lane"),
    [
        ({"price": 999}, Lane.LIVE),
        ({"special_price": 5}, Lane.LIVE),
        ({"special_price_end": T3}, Lane.LIVE),
        ({"availability": "preorder"}, Lane.LIVE),
        ({"inventory": stock(4)}, Lane.LIVE),
        ({"sku": "other"}, Lane.CONTENT),
        ({"images": ["x"]}, Lane.CONTENT),
        ({"options": {"size": "2"}}, Lane.CONTENT),
    ],
)
async def test_lane_of_a_variant_change(b: Bench, change: dict[str, object], lane: Lane) -> None:
    await b.catalog.put_product("s", product("p", variant("v1"), variant("v2")))
    b.sink.take()
    changed = variant("v1", **change)  # type: ignore[arg-type]  # given loosely on purpose
    result = await b.catalog.put_product("s", product("p", changed, variant("v2")))
    assert (result.changed, result.enqueued) == (1, 1)
    assert b.sink.take() == {"v1": lane}


@pytest.mark.parametrize(
    ("change", "lane"),
    [
        ({"status": "archived"}, Lane.LIVE),
        ({"visibility": "private"}, Lane.LIVE),
        ({"title": "T"}, Lane.CONTENT),
    ],
)
async def test_a_product_change_enqueues_every_live_variant(
    b: Bench, change: dict[str, str], lane: Lane
) -> None:
    await b.catalog.put_product("s", product("p", variant("v1"), variant("v2"), variant("gone")))
    await b.catalog.put_product("s", product("p", variant("v1"), variant("v2")))
    b.sink.take()
    await b.catalog.put_product("s", product("p", variant("v1"), variant("v2"), **change))
    assert b.sink.take() == {"v1": lane, "v2": lane}


async def test_source_and_order_of_variants_change_no_item(b: Bench) -> None:
    await b.catalog.put_product("s", product("p", variant("v1"), variant("v2")))
    b.sink.take()
    result = await b.catalog.put_product("s", product("p", variant("v2"), variant("v1"), source="feed"))
    assert (result.changed, result.enqueued) == (1, 0)
    stored = await b.catalog.get_product("s", "p")
    assert [one.id for one in stored.product.variants] == ["v2", "v1"]
    assert stored.product.source == "feed"


async def test_only_changed_rows_take_a_new_version(b: Bench) -> None:
    await b.catalog.put_product("s", product("p", variant("v1"), variant("v2", inventory=stock(1))))
    query = "SELECT variant_id, version FROM variants UNION SELECT 'p', version FROM products ORDER BY 1"
    before = dict(await b.rows(query))
    await b.catalog.put_product("s", product("p", variant("v1", 5), variant("v2", inventory=stock(2))))
    after = dict(await b.rows(query))
    assert after["v1"] > before["v1"]
    assert (after["v2"], after["p"]) == (before["v2"], before["p"])


async def test_order_is_kept_without_rewriting_what_follows_a_gap(b: Bench) -> None:
    async def order() -> list[str]:
        return [one.id for one in (await b.catalog.get_product("s", "p")).product.variants]

    await b.catalog.put_product("s", product("p", *map(variant, "abcd")))
    versions = dict(await b.rows("SELECT variant_id, version FROM variants"))
    await b.catalog.put_product("s", product("p", *map(variant, "bcd")))
    after = dict(await b.rows("SELECT variant_id, version FROM variants"))
    assert {name for name in "abcd" if after[name] != versions[name]} == {"a"}
    for wanted in ("bxcd", "dcxb", "abcd", "dab"):
        await b.catalog.put_product("s", product("p", *map(variant, wanted)))
        assert "".join(await order()) == wanted


async def test_missing_variants_are_deleted_and_come_back(b: Bench) -> None:
    three = product("p", variant("v1"), variant("v2", inventory=stock(7)), variant("v3"))
    await b.catalog.put_product("s", three)
    b.sink.take()
    result = await b.catalog.put_product("s", product("p", variant("v1"), variant("v3")))
    assert (result.variants, result.changed) == (2, 1)
    assert b.sink.take() == {"v2": Lane.LIVE}
    result = await b.catalog.put_product("s", product("p", variant("v1"), variant("v2"), variant("v3")))
    assert b.sink.take() == {"v2": Lane.LIVE}
    stored = await b.catalog.get_product("s", "p")
    assert stored.product.variants[1].inventory is not None
    assert stored.product.variants[1].inventory.quantity_on_hand == 7


async def test_older_body_is_stale_and_changes_nothing(b: Bench) -> None:
    await b.catalog.put_product("s", product("p", variant("v1"), updated_at=T2))
    b.sink.take()
    before = await b.snapshot()
    result = await b.catalog.put_product("s", product("p", variant("v9", 1), title="x", updated_at=T1))
    assert (result.variants, result.changed, result.enqueued, result.stale) == (1, 0, 0, True)
    assert await b.snapshot() == before
    assert b.sink.calls == []


async def test_stale_body_still_brings_stock_that_has_a_newer_clock_of_its_own(b: Bench) -> None:
    await b.catalog.put_product(
        "s", product("p", variant("v1", inventory=stock(1, updated_at=T1)), updated_at=T2)
    )
    b.sink.take()
    late = product(
        "p",
        variant("v1", 5, inventory=stock(0, updated_at=T3)),
        variant("v2", inventory=stock(0, updated_at=T3)),
        updated_at=T1,
    )
    result = await b.catalog.put_product("s", late)
    assert (result.stale, result.changed, result.enqueued) == (True, 1, 1)
    assert b.sink.take() == {"v1": Lane.LIVE}
    late.variants[0].inventory = stock(9)
    assert (await b.catalog.put_product("s", late)).changed == 0
    stored = await b.catalog.get_product("s", "p")
    assert stored.product.variants[0].price == 1000


async def test_equal_clock_applies_and_a_missing_one_keeps_the_stored(b: Bench) -> None:
    await b.catalog.put_product("s", product("p", variant("v1"), updated_at=T2))
    assert (await b.catalog.put_product("s", product("p", variant("v1", 5), updated_at=T2))).changed == 1
    assert (await b.catalog.put_product("s", product("p", variant("v1", 6)))).changed == 1
    assert (await b.catalog.get_product("s", "p")).product.updated_at == T2
    assert (await b.catalog.put_product("s", product("p", variant("v1", 7), updated_at=T1))).stale


async def test_a_newer_clock_alone_is_kept_but_changes_nothing(b: Bench) -> None:
    await b.catalog.put_product(
        "s", product("p", variant("v1", inventory=stock(1, updated_at=T1)), updated_at=T1)
    )
    b.sink.take()
    versions = await b.rows("SELECT version FROM products UNION ALL SELECT version FROM inventory")
    result = await b.catalog.put_product(
        "s", product("p", variant("v1", inventory=stock(1, updated_at=T3)), updated_at=T3)
    )
    assert (result.changed, result.enqueued, b.sink.calls) == (0, 0, [])
    assert await b.rows("SELECT version FROM products UNION ALL SELECT version FROM inventory") == versions
    assert (await b.catalog.put_product("s", product("p", variant("v1", 9), updated_at=T2))).stale
    assert (await b.catalog.put_inventory("s", [("v1", stock(0, updated_at=T2))])).stale == ["v1"]


async def test_clock_more_than_ten_minutes_ahead_is_refused(b: Bench) -> None:
    limit = NOW + timedelta(minutes=10)
    await b.catalog.put_product("s", product("p", variant("v1"), updated_at=limit))
    with pytest.raises(ValidationFailedError) as caught:
        await b.catalog.put_product("s", product("p", updated_at=limit + timedelta(seconds=1)))
    assert [detail.field for detail in caught.value.details] == ["updatedAt"]
    with pytest.raises(ValidationFailedError) as caught:
        await b.catalog.put_inventory("s", [("v1", stock(1, updated_at=limit + timedelta(seconds=1)))])
    assert [detail.field for detail in caught.value.details] == ["items[0].updatedAt"]


async def test_delete_keeps_the_clock_and_only_newer_or_clockless_news_revives(b: Bench) -> None:
    await b.catalog.put_product("s", product("p", variant("v1"), variant("v2"), updated_at=T2))
    b.sink.take()
    result = await b.catalog.delete_product("s", "p")
    assert (result.variants, result.changed, result.enqueued) == (0, 2, 2)
    assert b.sink.take() == {"v1": Lane.LIVE, "v2": Lane.LIVE}
    again = await b.catalog.delete_product("s", "p")
    assert (again.changed, again.enqueued, b.sink.calls) == (0, 0, [])
    with pytest.raises(NotFoundError):
        await b.catalog.get_product("s", "p")
    assert (await b.catalog.list_products("s")).products == []
    for late in (T1, T2):
        assert (await b.catalog.put_product("s", product("p", variant("v1"), updated_at=late))).stale
    result = await b.catalog.put_product("s", product("p", variant("v1"), updated_at=T3))
    assert (result.stale, result.variants, result.changed) == (False, 1, 1)
    assert b.sink.take() == {"v1": Lane.LIVE}
    await b.catalog.delete_product("s", "p")
    assert (await b.catalog.put_product("s", product("p", variant("v1")))).variants == 1
    assert (await b.catalog.get_product("s", "p")).product.updated_at == T3


async def test_deleting_what_never_was_is_not_found(b: Bench) -> None:
    for product_id in ("nobody", "", "x" * 5000, "\x00", "\ud800"):
        with pytest.raises(NotFoundError):
            await b.catalog.delete_product("s", product_id)
        with pytest.raises(NotFoundError):
            await b.catalog.get_product("s", product_id)


async def test_a_body_moves_another_products_variant_and_both_groups_follow(b: Bench) -> None:
    await b.catalog.put_product("s", product("from", variant("a"), variant("b")))
    await b.catalog.put_product("s", product("to", variant("c")))
    b.sink.take()
    result = await b.catalog.put_product("s", product("to", variant("c"), variant("a")))
    # "b" loses its group, "c" gains one, "a" changes its own.
    assert b.sink.take() == {"a": Lane.CONTENT, "b": Lane.CONTENT, "c": Lane.CONTENT}
    assert (result.variants, result.changed, result.enqueued) == (2, 1, 3)
    owners = await b.rows("SELECT variant_id, product_id FROM variants WHERE deleted_at IS NULL ORDER BY 1")
    assert owners == [("a", "to"), ("b", "from"), ("c", "to")]
    assert (await b.rows("SELECT document FROM search_documents WHERE variant_id = 'a'"))[0][0].endswith(
        "\na\nto"
    )


async def test_crossing_between_one_and_two_live_variants_enqueues_all_of_them(b: Bench) -> None:
    await b.catalog.put_product("s", product("p", variant("v1")))
    b.sink.take()
    result = await b.catalog.put_product("s", product("p", variant("v1"), variant("v2")))
    assert (result.changed, result.enqueued) == (1, 2)
    assert b.sink.take() == {"v1": Lane.CONTENT, "v2": Lane.CONTENT}
    await b.catalog.put_product("s", product("p", variant("v1"), variant("v2"), variant("v3")))
    assert b.sink.take() == {"v3": Lane.CONTENT}
    await b.catalog.put_product("s", product("p", variant("v1"), variant("v2")))
    assert b.sink.take() == {"v3": Lane.LIVE}
    await b.catalog.put_product("s", product("p", variant("v1")))
    assert b.sink.take() == {"v1": Lane.CONTENT, "v2": Lane.LIVE}


async def test_a_new_variant_named_like_a_product_renames_that_products_group(b: Bench) -> None:
    await b.catalog.put_product("s", product("g", variant("v1"), variant("v2")))
    await b.catalog.put_product("s", product("single", variant("v3")))
    b.sink.take()
    result = await b.catalog.put_product("s", product("other", variant("g"), variant("single")))
    assert b.sink.take() == dict.fromkeys(["g", "single", "v1", "v2"], Lane.CONTENT)
    assert result.enqueued == 4


async def test_batch_applies_in_order_and_the_last_body_of_a_product_wins(b: Bench) -> None:
    results = await b.catalog.put_products(
        "s",
        [
            product("p", variant("v1", 1), variant("v2", 1)),
            product("q", variant("w1")),
            product("p", variant("v1", 2)),
        ],
    )
    assert [(one.variants, one.changed, one.enqueued) for one in results] == [(2, 2, 0), (1, 1, 1), (1, 2, 1)]
    assert b.sink.take() == {"v1": Lane.CONTENT, "w1": Lane.CONTENT}
    assert await b.rows("SELECT variant_id, price FROM variants ORDER BY 1") == [("v1", 2), ("w1", 1000)]
    stale = await b.catalog.put_products(
        "s", [product("p", variant("v1", 3), updated_at=T2), product("p", variant("v1", 4), updated_at=T1)]
    )
    assert [one.stale for one in stale] == [False, True]
    assert await b.rows("SELECT price FROM variants WHERE variant_id = 'v1'") == [(3,)]


async def test_inventory_names_what_is_missing_and_touches_no_product_or_variant(b: Bench) -> None:
    await b.catalog.put_product("s", product("p", variant("v1"), variant("v2"), variant("dead")))
    await b.catalog.put_product("s", product("p", variant("v1"), variant("v2")))
    b.sink.take()
    before = await b.snapshot()
    result = await b.catalog.put_inventory(
        "s",
        [
            ("v1", stock(5, allow_backorder=True)),
            ("nobody", stock(1)),
            ("dead", stock(1)),
            ("v2", stock()),
            ("v1", stock(6)),
        ],
    )
    assert (result.accepted, result.changed, result.enqueued) == (3, 1, 1)
    assert result.missing == ["nobody", "dead"]
    assert b.sink.take() == {"v1": Lane.LIVE}
    after = await b.snapshot()
    assert [row[3:7] for row in after.pop("inventory")] == [(True, 6, 0, True)]
    before.pop("inventory")
    assert after == before
    assert (await b.catalog.put_inventory("s", [("v1", stock(6))])).changed == 0
    assert b.sink.calls == []


async def test_inventory_has_its_own_clock(b: Bench) -> None:
    await b.catalog.put_product("s", product("p", variant("v1"), updated_at=T3))
    assert (await b.catalog.put_inventory("s", [("v1", stock(5, updated_at=T2))])).changed == 1
    stale = await b.catalog.put_inventory("s", [("v1", stock(4, updated_at=T1))])
    assert (stale.accepted, stale.changed, stale.stale) == (1, 0, ["v1"])
    assert (await b.catalog.put_inventory("s", [("v1", stock(4, updated_at=T2))])).changed == 1
    assert (await b.catalog.put_inventory("s", [("v1", stock(3))])).changed == 1
    assert await b.rows("SELECT quantity_on_hand, source_updated_at FROM inventory") == [(3, T2)]


async def test_stores_share_ids_without_seeing_each_other(b: Bench) -> None:
    await b.catalog.put_product("s", product("p", variant("v1", 1, inventory=stock(1))))
    await b.catalog.put_product("t", product("p", variant("v1", 2), title="Other"))
    assert (await b.catalog.get_product("s", "p")).product.variants[0].price == 1
    assert (await b.catalog.put_inventory("t", [("v1", stock(9))])).changed == 1
    await b.catalog.delete_product("t", "p")
    assert (await b.catalog.get_product("s", "p")).product.variants[0].inventory == stock(
        1, track_inventory=True, reserved_quantity=0, allow_backorder=False
    )
    with pytest.raises(NotFoundError):
        await b.catalog.delete_product("u", "p")
    assert {store for store, _ in b.sink.calls} == {"s", "t"}


async def test_pages_by_number_and_by_id_agree(b: Bench) -> None:
    await b.catalog.put_products(
        "s", [product(f"p{number}", variant(f"v{number}"), source="abc"[number % 3]) for number in range(7)]
    )
    first = await b.catalog.list_products("s", limit=3)
    assert ([one.product.id for one in first.products], first.total, first.next_after) == (
        ["p0", "p1", "p2"],
        7,
        "p2",
    )
    by_id = await b.catalog.list_products("s", limit=3, after="p2")
    by_number = await b.catalog.list_products("s", limit=3, page=2)
    assert by_id.products == by_number.products
    assert (await b.catalog.list_products("s", limit=3, after="p5")).next_after is None
    assert [one.product.id for one in (await b.catalog.list_products("s", source="b")).products] == [
        "p1",
        "p4",
    ]
    with pytest.raises(ValidationFailedError):
        await b.catalog.list_products("s", page=10_001, limit=1)
