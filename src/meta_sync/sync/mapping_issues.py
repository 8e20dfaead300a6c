"""What the mapping has to say about an item that it can send: values it cut, dropped or could not read.

An issue never keeps an item from being sent; reasons that do are in ``eligibility``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from meta_sync.sync.codes import entry_of

__all__ = ["IssueCode", "MappingIssue", "issue"]


class IssueCode(StrEnum):
    """Stable code of an issue."""

    PRICE_PRECISION_LOST = "price_precision_lost"
    SALE_NOT_BELOW_PRICE = "sale_not_below_price"
    SALE_WINDOW_EMPTY = "sale_window_empty"
    TITLE_CUT = "title_cut"
    DESCRIPTION_CUT = "description_cut"
    VALUE_CUT = "value_cut"
    TEXT_ALL_CAPS = "text_all_caps"
    ID_BREAKS_CHECKOUT_LINK = "id_breaks_checkout_link"
    ID_HAS_OUTER_SPACES = "id_has_outer_spaces"
    ID_EQUALS_GROUP = "id_equals_group"
    GROUP_ID_REPLACED = "group_id_replaced"
    GROUP_WITHOUT_ATTRIBUTE = "group_without_attribute"
    GTIN_INVALID = "gtin_invalid"
    GTIN_MANGLED = "gtin_mangled"
    LINK_UNUSABLE = "link_unusable"
    IMAGE_UNUSABLE = "image_unusable"
    URL_NOT_PUBLIC = "url_not_public"
    IMAGES_CUT = "images_cut"
    AVAILABILITY_UNKNOWN = "availability_unknown"
    CONDITION_UNKNOWN = "condition_unknown"
    GENDER_UNKNOWN = "gender_unknown"
    AGE_GROUP_UNKNOWN = "age_group_unknown"
    COLOR_IS_CODE = "color_is_code"
    OPTION_REPEATED = "option_repeated"
    CATEGORY_TOO_LONG = "category_too_long"


_EXCERPT_CHARS = 80
"""Issues are shown in lists; a whole description in one would drown the sentence."""


@dataclass(frozen=True, slots=True)
class MappingIssue:
    """One remark about one field of a mapped item."""

    code: IssueCode
    field: str
    """The item field at Meta that is concerned."""
    sentence: str


def issue(code: IssueCode, field: str, value: object) -> MappingIssue:
    """An issue with its sentence; the value is quoted when it is text, and shortened."""
    if isinstance(value, str):
        shown = value if len(value) <= _EXCERPT_CHARS else value[: _EXCERPT_CHARS - 1] + "…"
        # The text may hold what no database stores; the sentence must not.
        shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in shown)
        shown = f'"{shown}"'
    else:
        shown = str(value)
    return MappingIssue(code, field, entry_of(code).template.format(shown))
