"""From a variant of the store to an item at Meta. Pure: no database, no network, no clock of its own.

The result depends on the item, the store's mapping settings, the instant given, and ``MAPPER_VERSION``. It must not
depend on anything else, or a change of that would not lead to a push.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

import msgspec

from meta_sync.catalog.models import CatalogItem
from meta_sync.sync.eligibility import IneligibleReason, draft_required, state_reason
from meta_sync.sync.mapping_draft import Draft
from meta_sync.sync.mapping_fields import FIELDS, clear_values
from meta_sync.sync.mapping_identity import group_id
from meta_sync.sync.mapping_issues import IssueCode, MappingIssue
from meta_sync.sync.mapping_options import VARIANT_FIELDS, fill_options
from meta_sync.sync.mapping_plan import MappingPlan, plan_for
from meta_sync.sync.mapping_required import put_within
from meta_sync.sync.mapping_sale import fill_sale
from meta_sync.sync.mapping_settings import MappingSettings
from meta_sync.sync.mapping_stock import fill_condition, fill_stock
from meta_sync.sync.mapping_text import calm_description, clean_text, cut, is_shouting, plain_text

__all__ = [
    "MAPPER_VERSION",
    "Ineligible",
    "MappedItem",
    "Mapper",
    "encode_with_clears",
    "evaluate",
    "map_item",
    "retailer_id_for",
]

MAPPER_VERSION = 1
"""Raise it with every change that alters any payload: it is part of the hash, so all items are looked at again."""

MAX_DESCRIPTION_CHARS = 9_999
MAX_CATEGORY_CHARS = 250
MAX_PRODUCT_TYPE_CHARS = 750
CATEGORY_DEPTH = 3
"""How many of the innermost category titles stand in for a missing Google category."""

_encode = msgspec.json.Encoder(order="sorted").encode
_HASH_PREFIX = b"%d\n" % MAPPER_VERSION


@dataclass(slots=True)
class MappedItem:
    """An item as Meta is to have it."""

    data: dict[str, Any]
    """The value of ``data`` in a record of items_batch, clears not included."""
    encoded: bytes
    """Canonical JSON of ``data``: sorted keys, no white space, UTF-8."""
    hash: bytes
    """SHA-256 of the mapper's version and ``encoded``."""
    issues: tuple[MappingIssue, ...]

    @property
    def fields(self) -> frozenset[str]:
        """The fields that are sent with a value, ``id`` excepted."""
        return _field_set(tuple(self.data))


_ID = frozenset(("id",))


@lru_cache(maxsize=4096)
def _field_set(names: tuple[str, ...]) -> frozenset[str]:
    """Items share few distinct sets of fields; one object for each makes comparing them cheap."""
    return frozenset(names) - _ID


@dataclass(frozen=True, slots=True)
class Ineligible:
    """An item that is not to be at Meta."""

    reason: IneligibleReason
    issues: tuple[MappingIssue, ...] = ()
    """What was found on the way to the reason, such as the barcode that is no identifier."""


class Mapper:
    """The mapping of one store: make one per store and batch, then evaluate row after row.

    Raises
    ------
    KeyError
        The settings' currency is not an active one.
    """

    __slots__ = ("_plan",)

    def __init__(self, settings: MappingSettings) -> None:
        self._plan = MappingPlan(settings)

    def evaluate(
        self,
        item: CatalogItem,
        *,
        excluded: bool,
        retailer_id: str | None,
        now: datetime,
        image_version: int = 0,
        pinned: Mapping[str, Any] | None = None,
    ) -> MappedItem | Ineligible:
        """Decide whether the item may be sent, and map it. Never raises for an item, whatever it holds.

        Parameters
        ----------
        excluded
            A person took the item off Meta.
        retailer_id
            The id the item was first sent under; ``None`` when it was never sent.
        now
            The present instant, aware. Only the end of a sale depends on it.
        image_version
            Above 0: appended to the image addresses, so that Meta fetches them again.
        pinned
            By field the value that a person wants kept, in place of the store's; ``None`` for a field that is to stay
            empty. Whether the item may be sent does not depend on it.
        """
        reason = state_reason(item, excluded=excluded)
        if reason is not None:
            return Ineligible(reason)
        found = _content(item, self._plan, retailer_id, now, image_version)
        if pinned and isinstance(found, MappedItem):
            return _with_pins(found, pinned)
        return found

    def eligibility(
        self, item: CatalogItem, *, excluded: bool, retailer_id: str | None
    ) -> IneligibleReason | None:
        """Why the item may not be sent, or ``None``. Cheaper than ``evaluate``, with the same verdict."""
        reason = state_reason(item, excluded=excluded)
        return reason or draft_required(item, self._plan, Draft(), retailer_id)

    def retailer_id_for(self, item: CatalogItem) -> str:
        """The id the item would be sent under for the first time; empty when the template needs a missing value."""
        return self._plan.ids.build(item)


