"""Stores as plain values, and what others may hook into a change of settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["SettingsListener", "Store"]


@dataclass(frozen=True, slots=True)
class Store:
    """A tenant.

    Attributes
    ----------
    public_id
        Random id that may stand in public addresses.
    mapping_epoch
        Raised by every change of settings that payloads depend on.
    """

    store_id: str
    public_id: str
    name: str
    mapping_epoch: int
    created_at: datetime
    updated_at: datetime


class SettingsListener(Protocol):
    """Acts on a change of settings within its transaction."""

    async def settings_changed(
        self, connection: AsyncConnection, store_id: str, *, mapping_changed: bool, access_changed: bool
    ) -> None:
        """Called after the settings were written and before they are committed.

        Parameters
        ----------
        connection
            The transaction of the change; the store's row is locked in it.
        store_id
            The store.
        mapping_changed
            Whether payloads may differ now. The mapping epoch was raised if so.
        access_changed
            Whether Meta may now accept what it refused: the app, its secret or the API version is another one.
        """
        ...
