"""Options of a variant as Meta's attributes: the six it has fields for, and one field for the rest."""

from __future__ import annotations

import re
from typing import Final

from meta_sync.sync.mapping_draft import Draft
from meta_sync.sync.mapping_issues import IssueCode
from meta_sync.sync.mapping_text import clean_text, cut
from meta_sync.sync.mapping_words import AGE_GROUPS, GENDERS, fold, option_field

__all__ = ["VARIANT_FIELDS", "fill_options"]

_MAX_CHARS: Final = {"color": 100, "size": 200, "material": 200, "pattern": 100}
"""Documented lengths; where Meta's two pages differ (color: 100 and 200) the smaller."""

VARIANT_FIELDS = frozenset((*_MAX_CHARS, "gender", "age_group", "additional_variant_attribute"))
"""Fields that tell the variants of one group apart."""

_COLOR_CODE = re.compile(r"#[0-9A-Fa-f]{3,8}")
_SEPARATORS = str.maketrans(",:", "  ")
"""Meta's syntax is ``name:value,name:value`` without any escape."""


def fill_options(options: dict[str, str], draft: Draft) -> None:
    """Add the attributes of a variant. The order in which the options were given does not matter."""
    data = draft.data
    others = []
    for name, raw_value in sorted(options.items()) if len(options) > 1 else options.items():
        value = clean_text(raw_value)
        if not value:
            continue
        field = option_field(name)
        if field is None:
            if pair := _pair(name, value):
                others.append(pair)
        elif field in data:
            draft.note(IssueCode.OPTION_REPEATED, field, f"{name}: {value}")
        elif (accepted := _value(field, value, draft)) is not None:
            data[field] = accepted
    if others:
        data["additional_variant_attribute"] = ",".join(others)


def _value(field: str, value: str, draft: Draft) -> str | None:
    if field == "gender":
        word = GENDERS.get(value) or GENDERS.get(fold(value))
        if word is None:
            draft.note(IssueCode.GENDER_UNKNOWN, field, value)
        return word
    if field == "age_group":
        word = AGE_GROUPS.get(value) or AGE_GROUPS.get(fold(value))
        if word is None:
            draft.note(IssueCode.AGE_GROUP_UNKNOWN, field, value)
        return word
    if field == "color" and value[0] == "#" and _COLOR_CODE.fullmatch(value):
        draft.note(IssueCode.COLOR_IS_CODE, field, value)
        return None
    limit = _MAX_CHARS[field]
    if len(value) > limit:
        draft.note(IssueCode.VALUE_CUT, field, limit)
        value = cut(value, limit)
    return value


def _pair(name: str, value: str) -> str | None:
    """``name:value`` for Meta, or ``None`` where nothing is left of one of them, or where it says nothing."""
    name = clean_text(name)
    if name.casefold() == "title" and value.casefold() == "default title":
        return None  # what Shopify writes for a product without options
    name = " ".join(name.translate(_SEPARATORS).split())
    value = " ".join(value.translate(_SEPARATORS).split())
    return f"{name}:{value}" if name and value else None
