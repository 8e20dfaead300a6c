"""How fast a job is said to be, and when it may be over: of the last minutes, and nothing where nothing can be said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from meta_sync.catalog.models import Lane
from meta_sync.sync.job_models import RATE_SECONDS, JobAction, JobScope, JobView

_BEGAN = datetime(2026, 11, 20, 12, tzinfo=UTC)


def _job(**values: object) -> JobView:
    job = JobView(
        job_id="job_1",
        type="sync",
        status="running",
        stage="syncing",
        message=None,
        total=10_000,
        looked_at=10_000,
        enqueued=8_000,
        unchanged=2_000,
        requested_by=None,
        created_at=_BEGAN,
        started_at=_BEGAN,
        finished_at=None,
        submitted=0,
        synced=0,
        failed=0,
        skipped=0,
        scope=JobScope(),
        action=JobAction.LOOK,
        lane=Lane.BULK,
        dry_run=False,
        description=None,
        result=None,
        error_code=None,
        rate_from=_BEGAN,
        rate_from_done=0,
        rate_mark=_BEGAN,
        rate_mark_done=0,
        seen_at=_BEGAN + timedelta(minutes=1),
    )
    return replace(job, **values)  # type: ignore[arg-type]  # given loosely on purpose


def _after(minutes: float) -> datetime:
    return _BEGAN + timedelta(minutes=minutes)


def test_what_was_left_alone_says_nothing_of_how_fast_others_are_sent() -> None:
    job = _job(synced=900, failed=50, skipped=50)
    assert job.rate_per_minute == 1_000.0
    assert job.estimated_finish_at == _after(1 + 7)


def test_the_rate_is_that_of_the_last_minutes() -> None:
    # A fast hour, then Meta slowed down.
    job = _job(
        synced=7_000,
        seen_at=_after(63),
        rate_from=_after(60),
        rate_from_done=6_700,
        rate_mark=_after(62),
        rate_mark_done=6_900,
    )
    assert job.rate_per_minute == 100.0
    assert job.estimated_finish_at == _after(63 + 10)


def test_a_job_that_nobody_moves_on_is_measured_from_its_newest_mark() -> None:
    job = _job(
        synced=7_000,
        seen_at=_after(74),
        rate_from=_after(60),
        rate_from_done=6_700,
        rate_mark=_after(62),
        rate_mark_done=7_000,
    )
    assert (job.rate_per_minute, job.estimated_finish_at) == (0.0, None)
    assert job.seen_at - _after(62) > timedelta(seconds=RATE_SECONDS)


@pytest.mark.parametrize(
    "values",
    [
        {"synced": 0},
        {"synced": 100, "seen_at": _BEGAN + timedelta(seconds=2)},
        {"synced": 300, "seen_at": _BEGAN + timedelta(seconds=20)},
        {"synced": 100, "is_paused": True},
        {"synced": 100, "status": "cancelling"},
        {"status": "queued", "started_at": None, "rate_from": None, "rate_mark": None},
    ],
    ids=["nothing ended", "only begun", "little ended", "paused", "called off", "waits in line"],
)
def test_where_nothing_can_be_said_no_end_is_promised(values: dict[str, object]) -> None:
    assert _job(**values).estimated_finish_at is None


def test_of_what_was_not_looked_at_as_many_are_taken_to_differ_as_of_what_was() -> None:
    # Half of it was looked at, a fifth of that differs: of the other half, too.
    job = _job(stage="enqueuing", looked_at=5_000, enqueued=1_000, unchanged=4_000, synced=500)
    assert job.estimated_finish_at == _after(1 + (500 + 1_000) / 500)


def test_a_dry_run_ends_with_its_last_look() -> None:
    job = _job(dry_run=True, looked_at=2_500, enqueued=0, unchanged=2_500, stage="enqueuing")
    assert (job.rate_per_minute, job.estimated_finish_at, job.percent) == (2_500.0, _after(1 + 3), 25)


def test_when_it_is_over_the_rate_is_that_of_the_whole() -> None:
    job = _job(
        status="success", finished_at=_after(16), synced=8_000, rate_from=_after(14), seen_at=_after(900)
    )
    assert (job.rate_per_minute, job.estimated_finish_at) == (500.0, None)


def test_an_import_ends_when_its_file_does() -> None:
    job = _job(
        type="import",
        progress=25,
        enqueued=2_000,
        unchanged=400,
        failed=60,
        skipped=40,
        looked_at=2_500,
        total=2_500,
    )
    assert (job.percent, job.rate_per_minute) == (25, 2_500.0)
    assert job.estimated_finish_at == _after(1 + 3)
    assert (job.counts.enqueued, job.counts.cancelled, job.counts.ended) == (2_000, 0, 500)
    assert _job(type="import", progress=0, looked_at=0, total=0).estimated_finish_at is None
