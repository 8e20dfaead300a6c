"""Where in the rows of one table what stands, by the meaning a format gives to its column names. Reads no value."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meta_sync.catalog.ingest.reader import Cell
from meta_sync.catalog.ingest.rows import RowFailure
from meta_sync.catalog.ingest.tables import Record

__all__ = ["TableColumns"]


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

    def text(self, cell: str) -> str:
        """What a cell says, without what only surrounds it."""
        return cell.strip()

    def first(self, record: Record, meaning: str) -> str:
        """The text of the first filled cell of this meaning; empty where there is none."""
        for place in self._places.get(meaning, ()):
            text = self.text(record.cells[place]) if place < len(record.cells) else ""
            if text:
                return text
        return ""

    def cells(self, record: Record) -> dict[str, list[Cell]]:
        """The filled cells by meaning. The record has as many cells as the header."""
        found: dict[str, list[Cell]] = {}
        for place, name, meaning in self._known:
            text = record.cells[place]
            if text and (text := self.text(text)):
                found.setdefault(meaning, []).append(Cell(name, text))
        return found

    def holds(self, record: Record, *meanings: str) -> bool:
        """Whether the cells of these meanings can be relied on, though the record has a fault."""
        return record.holds(place for meaning in meanings for place in self._places.get(meaning, ()))

    def failure(
        self,
        record: Record,
        *id_meanings: str,
        make_id: Callable[[Record], str | None] | None = None,
    ) -> RowFailure:
        """Why a record with a fault cannot be used, and which item it would be.

        Parameters
        ----------
        id_meanings
            The columns that make the item's id. Where one of them cannot be relied on, the id is not known: a part of
            it, or another cell in its place, would name another item.
        make_id
            Makes the id of the record's cells; without it the first filled one of ``id_meanings`` is the id.
        """
        if not self.holds(record, *id_meanings):
            return record.failure(None)
        if make_id is not None:
            return record.failure(make_id(record) or None)
        return record.failure(
            next((text for meaning in id_meanings if (text := self.first(record, meaning))), None)
        )
