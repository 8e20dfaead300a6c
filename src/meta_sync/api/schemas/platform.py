"""Bodies of the platform's own endpoints: stores, API keys, and who one is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, WithJsonSchema

from meta_sync.access.models import ApiKey, Permission
from meta_sync.api.schemas.base import Answer, Body, Flag, PagedAnswer, Text, View

__all__ = [
    "ApiKeyPage",
    "ApiKeyView",
    "Caller",
    "CallerAnswer",
    "CallerStore",
    "CreateApiKeyBody",
    "CreateStoreBody",
    "CreatedApiKey",
    "CreatedApiKeyAnswer",
    "RevokedApiKey",
    "RevokedApiKeyAnswer",
    "StoreAnswer",
    "StorePage",
    "StoreView",
    "UpdateStoreBody",
]


_PermissionName = Annotated[
    Text, WithJsonSchema({"type": "string", "enum": [permission.value for permission in Permission]})
]
"""Documented as one of ours; another one is refused with its name."""


class CreateStoreBody(Body):
    """A new store."""

    name: Text = Field(min_length=1, max_length=200)
    currency: Text | None = Field(
        default=None, description="ISO 4217; fixed once anything was sent.", examples=["EUR"]
    )
    storefront_base_url: Text | None = Field(default=None, examples=["https://shop.example"])
    media_base_url: Text | None = Field(default=None, examples=["https://cdn.shop.example"])
    enable_sync: Flag = Field(default=False, description="Send as soon as a catalog is selected.")


class UpdateStoreBody(Body):
    """What may change of a store beside its settings."""

    name: Text = Field(min_length=1, max_length=200)


class StoreView(View):
    """A store."""

    store_id: str
    public_id: str = Field(description="Random id that may stand in public addresses.")
    name: str
    created_at: datetime
    updated_at: datetime


class CreateApiKeyBody(Body):
    """A new API key of a store."""

    permissions: list[_PermissionName] = Field(
        min_length=1, examples=[["metaCatalog:manage", "catalog:write"]]
    )
    name: Text | None = Field(default=None, max_length=200)


class ApiKeyView(View):
    """A key as it is listed; the key itself is not stored."""

    key_id: str
    store_id: str | None
    name: str | None
    prefix: str = Field(description="How a person recognises the key.")
    permissions: list[Permission]
    created_at: datetime
    last_used_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> ApiKeyView:
        """The view of a listed key."""
        return cls.model_validate(key)


class CreatedApiKey(View):
    """A fresh key. This is the only time it is shown."""

    key_id: str
    api_key: str
    store_id: str | None
    name: str | None
    permissions: list[Permission]
    created_at: datetime


class RevokedApiKey(View):
    """A key that was ended."""

    key_id: str
    revoked: bool


class CallerStore(View):
    """A store the caller may act for."""

    store_id: str
    public_id: str
    name: str


class Caller(View):
    """Who the credential stands for."""

    key_id: str
    platform: bool = Field(description="Whether it names its store in X-Store-Id.")
    permissions: list[Permission]
    stores: list[CallerStore] = Field(description="For a platform credential the first 200 of all stores.")
    all_stores: bool = Field(description="Whether it may act for every store.")


class StoreAnswer(Answer):
    data: StoreView


class StorePage(PagedAnswer):
    data: list[StoreView]


class CreatedApiKeyAnswer(Answer):
    data: CreatedApiKey


class ApiKeyPage(PagedAnswer):
    data: list[ApiKeyView]


class RevokedApiKeyAnswer(Answer):
    data: RevokedApiKey


class CallerAnswer(Answer):
    data: Caller
