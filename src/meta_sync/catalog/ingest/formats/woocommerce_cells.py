"""The cells of one row of WooCommerce's export by meaning, and what they say about publication, stock and options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from typing_extensions import override

from meta_sync.catalog.ingest.formats.table_columns import TableColumns
from meta_sync.catalog.ingest.formats.woocommerce_columns import attribute_column, meaning_of
from meta_sync.catalog.ingest.reader import Cell, FileNotes, RowFaultError, RowReader
from meta_sync.catalog.ingest.rows import FormatContext
from meta_sync.catalog.ingest.tables import Record
from meta_sync.catalog.ingest.values import (
    plain_text,
    quoted,
    read_quantity,
    split_path,
    split_unescaped,
)
from meta_sync.catalog.models import InventoryInput

__all__ = ["Columns", "WooReader", "deepest_path", "kind_words", "options", "publication", "stock"]

_YES = frozenset(("1", "yes", "true", "notify", "instock"))
_NO = frozenset(("0", "no", "false", "outofstock"))


@dataclass(slots=True)
class WooReader(RowReader):
    """A row of the export."""

    attributes: list[tuple[str, Cell]] = field(default_factory=list)
    """Names and value cells of the row's attributes."""

    @property
    def item_id(self) -> str | None:
        """The ID cell, else the SKU."""
        return self.text("id") or self.text("sku")


class Columns(TableColumns):
    """Where in a row what stands."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names, lambda name: None if attribute_column(name) else meaning_of(name))
        self._attributes: dict[int, dict[str, int]] = {}
        self._names = names
        for place, name in enumerate(names):
            attribute = attribute_column(name)
            if attribute:
                self._attributes.setdefault(attribute[0], {}).setdefault(attribute[1], place)

    @override
    def text(self, cell: str) -> str:
        return _cell(cell)

    def reader(self, record: Record, context: FormatContext, zone: ZoneInfo, notes: FileNotes) -> WooReader:
        """The row by meaning."""
        attributes = []
        for _, places in sorted(self._attributes.items()):
            if {"name", "value"} <= places.keys():
                name, value = (_cell(record.cells[places[part]]) for part in ("name", "value"))
                if name:
                    attributes.append((name, Cell(self._names[places["value"]], value)))
        return WooReader(record.number, self.cells(record), context, zone, notes, attributes=attributes)


def _cell(text: str) -> str:
    """A cell without the apostrophe that the export puts before what a spreadsheet would take for a formula."""
    text = text.strip()
    return text[1:] if text[:1] == "'" and text[1:2] in {"=", "+", "-", "@"} else text


def publication(reader: RowReader) -> tuple[str, str]:
    """Status and visibility: 1 is published, 0 private, -1 a draft; a product hidden from catalog and search is private."""
    cell = reader.cell("published")
    word = cell.text.casefold() if cell else "1"
    hidden = (reader.text("visibility") or "").casefold() == "hidden"
    if word in {"-1", "draft"}:
        return "draft", "private" if hidden else "public"
    if word in {"0", "private", "no", "false"}:
        return "active", "private"
    if word in {"1", "publish", "published", "yes", "true"}:
        return "active", "private" if hidden else "public"
    column = cell.column if cell else "Published"
    raise RowFaultError(column, f"{quoted(word)} is neither 1, 0 nor -1.", value=word)


def stock(reader: RowReader) -> tuple[str | None, InventoryInput | None]:
    """Availability and, where Stock is a number, the inventory."""
    in_stock = (reader.text("in_stock") or "").casefold()
    availability = None
    if in_stock in _YES:
        availability = "in stock"
    elif in_stock in _NO:
        availability = "out of stock"
    elif in_stock in {"backorder", "onbackorder"}:
        availability = "available for order"
    elif in_stock:
        cell = reader.cell("in_stock")
        column = cell.column if cell else "In stock?"
        reader.warn(
            column,
            f"The value {quoted(in_stock)} is not known and was left out.",
            rule="unknown_word",
            value=in_stock,
        )
    if (reader.text("quantity") or "").casefold() == "parent":  # the variation shares its product's stock
        return availability, None
    quantity = reader.read("quantity", read_quantity)
    if quantity is None:
        return availability, None
    backorder = (reader.text("backorders") or "").casefold() in _YES or availability == "available for order"
    return availability, reader.counted_stock(availability, quantity, allow_backorder=backorder)


def options(reader: WooReader) -> dict[str, str]:
    """Attributes with their values; several values are joined as Google writes several colours."""
    found: dict[str, str] = {}
    is_variation = reader.cell("parent") is not None
    for name, cell in reader.attributes:
        values = split_unescaped(cell.text)
        if values:
            found.setdefault(plain_text(name), plain_text("/".join(values)))
        elif is_variation:
            reader.warn(
                cell.column, f"The variation fits any {name}; its item carries no {name}.", rule="any_value"
            )
    return found


def deepest_path(text: str) -> list[str]:
    """The deepest of the category paths, the first one where several are as deep."""
    return max((split_path(path) for path in split_unescaped(text)), key=len, default=[])


def kind_words(kind: str) -> list[str]:
    """The words of a Type cell, such as ``simple, downloadable, virtual``."""
    return [word.strip().casefold() for word in kind.split(",")]
