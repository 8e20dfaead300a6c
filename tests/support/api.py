"""The real app over a real database, called as a client calls it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI

from meta_sync.access.models import Permission
from meta_sync.api.app import create_app
from meta_sync.api.body_guard import BodyLimits
from meta_sync.factory import Factory, ProcessContext
from tests.support.world import World

STORE_PERMISSIONS = tuple(one for one in Permission if one is not Permission.PLATFORM_ADMIN)


@dataclass
class Caller:
    """A client with one credential."""

    http: httpx.AsyncClient
    headers: dict[str, str] = field(default_factory=dict)

    async def __call__(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        arguments["headers"] = {**self.headers, **arguments.get("headers", {})}
        return await self.http.request(method, path, **arguments)

    async def get(self, path: str, **parameters: Any) -> httpx.Response:
        return await self("GET", path, params=parameters)

    async def data(self, method: str, path: str, status: int = 200, **arguments: Any) -> Any:
        """The data of an answer that must succeed, its envelope checked."""
        response = await self(method, path, **arguments)
        assert response.status_code == status, response.text
        body = response.json()
        assert set(body) == {"data", "message", "statusCode", "metadata"}
        assert (body["message"], body["statusCode"]) == ("Success", status)
        return body["data"]


@dataclass
class Api:
    """The app, the world below it, and callers of several kinds."""

    app: FastAPI
    world: World
    context: ProcessContext
    http: httpx.AsyncClient

    @property
    def factory(self) -> Factory:
        return Factory(self.context)

    async def key(
        self, store_id: str | None, permissions: Sequence[str] = STORE_PERMISSIONS
    ) -> tuple[str, str]:
        made = await self.factory.access().create_key(store_id, [str(one) for one in permissions])
        return made.key_id, made.api_key

    async def caller(
        self, store_id: str | None = None, permissions: Sequence[str] = STORE_PERMISSIONS
    ) -> Caller:
        """A caller of a store; of the world's own when none is named."""
        _, api_key = await self.key(store_id or self.world.store_id, permissions)
        return Caller(self.http, {"Authorization": f"Bearer {api_key}"})

    async def platform(self, permissions: Sequence[str] = tuple(Permission)) -> Caller:
        """A caller of the platform."""
        _, api_key = await self.key(None, permissions)
        return Caller(self.http, {"X-API-Key": api_key})

    @property
    def nobody(self) -> Caller:
        return Caller(self.http)


@asynccontextmanager
async def open_api(world: World, *, limits: BodyLimits | None = None, **settings: Any) -> AsyncIterator[Api]:
    """The app on the world's database, queue and sandbox."""
    context = ProcessContext(
        settings=world.settings.model_copy(update=settings),
        database=world.database,
        queue=world.queue,
        http=world.http,
        cipher=world.cipher,
    )
    app = create_app(context, limits=limits)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        yield Api(app, world, context, http)


def assert_error(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error of an answer that must fail, its envelope checked."""
    assert response.status_code == status, response.text
    body: dict[str, Any] = response.json()
    assert set(body) - {"meta"} == {"message", "statusCode", "errorCode", "details", "requestId"}
    assert (body["statusCode"], body["errorCode"]) == (status, code), body
    assert body["requestId"] == response.headers["x-request-id"]
    # Ours end as sentences do; what Meta says is quoted as it is.
    assert body["message"].endswith(".") or "Meta says" in body["message"], body["message"]
    assert all(set(detail) == {"field", "message"} for detail in body["details"])
    return body


def tilde(value: str) -> str:
    return "~" + base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")


def product_body(*variant_ids: str, **fields: Any) -> dict[str, Any]:
    """A product that may be sent."""
    return {
        "title": "T-shirt",
        "slug": "t-shirt",
        "brand": "Acme",
        "thumbnail": "https://shop.example/one.jpg",
        "variants": [{"id": one, "sku": f"SKU-{one}", "price": 1999} for one in variant_ids or ("v1",)],
        **fields,
    }
