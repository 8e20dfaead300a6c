"""What makes the document fit for generators of clients: it says the same, in the words that become good types.

Changes no meaning: what is valid stays valid. Knows OpenAPI and the names of our types, not the routes.

- A set of words that stands in several places, or may be null, is one named type; otherwise each place becomes a type.
- A parameter is absent or there, never null.
- A default of a body's field is told in words. Generators send it otherwise, with a patch too, or demand the field.
"""

from __future__ import annotations

import json
from typing import Any, get_args

from meta_sync.api.schemas.jobs import JobStatus, JobType, LaneName
from meta_sync.catalog.ingest.detect import FORMATS
from meta_sync.connection.models import TokenKind
from meta_sync.graph.errors import Category
from meta_sync.stores.settings import Feature
from meta_sync.sync.code_entry import Severity
from meta_sync.sync.mapping_settings import QuantityPolicy

__all__ = ["for_generators"]

_PREFIX = "#/components/schemas/"

_WORDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ErrorCategory": (
        "Kind of the cause behind a code.",
        get_args(Category),
    ),
    "CodeSeverity": (
        "How bad what a code stands for is.",
        get_args(Severity),
    ),
    "Feature": (
        "A part of the service that a store uses.",
        get_args(Feature),
    ),
    "FeedMode": ("Whether items are sent, or only shown as they would be.", ("live", "preview")),
    "FeedResult": ("What the last fetch of a feed came to.", ("imported", "not_modified", "error")),
    "ImportFormat": ("A kind of file that can be imported.", tuple(FORMATS)),
    "ImportMode": (
        "Whether products that the file leaves out stay (`upsert`) or are deleted (`replace`).",
        ("upsert", "replace"),
    ),
    "ItemAvailability": (
        "Whether and how an item can be bought.",
        ("in stock", "out of stock", "available for order", "preorder"),
    ),
    "ItemCondition": ("Condition of what is sold.", ("new", "refurbished", "used")),
    "Lane": (
        "How urgent a change is: live (price, stock, visibility), content or bulk.",
        get_args(LaneName),
    ),
    "PauseReason": (
        "Why a store's sync stands still.",
        (
            "not_connected",
            "needs_reconnect",
            "config_incomplete",
            "sync_disabled",
            "throttled",
            "meta_unreachable",
            "blocked_by_meta",
            "held",
        ),
    ),
    "ProductStatus": ("Only active products are sent.", ("draft", "active", "archived")),
    "ProductVisibility": ("Only public products are sent.", ("public", "private")),
    "QuantityPolicy": ("How exactly Meta is told a stock.", get_args(QuantityPolicy)),
    "RepairableVerdict": (
        "What a repair may act on: drift of what is the store's.",
        ("missing", "different", "orphan"),
    ),
    "SyncJobStatus": (
        "How far a job is. `partial`: it is over, and some items failed.",
        get_args(JobStatus),
    ),
    "SyncJobType": ("What a job is for.", get_args(JobType)),
    "TokenKind": ("Whose token connects the store.", get_args(TokenKind)),
}
"""Sets of words: name, description, and the words in the order in which they are listed."""
_OBJECTS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "AuditValues": (
        "What an action changed, by key. A secret is told as `configured` or `changed`.",
        (("AuditLogEntry", "before"), ("AuditLogEntry", "after")),
    ),
    "ItemData": (
        "An item's fields as Meta knows them.",
        (("MetaItemDetail", "mappedItemData"), ("NextRequest", "data")),
    ),
    "OptionValues": (
        "What a variant is of its product, by the option's name.",
        (("VariantBody", "options"),),
    ),
    "ShownItem": (
        "An item as Meta shows it, under Meta's names.",
        (("ReconciledItem", "shown"),),
    ),
}
"""Objects without fields of their own that are one of several choices: name, description, and where they stand."""


def for_generators(document: dict[str, Any]) -> dict[str, Any]:
    """The document with named types, parameters without null, and bodies without defaults."""
    schemas = document["components"]["schemas"]
    for name, (description, places) in _OBJECTS.items():
        for schema, field in places:
            choices = schemas[schema]["properties"][field].get("anyOf", [])
            for index, choice in enumerate(choices):
                if choice.get("type") == "object":
                    schemas[name] = {**choice, "description": description}
                    choices[index] = {"$ref": f"{_PREFIX}{name}"}
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                _leave_out_null(parameter["schema"])
    _tell_defaults(schemas)
    for operations in document["paths"].values():
        for operation in operations.values():
            _tell_defaults(operation.get("requestBody"))
    types = {name: schema for name, schema in schemas.items() if "enum" in schema}
    made = {
        name: {"type": "string", "enum": list(words), "description": description}
        for name, (description, words) in _WORDS.items()
    }
    names = {tuple(schema["enum"]): name for name, schema in (types | made).items()}
    named: dict[str, Any] = _with_named_words(document, names)
    text = json.dumps(named)
    used = {name: schema for name, schema in made.items() if f'"{_PREFIX}{name}"' in text}
    named["components"]["schemas"].update(types | used)
    return named


def _leave_out_null(schema: dict[str, Any]) -> None:
    choices = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(choices) == 1:
        del schema["anyOf"]
        schema.update(choices[0])


def _tell_defaults(schema: Any) -> None:
    """Say the defaults of all fields within in their descriptions."""
    if isinstance(schema, list):
        for one in schema:
            _tell_defaults(one)
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key == "properties":
            for field in value.values():
                _tell_default(field)
        _tell_defaults(value)


def _tell_default(field: dict[str, Any]) -> None:
    default = field.pop("default", None)
    if default is None:
        return
    word = default if isinstance(default, str) else json.dumps(default)
    field["description"] = f"{field.get('description', '')} `{word}` when absent.".strip()


def _with_named_words(value: Any, names: dict[tuple[str, ...], str]) -> Any:
    if isinstance(value, list):
        return [_with_named_words(one, names) for one in value]
    if not isinstance(value, dict):
        return value
    words = value.get("enum")
    name = names.get(tuple(words)) if isinstance(words, list) else None
    if name is not None:
        kept = {key: one for key, one in value.items() if key not in {"enum", "type"}}
        return {"$ref": f"{_PREFIX}{name}", **kept}
    return {key: _with_named_words(one, names) for key, one in value.items()}
