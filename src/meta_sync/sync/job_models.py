"""What a job is, to those who start one, watch one, or work on one. Values, and the sums made of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from meta_sync.catalog.models import Lane
from meta_sync.sync.item_filters import ItemFilter
from meta_sync.sync.models import Status

__all__ = [
    "MAX_CHOSEN",
    "RATE_SECONDS",
    "READ_TYPES",
    "UNFINISHED",
    "JobAction",
    "JobCounts",
    "JobFinding",
    "JobOrder",
    "JobPage",
    "JobScope",
    "JobView",
    "LeasedJob",
    "OrderedJob",
    "ScopeKind",
    "StartedJob",
]

MAX_CHOSEN = 1_000
"""Ids that a job may be given by name."""

UNFINISHED = frozenset({"queued", "running", "cancelling"})
"""States of a job that keep another one of its type from being started."""

READ_TYPES = ("preflight", "reconciliation")
"""Types of jobs that read Meta back (``read_jobs``). Their pages are questions, and they ask for nothing to be sent."""


class JobAction(StrEnum):
    """What a job does to an item."""

    LOOK = "look"
    """Have it decided anew; what Meta has confirmed, or refused last, is left alone."""
    RETRY = "retry"
    """The same, and what Meta refused last counts no more."""
    RESYNC = "resync"
    """The same, and an exclusion ends: the item was asked for by name."""
    FORCE = "force"
    """Send it, also where Meta has confirmed the same payload; an exclusion stays."""
    FORCE_RESYNC = "force_resync"
    """The same, and an exclusion ends."""
    EXCLUDE = "exclude"
    """Take it off Meta and keep it off."""
    IMPORT = "import"
    """Take it from a file into the catalog; only imports do."""

    @property
    def is_own_reason(self) -> bool:
        """Whether an item has to be decided anew whatever becomes of the job, because its state was changed with it."""
        return self not in {JobAction.LOOK, JobAction.RETRY}


class ScopeKind(StrEnum):
    """How the items of a job were named."""

    ALL = "all"
    VARIANTS = "variants"
    PRODUCTS = "products"
    FILTER = "filter"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class JobScope:
    """Which items a job is about."""

    kind: ScopeKind = ScopeKind.ALL
    ids: tuple[str, ...] = ()
    """Of variants or of products, in the order of their bytes."""
    item_filter: ItemFilter | None = None

    def stored(self) -> dict[str, Any]:
        """As a column holds it; everything is the empty object."""
        if self.item_filter is not None:
            given = {one.name: getattr(self.item_filter, one.name) for one in fields(ItemFilter)}
            return {
                "filter": {
                    name: value for name, value in given.items() if value is not None and value is not False
                }
            }
        return {self.kind.value: list(self.ids)} if self.kind is not ScopeKind.ALL else {}

    @classmethod
    def from_stored(cls, stored: dict[str, Any]) -> JobScope:
        """The scope that a column holds."""
        if not stored:
            return cls()
        if "filter" in stored:
            given = dict(stored["filter"])
            given.pop("sort", None)
            if "status" in given:
                given["status"] = Status(given["status"])
            if "lane" in given:
                given["lane"] = Lane(given["lane"])
            return cls(ScopeKind.FILTER, item_filter=ItemFilter(**given))
        ((kind, ids),) = stored.items()
        return cls(ScopeKind(kind), tuple(ids))


@dataclass(frozen=True, slots=True)
class JobOrder:
    """A job as somebody asks for it."""

    type: str
    scope: JobScope = JobScope()
    action: JobAction = JobAction.LOOK
    lane: Lane = Lane.BULK
    dry_run: bool = False
    description: str | None = None
    requested_by: str | None = None


@dataclass(frozen=True, slots=True)
class StartedJob:
    """A job that was started, and how many rows are in its scope."""

    job_id: str
    total: int


@dataclass(frozen=True, slots=True)
class OrderedJob:
    """A job that was started over chosen items, and the ids among them that the catalog has not."""

    started: StartedJob
    not_found: list[str]


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Where the items of a job stand. Each item is in one count; those not looked at yet are in ``total`` only."""

    total: int
    enqueued: int
    unchanged: int
    submitted: int
    synced: int
    failed: int
    skipped: int
    cancelled: int

    @property
    def ended(self) -> int:
        """Items that nothing more is expected of."""
        return self.unchanged + self.synced + self.failed + self.skipped + self.cancelled


