"""Examples of the document: what was sent to the service and what it answered, one shop from its creation on.

They are recorded, not written: ``tests/api/test_examples.py`` lives through them and fails where the service says
something else; only the table of codes is taken from where it stands. This module puts them where they belong.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from meta_sync.api.schemas.base import answer
from meta_sync.api.schemas.errors import ErrorCodes, ErrorCodesAnswer
from meta_sync.sync.codes import entry_of

__all__ = ["EXAMPLES_FILE", "add_examples"]

EXAMPLES_FILE = Path(__file__).with_name("examples.json")


@cache
def _recorded() -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads(EXAMPLES_FILE.read_text(encoding="utf-8"))
    codes = answer(ErrorCodesAnswer, ErrorCodes.all()).model_dump(mode="json", by_alias=True)
    recorded["operations"]["listErrorCodes"] = {"answer": codes}
    return recorded


def add_examples(document: dict[str, Any], codes: dict[str, dict[str, list[str]]]) -> None:
    """Put an example of each body, each answer and each error into the document.

    Parameters
    ----------
    codes
        The codes that an operation can give, by its id and the status.
    """
    used: set[str] = set()
    for operations in document["paths"].values():
        for operation in operations.values():
            name = operation["operationId"]
            recorded = _recorded()["operations"].get(name, {})
            shown = {"summary": operation["summary"]}
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                if kind in recorded.get("requests", {}):
                    content["examples"] = {name: {**shown, "value": recorded["requests"][kind]}}
            for status, response in operation["responses"].items():
                contents = list(response.get("content", {}).values())
                if status in codes[name]:
                    contents[0]["examples"] = _errors(codes[name][status], recorded.get("errors", {}), used)
                elif contents and "answer" in recorded:
                    contents[0]["examples"] = {name: {**shown, "value": recorded["answer"]}}
    document["components"]["examples"] = {
        code: _error(code, value) for code, value in _recorded()["common"].items() if code in used
    }


def _errors(codes: list[str], recorded: dict[str, Any], used: set[str]) -> dict[str, Any]:
    """Examples of the codes: those of the operation where it says something of its own, else those of all."""
    examples: dict[str, Any] = {}
    for code in codes:
        if code in recorded:
            examples[code] = _error(code, recorded[code])
        else:
            used.add(code)
            examples[code] = {"$ref": f"#/components/examples/{code}"}
    return examples


def _error(code: str, value: Any) -> dict[str, Any]:
    entry = entry_of(code)
    return {"summary": entry.sentence, "description": entry.action, "value": value}
