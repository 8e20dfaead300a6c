"""Reads jobs for people: those over items and, in the same shape, imports. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.ingest.import_views import IMPORT_COLUMNS, ImportView, import_view
from meta_sync.catalog.models import Lane
from meta_sync.catalog.tables import imports
from meta_sync.connection.models import graph_host
from meta_sync.connection.repository import active_link
from meta_sync.core.paging import MAX_PAGE_ROWS
from meta_sync.stores.repository import load_settings
from meta_sync.stores.settings import missing_keys
from meta_sync.sync.budget import load_budget
from meta_sync.sync.codes import entry_of
from meta_sync.sync.codes_jobs import JobCode
from meta_sync.sync.item_queries import NO_LINK
from meta_sync.sync.job_models import JobAction, JobPage, JobScope, JobView, ScopeKind
from meta_sync.sync.pauses import active_pauses
from meta_sync.sync.status_rules import PREVIEW, TokenFacts, standstill

__all__ = ["explained", "read_job", "read_jobs"]

_VIEW = """
    SELECT job_id, type, status, stage, message, total, looked_at, enqueued, unchanged, requested_by, created_at,
        started_at, finished_at, submitted, synced, failed, skipped, scope, action, lane, dry_run, description, result,
        error_code, rate_from, rate_from_done, rate_mark, rate_mark_done, clock_timestamp()
    FROM jobs WHERE store_id = :store_id
"""
_SCOPE, _ACTION, _LANE = 17, 18, 19
"""Places of columns that are no plain values."""

_ONE = text(f"{_VIEW} AND job_id = :job_id").columns(scope=JSONB, result=JSONB)
_MANY = text(f"{_VIEW} AND job_id = ANY(CAST(:ids AS text[]))").columns(scope=JSONB, result=JSONB)
_NOW = text("SELECT clock_timestamp()")

# The states of an import in the words of jobs.
_IMPORT_STATUS = (
    """CASE i.status WHEN 'uploading' THEN 'queued' WHEN 'fetching' THEN 'running' ELSE i.status END"""
)
_PART = """
    SELECT {at}, {key} AS id, {is_import} AS is_import FROM {table} WHERE {alias}.store_id = :store_id
      AND (CAST(:type AS text) IS NULL OR {type} = :type) AND (CAST(:status AS text) IS NULL OR {status} = :status)
