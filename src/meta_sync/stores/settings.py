"""Every setting of a store: names, ranges, defaults. Pure; reading, writing and the wording of faults are elsewhere.

Stored is only what differs from the defaults, under the snake-case names. Callers see the camel-case names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from meta_sync.core.logging import get_logger
from meta_sync.stores.setting_types import (
    BaseUrl,
    CurrencyCode,
    Days,
    EmailAddress,
    Flag,
    GraphVersion,
    MetaId,
    OptionalText,
    ProductPath,
    RetailerIdTemplate,
    Share,
    Text,
    TimeZoneName,
    Told,
    Url,
    WholeNumber,
)

__all__ = [
    "MAPPING_FIELDS",
    "READ_ONLY_FIELDS",
    "SECRET_FIELDS",
    "Feature",
    "StoreSettings",
    "missing_keys",
    "settings_from_stored",
    "settings_to_stored",
]

_logger = get_logger(__name__)

Feature = Literal["catalog", "messaging", "conversions", "ads", "orders"]
"""Parts of Meta a store uses; each asks for permissions of its own."""


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("must not name anything twice")
    return values


_TOLD_DISTINCT = Told("uniqueItems", value=True)


def _descending(values: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(values, reverse=True))


class StoreSettings(BaseModel):
    """The settings of one store, without its secrets and without what selecting a catalog decides.

    Times are in the unit of the name. ``None`` means not set.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )

    # The store's own Meta app; the process's is used where these are not set.
    app_id: MetaId = None
    redirect_uri: Url = None
    graph_version: GraphVersion = "v25.0"
    system_user_name: Text = "meta-sync Catalog Sync"
    features: Annotated[
        tuple[Feature, ...], Field(min_length=1), AfterValidator(_distinct), _TOLD_DISTINCT
    ] = ("catalog",)

    # What a payload is made of.
    currency: CurrencyCode = None
    storefront_base_url: BaseUrl = None
    storefront_product_path: ProductPath = "/product/{slug}"
    media_base_url: BaseUrl = None
    default_condition: Literal["new", "refurbished", "used"] = "new"
    default_brand: OptionalText = None
    identifier_exists_fallback: Flag = False
    retailer_id_template: RetailerIdTemplate = "{variantId}"
    quantity_policy: Literal["capped", "exact", "none"] = "capped"
    timezone: TimeZoneName = "UTC"

    # How sending goes.
    sync_enabled: Flag = False
    feed_mode: Literal["live", "preview"] = "live"
    sync_interval_seconds: Annotated[WholeNumber, Field(ge=10, le=3600)] = 60
    poll_interval_seconds: Annotated[WholeNumber, Field(ge=10, le=600)] = 30
    batch_size: Annotated[WholeNumber, Field(ge=1, le=5000)] = 2500
    handles_per_poll_tick: Annotated[WholeNumber, Field(ge=1, le=64)] = 16
    max_attempts: Annotated[WholeNumber, Field(ge=1, le=20)] = 5
    handle_poll_max_age_minutes: Annotated[WholeNumber, Field(ge=1, le=1440)] = 30
    guard_max_share: Share = 0.3
    guard_min_items: Annotated[WholeNumber, Field(ge=1, le=1_000_000)] = 50
    delete_grace_days: Annotated[WholeNumber, Field(ge=0, le=365)] = 0

    # Conversions and ads.
    pixel_id: MetaId = None
    test_event_code: OptionalText = None
    ad_account_id: MetaId = None

    # Whom to tell.
    token_expiry_alert_days: Annotated[
        tuple[Annotated[WholeNumber, Field(ge=1, le=60)], ...],
        Field(max_length=10),
        AfterValidator(_distinct),
        _TOLD_DISTINCT,
        AfterValidator(_descending),
    ] = (14, 7, 1)
    alert_emails: Annotated[
        tuple[EmailAddress, ...], Field(max_length=20), AfterValidator(_distinct), _TOLD_DISTINCT
    ] = ()
    alert_webhook_url: Url = None

    # How long things are kept.
    retention_batch_history_days: Days = 30
    retention_timeline_days: Days = 180
    retention_webhook_body_days: Days = 30
    retention_conversion_body_days: Days = 8
    retention_hourly_figures_days: Days = 400
    retention_message_days: Days = 365
    retention_buyer_data_days: Days = 90
    retention_minute_metrics_days: Days = 7
    retention_hour_metrics_days: Days = 90
    retention_day_metrics_days: Days = 800
    retention_audit_days: Days = 400


MAPPING_FIELDS = frozenset(
    {
        "currency",
        "default_brand",
        "default_condition",
        "identifier_exists_fallback",
        "media_base_url",
        "quantity_policy",
        "retailer_id_template",
        "storefront_base_url",
        "storefront_product_path",
    }
)
"""Settings that payloads depend on: a change raises the store's mapping epoch. The time zone acts on imports only."""

SECRET_FIELDS = frozenset({"app_secret", "conversions_access_token", "verify_token"})
"""Settings that are encrypted in columns of their own and never shown."""

READ_ONLY_FIELDS = (
    "business_id",
    "business_name",
    "catalog_id",
    "catalog_name",
    "system_user_id",
    "token_kind",
)
"""Shown with the settings, decided by selecting a catalog."""


def missing_keys(settings: StoreSettings, link: bool) -> list[str]:
    """Keys, as callers write them, without which nothing can be sent.

    Parameters
    ----------
    settings
        The store's settings.
    link
        Whether a catalog is selected.
    """
    missing = []
    if settings.currency is None:
        missing.append("currency")
    if settings.storefront_base_url is None:
        missing.append("storefrontBaseUrl")
    if not link:
        missing.append("catalogId")
    return missing


def settings_to_stored(settings: StoreSettings) -> dict[str, Any]:
    """What differs from the defaults, ready for a JSON column."""
    return settings.model_dump(mode="json", exclude_defaults=True)


def settings_from_stored(stored: Mapping[str, Any]) -> StoreSettings:
    """The settings of a stored value.

    A value that this version does not accept, such as one written by a newer version, falls back to its default and is
    reported in the log: one odd setting must not stop a store.
    """
    try:
        return StoreSettings.model_validate(stored)
    except ValidationError as error:
        odd = {str(fault["loc"][0]) for fault in error.errors(include_input=False, include_url=False)}
    _logger.warning("Stored settings that this version does not accept were left out.", settings=sorted(odd))
    return StoreSettings.model_validate({key: value for key, value in stored.items() if key not in odd})
