"""Spends the rate budget of one Meta catalog and app. Pure: the state comes in and goes out as plain values.

The caller keeps the state, records every call with ``note_call`` before it is made (an answer may never come)
and hands every answer to ``after_answer``. Writes ("calls") and polls and reads ("questions") are counted by
Meta apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from meta_sync.graph.errors import GraphError, ThrottledError
from meta_sync.graph.usage import Usage

__all__ = [
    "ALLOWANCE_PER_HOUR",
    "BucketState",
    "BudgetState",
    "Decision",
    "Go",
    "Purpose",
    "WaitReason",
    "WaitUntil",
    "after_answer",
    "decide_call",
    "note_call",
]

Purpose = Literal["call", "question"]
"""``call``: a write in the batch bucket. ``question``: a poll or read in the management bucket."""

WaitReason = Literal["throttled", "usage", "allowance", "spacing"]

ALLOWANCE_PER_HOUR = 200
"""Batch calls per rolling hour, app and catalog, of a shop without visitors (documented formula)."""

_WINDOW = timedelta(hours=1)
_FREE_SHARE = 0.5
"""Up to here a burst goes out without spacing; the other half keeps the rest of the hour alive."""
_SLOW_PERCENT = 75.0
_STOP_PERCENT = 95.0
_MOST_SLOWDOWN = 4.0
"""Spacing just below the stop, in units of the ordinary spacing."""
_STOP_PAUSE = timedelta(minutes=5)
"""How long a reading of 95 % or more silences us, before one answer brings a new one: 1/12 of the window."""
_FIRST_BLOCK_SECONDS = 60
_LONGEST_BLOCK_SECONDS = 15 * 60
"""Bounds of the wait after throttling without a regain time, doubled each time in a row."""


@dataclass(frozen=True, slots=True)
class BucketState:
    """What is known of one of Meta's two buckets."""

    blocked_until: datetime | None = None
    throttled_in_a_row: int = 0
    usage_percent: float = 0.0
    usage_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class BudgetState:
    """The budget of one catalog and app.

    Attributes
    ----------
    call_times
        When the calls of the last hour were made, oldest first.
    calls, questions
        The two buckets.
    """

    call_times: tuple[datetime, ...] = ()
    calls: BucketState = BucketState()
    questions: BucketState = BucketState()

    @property
    def last_call_at(self) -> datetime | None:
        return self.call_times[-1] if self.call_times else None


@dataclass(frozen=True, slots=True)
class Go:
    """Make the call now."""


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Make no call before ``at``, then decide again."""

    at: datetime
    reason: WaitReason


Decision = Go | WaitUntil


def decide_call(
    state: BudgetState, now: datetime, purpose: Purpose, *, allowance: int = ALLOWANCE_PER_HOUR
) -> Decision:
    """Whether a call may be made now.

    Questions have a hundred times the allowance and are only held back by Meta's own word. Calls go freely up
    to half of the allowance, then spaced, then slower from 75 % on, and not at all from 95 % of Meta's count
    or 100 % of ours.
    """
    bucket = state.calls if purpose == "call" else state.questions
    if bucket.blocked_until is not None and now < bucket.blocked_until:
        return WaitUntil(bucket.blocked_until, "throttled")
    percent = bucket.usage_percent if bucket.usage_at is not None and now - bucket.usage_at < _WINDOW else 0.0
    if percent >= _STOP_PERCENT and bucket.usage_at is not None and now < bucket.usage_at + _STOP_PAUSE:
        return WaitUntil(bucket.usage_at + _STOP_PAUSE, "usage")
    return Go() if purpose == "question" else _decide_by_count(state, now, percent, allowance)


def _decide_by_count(state: BudgetState, now: datetime, percent: float, allowance: int) -> Decision:
    times = _within_window(state.call_times, now)
    used = len(times)
    if used >= allowance:
        return WaitUntil(times[used - allowance] + _WINDOW, "allowance")
    if not times or max(used / allowance, percent / 100) < _FREE_SHARE:
        return Go()
    spacing = _WINDOW / allowance
    if percent >= _SLOW_PERCENT:
        share = min(1.0, (percent - _SLOW_PERCENT) / (_STOP_PERCENT - _SLOW_PERCENT))
        spacing *= 1 + share * (_MOST_SLOWDOWN - 1)
    if used >= allowance * _SLOW_PERCENT / 100:
        # What is left has to last until the oldest call leaves the window; else the hour ends in silence.
        spacing = max(spacing, (times[0] + _WINDOW - now) / (allowance - used))
    at = times[-1] + spacing
    return Go() if at <= now else WaitUntil(at, "spacing")


def note_call(state: BudgetState, now: datetime) -> BudgetState:
    """The state with a write begun at ``now``; calls older than an hour are dropped."""
    return replace(state, call_times=(*_within_window(state.call_times, now), now))


def _within_window(times: tuple[datetime, ...], now: datetime) -> tuple[datetime, ...]:
    return tuple(at for at in times if at > now - _WINDOW)


def after_answer(
    state: BudgetState,
    now: datetime,
    usage: Usage,
    error: GraphError | None,
    *,
    purpose: Purpose = "call",
) -> BudgetState:
    """The state after an answer to a call of the given purpose.

    Throttling blocks what its code stands for, whatever was asked; a regain time in the headers of a success
    blocks too. Blocks are only ever made longer.
    """
    calls = _read_usage(state.calls, now, usage, other="catalog_management")
    questions = _read_usage(state.questions, now, usage, other="catalog_batch")
    if isinstance(error, ThrottledError):
        if error.scope != "questions":
            calls = _throttle(calls, now, error.regain_seconds)
        if error.scope != "calls":
            questions = _throttle(questions, now, error.regain_seconds)
    elif error is None and purpose == "call":
        calls = replace(calls, throttled_in_a_row=0)
    elif error is None:
        questions = replace(questions, throttled_in_a_row=0)
    return replace(state, calls=calls, questions=questions)


def _read_usage(bucket: BucketState, now: datetime, usage: Usage, *, other: str) -> BucketState:
    """The bucket with the counters that concern it: all but those that name the other bucket."""
    entries = [entry for entry in usage.entries if entry.kind.lower() != other]
    if not entries:
        return bucket
    bucket = replace(bucket, usage_percent=max(entry.percent for entry in entries), usage_at=now)
    regain = max(entry.regain_seconds for entry in entries)
    return _block(bucket, now + timedelta(seconds=regain)) if regain else bucket


def _throttle(bucket: BucketState, now: datetime, regain_seconds: int | None) -> BucketState:
    was_blocked = bucket.blocked_until is not None and now < bucket.blocked_until
    if regain_seconds:
        return _block(
            replace(bucket, throttled_in_a_row=bucket.throttled_in_a_row + 1),
            now + timedelta(seconds=regain_seconds),
        )
    if was_blocked:  # a call that was under way when the block began; it says nothing new
        return bucket
    seconds = min(_FIRST_BLOCK_SECONDS * 2 ** min(bucket.throttled_in_a_row, 10), _LONGEST_BLOCK_SECONDS)
    bucket = replace(bucket, throttled_in_a_row=bucket.throttled_in_a_row + 1)
    return _block(bucket, now + timedelta(seconds=seconds))


def _block(bucket: BucketState, until: datetime) -> BucketState:
    if bucket.blocked_until is not None and bucket.blocked_until >= until:
        return bucket
    return replace(bucket, blocked_until=until)
