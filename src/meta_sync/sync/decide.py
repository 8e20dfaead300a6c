"""What the next drain does about an item: pure, from the row, what is known of Meta's side, and the mapping."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from functools import lru_cache

import msgspec

from meta_sync.catalog.models import META_SOURCE, CatalogItem
from meta_sync.sync.mapping import Ineligible, MappedItem, Mapper, encode_with_clears
from meta_sync.sync.mapping_fields import FIELDS, MANAGED_FIELDS
from meta_sync.sync.models import (
    DELETE_HASH,
    GRACE_HASH,
    Decision,
    DecisionKind,
    ItemState,
    Link,
    Presence,
)

__all__ = [
    "EXCLUDED",
    "GONE_REASONS",
    "KEPT_CODES",
    "KeptCode",
    "decide",
    "is_as_adopted",
    "known_may_hold",
    "known_presence",
]

GONE_REASONS = frozenset({"product_deleted", "variant_deleted"})
"""Reasons that mean the variant is no more, unlike one that is only not fit to be shown."""

EXCLUDED = "excluded_by_operator"
"""Reason of what a person asked for by name: no grace, and nothing for the guard to hold."""


class KeptCode(StrEnum):
    """Why an item is left at Meta as it is, where a person is to see that."""

    ADOPTED = "adopted_left_alone"
    """It was adopted and could not be sent as it is in the store."""
    DELETE_GRACE = "delete_grace"
    """It is to go, and is shown as out of stock until its grace is over."""


KEPT_CODES = frozenset(KeptCode)

_AVAILABILITY = frozenset({"availability"})
_LEFT = frozenset({DELETE_HASH, GRACE_HASH})
"""Either of them discarded means that the item is to stay as it is."""

_NEVER_CLEARED = frozenset(name for name, field in FIELDS.items() if field.required) | {"id"}
"""A required field is never absent from a mapping, so it never has to be emptied."""


def _is_foreign(state: ItemState, link: Link) -> bool:
    """Whether what the row says of Meta's side does not hold in this epoch of the link.

    The row's epoch is written at every claim. A row of an older epoch was sent before the store went to another
    catalog and came back. A row without one was never sent: in a catalog that was empty that means absent, in any
    other the item may be there under the same id, put there by somebody else.
    """
    if state.confirmed_epoch is None:
        return not link.was_empty
    return state.confirmed_epoch != link.epoch


def known_presence(state: ItemState, link: Link) -> Presence:
    """Whether the item is at Meta, as far as this epoch of the link knows."""
    return Presence.MAYBE if _is_foreign(state, link) else state.presence


def known_may_hold(state: ItemState, link: Link) -> frozenset[str]:
    """The fields Meta may hold for the item, as far as this epoch of the link knows."""
    return MANAGED_FIELDS if _is_foreign(state, link) else state.may_hold


def is_as_adopted(state: ItemState) -> bool:
    """Whether the item is at Meta as it was when it was adopted: this link has sent nothing for it since."""
    return state.discarded_hash is not None and state.discarded_hash == state.confirmed_hash


def decide(
    item: CatalogItem | None,
    state: ItemState,
    link: Link,
    mapper: Mapper,
    *,
    now: datetime,
    is_job_only: bool = False,
) -> Decision:
    """Decide about one item. Never raises for an item, whatever it holds.

    Parameters
    ----------
    item
        The catalog's row; ``None`` when there is none at all.
    is_job_only
        Nothing but a job asks: what Meta refused, or a person discarded, is then left alone.
    """
    if item is None:
        return _absent(state, link, "variant_deleted", now, is_job_only=is_job_only)
    wanted = mapper.evaluate(
        item,
        excluded=state.is_excluded or link.is_emptied,
        retailer_id=state.retailer_id,
        now=now,
        image_version=state.image_version,
        pinned=state.pinned,
    )
    if isinstance(wanted, Ineligible):
        is_kept = item.source == META_SOURCE and _is_kept(wanted.reason, state, link)
        return _absent(state, link, wanted.reason.value, now, is_kept=is_kept, is_job_only=is_job_only)
    # Whoever takes an adopted item over says what it is from then on, also where that is what it was.
    is_taken_over = item.source != META_SOURCE and is_as_adopted(state)
    return _present(wanted, state, link, is_taken_over=is_taken_over, is_job_only=is_job_only)


def _is_kept(reason: str, state: ItemState, link: Link) -> bool:
    """Whether an adopted item that may not be sent stays: unless a person wants it gone, or we have sent it meanwhile."""
    if reason in GONE_REASONS or state.is_excluded:
        return False
    return not link.is_emptied or is_as_adopted(state)


def _absent(
    state: ItemState,
    link: Link,
    reason: str,
    now: datetime,
    *,
    is_kept: bool = False,
    is_job_only: bool,
) -> Decision:
    presence = known_presence(state, link)
    # Only what this link has sent is deleted: an item that somebody else put there under the same id is not ours.
    if presence is not Presence.ABSENT and state.retailer_id is not None:
        if is_kept:
            return Decision(DecisionKind.KEEP, KeptCode.ADOPTED, state.retailer_id)
        return _taken_away(state, link, reason, now, is_job_only=is_job_only)
    if reason in GONE_REASONS:
        return Decision(DecisionKind.DROP, reason, state.retailer_id)
    return Decision(DecisionKind.SKIP, reason, state.retailer_id)


def _taken_away(state: ItemState, link: Link, reason: str, now: datetime, *, is_job_only: bool) -> Decision:
    """Delete what this link has sent; where the store grants a grace, show it as out of stock until that is over."""
    until = state.grace_until
    is_asked = state.is_excluded or link.is_emptied
    # Whoever asks for it by name, or for everything, asks for what was discarded too.
    if state.discarded_hash in _LEFT and not is_asked:
        return Decision(DecisionKind.KEEP, reason, state.retailer_id)
    has_grace = link.delete_grace_days > 0 and not is_asked and (until is None or now < until)
    if not has_grace:
        if is_job_only and state.rejected_hash == DELETE_HASH:
            return Decision(DecisionKind.KEEP, reason, state.retailer_id)
        payload = msgspec.json.encode({"id": state.retailer_id})
        asked = EXCLUDED if is_asked else reason
        return Decision(DecisionKind.DELETE, asked, state.retailer_id, payload, DELETE_HASH)
    if until is not None and state.confirmed_hash == GRACE_HASH and not _is_foreign(state, link):
        return Decision(DecisionKind.KEEP, KeptCode.DELETE_GRACE, state.retailer_id)
    if is_job_only and state.rejected_hash == GRACE_HASH:
        return Decision(DecisionKind.KEEP, reason, state.retailer_id)
    payload = msgspec.json.encode({"availability": "out of stock", "id": state.retailer_id})
    # Whatever else Meta holds it still holds afterwards.
    fields = known_may_hold(state, link) | _AVAILABILITY
    return Decision(DecisionKind.UPSERT, reason, state.retailer_id, payload, GRACE_HASH, fields)


@lru_cache(maxsize=4096)
def _to_clear(may_hold: frozenset[str], fields: frozenset[str]) -> frozenset[str]:
    return may_hold - fields - _NEVER_CLEARED


def _present(
    wanted: MappedItem, state: ItemState, link: Link, *, is_taken_over: bool, is_job_only: bool
) -> Decision:
    retailer_id: str = wanted.data["id"]
    fields = wanted.fields
    cleared = _to_clear(known_may_hold(state, link), fields)
    is_confirmed = state.confirmed_hash == wanted.hash and state.confirmed_epoch == link.epoch
    if is_confirmed and not cleared:
        return Decision(DecisionKind.NOOP, None, retailer_id)
    if (state.discarded_hash == wanted.hash and not is_taken_over) or (
        is_job_only and state.rejected_hash == wanted.hash
    ):
        return Decision(DecisionKind.KEEP, None, retailer_id)
    payload = encode_with_clears(wanted, cleared)
    return Decision(DecisionKind.UPSERT, None, retailer_id, payload, wanted.hash, fields, cleared)
