"""What a catalog that has items would become: each item in one count, and only differences that are ones."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.sync.preflight_compare import CatalogTally, Match, add_page, changed_fields
from meta_sync.sync.preflight_scan import MOST_EXAMPLES, KeyKind

_OURS = {
    "id": "a",
    "title": "Chair",
    "description": "To sit on",
    "link": "https://shop.example/chair",
    "image_link": "https://shop.example/chair.jpg",
    "brand": "Acme",
    "availability": "in stock",
    "price": "1234.50 EUR",
}
_THEIRS = {
    "id": "9",
    "retailer_id": "a",
    "name": "Chair",
    "description": " To sit on ",
    "url": "https://shop.example/chair",
    "image_url": "https://shop.example/chair.jpg",
    "brand": "Acme",
    "availability": "in stock",
    "price": "€1,234.50",
    "currency": "EUR",
}


@pytest.mark.parametrize("shown", ["€1,234.50", "1.234,50\xa0€", "1 234,50 €", "EUR1234.50", "€1,234.5"])
def test_the_same_price_in_any_format_is_no_difference(shown: str) -> None:
    assert changed_fields({**_THEIRS, "price": shown}, _OURS) == {}


@pytest.mark.parametrize(
    ("theirs", "ours", "changes"),
    [
        ({"price": "€1,234.51"}, {}, {"price": ["€1,234.51", "1234.50 EUR"]}),
        ({"price": None}, {}, {"price": [None, "1234.50 EUR"]}),
        ({"name": "Old"}, {}, {"title": ["Old", "Chair"]}),
        ({"sale_price": "€9.00"}, {}, {"sale_price": ["€9.00", None]}),
        ({"sale_price": "0,00 €"}, {}, {}),
        ({}, {"sale_price": "9.00 EUR"}, {"sale_price": [None, "9.00 EUR"]}),
        ({"price": "¥1,000", "currency": "JPY"}, {"price": "1000 JPY"}, {}),
        ({"color": "red"}, {}, {"color": ["red", None]}),
        ({"price": "€5"}, {"price": "5.00 EUR"}, {}),
        ({"description": "x" * 300}, {}, {"description": ["x" * 199 + "…", "To sit on"]}),
    ],
)
def test_differences_by_field(
    theirs: dict[str, Any], ours: dict[str, Any], changes: dict[str, list[str | None]]
) -> None:
    assert changed_fields({**_THEIRS, **theirs}, {**_OURS, **ours}) == changes


def test_each_item_is_what_becomes_of_it() -> None:
    tally = CatalogTally()
    shown: list[dict[str, Any]] = [
        {**_THEIRS, "retailer_id": "same"},
        {**_THEIRS, "retailer_id": "other", "sale_price": "€9.00"},
        {**_THEIRS, "retailer_id": "gone"},
        {**_THEIRS, "retailer_id": "draft"},
        {**_THEIRS, "retailer_id": "theirs", "product_feed": {"id": "77"}, "currency": "USD"},
        {"id": "8"},
    ]
    add_page(
        tally,
        shown,
        {
            "same": Match(KeyKind.SENDABLE, "v1", _OURS),
            "other": Match(KeyKind.SENDABLE, "v2", _OURS),
            "gone": Match(KeyKind.TO_DELETE, "v3"),
            "draft": Match(KeyKind.UNFIT, "v4"),
        },
    )
    assert (tally.items, tally.unchanged, tally.adopted, tally.of_feeds) == (6, 1, 2, 1)
    assert (tally.changed.count, tally.deleted.count, tally.unfit.count, tally.foreign.count) == (1, 1, 1, 2)
    assert tally.sales_ended.examples[0]["changes"] == {"sale_price": ["€9.00", None]}
    assert tally.changed_fields == {"sale_price": 1}
    assert tally.currencies == {"EUR": 4, "USD": 1}
    assert [one["feedId"] for one in tally.foreign.examples] == ["77", None]
    assert [one["variantId"] for one in tally.changed.examples] == ["v2"]


_SHOWN = st.fixed_dictionaries(
    {"retailer_id": st.one_of(st.none(), st.sampled_from([f"r{n}" for n in range(40)]), st.integers())},
    optional={
        "name": st.one_of(st.none(), st.text(max_size=5), st.integers()),
        "price": st.one_of(st.none(), st.text(max_size=8)),
        "sale_price": st.one_of(st.none(), st.just("€1.00")),
        "currency": st.one_of(st.none(), st.text(max_size=3), st.integers()),
        "product_feed": st.one_of(st.none(), st.just({"id": "1"}), st.text(max_size=2)),
    },
)


@given(st.lists(_SHOWN, max_size=80), st.integers(1, 30))
def test_whatever_meta_shows_is_in_one_count_wherever_pages_end(
    shown: list[dict[str, Any]], size: int
) -> None:
    matches = {f"r{n}": Match(KeyKind.SENDABLE, f"v{n}", _OURS) for n in range(10)}
    matches |= {f"r{n}": Match(KeyKind.UNFIT, f"v{n}") for n in range(10, 15)}
    whole, parts = CatalogTally(), CatalogTally()
    add_page(whole, shown, matches)
    for start in range(0, len(shown), size):
        add_page(parts, shown[start : start + size], matches)
        parts = CatalogTally.of(orjson.loads(orjson.dumps(parts.stored())))
    assert parts == whole
    kinds = (whole.changed, whole.deleted, whole.unfit, whole.foreign)
    assert whole.unchanged + sum(one.count for one in kinds) == whole.items == len(shown)
    assert all(len(one.examples) == min(one.count, MOST_EXAMPLES) for one in kinds)
    assert len(whole.currencies) <= 20
