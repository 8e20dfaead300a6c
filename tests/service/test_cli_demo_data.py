"""The sample catalog, and the lock files that make it run on a bare machine."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meta_sync.cli.demo_data import REFUSED_VARIANT, sample_products

NOW = datetime(2026, 5, 5, 12, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]


def test_it_is_large_enough_repeatable_and_without_double_ids() -> None:
    products = sample_products(NOW)
    ids = [variant["id"] for product in products for variant in product["variants"]]
    assert products == sample_products(NOW)
    assert len(products) >= 60
    assert len(ids) >= 300
    assert len(set(ids)) == len(ids)
    assert len({product["id"] for product in products}) == len(products)
    assert REFUSED_VARIANT in ids


def test_it_has_every_case_that_a_shop_has() -> None:
    variants = [variant for product in sample_products(NOW) for variant in product["variants"]]
    sales = [v for v in variants if "specialPrice" in v]
    starts = [datetime.fromisoformat(v["specialPriceStart"]) for v in sales]
    assert any(start > NOW for start in starts)
    assert any(start < NOW for start in starts)
    assert any(v["specialPriceEnd"] is None for v in sales)
    assert all(0 < v["specialPrice"] < v["price"] for v in sales)
    stock = [v["inventory"] for v in variants]
    assert any(s.get("allowBackorder") for s in stock)
    assert any(not s["trackInventory"] for s in stock)
    assert any(s.get("quantityOnHand") == s.get("reservedQuantity") == 3 for s in stock)
    assert {"Colour", "Size", "Weight", "Scent"} <= {name for v in variants for name in v.get("options", ())}


def test_its_article_numbers_have_correct_check_digits() -> None:
    numbers = [v["ean"] for p in sample_products(NOW) for v in p["variants"] if v.get("ean")]
    assert len(numbers) > 100
    for number in numbers:
        assert len(number) == 13
        assert sum(int(d) * (3 if place % 2 else 1) for place, d in enumerate(number)) % 10 == 0


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_lock_files_pin_everything_by_hash_and_name_no_host(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"https?:|--(extra-)?index-url|--find-links|@ ", text)
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) > 30
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+", entry), entry
        assert entry.count("--hash=sha256:") >= 1, entry


def test_the_development_lock_holds_what_the_other_one_holds() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (ROOT / name).read_text(), re.MULTILINE))

    assert pins("requirements.lock") < pins("requirements-dev.lock")
