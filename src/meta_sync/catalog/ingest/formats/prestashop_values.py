"""Small readers for PrestaShop's cells: switches, percentages, category lists, attributes of combinations. Pure."""

from __future__ import annotations

import re
from decimal import Decimal

from meta_sync.catalog.ingest.reader import Cell, RowFaultError, RowReader
from meta_sync.catalog.ingest.values import UnreadableValueError, plain_text, quoted

__all__ = ["category_path", "combination_options", "read_percent", "says_nothing", "switch"]

_ON = frozenset(("1", "true", "yes", "on", "enabled"))
_OFF = frozenset(("0", "false", "no", "off", "disabled"))
_PERCENT = re.compile(r"([0-9]{1,3}(?:[.,][0-9]{1,8})?)\s*%?")
_POSITION = re.compile(r":\s*[0-9]*\s*$")
_ROOTS = frozenset(("home", "root"))
"""Titles of the categories above all others, which no buyer sees."""


def switch(reader: RowReader, meaning: str, *, default: bool) -> bool:
    """Whether a cell of 0 or 1 says yes.

    Raises
    ------
    RowFaultError
        It is neither.
    """
    cell = reader.cell(meaning)
    if cell is None:
        return default
    word = cell.text.casefold()
    if word in _ON:
        return True
    if word in _OFF:
        return False
    raise RowFaultError(cell.column, f"{quoted(cell.text)} is neither 0 nor 1.", value=cell.text)


def says_nothing(text: str) -> bool:
    """Whether a code or date is one of those PrestaShop writes for none: zeros, or the first day of 1970."""
    return not text.strip("0-: .") or text.startswith("1970-01-01")


def read_percent(text: str) -> Decimal:
    """A percentage of 0 to 100.

    Raises
    ------
    UnreadableValueError
        The text is none.
    """
    match = _PERCENT.fullmatch(text.strip())
    percent = Decimal(match.group(1).replace(",", ".")) if match and text.isascii() else None
    if percent is None or percent > 100:
        raise UnreadableValueError(f"The percentage {quoted(text)} cannot be read; write a number up to 100.")
    return percent


def category_path(text: str) -> list[str]:
    """The deepest of the listed categories, the first one of several; numbers name none that can be known."""
    paths: list[list[str]] = []
    for category in text.split(","):
        titles = [plain_text(title.strip()) for title in category.split("/") if title.strip()]
        if titles and titles[0].casefold() in _ROOTS:
            titles = titles[1:]
        if titles and not all(title.isdigit() for title in titles):
            paths.append(titles)
    return max(paths, key=len, default=[])


def combination_options(attributes: Cell, values: Cell | None) -> dict[str, str]:
    """Attributes with their values, from ``Color:color:0, Size:select:1`` and ``Blue:0, XL:1``, or ``Color:Blue`` alone.

    Raises
    ------
    RowFaultError
        Names and values are not as many.
    """
    named = [part.strip() for part in attributes.text.split(",") if part.strip()]
    if values is None:
        pairs = [part.partition(":")[::2] for part in named]
    else:
        listed = [_POSITION.sub("", part.strip()) for part in values.text.split(",") if part.strip()]
        if len(listed) != len(named):
            message = f"The combination has {len(named)} attributes, but {len(listed)} values."
            raise RowFaultError(values.column, message, value=values.text)
        pairs = [(part.partition(":")[0], value) for part, value in zip(named, listed, strict=True)]
    return {
        plain_text(name.strip()): plain_text(value.strip())
        for name, value in pairs
        if name.strip() and value.strip()
    }
