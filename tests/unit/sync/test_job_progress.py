"""Where an item of a job stands, by what its rows say; and that a job's counts add up whatever they are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.catalog.models import Lane
from meta_sync.sync.item_queries import ItemFilter
from meta_sync.sync.job_models import JobAction, JobScope, JobView, ScopeKind
from meta_sync.sync.job_progress import Facts, Page, Stand, progress_of, stand_of
from meta_sync.sync.models import Status

_T0 = datetime(2026, 5, 3, 10, tzinfo=UTC)
_BEFORE, _AFTER = _T0 - timedelta(minutes=1), _T0 + timedelta(minutes=1)
_PAGE = Page("a", ["a"], _T0, 7, 0)
_PLAIN = Facts("a", "synced", None, is_to_be_tried=False, retries=0, confirmed_at=None, intended_at=None,
               intended_by=None, code=None)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Stand.SYNCED),
        ({"status": "deleted"}, Stand.SYNCED),
        ({"status": "skipped"}, Stand.SKIPPED),
        ({"status": "failed"}, Stand.FAILED),
        ({"status": None}, Stand.SKIPPED),
        # Its intent: the job's own, one that was there before, or later news.
        ({"intended_at": _AFTER, "intended_by": "job"}, Stand.WAITING),
        ({"intended_at": _T0}, Stand.WAITING),
        ({"intended_at": _BEFORE, "confirmed_at": _AFTER}, Stand.WAITING),
        ({"intended_at": _AFTER, "confirmed_at": _AFTER}, Stand.SYNCED),
        # A refused call gave it back as it was before.
        ({"intended_at": _AFTER, "confirmed_at": _BEFORE}, Stand.WAITING),
        ({"status": "failed", "intended_at": _AFTER}, Stand.WAITING),
        ({"status": "failed", "intended_at": _AFTER, "code": "poll_timeout"}, Stand.FAILED),
        ({"status": "pending", "intended_at": _AFTER}, Stand.WAITING),
        ({"status": "pending"}, Stand.SKIPPED),
        # At Meta, with what the job asked for or with later news.
        ({"status": "submitted", "in_flight": 7}, Stand.SUBMITTED),
        ({"status": "submitted", "in_flight": 7, "confirmed_at": _AFTER}, Stand.SUBMITTED),
        ({"status": "submitted", "in_flight": 8, "confirmed_at": _AFTER}, Stand.SYNCED),
        ({"status": "submitted", "in_flight": 8, "confirmed_at": _BEFORE}, Stand.SUBMITTED),
        ({"status": "submitted", "in_flight": 8, "code": "rejected_by_meta"}, Stand.FAILED),
        ({"status": "submitted", "in_flight": 8, "code": "handle_error", "retries": 1}, Stand.SUBMITTED),
        ({"status": "submitted", "in_flight": 8, "retries": 5}, Stand.UNDECIDED),
        ({"status": "submitted", "in_flight": 7, "retries": 5}, Stand.SUBMITTED),
        # Without a verdict.
        ({"status": "pending", "is_to_be_tried": True, "retries": 4}, Stand.WAITING),
        ({"status": "pending", "is_to_be_tried": True, "retries": 5}, Stand.UNDECIDED),
        ({"status": "pending", "intended_at": _AFTER, "retries": 5}, Stand.UNDECIDED),
        ({"status": "failed", "retries": 3}, Stand.FAILED),
    ],
    ids=str,
)
def test_where_an_item_stands(changes: dict[str, object], expected: Stand) -> None:
    facts = replace(_PLAIN, **changes)  # type: ignore[arg-type]  # given loosely on purpose
    assert stand_of(facts, _PAGE, "job") is expected


def test_before_the_newest_batch_is_known_every_flight_is_the_job_s() -> None:
    facts = replace(_PLAIN, status="submitted", in_flight=99, confirmed_at=_AFTER)
    assert stand_of(facts, replace(_PAGE, last_batch_id=None), "job") is Stand.SUBMITTED


def test_a_page_keeps_what_has_not_ended() -> None:
    facts = {
        "a": _PLAIN,
        "b": replace(_PLAIN, status="submitted", in_flight=3),
        "c": replace(_PLAIN, intended_at=_BEFORE),
        "d": replace(_PLAIN, intended_at=_T0, intended_by="job"),
        "e": replace(_PLAIN, status="submitted", in_flight=3, intended_at=_BEFORE),
    }
    page = replace(_PAGE, variant_ids=list(facts))
    progress = progress_of(page, facts, "job")
    assert (progress.open_ids, progress.submitted, progress.is_sent) == (["b", "c", "d", "e"], 1, False)
    assert progress.ended == {Stand.SYNCED: 1}
    # Called off, only what is at Meta is followed, and what could not be taken back just now.
    progress = progress_of(page, facts, "job", called_off=True)
    assert (progress.open_ids, progress.submitted) == (["b", "d", "e"], 2)


_VIEW = JobView(
    "job_1", "sync", "running", "syncing", None, 0, 0, 0, 0, None, _T0, _T0, None, 0, 0, 0, 0,
    JobScope(), JobAction.LOOK, Lane.BULK, False, None, None, None, _T0, 0, _T0, 0, _AFTER,
)  # fmt: skip
_number = st.integers(0, 1000)


@given(
    *[_number] * 6,
    st.sampled_from(["queued", "running", "cancelling", "cancelled", "success", "partial"]),
    st.integers(0, 50),
)
def test_counts_always_add_up(
    waiting: int,
    unchanged: int,
    submitted: int,
    synced: int,
    failed: int,
    skipped: int,
    status: str,
    unseen: int,
) -> None:
    is_settled = status in {"success", "partial"}
    waiting, submitted, unseen = (0, 0, 0) if is_settled else (waiting, submitted, unseen)
    enqueued = waiting + submitted + synced + failed + skipped
    job = replace(
        _VIEW, status=status, total=enqueued + unchanged + unseen, enqueued=enqueued, unchanged=unchanged,
        submitted=submitted, synced=synced, failed=failed, skipped=skipped,
    )  # fmt: skip
    counts = job.counts
    known = counts.ended + counts.enqueued + counts.submitted
    assert min(counts.enqueued, counts.submitted, counts.cancelled) >= 0
    assert known <= counts.total
    assert counts.ended <= counts.total
    if job.is_over:
        assert counts.ended == counts.total
        assert job.percent == 100
    else:
        assert job.percent < 100


@pytest.mark.parametrize(
    "scope",
    [
        JobScope(),
        JobScope(ScopeKind.VARIANTS, ("a", "b")),
        JobScope(ScopeKind.PRODUCTS, ("p",)),
        JobScope(ScopeKind.FILTER, (), ItemFilter(status=Status.FAILED, lane=Lane.LIVE, eligible_only=True)),
        JobScope(ScopeKind.FILTER, (), ItemFilter(search="x", product_id="p", error_code="c")),
    ],
    ids=str,
)
def test_a_scope_reads_back(scope: JobScope) -> None:
    assert JobScope.from_stored(scope.stored()) == scope
