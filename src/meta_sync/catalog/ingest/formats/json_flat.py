"""Reads flat JSON rows, one object per item, by the names of a feed's columns. Knows nothing of files or lines.

Decisions: numbers of money are major units; of several keys with the same meaning one without a language or currency
goes first, then the file's first language, and a price in the store's currency before any other; an old price above the
current one makes the current one a sale price; a count in ``stock`` is stock, a word there is availability.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

from meta_sync.catalog.ingest.formats.google_fields import FeedRows
from meta_sync.catalog.ingest.formats.json_keys import Key, key_of
from meta_sync.catalog.ingest.formats.json_shape import FlatShape
from meta_sync.catalog.ingest.prices import read_price
from meta_sync.catalog.ingest.reader import Cell, FileNotes
from meta_sync.catalog.ingest.rows import FormatContext, Parsed, RowFailure, RowWarning
from meta_sync.catalog.ingest.values import UnreadableValueError
from meta_sync.core.text import text_fault

__all__ = ["FlatRows"]

_MONEY = frozenset(("price", "sale_price", "regular_price"))
_SEVERAL = frozenset(("additional_image_link", "additional_variant_attribute"))
"""Fields of which every value counts."""
_PARTS: Mapping[str, tuple[str, ...]] = {
    "price": ("amount", "value"),
    "sale_price": ("amount", "value"),
    "regular_price": ("amount", "value"),
    "image_link": ("src", "url", "href", "link"),
    "additional_image_link": ("src", "url", "href", "link"),
    "brand": ("name",),
    "product_type": ("name", "title"),
}
"""Where an object stands for a value, the key that holds it."""
_CURRENCY_KEYS = ("currency", "currencyCode", "currency_code")
_YES = frozenset(("true", "yes", "y", "1"))
_NO = frozenset(("false", "no", "n", "0"))
_OTHER_CURRENCY = 10_000
"""Rank behind every language."""


class FlatRows:
    """Turns the flat rows of one file into what an import takes. One object per file."""

    def __init__(self, source: str, shape: FlatShape, context: FormatContext) -> None:
        self._rows = FeedRows(source, context)
        self._id_key = shape.id_key
        self._languages = {language: place for place, language in enumerate(shape.languages, start=1)}
        self._context = context
        self._notes = FileNotes()

    def first_words(self) -> RowWarning:
        """How the file is read, said once."""
        return RowWarning(
            0,
            "file",
            f'Each object of the file is read as one item whose id is in "{self._id_key[:100]}".',
            rule="flat_rows",
        )

    def read(self, row: int, value: Mapping[str, object]) -> Iterator[Parsed]:
        """One object: the variant and its warnings, or the one failure."""
        item_id = _id_text(value.get(self._id_key))
        if not item_id:
            message = f'The object has no "{self._id_key[:100]}", which is the id of the other items.'
            yield RowFailure(row, self._id_key[:100], message, rule="missing_id")
            return
        cells: dict[str, list[tuple[int, Cell]]] = {}
        for name, one in value.items():
            key = key_of(name, has_languages=bool(self._languages))
            if key is None or one is None:
                continue
            texts, is_read = _texts(key, one)
            if not is_read and self._notes.first_time(f"unread {key.meaning}"):
                message = f'What stands in "{name[:100]}" is no single value and was left out.'
                yield RowWarning(0, name[:100], message, rule="unread_value")
            rank = self._rank(key)
            for text in texts:
                if found_fault := self._fault(text):
                    rule, message = found_fault
                    known = item_id if self._fault(item_id) is None else None
                    yield RowFailure(row, name[:100], message, known, rule, text[:200])
                    return
                cells.setdefault(key.meaning, []).append((rank, Cell(name, text)))
        found = {meaning: _best(meaning, ranked) for meaning, ranked in cells.items()}
        found["id"] = [Cell(self._id_key, item_id)]
        _set_stock(found)
        self._set_sale(found)
        yield from self._rows.read(row, found)

    def _rank(self, key: Key) -> int:
        if key.currency is not None:
            return -1 if key.currency == self._context.currency else _OTHER_CURRENCY
        if key.language is None:
            return 0
        return self._languages.get(key.language, len(self._languages) + 1)

    def _fault(self, text: str) -> tuple[str, str] | None:
        """Rule and sentence, where a text cannot be stored."""
        most = self._context.max_cell_chars
        if len(text) > most:
            return "too_long", f"The value has {len(text)} characters; at most {most} are allowed."
        fault = text_fault(text)
        return ("bad_text", f"The text {fault}.") if fault else None

    def _set_sale(self, found: dict[str, Sequence[Cell]]) -> None:
        """A regular price is the price, and a lower one beside it is what is asked now."""
        regular = found.pop("regular_price", None)
        if not regular:
            return
        current = found.get("price")
        if not current:
            found["price"] = regular
        elif "sale_price" not in found:
            currency = self._context.currency
            try:
                is_sale = (
                    read_price(regular[0].text, currency).minor_units
                    > read_price(current[0].text, currency).minor_units
                )
            except UnreadableValueError:
                return  # an old price that cannot be read says nothing; the current one is judged by itself
            if is_sale:
                found["price"], found["sale_price"] = regular, current
        else:
            found["price"] = regular


def _best(meaning: str, ranked: Sequence[tuple[int, Cell]]) -> Sequence[Cell]:
    if meaning in _SEVERAL:
        return [cell for _, cell in ranked]
    least = min(rank for rank, _ in ranked)
    return [cell for rank, cell in ranked if rank == least]


def _set_stock(found: dict[str, Sequence[Cell]]) -> None:
    """Counts become a quantity and words an availability, where the row has none under its own name."""
    for meaning in ("stock", "is_available"):
        cell = next(iter(found.pop(meaning, ())), None)
        if cell is None:
            continue
        word = cell.text.casefold()
        if meaning == "stock" and word.lstrip("+-").partition(".")[0].isdecimal():
            found.setdefault("quantity", [cell])
            continue
        if word.isdecimal():
            word = "no" if word.strip("0") == "" else "yes"
        said = "in stock" if word in _YES else "out of stock" if word in _NO else cell.text
        found.setdefault("availability", [Cell(cell.column, said)])


def _texts(key: Key, value: object) -> tuple[list[str], bool]:
    """The filled texts of a value, and whether all of it could be read."""
    if not isinstance(value, list):
        text = _text(key, value)
        return ([text] if text else []), text is not None
    read = [_text(key, one) for one in value if one is not None]
    texts = [text for text in read if text]
    if key.meaning == "product_type" and len(texts) > 1:
        # Names without marks between them are one path, outer to inner; whole paths stand for themselves.
        texts = [next((text for text in texts if ">" in text), " > ".join(texts))]
    return texts, None not in read


def _text(key: Key, value: object) -> str | None:
    """A single value as a feed's table would have it; ``None`` for what is none."""
    if isinstance(value, Mapping):
        inner = next(
            (value[name] for name in _PARTS.get(key.meaning, ()) if value.get(name) is not None), None
        )
        if inner is None or isinstance(inner, list | Mapping):
            return None
        currency = next((value[name] for name in _CURRENCY_KEYS if isinstance(value.get(name), str)), None)
        text = _text(key, inner)
        is_bare = bool(text) and key.meaning in _MONEY and not any(map(str.isalpha, text or ""))
        return f"{text} {currency}" if is_bare and currency else text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        text = _number(value, is_money=key.meaning in _MONEY)
    elif isinstance(value, str):
        text = value.strip()
    else:
        return "" if value is None else None
    if key.currency and text and not any(map(str.isalpha, text)):
        return f"{text} {key.currency}"
    return text


def _number(value: int | Decimal, *, is_money: bool) -> str:
    """A number in plain digits. One of money never has three decimals, which in a text could be thousands."""
    if isinstance(value, int):
        return str(value)
    if value == value.to_integral_value():
        return f"{value:.0f}"
    text = f"{value:f}"
    return f"{text}0" if is_money and len(text.partition(".")[2]) == 3 else text


def _id_text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return ""
    return value.strip() if isinstance(value, str) else _number(value, is_money=False)
