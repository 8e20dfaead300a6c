"""Says what a file that cannot be imported seems to be, in a sentence a merchant understands. Reads the head only."""

from __future__ import annotations

import re

from meta_sync.catalog.ingest.encoding import decode_head
from meta_sync.catalog.ingest.json_head import describe_json, looks_like_json
from meta_sync.catalog.ingest.partial_exports import describe_prestashop, describe_table_part
from meta_sync.catalog.ingest.tables import DELIMITERS, find_header
from meta_sync.catalog.ingest.values import quoted, simplify

__all__ = ["describe", "export_system", "root_element"]

_MAGIC = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save it as CSV"),
    (b"%PDF", "a PDF document; export the products as CSV or XML"),
    (b"\x89PNG", "a picture; export the products as CSV or XML"),
    (b"\xff\xd8\xff", "a picture; export the products as CSV or XML"),
    (b"GIF8", "a picture; export the products as CSV or XML"),
)

_EXPORTS: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (system, frozenset(columns.split()))
    for system, columns in (
        ("Shopify product export", "handle variant_sku"),
        ("Shopify product export", "handle variant_price"),
        ("Shopify product export", "url_handle option1_name"),
        ("Wix product export", "handleid fieldtype"),
        ("Wix product export", "handle fieldtype"),
        ("Bagisto product export", "parent_sku attribute_family_code"),
        ("Magento product export", "sku attribute_set_code product_type"),
        ("Magento product export", "sku attribute_set"),
        ("Magento product export", "sku store_view_code"),
        ("Medusa product export", "product_id product_handle"),
        ("Spree product export", "slug sku compare_at_price"),
        ("PrestaShop product export", "product_id active_0_1"),
        ("PrestaShop product export", "id active_0_1"),
        ("BigCommerce product export", "item_type product_id product_name"),
        ("BigCommerce product export", "product_code_sku product_name"),
        ("Squarespace product export", "product_id_non_editable"),
        ("Etsy listing export", "title currency_code quantity tags"),
        ("Ecwid product export", "type product_internal_id"),
        ("Square item export", "token item_name variation_name"),
    )
)
"""Columns that only this system's export has together, in simplified spelling."""

_READ_AS = {
    "Bagisto product export": ("bagisto-csv", "sku, attribute_family_code and type"),
    "Magento product export": ("magento-csv", "sku, name and price"),
    "Medusa product export": ("medusa-csv", "Product Handle and Product Title"),
    "PrestaShop product export": ("prestashop-csv", "Name, a price, and Product ID or Reference"),
    "Spree product export": ("spree-csv", "slug, sku, name and price"),
    "Wix product export": ("wix-csv", "handleId (or handle), fieldType, name and price"),
    "Shopify product export": ("shopify-csv", "Handle, and Variant Price, Body (HTML) or Image Src"),
}
"""The systems whose exports are read: the format's name, and the columns without which an export is not read."""

_LISTINGS = {
    "vehicle": ("vehicle_id", "vin", "state_of_vehicle"),
    "hotel": ("hotel_id",),
    "home": ("home_listing_id",),
    "flight": ("origin_airport", "flight_id"),
    "destination": ("destination_id",),
}
_FEED_COLUMNS = frozenset(("link", "image_link", "price", "availability"))
_ROOT = re.compile(r"<([A-Za-z_][\w.:-]*)")
_PROLOG = re.compile(
    r"\s*+(?:<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*+(?:\[.*?\]\s*+)?>)", re.DOTALL | re.IGNORECASE
)
"""Each part can end in one place only: a file of brackets must not be matched in every way there is."""
_PRODUCT_FIELD = re.compile(r"<(?:\w+:)?(?:price|availability|image_link|item_group_id)[\s>]", re.IGNORECASE)
_OTHER_FORMAT = (
    "The file is {}, not a file in the format that was asked for; without that it is recognised by itself."
)
"""Of files that are read: only a format that was asked for refuses them."""
_CODE = re.compile(r"[0-9]{8}|[0-9]{12,14}")


def root_element(text: str) -> str | None:
    """Name of the first element of an XML or HTML text, as written; ``None`` for any other text."""
    text = text.lstrip().lstrip("\ufeff")
    end = 0
    while match := _PROLOG.match(text, end):
        if "html" in match.group()[:20].casefold():
            return "html"
        end = match.end()
    match = _ROOT.match(text[end:].lstrip())
    return match.group(1) if match else None


