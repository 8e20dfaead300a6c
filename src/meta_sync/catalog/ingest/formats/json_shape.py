"""Tells our own product bodies from flat rows by the first objects of a file, once for the whole file.

Own bodies carry their variants in a list; flat rows are one item each and name it by a key of a feed. Reads no values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from meta_sync.catalog.ingest.formats.json_keys import ID_MEANINGS, key_of
from meta_sync.catalog.ingest.json_head import JsonHead

__all__ = ["FlatShape", "OwnShape", "Shape", "find_rows", "shape_of"]

Row = Mapping[str, object]

_PROOF = frozenset(("price", "link", "image_link", "additional_image_link", "availability", "regular_price"))
"""Objects with id and title are items when they have one of these, too."""
_FOREIGN = frozenset(("body_html", "permalink", "prices", "product_id"))
"""Keys of other systems' products that carry a list of variants, too: in the product or in its variants."""


@dataclass(frozen=True, slots=True)
class OwnShape:
    """The objects are products in our own body."""


@dataclass(frozen=True, slots=True)
class FlatShape:
    """The objects are one item each."""

    id_key: str
    """The key whose value is the item's id, as the file writes it."""
    languages: tuple[str, ...]
    """Languages that keys name, in the order in which the file first fills one of them."""


Shape = OwnShape | FlatShape


def find_rows(head: JsonHead) -> tuple[tuple[str, ...], list[Row]]:
    """The objects that may be products, and the keys that lead to their list; none where there is no such list."""
    if head.form != "object":
        return (), head.objects
    found = [(path, rows) for path, rows in _lists(head.objects[0]) if rows]
    known = [(path, rows) for path, rows in found if shape_of(rows) is not None]
    return (known or found or [((), [])])[0]


def shape_of(rows: Sequence[Row], *, is_asked_for: bool = False) -> Shape | None:
    """How the objects of a file are to be read; ``None`` when they are no products.

    ``is_asked_for``: the format was named, so an id and one field of a product are enough.
    """
    if any(map(_is_own, rows)):
        return OwnShape()
    if any(_is_foreign(row) for row in rows):
        return None
    id_key = _id_key(rows)
    if id_key is None:
        return None
    meanings = {key.meaning for row in rows for name in row if (key := key_of(name, has_languages=True))}
    has_title, has_proof = "title" in meanings, not _PROOF.isdisjoint(meanings)
    if (has_title and has_proof) or (is_asked_for and (has_title or has_proof)):
        return FlatShape(id_key, _languages(rows))
    return None


def _is_own(row: Row) -> bool:
    variants = row.get("variants")
    if "id" not in row or not isinstance(variants, list) or _is_foreign(row):
        return False
    if not variants:
        return "price" not in row
    return all(isinstance(variant, dict) for variant in variants) and any(
        "id" in variant or not variant for variant in variants
    )


def _is_foreign(row: Row) -> bool:
    variants = row.get("variants")
    first = variants[0] if isinstance(variants, list) and variants else None
    if not isinstance(first, dict):
        return False
    return not _FOREIGN.isdisjoint(row) or not _FOREIGN.isdisjoint(first)


def _lists(value: Row) -> Iterator[tuple[tuple[str, ...], list[Row]]]:
    """Lists of objects one or two keys deep, ``products`` first."""
    names = sorted(value, key=lambda name: name != "products")
    for name in names:
        one = value[name]
        if isinstance(one, list):
            yield (name,), [row for row in one if isinstance(row, dict)]
    for name in names:
        one = value[name]
        if isinstance(one, dict):
            for inner, rows in one.items():
                if isinstance(rows, list):
                    yield (name, inner), [row for row in rows if isinstance(row, dict)]


def _id_key(rows: Sequence[Row]) -> str | None:
    """The best key that is filled in some row; of keys with the same meaning ``id`` itself or the one filled first."""
    filled: dict[str, str] = {}
    for row in rows:
        for name, value in row.items():
            key = key_of(name)
            if key is not None and key.language is None and _is_filled(value):
                filled.setdefault(key.meaning, name)
                if name.casefold() == "id":
                    filled["id"] = name
    return next((filled[meaning] for meaning in ID_MEANINGS if meaning in filled), None)


def _languages(rows: Sequence[Row]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for row in rows:
        for name, value in row.items():
            key = key_of(name, has_languages=False)
            if key is not None and key.language is not None and _is_filled(value):
                found.setdefault(key.language)
    return tuple(found)


def _is_filled(value: object) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, int | Decimal) and not isinstance(value, bool)
