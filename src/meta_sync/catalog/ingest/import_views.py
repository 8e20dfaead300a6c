"""Reading imports and their findings for people. Takes a connection and never commits."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.ingest.import_limits import SHOWN_ERRORS
from meta_sync.catalog.ingest.import_tally import COUNT_NAMES
from meta_sync.catalog.tables import import_findings, imports

__all__ = ["IMPORT_COLUMNS", "ImportFinding", "ImportView", "import_view", "page_of_findings", "read_import"]

_REPORT_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class ImportFinding:
    """One line of the report."""

    row: int
    kind: str
    """``failure``, ``skip`` or ``warning``; ``create``, ``change`` or ``delete`` for what became of an item."""
    field: str
    message: str
    item_id: str | None
    rule: str | None
    """A stable word for the reason."""
    value: str | None
    """What the file says there, cut."""


@dataclass(slots=True)
class ImportView:
    """One import as it stands."""

    import_id: str
    status: str
    """``fetching``, ``uploading``, ``queued``, ``running``, ``success``, ``partial`` (some rows failed, or nothing could
    be deleted), ``error`` or ``cancelled`` (somebody called it off)."""
    format: str | None
    mode: str
    source: str | None
    file_name: str | None
    size_bytes: int
    progress: int
    """Percent of the file that is settled."""
    counts: dict[str, int]
    """The names of the API, in its order."""
    message: str | None
    error_code: str | None
    """A code of the API's error table, where one fits."""
    dry_run: bool
    allow_mass_delete: bool
    requested_by: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    errors: list[ImportFinding] = field(default_factory=list)
    """The first 100 failures."""

    @property
    def is_over(self) -> bool:
        """Nothing about it will change any more."""
        return self.status in {"success", "partial", "error", "cancelled"}


_FINDING_COLUMNS = (
    import_findings.c.finding_number,
    import_findings.c.row,
    import_findings.c.kind,
    import_findings.c.field,
    import_findings.c.message,
    import_findings.c.item_id,
    import_findings.c.rule,
    import_findings.c.value,
)
IMPORT_COLUMNS = (
    imports.c.import_id,
    imports.c.status,
    func.coalesce(imports.c.format, imports.c.requested_format),
    imports.c.mode,
    imports.c.source,
    imports.c.file_name,
    imports.c.size_bytes,
    imports.c.bytes_read,
    imports.c.counts,
    imports.c.message,
    imports.c.error_code,
    imports.c.dry_run,
    imports.c.allow_mass_delete,
    imports.c.requested_by,
    imports.c.created_at,
    imports.c.started_at,
    imports.c.finished_at,
)


async def read_import(connection: AsyncConnection, store_id: str, import_id: str) -> ImportView | None:
    """One import with its first errors, or ``None`` when the store has no such import."""
    statement = select(*IMPORT_COLUMNS).where(
        imports.c.store_id == store_id, imports.c.import_id == import_id
    )
    row = (await connection.execute(statement)).first()
    if row is None:
        return None
    view = import_view(row)
    failures = (
        select(*_FINDING_COLUMNS)
        .where(import_findings.c.import_id == import_id, import_findings.c.kind == "failure")
        .order_by(import_findings.c.finding_number)
        .limit(SHOWN_ERRORS)
    )
    view.errors = [ImportFinding(*found[1:]) for found in await connection.execute(failures)]
    return view


async def page_of_findings(
    connection: AsyncConnection, import_id: str, *, after: int
) -> list[tuple[int, ImportFinding]]:
    """Findings with their numbers, those after the given number; empty after the last."""
    rows = await connection.execute(
        select(*_FINDING_COLUMNS)
        .where(import_findings.c.import_id == import_id, import_findings.c.finding_number > after)
        .order_by(import_findings.c.finding_number)
        .limit(_REPORT_PAGE)
    )
    return [(row[0], ImportFinding(*row[1:])) for row in rows]


def import_view(row: Any) -> ImportView:
    """A row of ``IMPORT_COLUMNS`` as it is shown."""
    import_id, status, format_name, mode, source, file_name, size_bytes, bytes_read, counts, *rest = row
    settled = 100 * bytes_read // size_bytes if size_bytes else 0
    return ImportView(
        import_id,
        status,
        format_name,
        mode,
        source,
        file_name,
        size_bytes,
        100 if status in {"success", "partial"} else min(settled, 99),
        {name: counts.get(name, 0) for name in COUNT_NAMES},
        *rest,
    )
