from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.catalog.ingest.values import (
    UnreadableValueError,
    line_breaks,
    plain_text,
    quoted,
    read_availability,
    read_condition,
    read_gtin,
    read_quantity,
    split_images,
    split_path,
    split_unescaped,
)


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("in stock", "in stock"),
        ("in_stock", "in stock"),
        ("In-Stock", "in stock"),
        ("InStock", "in stock"),
        ("http://schema.org/InStock", "in stock"),
        ("out of stock", "out of stock"),
        ("OUT_OF_STOCK", "out of stock"),
        ("https://schema.org/OutOfStock/", "out of stock"),
        ("discontinued", "out of stock"),
        ("preorder", "preorder"),
        ("pre-order", "preorder"),
        ("backorder", "available for order"),
        ("available for order", "available for order"),
        ("нет в наличии", "out of stock"),
        ("en rupture de stock", "out of stock"),
        ("perhaps", None),
        ("5", None),
    ],
)
def test_availability_words(word: str, meaning: str | None) -> None:
    assert read_availability(word) == meaning


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("new", "new"),
        ("NewCondition", "new"),
        ("Renewed", "refurbished"),
        ("used_like_new", "used"),
        ("б/у", "used"),
        ("worn", None),
    ],
)
def test_condition_words(word: str, meaning: str | None) -> None:
    assert read_condition(word) == meaning


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("0036000291452", "0036000291452"),
        ("4006381-333931", "4006381333931"),
        ('="0036000291452"', "0036000291452"),
        ("'0036000291452", "0036000291452"),
        ("4006381333931.0", "4006381333931"),
        ("n/a", "n/a"),
        ("1.58E+15", None),
        ("8,80609e12", None),
    ],
)
def test_barcodes_stay_text_and_rounded_ones_are_recognised(text: str, code: str | None) -> None:
    assert read_gtin(text) == code


def test_quantities() -> None:
    assert [read_quantity(text) for text in ("75", "75.0", "2,50", "-3", " 1 000 ")] == [75, 75, 2, 0, 1000]
    for text in ("many", "", "1.2.3", "9" * 11, "9" * 5_000, "١٢"):
        with pytest.raises(UnreadableValueError):
            read_quantity(text)


def test_pictures_are_split_but_not_inside_an_address() -> None:
    assert split_images(
        ["https://i.example/w_300,h_200/a.jpg, https://i.example/b.jpg", "https://i.example/b.jpg"]
    ) == [
        "https://i.example/w_300,h_200/a.jpg",
        "https://i.example/b.jpg",
    ]
    assert split_images(["a.jpg,b.jpg", ""]) == ["a.jpg", "b.jpg"]


def test_lists_and_paths() -> None:
    assert split_path("Home &gt; Kitchen & Dining >  > Mugs") == ["Home", "Kitchen & Dining", "Mugs"]
    assert split_unescaped(r"Tom\, Dick, Harry,") == ["Tom, Dick", "Harry"]
    assert line_breaks(r"<b>a</b>\nb\r\nc") == "<b>a</b>\nb\nc"
    assert plain_text("Salt &amp; pepper") == "Salt & pepper"


@given(st.text())
def test_a_quoted_value_is_short_and_can_be_stored(text: str) -> None:
    shown = quoted(text)
    assert len(shown) <= 62
    assert shown.isprintable()
    shown.encode()
