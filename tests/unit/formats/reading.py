"""Helpers of the format tests: samples, and a parsed file by kind of row."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from meta_sync.catalog.ingest.detect import FORMATS, detect
from meta_sync.catalog.ingest.rows import (
    FormatContext,
    ImportedParent,
    ImportedVariant,
    Parsed,
    RowFailure,
    RowSkip,
    RowWarning,
)
from meta_sync.catalog.models import ProductInput, VariantInput

SAMPLES = Path(__file__).parents[2] / "data" / "formats"
SAMPLE_CURRENCIES = {
    "meta_template.csv": "TND",
    "meta_template_fr.csv": "EUR",
    "own_headers.csv": "AED",
    "saleor.json": "EUR",
    "woocommerce_ru.csv": "RUB",
    "yandex.xml": "RUB",
    "woocommerce_de.csv": "EUR",
    "headerless.csv": "EUR",
    "medusa.csv": "EUR",
    "medusa_v1.csv": "EUR",
    "shopify.csv": "EUR",
    "flat.json": "EUR",
    "flat.ndjson": "EUR",
}


@dataclass
class Outcome:
    """A parsed file."""

    rows: list[Parsed] = field(default_factory=list)

    @property
    def items(self) -> list[ImportedVariant]:
        return [row for row in self.rows if isinstance(row, ImportedVariant)]

    @property
    def variants(self) -> dict[str, VariantInput]:
        return {row.variant.id: row.variant for row in self.items}

    @property
    def products(self) -> dict[str, ProductInput]:
        """By the id of the item they came with."""
        return {row.variant.id: row.product for row in self.items}

    @property
    def parents(self) -> list[ImportedParent]:
        return [row for row in self.rows if isinstance(row, ImportedParent)]

    @property
    def failures(self) -> list[RowFailure]:
        return [row for row in self.rows if isinstance(row, RowFailure)]

    @property
    def skips(self) -> list[RowSkip]:
        return [row for row in self.rows if isinstance(row, RowSkip)]

    @property
    def warnings(self) -> list[RowWarning]:
        return [row for row in self.rows if isinstance(row, RowWarning)]


def parse(
    data: bytes | str,
    format_name: str | None = None,
    *,
    currency: str = "USD",
    timezone: str = "UTC",
    cells: int = 100_000,
) -> Outcome:
    """Parse a file, in the format it is in unless one is named."""
    content = data.encode() if isinstance(data, str) else data
    chosen = FORMATS[format_name] if format_name else detect(content[:65_536], None)
    return Outcome(list(chosen.parse(io.BytesIO(content), FormatContext(currency, timezone, cells))))


def parse_sample(name: str, format_name: str | None = None, *, timezone: str = "UTC") -> Outcome:
    """Parse a file of the samples in its own currency."""
    data = (SAMPLES / name).read_bytes()
    return parse(data, format_name, currency=SAMPLE_CURRENCIES.get(name, "USD"), timezone=timezone)


def table(*lines: Iterable[str], delimiter: str = ",") -> str:
    """Lines of cells as text, without quoting."""
    return "".join(delimiter.join(line) + "\n" for line in lines)
