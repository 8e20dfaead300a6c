"""Graph's error envelope and the errors the sandbox answers with. It decides nothing: callers raise."""

from __future__ import annotations

import secrets
from typing import Any

__all__ = [
    "GraphError",
    "access_lost",
    "blocked",
    "missing_permission",
    "nonexisting_field",
    "parameter_error",
    "parameter_required",
    "query_syntax_error",
    "reduce_data",
    "token_error",
    "transient_error",
    "unknown_path",
]

_READ_THE_DOCS = "Please read the Graph API documentation at https://developers.facebook.com/docs/graph-api"

_TOKEN_TEXTS = {
    452: "Error validating access token: Session does not match current stored session. This may be because "
    "the user changed the password since the time the session was created or Facebook has changed the "
    "session for security reasons.",
    458: "Error validating access token: The user has not authorized application {app_id}.",
    459: "Error validating access token: You cannot access the app till you log in to www.facebook.com and "
    "follow the instructions given.",
    460: "Error validating access token: The session has been invalidated because the user changed their "
    "password or Facebook has changed the session for security reasons.",
    463: "Error validating access token: Session has expired on {expired}. The current time is {now}.",
    464: "Error validating access token: Sessions for the user are not allowed because the user is not a "
    "confirmed user.",
    467: "Error validating access token: This is likely because the user logged out or may be due to a "
    "system error.",
}


class GraphError(Exception):
    """A call that Graph refuses, with everything its envelope and HTTP status carry."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        subcode: int | None = None,
        type_: str = "OAuthException",
        status: int = 400,
        is_transient: bool = False,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.subcode = subcode
        self.type = type_
        self.status = status
        self.is_transient = is_transient
        self.headers = headers or {}

    def envelope(self) -> dict[str, Any]:
        """The body of the answer, with a fresh trace id."""
        error: dict[str, Any] = {"message": self.message, "type": self.type, "code": self.code}
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        if self.is_transient:
            error["is_transient"] = True
        error["fbtrace_id"] = "A" + secrets.token_urlsafe(16)
        return {"error": error}


def token_error(subcode: int | None, *, app_id: str = "", expired: str = "", now: str = "") -> GraphError:
    """Code 190. Without a subcode the token is not one we know."""
    if subcode is None:
        return GraphError(190, "Invalid OAuth access token - Cannot parse access token")
    text = _TOKEN_TEXTS.get(subcode, "Error validating access token: The session is invalid.")
    return GraphError(190, text.format(app_id=app_id, expired=expired, now=now), subcode=subcode)


def missing_permission(scope: str) -> GraphError:
    """Code 200: the token lacks the scope."""
    return GraphError(200, f"(#200) Requires {scope} permission", status=403)


def access_lost(object_id: str, method: str) -> GraphError:
    """Code 100/33: no such object, or it is not assigned to the token's owner."""
    return GraphError(
        100,
        f"Unsupported {method.lower()} request. Object with ID '{object_id}' does not exist, cannot be loaded due "
        f"to missing permissions, or does not support this operation. {_READ_THE_DOCS}",
        subcode=33,
        type_="GraphMethodException",
    )


def parameter_error(message: str) -> GraphError:
    """Code 100 about a parameter."""
    return GraphError(100, f"(#100) {message}")


def parameter_required(name: str) -> GraphError:
    """Code 100 about a parameter that is not there."""
    return parameter_error(f"The parameter {name} is required")


def nonexisting_field(name: str, node: str) -> GraphError:
    """Code 100 about a field that the node does not have."""
    return parameter_error(f"Tried accessing nonexisting field ({name}) on node type ({node})")


def query_syntax_error(found: str, position: int) -> GraphError:
    """Code 2500: ``fields`` cannot be read."""
    return GraphError(
        2500, f'Syntax error "Expected end of string instead of "{found}"." at character {position}: fields'
    )


def unknown_path(path: str) -> GraphError:
    """Code 2500: no such edge."""
    return GraphError(2500, f"Unknown path components: {path}")


def reduce_data() -> GraphError:
    """Code 1 with the text that means "too large", which no plain retry cures."""
    return GraphError(
        1, "Please reduce the amount of data you're asking for, then retry your request", status=500
    )


def transient_error() -> GraphError:
    """Code 2: a service of Meta is away for a moment."""
    return GraphError(
        2,
        "An unexpected error has occurred. Please retry your request later.",
        status=500,
        is_transient=True,
    )


def blocked() -> GraphError:
    """Code 368: blocked for policy reasons."""
    return GraphError(
        368,
        "The action attempted has been deemed abusive or is otherwise disallowed. You're temporarily blocked.",
    )
