"""PrestaShop's products as XML: ``product.xml`` of an installation's fixtures, and the answer of its webservice.

Decisions: an installation keeps texts, stock, pictures, discounts and combinations in files of their own, so each
product is one item of what its file says; what is missing is said once. Of texts in several languages the first that is
filled in counts. Prices are without tax. Neither addresses of the webservice (they need a key) nor numbers of
categories and pictures are anything a buyer could follow, so they are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from lxml import etree
from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe, root_element
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.prestashop_rows import Layout, PrestaShopRows, item_id_in
from meta_sync.catalog.ingest.reader import Cell, too_long_failure
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportFormat,
    Parsed,
    RowWarning,
)
from meta_sync.catalog.ingest.xmlstream import (
    check_feed,
    local_name,
    refuse_own_entities,
    stream_items,
)

__all__ = ["PrestaShopXml"]

_ITEMS = frozenset(("product",))
_ROOTS = frozenset(("entity_product", "prestashop"))
_FIELDS = {
    "id": "id",
    "reference": "reference",
    "price": "price_without_tax",
    "ean13": "ean",
    "upc": "upc",
    "isbn": "barcode",
    "mpn": "mpn",
    "quantity": "quantity",
    "out_of_stock": "when_empty",
    "active": "active",
    "available_for_order": "orderable",
    "show_price": "shows_price",
    "visibility": "visibility",
    "condition": "condition",
    "name": "name",
    "description": "description",
    "description_short": "short_description",
    "link_rewrite": "slug",
    "manufacturer_name": "brand",
    "cache_default_attribute": "combination",
    "id_default_combination": "combination",
}
"""What the fields of a product hold that are read, whether they are attributes or elements."""
_FIXTURE = re.compile(r"<product\s[^<>]*\sprice\s*=|<price[\s>]")
_ANSWER = re.compile(r"<prestashop[^<>]*>\s*(?:<products[^<>]*>\s*)?<product[\s>]", re.IGNORECASE)
_NO_NAMES = (
    "The products have no names in this file; an installation keeps them in langs/en/data/product.xml and the like."
    " Without a name no item is sent."
)
_COMBINATIONS = (
    "Products of the file have combinations, which are not in it; each product is one item with the price"
    " of the product."
)


class PrestaShopXml(ImportFormat):
    """A list of products, each field an attribute or an element. The other files of an installation are refused."""

    name = "prestashop-xml"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        return 0.95 if _is_ours(decode_head(head)) else 0.0

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        text = decode_head(head)
        if not _is_ours(text):
            raise FileRefusedError(describe(head))
        refuse_own_entities(text)
        is_repaired = check_feed(file, _ITEMS, context.is_cancelled)
        if is_repaired:
            message = "The file has & characters that XML wants written as &amp;; it was read all the same."
            yield RowWarning(0, "file", message, rule="repaired")
        rows = PrestaShopRows(Layout(self.name, id_column="id", zero_is_no_count=True), context)
        items = stream_items(file, _ITEMS, is_repaired=is_repaired, is_cancelled=context.is_cancelled)
        for row, item in enumerate(items, start=1):
            cells = _cells(item)
            failure = too_long_failure(row, cells, context, item_id_in(cells))
            if failure is not None:
                yield failure
                continue
            if "name" not in cells:
                rows.note("title", "name", _NO_NAMES)
            if cells.pop("combination", [Cell("", "0")])[0].text != "0":
                rows.note("combinations", "product", _COMBINATIONS)
            yield from rows.read(row, cells)


def _is_ours(text: str) -> bool:
    root = (root_element(text) or "").casefold()
    if root not in _ROOTS:
        return False
    is_listed = root != "prestashop" or _ANSWER.search(text) is not None
    return is_listed and _FIXTURE.search(text) is not None


def _cells(item: etree._Element) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    fields = [(str(name), str(value)) for name, value in item.attrib.items()]
    fields += [(local_name(part)[1], _text(part)) for part in item if isinstance(part.tag, str)]
    for name, value in fields:
        meaning, text = _FIELDS.get(name), value.strip()
        if meaning is not None and text:
            found.setdefault(meaning, []).append(Cell(name, text))
    return found


def _text(element: etree._Element) -> str:
    """The text of a field; of one in several languages the first that is filled in."""
    parts = list(element)
    if any(isinstance(part.tag, str) for part in parts):
        texts = ("".join(map(str, part.itertext())).strip() for part in parts if isinstance(part.tag, str))
        return next((text for text in texts if text), "")
    # An entity that nobody defined is not resolved; it stays as it is written.
    return "".join((element.text or "", *(f"{part.text or ''}{part.tail or ''}" for part in parts)))
