"""Batches as a person sees them: their life, their calls, and what became of each of their items. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import Lane
from meta_sync.core.db import Database
from meta_sync.core.errors import NotFoundError
from meta_sync.core.paging import MAX_PAGE_ROWS, CursorCodec, require_page_within_reach
from meta_sync.sync.attempts import OUTCOME, AttemptOutcome
from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.models import DELETE_HASH

__all__ = [
    "BatchCall",
    "BatchDetail",
    "BatchPage",
    "BatchRecord",
    "BatchState",
    "BatchSummary",
    "HandlesService",
]

_MOST_CALLS = 100
_MOST_ID = 2**63 - 1


class BatchState(StrEnum):
    """Where a batch is in its life."""

    SENDING = "sending"
    OPEN = "open"
    UNKNOWN = "unknown"
    GIVEN_UP = "given_up"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """One batch. The order of the fields is that of the columns."""

    batch_id: int
    handle: str | None
    state: BatchState
    lane: Lane
    catalog_id: str
    sent: int
    accepted: int
    rejected: int
    unknown: int
    calls: int
    polls: int
    body_bytes: int
    created_at: datetime
    sent_at: datetime | None
    finished_at: datetime | None
    due_at: datetime | None
    error_code: str | None
    error_text: str | None


@dataclass(frozen=True, slots=True)
class BatchCall:
    """One call of a batch; the same bytes may have gone out more than once."""

    number: int
    state: str
    handle: str | None
    started_at: datetime
    error_code: str | None
    error_text: str | None


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One item of a batch."""

    variant_id: str
    retailer_id: str
    method: str
    outcome: AttemptOutcome
    error_text: str | None
    payload_hash: bytes | None


@dataclass(frozen=True, slots=True)
class BatchPage:
    """A page of batches."""

    batches: list[BatchSummary]
    total: int
    is_total_exact: bool
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class BatchDetail:
    """One batch with its calls and a page of its items."""

    batch: BatchSummary
    calls: list[BatchCall]
    items: list[BatchRecord]
    total: int
    is_total_exact: bool
    next_cursor: str | None


_COLUMNS = """
    b.batch_id, b.handle, b.state, b.lane, b.catalog_id, b.sent, b.accepted, b.rejected, b.unknown, b.calls, b.polls,
    b.body_bytes, b.created_at, b.sent_at, b.finished_at, b.due_at, b.error_code, b.error_text
"""
_ALL = "FROM batches AS b WHERE b.store_id = :store_id"
_OVER = f"{_ALL} AND b.state = 'over'"
# Few are under way, and they are found without a look at those that are over.
_UNFINISHED = """
    FROM catalog_links AS l JOIN batches AS b ON b.link_id = l.link_id AND b.state <> 'over'
    WHERE l.store_id = :store_id AND b.store_id = :store_id AND b.state = :state
"""
_ONE = text(f"SELECT {_COLUMNS}, b.created_on {_ALL} AND b.batch_id = :batch_id")
_CALLS = text(
    f"""
    SELECT c.call_number, c.state, c.handle, c.started_at, c.error_code, c.error_text FROM batch_calls AS c
    WHERE c.batch_id = :batch_id AND c.store_id = :store_id ORDER BY c.call_number DESC LIMIT {_MOST_CALLS}
    """
)
_OF_BATCH = """
    FROM batch_items AS a JOIN batches AS b ON b.batch_id = a.batch_id
    WHERE a.created_on = :created_on AND a.batch_id = :batch_id AND a.store_id = :store_id
"""


