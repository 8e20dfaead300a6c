"""Wix's product export as CSV: the one of its first catalog (``handleId``) and the newer one (``handle``).

Decisions: a product's row is followed by the rows of its variants and, in the newer export, of its further pictures.
A product without variants is an item under its handle; one with variants is no item, and each variant's id is made of
the handle and its options, because Wix exports none and SKUs are mostly empty. In the first export a variant costs the
product's price plus its surcharge, and the product's discount counts for it; in the newer one a row has its own price
and the struck-through one it replaced. Collections are no path: the first one stands for all. Nothing says where a
product's page is in the first export; in the newer one the handle is the slug. Prices never carry a currency.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO
from zoneinfo import ZoneInfo

from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.option_columns import OptionCells, OptionColumns, OptionReader
from meta_sync.catalog.ingest.formats.option_ids import item_id_of
from meta_sync.catalog.ingest.formats.wix_cells import (
    is_visible,
    meaning_of,
    option_part,
    option_value,
    pictures,
)
from meta_sync.catalog.ingest.formats.wix_offers import sell, switch_off
from meta_sync.catalog.ingest.reader import FileNotes, RowFaultError
from meta_sync.catalog.ingest.rows import (
    FileRefusedError,
    FormatContext,
    ImportedParent,
    ImportedVariant,
    ImportFormat,
    Parsed,
    RowFailure,
    RowWarning,
)
from meta_sync.catalog.ingest.tables import Record, find_header, open_table
from meta_sync.catalog.ingest.values import line_breaks, plain_text, quoted
from meta_sync.catalog.models import ProductInput, VariantInput

__all__ = ["WixCsv"]

_NEEDED = frozenset(("handle", "kind", "name", "price"))
_FIRST_EXPORT = frozenset(("surcharge", "discount"))
_ID_MEANINGS = ("handle", "kind", "option")
"""What makes an item's id."""
_MOST_HELD_ROWS = 2_048
"""Rows of one product that are gathered before any is given out; what exceeds them follows one by one."""


class WixCsv(ImportFormat):
    """Both exports of Wix Stores."""

    name = "wix-csv"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        header = find_header(decode_head(head), meaning_of)
        return 0.95 if header is not None and header.known >= _NEEDED else 0.0

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        table = open_table(file, context, meaning_of)
        if table is None or not table.header.known >= _NEEDED:
            raise FileRefusedError(describe(head))
        if table.encoding.note:
            yield RowWarning(0, "file", table.encoding.note, rule="encoding")
        columns = OptionColumns(table.header.names, meaning_of, option_part)
        handle_column = next(name for name in table.header.names if meaning_of(name) == "handle")
        rows = _Rows(
            self.name,
            context,
            columns,
            handle_column,
            has_surcharges=bool(_FIRST_EXPORT & table.header.known),
        )
        for record in table.records():
            yield from rows.take(record)
        if not context.is_cancelled():
            yield from rows.give_out()


@dataclass(slots=True)
class _Product:
    """The product whose rows are being read."""

    handle: str
    reader: OptionReader
    held: list[Record] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    has_variants: bool = False
    is_given_out: bool = False
    fault: RowFaultError | None = None

    @property
    def fault_for_variants(self) -> RowFaultError | None:
        """Why no variant can be imported, if so."""
        if self.fault is None:
            return None
        message = f"The row of its product cannot be read. {self.fault.message}"
        return RowFaultError(self.fault.column, message, rule=self.fault.rule, value=self.fault.value)

    @property
    def option_names(self) -> dict[int, str]:
        """Names of the options by number."""
        return {option.number: option.name for option in self.reader.options}


