"""The report of an import as CSV, in pieces that are never large."""

from __future__ import annotations

from collections.abc import AsyncIterator

from meta_sync.api.csv_lines import csv_line
from meta_sync.catalog.ingest.imports import ImportFinding

__all__ = ["import_report"]

_LINES_PER_PIECE = 200


async def import_report(findings: AsyncIterator[ImportFinding]) -> AsyncIterator[str]:
    """A head line, then one per finding; safe to open in a spreadsheet."""
    lines = [csv_line(["row", "kind", "itemId", "field", "value", "rule", "message"])]
    async for one in findings:
        cells = [str(one.row), one.kind, one.item_id, one.field, one.value, one.rule, one.message]
        lines.append(csv_line(cells))
        if len(lines) > _LINES_PER_PIECE:
            yield "".join(lines)
            lines = []
    yield "".join(lines)
