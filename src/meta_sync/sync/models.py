"""Plain types of the pipeline. Each stage of a batch has its own type, so that a wrong call does not type-check."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from meta_sync.catalog.models import CatalogItem, Lane
from meta_sync.connection.models import ActiveLink

__all__ = [
    "ADOPTED_HASH",
    "DELETE_HASH",
    "GRACE_HASH",
    "GRACE_OVER",
    "Attempt",
    "BatchItem",
    "Decision",
    "DecisionKind",
    "ItemState",
    "Link",
    "Method",
    "OpenBatch",
    "Presence",
    "ReadyIntent",
    "Status",
]

DELETE_HASH = b"DELETE"
"""Stands where a payload's hash stands, for attempts that carry none."""

GRACE_HASH = b"GRACE"
"""Stands where a payload's hash stands, for attempts that only show an item as out of stock, ahead of its deletion."""

ADOPTED_HASH = b"ADOPTED"
"""Stands for what Meta holds of an item that was adopted and could not be sent as the store has it."""

GRACE_OVER = datetime(1970, 1, 1, tzinfo=UTC)
"""``grace_until`` of an item whose grace is over: it has been woken, and is deleted at the next look."""


class Status(StrEnum):
    """What a person reads about an item."""

    NEVER_SYNCED = "never_synced"
    PENDING = "pending"
    SUBMITTED = "submitted"
    SYNCED = "synced"
    FAILED = "failed"
    SKIPPED = "skipped"
    DELETED = "deleted"


class Presence(StrEnum):
    """Whether the item is at Meta."""

    ABSENT = "absent"
    MAYBE = "maybe"
    PRESENT = "present"


class Method(StrEnum):
    """The method of one record of items_batch. UPDATE with ``allow_upsert`` also creates."""

    UPDATE = "UPDATE"
    DELETE = "DELETE"


class DecisionKind(StrEnum):
    """What is to be done about an intent."""

    UPSERT = "upsert"
    DELETE = "delete"
    NOOP = "noop"
    SKIP = "skip"
    DROP = "drop"
    FAIL = "fail"
    """The mapping broke on this row: a fault of ours that must not stop the others."""
    KEEP = "keep"
    """Left as it is: Meta refused exactly this, a person discarded or adopted it, or its time has not come."""


@dataclass(frozen=True, slots=True)
class Link:
    """The facts of a link that decisions need."""

    link_id: int
    epoch: int
    was_empty: bool
    delete_grace_days: int = 0
    """Days for which an item that is to go is shown as out of stock first; 0: it is deleted at once."""
    is_emptied: bool = False
    """A person asked to take everything off Meta that this link has sent."""

    @classmethod
    def of(cls, link: ActiveLink, delete_grace_days: int) -> Link:
        """The facts of a store's link."""
        is_emptied = link.removal_job_id is not None
        return cls(link.link_id, link.epoch, link.was_empty, delete_grace_days, is_emptied)


# Not frozen, like the decision: thousands are made per batch, and a frozen one takes three times as long to make.
@dataclass(slots=True)
class ItemState:
    """The row of ``sync_state`` as it was read; the part that decisions depend on. Nobody changes one."""

    status: Status
    presence: Presence
    retailer_id: str | None
    confirmed_hash: bytes | None
    confirmed_epoch: int | None
    may_hold: frozenset[str]
    rejected_hash: bytes | None
    discarded_hash: bytes | None
    in_flight: int | None
    is_excluded: bool
    batch_limit: int | None
    image_version: int
    code: str | None
    attempts: int
    split_part: int | None = None
    """The part of a split that the item stands in: it goes out with that part and with nothing else."""
    confirmed_price: str | None = None
    confirmed_availability: str | None = None
    confirmed_sale: str | None = None
    """Sale price and its window, as they were confirmed last: ``"9.99 EUR <start>/<end>"``."""
    grace_until: datetime | None = None
    """Shown as out of stock until then, and deleted after it."""
    pinned: dict[str, Any] | None = None
    """By field, Meta's own value that a person wants kept."""


NEW_ITEM = ItemState(
    Status.NEVER_SYNCED,
    Presence.ABSENT,
    None,
    None,
    None,
    frozenset(),
    None,
    None,
    None,
    False,
    None,
    0,
    None,
    0,
)
"""An item without a row: nothing is known, nothing was sent."""


@dataclass(slots=True)
class ReadyIntent:
    """An intent with everything that was read for it, in one snapshot."""

    variant_id: str
    version: int
    lane: Lane
    first_at: datetime
    is_job_only: bool
    row_id: tuple[int, int]
    """Where the intent's row stood (its ctid). With the version, which is unique, it names the row without an index."""
    state_row_id: tuple[int, int] | None
    """Where the state row stood; ``None`` when there was none."""
    state_row_version: int | None
    """The xmin of the state row that was read; ``None`` when there was no row. Another one means it moved since."""
    item: CatalogItem | None
    """``None``: the catalog has no such variant at all."""
    state: ItemState
    released_kinds: int = 0
    """Kinds of the guard that a person released it for, as bits; they are not counted again."""


@dataclass(slots=True)
class Decision:
    """What the next drain does about one item, with the payload that goes out. Nobody changes one."""

    kind: DecisionKind
    reason: str | None = None
    """Code of a skip or a delete: why the item is not to be at Meta."""
    retailer_id: str | None = None
    payload: bytes = b""
    """The record's ``data`` as JSON, clears included."""
    payload_hash: bytes | None = None
    fields: frozenset[str] = frozenset()
    cleared: frozenset[str] = frozenset()

    @property
    def method(self) -> Method | None:
        """The method of the record, when one is sent."""
        if self.kind is DecisionKind.UPSERT:
            return Method.UPDATE
        return Method.DELETE if self.kind is DecisionKind.DELETE else None


@dataclass(slots=True)
class Attempt:
    """One item that is about to be taken in flight."""

    intent: ReadyIntent
    decision: Decision
    base_presence: Presence
    base_may_hold: frozenset[str]
    """What is known of Meta's side before this attempt, expanded where it had to be (older epoch, foreign items)."""
    guarded: int = 0
    """Kinds of change that the guard counts, as bits; none of those that a person released."""


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch whose attempts are committed: the only thing that may be submitted."""

    batch_id: int
    call_number: int
    store_id: str
    link_id: int
    catalog_id: str
    body: bytes
    count: int
    split_part: int | None = None
    """The part of a split that the call carries; ``None`` for ordinary work."""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One attempt of a batch, as settling needs it."""

    variant_id: str
    retailer_id: str
    method: Method
    outcome: str | None
