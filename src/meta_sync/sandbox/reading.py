"""How a stored item looks when Meta reads it back: legacy names, formatted prices, texts instead of numbers.

The format of a price on reading is an assumption: nobody published one, callers must not compare it blindly.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from meta_sync.sandbox.fields import text_of, words
from meta_sync.sandbox.model import Catalog
from meta_sync.sandbox.validation import parse_price, read_period

__all__ = ["READ_FIELDS", "format_price", "read_item"]

READ_FIELDS = words(
    "id retailer_id retailer_product_group_id parent_product_id product_group product_feed product_catalog vendor_id "
    "name description rich_text_description short_description brand category product_type fb_product_category url "
    "mobile_link image_url images additional_image_urls additional_image_cdn_urls image_cdn_urls videos color size "
    "material pattern gender age_group condition gtin manufacturer_part_number additional_variant_attributes "
    "custom_label_0 custom_label_1 custom_label_2 custom_label_3 custom_label_4 custom_number_0 custom_number_1 "
    "custom_number_2 custom_number_3 custom_number_4 tags custom_data origin_country importer_name importer_address "
    "manufacturer_info wa_compliance_category ordering_index price sale_price currency sale_price_start_date "
    "sale_price_end_date availability inventory quantity_to_sell_on_facebook expiration_date start_date status "
    "visibility review_status review_rejection_reasons capability_to_review_status capabilities_disabled_by_user "
    "image_fetch_status video_fetch_status errors invalidation_errors applinks commerce_insights"
)

_READ_NAMES = {
    "title": "name",
    "link": "url",
    "image_link": "image_url",
    "mpn": "manufacturer_part_number",
    "item_group_id": "retailer_product_group_id",
    "google_product_category": "category",
    "internal_label": "tags",
    "video": "videos",
}
_OWN_READING = words(
    "id price sale_price sale_price_effective_date additional_image_link additional_variant_attribute status "
    "visibility image availability"
)
_INTEGERS = frozenset({"quantity_to_sell_on_facebook", "inventory", "ordering_index"})

_SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "CZK": "Kč", "BRL": "R$", "KRW": "₩"}
_WHOLE_UNITS = words("CLP COP CRC HUF ISK IDR JPY KRW PYG TWD VND")
"""Currencies of Meta's offset 1."""


def format_price(amount: Decimal, currency: str, *, american: bool = True) -> str:
    """``$1,234.50``, or as another locale writes it: ``1.234,50 $`` with a no-break space."""
    digits = f"{amount:,.{0 if currency in _WHOLE_UNITS else 2}f}"
    symbol = _SYMBOLS.get(currency, currency)
    if american:
        return f"{symbol}{digits}"
    return f"{digits.translate(str.maketrans(',.', '.,'))}\N{NO-BREAK SPACE}{symbol}"


def read_item(catalog: Catalog, retailer_id: str, item: dict[str, Any], *, american: bool) -> dict[str, Any]:
    """Everything that can be read of an item, under the names of the products edge."""
    node: dict[str, Any] = {"id": catalog.graph_id(retailer_id), "retailer_id": retailer_id}
    for name, value in item.items():
        if name in _OWN_READING:
            continue
        read_name = _READ_NAMES.get(name, name)
        if name in _INTEGERS:
            node[read_name] = int(value)
        else:
            node[read_name] = text_of(value) if isinstance(value, int | float) else value
    price = parse_price(item.get("price"))
    if price is not None:
        node["price"], node["currency"] = format_price(*price, american=american), price[1]
    sale = parse_price(item.get("sale_price"))
    if sale is not None:
        node["sale_price"] = format_price(*sale, american=american)
    period = read_period(item.get("sale_price_effective_date"))
    if period is not None:
        node["sale_price_start_date"] = period[0].strftime("%Y-%m-%dT%H:%M:%S%z")
        node["sale_price_end_date"] = period[1].strftime("%Y-%m-%dT%H:%M:%S%z")
    quantity = item.get("quantity_to_sell_on_facebook", item.get("inventory"))
    if quantity is not None:
        node["quantity_to_sell_on_facebook"] = node["inventory"] = int(quantity)
    archived = item.get("status") == "archived" or item.get("visibility") in ("staging", "hidden")
    return node | {
        "availability": item.get("availability"),
        "visibility": "staging" if archived else "published",
        "status": "STAGING" if archived else "PUBLISHED",
        "review_status": "approved",
        "image_fetch_status": "FETCHED",
        "product_catalog": {"id": catalog.id, "name": catalog.name},
        **({"product_feed": catalog.feeds[retailer_id]} if retailer_id in catalog.feeds else {}),
        **_pictures(item),
        **_group(catalog, item),
        **_variant_attributes(item.get("additional_variant_attribute")),
    }


def _pictures(item: dict[str, Any]) -> dict[str, Any]:
    """``image`` wins over the two link fields, as documented."""
    if "image" in item:
        urls = [entry["url"] if isinstance(entry, dict) else entry for entry in item["image"]]
        return {"image_url": urls[0], "additional_image_urls": urls[1:]}
    more = item.get("additional_image_link", [])
    return {
        "additional_image_urls": [part.strip() for part in more.split(",")] if isinstance(more, str) else more
    }


def _group(catalog: Catalog, item: dict[str, Any]) -> dict[str, Any]:
    if "item_group_id" not in item:
        return {}
    group = text_of(item["item_group_id"])
    return {"product_group": {"id": catalog.group_graph_id(group), "retailer_id": group}}


def _variant_attributes(value: object) -> dict[str, Any]:
    if isinstance(value, str):
        pairs = [pair.partition(":") for pair in value.split(",")]
        return {
            "additional_variant_attributes": [{"key": k.strip(), "value": v.strip()} for k, _, v in pairs]
        }
    if isinstance(value, list):
        return {
            "additional_variant_attributes": [
                {"key": entry["variant_label"], "value": entry["variant_value"]} for entry in value
            ]
        }
    return {}