RATE_SECONDS = 120
"""A rate is told of the last two to four minutes: batches end in lumps of thousands of items."""

_LEAST_SECONDS = 5.0
"""Nothing is said of the speed of a job that has only begun."""

_SURE_SECONDS = 30.0
_SURE_SHARE = 0.05
"""Nothing is said of the end before as much was measured, or as much of the work is done: what ends first are items that
need no call."""


_MOST_PERCENT_BEFORE_ALL_ARE_KNOWN = 90
"""As long as items may yet be found that nobody has counted, none of a job's last tenth is told."""


# The order of the fields is that of the columns of the statement that reads it.
@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its row has it, at the instant ``seen_at`` of the database.

    An import is seen as a job, too: ``progress`` is how far its file is, and ``enqueued`` are the items that it created or
    changed, which the pipeline follows from there on.
    """

    job_id: str
    type: str
    status: str
    stage: str
    message: str | None
    total: int
    """Items in its scope as they were counted before any was looked at, 0 where nobody counted them; later no more than
    were found. It never grows."""
    looked_at: int
    enqueued: int
    """Asked to be decided so far, whatever has become of it, but for what was taken back."""
    unchanged: int
    requested_by: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    submitted: int
    synced: int
    failed: int
    skipped: int
    scope: JobScope
    action: JobAction
    lane: Lane
    dry_run: bool
    description: str | None
    result: dict[str, Any] | None
    error_code: str | None
    rate_from: datetime | None
    """Since when the present rate is measured: what had ended by then stands beside it."""
    rate_from_done: int
    rate_mark: datetime | None
    """Where the next one will be measured from."""
    rate_mark_done: int
    seen_at: datetime
    progress: int | None = None
    """Percent of an import's file that is settled."""
    is_paused: bool = False
    """Whether the store stands still; ``message`` says why."""

    @property
    def is_import(self) -> bool:
        """Whether it is an import, whose items are those of its file."""
        return self.progress is not None

    @property
    def is_reading(self) -> bool:
        """Whether it reads Meta back: an item ends by being looked at."""
        return self.type in READ_TYPES

    @property
    def is_over(self) -> bool:
        """Whether the job will not change any more."""
        return self.status not in UNFINISHED

    @property
    def counts(self) -> JobCounts:
        """Where the items stand: whatever the instant, the counts are at most the total, and at the end they are it."""
        if self.is_reading:
            return JobCounts(max(self.total, self.looked_at), 0, self.looked_at, 0, 0, 0, 0, 0)
        if self.is_import:
            return JobCounts(self.total, self.enqueued, self.unchanged, 0, 0, self.failed, self.skipped, 0)
        known = self.unchanged + self.synced + self.failed + self.skipped
        submitted = 0 if self.is_over else self.submitted
        waiting = 0 if self.is_over else self.enqueued + self.unchanged - known - submitted
        is_called_off = self.status in {"cancelling", "cancelled", "error"}
        total = max(self.total, self.enqueued + self.unchanged)
        return JobCounts(
            total=total,
            enqueued=waiting,
            unchanged=self.unchanged,
            submitted=submitted,
            synced=self.synced,
            failed=self.failed,
            skipped=self.skipped,
            cancelled=total - known - submitted - waiting if is_called_off else 0,
        )

    @property
    def percent(self) -> int:
        """How much has ended, in whole percent; 100 only when the job is over. A dry run ends an item by looking at it.

        It never falls, but for a re-evaluation that begins anew because a setting changed again. Until all items were
        looked at, it is of those that were counted at first, and 0 where none were; should there be more of them by then,
        it waits for what has ended to come up to it.
        """
        if self.is_over:
            return 100
        if self.progress is not None:
            return min(99, self.progress)
        if self.dry_run or self.is_reading:
            return min(99, _percent(self.looked_at, self.total))
        counts = self.counts
        of_counted = min(_MOST_PERCENT_BEFORE_ALL_ARE_KNOWN, _percent(counts.ended, self.total))
        if self.status != "cancelling" and self.stage != "syncing":
            return of_counted
        return max(of_counted, min(99, _percent(counts.ended, counts.total)))

    @property
    def _done(self) -> int:
        """Items whose end took work: those that a look left alone say nothing of how fast others are sent."""
        is_by_look = self.dry_run or self.is_import or self.is_reading
        return self.looked_at if is_by_look else self.synced + self.failed + self.skipped

    @property
    def rate_per_minute(self) -> float | None:
        """Items that ended per minute, lately; of a job that is over, in all. ``None``: too early to say."""
        if self.started_at is None or not self._done:
            return None
        if self.finished_at is not None:
            seconds = max((self.finished_at - self.started_at).total_seconds(), 1.0)
            return round(self._done * 60 / seconds, 1)
        seconds, before = self._measured()
        return None if seconds < _LEAST_SECONDS else round((self._done - before) * 60 / seconds, 1)

    def _measured(self) -> tuple[float, int]:
        """The seconds that the present rate is measured over, and what had ended before them."""
        since, before = self.rate_from or self.started_at or self.seen_at, self.rate_from_done
        if self.rate_mark is not None and (self.seen_at - self.rate_mark).total_seconds() >= RATE_SECONDS:
            since, before = self.rate_mark, self.rate_mark_done
        return (self.seen_at - since).total_seconds(), before

    @property
    def estimated_finish_at(self) -> datetime | None:
        """When it would be over at that rate; ``None`` where nothing can be said: it is over, called off, too young, paused,
        or nothing ended lately.
        """
        rate = self.rate_per_minute
        if self.status != "running" or not rate or self.is_paused:
            return None
        if self.progress is not None:
            assert self.started_at is not None
            spent = self.seen_at - self.started_at
            return self.seen_at + spent * ((100 - self.progress) / self.progress) if self.progress else None
        left = self._left()
        is_sure = self._measured()[0] >= _SURE_SECONDS or self._done >= _SURE_SHARE * (self._done + left)
        return self.seen_at + timedelta(minutes=left / rate) if is_sure else None

    def _left(self) -> float:
        """Items that will take work yet. Of those not looked at, as many as of those that were."""
        if self.dry_run or self.is_reading:
            return max(self.total - self.looked_at, 0)
        known = self.enqueued + self.unchanged
        share = self.enqueued / known if known else 1.0
        return self.enqueued - self._done + max(self.total - known, 0) * share


def _percent(part: int, of: int) -> int:
    return 100 * part // of if of else 0


@dataclass(frozen=True, slots=True)
class JobFinding:
    """One item that a dry run would send."""

    variant_id: str
    product_id: str
    retailer_id: str | None
    decision: str
    reason: str | None
    changes: dict[str, list[str | None]]
    """By field, what Meta confirmed last and what would be sent."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of the list of jobs."""

    jobs: list[JobView]
    total: int
    """Counted no further than one beyond what pages reach."""
    has_more: bool


@dataclass(frozen=True, slots=True)
class LeasedJob:
    """A job that this worker has, until its lease ends or somebody raises the fence."""

    job_id: str
    store_id: str
    link_id: int
    type: str
    cursor: str | None
    mapping_epoch: int | None
    fence: int
    stage: str
    status: str
    action: JobAction
    lane: int
    dry_run: bool
    is_chosen: bool
    """Whether its scope is less than all."""
    waiting: int
    """Items that were asked for and have not ended."""

    @classmethod
    def of(cls, row: Any) -> LeasedJob:
        """The job in a row of the statement that leases one."""
        values = list(row)
        values[9] = JobAction(values[9])
        return cls(*values)
