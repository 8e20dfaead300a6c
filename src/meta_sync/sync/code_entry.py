"""What one entry of the table of codes is made of. Data only; the entries stand in ``codes`` and its neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from meta_sync.graph.errors import Category

__all__ = ["CodeEntry", "CodeGroup", "Severity", "table"]

CodeGroup = Literal[
    "item", "skip", "issue", "preflight", "pause", "batch", "meta", "job", "import", "adopt", "api"
]
"""What a code is said of: an item that failed or waits, an item that is left out, a remark of the mapping or of a pre-flight
report, a store that stands still, a batch, a failure that Meta or the network reports, a job or an import as a whole, a
row of an import, an item at Meta that a person decided about, an answer of the API."""

Severity = Literal["error", "warning", "info"]
"""``error``: something is not as the store has it and stays so until somebody acts or time passes. ``warning``: it works,
but not as it might. ``info``: as somebody wanted it."""


@dataclass(frozen=True, slots=True)
class CodeEntry:
    """One code, for a merchant and an operator.

    Attributes
    ----------
    code
        Stable; never used for anything else.
    group, category, severity
        Whose code it is, the kind of the cause in the words of the API, and how bad it is.
    sentence
        What is the matter. What Meta said stands beside it, in its own words, and never in it.
    action
        The next step, also where that is to do nothing.
    template
        The sentence with a place for the value at hand; empty where the sentence says all.
    """

    code: str
    group: CodeGroup
    category: Category
    severity: Severity
    sentence: str
    action: str
    template: str = ""


def table(
    group: CodeGroup, category: Category, severity: Severity, rows: tuple[tuple[str, ...], ...]
) -> tuple[CodeEntry, ...]:
    """Entries that have these in common, from rows of code, sentence, action and perhaps a template."""
    return tuple(CodeEntry(row[0], group, category, severity, *row[1:]) for row in rows)
