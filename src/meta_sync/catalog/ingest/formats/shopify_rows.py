"""The rows of Shopify's export by handle: what stands together, and what all rows of a handle say of their product.

Must not hold more than one product at a time: handles that come back further down go through a lookup on disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from meta_sync.catalog.ingest.formats.option_ids import item_id_of
from meta_sync.catalog.ingest.formats.shopify_columns import (
    ITEM_MEANINGS,
    PRODUCT_MEANINGS,
    VALUE_MEANINGS,
    meaning_of,
)
from meta_sync.catalog.ingest.formats.table_columns import TableColumns
from meta_sync.catalog.ingest.reader import Cell
from meta_sync.catalog.ingest.rows import RowFailure
from meta_sync.catalog.ingest.spill import SpilledLookup
from meta_sync.catalog.ingest.tables import Record, Table

__all__ = ["MOST_PICTURES", "Block", "Head", "Row", "ScatteredHeads", "blocks", "find_scattered"]

MOST_PICTURES = 250
"""Pictures that Shopify keeps of one product."""

_MOST_BLOCK_ROWS = 4_096
"""2,048 variants and their product's pictures, with room to spare."""
_MOST_BLOCK_CHARS = 8_000_000
_LAST_POSITION = 1_000_000


@dataclass(slots=True)
class Row:
    """One row of the file by meaning."""

    number: int
    handle: str
    """Empty where the row has none or cannot be used."""
    cells: dict[str, list[Cell]]
    failure: RowFailure | None = None

    @property
    def is_item(self) -> bool:
        """Whether the row says anything that only a variant has."""
        return not ITEM_MEANINGS.isdisjoint(self.cells)


@dataclass(slots=True)
class Block:
    """Rows of one handle that stand together; unusable rows between them included."""

    handle: str
    rows: list[Row]


@dataclass(slots=True)
class Head:
    """What the rows of a handle say of their product, wherever it stands: the first filled cell of each kind counts."""

    cells: dict[str, Cell] = field(default_factory=dict)
    pictures: list[tuple[int, str]] = field(default_factory=list)
    """Positions and addresses."""
    has_items: bool = False
    has_more_pictures: bool = False
    is_told: bool = False
    """The product went out before with an earlier row; texts and pictures are no longer known."""

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Head:
        """The head of some rows."""
        head = cls()
        for row in rows:
            if not row.handle:
                continue
            head.has_items |= row.is_item
            for meaning in PRODUCT_MEANINGS & row.cells.keys():
                head.cells.setdefault(meaning, row.cells[meaning][0])
            position = row.cells.get("position")
            for cell in row.cells.get("image", ()):
                head.pictures.append((_position(position[0].text) if position else _LAST_POSITION, cell.text))
        head._limit_pictures()
        return head

    @classmethod
    def from_json(cls, text: str) -> Head:
        """From the stored form."""
        cells, pictures, has_items, has_more_pictures, is_told = json.loads(text)
        return cls(
            {meaning: Cell(column, value) for meaning, (column, value) in cells.items()},
            [(position, address) for position, address in pictures],
            has_items,
            has_more_pictures,
            is_told,
        )

    def to_json(self) -> str:
        """For a lookup of texts."""
        cells = {meaning: (cell.column, cell.text) for meaning, cell in self.cells.items()}
        return json.dumps([cells, self.pictures, self.has_items, self.has_more_pictures, self.is_told])

    def merge(self, later: Head) -> None:
        """Add what rows further down say."""
        self.cells = later.cells | self.cells
        self.pictures.extend(later.pictures)
        self.has_items |= later.has_items
        self.has_more_pictures |= later.has_more_pictures
        self._limit_pictures()

    def told(self) -> Head:
        """What is left to know once the product went out: names of options, and what decides about further rows."""
        cells = {meaning: cell for meaning, cell in self.cells.items() if meaning != "description"}
        return Head(cells, [], self.has_items, is_told=True)

    def addresses(self) -> list[str]:
        """The pictures in order, each once."""
        return list(dict.fromkeys(address for _, address in self.pictures))

    def _limit_pictures(self) -> None:
        # Stable: between equal positions the order of the file decides.
        self.pictures.sort(key=lambda picture: picture[0])
        if len(self.pictures) > MOST_PICTURES:
            places: dict[str, int] = {}
            for position, address in self.pictures:
                places.setdefault(address, position)
            self.has_more_pictures |= len(places) > MOST_PICTURES
            self.pictures = [(position, address) for address, position in places.items()][:MOST_PICTURES]


