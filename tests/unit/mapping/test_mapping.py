"""The mapped item as a whole, the field table, clears, and issues."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from meta_sync.sync import mapping
from meta_sync.sync.mapping import Mapper, encode_with_clears, map_item
from meta_sync.sync.mapping_fields import FIELDS, MANAGED_FIELDS, clear_values
from meta_sync.sync.mapping_issues import IssueCode, issue
from tests.unit.mapping.builders import NOW, SETTINGS, make_item, mapped
from tests.unit.mapping.spec_validator import ENUMS, LIMITS, OTHERS, REQUIRED

FULL = {
    "sku": "SKU-1",
    "ean": "4006381333931",
    "vendor": "Vendor",
    "special_price": 990,
    "special_price_end": NOW.replace(year=2027),
    "product_images": ["https://cdn.example/2.jpg"],
    "categories": ["Clothing", "Shirts"],
    "track_inventory": True,
    "quantity_on_hand": 7,
    "options": {
        "Color": "Red",
        "Size": "M",
        "Material": "Cotton",
        "Pattern": "Striped",
        "Gender": "Men",
        "Age group": "Adult",
        "Fit": "Slim",
    },
    "live_variant_count": 2,
}


def test_a_full_item_byte_for_byte() -> None:
    """A change of any byte here changes every payload: it needs a higher MAPPER_VERSION."""
    result = mapped(**FULL)
    assert result.encoded.decode() == (
        '{"additional_image_link":["https://cdn.example/2.jpg"],"additional_variant_attribute":"Fit:Slim",'
        '"age_group":"adult","availability":"in stock","brand":"Acme","color":"Red","condition":"new",'
        '"custom_label_0":"Vendor","custom_label_1":"Acme","description":"Soft and light.","gender":"male",'
        '"google_product_category":"Clothing > Shirts","gtin":"4006381333931","id":"v1",'
        '"image_link":"https://cdn.example/p.jpg","item_group_id":"p1",'
        '"link":"https://shop.example/product/cotton-shirt","material":"Cotton","mpn":"SKU-1","pattern":"Striped",'
        '"price":"19.90 EUR","product_type":"Clothing > Shirts","quantity_to_sell_on_facebook":7,'
        '"sale_price":"9.90 EUR","sale_price_effective_date":"1970-01-01T00:00+00:00/2027-10-01T12:00+00:00",'
        '"size":"M","title":"Cotton shirt"}'
    )
    assert mapping.MAPPER_VERSION == 1
    assert result.hash == sha256(b"1\n" + result.encoded).digest()
    assert len(result.hash) == 32
    assert result.issues == ()


def test_a_full_item_holds_every_managed_field() -> None:
    assert mapped(**FULL).fields == MANAGED_FIELDS


def test_a_bare_item_holds_no_empty_field() -> None:
    result = mapped()
    assert result.fields == {
        "title", "description", "link", "image_link", "availability", "condition", "price", "brand", "custom_label_1",
    }  # fmt: skip


def test_map_item_maps_whatever_the_status() -> None:
    item = make_item(status="draft", product_deleted=True)
    assert map_item(item, SETTINGS, retailer_id="v1", now=NOW).hash == mapped().hash


def test_map_item_refuses_content_that_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="missing_title"):
        map_item(make_item(title=""), SETTINGS, retailer_id="v1", now=NOW)


def test_the_version_is_part_of_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = mapped().hash
    monkeypatch.setattr(mapping, "_HASH_PREFIX", b"2\n")
    assert mapped().hash != before


def test_a_mapper_knows_the_id_of_an_item_never_sent() -> None:
    assert Mapper(SETTINGS).retailer_id_for(make_item()) == "v1"


# --- Clears ---------------------------------------------------------------------------------------------------------


def test_the_table_knows_every_field_of_the_specification_that_we_send() -> None:
    assert (REQUIRED | LIMITS.keys() | ENUMS.keys() | OTHERS) - {"id"} == MANAGED_FIELDS
    assert {name for name, field in FIELDS.items() if field.required} == REQUIRED - {"id"}
    assert all(field.source for field in FIELDS.values())


def test_empty_values() -> None:
    values = clear_values(MANAGED_FIELDS)
    assert values.keys() == MANAGED_FIELDS - REQUIRED
    assert {name for name, value in values.items() if value == []} == {"additional_image_link"}
    assert {name for name, value in values.items() if value == ""} == values.keys() - {
        "additional_image_link"
    }
    assert clear_values(["id", "price"]) == {}
    assert clear_values(["field_of_an_older_mapper"]) == {"field_of_an_older_mapper": ""}


def test_clears_are_sent_beside_the_mapping_and_stay_out_of_the_hash() -> None:
    item = mapped()
    sent = encode_with_clears(item, ["sale_price", "additional_image_link", "sale_price_effective_date"])
    assert json.loads(sent) == {
        **item.data,
        "sale_price": "",
        "sale_price_effective_date": "",
        "additional_image_link": [],
    }
    keys = list(json.loads(sent))
    assert keys == sorted(keys)
    assert item.encoded == mapped().encoded
    assert "sale_price" not in item.data


def test_a_field_with_a_value_is_not_cleared() -> None:
    item = mapped(special_price=500)
    assert json.loads(encode_with_clears(item, ["sale_price", "gtin"])) == {**item.data, "gtin": ""}
    assert encode_with_clears(item, []) is item.encoded
    assert encode_with_clears(item, ["price", "id"]) is item.encoded


# --- Issues ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", IssueCode)
def test_every_issue_is_a_sentence(code: IssueCode) -> None:
    found = issue(code, "field", "value")
    assert found.sentence.endswith(".")
    assert "{" not in found.sentence
    assert '"value"' in found.sentence


def test_sentences_hold_no_text_that_cannot_be_stored() -> None:
    sentence = issue(IssueCode.GTIN_INVALID, "gtin", "a\x00b\ud800" + "9" * 500).sentence
    sentence.encode()
    assert "\x00" not in sentence
    assert len(sentence) < 250
