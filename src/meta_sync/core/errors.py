"""The one error type that services raise on purpose. The edges render it; nothing here knows HTTP frameworks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ConflictError",
    "ErrorDetail",
    "ForbiddenError",
    "InvalidRequestError",
    "NotFoundError",
    "PayloadTooLargeError",
    "RateLimitedError",
    "ServiceError",
    "StartError",
    "UnauthorizedError",
    "UnavailableError",
    "UnsupportedMediaTypeError",
    "ValidationFailedError",
]


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """One fault in the caller's input: the field as the caller wrote it, and a sentence."""

    field: str
    message: str


class ServiceError(Exception):
    """An expected failure with a stable code, an HTTP status and a sentence for people.

    Attributes
    ----------
    code
        Stable machine code, one of the codes of the API's error table.
    status
        HTTP status as a plain integer.
    message
        A sentence a person can act on. Never carries a secret.
    details
        Faults by field, for input errors.
    meta
        What Meta said, for failures of the Graph API: ``fbType``, ``fbCode``, ``fbSubcode``, ``fbTraceId``,
        ``fbMessage`` (word for word), ``category``.
    retry_after_seconds
        When to come back, for 429 and 503.
    """

    code = "INTERNAL_SERVER_ERROR"
    status = 500

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        details: Sequence[ErrorDetail] = (),
        meta: dict[str, Any] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.status = status or type(self).status
        self.details = tuple(details)
        self.meta = meta
        self.retry_after_seconds = retry_after_seconds


class InvalidRequestError(ServiceError):
    """The request cannot be served as it stands."""

    code = "BAD_REQUEST"
    status = 400


class ValidationFailedError(ServiceError):
    """One or more fields are wrong; ``details`` names them."""

    code = "VALIDATION_ERROR"
    status = 400


class UnauthorizedError(ServiceError):
    """No credential, or one that is not known."""

    code = "UNAUTHORIZED"
    status = 401


class ForbiddenError(ServiceError):
    """The credential lacks the permission."""

    code = "FORBIDDEN"
    status = 403


class NotFoundError(ServiceError):
    """No such object in this store; another store's object reads the same."""

    code = "NOT_FOUND"
    status = 404


class ConflictError(ServiceError):
    """The request does not fit the present state."""

    code = "CONFLICT"
    status = 409


class PayloadTooLargeError(ServiceError):
    """The body is larger than the limit that the message names."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413


class UnsupportedMediaTypeError(ServiceError):
    """The body is of a type this endpoint does not read."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415


class RateLimitedError(ServiceError):
    """The caller has as much at once as one may have; ``retry_after_seconds`` says when to come back."""

    code = "RATE_LIMITED"
    status = 429


class UnavailableError(ServiceError):
    """Something we depend on does not answer just now."""

    code = "SERVICE_UNAVAILABLE"
    status = 503


class StartError(Exception):
    """A process cannot start. The message is one sentence for the operator; no traceback is shown."""
