"""What holds for every item and every setting."""

from __future__ import annotations

import json
import random
from dataclasses import fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from meta_sync.catalog.models import CatalogItem
from meta_sync.core.currency import CURRENCIES, minor_unit_exponent
from meta_sync.sync.eligibility import eligibility
from meta_sync.sync.mapping import MAPPER_VERSION, Ineligible, MappedItem, Mapper, evaluate
from meta_sync.sync.mapping_fields import MANAGED_FIELDS
from meta_sync.sync.mapping_money import PriceFormat
from meta_sync.sync.mapping_settings import MappingSettings
from meta_sync.sync.mapping_text import clean_text
from tests.unit.mapping.builders import (
    INSTANTS,
    ITEMS,
    NOW,
    SETTINGS,
    SETTINGS_STRATEGY,
    TEXTS,
    make_item,
)
from tests.unit.mapping.spec_validator import WHOLE, faults

MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Items are large; their making costs far more than their mapping."""
CHEAP = settings(max_examples=300, deadline=None)


def run(
    item: CatalogItem, store: MappingSettings, now: datetime = NOW, version: int = 0
) -> MappedItem | Ineligible:
    return evaluate(item, store, excluded=False, retailer_id=None, now=now, image_version=version)


def sendable(item: CatalogItem) -> CatalogItem:
    """The item with its strange content kept and the gaps filled that would make it ineligible."""
    return replace(
        item,
        variant_id="v1",
        product_id=item.product_id if item.product_id.strip() else "p1",
        sku="s1",
        slug="s1",
        status="active",
        visibility="public",
        variant_deleted=False,
        title=f"T {item.title or ''}",
        price=abs(item.price or 0) + 1_000,
        brand=item.brand or "B",
        product_images=[*item.product_images, "https://cdn.example/last.jpg"],
    )


@MANY
@given(ITEMS, SETTINGS_STRATEGY, INSTANTS, st.integers(0, 3))
def test_any_item_gives_a_verdict_and_what_is_sent_is_what_meta_takes(
    item: CatalogItem, store: MappingSettings, now: datetime, version: int
) -> None:
    assume(now.tzinfo is not None)
    result = run(item, store, now, version)
    assert eligibility(item, store, excluded=False, retailer_id=None) == (
        result.reason if isinstance(result, Ineligible) else None
    )
    if isinstance(result, MappedItem):
        assert faults(result.data, store.currency) == []


@MANY
@given(ITEMS, SETTINGS_STRATEGY)
def test_strange_content_in_sendable_items_is_what_meta_takes(
    item: CatalogItem, store: MappingSettings
) -> None:
    store = replace(store, storefront_base_url="https://shop.example", retailer_id_template="x_{variantId}")
    result = run(sendable(item), store)
    assert isinstance(result, MappedItem), result
    assert faults(result.data, store.currency) == []
    assert result.fields == set(result.data) - {"id"}
    assert result.fields <= MANAGED_FIELDS


@MANY
@given(ITEMS)
def test_the_encoding_is_canonical_and_the_hash_is_its(item: CatalogItem) -> None:
    result = run(sendable(item), SETTINGS)
    assert isinstance(result, MappedItem)
    canonical = json.dumps(result.data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    # Control characters never get through, so the two encoders write every text alike.
    assert result.encoded == canonical
    assert result.hash == sha256(b"%d\n" % MAPPER_VERSION + canonical).digest()
    assert json.loads(result.encoded) == result.data


@MANY
@given(ITEMS, st.randoms(use_true_random=False))
def test_the_order_of_options_does_not_matter(item: CatalogItem, chance: random.Random) -> None:
    item = sendable(item)
    pairs = list(item.options.items())
    chance.shuffle(pairs)
    first, second = run(item, SETTINGS), run(replace(item, options=dict(pairs)), SETTINGS)
    assert isinstance(first, MappedItem)
    assert isinstance(second, MappedItem)
    assert first.hash == second.hash
    assert first.issues == second.issues


@MANY
@given(ITEMS, INSTANTS, INSTANTS)
@example(make_item(special_price=100, special_price_end=NOW), NOW - timedelta(seconds=1), NOW)
def test_the_clock_moves_the_hash_only_at_the_end_of_the_sale(
    item: CatalogItem, earlier: datetime, later: datetime
) -> None:
    assume(earlier.tzinfo is not None and later.tzinfo is not None and earlier < later)
    item = sendable(item)
    before, after = run(item, SETTINGS, earlier), run(item, SETTINGS, later)
    assert isinstance(before, MappedItem)
    assert isinstance(after, MappedItem)
    if before.hash != after.hash:
        assert "sale_price" in before.data
        assert "sale_price" not in after.data
        assert item.special_price_end is not None


@CHEAP
@given(st.sampled_from(sorted(CURRENCIES)), st.integers(1, 2**63))
def test_a_price_reads_back_as_it_was_unless_an_issue_says_so(currency: str, subunits: int) -> None:
    prices = PriceFormat(currency)
    text, code = prices.text(prices.amount(subunits)).split(" ")
    exact = Decimal(subunits).scaleb(-minor_unit_exponent(currency))
    step = Decimal(1) if currency in WHOLE or minor_unit_exponent(currency) == 0 else Decimal("0.01")
    assert code == currency
    assert (Decimal(text) == exact) == prices.is_exact(subunits)
    assert Decimal(text) % step == 0
    assert -step / 2 <= exact - Decimal(text) < step / 2  # half goes up


@CHEAP
@given(TEXTS)
def test_cleaning_is_done_once_and_for_all(text: str) -> None:
    once = clean_text(text)
    assert once == " ".join(once.split())
    if "&" not in once and "<" not in once:
        assert clean_text(once) == once


@MANY
@given(ITEMS, SETTINGS_STRATEGY)
def test_a_mapper_made_once_says_the_same(item: CatalogItem, store: MappingSettings) -> None:
    mapper = Mapper(store)
    result = mapper.evaluate(item, excluded=False, retailer_id=None, now=NOW)
    assert result == run(item, store)
    reason = mapper.eligibility(item, excluded=False, retailer_id=None)
    assert reason == (result.reason if isinstance(result, Ineligible) else None)


def test_no_column_is_forgotten_by_the_strategy() -> None:
    """A column that the strategy leaves out would not be tested by anything above."""
    assert len(fields(CatalogItem)) == 38
