"""How much of a job has ended never goes back, whatever is found on the way, and what is counted adds up.

The statements that move a job are tried by their twins, which the contract tests hold to them.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meta_sync.catalog.models import Lane
from meta_sync.sync import job_statements
from meta_sync.sync.job_models import JobAction, JobScope, JobView
from tests.simulation.clock import EPOCH
from tests.simulation.memory import MemoryDatabase, Row, Transaction, twin_of
from tests.simulation.tables import make_tables
from tests.simulation.twins import load

load()

_ENDS = ("synced", "failed", "skipped")


class _Job:
    """One job, as its statements and whoever shows it see it."""

    def __init__(self, counted: int, *, dry_run: bool) -> None:
        self._database = MemoryDatabase(make_tables(), lambda: EPOCH)
        self._dry_run = dry_run
        self._run(lambda t: t.stores.insert(EPOCH, store_id="s"))
        self._run(
            lambda t: t.jobs.insert(
                EPOCH, job_id="j", store_id="s", type="sync", status="running", total=counted, dry_run=dry_run
            )
        )
        self.percents = [self.shown().percent]

    def _run(self, work: Any) -> None:
        transaction = self._database.begin()
        work(transaction)
        self._database.commit()

    def row(self) -> Row:
        row = self._database.begin().jobs.get("j")
        assert row is not None
        return row

    def ask(self, statement: Any, **given_values: Any) -> None:
        def work(t: Transaction) -> None:
            twin_of(statement)(t, {"job_id": "j", "store_id": "s", "fence": 0, **given_values})

        self._run(work)
        view = self.shown()
        self.percents.append(view.percent)
        counts = view.counts
        known = counts.ended + counts.enqueued + counts.submitted
        assert min(counts.enqueued, counts.submitted, counts.cancelled) >= 0
        assert known == counts.total or (view.stage != "syncing" and known < counts.total)
        assert view.percent < 100

    def shown(self) -> JobView:
        row = self.row()
        names = ("status", "stage", "total", "looked_at", "enqueued", "unchanged", "submitted", *_ENDS)
        return JobView(
            job_id="j", type="sync", message=None, requested_by=None, created_at=EPOCH, started_at=EPOCH,
            finished_at=None, scope=JobScope(), action=JobAction.LOOK, lane=Lane.BULK, dry_run=self._dry_run,
            description=None, result=None, error_code=None, rate_from=None, rate_from_done=0, rate_mark=None,
            rate_mark_done=0, seen_at=EPOCH, **{name: row[name] for name in names},
        )  # fmt: skip

    def page(self, enqueued: int, unchanged: int, *, is_last: bool) -> None:
        self.ask(
            job_statements.ADVANCE, mapping_epoch=self.row()["mapping_epoch"], cursor="v",
            looked_at=enqueued + unchanged, enqueued=0 if self._dry_run else enqueued,
            unchanged=unchanged + enqueued if self._dry_run else unchanged,
            stage="syncing" if is_last else "enqueuing",
        )  # fmt: skip

    def end(self, how: str, most: int, *, let_go: int = 0) -> None:
        """End, and let go, as many of those that wait."""
        row = self.row()
        waiting = row["enqueued"] - sum(row[name] for name in _ENDS)
        ended = min(most, waiting)
        moved = dict.fromkeys(("submitted", "undecided", *_ENDS), 0) | {how: ended}
        self.ask(job_statements.COUNT, **moved, let_go=min(let_go, waiting - ended))


_number = st.integers(0, 30)
_ended = st.lists(st.tuples(st.sampled_from(_ENDS), _number), max_size=3)
_pages = st.lists(st.tuples(_number, _number, _ended), min_size=1, max_size=6)


@given(
    counted=st.one_of(st.just(0), st.integers(0, 300)),
    dry_run=st.booleans(),
    pages=_pages,
    ended=_ended,
    called_off_after=st.integers(0, 8),
    let_go=st.lists(st.tuples(_number, _number), max_size=4),
)
def test_the_percent_of_a_job_never_falls(
    counted: int,
    dry_run: bool,
    pages: list[tuple[int, int, list[tuple[str, int]]]],
    ended: list[tuple[str, int]],
    called_off_after: int,
    let_go: list[tuple[int, int]],
) -> None:
    """Whether there are as many items as were counted at first, more, fewer, or nobody has counted them."""
    job = _Job(counted, dry_run=dry_run)
    for number, (enqueued, unchanged, ends) in enumerate(pages):
        if number == called_off_after:
            break
        job.page(enqueued, unchanged, is_last=number == len(pages) - 1)
        for how, most in ends:
            job.end(how, most)
    for how, most in ended:
        job.end(how, most)
    if called_off_after < 8:
        job.ask(job_statements.CANCEL)
        total = job.shown().counts.total
        for most, gone in let_go:
            job.end("synced", most, let_go=gone)
        assert job.shown().counts.total <= total
    assert job.percents == sorted(job.percents)


def test_a_job_that_was_not_counted_tells_its_percent_when_all_of_it_was_found() -> None:
    job = _Job(0, dry_run=False)
    job.page(10, 0, is_last=False)
    job.end("synced", 9)
    assert (job.shown().percent, job.shown().counts.total) == (0, 10)
    job.page(10, 0, is_last=True)
    assert (job.shown().percent, job.shown().counts.total) == (45, 20)
    # Called off with a page to go, it has what was found in its scope, and what it let go in its counts.
    job = _Job(0, dry_run=False)
    job.page(10, 0, is_last=False)
    job.ask(job_statements.CANCEL)
    job.end("synced", 4, let_go=6)
    counts = job.shown().counts
    assert (counts.total, counts.synced, counts.cancelled) == (10, 4, 6)


def test_a_job_that_finds_more_than_was_counted_waits_for_what_ends() -> None:
    job = _Job(10, dry_run=False)
    job.page(10, 0, is_last=False)
    job.end("synced", 10)
    assert job.shown().percent == 90
    job.page(30, 0, is_last=True)
    assert (job.shown().percent, job.shown().counts.total) == (90, 40)
    job.end("synced", 28)
    assert job.shown().percent == 95
