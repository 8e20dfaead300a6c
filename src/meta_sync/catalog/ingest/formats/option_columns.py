"""Tables with numbered columns for the names and values of options. Knows no format's column names itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from meta_sync.catalog.ingest.formats.table_columns import TableColumns
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


class OptionColumns(TableColumns):
    """The columns of one file."""

    def __init__(self, names: Sequence[str], meaning_of: Meaning, option_part: OptionPart) -> None:
        super().__init__(names, meaning_of)
        self._names = names
        self._options: dict[int, dict[str, int]] = {}
        for place, name in enumerate(names):
            option = option_part(name)
            if option is not None:
                self._options.setdefault(option[0], {}).setdefault(option[1], place)

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
        return OptionReader(
            record.number, self.cells(record), context, zone, notes, options=self.options(record)
        )
