"""Bagisto's product file, as CSV and as XML."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from meta_sync.catalog.ingest.rows import FileRefusedError, ImportedVariant, Parsed
from meta_sync.catalog.models import InventoryInput, ProductInput
from tests.unit.formats.reading import Outcome, parse, parse_sample

STORES = Path(__file__).parents[3].parent / "shared" / "data" / "stores"
HEADER = (
    "sku,parent_sku,locale,channel,attribute_family_code,type,name,price,inventories,url_key,color,size\n"
)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return parse_sample("bagisto.csv", timezone="Europe/Berlin")


def without_source(rows: list[Parsed]) -> list[Parsed]:
    for row in rows:
        if not isinstance(row, ImportedVariant) and not hasattr(row, "product"):
            continue
        row.product.source = ""
    return rows


def test_a_simple_product_is_a_product_with_one_item(outcome: Outcome) -> None:
    product, mug = outcome.products["MUG-1"], outcome.variants["MUG-1"]
    assert product == ProductInput(
        id="MUG-1",
        title="Mug & Saucer",
        subtitle="For tea",
        description="<b>Blue</b>\nGlazed",
        slug="mug-and-saucer",
        thumbnail="https://img.example/mug.jpg",
        images=["mug-back.webp"],
        categories=["Kitchen", "Mugs"],
        source="bagisto-csv",
    )
    assert (mug.sku, mug.price, mug.special_price) == ("MUG-1", 1250, 990)
    assert mug.special_price_start == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert mug.special_price_end == datetime(2026, 1, 31, 22, 59, tzinfo=UTC)
    assert mug.inventory == InventoryInput(track_inventory=True, quantity_on_hand=10)


def test_a_row_in_a_further_language_belongs_to_its_item(outcome: Outcome) -> None:
    assert [item.row for item in outcome.items if item.variant.id == "MUG-1"] == [1]
    assert [(warning.row, warning.rule) for warning in outcome.warnings[:2]] == [
        (0, "group_prices"),
        (0, "further_language"),
    ]


def test_children_find_their_product_below_them_or_are_named_by_it(outcome: Outcome) -> None:
    [parent] = outcome.parents
    assert (parent.row, parent.product.id, parent.product.thumbnail) == (4, "TEE", "tee.webp")
    small, medium = (item for item in outcome.items if item.variant.id.startswith("TEE"))
    for item in (small, medium):
        assert item.product_is_partial
        assert item.product == ProductInput(id="TEE", source="bagisto-csv")
    assert (small.variant.options, small.variant.thumbnail) == ({"color": "Red", "size": "S"}, "tee-s.webp")
    assert small.variant.inventory == InventoryInput(track_inventory=True, quantity_on_hand=0)
    assert medium.variant.options == {"color": "Red", "size": "M"}


def test_a_child_that_is_switched_off_cannot_be_bought(outcome: Outcome) -> None:
    medium = outcome.variants["TEE-M"]
    assert (medium.availability, medium.inventory) == ("out of stock", InventoryInput(track_inventory=False))
    assert [warning.item_id for warning in outcome.warnings if "switched off" in warning.message] == ["TEE-M"]


def test_publication_and_stock_that_is_not_managed(outcome: Outcome) -> None:
    assert (outcome.products["BOOK"].status, outcome.variants["BOOK"].inventory) == ("draft", None)
    assert outcome.products["CLASS"].visibility == "private"
    assert outcome.variants["CLASS"].inventory == InventoryInput(track_inventory=False, quantity_on_hand=9)
    assert outcome.variants["FREE"].price is None


def test_what_is_left_out_and_what_fails(outcome: Outcome) -> None:
    assert [(skip.row, skip.item_id, skip.rule) for skip in outcome.skips] == [
        (8, "SET", "not_sold_alone"),
        (9, "BOX", "not_sold_alone"),
    ]
    assert [(failure.row, failure.field, failure.rule, failure.value) for failure in outcome.failures] == [
        (10, "type", "unknown_type", "mystery"),
        (11, "sku", "missing_id", None),
        (12, "price", "unreadable", "ten"),
        (13, "inventories", "unreadable", "default=many"),
        (14, "status", "unreadable", "maybe"),
    ]


def test_every_row_of_the_sample_is_accounted_for(outcome: Outcome) -> None:
    assert (len(outcome.items), len(outcome.parents), len(outcome.failures), len(outcome.skips)) == (
        6,
        1,
        5,
        2,
    )


def test_the_xml_file_gives_the_same_as_the_csv_file(outcome: Outcome) -> None:
    xml = parse_sample("bagisto.xml", timezone="Europe/Berlin")
    csv = parse_sample("bagisto.csv", timezone="Europe/Berlin")
    assert without_source(xml.rows) == without_source(csv.rows)


@pytest.mark.shared
@pytest.mark.skipif(not STORES.is_dir(), reason="the folder shared/data is not beside the project")
def test_the_real_files_give_the_same_items() -> None:
    xml = parse((STORES / "bagisto_products.xml").read_bytes())
    csv = parse((STORES / "bagisto_products.csv").read_bytes())
    assert without_source(xml.rows) == without_source(csv.rows)


def test_rows_of_several_channels_are_one_item_but_a_repeated_row_is_not_hidden() -> None:
    outcome = parse(
        HEADER
        + "A,,en,web,default,simple,One,1,,one,,\n"
        + "B,,en,web,default,simple,Two,2,,two,,\n"
        + "A,,en,app,default,simple,Other,3,,one,,\n"
        + "A,,fr,web,default,simple,Un,1,,un,,\n"
        + "A,,en,web,default,simple,Again,4,,again,,\n"
    )
    assert [(item.row, item.variant.price) for item in outcome.items] == [(1, 100), (2, 200), (5, 400)]
    assert [warning.rule for warning in outcome.warnings] == ["further_language"]


def test_a_child_may_carry_its_options_itself() -> None:
    outcome = parse(HEADER + "A-1,A,en,web,default,virtual,One,1,,one,Red,L\n")
    [item] = outcome.items
    assert (item.product.id, item.product_is_partial) == ("A", True)
    assert item.variant.options == {"color": "Red", "size": "L"}


def test_a_row_with_too_few_cells_fails_as_no_item_that_is_known() -> None:
    outcome = parse(HEADER + "A,,en,web,default\n")
    assert [(failure.row, failure.item_id, failure.rule) for failure in outcome.failures] == [
        (1, None, "ragged_row")
    ]


def test_values_too_long_fail_their_row_in_both_files() -> None:
    long = "x" * 300
    csv = parse(HEADER + f"A,,en,web,default,simple,{long},1,,one,,\n", cells=200)
    xml = parse(
        f'<products><product sku="A" attribute_family_code="default" type="simple" name="{long}"/></products>',
        cells=200,
    )
    assert [failure.field for failure in csv.failures + xml.failures] == ["name", "name"]


def test_bare_ampersands_are_forgiven_and_other_faults_are_not() -> None:
    outcome = parse(
        '<products><product sku="A" attribute_family_code="d" name="R&D" type="simple"/></products>'
    )
    assert outcome.products["A"].title == "R&D"
    assert [warning.row for warning in outcome.warnings] == [0]
    with pytest.raises(FileRefusedError, match="line 1"):
        parse('<products><product sku="A" attribute_family_code="d"></products>')
    with pytest.raises(FileRefusedError, match="DTD"):
        parse(
            '<!DOCTYPE products [<!ENTITY a "b">]><products><product sku="A" attribute_family_code="d"/></products>'
        )


def test_another_file_is_refused_when_this_format_is_asked_for() -> None:
    for name in ("bagisto-csv", "bagisto-xml"):
        with pytest.raises(FileRefusedError):
            parse("id,title,price\n1,Mug,1 EUR\n", name)
        with pytest.raises(FileRefusedError):
            parse("<products><product/></products>", name)
