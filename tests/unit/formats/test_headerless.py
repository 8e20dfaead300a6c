from __future__ import annotations

import pytest

from meta_sync.catalog.ingest.detect import FORMATS, detect
from meta_sync.catalog.ingest.rows import FileRefusedError
from tests.unit.formats.reading import SAMPLES, Outcome, parse, parse_sample, table

HEADERLESS = FORMATS["headerless-csv"]
THINGS = (
    "Blue Enamel Mug",
    "Small Iron Pan",
    "Oak Board Large",
    "Salt Mill Pair",
    "Whistling Tea Kettle",
    "Red Fork Set",
)
ROWS = [[f"A{number}", title, f"{number + 4}.99", str(number % 3)] for number, title in enumerate(THINGS)]


def sureness(*rows: list[str]) -> float:
    return HEADERLESS.recognises(table(*rows).encode(), None)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return parse_sample("headerless.csv")


def test_columns_are_read_by_what_they_hold(outcome: Outcome) -> None:
    mug, product = outcome.variants["SKU-1001"], outcome.products["SKU-1001"]
    assert [item.row for item in outcome.items] == [1, 2, 3, 4, 5, 6]
    assert (mug.price, mug.link, mug.thumbnail) == (
        1290,
        "https://shop.example/p/1001",
        "https://img.example/1001.jpg",
    )
    assert (product.title, product.categories, product.brand) == (
        'Enamel Mug "Forest" 350 ml',
        ["Kitchen", "Mugs"],
        None,
    )
    assert outcome.variants["SKU-1005"].price == 103400
    assert outcome.variants["SKU-1004"].price is None
    assert outcome.products["SKU-1003"].categories == []


def test_the_merchant_is_told_once_what_was_read_as_what(outcome: Outcome) -> None:
    [warning] = outcome.warnings
    assert (warning.row, warning.rule) == (0, "no_header")
    assert (
        "column 1 as the id, column 2 as the title, column 4 as the price, column 3 as the category,"
        " column 5 as the product's page and column 6 as a picture" in warning.message
    )


def test_a_row_of_another_width_fails(outcome: Outcome) -> None:
    data = (SAMPLES / "headerless.csv").read_text() + "SKU-1007;Ladle;1\n"
    assert HEADERLESS.recognises(data.encode(), None) == 0  # in the part that is looked at
    padding = "".join(f"SKU-{number};Steel Ladle No {number};;1,00 €;;;\n" for number in range(2_000, 6_000))
    long = parse((SAMPLES / "headerless.csv").read_text() + padding + "SKU-1007;Ladle;1\n", currency="EUR")
    assert len(long.items) == 4_006
    assert [(failure.row, failure.rule, failure.item_id) for failure in long.failures] == [
        (4_007, "ragged_row", None)
    ]


def test_where_the_part_that_is_looked_at_ends_does_not_matter() -> None:
    data = table(*ROWS).encode()
    assert all(HEADERLESS.recognises(data[: len(data) - cut], None) > 0 for cut in range(12))


def test_every_other_format_goes_first() -> None:
    feed = b"id,title,price,link\n" + table(*ROWS).encode()
    assert detect(feed).name == "google-csv"
    assert 0.5 < sureness(*ROWS) < 0.55


@pytest.mark.parametrize(
    ("what", "rows"),
    [
        ("a header of an unknown system", [["Artikel", "Bezeichnung", "Preis", "Lager"], *ROWS]),
        ("a line of words", [["Artikel", "Bezeichnung der Ware", "", "Lager"], *ROWS]),
        ("too few columns", [row[:3] for row in ROWS]),
        ("too few rows", ROWS[:4]),
        ("another number of cells", [*ROWS, ["A9", "Blue Enamel Bowl Set", "9.99"]]),
        ("no prices", [[row[0], row[1], row[3], "x"] for row in ROWS]),
        ("two prices", [[*row, f"{place}.49"] for place, row in enumerate(ROWS)]),
        ("two ids", [[*row, f"40063813339{place}"] for place, row in enumerate(ROWS)]),
        ("repeated ids", [["A1", *row[1:]] for row in ROWS]),
        ("no titles", [[row[0], f"T{place}", *row[2:]] for place, row in enumerate(ROWS)]),
        ("two titles", [[*row, f"Another Long Name Here {row[0]}"] for row in ROWS]),
        (
            "people",
            [[row[0], f"Maria da Silva {row[0]}", row[2], f"maria{row[0]}@mail.example"] for row in ROWS],
        ),
        ("names of two words", [[row[0], " ".join(row[1].split()[:2]), *row[2:]] for row in ROWS]),
        (
            "orders",
            [
                [row[0], f"Maria da Silva {row[0]}", row[2], f"2026-05-{place + 10}"]
                for place, row in enumerate(ROWS)
            ],
        ),
        ("vehicles", [[f"1HGCM82633A00435{place}", *row[1:]] for place, row in enumerate(ROWS)]),
        ("vehicles by their mileage", [[*row, f"{place}2,000 km"] for place, row in enumerate(ROWS)]),
        (
            "a taxonomy",
            [[str(place), "Animals", "Pet Supplies > Birds", "Cages and Stands"] for place in range(9)],
        ),
        ("barcodes", [[f"400638133393{place}"] for place in range(9)]),
    ],
)
def test_what_is_not_beyond_doubt_is_refused(what: str, rows: list[list[str]]) -> None:
    assert sureness(*rows) == 0, what
    with pytest.raises(FileRefusedError):
        parse(table(*rows), "headerless-csv")


def test_short_names_need_something_that_says_these_are_products() -> None:
    short = [[row[0], " ".join(row[1].split()[:2]), *row[2:]] for row in ROWS]
    assert sureness(*short) == 0
    assert sureness(*[[*row, f"https://shop.example/{row[0]}"] for row in short]) > 0


def test_a_description_is_no_second_title() -> None:
    text = "Made by hand of the very best things that could be found and sent in a box of its own."
    outcome = parse(table(*[[*row, f"{text} {row[0]}"] for row in ROWS]))
    assert outcome.products["A1"].title == "Small Iron Pan"
    assert outcome.products["A1"].description is None


def test_the_refusal_of_an_unknown_header_lists_its_columns() -> None:
    with pytest.raises(FileRefusedError, match='Found: "Artikel", "Bezeichnung"'):
        detect(table(["Artikel", "Bezeichnung", "Preis", "Lager"], *ROWS).encode())


def test_markup_and_json_are_no_tables() -> None:
    for start in ("<", "{", "[", "\ufeff<"):
        assert HEADERLESS.recognises((start + table(*ROWS)).encode(), None) == 0
