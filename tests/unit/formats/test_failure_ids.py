"""A row that cannot be read still says which item it is, or says none: mode replace deletes what a file does not name.

Every file is read as it is and then with values damaged that make no ids: the same items have to come out, read or not.
"""

from __future__ import annotations

import csv
import gzip
import io
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import pytest

from meta_sync.catalog.ingest.detect import FORMATS, detect
from meta_sync.catalog.ingest.encoding import TextEncoding, open_text, sniff_encoding
from meta_sync.catalog.ingest.formats.google_fields import meaning_of as feed_meaning
from meta_sync.catalog.ingest.import_replace import _named_by
from meta_sync.catalog.ingest.rows import FileRefusedError, FormatContext, RowFailure, RowSkip
from meta_sync.catalog.ingest.tables import Table, find_header
from tests.unit.formats.reading import SAMPLE_CURRENCIES, SAMPLES, Outcome, parse
from tests.unit.formats.test_shared_data import DATA, FILES

_SPOILT = "12,3,4 abc"
_NO_COUNT = "many"
_LARGE_BYTES, _HUGE_BYTES = 400_000, 5_000_000
"""Large files are damaged twice only: every price, and some of everything. Huge ones only once."""
_WITHOUT_PRICES = frozenset(("feeds/google_rss_ramiel.xml",))

_PRICE = re.compile(
    r"(?!.*(?:currency|date|names?_currency|wholesale|tier))"
    r".*(?:price|prix|preis|cena|tarif|surcharge|discountvalue|discount_value|compare|impact|цена).*"
)
_VALUE = re.compile(
    r".*(?:date|_from|_to|quantity|qty|stock|inventor|availab|disponibil|status|publish|visib|condition|tracker|policy"
    r"|online|active|backorder|bestand|запас|налич|vorr|discount|preorder|giftcard|manage_|enabled|count).*"
)
_MAKES_IDS = re.compile(
    r".*(?:(?:^|_)id$|sku|handle|option|attribute|config|links?$|url|image|label|group|entry).*"
)
_LONGEST_NAME = 60
"""Help lines above the header are longer."""


@dataclass(frozen=True)
class Sample:
    """A file to damage."""

    name: str
    data: bytes
    format_name: str
    currency: str

    def read(self, data: bytes, *, cells: int = 100_000) -> Outcome:
        return parse(data, self.format_name, currency=self.currency, cells=cells)


Choice = Callable[[str, int], str | None]
"""What stands in place of a value, by the simple name of its field and its number in the file; None leaves it."""


def _is_price(name: str) -> bool:
    return _PRICE.fullmatch(name) is not None and not _is_left_alone(name)


def _is_value(name: str) -> bool:
    return _VALUE.fullmatch(name) is not None and not _is_left_alone(name)


def _is_left_alone(name: str) -> bool:
    return len(name) > _LONGEST_NAME or _MAKES_IDS.fullmatch(name) is not None


# --- the damage ---------------------------------------------------------------------------------------------------

_FIELD = re.compile(
    r"(?P<open><(?:\w+:)?(?P<element>[A-Za-z][\w-]*)(?:\s[^<>]*)?(?<!/)>)(?P<text><!\[CDATA\[[^<>]*\]\]>|[^<>]+)(?=</)"
    r"|(?P<mark>\s(?P<attribute>[a-z]\w*)=\")(?P<value>[^\"<>]+)(?=\")"
)
_KEY = re.compile(r"\"(?P<key>\w+)\"\s*:\s*(?P<value>\"(?:[^\"\\]|\\.)*\"|-?[0-9][0-9.eE+-]*|true|false)")


