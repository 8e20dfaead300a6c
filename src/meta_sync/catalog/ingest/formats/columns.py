"""Where in a row of a table what stands, for exports with numbered option columns. Knows no format's names itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from meta_sync.catalog.ingest.reader import Cell, FileNotes, RowReader
from meta_sync.catalog.ingest.rows import FormatContext
from meta_sync.catalog.ingest.tables import Record

__all__ = ["OptionCells", "OptionColumns", "OptionReader"]

Meaning = Callable[[str], str | None]
"""What a column of this name holds, or ``None``."""
OptionPart = Callable[[str], tuple[int, str] | None]
"""Number of the option and whether the column holds its ``name`` or its ``value``; ``None`` for other columns."""


@dataclass(frozen=True, slots=True)
class OptionCells:
    """What a row says of one option; either may be empty."""

    number: int
    name: str
    value: Cell


@dataclass(slots=True)
class OptionReader(RowReader):
    """A row with its options, in the order of their numbers; those without name and value are left out."""

    options: list[OptionCells] = field(default_factory=list)


class OptionColumns:
    """The columns of one file."""

    def __init__(self, names: Sequence[str], meaning_of: Meaning, option_part: OptionPart) -> None:
        self._known: list[tuple[int, str, str]] = []
        self._options: dict[int, dict[str, int]] = {}
        self._names = names
        for place, name in enumerate(names):
            option, meaning = option_part(name), meaning_of(name)
            if option is not None:
                self._options.setdefault(option[0], {}).setdefault(option[1], place)
            elif meaning is not None:
                self._known.append((place, name, meaning))
        self._places: dict[str, int] = {}
        for place, _, meaning in self._known:
            self._places.setdefault(meaning, place)

    def first(self, record: Record, meaning: str) -> str:
        """The text of one cell, empty where the row is too short for it."""
        place = self._places.get(meaning)
        return "" if place is None or place >= len(record.cells) else record.cells[place].strip()

    def shown_id(self, record: Record, *meanings: str) -> str | None:
        """The id of a row that cannot be used, where it is fit to be shown."""
        text = next((text for meaning in meanings if (text := self.first(record, meaning))), "")
        return text if text and text.isprintable() and len(text) <= 100 else None

    def options(self, record: Record) -> list[OptionCells]:
        """What the row says of its options."""
        found = []
        for number, places in sorted(self._options.items()):
            if "value" not in places:
                continue
            name = record.cells[places["name"]].strip() if "name" in places else ""
            value = record.cells[places["value"]].strip()
            if name or value:
                found.append(OptionCells(number, name, Cell(self._names[places["value"]], value)))
        return found

    def reader(
        self, record: Record, context: FormatContext, zone: ZoneInfo, notes: FileNotes
    ) -> OptionReader:
        """The row by meaning."""
        cells: dict[str, list[Cell]] = {}
        for place, name, meaning in self._known:
            text = record.cells[place].strip()
            if text:
                cells.setdefault(meaning, []).append(Cell(name, text))
        return OptionReader(record.number, cells, context, zone, notes, options=self.options(record))
