"""The table of faults speaks of tests that exist, and leaves no fault out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]
_DOCUMENT = _TESTS.parent / "docs" / "reliability.md"
_NAME = re.compile(r"`([a-z_/0-9]+\.py)::(test_\w+)`")
_ROW = re.compile(r"^\| ([0-9, ]+) \|.*\| (.+) \|$", re.MULTILINE)
_SCENARIOS = range(1, 51)


@cache
def _tests_in(path: str) -> frozenset[str]:
    tree = ast.parse((_TESTS / path).read_text())
    found = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in found)


def _rows() -> dict[int, str]:
    return {
        int(number): tests
        for numbers, tests in _ROW.findall(_DOCUMENT.read_text())
        for number in numbers.split(",")
    }


def test_every_named_test_exists() -> None:
    named = _NAME.findall(_DOCUMENT.read_text())
    assert len(named) > 80
    missing = [f"{path}::{name}" for path, name in named if name not in _tests_in(path)]
    assert not missing


@pytest.mark.parametrize("number", _SCENARIOS)
def test_every_fault_has_a_test_or_a_reason(number: int) -> None:
    said = _rows()[number]
    assert _NAME.search(said) or said.startswith(("none yet: ", "the same")), said


def test_no_row_is_unfinished() -> None:
    assert "missing" not in " ".join(_rows().values())
