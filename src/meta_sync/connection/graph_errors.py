"""Failures of the Graph API in the words of our own API. The one place where they are translated; pure."""

from __future__ import annotations

from meta_sync.core.errors import ServiceError
from meta_sync.graph.errors import (
    AssetLostError,
    BlockedError,
    CredentialsError,
    GraphError,
    PermissionMissingError,
    ThrottledError,
)

__all__ = ["account_error", "misconfigured", "not_connected", "service_error"]

_THROTTLED_SECONDS = 60
"""When Meta names no time: its windows are rolling hours, so a minute later a little budget is back."""

_ASSET_LOST = (
    "The catalog cannot be reached with this token: it was deleted, its id is wrong, or it is not assigned to the System "
    "User. Assign the catalog to the System User with full control in Business Settings, then try again."
)


def service_error(error: GraphError) -> ServiceError:
    """The error to answer a request with whose call to Meta failed.

    Throttling is 503 with a time to come back; what the store's owner must mend is 400; all else is 502.
    """
    meta = error.to_error_meta()
    if isinstance(error, ThrottledError):
        return ServiceError(
            "Meta limits the number of calls at the moment. Try again later.",
            code="meta_rate_limited",
            status=503,
            meta=meta,
            retry_after_seconds=error.regain_seconds or _THROTTLED_SECONDS,
        )
    if isinstance(error, AssetLostError):
        return ServiceError(_ASSET_LOST, code="meta_account_error", status=400, meta=meta)
    if isinstance(error, CredentialsError | PermissionMissingError | BlockedError):
        return ServiceError(
            f"Meta refused the call. {error.reaction}",
            code="meta_account_error",
            status=400,
            meta=meta,
        )
    if error.facts.has_envelope:
        sentence = f"Meta reported an error. {error.reaction}"
    else:
        sentence = f"{error.message} Try again in a minute."
    return ServiceError(sentence, code="meta_graph_error", status=502, meta=meta)


def account_error(
    message: str,
    *,
    category: str,
    code: int | None = None,
    subcode: int | None = None,
    said: str | None = None,
) -> ServiceError:
    """A refusal for a reason in the Meta account that we found ourselves, from what Meta told us (``said``)."""
    meta = {
        "fbType": None,
        "fbCode": code,
        "fbSubcode": subcode,
        "fbTraceId": None,
        "fbMessage": said,
        "category": category,
    }
    return ServiceError(message, code="meta_account_error", status=400, meta=meta)


def misconfigured(message: str, error: GraphError | None = None) -> ServiceError:
    """The app id or secret is missing or wrong."""
    return ServiceError(
        message, code="meta_misconfigured", status=400, meta=None if error is None else error.to_error_meta()
    )


def not_connected(message: str) -> ServiceError:
    """There is no token to call Meta with."""
    return ServiceError(message, code="meta_not_connected", status=409)
