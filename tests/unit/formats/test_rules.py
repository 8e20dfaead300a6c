"""Every rule that a finding can carry is a word of the table in docs/formats.md, which people and programs rely on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import meta_sync.catalog.ingest
from meta_sync.catalog.ingest.rows import RowFailure, RowSkip, RowWarning
from meta_sync.catalog.ingest.values import UnreadableValueError

_INGEST = Path(meta_sync.catalog.ingest.__file__).parent
_PLACES = {"RowFailure": 4, "RowSkip": 4, "RowWarning": 4, "RecordFault": 2}
"""Where the rule stands among the arguments that have no name."""


def _words(node: ast.expr | None) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _words(node.body)
        yield from _words(node.orelse)
    elif isinstance(node, ast.Tuple) and node.elts:  # a function that gives rule and sentence
        yield from _words(node.elts[0])


def _named_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg == "rule":
            yield from _words(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            place = _PLACES.get(node.func.id)
            if place is not None and len(node.args) > place:
                yield from _words(node.args[place])
        elif isinstance(node, ast.FunctionDef) and node.name == "_fault":
            for one in ast.walk(node):
                if isinstance(one, ast.Return) and isinstance(one.value, ast.IfExp | ast.Tuple):
                    yield from _words(one.value)


def _table() -> list[str]:
    text = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()
    return re.findall(r"^\| `([a-z_]+)` \|", text.partition("| rule |")[2], re.MULTILINE)


def test_every_rule_stands_in_the_documentation_and_no_other() -> None:
    defaults = {
        RowFailure(1, "", "").rule,
        RowSkip(1, "", "").rule,
        RowWarning(1, "", "").rule,
        UnreadableValueError("").rule,
    }
    found = defaults.union(*(set(_named_in(path)) for path in _INGEST.rglob("*.py")))
    assert {"ragged_row", "too_long", "bad_text", "not_json", "missing_id"} <= found
    assert all(re.fullmatch(r"[a-z]+(?:_[a-z]+)*", rule) for rule in found)
    table = _table()
    assert sorted(found) == sorted(table)
