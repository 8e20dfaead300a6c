"""Where in the rows of one table what stands, by the meaning a format gives to its column names. Reads no value."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meta_sync.catalog.ingest.reader import Cell
from meta_sync.catalog.ingest.rows import RowFailure
from meta_sync.catalog.ingest.tables import Record

__all__ = ["TableColumns"]

_LONGEST_SHOWN_ID = 100


class TableColumns:
    """The columns of a header that a format knows."""

    def __init__(self, names: Sequence[str], meaning_of: Callable[[str], str | None]) -> None:
        self._known = [
            (place, name, meaning)
            for place, name in enumerate(names)
            if (meaning := meaning_of(name)) is not None
        ]
        self._places: dict[str, list[int]] = {}
        for place, _, meaning in self._known:
            self._places.setdefault(meaning, []).append(place)

    def first(self, record: Record, meaning: str) -> str:
        """The first filled cell of this meaning, without spaces around it; empty where there is none."""
        for place in self._places.get(meaning, ()):
            text = record.cells[place].strip() if place < len(record.cells) else ""
            if text:
                return text
        return ""

    def cells(self, record: Record) -> dict[str, list[Cell]]:
        """The filled cells by meaning. The record has as many cells as the header."""
        found: dict[str, list[Cell]] = {}
        for place, name, meaning in self._known:
            text = record.cells[place].strip()
            if text:
                found.setdefault(meaning, []).append(Cell(name, text))
        return found

    def failure(self, record: Record, *id_meanings: str) -> RowFailure:
        """Why a record with a fault cannot be used, with its item's id where that is fit to be shown."""
        column, message = record.fault or ("row", "The row cannot be read.")
        shown = next((text for meaning in id_meanings if (text := self.first(record, meaning))), None)
        if shown is not None and (not shown.isprintable() or len(shown) > _LONGEST_SHOWN_ID):
            shown = None
        rule = "ragged_row" if column == "row" else "unreadable"
        return RowFailure(record.number, column, message, shown, rule)
