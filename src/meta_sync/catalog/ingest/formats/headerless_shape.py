"""Finds out what the columns of a table without column names hold, from what stands in them.

Says nothing rather than guess: a column that could be read in two ways, or that people and vehicles have, ends it.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from urllib.parse import urlsplit

from meta_sync.catalog.ingest.tables import DELIMITERS
from meta_sync.core.currency import is_currency

__all__ = ["Shape", "find_shape"]

_FEWEST_RECORDS = 5
_FEWEST_CELLS = 4
_LONGEST_WORD = 100
"""Longer cells are neither amounts nor days nor addresses of people."""
_ID = re.compile(r"[^\W_][\w.:+/#-]{0,63}")
_WORD_BEFORE_AND_AFTER = re.compile(r"([^\d\s.,'-]{0,5})\s?(\d[\d.,'\s]*)([^\d\s,'-]{0,5})")
_AMOUNT = re.compile(r"(?:\d+|\d{1,3}(?:[.,'\s]\d{3})+)(?:[.,]\d{1,2})?")
_CENTS = re.compile(r"\d[.,]\d{2}(?!\d)")
_CURRENCY_WORDS = frozenset(("kr", "zł", "kč", "ft", "lei", "rs", "rs.", "tl", "руб", "руб.", "р."))
_PICTURE = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif")
_FOREIGN = (
    re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+"),  # an address of a person
    re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}(?:[T ][\d:.+Z-]+)?"),  # a day: orders and bookings have one
    re.compile(r"[A-HJ-NPR-Z0-9]{17}"),  # the number of a vehicle
    re.compile(r"\d[\d.,\s]*(?:km|mi|miles)", re.IGNORECASE),
)
"""What most cells of a column may not be, with what such lists are of."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a table without column names is to be read."""

    delimiter: str
    width: int
    """Number of cells in every record."""
    meanings: Mapping[int, str]
    """What a column holds, by its place counted from 0, in the words of Google's feed."""


@dataclass(frozen=True, slots=True)
class _Column:
    place: int
    cells: Sequence[str]

    @property
    def filled(self) -> list[str]:
        return [cell for cell in self.cells if cell]

    def share(self, holds: Callable[[str], object]) -> float:
        """Share of the filled cells of which it holds; 0 where none is filled."""
        filled = self.filled
        return sum(bool(holds(cell)) for cell in filled) / len(filled) if filled else 0.0

    @property
    def mean_chars(self) -> float:
        filled = self.filled
        return sum(map(len, filled)) / len(filled) if filled else 0.0


def find_shape(text: str, *, is_cut: bool) -> Shape | None:
    """How the text, the beginning of a file, is to be read; ``None`` where that is not beyond doubt.

    ``is_cut``: the text ends in the middle of the file, so its last record does not count.
    """
    if text.lstrip()[:1] in {"", "<", "{", "["} or "\x00" in text:
        return None
    for delimiter in DELIMITERS:
        records = _records(text, delimiter, is_cut=is_cut)
        if records:
            meanings = _meanings(
                [_Column(place, cells) for place, cells in enumerate(zip(*records, strict=True))]
            )
            if meanings is not None:
                return Shape(delimiter, len(records[0]), meanings)
    return None


def _records(text: str, delimiter: str, *, is_cut: bool) -> list[list[str]]:
    """The records with text, or none where they are too few, differ in width or look like a line of column names."""
    try:
        found = [
            [cell.strip() for cell in cells]
            for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            if any(cell.strip() for cell in cells)
        ]
    except csv.Error:
        return []
    # The head of a compressed file is cut at any length, and a small file may end without a line end.
    is_cut = is_cut or (not text.endswith(("\n", "\r")) and len(found) > _FEWEST_RECORDS)
    records = found[:-1] if is_cut else found
    if len(records) < _FEWEST_RECORDS or len({len(cells) for cells in records}) > 1:
        return []
    if len(records[0]) < _FEWEST_CELLS or not all(any(map(_has_digit, cells)) for cells in records):
        return []
    return records


