"""Compares an item as Meta shows it with what Meta confirmed last. Pure; knows no rows and asks nobody.

Meta reads under older names than it is written under (documented), formats prices for some locale, and leaves empty
fields out. What cannot be told for certain is never called a difference.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from meta_sync.core.currency import is_currency, minor_unit_exponent
from meta_sync.core.text import encode_json
from meta_sync.sync.mapping_fields import MANAGED_FIELDS
from meta_sync.sync.mapping_money import WHOLE_UNIT_CURRENCIES
from meta_sync.sync.mapping_sale import OPEN_END, OPEN_START

__all__ = [
    "CUT",
    "MAX_FOUND_BYTES",
    "READ_FIELDS",
    "READ_NAMES",
    "Comparison",
    "Match",
    "bounded",
    "compare",
    "held_fields",
    "price_readings",
]

READ_NAMES = {
    "title": "name",
    "description": "description",
    "link": "url",
    "image_link": "image_url",
    "additional_image_link": "additional_image_urls",
    "availability": "availability",
    "condition": "condition",
    "price": "price",
    "sale_price": "sale_price",
    "brand": "brand",
    "gtin": "gtin",
    "mpn": "manufacturer_part_number",
    "item_group_id": "retailer_product_group_id",
    "google_product_category": "category",
    "product_type": "product_type",
    "quantity_to_sell_on_facebook": "quantity_to_sell_on_facebook",
    "color": "color",
    "size": "size",
    "material": "material",
    "pattern": "pattern",
    "gender": "gender",
    "age_group": "age_group",
    "additional_variant_attribute": "additional_variant_attributes",
    "custom_label_0": "custom_label_0",
    "custom_label_1": "custom_label_1",
}
"""The name we write, and the one Meta shows. The window of a sale is shown as two fields and stands apart."""

READ_FIELDS = (
    "id",
    "retailer_id",
    *READ_NAMES.values(),
    "sale_price_start_date",
    "sale_price_end_date",
    "currency",
    "visibility",
    "product_group{id,retailer_id}",
    "product_feed{id,name}",
)
"""What a walk asks for."""

MAX_FOUND_BYTES = 120_000
"""Of what Meta showed of one item, as it is kept: room for every text and every address that an item may have."""

CUT = "_cut"
"""Stands with an item that is not kept whole: what is left of it says nothing for certain."""

_CUT_CHARACTERS = 500


class Match(StrEnum):
    """What comparing one field, or one item, came to."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNVERIFIABLE = "unverifiable"
    """Meta's way of showing the value allows for the confirmed one and for another."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An item compared.

    Attributes
    ----------
    match
        ``unverifiable`` only where nothing is certainly different.
    differences
        By field, what was confirmed and what Meta shows: of the fields that made it what it is.
    """

    match: Match
    differences: dict[str, list[Any]]


def compare(payload: Mapping[str, Any], shown: Mapping[str, Any]) -> Comparison:
    """Compare every field of the last confirmed payload with what Meta shows; a clear must be shown as nothing.

    Fields that were never sent are not ours to compare. Never raises, whatever Meta shows.
    """
    found: dict[Match, dict[str, list[Any]]] = {Match.DIFFERENT: {}, Match.UNVERIFIABLE: {}}
    for name, confirmed in payload.items():
        theirs: Any
        if name == "sale_price_effective_date":
            theirs = _shown_window(shown)
            match = _compare_window(confirmed, theirs)
        elif name in READ_NAMES:
            theirs = shown.get(READ_NAMES[name])
            match = _compare_field(name, confirmed, theirs, shown)
        else:
            continue
        if match is not Match.EQUAL:
            found[match][name] = [confirmed, theirs]
    for match, differences in found.items():
        if differences:
            return Comparison(match, differences)
    return Comparison(Match.EQUAL, {})


def held_fields(shown: Mapping[str, Any]) -> frozenset[str]:
    """The fields we manage that Meta shows a value of, under the names we write; all, where that was not kept whole."""
    if CUT in shown:
        return MANAGED_FIELDS
    held = {name for name, read in READ_NAMES.items() if not _is_empty(shown.get(read))}
    if _shown_window(shown):
        held.add("sale_price_effective_date")
    return frozenset(held) & MANAGED_FIELDS


def bounded(shown: Mapping[str, Any]) -> dict[str, Any]:
    """What Meta showed, short enough to be kept: long texts are cut, and lists left out, only where it is too much."""
    if len(encode_json(dict(shown))) <= MAX_FOUND_BYTES:
        return dict(shown)
    kept = {CUT: True, **{name: _cut(value) for name, value in shown.items()}}
    while kept and len(encode_json(kept)) > MAX_FOUND_BYTES:
        # The longest goes first; ids are never the longest.
        del kept[max(kept, key=lambda name: len(encode_json(kept[name])))]
    return kept


