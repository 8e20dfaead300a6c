"""Google's and Meta's product feed as RSS 2.0 or Atom, with the ``g:`` names declared, undeclared or without prefix."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from lxml import etree
from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe, root_element
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.google_fields import FeedRows, meaning_of
from meta_sync.catalog.ingest.reader import Cell, too_long_failure
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportFormat,
    Parsed,
    RowWarning,
)
from meta_sync.catalog.ingest.xmlstream import check_feed, local_name, refuse_own_entities, stream_items

__all__ = ["GoogleRss"]

_ROOTS = frozenset(("rss", "feed", "rdf"))
_ITEMS = frozenset(("item", "entry"))
_PLAIN_NAMESPACES = frozenset(
    ("", "http://www.w3.org/2005/Atom", "http://purl.org/atom/ns#", "http://purl.org/rss/1.0/")
)
_FIRST_ITEM = re.compile(r"<(?:item|entry)[\s>]", re.IGNORECASE)
_PRODUCT = re.compile(r"<(?:\w+:)?(?:id|price|availability|image_link|item_group_id)[\s>]", re.IGNORECASE)
_NESTED = frozenset(("title", "description", "summary", "content"))
"""Elements whose markup is text: some shops leave it unescaped."""


class GoogleRss(ImportFormat):
    """The feed as XML. Only bare ampersands are forgiven; any other fault refuses the file before its first row."""

    name = "google-rss"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        text = decode_head(head)
        root = root_element(text)
        if root is None or root.rpartition(":")[2].casefold() not in _ROOTS:
            return 0.0
        first = _FIRST_ITEM.search(text)
        if first is None or "base.google.com/ns" in text[:5_000]:
            return 0.95  # a feed may be empty
        return 0.9 if _PRODUCT.search(text, first.start()) and root.casefold() != "feed" else 0.2

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        text = decode_head(head)
        root = root_element(text)
        if root is None or root.rpartition(":")[2].casefold() not in _ROOTS:
            raise FileRefusedError(describe(head))
        refuse_own_entities(text)
        is_repaired = check_feed(file, _ITEMS, context.is_cancelled)
        if is_repaired:
            yield RowWarning(
                0,
                "file",
                "The feed has & characters that XML wants written as &amp;; it was read all the same.",
                rule="repaired",
            )
        rows = FeedRows(self.name, context)
        items = stream_items(file, _ITEMS, is_repaired=is_repaired, is_cancelled=context.is_cancelled)
        for row, item in enumerate(items, start=1):
            cells = _cells(item)
            ids = cells.get("id")
            failure = too_long_failure(row, cells, context, ids[0].text if ids else None)
            if failure is not None:
                yield failure
            else:
                yield from rows.read(row, cells)


def _cells(item: etree._Element) -> Mapping[str, Sequence[Cell]]:
    """The item's fields by meaning; Google's namespace goes before plain names, others are left out."""
    ranked: dict[str, tuple[int, list[Cell]]] = {}
    for element in item:
        if not isinstance(element.tag, str):
            continue
        namespace, name = local_name(element)
        if namespace == "g" or "base.google.com/ns" in namespace:
            rank = 0
        elif namespace in _PLAIN_NAMESPACES:
            rank = 1
        else:
            continue
        meaning = _meaning(name, rank)
        text = _text(element, name) if meaning else ""
        if meaning is None or not text:
            continue
        best = ranked.get(meaning)
        if best is None or rank < best[0]:
            ranked[meaning] = (rank, [Cell(name, text)])
        elif rank == best[0]:
            best[1].append(Cell(name, text))
    return {meaning: cells for meaning, (_, cells) in ranked.items()}


def _meaning(name: str, rank: int) -> str | None:
    if rank and name in {"summary", "content"}:  # Atom's names for the description
        return "description"
    if rank and name == "category":  # RSS's own, a keyword without hierarchy
        return None
    return meaning_of(name)


def _text(element: etree._Element, name: str) -> str:
    if name == "additional_variant_attribute" and len(element):
        parts = {
            local_name(part)[1]: (part.text or "").strip() for part in element if isinstance(part.tag, str)
        }
        label = parts.get("label") or parts.get("name") or ""
        return f"{label.replace(':', ' ').replace(',', ' ')}:{parts.get('value', '').replace(',', ' ')}"
    if name == "link" and not (element.text or "").strip():
        return (element.get("href") or "").strip() if element.get("rel", "alternate") == "alternate" else ""
    if len(element) and name in _NESTED:
        return "".join(map(str, element.itertext())).strip()
    if not all(
        isinstance(part.tag, str) for part in element
    ):  # an entity: not resolved, kept as it is written
        return "".join(
            (element.text or "", *(f"{part.text or ''}{part.tail or ''}" for part in element))
        ).strip()
    return (element.text or "").strip()
