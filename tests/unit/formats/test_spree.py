from __future__ import annotations

import pytest

from meta_sync.catalog.ingest.formats.spree_survey import RowFacts
from meta_sync.catalog.ingest.rows import FileRefusedError
from meta_sync.catalog.models import InventoryInput, ProductInput
from tests.unit.formats.reading import SAMPLES, Outcome, parse, parse_sample

HEADER = "slug,sku,name,price,compare_at_price,currency,option1_name,option1_value,inventory_count"


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return parse_sample("spree.csv")


def test_the_row_with_the_name_is_the_product(outcome: Outcome) -> None:
    [parent] = outcome.parents
    assert (parent.row, parent.product) == (
        1,
        ProductInput(
            id="garden-chair",
            title="Garden & Patio Chair",
            description="<p>Folds.</p>\nTwo lines",
            slug="garden-chair",
            brand="Oakworks",
            vendor="Yard Ltd",
            thumbnail="https://img.example/chair.webp",
            images=["https://img.example/chair2.webp"],
            categories=["Outdoor", "Chairs", "Folding"],
            source="spree-csv",
        ),
    )


def test_variants_continue_the_product_of_their_slug(outcome: Outcome) -> None:
    red, blue = outcome.variants["GC-RED"], outcome.variants["GC-BLUE"]
    assert (red.price, red.special_price, blue.price, blue.special_price) == (9900, 7950, 7950, None)
    assert (red.sku, red.thumbnail, red.options) == (
        "GC-RED",
        "https://img.example/red.webp",
        {"Colour": "Red", "Size": "L"},
    )
    assert red.inventory == InventoryInput(track_inventory=True, quantity_on_hand=12, allow_backorder=False)
    assert blue.inventory == InventoryInput(track_inventory=True, quantity_on_hand=0, allow_backorder=True)
    assert outcome.products["GC-RED"] == ProductInput(id="garden-chair", source="spree-csv")
    assert outcome.items[0].product_is_partial


def test_a_variant_without_a_sku_is_known_by_its_options(outcome: Outcome) -> None:
    green = outcome.variants["garden-chair__Green~Grey__M"]
    assert (green.sku, green.price, green.special_price) == (None, 6500, None)  # 60 is no higher old price
    assert green.inventory == InventoryInput(track_inventory=True, quantity_on_hand=3)


def test_a_product_without_options_is_an_item(outcome: Outcome) -> None:
    parasol, product = outcome.variants["PA-1"], outcome.products["PA-1"]
    assert (product.id, product.status, product.brand) == ("parasol", "draft", "Shade")
    assert parasol.inventory == InventoryInput(track_inventory=False, allow_backorder=True)
    assert (parasol.price, parasol.options) == (4990, {})


def test_what_fails_is_counted_once_each(outcome: Outcome) -> None:
    assert [(failure.row, failure.field, failure.rule, failure.item_id) for failure in outcome.failures] == [
        (7, "currency", "wrong_currency", "lamp"),
        (10, "sku", "repeated_id", "MAT-2"),
        (11, "sku", "missing_parent", "NONE-1"),
        (12, "slug", "missing_id", "X-1"),
        (13, "price", "unreadable", "VA"),
        (14, "status", "unreadable", "UR"),
        (16, "row", "ragged_row", None),
    ]
    assert [(warning.row, warning.rule) for warning in outcome.warnings] == [(15, "repeated_price")]


def test_a_price_row_may_stand_before_what_describes_the_item(outcome: Outcome) -> None:
    assert [item.row for item in outcome.items if item.variant.id == "MAT-2"] == [9]
    in_euros = parse((SAMPLES / "spree.csv").read_bytes(), currency="EUR")
    mat, red, lamp = (in_euros.variants[name] for name in ("MAT-2", "GC-RED", "lamp"))
    assert (mat.price, mat.options) == (900, {"Pattern": "Dots"})
    assert (red.price, red.special_price, red.options) == (8900, 6900, {"Colour": "Red", "Size": "L"})
    assert lamp.price == 1200
    assert [item.row for item in in_euros.items] == [2, 7, 9]


@pytest.mark.parametrize("currency", ["USD", "EUR"])
@pytest.mark.parametrize("is_first", [True, False])
def test_the_price_is_the_stores_whichever_row_comes_first(currency: str, *, is_first: bool) -> None:
    described = ["cup,,Cup,0,,USD,,,", "cup,CUP-S,,10,,USD,Size,S,4", "cup,CUP-M,,11,,USD,Size,M,4"]
    priced = ["cup,CUP-S,,9,12,EUR,,,", "cup,CUP-M,,8,,EUR,,,"]
    lines = [HEADER, *(priced + described if is_first else described + priced)]
    outcome = parse("\n".join(lines) + "\n", currency=currency)
    assert {name: (item.price, item.special_price) for name, item in outcome.variants.items()} == (
        {"CUP-S": (1000, None), "CUP-M": (1100, None)}
        if currency == "USD"
        else {"CUP-S": (1200, 900), "CUP-M": (800, None)}
    )
    assert len(outcome.rows) == 3
    assert all(item.options and item.inventory for item in outcome.variants.values())


def test_a_row_repeated_whole_in_another_currency_is_the_same_item() -> None:
    lines = [HEADER, "cup,CUP-S,Cup,10,,USD,Size,S,4", "cup,CUP-S,Cup,9,,EUR,Size,S,4"]
    for currency, price in (("USD", 1000), ("EUR", 900)):
        outcome = parse("\n".join(lines) + "\n", currency=currency)
        assert [(item.row, item.variant.price) for item in outcome.items] == [(1, price)]
        assert len(outcome.rows) == 1


def test_a_file_without_currencies_says_so_once() -> None:
    outcome = parse(
        "slug,sku,name,price,compare_at_price,option1_name,option1_value,inventory_count\n"
        "cup,C1,Cup,10,,,,4\nmug,M1,Mug,5,,,,2\n"
    )
    assert [item.variant.price for item in outcome.items] == [1000, 500]
    assert [warning.row for warning in outcome.warnings] == [0]


def test_the_second_reading_is_the_same() -> None:
    assert parse_sample("spree.csv").rows == parse_sample("spree.csv").rows


def test_translations_are_refused_as_what_they_are() -> None:
    data = "slug,locale,name,description,meta_title\ncup,de,Tasse,Eine Tasse,\n"
    for format_name in (None, "spree-csv"):
        with pytest.raises(FileRefusedError, match="translations of texts, not products"):
            parse(data, format_name)


def test_long_names_are_kept_short_in_the_survey() -> None:
    first, second = (RowFacts("slug", "S" * 5_000 + end, "", (), "USD", "1") for end in "ab")
    assert first.key() != second.key()
    assert len(first.key()) < 100
