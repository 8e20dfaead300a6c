"""Which errors an operation can give, for its documentation: codes and their statuses. The sentences are the table's.

What a route declares with ``errors`` is all that it adds to what its access, its path and its body imply.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meta_sync.api.security import Access, Scope
from meta_sync.sync.codes import CODES, entry_of

__all__ = [
    "CODES_KEY",
    "STATUSES",
    "codes_by_status",
    "describe_codes",
    "errors",
    "implied_codes",
    "table_of_codes",
]

CODES_KEY = "x-error-codes"
"""Carries the declared codes through FastAPI; not in the finished document."""

STATUSES = {
    "BAD_REQUEST": 400,
    "VALIDATION_ERROR": 400,
    "meta_misconfigured": 400,
    "meta_account_error": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "CONFLICT": 409,
    "meta_not_connected": 409,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "RATE_LIMITED": 429,
    "INTERNAL_SERVER_ERROR": 500,
    "meta_graph_error": 502,
    "SERVICE_UNAVAILABLE": 503,
    "meta_rate_limited": 503,
}
"""Status of an answer by its code, in the order in which they are listed."""

_NEEDS_NOTHING = frozenset({"getLiveness"})
"""Operations that ask nothing but the process itself, so that nothing they need can be away."""


def errors(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Error answers that an operation can give beyond those its access, path and body imply."""
    declared: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        response = declared.setdefault(STATUSES[code], {"description": "", CODES_KEY: []})
        response[CODES_KEY].append(code)
    return declared


def implied_codes(operation: dict[str, Any], path: str, access: Access) -> set[str]:
    """Codes that follow from what an operation asks of its callers."""
    # Every address refuses a NUL.
    codes = {"VALIDATION_ERROR", "INTERNAL_SERVER_ERROR"}
    if operation["operationId"] not in _NEEDS_NOTHING:
        codes.add("SERVICE_UNAVAILABLE")
    if access.scope is not Scope.OPEN:
        codes.add("UNAUTHORIZED")
    if access.permission is not None:
        codes.add("FORBIDDEN")
    if access.scope is Scope.STORE:
        codes |= {"BAD_REQUEST", "NOT_FOUND"}
    if "{" in path:
        codes.add("NOT_FOUND")
    if "requestBody" in operation:
        codes |= {"BAD_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"}
    if access.is_idempotent:
        codes.add("CONFLICT")
    return codes


def codes_by_status(codes: Iterable[str]) -> dict[str, list[str]]:
    """The codes by status, both in their order."""
    parts: dict[str, list[str]] = {}
    wanted = set(codes)
    for code, status in STATUSES.items():
        if code in wanted:
            parts.setdefault(str(status), []).append(code)
    return parts


def describe_codes(codes: Iterable[str]) -> str:
    """What an error answer says, from the table."""
    return " ".join(f"`{code}`: {entry_of(code).sentence}" for code in codes)


def table_of_codes() -> str:
    """The codes of error answers with their statuses, as Markdown."""
    lines = ["| status | errorCode | what it means | what to do |", "| --- | --- | --- | --- |"]
    for code, status in STATUSES.items():
        entry = CODES[code]
        lines.append(f"| {status} | `{code}` | {entry.sentence} | {entry.action} |")
    return "\n".join(lines)