class ScatteredHeads:
    """Heads of the handles whose rows do not all stand together."""

    def __init__(self) -> None:
        self._counts, self._parts, self._told = SpilledLookup(), SpilledLookup(), SpilledLookup()

    def expect(self, handle: str) -> bool:
        """Note that the handle comes back; whether that is news."""
        return self._counts.add(handle, "0")

    def add(self, handle: str, head: Head) -> None:
        """Keep what some rows of the handle say, if the handle is one that comes back."""
        count = self._counts.get(handle)
        if count is not None:
            self._parts.add(f"{count} {handle}", head.to_json())
            self._counts.put(handle, str(int(count) + 1))

    def get(self, handle: str) -> Head | None:
        """What all rows of the handle say, or ``None`` for a handle whose rows stand together."""
        count = self._counts.get(handle)
        if count is None:
            return None
        told = self._told.get(handle)
        if told is not None:
            return Head.from_json(told)
        whole = Head()
        for number in range(int(count)):
            part = self._parts.get(f"{number} {handle}")
            if part is not None:
                whole.merge(Head.from_json(part))
        return whole

    def tell(self, handle: str, head: Head) -> None:
        """Note that the product went out, so that it need not be put together again."""
        if not head.is_told and handle in self._counts:
            self._told.add(handle, head.told().to_json())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for lookup in (self._counts, self._parts, self._told):
            lookup.close()


def find_scattered(read_blocks: Callable[[], Iterator[Block]]) -> ScatteredHeads:
    """Look through the file for handles that come back and, if there are any, once more for what their rows say."""
    scattered = ScatteredHeads()
    found = False
    with SpilledLookup() as seen:
        for block in read_blocks():
            if block.handle and not seen.add(block.handle, ""):
                found |= scattered.expect(block.handle)
    if found:
        for block in read_blocks():
            scattered.add(block.handle, Head.of(block.rows))
    return scattered


def blocks(table: Table) -> Iterator[Block]:
    """The rows of the file, those of a handle together where they stand together, in blocks that fit into memory."""
    columns = TableColumns(table.header.names, meaning_of)
    block = Block("", [])
    chars = 0
    for record in table.records():
        row, size = _row(record, columns)
        is_full = len(block.rows) >= _MOST_BLOCK_ROWS or chars + size > _MOST_BLOCK_CHARS
        if block.rows and (is_full or row.handle not in {"", block.handle}):
            yield block
            block, chars = Block(row.handle, []), 0
        elif row.handle:
            block.handle = row.handle
        block.rows.append(row)
        chars += size
    if block.rows:
        yield block


def _row(record: Record, columns: TableColumns) -> tuple[Row, int]:
    """The row, and how many characters of it are kept."""
    if record.fault:

        def item_id(record: Record) -> str | None:
            handle, *values = (columns.first(record, meaning) for meaning in ("handle", *VALUE_MEANINGS))
            return item_id_of(handle, values) if handle else None

        failure = columns.failure(record, "handle", *VALUE_MEANINGS, make_id=item_id)
        return Row(record.number, "", {}, failure), 0
    cells = columns.cells(record)
    size = sum(len(cell.text) for found in cells.values() for cell in found)
    handle = cells.get("handle")
    return Row(record.number, handle[0].text if handle else "", cells), size


def _position(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else _LAST_POSITION
