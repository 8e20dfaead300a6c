"""Events about the catalog, as the parts of a shop publish them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body
from starlette.requests import Request

from meta_sync.access.models import Permission
from meta_sync.api.context import Context
from meta_sync.api.errors import validation_error
from meta_sync.api.routing import router
from meta_sync.api.schemas.base import answer
from meta_sync.api.schemas.events import EventBody, EventResultAnswer, read_event
from meta_sync.api.security import requires
from meta_sync.catalog.events import MAX_EVENTS
from meta_sync.core.errors import ErrorDetail, UnsupportedMediaTypeError

__all__ = ["routes"]

routes = router("Catalog")

_ONE = "application/cloudevents+json"
_MANY = "application/cloudevents-batch+json"

_STOCK: dict[str, Any] = {
    "specversion": "1.0",
    "id": "stock-4711",
    "source": "/shop/inventory",
    "type": "inventory.stock.adjusted",
    "time": "2026-05-03T10:00:00Z",
    "data": {"variantId": "TEE-1-RED-M", "quantityOnHand": 5, "reservedQuantity": 1},
}
_PRICE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "catalog-815",
    "source": "/shop/catalog",
    "type": "vendor.product.variant.updated",
    "time": "2026-05-03T10:00:01Z",
    "data": {"productId": "TEE-1", "variant": {"id": "TEE-1-RED-M", "sku": "TEE-1-RED-M", "price": 1799}},
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": (
            "One event or a list of up to 1,000, in the JSON format of CloudEvents 1.0. The types of CloudEvents are read as"
            f" well: `{_ONE}` with one event, `{_MANY}` with a list."
        ),
        # Of one type only: generated clients tell types of bodies apart by class, and a list has none.
        "content": {
            "application/json": {
                "examples": {
                    "one": {"summary": "Stock of a variant", "value": _STOCK},
                    "several": {"summary": "Several events", "value": [_STOCK, _PRICE]},
                }
            }
        },
    }
}


@routes.post(
    "/catalog/events",
    operation_id="sendEvents",
    summary="Send events",
    description=(
        "Takes CloudEvents about products, variants and stock, one or up to 1,000, in the order in which they are sent."
        " Each has one effect per `source` and `id`, however often it comes. What is older than the stored news of the"
        " same fields, by `time`, is left out. Good events go in, bad ones are named."
    ),
    status_code=202,
    openapi_extra=_BODY,
)
@requires(Permission.PRODUCTS_WRITE, idempotent=True)
async def send_events(
    context: Context, request: Request, body: Annotated[EventBody, Body()]
) -> EventResultAnswer:
    sent = [read_event(index, value) for index, value in enumerate(_events(request, body))]
    result = await context.factory.events().take(context.store_id, sent)
    return answer(EventResultAnswer, result, 202)


def _events(request: Request, body: Any) -> list[Any]:
    """The events of a body, as its content type tells them.

    Raises
    ------
    UnsupportedMediaTypeError
        The type is neither one of CloudEvents nor plain JSON.
    ValidationFailedError
        The body is not what its type says, or holds too many events.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {_ONE, _MANY, "application/json"}:
        raise UnsupportedMediaTypeError(
            f"This address reads events. Send one as {_ONE}, or several as {_MANY} or application/json."
        )
    if isinstance(body, list):
        if kind == _ONE:
            raise validation_error([ErrorDetail("body", f"must be one event; send several as {_MANY}")])
        if len(body) > MAX_EVENTS:
            fault = f"must have at most {MAX_EVENTS:,} events; this one has {len(body):,}"
            raise validation_error([ErrorDetail("body", fault)])
        return body
    if kind == _MANY or not isinstance(body, dict):
        wanted = "a list of events" if kind == _MANY else "one event or a list of events"
        raise validation_error([ErrorDetail("body", f"must be {wanted}")])
    return [body]
