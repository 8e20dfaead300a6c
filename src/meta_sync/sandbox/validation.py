"""Judges records the way Meta does: a little at once, the rest when the batch is worked on. Pure functions.

Nothing here is shared with the product's own mapping, so that the two can disagree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from meta_sync.core.currency import is_currency
from meta_sync.sandbox.fields import FIELDS, FieldSpec, Kind, is_empty, text_of
from meta_sync.sandbox.messages import Finding

__all__ = ["Record", "check_fields", "check_item", "check_on_arrival", "parse_price", "read_period"]

METHODS = frozenset({"CREATE", "UPDATE", "DELETE"})

_PRICE = re.compile(r"(\d{1,15}(?:\.\d+)?) ([A-Z]{3})", re.ASCII)
_URL = re.compile(
    r"https?://(?!localhost(?:[:/?#]|$)|127\.)[^\s/@?#:\[\]]+\.[^\s/@?#:\[\]]+(?::\d{1,5})?(?:[/?#]\S*)?",
    re.IGNORECASE,
)
_LARGEST_CUSTOM_NUMBER = 2**32 - 1
_LONGEST_NUMBER = 18
"""Digits of a 64-bit number."""
_LONGEST_URL_LIST = 2000
"""Characters of all additional image links when they come as one delimited text."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a call: its place from 0, method, retailer id as sent, and its data."""

    line: int
    method: str
    id: str
    data: dict[str, Any]

    @classmethod
    def read(cls, line: int, raw: Mapping[str, Any]) -> Record:
        """Read one entry of ``requests``; what is not there becomes empty."""
        data = raw.get("data")
        data = data if isinstance(data, dict) else {}
        retailer_id = data.get("id")
        return cls(
            line=line,
            method=str(raw.get("method", "")).upper(),
            id="" if is_empty(retailer_id) else text_of(retailer_id),
            data=data,
        )

    def finding(self, key: str, field: str = "", text: str = "") -> Finding:
        """Say something about this record."""
        return Finding(key=key, id=self.id, line=self.line, field=field, text=text)


def parse_price(value: object) -> tuple[Decimal, str] | None:
    """Amount and currency of a text such as ``19.90 EUR``, or ``None`` when it is anything else."""
    match = _PRICE.fullmatch(value) if isinstance(value, str) else None
    if match is None or not is_currency(match[2]):
        return None
    return Decimal(match[1]), match[2]


def read_period(value: object) -> tuple[datetime, datetime] | None:
    """Start and end of an ISO 8601 interval with offsets, or ``None`` when it is not one."""
    if not isinstance(value, str):
        return None
    start_text, slash, end_text = value.partition("/")
    try:
        start, end = datetime.fromisoformat(start_text), datetime.fromisoformat(end_text)
    except ValueError:
        return None
    if not slash or start.tzinfo is None or end.tzinfo is None or end <= start:
        return None
    return start, end


def check_on_arrival(records: Sequence[Record]) -> tuple[list[Finding], list[Finding]]:
    """What Meta says before it queues a call: errors (those records are out) and warnings."""
    errors: list[Finding] = []
    warnings: list[Finding] = []
    counts: dict[str, int] = {}
    for record in records:
        counts[record.id] = counts.get(record.id, 0) + 1
    named: set[str] = set()
    for record in records:
        if not record.id:
            errors.append(record.finding("missing_id"))
            continue
        if counts[record.id] > 1:
            if record.id not in named:
                errors.append(record.finding("duplicate"))
            named.add(record.id)
            continue
        if record.method not in METHODS:
            errors.append(record.finding("unknown_method"))
        warnings += [record.finding("unrecognised_field", name) for name in record.data if name not in FIELDS]
        errors += [
            record.finding("invalid_now", name)
            for name in ("price", "sale_price")
            if _is_unreadable_price(name, record.data.get(name))
        ]
    return errors, warnings