class _Rows:
    """Turns the rows of one export into what an import takes, holding those of one product at a time."""

    def __init__(
        self,
        source: str,
        context: FormatContext,
        columns: OptionColumns,
        handle_column: str,
        *,
        has_surcharges: bool,
    ) -> None:
        self._source = source
        self._context = context
        self._columns = columns
        self._handle_column = handle_column
        self._has_surcharges = has_surcharges
        self._zone = ZoneInfo(context.timezone)
        self._notes = FileNotes()
        self._product: _Product | None = None

    def take(self, record: Record) -> Iterator[Parsed]:
        """Hold a row of the product, or give out what is held and begin the next."""
        handle = self._columns.first(record, "handle")
        kind = self._columns.first(record, "kind").casefold()
        product = self._product
        if product is None or handle != product.handle or (kind == "product" and not record.fault):
            yield from self.give_out()
            self._product = product = None
        if product is not None:
            product.held.append(record)
            if kind == "variant":
                product.has_variants = True
            elif kind == "media" and not record.fault and len(product.pictures) < _MOST_HELD_ROWS:
                product.pictures.extend(pictures(self._reader(record).texts("media")))
            if len(product.held) >= _MOST_HELD_ROWS:
                yield from self._give_out(product)
        elif kind == "product" and handle and not record.fault:
            reader = self._reader(record)
            self._product = _Product(handle, reader, pictures=pictures(reader.texts("media")))
        else:
            yield from self._stray(record, handle, kind)

    def give_out(self) -> Iterator[Parsed]:
        """What is held, at the end of the product."""
        if self._product is not None:
            yield from self._give_out(self._product)

    def _reader(self, record: Record) -> OptionReader:
        return self._columns.reader(record, self._context, self._zone, self._notes)

    def _stray(self, record: Record, handle: str, kind: str) -> Iterator[Parsed]:
        """A row that belongs to no product before it."""
        if record.fault:
            yield self._failure(record)
        elif kind == "media":
            message = "The picture's product does not stand before it, so the picture was left out."
            yield RowWarning(record.number, "fieldType", message, handle or None, "missing_parent")
        elif kind not in {"product", "variant"}:
            yield self._unknown_kind(record)
        elif not handle:
            yield RowFailure(
                record.number, self._handle_column, "The row names no product.", rule="missing_id"
            )
        else:
            message = "The variant's product does not stand before it, so its name and price are not known."
            yield RowFailure(record.number, "fieldType", message, self._item_id(record), "missing_parent")

    def _unknown_kind(self, record: Record) -> RowFailure:
        """It may be the product or any of its variants, so it carries no id."""
        text = self._columns.first(record, "kind")
        message = f"{quoted(text)} is no kind of row that is known: it is neither a product nor a variant."
        return RowFailure(record.number, "fieldType", message, rule="unknown_type", value=text)

    def _failure(self, record: Record) -> RowFailure:
        return self._columns.failure(record, *_ID_MEANINGS, make_id=self._item_id)

    def _item_id(self, record: Record) -> str | None:
        """The id of the item that a product's or variant's row is; ``None`` for what may be either."""
        handle = self._columns.first(record, "handle")
        kind = self._columns.first(record, "kind").casefold()
        if kind == "variant" and handle:
            return _variant_id(handle, self._columns.options(record))
        return handle or None if kind in {"product", "media"} else None

    def _give_out(self, product: _Product) -> Iterator[Parsed]:
        if not product.is_given_out:
            product.is_given_out = True
            yield from self._first_row(product)
        held, product.held = product.held, []
        for record in held:
            kind = self._columns.first(record, "kind").casefold()
            if record.fault:
                yield self._failure(record)
            elif kind == "variant":
                yield from self._variant(product, self._reader(record))
            elif kind != "media":
                yield self._unknown_kind(record)

    def _first_row(self, product: _Product) -> Iterator[Parsed]:
        reader = product.reader
        try:
            parsed: Parsed
            if product.has_variants:
                parsed = ImportedParent(reader.row, self._described(product))
            else:
                variant = VariantInput(id=product.handle)
                sell(variant, reader, reader, has_surcharges=self._has_surcharges)
                parsed = ImportedVariant(reader.row, self._described(product), variant)
        except RowFaultError as fault:
            product.fault = fault
            if product.has_variants:
                yield RowWarning(
                    reader.row, fault.column, fault.message, product.handle, fault.rule, fault.value
                )
            else:
                yield fault.failure(reader.row, product.handle)
            return
        yield parsed
        yield from _warnings(reader, product.handle)

    def _variant(self, product: _Product, reader: OptionReader) -> Iterator[Parsed]:
        values = {option.number: option_value(option.value.text) for option in reader.options}
        item_id = _variant_id(product.handle, reader.options)
        unread = product.fault_for_variants
        if unread is not None:
            yield unread.failure(reader.row, item_id)
            return
        names = product.option_names
        variant = VariantInput(id=item_id)
        variant.options = {
            plain_text(names.get(number) or f"Option {number}"): plain_text(value)
            for number, value in values.items()
            if value
        }
        try:
            sell(variant, product.reader, reader, has_surcharges=self._has_surcharges)
            switch_off(variant, reader)
        except RowFaultError as fault:
            yield fault.failure(reader.row, item_id)
            return
        stub = ProductInput(id=product.handle, source=self._source)
        yield ImportedVariant(reader.row, stub, variant, product_is_partial=True)
        yield from _warnings(reader, item_id)

    def _described(self, product: _Product) -> ProductInput:
        reader = product.reader
        name, description, brand = reader.text("name"), reader.text("description"), reader.text("brand")
        shown = list(dict.fromkeys(product.pictures))
        collections = [part.strip() for part in (reader.text("collection") or "").split(";") if part.strip()]
        return ProductInput(
            id=product.handle,
            title=plain_text(name) if name else None,
            description=line_breaks(description) if description else None,
            slug=None if self._has_surcharges else product.handle,
            visibility="public" if is_visible(reader) else "private",
            brand=plain_text(brand) if brand else None,
            thumbnail=shown[0] if shown else None,
            images=shown[1:],
            categories=[plain_text(collections[0])] if collections else [],
            source=self._source,
        )


def _variant_id(handle: str, options: Sequence[OptionCells]) -> str:
    values = {option.number: option_value(option.value.text) for option in options}
    return item_id_of(handle, [values.get(number, "") for number in range(1, max(values, default=0) + 1)])


def _warnings(reader: OptionReader, item_id: str) -> Iterator[RowWarning]:
    for warning in reader.warnings:
        warning.item_id = item_id if warning.row else None
        yield warning
