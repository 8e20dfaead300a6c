"""The OpenAPI document: what FastAPI makes of the routes, completed by what only we know of them.

Every operation lists every error it can give, says which credential it wants, and nothing mentions a 422.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from meta_sync.api.documentation import (
    CODES_KEY,
    codes_by_status,
    describe_codes,
    implied_codes,
    table_of_codes,
)
from meta_sync.api.examples import add_examples
from meta_sync.api.links import add_links
from meta_sync.api.schemas.base import Error
from meta_sync.api.security import Access, Scope, access_of
from meta_sync.api.vocabulary import describe_fields

__all__ = ["TAGS", "build_openapi", "render"]

TAGS = [
    {"name": "Platform", "description": "Stores, API keys, and who the caller is."},
    {
        "name": "Catalog",
        "description": "The source catalog: products, variants and stock as the store has them.",
    },
    {"name": "Imports", "description": "Feed files of any size."},
    {"name": "Connection", "description": "The connection to Meta, the settings, and the sync as a whole."},
    {"name": "Items", "description": "What of the store's variants is at Meta, and why."},
    {"name": "Errors", "description": "What went wrong, what it means, and what to do about it."},
    {
        "name": "Pre-flight",
        "description": "What a sync would do, before it does it, and the approval of a first sync into a filled catalog.",
    },
    {
        "name": "Reconciliations",
        "description": "What Meta shows compared with what it confirmed, and what is done about the difference.",
    },
    {
        "name": "Holds",
        "description": "Changes that are so many at once that they wait for a person: released, or discarded.",
    },
    {"name": "Jobs", "description": "Long work over the items of a store: started, watched, called off."},
    {
        "name": "History",
        "description": "Batches with their items, what happened to a store, and who did what.",
    },
    {"name": "Health", "description": "For orchestrators."},
]

_DESCRIPTION = (
    "Keeps a store's catalog true on Facebook and Instagram. Successes come as `{data, message, statusCode, metadata}`,"
    " failures as `Error`. Times are ISO 8601 with an offset, money is whole minor units of the store's currency, ids are"
    " texts. An id in a path that holds `/`, `%`, `?`, `#` or a backslash, begins with `~`, or is `.` or `..` is written"
    " `~` + base64url; every object carries its `href`.\n\n## Errors\n\nEvery failure is an `Error` with one of these codes,"
    " also where there is no such address (`NOT_FOUND`) and where the method is not served (`METHOD_NOT_ALLOWED`, with"
    " `Allow`). 429 and 503 say in `Retry-After` how many seconds to wait. What Meta said stands in `meta`. The codes of"
    " items, skips, pauses and rows of imports are listed by `GET /admin/meta/error-codes`. Every answer carries the"
    " `requestId` as `X-Request-Id`, too."
)

_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
}

_STORE_HEADER = {
    "name": "X-Store-Id",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1},
    "description": "The store to act for. Needed with a credential of the platform.",
}
_IDEMPOTENCY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same key with the same request gets the first answer again, for 24 hours.",
}

_RETRY_AFTER = {"schema": {"type": "integer"}, "description": "Seconds to wait."}
_WWW_AUTHENTICATE = {"schema": {"type": "string"}, "description": "How to say who one is: `Bearer`."}
_REPLAYED = {
    "schema": {"type": "string", "const": "true"},
    "description": "There where this is the answer to an earlier request with the same `Idempotency-Key`.",
}

_CLEAN_NAMES = {
    "ActivityEntryView": "ActivityEntry",
    "ApiKeyView": "ApiKey",
    "DecisionKind": "SyncDecision",
    "Method": "BatchMethod",
    "NextRequestView": "NextRequest",
    "ProductSyncView": "ProductSync",
    "Status": "SyncStatus",
    "StoreView": "Store",
    "TimelineEntryView": "TimelineEntry",
}
"""Names that are clear in the code, and too general or too technical outside it."""


def build_openapi(app: FastAPI, routes: list[APIRoute]) -> dict[str, Any]:
    """The document of an app made of the given routes."""
    document: dict[str, Any] = get_openapi(
        title="meta-sync",
        version=app.version,
        description=f"{_DESCRIPTION}\n\n{table_of_codes()}",
        routes=app.routes,
        tags=TAGS,
        servers=[{"url": "/", "description": "The installation that this document was read from."}],
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        separate_input_output_schemas=False,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    error_schema = Error.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(error_schema.pop("$defs", {}))
    schemas["Error"] = error_schema
    document["components"]["securitySchemes"] = _SECURITY_SCHEMES
    codes: dict[str, dict[str, list[str]]] = {}
    for route in routes:
        for method in route.methods or ():
            operation = document["paths"].get(route.path, {}).get(method.lower())
            if operation is not None:
                codes[operation["operationId"]] = _complete(operation, route, access_of(route.endpoint))
    for schema in schemas.values():
        _drop_titles(schema)
    _refine(document)
    document = _renamed(document)
    describe_fields(document)
    add_links(document)
    add_examples(document, codes)
    return document


def render(document: dict[str, Any]) -> str:
    """The document as text that changes only when the API does."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _complete(operation: dict[str, Any], route: APIRoute, access: Access) -> dict[str, list[str]]:
    """Say what FastAPI does not know of an operation; the codes that it can give, by status."""
    responses = operation["responses"]
    responses.pop("422", None)
    codes = implied_codes(operation, route.path, access)
    for response in responses.values():
        codes.update(response.pop(CODES_KEY, ()))
    by_status = codes_by_status(codes)
    for status, named in by_status.items():
        responses[status] = {
            "description": describe_codes(named),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    _add_headers(responses, access)
    operation["security"] = [] if access.scope is Scope.OPEN else [{"bearer": []}, {"apiKey": []}]
    parameters = operation.setdefault("parameters", [])
    if access.scope is Scope.STORE:
        parameters.append(_STORE_HEADER)
    if access.is_idempotent:
        parameters.append(_IDEMPOTENCY_HEADER)
    for parameter in parameters:
        _drop_titles(parameter.get("schema", {}))
    if not parameters:
        del operation["parameters"]
    for response in responses.values():
        for content in response.get("content", {}).values():
            _drop_titles(content.get("schema", {}))
    for content in operation.get("requestBody", {}).get("content", {}).values():
        _drop_titles(content.get("schema", {}))
    return by_status


def _add_headers(responses: dict[str, Any], access: Access) -> None:
    for code in ("429", "503"):
        if code in responses:
            responses[code]["headers"] = {"Retry-After": _RETRY_AFTER}
    if "401" in responses:
        responses["401"]["headers"] = {"WWW-Authenticate": _WWW_AUTHENTICATE}
    if access.is_idempotent:
        success = next(response for status, response in responses.items() if status.startswith("2"))
        success.setdefault("headers", {})["Idempotency-Replayed"] = _REPLAYED


def _refine(value: Any) -> None:
    """Write the bounds of integers as integers: FastAPI makes floats of them, and 2^63 of the largest one.

    Counts and prices may outgrow 32 bits, and paths are no whole addresses: the formats say so to generators.
    """
    if isinstance(value, list):
        for one in value:
            _refine(one)
    if not isinstance(value, dict):
        return
    if value.get("type") == "integer":
        for bound in ("minimum", "maximum"):
            if isinstance(value.get(bound), float):
                value[bound] = min(int(value[bound]), 2**63 - 1)
        value.setdefault("format", "int64")
    for name, field in value.get("properties", {}).items():
        if name.lower().endswith("href"):
            for one in field.get("anyOf", [field]):
                if one.get("type") == "string":
                    one["format"] = "uri-reference"
    for one in value.values():
        _refine(one)


def _drop_titles(schema: Any) -> None:
    """Leave out the titles that repeat a field's name; generators make types of them."""
    if isinstance(schema, list):
        for one in schema:
            _drop_titles(one)
        return
    if not isinstance(schema, dict):
        return
    schema.pop("title", None)
    for key, value in schema.items():
        if key == "properties":
            for field in value.values():
                _drop_titles(field)
        elif key in {"items", "anyOf", "allOf", "oneOf", "additionalProperties", "prefixItems"}:
            _drop_titles(value)


def _renamed(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document["components"]["schemas"]
    for old, new in _CLEAN_NAMES.items():
        if old in schemas:
            schemas[new] = schemas.pop(old)
    prefix = "#/components/schemas/"

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(one) for key, one in value.items()}
        if isinstance(value, list):
            return [walk(one) for one in value]
        if isinstance(value, str) and value.startswith(prefix):
            name = value.removeprefix(prefix)
            return prefix + _CLEAN_NAMES.get(name, name)
        return value

    renamed: dict[str, Any] = walk(document)
    return renamed
