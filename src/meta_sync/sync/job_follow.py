"""Follows the items that a job asked for until each has ended, and takes back what waits when it is called off.

Each page is one transaction: what ends leaves the page and is counted on the job's row at once, so whoever looks at the
job reads one row and its counts always add up.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.failpoints import failpoint
from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.job_models import LeasedJob
from meta_sync.sync.job_progress import Facts, Page, Progress, Stand, progress_of
from meta_sync.sync.job_statements import (
    COUNT,
    DROP_PAGE,
    FACTS,
    FINISH,
    HOLD,
    KEEP_PAGE,
    NEWEST_BATCH,
    PAGES,
    UNINTENDED,
    WITHDRAW,
    WITHDRAW_AHEAD,
)

__all__ = ["JobFollower"]

_PAGES_AT_ONCE = 8
"""Pages per look: some tenths of a second, in as many transactions."""

_AHEAD_AT_ONCE = 2_000


class JobFollower:
    """Looks at the pages of a job that this worker has the lease of."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self, job: LeasedJob, *, most: int = _PAGES_AT_ONCE) -> bool:
        """Look at the pages not seen for the longest; whether any of their items moved."""
        async with self._database.platform() as connection:
            rows = (await connection.execute(PAGES, {"job_id": job.job_id, "most": most})).all()
        moved = False
        for row in rows:
            page = Page(*row)
            moved = await retry_transaction(lambda page=page: self._look_at(job, page)) or moved  # type: ignore[misc]  # bound
            await failpoint("job.after_look")
        # Only a first sync takes over what others asked for.
        if job.status == "cancelling" and job.type == "bootstrap" and job.stage != "syncing":
            await self._withdraw_ahead(job)
        return moved

    async def finish(self, job: LeasedJob) -> bool:
        """End the job if every item it asked for has ended; whether it is over."""
        async with self._database.platform() as connection:
            identity = {"job_id": job.job_id, "fence": job.fence}
            return await connection.scalar(FINISH, identity) is not None

    async def _look_at(self, job: LeasedJob, page: Page) -> bool:
        async with self._database.platform() as connection:
            await expect_lookups(connection)
            bound = {"fence": job.fence, "mapping_epoch": job.mapping_epoch, "status": job.status}
            if await connection.scalar(HOLD, {"job_id": job.job_id, **bound}) is None:
                return False
            called_off = job.status == "cancelling"
            ids = await self._withdraw(connection, job, page) if called_off else page.variant_ids
            given = {"store_id": job.store_id, "link_id": job.link_id, "variant_ids": ids}
            facts = {row[0]: Facts(*row) for row in await connection.execute(FACTS, given)}
            progress = progress_of(replace(page, variant_ids=ids), facts, job.job_id, called_off=called_off)
            await self._count(connection, job, page, progress)
            await self._keep(connection, job, page, progress)
        has_left = len(progress.open_ids) != len(page.variant_ids)
        return has_left or progress.submitted != page.submitted

    async def _withdraw(self, connection: AsyncConnection, job: LeasedJob, page: Page) -> list[str]:
        """Take back what nobody but the job asked for; the items that are left."""
        given = {
            "store_id": job.store_id,
            "link_id": job.link_id,
            "job_id": job.job_id,
            "variant_ids": page.variant_ids,
        }
        withdrawn = await connection.scalar(WITHDRAW, given) or []
        if withdrawn:
            await connection.execute(UNINTENDED, {**given, "variant_ids": withdrawn})
        gone = set(withdrawn)
        return [one for one in page.variant_ids if one not in gone]

    async def _withdraw_ahead(self, job: LeasedJob) -> None:
        """Take back what waits for the job and is on no page of it."""
        after: str | None = ""
        while after is not None:
            after = await retry_transaction(lambda after=after: self._withdraw_after(job, after))  # type: ignore[misc]  # bound

    async def _withdraw_after(self, job: LeasedJob, after: str) -> str | None:
        """Take back some, in the order of their ids; where to go on."""
        async with self._database.platform() as connection:
            await expect_lookups(connection)
            bound = {"fence": job.fence, "mapping_epoch": job.mapping_epoch, "status": job.status}
            if await connection.scalar(HOLD, {"job_id": job.job_id, **bound}) is None:
                return None
            given = {"store_id": job.store_id, "job_id": job.job_id, "after": after, "most": _AHEAD_AT_ONCE}
            withdrawn = await connection.scalar(WITHDRAW_AHEAD, given)
            if not withdrawn:
                return None
            await connection.execute(UNINTENDED, {"link_id": job.link_id, "variant_ids": withdrawn})
            return str(withdrawn[-1])

    async def _count(
        self, connection: AsyncConnection, job: LeasedJob, page: Page, progress: Progress
    ) -> None:
        ended = progress.ended
        undecided = ended.get(Stand.UNDECIDED, 0)
        moved = {
            "let_go": len(page.variant_ids) - len(progress.open_ids) - sum(ended.values()),
            "submitted": progress.submitted - page.submitted,
            "synced": ended.get(Stand.SYNCED, 0),
            "failed": ended.get(Stand.FAILED, 0) + undecided,
            "skipped": ended.get(Stand.SKIPPED, 0),
            "undecided": undecided,
        }
        if any(moved.values()):
            await connection.execute(COUNT, {"job_id": job.job_id, **moved})

    async def _keep(
        self, connection: AsyncConnection, job: LeasedJob, page: Page, progress: Progress
    ) -> None:
        identity = {"job_id": job.job_id, "first_id": page.first_id}
        if not progress.open_ids:
            await connection.execute(DROP_PAGE, identity)
            return
        last_batch_id = page.last_batch_id
        if last_batch_id is None and progress.is_sent:
            # Read after the items: a batch that came meanwhile is waited for, too.
            last_batch_id = await connection.scalar(NEWEST_BATCH, {"store_id": job.store_id})
        has_left = len(progress.open_ids) != len(page.variant_ids)
        await connection.execute(
            KEEP_PAGE,
            {
                **identity,
                "variant_ids": progress.open_ids if has_left else None,
                "submitted": progress.submitted,
                "last_batch_id": last_batch_id,
            },
        )
