"""Who may call what. Every route declares its access with one decorator; a route without one cannot be made.

Credentials are read from headers only. What a credential is worth is the access service's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from starlette.requests import Request

from meta_sync.access.models import Permission, Principal
from meta_sync.core.errors import ErrorDetail, ForbiddenError, InvalidRequestError, UnauthorizedError
from meta_sync.core.text import text_fault
from meta_sync.factory import Factory

__all__ = [
    "Access",
    "Admission",
    "Scope",
    "access_of",
    "admit",
    "open_to_all",
    "requires",
    "requires_credential",
]

_ATTRIBUTE = "__meta_sync_access__"

E = TypeVar("E", bound=Callable[..., Any])


class Scope(StrEnum):
    """What a route acts on."""

    OPEN = "open"
    """Nothing of any store; no credential is asked for."""
    CALLER = "caller"
    """The caller's own credential; any valid one will do."""
    STORE = "store"
    """One store: the credential's own, or the one a platform credential names."""
    PLATFORM = "platform"
    """The installation; credentials of the platform only."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a route asks of its callers."""

    scope: Scope
    permission: Permission | None = None
    is_idempotent: bool = False
    """Whether an Idempotency-Key is honoured: for POSTs that create."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A caller who was let in, and the store it acts on."""

    principal: Principal | None
    store_id: str | None


def requires(permission: Permission, *, idempotent: bool = False) -> Callable[[E], E]:
    """Declare the permission a route asks for; ``platform:admin`` makes it a route of the platform."""
    scope = Scope.PLATFORM if permission is Permission.PLATFORM_ADMIN else Scope.STORE
    return _declare(Access(scope, permission, idempotent))


def requires_credential() -> Callable[[E], E]:
    """Declare that any valid credential may call the route."""
    return _declare(Access(Scope.CALLER))


def open_to_all() -> Callable[[E], E]:
    """Declare that the route asks for no credential."""
    return _declare(Access(Scope.OPEN))


def _declare(access: Access) -> Callable[[E], E]:
    def mark(endpoint: E) -> E:
        setattr(endpoint, _ATTRIBUTE, access)
        return endpoint

    return mark


def access_of(endpoint: Callable[..., Any]) -> Access:
    """The declared access of an endpoint.

    Raises
    ------
    TypeError
        It declares none.
    """
    access = getattr(endpoint, _ATTRIBUTE, None)
    if not isinstance(access, Access):
        raise TypeError(f"{endpoint.__module__}.{endpoint.__qualname__} declares no access.")
    return access


async def admit(request: Request, access: Access, factory: Factory) -> Admission:
    """Let the caller in, or say why not: first who it is, then what it may do, then for which store.

    Raises
    ------
    UnauthorizedError
        No credential, or one that is not known.
    ForbiddenError
        The permission is missing, or the credential belongs to another store.
    InvalidRequestError
        A credential of the platform names no store.
    NotFoundError
        There is no such store.
    """
    if access.scope is Scope.OPEN:
        return Admission(None, None)
    principal = await factory.access().authenticate(_credential(request))
    request.scope.setdefault("state", {})["key_id"] = principal.key_id
    if access.permission is not None:
        principal.require(access.permission)
    if access.scope is Scope.PLATFORM and not principal.is_platform:
        raise ForbiddenError("This address is for credentials of the platform.")
    if access.scope is not Scope.STORE:
        return Admission(principal, None)
    store_id = _named_store(request)
    if principal.store_id is not None:
        if store_id not in {None, principal.store_id}:
            raise ForbiddenError("This credential belongs to another store than the one X-Store-Id names.")
        store_id = principal.store_id
    elif store_id is None:
        raise InvalidRequestError(
            "Name the store in the header X-Store-Id: this credential belongs to the platform.",
            details=[ErrorDetail("X-Store-Id", "is required")],
        )
    else:
        await factory.stores().get(store_id)
    request.scope["state"]["store_id"] = store_id
    return Admission(principal, store_id)


def _credential(request: Request) -> str:
    given = set(request.headers.getlist("x-api-key"))
    for header in request.headers.getlist("authorization"):
        scheme, _, value = header.partition(" ")
        if scheme.lower() != "bearer" or not value.strip():
            raise UnauthorizedError("Send the credential as Authorization: Bearer … or as X-API-Key.")
        given.add(value.strip())
    if not given:
        raise UnauthorizedError("A credential is needed: Authorization: Bearer … or X-API-Key.")
    if len(given) > 1:
        raise UnauthorizedError("The request carries two different credentials.")
    return given.pop()


def _named_store(request: Request) -> str | None:
    named = set(request.headers.getlist("x-store-id"))
    if len(named) > 1:
        raise InvalidRequestError("The request names two different stores.")
    store_id = named.pop() if named else None
    if store_id is not None and (not store_id or text_fault(store_id)):
        raise InvalidRequestError("X-Store-Id is not a store's id.")
    return store_id
