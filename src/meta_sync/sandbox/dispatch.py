"""One Graph call from its parameters to its answer: Graph's order of checks, with the faults at their places.

Order: token, proof, scope, access to the object, rate budget, parameters. Knows nothing about HTTP servers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from meta_sync.sandbox import auth, errors
from meta_sync.sandbox.errors import GraphError
from meta_sync.sandbox.faults import FaultKind
from meta_sync.sandbox.limits import Bucket, throttled
from meta_sync.sandbox.model import AccessToken
from meta_sync.sandbox.routes import accounts, items_batch, products
from meta_sync.sandbox.state import LoggedRequest, SandboxState
from meta_sync.sandbox.wire import Answer, Call

__all__ = ["answer_call"]

_Handler = Callable[[SandboxState, Call, AccessToken], dict[str, Any]]

_HTML_500 = (
    b"<!DOCTYPE html><html><head><title>Facebook | Error</title></head>"
    b"<body><h1>Sorry, something went wrong.</h1></body></html>"
)


@dataclass(frozen=True, slots=True)
class _Route:
    """What a path leads to and what it takes to go there."""

    edge: str
    handler: _Handler
    scopes: tuple[str, ...] = ()
    target: Literal["none", "business", "catalog"] = "none"
    bucket: Bucket | None = None


_CATALOG = ("catalog_management",)
_BUSINESS = ("business_management",)

_ROUTES: dict[tuple[str, str], _Route] = {
    ("GET", "me"): _Route("me", accounts.me),
    ("GET", "me/permissions"): _Route("permissions", accounts.my_permissions),
    ("GET", "me/businesses"): _Route("businesses", accounts.my_businesses, _BUSINESS),
    ("GET", "me/assigned_product_catalogs"): _Route(
        "assigned_product_catalogs", accounts.my_assigned_catalogs, _CATALOG
    ),
    ("GET", "*/owned_product_catalogs"): _Route(
        "owned_product_catalogs", accounts.owned_catalogs, _BUSINESS, "business"
    ),
    ("POST", "*/owned_product_catalogs"): _Route(
        "owned_product_catalogs", accounts.create_catalog, _BUSINESS + _CATALOG, "business"
    ),
    ("GET", "*/client_product_catalogs"): _Route(
        "client_product_catalogs", accounts.shared_catalogs, _BUSINESS, "business"
    ),
    ("POST", "*/items_batch"): _Route(
        "items_batch", items_batch.items_batch, _CATALOG, "catalog", Bucket.BATCH
    ),
    ("GET", "*/check_batch_request_status"): _Route(
        "check_batch_request_status", items_batch.check_batch, _CATALOG, "catalog", Bucket.MANAGEMENT
    ),
    ("GET", "*/products"): _Route("products", products.products, _CATALOG, "catalog", Bucket.MANAGEMENT),
    ("GET", "*/data_sources"): _Route(
        "data_sources", products.data_sources, _CATALOG, "catalog", Bucket.MANAGEMENT
    ),
}


def answer_call(state: SandboxState, call: Call) -> Answer:
    """Answer one call and log it. Never raises for what a caller did."""
    route = _find_route(state, call)
    edge = (
        "debug_token"
        if route is None and call.segments == ("debug_token",)
        else route.edge
        if route
        else "unknown"
    )
    catalog_id = call.segments[0] if call.segments and state.has_catalog(call.segments[0]) else None
    struck: list[FaultKind] = []

    def strikes(kind: FaultKind) -> Any:
        fault = state.strikes(kind, edge, catalog_id)
        if fault is not None:
            struck.append(kind)
        return fault

    answer = _lost_before(strikes) or _answer(state, call, route, catalog_id, strikes)
    if catalog_id is not None and answer.raw is None:
        business_id = state.catalog(catalog_id).business_id
        answer.headers |= state.limits.headers(business_id, catalog_id, state.now())
    _spoil_after(answer, strikes)
    state.requests.append(
        LoggedRequest(
            time=state.timestamp(),
            method=call.method,
            path=call.path,
            edge=edge,
            catalog_id=catalog_id,
            records=call.records,
            status=answer.status if answer.delivery in ("whole", "half") else 0,
            error_code=answer.error_code,
            fault=struck[-1].value if struck else None,
        )
    )
    return answer


def _find_route(state: SandboxState, call: Call) -> _Route | None:
    segments = call.segments
    exact = _ROUTES.get((call.method, "/".join(segments)))
    if exact is not None:
        return exact
    if len(segments) == 2:
        return _ROUTES.get((call.method, f"*/{segments[1]}"))
    if len(segments) != 1 or call.method != "GET" or not re.fullmatch(r"\d+", segments[0]):
        return None
    if state.has_catalog(segments[0]):
        return _Route("node", accounts.catalog_node, _CATALOG, "catalog", Bucket.MANAGEMENT)
    if segments[0] in state.businesses:
        return _Route("node", accounts.business_node, _BUSINESS, "business")
    return _Route("node", _item_node, _CATALOG)


def _item_node(state: SandboxState, call: Call, token: AccessToken) -> dict[str, Any]:
    """``GET /{item}``, whatever catalog it is in; anything unknown is 100/33."""
    graph_id = call.segments[0]
    for catalog in state.catalogs_of(token):
        retailer_id = catalog.retailer_id(graph_id)
        if retailer_id is None:
            continue
        if not state.limits.spend(catalog.id, Bucket.MANAGEMENT, state.now()):
            raise throttled(Bucket.MANAGEMENT, _throttle_status(state))
        node = products.item_node(state, call, catalog, retailer_id)
        if node is not None:
            return node
    raise errors.access_lost(graph_id, call.method)


def _answer(
    state: SandboxState,
    call: Call,
    route: _Route | None,
    catalog_id: str | None,
    strikes: Callable[[FaultKind], Any],
) -> Answer:
    """The answer as the caller earned it, refusals included."""
    try:
        if call.segments == ("debug_token",) and call.method == "GET":
            return Answer(accounts.debug_token(state, call))
        token = _admit(state, call, route, strikes)
        if route is None:
            raise errors.unknown_path("/" + "/".join(call.segments))
        _meter(state, route, catalog_id, strikes)
        _refuse_on_request(strikes)
        body = route.handler(state, call, token)
        if strikes(FaultKind.TRANSIENT_AFTER):
            raise errors.transient_error()
        return Answer(body)
    except GraphError as error:
        return _refused(state, error)


def _admit(
    state: SandboxState, call: Call, route: _Route | None, strikes: Callable[[FaultKind], Any]
) -> AccessToken:
    """Token, proof, scope and access to the object."""
    token = auth.authenticate(state, call)
    if fault := strikes(FaultKind.TOKEN_ERROR):
        subcode = 463 if fault.subcode is None else fault.subcode
        now = auth.expiry_text(state.now())
        raise errors.token_error(subcode or None, app_id=state.options.app_id, expired=now, now=now)
    if strikes(FaultKind.BLOCKED):
        raise errors.blocked()
    if route is None:
        return token
    auth.check_scopes(token, route.scopes)
    if route.target == "business":
        auth.check_business(state, token, call.segments[0], call.method)
    elif route.target == "catalog":
        auth.check_catalog(state, token, call.segments[0], call.method)
    if call.segments and strikes(FaultKind.ACCESS_LOST):
        raise errors.access_lost(call.segments[0], call.method)
    return token


def _meter(
    state: SandboxState, route: _Route, catalog_id: str | None, strikes: Callable[[FaultKind], Any]
) -> None:
    """Spend one call of the route's budget."""
    if route.bucket is None or catalog_id is None:
        return
    now = state.now()
    if fault := strikes(FaultKind.THROTTLED):
        state.limits.block(catalog_id, route.bucket, now + fault.minutes * 60)
    if not state.limits.spend(catalog_id, route.bucket, now):
        raise throttled(route.bucket, _throttle_status(state))


