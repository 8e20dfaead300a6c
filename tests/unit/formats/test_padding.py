"""Tables of systems that leave out the cells at the end of a row."""

from __future__ import annotations

import io

import pytest

from meta_sync.catalog.ingest.rows import FormatContext
from meta_sync.catalog.ingest.tables import Record, open_table

HEADER = "sku,name,price,colour,size\n"


def read(text: str, *, pads_short_rows: bool = True) -> list[Record]:
    table = open_table(
        io.BytesIO(text.encode()),
        FormatContext("USD"),
        lambda name: name if name in HEADER.strip().split(",") else None,
        pads_short_rows=pads_short_rows,
    )
    assert table is not None
    return list(table.records())


def test_cells_missing_at_the_end_are_empty() -> None:
    first, second = read(HEADER + "1,Mug,5\n2,Cup,6,red,L\n")
    assert first == Record(1, ["1", "Mug", "5", "", ""])
    assert second == Record(2, ["2", "Cup", "6", "red", "L"])


def test_other_formats_still_refuse_short_rows() -> None:
    [record] = read(HEADER + "1,Mug,5\n", pads_short_rows=False)
    assert record.fault is not None
    assert "3 cells" in record.fault[1]


@pytest.mark.parametrize("row", ["1,Mug,5,red,L,more", "only one cell"])
def test_more_cells_than_columns_and_lines_of_text_stay_faults(row: str) -> None:
    [record] = read(HEADER + row + "\n")
    assert record.fault is not None


def test_a_file_that_was_cut_does_not_end_in_half_a_row() -> None:
    whole = HEADER + "1,Mug,5,red\n2,Cup,6,blue"
    assert [record.fault for record in read(whole)] == [None, None]
    cut = read(whole.removesuffix(",blue"))
    assert cut[0].fault is None
    assert cut[1].fault is not None


def test_an_open_quotation_mark_swallows_no_short_rows() -> None:
    rows = read(HEADER + '1,Mug,5\n2,"Cup,6\n3,Jug,7\n4,Can,8\n5,Pot,9,,L\n')
    assert [record.cells[0] for record in rows] == ["1", "2", "3", "4", "5"]
    assert not any(record.fault for record in rows)


def test_blank_lines_in_a_quoted_text_do_not_take_a_row_apart() -> None:
    rows = read(HEADER + '1,Mug,5\n\n2,"A\n\n\n\nB",6\n')
    assert [record.cells[1] for record in rows] == ["Mug", "A\n\n\n\nB"]
