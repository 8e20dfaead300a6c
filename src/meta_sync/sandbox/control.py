"""The control surface under ``/_sandbox``: prepare a world, make it misbehave, look inside.

It asks for no credential. The sandbox belongs on the loopback interface or in a test network.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from meta_sync.sandbox.faults import FaultSpec
from meta_sync.sandbox.fields import is_empty
from meta_sync.sandbox.model import Catalog
from meta_sync.sandbox.state import ALL_SCOPES, SandboxState

__all__ = ["control_routes"]

_MOST_LISTED = 1000

_Body = TypeVar("_Body", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _NewBusiness(_Strict):
    name: str = "Business"
    id: str | None = None
    terms_accepted: bool = True


class _NewCatalog(_Strict):
    business_id: str
    name: str = "Catalog"
    id: str | None = None
    vertical: str = "commerce"
    data_sources: list[dict[str, Any]] = Field(default_factory=list)
    shared_with: list[str] = Field(default_factory=list)


class _NewToken(_Strict):
    access_token: str | None = None
    user_name: str = "System User"
    type: str = "SYSTEM_USER"
    scopes: list[str] = Field(default_factory=lambda: sorted(ALL_SCOPES))
    business_ids: list[str] | None = None
    catalog_ids: list[str] | None = None
    expires_in: float | None = None


class _DeadToken(_Strict):
    access_token: str
    subcode: int = 458


class _NewRefusal(_Strict):
    retailer_id: str
    catalog_id: str | None = None
    text: str = "This item was refused"
    immediate: bool = False


class _LiftedRefusal(_Strict):
    retailer_id: str
    catalog_id: str | None = None


class _Feed(_Strict):
    id: str
    name: str


class _PutItem(_Strict):
    id: str = Field(min_length=1)
    fields: dict[str, Any] = Field(default_factory=dict)
    product_feed: _Feed | None = None


class _PutItems(_Strict):
    items: list[_PutItem]


class _ChangedItem(_Strict):
    id: str
    fields: dict[str, Any]


class _ChangedItems(_Strict):
    items: list[_ChangedItem]


class _GoneItems(_Strict):
    ids: list[str]


class _Clock(_Strict):
    advance_seconds: float = Field(ge=0)


class _UsageError(Exception):
    """The caller of the control surface made a mistake; the message says which."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def control_routes(state: SandboxState) -> list[BaseRoute]:
    """The routes of the control surface over a state."""
    control = _Control(state)
    table: list[tuple[str, str, Callable[..., Any]]] = [
        ("GET", "/_sandbox", control.overview),
        ("POST", "/_sandbox/reset", control.reset),
        ("POST", "/_sandbox/clock", control.clock),
        ("GET", "/_sandbox/faults", control.list_faults),
        ("POST", "/_sandbox/faults", control.add_fault),
        ("DELETE", "/_sandbox/faults", control.clear_faults),
        ("DELETE", "/_sandbox/faults/{fault_id}", control.remove_fault),
        ("GET", "/_sandbox/requests", control.list_requests),
        ("DELETE", "/_sandbox/requests", control.clear_requests),
        ("GET", "/_sandbox/catalogs/{catalog_id}/items", control.items),
        ("POST", "/_sandbox/catalogs/{catalog_id}/items", control.put_items),
        ("PATCH", "/_sandbox/catalogs/{catalog_id}/items", control.change_items),
        ("DELETE", "/_sandbox/catalogs/{catalog_id}/items", control.delete_items),
        ("POST", "/_sandbox/businesses", control.add_business),
        ("POST", "/_sandbox/catalogs", control.add_catalog),
        ("POST", "/_sandbox/tokens", control.add_token),
        ("POST", "/_sandbox/tokens/kill", control.kill_token),
        ("POST", "/_sandbox/refusals", control.refuse),
        ("DELETE", "/_sandbox/refusals", control.lift_refusal),
    ]
    return [Route(path, _endpoint(handler), methods=[method]) for method, path, handler in table]


