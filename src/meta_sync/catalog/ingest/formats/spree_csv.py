"""Spree's product export (and the template of its import) as CSV.

Decisions: a row with a name and no options is the product; it is an item itself where no row of its slug has options.
A row with options is a variant of the product of its slug. The SKU is the item's id; where it is empty, the id is made
of slug and options. Rows that only repeat a SKU with a price in another currency belong to that item wherever they
stand, and the item takes the price in the store's currency. A compare-at price counts where it is the higher one.
Cells missing at the end of a row are empty, as Spree leaves out the custom fields of variants.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO
from zoneinfo import ZoneInfo

from typing_extensions import override

from meta_sync.catalog.ingest.describe import describe
from meta_sync.catalog.ingest.encoding import decode_head, read_head
from meta_sync.catalog.ingest.formats.option_columns import OptionColumns, OptionReader
from meta_sync.catalog.ingest.formats.option_ids import item_id_of
from meta_sync.catalog.ingest.formats.spree_columns import (
    brand,
    categories,
    is_export,
    meaning_of,
    option_part,
    status,
    stock,
)
from meta_sync.catalog.ingest.formats.spree_survey import RowFacts, Survey
from meta_sync.catalog.ingest.reader import Cell, FileNotes, RowFaultError
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
from meta_sync.catalog.ingest.spill import SpilledLookup
from meta_sync.catalog.ingest.tables import Record, find_header, open_table
from meta_sync.catalog.ingest.values import line_breaks, plain_text, quoted, split_images
from meta_sync.catalog.models import ProductInput, VariantInput

__all__ = ["SpreeCsv"]


class SpreeCsv(ImportFormat):
    """Products and variants as Spree exports them."""

    name = "spree-csv"

    @override
    def recognises(self, head: bytes, file_name: str | None) -> float:
        header = find_header(decode_head(head), meaning_of)
        return 0.95 if header is not None and is_export(header.known) else 0.0

    @override
    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        head = read_head(file)
        table = open_table(file, context, meaning_of, pads_short_rows=True)
        if table is None or not is_export(table.header.known):
            raise FileRefusedError(describe(head))
        columns = OptionColumns(table.header.names, meaning_of, option_part)
        with SpilledLookup() as lookup:
            survey = Survey(columns, context.currency, lookup)
            survey.look_through(table)
            if table.encoding.note:
                yield RowWarning(0, "file", table.encoding.note, rule="encoding")
            rows = _Rows(self.name, context, columns, survey)
            for record in table.records():
                if record.fault:
                    yield rows.failure(record)
                else:
                    yield from rows.read(record)


class _Rows:
    """Turns the rows of one export into what an import takes."""

    def __init__(self, source: str, context: FormatContext, columns: OptionColumns, survey: Survey) -> None:
        self._source = source
        self._context = context
        self._columns = columns
        self._survey = survey
        self._zone = ZoneInfo(context.timezone)
        self._notes = FileNotes()

    def failure(self, record: Record) -> RowFailure:
        """Why a record with a fault cannot be used."""
        ids = ("sku", "slug", "option")
        if not self._columns.holds(record, *ids):
            return record.failure(None)
        facts = self._survey.facts(record)
        is_parent = (
            self._columns.holds(record, "name") and not facts.says_only_a_price and self._is_parent(facts)
        )
        failure = record.failure((facts.slug if is_parent else _named(facts)) or None)
        failure.is_item = not is_parent
        return failure

    def _is_parent(self, facts: RowFacts) -> bool:
        """Whether the row is a product of which other rows are the items."""
        return bool(facts.slug) and not facts.options and self._survey.has_variants(facts.slug)

    def read(self, record: Record) -> Iterator[Parsed]:
        """What one row is: a product, an item, a finding, or nothing where it belongs to an item of another row."""
        facts = self._survey.facts(record)
        described = self._survey.describing_row(facts)
        if facts.says_only_a_price:
            yield from self._price_row(record.number, facts, described)
        elif described is not None and described[0] != record.number:
            if described[1] == facts.currency:
                message = (
                    f"The SKU stands in row {described[0]} already."
                    if facts.sku
                    else (f"The same options stand in row {described[0]} already.")
                )
                yield RowFailure(record.number, "sku", message, _item_id(facts), "repeated_id", facts.sku)
        elif not facts.slug:
            message = "The row has no slug, so its product is not known."
            yield RowFailure(record.number, "slug", message, facts.sku or None, "missing_id")
        else:
            yield from self._described(record, facts)

    def _price_row(self, row: int, facts: RowFacts, described: tuple[int, str] | None) -> Iterator[Parsed]:
        # Without a SKU nobody knows which variant of the slug the price is for.
        item_id = facts.sku or (_item_id(facts) if described is not None else None)
        if described is None:
            message = "The row has a price but neither name nor options, and no other row describes its SKU."
            yield RowFailure(row, "sku", message, item_id, "missing_parent", facts.sku or None)
            return
        if facts.currency != self._context.currency:
            return
        further = self._survey.further_price(facts)
        if described[1] == facts.currency or further is None or further[0] != row:
            message = f"Row {described[0]} has a price of this item already, so this row was left out."
            yield RowWarning(row, "price", message, item_id, "repeated_price", facts.price or None)

    def _described(self, record: Record, facts: RowFacts) -> Iterator[Parsed]:
        reader = self._columns.reader(record, self._context, self._zone, self._notes)
        is_parent = self._is_parent(facts)
        item_id = facts.slug if is_parent else _item_id(facts)
        parsed: Parsed
        try:
            if is_parent:
                parsed = ImportedParent(reader.row, self._product(reader, facts))
            elif facts.name:
                variant = self._variant(reader, facts, item_id)
                parsed = ImportedVariant(reader.row, self._product(reader, facts), variant)
            else:
                product = ProductInput(id=facts.slug, source=self._source)
                variant = self._variant(reader, facts, item_id)
                parsed = ImportedVariant(reader.row, product, variant, product_is_partial=True)
        except RowFaultError as fault:
            yield fault.failure(reader.row, item_id, is_item=not is_parent)
            return
        yield parsed
        for warning in reader.warnings:
            warning.item_id = item_id if warning.row else None
            yield warning

    def _product(self, reader: OptionReader, facts: RowFacts) -> ProductInput:
        description, vendor = reader.text("description"), reader.text("vendor")
        shown = [] if facts.options else split_images(reader.texts("image"))
        return ProductInput(
            id=facts.slug,
            title=plain_text(facts.name),
            description=line_breaks(description) if description else None,
            slug=facts.slug,
            status=status(reader),
            brand=brand(reader),
            vendor=plain_text(vendor) if vendor else None,
            thumbnail=shown[0] if shown else None,
            images=shown[1:],
            categories=categories(reader),
            source=self._source,
        )

    def _variant(self, reader: OptionReader, facts: RowFacts, item_id: str) -> VariantInput:
        ean, upc, barcode = reader.barcodes()
        price, special = self._prices(reader, facts)
        shown = split_images(reader.texts("image")) if facts.options else []
        return VariantInput(
            id=item_id,
            sku=facts.sku or None,
            price=price,
            special_price=special,
            ean=ean,
            upc=upc,
            barcode=barcode,
            thumbnail=shown[0] if shown else None,
            images=shown[1:],
            options={plain_text(name or value): plain_text(value) for name, value in facts.options},
            inventory=stock(reader),
        )

    def _prices(self, reader: OptionReader, facts: RowFacts) -> tuple[int | None, int | None]:
        """Price and sale price in the store's currency, from this row or from the one that has them."""
        if facts.currency != self._context.currency or not facts.price:
            self._take_further_price(reader, facts)
        price = reader.price("price", "price", grouped=False)
        old = reader.price("compare_at_price", "compare-at price", grouped=False)
        return (old, price) if price is not None and old is not None and old > price else (price, None)

    def _take_further_price(self, reader: OptionReader, facts: RowFacts) -> None:
        further = self._survey.further_price(facts)
        cells = dict(reader.cells)
        if further is not None:
            _, price, compare = further
            cells["price"] = [Cell("price", price)]
            cells["compare_at_price"] = [Cell("compare_at_price", compare)] if compare else []
            cells["currency"] = [Cell("currency", self._context.currency)]
        elif facts.price:
            raise RowFaultError(
                "currency",
                f"The price is in {quoted(facts.currency)}, but the store sells in {self._context.currency}"
                " and no row has the item's price in it.",
                rule="wrong_currency",
                value=facts.currency,
            )
        reader.cells = cells


def _named(facts: RowFacts) -> str | None:
    """The id of a row that cannot be used; a row with nothing but a price belongs to an item that a SKU names."""
    is_item = facts.slug and not facts.says_only_a_price
    return _item_id(facts) if is_item else facts.sku or None


def _item_id(facts: RowFacts) -> str:
    return facts.sku or item_id_of(facts.slug, [value for _, value in facts.options])
