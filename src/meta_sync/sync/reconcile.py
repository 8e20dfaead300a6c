"""Reads a catalog back and compares it with what Meta confirmed: the walk, and what the walk did not meet.

Each page is one question and then one short transaction with the rows as they are by then. Nothing here changes an item
or asks for one to be sent; a finding is believed only when a second read comes to the same (decision 0015).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.models import ActiveLink
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.failpoints import failpoint
from meta_sync.graph.wire import ProductsPage
from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.catalog_reader import (
    SMALLEST_PAGE,
    CatalogReader,
    LinkGone,
    NotNow,
    Read,
    Refused,
    smaller_page,
)
from meta_sync.sync.drain import database_time
from meta_sync.sync.read_jobs import ReadJob, advance, finish
from meta_sync.sync.reconcile_compare import READ_FIELDS
from meta_sync.sync.reconcile_findings import (
    NewFinding,
    by_retailer_id,
    has_findings,
    ledger_items,
    write_findings,
)
from meta_sync.sync.reconcile_models import Judged, LedgerItem, Verdict, judge
from meta_sync.sync.reconcile_progress import COMPARING, READING, REREADING, Ledger, Progress, ReconcileTiming
from meta_sync.sync.reconcile_second_read import SecondRead
from meta_sync.sync.reconcile_statements import NOTE_COUNT, SEEN, UNSEEN

__all__ = ["ReconcileHandler"]

_MOST_ROUNDS = 6
_ITEMS_TO_SPARE = 10_000
_ITEMS_UNTOLD = 5_000_000
"""How many there are at most, where Meta does not tell."""

_OURS_PER_PAGE = 2_000
"""Rows per page of the walk over our own items: some tens of milliseconds in one transaction."""


class ReconcileHandler:
    """Works reconciliations off, a page at a time (``ReadJobHandler``)."""

    def __init__(self, database: Database, reader: CatalogReader, *, timing: ReconcileTiming) -> None:
        self._database = database
        self._reader = reader
        self._timing = timing
        self._ledger = Ledger(database, timing)
        self._second_read = SecondRead(database, reader, self._ledger)

    async def step(self, job: ReadJob) -> None:
        """One page of the walk over Meta's items, of the walk over ours, or of the second read."""
        if job.link_id is None:
            await self._ledger.not_read(job, LinkGone())
        elif job.stage == COMPARING:
            await retry_transaction(lambda: self._compare_ours(job))
        elif job.stage == REREADING:
            await self._second_read.step(job)
        else:
            await self._read_page(job, job.link_id)

    async def _read_page(self, job: ReadJob, link_id: int) -> None:
        progress = Progress.of(job, self._timing)
        answer = await self._reader.page(
            job.store_id,
            link_id,
            READ_FIELDS,
            after=job.cursor,
            limit=progress.page_items,
            with_total=job.cursor is None,
        )
        await failpoint("reconcile.after_page")
        match answer:
            case Read() if job.looked_at > _most_items(progress.product_count):
                await self._ledger.endless(job)
            case Read(value=page, asked_at=asked_at) if _leads_on(page, job.cursor):
                await retry_transaction(lambda: self._note_page(job, page, asked_at))
            case Refused() if job.cursor is None:
                await self._ledger.not_read(job, answer)
            case Read() | Refused():
                # Meta no longer knows where we were, or cannot say how to go on.
                await self._ledger.begin_anew(job)
            case NotNow() if answer.is_too_much and progress.page_items > SMALLEST_PAGE:
                progress.page_items = smaller_page(progress.page_items)
                await self._ledger.ask_for_less(job, progress, answer.until)
            case _:
                await self._ledger.not_read(job, answer)

    async def _note_page(self, job: ReadJob, page: ProductsPage, asked_at: datetime) -> None:
        progress = Progress.of(job, self._timing)
        async with self._database.platform() as connection:
            link = await self._ledger.link(connection, job)
            if link is None:
                return
            if job.cursor is None:
                progress.walk_began_at = asked_at.isoformat()
                progress.product_count = page.total_count
                said = {"link_id": link.link_id, "product_count": page.total_count}
                if page.total_count is not None:
                    await connection.execute(NOTE_COUNT, said)
            await self._compare_page(connection, job, progress, link=link, page=page, asked_at=asked_at)
            progress.page_was_read(self._timing)
            await advance(
                connection,
                job,
                stage=READING if page.has_next else COMPARING,
                cursor=page.after if page.has_next else "",
                result=progress.stored(),
                looked_at=len(page.items),
                total=progress.product_count,
                in_seconds=self._timing.reconcile_page_seconds if page.has_next else 0,
            )

    async def _compare_page(
        self,
        connection: AsyncConnection,
        job: ReadJob,
        progress: Progress,
        *,
        link: ActiveLink,
        page: ProductsPage,
        asked_at: datetime,
    ) -> None:
        shown = by_retailer_id(page.items)
        ours = await ledger_items(connection, job.store_id, link.link_id, list(shown))
        is_new = await self._remember(connection, job, progress, ours)
        moment = self._ledger.moment(link, asked_at, await database_time(connection))
        found: list[NewFinding] = []
        for retailer_id, item in shown.items():
            mine = ours.get(retailer_id)
            if mine is not None and mine.variant_id not in is_new:
                continue
            judged = judge(item, mine, moment)
            if judged.verdict is None:
                progress.tally.add(judged)
            else:
                ids = (mine.variant_id, mine.product_id) if mine else (None, None)
                found.append((retailer_id, *ids, judged, item))
        for judged in await write_findings(connection, job, found, asked_at):
            progress.tally.add(judged)

    async def _remember(
        self,
        connection: AsyncConnection,
        job: ReadJob,
        progress: Progress,
        ours: Mapping[str, LedgerItem],
    ) -> frozenset[str]:
        """Note the items that Meta showed; those that this walk had not met before."""
        keys = sorted(item.variant_id for item in ours.values())
        if not keys:
            return frozenset()
        given = {"job_id": job.job_id, "kind": progress.seen_kind, "store_id": job.store_id, "keys": keys}
        return frozenset((await connection.execute(SEEN, given)).scalars())

    async def _compare_ours(self, job: ReadJob) -> None:
        """A page of our own items: those that were to be at Meta before the walk began, and that it did not meet."""
        progress = Progress.of(job, self._timing)
        assert progress.walk_began_at is not None
        began_at = datetime.fromisoformat(progress.walk_began_at)
        async with self._database.platform() as connection:
            link = await self._ledger.link(connection, job)
            if link is None:
                return
            await expect_lookups(connection)
            given = {
                "store_id": job.store_id,
                "link_id": link.link_id,
                "epoch": link.epoch,
                "job_id": job.job_id,
                "kind": progress.seen_kind,
                "after": job.cursor or "",
                "most": _OURS_PER_PAGE,
            }
            rows = (await connection.execute(UNSEEN, given)).all()
            quiet_since = self._ledger.moment(link, began_at, began_at).quiet_since
            missing: list[NewFinding] = []
            for variant_id, retailer_id, product_id, is_unseen, waits, changed_at in rows:
                if is_unseen and (waits or changed_at > quiet_since):
                    progress.tally.add(Judged(is_busy=True))
                elif is_unseen:
                    missing.append((retailer_id, variant_id, product_id, Judged(Verdict.MISSING), None))
            for judged in await write_findings(connection, job, missing, began_at):
                progress.tally.add(judged)
            await self._after_ours(
                connection, job, progress, rows[-1][0] if len(rows) == _OURS_PER_PAGE else None
            )

    async def _after_ours(
        self, connection: AsyncConnection, job: ReadJob, progress: Progress, last: str | None
    ) -> None:
        """Go on behind the last row; after all of them read again what was found, if anything was."""
        result = progress.stored()
        if last is not None:
            await advance(connection, job, stage=COMPARING, cursor=last, result=result)
        elif await has_findings(connection, job.job_id):
            wait = self._timing.reconcile_second_read_seconds
            await advance(connection, job, stage=REREADING, cursor="", result=result, in_seconds=wait)
        else:
            await finish(connection, job, result)


def _most_items(product_count: int | None) -> int:
    """More than every walk that is begun anew can meet; whoever meets more is led in a circle."""
    told = _ITEMS_UNTOLD if product_count is None else product_count
    return _MOST_ROUNDS * told + _ITEMS_TO_SPARE


def _leads_on(page: ProductsPage, cursor: str | None) -> bool:
    """Whether a page is the last one, or says where the next one begins."""
    return not page.has_next or (page.after is not None and page.after != cursor)
