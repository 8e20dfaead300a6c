"""Options as attributes."""

from __future__ import annotations

import pytest

from meta_sync.sync.mapping_issues import IssueCode
from tests.unit.mapping.builders import data_of, issue_codes, mapped


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("color", "color"),
        ("Color", "color"),
        ("COLOUR", "color"),
        (" Colour ", "color"),
        ("pa_color", "color"),
        ("attribute_pa_colour", "color"),
        ("product_color", "color"),
        ("Farbe", "color"),
        ("цвет", "color"),
        ("Size", "size"),
        ("Größe", "size"),
        ("shoe-size", "size"),
        ("Fabric", "material"),
        ("Material", "material"),
        ("print", "pattern"),
        ("Pattern", "pattern"),
    ],
)
def test_option_names_and_their_synonyms(name: str, field: str) -> None:
    data = data_of(options={name: "Something"})
    assert data[field] == "Something"
    assert "additional_variant_attribute" not in data


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("Men", "male"),
        ("boy", "male"),
        ("Women's", "female"),
        ("girls", "female"),
        ("Unisex", "unisex"),
        ("all", "unisex"),
        ("male", "male"),
        ("DAMEN", "female"),
        ("F", "female"),
    ],
)
def test_gender_words(given: str, sent: str) -> None:
    assert data_of(options={"Gender": given})["gender"] == sent


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("Adult", "adult"),
        ("All Ages", "all ages"),
        ("Teen", "teen"),
        ("Kids", "kids"),
        ("children", "kids"),
        ("Toddler", "toddler"),
        ("infants", "infant"),
        ("baby", "infant"),
        ("Newborn", "newborn"),
        ("all_ages", "all ages"),
    ],
)
def test_age_group_words(given: str, sent: str) -> None:
    assert data_of(options={"Age Group": given})["age_group"] == sent


@pytest.mark.parametrize(
    ("name", "field", "code"),
    [("gender", "gender", IssueCode.GENDER_UNKNOWN), ("age_group", "age_group", IssueCode.AGE_GROUP_UNKNOWN)],
)
def test_words_meta_does_not_know_are_dropped_and_named(name: str, field: str, code: IssueCode) -> None:
    result = mapped(options={name: "other"})
    assert field not in result.data
    assert "additional_variant_attribute" not in result.data
    assert issue_codes(result) == [code]
    assert '"other"' in result.issues[0].sentence


def test_other_options_go_into_one_text_without_its_separators() -> None:
    options = {"Scent": "Rose, Musk: strong", "Fit:cut": "Slim", "Size": "M"}
    data = data_of(options=options)
    assert data["additional_variant_attribute"] == "Fit cut:Slim,Scent:Rose Musk strong"
    assert data["size"] == "M"


def test_the_order_of_options_is_not_seen() -> None:
    options = {"Weight": "3kg", "Style": "Classic", "Colour": "Red"}
    assert mapped(options=options).hash == mapped(options=dict(reversed(options.items()))).hash


@pytest.mark.parametrize(
    "options",
    [{"Scent": " "}, {",": "x"}, {"Scent": ":,"}, {"": "x"}, {"Color": ""}, {"Title": "Default Title"}],
)
def test_options_that_say_nothing_are_left_out(options: dict[str, str]) -> None:
    result = mapped(options=options)
    assert result.hash == mapped().hash
    assert result.issues == ()


def test_two_options_for_one_field_keep_the_first_by_name() -> None:
    result = mapped(options={"colour": "Blue", "Color": "Red"})
    assert result.data["color"] == "Red"
    assert issue_codes(result) == [IssueCode.OPTION_REPEATED]
    assert "Blue" in result.issues[0].sentence
    assert data_of(options={"colour": "Blue", "Color": " "})["color"] == "Blue"


@pytest.mark.parametrize("code", ["#fff", "#A0B1C2", "#a0b1c2d3"])
def test_a_colour_code_is_no_colour(code: str) -> None:
    result = mapped(options={"Color": code})
    assert "color" not in result.data
    assert issue_codes(result) == [IssueCode.COLOR_IS_CODE]
    assert data_of(options={"Color": "#1 Red"})["color"] == "#1 Red"


@pytest.mark.parametrize(
    ("field", "limit"), [("color", 100), ("size", 200), ("material", 200), ("pattern", 100)]
)
def test_lengths(field: str, limit: int) -> None:
    assert data_of(options={field: "x" * limit})[field] == "x" * limit
    result = mapped(options={field: "x" * (limit + 1)})
    assert result.data[field] == "x" * limit
    assert [(found.code, found.field) for found in result.issues] == [(IssueCode.VALUE_CUT, field)]


def test_values_are_cleaned() -> None:
    assert data_of(options={"Color": " <b>Red</b> &amp; blue "})["color"] == "Red & blue"
