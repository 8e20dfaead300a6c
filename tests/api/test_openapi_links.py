"""The links of the document lead from values that answers have to parameters that operations take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meta_sync.api.app import openapi_document

DOCUMENT: dict[str, Any] = json.loads(openapi_document())
OPERATIONS = {
    operation["operationId"]: operation
    for operations in DOCUMENT["paths"].values()
    for operation in operations.values()
}


def _success(name: str) -> dict[str, Any]:
    return next(one for status, one in OPERATIONS[name]["responses"].items() if status.startswith("2"))


def _found(schema: dict[str, Any], steps: list[str]) -> dict[str, Any]:
    """The schema at a place of a body, through references, lists and what may be null."""
    while True:
        if "$ref" in schema:
            schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        elif "anyOf" in schema:
            schema = next(one for one in schema["anyOf"] if one.get("type") != "null")
        elif not steps:
            return schema
        elif schema.get("type") == "array":
            assert steps.pop(0) == "0"
            schema = schema["items"]
        else:
            schema = schema["properties"][steps.pop(0)]


@pytest.mark.parametrize("name", OPERATIONS)
def test_links_lead_somewhere(name: str) -> None:
    for link in _success(name).get("links", {}).values():
        target = OPERATIONS[link["operationId"]]
        taken = {(one["in"], one["name"]) for one in target.get("parameters", ())}
        needed = {("path", one["name"]) for one in target.get("parameters", ()) if one["in"] == "path"}
        given = {tuple(parameter.split(".")) for parameter in link["parameters"]}
        assert needed <= given <= taken
        assert link["description"].endswith(".")
        for expression in link["parameters"].values():
            if expression.startswith("$request."):
                _, place, parameter = expression.split(".")
                assert (place, parameter) in {
                    (one["in"], one["name"]) for one in OPERATIONS[name]["parameters"]
                }
                continue
            pointer = expression.removeprefix("$response.body#/").split("/")
            schema = _success(name)["content"]["application/json"]["schema"]
            assert _found(schema, pointer)["type"] == "string"


def test_the_next_page_is_one_of_the_same_list() -> None:
    """A cursor is refused beside other filters than those it came with."""
    link = _success("listItems")["links"]["nextPage"]
    of_list = {one["name"] for one in OPERATIONS["listItems"]["parameters"] if one["in"] == "query"}
    assert {"status", "search", "sort", "limit"} < of_list
    assert link["parameters"] == {
        **{f"query.{name}": f"$request.query.{name}" for name in of_list - {"cursor", "page"}},
        "query.cursor": "$response.body#/metadata/nextCursor",
    }


def test_what_was_started_can_be_followed_and_every_page_leads_on() -> None:
    for name, operation in OPERATIONS.items():
        links = _success(name).get("links", {})
        parameters = {one["name"] for one in operation.get("parameters", ())}
        assert ("nextPage" in links) is ("cursor" in parameters)
        content = _success(name).get("content", {}).get("application/json")
        if content is None:
            continue
        [example] = content["examples"].values()
        data = example["value"]["data"]
        for field, target in (("jobId", "getSyncJob"), ("importId", "getImport"), ("feedId", "getFeed")):
            if field in data and name not in {target, "deleteFeed", "updateFeed"}:
                assert target in links, name