def _cut(value: Any) -> Any:
    return value[:_CUT_CHARACTERS] if isinstance(value, str) else value


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _compare_field(name: str, confirmed: Any, theirs: Any, shown: Mapping[str, Any]) -> Match:
    if name in ("price", "sale_price"):
        return _compare_price(confirmed, theirs, shown.get("currency"))
    if _is_empty(confirmed):
        return Match.EQUAL if _is_empty(theirs) else Match.DIFFERENT
    if _is_empty(theirs):
        return Match.DIFFERENT
    return _COMPARED_AS.get(name, _compare_text)(confirmed, theirs)


def _compare_text(confirmed: Any, theirs: Any) -> Match:
    return Match.EQUAL if str(confirmed).strip() == str(theirs).strip() else Match.DIFFERENT


def _compare_word(confirmed: Any, theirs: Any) -> Match:
    """Enum words: how Meta spells them on reading (case, underscores) is not documented."""
    return Match.EQUAL if _folded(confirmed) == _folded(theirs) else Match.DIFFERENT


def _folded(value: Any) -> str:
    return str(value).strip().replace("_", " ").casefold()


def _compare_category(confirmed: Any, theirs: Any) -> Match:
    """Meta takes ids and paths of a taxonomy and may show its own name for either."""
    return Match.EQUAL if _folded(confirmed) == _folded(theirs) else Match.UNVERIFIABLE


def _compare_number(confirmed: Any, theirs: Any) -> Match:
    try:
        return Match.EQUAL if int(confirmed) == int(theirs) else Match.DIFFERENT
    except (TypeError, ValueError):
        return Match.UNVERIFIABLE


def _compare_links(confirmed: Any, theirs: Any) -> Match:
    """Nothing says that Meta keeps the order."""
    ours = confirmed if isinstance(confirmed, list) else str(confirmed).split(",")
    if not isinstance(theirs, list):
        return Match.UNVERIFIABLE
    same = {str(one).strip() for one in ours} == {str(one).strip() for one in theirs}
    return Match.EQUAL if same else Match.DIFFERENT


def _compare_attributes(confirmed: Any, theirs: Any) -> Match:
    """We write ``key:value,key:value``; Meta shows a list of maps, of which the keys are not documented."""
    shown = _shown_attributes(theirs)
    if shown is None or not isinstance(confirmed, str):
        return Match.UNVERIFIABLE
    pairs = (part.partition(":") for part in confirmed.split(","))
    ours = {(_folded(key), value.strip()) for key, _, value in pairs}
    return Match.EQUAL if ours == shown else Match.DIFFERENT


def _shown_attributes(theirs: Any) -> set[tuple[str, str]] | None:
    if not isinstance(theirs, list) or not all(isinstance(one, dict) for one in theirs):
        return None
    pairs: set[tuple[str, str]] = set()
    for one in theirs:
        named = [one["key"], one["value"]] if {"key", "value"} <= one.keys() else None
        for key, value in [named] if named else one.items():
            pairs.add((_folded(key), str(value).strip()))
    return pairs


_COMPARED_AS: dict[str, Callable[[Any, Any], Match]] = {
    "availability": _compare_word,
    "condition": _compare_word,
    "gender": _compare_word,
    "age_group": _compare_word,
    "google_product_category": _compare_category,
    "quantity_to_sell_on_facebook": _compare_number,
    "additional_image_link": _compare_links,
    "additional_variant_attribute": _compare_attributes,
}
"""Everything else is a text, compared byte for byte but for the white space around it."""


# --- Sale windows -----------------------------------------------------------------------------------------------------


def _shown_window(shown: Mapping[str, Any]) -> list[Any]:
    bounds = [shown.get("sale_price_start_date"), shown.get("sale_price_end_date")]
    return [] if all(_is_empty(one) for one in bounds) else bounds


def _compare_window(confirmed: Any, theirs: list[Any]) -> Match:
    if _is_empty(confirmed):
        return Match.DIFFERENT if theirs else Match.EQUAL
    start, _, end = str(confirmed).partition("/")
    bounds = theirs or [None, None]
    found = {
        _compare_bound(start, bounds[0], OPEN_START),
        _compare_bound(end, bounds[1], OPEN_END),
    }
    if Match.DIFFERENT in found:
        return Match.DIFFERENT
    return Match.UNVERIFIABLE if Match.UNVERIFIABLE in found else Match.EQUAL


