"""What schemathesis is told beyond the document: what it must leave standing, and which answers no schema can foretell.

Every exception is as narrow as it can be said: an operation, a field, and the words of the answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure, ServerError
from schemathesis.core.transport import Response
from schemathesis.generation.meta import CoveragePhaseData, CoverageScenario, TestPhase
from schemathesis.openapi.checks import RejectedPositiveData

__all__: list[str] = []

_KEPT_KEYS = frozenset(os.environ.get("CONFORMANCE_KEPT_KEYS", "").split(","))
_IDS: dict[str, list[str]] = json.loads(os.environ.get("CONFORMANCE_IDS", "{}"))
"""What the store has, by the parameter that names it: ids that nobody could guess."""
_SHARE = int(os.environ.get("CONFORMANCE_SHARE", "1"))
"""One in so many cases of the phase "coverage" is sent, always the same ones."""

_RIGHT_REFUSALS = [
    # What a regular expression could say of every text, and nobody could read any more.
    (".*", ".*", "must not contain (the NUL character|lone surrogates|control characters).*"),
    # Signed by us: there is no valid one but those that were answered.
    ("GET .*", "cursor", "is not valid for this list"),
    # Rows beyond the first 10,000 are for cursors; the limit is the product of two parameters.
    ("GET .*", "page", "is too deep; use cursor"),
    # JSON Schema calls 19.0 an integer; as a price it would more likely mean 19 of the larger unit.
    (".*", ".*", "must be a whole number"),
    # Attributes that an event may have beyond ours.
    ("POST /catalog/events", ".*", "must fit into 64 bits"),
    # One of several fields.
    ("POST /admin/meta/(sync-jobs|items/bulk/.*)", "body", "give (either|one of) .*"),
    # What the clock, the calendar or another field decides.
    (".*", ".*", "must not be more than 10 minutes ahead of this server's clock"),
    (".*", ".*", "must lie within the years 1 to 9999 in UTC"),
    ("(PUT|POST) /catalog/products.*", r".*variants\[\d+\]\.id", "is the id of .* too"),
    ("PUT /catalog/products/.*", "(id|path)", "must have 1 to 200 characters"),
    # Registers of other people, and texts that are put together from several rules.
    ("(PATCH /admin/meta/settings|POST /platform/stores)", "currency", "must be an active ISO 4217 .*"),
    ("PATCH /admin/meta/settings", "timezone", "must be an IANA time zone .*"),
    (
        "(PATCH /admin/meta/settings|POST /platform/stores)",
        ".*(Url|Uri)",
        "must (be an http or https address|be an address without|not contain a user name) .*",
    ),
    (
        "PATCH /admin/meta/settings",
        "retailerIdTemplate|storefrontProductPath",
        "has (the unknown placeholder|a brace without) .*",
    ),
    # Where an address on the web may lead, and what its parts have to do with each other.
    ("(POST|PATCH) /catalog/(feeds|imports).*", "url", "(must|is not an address|has a host).*"),
    ("(POST|PATCH) /catalog/(feeds|imports).*", "username|password", "is required where .* is given"),
    ("(POST|PATCH) /catalog/(feeds|imports).*", "username", "must be a name without .*"),
    # A permission that only keys of the platform can have.
    ("POST /platform/stores/{storeId}/api-keys", "permissions", "must not contain platform:admin .*"),
]
"""Operation, field and fault of data that its schema allows and the service refuses with good reason."""

_META = "POST /admin/meta/(token|select-catalog)"
"""Meta knows its tokens and catalogs, we do not."""
_META_CODES = frozenset({"meta_account_error", "meta_graph_error"})


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Leave the store's header to the run, which sends it with every call.

    The program takes it for the id of a thing that no operation makes, and would begin no sequence of calls with an
    operation that has it: all but those of the platform.
    """
    for operations in raw_schema["paths"].values():
        for operation in operations.values():
            operation["parameters"] = [
                one for one in operation.get("parameters", ()) if one["name"] != "X-Store-Id"
            ]


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Thin out, and keep the keys and the feed that are there: whoever revokes the key it calls with finds out nothing more."""
    if case.meta is not None and isinstance(case.meta.phase.data, CoveragePhaseData) and _SHARE > 1:
        is_default = case.meta.phase.data.scenario is CoverageScenario.DEFAULT_POSITIVE_TEST
        named = f"{case.method} {case.path} {case.meta.phase.data.description}"
        if not is_default and zlib.crc32(named.encode()) % _SHARE:
            return False
    if case.method.upper() != "DELETE":
        return True
    ids = case.path_parameters or {}
    return ids.get("keyId") not in _KEPT_KEYS and ids.get("feedId") not in _IDS.get("feedId", ())


_OWN_ID = r"[a-z]+_[0-9a-z]{20}|[0-9]{1,18}"
_OWN_CURSOR = r"[A-Za-z0-9_-]{24,}"
_KEPT_SETTINGS = frozenset({"appId", "appSecret", "feedMode", "syncEnabled"})


@schemathesis.hook
def map_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> schemathesis.Case[Any]:
    """Leave out what would make all calls of a kind end alike: valid ones are to find something to do."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    operation = f"{case.method.upper()} {case.path}"
    phase = case.meta.phase.name
    if case.method.upper() != "DELETE":
        for name in _IDS.keys() & (case.path_parameters or {}).keys():
            drawn = case.path_parameters[name]
            # What a link or an earlier answer gave is followed.
            if phase is not TestPhase.STATEFUL or not re.fullmatch(_OWN_ID, str(drawn)):
                case.path_parameters[name] = _one_of(_IDS[name], drawn)
    if case.query and case.method.upper() == "GET" and _is_drawn(case):
        case.query = _found_pages(case.query, with_filters=phase is TestPhase.FUZZING)
    if "Idempotency-Key" in (case.headers or {}):
        # The same key with another request is a conflict, and the program uses few keys.
        said = (case.headers["Idempotency-Key"], operation, case.path_parameters, case.query, case.body)
        case.headers["Idempotency-Key"] = hashlib.sha256(repr(said).encode()).hexdigest()
    return case


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]
) -> None:
    """The same for bodies, which links add to after they were drawn."""
    if case.meta is None or not case.meta.generation.mode.is_positive or not isinstance(case.body, dict):
        return
    operation = f"{case.method.upper()} {case.path}"
    left_out: frozenset[str] = frozenset()
    if operation == "PUT /catalog/products/{productId}":
        left_out = frozenset({"id"})  # is to be the one in the path
    elif operation == "PATCH /admin/meta/settings":
        left_out = _KEPT_SETTINGS
    elif re.fullmatch("POST /admin/meta/(sync-jobs|items/bulk/.*)", operation) and _is_drawn(case):
        case.body = _one_choice(case.body)
    if not left_out.isdisjoint(case.body):
        case.body = {name: value for name, value in case.body.items() if name not in left_out}


