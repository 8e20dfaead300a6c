"""Starts, shows and cancels jobs. Who works them off is ``job_runner``."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import orjson
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.ingest.import_cancel import cancel_import
from meta_sync.connection.repository import active_link
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, ErrorDetail, NotFoundError
from meta_sync.core.ids import new_id
from meta_sync.core.lookups import go_by_indexes
from meta_sync.core.outages import is_contention
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.item_queries import status_count
from meta_sync.sync.job_audit import record_cancel, record_start
from meta_sync.sync.job_models import (
    JobFinding,
    JobOrder,
    JobPage,
    JobScope,
    JobView,
    OrderedJob,
    ScopeKind,
    StartedJob,
)
from meta_sync.sync.job_reading import explained, read_job, read_jobs
from meta_sync.sync.job_statements import CANCEL, INSERT, INSERT_CHOSEN, RUNNING
from meta_sync.sync.removal_end import end_removal

__all__ = ["JobService", "insert_job"]

# As in the list of items, a deleted variant is there while the link has a record of it.
_KNOWN = {
    ScopeKind.VARIANTS: text(
        """
        SELECT v.variant_id, 1 FROM variants AS v
        WHERE v.store_id = :store_id AND v.variant_id = ANY(CAST(:ids AS text[])) AND (v.deleted_at IS NULL OR (
            SELECT true FROM sync_state AS s
            WHERE s.link_id = :link_id AND s.variant_id >= v.variant_id AND s.variant_id <= v.variant_id
            ORDER BY s.variant_id LIMIT 1
        ))
        """
    ),
    ScopeKind.PRODUCTS: text(
        """
        SELECT p.product_id, (
            SELECT count(*) FROM variants AS v
            WHERE v.store_id = p.store_id AND v.product_id = p.product_id AND v.deleted_at IS NULL
        )
        FROM products AS p WHERE p.store_id = :store_id AND p.product_id = ANY(CAST(:ids AS text[]))
        """
    ),
}


_FINDINGS = text(
    """
    SELECT variant_id, product_id, retailer_id, decision, reason, changes FROM job_findings
    WHERE store_id = :store_id AND job_id = :job_id AND variant_id > :after ORDER BY variant_id LIMIT :most
    """
).columns(changes=JSONB)
_FINDINGS_AT_ONCE = 500
_TRIES = 3
_NAMES = {"bootstrap": "full sync", "resync": "bulk resync", "removal": "bulk removal"}
"""What people call a type."""
_MUST_END = (
    "A re-evaluation brings what Meta has into line with the settings, so it cannot be called off. Change the settings back,"
    " or switch sending off."
)
_IS_WRITING = (
    "The import writes something at this moment that goes in whole or not at all, such as what it deletes. Try again when"
    " it has moved on."
)


async def insert_job(
    connection: AsyncConnection,
    store_id: str,
    link_id: int,
    kind: str,
    *,
    requested_by: str | None,
    order: JobOrder | None = None,
    total: int | None = None,
) -> StartedJob:
    """Write a job that waits to be worked on, in the caller's transaction.

    Parameters
    ----------
    order
        What is asked for; a look at everything when absent.
    total
        How many items are in scope; ``None``: counted here, over all of the store.

    Raises
    ------
    IntegrityError
        The store has an unfinished job of this kind.
    """
    order = order or JobOrder(kind)
    job_id = new_id("job")
    given = {
        "job_id": job_id,
        "store_id": store_id,
        "link_id": link_id,
        "type": kind,
        "scope": orjson.dumps(order.scope.stored()).decode(),
        "action": order.action.value,
        "lane": int(order.lane),
        "dry_run": order.dry_run,
        "description": order.description,
        "requested_by": requested_by,
    }
    await expect_lookups(connection)
    if total is None:
        counted = await connection.scalar(INSERT, given)
    else:
        counted = await connection.scalar(INSERT_CHOSEN, {**given, "total": total})
    return StartedJob(job_id, int(counted or 0))


class JobService:
    """Starts, shows and cancels jobs.

    Parameters
    ----------
    graph_url
        Where Meta is, to tell why a job stands still; without it jobs do not say so.
    """

    def __init__(self, database: Database, queue: JobQueue, *, graph_url: str | None = None) -> None:
        self._database = database
        self._queue = queue
        self._graph_url = graph_url

    async def start_bootstrap(self, store_id: str, *, requested_by: str | None) -> StartedJob:
        """Look at every variant of the store again; what Meta has confirmed already costs nothing.

        Raises
        ------
        ConflictError
            No catalog is selected, or a bootstrap is running.
        """
        order = JobOrder("bootstrap", requested_by=requested_by)
        return (await self.start(store_id, order)).started

    async def start(self, store_id: str, order: JobOrder) -> OrderedJob:
        """Start a job.

        Raises
        ------
        ConflictError
            No catalog is selected, or a job of the type is running; then the details hold its id as ``jobId``.
        """
        for _ in range(_TRIES):
            try:
                ordered = await self._insert(store_id, order)
            except IntegrityError:
                running = await self.running(store_id, order.type)
                # One that ended in this moment keeps nobody from starting another.
                if running is not None:
                    raise _is_running(order.type, running) from None
            else:
                await self._queue.wake(JobName.JOBS)
                return ordered
        raise ConflictError("Jobs of this type begin and end all the time. Try again in a moment.")

    async def _insert(self, store_id: str, order: JobOrder) -> OrderedJob:
        async with self._database.store(store_id) as connection:
            link = await active_link(connection, store_id)
            if link is None:
                raise ConflictError(
                    "No Meta catalog is selected yet. Store a token and select a catalog first.",
                    code="meta_not_connected",
                )
            total, not_found = await _in_scope(connection, store_id, link.link_id, order.scope)
            started = await insert_job(
                connection,
                store_id,
                link.link_id,
                order.type,
                requested_by=order.requested_by,
                order=order,
                total=total,
            )
            ordered = OrderedJob(started, not_found)
            await record_start(connection, store_id, order, ordered)
        return ordered

    async def running(self, store_id: str, kind: str) -> str | None:
        """The id of the store's unfinished job of a type."""
        async with self._database.store(store_id) as connection:
            found: str | None = await connection.scalar(RUNNING, {"store_id": store_id, "type": kind})
            return found

    async def get(self, store_id: str, job_id: str) -> JobView:
        """One job of the store.

        Raises
        ------
        NotFoundError
            The store has no such job.
        """
        async with self._database.store(store_id) as connection:
            job = await read_job(connection, store_id, job_id)
            if job is None:
                raise NotFoundError("No such job.")
            return (await self._explained(connection, store_id, [job]))[0]

    async def list(self, store_id: str, *, limit: int = 50) -> list[JobView]:
        """The store's newest jobs, newest first."""
        return (await self.page(store_id, limit=limit)).jobs

    async def page(
        self,
        store_id: str,
        *,
        type: str | None = None,  # noqa: A002 - the API's own word
        status: str | None = None,
        limit: int = 50,
        offset: int = 0,
        after: tuple[str, str] | None = None,
    ) -> JobPage:
        """A page of the store's jobs, newest first.

        Parameters
        ----------
        after
            When the last job of the page before was made (ISO 8601), and its id.
        """
        async with self._database.store(store_id) as connection:
            await go_by_indexes(connection)
            found = await read_jobs(
                connection, store_id, kind=type, status=status, limit=limit, offset=offset, after=after
            )
            return replace(found, jobs=await self._explained(connection, store_id, found.jobs))

    async def _explained(
        self, connection: AsyncConnection, store_id: str, jobs: Sequence[JobView]
    ) -> builtins.list[JobView]:
        if self._graph_url is None:
            return [*jobs]
        return await explained(connection, store_id, jobs, self._graph_url)

    async def report(self, store_id: str, job_id: str) -> AsyncIterator[JobFinding]:
        """What a dry run would send, in the order of the ids, read in pages without holding a transaction open."""
        after = ""
        while True:
            given = {"store_id": store_id, "job_id": job_id, "after": after, "most": _FINDINGS_AT_ONCE}
            async with self._database.store(store_id) as connection:
                rows = (await connection.execute(_FINDINGS, given)).all()
            for row in rows:
                yield JobFinding(*row)
            if len(rows) < _FINDINGS_AT_ONCE:
                return
            after = rows[-1][0]

    async def cancel(self, store_id: str, job_id: str, *, actor: str | None = None) -> JobView:
        """Stop a job: it asks for nothing more, takes back what nobody else asked for, and ends what is at Meta.

        An import ends where it is; its message says what went in. Cancelling what is being cancelled changes nothing. A
        re-evaluation cannot be called off: Meta would keep what the settings of before made. ``actor`` is who asks, for the
        audit log; ``None`` is the service itself.

        Raises
        ------
        NotFoundError
            The store has no such job.
        ConflictError
            It has ended, is a re-evaluation, or is an import that deletes at this moment what its file leaves out.
        """
        try:
            async with self._database.store(store_id) as connection:
                moved = await connection.scalar(CANCEL, {"store_id": store_id, "job_id": job_id})
                await end_removal(connection, store_id, job_id)
                is_import = await cancel_import(connection, store_id, job_id)
                if moved is not None or is_import:
                    await record_cancel(connection, store_id, job_id, actor, is_import=is_import)
        except DBAPIError as error:
            if not is_contention(error):
                raise
            raise ConflictError(_IS_WRITING) from None
        job = await self.get(store_id, job_id)
        if job.type == "reevaluation" and not job.is_over and job.status != "cancelling":
            raise ConflictError(_MUST_END)
        if job.status in {"success", "partial", "error"}:
            raise ConflictError(f"The job has ended: {job.status}.")
        # The next import of the same source may begin.
        await self._queue.wake(JobName.IMPORTS if is_import else JobName.JOBS)
        return job


def _is_running(kind: str, job_id: str) -> ConflictError:
    return ConflictError(
        f"A {_NAMES.get(kind, kind)} is running already: {job_id}. Wait for it, or cancel it.",
        details=[ErrorDetail("jobId", job_id)],
    )


async def _in_scope(
    connection: AsyncConnection, store_id: str, link_id: int, scope: JobScope
) -> tuple[int | None, list[str]]:
    """How many items a job is about as far as it is known now, ``None`` for all of the store, and ids nobody knows.

    Of a filter only a status has its count at hand; any other one is counted while it is walked.
    """
    if scope.kind is ScopeKind.ALL:
        return None, []
    if scope.item_filter is not None:
        wanted = scope.item_filter
        if wanted.status is None or not wanted.is_status_only:
            return 0, []
        return await status_count(connection, store_id, link_id, wanted.status), []
    await expect_lookups(connection)
    given = {"store_id": store_id, "link_id": link_id, "ids": list(scope.ids)}
    rows = await connection.execute(_KNOWN[scope.kind], given)
    known = {row[0]: int(row[1]) for row in rows}
    return sum(known.values()), [one for one in scope.ids if one not in known]