"""
_OF_JOBS = _PART.format(
    at="j.created_at",
    key="j.job_id",
    is_import="false",
    table="jobs AS j",
    alias="j",
    type="j.type",
    status="j.status",
)
_OF_IMPORTS = _PART.format(
    at="i.created_at",
    key="i.import_id",
    is_import="true",
    table="imports AS i",
    alias="i",
    type="'import'",
    status=_IMPORT_STATUS,
)


def _merged(after: str) -> str:
    """The keys of a page. Each part walks its index backwards, no further than the page may reach."""
    last = " ORDER BY {at} DESC, {key} DESC LIMIT :most"
    parts = (
        _OF_JOBS
        + after.format(at="j.created_at", key="j.job_id")
        + last.format(at="j.created_at", key="j.job_id"),
        _OF_IMPORTS
        + after.format(at="i.created_at", key="i.import_id")
        + last.format(at="i.created_at", key="i.import_id"),
    )
    both = " UNION ALL ".join(f"({part})" for part in parts)
    return f"SELECT id, is_import FROM ({both}) AS found ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :offset"


_LIST = text(_merged(""))
_LIST_AFTER = text(_merged(" AND ({at}, {key}) < (CAST(:after_at AS timestamptz), CAST(:after_id AS text))"))
_COUNT = text(
    f"SELECT count(*) FROM (({_OF_JOBS} LIMIT :most) UNION ALL ({_OF_IMPORTS} LIMIT :most)) AS counted"
)


async def read_job(connection: AsyncConnection, store_id: str, job_id: str) -> JobView | None:
    """One job, or one import as a job; ``None`` where the store has neither."""
    row = (await connection.execute(_ONE, {"store_id": store_id, "job_id": job_id})).one_or_none()
    if row is not None:
        return _view(row)
    found = await _imports(connection, store_id, [job_id])
    return found.get(job_id)


async def read_jobs(
    connection: AsyncConnection,
    store_id: str,
    *,
    kind: str | None,
    status: str | None,
    limit: int,
    offset: int,
    after: tuple[str, str] | None,
) -> JobPage:
    """A page of jobs and imports, newest first; ``after``: when the one before was made (ISO 8601), and its id."""
    given = {"store_id": store_id, "type": kind, "status": status}
    where: dict[str, Any] = {**given, "limit": limit + 1, "offset": offset, "most": offset + limit + 1}
    if after is not None:
        where |= {"after_at": datetime.fromisoformat(after[0]), "after_id": after[1]}
    keys = (await connection.execute(_LIST if after is None else _LIST_AFTER, where)).all()
    shown = keys[:limit]
    ids = [row[0] for row in shown if not row[1]]
    rows = await connection.execute(_MANY, {"store_id": store_id, "ids": ids}) if ids else ()
    found = {row[0]: _view(row) for row in rows}
    found |= await _imports(connection, store_id, [row[0] for row in shown if row[1]])
    total = await connection.scalar(_COUNT, {**given, "most": MAX_PAGE_ROWS + 1})
    return JobPage([found[row[0]] for row in shown], int(total or 0), len(keys) > limit)


def _view(row: Any) -> JobView:
    values = list(row)
    values[_SCOPE] = JobScope.from_stored(values[_SCOPE])
    values[_ACTION] = JobAction(values[_ACTION])
    values[_LANE] = Lane(values[_LANE])
    return JobView(*values)


async def _imports(connection: AsyncConnection, store_id: str, ids: Sequence[str]) -> dict[str, JobView]:
    if not ids:
        return {}
    now: datetime = (await connection.execute(_NOW)).scalar_one()
    statement = select(*IMPORT_COLUMNS).where(imports.c.store_id == store_id, imports.c.import_id.in_(ids))
    views = [import_view(row) for row in await connection.execute(statement)]
    return {view.import_id: _as_job(view, now) for view in views}


_STATUSES = {"uploading": "queued", "fetching": "running"}
_STAGES = {"fetching": "fetching", "uploading": "uploading", "queued": "waiting", "running": "reading"}
_FAILURES = {"error": JobCode.IMPORT_STOPPED, "partial": JobCode.ROWS_FAILED}
"""What is said of an import that ended before it had codes."""


def _as_job(view: ImportView, now: datetime) -> JobView:
    counts = view.counts
    written = counts["created"] + counts["changed"]
    settled = written + counts["unchanged"] + counts["skipped"] + counts["failed"]
    return JobView(
        job_id=view.import_id,
        type="import",
        status=_STATUSES.get(view.status, view.status),
        stage=_STAGES.get(view.status, "done"),
        message=view.message,
        total=settled,
        looked_at=settled,
        enqueued=written,
        unchanged=counts["unchanged"],
        requested_by=view.requested_by,
        created_at=view.created_at,
        started_at=view.started_at,
        finished_at=view.finished_at,
        submitted=0,
        synced=0,
        failed=counts["failed"],
        skipped=counts["skipped"],
        scope=JobScope(ScopeKind.FILE),
        action=JobAction.IMPORT,
        lane=Lane.CONTENT,
        dry_run=view.dry_run,
        description=view.file_name,
        result=None,
        error_code=view.error_code or _FAILURES.get(view.status),
        rate_from=view.started_at,
        rate_from_done=0,
        rate_mark=None,
        rate_mark_done=0,
        seen_at=now,
        progress=view.progress,
    )


_TOKEN = text(
    """
    SELECT account_id, scopes, expires_at, created_at, dead_at, dead_code, dead_reason
    FROM credentials WHERE store_id = :store_id AND active
    """
)


async def explained(
    connection: AsyncConnection, store_id: str, jobs: Sequence[JobView], graph_url: str
) -> list[JobView]:
    """The jobs, those that wait for a store that stands still with the reason as their message."""
    if not any(_sends(job) for job in jobs):
        return list(jobs)
    said = await _why(connection, store_id, graph_url)
    if said is None:
        return list(jobs)
    return [replace(job, message=said, is_paused=True) if _sends(job) else job for job in jobs]


def _sends(job: JobView) -> bool:
    return not (job.is_over or job.dry_run or job.is_import or job.is_reading)


def _sentence(reason: str, until: datetime | None) -> str:
    entry = entry_of(reason)
    ends = f" It goes on at {until.astimezone(UTC):%H:%M:%S} UTC." if until is not None else ""
    return f"Paused: {entry.sentence}{ends} {entry.action}"


async def _why(connection: AsyncConnection, store_id: str, graph_url: str) -> str | None:
    """What keeps the store from sending, in words."""
    settings, _ = await load_settings(connection, store_id)
    link = await active_link(connection, store_id)
    link_id = link.link_id if link is not None else NO_LINK
    is_elsewhere = link is not None and link.graph_host != graph_host(graph_url)
    token = (await connection.execute(_TOKEN, {"store_id": store_id})).first()
    reason, until = standstill(
        None if token is None else TokenFacts(token[0], tuple(token[1]), *token[2:]),
        settings,
        is_incomplete=bool(missing_keys(settings, link is not None)) or is_elsewhere,
        pauses=await active_pauses(connection, store_id, link_id),
        budget=await load_budget(connection, link_id) if link is not None else None,
        now=(await connection.execute(_NOW)).scalar_one(),
    )
    if reason is not None:
        return _sentence(reason, until)
    return _sentence(PREVIEW, None) if settings.feed_mode == "preview" else None
