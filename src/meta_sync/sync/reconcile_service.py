"""Reconciliations for people: start one, see how far it is, read what it found. What is done about it is ``reconcile_repair``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.connection.repository import active_link
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.errors import ConflictError, ErrorDetail, NotFoundError
from meta_sync.core.lookups import go_by_indexes
from meta_sync.core.paging import MAX_PAGE_ROWS, CursorCodec, require_page_within_reach
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.stores.audit import AuditAction, AuditTarget, record_action
from meta_sync.sync.job_models import JobView
from meta_sync.sync.job_reading import read_job, read_jobs
from meta_sync.sync.job_statements import RUNNING
from meta_sync.sync.read_jobs import insert_read_job
from meta_sync.sync.reconcile_models import RECONCILIATION, Finding, FindingState, ReconcileTally, Verdict
from meta_sync.sync.reconcile_statements import FINDING_COLUMNS

__all__ = [
    "FindingFilter",
    "FindingPage",
    "LastReconciliation",
    "ReconcileService",
    "Reconciliation",
    "ReconciliationPage",
    "last_reconciliation",
    "reconciliation_job",
]

# Of a verdict the index gives the order; of all of them the key does.
_WHERE = """
    f.job_id = :job_id AND f.store_id = :store_id AND f.retailer_id > :after
      AND (CAST(:verdict AS text) IS NULL OR f.verdict = :verdict) AND (CAST(:state AS text) IS NULL OR f.state = :state)
"""
_FINDINGS = text(
    f"""
    SELECT {FINDING_COLUMNS} FROM reconcile_findings AS f WHERE {_WHERE}
    ORDER BY f.retailer_id LIMIT :limit OFFSET :offset
    """
).columns(differences=JSONB, found=JSONB)
_COUNT = text(
    f"SELECT count(*) FROM (SELECT FROM reconcile_findings AS f WHERE {_WHERE} LIMIT :most) AS counted"
)
_LAST = text(
    """
    SELECT job_id, finished_at, result FROM jobs
    WHERE store_id = :store_id AND link_id = :link_id AND type = 'reconciliation' AND status = 'success'
    ORDER BY created_at DESC LIMIT 1
    """
).columns(result=JSONB)


@dataclass(frozen=True, slots=True)
class LastReconciliation:
    """The newest one of the catalog in use that came to its end."""

    job_id: str
    at: datetime
    drift_percent: float


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """A reconciliation as it stands.

    Attributes
    ----------
    tally
        While it runs, of what one read said; at the end of what two reads agree on.
    product_count
        Items in the catalog, as Meta told when the walk began; ``None``: it did not tell.
    """

    job: JobView
    tally: ReconcileTally
    product_count: int | None

    @classmethod
    def of(cls, job: JobView) -> Reconciliation:
        """The reconciliation that a job's row tells of."""
        result = job.result or {}
        tally = ReconcileTally.from_stored(result.get("counts", {}))
        return cls(job, tally, result.get("productCount"))


@dataclass(frozen=True, slots=True)
class ReconciliationPage:
    """A page of the list, newest first."""

    reconciliations: list[Reconciliation]
    total: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class FindingFilter:
    """Which findings; every condition holds at once."""

    verdict: Verdict | None = None
    state: FindingState | None = None


@dataclass(frozen=True, slots=True)
class FindingPage:
    """A page of findings in the order of their retailer ids; ``total`` is counted no further than pages reach."""

    findings: list[Finding]
    total: int
    next_cursor: str | None


