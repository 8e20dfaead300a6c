"""The one kind of route: lets the caller in first, reads the body strictly second, and only then runs the endpoint.

FastAPI would read and parse a body before any dependency runs; here nobody's body is read before we know who it is.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import override

from meta_sync.access.service import request_hash
from meta_sync.api.context import RequestContext
from meta_sync.api.json_guard import parse_json_off_loop
from meta_sync.api.middleware import request_id_of
from meta_sync.api.security import access_of, admit
from meta_sync.core.crypto import DecryptionError
from meta_sync.core.errors import (
    ConflictError,
    ErrorDetail,
    UnsupportedMediaTypeError,
    ValidationFailedError,
)
from meta_sync.core.logging import get_logger
from meta_sync.factory import Factory, ProcessContext

__all__ = ["GuardedRoute", "read_json", "router"]

_logger = get_logger(__name__)

_MOST_HASHED_BYTES = 64 * 1024
"""Of a body that is streamed on otherwise: an address to import from has a hundredth of it."""


def router(tag: str) -> APIRouter:
    """A router whose routes are guarded, under one tag of the documentation."""
    return APIRouter(route_class=GuardedRoute, tags=[tag])


class GuardedRoute(APIRoute):
    """A route with declared access and strict JSON.

    Raises
    ------
    TypeError
        The endpoint declares no access.
    """

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        access = access_of(self.endpoint)
        serve = super().get_route_handler()
        reads_body_itself = self.body_field is None and "requestBody" in (self.openapi_extra or {})

        async def guarded(request: Request) -> Response:
            _require_plain(request)
            process: ProcessContext = request.app.state.process
            factory = Factory(process)
            admission = await admit(request, access, factory)
            request.state.context = context = RequestContext(
                settings=process.settings,
                process=process,
                factory=factory,
                cursors=process.cursors,
                logger=_logger.bind(store_id=admission.store_id),
                request_id=request_id_of(request.scope),
                caller=admission.principal,
                store=admission.store_id,
            )
            body = b""
            if self.body_field is not None:
                body = await request.body()
                request = _ParsedRequest(request, await read_json(request, body) if body else None, body)
            key = request.headers.get("idempotency-key") if access.is_idempotent else None
            if key is None:
                return await serve(request)
            if reads_body_itself and _is_small_json(request):
                body = await request.body()
            return await _once(request, context, key, body, serve)

        return guarded


class _ParsedRequest(Request):
    """The request with its body already read by our own rules."""

    def __init__(self, request: Request, value: Any, body: bytes) -> None:
        super().__init__(request.scope, request.receive)
        self._value = value
        self._raw = body

    @override
    async def body(self) -> bytes:
        return self._raw

    @override
    async def json(self) -> Any:
        return self._value


def _is_small_json(request: Request) -> bool:
    """Whether a body that the endpoint reads by itself can be held here to tell it from another one."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    length = request.headers.get("content-length", "")
    is_small = length.isascii() and length.isdigit() and int(length[:20]) <= _MOST_HASHED_BYTES
    return kind == "application/json" and is_small


def _require_plain(request: Request) -> None:
    """Refuse a NUL in the address before it reaches a query; nothing of ours has one."""
    if "\x00" in request.scope["path"] or b"%00" in request.scope["query_string"]:
        fault = "must not contain the NUL character"
        raise ValidationFailedError(f"The address {fault}.", details=[ErrorDetail("address", fault)])


async def read_json(request: Request, body: bytes) -> Any:
    """The value of a JSON body.

    Raises
    ------
    UnsupportedMediaTypeError
        The Content-Type does not say JSON.
    InvalidRequestError, ValidationFailedError
        The body breaks a rule of ``json_guard``.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))):
        raise UnsupportedMediaTypeError(
            "This address reads JSON. Send it with Content-Type: application/json."
        )
    return await parse_json_off_loop(body)


async def _once(
    request: Request,
    context: RequestContext,
    key: str,
    body: bytes,
    serve: Callable[[Request], Coroutine[Any, Any, Response]],
) -> Response:
    """Run the endpoint once per Idempotency-Key, and answer repetitions with what the first one was answered.

    Only successes are kept: a failure changed nothing, and the repetition may fare better. Answers may hold a fresh
    key, so they are encrypted.
    """
    access, cipher = context.factory.access(), context.process.cipher
    address = f"{request.url.path}?{request.url.query}"
    # A body that is streamed on cannot be hashed here; its declared length stands in for it.
    digest = request_hash(
        request.method, address, body or request.headers.get("content-length", "").encode("latin-1")
    )
    bound_to = f"idempotency_keys.body:{context.store or ''}:{key}"
    known = await access.replay(context.store, key, digest)
    if known is not None:
        try:
            plain = cipher.decrypt(known.body, context=bound_to).get_secret_value()
        except DecryptionError:
            raise ConflictError(
                "This request was served before, but its answer was encrypted with a key that is gone. Look at what it "
                "created before you send it under a new Idempotency-Key."
            ) from None
        headers = {"Idempotency-Replayed": "true"}
        return Response(plain, known.status, headers, media_type="application/json")
    try:
        response = await serve(request)
    except BaseException:
        await access.forget(context.store, key, digest)
        raise
    if response.status_code >= 400:
        await access.forget(context.store, key, digest)
        return response
    sealed = cipher.encrypt(SecretStr(bytes(response.body).decode()), context=bound_to)
    await access.remember_answer(context.store, key, digest, response.status_code, sealed)
    return response
