"""What a reconciliation keeps between its pages, and how it waits and ends when it cannot read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.models import ActiveLink
from meta_sync.connection.repository import active_link
from meta_sync.core.db import Database
from meta_sync.sync.catalog_reader import LinkGone, NotNow, Refused
from meta_sync.sync.codes import entry_of
from meta_sync.sync.read_jobs import ReadJob, advance, fail, finish, give_back, is_ours
from meta_sync.sync.reconcile_models import Moment, ReconcileTally

__all__ = ["COMPARING", "READING", "REREADING", "Ledger", "Progress", "ReconcileTiming"]

READING, COMPARING, REREADING = "reading", "comparing", "rereading"
"""Stages: all that Meta shows, all that it was to show, and once more what seemed wrong."""

_CHUNK = 100
"""Findings read again by one question."""

_MOST_RESTARTS = 3
"""Walks begun anew because Meta no longer knew the cursor; after that a person has to look."""

_PATIENCE = timedelta(hours=24)
"""How long a job waits to be let in again. The next day's one is due by then."""


class ReconcileTiming(Protocol):
    """The waits and sizes of reading back."""

    @property
    def reconcile_quiet_seconds(self) -> float: ...
    @property
    def reconcile_second_read_seconds(self) -> float: ...
    @property
    def reconcile_page_items(self) -> int: ...
    @property
    def reconcile_page_seconds(self) -> float: ...


@dataclass(slots=True)
class Progress:
    """What the job's row keeps between pages, beside stage and cursor."""

    tally: ReconcileTally
    page_items: int
    chunk_items: int
    restarts: int
    walk_began_at: str | None
    product_count: int | None

    @classmethod
    def of(cls, job: ReadJob, timing: ReconcileTiming) -> Progress:
        """As the row had it when the job was leased. Made anew for every try of a transaction, which counts into it."""
        result: Mapping[str, Any] = job.result
        return cls(
            ReconcileTally.from_stored(result.get("counts", {})),
            int(result.get("pageItems", timing.reconcile_page_items)),
            int(result.get("chunkItems", _CHUNK)),
            int(result.get("restarts", 0)),
            result.get("walkBeganAt"),
            result.get("productCount"),
        )

    def stored(self) -> dict[str, Any]:
        """As a column holds it."""
        return {
            "counts": self.tally.stored(),
            "driftPercent": self.tally.drift_percent,
            "pageItems": self.page_items,
            "chunkItems": self.chunk_items,
            "restarts": self.restarts,
            "walkBeganAt": self.walk_began_at,
            "productCount": self.product_count,
        }

    def page_was_read(self, timing: ReconcileTiming) -> None:
        """A page that was answered: the next may be a little larger, up to what was asked for at first.

        What made them small may have been a bad minute of Meta's. Where it was not, one question in eight is for nothing.
        """
        larger = self.page_items + max(1, self.page_items // 10)
        self.page_items = max(self.page_items, min(timing.reconcile_page_items, larger))

    def chunk_was_read(self) -> None:
        """The item that a small chunk was about is behind us: the next is twice as large."""
        self.chunk_items = min(_CHUNK, 2 * self.chunk_items)

    @property
    def seen_kind(self) -> str:
        """Under which name the items of this walk are remembered; those of one that was begun anew say nothing."""
        return f"seen{self.restarts}"


class Ledger:
    """Moves and ends the job on its row, each in one transaction of its own."""

    def __init__(self, database: Database, timing: ReconcileTiming) -> None:
        self._database = database
        self.timing = timing

    async def link(self, connection: AsyncConnection, job: ReadJob) -> ActiveLink | None:
        """The catalog that the job reads, with the job's row locked for us; ``None``: nothing may be written.

        Where the store uses another catalog by now, the job ends here.
        """
        if not await is_ours(connection, job):
            return None
        link = await active_link(connection, job.store_id)
        if link is None or link.link_id != job.link_id:
            await finish(connection, job, status="cancelled", error_code="catalog_changed")
            return None
        return link

    def moment(self, link: ActiveLink, asked_at: datetime, now: datetime) -> Moment:
        """What an answer to a question of that time is judged by."""
        quiet = timedelta(seconds=self.timing.reconcile_quiet_seconds)
        return Moment(link.epoch, asked_at - quiet, now)

    async def not_read(self, job: ReadJob, answer: NotNow | Refused | LinkGone) -> None:
        """Wait, or end the job, as the answer says."""
        async with self._database.platform() as connection:
            match answer:
                case LinkGone():
                    await finish(connection, job, status="cancelled", error_code="catalog_changed")
                case Refused(error=error):
                    await fail(connection, job, "reading_refused", message=f"Meta said: {error.message}")
                case NotNow() if job.leased_at - job.started_at > _PATIENCE:
                    await fail(connection, job, "reading_gave_up")
                case NotNow(until=until, code=code):
                    entry = entry_of(code)
                    said = f"Waits: {entry.sentence} {entry.action}"
                    await give_back(connection, job, until=until, message=said)

    async def begin_anew(self, job: ReadJob) -> None:
        """From the first item. What the second read does not find again is withdrawn then, so findings may stay."""
        progress = Progress.of(job, self.timing)
        async with self._database.platform() as connection:
            if progress.restarts == _MOST_RESTARTS:
                said = "Meta lost the place in its list of items again and again."
                await fail(connection, job, "reading_refused", message=said)
                return
            progress.restarts += 1
            progress.tally = ReconcileTally()
            await advance(connection, job, stage=READING, cursor=None, result=progress.stored())

    async def endless(self, job: ReadJob) -> None:
        """End a walk that met many times as many items as there are."""
        async with self._database.platform() as connection:
            said = "Meta's list of items has no end: it leads in a circle."
            await fail(connection, job, "reading_refused", message=said)

    async def ask_for_less(self, job: ReadJob, progress: Progress, until: datetime | None) -> None:
        """The same place again with the smaller question that the progress says."""
        async with self._database.platform() as connection:
            await advance(
                connection, job, stage=job.stage, cursor=job.cursor, result=progress.stored(), until=until
            )
