"""Works jobs off: long looks over the variants of a store, by cursor.

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
from meta_sync.sync.context import Standstill, StoreContext, load_context
from meta_sync.sync.decide import decide
from meta_sync.sync.drain import database_time
from meta_sync.sync.job_models import LeasedJob
from meta_sync.sync.job_scope import is_in_scope, needs_intent
from meta_sync.sync.job_statements import (
    ADVANCE,
    ENQUEUE,
    FINISH,
    INTENDED,
    LEASE,
    LINK_GONE,
    NOTE_LAST_BATCH,
    STATES,
    UNLEASE,
)
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.models import ItemState, Link
from meta_sync.sync.outbox import mark_due
from meta_sync.sync.reading import read_items

__all__ = ["JobRunner"]

_PAGE = 2_000
"""Variants per page: some tens of milliseconds in one transaction, so that writers never wait for it."""


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

    async def run_next(self) -> bool:
        """Move the job on that waits the longest, by one page or one look; ``False`` when none is free."""
        async with self._database.platform() as connection:
            row = (await connection.execute(LEASE)).one_or_none()
        if row is None:
            return False
        job = LeasedJob(*row)
        if job.stage == "syncing":
            return await self._finish(job)
        more = await retry_transaction(lambda: self._page(job))
        await failpoint("job.after_page")
        await self._queue.wake(JobName.DRAIN)
        return more

    async def _finish(self, job: LeasedJob) -> bool:
        async with self._database.platform() as connection:
            identity = {"job_id": job.job_id, "fence": job.fence}
            await connection.execute(NOTE_LAST_BATCH, identity)
            if await connection.scalar(FINISH, identity) is None:
                await self._give_back(connection, job, self._look_seconds)
        return True

    async def _give_back(self, connection: AsyncConnection, job: LeasedJob, seconds: float) -> None:
        await connection.execute(UNLEASE, {"job_id": job.job_id, "fence": job.fence, "seconds": seconds})

    async def _page(self, job: LeasedJob) -> bool:
        async with self._database.platform() as connection:
            active = await active_link(connection, job.store_id)
            if active is None or active.link_id != job.link_id:
                await connection.execute(LINK_GONE, {"job_id": job.job_id, "fence": job.fence})
                return True
            context = await load_context(connection, job.store_id, self._cipher, self._process)
            page = await read_items(connection, job.store_id, job.link_id, after=job.cursor, limit=_PAGE)
            link = Link(active.link_id, active.epoch, active.was_empty)
            variant_ids = await self._wanted(connection, job, context, link, page)
            identity = {
                "store_id": job.store_id,
                "link_id": job.link_id,
                "job_id": job.job_id,
                "variant_ids": variant_ids,
            }
            advanced = await connection.scalar(
                ADVANCE,
                {
                    "job_id": job.job_id,
                    "fence": job.fence,
                    "mapping_epoch": job.mapping_epoch,
                    "cursor": page[-1][0].variant_id if page else job.cursor,
                    "looked_at": len(page),
                    "enqueued": len(variant_ids),
                    "unchanged": len(page) - len(variant_ids),
                    "stage": "enqueuing" if len(page) == _PAGE else "syncing",
                },
            )
            if advanced is None:
                # Sent back to its first row, or no longer ours. Nothing was written yet.
                await self._give_back(connection, job, 0)
                return True
            if variant_ids:
                await connection.execute(ENQUEUE, identity)
                await connection.execute(STATES, identity)
                await connection.execute(INTENDED, identity)
                await mark_due(connection, job.store_id)
            await self._give_back(connection, job, 0)
        return True

    async def _wanted(
        self,
        connection: AsyncConnection,
        job: LeasedJob,
        context: StoreContext | Standstill,
        link: Link,
        page: Sequence[tuple[CatalogItem, ItemState]],
    ) -> list[str]:
        """The variants of a page that the drain has to look at, in the order of their ids."""
        if job.type == "bootstrap" or isinstance(context, Standstill):
            return [item.variant_id for item, state in page if is_in_scope(item, state, link)]
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
