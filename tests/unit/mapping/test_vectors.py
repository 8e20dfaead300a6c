"""The shared vectors on product mapping, as far as they speak of what the mapper does.

They come from the tests of other shop plug-ins. Where our own design states another rule, the design counts; each such
vector is named in ``DESIGN_COUNTS`` with what is expected instead. Vectors about reading files, or about features we do
not have, are skipped with a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meta_sync.sync.eligibility import IneligibleReason
from meta_sync.sync.mapping_settings import MappingSettings
from tests.unit.mapping.builders import SETTINGS, data_of, mapped, refusal

VECTORS = Path(__file__).parents[4] / "shared" / "vectors" / "product_mapping.json"
BEFORE_ALL_SALES = datetime(2024, 8, 1, tzinfo=UTC)

pytestmark = pytest.mark.shared

DESIGN_COUNTS: dict[str, dict[str, Any]] = {
    # A special price of zero is no special price (disputed between the plug-ins too).
    "pm-003": {"sale_price": None},
    "pm-105": {"price": 100, "sale_price": None},
    # The open start is 1970-01-01.
    "pm-007": {
        "sale_price": "11 USD",
        "sale_price_effective_date": "1970-01-01T00:00+00:00/2024-08-08T00:00+00:00",
    },
    # Stock that is used up and may be ordered.
    "pm-025": {"availability": "available for order"},
    # A word that is none: the item counts as in stock, with an issue.
    "pm-037": {"availability": "in stock"},
    "pm-039": {"availability": "in stock"},
    "pm-065": {"description_length": 9_999},
    "pm-073": {"title_length": 200},
    # A shouted description becomes sentences instead of losing every capital.
    "pm-071": {"description": "Great shoes for all"},
    # "product_" is a prefix of shop systems; the attribute is the material.
    "pm-121": {"field": "material"},
    "pm-123": {"field": "color"},
    # Only words that Meta knows are sent.
    "pm-151": {"age_group": None},
    "pm-161": {"condition": "new"},
    "pm-169": {"age_group": "teen", "additional_variant_attribute": "Sunglasses Width:narrow,is-costume:yes"},
    # Meta's own error text says that a user name in an address is not supported.
    "pm-197": {"rejected": True},
    "pm-237": {"sync": False},
}

NOT_OURS = {
    "pm-045": "an item of ours has no parent with a GTIN",
    "pm-053": "there is no text for one channel only",
    "pm-055": "variants have no description of their own",
    "pm-085": "prices come as integers; reading text is the import's",
    "pm-087": "prices come as integers; reading text is the import's",
    "pm-089": "prices come as integers; reading text is the import's",
    "pm-091": "prices come as integers; reading text is the import's",
    "pm-093": "prices come as integers; reading text is the import's",
    "pm-095": "prices come as integers; reading text is the import's",
    "pm-115": "a statement about another product's table of required fields",
    "pm-165": "several colours in one value are a feature of another plug-in",
    "pm-177": "disabled_capabilities are not managed",
    "pm-205": "one category path per product",
    "pm-231": "that shop's middle visibility does not exist here",
    "pm-233": "exclusion by tag does not exist here",
    "pm-235": "a per-product switch does not exist here",
    "pm-239": "a variant always has its product",
    "pm-241": "archiving at Meta is not used; ineligible items are deleted",
}


def subunits(major: object) -> int | None:
    return None if major in (None, "") else int(Decimal(str(major)) * 100)


def instant(text: str | None) -> datetime | None:
    return None if not text or text.startswith("0000") else datetime.fromisoformat(text).replace(tzinfo=UTC)


def amount(text: object) -> Decimal | None:
    return None if text is None else Decimal(str(text).split(" ")[0])


def bounds(text: str | None) -> list[datetime] | None:
    return None if text is None else [datetime.fromisoformat(bound) for bound in text.split("/")]


def check_price(given: dict[str, Any], expect: dict[str, Any]) -> None:
    store = replace(SETTINGS, currency=given.get("currency", "USD"))
    price = given.get("price_minor", subunits(given.get("regular_price", given.get("price"))))
    special = subunits(given.get("sale_price", given["price"] if given.get("regular_price", 0) else None))
    columns: dict[str, Any] = {
        "price": price,
        "special_price": special,
        "special_price_start": instant(given.get("sale_start")),
        "special_price_end": instant(given.get("sale_end")),
        "now": BEFORE_ALL_SALES,
    }
    if expect.get("rejected"):
        assert refusal(store, **columns) is IneligibleReason.MISSING_PRICE
        return
    data = data_of(store, **columns)
    if isinstance(expect.get("price"), str):
        assert data["price"] == expect["price"]
    elif "price" in expect:
        assert amount(data["price"]) == amount(expect["price"])
    if "sale_price" in expect:
        assert amount(data.get("sale_price")) == amount(expect["sale_price"])
    if "sale_price_effective_date" in expect:
        assert bounds(data.get("sale_price_effective_date")) == bounds(expect["sale_price_effective_date"])


def check_stock(given: dict[str, Any], expect: dict[str, Any]) -> None:
    word = given.get("feed_availability", given.get("availability", given.get("stock_status")))
    if given.get("in_stock") is False:
        word = "out of stock"
    result = mapped(
        availability=word,
        track_inventory=given.get("manage_stock"),
        quantity_on_hand=given.get("stock_quantity"),
        reserved_quantity=given.get("out_of_stock_threshold"),
        allow_backorder=given.get("backorders") == "yes",
    )
    quantity = result.data.get("quantity_to_sell_on_facebook")
    if expect.get("accepted"):
        assert result.data["availability"] == word
    if "availability" in expect:
        assert result.data["availability"] == expect["availability"]
    if "quantity_to_sell_on_facebook" in expect:
        assert quantity == expect["quantity_to_sell_on_facebook"]
    if "inventory" in expect:
        assert (-1 if quantity is None else quantity) == expect["inventory"]


def check_gtin(given: dict[str, Any], expect: dict[str, Any]) -> None:
    result = mapped(barcode=str(given["gtin"]))
    assert result.data.get("gtin") == expect["gtin"]
    assert bool(result.issues) == expect.get("warning", False)


def check_text(given: dict[str, Any], expect: dict[str, Any]) -> None:
    columns = {
        "title": given.get("title", given.get("name", "Title")),
        "subtitle": given.get("short_description"),
        "description": given.get("description"),
    }
    for field in ("title", "description"):
        if f"{field}_length" in given:
            columns[field] = "x" * given[f"{field}_length"]
    data = data_of(**columns)
    for field in ("title", "description"):
        if field in expect:
            assert data[field] == expect[field]
        if f"{field}_length" in expect:
            assert len(data[field]) == expect[f"{field}_length"]


def check_brand(given: dict[str, Any], expect: dict[str, Any]) -> None:
    store = replace(SETTINGS, business_name=given.get("store_name"), identifier_exists_fallback=True)
    parent = given.get("parent", {})
    assert data_of(store, brand=given["brand"] or parent.get("brand"))["brand"] == expect["brand"]


def check_required(_given: dict[str, Any], expect: dict[str, Any]) -> None:
    assert not set(expect["must_not_send"]) & data_of(brand=None, sku="s").keys()


def check_attribute_name(given: dict[str, Any], expect: dict[str, Any]) -> None:
    assert data_of(options={given["attribute"]: "value"})[expect["field"]] == "value"


def check_words(given: dict[str, Any], expect: dict[str, Any]) -> None:
    condition = given.get("condition")
    options = {name: value for name, value in given.items() if name in ("gender", "age_group")}
    data = data_of(condition=condition, options=options)
    for field, word in expect.items():
        assert data.get(field) == word


def check_attributes(given: dict[str, Any], expect: dict[str, Any]) -> None:
    data = data_of(options=given.get("attributes", given.get("store_attributes")))
    for field in ("size", "color", "age_group", "additional_variant_attribute"):
        if field in expect:
            assert data[field] == expect[field]
    if "unmapped" in expect:
        pairs = {f"{other['name']}:{other['value']}" for other in expect["unmapped"]}
        assert set(data["additional_variant_attribute"].split(",")) == pairs


def check_group(given: dict[str, Any], expect: dict[str, Any]) -> None:
    data = data_of(variant_id=str(given["id"]), product_id=str(given["parent"]["id"]), live_variant_count=2)
    assert data["item_group_id"] == expect["item_group_id"]


def check_id(given: dict[str, Any], expect: dict[str, Any]) -> None:
    assert expect["rejected"]
    assert refusal(variant_id=given["id"]) is IneligibleReason.INVALID_ID


def check_images(given: dict[str, Any], expect: dict[str, Any]) -> None:
    wix = "https://static.wixstatic.com/media" if given.get("platform") == "wix" else None
    store = replace(SETTINGS, media_base_url=given.get("store_base_url", wix))
    image = given.get("image", given.get("relative_with_no_base"))
    first, *rest = (image or "").split(";")  # that export's separator, taken apart by the import
    columns: dict[str, Any] = {
        "product_thumbnail": first,
        "product_images": [*rest, *given.get("gallery", [])],
    }
    if expect.get("rejected"):
        assert refusal(store, **columns) is IneligibleReason.MISSING_IMAGE
        return
    data = data_of(store, **columns)
    assert data["image_link"] == expect["image_link"]
    if "additional_image_link" in expect:
        assert data.get("additional_image_link", []) == expect["additional_image_link"]


def check_link(given: dict[str, Any], expect: dict[str, Any]) -> None:
    store = MappingSettings(
        currency="USD",
        storefront_base_url=given["store_base_url"],
        storefront_product_path="/products/{slug}",
    )
    assert data_of(store, slug=given["slug"])["link"] == expect["link"]


def check_limits(given: dict[str, Any], _expect: dict[str, Any]) -> None:
    """Google's limits are smaller; Meta's are ours."""
    ours = {"title": 200, "brand": 100, "product_type": 750}
    field = given["field"]
    column: dict[str, Any] = (
        {"categories": ["x" * 1_000]} if field == "product_type" else {field: "x" * 1_000}
    )
    assert len(data_of(**column)[field]) == ours[field]


def check_mpn(given: dict[str, Any], expect: dict[str, Any]) -> None:
    assert data_of(sku=given["sku"])["mpn"] == expect["mpn"]


def check_category(given: dict[str, Any], _expect: dict[str, Any]) -> None:
    """Known or not to Google's list: the item goes out with what the store says."""
    category = given["google_product_category"]
    assert data_of(google_product_category=category)["google_product_category"] == category