def damage(sample: Sample, choose: Choice) -> bytes:
    """The file with the chosen values replaced, its structure as it was."""
    data = gzip.decompress(sample.data) if sample.data.startswith(b"\x1f\x8b") else sample.data
    encoding = sniff_encoding(io.BytesIO(data))
    with open_text(io.BytesIO(data), encoding) as stream:
        text = stream.read()
    numbers: Counter[str] = Counter()

    def chosen(name: str) -> str | None:
        numbers[name] += 1
        return choose(_simple(name), numbers[name] - 1)

    def in_markup(found: re.Match[str]) -> str:
        kept = found["open"] or found["mark"]
        spoilt = chosen(found["element"] or found["attribute"])
        return found.group() if spoilt is None else kept + spoilt

    def in_json(found: re.Match[str]) -> str:
        spoilt = chosen(found["key"])
        return found.group() if spoilt is None else f'"{found["key"]}": "{spoilt}"'

    if text.lstrip().startswith("<"):
        # The prolog names the encoding of the bytes that were.
        changed = re.sub(r"^<\?xml[^>]*\?>", "", _FIELD.sub(in_markup, text.lstrip()))
    elif text.lstrip()[:1] in {"{", "["}:
        changed = _KEY.sub(in_json, text)
    else:
        changed = _in_table(text, data, encoding, chosen, has_names=sample.format_name != "headerless-csv")
    return changed.encode("utf-8", "surrogateescape")


def _in_table(
    text: str, data: bytes, encoding: TextEncoding, chosen: Callable[[str], str | None], *, has_names: bool
) -> str:
    def known(name: str) -> str | None:
        simple = _simple(name)
        return (feed_meaning(name) or (simple if _is_known(simple) else None)) if has_names else None

    header = find_header(text[:65_536], known)
    assert header is not None
    names, first = header.names, 1
    above = list(
        islice(csv.reader(io.StringIO(text, newline=""), delimiter=header.delimiter), header.position + 1)
    )
    if not has_names:  # without column names: the one column of prices, behind the part that is looked at
        names = ["price" if re.search(r"\d[.,]\d\d", cell) else "" for cell in names]
        header, above, first = replace(header, position=-1), [], text.count("\n") // 2
    rows: list[list[str]] = []
    for record in Table(io.BytesIO(data), encoding, header, FormatContext("USD")).records():
        rows.extend([] for _ in range(record.number - len(rows) - 1))
        rows.append(record.cells)
        if record.number < first:
            continue
        for place, name in enumerate(names[: len(record.cells)]):
            spoilt = chosen(name) if record.cells[place].strip() else None
            if spoilt is not None:
                record.cells[place] = spoilt
    written = io.StringIO(newline="")
    csv.writer(written, delimiter=header.delimiter).writerows(above + rows)
    return written.getvalue()


def _is_known(name: str) -> bool:
    return _is_price(name) or _is_value(name)


def _simple(name: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).casefold()
    return re.sub(r"\W+", "_", words).strip("_")


# --- what holds ---------------------------------------------------------------------------------------------------


def _findings(outcome: Outcome) -> list[RowFailure | RowSkip]:
    return [*outcome.failures, *outcome.skips]


def _named(outcome: Outcome) -> set[str]:
    """The items that mode replace would keep."""
    return {named for row in outcome.rows if (named := _named_by(row)) is not None}


def _nameless(outcome: Outcome) -> int:
    return sum(_named_by(failure) is None for failure in outcome.failures)


def check(sample: Sample, whole: Outcome, damaged: Outcome, *, is_price: bool) -> int:
    """Compare with the undamaged file; the number of findings that are new."""
    items = _named(whole)
    # A product that fails carries its own id where its variants stand in rows of their own.
    known = items | {parent.product.id for parent in whole.parents}
    old = Counter((type(one), one.row, one.item_id) for one in _findings(whole))
    new = Counter((type(one), one.row, one.item_id) for one in _findings(damaged)) - old
    strange = {item_id for _, _, item_id in new if item_id is not None} - known
    assert not strange, f"{sample.name}: ids that no item of the file has"
    if is_price:
        assert _nameless(damaged) <= _nameless(whole), f"{sample.name}: a price hides which item it is"
    if is_price or _nameless(damaged) <= _nameless(whole):
        lost = items - _named(damaged)
        assert not lost, f"{sample.name}: these items would be deleted"
    assert {item.variant.id for item in damaged.items} <= known
    return sum(new.values())


def _own_samples() -> Iterator[Sample]:
    for path in sorted(SAMPLES.iterdir()):
        data = path.read_bytes()
        try:
            format_name = detect(data[:65_536], path.name).name
            sample = Sample(path.name, data, format_name, SAMPLE_CURRENCIES.get(path.name, "USD"))
            sample.read(data)
        except FileRefusedError:
            continue
        yield sample


