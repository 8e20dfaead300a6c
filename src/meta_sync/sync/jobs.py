"""Long work over all variants of a store, worked off by cursor: bootstrap and re-evaluation.

A page is one transaction that moves the cursor with what it wrote, so a crash repeats nothing and loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import CatalogItem
from meta_sync.connection.repository import active_link
from meta_sync.core.config import Settings
from meta_sync.core.crypto import Cipher
from meta_sync.core.db import Database, retry_transaction
from meta_sync.core.errors import ConflictError, NotFoundError
from meta_sync.core.failpoints import failpoint
from meta_sync.core.ids import new_id
from meta_sync.core.queue import JobName, JobQueue
from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.context import Standstill, StoreContext, load_context
from meta_sync.sync.decide import decide, known_presence
from meta_sync.sync.drain import database_time
from meta_sync.sync.mapping import Mapper
from meta_sync.sync.models import NEW_ITEM, DecisionKind, ItemState, Link, Presence, Status
from meta_sync.sync.outbox import mark_due
from meta_sync.sync.reading import read_items

__all__ = ["JobRunner", "JobService", "JobView", "StartedJob", "insert_job", "is_in_scope", "needs_intent"]

_PAGE = 2_000
"""Variants per page: some tens of milliseconds in one transaction, so that writers never wait for it."""

_LEASE_SECONDS = 60

_TRIES_WAITED_FOR = 5
"""How often Meta may end an item's batch without a verdict before a job ends without the item: half an hour of waits. A
job that lasted as long as a fault of Meta's would tell nobody anything, and keep a further one from being started."""

