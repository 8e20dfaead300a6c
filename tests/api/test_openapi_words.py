"""Everything in the document is described: no schema, field or parameter is left to be guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from meta_sync.api import openapi
from meta_sync.api.app import api_routes, create_app, openapi_document
from meta_sync.api.vocabulary import FIELDS, PLACES

DOCUMENT: dict[str, Any] = json.loads(openapi_document())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from schema.get("properties", {}).items()


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document but the examples, which say what they like."""
    if isinstance(value, dict):
        yield value
        for key, child in value.items():
            if key not in {"examples", "example", "default", "const", "enum"}:
                yield from _walk(child)
    elif isinstance(value, list):
        for child in value:
            yield from _walk(child)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_and_field_is_described(name: str) -> None:
    assert re.fullmatch(r"\S.*[.]", SCHEMAS[name].get("description", ""), re.DOTALL), name
    assert [field for field, one in _fields(SCHEMAS[name]) if not one.get("description")] == []
    for field, one in _fields(SCHEMAS[name]):
        assert one["description"].endswith("."), (name, field, one["description"])
        assert re.fullmatch(r"[a-z][a-zA-Z0-9]*|data_base64", field), (name, field)


def test_parameters_tags_and_credentials_are_described() -> None:
    for operations in DOCUMENT["paths"].values():
        for operation in operations.values():
            assert operation["summary"] == operation["summary"].strip().rstrip(".")
            assert operation["description"].endswith((".", "`"))
            for parameter in operation.get("parameters", ()):
                assert parameter["description"].endswith("."), (operation["operationId"], parameter["name"])
            for response in operation["responses"].values():
                assert response["description"]
                assert all(one["description"] for one in response.get("headers", {}).values())
    used = {
        tag for operations in DOCUMENT["paths"].values() for one in operations.values() for tag in one["tags"]
    }
    assert {tag["name"] for tag in DOCUMENT["tags"]} == used
    assert all(tag["description"] for tag in DOCUMENT["tags"])
    assert all(one["description"] for one in DOCUMENT["components"]["securitySchemes"].values())
    info = DOCUMENT["info"]
    assert info["license"] == {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
    assert "contact" not in info
    assert DOCUMENT["servers"] == [
        {"url": "/", "description": "The installation that this document was read from."}
    ]


def test_the_vocabulary_has_no_word_that_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openapi, "describe_fields", lambda document: None)
    bare = openapi.build_openapi(create_app(None, for_openapi=True), api_routes())
    missing = {
        (name, field)
        for name, schema in bare["components"]["schemas"].items()
        for field, one in _fields(schema)
        if "description" not in one
    }
    assert set(FIELDS) - {field for _, field in missing} == set()
    assert set(PLACES) - {f"{name}.{field}" for name, field in missing} == set()


def test_the_document_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    for value in _walk(DOCUMENT):
        assert "nullable" not in value
        assert "discriminator" not in value or set(value["discriminator"]) == {"propertyName", "mapping"}
        if value.get("type") == "integer":
            assert not any(
                isinstance(value.get(bound), float)
                for bound in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
            ), value
            assert value["format"] == "int64"
        for field, one in _fields(value):
            kinds = one.get("anyOf", [one])
            wanted = "date-time" if field == "at" or field.endswith("At") else None
            wanted = "uri-reference" if field.lower().endswith("href") else wanted
            assert wanted is None or any(kind.get("format") == wanted for kind in kinds), field


def test_bodies_are_closed_and_answers_may_grow() -> None:
    sent: set[str] = set()
    todo = [
        reference
        for operations in DOCUMENT["paths"].values()
        for operation in operations.values()
        for value in _walk(operation.get("requestBody", {}))
        if isinstance(reference := value.get("$ref"), str) and reference.startswith("#/components/schemas/")
    ]
    while todo:
        name = todo.pop().rpartition("/")[2]
        if name not in sent:
            sent.add(name)
            todo += [value["$ref"] for value in _walk(SCHEMAS[name]) if "$ref" in value]
    # An event may carry attributes and data that mean nothing here.
    events = {one["$ref"].rpartition("/")[2] for one in SCHEMAS["CloudEvent"]["anyOf"]}
    opened = {*events, "OtherEventData"}
    for name, schema in SCHEMAS.items():
        if "properties" not in schema:
            continue
        if name in sent:
            assert schema.get("additionalProperties") is (name in opened), name
        else:
            assert schema.get("additionalProperties", True) is True, name
