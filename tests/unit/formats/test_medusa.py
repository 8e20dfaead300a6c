from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, cast

import pytest

from meta_sync.catalog.ingest.detect import FORMATS
from meta_sync.catalog.ingest.formats.medusa_columns import MedusaColumns, meaning_of
from meta_sync.catalog.ingest.rows import FileRefusedError, FormatContext, ImportedVariant
from meta_sync.catalog.models import InventoryInput, ProductInput
from tests.unit.formats.reading import SAMPLES, Outcome, parse, parse_sample, table
from tests.unit.formats.test_memory import GeneratedFile

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "stores" / "medusa"
needs_real_files = [
    pytest.mark.shared,
    pytest.mark.skipif(not REAL.is_dir(), reason="the folder shared/data is not beside the project"),
]


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return parse_sample("medusa.csv")


def test_a_row_is_a_variant_with_its_product(outcome: Outcome) -> None:
    variant, product = outcome.variants["variant_01"], outcome.products["variant_01"]
    assert product == ProductInput(
        id="prod_01",
        title="Kettle",
        description="Boils\nwater",
        slug="kettle",
        thumbnail="kettle-front.png",
        images=["kettle-back.png"],
        source="medusa-csv",
    )
    assert (variant.price, variant.sku, variant.ean) == (2000, "K-1", "4006381333931")
    assert variant.options == {"Size": "1 l", "Colour": "blue", "material": "steel"}
    assert variant.inventory is None


def test_a_new_variant_is_named_by_handle_and_options_and_finds_its_product(outcome: Outcome) -> None:
    first = outcome.items[0]
    assert (first.row, first.variant.id, first.product.id) == (1, "kettle__1_l__red", "prod_01")
    text = (SAMPLES / "medusa.csv").read_text("utf-8")
    filled_in = parse(
        text.replace(";;;true;false;;;Size;1 l;", ";NEW;;true;false;;;Size;1 l;"), currency="EUR"
    )
    assert list(filled_in.variants) == list(outcome.variants)


def test_the_price_of_a_region_counts_only_where_there_is_no_plain_one(outcome: Outcome) -> None:
    assert outcome.variants["kettle__1_l__red"].price == 1950
    assert outcome.variants["variant_02"].price == 2900  # Africa goes before Asia, wherever its column stands
    assert [(warning.row, warning.field, warning.rule) for warning in outcome.warnings] == [
        (0, "Variant Inventory Quantity", "no_stock"),
        (0, "Variant Price Africa [EUR]", "region_price"),
    ]


def test_what_is_left_out_and_what_fails(outcome: Outcome) -> None:
    assert [(skip.row, skip.item_id, skip.field, skip.rule) for skip in outcome.skips] == [
        (5, "variant_04", "Variant Deleted At", "deleted"),
        (6, "variant_05", "Product Is Giftcard", "not_sold_alone"),
    ]
    assert [
        (failure.row, failure.field, failure.item_id, failure.rule, failure.value)
        for failure in outcome.failures
    ] == [
        (4, "Variant Price USD", "variant_03", "wrong_currency", "33"),
        (8, "Product Status", "variant_07", "unreadable", "for sale"),
        (9, "Product Handle", None, "missing_id", None),
    ]
    assert len(outcome.items) + len(outcome.skips) + len(outcome.failures) == 9


def test_a_product_without_options_that_waits_for_approval(outcome: Outcome) -> None:
    lid = outcome.variants["variant_06"]
    assert (lid.options, lid.inventory) == ({}, InventoryInput(track_inventory=False))
    assert outcome.products["variant_06"].status == "draft"


def test_the_template_of_the_first_version() -> None:
    outcome = parse_sample("medusa_v1.csv")
    large, small = outcome.items
    assert large.product == ProductInput(
        id="rug",
        title="Rug",
        subtitle="Wool",
        description="Soft.\nWarm.",
        slug="rug",
        thumbnail="https://img.rugs.example/1.jpg",
        images=["https://img.rugs.example/2.jpg"],
        categories=["Rugs"],
        source="medusa-csv",
    )
    assert (large.variant.id, large.variant.sku, large.variant.barcode) == ("rug__Large", "R-1", "12345")
    assert (large.variant.price, large.variant.options) == (8000, {"Size": "Large"})
    assert large.variant.inventory == InventoryInput(True, 3, allow_backorder=True)
    assert (small.variant.id, small.variant.price, small.product.status) == ("rug__Small", None, "draft")
    assert small.product.categories == ["Floors"]
    assert [(warning.row, warning.rule) for warning in outcome.warnings] == [
        (0, "region_price"),
        (2, "no_price"),
    ]


