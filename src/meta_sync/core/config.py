"""Settings of a process: read once from the environment and ``.env`` in main code, then passed in.

Settings of a store live in ``stores.settings``. Nothing here is read at import.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from typing_extensions import override

from meta_sync.core.errors import StartError

__all__ = ["ENVIRONMENT_PREFIX", "Settings", "load_settings", "unknown_names"]

ENVIRONMENT_PREFIX = "META_SYNC_"

_INJECTED = re.compile(r"_SERVICE_|_SERVICE$|_PORT_|_PORT$")
"""Names that Kubernetes puts into every container for a service called ``meta-sync-…``."""


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _encryption_key(value: SecretStr) -> SecretStr:
    try:
        raw = base64.b64decode(value.get_secret_value(), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != 32:
        raise ValueError("must be 32 random bytes in base64 (44 characters)")
    return value


def _origin(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", value):
        raise ValueError("must be an http or https address without a query")
    return value.rstrip("/")


Origin = Annotated[str, AfterValidator(_origin)]
EncryptionKey = Annotated[SecretStr, AfterValidator(_encryption_key)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """Every setting of a process. Names are those of the environment without the prefix."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, extra="ignore", frozen=True)

    database_url: SecretStr | None = None
    database_pool_size: int = Field(default=8, ge=1, le=100)
    redis_url: SecretStr | None = None
    encryption_keys: Annotated[tuple[EncryptionKey, ...], NoDecode, BeforeValidator(_split)] = ()
    data_dir: Path = Path(".meta-sync")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    trusted_proxies: CommaSeparated = ()
    cors_origins: CommaSeparated = ()
    max_upload_bytes: int = Field(default=512 * 1024 * 1024, ge=1024, le=16 * 1024**3)
    public_api_url: Origin | None = None
    public_admin_url: Origin | None = None
    graph_url: Origin = "https://graph.facebook.com"
    dialog_url: Origin = "https://www.facebook.com"
    app_id: str | None = None
    app_secret: SecretStr | None = None
    webhook_verify_token: SecretStr | None = None
    webhook_allow_sha1: bool = False
    jwt_jwks_url: str | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_store_claim: str = "store"
    jwt_permissions_claim: str = "permissions"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"
    smtp_url: SecretStr | None = None
    smtp_from: str | None = None
    metrics_public: bool = False
    console_enabled: bool = False
    otel_endpoint: str | None = None
    unknown_hold_seconds: int = Field(default=180, ge=1, le=3600)

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values come only from ``load_settings``, which reads the environment it is given."""
        return (init_settings,)


def _known_names() -> dict[str, str]:
    return {f"{ENVIRONMENT_PREFIX}{name}".upper(): name for name in Settings.model_fields}


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, _known_names(), n=1, cutoff=0.4)
    return f" Did you mean {near[0]}?" if near else ""


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """A sentence for every name with our prefix that is not a setting, with the nearest known one."""
    known = _known_names()
    # Failpoints are a testing aid, deliberately outside the settings.
    aside = {f"{ENVIRONMENT_PREFIX}FAILPOINTS"}
    return [
        f"{name} is not a setting of meta-sync and is ignored.{_nearest(name)}"
        for name in environment
        if name.startswith(ENVIRONMENT_PREFIX)
        and name not in known
        and name not in aside
        and not _INJECTED.search(name)
    ]


def load_settings(
    environment: Mapping[str, str] | None = None, *, env_file: Path | None = Path(".env"), **overrides: object
) -> Settings:
    """Read the settings of this process.

    Parameters
    ----------
    environment
        The environment; the process's own when not given.
    env_file
        A file of ``NAME=value`` lines that the environment overrides. An unknown name in it stops the start.
    overrides
        Values that rule over both, by field name.

    Raises
    ------
    StartError
        A value is broken or a name in the file is unknown; the message names it.
    """
    environment = os.environ if environment is None else environment
    known = _known_names()
    values: dict[str, object] = {}
    if env_file is not None and env_file.is_file():
        for name, value in dotenv_values(env_file).items():
            if name not in known:
                raise StartError(f"{env_file}: {name} is not a setting of meta-sync.{_nearest(name)}")
            if value:
                values[known[name]] = value
    values.update(
        {known[name]: value for name, value in environment.items() if name in known and value != ""}
    )
    values.update({name: value for name, value in overrides.items() if value is not None})
    try:
        return Settings(**values)  # type: ignore[arg-type]  # validated by pydantic right here
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = f"{ENVIRONMENT_PREFIX}{first['loc'][0]}".upper()
        fault = first["msg"].removeprefix("Value error, ").replace("Input should", "it must")
        raise StartError(f"{name} is not usable: {fault.partition(', unable to')[0]}.") from None