def evaluate(
    item: CatalogItem,
    settings: MappingSettings,
    *,
    excluded: bool,
    retailer_id: str | None,
    now: datetime,
    image_version: int = 0,
) -> MappedItem | Ineligible:
    """``Mapper.evaluate`` for a single item."""
    reason = state_reason(item, excluded=excluded)
    if reason is not None:
        return Ineligible(reason)
    return _content(item, plan_for(settings), retailer_id, now, image_version)


def map_item(
    item: CatalogItem,
    settings: MappingSettings,
    *,
    retailer_id: str,
    now: datetime,
    image_version: int = 0,
) -> MappedItem:
    """Map an item whose content is fit to be sent, whatever its status; for previews.

    Raises
    ------
    ValueError
        The content is not fit; the message is the reason's code.
    """
    result = _content(item, plan_for(settings), retailer_id, now, image_version)
    if isinstance(result, MappedItem):
        return result
    raise ValueError(result.reason.value)


def retailer_id_for(item: CatalogItem, settings: MappingSettings) -> str:
    """The id the item would be sent under for the first time; empty when the template needs a missing value."""
    return plan_for(settings).ids.build(item)


def encode_with_clears(mapped: MappedItem, clears: Iterable[str]) -> bytes:
    """The payload that is really sent: the mapping, and the empty value for each field owed a clear.

    A field that has a value in the mapping is not cleared.
    """
    values = clear_values(clears)
    return _encode({**values, **mapped.data}) if values else mapped.encoded


def _content(
    item: CatalogItem, plan: MappingPlan, retailer_id: str | None, now: datetime, image_version: int
) -> MappedItem | Ineligible:
    draft = Draft()
    reason = draft_required(item, plan, draft, retailer_id, image_version)
    if reason is not None:
        return Ineligible(reason, tuple(draft.issues))
    _fill_description(item, draft)
    fill_condition(item.condition, plan.default_condition, draft)
    fill_stock(item, plan.quantity_cap, draft)
    if item.special_price is not None and item.price is not None:
        fill_sale(item, plan.prices.amount(item.price), plan.prices, now, draft)
    if item.options:
        fill_options(item.options, draft)
    if item.live_variant_count > 1:
        _fill_group(item, draft)
    if item.categories or item.google_product_category:
        _fill_categories(item, draft)
    encoded = _encode(draft.data)
    return MappedItem(draft.data, encoded, sha256(_HASH_PREFIX + encoded).digest(), tuple(draft.issues))


def _with_pins(mapped: MappedItem, pinned: Mapping[str, Any]) -> MappedItem:
    """The item with the pinned values in place of the store's. The id is never one; a required field is never emptied."""
    data = dict(mapped.data)
    for name, value in pinned.items():
        field = FIELDS.get(name)
        if field is None:
            continue
        if value not in (None, "", []):
            data[name] = value
        elif not field.required:
            data.pop(name, None)
    encoded = _encode(data)
    issues = tuple(one for one in mapped.issues if one.field not in pinned)
    return MappedItem(data, encoded, sha256(_HASH_PREFIX + encoded).digest(), issues)


def _fill_description(item: CatalogItem, draft: Draft) -> None:
    for source in (item.description, item.subtitle):
        text = clean_text(source) if source else ""
        if text:
            break
    else:
        draft.data["description"] = draft.data["title"]
        return
    if is_shouting(text):
        text = calm_description(text)
        draft.note(IssueCode.TEXT_ALL_CAPS, "description", text)
    if len(text) > MAX_DESCRIPTION_CHARS:
        text = cut(text, MAX_DESCRIPTION_CHARS)
        draft.note(IssueCode.DESCRIPTION_CUT, "description", MAX_DESCRIPTION_CHARS)
    draft.data["description"] = text


def _fill_group(item: CatalogItem, draft: Draft) -> None:
    data = draft.data
    data["item_group_id"] = group_id(item, data["id"], draft)
    if VARIANT_FIELDS.isdisjoint(data):
        draft.note(IssueCode.GROUP_WITHOUT_ATTRIBUTE, "item_group_id", item.product_id)


def _fill_categories(item: CatalogItem, draft: Draft) -> None:
    """Add the store's own category path, and Google's category or the innermost titles in its place."""
    titles = [title for given in item.categories if (title := _category_title(given))]
    if titles:
        put_within(draft, "product_type", " > ".join(titles), MAX_PRODUCT_TYPE_CHARS)
    explicit = clean_text(item.google_product_category) if item.google_product_category else ""
    if len(explicit) > MAX_CATEGORY_CHARS:
        draft.note(IssueCode.CATEGORY_TOO_LONG, "google_product_category", explicit)
        explicit = ""
    if explicit:
        draft.data["google_product_category"] = explicit
        return
    for depth in range(min(CATEGORY_DEPTH, len(titles)), 0, -1):
        path = " > ".join(titles[-depth:])
        if len(path) <= MAX_CATEGORY_CHARS:
            draft.data["google_product_category"] = path
            return


def _category_title(text: str) -> str:
    title = clean_text(text)
    # A "<" in one title and the ">" between titles would read as a tag.
    return plain_text(title.replace("<", " ")) if "<" in title else title
