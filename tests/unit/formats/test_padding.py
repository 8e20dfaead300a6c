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
        FormatContext("USD", max_cell_chars=200),
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
    assert "3 cells" in record.fault.message
    assert (record.fault.rule, record.fault.value, record.is_whole) == ("ragged_row", "1,Mug,5", False)


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


def test_a_quotation_mark_left_open_up_to_the_end_hides_the_rows_below() -> None:
    rows = read(HEADER + '1,Mug,5,red,L\n2,Cup,6,blue,"M\nand\n3,Jug,7,red,S\n')
    assert [record.fault is None for record in rows] == [True, False]
    fault = rows[1].fault
    assert fault is not None
    assert (fault.column, fault.rule, rows[1].holds([0])) == ("row", "ragged_row", False)
    [cut] = read(HEADER + '1,Mug,5,red,"La')  # cut within the last cell
    assert cut.fault is not None
    assert read(HEADER + '1,Mug,5,red,"La"')[0].fault is None


def test_what_a_faulty_row_still_says() -> None:
    bad, long, lines = read(
        HEADER + f'1,M\x00ug,5,red,L\n2,Cup,6,{"x" * 201},\n3,Jug,7,"{"y" * 200}\n\nz",M\n'
    )
    assert [record.fault.rule for record in (bad, long, lines) if record.fault] == [
        "bad_text",
        "too_long",
        "too_long",
    ]
    assert (bad.holds([0, 2]), bad.holds([1]), long.holds([0]), long.holds([3])) == (True, False, True, False)
    assert not lines.holds([0])  # what stands in it may be rows
    assert (bad.failure("1").item_id, bad.failure("1").field) == ("1", "name")
