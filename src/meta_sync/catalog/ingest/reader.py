"""Reads the cells of one row by meaning and gathers what the merchant should know. Shared by all formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

from meta_sync.catalog.ingest.prices import read_price
from meta_sync.catalog.ingest.rows import FormatContext, RowFailure, RowWarning
from meta_sync.catalog.ingest.values import UnreadableValueError, quoted, read_gtin
from meta_sync.catalog.models import InventoryInput, VariantInput

__all__ = ["Cell", "Cells", "FileNotes", "RowFaultError", "RowReader", "too_long_failure"]

_T = TypeVar("_T")
_SHOWN_CHARS = 200


@dataclass(frozen=True, slots=True)
class Cell:
    """A value with the column as the file names it."""

    column: str
    text: str


Cells = Mapping[str, Sequence[Cell]]
"""The filled cells of a row by meaning."""


class RowFaultError(Exception):
    """The row cannot be imported."""

    def __init__(
        self, column: str, message: str, *, rule: str = "unreadable", value: str | None = None
    ) -> None:
        super().__init__(message)
        self.column = column
        self.message = message
        self.rule = rule
        self.value = value

    def failure(self, row: int, item_id: str | None, *, is_item: bool = True) -> RowFailure:
        """The fault as a finding."""
        return RowFailure(row, self.column, self.message, item_id, self.rule, self.value, is_item)


def too_long_failure(
    row: int, cells: Cells, context: FormatContext, item_id: str | None
) -> RowFailure | None:
    """The failure of an item that has a text of more characters than allowed; ``None`` for any other item.

    ``item_id``: what the cells say; it is no id where it is too long itself.
    """
    most = context.max_cell_chars
    for found in cells.values():
        for cell in found:
            if len(cell.text) > most:
                message = f"The text has {len(cell.text)} characters; at most {most} are allowed."
                known = item_id if item_id is not None and len(item_id) <= most else None
                return RowFailure(row, cell.column, message, known, "too_long", cell.text[:_SHOWN_CHARS])
    return None


@dataclass(slots=True)
class FileNotes:
    """What was already said once about the file."""

    said: set[str] = field(default_factory=set)

    def first_time(self, topic: str) -> bool:
        """Whether the topic is new; it no longer is afterwards."""
        if topic in self.said:
            return False
        self.said.add(topic)
        return True


@dataclass(slots=True)
class RowReader:
    """One row's cells, read by meaning. Every method gives ``None`` or nothing for an empty cell.

    Raises
    ------
    RowFaultError
        From every method that reads a value which is there but cannot be read.
    """

    row: int
    cells: Cells
    context: FormatContext
    zone: ZoneInfo
    notes: FileNotes
    warnings: list[RowWarning] = field(default_factory=list)

    def cell(self, meaning: str) -> Cell | None:
        """The first filled cell of this meaning."""
        found = self.cells.get(meaning)
        return found[0] if found else None

    def text(self, meaning: str) -> str | None:
        """Its text."""
        cell = self.cell(meaning)
        return cell.text if cell else None

    def texts(self, *meanings: str) -> Iterator[str]:
        """The texts of all cells of these meanings, in order."""
        return (cell.text for meaning in meanings for cell in self.cells.get(meaning, ()))

    def warn(
        self,
        column: str,
        message: str,
        *,
        item_id: str | None = None,
        rule: str = "remark",
        value: str | None = None,
    ) -> None:
        """Tell the merchant something about this row."""
        self.warnings.append(RowWarning(self.row, column, message, item_id, rule, value))

    def read(self, meaning: str, read: Callable[[str], _T]) -> _T | None:
        """What the function makes of the first cell; its `UnreadableValueError` becomes the row's fault."""
        cell = self.cell(meaning)
        if cell is None:
            return None
        try:
            return read(cell.text)
        except UnreadableValueError as error:
            raise RowFaultError(cell.column, str(error), rule=error.rule, value=cell.text) from None

    def word(self, meaning: str, label: str, read: Callable[[str], str | None]) -> str | None:
        """A word of a closed list; an unknown one is left out with a warning."""
        cell = self.cell(meaning)
        if cell is None:
            return None
        found = read(cell.text)
        if found is None:
            self.warn(
                cell.column,
                f"The {label} {quoted(cell.text)} is not known and was left out.",
                rule="unknown_word",
                value=cell.text,
            )
        return found

    def price(
        self, meaning: str, label: str, *, states_currency: bool = True, grouped: bool = True
    ) -> int | None:
        """A price in minor units. ``states_currency``: the format asks for a currency, so its lack is worth a word."""
        cell = self.cell(meaning)
        if cell is None:
            return None
        text = cell.text
        currency = self.text("currency")
        if currency and not any(char.isalpha() for char in text):
            text = f"{text} {currency}"
        try:
            price = read_price(text, self.context.currency, label=label, grouped=grouped)
        except UnreadableValueError as error:
            raise RowFaultError(cell.column, str(error), rule=error.rule, value=cell.text) from None
        if price.note:
            self.warn(cell.column, price.note, rule="rounded_price", value=cell.text)
        if states_currency and not price.names_currency and self.notes.first_time("currency"):
            self.warnings.append(
                RowWarning(
                    0,
                    cell.column,
                    f"Prices in the file name no currency; they are read in {self.context.currency},"
                    " the store's currency.",
                    rule="no_currency",
                )
            )
        return price.minor_units

    def set_sale_window(
        self, variant: VariantInput, start: datetime | None, end: datetime | None, *, meaning: str
    ) -> None:
        """Give the variant's sale its window. A sale that ends before it begins is no sale."""
        if variant.special_price is None:
            return
        cell = self.cell(meaning)
        if start is not None and end is not None and end <= start:
            column = cell.column if cell else meaning
            self.warn(
                column, "The sale ends before it begins, so the sale price was left out.", rule="sale_window"
            )
            variant.special_price = None
            return
        variant.special_price_start, variant.special_price_end = start, end

    def counted_stock(
        self, availability: str | None, quantity: int, *, allow_backorder: bool | None
    ) -> InventoryInput:
        """The inventory of counted pieces. A word that the count would overrule stops the count from counting."""
        is_contradicted = availability == "out of stock" and quantity > 0
        if is_contradicted:
            cell = self.cell("quantity")
            self.warn(
                cell.column if cell else "quantity",
                f"The row says out of stock, but counts {quantity} pieces; the item counts as out of stock.",
                rule="contradicted_stock",
            )
        return InventoryInput(
            track_inventory=not is_contradicted and availability != "preorder",
            quantity_on_hand=quantity,
            allow_backorder=allow_backorder,
        )

    def gtin(self, meaning: str) -> str | None:
        """A barcode as text; one that a spreadsheet rounded is dropped with a warning."""
        cell = self.cell(meaning)
        if cell is None:
            return None
        code = read_gtin(cell.text)
        if code is None:
            self.warn(
                cell.column,
                f"The code {quoted(cell.text)} was rounded by a spreadsheet and is left out;"
                " format the column as text before saving.",
                rule="rounded_code",
                value=cell.text,
            )
        return code

    def barcodes(self) -> tuple[str | None, str | None, str | None]:
        """EAN, UPC and any other barcode. A code from a column for all kinds goes where its length belongs."""
        ean, upc, barcode = self.gtin("ean"), self.gtin("upc"), self.gtin("barcode")
        code = self.gtin("gtin")
        if code is None:
            return ean, upc, barcode
        if len(code) in {8, 13} and ean is None:
            return code, upc, barcode
        if len(code) == 12 and upc is None:
            return ean, code, barcode
        return ean, upc, barcode or code
