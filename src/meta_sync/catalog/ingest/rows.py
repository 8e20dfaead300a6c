"""What a file format yields: rows of the source catalog and findings about the file. Plain types, no database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from meta_sync.catalog.models import ProductInput, VariantInput

__all__ = [
    "FileRefusedError",
    "FormatContext",
    "ImportFormat",
    "ImportedParent",
    "ImportedVariant",
    "Parsed",
    "RowFailure",
    "RowSkip",
    "RowWarning",
]


@dataclass(frozen=True, slots=True)
class FormatContext:
    """What a format may know about the store."""

    currency: str
    """The store's ISO 4217 currency. A price in another currency is a row failure."""
    timezone: str = "UTC"
    """IANA zone in which local times and dates in the file are read."""
    max_cell_chars: int = 100_000
    """A longer cell is a row failure naming the column."""
    is_cancelled: Callable[[], bool] = lambda: False


@dataclass(slots=True)
class ImportedVariant:
    """One row that is an item: a variant, with what the row says of its product.

    ``product.variants`` is empty; the variant stands beside it. ``product`` counts only where the import has not met
    the product before (the first row of a product wins), so that a second import of the file changes nothing.
    """

    row: int
    product: ProductInput
    variant: VariantInput
    product_is_partial: bool = False
    """The row says nothing of its product but the id (a WooCommerce variation): the stored product stays as it is,
    and the row fails when there is none."""


@dataclass(slots=True)
class ImportedParent:
    """One row that is a product without being an item (a WooCommerce variable product): its variants come as other rows."""

    row: int
    product: ProductInput


@dataclass(slots=True)
class RowFailure:
    """One row that cannot be imported, with the column it fails on and a sentence a merchant understands."""

    row: int
    field: str
    message: str
    item_id: str | None = None
    rule: str = "unreadable"
    """A stable word for the reason, in snake_case."""
    value: str | None = None
    """What the file says there; cut where it is stored."""
    is_item: bool = True
    """``False``: the row would be a product and no item, so it does not count among the items. ``item_id`` is then the
    product's."""


@dataclass(slots=True)
class RowSkip:
    """One row that is left out on purpose, with the reason."""

    row: int
    field: str
    message: str
    item_id: str | None = None
    rule: str = "not_an_item"
    value: str | None = None


@dataclass(slots=True)
class RowWarning:
    """Something about the file or a row that the merchant should know; the row goes in all the same. ``row`` 0: the file."""

    row: int
    field: str
    message: str
    item_id: str | None = None
    rule: str = "remark"
    value: str | None = None


Parsed = ImportedVariant | ImportedParent | RowFailure | RowSkip | RowWarning


class FileRefusedError(Exception):
    """The whole file cannot be read. Raised before the first row is yielded, or the import says what was applied.

    The message is one sentence that says what the file seems to be and, for broken files, the line and column.
    """

    def __init__(self, message: str, *, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


class ImportFormat(Protocol):
    """One file format. Implementations are stateless and pure."""

    name: str
    """Stable name as in the API: ``google-rss``, ``google-csv``, ``google-tsv``, ``woocommerce-csv``."""

    def recognises(self, head: bytes, file_name: str | None) -> float:
        """How sure the format is, 0 to 1, from the first 64 KiB of the file and its name."""
        ...

    def parse(self, file: BinaryIO, context: FormatContext) -> Iterator[Parsed]:
        """Yield the file's rows in order, in constant memory. The file is seekable and stands at its start.

        Rows are numbered from 1, the header excluded.

        Raises
        ------
        FileRefusedError
            The file cannot be read as this format.
        """
        ...
