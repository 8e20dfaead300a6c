"""Meta's answers as plain types. Missing keys default; what cannot be read is said so, never guessed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs, urlsplit

from meta_sync.graph.errors import GraphError
from meta_sync.graph.tolerant import identifier, integer, items, mapping, scrub, text, truth
from meta_sync.graph.usage import Usage

__all__ = [
    "Answer",
    "Answered",
    "CatalogInfo",
    "Identity",
    "ItemMessages",
    "ProductsPage",
    "ReportLine",
    "ReportPage",
    "SubmitAnswer",
    "TokenInfo",
    "next_cursor",
    "parse_catalog",
    "parse_identity",
    "parse_products",
    "parse_report_page",
    "parse_submit",
    "parse_token",
]

_LONGEST_MESSAGE = 2000
"""Characters kept of a message about an item; Meta's own stay below 500 in all samples."""

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, or the lack of one, as the client hands it to the endpoints.

    Attributes
    ----------
    value
        The decoded JSON body, also when there is an error; ``None`` when it could not be read.
    status
        HTTP status; ``None`` when no answer arrived.
    """

    value: Any
    usage: Usage
    error: GraphError | None
    status: int | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class Answered(Generic[ValueT]):
    """A value read from Meta, with what the answer said of the rate budget."""

    value: ValueT
    usage: Usage


@dataclass(frozen=True, slots=True)
class ItemMessages:
    """What Meta says of one item at once: errors refuse it, warnings do not."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SubmitAnswer:
    """The answer to ``items_batch``. ``handles`` is ``None`` when the answer does not say."""

    handles: tuple[str, ...] | None
    messages: dict[str, ItemMessages]


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One error or warning of a finished batch. The id is as Meta wrote it, empty when it named none."""

    retailer_id: str
    message: str


@dataclass(frozen=True, slots=True)
class ReportPage:
    """One page of ``check_batch_request_status``. ``status`` is in lower case, empty when missing.

    ``names_nobody`` says that both lists of what was not saved are there and empty; a list that is left out says
    nothing.
    """

    handle: str | None
    status: str
    errors: tuple[ReportLine, ...]
    errors_total_count: int | None
    warnings: tuple[ReportLine, ...]
    warnings_total_count: int | None
    invalid_ids: tuple[str, ...]
    has_next: bool
    after: str | None
    names_nobody: bool


@dataclass(frozen=True, slots=True)
class ProductsPage:
    """One page of a catalog's items, each with Meta's own field names.

    ``has_next`` without ``after`` means that more exist and cannot be reached: the walk is incomplete.
    """

    items: tuple[dict[str, Any], ...]
    has_next: bool = False
    after: str | None = None
    total_count: int | None = None


@dataclass(frozen=True, slots=True)
class CatalogInfo:
    """A catalog; absent facts are ``None``."""

    id: str
    name: str | None = None
    vertical: str | None = None
    product_count: int | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token speaks for."""

    id: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What ``debug_token`` says of a token.

    Attributes
    ----------
    type
        Meta's word: ``USER``, ``PAGE``, ``APP`` or ``SYSTEM_USER``.
    expires_at, data_access_expires_at
        ``None`` when it never expires, or when Meta did not say.
    granular_scopes
        Scope to the ids it is limited to; an empty tuple means "all, present and future".
    error_code, error_subcode, error_message
        Why the token is not valid.
    """

    is_valid: bool
    app_id: str | None = None
    type: str | None = None
    application: str | None = None
    user_id: str | None = None
    expires_at: datetime | None = None
    data_access_expires_at: datetime | None = None
    issued_at: datetime | None = None
    scopes: tuple[str, ...] = ()
    granular_scopes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    error_code: int | None = None
    error_subcode: int | None = None
    error_message: str | None = None


def parse_submit(value: Any) -> SubmitAnswer:
    """Handles are a list of texts, in practice none or one (documented); anything else is no statement."""
    body = mapping(value)
    handles = body.get("handles")
    known: tuple[str, ...] | None = None
    if isinstance(handles, list):
        known = tuple(handle for handle in handles if isinstance(handle, str) and handle)
        if handles and not known:
            known = None
    found: dict[str, ItemMessages] = {}
    for entry in map(mapping, items(body.get("validation_status"))):
        retailer_id = identifier(entry.get("retailer_id")) or ""
        old = found.get(retailer_id, ItemMessages())
        found[retailer_id] = ItemMessages(
            errors=old.errors + tuple(_messages(entry.get("errors"))),
            warnings=old.warnings + tuple(_messages(entry.get("warnings"))),
        )
    return SubmitAnswer(known, found)


def _messages(entries: Any) -> Iterator[str]:
    """The texts of a list of ``{"message"}``. An entry without a readable text still counts: it says
    something.
    """
    for entry in items(entries):
        said = entry if isinstance(entry, str) else mapping(entry).get("message")
        yield text(said, _LONGEST_MESSAGE) or "Meta gave no reason."


def parse_report_page(value: Any, handle: str) -> ReportPage:
    """The page about ``handle``: its object among ``data``, or the only one there is."""
    body = mapping(value)
    nodes = [mapping(node) for node in items(body.get("data"))] or [mapping(body.get("data"))]
    node = next((node for node in nodes if node.get("handle") == handle), nodes[0])
    has_next, after = next_cursor(body)
    status = node.get("status")
    return ReportPage(
        handle=identifier(node.get("handle")),
        status=status.strip().lower() if isinstance(status, str) else "",
        errors=tuple(_lines(node.get("errors"))),
        errors_total_count=_count(node.get("errors_total_count")),
        warnings=tuple(_lines(node.get("warnings"))),
        warnings_total_count=_count(node.get("warnings_total_count")),
        invalid_ids=tuple(identifier(entry) or "" for entry in items(node.get("ids_of_invalid_requests"))),
        has_next=has_next,
        after=after,
        names_nobody=node.get("errors") == [] and node.get("ids_of_invalid_requests") == [],
    )


def _lines(entries: Any) -> Iterator[ReportLine]:
    for entry in map(mapping, items(entries)):
        message = text(entry.get("message"), _LONGEST_MESSAGE) or "Meta gave no reason."
        yield ReportLine(identifier(entry.get("id")) or "", message)


def _count(value: Any) -> int | None:
    count = integer(value)
    return count if count is not None and count >= 0 else None


def next_cursor(value: Any) -> tuple[bool, str | None]:
    """Whether a further page exists, and the cursor to ask for it.

    The absence of ``next`` is the only sign of the end (documented). The URL in it holds the access token, so
    only its ``after`` is looked at, and only when ``cursors`` is missing.
    """
    paging = mapping(mapping(value).get("paging"))
    following = paging.get("next")
    if not following:
        return False, None
    after = mapping(paging.get("cursors")).get("after")
    if isinstance(after, str) and after:
        return True, after
    try:
        found = parse_qs(urlsplit(following).query).get("after") if isinstance(following, str) else None
    except ValueError:
        found = None
    return True, found[0] if found else None


def parse_products(value: Any) -> ProductsPage | None:
    """A page of items, or ``None`` when the answer holds no list."""
    body = mapping(value)
    data = body.get("data")
    if not isinstance(data, list):
        return None
    has_next, after = next_cursor(body)
    total = _count(mapping(body.get("summary")).get("total_count"))
    return ProductsPage(tuple(node for node in data if isinstance(node, dict)), has_next, after, total)


def parse_catalog(value: Any) -> CatalogInfo | None:
    """A catalog node, or ``None`` when the answer names none."""
    body = mapping(value)
    catalog_id = identifier(body.get("id"))
    if not catalog_id:
        return None
    return CatalogInfo(
        catalog_id, text(body.get("name")), text(body.get("vertical")), _count(body.get("product_count"))
    )


def parse_identity(value: Any) -> Identity | None:
    """The node of ``/me``, or ``None`` when the answer names nobody."""
    body = mapping(value)
    identity = identifier(body.get("id"))
    return Identity(identity, text(body.get("name"))) if identity else None


def parse_token(value: Any) -> TokenInfo | None:
    """The answer of ``debug_token``, or ``None`` when it does not say whether the token is valid.

    Inside ``data`` the error's subcode is called ``subcode`` (documented sample).
    """
    data = mapping(mapping(value).get("data"))
    if "is_valid" not in data:
        return None
    error = mapping(data.get("error"))
    message = text(error.get("message"), _LONGEST_MESSAGE)
    return TokenInfo(
        is_valid=truth(data["is_valid"]),
        app_id=identifier(data.get("app_id")),
        type=text(data.get("type")),
        application=text(data.get("application")),
        user_id=identifier(data.get("user_id")),
        expires_at=_instant(data.get("expires_at")),
        data_access_expires_at=_instant(data.get("data_access_expires_at")),
        issued_at=_instant(data.get("issued_at")),
        scopes=tuple(scope for scope in items(data.get("scopes")) if isinstance(scope, str)),
        granular_scopes=_granular_scopes(data.get("granular_scopes")),
        error_code=integer(error.get("code")),
        error_subcode=integer(error.get("subcode")) or integer(error.get("error_subcode")),
        error_message=scrub(message) if message else None,
    )


def _granular_scopes(entries: Any) -> dict[str, tuple[str, ...]]:
    return {
        entry["scope"]: tuple(filter(None, map(identifier, items(entry.get("target_ids")))))
        for entry in map(mapping, items(entries))
        if isinstance(entry.get("scope"), str)
    }


def _instant(value: Any) -> datetime | None:
    """Unix seconds; 0 means never (documented)."""
    seconds = integer(value)
    if not seconds:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
