"""How far long work is: a bar on a terminal, a line per step elsewhere. For the sync of a store and for an import."""

from __future__ import annotations

from datetime import UTC
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

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
    """Whether nothing is under way: no item waits, none is at Meta, no intent is left."""
    counts = status["counts"]
    return not any(
        counts[name] for name in ("submitted", "pending", "neverSynced", "outboxPending", "handlesPending")
    )


def _sentence(counts: dict[str, Any]) -> str:
    return ", ".join(f"{counts[name]} {word}" for name, word in _WORDS if counts[name]) or "nothing yet"


class SyncProgress:
    """Shows how far the sync of a store is; a context manager.

    Parameters
    ----------
    total
        Items to settle; ``None``: as many as the store has.
    """

    def __init__(self, total: int | None = None) -> None:
        self._total = total
        self._last = ""
        screen = console.screen()
        self._bar = (
            Progress(
                TextColumn("{task.completed:.0f}/{task.total:.0f} settled"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.description}"),
                console=screen,
            )
            if screen.is_terminal
            else None
        )
        self._task = self._bar.add_task("", total=total or 1) if self._bar is not None else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, status: dict[str, Any]) -> None:
        """Show the counts of one answer of ``GET /admin/meta/status``."""
        counts = status["counts"]
        settled = sum(counts[name] for name in ("synced", "failed", "skipped", "deleted"))
        sentence = _sentence(counts)
        if status.get("pauseReason"):
            sentence += f" (paused: {status['pauseReason']})"
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, total=self._total or counts["total"], completed=settled, description=sentence
            )
        elif sentence != self._last:
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
    "done": "done",
}


class JobProgress:
    """Shows how far a job is: stage, percent, rate and when it may be over; a context manager."""

    def __init__(self) -> None:
        screen = console.screen()
        self._last = ""
        self._bar = (
            Progress(
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.description}"),
                console=screen,
            )
            if screen.is_terminal
            else None
        )
        self._task = self._bar.add_task("", total=100) if self._bar is not None else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, job: JobView, *, standstill: str | None = None) -> None:
        """Show how far the job is by now, and why nothing is sent if nothing is."""
        sentence = job_sentence(job, standstill=standstill)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=job.percent, description=sentence)
        elif sentence != self._last:
            console.say(f"  {job.percent} %, {sentence}")
        self._last = sentence


def job_sentence(job: JobView, *, standstill: str | None = None) -> str:
    """Where a job stands, in one line."""
    counts = job.counts
    told = ", ".join(
        f"{getattr(counts, name):,} {word}" for name, word in _JOB_WORDS if getattr(counts, name)
    )
    parts = [_STAGES.get(job.stage, job.stage) if job.status == "running" else job.status]
    parts.append(f"{counts.total:,} items" + (f": {told}" if told else ""))
    if job.rate_per_minute is not None and not job.is_over:
        parts.append(f"{job.rate_per_minute:,.0f} a minute")
    if job.estimated_finish_at is not None:
        parts.append(f"until about {job.estimated_finish_at.astimezone(UTC):%H:%M} UTC")
    if standstill is not None and not job.is_over:
        parts.append(f"paused: {standstill}")
    return "; ".join(parts)


_IMPORT_WORDS = ("created", "changed", "unchanged", "skipped", "failed", "deleted")
_STEP_PERCENT = 10
"""Lines elsewhere than on a terminal: ten are enough for a log."""


class ImportProgress:
    """Shows how far an import is; a context manager."""

    def __init__(self) -> None:
        screen = console.screen()
        self._said = 0
        self._said_of_fetch = ""
        self._bar = (
            Progress(
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.description}"),
                console=screen,
                transient=True,
            )
            if screen.is_terminal
            else None
        )
        self._task = self._bar.add_task("waiting", total=100) if self._bar is not None else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, view: ImportView) -> None:
        """Show how far the import is by now."""
        counts = view.counts
        settled = ", ".join(f"{counts[name]:,} {name}" for name in _IMPORT_WORDS if counts[name])
        sentence = f"{counts['rows']:,} rows" + (f": {settled}" if settled else "")
        if self._bar is not None and self._task is not None:
            if view.status == "queued":
                sentence = "waiting for an earlier import of the same feed"
            elif view.status == "fetching":
                sentence = view.message or "fetching the file"
            self._bar.update(self._task, completed=view.progress, description=sentence)
        elif view.status == "fetching":
            if view.message and view.message != self._said_of_fetch:
                self._said_of_fetch = view.message
                console.say(f"  {view.message}")
        elif not view.is_over and view.progress >= self._said + _STEP_PERCENT:
            self._said = view.progress
            console.say(f"  {view.progress} %, {sentence}")
