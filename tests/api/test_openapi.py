"""The document of the API: never stale, complete, and fit for generators."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from meta_sync.api.app import api_routes, openapi_document
from tests.support.api import Api

CHECKED_IN = Path(__file__).resolve().parents[2] / "openapi" / "meta-sync.json"
DOCUMENT: dict[str, Any] = json.loads(openapi_document())
OPERATIONS = [
    (method, path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]


def walk(value: Any) -> Any:
    yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(child)


def test_the_file_in_the_repository_is_this_api() -> None:
    assert CHECKED_IN.read_text() == openapi_document(), (
        "run: meta-sync openapi --output openapi/meta-sync.json"
    )


def test_every_route_is_described_but_the_document_itself() -> None:
    described = {(method.upper(), path) for method, path, _ in OPERATIONS}
    served = {(method, route.path) for route in api_routes() for method in route.methods or ()}
    assert served - described == {("GET", "/openapi.json"), ("GET", "/docs")}


def test_operations_are_named_and_told() -> None:
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    for _, path, operation in OPERATIONS:
        assert re.fullmatch(r"[a-z][a-zA-Z]{3,20}", operation["operationId"]), path
        assert operation["summary"]
        assert operation["description"]
        assert len(operation["tags"]) == 1
        assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}


def test_no_422_and_every_error_has_our_envelope() -> None:
    for _, path, operation in OPERATIONS:
        statuses = set(operation["responses"])
        assert "422" not in statuses
        assert {"400", "500"} <= statuses
        assert ("503" in statuses) is (path != "/health/live")
        assert ("401" in statuses) is bool(operation["security"])
        if "requestBody" in operation:
            assert {"413", "415"} <= statuses, path
        if "{" in path:
            assert "404" in statuses
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Error"}
    assert "ValidationError" not in json.dumps(sorted(DOCUMENT["components"]["schemas"]))


def test_schema_names_are_clean_and_not_split() -> None:
    for name in DOCUMENT["components"]["schemas"]:
        assert re.fullmatch(r"[A-Z][A-Za-z]+", name), name
        assert not name.endswith(("Input", "Output", "View"))


def test_every_reference_leads_somewhere() -> None:
    for value in walk(DOCUMENT):
        if isinstance(value, dict) and isinstance(value.get("$ref"), str):
            kind, name = value["$ref"].removeprefix("#/components/").split("/")
            assert name in DOCUMENT["components"][kind], name


def test_answers_have_no_optional_fields() -> None:
    """A client need not ask whether a field is there: it is, or it is null."""
    answers = [name for name in DOCUMENT["components"]["schemas"] if name.endswith(("Answer", "Page"))]
    assert len(answers) > 15
    seen: set[str] = set()
    while answers:
        name = answers.pop()
        seen.add(name)
        schema = DOCUMENT["components"]["schemas"][name]
        assert set(schema.get("properties", ())) == set(schema.get("required", ())), name
        for value in walk(schema):
            reference = value.get("$ref") if isinstance(value, dict) else None
            if isinstance(reference, str) and (inner := reference.rpartition("/")[2]) not in seen:
                answers.append(inner)


def test_headers_of_answers_are_declared() -> None:
    for _, path, operation in OPERATIONS:
        replayed = any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", ()))
        for status, response in operation["responses"].items():
            headers = set(response.get("headers", ()))
            assert ("Retry-After" in headers) is (status in {"429", "503"}), path
            assert ("WWW-Authenticate" in headers) is (status == "401"), path
            assert ("Idempotency-Replayed" in headers) is (replayed and status.startswith("2")), path


def test_credentials_are_declared() -> None:
    assert set(DOCUMENT["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    for _, path, operation in OPERATIONS:
        names = {parameter["name"] for parameter in operation.get("parameters", ())}
        assert operation["security"] == (
            [] if path.startswith("/health") else [{"bearer": []}, {"apiKey": []}]
        )
        assert ("X-Store-Id" in names) == path.startswith(("/catalog", "/admin/meta"))


def test_bodies_have_types_that_generators_can_send() -> None:
    for _, path, operation in OPERATIONS:
        kinds = set(operation.get("requestBody", {"content": ()})["content"])
        assert kinds <= {"application/json", "multipart/form-data", "application/octet-stream"}, path
        assert path == "/catalog/imports" or len(kinds) <= 1


def test_a_set_of_words_is_one_named_type() -> None:
    """Each place becomes a type of its own in a generated client otherwise, with a number for its name."""
    inline: list[tuple[str, ...]] = []
    named = {id(schema) for schema in DOCUMENT["components"]["schemas"].values()}
    for value in walk(DOCUMENT):
        if not isinstance(value, dict):
            continue
        if isinstance(value.get("enum"), list) and id(value) not in named:
            inline.append(tuple(value["enum"]))
        assert not any("enum" in one for one in value.get("anyOf", ())), value
    assert len(set(inline)) == len(inline), inline
    used = {
        value["$ref"].rpartition("/")[2]
        for value in walk(DOCUMENT)
        if isinstance(value, dict) and "$ref" in value
    }
    assert set(DOCUMENT["components"]["schemas"]) <= used


def test_no_field_of_a_body_has_a_default_and_no_parameter_is_null() -> None:
    """Generated clients send defaults, with a patch too."""
    for schema in walk([DOCUMENT["components"], [one.get("requestBody") for _, _, one in OPERATIONS]]):
        for field in schema.get("properties", {}).values() if isinstance(schema, dict) else ():
            assert "default" not in field
    for _, path, operation in OPERATIONS:
        for parameter in operation.get("parameters", ()):
            assert {"type": "null"} not in parameter["schema"].get("anyOf", ()), path
    patch = DOCUMENT["components"]["schemas"]["ProductUpdate"]["properties"]
    assert patch["status"]["$ref"] == "#/components/schemas/ProductStatus"


async def test_the_running_api_gives_the_same_document(api: Api) -> None:
    response = await api.nobody.get("/openapi.json")
    assert response.text == openapi_document()
