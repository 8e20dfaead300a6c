"""Works jobs off: long looks over the variants of a store, by cursor, and what becomes of the items they asked for.

A page is one transaction that moves the cursor with what it wrote, so a crash repeats nothing and loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import CatalogItem
from meta_sync.connection.repository import active_link
from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.failpoints import failpoint
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.sync.context import UNREADABLE_TOKEN, Standstill, StoreContext, load_context
from meta_sync.sync.decide import decide
from meta_sync.sync.drain import database_time
from meta_sync.sync.job_actions import ask_for
from meta_sync.sync.job_dry_run import note_findings
from meta_sync.sync.job_follow import JobFollower
from meta_sync.sync.job_models import JobAction, LeasedJob
from meta_sync.sync.job_scope import JobReader, is_in_scope, needs_intent
from meta_sync.sync.job_statements import ADVANCE, FAIL, LEASE, LINK_GONE, UNLEASE
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.models import ItemState, Link

__all__ = ["JobRunner"]

_PAGE = 2_000
"""Variants per page: some tens of milliseconds in one transaction, so that writers never wait for it."""

_MOST_AHEAD = 5_000
"""Items of a job under way whose look cannot be taken back. It asks for more when fewer wait, so that little is left to be
sent when it is called off."""

_DECIDED_FIRST = frozenset({"reevaluation", "removal", "sync"})
"""Types of jobs that ask only for items that differ; others leave it to the drain to find out."""


class JobRunner:
    """Works jobs off, a page at a time. Safe to run by any number of workers."""

    def __init__(
        self,
        database: Database,
        cipher: Cipher,
        process: Settings,
        queue: JobQueue,
        *,
        look_seconds: float,
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._process = process
        self._queue = queue
        self._look_seconds = look_seconds
        self._reader = JobReader(database)
        self._follower = JobFollower(database)

    async def run_next(self) -> bool:
        """Move the job on that waits the longest, by one page or one look; ``False`` when none is free."""
        async with self._database.platform() as connection:
            row = (await connection.execute(LEASE)).one_or_none()
        if row is None:
            return False
        job = LeasedJob.of(row)
        is_too_far_ahead = job.action.is_own_reason and job.waiting >= _MOST_AHEAD
        if job.status == "cancelling" or job.stage == "syncing" or is_too_far_ahead:
            return await self._follow(job)
        await retry_transaction(lambda: self._page(job))
        await failpoint("job.after_page")
        await self._queue.wake(JobName.DRAIN)
        # What was asked for first may have ended by now; long before the last page is asked for, in a large store.
        if not job.dry_run:
            await self._follower.look(job, most=1)
        return True

    async def _follow(self, job: LeasedJob) -> bool:
        moved = await self._follower.look(job)
        if not await self._follower.finish(job):
            # What is called off has much to take back, and everybody waits for it.
            is_urgent = job.status == "cancelling" and moved
            async with self._database.platform() as connection:
                await self._give_back(connection, job, 0 if is_urgent else self._look_seconds)
        return True

    async def _give_back(self, connection: AsyncConnection, job: LeasedJob, seconds: float) -> None:
        await connection.execute(UNLEASE, {"job_id": job.job_id, "fence": job.fence, "seconds": seconds})

    async def _page(self, job: LeasedJob) -> None:
        keys = await self._reader.chosen(job, limit=_PAGE)
        async with self._database.platform() as connection:
            active = await active_link(connection, job.store_id)
            if active is None or active.link_id != job.link_id:
                await connection.execute(LINK_GONE, {"job_id": job.job_id, "fence": job.fence})
                return
            context = await load_context(connection, job.store_id, self._cipher, self._process)
            page = await self._reader.items(connection, job, keys, limit=_PAGE)
            read = len(page) if keys is None else len(keys)
            last = page[-1][0].variant_id if page else job.cursor
            grace_days = 0 if isinstance(context, Standstill) else context.settings.delete_grace_days
            link = Link.of(active, grace_days)
            page = [(item, state) for item, state in page if is_in_scope(item, state, link)]
            if job.dry_run and isinstance(context, Standstill):
                await self._cannot_decide(connection, job, context)
                return
            variant_ids = [] if job.dry_run else await self._wanted(connection, job, context, link, page)
            advanced = await connection.scalar(
                ADVANCE,
                {
                    "job_id": job.job_id,
                    "fence": job.fence,
                    "mapping_epoch": job.mapping_epoch,
                    "cursor": keys[-1] if keys else last,
                    "looked_at": read,
                    "enqueued": len(variant_ids),
                    "unchanged": len(page) - len(variant_ids),
                    "stage": "enqueuing" if read == _PAGE else "syncing",
                },
            )
            # Without it the job was sent back to its first row, called off, or is no longer ours.
            if advanced is not None and variant_ids:
                await ask_for(connection, job, variant_ids)
            if advanced is not None and job.dry_run and isinstance(context, StoreContext):
                now = await database_time(connection)
                await note_findings(connection, job, context, page, now=now, is_last=read < _PAGE)
            await self._give_back(connection, job, 0)

    async def _cannot_decide(
        self, connection: AsyncConnection, job: LeasedJob, standstill: Standstill
    ) -> None:
        """End a dry run that has nothing to decide with. Where a newer worker has the store, the job is left to it."""
        if standstill.until is not None:
            await self._give_back(connection, job, self._look_seconds)
            return
        code = "needs_reconnect" if standstill.reason == UNREADABLE_TOKEN else standstill.reason
        said = {"job_id": job.job_id, "fence": job.fence, "error_code": code}
        await connection.execute(FAIL, said)

    async def _wanted(
        self,
        connection: AsyncConnection,
        job: LeasedJob,
        context: StoreContext | Standstill,
        link: Link,
        page: Sequence[tuple[CatalogItem, ItemState]],
    ) -> list[str]:
        """The variants of a page that the drain has to look at, in the order of their ids."""
        is_decided = job.type in _DECIDED_FIRST and job.action is JobAction.LOOK
        if not is_decided or isinstance(context, Standstill):
            return [item.variant_id for item, _ in page]
        now = await database_time(connection)
        mapper = Mapper(context.mapping)
        wanted = []
        for item, state in page:
            try:
                decision = decide(item, state, link, mapper, now=now, is_job_only=True)
            except Exception:  # noqa: BLE001 - the drain says what is wrong with it; the others go on
                wanted.append(item.variant_id)
                continue
            if needs_intent(decision.kind, decision.reason, state):
                wanted.append(item.variant_id)
        return wanted
