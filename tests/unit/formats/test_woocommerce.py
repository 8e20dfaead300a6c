from __future__ import annotations

from datetime import UTC, datetime

import pytest

from meta_sync.catalog.ingest.formats.slugs import wordpress_slug
from meta_sync.catalog.ingest.formats.woocommerce_columns import attribute_column, meaning_of
from meta_sync.catalog.models import InventoryInput, ProductInput
from tests.unit.formats.reading import Outcome, parse_sample


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return parse_sample("woocommerce.csv", timezone="Europe/Berlin")


def test_a_variable_product_is_a_parent(outcome: Outcome) -> None:
    [parent] = outcome.parents
    assert (parent.row, parent.product) == (
        3,
        ProductInput(
            id="10",
            title="Shirt & Tie",
            subtitle="Short",
            description="<b>Long</b>\nSecond",
            slug="shirt-tie",
            brand="Loom",
            thumbnail="https://img.example/a.jpg",
            images=["https://img.example/b,c.jpg"],
            categories=["Clothing", "Shirts", "Long"],
            source="woocommerce-csv",
        ),
    )


def test_variations_find_their_product_by_sku_or_id_also_above_it(outcome: Outcome) -> None:
    red, blue = outcome.items[:2]
    for item in (red, blue):
        assert item.product_is_partial
        assert item.product == ProductInput(id="10", source="woocommerce-csv")
    assert (red.variant.price, red.variant.special_price) == (2000, 1799)
    assert red.variant.thumbnail == "https://img.example/red.jpg"
    assert red.variant.options == {"Colour": "Red"}
    assert red.variant.inventory == InventoryInput(
        track_inventory=True, quantity_on_hand=3, allow_backorder=True
    )
    assert blue.variant.options == {"Colour": "Blue", "Size": "L"}


def test_an_attribute_left_open_is_said_and_not_sent(outcome: Outcome) -> None:
    said = [(warning.rule, warning.message) for warning in outcome.warnings if warning.item_id == "11"]
    assert said == [("any_value", "The variation fits any Size; its item carries no Size.")]


def test_a_variation_that_is_switched_off_cannot_be_bought(outcome: Outcome) -> None:
    blue = outcome.variants["12"]
    assert (blue.availability, blue.inventory) == ("out of stock", InventoryInput(track_inventory=False))
    assert any("switched off" in warning.message for warning in outcome.warnings)


def test_a_virtual_product_is_an_item(outcome: Outcome) -> None:
    album, product = outcome.variants["20"], outcome.products["20"]
    assert (product.status, product.visibility, product.slug) == ("active", "private", "album-№1-musica")
    assert (album.availability, album.inventory, album.price, album.special_price) == (
        "available for order",
        None,
        801,
        500,
    )
    assert album.special_price_start == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert album.special_price_end == datetime(2026, 1, 31, 22, 59, tzinfo=UTC)
    assert album.options == {"Artist": "Tom, Dick/Harry"}


def test_an_external_product_is_an_item_on_the_shops_own_page(outcome: Outcome) -> None:
    ext, product = outcome.variants["30"], outcome.products["30"]
    assert (ext.link, product.link, product.slug, product.status) == (None, None, "elsewhere", "draft")
    assert ext.inventory == InventoryInput(track_inventory=False, quantity_on_hand=7, allow_backorder=False)


def test_what_is_left_out_and_what_fails(outcome: Outcome) -> None:
    assert [(skip.row, skip.item_id, skip.field) for skip in outcome.skips] == [
        (6, "40", "Type"),
        (9, "60", "Type"),
    ]
    assert [(failure.row, failure.field, failure.item_id) for failure in outcome.failures] == [
        (7, "Parent", "50"),
        (8, "Parent", "51"),
        (10, "Published", "70"),
        (11, "ID", None),
        (12, "Regular price", "80"),
    ]
    assert '"nowhere"' in outcome.failures[1].message
    assert '"perhaps"' in outcome.failures[2].message


def test_prices_never_carry_a_currency_and_nobody_is_bothered_about_it(outcome: Outcome) -> None:
    assert not any(warning.row == 0 for warning in outcome.warnings)


def test_russian_header_after_an_empty_line_and_a_byte_order_mark() -> None:
    [item] = parse_sample("woocommerce_ru.csv").items
    assert (item.row, item.product.title, item.product.slug) == (1, "Красный чайник", "красный-чайник")
    assert item.product.categories == ["Кухня", "Чайники"]
    assert (item.variant.price, item.variant.options) == (24000, {"Цвет": "Красный"})
    assert item.variant.inventory == InventoryInput(
        track_inventory=True, quantity_on_hand=5, allow_backorder=False
    )


def test_german_header() -> None:
    [item] = parse_sample("woocommerce_de.csv").items
    assert (item.variant.price, item.variant.special_price, item.variant.ean) == (1250, 850, "4006381333931")
    assert (item.variant.availability, item.variant.options) == ("out of stock", {"Farbe": "Grün"})
    assert item.product.slug == "kaffeemuhle"


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("Attribute 2 value(s)", (2, "value")),
        ("Attribute 12 name", (12, "name")),
        ("Attribute 1 visible", None),
        ("Attribute 1 default", None),
        ("Valeur(s) de l’attribut 1", (1, "value")),
        ("Nom de l’attribut 1", (1, "name")),
        ("Nombre del atributo 3", (3, "name")),
        ("Attributo 1 valuta(e)", (1, "value")),
        ("Naam eigenschap 1", (1, "name")),
        ("Wartości atrybutu 1", (1, "value")),
        ("Значение(-я) аттрибута(-ов) 1", (1, "value")),
        ("Имя атрибута 1", (1, "name")),
        ("Download 1 name", None),
    ],
)
def test_attribute_columns_in_many_languages(name: str, column: tuple[int, str] | None) -> None:
    assert attribute_column(name) == column


def test_columns_in_many_languages() -> None:
    assert {
        meaning_of(name) for name in ("Tarif régulier", "Precio normal", "Reguliere prijs", "Базовая цена")
    } == {"regular_price"}
    assert meaning_of("GTIN, UPC, EAN ou ISBN") == "gtin"
    assert meaning_of("Tax status") is None


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Hoodie with Pocket and  Logo", "hoodie-with-pocket-and-logo"),
        ("Tom &amp; Jerry's – 2.5 m", "tom-jerrys-2-5-m"),
        ("Crème Brûlée / Øl", "creme-brulee-ol"),
        ("Товар 3 (Копировать)", "товар-3-копировать"),
        ("йод", "йод"),
        ("!!!", None),
        ("я" * 60, "я" * 33),
    ],
)
def test_slugs_are_those_of_wordpress(title: str, slug: str | None) -> None:
    assert wordpress_slug(title) == slug
