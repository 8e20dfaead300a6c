"""Writing items and following the batches: ``items_batch`` and ``check_batch_request_status``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meta_sync.sandbox.errors import (
    GraphError,
    nonexisting_field,
    parameter_error,
    parameter_required,
    reduce_data,
)
from meta_sync.sandbox.faults import FaultKind
from meta_sync.sandbox.fields import words
from meta_sync.sandbox.messages import Finding, render
from meta_sync.sandbox.model import AccessToken, Batch
from meta_sync.sandbox.state import SandboxState
from meta_sync.sandbox.validation import Record, check_on_arrival
from meta_sync.sandbox.wire import Call, decode_cursor, paging

__all__ = ["MOST_RECORDS", "check_batch", "items_batch"]

MOST_RECORDS = 5000
"""Documented limit of one call."""

_ITEM_TYPES = words(
    "PRODUCT_ITEM DESTINATION FLIGHT HOME_LISTING HOTEL HOTEL_ROOM STORE_PRODUCT_ITEM VEHICLE VEHICLE_OFFER MEDIA_TITLE "
    "APP_AND_SOFTWARE ARTICLE_AND_PUBLICATION SERVICE ACTIVITY"
)
_STATUS_FIELDS = (
    "handle",
    "status",
    "errors",
    "errors_total_count",
    "warnings",
    "warnings_total_count",
    "ids_of_invalid_requests",
)
_ADVERSE_PAGE = 500
"""Entries of a report in one answer of the adverse profile when the caller names no limit."""


def items_batch(state: SandboxState, call: Call, _token: AccessToken) -> dict[str, Any]:
    """``POST /{catalog}/items_batch``: queue records, say at once what can be said at once."""
    if call.too_large:
        raise reduce_data()
    if call.unreadable:
        raise parameter_error("The request body could not be read")
    item_type = call.required("item_type")
    if item_type not in _ITEM_TYPES:
        raise parameter_error(f"Param item_type must be one of {{{', '.join(sorted(_ITEM_TYPES))}}}")
    raw = call.structure("requests")
    if raw is None:
        raise parameter_required("requests")
    if not isinstance(raw, list) or not all(isinstance(entry, dict) for entry in raw):
        raise parameter_error("Param requests must be an array of objects")
    call.records = len(raw)
    if len(raw) > MOST_RECORDS:
        raise parameter_error(f"The number of requests in a batch must not be more than {MOST_RECORDS}")
    catalog = state.catalog(call.segments[0])
    records = [Record.read(line, entry) for line, entry in enumerate(raw)]
    english = _speaks_english(state, call)
    ids = {record.id for record in records}
    if fault := state.strikes(FaultKind.POISON, "items_batch", catalog.id, ids):
        raise GraphError(fault.code, fault.message, subcode=fault.subcode, status=fault.status)
    if fault := state.strikes(FaultKind.NO_HANDLES, "items_batch", catalog.id):
        named = [record.finding("invalid_now", "price") for record in records[: max(1, fault.limit)]]
        return _accepted(state, call, [], named, [], english=english)
    errors, warnings = check_on_arrival(records)
    for record in records:
        refusal = state.processor.refusal(catalog.id, record.id)
        if refusal is not None and refusal.immediate:
            errors.append(record.finding("refused", text=refusal.text))
    refused = {finding.id for finding in errors}
    good = [record for record in records if record.id not in refused]
    handles: list[str] = []
    if good:
        allow_upsert = call.flag("allow_upsert", default=True)
        handles = [state.processor.accept(catalog, good, allow_upsert=allow_upsert, now=state.now()).handle]
    return _accepted(state, call, handles, errors, warnings, english=english)


def check_batch(state: SandboxState, call: Call, _token: AccessToken) -> dict[str, Any]:
    """``GET /{catalog}/check_batch_request_status``: one object about one handle.

    ``limit`` and ``after`` page through the lists of errors and warnings; whether Meta does the same is not known.
    """
    catalog = state.catalog(call.segments[0])
    handle = call.required("handle")
    fields = call.fields(_STATUS_FIELDS)
    for name in fields:
        if name not in _STATUS_FIELDS:
            raise nonexisting_field(name, "CheckBatchRequestStatus")
    batch = catalog.batches.get(handle)
    if batch is None or state.strikes(FaultKind.UNKNOWN_HANDLE, "check_batch_request_status", catalog.id):
        raise parameter_error("Invalid parameter: unknown handle")
    errors, warnings, errors_total = _split(batch)
    rest, errors, warnings, stop = _page(state, call, batch, errors, warnings)
    english = _speaks_english(state, call)
    invalid: list[str] = []
    if call.flag("load_ids_of_invalid_requests"):
        invalid = [
            _reported_id(batch, finding.id) for finding in batch.errors if _counts_as_error(batch, finding)
        ]
        invalid = invalid if batch.error_cap is None else invalid[: batch.error_cap]
    node: dict[str, Any] = {
        "handle": handle,
        "status": _status_word(state, batch, catalog.id),
        "errors": [_entry(batch, finding, english=english) for finding in errors],
        "errors_total_count": errors_total,
        "warnings": [_entry(batch, finding, english=english) for finding in warnings],
        "warnings_total_count": stop,
        "ids_of_invalid_requests": invalid,
    }
    shown = {name: node[name] for name in _STATUS_FIELDS if name in fields}
    if state.strikes(FaultKind.ABSENT_KEYS, "check_batch_request_status", catalog.id):
        shown = {name: value for name, value in shown.items() if value}
    return {"data": [shown], **rest}


def _accepted(
    state: SandboxState,
    call: Call,
    handles: list[str],
    errors: Sequence[Finding],
    warnings: Sequence[Finding],
    *,
    english: bool,
) -> dict[str, Any]:
    """The answer to a write; keys with nothing to say are left out."""
    said: dict[str, dict[str, Any]] = {}
    for kind, findings in (("errors", errors), ("warnings", warnings)):
        for finding in findings:
            entry = said.setdefault(finding.id, {"retailer_id": finding.id})
            entry.setdefault(kind, []).append({"message": render(finding, english=english)})
    body: dict[str, Any] = {"handles": handles}
    if said:
        body["validation_status"] = list(said.values())
    if not handles and state.strikes(FaultKind.ABSENT_KEYS, "items_batch", call.segments[0]):
        del body["handles"]
    return body


def _speaks_english(state: SandboxState, call: Call) -> bool:
    if call.english():
        return True
    return state.strikes(FaultKind.LOCALIZED_MESSAGES, call.segments[-1], call.segments[0]) is None


def _status_word(state: SandboxState, batch: Batch, catalog_id: str) -> str:
    """Where a batch is on its way: scheduled, dispatched, started, then its end."""
    if batch.is_over:
        word = batch.end_status
    else:
        delay = max(state.options.processing_delay_seconds, 1e-9)
        progress = (state.now() - batch.accepted_at) / delay
        word = "scheduled" if progress < 0.2 else "dispatched" if progress < 0.4 else "started"
    if state.strikes(FaultKind.STATUS_WORDS, "check_batch_request_status", catalog_id):
        return word.capitalize() if batch.is_over else "in_progress"
    return word


def _counts_as_error(batch: Batch, finding: Finding) -> bool:
    return batch.required_still_counted or not (batch.required_as_warnings and finding.about_required_field)


def _split(batch: Batch) -> tuple[list[Finding], list[Finding], int]:
    """Errors to list, warnings to list, and the true number of errors."""
    if not batch.required_as_warnings:
        return batch.errors, batch.warnings, len(batch.errors)
    moved = [finding for finding in batch.errors if finding.about_required_field]
    errors = [finding for finding in batch.errors if not finding.about_required_field]
    total = sum(_counts_as_error(batch, finding) for finding in batch.errors)
    return errors, [*moved, *batch.warnings], total


def _page(
    state: SandboxState, call: Call, batch: Batch, errors: list[Finding], warnings: list[Finding]
) -> tuple[dict[str, Any], list[Finding], list[Finding], int]:
    """Cap and page the two lists: the answer's other keys, both lists, and the true number of warnings."""
    warnings_total = len(warnings)
    if batch.error_cap is not None:
        errors, warnings = errors[: batch.error_cap], warnings[: batch.error_cap]
    longest = max(len(errors), len(warnings))
    default = _ADVERSE_PAGE if state.options.profile == "adverse" else max(longest, 1)
    limit = max(1, call.integer("limit", default))
    start = decode_cursor(call.text("after")) + 1 if call.text("after") else 0
    stop = start + limit
    rest: dict[str, Any] = {}
    if longest > limit:
        rest["paging"] = paging(
            call, first=start, last=min(stop, longest) - 1, has_more=stop < longest, has_previous=start > 0
        )
    return rest, errors[start:stop], warnings[start:stop], warnings_total


def _reported_id(batch: Batch, retailer_id: str) -> str:
    if batch.trim_ids_to is not None:
        retailer_id = retailer_id.strip()
        retailer_id = retailer_id[: batch.trim_ids_to] if batch.trim_ids_to else retailer_id
    return retailer_id.swapcase() if batch.ids_other_case else retailer_id


def _entry(batch: Batch, finding: Finding, *, english: bool) -> dict[str, Any]:
    return {
        "line": finding.line + batch.line_base,
        "id": _reported_id(batch, finding.id),
        "message": render(finding, english=english),
    }
