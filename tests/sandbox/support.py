"""What the tests of the sandbox say often."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from meta_sync.sandbox.faults import ArmedFault, FaultSpec
from meta_sync.sandbox.model import Catalog
from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN, DEMO_CATALOG_ID
from meta_sync.sandbox.state import SandboxState

BEARER = {"Authorization": f"Bearer {DEMO_ACCESS_TOKEN}"}


class MovableClock(Protocol):
    def forward(self, seconds: float) -> None: ...


def item(retailer_id: str, /, **fields: Any) -> dict[str, Any]:
    """Fields that make a complete item."""
    return {
        "id": retailer_id,
        "title": "T-shirt",
        "description": "A cotton tee",
        "availability": "in stock",
        "condition": "new",
        "price": "19.90 EUR",
        "link": "https://shop.example/p/1",
        "image_link": "https://shop.example/i/1.jpg",
        "brand": "Acme",
        "google_product_category": "1604",
        **fields,
    }


def update(retailer_id: str, /, **fields: Any) -> dict[str, Any]:
    """A record that creates or replaces a whole item."""
    return {"method": "UPDATE", "data": item(retailer_id, **fields)}


def change(retailer_id: str, /, **fields: Any) -> dict[str, Any]:
    """A record that carries only these fields."""
    return {"method": "UPDATE", "data": {"id": retailer_id, **fields}}


def delete(retailer_id: str) -> dict[str, Any]:
    return {"method": "DELETE", "data": {"id": retailer_id}}


@dataclass
class World:
    """A running sandbox, a client of it, and its time."""

    state: SandboxState
    client: httpx.AsyncClient
    clock: MovableClock
    slept: list[float]

    @property
    def catalog(self) -> Catalog:
        return self.state.catalog(DEMO_CATALOG_ID)

    def fault(self, kind: str, **parameters: Any) -> ArmedFault:
        return self.state.faults.add(FaultSpec.model_validate({"kind": kind, **parameters}))

    async def get(self, path: str, **params: Any) -> httpx.Response:
        return await self.client.get(f"/v26.0/{path}", params=params, headers=BEARER)

    async def send(self, *records: dict[str, Any], **parameters: Any) -> httpx.Response:
        body = {"item_type": "PRODUCT_ITEM", "requests": list(records), **parameters}
        return await self.client.post(f"/v26.0/{DEMO_CATALOG_ID}/items_batch", json=body, headers=BEARER)

    async def handle(self, *records: dict[str, Any], **parameters: Any) -> str:
        """Send records that are accepted; their handle."""
        response = await self.send(*records, **parameters)
        assert response.status_code == 200, response.text
        [handle] = response.json()["handles"]
        assert isinstance(handle, str)
        return handle

    async def status(self, handle: str, **params: Any) -> dict[str, Any]:
        params.setdefault("load_ids_of_invalid_requests", "true")
        response = await self.get(f"{DEMO_CATALOG_ID}/check_batch_request_status", handle=handle, **params)
        assert response.status_code == 200, response.text
        [node] = response.json()["data"]
        assert isinstance(node, dict)
        return node

    async def report(self, *records: dict[str, Any], **parameters: Any) -> dict[str, Any]:
        """Send records, let them be worked on, and read what became of them."""
        handle = await self.handle(*records, **parameters)
        self.clock.forward(self.state.options.processing_delay_seconds)
        return await self.status(handle)

    async def products(self, **params: Any) -> dict[str, Any]:
        response = await self.get(f"{DEMO_CATALOG_ID}/products", **params)
        assert response.status_code == 200, response.text
        body = response.json()
        assert isinstance(body, dict)
        return body

    async def found(self, condition: dict[str, Any], fields: str = "retailer_id") -> list[dict[str, Any]]:
        data = (await self.products(filter=json.dumps(condition), fields=fields, limit=100))["data"]
        assert isinstance(data, list)
        return data


def retailer_ids(page: Sequence[dict[str, Any]]) -> list[str]:
    return [entry["retailer_id"] for entry in page]


def error_of(response: httpx.Response) -> tuple[int, int, int | None]:
    """HTTP status, code and subcode of a refusal."""
    error = response.json()["error"]
    assert {"message", "type", "code", "fbtrace_id"} <= error.keys()
    return response.status_code, error["code"], error.get("error_subcode")
