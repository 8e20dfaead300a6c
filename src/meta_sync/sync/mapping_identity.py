"""What identifies an item: its id at Meta, its group, its trade number."""

from __future__ import annotations

import re
from hashlib import sha256

from meta_sync.catalog.models import CatalogItem
from meta_sync.sync.mapping_draft import Draft
from meta_sync.sync.mapping_issues import IssueCode

__all__ = ["MAX_ID_CHARS", "IdTemplate", "group_id", "is_sendable_id", "is_valid_gtin", "pick_gtin"]

MAX_ID_CHARS = 100
"""Documented for ids and group ids. An id is never cut: two would become one."""

_UNSENDABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def is_sendable_id(text: str) -> bool:
    """Whether Meta takes the text as an id: 1 to 100 characters, not only spaces, no control characters."""
    if not 0 < len(text) <= MAX_ID_CHARS:
        return False
    return (text.isprintable() or _UNSENDABLE.search(text) is None) and not text.isspace()


class IdTemplate:
    """Makes the id of an item at Meta from ``{variantId}``, ``{productId}`` and ``{sku}``."""

    __slots__ = ("_is_variant_id", "_pieces")

    def __init__(self, template: str) -> None:
        self._is_variant_id = template == "{variantId}"
        self._pieces = re.split(r"\{(variantId|productId|sku)\}", template)

    def build(self, item: CatalogItem) -> str:
        """The id, or an empty text when a value the template needs is missing: a half id would be another item's.

        Values are taken as they are; only white space around a SKU is removed, because Meta may remove it and would
        then answer about an id that was never sent.
        """
        if self._is_variant_id:
            return item.variant_id
        values = {"variantId": item.variant_id, "productId": item.product_id, "sku": (item.sku or "").strip()}
        made = []
        for place, piece in enumerate(self._pieces):
            if place % 2 == 0:
                made.append(piece)
            elif values[piece]:
                made.append(values[piece])
            else:
                return ""
        return "".join(made)


def group_id(item: CatalogItem, retailer_id: str, draft: Draft) -> str:
    """The id under which the variants of the item's product are grouped; differs from every item's id."""
    product_id = item.product_id
    prefixed = product_id
    if item.group_id_taken or product_id == retailer_id:
        draft.note(IssueCode.ID_EQUALS_GROUP, "item_group_id", product_id)
        prefixed = f"g:{product_id}"
    if is_sendable_id(prefixed):
        return prefixed
    draft.note(IssueCode.GROUP_ID_REPLACED, "item_group_id", product_id)
    return f"g:{sha256(product_id.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"


# --- GTIN -----------------------------------------------------------------------------------------------------------

_ZERO_SUMS = {length: ord("0") * ((length + 1) // 2 + 3 * (length // 2)) for length in (8, 12, 13, 14)}
"""By length of a GTIN: what the weighted sum of its characters' codes has too much."""
_WRITTEN_BETWEEN_DIGITS = re.compile(r"[\s\-\u2010-\u2015\u2212]+")
_SPREADSHEET_NUMBER = re.compile(r"\d+(?:[.,]\d+)?[eE]\+?\d+")


def is_valid_gtin(digits: str) -> bool:
    """Whether the text is a GTIN-8, -12, -13 or -14: digits only, with the check digit of the GS1 rules, not all zero."""
    zero_sum = _ZERO_SUMS.get(len(digits))
    if zero_sum is None or not (digits.isascii() and digits.isdigit()):
        return False
    # From the right, every second digit counts three times. Sums of bytes, since a loop over digits costs more.
    codes = digits.encode("ascii")
    total = sum(codes[::-2]) + 3 * sum(codes[-2::-2]) - zero_sum
    return total > 0 and total % 10 == 0


def pick_gtin(item: CatalogItem, draft: Draft) -> str | None:
    """The first valid GTIN among EAN, UPC and barcode; an issue when there is something but nothing valid."""
    given = ""
    for text in (item.ean, item.upc, item.barcode):
        if not text:
            continue
        if is_valid_gtin(text):
            return text
        digits = _WRITTEN_BETWEEN_DIGITS.sub("", text).lstrip("'")  # a spreadsheet's mark for "this is text"
        if is_valid_gtin(digits):
            return digits
        given = given or digits
    if given:
        mangled = _SPREADSHEET_NUMBER.fullmatch(given) is not None
        draft.note(IssueCode.GTIN_MANGLED if mangled else IssueCode.GTIN_INVALID, "gtin", given)
    return None
