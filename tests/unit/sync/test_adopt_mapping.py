"""From an item as Meta shows it to the store's rows, and back to what we would send: it must come to the same."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.catalog.models import CatalogItem, ProductInput
from meta_sync.core.currency import minor_unit_exponent
from meta_sync.sandbox.model import Catalog
from meta_sync.sandbox.reading import read_item
from meta_sync.sync.adopt_mapping import adopted_product, field_values, price_subunits, shown_options
from meta_sync.sync.adopt_models import UnreadableItemError
from meta_sync.sync.mapping import MappedItem, Mapper
from meta_sync.sync.reconcile_compare import Match, compare
from tests.support.findings import at_meta_item
from tests.unit.mapping.builders import NOW, SETTINGS, make_item

_MAPPER = Mapper(replace(SETTINGS, currency="EUR"))


def _shown(item: dict[str, Any], *, american: bool = True) -> dict[str, Any]:
    catalog = Catalog("1", "Catalog", "2", number=1)
    catalog.store(item["id"], dict(item))
    return read_item(catalog, item["id"], item, american=american)


def _row(product: ProductInput) -> CatalogItem:
    """The row of a product with one variant, as the catalog would read it back."""
    [variant] = product.variants
    stock = variant.inventory
    return make_item(
        variant_id=variant.id,
        product_id=product.id,
        product_thumbnail=None,
        product_images=[],
        vendor=None,
        slug=None,
        subtitle=None,
        ean=None,
        upc=None,
        product_link=None,
        variant_link=variant.link,
        variant_thumbnail=variant.thumbnail,
        variant_images=variant.images,
        track_inventory=stock.track_inventory if stock else None,
        quantity_on_hand=stock.quantity_on_hand if stock else None,
        reserved_quantity=0 if stock else None,
        allow_backorder=False if stock else None,
        **{
            name: getattr(product, name)
            for name in (
                "title",
                "description",
                "brand",
                "categories",
                "google_product_category",
                "source",
                "visibility",
            )
        },
        **{
            name: getattr(variant, name)
            for name in (
                "sku",
                "price",
                "special_price",
                "special_price_start",
                "special_price_end",
                "condition",
                "barcode",
                "options",
                "availability",
            )
        },
    )


_WORDS = st.text(st.characters(categories=("Lu", "Ll"), max_codepoint=0x17F), min_size=2, max_size=12)
_TITLES = st.lists(_WORDS.map(str.capitalize), min_size=1, max_size=4).map(" ".join)
_AMOUNTS = st.integers(200, 9_999_999)


@st.composite
def _items(draw: st.DrawFn) -> dict[str, Any]:
    price = draw(_AMOUNTS)
    sale = draw(st.none() | st.integers(1, price - 1))
    quantity = draw(st.none() | st.integers(0, 50))
    in_stock = draw(st.sampled_from(["in stock", "out of stock", "preorder", "available for order"]))
    if quantity is not None:
        in_stock = "in stock" if quantity else "out of stock"
    return at_meta_item(
        draw(st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)),
        title=draw(_TITLES),
        description=draw(_TITLES),
        price=f"{Decimal(price).scaleb(-2)} EUR",
        sale_price=None if sale is None else f"{Decimal(sale).scaleb(-2)} EUR",
        sale_price_effective_date=draw(
            st.sampled_from([None, "2020-01-01T00:00+00:00/2090-01-01T12:30+02:00"])
        )
        if sale is not None
        else None,
        availability=in_stock,
        quantity_to_sell_on_facebook=quantity,
        condition=draw(st.sampled_from(["new", "refurbished", "used"])),
        gtin=draw(st.sampled_from([None, "4006381333931"])),
        mpn=draw(st.none() | _WORDS),
        brand=draw(_WORDS),
        color=draw(st.sampled_from([None, "Red", "Night blue"])),
        size=draw(st.sampled_from([None, "XL"])),
        product_type=draw(st.sampled_from([None, "Home > Kitchen > Mugs"])),
        google_product_category=draw(st.sampled_from([None, "Home > Mugs", "2169"])),
        additional_variant_attribute=draw(st.sampled_from([None, "Scent:Rose", "Flavour:Mint,Scent:Rose"])),
        additional_image_link=draw(
            st.sampled_from([None, ["https://e.example/2.jpg", "https://e.example/3.jpg"]])
        ),
    )


@given(_items(), st.booleans())
def test_what_is_adopted_would_be_sent_as_meta_shows_it(item: dict[str, Any], american: bool) -> None:
    shown = _shown(item, american=american)
    row = _row(adopted_product(shown, currency="EUR"))
    mapped = _MAPPER.evaluate(row, excluded=False, retailer_id=item["id"], now=NOW)
    assert isinstance(mapped, MappedItem)
    # A label that the mapping makes of the brand is ours alone.
    ours = {name: value for name, value in mapped.data.items() if name != "custom_label_1"}
    if item.get("google_product_category") is None:
        ours.pop("google_product_category", None)
    compared = compare(ours, shown)
    assert compared.match is Match.EQUAL, compared.differences


@given(_items(), st.booleans())
def test_what_is_pinned_is_what_was_sent(item: dict[str, Any], american: bool) -> None:
    values = field_values(_shown(item, american=american), currency="EUR")
    assert "id" not in values and "item_group_id" not in values
    for name, value in values.items():
        if name != "sale_price_effective_date":
            assert value == item.get(name), name
    assert compare({name: one for name, one in values.items() if one}, _shown(item)).match is Match.EQUAL


@given(st.sampled_from(["EUR", "JPY", "KWD", "HUF"]), st.integers(1, 10**9))
def test_a_plain_price_is_read_in_the_currency_s_own_units(currency: str, subunits: int) -> None:
    exponent = minor_unit_exponent(currency)
    plain = str(Decimal(subunits).scaleb(-exponent))
    if exponent != 3:
        assert price_subunits(plain, currency) == subunits


@pytest.mark.parametrize(
    ("text", "currency"),
    [("1.234", "KWD"), ("Free", "EUR"), ("0.00 €", "EUR"), ("19.90", "JPY"), ("", "EUR")],
)
def test_a_price_that_allows_for_two_readings_or_none_is_taken_for_neither(text: str, currency: str) -> None:
    with pytest.raises(UnreadableItemError) as refused:
        price_subunits(text, currency)
    assert refused.value.code == "price_unclear"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"currency": "USD"}, "other_currency"),
        ({"price": "?"}, "price_unclear"),
        ({"retailer_id": "x" * 201}, "not_storable"),
    ],
)
def test_what_cannot_be_taken_over_says_why(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(UnreadableItemError) as refused:
        adopted_product({**_shown(at_meta_item("v")), **changes}, currency="EUR")
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"availability": "discontinued"}, "out of stock"),
        ({"availability": "IN_STOCK"}, "in stock"),
        ({"availability": None}, None),
        ({"visibility": "staging"}, "in stock"),
    ],
)
def test_words_that_the_catalog_has_not(changes: dict[str, Any], expected: str | None) -> None:
    product = adopted_product({**_shown(at_meta_item("v")), **changes}, currency="EUR")
    assert product.variants[0].availability == expected
    assert product.visibility == ("private" if "visibility" in changes else "public")


def test_nonsense_is_left_out() -> None:
    shown: dict[str, Any] = {
        "retailer_id": "v",
        "name": ["no", "text"],
        "additional_image_urls": "no list",
        "additional_variant_attributes": ["no map", {"": "x"}, {"Scent": "Rose"}],
        "sale_price_start_date": "no date",
        "quantity_to_sell_on_facebook": -3,
        "product_group": "no map",
    }
    product = adopted_product(shown, currency="EUR")
    assert (product.id, product.title, product.variants[0].images) == ("v", None, [])
    assert shown_options(shown) == {"Scent": "Rose"}
