"""What the mapping has to say about an item that it can send: values it cut, dropped or could not read.

An issue never keeps an item from being sent; reasons that do are in ``eligibility``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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


_SENTENCES: dict[IssueCode, str] = {
    IssueCode.PRICE_PRECISION_LOST: "Meta takes fewer decimals than the store's price has; it was rounded to {}.",
    IssueCode.SALE_NOT_BELOW_PRICE: "The special price {} is not below the price and is not sent.",
    IssueCode.SALE_WINDOW_EMPTY: "The special price ends when it starts or before ({}) and is not sent.",
    IssueCode.TITLE_CUT: "The title is longer than {} characters and was cut.",
    IssueCode.DESCRIPTION_CUT: "The description is longer than {} characters and was cut.",
    IssueCode.VALUE_CUT: "The value is longer than {} characters and was cut.",
    IssueCode.TEXT_ALL_CAPS: "The text was all capital letters, which Meta flags; it is sent as {}.",
    IssueCode.ID_BREAKS_CHECKOUT_LINK: "The id {} contains a comma or a colon, which breaks Meta's checkout link.",
    IssueCode.ID_HAS_OUTER_SPACES: "The id {} begins or ends with a space, which Meta may remove.",
    IssueCode.ID_EQUALS_GROUP: "The product id {} is also an item's id; the group is sent with the prefix g:.",
    IssueCode.GROUP_ID_REPLACED: "The product id {} cannot be a group id at Meta; a short code derived from it is sent.",
    IssueCode.GROUP_WITHOUT_ATTRIBUTE: (
        "The product {} has several variants, but this one has no option that tells it apart; Meta shows no picker."
    ),
    IssueCode.GTIN_INVALID: "The barcode {} is no valid GTIN (8, 12, 13 or 14 digits with a correct check digit).",
    IssueCode.GTIN_MANGLED: "The barcode {} was turned into a rounded number by a spreadsheet; digits are lost.",
    IssueCode.LINK_UNUSABLE: "The link {} is no complete http or https address and is not sent.",
    IssueCode.IMAGE_UNUSABLE: "The image {} is no complete http or https address and is not sent.",
    IssueCode.URL_NOT_PUBLIC: "The address {} points to this computer; Meta cannot reach it.",
    IssueCode.IMAGES_CUT: "There are more than {} additional images; the rest is not sent.",
    IssueCode.AVAILABILITY_UNKNOWN: "The availability {} is not a word Meta knows; the item is sent as in stock.",
    IssueCode.CONDITION_UNKNOWN: "The condition {} is not a word Meta knows; the store's default is sent.",
    IssueCode.GENDER_UNKNOWN: "The gender {} is not a word Meta knows and is not sent.",
    IssueCode.AGE_GROUP_UNKNOWN: "The age group {} is not a word Meta knows and is not sent.",
    IssueCode.COLOR_IS_CODE: "The colour {} is a code; Meta wants a word, so it is not sent.",
    IssueCode.OPTION_REPEATED: "Two options mean the same field; {} is not sent.",
    IssueCode.CATEGORY_TOO_LONG: "The category {} is longer than 250 characters and is not sent.",
}

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
    return MappingIssue(code, field, _SENTENCES[code].format(shown))
