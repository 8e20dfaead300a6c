"""The second read of a reconciliation: what one read found is asked for again, and believed when it is found again.

Asked by id and not by walking: Meta answers a filter from elsewhere than a walk, so a fault of one is not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.failpoints import failpoint
from meta_sync.graph.wire import ProductsPage
from meta_sync.sync.catalog_reader import CatalogReader, NotNow, Read, Refused
from meta_sync.sync.drain import database_time
from meta_sync.sync.read_jobs import ReadJob, advance, finish
from meta_sync.sync.reconcile_compare import READ_FIELDS
from meta_sync.sync.reconcile_findings import Shown, by_retailer_id, ledger_items, settle_findings
from meta_sync.sync.reconcile_models import (
    Finding,
    FindingState,
    Judged,
    LedgerItem,
    Moment,
    Verdict,
    judge,
    judge_missing,
)
from meta_sync.sync.reconcile_progress import REREADING, Ledger, Progress
from meta_sync.sync.reconcile_statements import AGREED, CHUNK

__all__ = ["SecondRead"]


class SecondRead:
    """Reads findings again, a chunk at a time, and ends the job after the last."""

    def __init__(self, database: Database, reader: CatalogReader, ledger: Ledger) -> None:
        self._database = database
        self._reader = reader
        self._ledger = ledger

    async def step(self, job: ReadJob) -> None:
        """One chunk."""
        assert job.link_id is not None
        progress = Progress.of(job, self._ledger.timing)
        given = {"job_id": job.job_id, "after": job.cursor or "", "most": progress.chunk_items}
        async with self._database.platform() as connection:
            chunk = [Finding.of(row) for row in await connection.execute(CHUNK, given)]
        ids = [one.retailer_id for one in chunk if one.state is FindingState.SUSPECTED]
        if not ids:
            await retry_transaction(lambda: self._settle(job, chunk, None, None))
            return
        answer = await self._reader.find(job.store_id, job.link_id, ids, READ_FIELDS)
        await failpoint("reconcile.after_second_read")
        if isinstance(answer, Read):
            await retry_transaction(lambda: self._settle(job, chunk, _shown(answer.value), answer.asked_at))
        elif _is_too_much(answer) and progress.chunk_items > 1:
            progress.chunk_items //= 2
            until = answer.until if isinstance(answer, NotNow) else None
            await self._ledger.ask_for_less(job, progress, until)
        elif isinstance(answer, Refused):
            # One id that Meta's filter does not take: what cannot be read twice is not believed.
            await retry_transaction(lambda: self._settle(job, chunk, None, None))
        else:
            await self._ledger.not_read(job, answer)

    async def _settle(
        self, job: ReadJob, chunk: Sequence[Finding], shown: Shown | None, asked_at: datetime | None
    ) -> None:
        """Write what became of the chunk's findings. ``shown``: ``None`` where it could not be read."""
        progress = Progress.of(job, self._ledger.timing)
        suspected = [one for one in chunk if one.state is FindingState.SUSPECTED]
        async with self._database.platform() as connection:
            link = await self._ledger.link(connection, job)
            if link is None:
                return
            if suspected:
                now = await database_time(connection)
                ids = [one.retailer_id for one in suspected]
                ours = await ledger_items(connection, job.store_id, link.link_id, ids)
                moment = self._ledger.moment(link, asked_at or now, now)
                judged = [
                    (one, _judged_again(one, ours.get(one.retailer_id), shown, moment)) for one in suspected
                ]
                await settle_findings(connection, job, judged, shown or {}, asked_at or now)
            if len(chunk) < progress.chunk_items:
                await self._end(connection, job, progress)
                return
            progress.chunk_was_read()
            await advance(
                connection,
                job,
                stage=REREADING,
                cursor=chunk[-1].retailer_id,
                result=progress.stored(),
                in_seconds=self._ledger.timing.reconcile_page_seconds if suspected else 0,
            )

    async def _end(self, connection: AsyncConnection, job: ReadJob, progress: Progress) -> None:
        """Count what two reads agree on. What was withdrawn agrees, or moves: nothing is known to be wrong with it."""
        tally = progress.tally
        tally.missing = tally.different = tally.unverifiable = tally.orphan = tally.foreign = 0
        for verdict, agreed, withdrawn in await connection.execute(AGREED, {"job_id": job.job_id}):
            setattr(tally, verdict, agreed)
            if verdict not in {Verdict.FOREIGN, Verdict.MISSING}:
                tally.agreeing += withdrawn
        await finish(connection, job, progress.stored())


def _shown(page: ProductsPage) -> Shown | None:
    """What was shown; ``None`` where the answer was cut off, so that nothing can be said to be missing."""
    return None if page.has_next else by_retailer_id(page.items)


def _is_too_much(answer: object) -> bool:
    """Whether a shorter list of ids may be answered; which of them a filter does not take is found by halving."""
    return isinstance(answer, Refused) or (isinstance(answer, NotNow) and answer.is_too_much)


def _judged_again(
    finding: Finding, item: LedgerItem | None, shown: Shown | None, at: Moment
) -> Judged | None:
    """The item as it is judged now; ``None`` where that is not what was found."""
    if shown is None:
        return None
    seen = shown.get(finding.retailer_id)
    judged = judge_missing(item, at) if seen is None else judge(seen, item, at)
    is_same = judged.verdict is finding.verdict and judged.differences.keys() == finding.differences.keys()
    return judged if is_same else None
