from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta_sync.graph.wire import (
    CatalogInfo,
    Identity,
    ItemMessages,
    ProductsPage,
    ReportLine,
    next_cursor,
    parse_catalog,
    parse_identity,
    parse_products,
    parse_report_page,
    parse_submit,
    parse_token,
)
from tests.unit.graph.test_tolerant import ANY_JSON


@given(ANY_JSON, st.sampled_from(["data", "handles", "validation_status", "paging", "id", "summary"]))
def test_parsers_never_raise(value: Any, key: str) -> None:
    for body in (value, {key: value}, {"data": [value]}, {"data": {key: value}}):
        parse_submit(body)
        parse_report_page(body, "h")
        parse_products(body)
        parse_catalog(body)
        parse_identity(body)
        parse_token(body)
        next_cursor(body)
    for name in ("errors", "warnings", "status", "handle", "errors_total_count", "ids_of_invalid_requests"):
        parse_report_page({"data": [{name: value}]}, "h")
    for name in ("is_valid", "expires_at", "scopes", "granular_scopes", "error"):
        parse_token({"data": {"is_valid": True, name: value}})
    parse_submit({"handles": ["h"], "validation_status": [{"retailer_id": value, "errors": value}]})


@pytest.mark.parametrize(
    ("handles", "expected"),
    [
        (["h"], ("h",)),
        ([], ()),
        (["h", None, ""], ("h",)),
        ([None], None),
        ("h", None),
        (None, None),
        ({}, None),
    ],
)
def test_handles(handles: Any, expected: tuple[str, ...] | None) -> None:
    assert parse_submit({"handles": handles}).handles == expected


def test_messages_of_one_item_are_joined_whatever_their_shape() -> None:
    said = parse_submit(
        {
            "handles": ["h"],
            "validation_status": [
                {"retailer_id": "A", "errors": [{"message": "first"}]},
                {"retailer_id": "A", "warnings": [{"message": "second"}, {}], "errors": ["third"]},
                {"retailer_id": 185, "errors": [{"message": ""}]},
                {"warnings": [{"message": "to nobody"}]},
            ],
        }
    )
    assert said.messages == {
        "A": ItemMessages(("first", "third"), ("second", "Meta gave no reason.")),
        "185": ItemMessages(("Meta gave no reason.",)),
        "": ItemMessages((), ("to nobody",)),
    }


def test_a_report_page_with_everything_missing() -> None:
    page = parse_report_page({}, "h")
    assert (page.handle, page.status, page.errors, page.errors_total_count) == (None, "", (), None)
    assert (page.has_next, page.after) == (False, None)


def test_a_report_page() -> None:
    page = parse_report_page(
        {
            "data": [
                {"handle": "other", "status": "started"},
                {
                    "handle": "h",
                    "status": " Finished ",
                    "errors_total_count": "2",
                    "errors": [{"line": 2, "id": "SKU-1", "message": "m"}, {"message": "n"}],
                    "warnings_total_count": -1,
                    "ids_of_invalid_requests": ["SKU-1", 7],
                },
            ]
        },
        "h",
    )
    assert page.status == "finished"
    assert page.errors == (ReportLine("SKU-1", "m"), ReportLine("", "n"))
    assert (page.errors_total_count, page.warnings_total_count) == (2, None)
    assert page.invalid_ids == ("SKU-1", "7")


@pytest.mark.parametrize(
    ("paging", "expected"),
    [
        (None, (False, None)),
        ({"cursors": {"after": "c"}}, (False, None)),
        ({"cursors": {"after": "c"}, "next": "https://graph.example/x"}, (True, "c")),
        ({"next": "https://graph.example/x?access_token=t&after=c%3D"}, (True, "c=")),
        ({"next": "https://graph.example/x?limit=5"}, (True, None)),
        ({"next": "http://[bad"}, (True, None)),
        ({"next": True}, (True, None)),
    ],
)
def test_the_end_of_a_list_is_the_absence_of_next(paging: Any, expected: tuple[bool, str | None]) -> None:
    assert next_cursor({"data": [], "paging": paging}) == expected


def test_products() -> None:
    assert parse_products({"data": [{"id": "1"}, None], "summary": {"total_count": 316}}) == ProductsPage(
        ({"id": "1"},), total_count=316
    )
    assert parse_products({"data": None}) is None


def test_catalog_and_identity() -> None:
    assert parse_catalog(
        {"id": "7", "name": "Main", "vertical": "commerce", "product_count": 3}
    ) == CatalogInfo("7", "Main", "commerce", 3)
    assert parse_catalog({"name": "Main"}) is None
    assert parse_identity({"id": 7}) == Identity("7")
    assert parse_identity(None) is None


def test_a_valid_token() -> None:
    info = parse_token(
        {
            "data": {
                "app_id": "138483919580948",
                "type": "SYSTEM_USER",
                "application": "My App",
                "data_access_expires_at": 0,
                "expires_at": 1764547200,
                "is_valid": True,
                "issued_at": 10**18,
                "scopes": ["catalog_management", 5],
                "granular_scopes": [
                    {"scope": "catalog_management", "target_ids": ["1", 2, None]},
                    {"scope": "business_management"},
                    {"scope": 5},
                ],
                "user_id": "1207059",
            }
        }
    )
    assert info is not None
    assert info.is_valid
    assert info.type == "SYSTEM_USER"
    assert info.expires_at == datetime(2025, 12, 1, tzinfo=UTC)
    assert info.data_access_expires_at is None
    assert info.issued_at is None
    assert info.scopes == ("catalog_management",)
    assert info.granular_scopes == {"catalog_management": ("1", "2"), "business_management": ()}


def test_an_invalid_token_says_why_without_showing_a_token() -> None:
    error = {"code": 190, "message": "Malformed access token EAABcanary0123456789", "subcode": 463}
    info = parse_token({"data": {"is_valid": False, "scopes": [], "error": error}})
    assert info is not None
    assert not info.is_valid
    assert (info.error_code, info.error_subcode) == (190, 463)
    assert "canary" not in repr(info)


def test_no_statement_about_a_token() -> None:
    assert parse_token({"data": {}}) is None
    assert parse_token([]) is None