class HandlesService:
    """Answers questions about batches."""

    def __init__(self, database: Database, cursors: CursorCodec) -> None:
        self._database = database
        self._cursors = cursors

    async def list(
        self,
        store_id: str,
        *,
        state: BatchState | None = None,
        page: int = 1,
        limit: int = 50,
        cursor: str | None = None,
    ) -> BatchPage:
        """A page of the store's batches, newest first.

        Raises
        ------
        ValidationFailedError
            The page lies beyond what pages reach, or the cursor is not one of this list.
        """
        scope = f"handles\n{store_id}\n{state}"
        before, offset = self._place(scope, cursor, page, limit)
        source = _ALL
        if state is not None:
            source = _OVER if state is BatchState.OVER else _UNFINISHED
        values: dict[str, Any] = {"store_id": store_id}
        if source == _UNFINISHED:
            values["state"] = state
        place = "" if before is None else " AND b.batch_id < :before"
        statement = f"SELECT {_COLUMNS} {source}{place} ORDER BY b.batch_id DESC LIMIT :limit OFFSET :offset"
        given = values if before is None else {**values, "before": before}
        async with self._database.store(store_id) as connection:
            await expect_lookups(connection)
            rows = await connection.execute(text(statement), {**given, "limit": limit + 1, "offset": offset})
            found = [_summary(row) for row in rows]
            total = await _count(connection, source, values)
        next_cursor = None
        if len(found) > limit:
            next_cursor = self._cursors.encode(scope, [found[limit - 1].batch_id])
        return BatchPage(found[:limit], min(total, MAX_PAGE_ROWS), total <= MAX_PAGE_ROWS, next_cursor)

    async def detail(
        self,
        store_id: str,
        batch_id: str,
        *,
        outcome: AttemptOutcome | None = None,
        page: int = 1,
        limit: int = 50,
        cursor: str | None = None,
    ) -> BatchDetail:
        """One batch, its newest calls, and a page of its items in the order of their ids.

        Raises
        ------
        NotFoundError
            The store has no such batch, or it is older than batches are kept.
        ValidationFailedError
            The page lies beyond what pages reach, or the cursor is not one of this list.
        """
        number = int(batch_id) if batch_id.isascii() and batch_id.isdecimal() else _MOST_ID + 1
        if number > _MOST_ID:
            raise _not_found()
        scope = f"handle\n{store_id}\n{number}\n{outcome}"
        after, offset = self._place(scope, cursor, page, limit)
        values: dict[str, Any] = {"store_id": store_id, "batch_id": number}
        async with self._database.store(store_id) as connection:
            await expect_lookups(connection)
            row = (await connection.execute(_ONE, values)).one_or_none()
            if row is None:
                raise _not_found()
            calls = [BatchCall(*one) for one in await connection.execute(_CALLS, values)]
            values["created_on"] = row[-1]
            source = _OF_BATCH
            if outcome is not None:
                source += f" AND {OUTCOME} = :outcome"
                values["outcome"] = outcome
            place = "" if after is None else " AND a.variant_id > :after"
            statement = (
                f"SELECT a.variant_id, a.retailer_id, a.method, {OUTCOME}, a.error_text, a.payload_hash"
                f" {source}{place} ORDER BY a.variant_id LIMIT :limit OFFSET :offset"
            )
            given = values if after is None else {**values, "after": after}
            records = [
                _record(one)
                for one in await connection.execute(
                    text(statement), {**given, "limit": limit + 1, "offset": offset}
                )
            ]
            total = await _count(connection, source, values)
        next_cursor = None
        if len(records) > limit:
            next_cursor = self._cursors.encode(scope, [records[limit - 1].variant_id])
        return BatchDetail(
            _summary(row[:-1]),
            calls,
            records[:limit],
            min(total, MAX_PAGE_ROWS),
            total <= MAX_PAGE_ROWS,
            next_cursor,
        )

    def _place(self, scope: str, cursor: str | None, page: int, limit: int) -> tuple[Any, int]:
        """What the page lies beyond, or how many rows it skips."""
        if cursor is not None:
            return self._cursors.decode(scope, cursor)[0], 0
        require_page_within_reach(page, limit)
        return None, (page - 1) * limit


async def _count(connection: AsyncConnection, source: str, values: dict[str, Any]) -> int:
    counted = text(f"SELECT count(*) FROM (SELECT 1 {source} LIMIT :most) AS counted")
    return int(await connection.scalar(counted, {**values, "most": MAX_PAGE_ROWS + 1}) or 0)


def _summary(row: Any) -> BatchSummary:
    values = list(row)
    values[2], values[3] = BatchState(values[2]), Lane(values[3])
    return BatchSummary(*values)


def _record(row: Any) -> BatchRecord:
    variant_id, retailer_id, method, outcome, said, digest = row
    return BatchRecord(
        variant_id,
        retailer_id,
        method,
        AttemptOutcome(outcome),
        said,
        None if digest == DELETE_HASH else digest,
    )


def _not_found() -> NotFoundError:
    return NotFoundError("There is no such batch in this store, or it is older than batches are kept.")
