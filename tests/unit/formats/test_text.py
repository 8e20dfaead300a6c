from __future__ import annotations

import io

import pytest

from meta_sync.catalog.ingest import tables
from meta_sync.catalog.ingest.detect import FORMATS
from meta_sync.catalog.ingest.rows import FileRefusedError, FormatContext
from tests.unit.formats.reading import parse

ROWS = "id,title,price\n1,Käse für alle – Größe,1 USD\n2,Schön süße Äpfel,2 USD\n"
RUSSIAN = "id;title;price\n" + "".join(f"{n};Красный чайник для кухни;{n} USD\n" for n in range(1, 9))


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_encodings(encoding: str) -> None:
    outcome = parse(ROWS.encode(encoding))
    assert [item.product.title for item in outcome.items] == ["Käse für alle – Größe", "Schön süße Äpfel"]
    assert len(outcome.warnings) == (encoding == "cp1252")


@pytest.mark.parametrize("encoding", ["cp1251", "koi8_r"])
def test_cyrillic_charsets(encoding: str) -> None:
    assert parse(RUSSIAN.encode(encoding)).items[0].product.title == "Красный чайник для кухни"


def test_damaged_bytes_in_utf8_fail_only_their_row() -> None:
    data = ROWS.encode().replace("Schön".encode(), b"Sch\xf6n")
    outcome = parse(data)
    assert list(outcome.variants) == ["1"]
    [failure] = outcome.failures
    assert (failure.row, failure.field, failure.item_id) == (2, "title", "2")
    assert "surrogates" in failure.message
    assert outcome.warnings[0].message == "1 bytes of the file are not UTF-8 text."


def test_nul_and_lone_surrogates_fail_their_row() -> None:
    outcome = parse(b"id,title,price\n1,A\x00B,1 USD\n2,B,2 USD\n")
    assert [(failure.row, failure.field) for failure in outcome.failures] == [(1, "title")]
    lone = parse("id,title,price\n1,A\ud800B,1 USD\n2,B,2 USD\n".encode("utf-16", "surrogatepass"))
    assert [(failure.row, failure.field) for failure in lone.failures] == [(1, "title")]


def test_broken_utf16_is_refused_before_its_first_row() -> None:
    with pytest.raises(FileRefusedError, match="UTF-16"):
        parse(ROWS.encode("utf-16") + b"\x00", "google-csv")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends(delimiter: str, line_end: str) -> None:
    lines = [["id", "title", "price", "link"], ["1", '"a, b; c | d\t""e"""', "1 USD", "https://a.example"]]
    outcome = parse(line_end.join(delimiter.join(line) for line in lines))
    assert outcome.items[0].product.title == 'a, b; c | d\t"e"'


def test_a_cell_over_the_limit_fails_its_row_naming_the_column() -> None:
    outcome = parse(f"id,title,price\n1,{'x' * 101},1 USD\n2,{'x' * 100},2 USD\n", cells=100)
    assert [(failure.row, failure.field, failure.item_id) for failure in outcome.failures] == [
        (1, "title", "1")
    ]
    assert "101 characters" in outcome.failures[0].message
    feed = (
        f"<rss><channel><item><id>1</id><title>{'x' * 101}</title><price>1 USD</price></item></channel></rss>"
    )
    assert [(failure.row, failure.field) for failure in parse(feed, cells=100).failures] == [(1, "title")]


def test_a_record_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_RECORD_CHARS", 200_000)
    rows = "".join(f"{n},Title,1 USD\n" for n in range(2, 40_000))
    outcome = parse(f'id,title,price\n1,"never closed,1 USD\n{rows}')
    assert outcome.failures[0].row == 1
    assert "quotation mark" in outcome.failures[0].message
    assert len(outcome.items) > 20_000
    long_line = parse(f"id,title,price\n1,{'x' * 300_000},1 USD\n2,B,2 USD\n")
    assert [failure.row for failure in long_line.failures] == [1]
    assert list(long_line.variants) == ["2"]


def test_reading_stops_when_the_import_is_cancelled() -> None:
    data = "id,title,price\n" + "1,A,1 USD\n" * 5_000
    seen = 0
    context = FormatContext("USD", is_cancelled=lambda: seen >= 100)
    for _ in FORMATS["google-csv"].parse(io.BytesIO(data.encode()), context):
        seen += 1
    assert 100 <= seen <= 1_000


def test_the_file_stays_open_and_can_be_read_again() -> None:
    file = io.BytesIO(ROWS.encode())
    counts = [len(list(FORMATS["google-csv"].parse(file, FormatContext("USD")))) for _ in range(2)]
    assert counts == [2, 2]
    assert not file.closed
