from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from meta_sync.catalog.ingest.detect import detect
from meta_sync.catalog.ingest.formats.prestashop_values import category_path, read_percent
from meta_sync.catalog.ingest.rows import FileRefusedError
from meta_sync.catalog.ingest.values import UnreadableValueError
from meta_sync.catalog.models import InventoryInput, ProductInput
from tests.unit.formats.reading import Outcome, parse, parse_sample, table


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return parse_sample("prestashop.csv", timezone="Europe/Berlin")


# --- the back office's tables -------------------------------------------------------------------------------------


def test_a_product_of_the_back_offices_file(outcome: Outcome) -> None:
    pot = outcome.items[0]
    assert pot.product == ProductInput(
        id="1",
        title="Tea pot",
        subtitle="<p>Short</p>",
        description="<p>Long</p>",
        slug="tea-pot",
        brand="Tannhaus & Sons",
        thumbnail="https://shop.example/1.jpg",
        images=["https://shop.example/2.jpg"],
        categories=["Kitchen", "Pots"],
        source="prestashop-csv",
    )
    assert (pot.variant.id, pot.variant.sku, pot.variant.ean) == ("1", "POT-1", "4006381333931")
    assert (pot.variant.price, pot.variant.special_price) == (2490, 2229)  # 10.5 percent off
    assert pot.variant.special_price_start == datetime(2024, 4, 30, 22, 0, tzinfo=UTC)
    assert pot.variant.special_price_end == datetime(2024, 5, 31, 21, 59, tzinfo=UTC)
    assert pot.variant.condition == "new"
    assert pot.variant.inventory == InventoryInput(
        track_inventory=True, quantity_on_hand=16, allow_backorder=True
    )


def test_an_amount_goes_before_a_percentage_and_zeros_say_nothing(outcome: Outcome) -> None:
    cup, product = outcome.variants["2"], outcome.products["2"]
    assert (cup.price, cup.special_price, cup.ean) == (1000, 800, None)
    assert (cup.special_price_start, cup.special_price_end) == (None, None)
    assert (product.status, product.visibility, product.categories) == ("draft", "private", [])
    assert cup.inventory == InventoryInput(track_inventory=True, quantity_on_hand=0, allow_backorder=False)


def test_what_cannot_be_ordered_is_out_of_stock_and_a_hidden_price_is_not_shown(outcome: Outcome) -> None:
    piece, product = outcome.variants["3"], outcome.products["3"]
    assert product.visibility == "private"
    assert (piece.availability, piece.special_price) == ("out of stock", None)
    assert piece.inventory == InventoryInput(track_inventory=False, quantity_on_hand=4)
    said = [warning.message for warning in outcome.warnings if warning.item_id == "3"]
    assert [
        word in " ".join(said) for word in ("does not show", "rounded by a spreadsheet", "nothing of")
    ] == [True] * 3


def test_the_reference_stands_in_for_the_id(outcome: Outcome) -> None:
    assert outcome.variants["NOID"].sku == "NOID"


def test_what_is_true_of_the_whole_file_is_said_once(outcome: Outcome) -> None:
    said = [(warning.field, warning.message) for warning in outcome.warnings if warning.row == 0]
    assert sorted(field for field, _ in said) == [
        "Categories (x,y,z...)",
        "Price tax excluded",
        "Price tax excluded",
    ]
    assert sum("without tax" in message for _, message in said) == 1


def test_what_fails(outcome: Outcome) -> None:
    assert [(fault.row, fault.field, fault.item_id, fault.rule) for fault in outcome.failures] == [
        (5, "Product ID", None, "missing_id"),
        (6, "Price tax excluded", "6", "unreadable"),
        (7, "Active (0/1)", "7", "unreadable"),
        (8, "Discount percent", "8", "unreadable"),
    ]


def test_the_list_of_products_says_who_is_sold_out_not_who_is_switched_off() -> None:
    outcome = parse_sample("prestashop_list.csv")
    assert [(item.variant.id, item.variant.price) for item in outcome.items] == [("1", 2963), ("2", 595)]
    assert all(item.product.status == "active" for item in outcome.items)
    assert [(warning.field, warning.rule) for warning in outcome.warnings] == [("Status", "remark")]


def test_the_newer_list_says_who_is_switched_off() -> None:
    header = ("ID", "Name", "Reference", "Price (tax excl.)", "Price (tax incl.)", "Quantity", "Status")
    rows = (("1", "Pot", "P", "1", "1.2", "3", "1"), ("2", "Cup", "C", "1", "1.2", "3", "0"))
    products = parse(table(header, *rows, delimiter=";"), "prestashop-csv").products
    assert [product.status for product in products.values()] == ["active", "draft"]


def test_a_price_that_may_be_with_or_without_tax_is_taken_without_a_word() -> None:
    header = (
        "Product ID",
        "Active (0/1)",
        "Name *",
        "Price tax excluded or Price tax included",
        "Tax rules ID",
    )
    outcome = parse(table(header, ("1", "1", "Pot", "2,5", "1"), delimiter=";"))
    assert (outcome.variants["1"].price, outcome.warnings) == (250, [])


def test_a_combination_alone_has_no_price() -> None:
    outcome = parse_sample("prestashop_combinations.csv")
    assert not outcome.items
    assert [(fault.field, fault.rule, fault.item_id) for fault in outcome.failures] == [
        ("Impact on price", "no_price", "1__Blue__XL"),
        ("Impact on price", "no_price", "1__Red"),
    ]
    assert 'adds "40" to the price of product 1' in outcome.failures[0].message


