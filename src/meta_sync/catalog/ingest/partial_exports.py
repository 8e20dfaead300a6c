"""Names files that belong to a shop's products without being them: attributes, stock, texts, price lists.

Says what such a file is and what to import instead. Reads no rows and decides nothing about formats.
"""

from __future__ import annotations

import re

__all__ = ["describe_prestashop", "describe_table_part"]

_SHOPIFY_STOCK = (
    "The file is Shopify's export of stock by location (Inventory), not of products: it has no prices."
    " Export Products instead."
)
_TABLES: tuple[tuple[frozenset[str], frozenset[str], str], ...] = tuple(
    (frozenset(needed.split()), frozenset(absent.split()), sentence)
    for needed, absent, sentence in (
        (
            "attribute_code frontend_input",
            "sku",
            "The file is a list of Magento's product attributes, their labels and options, not of products.",
        ),
        (
            "sku msrp",
            "name price",
            "The file is a list of Magento's suggested retail prices (sku and msrp), not of products.",
        ),
        (
            "sku tier_price_website tier_price",
            "name",
            "The file is Magento's export of advanced prices, not of products. Export the entity Products.",
        ),
        (
            "source_code sku quantity",
            "name",
            "The file is Magento's export of stock by source, not of products. Export the entity Products.",
        ),
        (
            "sku attribute_set root_category",
            "attribute_set_code",
            "The file is a product export of Magento 1, which is not read; export a Google or Meta feed instead.",
        ),
        (
            "handle option1_name location",
            "price variant_price body_html",
            _SHOPIFY_STOCK,
        ),
        (
            "handle option1_name sku hs_code coo",
            "price variant_price body_html",
            _SHOPIFY_STOCK,
        ),
        (
            "category_id active_0_1 parent_category",
            "",
            "The file is PrestaShop's list of categories, not of products.",
        ),
        (
            "slug locale name description",
            "sku price",
            "The file holds translations of texts, not products: it has no SKUs and no prices. Import the products' file.",
        ),
    )
)
"""Columns a table has (in simplified spelling), columns it lacks, and what it is."""

_PRESTASHOP_ENTITIES = {
    "entity_product_attribute": "combinations, which say what an attribute adds to a price, but not what a product costs",
    "entity_product_attribute_combination": "the attributes of each combination",
    "entity_attribute": "attributes such as colours and sizes",
    "entity_attribute_group": "attribute groups such as colour and size",
    "entity_stock_available": "stock",
    "entity_image": "images",
    "entity_specific_price": "discounts (specific prices)",
    "entity_category": "categories",
}
"""What the files of a PrestaShop installation list, by their outermost element."""

_PRICE = re.compile(r"\sprice=|<price[\s>]")


def describe_table_part(columns: set[str]) -> str | None:
    """A sentence for a table with these columns (in simplified spelling), ``None`` when it is none of these."""
    for needed, absent, sentence in _TABLES:
        if needed <= columns and not absent & columns:
            return sentence
    return None


def describe_prestashop(root: str, text: str) -> str | None:
    """A sentence for an XML file of PrestaShop by its outermost element; ``None`` for any other file."""
    if root == "prestashop":
        return (
            "The file is an answer of PrestaShop's webservice, but not its products with all their fields;"
            " ask it for /api/products?display=full."
        )
    if root == "entity_product":
        if _PRICE.search(text):
            return "The file is PrestaShop's product.xml, which is read as prestashop-xml."
        return (
            "The file holds the texts of PrestaShop's products without their prices; they belong to product.xml,"
            " which is the file to import."
        )
    if not root.startswith("entity_"):
        return None
    listed = _PRESTASHOP_ENTITIES.get(root, root.removeprefix("entity_").replace("_", " "))
    return (
        f"The file is part of a PrestaShop installation, the list of {listed}. Import product.xml instead,"
        " or the products as the back office exports them to CSV."
    )
