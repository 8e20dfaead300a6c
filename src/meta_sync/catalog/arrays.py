"""Rows as one array parameter per column, the form in which PostgreSQL takes thousands of them in one statement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["array_literal", "columns_of"]


def columns_of(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
    """One list per name; an empty list each when there are no rows."""
    table = list(zip(*rows, strict=True))
    if not table:
        return {name: [] for name in names}
    return {name: list(column) for name, column in zip(names, table, strict=True)}


def array_literal(values: Sequence[str]) -> str:
    """A text array in PostgreSQL's own notation: ``unnest`` cannot hand out one array per row, a cast of text can."""
    if not values:
        return "{}"
    escaped = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return '{"' + '","'.join(escaped) + '"}'