def _endpoint(handler: Callable[[Request, bytes], Any]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        try:
            content, status = handler(request, await request.body()), 200
        except _UsageError as error:
            content, status = {"error": str(error)}, error.status
        return Response(orjson.dumps(content), status_code=status, media_type="application/json")

    return endpoint


def _read(model: type[_Body], body: bytes) -> _Body:
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
        raise _UsageError(faults) from error


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise _UsageError(f"{name}: must be a whole number")
    return int(text)


class _Control:
    """One method per route; each takes the request and its body and returns what JSON can say."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state

    def overview(self, _request: Request, _body: bytes) -> Any:
        state = self._state
        return {
            "profile": state.options.profile,
            "seed": state.options.seed,
            "time": state.timestamp(),
            "businesses": [{"id": b.id, "name": b.name} for b in state.businesses.values()],
            "catalogs": [
                {
                    "id": catalog.id,
                    "name": catalog.name,
                    "business_id": catalog.business_id,
                    "items": len(catalog.items),
                    "open_batches": len(catalog.open_batches),
                }
                for catalog in state.catalogs()
            ],
            "tokens": len(state.tokens),
            "faults": len(state.faults.armed()),
            "requests": len(state.requests),
        }

    def reset(self, _request: Request, _body: bytes) -> Any:
        self._state.reset()
        return {"success": True}

    def clock(self, _request: Request, body: bytes) -> Any:
        self._state.put_clock_forward(_read(_Clock, body).advance_seconds)
        return {"time": self._state.timestamp()}

    def list_faults(self, _request: Request, _body: bytes) -> Any:
        return {"data": [fault.describe() for fault in self._state.faults.armed()]}

    def add_fault(self, _request: Request, body: bytes) -> Any:
        return self._state.faults.add(_read(FaultSpec, body)).describe()

    def clear_faults(self, _request: Request, _body: bytes) -> Any:
        self._state.faults.clear()
        return {"success": True}

    def remove_fault(self, request: Request, _body: bytes) -> Any:
        if not self._state.faults.remove(request.path_params["fault_id"]):
            raise _UsageError("There is no such fault", 404)
        return {"success": True}

    def list_requests(self, request: Request, _body: bytes) -> Any:
        edge = request.query_params.get("edge")
        catalog_id = request.query_params.get("catalog_id")
        limit = min(_number(request, "limit", 100), _MOST_LISTED)
        found = (
            entry
            for entry in reversed(self._state.requests)
            if edge in (None, entry.edge) and catalog_id in (None, entry.catalog_id)
        )
        return {"data": [entry.describe() for entry in islice(found, limit)]}

    def clear_requests(self, _request: Request, _body: bytes) -> Any:
        self._state.requests.clear()
        return {"success": True}

    def _catalog(self, request: Request) -> Catalog:
        catalog_id = request.path_params["catalog_id"]
        if not self._state.has_catalog(catalog_id):
            raise _UsageError("There is no such catalog", 404)
        return self._state.catalog(catalog_id)

    def put_items(self, request: Request, body: bytes) -> Any:
        """Put items into the catalog as another hand would, each whole, in the place of what was there."""
        catalog, given = self._catalog(request), _read(_PutItems, body)
        for one in given.items:
            catalog.store(one.id, {"id": one.id, **one.fields})
            catalog.feeds.pop(one.id, None)
            if one.product_feed is not None:
                catalog.feeds[one.id] = one.product_feed.model_dump()
        return {"items": len(given.items)}

    def change_items(self, request: Request, body: bytes) -> Any:
        """Change fields of items that are there; an empty value clears. None is changed when one is unknown."""
        catalog, given = self._catalog(request), _read(_ChangedItems, body)
        unknown = [one.id for one in given.items if one.id not in catalog.items]
        if unknown:
            raise _UsageError(f"There are no such items: {', '.join(unknown[:10])}", 404)
        for one in given.items:
            merged = {**catalog.items[one.id], **one.fields, "id": one.id}
            kept = {name: value for name, value in merged.items() if not is_empty(value)}
            catalog.store(one.id, kept)
        return {"items": len(given.items)}

    def delete_items(self, request: Request, body: bytes) -> Any:
        """Delete items; ids that are not there count for nothing."""
        catalog, given = self._catalog(request), _read(_GoneItems, body)
        there = [one for one in dict.fromkeys(given.ids) if one in catalog.items]
        for one in there:
            catalog.remove(one)
        return {"items": len(there)}

    def items(self, request: Request, _body: bytes) -> Any:
        catalog = self._catalog(request)
        limit = min(_number(request, "limit", 100), _MOST_LISTED)
        offset = _number(request, "offset", 0)
        page = [
            {
                "retailer_id": key,
                "fields": item,
                "applied": catalog.applied_counts[key],
                "product_feed": catalog.feeds.get(key),
            }
            for key, item in islice(catalog.items.items(), offset, offset + limit)
        ]
        following = offset + len(page)
        return {
            "data": page,
            "total": len(catalog.items),
            "next_offset": following if following < len(catalog.items) else None,
        }

    def add_business(self, _request: Request, body: bytes) -> Any:
        new = _read(_NewBusiness, body)
        business = self._state.add_business(new.name, business_id=new.id, terms_accepted=new.terms_accepted)
        return {"id": business.id, "name": business.name}

    def add_catalog(self, _request: Request, body: bytes) -> Any:
        new = _read(_NewCatalog, body)
        for business_id in (new.business_id, *new.shared_with):
            if business_id not in self._state.businesses:
                raise _UsageError("There is no such business", 404)
        catalog = self._state.add_catalog(new.business_id, new.name, catalog_id=new.id, vertical=new.vertical)
        catalog.data_sources = new.data_sources
        for business_id in new.shared_with:
            self._state.businesses[business_id].client_catalog_ids.append(catalog.id)
        return {"id": catalog.id, "name": catalog.name}

    def add_token(self, _request: Request, body: bytes) -> Any:
        new = _read(_NewToken, body)
        token = self._state.add_token(
            value=new.access_token,
            user_name=new.user_name,
            token_type=new.type,
            scopes=new.scopes,
            business_ids=new.business_ids,
            catalog_ids=new.catalog_ids,
            expires_at=None if new.expires_in is None else self._state.now() + new.expires_in,
        )
        return {"access_token": token.value, "user_id": token.user_id}

    def kill_token(self, _request: Request, body: bytes) -> Any:
        dead = _read(_DeadToken, body)
        if dead.access_token not in self._state.tokens:
            raise _UsageError("There is no such token", 404)
        self._state.kill_token(dead.access_token, dead.subcode)
        return {"success": True}

    def refuse(self, _request: Request, body: bytes) -> Any:
        new = _read(_NewRefusal, body)
        self._state.refuse(new.retailer_id, new.text, catalog_id=new.catalog_id, immediate=new.immediate)
        return {"success": True}

    def lift_refusal(self, _request: Request, body: bytes) -> Any:
        lifted = _read(_LiftedRefusal, body)
        return {"success": self._state.lift_refusal(lifted.retailer_id, catalog_id=lifted.catalog_id)}
