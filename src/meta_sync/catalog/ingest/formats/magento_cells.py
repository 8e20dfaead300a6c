"""What the cells of one Magento row say about publication, stock, sale dates, options and addresses."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from zoneinfo import ZoneInfo

from meta_sync.catalog.ingest.formats.magento_columns import OPTION_MEANINGS, values_of
from meta_sync.catalog.ingest.reader import RowFaultError, RowReader
from meta_sync.catalog.ingest.times import read_instant
from meta_sync.catalog.ingest.values import quoted, read_quantity, simplify, split_images
from meta_sync.catalog.models import InventoryInput

__all__ = ["kind_of", "options", "pictures", "publication", "read_date", "slug", "stock"]

_YES, _NO = frozenset(("1", "yes", "true")), frozenset(("0", "no", "false"))
_HIDDEN = frozenset(
    simplify(words)
    for words in (
        "1",
        "Not Visible Individually",
        "Nicht einzeln sichtbar",
        "Non visible individuellement",
        "No visible individualmente",
        "Non visibile individualmente",
        "Niet individueel zichtbaar",
    )
)
_SHORT_DATE = re.compile(
    r"(?P<first>[0-9]{1,2})(?P<mark>[/.])(?P<second>[0-9]{1,2})(?P=mark)(?P<year>[0-9]{4}|[0-9]{2})"
    r"(?:,? (?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?P<seconds>:[0-9]{2})?(?: ?(?P<half>[AP])\.?M\.?)?)?",
    re.IGNORECASE,
)
_MIDNIGHT = re.compile(r"[ T]00:00(?::00(?:\.0+)?)?$")
_NOT_KEY = re.compile(r"[^0-9a-z]+")


def kind_of(reader: RowReader) -> tuple[str, str]:
    """The type of the product, and the column that says so: where none names it, one that only that type fills in."""
    named = reader.cell("type")
    if named:
        return named.text.casefold(), named.column
    for kind, meaning in (("configurable", "variations"), ("bundle", "bundled"), ("grouped", "grouped")):
        cell = reader.cell(meaning)
        if cell:
            return kind, cell.column
    return "simple", "product_type"


def publication(reader: RowReader) -> tuple[str, str]:
    """Status and visibility. What is not visible individually is private, what is switched off a draft.

    Raises
    ------
    RowFaultError
        ``product_online`` is no word that says whether the product is switched on.
    """
    visibility = "private" if simplify(reader.text("visibility") or "") in _HIDDEN else "public"
    cell = reader.cell("online")
    word = cell.text.casefold() if cell else "1"
    if word in _YES or word == "enabled":
        return "active", visibility
    if word in _NO or word in {"2", "disabled"}:
        return "draft", visibility
    column = cell.column if cell else "product_online"
    raise RowFaultError(
        column, f"{quoted(word)} is neither 1 (switched on) nor 2 (switched off).", value=word
    )


def stock(reader: RowReader) -> tuple[str | None, InventoryInput | None]:
    """Availability and inventory. What the shop's configuration decides is not in the file.

    By that configuration stock is managed unless somebody switched it off; whether it takes backorders is not known.
    """
    is_managed = _flag(reader, "usual_manage_stock") is True or _flag(reader, "manage_stock") is not False
    if not is_managed:
        return "in stock", InventoryInput(track_inventory=False)
    in_stock = _flag(reader, "in_stock")
    availability = None if in_stock is None else "in stock" if in_stock else "out of stock"
    quantity = reader.read("quantity", read_quantity)
    if quantity is None:
        return availability, None
    empty_at = 0 if _flag(reader, "usual_empty_at") else reader.read("empty_at", read_quantity) or 0
    backorders = None if _flag(reader, "usual_backorders") else _flag(reader, "backorders")
    left = quantity if quantity > empty_at else 0
    return availability, reader.counted_stock(availability, left, allow_backorder=backorders)


def _flag(reader: RowReader, meaning: str) -> bool | None:
    """A cell of 0 or 1; backorders know a 2, which also tells the buyer."""
    word = (reader.text(meaning) or "").casefold()
    if not word:
        return None
    return bool(word.strip("0.")) and word not in _NO and simplify(word) != "out_of_stock"


def read_date(text: str, zone: ZoneInfo, *, end_of_day: bool) -> datetime:
    """An instant as ISO or as the admin writes it: ``5/31/24``, ``10/20/2015 7:05``, ``11/1/17, 1:41 AM``, ``31.05.24``.

    With slashes the month stands first unless it cannot be one; with dots the day does. Midnight at which a sale ends
    is a date without a time: the day is part of the sale.

    Raises
    ------
    UnreadableValueError
        The text is no such date.
    """
    plain = " ".join(text.split())
    match = _SHORT_DATE.fullmatch(plain)
    if match is not None:
        month, day = match["first"], match["second"]
        if match["mark"] == "." or int(month) > 12 >= int(day):
            month, day = day, month
        year = match["year"] if len(match["year"]) == 4 else f"20{match['year']}"
        plain = f"{year}-{month}-{day}"
        if match["hour"]:
            hour = int(match["hour"])
            if match["half"]:
                hour = hour % 12 + (12 if match["half"].upper() == "P" else 0)
            plain += f" {hour:02}:{match['minute']}{match['seconds'] or ''}"
    if end_of_day:
        plain = _MIDNIGHT.sub("", plain)
    return read_instant(plain, zone, end_of_day=end_of_day)


def pictures(reader: RowReader) -> list[str]:
    """The base picture, then the further ones that the product's page shows. Paths stay relative."""
    hidden = set(split_images(reader.texts("hidden_images")))
    first = [path for path in reader.texts("image", "other_image") if path != "no_selection"][:1]
    more = (path for path in split_images(reader.texts("more_images")) if path not in hidden)
    return list(dict.fromkeys((*first, *(path for path in more if path != "no_selection"))))


def options(reader: RowReader) -> dict[str, str]:
    """Attributes of a product that no configurable one lists. Several values are joined as Google writes colours."""
    found: dict[str, str] = {}
    for meaning in OPTION_MEANINGS:
        values = values_of(reader.text(meaning) or "")
        if values and (meaning != "gender" or len(values) == 1):  # several genders are nobody's in particular
            found[meaning] = "/".join(values)
    return found


def slug(reader: RowReader) -> str | None:
    """The URL key, else the one Magento makes of the name, where that is sure: of Latin letters, digits and signs."""
    key, name = reader.text("url_key"), reader.text("name")
    if key and not any(char.isspace() for char in key):
        return key
    decomposed = unicodedata.normalize("NFKD", (key or name or "").replace("@", "at"))
    letters = "".join(char for char in decomposed if not unicodedata.combining(char))
    if any(char.isalnum() and not char.isascii() for char in letters):
        return None
    return _NOT_KEY.sub("-", letters.lower()).strip("-") or None