OWN = {sample.name: sample for sample in _own_samples()}


def _spoil_all(sample: Sample, whole: Outcome) -> None:
    """Every price at once, each kind of other value in all rows, and single values here and there."""
    found = 0

    def every_price(name: str, _number: int) -> str | None:
        return _SPOILT if _is_price(name) else None

    found += _spoil(sample, whole, every_price, is_price=True)
    if len(sample.data) > _HUGE_BYTES:
        return
    dice = random.Random(sample.name)

    def some(name: str, _number: int) -> str | None:
        return dice.choice((_SPOILT, _NO_COUNT)) if _is_known(name) and dice.random() < 0.2 else None

    _spoil(sample, whole, some, is_price=False)
    if len(sample.data) < _LARGE_BYTES:
        names: set[str] = set()

        def look(name: str, _number: int) -> None:
            names.add(name)

        damage(sample, look)
        for field in sorted(filter(_is_known, names)):
            for spoilt in (_SPOILT, _NO_COUNT):

                def one_field(
                    name: str, _number: int, field: str = field, spoilt: str = spoilt
                ) -> str | None:
                    return spoilt if name == field else None

                _spoil(sample, whole, one_field, is_price=_is_price(field))

        def third_price(name: str, number: int) -> str | None:
            return _SPOILT if _is_price(name) and number % 3 == 2 else None

        _spoil(sample, whole, third_price, is_price=True)
    assert found or not whole.items or sample.name in _WITHOUT_PRICES, (
        f"{sample.name}: no damage did anything"
    )


def _spoil(sample: Sample, whole: Outcome, choose: Choice, *, is_price: bool) -> int:
    try:
        damaged = sample.read(damage(sample, choose))
    except FileRefusedError:
        return 1  # then nothing is deleted
    return check(sample, whole, damaged, is_price=is_price)


@pytest.mark.parametrize("name", OWN)
def test_damaged_values_name_the_same_items(name: str) -> None:
    sample = OWN[name]
    whole = sample.read(sample.data)
    assert not check(sample, whole, sample.read(damage(sample, lambda *_: None)), is_price=True)
    _spoil_all(sample, whole)


@pytest.mark.shared
@pytest.mark.skipif(not DATA.is_dir(), reason="the folder shared/data is not beside the project")
@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".gz")])
def test_damaged_values_in_real_files_name_the_same_items(name: str) -> None:
    format_name, currency, *_ = FILES[name]
    data = (DATA / name).read_bytes()
    sample = Sample(name, data, format_name, currency)
    _spoil_all(sample, sample.read(sample.data))


# --- text that cannot be used -------------------------------------------------------------------------------------

_TEXT = re.compile(
    r"(?:.*_)?(?:title|name|description|body_html|brand|vendor|name_|nom|titre|beschreibung|имя)"
)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("spoilt", ["\udcff", "long" * 2_000], ids=["bad_text", "too_long"])
def test_texts_that_cannot_be_used_name_the_same_items(name: str, spoilt: str) -> None:
    sample = OWN[name]
    whole = sample.read(sample.data, cells=5_000)

    def every_text(field: str, number: int) -> str | None:
        is_text = _TEXT.fullmatch(field) is not None and "option" not in field and "attribut" not in field
        return spoilt if number % 2 and (is_text or _is_price(field)) else None

    try:
        damaged = sample.read(damage(sample, every_text), cells=5_000)
    except FileRefusedError:
        return  # XML and lists in JSON that are not UTF-8
    # An over-long cell of several lines may be rows that a lone quotation mark swallowed: then none is named.
    # A product of Saleor's is no item, and its key may be a variant's.
    is_sure = spoilt == "\udcff" and sample.format_name != "saleor-json"
    check(sample, whole, damaged, is_price=is_sure)
    rules = {failure.rule for failure in damaged.failures} - {failure.rule for failure in whole.failures}
    assert rules <= {"bad_text", "too_long", "missing_parent", "unreadable", "wrong_type"}


def test_every_format_is_damaged() -> None:
    assert {sample.format_name for sample in OWN.values()} == set(FORMATS)
