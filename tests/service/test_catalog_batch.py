"""What is refused, by which name, and that the rest of a batch goes in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from meta_sync.catalog.ingest.batch import RejectedProduct, put_batch
from meta_sync.catalog.models import InventoryInput, ProductInput
from meta_sync.catalog.validation import validate_product, validate_products
from meta_sync.core.db import Database
from meta_sync.core.errors import ValidationFailedError
from tests.support.catalog import NOW, Bench, bench, product, stock, variant

HUGE = 2**63


@pytest.fixture
def b(database: Database) -> Bench:
    return bench(database)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (product(""), "id"),
        (product("x" * 201), "id"),
        (product("a\nb"), "id"),
        (product("a\x85b"), "id"),
        (product("a\x00", title=None), "id"),
        (product("a\ud800", title=None), "id"),
        (product("p", title="a\x00"), "title"),
        (product("p", description="\udfff"), "description"),
        (product("p", google_product_category="\x00"), "googleProductCategory"),
        (product("p", images=["ok", "\x00"]), "images[1]"),
        (product("p", categories=["\ud800"]), "categories[0]"),
        (product("p", source=""), "source"),
        (product("p", status="gone"), "status"),
        (product("p", visibility="secret"), "visibility"),
        (product("p", updated_at=NOW + timedelta(minutes=11)), "updatedAt"),
        (product("p", updated_at=datetime(2026, 1, 1)), "updatedAt"),
        (product("p", updated_at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))), "updatedAt"),
        (product("p", variant("v", -1)), "variants[0].price"),
        (product("p", variant("a"), variant("b", HUGE)), "variants[1].price"),
        (product("p", variant("v", special_price=HUGE)), "variants[0].specialPrice"),
        (product("p", variant("v", special_price_end=datetime(2026, 1, 1))), "variants[0].specialPriceEnd"),
        (product("p", variant("v", availability="in_stock")), "variants[0].availability"),
        (product("p", variant("v", sku="\x00")), "variants[0].sku"),
        (product("p", variant("v", images=["\x00"])), "variants[0].images[0]"),
        (product("p", variant("v", options={"a": "\x00"})), "variants[0].options"),
        (product("p", variant("v", options={"\ud800": "a"})), "variants[0].options"),
        (product("p", variant("v", inventory=stock(-1))), "variants[0].inventory.quantityOnHand"),
        (
            product("p", variant("v", inventory=stock(reserved_quantity=HUGE))),
            "variants[0].inventory.reservedQuantity",
        ),
        (
            product("p", variant("v", inventory=stock(1, updated_at=NOW + timedelta(minutes=11)))),
            "variants[0].inventory.updatedAt",
        ),
        (product("p", variant("\t")), "variants[0].id"),
        (product("p", variant("a"), variant("b"), variant("a")), "variants[2].id"),
        (product("p", *(variant(str(number)) for number in range(2001))), "variants"),
    ],
)
def test_what_cannot_be_stored_is_named(given: ProductInput, field: str) -> None:
    details = validate_product(given, now=NOW)
    assert [detail.field for detail in details] == [field]
    assert details[0].message


def test_the_edges_of_what_can_be_stored_pass() -> None:
    given = product(
        "é" * 200,
        *(variant(f"v {number}, 'x'; \u2028/%?#", HUGE - 1, inventory=stock(0)) for number in range(2000)),
        updated_at=NOW + timedelta(minutes=10),
        title="",
    )
    assert validate_product(given, now=NOW) == []
    assert validate_product(product("p", updated_at=datetime(9999, 1, 1, tzinfo=UTC))) == []


def test_a_variant_of_two_products_belongs_to_the_first_good_one() -> None:
    faults = validate_products(
        [
            product("bad", variant("v", -1)),
            product("p", variant("v")),
            product("q", variant("w"), variant("v")),
        ]
    )
    assert {index: [detail.field for detail in details] for index, details in faults.items()} == {
        0: ["variants[0].price"],
        2: ["variants[1].id"],
    }
    assert validate_products([product("p", variant("v")), product("p", variant("v"))]) == {}


async def test_good_rows_go_in_and_bad_ones_are_named(b: Bench) -> None:
    rows: list[Any] = [
        product("p", variant("v1"), variant("v2")),
        RejectedProduct(1, "x", "is not an object"),
        product("q", variant("w", -1)),
        product("r", variant("v1")),
        product("p", variant("v1", 7)),
    ]
    result = await put_batch(b.catalog, "s", rows)
    assert (result.accepted, result.changed, result.enqueued) == (2, 4, 1)
    assert [(row.index, row.product_id, row.error_code) for row in result.rejected] == [
        (1, "x", "VALIDATION_ERROR"),
        (2, "q", "VALIDATION_ERROR"),
        (3, "r", "VALIDATION_ERROR"),
    ]
    assert result.rejected[1].details[0].field == "variants[0].price"
    assert await b.rows("SELECT product_id FROM products ORDER BY 1") == [("p",)]
    again = await put_batch(b.catalog, "s", [rows[4]])
    assert (again.accepted, again.changed, again.enqueued, again.rejected) == (1, 0, 0, [])


async def test_the_strict_form_refuses_the_whole_batch_and_names_the_place(b: Bench) -> None:
    with pytest.raises(ValidationFailedError) as caught:
        await b.catalog.put_products("s", [product("p", variant("v")), product("q", variant("v"))])
    assert [detail.field for detail in caught.value.details] == ["products[1].variants[0].id"]
    assert await b.rows("SELECT 1 FROM products") == []


async def test_sizes_of_batches_are_limited(b: Bench) -> None:
    many = [product(f"p{number}") for number in range(1001)]
    for call in (b.catalog.put_products("s", many), put_batch(b.catalog, "s", many)):
        with pytest.raises(ValidationFailedError, match="at most 1,000 products"):
            await call
    assert (await put_batch(b.catalog, "s", many[:1000])).accepted == 1000
    with pytest.raises(ValidationFailedError, match="at most 5,000 items"):
        await b.catalog.put_inventory("s", [("v", InventoryInput())] * 5001)
    empty = await put_batch(b.catalog, "s", [])
    assert (empty.accepted, empty.rejected) == (0, [])


async def test_inventory_faults_name_the_item(b: Bench) -> None:
    with pytest.raises(ValidationFailedError) as caught:
        await b.catalog.put_inventory("s", [("v", stock(1)), ("", stock(HUGE))])
    assert [detail.field for detail in caught.value.details] == [
        "items[1].variantId",
        "items[1].quantityOnHand",
    ]