def _compare_bound(confirmed: str, theirs: Any, is_open: datetime) -> Match:
    ours = _instant(confirmed)
    if _is_empty(theirs):
        return Match.EQUAL if ours == is_open else Match.DIFFERENT
    shown = _instant(str(theirs))
    if ours is None or shown is None:
        return Match.UNVERIFIABLE
    return Match.EQUAL if ours == shown else Match.DIFFERENT


def _instant(text: str) -> datetime | None:
    """An instant; ``None`` for what has no offset, or is none."""
    try:
        moment = datetime.fromisoformat(text.strip())
        return None if moment.tzinfo is None else moment.astimezone(UTC).replace(microsecond=0)
    except (ValueError, OverflowError):
        return None


# --- Prices -----------------------------------------------------------------------------------------------------------

_SENT = re.compile(r"(\d{1,18}(?:\.\d{1,3})?) ([A-Z]{3})", re.ASCII)
_SPACES = frozenset(" \u00a0\u202f\u2009")
_POINTS = frozenset(".,\u066b\u00b7")
"""What parts whole units from decimals somewhere in the world; the first two part thousands elsewhere."""
_GROUPERS = frozenset(".,'\u2019\u066c\u02d9") | _SPACES
_LONGEST_PRICE = 64


def _compare_price(confirmed: Any, theirs: Any, currency: Any) -> Match:
    sent = _SENT.fullmatch(confirmed) if isinstance(confirmed, str) else None
    if _is_empty(confirmed):
        return Match.EQUAL if _is_empty(theirs) or price_readings(str(theirs), "") == {0} else Match.DIFFERENT
    if _is_empty(theirs):
        return Match.DIFFERENT
    if sent is None:
        return Match.UNVERIFIABLE
    named = currency.strip().upper() if isinstance(currency, str) else ""
    if is_currency(named) and named != sent[2]:
        return Match.DIFFERENT
    readings = price_readings(str(theirs), sent[2])
    if Decimal(sent[1]) in readings:
        return Match.EQUAL if len(readings) == 1 else Match.UNVERIFIABLE
    return Match.DIFFERENT if readings else Match.UNVERIFIABLE


def price_readings(shown: str, currency: str) -> frozenset[Decimal]:
    """Every amount that a formatted price can stand for, in whatever locale it was written; empty: none.

    ``1.234`` is 1234 euros, and 1.234 or 1234 Kuwaiti dinars: three decimals are read only where the currency has them.
    """
    digits = _digits(shown)
    if digits is None:
        return frozenset()
    most = 3 if is_currency(currency) and _decimals(currency) == 3 else 2
    readings = set()
    whole = _whole(digits)
    if whole is not None:
        readings.add(Decimal(whole))
    at = max((place for place, one in enumerate(digits) if one in _POINTS), default=None)
    if at is not None:
        before, decimals = digits[:at], digits[at + 1 :]
        whole = _whole(before, but=digits[at])
        if whole is not None and 1 <= len(decimals) <= most and decimals.isdecimal():
            readings.add(Decimal(f"{whole}.{decimals}"))
    return frozenset(readings)


def _decimals(currency: str) -> int:
    return 0 if currency in WHOLE_UNIT_CURRENCIES else minor_unit_exponent(currency)


def _digits(shown: str) -> str | None:
    """From the first digit to the last, in ASCII digits; ``None`` where something stands in between that is no number's."""
    if len(shown) > _LONGEST_PRICE:
        return None
    places = [place for place, one in enumerate(shown) if one.isdecimal()]
    if not places:
        return None
    before = shown[: places[0]].rstrip()
    if before[-1:] in {"-", "\u2212"}:
        return None
    number = shown[places[0] : places[-1] + 1]
    if any(not one.isdecimal() and one not in _GROUPERS | _POINTS for one in number):
        return None
    return "".join(str(unicodedata.decimal(one)) if one.isdecimal() else one for one in number)


def _whole(digits: str, *, but: str = "") -> str | None:
    """The number without what parts its thousands, which is one sign throughout and not ``but``; ``None``: it is none."""
    signs = {one for one in digits if not one.isdecimal()}
    if not signs:
        return digits or None
    if len(signs) > 1 or but in signs or not signs <= _GROUPERS:
        return None
    first, *groups = digits.split(signs.pop())
    if not 1 <= len(first) <= 3 or len(groups[-1]) != 3:
        return None
    # India parts in twos above the thousands.
    is_western = all(len(one) == 3 for one in groups)
    is_indian = len(first) <= 2 and all(len(one) == 2 for one in groups[:-1])
    return "".join((first, *groups)) if is_western or is_indian else None
