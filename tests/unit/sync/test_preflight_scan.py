"""What a page of items adds up to: every item is in one count, examples are bounded, and pages may be cut anywhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.catalog.models import CatalogItem
from meta_sync.sync.codes import CODES
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.mapping_settings import MappingSettings
from meta_sync.sync.models import NEW_ITEM, ItemState, Link, Presence
from meta_sync.sync.preflight_scan import MOST_EXAMPLES, KeyKind, PageKey, Scan, Scanner, fold_key, id_key

_NOW = datetime(2026, 11, 20, tzinfo=UTC)
_LINK = Link(1, epoch=1, was_empty=False)
_SETTINGS = MappingSettings(currency="EUR", storefront_base_url="https://shop.example")
_ITEM = CatalogItem(
    variant_id="v",
    product_id="p",
    title="Chair",
    subtitle=None,
    description="To sit on",
    slug="chair",
    product_link=None,
    status="active",
    visibility="public",
    brand="Acme",
    vendor=None,
    product_thumbnail="https://shop.example/chair.jpg",
    product_images=(),
    categories=(),
    google_product_category=None,
    product_deleted=False,
    sku=None,
    variant_link=None,
    price=1999,
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

_Page = list[tuple[CatalogItem, ItemState]]


def _item(variant_id: str, **fields: Any) -> CatalogItem:
    return replace(_ITEM, variant_id=variant_id, **fields)


def _scan(page: _Page, scan: Scan | None = None, *, link: Link | None = _LINK) -> tuple[Scan, list[PageKey]]:
    scan = scan or Scan()
    return scan, Scanner(scan, link, Mapper(_SETTINGS), _NOW).page(page)


def _new(*items: CatalogItem) -> _Page:
    return [(item, NEW_ITEM) for item in items]


def _counts(scan: Scan) -> dict[str, int]:
    return {code: one.count for code, one in (scan.reasons | scan.warnings).items()}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"price": None}, "missing_price"),
        ({"price": 0}, "missing_price"),
        ({"title": " "}, "missing_title"),
        ({"product_thumbnail": None}, "missing_image"),
        ({"brand": None}, "missing_identifier"),
        ({"slug": None}, "missing_storefront_slug"),
        ({"status": "draft"}, "product_not_active"),
        ({"visibility": "private"}, "product_not_public"),
        ({"variant_id": "x" * 101}, "invalid_id"),
    ],
)
def test_what_is_not_fit_is_told_by_its_reason(fields: dict[str, Any], code: str) -> None:
    scan, keys = _scan(_new(replace(_ITEM, **fields), _item("fit")))
    assert (scan.variants, scan.syncable, _counts(scan)) == (2, 1, {code: 1})
    [example] = scan.reasons[code].examples
    assert (example["variantId"], example["productId"]) == (fields.get("variant_id", "v"), "p")
    assert [key.example for key in keys if key.kind == KeyKind.SENDABLE] == ["fit"]
    assert code in CODES


def test_remarks_of_the_mapping_are_told_with_their_sentences() -> None:
    group = {"live_variant_count": 2, "product_id": "g"}
    scan, _ = _scan(_new(_item("a,b"), _item("c", **group), _item("g", **group, options={"color": "red"})))
    assert scan.syncable == 3
    assert _counts(scan) == {"id_breaks_checkout_link": 1, "group_without_attribute": 1, "id_equals_group": 1}
    [example] = scan.warnings["id_breaks_checkout_link"].examples
    assert (example["retailerId"], "a,b" in example["message"]) == ("a,b", True)


def test_what_is_gone_counts_only_where_it_would_be_deleted() -> None:
    gone = _item("gone", variant_deleted=True)
    sent = replace(NEW_ITEM, retailer_id="old id", presence=Presence.PRESENT, confirmed_epoch=1)
    scan, keys = _scan([(gone, NEW_ITEM)])
    assert (scan, keys) == (Scan(), [])
    scan, keys = _scan([(gone, sent)])
    assert (scan.variants, scan.deletes) == (0, 1)
    assert keys == [PageKey(KeyKind.TO_DELETE, id_key("old id"), "gone")]
    absent = replace(sent, presence=Presence.ABSENT)
    assert _scan([(gone, absent)])[0].deletes == 0
    assert _scan([(gone, sent)], link=None)[0].deletes == 0
    scan, _ = _scan([(_item("draft", status="draft"), sent)])
    assert (scan.variants, scan.deletes, _counts(scan)) == (1, 1, {"product_not_active": 1})


def test_an_unfit_item_that_was_never_sent_is_recognised_and_left_alone() -> None:
    scan, keys = _scan(_new(_item("draft", status="draft")))
    assert scan.deletes == 0
    assert keys == [PageKey(KeyKind.UNFIT, id_key("draft"), "draft")]


def test_a_row_that_breaks_the_mapper_is_told_and_the_others_go_on() -> None:
    broken: Any = "no number"
    scan, keys = _scan(_new(_item("a"), _item("b", price=broken), _item("c")))
    assert (scan.variants, scan.syncable, _counts(scan)) == (3, 2, {"mapping_failed": 1})
    assert {key.example for key in keys} == {"a", "c"}


def test_variants_of_a_product_share_their_text_and_others_are_alike() -> None:
    two = _new(_item("a"), _item("b"))
    assert [key.times for key in _scan(two)[1] if key.kind == KeyKind.TEXT] == [1]
    _, keys = _scan(_new(_item("a"), _item("b", product_id="q"), _item("c", product_id="r", title="Table")))
    alike = [key.key.partition(":")[0] for key in keys if key.kind == KeyKind.TEXT]
    assert (len(alike), len(set(alike))) == (3, 2)


def test_one_id_for_two_variants_is_counted_twice() -> None:
    frozen = replace(NEW_ITEM, retailer_id="same")
    _, keys = _scan([(_item("a"), frozen), (_item("b"), frozen)])
    assert [(key.example, key.times) for key in keys if key.kind == KeyKind.SENDABLE] == [("a", 2)]


@given(st.text(min_size=1, max_size=100), st.text(min_size=1, max_size=100))
def test_keys_tell_ids_apart_and_bring_those_together_that_differ_by_case(one: str, other: str) -> None:
    first, second = id_key(one), id_key(other)
    assert len(first) == 45
    assert (first == second) is (one == other)
    assert (first.partition(":")[0] == second.partition(":")[0]) is (one.casefold() == other.casefold())
    assert id_key(one.swapcase()).count(":") == fold_key(one, other).count(":") == 1


_ITEMS = st.builds(
    lambda number, price, status, title, deleted: _item(
        f"v{number:03}", price=price, status=status, title=title, variant_deleted=deleted
    ),
    st.integers(0, 200),
    st.sampled_from([None, 0, 100]),
    st.sampled_from(["active", "active", "draft"]),
    st.sampled_from(["Chair", "", "CHAIR OF WOOD"]),
    st.booleans(),
)


@given(st.lists(_ITEMS, max_size=80), st.integers(1, 30))
def test_pages_may_be_cut_anywhere_and_kept_in_between(items: list[CatalogItem], size: int) -> None:
    whole, keys = _scan(_new(*items))
    scan, pieces = Scan(), []
    for start in range(0, len(items), size):
        scan, more = _scan(
            _new(*items[start : start + size]), Scan.of(orjson.loads(orjson.dumps(scan.stored())))
        )
        pieces += more
    assert scan == whole
    assert {(key.kind, key.key) for key in pieces} == {(key.kind, key.key) for key in keys}
    live = [item for item in items if not item.variant_deleted]
    assert whole.variants == len(live)
    assert whole.syncable + sum(one.count for one in whole.reasons.values()) == len(live)
    for found in (whole.reasons | whole.warnings).values():
        assert len(found.examples) == min(found.count, MOST_EXAMPLES)
