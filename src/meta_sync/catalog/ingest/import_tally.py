"""What an import has counted and found so far: written with every chunk, so that a restart goes on exactly there. Pure."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict, dataclass, field
from typing import Any

from meta_sync.catalog.ingest.import_limits import (
    LONGEST_MESSAGE_CHARS,
    LONGEST_VALUE_CHARS,
    MAX_STORED_FINDINGS,
)
from meta_sync.catalog.ingest.rows import Parsed, RowFailure, RowSkip, RowWarning

__all__ = ["COUNT_NAMES", "Finding", "Tally", "quotable"]

COUNT_NAMES = (
    "rows",
    "products",
    "variants",
    "created",
    "changed",
    "unchanged",
    "skipped",
    "failed",
    "deleted",
)
"""What the API shows, in its order."""

_MAX_STORED = MAX_STORED_FINDINGS

Finding = tuple[int, str, int, str, str, str | None, str | None, str | None]
"""Number, kind, row, field, message, item id, rule, value."""


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
    deleted: int = 0
    """Items of the store that the file leaves out, after they were deleted (in a dry run: that would be)."""
    entries: int = 0
    """Parsed entries that are settled; a restart reads the file again and passes over them."""
    parent_entries: int = 0
    """The same for the pass over the parents."""
    parents_done: bool = False
    findings: int = 0
    stored: dict[str, int] = field(default_factory=dict)
    survey_entries: int = 0
    """The same for the pass that only looks which items the file names."""
    named: int = 0
    """Items that the survey saw, those aside that fail."""
    faulty: int = 0
    """Rows that fail in the survey already."""
    nameless: int = 0
    """Those of them that do not say which item they are."""
    first_nameless_row: int = 0
    checked: bool = False
    """The survey is over and what is absent is noted."""
    live: int = 0
    """Items of the source when that was done."""
    absent: int = 0
    """Those of them that the file does not name."""
    refusal: str | None = None
    """Why the import as a whole is refused."""
    held_back: str | None = None
    """Why nothing is deleted although the rows go in."""
    deletion_done: bool = False
    failed_parents: int = 0
    """Products that could not be stored and are no items, so that they are not among ``failed``."""

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
        elif not finding.is_item:
            self.failed_parents += 1
        else:
            self.failed += 1
        return self._finding(kind, finding)

    def note_parent(self, failure: RowFailure) -> Finding | None:
        """Count a product that could not be stored and is no item; what to store of it."""
        self.failed_parents += 1
        return self._finding("failure", failure)

    def _finding(self, kind: str, finding: RowFailure | RowSkip | RowWarning) -> Finding | None:
        return self.line(
            kind,
            finding.row,
            column=finding.field,
            message=finding.message,
            item_id=finding.item_id,
            rule=finding.rule,
            value=finding.value,
        )

    def line(
        self,
        kind: str,
        row: int,
        *,
        column: str,
        message: str,
        item_id: str | None,
        rule: str | None = None,
        value: str | None = None,
    ) -> Finding | None:
        """A line of the report that counts as nothing; ``None`` when there are enough of its kind."""
        if self.stored.get(kind, 0) >= _MAX_STORED[kind]:
            return None
        self.stored[kind] = self.stored.get(kind, 0) + 1
        self.findings += 1
        return (
            self.findings,
            kind,
            row,
            quotable(column, LONGEST_VALUE_CHARS),
            quotable(message, LONGEST_MESSAGE_CHARS),
            item_id,
            rule,
            None if value is None else quotable(value, LONGEST_VALUE_CHARS),
        )

    def saw(self, entry: Parsed) -> None:
        """Count the row that an entry came from."""
        self.rows = max(self.rows, entry.row)

    def survey(self, entry: Parsed, *, is_named: bool) -> None:
        """Count an entry of the pass that writes nothing."""
        self.saw(entry)
        if not isinstance(entry, RowFailure):
            self.named += is_named
            return
        self.faulty += 1
        if not is_named:
            self.nameless += 1
            self.first_nameless_row = self.first_nameless_row or entry.row


def quotable(text: str, most: int) -> str:
    """A piece of the file as it may stand in a report: cut, in one line, without characters that steer a terminal."""
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    if cut.isprintable():
        return cut
    return "".join(map(_printable, cut))


def _printable(character: str) -> str:
    if character in "\t\n\r":
        return " "
    # Cc: control characters. Cf would be soft hyphens and joiners, which belong to words; of them only those go that
    # turn the reading direction round and make a line look like another.
    if unicodedata.category(character) == "Cc" or "\u202a" <= character <= "\u202e":
        return "\ufffd"
    return "\ufffd" if "\u2066" <= character <= "\u2069" else character
