"""The one table of the item fields this product manages: how each is emptied, and how sure we are that Meta obeys.

An update at Meta is a merge: a field that is left out keeps its old value, so a value that is gone must be sent empty.
This module only states facts; which fields are owed a clear is decided by the pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["FIELDS", "MANAGED_FIELDS", "ClearConfidence", "ManagedField", "clear_values"]

ClearConfidence = Literal["documented", "observed", "assumed"]
"""``documented``: a page of Meta says so. ``observed``: an integration in production does it. ``assumed``: by analogy."""


@dataclass(frozen=True, slots=True)
class ManagedField:
    """One field of an item that the mapping may fill."""

    name: str
    empty: Literal["", "list"]
    """What clears it: the empty text, or an empty list."""
    required: bool
    """Every mapping carries it, so it is never cleared."""
    confidence: ClearConfidence
    source: str
    """Where the knowledge about clearing comes from."""


_ANALOGY = "Only clearing of other text fields is known; the empty text is assumed to work here too"
_REQUIRED = "Meta requires the field, so it is always sent with a value"


def _required(name: str) -> ManagedField:
    return ManagedField(name, "", required=True, confidence="assumed", source=_REQUIRED)


def _optional(
    name: str,
    confidence: ClearConfidence = "assumed",
    source: str = _ANALOGY,
    empty: Literal["", "list"] = "",
) -> ManagedField:
    return ManagedField(name, empty, required=False, confidence=confidence, source=source)


_TABLE = (
    _required("title"),
    _required("description"),
    _required("link"),
    _required("image_link"),
    _required("availability"),
    _required("price"),
    _required("condition"),
    _optional(
        "sale_price",
        "documented",
        "Meta's feed documentation: leave the field but make it empty; Meta's WooCommerce plugin does so by items_batch",
    ),
    _optional(
        "sale_price_effective_date",
        "observed",
        "Meta's WooCommerce plugin sends it empty together with the sale price",
    ),
    _optional(
        "additional_image_link",
        "assumed",
        "items_batch documents the empty list for video; assumed for the other list of links",
        "list",
    ),
    _optional(
        "quantity_to_sell_on_facebook",
        "assumed",
        "A number field; 0 would contradict 'in stock', so the empty text is tried",
    ),
    *(
        _optional(name)
        for name in (
            "brand",
            "gtin",
            "mpn",
            "item_group_id",
            "google_product_category",
            "product_type",
            "color",
            "size",
            "material",
            "pattern",
            "gender",
            "age_group",
            "additional_variant_attribute",
            "custom_label_0",
            "custom_label_1",
        )
    ),
)

FIELDS: dict[str, ManagedField] = {field.name: field for field in _TABLE}
"""The table by field name."""

MANAGED_FIELDS = frozenset(FIELDS)
"""Every field the mapping may send, ``id`` excepted."""


def clear_values(fields: Iterable[str]) -> dict[str, Any]:
    """What to send so that Meta empties the given fields.

    Required fields and ``id`` are left out, because they are never empty. A field that an older mapper managed and
    this one does not is cleared with the empty text.
    """
    values: dict[str, Any] = {}
    for name in fields:
        field = FIELDS.get(name)
        if name == "id" or (field is not None and field.required):
            continue
        values[name] = [] if field is not None and field.empty == "list" else ""
    return values
