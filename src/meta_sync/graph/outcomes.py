"""How a write and a poll ended, as types. Expected failures are values here, not exceptions.

The functions are pure: from the client's answers to an outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from meta_sync.graph.errors import (
    Advice,
    ErrorFacts,
    GraphError,
    InvalidRequestError,
    TooLargeError,
    UnreadableAnswerError,
)
from meta_sync.graph.usage import Usage
from meta_sync.graph.wire import Answer, ItemMessages, ReportLine, ReportPage, parse_submit

__all__ = [
    "BatchReport",
    "BatchStatusAnswer",
    "CannotAsk",
    "Ended",
    "Finished",
    "NothingTaken",
    "Refused",
    "StillRunning",
    "SubmitResult",
    "Taken",
    "TooLarge",
    "Unknown",
    "UnknownHandle",
    "merge_report",
    "status_error",
    "submit_result",
    "unreadable",
]


@dataclass(frozen=True, slots=True)
class Taken:
    """Meta queued the call. Queued is not saved: ``handles`` tell the end.

    ``messages`` hold what Meta said at once, by retailer id; items with errors are refused already. Messages
    that name no item are under the empty id.
    """

    handles: tuple[str, ...]
    messages: Mapping[str, ItemMessages]
    usage: Usage

    @property
    def handle(self) -> str:
        """The handle; Meta documents at most one, further ones are kept in ``handles``."""
        return self.handles[0]


@dataclass(frozen=True, slots=True)
class NothingTaken:
    """``handles`` came back empty: nothing was ingested. ``messages`` name items that have a verdict."""

    messages: Mapping[str, ItemMessages]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Refused:
    """It is certain that Meta did not carry out the call."""

    error: GraphError
    usage: Usage


@dataclass(frozen=True, slots=True)
class Unknown:
    """Whether Meta carried out the call is not known."""

    error: GraphError
    usage: Usage


@dataclass(frozen=True, slots=True)
class TooLarge:
    """Meta refused the call for its size; nothing was carried out."""

    error: GraphError
    usage: Usage


SubmitResult = Taken | NothingTaken | Refused | Unknown | TooLarge


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What Meta says of the items of a finished batch.

    Attributes
    ----------
    errors, warnings
        All lines of all pages. ``errors`` may be a sample: ``errors_total_count`` is the truth, and it counts
        errors, not items (documented).
    invalid_ids
        Ids of records that were not saved.
    pages_complete
        Every page was read and they fit together. ``False`` means that unnamed items are not known to be
        saved.
    names_nobody
        Every page says in so many words that nothing failed: both of its lists are there, and empty.
    """

    errors: tuple[ReportLine, ...]
    errors_total_count: int | None
    warnings: tuple[ReportLine, ...]
    warnings_total_count: int | None
    invalid_ids: tuple[str, ...]
    pages_complete: bool
    names_nobody: bool = False


@dataclass(frozen=True, slots=True)
class StillRunning:
    """Not over. ``status`` is Meta's word in lower case, empty when the answer had none."""

    status: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Finished:
    """Processing ended; the report says what was not saved."""

    report: BatchReport
    usage: Usage


@dataclass(frozen=True, slots=True)
class Ended:
    """The batch ended without a verdict on its items; some may have been saved."""

    status: Literal["error", "canceled"]
    usage: Usage


@dataclass(frozen=True, slots=True)
class UnknownHandle:
    """Meta does not know the handle, or no longer."""

    error: GraphError
    usage: Usage


@dataclass(frozen=True, slots=True)
class CannotAsk:
    """The question failed; this says nothing about the batch."""

    error: GraphError
    usage: Usage


BatchStatusAnswer = StillRunning | Finished | Ended | UnknownHandle | CannotAsk


def submit_result(answer: Answer) -> SubmitResult:
    """The outcome of an ``items_batch`` call. A handle is a fact, whatever else the answer says."""
    said = parse_submit(answer.value)
    is_success_status = answer.status is not None and 200 <= answer.status < 300
    if is_success_status and said.handles:
        return Taken(said.handles, said.messages, answer.usage)
    error = answer.error
    if error is None:
        if said.handles is not None:
            return NothingTaken(said.messages, answer.usage)
        return Unknown(unreadable(answer, "Meta accepted the call and gave no handle for it."), answer.usage)
    if isinstance(error, TooLargeError):
        return TooLarge(error, answer.usage)
    return Refused(error, answer.usage) if error.is_definite else Unknown(error, answer.usage)


def status_error(answer: Answer) -> CannotAsk | UnknownHandle | None:
    """The outcome of a poll that failed, or ``None`` when it did not.

    An unknown handle is answered with code 100; with subcode 33 it is the catalog that is out of reach.
    """
    error = answer.error
    if error is None:
        if isinstance(answer.value, dict):
            return None
        return CannotAsk(unreadable(answer, "Meta's answer about a batch could not be read."), answer.usage)
    if isinstance(error, InvalidRequestError) and error.code == 100:
        return UnknownHandle(error, answer.usage)
    return CannotAsk(error, answer.usage)


def merge_report(pages: Sequence[ReportPage], handle: str) -> BatchReport:
    """One report of all pages.

    It is incomplete when a page is missing, speaks of another handle, or repeats an earlier one: a server
    that ignores the cursor would otherwise let the list look as long as the total.
    """
    distinct: list[ReportPage] = []
    seen: set[tuple[object, ...]] = set()
    fits = not pages[-1].has_next
    for page in pages:
        content = (page.errors, page.warnings, page.invalid_ids)
        if any(content) and content in seen:
            fits = False
            continue
        seen.add(content)
        distinct.append(page)
        fits = fits and page.handle in {None, handle}
    return BatchReport(
        errors=tuple(line for page in distinct for line in page.errors),
        errors_total_count=_largest([page.errors_total_count for page in pages]),
        warnings=tuple(line for page in distinct for line in page.warnings),
        warnings_total_count=_largest([page.warnings_total_count for page in pages]),
        invalid_ids=tuple(dict.fromkeys(one for page in distinct for one in page.invalid_ids)),
        pages_complete=fits,
        names_nobody=all(page.names_nobody for page in pages),
    )


def _largest(counts: list[int | None]) -> int | None:
    return max((count for count in counts if count is not None), default=None)


def unreadable(answer: Answer, sentence: str) -> UnreadableAnswerError:
    """The error for a success that does not say what it should."""
    facts = ErrorFacts(
        sentence, http_status=answer.status, fb_trace_id=answer.trace_id, usage=answer.usage, is_readable=True
    )
    return UnreadableAnswerError(facts, Advice.LATER)
