"""Which errors an operation can give, for its documentation. What it declares is all that it adds to the common ones."""

from __future__ import annotations

from typing import Any

from meta_sync.api.schemas.base import Error

__all__ = ["ERROR_SENTENCES", "errors"]

ERROR_SENTENCES = {
    400: "The request is not valid (`VALIDATION_ERROR`, `BAD_REQUEST`), or Meta's side of the set-up is not.",
    401: "No credential, or one that is not known (`UNAUTHORIZED`).",
    403: "The permission is missing, or the credential belongs to another store (`FORBIDDEN`).",
    404: "There is no such object in this store (`NOT_FOUND`).",
    409: "The request does not fit the present state (`CONFLICT`, `meta_not_connected`).",
    413: "The body is too large (`PAYLOAD_TOO_LARGE`).",
    415: "The body's type or coding is not read here (`UNSUPPORTED_MEDIA_TYPE`).",
    429: "As much as one may have at once (`RATE_LIMITED`); see `Retry-After`.",
    500: "Our fault (`INTERNAL_SERVER_ERROR`); give the `requestId` when you report it.",
    502: "Meta refused or failed (`meta_graph_error`).",
    503: "Something we need is away just now (`SERVICE_UNAVAILABLE`, `meta_rate_limited`); see `Retry-After`.",
}
"""Descriptions by status."""


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Error answers that an operation can give beyond those its access and body imply."""
    return {status: {"model": Error, "description": ERROR_SENTENCES[status]} for status in statuses}
