"""The HTTP API as an ASGI app. Everything it does is wired here; nothing happens at import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from meta_sync import __version__
from meta_sync.api.body_guard import BodyGuard, BodyLimits
from meta_sync.api.errors import error_response, service_error
from meta_sync.api.event_stream import OpenStreams
from meta_sync.api.generated_clients import for_generators
from meta_sync.api.middleware import Cors, RequestBoundary, request_id_of
from meta_sync.api.openapi import TAGS, build_openapi, render
from meta_sync.api.routes import (
    adoption,
    audit,
    catalog,
    connection,
    documents,
    errors,
    events,
    feeds,
    handles,
    health,
    holds,
    imports,
    items,
    jobs,
    platform,
    preflight,
    reconciliations,
)
from meta_sync.core.errors import ServiceError
from meta_sync.core.logging import get_logger
from meta_sync.factory import ProcessContext

__all__ = ["api_routes", "create_app", "openapi_document"]

_logger = get_logger(__name__)

_ROUTERS = (
    platform.routes,
    catalog.routes,
    events.routes,
    imports.routes,
    feeds.routes,
    connection.routes,
    # Before the items, of which one might be called "bulk".
    jobs.routes,
    preflight.routes,
    reconciliations.routes,
    adoption.routes,
    items.routes,
    handles.routes,
    holds.routes,
    audit.routes,
    errors.routes,
    health.routes,
    documents.routes,
)


def api_routes() -> list[APIRoute]:
    """Every route of the API, in the order in which they are tried."""
    return [route for router in _ROUTERS for route in router.routes if isinstance(route, APIRoute)]


def create_app(
    context: ProcessContext | None, *, for_openapi: bool = False, limits: BodyLimits | None = None
) -> FastAPI:
    """Make the app.

    Parameters
    ----------
    context
        What the process lives on; opened and closed by the caller. ``None`` only to describe the API.
    for_openapi
        The app is only described, never served.
    limits
        Bounds on bodies; those of the settings when not given.
    """
    if context is None and not for_openapi:
        raise ValueError("an app that is served needs a process context")
    origins = context.settings.cors_origins if context is not None else ()
    if limits is None:
        limits = (
            BodyLimits(upload_bytes=context.settings.max_upload_bytes)
            if context is not None
            else BodyLimits()
        )
    app = FastAPI(
        title="meta-sync",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        openapi_tags=TAGS,
        middleware=[
            Middleware(Cors, origins=origins),
            Middleware(RequestBoundary),
            Middleware(BodyGuard, limits=limits),
        ],
        exception_handlers={
            ServiceError: _answer_error,
            RequestValidationError: _answer_error,
            HTTPException: _answer_error,
        },
    )
    app.state.process = context
    app.state.streams = OpenStreams()
    for router in _ROUTERS:
        app.include_router(router)
    _describe(app)
    return app


def openapi_document() -> str:
    """The OpenAPI document as text; the same text for the same API."""
    return render(create_app(None, for_openapi=True).openapi())


def _describe(app: FastAPI) -> None:
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(for_generators(build_openapi(app, api_routes())))
        return made

    describe: Callable[[], dict[str, Any]] = openapi
    app.openapi = describe  # type: ignore[method-assign]  # FastAPI's own way to replace the document


async def _answer_error(request: Request, error: Exception) -> Response:
    rendered = service_error(error)
    headers: dict[str, str] = {}
    if rendered.status == 405:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    if rendered.status >= 500:
        _logger.warning(
            "A request could not be served.",
            code=rendered.code,
            status=rendered.status,
            reason=rendered.message,
        )
    return error_response(rendered, request_id_of(request.scope), headers)


def _allowed_methods(request: Request) -> list[str]:
    path = request.scope["path"]
    routes = [route for route in api_routes() if route.path_regex.match(path)]
    # "/catalog/products/batch" is an address of its own, whatever else an id in its place could do.
    routes = [route for route in routes if route.path == path] or routes
    return sorted({method for route in routes for method in route.methods or ()})
