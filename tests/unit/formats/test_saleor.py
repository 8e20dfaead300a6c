"""Saleor's data as a Django fixture."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from meta_sync.catalog.ingest.rows import FileRefusedError, ImportedParent, ImportedVariant
from meta_sync.catalog.models import InventoryInput, ProductInput
from tests.unit.formats.reading import SAMPLES, Outcome, parse, parse_sample


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return parse_sample("saleor.json")


def fixture(*objects: tuple[str, object, dict[str, Any]]) -> str:
    return json.dumps([{"model": model, "pk": pk, "fields": fields} for model, pk, fields in objects])


def a_variant(**fields: Any) -> list[tuple[str, object, dict[str, Any]]]:
    listing = {"variant": 1, "channel": 1, "currency": "USD", "price_amount": "5.00"}
    return [
        ("product.product", 9, {"name": "Mug", "slug": "mug", "category": None}),
        ("product.productvariant", 1, {"sku": "A", "product": 9, **fields}),
        ("product.productvariantchannellisting", 1, listing),
    ]


def test_a_product_is_no_item_and_has_what_others_say_of_it(outcome: Outcome) -> None:
    lamp, shade = outcome.parents
    assert lamp.product == ProductInput(
        id="50",
        title="Desk lamp",
        description="Bright\nWarm\n<b>Quiet</b>",
        slug="desk-lamp",
        brand="Lumen",
        thumbnail="products/lamp-1.png",
        images=["products/lamp-2.png"],
        categories=["Home", "Lamps"],
        source="saleor-json",
    )
    assert (shade.product.description, shade.product.visibility, shade.product.categories) == (
        "Paper",
        "private",
        [],
    )


def test_a_variant_is_an_item_with_the_price_of_the_stores_currency(outcome: Outcome) -> None:
    [item] = [item for item in outcome.items if item.variant.id == "501"]
    assert item.product_is_partial
    assert item.product == ProductInput(id="50", source="saleor-json")
    lamp = item.variant
    assert (lamp.sku, lamp.price, lamp.special_price) == ("LAMP-R", 2500, 2000)
    assert lamp.options == {"Finish": "Red/Matt"}
    assert lamp.inventory == InventoryInput(track_inventory=True, quantity_on_hand=12, reserved_quantity=1)
    assert (lamp.thumbnail, lamp.images) == ("products/lamp-1.png", [])


def test_another_currency_takes_the_other_channel() -> None:
    data = (SAMPLES / "saleor.json").read_bytes()
    outcome = parse(data, currency="USD")
    assert {item.variant.id: item.variant.price for item in outcome.items} == {"501": 3000, "502": 3100}
    assert all(item.variant.special_price is None for item in outcome.items)
    shade = next(parent.product for parent in outcome.parents if parent.product.id == "51")
    assert shade.visibility == "public"
    assert next(p.product.visibility for p in outcome.parents if p.product.id == "50") == "private"


def test_what_cannot_be_bought_and_what_is_not_counted(outcome: Outcome) -> None:
    assert outcome.variants["504"].availability == "out of stock"
    assert outcome.variants["504"].inventory == InventoryInput(track_inventory=False)
    outcome = parse(fixture(*a_variant(track_inventory=False)))
    assert (outcome.variants["1"].availability, outcome.variants["1"].inventory) == (
        None,
        InventoryInput(track_inventory=False),
    )
    assert parse(fixture(*a_variant(is_preorder=True))).variants["1"].availability == "preorder"


def test_without_any_stock_in_the_file_nothing_is_said_of_stock() -> None:
    assert parse(fixture(*a_variant(track_inventory=True))).variants["1"].inventory is None
    elsewhere = ("warehouse.stock", 1, {"product_variant": 2, "quantity": 3, "quantity_allocated": 0})
    counted = parse(fixture(*a_variant(track_inventory=True), elsewhere)).variants["1"].inventory
    assert counted == InventoryInput(track_inventory=True, quantity_on_hand=0, reserved_quantity=0)


def test_a_discounted_price_that_is_not_lower_is_none(outcome: Outcome) -> None:
    assert (outcome.variants["506"].price, outcome.variants["506"].special_price) == (800, None)


def test_what_is_left_out_and_what_fails(outcome: Outcome) -> None:
    assert [(skip.item_id, skip.rule) for skip in outcome.skips] == [
        ("503", "no_price"),
        (None, "not_an_item"),
    ]
    assert [
        (failure.item_id, failure.field, failure.rule, failure.value) for failure in outcome.failures
    ] == [
        ("502", "currency", "wrong_currency", "USD"),
        ("505", "price_amount", "unreadable", "cheap"),
        (None, "pk", "missing_id", None),
        ("507", "product", "missing_parent", None),
    ]


def test_the_order_of_the_objects_does_not_matter(outcome: Outcome) -> None:
    def found(outcome: Outcome) -> dict[str, object]:
        rows = [row for row in outcome.rows if isinstance(row, ImportedParent | ImportedVariant)]
        return {
            row.product.id if isinstance(row, ImportedParent) else f"item {row.variant.id}": (
                row.product if isinstance(row, ImportedParent) else row.variant
            )
            for row in rows
        }

    objects = json.loads((SAMPLES / "saleor.json").read_bytes())
    expected = found(outcome)
    for seed in range(5):
        # Values of one attribute keep their order in the file, which is the only order they have.
        first, second, *others = objects
        random.Random(seed).shuffle(others)
        assert found(parse(json.dumps([first, second, *others]), "saleor-json", currency="EUR")) == expected


def test_two_channels_of_one_currency_are_said() -> None:
    listing = {"variant": 1, "channel": 2, "currency": "USD", "price_amount": "6.00"}
    outcome = parse(fixture(*a_variant(), ("product.productvariantchannellisting", 2, listing)))
    assert outcome.variants["1"].price == 500
    assert [(warning.row, warning.rule) for warning in outcome.warnings] == [(0, "several_channels")]


def test_texts_that_cannot_be_stored_fail_their_row() -> None:
    assert [f.field for f in parse(fixture(*a_variant(sku="\ud800"))).failures] == ["sku"]
    assert [f.field for f in parse(fixture(*a_variant(sku="x" * 300)), cells=200).failures] == ["sku"]
    attribute: list[tuple[str, object, dict[str, Any]]] = [
        ("attribute.attribute", 1, {"name": "Nul\x00", "slug": "nul"}),
        ("attribute.attributevalue", 1, {"name": "Red", "attribute": 1}),
        ("attribute.assignedvariantattribute", 1, {"variant": 1}),
        ("attribute.assignedvariantattributevalue", 1, {"assignment": 1, "value": 1}),
    ]
    assert [f.field for f in parse(fixture(*a_variant(), *attribute)).failures] == ["attribute"]


def test_stock_of_very_many_warehouses_is_cut_with_a_word() -> None:
    stock = {"product_variant": 1, "quantity": 1, "quantity_allocated": 0}

    def counted(warehouses: int) -> Outcome:
        stocks = [("warehouse.stock", number, stock) for number in range(warehouses)]
        return parse(fixture(*a_variant(track_inventory=True), *stocks))

    for warehouses in (1, 2, 3, 7, 2_000):
        outcome = counted(warehouses)
        inventory = outcome.variants["1"].inventory
        assert (inventory and inventory.quantity_on_hand, outcome.warnings) == (warehouses, [])
    assert [warning.rule for warning in counted(2_001).warnings] == ["too_many"]


def test_a_number_is_money_too_and_exact() -> None:
    text = fixture(*a_variant()).replace('"5.00"', "5.10")
    assert parse(text).variants["1"].price == 510


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('[{"model": "product.product", "pk": 1, "fields": {}}]', "without product variants"),
        ('[{"model": "product.product", "pk": 1, "fields": {}}, 5]', "Element 2"),
        ('[{"model": "product.product", "pk": 1, "fields": {}}', "line 1, column"),
        ('[{"pk": 1, "model": "channel.channel"}]', "Element 1"),
    ],
)
def test_other_and_broken_files_are_refused_whole(data: str, words: str) -> None:
    with pytest.raises(FileRefusedError, match=words):
        parse(data, "saleor-json")


def test_another_file_is_refused_when_this_format_is_asked_for() -> None:
    for data in ('[{"id": 1, "title": "Mug"}]', "id,title\n1,Mug\n", "<rss/>"):
        with pytest.raises(FileRefusedError):
            parse(data, "saleor-json")
