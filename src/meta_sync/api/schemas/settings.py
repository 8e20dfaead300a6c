"""Bodies of a store's settings, made from the settings themselves, so that the two cannot drift apart."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Body as BodyParameter
from pydantic import BaseModel, Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema

from meta_sync.api.schemas.base import Answer, Body, View
from meta_sync.stores.settings import READ_ONLY_FIELDS, SECRET_FIELDS, StoreSettings

__all__ = ["Settings", "SettingsAnswer", "SettingsPatch"]


def _kind(name: str) -> Any:
    field = StoreSettings.model_fields[name]
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


_shown: dict[str, Any] = {name: (_kind(name), Field()) for name in StoreSettings.model_fields}
_secrets: dict[str, Any] = {
    name: (Literal["configured"] | None, Field(description="Never shown; only whether it is there."))
    for name in sorted(SECRET_FIELDS)
}
_read_only: dict[str, Any] = {
    name: (str | None, Field(description="Read-only; set by selecting a catalog."))
    for name in READ_ONLY_FIELDS
}

Settings: type[View] = create_model(
    "Settings",
    __base__=View,
    __doc__="All settings of a store. Secrets only say whether they are there.",
    **_shown,
    **_secrets,
    **_read_only,
)

_Secret = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"\S")]
_patched: dict[str, Any] = {
    name: (_kind(name) | None, Field(default=None)) for name in StoreSettings.model_fields
}
_patched_secrets: dict[str, Any] = {
    name: (_Secret | None, Field(default=None, json_schema_extra={"writeOnly": True}))
    for name in sorted(SECRET_FIELDS)
}

_PatchFields: type[BaseModel] = create_model(
    "SettingsPatch",
    __base__=Body,
    __doc__="Settings to change. A key that is absent stays; null puts it back to its default.",
    **_patched,
    **_patched_secrets,
)


class _DescribedBy:
    """An object taken as it is, documented by a model: absent and null differ, and the store's own rules judge it."""

    def __init__(self, kind: type[BaseModel]) -> None:
        self._kind = kind

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # The wrapped schema only documents; the function never hands anything on to it.
        return core_schema.no_info_wrap_validator_function(_object, handler.generate_schema(self._kind))


def _object(value: Any, _: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must be an object")  # noqa: TRY004 - becomes a fault of the field
    return value


SettingsPatch = Annotated[dict[str, Any], _DescribedBy(_PatchFields), BodyParameter()]


class SettingsAnswer(Answer):
    data: Settings  # type: ignore[valid-type]  # a model made above
