"""Reading the audit log: newest first, by page or cursor, filtered and searched. Writes nothing.

One filter at most is looked up in an index; the others, and the search, sieve what it finds. So that a page costs the
same however large the log is, it looks at no more than the next ten thousand entries, and says where to go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import TextClause, TextualSelect, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.core.db import Database
from meta_sync.core.paging import MAX_PAGE_ROWS, CursorCodec, require_page_within_reach
from meta_sync.stores.audit import THE_INSTALLATION

__all__ = ["AuditEntry", "AuditFilter", "AuditLogService", "AuditPage"]

_LOOKED_AT = MAX_PAGE_ROWS + 1
"""Entries that one page looks at, at most."""
_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
_END = (datetime(9999, 12, 31, tzinfo=UTC), 2**63 - 1)
"""Behind every entry."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; all of them without any of these.

    Attributes
    ----------
    since, until
        Entries at or after the one and before the other.
    search
        Entries with this text in action, actor or target's id, whatever its case.
    """

    action: str | None = None
    actor: str | None = None
    target: str | None = None
    target_type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    search: str | None = None

    @property
    def key(self) -> str | None:
        """The column whose index serves it: that of the filter that leaves the fewest, usually."""
        given = (("target_id", self.target), ("action", self.action), ("actor", self.actor))
        return next((column for column, value in given if value is not None), None)

    @property
    def is_sieved(self) -> bool:
        """Whether there is more to it than one filter with an index and times."""
        exact = sum(one is not None for one in (self.target, self.action, self.actor))
        return exact > 1 or self.target_type is not None or self.search is not None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action: who did what to what, when, and what it changed as far as it may be told."""

    audit_id: int
    at: datetime
    actor: str
    action: str
    target_type: str
    target_id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of entries.

    Attributes
    ----------
    total
        Entries that fit, counted among the newest ten thousand.
    next_cursor
        Where to go on. Of a sieved list it may lead on from a page that is not full, or empty.
    """

    entries: list[AuditEntry]
    total: int
    is_total_exact: bool
    next_cursor: str | None


# Where the planner takes the log for small, fetching all that fits and sorting it looks as cheap as reading on in order.
_IN_ORDER_ONLY = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),"
    " set_config('enable_sort', 'off', true)"
)
# The column is compared as a part of a row, never by itself, and so the order names it as well: only the right index has
# that order, whatever the planner believes of the table (core.lookups), and a page begins at its place in it.
_NEXT = """
    SELECT audit_id, at, actor, action, target_type, target_id, before, after, request_id FROM audit_log
    WHERE store_id = :store_id AND ({key}at) >= ({value}:since) AND ({key}at, audit_id) < ({value}:until, :until_id)
    ORDER BY {key_down}at DESC, audit_id DESC LIMIT :looked_at
"""
_FITS = """
    (CAST(:action AS text) IS NULL OR action = :action)
    AND (CAST(:actor AS text) IS NULL OR actor = :actor)
    AND (CAST(:target AS text) IS NULL OR target_id = :target)
    AND (CAST(:target_type AS text) IS NULL OR target_type = :target_type)
    AND (CAST(:search AS text) IS NULL
         OR strpos(lower(concat_ws(E'\\n', action, actor, target_id)), lower(CAST(:search AS text))) > 0)
"""


def _next(key: str | None) -> str:
    if key is None:
        return _NEXT.format(key="", value="", key_down="")
    return _NEXT.format(key=f"{key}, ", value="CAST(:key AS text), ", key_down=f"{key} DESC, ")


_KEYS = (None, "target_id", "action", "actor")
_PAGE: Mapping[str | None, TextualSelect] = {
    key: text(f"SELECT * FROM ({_next(key)}) AS n WHERE {_FITS} LIMIT :most OFFSET :skipped").columns(
        before=JSONB, after=JSONB
    )
    for key in _KEYS
}
_COUNT: Mapping[str | None, TextClause] = {
    key: text(f"SELECT count(*), count(*) FILTER (WHERE {_FITS}) FROM ({_next(key)}) AS n") for key in _KEYS
}
_LAST_LOOKED_AT: Mapping[str | None, TextClause] = {
    key: text(f"SELECT at, audit_id FROM ({_next(key)}) AS n LIMIT 1 OFFSET :looked_at - 1") for key in _KEYS
}


class AuditLogService:
    """Shows the audit log of a store, or what of the installation belongs to none."""

    def __init__(self, database: Database, cursors: CursorCodec) -> None:
        self._database = database
        self._cursors = cursors

    async def list(
        self,
        store_id: str,
        wanted: AuditFilter = AuditFilter(),
        *,
        page: int = 1,
        limit: int = 50,
        cursor: str | None = None,
    ) -> AuditPage:
        """A page of entries, newest first; a cursor rules over the number of the page.

        ``THE_INSTALLATION`` in place of a store's id shows what belongs to no store.

        Raises
        ------
        ValidationFailedError
            The cursor is not one of this list, or the page lies beyond what pages reach.
        """
        scope = f"audit-log\n{store_id}\n{astuple(wanted)!r}"
        given = _parameters(store_id, wanted)
        place, skipped = given, 0
        if cursor is None:
            require_page_within_reach(page, limit)
            skipped = (page - 1) * limit
        else:
            at, audit_id = self._cursors.decode(scope, cursor)
            place = {**given, "until": datetime.fromisoformat(at), "until_id": audit_id}
        async with self._transaction(store_id) as connection:
            await connection.execute(_IN_ORDER_ONLY)
            looked_at, fitting = (await connection.execute(_COUNT[wanted.key], given)).one()
            rows = await connection.execute(
                _PAGE[wanted.key], {**place, "most": limit + 1, "skipped": skipped}
            )
            found = [AuditEntry(*row) for row in rows]
            shown = found[:limit]
            last: tuple[datetime, int] | None = None
            if len(found) > limit:
                last = shown[-1].at, shown[-1].audit_id
            elif wanted.is_sieved:
                last = await _last_looked_at(connection, wanted, place)
        return AuditPage(
            shown,
            min(fitting, MAX_PAGE_ROWS),
            looked_at <= MAX_PAGE_ROWS,
            self._cursors.encode(scope, [last[0].isoformat(), last[1]]) if last is not None else None,
        )

    def _transaction(self, store_id: str) -> AbstractAsyncContextManager[AsyncConnection]:
        if store_id == THE_INSTALLATION:
            return self._database.platform()
        return self._database.store(store_id)


def _parameters(store_id: str, wanted: AuditFilter) -> dict[str, Any]:
    given: dict[str, Any] = {
        "store_id": store_id,
        "action": wanted.action,
        "actor": wanted.actor,
        "target": wanted.target,
        "target_type": wanted.target_type,
        "search": wanted.search,
        "since": wanted.since or _BEGINNING,
        # Nothing at the very instant: ids begin above zero.
        "until": wanted.until or _END[0],
        "until_id": 0 if wanted.until is not None else _END[1],
        "looked_at": _LOOKED_AT,
    }
    if wanted.key is not None:
        given["key"] = given["target" if wanted.key == "target_id" else wanted.key]
    return given


async def _last_looked_at(
    connection: AsyncConnection, wanted: AuditFilter, place: dict[str, Any]
) -> tuple[datetime, int] | None:
    """The place of the last entry that a page looked at, where it did not look at all there are."""
    row = (await connection.execute(_LAST_LOOKED_AT[wanted.key], place)).first()
    return None if row is None else (row[0], row[1])
