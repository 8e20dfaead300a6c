"""How far long work is: a bar on a terminal, a line per step elsewhere. For the sync of a store and for an import."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from meta_sync.catalog.ingest.imports import ImportView
from meta_sync.cli import console
from meta_sync.sync.job_models import JobView

__all__ = ["ImportProgress", "JobProgress", "SyncProgress", "is_settled", "job_sentence"]

_WORDS = (
    ("synced", "synced"),
    ("submitted", "at Meta"),
    ("pending", "waiting"),
    ("failed", "failed"),
    ("skipped", "skipped"),
    ("deleted", "deleted"),
)


def is_settled(status: dict[str, Any]) -> bool:
    """Whether nothing is under way: no item waits but for a person, none is at Meta, no other intent is left."""
    counts = status["counts"]
    if any(counts[name] for name in ("submitted", "neverSynced", "handlesPending")):
        return False
    return bool(max(counts["pending"], counts["outboxPending"]) <= counts["held"])


def _sentence(counts: dict[str, Any]) -> str:
    return ", ".join(f"{counts[name]} {word}" for name, word in _WORDS if counts[name]) or "nothing yet"


class _Bar:
    """A bar on a terminal, and nothing elsewhere; a context manager."""

    def __init__(
        self, *columns: ProgressColumn, description: str = "", total: int = 100, transient: bool = False
    ) -> None:
        screen = console.screen()
        self._bar = Progress(*columns, console=screen, transient=transient) if screen.is_terminal else None
        self._task = self._bar.add_task(description, total=total) if self._bar is not None else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _move(self, description: str, completed: float, total: float | None = None) -> bool:
        """Show how far it is; whether there is a bar to show it on."""
        if self._bar is None or self._task is None:
            return False
        self._bar.update(self._task, total=total, completed=completed, description=description)
        return True


def _percent() -> tuple[ProgressColumn, ...]:
    return BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}")


class SyncProgress(_Bar):
    """Shows how far the sync of a store is; a context manager.

    Parameters
    ----------
    total
        Items to settle; ``None``: as many as the store has.
    """

    def __init__(self, total: int | None = None) -> None:
        super().__init__(
            TextColumn("{task.completed:.0f}/{task.total:.0f} settled"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            total=total or 1,
        )
        self._total = total
        self._last = ""

    def show(self, status: dict[str, Any]) -> None:
        """Show the counts of one answer of ``GET /admin/meta/status``."""
        counts = status["counts"]
        settled = sum(counts[name] for name in ("synced", "failed", "skipped", "deleted"))
        sentence = _sentence(counts)
        if status.get("pauseReason"):
            sentence += f" (paused: {status['pauseReason']})"
        if not self._move(sentence, settled, self._total or counts["total"]) and sentence != self._last:
            console.say(f"  {settled}/{self._total or counts['total']} settled: {sentence}")
        self._last = sentence


_JOB_WORDS = (
    ("unchanged", "unchanged"),
    ("synced", "synced"),
    ("submitted", "at Meta"),
    ("enqueued", "waiting"),
    ("failed", "failed"),
    ("skipped", "skipped"),
    ("cancelled", "cancelled"),
)
_STAGES = {
    "waiting": "waits for a worker",
    "enqueuing": "looks for what differs",
    "syncing": "is sent",
}
_JOB_STEP_PERCENT = 5
_JOB_STEP_SECONDS = 30.0
"""Lines elsewhere than on a terminal: whenever the job has moved that far, and now and then where it does not move."""


class JobProgress(_Bar):
    """Shows how far a job is: stage, percent, rate and when it may be over; a context manager."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(*_percent())
        self._clock = clock
        self._said: tuple[Any, ...] = ()
        self._said_at = clock()

    def show(self, job: JobView) -> None:
        """Show how far the job is by now, and why nothing is sent if nothing is."""
        sentence = job_sentence(job)
        if self._move(sentence, job.percent):
            return
        state = (job.status, job.stage, job.is_paused, job.percent // _JOB_STEP_PERCENT)
        if job.is_over or (state == self._said and self._clock() - self._said_at < _JOB_STEP_SECONDS):
            return
        self._said, self._said_at = state, self._clock()
        console.say(f"  {job.percent} %, {sentence}")


def job_sentence(job: JobView) -> str:
    """Where a job stands, in one line."""
    counts = job.counts
    if job.dry_run:
        told = f"{min(job.looked_at, counts.total):,} looked at" if job.looked_at else ""
    else:
        told = ", ".join(
            f"{getattr(counts, name):,} {word}" for name, word in _JOB_WORDS if getattr(counts, name)
        )
    parts = [_doing(job), f"{counts.total:,} items" + (f": {told}" if told else "")]
    if job.is_over:
        return "; ".join(parts)
    if job.is_paused and job.message:
        parts.append(job.message[0].lower() + job.message[1:].rstrip("."))
    elif job.rate_per_minute:
        parts.append(f"{job.rate_per_minute:,.0f} a minute")
    if job.estimated_finish_at is not None:
        parts.append(f"{_span(job.estimated_finish_at - job.seen_at)} left")
    return "; ".join(parts)


def _doing(job: JobView) -> str:
    if job.status in {"queued", "running"}:
        is_sending = job.stage == "enqueuing" and (job.submitted or job.synced)
        return "looks for what differs, and sends it" if is_sending else _STAGES.get(job.stage, job.stage)
    return "is being cancelled" if job.status == "cancelling" else job.status


def _span(left: timedelta) -> str:
    """A time to wait, as roughly as it is known."""
    seconds = left.total_seconds()
    if seconds < 90:
        return f"about {max(10, round(seconds / 10) * 10)} seconds"
    minutes = round(seconds / 60)
    return f"about {minutes} minutes" if minutes < 120 else f"about {round(minutes / 60)} hours"


_IMPORT_WORDS = ("created", "changed", "unchanged", "skipped", "failed", "deleted")
_STEP_PERCENT = 10
"""Lines elsewhere than on a terminal: ten are enough for a log."""


class ImportProgress(_Bar):
    """Shows how far an import is; a context manager."""

    def __init__(self) -> None:
        super().__init__(*_percent(), description="waiting", transient=True)
        self._said = 0
        self._said_of_fetch = ""

    def show(self, view: ImportView) -> None:
        """Show how far the import is by now."""
        counts = view.counts
        settled = ", ".join(f"{counts[name]:,} {name}" for name in _IMPORT_WORDS if counts[name])
        sentence = f"{counts['rows']:,} rows" + (f": {settled}" if settled else "")
        if self._move(_before_reading(view) or sentence, view.progress):
            return
        if view.status == "fetching":
            if view.message and view.message != self._said_of_fetch:
                self._said_of_fetch = view.message
                console.say(f"  {view.message}")
        elif not view.is_over and view.progress >= self._said + _STEP_PERCENT:
            self._said = view.progress
            console.say(f"  {view.progress} %, {sentence}")


def _before_reading(view: ImportView) -> str | None:
    """What is done before there are rows to count."""
    if view.status == "queued":
        return "waiting for an earlier import of the same feed"
    return (view.message or "fetching the file") if view.status == "fetching" else None
