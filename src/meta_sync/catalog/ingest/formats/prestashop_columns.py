"""Names of the columns and fields of PrestaShop's products, in its CSV files and in its XML. Knows no row and no file."""

from __future__ import annotations

from meta_sync.catalog.ingest.values import simplify

__all__ = ["is_combination_table", "is_product_table", "meaning_of"]

_NAMES = {
    "id": "product_id id id_product",
    "active": "active_0_1 active enabled",
    "status": "status",
    "name": "name",
    "categories": "categories_x_y_z categories category",
    "price_without_tax": "price_tax_excluded price_tax_excl",
    "price_with_tax": "price_tax_included price_tax_incl",
    "price": "price price_tax_excluded_or_price_tax_included",
    "tax_rule": "tax_rules_id tax_rule_id",
    "on_sale": "on_sale_0_1",
    "wholesale": "wholesale_price",
    "discount_amount": "discount_amount reduction_amount",
    "discount_percent": "discount_percent reduction_per_cent",
    "discount_start": "discount_from_yyyy_mm_dd discount_from_yyy_mm_dd reduction_from_yyyy_mm_dd",
    "discount_end": "discount_to_yyyy_mm_dd discount_to_yyy_mm_dd reduction_to_yyyy_mm_dd",
    "reference": "reference product_reference",
    "brand": "manufacturer brand manufacturer_name",
    "ean": "ean13 ean_13 ean13_or_jan_barcode",
    "upc": "upc upc_barcode",
    "barcode": "isbn",
    "mpn": "mpn",
    "quantity": "quantity",
    "short_description": "summary short_description description_short",
    "description": "description",
    "slug": "url_rewritten friendly_url link_rewrite rewritten_url",
    "orderable": "available_for_order_0_no_1_yes available_for_order",
    "shows_price": "show_price_0_no_1_yes show_price",
    "visibility": "visibility",
    "condition": "condition",
    "when_empty": "out_of_stock_action out_of_stock action_when_out_of_stock",
    "images": "image_urls_x_y_z image_urls image_url",
    "image": "image",
    "attributes": "attribute_name_type_position attributes_name_type_position options_group_value",
    "values": "value_value_position values_value_position",
    "impact": "impact_on_price",
    "default_combination": "cache_default_attribute id_default_combination",
}
_MEANINGS = {name: meaning for meaning, names in _NAMES.items() for name in names.split()}
_PRICES = frozenset(("price_without_tax", "price_with_tax", "price"))
_OWN_NAMES = frozenset(
    simplify(name)
    for name in (
        "Active (0/1)",
        "Categories (x,y,z...)",
        "Tax rules ID",
        "On sale (0/1)",
        "Discount from (yyyy-mm-dd)",
        "URL rewritten",
        "Available for order (0 = No, 1 = Yes)",
        "Show price (0 = No, 1 = Yes)",
        "Image URLs (x,y,z...)",
        "Supplier reference #",
        "Price tax excluded",
        "Price tax included",
        "Price tax excl.",
        "Price (tax incl.)",
    )
)
"""Column names that only PrestaShop's files have."""
_FEWEST_OWN_NAMES = 2


def meaning_of(name: str) -> str | None:
    """What a column or field holds, or ``None`` for those that are not used."""
    return _MEANINGS.get(simplify(name))


def is_product_table(names: list[str]) -> bool:
    """Whether these are the columns of PrestaShop's products."""
    meanings = {meaning_of(name) for name in names}
    own = {simplify(name) for name in names} & _OWN_NAMES
    return (
        "name" in meanings
        and bool(meanings & {"id", "reference"})
        and bool(meanings & _PRICES)
        and len(own) >= _FEWEST_OWN_NAMES
    )


def is_combination_table(names: list[str]) -> bool:
    """Whether these are the columns of PrestaShop's combinations, whose prices are differences."""
    meanings = {meaning_of(name) for name in names}
    return "id" in meanings and "attributes" in meanings and bool(meanings & {"impact", "values", "price"})
