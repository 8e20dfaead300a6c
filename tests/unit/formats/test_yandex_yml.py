"""Yandex's YML feed."""

from __future__ import annotations

import pytest

from meta_sync.catalog.ingest.rows import FileRefusedError
from meta_sync.catalog.models import InventoryInput, ProductInput
from tests.unit.formats.reading import Outcome, parse, parse_sample


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return parse_sample("yandex.xml")


def feed(offers: str, *, head: str = "", before: str = "") -> str:
    return f"{head}<yml_catalog><shop>{before}<offers>{offers}</offers></shop></yml_catalog>"


def test_a_simple_offer_in_windows_1251(outcome: Outcome) -> None:
    product, tea = outcome.products["T1"], outcome.variants["T1"]
    assert product == ProductInput(
        id="T1",
        title='Лунцзин "Весна"',
        description="<p>Свежий&nbsp;чай</p>",
        brand="Сад",
        categories=["Продукты", "Чай", "Зелёный & белый"],
        source="yandex-yml",
    )
    assert (tea.price, tea.special_price) == (60000, 45050)
    assert (tea.sku, tea.ean) == ("LJ-1", "4600000000015")
    assert tea.link == "https://tea.example/t1?utm={campaign}"
    assert (tea.thumbnail, tea.images) == (
        "https://img.tea.example/t1.jpg",
        ["https://img.tea.example/t1-b.jpg"],
    )
    assert (tea.availability, tea.options) == ("in stock", {})
    assert tea.inventory == InventoryInput(track_inventory=True, quantity_on_hand=12)


def test_offers_of_a_group_are_variants_with_their_params_as_options(outcome: Outcome) -> None:
    first, second = outcome.products["C1"], outcome.products["C2"]
    assert (first.id, second.id, first.title) == ("CUP", "CUP", "Чашка Фарфор Лотос")
    assert first.description == "Тонкий&nbsp;фарфор"
    assert outcome.variants["C1"].options == {"Цвет": "белый", "Объём": "150 мл"}
    assert (outcome.variants["C1"].availability, outcome.variants["C1"].condition) == ("out of stock", "used")


def test_an_old_price_that_is_not_higher_counts_for_nothing(outcome: Outcome) -> None:
    cup = outcome.variants["C1"]
    assert (cup.price, cup.special_price) == (100000, None)
    assert [warning.rule for warning in outcome.warnings if warning.item_id == "C1"] == ["price_from"]


def test_an_offer_switched_off_is_hidden_or_out_of_stock_where_it_is_one_of_a_group(outcome: Outcome) -> None:
    cup = outcome.variants["C2"]
    assert (cup.price, cup.availability, cup.inventory) == (
        110000,
        "out of stock",
        InventoryInput(track_inventory=False),
    )
    assert outcome.products["C2"].visibility == "public"
    assert outcome.products["H1"].visibility == "private"


def test_records_are_products_like_others(outcome: Outcome) -> None:
    assert outcome.products["R1"].title == "Трио Вечер"
    assert outcome.variants["R1"].availability == "preorder"


def test_what_is_left_out_and_what_fails(outcome: Outcome) -> None:
    assert [(skip.row, skip.item_id, skip.field) for skip in outcome.skips] == [(6, "D1", "deleted")]
    assert [(failure.row, failure.field, failure.rule, failure.value) for failure in outcome.failures] == [
        (7, "currencyId", "wrong_currency", "USD"),
        (8, "price", "unreadable", "дорого"),
        (9, "id", "missing_id", None),
        (10, "count", "unreadable", "часть"),
    ]


def test_things_said_once_of_the_file(outcome: Outcome) -> None:
    assert [(warning.field, warning.rule) for warning in outcome.warnings if warning.row == 0] == [
        ("url", "template_marks"),
        ("categoryId", "unknown_category"),
    ]


def test_categories_that_are_their_own_ancestors_end(outcome: Outcome) -> None:
    assert outcome.products["C1"].categories == ["Круг", "По кругу"]


def test_the_currency_of_the_file_counts_where_an_offer_names_none() -> None:
    currencies = '<currencies><currency id="RUR" rate="1"/></currencies>'
    offer = '<offer id="1"><price>5</price><name>A</name></offer>'
    assert parse(feed(offer, before=currencies), currency="RUB").warnings == []
    [failure] = parse(feed(offer, before=currencies), currency="EUR").failures
    assert (failure.rule, failure.value) == ("wrong_currency", "RUB")
    [warning] = parse(feed(offer), currency="EUR").warnings
    assert "name no currency" in warning.message


def test_stock_by_outlet_is_added_up_and_one_that_cannot_be_read_fails() -> None:
    offer = (
        '<offer id="1"><price>5</price><outlets><outlet instock="2"/><outlet instock="{}"/></outlets></offer>'
    )
    assert parse(feed(offer.format("3"))).variants["1"].inventory == InventoryInput(True, 5)
    assert [failure.field for failure in parse(feed(offer.format("x"))).failures] == ["instock"]


def test_a_count_that_contradicts_the_availability_is_not_counted() -> None:
    outcome = parse(feed('<offer id="1" available="false"><price>5</price><count>3</count></offer>'))
    assert outcome.variants["1"].availability == "out of stock"
    assert outcome.variants["1"].inventory == InventoryInput(track_inventory=False, quantity_on_hand=3)


@pytest.mark.parametrize(
    ("condition", "word"),
    [
        ('<condition type="preowned"/>', "used"),
        ('<condition type="showcasesample"><quality>good</quality></condition>', "used"),
        ("<condition>refurbished</condition>", "refurbished"),
        ('<condition type="new"/>', "new"),
        ('<condition type="odd"/>', None),
    ],
)
def test_conditions(condition: str, word: str | None) -> None:
    outcome = parse(feed(f'<offer id="1"><price>5 USD</price>{condition}</offer>'))
    assert outcome.variants["1"].condition == word
    assert bool(outcome.warnings) == (word is None)


def test_a_dtd_of_the_feeds_own_is_refused_and_a_named_one_is_never_loaded() -> None:
    offer = '<offer id="1"><price>5 USD</price><name>A&nbsp;B</name></offer>'
    named = parse(feed(offer, head='<!DOCTYPE yml_catalog SYSTEM "http://127.0.0.1:1/shops.dtd">'))
    assert named.products["1"].title == "A\xa0B"
    with pytest.raises(FileRefusedError, match="DTD"):
        parse(feed(offer, head='<!DOCTYPE yml_catalog [<!ENTITY nbsp " ">]>'))


def test_a_feed_that_is_cut_is_refused_whole() -> None:
    with pytest.raises(FileRefusedError, match="line 1, column"):
        parse(feed('<offer id="1"><price>5</price></offer>')[:-20])


def test_values_too_long_fail_their_offer() -> None:
    outcome = parse(feed(f'<offer id="1"><price>5</price><name>{"x" * 300}</name></offer>'), cells=200)
    assert [(failure.field, failure.item_id) for failure in outcome.failures] == [("name", "1")]


def test_another_feed_is_refused_when_this_format_is_asked_for() -> None:
    with pytest.raises(FileRefusedError):
        parse("<rss><channel><item><id>1</id></item></channel></rss>", "yandex-yml")
