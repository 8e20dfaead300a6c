"""What a look at a due batch knows of it. Plain values; nothing is asked or written here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from meta_sync.stores.settings import StoreSettings

__all__ = ["Case", "DueBatch"]


@dataclass(frozen=True, slots=True)
class DueBatch:
    """A batch whose time has come, as it was claimed."""

    batch_id: int
    store_id: str
    link_id: int
    catalog_id: str
    state: str
    handle: str | None
    sent: int
    polls: int
    calls: int
    created_at: datetime
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class Case:
    """A batch that is asked about, with what its answer is judged by. ``now`` is the database's."""

    batch: DueBatch
    settings: StoreSettings
    now: datetime

    @property
    def age(self) -> timedelta:
        """Since Meta took it."""
        return self.now - (self.batch.sent_at or self.batch.created_at)
