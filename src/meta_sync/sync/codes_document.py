"""Writes ``docs/errors.md`` from the table of codes: ``python -m meta_sync.sync.codes_document docs/errors.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from meta_sync.graph.errors import RULES
from meta_sync.sync.code_entry import CodeEntry, CodeGroup
from meta_sync.sync.codes import CODES
from meta_sync.sync.codes_pipeline import FAMILIES

__all__ = ["document"]

_TITLES: dict[CodeGroup, tuple[str, str]] = {
    "item": (
        "Items that failed",
        "In `errorCode` of an item and in `GET /admin/meta/errors`. What Meta said stands beside it in `lastError`.",
    ),
    "skip": (
        "Items that are left out",
        (
            "In `errorCode` of a skipped item and in `eligibility.reason` of its detail. An item that is at Meta and falls "
            "under one of these is deleted there."
        ),
    ),
    "issue": (
        "Remarks of the mapping",
        "In `issues` of an item's detail. The item is sent all the same.",
    ),
    "preflight": (
        "Remarks of a pre-flight report",
        (
            "In `warnings` and `images` of `GET /admin/meta/preflight/{jobId}`, beside the remarks of the mapping. They keep nothing "
            "from being sent."
        ),
    ),
    "pause": (
        "Stores that stand still",
        (
            "In `pauseReason` of `GET /admin/meta/status`, and in its `lastError`; `preview` is what its `feedMode` says, "
            "`newer_mapper` is told by `meta-sync doctor`. Items keep their state and lose no attempt."
        ),
    ),
    "batch": (
        "Batches",
        "In `lastError` of the status and in `errorCode` of the items that wait because of it.",
    ),
    "meta": (
        "What Meta's numbers mean",
        (
            "Meta reports failures by a number, sometimes with a subcode (`190/463`). The number is shown as it came; this is "
            "what it stands for. A failure without a number is shown under the code itself."
        ),
    ),
    "job": (
        "Jobs and imports",
        "In `error` of a job that failed, or that could not do all. Reasons why a store stands still are told there as well.",
    ),
    "import": (
        "Rows of imports",
        "In `rule` of an import's errors and of its report. The row's own sentence says which value it is about.",
    ),
    "adopt": (
        "Decisions about items at Meta",
        (
            "In `code` of the items that adopting, taking, pinning or deleting left as they are. The others were dealt with."
        ),
    ),
    "api": (
        "Answers of the API",
        "In `errorCode` of every answer with a status of 400 or more. `message` and `details` say what it is about.",
    ),
}

_HEAD = """# Codes

Whatever goes wrong, waits or is left out carries a code. A code is stable; it is never used for anything else. Each has a \
category (whose matter it is), a severity, a sentence, and a next step. This page, the API (`GET /admin/meta/error-codes`, \
`explanation` and `action` beside every code) and the commands (`meta-sync errors`, `meta-sync status`) read the same table, \
`src/meta_sync/sync/codes.py`. What Meta itself says is never changed and never mixed in: it stands beside the code.

Severity `error`: something is not as the store has it, until somebody acts or time passes. `warning`: it works, but not as \
it might. `info`: as somebody wanted it, or over by itself.

Written by `make error-codes`; do not edit.
"""


def document() -> str:
    """The page as Markdown; the same text for the same table."""
    return "\n".join([_HEAD, *_sections()])


def _sections() -> Iterator[str]:
    for group, (title, introduction) in _TITLES.items():
        yield f"## {title}\n\n{introduction}\n"
        entries = [entry for entry in CODES.values() if entry.group == group]
        numbers = _numbers() if group == "meta" else None
        head = ["code", *(["Meta's numbers"] if numbers is not None else []), "category", "severity"]
        yield _row([*head, "what it means", "what to do"])
        yield _row(["---"] * (len(head) + 2))
        for entry in entries:
            shown = [] if numbers is None else [numbers.get(entry.code, "")]
            yield _row([f"`{entry.code}`", *shown, *_cells(entry)])
        yield ""


def _cells(entry: CodeEntry) -> list[str]:
    return [entry.category, entry.severity, entry.sentence, entry.action]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _numbers() -> dict[str, str]:
    """Meta's numbers by the code of the family that the first rule with them leads to, as far as words do not decide."""
    seen: set[int] = set()
    found: dict[str, set[int]] = {}
    for rule in RULES:
        if rule.says or rule.subcodes or rule.statuses or rule.codes is None:
            continue
        codes = {code for code in rule.codes if code is not None} - seen
        seen |= codes
        found.setdefault(FAMILIES[rule.reaction].code, set()).update(codes)
    return {code: _ranges(sorted(numbers)) for code, numbers in found.items()}


def _ranges(numbers: Sequence[int]) -> str:
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(
        f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document())
