from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from meta_sync.catalog.ingest.detect import detect
from meta_sync.catalog.ingest.formats.magento_cells import read_date
from meta_sync.catalog.ingest.formats.magento_columns import pairs, path_titles, variations
from meta_sync.catalog.ingest.rows import FileRefusedError
from meta_sync.catalog.ingest.values import UnreadableValueError
from meta_sync.catalog.models import InventoryInput, ProductInput
from tests.unit.formats.reading import Outcome, parse, parse_sample, table

HEADER = ("sku", "store_view_code", "product_type", "name", "price", "visibility", "configurable_variations")


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return parse_sample("magento.csv", timezone="Europe/Berlin")


def test_a_configurable_product_is_a_parent(outcome: Outcome) -> None:
    tent, second = outcome.parents
    assert (tent.row, tent.product) == (
        3,
        ProductInput(
            id="TENT",
            title="Dome tent & fly",
            subtitle="Light",
            description="<p>Keeps dry.\nReally.</p>",
            slug="dome-tent",
            brand="Halden",
            thumbnail="/t/e/tent.jpg",
            images=["/t/e/tent-2.jpg"],
            categories=["Camping", "Tents"],
            source="magento-csv",
        ),
    )
    assert (second.product.id, second.product.status) == ("TENT2", "draft")


def test_its_variations_are_variants_with_their_options_though_they_stand_above_it(outcome: Outcome) -> None:
    small = outcome.items[0]
    assert small.product_is_partial
    assert small.product == ProductInput(id="TENT", source="magento-csv")
    assert small.variant.options == {"color": "Moss", "Persons": "2"}
    assert (small.variant.price, small.variant.special_price) == (19900, 14900)
    assert small.variant.special_price_start == datetime(2024, 4, 30, 22, 0, tzinfo=UTC)
    assert small.variant.special_price_end == datetime(2024, 5, 31, 21, 59, tzinfo=UTC)
    assert (small.variant.thumbnail, small.variant.images) == ("/t/e/tent-s.jpg", ["/t/e/tent-s-inside.jpg"])
    assert small.variant.inventory == InventoryInput(track_inventory=True, quantity_on_hand=12)


def test_a_variation_is_named_without_regard_to_case_and_may_be_switched_off(outcome: Outcome) -> None:
    large = outcome.items[1]
    assert (large.variant.id, large.product.id) == ("TENT-L", "TENT")
    assert (large.variant.availability, large.variant.thumbnail) == ("out of stock", None)
    assert any(
        "switched off" in warning.message for warning in outcome.warnings if warning.item_id == "TENT-L"
    )


def test_variations_that_come_to_nothing_are_said(outcome: Outcome) -> None:
    found = {warning.rule: warning for warning in outcome.warnings}
    assert '"TENT-XL"' in found["missing_variations"].message
    assert (found["shared_variations"].item_id, found["shared_variations"].row) == ("TENT2", 16)


def test_rows_of_further_store_views_are_no_items(outcome: Outcome) -> None:
    assert not {4, 5} & {row.row for row in outcome.rows}
    titles = [parent.product.title for parent in outcome.parents]
    assert titles == ["Dome tent & fly", "Second tent"]


def test_a_file_of_one_store_view_has_items_all_the_same() -> None:
    rows = (("A", "fr", "simple", "Un", "1", "", ""), ("A", "de", "simple", "Eins", "2", "", ""))
    outcome = parse(table(HEADER, *rows))
    assert [(item.row, item.product.title) for item in outcome.items] == [(1, "Un")]
    assert len(outcome.rows) == 1


def test_a_product_that_nothing_names_is_its_own(outcome: Outcome) -> None:
    mug, product = outcome.variants["MUG"], outcome.products["MUG"]
    assert (product.id, product.slug, product.categories) == ("MUG", "enamel-mug", ["Kitchen / Bar", "Mugs"])
    assert (product.visibility, product.thumbnail) == ("public", "https://shop.example/m/mug.jpg")
    assert mug.options == {"color": "Blue, white", "material": "Steel/Enamel"}
    assert (mug.price, mug.special_price, mug.ean) == (1250, 1000, "4006381333931")
    assert mug.special_price_start == datetime(2024, 6, 12, 22, 0, tzinfo=UTC)
    assert mug.special_price_end == datetime(2024, 6, 30, 21, 59, tzinfo=UTC)


def test_stock_follows_the_shops_own_thresholds(outcome: Outcome) -> None:
    assert outcome.variants["MUG"].inventory == InventoryInput(
        track_inventory=True, quantity_on_hand=0, allow_backorder=True
    )  # five pieces are kept back
    assert outcome.variants["MAP"].availability == "in stock"
    assert outcome.variants["MAP"].inventory == InventoryInput(track_inventory=False)
    guide = outcome.variants["GUIDE"]
    assert guide.availability == "out of stock"
    assert guide.inventory == InventoryInput(track_inventory=True, quantity_on_hand=0, allow_backorder=True)


def test_what_is_not_visible_individually_and_in_no_family_is_private(outcome: Outcome) -> None:
    assert outcome.products["POLE"].visibility == "private"
    assert outcome.products["GUIDE"].visibility == "public"


