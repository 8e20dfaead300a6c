"""Which items a job is about, and which of them have to be looked at by the drain. Pure."""

from __future__ import annotations

from meta_sync.catalog.models import CatalogItem
from meta_sync.sync.decide import known_presence
from meta_sync.sync.models import NEW_ITEM, DecisionKind, ItemState, Link, Presence, Status

__all__ = ["is_in_scope", "needs_intent"]


def needs_intent(
    decision: DecisionKind, reason: str | None, state: ItemState, *, is_first_look: bool = False
) -> bool:
    """Whether a re-evaluated item has to be looked at by the drain.

    An item in flight always has: what it carries was mapped by the settings before.
    """
    if state.in_flight is not None or is_first_look:
        return True
    if decision in {DecisionKind.UPSERT, DecisionKind.DELETE}:
        return True
    if decision is DecisionKind.SKIP:
        return state.status is not Status.SKIPPED or state.code != reason
    return decision is DecisionKind.NOOP and state.status is not Status.SYNCED


_WAITING = frozenset({Status.NEVER_SYNCED, Status.PENDING})


def is_in_scope(item: CatalogItem, state: ItemState, link: Link) -> bool:
    """Whether a look at everything is about the item: it lives, or this link has sent it and it may still be at Meta.

    What was absent when the store went to another catalog may be there again since (a restored backup, a person), so
    a tombstone of an older epoch counts too. So does one whose row still says that it waits: its variant went while the
    store used another catalog.
    """
    if not (item.variant_deleted or item.product_deleted):
        return True
    if state is not NEW_ITEM and state.status in _WAITING:
        return True
    return state.retailer_id is not None and known_presence(state, link) is not Presence.ABSENT
