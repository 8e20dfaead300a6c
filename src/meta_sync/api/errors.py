"""Every failure as one answer in the error envelope. The only place that turns an exception into a status."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from meta_sync.core.errors import (
    ErrorDetail,
    InvalidRequestError,
    NotFoundError,
    ServiceError,
    UnavailableError,
    ValidationFailedError,
)
from meta_sync.core.outages import is_contention, is_outage

__all__ = ["error_response", "row_details", "service_error", "validation_details", "validation_error"]

_RETRY_AFTER_SECONDS = 5
"""A restart or a fail-over of PostgreSQL is over in seconds; asking sooner only adds load."""

_RETRY_AFTER_CONTENTION_SECONDS = 1

_PREDICATES = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "none_required": "must be absent or null",
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}
"""Pydantic's error types that come up most, as predicates that follow the field's name."""

_SUBJECT = re.compile(r"^(?:Input|String|List|Value) should")
"""What Pydantic calls the value; our sentences call it by the field's name."""

_STATUS_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "RATE_LIMITED",
    503: "SERVICE_UNAVAILABLE",
}


def service_error(error: BaseException) -> ServiceError:
    """The failure as our own error; one that nobody foresaw says nothing about our insides."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, RequestValidationError):
        return validation_error(validation_details(error.errors()))
    if isinstance(error, HTTPException):
        return _from_http(error)
    if is_contention(error):
        return UnavailableError(
            "The same rows are being written by others just now. Please try again in a moment.",
            retry_after_seconds=_RETRY_AFTER_CONTENTION_SECONDS,
        )
    if is_outage(error):
        return UnavailableError(
            # Whether a commit got through when its answer was lost, nobody knows here.
            "The database does not answer just now, so this may not have been done. Please try again in a moment.",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )
    return ServiceError("Something went wrong on our side. Please give the requestId when you report it.")


def error_response(error: ServiceError, request_id: str, headers: dict[str, str] | None = None) -> Response:
    """Render an error in the envelope."""
    body: dict[str, Any] = {
        "message": error.message,
        "statusCode": error.status,
        "errorCode": error.code,
        "details": [{"field": detail.field, "message": detail.message} for detail in error.details],
        "requestId": request_id,
    }
    if error.meta is not None:
        body["meta"] = error.meta
    headers = dict(headers or {})
    if error.status in {429, 503}:
        headers["Retry-After"] = str(error.retry_after_seconds or _RETRY_AFTER_SECONDS)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(orjson.dumps(body), error.status, headers, media_type="application/json")


def validation_error(details: Sequence[ErrorDetail]) -> ValidationFailedError:
    """One error for all faults of an input, its sentence about the first."""
    first = details[0]
    more = f" ({len(details) - 1} more)" if len(details) > 1 else ""
    return ValidationFailedError(
        f"The request is not valid: {first.field} {first.message}{more}.", details=details
    )


def validation_details(errors: Sequence[Any], *, whole: str = "body") -> list[ErrorDetail]:
    """Pydantic's errors by the field as the caller wrote it. The refused values are not repeated.

    ``whole`` names what is no object at all, so that no field of it can be named.
    """
    return [ErrorDetail(_field(item["loc"]) or whole, _predicate(item)) for item in errors][:100]


def row_details(error: ValidationError, *, whole: str = "body") -> list[ErrorDetail]:
    """The faults of one row of a batch."""
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    return validation_details(errors, whole=whole)


def _field(location: Sequence[str | int]) -> str:
    parts = list(location)
    if parts and parts[0] in {"body", "query", "path", "header"}:
        parts = parts[1:] or parts[:1]
    name = ""
    for part in parts:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name[:200]


def _predicate(item: Any) -> str:
    known = _PREDICATES.get(item["type"])
    if known is not None:
        return known
    message = str(item["msg"]).removeprefix("Value error, ").rstrip(".")
    message = _SUBJECT.sub("must", message).partition(" after validation")[0]
    if message.startswith("must have at least 1 "):
        return "must not be empty"
    return message[:1].lower() + message[1:]


def _from_http(error: HTTPException) -> ServiceError:
    if error.status_code == 404:
        return NotFoundError("There is nothing at this address.")
    if error.status_code == 405:
        return ServiceError(
            "This method is not served at this address; the header Allow names those that are.",
            status=405,
            code="METHOD_NOT_ALLOWED",
        )
    if error.status_code in _STATUS_CODES:
        return ServiceError(
            str(error.detail), status=error.status_code, code=_STATUS_CODES[error.status_code]
        )
    if error.status_code < 500:
        return InvalidRequestError(str(error.detail) or HTTPStatus(error.status_code).phrase)
    return ServiceError("Something went wrong on our side. Please give the requestId when you report it.")
