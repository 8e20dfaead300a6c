"""What reconciling speaks of: verdicts, findings, tallies, and the judgement of one item. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from meta_sync.sync.models import DELETE_HASH, GRACE_HASH, Presence
from meta_sync.sync.reconcile_compare import Match, compare

__all__ = [
    "RECONCILIATION",
    "REPAIRABLE",
    "Finding",
    "FindingState",
    "Judged",
    "LedgerItem",
    "Moment",
    "ReconcileTally",
    "Verdict",
    "drift_percent",
    "judge",
    "judge_missing",
]

RECONCILIATION = "reconciliation"
"""The type of the job."""


class Verdict(StrEnum):
    """What is wrong with one item at Meta."""

    MISSING = "missing"
    """Meta confirmed it and does not show it."""
    DIFFERENT = "different"
    """Meta shows other values than it confirmed."""
    UNVERIFIABLE = "unverifiable"
    """Meta shows values that may be those that it confirmed, and others."""
    ORPHAN = "orphan"
    """At Meta, sent by this link, and no live variant of the store's, or confirmed as deleted."""
    FOREIGN = "foreign"
    """At Meta, and nothing that this link ever sent."""


REPAIRABLE = frozenset({Verdict.MISSING, Verdict.DIFFERENT, Verdict.ORPHAN})
"""What a repair may act on: drift of what is ours."""


class FindingState(StrEnum):
    """How sure a finding is, and what became of it."""

    SUSPECTED = "suspected"
    """Seen by one read."""
    AGREED = "agreed"
    """A second read came to the same."""
    WITHDRAWN = "withdrawn"
    """The second read did not."""
    REPAIRED = "repaired"
    ADOPTED = "adopted"
    TAKEN = "taken"
    PINNED = "pinned"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class LedgerItem:
    """What our rows say of a retailer id, all read in one snapshot.

    Attributes
    ----------
    is_live
        The store has the variant, and it is not deleted.
    waits
        In flight, or an intent waits for it.
    changed_at
        The latest of: its state's and its variant's last change, its last push, its last confirmation.
    payload
        What was confirmed last; ``None``: nothing was sent, or it was confirmed before payloads were kept.
    """

    variant_id: str
    product_id: str | None
    is_live: bool
    presence: Presence
    confirmed_epoch: int | None
    is_confirmed: bool
    waits: bool
    changed_at: datetime
    grace_until: datetime | None
    discarded_hash: bytes | None
    payload: Mapping[str, Any] | None

    def is_busy(self, quiet_since: datetime) -> bool:
        """Whether the item moved lately, so that what Meta shows may be older than what we know."""
        return self.waits or self.changed_at > quiet_since

    def is_left_there(self, now: datetime) -> bool:
        """Whether it stays at Meta although it is gone here: within its grace, or because a person said so."""
        in_grace = self.grace_until is not None and self.grace_until > now
        return in_grace or self.discarded_hash in {DELETE_HASH, GRACE_HASH}


@dataclass(frozen=True, slots=True)
class Judged:
    """One item judged: busy, agreeing (neither), or a finding."""

    verdict: Verdict | None = None
    is_busy: bool = False
    differences: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moment:
    """What an answer of Meta's is judged by.

    Attributes
    ----------
    epoch
        The link's; what was confirmed under another one counts as unknown.
    quiet_since
        What changed here later than this, the answer may not show yet.
    now
        The database's time.
    """

    epoch: int
    quiet_since: datetime
    now: datetime


_BUSY = Judged(is_busy=True)
_AGREES = Judged()


def judge(shown: Mapping[str, Any], item: LedgerItem | None, at: Moment) -> Judged:
    """What to think of an item that Meta shows; ``item``: our rows of exactly these bytes, if this link ever sent them."""
    if item is None:
        return Judged(Verdict.FOREIGN)
    if item.is_busy(at.quiet_since):
        return _BUSY
    if not item.is_live:
        return _AGREES if item.is_left_there(at.now) else Judged(Verdict.ORPHAN)
    if item.confirmed_epoch != at.epoch:
        return _BUSY
    if item.presence is Presence.ABSENT:
        return Judged(Verdict.ORPHAN)
    if item.presence is not Presence.PRESENT or not item.is_confirmed:
        return _BUSY
    return _AGREES if item.payload is None else _compared(item.payload, shown)


def _compared(payload: Mapping[str, Any], shown: Mapping[str, Any]) -> Judged:
    compared = compare(payload, shown)
    if compared.match is Match.EQUAL:
        return _AGREES
    verdict = Verdict.DIFFERENT if compared.match is Match.DIFFERENT else Verdict.UNVERIFIABLE
    return Judged(verdict, differences=compared.differences)


def judge_missing(item: LedgerItem | None, at: Moment) -> Judged:
    """What to think of an item that Meta does not show."""
    if item is None or not item.is_live:
        return _AGREES
    if item.is_busy(at.quiet_since) or item.confirmed_epoch != at.epoch:
        return _BUSY
    is_to_be_there = item.presence is Presence.PRESENT and item.is_confirmed
    return Judged(Verdict.MISSING) if is_to_be_there else _AGREES


@dataclass(slots=True)
class ReconcileTally:
    """Items by what they came to. ``busy`` were not compared; ``compared`` are ours that Meta shows."""

    agreeing: int = 0
    busy: int = 0
    missing: int = 0
    different: int = 0
    unverifiable: int = 0
    orphan: int = 0
    foreign: int = 0

    def add(self, judged: Judged) -> None:
        """Count one item."""
        name = "busy" if judged.is_busy else judged.verdict.value if judged.verdict else "agreeing"
        setattr(self, name, getattr(self, name) + 1)

    @property
    def compared(self) -> int:
        """Items of ours that Meta showed and that were compared."""
        return self.agreeing + self.different + self.unverifiable + self.orphan

    @property
    def drift_percent(self) -> float:
        """How much of what is ours is not as Meta confirmed it, in percent."""
        return drift_percent(self.missing + self.different + self.orphan, self.compared + self.missing)

    def stored(self) -> dict[str, int]:
        """As the job's row holds it."""
        return {
            "compared": self.compared,
            "agreeing": self.agreeing,
            "missing": self.missing,
            "different": self.different,
            "unverifiable": self.unverifiable,
            "orphan": self.orphan,
            "foreign": self.foreign,
            "busy": self.busy,
        }

    @classmethod
    def from_stored(cls, stored: Mapping[str, int]) -> ReconcileTally:
        """The tally in a job's row."""
        return cls(**{name: int(stored.get(name, 0)) for name in cls.__dataclass_fields__})


def drift_percent(drifted: int, of: int) -> float:
    """A share in percent, to four digits behind the point: one item of a million is still to be seen."""
    return round(100 * drifted / max(of, 1), 4)


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding as its row has it.

    Attributes
    ----------
    differences
        By field, what was confirmed and what Meta shows.
    found
        What Meta showed, under Meta's names; ``None`` of a missing item.
    feed_id
        The feed that put the item there, as Meta names it.
    """

    retailer_id: str
    variant_id: str | None
    product_id: str | None
    verdict: Verdict
    state: FindingState
    differences: dict[str, list[Any]]
    found: dict[str, Any] | None
    meta_id: str | None
    feed_id: str | None
    first_read_at: datetime
    second_read_at: datetime | None
    acted_at: datetime | None
    acted_by: str | None

    @classmethod
    def of(cls, row: Any) -> Finding:
        """The finding in a row of the columns above."""
        values = list(row)
        values[3], values[4] = Verdict(values[3]), FindingState(values[4])
        return cls(*values)
