"""Settings of a store: defaults, ranges, and what a caller is told about a wrong patch."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.connection.neighbours import NEIGHBOUR_TABLES as CONNECTION_NEIGHBOURS
from meta_sync.core.errors import ValidationFailedError
from meta_sync.schema import metadata
from meta_sync.stores.neighbours import NEIGHBOUR_TABLES as STORES_NEIGHBOURS
from meta_sync.stores.settings import (
    MAPPING_FIELDS,
    StoreSettings,
    missing_keys,
    settings_from_stored,
    settings_to_stored,
)
from meta_sync.stores.settings_patch import check_patch
from meta_sync.sync.mapping_settings import MappingSettings

DEFAULTS = StoreSettings()


def patched(**patch: Any) -> StoreSettings:
    return check_patch(DEFAULTS, patch).settings


def faults(patch: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ValidationFailedError) as caught:
        check_patch(DEFAULTS, patch)
    assert caught.value.status == 400
    return {fault.field: fault.message for fault in caught.value.details}


def test_defaults_are_the_documented_ones() -> None:
    shown = DEFAULTS.model_dump(mode="json", by_alias=True)
    assert (
        shown
        | {
            "currency": None,
            "graphVersion": "v25.0",
            "storefrontProductPath": "/product/{slug}",
            "retailerIdTemplate": "{variantId}",
            "defaultCondition": "new",
            "identifierExistsFallback": False,
            "syncEnabled": False,
            "feedMode": "live",
            "syncIntervalSeconds": 60,
            "pollIntervalSeconds": 30,
            "batchSize": 2500,
            "handlesPerPollTick": 16,
            "maxAttempts": 5,
            "handlePollMaxAgeMinutes": 30,
            "timezone": "UTC",
            "quantityPolicy": "capped",
            "systemUserName": "meta-sync Catalog Sync",
            "features": ["catalog"],
            "guardMaxShare": 0.3,
            "guardMinItems": 50,
            "deleteGraceDays": 0,
            "tokenExpiryAlertDays": [14, 7, 1],
        }
        == shown
    )
    assert settings_to_stored(DEFAULTS) == {}


@pytest.mark.parametrize(
    ("key", "lowest", "highest"),
    [
        ("syncIntervalSeconds", 10, 3600),
        ("pollIntervalSeconds", 10, 600),
        ("batchSize", 1, 5000),
        ("handlesPerPollTick", 1, 64),
        ("maxAttempts", 1, 20),
        ("handlePollMaxAgeMinutes", 1, 1440),
    ],
)
def test_ranges_hold_at_both_ends(key: str, lowest: int, highest: int) -> None:
    patched(**{key: lowest})
    patched(**{key: highest})
    assert faults({key: lowest - 1}) == {key: f"must be at least {lowest}"}
    assert faults({key: highest + 1}) == {key: f"must be at most {highest}"}


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("batchSize", "100", "must be a whole number"),
        ("batchSize", 1.5, "must be a whole number"),
        ("batchSize", True, "must be a whole number"),
        ("syncEnabled", "yes", "must be true or false"),
        ("syncEnabled", 1, "must be true or false"),
        ("currency", 5, "must be text"),
        ("currency", "EURO", "must be an active ISO 4217 currency code such as EUR"),
        ("defaultCondition", "mint", "must be one of new, refurbished, used"),
        ("feedMode", "LIVE", "must be one of live, preview"),
        ("quantityPolicy", "all", "must be one of capped, exact, none"),
        ("timezone", "Europe/Atlantis", "must be an IANA time zone such as Europe/Berlin"),
        ("timezone", "../../etc/passwd", "must be an IANA time zone such as Europe/Berlin"),
        ("graphVersion", "25", "must be a Graph API version such as v25.0"),
        (
            "storefrontBaseUrl",
            "shop.example",
            "must be an http or https address such as https://shop.example",
        ),
        (
            "storefrontBaseUrl",
            "ftp://shop.example",
            "must be an http or https address such as https://shop.example",
        ),
        ("storefrontBaseUrl", "https://shop.example/?a=1", "must be an address without a query or fragment"),
        ("mediaBaseUrl", "https://u:p@media.example", "must not contain a user name or password"),
        ("mediaBaseUrl", "https://", "must be an http or https address such as https://shop.example"),
        (
            "mediaBaseUrl",
            "https://a.example:99999",
            "must be an http or https address such as https://shop.example",
        ),
        (
            "mediaBaseUrl",
            "javascript:alert(1)",
            "must be an http or https address such as https://shop.example",
        ),
        ("storefrontProductPath", "product/{slug}", "must begin with /"),
        (
            "storefrontProductPath",
            "/p",
            "must contain a placeholder: {slug}, {productId}, {variantId}, {sku}",
        ),
        (
            "storefrontProductPath",
            "/p/{name}",
            "has the unknown placeholder {name}; known are {slug}, {productId}, {variantId}, {sku}",
        ),
        (
            "storefrontProductPath",
            "/p/{slug",
            "has a brace without its counterpart; placeholders are {slug}, {productId}, {variantId}, {sku}",
        ),
        (
            "retailerIdTemplate",
            "{slug}",
            "has the unknown placeholder {slug}; known are {variantId}, {productId}, {sku}",
        ),
        (
            "retailerIdTemplate",
            "p-{productId}",
            "must contain {variantId} or {sku}: the variants of a product would share one id",
        ),
        ("defaultBrand", "a\x00b", "must not contain the NUL character"),
        ("defaultBrand", "x" * 201, "must have at most 200 characters"),
        ("features", [], "must not be empty"),
        ("features", "catalog", "must be a list"),
        ("features", ["catalog", "catalog"], "must not name anything twice"),
        ("features", ["chat"], "must be one of catalog, messaging, conversions, ads, orders"),
        ("guardMaxShare", 0, "must be more than 0"),
        ("guardMaxShare", 1.01, "must be at most 1"),
        ("guardMaxShare", float("nan"), "must be a number"),
        ("guardMaxShare", 10**400, "must be a number"),
        ("batchSize", 10**400, "must be at most 5000"),
        ("tokenExpiryAlertDays", [0], "must be at least 1"),
        ("alertEmails", ["nobody"], "must be an e-mail address"),
        ("appId", "1|2", "must be an id as Meta shows it: digits, without spaces"),
        ("storefrontProductPath", "", "must begin with /"),
    ],
)
def test_wrong_values_are_explained_under_the_callers_key(key: str, value: object, sentence: str) -> None:
    assert faults({key: value}) == {key: sentence}


def test_lone_surrogates_are_refused() -> None:
    assert set(faults({"defaultBrand": "\ud800", "appSecret": "\ud800" + "x" * 20})) == {
        "defaultBrand",
        "appSecret",
    }


def test_every_fault_of_a_patch_is_named_at_once() -> None:
    found = faults(
        {
            "batchSize": 0,
            "batch_size": 5,
            "catalogId": "1",
            "tokenKind": "user",
            "verifyToken": "",
            "no\ud800thing": 1,
        }
    )
    assert found == {
        "batchSize": "must be at least 1",
        "batch_size": "is not a setting; did you mean batchSize?",
        "catalogId": "is read-only here; it is set by selecting a catalog",
        "tokenKind": "is read-only here; it is set by selecting a catalog",
        "verifyToken": "must not be empty; null removes it",
        "no?thing": "is not a setting",
    }


@pytest.mark.parametrize(
    "key", ["businessId", "businessName", "catalogId", "catalogName", "systemUserId", "tokenKind"]
)
def test_what_the_selection_decides_cannot_be_patched_even_to_null(key: str) -> None:
    assert faults({key: None}) == {key: "is read-only here; it is set by selecting a catalog"}


def test_the_word_shown_for_a_secret_is_not_taken_for_one() -> None:
    assert "configured" in faults({"appSecret": "configured"})["appSecret"]


def test_null_and_absence_differ() -> None:
    current = patched(batchSize=10, defaultBrand="Acme", currency="eur")
    assert current.currency == "EUR"
    after = check_patch(current, {"batchSize": None, "defaultBrand": "  "}).settings
    assert (after.batch_size, after.default_brand, after.currency) == (2500, None, "EUR")


def test_secrets_are_taken_apart_from_the_settings() -> None:
    checked = check_patch(DEFAULTS, {"appSecret": " shh \n", "verifyToken": None})
    assert checked.settings == DEFAULTS
    assert checked.secrets["verify_token"] is None
    secret = checked.secrets["app_secret"]
    assert secret is not None
    assert secret.get_secret_value() == "shh"
    assert "shh" not in repr(checked)


def test_missing_keys_are_those_without_which_nothing_can_be_sent() -> None:
    assert missing_keys(DEFAULTS, link=False) == ["currency", "storefrontBaseUrl", "catalogId"]
    ready = patched(currency="EUR", storefrontBaseUrl="https://shop.example")
    assert missing_keys(ready, link=True) == []


def test_mapping_fields_are_those_the_mapper_knows() -> None:
    in_mapper = {field for field in MappingSettings.__dataclass_fields__ if field != "business_name"}
    assert in_mapper == MAPPING_FIELDS
    assert set(StoreSettings.model_fields) >= MAPPING_FIELDS


def test_a_stored_value_of_another_version_falls_back(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        loaded = settings_from_stored({"batch_size": 9_000, "currency": "EUR", "from_the_future": 1})
    assert (loaded.batch_size, loaded.currency) == (2500, "EUR")


def test_names_of_neighbours_are_those_of_the_schema() -> None:
    for neighbour in (*STORES_NEIGHBOURS, *CONNECTION_NEIGHBOURS):
        real = metadata.tables[neighbour.name]
        assert {column.name for column in neighbour.columns} <= {column.name for column in real.columns}


@given(
    st.dictionaries(
        st.sampled_from(["batchSize", "currency", "timezone", "mediaBaseUrl", "features", "appSecret", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_any_patch_is_taken_or_refused_and_what_was_taken_survives_storage(patch: dict[str, Any]) -> None:
    try:
        settings = check_patch(DEFAULTS, patch).settings
    except ValidationFailedError as error:
        assert error.details
        assert {fault.field for fault in error.details} <= set(patch)
    else:
        assert settings_from_stored(settings_to_stored(settings)) == settings
