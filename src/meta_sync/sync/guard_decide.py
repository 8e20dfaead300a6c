"""A hold that is worked on, and whether an intent is of a kind that the guard counts. Pure: decides as the drain does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from meta_sync.sync.decide import decide
from meta_sync.sync.guard import NOT_GUARDED, GuardKind, kinds_of
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.mapping_settings import MappingSettings
from meta_sync.sync.models import Decision, ItemState, Link, ReadyIntent

__all__ = ["KindOf", "LeasedHold"]


@dataclass(frozen=True, slots=True)
class LeasedHold:
    """A hold that this worker works on. The order of the fields is that of the columns of the lease."""

    hold_id: int
    store_id: str
    link_id: int
    kind: GuardKind
    state: str
    cursor: str | None
    fence: int
    watermark: int

    def identity(self) -> dict[str, object]:
        """The hold as it was leased, as statement parameters."""
        return {"hold_id": self.hold_id, "fence": self.fence, "state": self.state}


class KindOf:
    """Decides about intents at one moment."""

    def __init__(self, link: Link, mapping: MappingSettings, now: datetime) -> None:
        self._link = link
        self._mapper = Mapper(mapping)
        self._now = now

    def decision(self, intent: ReadyIntent) -> Decision | None:
        """What would be done about it; ``None`` where the mapping breaks on it, which the drain will say."""
        try:
            return decide(
                intent.item,
                intent.state,
                self._link,
                self._mapper,
                now=self._now,
                is_job_only=intent.is_job_only,
            )
        except Exception:  # noqa: BLE001 - one broken row must not keep the others from being counted
            return None

    def kinds(self, intent: ReadyIntent, decision: Decision | None) -> int:
        """The kinds that count, as bits."""
        if decision is None:
            return NOT_GUARDED
        return kinds_of(decision, intent.state, now=self._now) & ~intent.released_kinds

    def has(self, intent: ReadyIntent, kind: GuardKind) -> bool:
        """Whether it is of the kind. What Meta never had is not even looked at: a first sync is nearly nothing else."""
        if not _may_be(intent.state, kind):
            return False
        return bool(self.kinds(intent, self.decision(intent)) & kind.bit)


def _may_be(state: ItemState, kind: GuardKind) -> bool:
    """Whether anything that is decided about the item can be of the kind, as far as that can be told without deciding."""
    if kind is GuardKind.DELETE:
        return state.retailer_id is not None
    return state.confirmed_price is not None or state.confirmed_availability is not None