def _refuse_on_request(strikes: Callable[[FaultKind], Any]) -> None:
    """The errors a test asked for, raised before anything is done."""
    if strikes(FaultKind.TRANSIENT_BEFORE):
        raise errors.transient_error()
    if strikes(FaultKind.REDUCE_DATA):
        raise errors.reduce_data()
    if fault := strikes(FaultKind.GRAPH_ERROR):
        raise GraphError(fault.code, fault.message, subcode=fault.subcode, status=fault.status)


def _throttle_status(state: SandboxState) -> int:
    """400 as usual; the adverse profile also uses 403."""
    return state.chance.choice((400, 403)) if state.options.profile == "adverse" else 400


def _refused(state: SandboxState, error: GraphError) -> Answer:
    status, headers = error.status, dict(error.headers)
    if error.code == 190 and state.options.profile == "adverse" and state.chance.random() < 0.5:
        status = 401
        headers["www-authenticate"] = f'OAuth "Facebook Platform" "invalid_token" "{error.message}"'
    return Answer(error.envelope(), status=status, headers=headers, error_code=error.code)


def _lost_before(strikes: Callable[[FaultKind], Any]) -> Answer | None:
    """The answer of a call that never reached Graph, or ``None`` when it did."""
    if fault := strikes(FaultKind.DROP_BEFORE):
        return Answer(delivery=fault.how)
    if strikes(FaultKind.HTML_500_BEFORE):
        return Answer(raw=_HTML_500, status=500, media_type="text/html; charset=utf-8")
    return None


def _spoil_after(answer: Answer, strikes: Callable[[FaultKind], Any]) -> None:
    """Let an answer be lost or spoiled on its way. Calls that were never heard keep the answer they have."""
    if answer.raw is not None or answer.delivery != "whole":
        return
    if fault := strikes(FaultKind.SLOW):
        answer.delay_seconds = fault.seconds
    if fault := strikes(FaultKind.DROP_AFTER):
        answer.delivery = fault.how
    elif strikes(FaultKind.HTML_500_AFTER):
        answer.raw, answer.status, answer.media_type = _HTML_500, 500, "text/html; charset=utf-8"
    elif strikes(FaultKind.HALF_RESPONSE):
        answer.delivery = "half"
    elif strikes(FaultKind.INVALID_JSON):
        content = answer.content()
        answer.raw = content[: len(content) // 2]
