"""The OpenAPI document of the running API: for tools that read it from there, and as a page for people."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from meta_sync.api.docs_page import DOCS_PAGE, DOCS_POLICY
from meta_sync.api.openapi import render
from meta_sync.api.routing import router
from meta_sync.api.security import open_to_all

__all__ = ["routes"]

routes = router("Health")


@routes.get("/openapi.json", include_in_schema=False)
@open_to_all()
async def get_openapi_document(request: Request) -> Response:
    return Response(render(request.app.openapi()), media_type="application/json")


@routes.get("/docs", include_in_schema=False)
@open_to_all()
async def get_docs_page() -> Response:
    return HTMLResponse(DOCS_PAGE, headers={"Content-Security-Policy": DOCS_POLICY})