def _is_drawn(case: schemathesis.Case[Any]) -> bool:
    return case.meta is not None and case.meta.phase.name in {TestPhase.FUZZING, TestPhase.STATEFUL}


def _found_pages(query: dict[str, Any], *, with_filters: bool) -> dict[str, Any]:
    """A query of a list that finds something: with no cursor but one that an answer gave, and not far beyond the end."""
    if re.fullmatch(_OWN_CURSOR, str(query.get("cursor", ""))):
        return {name: value for name, value in query.items() if name in {"cursor", "limit"}}
    left_out = {"cursor"} if with_filters else {"cursor", "page"}
    kept = {name: value for name, value in query.items() if name not in left_out}
    if isinstance(kept.get("page"), int):
        kept["page"] = 1 + kept["page"] % 2
    # A cursor of a filtered list is refused beside any other filter that is drawn to it.
    return kept if with_filters else {name: value for name, value in kept.items() if name == "limit"}


def _one_choice(body: dict[str, Any]) -> dict[str, Any]:
    """A body with one of the fields that exclude each other."""
    given = [name for name in ("variantIds", "productIds", "filter") if body.get(name) is not None]
    left = given[zlib.crc32(repr(body).encode()) % len(given)] if given else None
    return {name: value for name, value in body.items() if name == left or name not in given}


def _one_of(ids: list[str], drawn: object) -> str:
    """Always the same one for what was drawn."""
    return ids[zlib.crc32(repr(drawn).encode()) % len(ids)]


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext, failure: Failure, case: schemathesis.Case[Any], response: Response
) -> bool:
    """Whether a failure is one."""
    operation = f"{case.method.upper()} {case.path}"
    if re.fullmatch(_META, operation) and _body(response).get("errorCode") in _META_CODES:
        return not isinstance(failure, RejectedPositiveData | ServerError)
    if isinstance(failure, RejectedPositiveData):
        return not _is_right_refusal(_body(response), operation)
    if isinstance(failure, AcceptedNegativeData):
        # A form sends an empty text for a field that nobody filled in.
        if operation == "POST /catalog/imports" and "" in _values(case.body):
            return False
        # What was read may be put back as it is, with the fields that only reading has.
        if operation == "PUT /catalog/products/{productId}" and _is_put_back(case):
            return False
        # Rows are judged one by one: the answer is a success that names the bad ones.
        return not (operation in _ROW_BY_ROW and _body(response).get("data", {}).get("rejected"))
    # The schema describes the whole body, as OpenAPI 3.1 has it; the program holds it against every event.
    return not (case.path.endswith("/stream") and "SSE" in failure.title)


def _is_put_back(case: schemathesis.Case[Any]) -> bool:
    """Whether all that was drawn is valid, and a link added to it what an answer gave."""
    assert case.meta is not None
    return case.meta.phase.data.description == "Positive test case"


_ROW_BY_ROW = {"POST /catalog/products/batch", "POST /catalog/events"}


def _values(body: object) -> list[object]:
    return list(body.values()) if isinstance(body, dict) else []


def _body(response: Response) -> dict[str, Any]:
    try:
        body = json.loads(response.content)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _is_right_refusal(error: dict[str, Any], operation: str) -> bool:
    details = error.get("details", [])
    return bool(details) and all(
        any(
            re.fullmatch(one, operation)
            and re.fullmatch(field, detail["field"])
            and re.fullmatch(fault, detail["message"])
            for one, field, fault in _RIGHT_REFUSALS
        )
        for detail in details
    )