# Tombstones are looked up one by one, in the form that core.lookups explains: a join would compare every variant with
# every state of a fresh store.
_INSERT = text(
    """
    INSERT INTO jobs (job_id, store_id, link_id, type, status, description, requested_by, mapping_epoch, total)
    SELECT :job_id, :store_id, :link_id, :type, 'queued', :description, :requested_by, s.mapping_epoch,
        (SELECT count(*) FROM variants AS v
         WHERE v.store_id = :store_id AND (v.deleted_at IS NULL OR (
             SELECT t.status IN ('never_synced', 'pending') OR t.retailer_id IS NOT NULL AND (t.presence <> 'absent' OR t.confirmed_epoch IS DISTINCT FROM (
                 SELECT l.epoch FROM catalog_links AS l WHERE l.link_id = :link_id
             ))
             FROM sync_state AS t
             WHERE t.link_id = :link_id AND t.variant_id >= v.variant_id AND t.variant_id <= v.variant_id
             ORDER BY t.variant_id LIMIT 1
         )))
    FROM stores AS s WHERE s.store_id = :store_id
    RETURNING total
    """
)
_RUNNING = text(
    """
    SELECT job_id FROM jobs
    WHERE store_id = :store_id AND type = :type AND status IN ('queued', 'running', 'cancelling')
    """
)
_VIEW = """
    SELECT job_id, type, status, stage, message, total, looked_at, enqueued, unchanged, error, requested_by,
        created_at, started_at, finished_at FROM jobs WHERE store_id = :store_id
"""
# Those never looked at first, then those not looked at for the longest: jobs that wait for a store that stands still
# keep no other store's from moving.
_LEASE = text(
    f"""
    UPDATE jobs AS j SET status = 'running', leased_until = now() + make_interval(secs => {_LEASE_SECONDS}),
        fence = j.fence + 1, started_at = COALESCE(j.started_at, now())
    WHERE j.job_id = (
        SELECT job_id FROM jobs
        WHERE status IN ('queued', 'running') AND (leased_until IS NULL OR leased_until < now())
        ORDER BY leased_until NULLS FIRST, created_at, job_id LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING j.job_id, j.store_id, j.link_id, j.type, j.cursor, j.mapping_epoch, j.fence, j.stage
    """
)
_ENQUEUE = text(
    """
    INSERT INTO intents (store_id, variant_id, version, lane, first_at, job_id)
    SELECT :store_id, u.variant_id, nextval('version_seq'), 2, now(), :job_id
    FROM unnest(CAST(:variant_ids AS text[])) AS u (variant_id) ORDER BY u.variant_id COLLATE "C"
    ON CONFLICT (store_id, variant_id) DO NOTHING
    """
)
_STATES = text(
    """
    INSERT INTO sync_state (link_id, variant_id, store_id, status)
    SELECT :link_id, u.variant_id, :store_id, 'pending'
    FROM unnest(CAST(:variant_ids AS text[])) AS u (variant_id)
    WHERE NOT EXISTS (SELECT FROM sync_state AS s WHERE s.link_id = :link_id AND s.variant_id = u.variant_id)
    ORDER BY u.variant_id COLLATE "C"
    ON CONFLICT (link_id, variant_id) DO NOTHING
    """
)
_INTENDED = text(
    """
    UPDATE sync_state SET status = 'pending'
    WHERE link_id = :link_id AND variant_id = ANY(CAST(:variant_ids AS text[])) AND status = 'never_synced'
    """
)
# The page belongs to us only while nobody restarted or took the job over.
_ADVANCE = text(
    f"""
    UPDATE jobs SET cursor = :cursor, looked_at = looked_at + :looked_at, enqueued = enqueued + :enqueued,
        unchanged = unchanged + :unchanged, stage = :stage,
        leased_until = now() + make_interval(secs => {_LEASE_SECONDS})
    WHERE job_id = :job_id AND fence = :fence AND mapping_epoch IS NOT DISTINCT FROM :mapping_epoch
      AND status = 'running'
    RETURNING 1
    """
)
_UNLEASE = text(
    """
    UPDATE jobs SET leased_until = now() + make_interval(secs => :seconds)
    WHERE job_id = :job_id AND fence = :fence AND status = 'running'
    """
)
# Everything it asked for has been decided, with what waited already when it began (a first sync finds the intents of
# the products that were put before). What is sent from now on is no matter of the job.
_NOTE_LAST_BATCH = text(
    """
    UPDATE jobs AS j SET last_batch_id = (
        SELECT COALESCE(max(b.batch_id), 0) FROM batches AS b WHERE b.store_id = j.store_id
    )
    WHERE j.job_id = :job_id AND j.fence = :fence AND j.stage = 'syncing' AND j.last_batch_id IS NULL
      AND NOT EXISTS (
          SELECT FROM intents AS i
          WHERE i.store_id = j.store_id AND (i.job_id = j.job_id OR i.first_at <= j.started_at)
      )
    """
)
# Done when nothing that was sent by then is open. The stage is looked at again: a setting that changed since the lease
# has sent the job back to its first row. Items that Meta gave no verdict on are waited for through their retry times,
# intents and further batches; after some tries the job says how many there are and ends.
_FINISH = text(
    f"""
    UPDATE jobs AS j SET finished_at = now(), stage = 'done', leased_until = NULL,
        status = CASE WHEN w.items > 0 OR EXISTS (
            SELECT FROM sync_state AS s WHERE s.link_id = j.link_id AND s.status = 'failed'
        ) THEN 'partial' ELSE 'success' END,
        message = CASE WHEN w.items > 0 THEN
            'Items of which Meta has ended every batch without a verdict so far: ' || w.items
            || '. They are tried again, at least once an hour.' ELSE j.message END
    FROM (
        SELECT count(*) AS items, count(*) FILTER (WHERE s.retries < {_TRIES_WAITED_FOR}) AS waited_for
        FROM sync_state AS s JOIN jobs AS x ON x.link_id = s.link_id
        WHERE x.job_id = :job_id AND s.retries > 0 AND (
            s.retry_at IS NOT NULL OR s.in_flight IS NOT NULL
            OR EXISTS (SELECT FROM intents AS i WHERE i.store_id = s.store_id AND i.variant_id = s.variant_id)
        )
    ) AS w
    WHERE w.waited_for = 0 AND j.job_id = :job_id AND j.fence = :fence AND j.status = 'running' AND j.stage = 'syncing'
      AND NOT EXISTS (
          SELECT FROM batches AS b
          WHERE b.link_id = j.link_id AND b.batch_id <= j.last_batch_id AND b.state NOT IN ('over', 'given_up')
      ) AND j.last_batch_id IS NOT NULL
    RETURNING 1
    """
)
_LINK_GONE = text(
    """
    UPDATE jobs SET status = 'cancelled', finished_at = now(), leased_until = NULL,
        message = 'The store uses another catalog now.'
    WHERE job_id = :job_id AND fence = :fence
    """
)