class ReconcileService:
    """Starts and shows reconciliations."""

    def __init__(self, database: Database, queue: JobQueue, cursors: CursorCodec) -> None:
        self._database = database
        self._queue = queue
        self._cursors = cursors

    async def start(self, store_id: str, *, actor: str) -> str:
        """Start reading the catalog back; the id of the job.

        Raises
        ------
        ConflictError
            No catalog is selected, or one is under way; then the details hold its id as ``jobId``.
        """

        async def work() -> str:
            async with self._database.store(store_id) as connection:
                link = await active_link(connection, store_id)
                if link is None:
                    raise ConflictError(
                        "No Meta catalog is selected yet. Store a token and select a catalog first.",
                        code="meta_not_connected",
                    )
                job_id = await insert_read_job(
                    connection,
                    store_id,
                    link.link_id,
                    RECONCILIATION,
                    requested_by=actor,
                    total=link.product_count or 0,
                )
                await record_action(
                    connection,
                    store_id,
                    actor=actor,
                    action=AuditAction.JOB_STARTED,
                    target_type=AuditTarget.JOB,
                    target_id=job_id,
                    after={"type": RECONCILIATION},
                )
                return job_id

        try:
            job_id = await retry_transaction(work)
        except IntegrityError:
            raise await self._is_running(store_id) from None
        await self._queue.wake(JobName.JOBS)
        return job_id

    async def _is_running(self, store_id: str) -> ConflictError:
        async with self._database.store(store_id) as connection:
            running = await connection.scalar(RUNNING, {"store_id": store_id, "type": RECONCILIATION})
        if running is None:
            return ConflictError("A reconciliation has just ended. Read it, or start another one.")
        return ConflictError(
            f"A reconciliation is running already: {running}. Wait for it, or cancel it.",
            details=[ErrorDetail("jobId", running)],
        )

    async def get(self, store_id: str, job_id: str) -> Reconciliation:
        """One reconciliation of the store.

        Raises
        ------
        NotFoundError
            The store has none with this id.
        """
        async with self._database.store(store_id) as connection:
            return Reconciliation.of(await reconciliation_job(connection, store_id, job_id))

    async def page(
        self, store_id: str, *, limit: int, offset: int = 0, after: tuple[str, str] | None = None
    ) -> ReconciliationPage:
        """A page of them, newest first; ``after``: when the last one of the page before was made, and its id."""
        async with self._database.store(store_id) as connection:
            await go_by_indexes(connection)
            found = await read_jobs(
                connection,
                store_id,
                kind=RECONCILIATION,
                status=None,
                limit=limit,
                offset=offset,
                after=after,
            )
        jobs = [Reconciliation.of(job) for job in found.jobs]
        return ReconciliationPage(jobs, found.total, found.has_more)

    async def findings(
        self,
        store_id: str,
        job_id: str,
        wanted: FindingFilter,
        *,
        page: int = 1,
        limit: int = 50,
        cursor: str | None = None,
    ) -> FindingPage:
        """What a reconciliation found, in the order of the retailer ids.

        Raises
        ------
        NotFoundError
            The store has no reconciliation with this id.
        ValidationFailedError
            The page lies beyond what pages reach, or the cursor is not one of this list.
        """
        scope = f"findings\n{store_id}\n{job_id}\n{wanted.verdict}\n{wanted.state}"
        after = self._cursors.decode(scope, cursor)[0] if cursor is not None else ""
        if cursor is None:
            require_page_within_reach(page, limit)
        given = {"store_id": store_id, "job_id": job_id, "verdict": wanted.verdict, "state": wanted.state}
        async with self._database.store(store_id) as connection:
            await reconciliation_job(connection, store_id, job_id)
            await go_by_indexes(connection)
            offset = 0 if cursor is not None else (page - 1) * limit
            where = {**given, "after": after, "limit": limit + 1, "offset": offset}
            rows = (await connection.execute(_FINDINGS, where)).all()
            total = await connection.scalar(_COUNT, {**given, "after": "", "most": MAX_PAGE_ROWS + 1})
        findings = [Finding.of(row) for row in rows[:limit]]
        more = len(rows) > limit
        next_cursor = self._cursors.encode(scope, [findings[-1].retailer_id]) if more else None
        return FindingPage(findings, int(total or 0), next_cursor)


async def reconciliation_job(connection: AsyncConnection, store_id: str, job_id: str) -> JobView:
    """The job of a reconciliation.

    Raises
    ------
    NotFoundError
        The store has no such reconciliation.
    """
    job = await read_job(connection, store_id, job_id)
    if job is None or job.type != RECONCILIATION:
        raise NotFoundError("No such reconciliation.")
    return job


async def last_reconciliation(
    connection: AsyncConnection, store_id: str, link_id: int
) -> LastReconciliation | None:
    """The newest finished one of the catalog in use."""
    row = (await connection.execute(_LAST, {"store_id": store_id, "link_id": link_id})).first()
    if row is None:
        return None
    return LastReconciliation(row[0], row[1], float((row[2] or {}).get("driftPercent", 0.0)))
