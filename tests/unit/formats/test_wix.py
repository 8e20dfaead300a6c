from __future__ import annotations

import pytest

from meta_sync.catalog.ingest.detect import FORMATS
from meta_sync.catalog.ingest.formats import wix_csv
from meta_sync.catalog.ingest.formats.wix_cells import option_value, pictures
from meta_sync.catalog.ingest.rows import FileRefusedError, ImportedParent, ImportedVariant
from meta_sync.catalog.models import InventoryInput, ProductInput
from tests.unit.formats.reading import Outcome, parse, parse_sample

MEDIA = "https://static.wixstatic.com/media/"
UNCOUNTED = InventoryInput(track_inventory=False)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return parse_sample("wix.csv")


@pytest.fixture(scope="module")
def newer() -> Outcome:
    return parse_sample("wix_new.csv")


def test_a_product_with_variants_is_a_parent(outcome: Outcome) -> None:
    parent = outcome.parents[0]
    assert (parent.row, parent.product) == (
        1,
        ProductInput(
            id="product_aa01",
            title="Felt & Wool Slippers",
            description="<p>Warm.</p>\n<p>Soft.</p>",
            thumbnail=f"{MEDIA}ab12cd_0123456789abcdef0123456789abcdef~mv2.jpg",
            images=["https://img.example/b.jpg", "own/c.jpg"],
            categories=["Winter"],
            source="wix-csv",
        ),
    )


def test_a_variant_costs_the_price_and_its_surcharge_less_the_discount(outcome: Outcome) -> None:
    white, black, cheaper = outcome.items[:3]
    assert (white.variant.price, white.variant.special_price) == (2000, 1750)
    assert (black.variant.price, black.variant.special_price) == (2249, 1968)  # 19.67875
    assert (cheaper.variant.price, cheaper.variant.special_price) == (1850, 1619)  # 16.1875
    assert white.product == ProductInput(id="product_aa01", source="wix-csv")
    assert white.product_is_partial


def test_variants_have_ids_of_their_options(outcome: Outcome) -> None:
    white, black, cheaper = (item.variant for item in outcome.items[:3])
    assert white.id == "product_aa01__white__38-39"
    assert white.options == {"Colour": "white", "Size": "38-39"}
    assert black.id == "product_aa01__black__40~41"
    assert cheaper.id == "product_aa01__white__40~41"
    assert [item.row for item in outcome.items[:3]] == [2, 3, 4]


def test_stock_is_counted_only_where_there_is_a_number(outcome: Outcome) -> None:
    white, black = outcome.items[0].variant, outcome.items[1].variant
    assert (white.availability, white.inventory, white.sku) == ("in stock", UNCOUNTED, "SL-W38")
    assert black.availability is None
    assert black.inventory == InventoryInput(track_inventory=True, quantity_on_hand=7, allow_backorder=False)
    cord = outcome.variants["product_cc03"]
    assert (cord.availability, cord.inventory) == ("out of stock", UNCOUNTED)


def test_a_variant_that_is_switched_off_cannot_be_bought(outcome: Outcome) -> None:
    off = outcome.items[2].variant
    assert (off.availability, off.inventory) == ("out of stock", UNCOUNTED)
    [warning] = [warning for warning in outcome.warnings if warning.rule == "switched_off"]
    assert (warning.row, warning.field, warning.item_id) == (4, "visible", off.id)


def test_a_product_without_variants_is_an_item(outcome: Outcome) -> None:
    lamp, product = outcome.variants["product_bb02"], outcome.products["product_bb02"]
    assert (lamp.price, lamp.special_price, lamp.sku) == (999, 799, "L1")
    assert (product.visibility, product.status, product.brand, product.slug) == (
        "private",
        "active",
        "Glow",
        None,
    )
    assert lamp.inventory == InventoryInput(track_inventory=True, quantity_on_hand=0, allow_backorder=False)


def test_a_discount_as_high_as_the_price_is_left_out(outcome: Outcome) -> None:
    cord = outcome.variants["product_cc03"]
    assert (cord.price, cord.special_price) == (334, None)
    assert any(warning.rule == "discount_too_high" for warning in outcome.warnings)


def test_a_discount_of_a_kind_that_is_not_known_is_left_out() -> None:
    header = "handleId,fieldType,name,price,visible,discountMode,discountValue"
    outcome = parse(f"{header}\np,Product,P,10,true,VOUCHER,5\n")
    assert (outcome.items[0].variant.price, outcome.items[0].variant.special_price) == (1000, None)
    assert [(one.field, one.rule, one.value) for one in outcome.warnings] == [
        ("discountMode", "unknown_discount", "voucher")
    ]


