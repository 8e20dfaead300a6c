"""Codes of the API's error answers. The answer's own sentence says what it is about; this says what the code means."""

from __future__ import annotations

from meta_sync.sync.code_entry import CodeEntry, table

__all__ = ["API"]

_REQUESTS = table(
    "api",
    "unknown",
    "error",
    (
        ("BAD_REQUEST", "The request cannot be served as it stands.", "Correct what the message names."),
        (
            "VALIDATION_ERROR",
            "Fields of the request are not valid.",
            "Correct the fields that details names.",
        ),
        (
            "NOT_FOUND",
            "There is no such thing in this store, or nothing at this address.",
            "Check the id, the address and the store.",
        ),
        (
            "METHOD_NOT_ALLOWED",
            "The method is not served at this address.",
            "Use one of those that the header Allow names.",
        ),
        (
            "CONFLICT",
            "The request does not fit the present state.",
            "Read the state, then do what the message says or try again later.",
        ),
        (
            "PAYLOAD_TOO_LARGE",
            "The body is larger than the limit.",
            "Send less at once; for catalogs of any size use an import.",
        ),
        (
            "UNSUPPORTED_MEDIA_TYPE",
            "The body is of a type or coding that is not read here.",
            "Set the Content-Type that the message names.",
        ),
        (
            "INTERNAL_SERVER_ERROR",
            "Something went wrong in meta-sync.",
            "Try again; if it repeats, report it with the requestId.",
        ),
    ),
)
_OTHERS = (
    CodeEntry(
        "UNAUTHORIZED",
        "api",
        "authentication",
        "error",
        "No credential was sent, or one that is not known.",
        "Send a valid API key as Authorization: Bearer or as X-API-Key.",
    ),
    CodeEntry(
        "FORBIDDEN",
        "api",
        "permission",
        "error",
        "The credential may not do this, or not in this store.",
        "Use a key with the permission, or add it to a new key.",
    ),
    CodeEntry(
        "RATE_LIMITED",
        "api",
        "rate_limit",
        "warning",
        "Too many requests came in too short a time.",
        "Wait as long as Retry-After says, then send it again.",
    ),
    CodeEntry(
        "SERVICE_UNAVAILABLE",
        "api",
        "network",
        "warning",
        "Something that meta-sync needs does not answer just now, such as its database.",
        "Wait as long as Retry-After says, then send it again.",
    ),
    CodeEntry(
        "meta_not_connected",
        "api",
        "authentication",
        "error",
        "The store has no token or no catalog to work with.",
        "Connect the store with a token, then select a catalog.",
    ),
    CodeEntry(
        "meta_misconfigured",
        "api",
        "authentication",
        "error",
        "The app id or the app secret is missing, or Meta does not accept it.",
        "Set appId and appSecret as the app's dashboard at Meta shows them.",
    ),
    CodeEntry(
        "meta_account_error",
        "api",
        "permission",
        "error",
        "Something in the Meta account stands in the way: the token, a permission or the access to the catalog.",
        "Do what the message says in Meta's Business Settings, then try again.",
    ),
    CodeEntry(
        "meta_graph_error",
        "api",
        "unknown",
        "error",
        "Meta reported an error, or gave no answer that can be read.",
        "Do what the message says; if it names nothing, try again in a minute.",
    ),
)

API: tuple[CodeEntry, ...] = (*_REQUESTS, *_OTHERS)
