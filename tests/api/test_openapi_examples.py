"""Every operation of the document shows what is sent, what is answered, and each error that it can give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from meta_sync.api.app import api_routes, openapi_document
from meta_sync.api.documentation import CODES_KEY, STATUSES, implied_codes
from meta_sync.api.examples import EXAMPLES_FILE
from meta_sync.api.security import access_of
from meta_sync.sync.codes import entry_of
from meta_sync.sync.codes_api import API

DOCUMENT: dict[str, Any] = json.loads(openapi_document())
OPERATIONS = {
    operation["operationId"]: operation
    for operations in DOCUMENT["paths"].values()
    for operation in operations.values()
}


def _shown(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The examples of one content, by their names."""
    for name, example in content["examples"].items():
        if "$ref" in example:
            assert example == {"$ref": f"#/components/examples/{name}"}
            example = DOCUMENT["components"]["examples"][name]
        yield name, example


def _contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is sent and answered, each with the type of its media."""
    yield from operation.get("requestBody", {}).get("content", {}).items()
    for response in operation["responses"].values():
        yield from response.get("content", {}).items()


@pytest.mark.parametrize("name", OPERATIONS)
def test_examples_are_there_and_valid(name: str) -> None:
    for kind, content in _contents(OPERATIONS[name]):
        schema = {**content["schema"], "components": DOCUMENT["components"]}
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        examples = dict(_shown(content))
        assert examples, (name, kind)
        for example in examples.values():
            assert example["summary"]
            assert [str(fault) for fault in validator.iter_errors(example["value"])] == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_error_is_shown_as_it_is_answered(name: str) -> None:
    for status, response in OPERATIONS[name]["responses"].items():
        if int(status) < 400:
            continue
        examples = dict(_shown(response["content"]["application/json"]))
        for code, example in examples.items():
            assert (example["value"]["errorCode"], example["value"]["statusCode"]) == (code, int(status))
            assert STATUSES[code] == int(status)
            entry = entry_of(code)
            assert (example["summary"], example["description"]) == (entry.sentence, entry.action)
            assert f"`{code}`: {entry.sentence}" in response["description"]
        assert response["description"].count("`: ") == len(examples)


_UNSEEN = {
    ("setToken", "CONFLICT"): "the app changes while Meta is asked",
    ("getItemMetaStatus", "meta_misconfigured"): "Meta refuses the app while it is asked",
}
"""Declared errors that nothing simple brings about, and why they are true all the same."""


def test_nothing_is_declared_that_the_service_was_not_seen_to_answer() -> None:
    """Beyond what access, path and body imply, each error was recorded from the operation itself."""
    recorded = json.loads(EXAMPLES_FILE.read_text(encoding="utf-8"))["operations"]
    seen, declared = set(), set()
    for route in api_routes():
        if route.operation_id is None:
            continue
        name = route.operation_id
        operation = OPERATIONS[name]
        implied = implied_codes(operation, route.path, access_of(route.endpoint))
        given = {
            code for response in route.responses.values() for code in response.get(CODES_KEY, ())
        } - implied
        declared |= {(name, code) for code in given}
        seen |= {(name, code) for code in recorded.get(name, {}).get("errors", {})}
        shown = {
            code
            for status, response in operation["responses"].items()
            if int(status) >= 400
            for code in response["content"]["application/json"]["examples"]
        }
        assert shown == implied | given
        assert set(recorded.get(name, {}).get("errors", {})) <= shown
    assert declared - seen == set(_UNSEEN)


def test_what_happens_to_one_thing_is_told_of_the_same_thing() -> None:
    def answered(name: str) -> Any:
        content = next(
            response["content"]["application/json"]
            for status, response in OPERATIONS[name]["responses"].items()
            if status.startswith("2")
        )
        return next(iter(content["examples"].values()))["value"]["data"]

    assert answered("getStore") == answered("updateStore")
    assert answered("createApiKey")["storeId"] == answered("getStore")["storeId"]
    assert answered("getCaller")["stores"][0]["storeId"] == answered("getStore")["storeId"]
    assert answered("getSyncJob")["id"] == answered("createSyncJob")["jobId"]
    assert answered("cancelSyncJob")["id"] == answered("bootstrap")["jobId"]
    assert answered("getImport")["importId"] == answered("createImport")["importId"]
    assert answered("getFeed")["feedId"] == answered("createFeed")["feedId"]
    item = answered("getItem")["variant"]["id"]
    assert item in {one["variantId"] for one in answered("getHandle")["items"]}
    assert item in {one["id"] for one in answered("getProduct")["variants"]}
    assert answered("getItemMetaStatus")["retailerId"] == answered("getItem")["mappedItemData"]["id"]


def test_every_code_of_an_answer_is_in_the_document() -> None:
    codes = {entry.code for entry in API}
    # Of Meta's families one is also the code of an answer.
    assert set(STATUSES) == codes | {"meta_rate_limited"}
    shown = {
        code
        for operation in OPERATIONS.values()
        for status, response in operation["responses"].items()
        if int(status) >= 400
        for code in response["content"]["application/json"]["examples"]
    }
    # A wrong method has no operation; the document tells of it in its own words.
    assert set(STATUSES) - shown == {"METHOD_NOT_ALLOWED"}
    for code, status in STATUSES.items():
        assert f"| {status} | `{code}` | {entry_of(code).sentence} |" in DOCUMENT["info"]["description"]
