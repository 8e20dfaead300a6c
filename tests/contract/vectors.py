"""The recorded and documented Graph answers beside the project, and how each goes through our own reading of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meta_sync.graph.errors import (
    AssetLostError,
    CredentialsError,
    GraphError,
    InvalidRequestError,
    PermissionMissingError,
    ThrottledError,
    TransientError,
    UnknownGraphError,
    UnreadableAnswerError,
    classify,
)
from meta_sync.graph.tolerant import UNREADABLE, decode_json
from meta_sync.graph.usage import parse_usage
from meta_sync.graph.wire import Answer

__all__ = ["CLASSES", "Vector", "answer_of", "body_of", "concerns_catalogs", "error_of", "select"]

Vector = dict[str, Any]

_PATH = Path(__file__).parents[2].parent / "shared" / "vectors" / "graph_errors.json"

CLASSES: dict[str, tuple[type[GraphError], ...]] = {
    "credentials": (CredentialsError,),
    "permission": (PermissionMissingError, AssetLostError),
    "rate_limited": (ThrottledError,),
    "transient": (TransientError,),
    "invalid_request": (InvalidRequestError,),
    "unknown": (UnknownGraphError, UnreadableAnswerError),
}
"""The vectors' words for failures, in our classes."""


def _load() -> list[Any]:
    if not _PATH.is_file():
        return [
            pytest.param(None, marks=pytest.mark.skip(reason="The vectors beside the project are not here."))
        ]
    return [pytest.param(vector, id=vector["id"]) for vector in json.loads(_PATH.read_bytes())]


def select(*classes: str, edge: str = "", catalogs_only: bool = False, answered: bool = True) -> list[Any]:
    """The vectors of the given classes, as parameters of a test."""
    return [param for param in _load() if _fits(param.values[0], classes, edge, catalogs_only, answered)]


def _fits(
    vector: Vector | None, classes: tuple[str, ...], edge: str, catalogs_only: bool, answered: bool
) -> bool:
    if vector is None:
        return True
    return (
        (vector["status"] is not None) is answered
        and vector["right_reaction"]["class"] in classes
        and vector["edge"].endswith(edge)
        and (not catalogs_only or concerns_catalogs(vector))
    )


def concerns_catalogs(vector: Vector) -> bool:
    """Whether the answer can meet a call about a catalog: all but those of edges for events."""
    return vector["edge"] == "any" or "{catalog_id}" in vector["edge"]


def body_of(vector: Vector) -> bytes:
    """The bytes of the answer."""
    raw = vector.get("raw_body")
    return raw.encode() if raw is not None else json.dumps(vector["body"]).encode()


def error_of(vector: Vector) -> GraphError | None:
    """What our table makes of the answer."""
    return classify(vector["status"], vector["headers"], body_of(vector))


def answer_of(vector: Vector) -> Answer:
    """The answer as the client hands it to the endpoints."""
    value = decode_json(body_of(vector))
    return Answer(
        None if value is UNREADABLE else value,
        parse_usage(vector["headers"]),
        error_of(vector),
        status=vector["status"],
    )
