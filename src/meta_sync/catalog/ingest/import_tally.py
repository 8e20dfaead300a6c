"""What an import has counted and found so far: written with every chunk, so that a restart goes on exactly there. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from meta_sync.catalog.ingest.rows import Parsed, RowFailure, RowSkip, RowWarning

__all__ = ["COUNT_NAMES", "Finding", "Tally"]

COUNT_NAMES = ("rows", "products", "variants", "created", "changed", "unchanged", "skipped", "failed")
"""What the API shows, in its order."""

_MAX_STORED = {"failure": 10_000, "skip": 10_000, "warning": 1_000}
"""Findings kept for the report. The counters stay exact beyond."""

Finding = tuple[int, str, int, str, str, str | None]
"""Number, kind, row, field, message, item id."""


@dataclass(slots=True)
class Tally:
    """Counters of one import.

    ``created + changed + unchanged + skipped + failed`` is the number of items that the file's settled rows name.
    """

    rows: int = 0
    """Number of the last row read, the header not counted."""
    products: int = 0
    variants: int = 0
    """Items that went in."""
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0
    entries: int = 0
    """Parsed entries that are settled; a restart reads the file again and passes over them."""
    parent_entries: int = 0
    """The same for the pass over the parents."""
    parents_done: bool = False
    findings: int = 0
    stored: dict[str, int] = field(default_factory=dict)

    @classmethod
    def restored(cls, stored: dict[str, Any]) -> Tally:
        """From the stored form; an empty one is a fresh start."""
        return cls(**stored)

    def to_stored(self) -> dict[str, Any]:
        """For the import's row."""
        return asdict(self)

    def copy(self) -> Tally:
        """One that can be thrown away with its transaction."""
        return Tally.restored(self.to_stored())

    def note(self, finding: RowFailure | RowSkip | RowWarning) -> Finding | None:
        """Count a finding; what to store of it, or ``None`` when enough of its kind are stored."""
        kind = "failure"
        if isinstance(finding, RowSkip):
            kind = "skip"
            self.skipped += 1
        elif isinstance(finding, RowWarning):
            kind = "warning"
        else:
            self.failed += 1
        if self.stored.get(kind, 0) >= _MAX_STORED[kind]:
            return None
        self.stored[kind] = self.stored.get(kind, 0) + 1
        self.findings += 1
        return (
            self.findings,
            kind,
            finding.row,
            finding.field,
            finding.message,
            finding.item_id,
        )

    def saw(self, entry: Parsed) -> None:
        """Count the row that an entry came from."""
        self.rows = max(self.rows, entry.row)
