"""What the next drain does about an item: pure, from the row, what is known of Meta's side, and the mapping."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

import msgspec

from meta_sync.catalog.models import CatalogItem
from meta_sync.sync.mapping import Ineligible, MappedItem, Mapper, encode_with_clears
from meta_sync.sync.mapping_fields import FIELDS, MANAGED_FIELDS
from meta_sync.sync.models import DELETE_HASH, Decision, DecisionKind, ItemState, Link, Presence

__all__ = ["GONE_REASONS", "decide", "known_may_hold", "known_presence"]

GONE_REASONS = frozenset({"product_deleted", "variant_deleted"})
"""Reasons that mean the variant is no more, unlike one that is only not fit to be shown."""

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
        return _absent(state, link, "variant_deleted", is_job_only=is_job_only)
    wanted = mapper.evaluate(
        item,
        excluded=state.is_excluded,
        retailer_id=state.retailer_id,
        now=now,
        image_version=state.image_version,
    )
    if isinstance(wanted, Ineligible):
        return _absent(state, link, wanted.reason.value, is_job_only=is_job_only)
    return _present(wanted, state, link, is_job_only=is_job_only)


def _absent(state: ItemState, link: Link, reason: str, *, is_job_only: bool) -> Decision:
    presence = known_presence(state, link)
    # Only what this link has sent is deleted: an item that somebody else put there under the same id is not ours.
    if presence is not Presence.ABSENT and state.retailer_id is not None:
        if state.discarded_hash == DELETE_HASH or (is_job_only and state.rejected_hash == DELETE_HASH):
            return Decision(DecisionKind.KEEP, reason, state.retailer_id)
        payload = msgspec.json.encode({"id": state.retailer_id})
        return Decision(DecisionKind.DELETE, reason, state.retailer_id, payload, DELETE_HASH)
    if reason in GONE_REASONS:
        return Decision(DecisionKind.DROP, reason, state.retailer_id)
    return Decision(DecisionKind.SKIP, reason, state.retailer_id)


@lru_cache(maxsize=4096)
def _to_clear(may_hold: frozenset[str], fields: frozenset[str]) -> frozenset[str]:
    return may_hold - fields - _NEVER_CLEARED


def _present(wanted: MappedItem, state: ItemState, link: Link, *, is_job_only: bool) -> Decision:
    retailer_id: str = wanted.data["id"]
    fields = wanted.fields
    cleared = _to_clear(known_may_hold(state, link), fields)
    is_confirmed = state.confirmed_hash == wanted.hash and state.confirmed_epoch == link.epoch
    if is_confirmed and not cleared:
        return Decision(DecisionKind.NOOP, None, retailer_id)
    if state.discarded_hash == wanted.hash or (is_job_only and state.rejected_hash == wanted.hash):
        return Decision(DecisionKind.KEEP, None, retailer_id)
    payload = encode_with_clears(wanted, cleared)
    return Decision(DecisionKind.UPSERT, None, retailer_id, payload, wanted.hash, fields, cleared)
