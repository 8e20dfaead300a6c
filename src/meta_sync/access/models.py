"""Who may do what, as plain values. Where a credential comes from is not known here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from meta_sync.core.errors import ForbiddenError

__all__ = ["ApiKey", "CreatedKey", "Permission", "Principal", "RememberedAnswer", "implied"]


class Permission(StrEnum):
    """Every permission there is."""

    CATALOG_VIEW = "metaCatalog:view"
    CATALOG_MANAGE = "metaCatalog:manage"
    PRODUCTS_READ = "catalog:read"
    PRODUCTS_WRITE = "catalog:write"
    ORDERS_VIEW = "orders:view"
    ORDERS_MANAGE = "orders:manage"
    MESSAGES_VIEW = "messages:view"
    MESSAGES_MANAGE = "messages:manage"
    CONVERSIONS_WRITE = "conversions:write"
    PLATFORM_ADMIN = "platform:admin"


_IMPLIES = {
    Permission.CATALOG_MANAGE: Permission.CATALOG_VIEW,
    Permission.PRODUCTS_WRITE: Permission.PRODUCTS_READ,
    Permission.ORDERS_MANAGE: Permission.ORDERS_VIEW,
    Permission.MESSAGES_MANAGE: Permission.MESSAGES_VIEW,
}


def implied(permissions: Iterable[Permission]) -> frozenset[Permission]:
    """The permissions with all that they include: who may change a thing may look at it."""
    given = frozenset(permissions)
    return given | {_IMPLIES[permission] for permission in given if permission in _IMPLIES}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request.

    Attributes
    ----------
    key_id
        The credential, for the record of who did what.
    store_id
        The one store it belongs to; ``None`` for a credential of the platform.
    permissions
        What it may do, everything implied included.
    """

    key_id: str
    store_id: str | None
    permissions: frozenset[Permission]

    @property
    def is_platform(self) -> bool:
        """Whether it may name the store it acts for."""
        return self.store_id is None

    def require(self, permission: Permission) -> None:
        """Refuse whoever lacks a permission.

        Raises
        ------
        ForbiddenError
            The permission is missing; the message names it.
        """
        if permission not in self.permissions:
            raise ForbiddenError(f"This credential lacks the permission {permission.value}.")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is listed. The key itself is not stored; ``prefix`` is how a person recognises it."""

    key_id: str
    store_id: str | None
    name: str | None
    prefix: str
    permissions: tuple[Permission, ...]
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A fresh key. This is the only time the key itself is seen."""

    key_id: str
    api_key: str
    store_id: str | None
    name: str | None
    permissions: tuple[Permission, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RememberedAnswer:
    """What a request with the same Idempotency-Key was answered."""

    status: int
    body: bytes