def test_what_is_left_out_and_what_fails(outcome: Outcome) -> None:
    assert [(skip.item_id, skip.rule) for skip in outcome.skips] == [
        ("KIT", "not_sold_alone"),
        ("SET", "not_sold_alone"),
        ("CARD", "unknown_type"),
    ]
    assert [(fault.row, fault.field, fault.item_id, fault.rule) for fault in outcome.failures] == [
        (13, "sku", None, "missing_id"),
        (14, "price", "BAD", "unreadable"),
        (15, "product_online", "ODD", "unreadable"),
    ]


def test_the_layout_of_the_sample_data() -> None:
    outcome = parse_sample("magento_fixture.csv")
    lamp, battery = outcome.items
    assert (lamp.product.title, lamp.product.slug, lamp.product.categories) == (
        "Head lamp",
        "head-lamp",
        ["Gear", "Lamps"],
    )
    assert (lamp.variant.price, lamp.variant.special_price) == (1900, 1500)
    assert lamp.variant.options == {"material": "Plastic/Steel"}  # two genders are nobody's in particular
    assert battery.product.visibility == "private"
    assert battery.product.slug == "spare-battery"
    assert battery.variant.options == {"size": "3 V", "gender": "Unisex"}
    assert [(skip.item_id, skip.field) for skip in outcome.skips] == [
        ("L-3", "bundle_options"),
        ("L-4", "associated_sku"),
    ]


def test_a_row_that_lacks_cells_fails_as_no_item_that_is_known() -> None:
    [fault] = parse(table(HEADER, ("A", "", "simple", "One"))).failures
    assert (fault.field, fault.item_id, fault.rule) == ("row", None, "ragged_row")


def test_a_name_in_another_script_gives_no_slug() -> None:
    rows = (("A", "", "simple", "Чайник", "1", "", ""), ("B", "", "simple", "Crème @ 5", "1", "", ""))
    products = parse(table(HEADER, *rows)).products
    assert (products["A"].slug, products["B"].slug) == (None, "creme-at-5")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            "frontend_label,frontend_input,attribute_code,attribute_set",
            "list of Magento's product attributes",
        ),
        ("sku,msrp", "suggested retail prices"),
        ("sku,tier_price_website,tier_price_customer_group,tier_price_qty,tier_price", "advanced prices"),
        ("source_code,sku,status,quantity", "stock by source"),
        ("sku,_store,_attribute_set,_type,_category,_root_category,name,price", "Magento 1"),
        ("sku,attribute_set_code,product_type,qty", "magento-csv and needs the columns sku, name and price"),
    ],
)
def test_files_that_only_belong_to_products_are_refused(header: str, words: str) -> None:
    data = f"{header}\n{','.join('1' for _ in header.split(','))}\n"
    with pytest.raises(FileRefusedError, match=words):
        detect(data.encode())
    with pytest.raises(FileRefusedError, match=words):
        parse(data, "magento-csv")


@pytest.mark.parametrize(
    ("text", "end_of_day", "expected"),
    [
        ("5/31/24", False, datetime(2024, 5, 31, tzinfo=UTC)),
        ("5/31/24", True, datetime(2024, 5, 31, 23, 59, tzinfo=UTC)),
        ("31/5/2024", False, datetime(2024, 5, 31, tzinfo=UTC)),
        ("10/20/2015 7:05", False, datetime(2015, 10, 20, 7, 5, tzinfo=UTC)),
        ("11/1/17, 1:41\u202fPM", False, datetime(2017, 11, 1, 13, 41, tzinfo=UTC)),
        ("11/1/17, 12:00 AM", True, datetime(2017, 11, 1, 23, 59, tzinfo=UTC)),
        ("11/1/17, 12:30 PM", True, datetime(2017, 11, 1, 12, 30, tzinfo=UTC)),
        ("01.12.17 08:00", False, datetime(2017, 12, 1, 8, 0, tzinfo=UTC)),
        ("2017-12-01 00:00:00", True, datetime(2017, 12, 1, 23, 59, tzinfo=UTC)),
        ("2017-12-01", False, datetime(2017, 12, 1, tzinfo=UTC)),
    ],
)
def test_dates_as_the_admin_writes_them(text: str, end_of_day: bool, expected: datetime) -> None:
    assert read_date(text, ZoneInfo("UTC"), end_of_day=end_of_day) == expected


@pytest.mark.parametrize("text", ["13/13/24", "5/31", "soon", "2/30/24"])
def test_other_dates_are_not_read(text: str) -> None:
    with pytest.raises(UnreadableValueError):
        read_date(text, ZoneInfo("UTC"), end_of_day=False)


def test_cells_with_several_values() -> None:
    assert pairs('color=Red, dark,size=XL,empty=,note="a, b=c"') == [
        ("color", "Red, dark"),
        ("size", "XL"),
        ("note", "a, b=c"),
    ]
    assert variations("sku=A-1,size=S|size=M,sku=B,2|size=L") == [
        ("A-1", {"size": "S"}),
        ("B,2", {"size": "M"}),
    ]
    assert path_titles("Default Category,Default Category/Gear/Bags,Other/Gear/Sale", ()) == ["Gear", "Bags"]
    assert path_titles(None, ["Gear", "Bags", "Collections", "New"]) == ["Gear", "Bags"]