@dataclass(frozen=True, slots=True)
class StartedJob:
    """A job that was started, and how many rows are in its scope."""

    job_id: str
    total: int


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as a person sees it."""

    job_id: str
    type: str
    status: str
    stage: str
    message: str | None
    total: int
    looked_at: int
    enqueued: int
    unchanged: int
    error: str | None
    requested_by: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Leased:
    job_id: str
    store_id: str
    link_id: int
    type: str
    cursor: str | None
    mapping_epoch: int | None
    fence: int
    stage: str


async def insert_job(
    connection: AsyncConnection, store_id: str, link_id: int, kind: str, *, requested_by: str | None
) -> StartedJob:
    """Write a job that waits to be worked on, in the caller's transaction.

    Raises
    ------
    IntegrityError
        The store has an unfinished job of this kind.
    """
    job_id = new_id("job")
    await expect_lookups(connection)
    total = await connection.scalar(
        _INSERT,
        {
            "job_id": job_id,
            "store_id": store_id,
            "link_id": link_id,
            "type": kind,
            "description": None,
            "requested_by": requested_by,
        },
    )
    return StartedJob(job_id, int(total or 0))


class JobService:
    """Starts and shows jobs."""

    def __init__(self, database: Database, queue: JobQueue) -> None:
        self._database = database
        self._queue = queue

    async def start_bootstrap(self, store_id: str, *, requested_by: str | None) -> StartedJob:
        """Look at every variant of the store again; what Meta has confirmed already costs nothing.

        Raises
        ------
        ConflictError
            No catalog is selected, or a bootstrap is running.
        """
        try:
            async with self._database.store(store_id) as connection:
                link = await active_link(connection, store_id)
                if link is None:
                    raise ConflictError(
                        "No Meta catalog is selected yet. Store a token and select a catalog first.",
                        code="meta_not_connected",
                    )
                started = await insert_job(
                    connection, store_id, link.link_id, "bootstrap", requested_by=requested_by
                )
        except IntegrityError:
            running = await self._running(store_id, "bootstrap")
            raise ConflictError(f"A bootstrap is running already: {running}.") from None
        await self._queue.wake(JobName.JOBS)
        return started

    async def _running(self, store_id: str, kind: str) -> str | None:
        async with self._database.store(store_id) as connection:
            found: str | None = await connection.scalar(_RUNNING, {"store_id": store_id, "type": kind})
            return found

    async def get(self, store_id: str, job_id: str) -> JobView:
        """One job of the store.

        Raises
        ------
        NotFoundError
            The store has no such job.
        """
        async with self._database.store(store_id) as connection:
            row = (
                await connection.execute(
                    text(f"{_VIEW} AND job_id = :job_id"), {"store_id": store_id, "job_id": job_id}
                )
            ).one_or_none()
        if row is None:
            raise NotFoundError("No such job.")
        return JobView(*row)

    async def list(self, store_id: str, *, limit: int = 50) -> Sequence[JobView]:
        """The store's jobs, newest first."""
        async with self._database.store(store_id) as connection:
            rows = await connection.execute(
                text(f"{_VIEW} ORDER BY created_at DESC, job_id LIMIT :limit"),
                {"store_id": store_id, "limit": limit},
            )
            return [JobView(*row) for row in rows]


def needs_intent(
    decision: DecisionKind, reason: str | None, state: ItemState, *, is_first_look: bool = False
) -> bool:
    """Whether a re-evaluated item has to be looked at by the drain.

    An item in flight always has: what it carries was mapped by the settings before.
    """
    if state.in_flight is not None or is_first_look:
        return True
    if decision in {DecisionKind.UPSERT, DecisionKind.DELETE}:
        return True
    if decision is DecisionKind.SKIP:
        return state.status is not Status.SKIPPED or state.code != reason
    return decision is DecisionKind.NOOP and state.status is not Status.SYNCED


_WAITING = frozenset({Status.NEVER_SYNCED, Status.PENDING})


def is_in_scope(item: CatalogItem, state: ItemState, link: Link) -> bool:
    """Whether a look at everything is about the item: it lives, or this link has sent it and it may still be at Meta.

    What was absent when the store went to another catalog may be there again since (a restored backup, a person), so
    a tombstone of an older epoch counts too. So does one whose row still says that it waits: its variant went while the
    store used another catalog.
    """
    if not (item.variant_deleted or item.product_deleted):
        return True
    if state is not NEW_ITEM and state.status in _WAITING:
        return True
    return state.retailer_id is not None and known_presence(state, link) is not Presence.ABSENT


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
            row = (await connection.execute(_LEASE)).one_or_none()
        if row is None:
            return False
        job = _Leased(*row)
        if job.stage == "syncing":
            return await self._finish(job)
        more = await retry_transaction(lambda: self._page(job))
        await failpoint("job.after_page")
        await self._queue.wake(JobName.DRAIN)
        return more

    async def _finish(self, job: _Leased) -> bool:
        async with self._database.platform() as connection:
            identity = {"job_id": job.job_id, "fence": job.fence}
            await connection.execute(_NOTE_LAST_BATCH, identity)
            if await connection.scalar(_FINISH, identity) is None:
                await self._give_back(connection, job, self._look_seconds)
        return True

    async def _give_back(self, connection: AsyncConnection, job: _Leased, seconds: float) -> None:
        await connection.execute(_UNLEASE, {"job_id": job.job_id, "fence": job.fence, "seconds": seconds})

    async def _page(self, job: _Leased) -> bool:
        async with self._database.platform() as connection:
            active = await active_link(connection, job.store_id)
            if active is None or active.link_id != job.link_id:
                await connection.execute(_LINK_GONE, {"job_id": job.job_id, "fence": job.fence})
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
                _ADVANCE,
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
                await connection.execute(_ENQUEUE, identity)
                await connection.execute(_STATES, identity)
                await connection.execute(_INTENDED, identity)
                await mark_due(connection, job.store_id)
            await self._give_back(connection, job, 0)
        return True

    async def _wanted(
        self,
        connection: AsyncConnection,
        job: _Leased,
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
