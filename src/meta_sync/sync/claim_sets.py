"""How a claim names sets of fields to the database. Pure."""

from __future__ import annotations

__all__ = ["FieldSets"]


class FieldSets:
    """Sets of field names, each sent once and then meant by its number: items share few distinct ones."""

    def __init__(self) -> None:
        self._numbers: dict[frozenset[str], int] = {}

    def number(self, names: frozenset[str]) -> int:
        """What stands for the set."""
        return self._numbers.setdefault(names, len(self._numbers) + 1)

    def texts(self) -> list[str]:
        """Every set, in the order of the numbers, which begin with one."""
        return [",".join(sorted(names)) for names in self._numbers]
