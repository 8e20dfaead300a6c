"""Ids, groups, trade numbers, brands and categories."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meta_sync.sync.eligibility import IneligibleReason
from meta_sync.sync.mapping import Ineligible, MappedItem, evaluate, retailer_id_for
from meta_sync.sync.mapping_identity import is_valid_gtin
from meta_sync.sync.mapping_issues import IssueCode
from tests.unit.mapping.builders import (
    NOW,
    SETTINGS,
    data_of,
    issue_codes,
    make_item,
    mapped,
    refusal,
    result_of,
)


def template(text: str) -> str:
    item = make_item(variant_id="v 1", product_id="p1", sku=" S-1 ")
    return retailer_id_for(item, replace(SETTINGS, retailer_id_template=text))


# --- Ids ------------------------------------------------------------------------------------------------------------


def test_the_template_makes_the_id() -> None:
    assert template("{variantId}") == "v 1"
    assert template("{productId}_{sku}") == "p1_S-1"
    assert template("shop-{variantId}-x") == "shop-v 1-x"
    assert template("{unknown}{sku}") == "{unknown}S-1"


def test_half_an_id_is_none() -> None:
    settings = replace(SETTINGS, retailer_id_template="{productId}-{sku}")
    assert retailer_id_for(make_item(sku=None), settings) == ""
    assert refusal(settings, sku=" ") is IneligibleReason.INVALID_ID


def test_a_frozen_id_is_sent_whatever_the_template_says() -> None:
    settings = replace(SETTINGS, retailer_id_template="{sku}")
    result = evaluate(make_item(sku="new"), settings, excluded=False, retailer_id="old", now=NOW)
    assert isinstance(result, MappedItem)
    assert result.data["id"] == "old"
    bad = evaluate(make_item(), SETTINGS, excluded=False, retailer_id="x" * 101, now=NOW)
    assert isinstance(bad, Ineligible)
    assert bad.reason is IneligibleReason.INVALID_ID


@pytest.mark.parametrize("good", ["1", "x" * 100, "Ä/ß ?#%", "商品-1", "a\xa0b", "👩\u200d🔧", "0" * 20])
def test_ids_of_any_printable_kind(good: str) -> None:
    result = mapped(variant_id=good)
    assert result.data["id"] == good
    assert result.issues == ()


@pytest.mark.parametrize("bad", ["", "x" * 101, "a\nb", "a\x00", "a\x7f", "a\u2028", "\ud800", "  ", "\x85"])
def test_ids_meta_cannot_take(bad: str) -> None:
    assert refusal(variant_id=bad) is IneligibleReason.INVALID_ID


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("a,b", IssueCode.ID_BREAKS_CHECKOUT_LINK),
        ("a:b", IssueCode.ID_BREAKS_CHECKOUT_LINK),
        (" a", IssueCode.ID_HAS_OUTER_SPACES),
        ("a\xa0", IssueCode.ID_HAS_OUTER_SPACES),
    ],
)
def test_ids_that_will_make_trouble_are_named(given: str, code: IssueCode) -> None:
    result = mapped(variant_id=given)
    assert result.data["id"] == given
    assert issue_codes(result) == [code]


# --- Groups ---------------------------------------------------------------------------------------------------------


def test_a_group_only_with_more_than_one_variant() -> None:
    assert "item_group_id" not in data_of(live_variant_count=1, group_id_taken=True)
    assert "item_group_id" not in data_of(live_variant_count=0)
    assert data_of(live_variant_count=2, options={"Size": "M"})["item_group_id"] == "p1"


def test_a_group_id_is_never_an_items_id() -> None:
    taken = mapped(live_variant_count=2, group_id_taken=True, options={"Size": "M"})
    equal = mapped(live_variant_count=2, variant_id="p1", options={"Size": "M"})
    for result in (taken, equal):
        assert result.data["item_group_id"] == "g:p1"
        assert issue_codes(result) == [IssueCode.ID_EQUALS_GROUP]


def test_it_is_the_id_that_is_sent_that_counts() -> None:
    item = make_item(live_variant_count=2, variant_id="p1", options={"Size": "M"})
    result = evaluate(item, SETTINGS, excluded=False, retailer_id="frozen", now=NOW)
    assert isinstance(result, MappedItem)
    assert result.data["item_group_id"] == "p1"


@pytest.mark.parametrize("product_id", ["p" * 101, "a\nb", ""])
def test_a_product_id_meta_cannot_take_is_replaced_the_same_way_for_all_variants(product_id: str) -> None:
    first = mapped(product_id=product_id, live_variant_count=2, options={"Size": "M"})
    second = mapped(product_id=product_id, live_variant_count=2, options={"Size": "L"}, variant_id="v2")
    other = data_of(product_id=product_id + "x" * 101, live_variant_count=2)
    assert first.data["item_group_id"] == second.data["item_group_id"] != other["item_group_id"]
    assert first.data["item_group_id"].startswith("g:")
    assert issue_codes(first) == [IssueCode.GROUP_ID_REPLACED]


def test_a_prefix_that_makes_the_group_too_long_replaces_it() -> None:
    group = data_of(product_id="p" * 99, live_variant_count=2, group_id_taken=True)["item_group_id"]
    assert len(group) == 42


def test_a_group_without_anything_to_choose_is_named() -> None:
    assert issue_codes(mapped(live_variant_count=2)) == [IssueCode.GROUP_WITHOUT_ATTRIBUTE]
    assert issue_codes(mapped(live_variant_count=2, options={"Scent": "Rose"})) == []


# --- GTIN and MPN ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "good", ["96385074", "036000291452", "4006381333931", "9504000059446", "14006381333938"]
)
def test_gtins_of_every_length(good: str) -> None:
    assert is_valid_gtin(good)
    wrong = good[:-1] + str((int(good[-1]) + 1) % 10)
    assert not is_valid_gtin(wrong)


@pytest.mark.parametrize(
    "bad", ["", "0" * 13, "400638133393", "40063813339311", "٤٠٠٦٣٨١٣٣٣٩٣١", "400638133393X", "978-3"]
)
def test_what_is_no_gtin(bad: str) -> None:
    assert not is_valid_gtin(bad)


@pytest.mark.parametrize(
    "given", ["4006381333931", "400-6381-333931", " 4006381 333931\t", "4006381–333931", "'4006381333931"]
)
def test_gtins_are_sent_as_digits(given: str) -> None:
    result = mapped(ean=given)
    assert result.data["gtin"] == "4006381333931"
    assert result.issues == ()


def test_the_first_valid_of_ean_upc_and_barcode() -> None:
    assert data_of(ean="96385074", upc="036000291452", barcode="4006381333931")["gtin"] == "96385074"
    assert data_of(ean="12345", upc="036000291452")["gtin"] == "036000291452"
    assert data_of(ean=None, upc="", barcode="4006381333931")["gtin"] == "4006381333931"
    assert mapped(ean=" - ", upc="'").issues == ()


@pytest.mark.parametrize("mangled", ["1.58E+15", "8,80609E+12", "4E12"])
def test_what_a_spreadsheet_made_of_a_gtin_is_not_sent(mangled: str) -> None:
    result = mapped(ean=mangled)
    assert "gtin" not in result.data
    assert issue_codes(result) == [IssueCode.GTIN_MANGLED]


def test_an_invalid_gtin_is_dropped_and_named() -> None:
    result = mapped(barcode="4006381333932")
    assert "gtin" not in result.data
    assert issue_codes(result) == [IssueCode.GTIN_INVALID]
    assert "4006381333932" in result.issues[0].sentence


def test_the_sku_is_the_mpn() -> None:
    assert data_of(sku=" AB<1> ")["mpn"] == "AB<1>"
    assert "mpn" not in data_of(sku=" ")
    result = mapped(sku="s" * 101)
    assert result.data["mpn"] == "s" * 100
    assert [(found.code, found.field) for found in result.issues] == [(IssueCode.VALUE_CUT, "mpn")]


# --- Brand ----------------------------------------------------------------------------------------------------------


def test_brand_fallbacks_in_their_order() -> None:
    store = replace(
        SETTINGS, default_brand="Default", business_name="Business", identifier_exists_fallback=True
    )
    assert data_of(store, brand="Own", vendor="Vendor")["brand"] == "Own"
    assert data_of(store, brand=" ", vendor="Vendor")["brand"] == "Vendor"
    assert data_of(store, brand=None)["brand"] == "Default"
    assert data_of(replace(store, default_brand=" "), brand=None)["brand"] == "Business"


def test_the_business_name_stands_in_only_when_allowed() -> None:
    store = replace(SETTINGS, business_name="Business")
    assert refusal(store, brand=None) is IneligibleReason.MISSING_IDENTIFIER
    assert data_of(replace(store, identifier_exists_fallback=True), brand=None)["brand"] == "Business"


@pytest.mark.parametrize("identifier", [{"sku": "s"}, {"ean": "96385074"}, {"vendor": "V"}, {"brand": "B"}])
def test_one_identifier_is_enough(identifier: dict[str, str]) -> None:
    assert "id" in data_of(**{"brand": None, **identifier})


def test_no_identifier_names_the_barcode_that_was_none() -> None:
    result = result_of(brand="", ean="1.58E+15")
    assert isinstance(result, Ineligible)
    assert result.reason is IneligibleReason.MISSING_IDENTIFIER
    assert issue_codes(result) == [IssueCode.GTIN_MANGLED]


def test_labels_are_vendor_and_own_brand() -> None:
    store = replace(SETTINGS, default_brand="Default")
    data = data_of(store, brand="Own", vendor="Vendor")
    assert (data["custom_label_0"], data["custom_label_1"]) == ("Vendor", "Own")
    fallback = data_of(store, brand=None)
    assert "custom_label_0" not in fallback
    assert "custom_label_1" not in fallback


def test_brand_and_labels_have_100_characters() -> None:
    result = mapped(brand="b" * 101, vendor="v" * 101)
    assert [len(result.data[name]) for name in ("brand", "custom_label_0", "custom_label_1")] == [
        100,
        100,
        100,
    ]
    assert set(issue_codes(result)) == {IssueCode.VALUE_CUT}


# --- Categories -----------------------------------------------------------------------------------------------------


def test_categories() -> None:
    data = data_of(categories=["Clothing", " ", "Women", "Outerwear", "Jackets"])
    assert data["product_type"] == "Clothing > Women > Outerwear > Jackets"
    assert data["google_product_category"] == "Women > Outerwear > Jackets"
    assert "product_type" not in data_of(categories=["", "<p></p>"])


@pytest.mark.parametrize("explicit", ["1604", "Apparel & Accessories > Clothing"])
def test_an_explicit_category_wins(explicit: str) -> None:
    data = data_of(categories=["A"], google_product_category=explicit)
    assert data["google_product_category"] == explicit
    assert data["product_type"] == "A"
    assert data_of(google_product_category=explicit)["google_product_category"] == explicit


def test_long_categories() -> None:
    titles = ["a" * 200, "b" * 200, "c" * 200, "d" * 200]
    result = mapped(categories=titles)
    assert len(result.data["product_type"]) == 750
    assert result.data["google_product_category"] == "d" * 200
    assert issue_codes(result) == [IssueCode.VALUE_CUT]
    assert "google_product_category" not in data_of(categories=["a" * 251])


def test_a_category_that_is_too_long_gives_way_to_the_stores_own() -> None:
    result = mapped(google_product_category="x" * 251, categories=["A", "B"])
    assert result.data["google_product_category"] == "A > B"
    assert issue_codes(result) == [IssueCode.CATEGORY_TOO_LONG]
    assert len(result.issues[0].sentence) < 200


def test_titles_joined_to_a_path_do_not_make_a_tag() -> None:
    assert data_of(categories=["a <b", "c"])["product_type"] == "a b > c"