def export_system(columns: set[str]) -> str | None:
    """The shop system whose export has these columns (in simplified spelling), as words for a sentence."""
    return next((system for system, needed in _EXPORTS if needed <= columns), None)


def describe(head: bytes) -> str:
    """One sentence: what the file seems to be and, where there is one, what to do instead."""
    for magic, words in _MAGIC:
        if head.startswith(magic):
            return f"The file is {words}."
    text = decode_head(head)
    if not text.strip("\ufeff\x00 \t\r\n"):
        return "The file is empty."
    if text.lstrip().startswith("<"):
        return _describe_markup(text)
    if looks_like_json(text):
        return describe_json(text)
    if _unprintable_share(text) > 0.1:
        return "The file is not a text file, so it is no product feed."
    return _describe_table(text)


def _describe_markup(text: str) -> str:
    root = root_element(text)
    name = (root or "").rpartition(":")[2].casefold()
    lowered = text.casefold()
    if name in {"html", "head", "body", "div", "table"}:
        return "The file is an HTML page, not a product feed; its address may ask for a login or answer with an error."
    prestashop = describe_prestashop(name, text)
    if prestashop:
        return prestashop
    for kind, marks in _LISTINGS.items():
        if any(f"<{mark}>" in lowered for mark in marks):
            return f"The file is a {kind} listing, not a product catalog. Only products are imported."
    if name in {"rss", "feed", "rdf"}:
        if "base.google.com/ns" in text or _PRODUCT_FIELD.search(text):
            return _OTHER_FORMAT.format("an RSS or Atom feed of products")
        return "The file is an RSS or Atom feed, but not of products: its items have no id and no price."
    if name == "yml_catalog":
        return _OTHER_FORMAT.format("a feed in Yandex Market Language")
    if name in {"urlset", "sitemapindex"}:
        return "The file is a sitemap, not a product feed."
    shown = f"its outermost element is <{root}>" if root else "it has no element"
    return f"The file is XML, but no product feed that can be read: {shown}. A feed is RSS 2.0, Atom or YML."


def _describe_table(text: str) -> str:
    header = find_header(text, lambda name: simplify(name) or None)
    names = [name for name in header.names if name] if header else []
    columns = {simplify(name) for name in names}
    part = describe_table_part(columns)
    if part:
        return part
    system = export_system(columns)
    if system:
        article = "an" if system[0] in "AEIOU" else "a"
        if system in _READ_AS:
            format_name, needed = _READ_AS[system]
            return (
                f"The file seems to be {article} {system}; such a file is read as {format_name} and needs"
                f" the columns {needed}."
            )
        return (
            f"The file seems to be {article} {system}. Reading this format comes later;"
            " until then export a Google or Meta feed from the shop."
        )
    for kind, marks in _LISTINGS.items():
        if columns & set(marks[:2]):
            return f"The file is a {kind} listing, not a product catalog. Only products are imported."
    if _is_code_list(text):
        return "The file is a list of barcodes, not a product feed: it has no titles and no prices."
    if {"id", "title"} <= columns and columns & _FEED_COLUMNS:
        return _OTHER_FORMAT.format("a table with the columns of a product feed")
    found = ", ".join(quoted(name) for name in names[:8]) + (", …" if len(names) > 8 else "")
    return (
        "The file does not begin with the column names of a product feed; it needs at least id and title,"
        f" and one of link, image_link, price and availability. Found: {found}."
    )


def _is_code_list(text: str) -> bool:
    lines = [line.strip().strip("\"';,") for line in text.splitlines()[:200]]
    filled = [line for line in lines if line]
    codes = sum(_CODE.fullmatch(line) is not None for line in filled)
    return (
        bool(filled)
        and not any(mark in line for line in filled for mark in DELIMITERS)
        and codes * 5 >= len(filled) * 4
    )


def _unprintable_share(text: str) -> float:
    start = text[:4_000]
    bad = sum(not (char.isprintable() or char in "\t\r\n\ufeff") or char == "\ufffd" for char in start)
    return bad / len(start)