def check_fields(record: Record) -> Iterator[Finding]:
    """What is wrong with the values a record carries, each on its own. Empty values clear and are not judged."""
    for name, value in record.data.items():
        spec = FIELDS.get(name)
        if spec is None or is_empty(value):
            continue
        key = _value_fault(spec, value)
        if key is not None:
            yield record.finding(key, name)


def check_item(record: Record, item: Mapping[str, Any], *, creating: bool) -> Iterator[Finding]:
    """What is wrong with the item as it would stand after the merge."""
    for key, field, names in _missing(item):
        if creating or any(name in record.data for name in names):
            yield record.finding(key, field)
    price, sale = parse_price(item.get("price")), parse_price(item.get("sale_price"))
    if price is not None and price[0] <= 0:
        yield record.finding("price_not_positive")
    if price is not None and sale is not None and (sale[0] >= price[0] or sale[1] != price[1]):
        yield record.finding("sale_not_lower")


def _missing(item: Mapping[str, Any]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Required fields the item lacks: message key, the name the message uses, the fields that would cure it."""
    for name in ("title", "description", "availability", "price"):
        if name not in item:
            yield f"missing_{name}", name, (name,)
    if "condition" not in item:
        yield "missing_field", "Condition", ("condition",)
    if "link" not in item:
        yield "missing_field", "Url", ("link",)
    if "image" not in item and "image_link" not in item:
        yield "missing_field", "ImageUrl", ("image", "image_link")
    if "brand" not in item and "gtin" not in item and "mpn" not in item:
        yield "missing_field", "Brand", ("brand", "gtin", "mpn")


def _is_unreadable_price(name: str, value: object) -> bool:
    if is_empty(value) or (name == "sale_price" and value in (0, "0")):
        return False
    return parse_price(value) is None


def _value_fault(spec: FieldSpec, value: object) -> str | None:
    """The key of the sentence about a bad value, or ``None``."""
    if spec.kind in (Kind.URL, Kind.URL_LIST, Kind.MEDIA_LIST):
        return _url_fault(spec, value)
    if spec.kind is Kind.ANY or spec.kind is Kind.PRICE:
        return None
    if spec.kind is Kind.VARIANT_ATTRIBUTES:
        return None if _are_variant_attributes(value) else "invalid"
    if spec.kind is Kind.PERIOD:
        return None if read_period(value) is not None else "invalid"
    if isinstance(value, list | dict):
        return "invalid"
    return None if _is_good_scalar(spec, text_of(value)) else "invalid"


def _is_good_scalar(spec: FieldSpec, text: str) -> bool:
    match spec.kind:
        case Kind.WORD:
            return text in spec.words
        case Kind.FOLDED_WORD:
            return text.casefold() in spec.words
        case Kind.QUANTITY:
            return _is_number(text)
        case Kind.NUMBER:
            return _is_number(text) and int(text) <= _LARGEST_CUSTOM_NUMBER
        case Kind.DIGITS if not (text.isascii() and text.isdigit()):
            return False
        case _:
            return spec.max_length is None or len(text) <= spec.max_length


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER


def _url_fault(spec: FieldSpec, value: object) -> str | None:
    if spec.kind is Kind.URL:
        return None if isinstance(value, str) and _URL.fullmatch(value) else "bad_url"
    if isinstance(value, str):
        if spec.kind is Kind.MEDIA_LIST or len(value) > _LONGEST_URL_LIST:
            return "invalid"
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list) or (spec.max_length is not None and len(value) > spec.max_length):
        return "invalid"
    urls = [entry.get("url") if isinstance(entry, dict) else entry for entry in value]
    if all(isinstance(url, str) and _URL.fullmatch(url) for url in urls):
        return None
    return "bad_url"


def _are_variant_attributes(value: object) -> bool:
    if isinstance(value, list):
        return all(
            isinstance(entry, dict) and {"variant_label", "variant_value"} <= entry.keys() for entry in value
        )
    if not isinstance(value, str):
        return False
    pairs = [pair.split(":") for pair in value.split(",")]
    return all(len(pair) == 2 and pair[0].strip() and pair[1].strip() for pair in pairs)
