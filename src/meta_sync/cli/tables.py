"""Rows for people: a table that fits a terminal, plain lines with tabs everywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table

from meta_sync.catalog.ingest.import_tally import quotable
from meta_sync.cli import console

__all__ = ["Column", "as_it_is", "lines", "show_rows"]

_MOST_CHARS = 1_000
_LEAST_CHARS = 12
"""Of a column that is cut: less tells nobody anything."""
_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes
    ----------
    may_be_cut
        Where the terminal is narrow, the end is left out. What somebody may want to copy, such as an id, is folded.
    """

    name: str
    may_be_cut: bool = False


def as_it_is(value: str) -> str:
    """What a shop or Meta wrote, in one line: it neither styles what is shown nor steers the terminal."""
    return quotable(value, _MOST_CHARS)


def show_rows(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Show rows, one line each unless an id has to be folded."""
    screen = console.screen()
    if not screen.is_terminal:
        lines(columns, rows)
        return
    shown = [[as_it_is(value) for value in row] for row in rows]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    room = _room_for_cut(columns, shown, screen.width)
    for column in columns:
        if column.may_be_cut:
            table.add_column(column.name, no_wrap=True, overflow="ellipsis", max_width=room)
        else:
            table.add_column(column.name, overflow="fold")
    for row in shown:
        table.add_row(*map(escape, row))
    screen.print(table)


def _room_for_cut(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> int:
    """What the columns that must not be cut leave to each of the others, in characters of the terminal."""
    cut = sum(column.may_be_cut for column in columns)
    taken = _GAP * (len(columns) - 1)
    for place, column in enumerate(columns):
        if not column.may_be_cut:
            taken += max(cell_len(column.name), *(cell_len(row[place]) for row in rows), 0)
    return max(_LEAST_CHARS, (width - taken) // max(1, cut))


def lines(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """One line for the names and one for each row, with tabs between the values."""
    console.say("\t".join(column.name for column in columns))
    for row in rows:
        console.say("\t".join(map(as_it_is, row)))
