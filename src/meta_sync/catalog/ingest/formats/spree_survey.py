"""A first look through Spree's export: which rows are items, and where their price in the store's currency stands.

Spree writes one row per variant and currency, and the rows of the second currency may stand anywhere in the file with
nothing but SKU and price. The look keeps two short entries per item, on disk once there are many.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from meta_sync.catalog.ingest.formats.option_columns import OptionColumns
from meta_sync.catalog.ingest.spill import SpilledLookup
from meta_sync.catalog.ingest.tables import Record, Table

__all__ = ["RowFacts", "Survey"]

_LONGEST_KEY = 200
_LONGEST_PRICE = 100
"""A longer text is no price; it is kept up to here, so that reading it says so."""


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What tells the rows of one item apart."""

    slug: str
    sku: str
    name: str
    options: tuple[tuple[str, str], ...]
    currency: str
    """Of the row, the store's where the file names none."""
    price: str

    @property
    def says_only_a_price(self) -> bool:
        """Whether the row belongs to an item that another row describes."""
        return not self.name and not self.options

    def key(self) -> str:
        """What the rows of one item have in common."""
        text = f"sku\x00{self.slug}\x00{self.sku.casefold()}"
        if not self.sku:
            text = "\x00".join(("options", self.slug, *(part for option in self.options for part in option)))
        if len(text) <= _LONGEST_KEY:
            return text
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Survey:
    """What is known of the whole file before its rows are read."""

    def __init__(self, columns: OptionColumns, currency: str, lookup: SpilledLookup) -> None:
        self._columns = columns
        self._currency = currency
        self._lookup = lookup

    def look_through(self, table: Table) -> None:
        """Note every row of the file."""
        for record in table.records():
            if not record.fault:
                self._note(record)
            elif self._columns.holds(record, "slug", "option"):
                self._note_variant(self.facts(record))

    def _note(self, record: Record) -> None:
        facts = self.facts(record)
        key = facts.key()
        describes = not facts.says_only_a_price
        self._note_variant(facts)
        kind = _kind(facts)
        is_first = describes and self._lookup.add(f"{kind}\x00{key}", f"{record.number}\t{facts.currency}")
        if not is_first and facts.currency == self._currency and facts.price:
            compare = self._columns.first(record, "compare_at_price")
            texts = (text[:_LONGEST_PRICE].replace("\t", " ") for text in (facts.price, compare))
            self._lookup.add(f"price\x00{key}", "\t".join((str(record.number), *texts)))

    def _note_variant(self, facts: RowFacts) -> None:
        """Note that the product has options: it is no item, even if the rows of its variants fail."""
        if facts.options:
            self._lookup.add(f"variants\x00{facts.slug}", "1")

    def facts(self, record: Record) -> RowFacts:
        """What the row says of which item it belongs to."""
        first = self._columns.first
        return RowFacts(
            first(record, "slug"),
            first(record, "sku"),
            first(record, "name"),
            tuple(
                (cells.name, cells.value.text) for cells in self._columns.options(record) if cells.value.text
            ),
            first(record, "currency").upper() or self._currency,
            first(record, "price"),
        )

    def has_variants(self, slug: str) -> bool:
        """Whether any row of the product has options."""
        return f"variants\x00{slug}" in self._lookup

    def describing_row(self, facts: RowFacts) -> tuple[int, str] | None:
        """Number and currency of the row that describes the item."""
        kinds = ("variant", "product") if facts.says_only_a_price else (_kind(facts),)
        for kind in kinds:
            found = self._lookup.get(f"{kind}\x00{facts.key()}")
            if found is not None:
                number, _, currency = found.partition("\t")
                return int(number), currency
        return None

    def further_price(self, facts: RowFacts) -> tuple[int, str, str] | None:
        """Row, price and compare-at price in the store's currency, from a row that does not describe the item."""
        found = self._lookup.get(f"price\x00{facts.key()}")
        if found is None:
            return None
        number, price, compare = found.split("\t")
        return int(number), price, compare


def _kind(facts: RowFacts) -> str:
    return "variant" if facts.options else "product"
