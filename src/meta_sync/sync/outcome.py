"""What a finished batch says of each of its items: pure, from Meta's report to one verdict per item.

Silence counts as success only in a complete report. Whatever does not add up makes the unnamed items unknown, never
synced and never failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from meta_sync.graph.outcomes import BatchReport
from meta_sync.graph.wire import ItemMessages
from meta_sync.sync.codes_pipeline import FailureCode
from meta_sync.sync.models import BatchItem

__all__ = [
    "Outcomes",
    "Verdict",
    "classify_report",
    "count_rejected",
    "count_unsettled",
    "immediate_refusals",
    "is_required_field_warning",
    "next_batch_limit",
]

_REQUIRED_FIELD_TEXTS = ("a required field is missing", "without required field")
"""Meta lists items it did not save under warnings too, with these words (documented sample, English by locale)."""

_BATCH_LIMITS = (100, 10, 1)
"""After an incomplete report the unnamed items go again in ever smaller batches; one item alone leaves no doubt."""


class Verdict(StrEnum):
    """What became of one item."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Outcomes:
    """The verdicts of one batch. ``messages`` holds Meta's text per refused item, as it was said; empty where it said none."""

    accepted: list[BatchItem] = field(default_factory=list)
    rejected: list[BatchItem] = field(default_factory=list)
    unknown: list[BatchItem] = field(default_factory=list)
    messages: dict[str, str] = field(default_factory=dict)
    to_read_back: list[BatchItem] = field(default_factory=list)
    """Unnamed by errors, but a warning says that a required field is missing, or the item was alone in a batch whose
    report is incomplete: look before believing either."""
    is_complete: bool = True
    codes: dict[str, FailureCode] = field(default_factory=dict)
    """Of refused items whose code is not told from Meta's words."""


def is_required_field_warning(message: str) -> bool:
    """Whether a warning says that the item may not have been saved."""
    lowered = message.lower()
    return any(text in lowered for text in _REQUIRED_FIELD_TEXTS)


def immediate_refusals(items: Sequence[BatchItem], messages: Mapping[str, ItemMessages]) -> dict[str, str]:
    """Meta's text per variant whose record it refused at once. Ids that are not ours are nobody's refusal."""
    by_retailer_id = {item.retailer_id: item.variant_id for item in items}
    return {
        by_retailer_id[retailer_id]: " ".join(said.errors)
        for retailer_id, said in messages.items()
        if said.errors and retailer_id in by_retailer_id
    }


def classify_report(items: Sequence[BatchItem], report: BatchReport) -> Outcomes:
    """One verdict per item that is still without one.

    A report is complete when every page was read, the total is known and at least that many errors are listed, every
    id that an error or a "required field" warning names is one we sent (byte for byte), and nothing contradicts. The
    list is a sample and the total is the truth (documented), so a report that lost its total proves nothing by being
    short; only one that shows both of its lists, empty, is taken at its word. Then
    the unnamed are accepted; otherwise they are unknown. In a batch of one, every error is that item's, listed or only
    counted, and a report that is incomplete without one is settled by reading the item back: sending it again would
    bring the same report for ever.
    """
    by_retailer_id = {item.retailer_id: item for item in items}
    alone = items[0] if len(items) == 1 else None
    named, has_stranger = _named(report, by_retailer_id, alone)
    warned = {line.retailer_id for line in report.warnings if is_required_field_warning(line.message)}
    if alone is None:
        has_stranger = has_stranger or not warned <= by_retailer_id.keys()
    outcomes = Outcomes(is_complete=_is_complete(report, has_stranger=has_stranger))
    if alone is not None and named:
        outcomes.is_complete = True
    for item in items:
        if item.outcome is not None:
            continue
        if item.variant_id in named:
            outcomes.rejected.append(item)
            outcomes.messages[item.variant_id] = " ".join(named[item.variant_id])
        elif alone is not None and (warned or not outcomes.is_complete):
            outcomes.to_read_back.append(item)
        elif not outcomes.is_complete:
            outcomes.unknown.append(item)
        elif item.retailer_id in warned:
            outcomes.to_read_back.append(item)
        else:
            outcomes.accepted.append(item)
    return outcomes


def _named(
    report: BatchReport, by_retailer_id: Mapping[str, BatchItem], alone: BatchItem | None
) -> tuple[dict[str, list[str]], bool]:
    """Meta's distinct texts per variant that an error names, and whether one names nobody we know."""
    named: dict[str, list[str]] = {}
    has_stranger = False
    lines = [(line.retailer_id, line.message) for line in report.errors]
    lines += [(retailer_id, "") for retailer_id in report.invalid_ids]
    if alone is not None and report.errors_total_count:
        lines.append((alone.retailer_id, ""))
    for retailer_id, message in lines:
        item = by_retailer_id.get(retailer_id, alone)
        if item is None:
            has_stranger = True
            continue
        texts = named.setdefault(item.variant_id, [])
        if message and message not in texts:
            texts.append(message)
    return named, has_stranger


def _is_complete(report: BatchReport, *, has_stranger: bool) -> bool:
    total = report.errors_total_count
    if total is None:
        # Unknown, so one more than is listed. A list that was left out is no empty list.
        total = 0 if report.names_nobody else len(report.errors) + 1
    return report.pages_complete and not has_stranger and len(report.errors) >= total


def next_batch_limit(sent: int) -> int:
    """The largest batch in which items of an unclear batch of this size may go again."""
    return next((limit for limit in _BATCH_LIMITS if limit < sent), 1)


def count_rejected(items: Sequence[BatchItem]) -> int:
    """How many items of a batch have been refused already."""
    return sum(item.outcome == "rejected" for item in items)


def count_unsettled(items: Sequence[BatchItem]) -> int:
    """How many items of a batch have no outcome yet."""
    return sum(item.outcome is None for item in items)
