"""What has become of the items that a job asked for. Pure.

A job keeps the ids of its items that have not ended, a page of them in a row, and looks at them page by page. What ends
leaves its page in the transaction that counts it, so that no item is counted twice, whatever is killed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

__all__ = ["TRIES_WAITED_FOR", "Facts", "Page", "Progress", "Stand", "progress_of", "stand_of", "waits"]

TRIES_WAITED_FOR = 5
"""How often Meta may end an item's batch without a verdict before a job ends without the item: half an hour of waits. A
job that lasted as long as a fault of Meta's would tell nobody anything, and keep a further one from being started."""

_GIVEN_UP = "poll_timeout"


class Stand(StrEnum):
    """Where an item of a job stands."""

    WAITING = "waiting"
    SUBMITTED = "submitted"
    SYNCED = "synced"
    """Meta has it as it should be, or no longer where it should not."""
    FAILED = "failed"
    UNDECIDED = "undecided"
    """Meta has ended every batch of it without a verdict. Counted as failed."""
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Facts:
    """The rows of one item. The order of the fields is that of the columns of the statement that reads them."""

    variant_id: str
    status: str | None
    """``None``: it has no row any more."""
    in_flight: int | None
    is_to_be_tried: bool
    retries: int | None
    confirmed_at: datetime | None
    intended_at: datetime | None
    """Since when an intent waits; ``None``: none does."""
    intended_by: str | None
    """The job that is the intent's only reason."""
    code: str | None
    """Of the last failure or skip."""
    is_held: bool = False
    """The guard keeps it back until a person decides, which may take days."""


@dataclass(frozen=True, slots=True)
class Page:
    """Items of a job that were asked for together and have not ended."""

    first_id: str
    variant_ids: Sequence[str]
    enqueued_at: datetime
    last_batch_id: int | None
    """The store's newest batch when none of them waited any more; a batch after it carries later news of an item."""
    submitted: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A page as it is now."""

    open_ids: list[str]
    submitted: int
    ended: dict[Stand, int]
    is_sent: bool
    """Whether none of its items waits for what the job asked for."""


def waits(facts: Facts, page: Page, job_id: str) -> bool:
    """Whether the item has still to be decided for the job's sake."""
    if facts.intended_at is None:
        return False
    return facts.intended_by == job_id or facts.intended_at <= page.enqueued_at


def stand_of(facts: Facts, page: Page, job_id: str) -> Stand:
    """Where an item stands, as far as the job is concerned: later news of it is no matter of the job."""
    if facts.is_held:
        return Stand.SKIPPED
    if waits(facts, page, job_id):
        return Stand.WAITING
    if facts.status is None:
        return Stand.SKIPPED
    is_confirmed = facts.confirmed_at is not None and facts.confirmed_at >= page.enqueued_at
    if facts.in_flight is not None:
        return _in_flight(facts, page, is_confirmed=is_confirmed)
    tries = facts.retries or 0
    if tries and (facts.is_to_be_tried or facts.intended_at is not None):
        return Stand.UNDECIDED if tries >= TRIES_WAITED_FOR else Stand.WAITING
    # What a refused call gave back has its state of before and an intent, and goes again.
    if facts.intended_at is not None and not is_confirmed and facts.code != _GIVEN_UP:
        return Stand.WAITING
    match facts.status:
        case "synced" | "deleted":
            return Stand.SYNCED
        case "failed":
            return Stand.FAILED
        case "skipped":
            return Stand.SKIPPED
        case _:
            # With nothing to be done about it, it was left as it was: discarded by a person.
            is_left = facts.intended_at is None and not facts.is_to_be_tried
            return Stand.SKIPPED if is_left else Stand.WAITING


def _in_flight(facts: Facts, page: Page, *, is_confirmed: bool) -> Stand:
    assert facts.in_flight is not None
    if page.last_batch_id is None or facts.in_flight <= page.last_batch_id:
        return Stand.SUBMITTED
    # Sent again since. An item that never rests would else keep the job from ending.
    if is_confirmed:
        return Stand.SYNCED
    if facts.retries:
        return Stand.UNDECIDED if facts.retries >= TRIES_WAITED_FOR else Stand.SUBMITTED
    return Stand.SUBMITTED if facts.code is None else Stand.FAILED


def progress_of(page: Page, facts: Mapping[str, Facts], job_id: str, *, called_off: bool = False) -> Progress:
    """What has become of a page.

    Parameters
    ----------
    called_off
        The job was cancelled: an item that only waits is let go, unless its intent could not be withdrawn yet.
    """
    open_ids: list[str] = []
    submitted = 0
    ended: dict[Stand, int] = {}
    is_sent = True
    for variant_id in page.variant_ids:
        one = facts[variant_id]
        stand = stand_of(one, page, job_id)
        if stand is Stand.WAITING:
            is_sent = is_sent and not waits(one, page, job_id)
            if not called_off or one.intended_by == job_id:
                open_ids.append(variant_id)
            # With an older reason than the job, in flight: it ends with its batch.
            elif one.in_flight is not None:
                open_ids.append(variant_id)
                submitted += 1
        elif stand is Stand.SUBMITTED:
            open_ids.append(variant_id)
            submitted += 1
        else:
            ended[stand] = ended.get(stand, 0) + 1
    return Progress(open_ids, submitted, ended, is_sent)
