"""Items and settings for the tests of the mapper, and strategies that make strange ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from meta_sync.catalog.models import CatalogItem
from meta_sync.core.currency import CURRENCIES
from meta_sync.sync.eligibility import IneligibleReason
from meta_sync.sync.mapping import Ineligible, MappedItem, evaluate
from meta_sync.sync.mapping_issues import IssueCode
from meta_sync.sync.mapping_settings import MappingSettings

NOW = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)
SETTINGS = MappingSettings(currency="EUR", storefront_base_url="https://shop.example")
_PLAIN = CatalogItem(
    variant_id="v1",
    product_id="p1",
    title="Cotton shirt",
    subtitle=None,
    description="Soft and light.",
    slug="cotton-shirt",
    product_link=None,
    status="active",
    visibility="public",
    brand="Acme",
    vendor=None,
    product_thumbnail="https://cdn.example/p.jpg",
    product_images=(),
    categories=(),
    google_product_category=None,
    product_deleted=False,
    sku=None,
    variant_link=None,
    price=1990,
    special_price=None,
    special_price_start=None,
    special_price_end=None,
    condition=None,
    variant_thumbnail=None,
    variant_images=(),
    ean=None,
    upc=None,
    barcode=None,
    options={},
    availability=None,
    variant_deleted=False,
    track_inventory=None,
    quantity_on_hand=None,
    reserved_quantity=None,
    allow_backorder=None,
    live_variant_count=1,
    group_id_taken=False,
)


def make_item(**changes: Any) -> CatalogItem:
    """An item that may be sent, with the given columns changed."""
    return replace(_PLAIN, **changes)


def result_of(
    settings: MappingSettings = SETTINGS, /, *, now: datetime = NOW, image_version: int = 0, **changes: Any
) -> MappedItem | Ineligible:
    item = make_item(**changes)
    return evaluate(item, settings, excluded=False, retailer_id=None, now=now, image_version=image_version)


def mapped(settings: MappingSettings = SETTINGS, /, **changes: Any) -> MappedItem:
    result = result_of(settings, **changes)
    assert isinstance(result, MappedItem), result
    return result


def data_of(settings: MappingSettings = SETTINGS, /, **changes: Any) -> dict[str, Any]:
    return mapped(settings, **changes).data


def refusal(settings: MappingSettings = SETTINGS, /, **changes: Any) -> IneligibleReason:
    result = result_of(settings, **changes)
    assert isinstance(result, Ineligible), result
    return result.reason


def issue_codes(result: MappedItem | Ineligible) -> Sequence[IssueCode]:
    return [found.code for found in result.issues]


# --- Strategies -----------------------------------------------------------------------------------------------------

_ANY_TEXT = st.text(st.characters(), max_size=40)  # lone surrogates and control characters included
_PIECES = "<p>,</p>,<b,>,<,&,&amp;,&lt;,&#8203;,<!--,-->,<script>,\u200b,a,WORD,É,\n,\",',<![CDATA[,]]>,é,\u0301,\u200d,:"
_MARKUP = st.lists(st.sampled_from([*_PIECES.split(","), ",", " "]), max_size=25).map("".join)
TEXTS = st.one_of(
    _ANY_TEXT, _MARKUP, st.text("ABC ", max_size=400), st.text("aé ", min_size=150, max_size=260)
)
_URLS = st.one_of(
    st.builds(
        lambda scheme, host, tail: f"{scheme}{host}{tail}",
        st.sampled_from(["https://", "http://", "HTTP://", "//", "ftp://", "", "/", "data:", "javascript:"]),
        st.sampled_from(
            ["a.example", "ä.example", "u:p@a.example", "localhost:80", "[::1]", "a..b", "", "a b", "x:99999"]
        ),
        st.one_of(st.just("/i.jpg"), TEXTS.map(lambda text: "/" + text), TEXTS),
    ),
    TEXTS,
    st.integers(0, 30).map(lambda number: f"https://a.example/{number}.jpg"),
)
_OFFSETS = st.sampled_from(
    [UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-11)), None]
)
INSTANTS = st.one_of(
    st.datetimes(timezones=_OFFSETS),
    st.integers(-200_000, 200_000).map(lambda seconds: NOW + timedelta(seconds=seconds)),
)
_PRICES = st.one_of(st.integers(-10, 3_000), st.integers(-(2**63), 2**63))
_COUNTS = st.one_of(st.none(), st.integers(-5, 60), st.integers(-(2**63), 2**63))
_OPTION_NAMES = st.one_of(
    st.sampled_from(
        ["Color", "colour", "SIZE", "pa_size", "Fabric", "print", "Gender", "age group", "Scent", "a,b:c"]
    ),
    TEXTS,
)
_WORDS = st.sampled_from(
    ["new", "Used", "out_of_stock", "preorder", "http://schema.org/InStock", "women", "kids", "#fff"]
)
_BARCODES = st.one_of(
    st.none(),
    TEXTS,
    st.text("0123456789 -", min_size=7, max_size=16),
    st.just("4006381333931"),
    st.just("1.58E+15"),
)


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


ITEMS = st.builds(
    CatalogItem,
    variant_id=st.one_of(TEXTS, st.just("v1")),
    product_id=st.one_of(TEXTS, st.just("v1"), st.just("p1")),
    title=_maybe(TEXTS),
    subtitle=_maybe(TEXTS),
    description=_maybe(TEXTS),
    slug=_maybe(TEXTS),
    product_link=_maybe(_URLS),
    status=st.sampled_from(["active"] * 9 + ["draft"]),
    visibility=st.sampled_from(["public"] * 9 + ["private"]),
    brand=_maybe(TEXTS),
    vendor=_maybe(TEXTS),
    product_thumbnail=_maybe(_URLS),
    product_images=st.lists(_URLS, max_size=30),
    categories=st.lists(TEXTS, max_size=6),
    google_product_category=_maybe(TEXTS),
    product_deleted=st.just(value=False),
    sku=_maybe(TEXTS),
    variant_link=_maybe(_URLS),
    price=_maybe(_PRICES),
    special_price=_maybe(_PRICES),
    special_price_start=_maybe(INSTANTS),
    special_price_end=_maybe(INSTANTS),
    condition=_maybe(st.one_of(TEXTS, _WORDS)),
    variant_thumbnail=_maybe(_URLS),
    variant_images=st.lists(_URLS, max_size=5),
    ean=_BARCODES,
    upc=_BARCODES,
    barcode=_BARCODES,
    options=st.dictionaries(_OPTION_NAMES, st.one_of(TEXTS, _WORDS), max_size=5),
    availability=_maybe(st.one_of(TEXTS, _WORDS)),
    variant_deleted=st.sampled_from([False] * 9 + [True]),
    track_inventory=_maybe(st.booleans()),
    quantity_on_hand=_COUNTS,
    reserved_quantity=_COUNTS,
    allow_backorder=_maybe(st.booleans()),
    live_variant_count=st.integers(0, 3),
    group_id_taken=st.booleans(),
    source=st.sampled_from(["api", "feed"]),
)

SETTINGS_STRATEGY = st.builds(
    MappingSettings,
    currency=st.sampled_from(sorted(CURRENCIES)),
    storefront_base_url=st.sampled_from(
        [None, "https://shop.example", "https://shop.example/en/", "shop.example"]
    ),
    storefront_product_path=st.sampled_from(
        ["/product/{slug}", "p/{productId}?v={variantId}", "/{sku}", "/x y/{slug}"]
    ),
    media_base_url=st.sampled_from([None, "https://cdn.example/media/", "ftp://cdn.example"]),
    default_condition=st.sampled_from(["new", "used", "nonsense"]),
    default_brand=_maybe(TEXTS),
    business_name=_maybe(TEXTS),
    identifier_exists_fallback=st.booleans(),
    retailer_id_template=st.sampled_from(["{variantId}", "{productId}-{sku}", "x_{variantId}"]),
    quantity_policy=st.sampled_from(["capped", "exact", "none"]),
)
