"""What an answer says about a failure, as plain facts. What they mean is decided in ``errors``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from meta_sync.graph.tolerant import UNREADABLE, decode_json, header, integer, mapping, scrub, text, truth
from meta_sync.graph.usage import Usage, parse_usage

__all__ = ["ErrorFacts", "read_facts"]

_LONGEST_TEXT = 1000
_LONGEST_RETRY_AFTER_SECONDS = 3600
"""Graph's windows are rolling hours; a longer wait would be somebody else's idea."""

_NUMBER_IN_TEXT = re.compile(r"^\s*\(#(\d{1,9})\)")
"""Graph begins many messages with their code: "(#4) Application request limit reached"."""


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """Everything known of one failed call. Texts are cut, storable and free of tokens.

    Attributes
    ----------
    message
        Meta's ``message``, or our sentence where Meta said nothing.
    code, subcode, type
        Meta's ``code``, ``error_subcode`` and ``type``.
    user_title, user_message
        Texts Meta wrote for the person, in the language of the call.
    is_transient
        Meta's own flag that the same call may work later.
    fb_trace_id
        What Meta's support asks for; it expires soon.
    http_status
        ``None`` when no answer arrived.
    regain_seconds
        How long Meta wants silence, if it said so.
    error_data
        The object of the same name, unpacked when it came as JSON text.
    has_envelope
        Whether Graph itself spoke: a readable error object was there.
    is_readable
        Whether the body was JSON at all.
    nothing_sent
        No byte of the request left this machine.
    """

    message: str
    code: int | None = None
    subcode: int | None = None
    type: str | None = None
    user_title: str | None = None
    user_message: str | None = None
    is_transient: bool = False
    fb_trace_id: str | None = None
    http_status: int | None = None
    regain_seconds: int | None = None
    usage: Usage = field(default_factory=Usage)
    error_data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    has_envelope: bool = False
    is_readable: bool = False
    nothing_sent: bool = False


def read_facts(status: int, headers: Mapping[str, str], value: Any) -> ErrorFacts:
    """The facts of an answer whose body decoded to ``value`` (``UNREADABLE`` when it is no JSON)."""
    usage = parse_usage(headers)
    error = _error_object(status, value)
    said = _clean(error.get("message"))
    code = integer(error.get("code")) or _code_in_text(said)
    return ErrorFacts(
        message=said or f"Meta answered with HTTP status {status} and no explanation.",
        code=code,
        subcode=integer(error.get("error_subcode")),
        type=_clean(error.get("type")),
        user_title=_clean(error.get("error_user_title")),
        user_message=_clean(error.get("error_user_msg")),
        is_transient=truth(error.get("is_transient")),
        fb_trace_id=_clean(error.get("fbtrace_id")) or _clean(header(headers, "x-fb-trace-id")),
        http_status=status,
        regain_seconds=max(usage.regain_seconds, _retry_after_seconds(headers)) or None,
        usage=usage,
        error_data=_error_data(error.get("error_data")),
        has_envelope=bool(said or code is not None or error.get("type")),
        is_readable=value is not UNREADABLE,
    )


def _error_object(status: int, value: Any) -> dict[str, Any]:
    """The error object in any of the shapes seen, or an empty one."""
    body = mapping(value)
    error = body.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str) and error:  # the plain OAuth shape
        return {
            "type": error,
            "message": body.get("error_description") or error,
            "code": body.get("error_code"),
        }
    if 200 <= status < 300:
        return {}
    if "code" in body:  # a bare error object without its wrapper
        return body
    if "error_code" in body:  # the shape of the old REST interface
        return {"code": body["error_code"], "message": body.get("error_msg")}
    return {}


def _clean(value: Any) -> str | None:
    said = text(value, _LONGEST_TEXT)
    return scrub(said) if said else None


def _code_in_text(message: str | None) -> int | None:
    found = _NUMBER_IN_TEXT.match(message or "")
    return int(found.group(1)) if found else None


def _error_data(value: Any) -> dict[str, Any]:
    """``error_data`` comes as an object or as JSON text of one; Meta's own SDK reads both."""
    if isinstance(value, str):
        value = decode_json(value.encode("utf-8", "replace"))
    return mapping(value)


def _retry_after_seconds(headers: Mapping[str, str]) -> int:
    """``Retry-After`` in seconds or as a date; 0 when it is missing or useless.

    A date is read against the answer's own ``Date``, so that our clock plays no part.
    """
    value = (header(headers, "retry-after") or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return min(int(value), _LONGEST_RETRY_AFTER_SECONDS)
    until, sent = _http_date(value), _http_date(header(headers, "date") or "")
    if until is None or sent is None:
        return 0
    return max(0, min(int((until - sent).total_seconds()), _LONGEST_RETRY_AFTER_SECONDS))


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo is not None else None