def test_what_fails_and_what_is_left_out(outcome: Outcome) -> None:
    assert [(failure.row, failure.field, failure.rule) for failure in outcome.failures] == [
        (5, "surcharge", "unreadable"),
        (9, "price", "unreadable"),  # the variant of a product whose price cannot be read
        (10, "fieldType", "missing_parent"),
        (11, "visible", "unreadable"),
        (12, "fieldType", "unknown_type"),  # the product or any variant of it
        (13, "row", "ragged_row"),
    ]
    assert [failure.item_id for failure in outcome.failures[2:]] == [
        "product_ee05__S",
        "product_ff06",
        None,
        None,
    ]
    assert not outcome.skips
    assert len(outcome.items) + len(outcome.failures) + len(outcome.skips) == 11


def test_variants_of_a_product_that_cannot_be_read_fail_and_it_is_counted_no_second_time() -> None:
    header = "handleId,fieldType,name,price,surcharge,visible,productOptionName1,productOptionDescription1"
    outcome = parse(f"{header}\np,Product,P,1,,maybe,Size,\np,Variant,,,1,true,,S\nq,Product,Q,1,,true,,\n")
    assert [(failure.row, failure.field, failure.value) for failure in outcome.failures] == [
        (2, "visible", "maybe")
    ]
    assert [(warning.row, warning.field) for warning in outcome.warnings] == [(1, "visible")]
    assert list(outcome.variants) == ["q"]


def test_the_newer_export_has_rows_of_pictures_behind_the_variants(newer: Outcome) -> None:
    [parent] = newer.parents
    assert parent.product.thumbnail == f"{MEDIA}ab12cd_ffffffffffffffffffffffffffffffff~mv2.png"
    assert parent.product.images == ["https://img.example/back.jpg"]
    assert (parent.product.slug, parent.product.brand) == ("rain-coat", "Nimbus")
    assert newer.products["mug"].images == ["https://img.example/mug2.jpg"]
    assert [(warning.row, warning.rule) for warning in newer.warnings] == [(8, "missing_parent")]
    assert not newer.failures


def test_a_row_without_a_handle_names_the_column_as_the_file_does() -> None:
    outcome = parse("handle,fieldType,name,price\n,PRODUCT,Mug,5\nmug,PRODUCT,Mug,5\n")
    assert [(failure.row, failure.field, failure.rule) for failure in outcome.failures] == [
        (1, "handle", "missing_id")
    ]
    assert list(outcome.variants) == ["mug"]


def test_the_newer_export_has_a_struck_through_price_per_row(newer: Outcome) -> None:
    small, medium, mug = (newer.variants[name] for name in ("rain-coat__S", "rain-coat__M", "mug"))
    assert (small.price, small.special_price, small.ean) == (6000, 4950, "4006381333931")
    assert (medium.price, medium.special_price, medium.availability) == (6000, None, "preorder")
    assert (mug.price, mug.special_price) == (800, None)  # what is struck through is not higher


def test_a_product_of_very_many_variants_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wix_csv, "_MOST_HELD_ROWS", 3)
    lines = ["handleId,fieldType,name,price,surcharge,productOptionName1,productOptionDescription1"]
    lines += ["p,Product,P,1,,Size,", *(f"p,Variant,,,{n},,{n}" for n in range(8)), "q,Product,Q,1,,,"]
    rows = parse("\n".join(lines)).rows
    assert [type(row) for row in rows] == [ImportedParent, *[ImportedVariant] * 9]
    assert [row.row for row in rows] == list(range(1, 11))
    assert isinstance(rows[8], ImportedVariant)
    assert rows[8].variant.price == 800


def test_the_second_reading_is_the_same() -> None:
    assert parse_sample("wix.csv").rows == parse_sample("wix.csv").rows


def test_another_table_is_refused_when_the_format_is_asked_for() -> None:
    with pytest.raises(FileRefusedError):
        parse("id,title,price\n1,Mug,1 USD\n", "wix-csv")
    assert FORMATS["wix-csv"].recognises(b"handle,fieldType,name\n", None) == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("#fff:white", "white"),
        ("rgb(1, 2, 3):deep blue", "deep blue"),
        ("Ratio 1:2", "Ratio 1:2"),
        ("#fff", "#fff"),
        ("#fff:", "#fff:"),
    ],
)
def test_the_code_of_a_colour_is_not_its_name(text: str, shown: str) -> None:
    assert option_value(text) == shown


def test_only_names_of_wixs_own_media_are_completed() -> None:
    older = "ab12cd_0123456789abcdef0123456789abcdef.gif"
    sized = "ab12cd_0123456789abcdef0123456789abcdef~mv2_d_1920_1080_s_2.jpg"
    assert pictures([f"{older};{sized};a.jpg", "https://img.example/a,b.jpg"]) == [
        MEDIA + older,
        MEDIA + sized,
        "a.jpg",
        "https://img.example/a,b.jpg",
    ]
