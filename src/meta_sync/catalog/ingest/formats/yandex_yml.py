"""Yandex's product feed, YML: categories, currencies and offers of one ``<yml_catalog>``.

Which offers there are; what they mean stands in `yandex_yml_offer`. The DTD that the files name is never loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO

from lxml import etree
from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe, root_element
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.yandex_yml_offer import MEANINGS, OfferRows, currency_code, item_id_in
from meta_sync.catalog.ingest.reader import Cell, too_long_failure
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportFormat,
    Parsed,
    RowWarning,
)
from meta_sync.catalog.ingest.spill import SpilledLookup
from meta_sync.catalog.ingest.values import plain_text
from meta_sync.catalog.ingest.xmlstream import check_feed, local_name, refuse_own_entities, stream_items

__all__ = ["YandexYml"]

_ROOT = "yml_catalog"
_READ = frozenset(("currency", "category", "offer"))
_ATTRIBUTES = ("id", "group_id", "available", "deleted", "disabled")
_LONGEST_CATEGORY = 300
_DEEPEST_CATEGORY = 30
"""Levels followed upwards: files name categories that are their own ancestors."""


class YandexYml(ImportFormat):
    """The feed of any shop system's Yandex module, in UTF-8 or windows-1251, simplified or with custom types."""

    name = "yandex-yml"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        return 0.95 if _is_yml(decode_head(head)) else 0.0

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        text = decode_head(head)
        if not _is_yml(text):
            raise FileRefusedError(describe(head))
        refuse_own_entities(text)
        is_repaired = check_feed(file, _READ, context.is_cancelled)
        if is_repaired:
            message = "The feed has & characters that XML wants written as &amp;; it was read all the same."
            yield RowWarning(0, "file", message, rule="repaired")
        with SpilledLookup() as categories:
            rows = OfferRows(self.name, context, lambda category_id: _path(categories, category_id))
            row = 0
            for element in stream_items(
                file, _READ, is_repaired=is_repaired, is_cancelled=context.is_cancelled
            ):
                kind = local_name(element)[1]
                if kind == "offer":
                    row += 1
                    cells = _cells(element)
                    failure = too_long_failure(row, cells, context, item_id_in(cells))
                    yield from rows.read(row, cells) if failure is None else (failure,)
                elif kind == "category":
                    _note_category(element, categories)
                elif _is_main(element):
                    rows.main_currency = currency_code(element.get("id") or "")


def _is_yml(text: str) -> bool:
    return (root_element(text) or "").rpartition(":")[2].casefold() == _ROOT


def _is_main(currency: etree._Element) -> bool:
    """Whether the feed counts in this currency; further ones have other rates, or a bank's name in place of one."""
    return bool(currency.get("id")) and (currency.get("rate") or "").strip() in {"1", "1.0", "1.00"}


def _note_category(element: etree._Element, categories: SpilledLookup) -> None:
    category_id, name = (element.get("id") or "").strip(), plain_text(_text(element))
    if category_id and name:
        parent_id = (element.get("parentId") or element.get("parentid") or "").strip()
        categories.add(category_id, json.dumps([parent_id, name[:_LONGEST_CATEGORY]]))


def _path(categories: SpilledLookup, category_id: str) -> list[str] | None:
    names: list[str] = []
    seen: set[str] = set()
    while category_id and category_id not in seen and len(names) < _DEEPEST_CATEGORY:
        seen.add(category_id)
        known = categories.get(category_id)
        if known is None:
            break
        category_id, name = json.loads(known)
        names.append(name)
    return names[::-1] or None


def _cells(offer: etree._Element) -> dict[str, list[Cell]]:
    """The offer's attributes and elements by meaning; of a param the cell's column is the param's name."""
    cells: dict[str, list[Cell]] = {}

    def add(meaning: str, column: str, text: str | None) -> None:
        text = (text or "").strip()
        if text:
            cells.setdefault(meaning, []).append(Cell(column, text))

    for name in _ATTRIBUTES:
        add(name, name, offer.get(name))
    for element in offer:
        if not isinstance(element.tag, str):
            continue
        name = local_name(element)[1]
        lowered = name.casefold()
        if lowered == "param":
            text, unit = _text(element), (element.get("unit") or "").strip()
            add("param", (element.get("name") or "").strip(), f"{text} {unit}" if text and unit else text)
        elif lowered == "outlets":
            for outlet in element:
                add("outlet", "instock", outlet.get("instock") if isinstance(outlet.tag, str) else None)
        elif lowered == "condition":
            add("condition", name, element.get("type") or element.text)
        elif lowered == "barcode":
            add("gtin", name, _text(element).split(",")[0])
        elif lowered in MEANINGS:
            add(MEANINGS[lowered], name, _text(element))
            if lowered == "price":
                add("price_from", "from", (element.get("from") or "").casefold())
    return cells


def _text(element: etree._Element) -> str:
    """All text inside; entities that are not XML's own stay as they are written, for HTML to resolve."""
    return "".join(map(str, element.itertext())).strip() if len(element) else (element.text or "").strip()