def _meanings(columns: Sequence[_Column]) -> Mapping[int, str] | None:
    if any(column.share(partial(_matches, pattern)) > 0.5 for column in columns for pattern in _FOREIGN):
        return None
    links = [column for column in columns if column.share(_is_address) == 1]
    paths = [
        column
        for column in columns
        if column not in links and column.share(lambda cell: " > " in cell) >= 0.5
    ]
    prices = _prices(columns)
    ids = [column for column in columns if column not in [*prices, *links] and _is_id(column)]
    if len(ids) != 1 or len(prices) != 1:
        return None
    taken = [*links, *paths, *prices, *ids]
    title = _title([column for column in columns if column not in taken])
    if title is None:
        return None
    found = {ids[0].place: "id", title.place: "title", prices[0].place: "price"}
    found.update(_support(links, paths))
    # People and places have names of two words, too; then something has to say that these are products.
    if len(found) == 3 and sum(len(cell.split()) for cell in title.filled) < 3 * len(title.filled):
        return None
    return MappingProxyType(found)


def _support(links: Sequence[_Column], paths: Sequence[_Column]) -> Iterator[tuple[int, str]]:
    """Columns that a product may have, where there is no doubt which is which."""
    if len(paths) == 1:
        yield paths[0].place, "product_type"
    pictures = [column for column in links if column.share(_is_picture) >= 0.9]
    pages = [column for column in links if column not in pictures]
    if len(pages) == 1:
        yield pages[0].place, "link"
    yield from ((column.place, "image_link") for column in pictures)


def _prices(columns: Sequence[_Column]) -> list[_Column]:
    """Columns of nothing but prices, half of them filled at least; where some name a currency, those.

    Without a currency, half of the amounts have two decimals: neither ratings nor counts have.
    """
    amounts = [
        column
        for column in columns
        if len(column.filled) * 2 >= len(column.cells) and column.share(_is_amount) == 1
    ]
    with_currency = [column for column in amounts if column.share(_names_currency) == 1]
    return with_currency or [column for column in amounts if column.share(_CENTS.search) >= 0.5]


def _is_id(column: _Column) -> bool:
    cells = column.filled
    return (
        len(cells) == len(column.cells) == len(set(cells))
        and column.share(_ID.fullmatch) == 1
        and column.share(_has_digit) >= 0.5
    )


def _title(columns: Sequence[_Column]) -> _Column | None:
    """The one column of titles; a column of much longer texts beside it is a description."""
    texts = sorted((column for column in columns if _is_text(column)), key=lambda column: column.mean_chars)
    if not texts or texts[0].mean_chars > 200:
        return None
    limit = max(60.0, 2 * texts[0].mean_chars)
    return texts[0] if all(column.mean_chars >= limit for column in texts[1:]) else None


def _is_text(column: _Column) -> bool:
    cells = column.filled
    return (
        len(cells) >= 0.95 * len(column.cells)
        and len(set(cells)) >= 0.8 * len(cells)
        and column.share(lambda cell: " " in cell) >= 0.6
        and column.share(lambda cell: sum(map(str.isalpha, cell)) * 2 >= len(cell)) >= 0.9
    )


def _matches(pattern: re.Pattern[str], cell: str) -> bool:
    return len(cell) <= _LONGEST_WORD and pattern.fullmatch(cell) is not None


def _has_digit(cell: str) -> bool:
    return any(map(str.isdigit, cell))


def _is_address(cell: str) -> bool:
    return cell.casefold().startswith(("https://", "http://"))


def _is_picture(cell: str) -> bool:
    try:
        return urlsplit(cell).path.casefold().endswith(_PICTURE)
    except ValueError:
        return False


def _is_amount(cell: str) -> bool:
    """A number as prices are written, with or without a currency."""
    found = _WORD_BEFORE_AND_AFTER.fullmatch(cell) if len(cell) <= _LONGEST_WORD else None
    return (
        found is not None
        and _AMOUNT.fullmatch(found[2].strip()) is not None
        and all(_is_currency_word(word) for word in (found[1], found[3]))
    )


def _names_currency(cell: str) -> bool:
    return not all(char.isdigit() or char.isspace() or char in ".,'" for char in cell)


def _is_currency_word(word: str) -> bool:
    return (
        not word
        or is_currency(word)
        or word.casefold() in _CURRENCY_WORDS
        or any(unicodedata.category(char) == "Sc" for char in word)
    )