def test_the_order_of_the_columns_decides_nothing() -> None:
    lines = [
        line.split(";")
        for line in (SAMPLES / "medusa.csv").read_text("utf-8").splitlines()
        if '"' not in line
    ]
    columns = [column for column in zip(*(line for line in lines if len(line) == len(lines[0])), strict=True)]
    forwards, backwards = (
        parse(table(*zip(*columns[::step], strict=True), delimiter=";"), currency="EUR") for step in (1, -1)
    )
    assert forwards.variants == backwards.variants
    assert [row.row for row in forwards.rows] == [row.row for row in backwards.rows]


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("Variant Price EUR", "price/EUR"),
        ("Price eur", "price/EUR"),
        ("Variant Price Test Region [USD]", "price/USD/Test Region"),
        ("Price EUR zone [usd]", "price/USD/EUR zone"),
        ("Variant Price list", None),
        ("Variant Option 1 Name", "option_1_name"),
        ("Option 12 Value", "option_12_value"),
        ("Product Image 2", "image_2"),
        ("Image 2 Url", "image_2"),
        ("Product Category 1", "category_1"),
        ("Product Category 1 Handle", None),
        ("Product field", None),
    ],
)
def test_columns(name: str, meaning: str | None) -> None:
    assert meaning_of(name) == meaning


def test_the_header_tells_it_from_other_tables() -> None:
    assert MedusaColumns(["Product Id", "Product Handle", "Product Title", "Price"], "EUR").is_export
    assert not MedusaColumns(["Product Id", "Product Title", "Variant Price EUR"], "EUR").is_export
    with pytest.raises(FileRefusedError, match="read as medusa-csv and needs"):
        parse("Product Id,Product Handle\n1,mug\n", "medusa-csv")


def test_a_ragged_row_fails_alone() -> None:
    outcome = parse("Product Handle,Product Title,Price EUR\nmug,Mug,5\ncup,Cup\njug,Jug,7\n", currency="EUR")
    assert list(outcome.variants) == ["mug", "jug"]
    assert [(failure.row, failure.rule) for failure in outcome.failures] == [(2, "ragged_row")]


# --- the platform's own fixtures ----------------------------------------------------------------------------------


def _real(name: str, currency: str) -> Outcome:
    return parse((REAL / name).read_bytes(), currency=currency)


class TestFixtures:
    pytestmark = needs_real_files

    def test_comma_and_semicolon_say_the_same(self) -> None:
        comma = _real("exported-products-comma.csv", "EUR")
        assert comma.rows == _real("exported-products-semicolon.csv", "EUR").rows
        assert [item.variant.price for item in comma.items] == [4500, 6500, 4500]

    @pytest.mark.parametrize("name", ["invalid-column.csv", "unrelated-column.csv"])
    def test_a_column_that_is_not_known_is_no_fault(self, name: str) -> None:
        """The platform refuses "Product field", because it begins like one of its own; nothing is lost by reading on."""
        [item] = _real(name, "DKK").items
        assert (item.variant.price, item.product.status) == (3000, "draft")

    def test_a_price_for_a_region_that_does_not_exist(self) -> None:
        """The platform refuses the region; here a region's price is only asked for where there is no plain one."""
        assert [item.variant.price for item in _real("invalid-prices.csv", "EUR").items] == [4500]
        assert [item.variant.price for item in _real("invalid-prices.csv", "USD").items] == [10_000]
        [failure] = _real("invalid-prices.csv", "DKK").failures
        assert (failure.rule, failure.field) == ("wrong_currency", "Variant Price EUR")

    def test_the_plain_price_goes_before_the_regions(self) -> None:
        assert [item.variant.price for item in _real("prices-with-region.csv", "USD").items] == [10_000]
        assert not _real("prices-with-region.csv", "EUR").items

    def test_categories_that_are_only_ids_are_left_out(self) -> None:
        items = _real("product-with-categories.csv", "EUR").items
        assert [item.product.categories for item in items] == [[], []]

    def test_the_template(self) -> None:
        outcome = _real("v1-template.csv", "USD")
        assert [item.variant.price for item in outcome.items] == [110, 110, 110, 120, None]
        assert outcome.items[-1].variant.id == "existing-variant-id"
        assert [item.product.id for item in outcome.items][1:3] == [
            "test-product-product-1-1",
            "existing-product-id",
        ]
        assert outcome.variants["test-product-product-2__Small"].sku == "test-sku-2"


def test_a_long_file_is_read_row_by_row() -> None:
    file = GeneratedFile(b"Product Id,Product Handle,Product Title,Price EUR\n", b"i@,h@,Title @,@\n", 3_000)
    rows = FORMATS["medusa-csv"].parse(cast("BinaryIO", file), FormatContext("EUR"))
    first = next(rows)
    assert isinstance(first, ImportedVariant)
    assert (first.variant.id, first.product.id) == ("h0", "i0")
    assert sum(1 for _ in rows) == 2_999
