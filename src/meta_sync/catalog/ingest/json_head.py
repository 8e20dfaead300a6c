"""What the beginning of a file says about it as JSON: one list, one object or an object per line, and of what.

Knows no field of any product; reads heads that are cut anywhere. The whole file is ``jsonstream``'s business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from meta_sync.catalog.ingest.jsonstream import read_text
from meta_sync.catalog.ingest.rows import FileRefusedError
from meta_sync.catalog.ingest.values import quoted

__all__ = ["JsonHead", "describe_json", "looks_like_json", "read_json_head"]

_BLANK = " \t\r\n\ufeff"
_MOST_LINES = 200
"""Lines looked at: enough to tell what most of them are."""
_MOST_DEPTH = 100
_SPACE = re.compile(r"[ \t\r\n]*+")
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{},:]|[^\s"\[\]{},:]++', re.DOTALL)
_CLOSING = {"{": "}", "[": "]"}
_ROW_KEYS = frozenset(("id", "sku", "variants"))
"""Keys that an item or product has, and a document around a list of them has not."""


@dataclass(frozen=True, slots=True)
class JsonHead:
    """The first values of a file; the last one may be cut."""

    form: Literal["array", "object", "lines"]
    values: Sequence[object]
    """Elements of the list, the one object, or what the lines hold."""

    @property
    def objects(self) -> list[Mapping[str, object]]:
        """The values that are objects."""
        return [value for value in self.values if isinstance(value, dict)]


def looks_like_json(text: str) -> bool:
    """Whether the text begins as a JSON list or object does."""
    return text.lstrip(_BLANK).startswith(("{", "["))


def read_json_head(text: str) -> JsonHead | None:
    """The beginning of a JSON file; ``None`` for any other text."""
    text = text.strip(_BLANK)
    if text.startswith("["):
        value = _read(_completed(text))
        return JsonHead("array", value) if isinstance(value, list) else None
    if not text.startswith("{"):
        return None
    lines = list(_lines(text))
    if len(lines) > 1:
        found = [_read(line) for line in lines[:-1]]
        found.append(_read(lines[-1], is_cut=True))
        good = [value for value in found if isinstance(value, dict)]
        # Of a list written over several lines the last line may be an object by itself.
        if len(good) * 2 >= len(found) and isinstance(found[0], dict | None):
            return JsonHead("lines", good)
    value = _read(_completed(text))
    if not isinstance(value, dict):
        return None
    # One object that ends on its line is one line; as a list of products it is one document all the same.
    is_document = not value.keys() & _ROW_KEYS and _holds_list(value)
    return JsonHead("object" if "\n" in text or is_document else "lines", [value])


def describe_json(text: str) -> str:
    """What a JSON file without products seems to be, in a sentence."""
    head = read_json_head(text)
    if head is None:
        try:
            read_text(_completed(text) or text)
        except FileRefusedError as fault:
            return fault.message
        return "The file begins like JSON, but cannot be read as JSON; it may be damaged."
    if head.form == "object" or (head.form == "lines" and len(head.objects) == 1):
        return _describe_object(head.objects[0])
    if not head.values:
        return "The file is JSON, but its list is empty: it has no products."
    if not head.objects:
        kinds = {_kind(value) for value in head.values}
        kind = kinds.pop() if len(kinds) == 1 else "values"
        return f"The file is JSON, but a list of {kind}, not of products."
    return _describe_objects(head.objects)


# --- reading ------------------------------------------------------------------------------------------------------


def _lines(text: str) -> Iterator[str]:
    filled = (line.strip(_BLANK) for line in text.splitlines() if line.strip(_BLANK))
    return (line for _, line in zip(range(_MOST_LINES), filled, strict=False))


def _read(text: str, *, is_cut: bool = False) -> object:
    """The value, or ``None`` when the text is no JSON."""
    try:
        return read_text(text)
    except FileRefusedError:
        return _read(_completed(text)) if is_cut else None


def _holds_list(value: Mapping[str, object], *, is_inner: bool = False) -> bool:
    """Whether a list of objects, or an empty one, stands in the object or in an object of it."""
    return any(
        (isinstance(one, list) and (not one or isinstance(one[0], dict)))
        or (isinstance(one, dict) and not is_inner and _holds_list(one, is_inner=True))
        for one in value.values()
    )


def _completed(text: str) -> str:
    """The text up to its last whole value, with the brackets closed that are open there."""
    open_marks: list[str] = []
    end = at = 0
    while True:
        space = _SPACE.match(text, at)
        token = _TOKEN.match(text, space.end() if space else at)
        if token is None:
            break
        mark, at = token.group(), token.end()
        if mark in {"{", "["}:
            open_marks.append(mark)
            if len(open_marks) > _MOST_DEPTH:
                return ""
            end = at
        elif mark in {"}", "]"}:
            if not open_marks or _CLOSING[open_marks.pop()] != mark:
                return ""
            end = at
            if not open_marks:
                return text  # nothing is cut: what follows is judged with it
        elif mark == ",":
            end = token.start()
    return text[:end] + "".join(_CLOSING[mark] for mark in reversed(open_marks))


# --- describing ---------------------------------------------------------------------------------------------------

_GEOMETRY = frozenset(
    ("FeatureCollection", "Feature", "GeometryCollection", "Point", "Polygon", "LineString")
)


def _describe_object(value: Mapping[str, object]) -> str:
    if value.get("type") in _GEOMETRY:
        return "The file is GeoJSON (places on a map), not a list of products."
    if "specversion" in value:
        return "The file is a CloudEvents event, not a list of products; send events to /catalog/events."
    if isinstance(value.get("items"), list) and _has(value["items"], "variantId"):
        return "The file is JSON with stock of variants, not a list of products; send it to /catalog/inventory/batch."
    if "products" in value and not value["products"]:
        return "The file is JSON, but its list of products is empty."
    if value.keys() & {"error", "errors"}:
        return "The file is the JSON answer of a server that reports an error, not a list of products."
    for one in value.values():
        rows = [row for row in one if isinstance(row, dict)] if isinstance(one, list) else []
        if rows:
            return _describe_objects(rows)
    return (
        "The file is a single JSON object, not a list of products: write [ ] around the products,"
        f" or one product per line. Found: {_names([value])}."
    )


def _describe_objects(rows: Sequence[Mapping[str, object]]) -> str:
    first = rows[0]
    if {"model", "pk", "fields"} <= first.keys():
        return "The file is a JSON dump of a Django application's database, not a list of products."
    if first.get("type") in _GEOMETRY:
        return "The file is GeoJSON (places on a map), not a list of products."
    if "body_html" in first or _has(first.get("variants"), "product_id"):
        return (
            "The file seems to be JSON of Shopify's interface. This is not read;"
            " export the products as CSV in Shopify's admin instead."
        )
    if _has(first.get("variants"), "prices"):
        return "The file seems to be JSON of Medusa's interface. This is not read; export the products as CSV instead."
    if "specversion" in first:
        return "The file is a list of CloudEvents events, not of products; send events to /catalog/events."
    if "vehicle_id" in first or "vin" in first:
        return "The file is a vehicle listing in JSON, not a product catalog. Only products are imported."
    return (
        "The file is JSON, but no list of products that can be read: its objects need an id (id or sku), a title"
        f" (title or name), and one of price, link, image_link and availability. Found: {_names(rows)}."
    )


def _has(rows: object, key: str) -> bool:
    return isinstance(rows, list) and any(isinstance(row, dict) and key in row for row in rows)


def _names(rows: Sequence[Mapping[str, object]]) -> str:
    names = list(dict.fromkeys(name for row in rows[:20] for name in row))
    shown = ", ".join(quoted(name) for name in names[:8]) + (", …" if len(names) > 8 else "")
    return shown or "no names"


def _kind(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "values"
    if isinstance(value, str):
        return "texts"
    return "lists" if isinstance(value, list) else "numbers"