def check_should_sync(given: dict[str, Any], expect: dict[str, Any]) -> None:
    columns: dict[str, Any] = {}
    if "status" in given:
        columns["status"] = {"publish": "active", "disabled": "archived"}.get(
            given["status"], given["status"]
        )
    if "visibility" in given:
        columns["visibility"] = "public" if given["visibility"] == "visible" else "private"
    if given.get("price") == "":
        columns["price"] = None
    if expect.get("sync", False):
        mapped(**columns)
    else:
        refusal(**columns)


CHECKS: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "price": check_price,
    "sale_price": check_price,
    "inventory": check_stock,
    "availability": check_stock,
    "gtin": check_gtin,
    "description": check_text,
    "title": check_text,
    "brand": check_brand,
    "required": check_required,
    "mpn": check_mpn,
    "attribute_name": check_attribute_name,
    "gender": check_words,
    "age_group": check_words,
    "condition": check_words,
    "attributes": check_attributes,
    "item_group_id": check_group,
    "id": check_id,
    "images": check_images,
    "link": check_link,
    "limits": check_limits,
    "google_product_category": check_category,
    "should_sync": check_should_sync,
    "status": check_should_sync,
}


def vectors() -> list[Any]:
    if not VECTORS.exists():
        return [pytest.param(None, marks=pytest.mark.skip("The shared vectors are not beside the project."))]
    return [pytest.param(vector, id=vector["id"]) for vector in json.loads(VECTORS.read_text("utf-8"))]


@pytest.mark.parametrize("vector", vectors())
def test_vector(vector: dict[str, Any]) -> None:
    if vector["id"] in NOT_OURS:
        pytest.skip(NOT_OURS[vector["id"]])
    check = CHECKS.get(vector["rule"])
    if check is None:
        pytest.skip(f"the mapper has no part in {vector['rule']}")
    check(vector["given"], DESIGN_COUNTS.get(vector["id"], vector["expect"]))
