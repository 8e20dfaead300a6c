"""Bagisto's product file (Data Transfer) as XML, where every value is an attribute of its ``<product>``.

Which rows there are; what they mean stands in `bagisto_rows`. The same products come out of both files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from lxml import etree
from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe, root_element
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.bagisto_rows import BagistoFile, BagistoRows, is_parent, meaning_of
from meta_sync.catalog.ingest.reader import Cell, too_long_failure
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportFormat,
    Parsed,
    RowWarning,
)
from meta_sync.catalog.ingest.xmlstream import check_feed, local_name, refuse_own_entities, stream_items

__all__ = ["BagistoXml"]

_ITEMS = frozenset(("product",))
_SKU = re.compile(r"\ssku\s*=\s*[\"']")
_FAMILY = re.compile(r"\sattribute_family_code\s*=\s*[\"']")


class BagistoXml(ImportFormat):
    """The file as XML. Only bare ampersands are forgiven; it is read twice, as the CSV is."""

    name = "bagisto-xml"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        return 0.95 if _is_bagisto(decode_head(head)) else 0.0

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        text = decode_head(head)
        if not _is_bagisto(text):
            raise FileRefusedError(describe(head))
        refuse_own_entities(text)
        is_repaired = check_feed(file, _ITEMS, context.is_cancelled)

        def products() -> Iterator[tuple[int, etree._Element]]:
            items = stream_items(file, _ITEMS, is_repaired=is_repaired, is_cancelled=context.is_cancelled)
            return enumerate(items, start=1)

        with BagistoFile() as known:
            for _, product in products():
                known.look_at(_cells(product))
            if is_repaired:
                message = (
                    "The file has & characters that XML wants written as &amp;; it was read all the same."
                )
                yield RowWarning(0, "file", message, rule="repaired")
            rows = BagistoRows(self.name, context, known)
            for row, product in products():
                cells = _cells(product)
                skus = cells.get("sku")
                failure = too_long_failure(row, cells, context, skus[0].text if skus else None)
                if failure is not None:
                    failure.is_item = not is_parent(cells)
                    yield failure
                else:
                    yield from rows.read(row, cells)


def _is_bagisto(text: str) -> bool:
    root = root_element(text)
    return root == "products" and bool(_SKU.search(text)) and bool(_FAMILY.search(text))


def _cells(product: etree._Element) -> dict[str, list[Cell]]:
    """The attributes by meaning, and those values that stand in elements of their own."""
    written = [(str(name), str(value)) for name, value in product.attrib.items()]
    written += [
        (local_name(part)[1], part.text or "")
        for part in product
        if isinstance(part.tag, str) and not len(part)
    ]
    cells: dict[str, list[Cell]] = {}
    for name, value in written:
        meaning, text = meaning_of(name), value.strip()
        if meaning is not None and text:
            cells.setdefault(meaning, []).append(Cell(name, text))
    return cells
