"""Every limit of an import in one place, so that the code, the sentences and the documentation say the same. Constants only.

The size of a file is the process's own setting (``MAX_UPLOAD_BYTES``), the length of a cell the format context's.
"""

from __future__ import annotations

__all__ = [
    "LONGEST_MESSAGE_CHARS",
    "LONGEST_RUN_HOURS",
    "LONGEST_VALUE_CHARS",
    "MAX_ROWS",
    "MAX_STORED_FINDINGS",
    "SHOWN_ERRORS",
]

MAX_ROWS = 10_000_000
"""Rows of one file; a thousand times the largest shop that is known here. A longer file is no feed of a shop."""

LONGEST_RUN_HOURS = 24
"""From the first start to the end, waits after failures of ours included: a daily feed would overtake itself."""

MAX_STORED_FINDINGS = {
    "failure": 10_000,
    "skip": 10_000,
    "warning": 1_000,
    "create": 10_000,
    "change": 10_000,
    "delete": 10_000,
}
"""Lines of the report by kind; more are no use to a person. The counters stay exact beyond."""

SHOWN_ERRORS = 100
"""Errors in the import itself; the report has the rest."""

LONGEST_VALUE_CHARS = 200
"""What is kept of a cell that is quoted in a finding."""

LONGEST_MESSAGE_CHARS = 2_000
"""What is kept of a finding's sentence: some quote the file."""