def test_a_combination_of_the_oldest_layout_has_none_either() -> None:
    header = ("Product ID*", "Options (Group:Value)*", "Reference", "Price", "Quantity")
    [fault] = parse(table(header, ("1", "Color:Blue", "R", "41", "5"), delimiter=";")).failures
    assert (fault.field, fault.rule) == ("Price", "no_price")


def test_combinations_with_the_price_of_their_product_are_items() -> None:
    outcome = parse_sample("prestashop_full_combinations.csv")
    blue, red, tray = outcome.items
    assert [item.product.id for item in (blue, red, tray)] == ["1", "1", "2"]
    assert (blue.variant.id, blue.variant.price, blue.variant.options) == (
        "1__Blue__XL",
        3495,
        {"Color": "Blue", "Size": "XL"},
    )
    assert blue.variant.thumbnail == "https://shop.example/blue.jpg"
    assert blue.variant.special_price is None  # the product's discount is not known for another price
    left_out = [warning.item_id for warning in outcome.warnings if warning.rule == "discount_left_out"]
    assert left_out == ["1__Blue__XL"]
    assert (red.variant.price, tray.variant.id, tray.variant.price) == (2790, "2", 1000)
    assert [fault.field for fault in outcome.failures] == ["Impact on price", "Value (Value:Position)*"]
    assert not any("without tax" in warning.message for warning in outcome.warnings)


# --- XML ----------------------------------------------------------------------------------------------------------


def test_products_of_an_installation() -> None:
    outcome = parse_sample("prestashop.xml")
    pot, cup = outcome.items
    assert (pot.product.id, pot.product.title, pot.product.status) == ("Tea_pot", None, "active")
    assert (pot.variant.sku, pot.variant.price, pot.variant.ean) == ("POT-1", 2490, "4006381333931")
    assert (pot.variant.condition, pot.variant.inventory) == ("new", None)
    assert (cup.product.status, cup.variant.price, cup.variant.sku) == ("draft", 1000, None)
    assert (cup.variant.availability, cup.variant.ean) == ("out of stock", None)
    assert [(fault.row, fault.field, fault.item_id) for fault in outcome.failures] == [
        (3, "price", "Odd"),
        (4, "id", None),
    ]
    assert all(warning.row == 0 for warning in outcome.warnings)
    said = " ".join(warning.message for warning in outcome.warnings)
    for words in ("no names", "have combinations", "without tax", "quantity of 0", "more decimals"):
        assert said.count(words) == 1


def test_an_answer_of_the_webservice() -> None:
    outcome = parse_sample("prestashop_webservice.xml")
    [mug] = outcome.items  # the accessory inside it is none
    assert mug.product == ProductInput(
        id="19",
        title="Tasse & Untertasse",
        description="<p>A mug.</p>",
        slug="mug",
        brand="Tannhaus",
        source="prestashop-xml",
    )
    assert (mug.variant.sku, mug.variant.price, mug.variant.inventory) == ("MUG", 1390, None)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            "<entity_product><product id='A'><name>Pot</name></product></entity_product>",
            "belong to product.xml",
        ),
        ("<entity_product_attribute><entities/></entity_product_attribute>", "list of combinations"),
        ("<entity_stock_available><entities/></entity_stock_available>", "list of stock"),
        ("<entity_tax_rules_group/>", "list of tax rules group"),
        (
            "<prestashop><combinations><combination><price>1</price></combination></combinations></prestashop>",
            "display=full",
        ),
        ("<prestashop><products><product id='1'/></products></prestashop>", "display=full"),
    ],
)
def test_other_files_of_the_shop_are_refused(data: str, words: str) -> None:
    for format_name in (None, "prestashop-xml"):
        with pytest.raises(FileRefusedError, match=words):
            parse(data, format_name)


def test_categories_are_no_products() -> None:
    with pytest.raises(FileRefusedError, match="list of categories"):
        detect(b"Category ID;Active (0/1);Name *;Parent category;Root category (0/1)\n3;1;iPods;Home;0\n")


def test_a_broken_file_and_one_with_entities_of_its_own_are_refused() -> None:
    product = "<entity_product><product id='A' price='1'></entity_product>"
    with pytest.raises(FileRefusedError, match="line 1"):
        parse(product, "prestashop-xml")
    with pytest.raises(FileRefusedError, match="DTD"):
        parse(f"<!DOCTYPE x [<!ENTITY a 'b'>]>{product}", "prestashop-xml")


def test_a_long_text_fails_its_product_only() -> None:
    data = f"<entity_product><product id='A' price='1'><name>{'x' * 90}</name></product></entity_product>"
    [fault] = parse(data, cells=50).failures
    assert (fault.field, fault.item_id) == ("name", "A")


def test_percentages_and_categories() -> None:
    assert [read_percent(text) for text in ("5", "5.5", "7,25 %")] == [
        Decimal(5),
        Decimal("5.5"),
        Decimal("7.25"),
    ]
    with pytest.raises(UnreadableValueError):
        read_percent("101")
    assert category_path("Home, iPods") == ["iPods"]
    assert category_path("3,Home/Music/Players,Sale") == ["Music", "Players"]
    assert category_path("3,4") == []
