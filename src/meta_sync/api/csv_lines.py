"""Lines of CSV that no spreadsheet runs: what comes from outside is text, whatever it begins with."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

__all__ = ["csv_line"]


def csv_line(cells: Sequence[str | None]) -> str:
    """One line with its end; ``None`` is an empty cell."""
    buffer = io.StringIO()
    csv.writer(buffer).writerow([_cell(cell) for cell in cells])
    return buffer.getvalue()


def _cell(text: str | None) -> str:
    if not text:
        return ""
    return f"'{text}" if text[0] in "=+-@\t\r\n" else text
