from __future__ import annotations

from datetime import UTC, datetime

import pytest

from meta_sync.catalog.ingest.rows import FileRefusedError, RowFailure, RowWarning
from meta_sync.catalog.models import InventoryInput
from tests.unit.formats.reading import parse, parse_sample, table


def test_rss_item_becomes_variant_and_product() -> None:
    outcome = parse_sample("google_rss.xml", timezone="Europe/Berlin")
    red, product = outcome.variants["lantern-red"], outcome.products["lantern-red"]
    assert (product.id, product.source, product.link, product.thumbnail) == (
        "lantern",
        "google-rss",
        None,
        None,
    )
    assert product.title == "Storm lantern & oil"
    assert product.description == "<p>Burns & shines.</p>\nTwo lines"
    assert product.categories == ["Home", "Lighting", "Lanterns"]
    assert (product.google_product_category, product.brand) == ("536", "Wick")
    assert red.link == "https://shop.example/p/lantern?colour=red&ref=feed"
    assert red.thumbnail == "https://img.example/w_300,h_200/red.jpg"
    assert red.images == ["https://img.example/red-2.jpg", "https://img.example/red-3.jpg"]
    assert (red.price, red.special_price) == (129900, 99950)
    assert red.special_price_start == datetime(2026, 2, 28, 23, tzinfo=UTC)
    assert red.special_price_end == datetime(2026, 3, 31, 21, 59, tzinfo=UTC)
    assert (red.availability, red.condition, red.sku, red.ean) == ("in stock", "new", "LN-1", "4006381333931")
    assert red.options == {"color": "Red", "size": "M", "Wick width": "8 mm"}
    assert red.inventory is None


def test_rss_names_without_prefix_serve_where_the_prefixed_are_missing_or_empty() -> None:
    blue = parse_sample("google_rss.xml").variants["lantern-blue"]
    assert (blue.price, blue.availability) == (1000, "preorder")
    assert blue.inventory == InventoryInput(track_inventory=False, quantity_on_hand=4, allow_backorder=False)


def test_rss_rows_that_fail_say_why_and_rows_are_numbered() -> None:
    message = "The price is in EUR, but the store sells in USD."
    assert parse_sample("google_rss.xml").failures == [
        RowFailure(3, "price", message, "lantern-eur", "wrong_currency", "10 EUR"),
        RowFailure(4, "id", "The row has no id.", rule="missing_id"),
    ]


def test_bare_ampersands_are_repaired_with_one_warning() -> None:
    outcome = parse_sample("google_rss_ampersands.xml")
    item = outcome.items[0]
    assert (item.variant.id, item.variant.link) == ("a&b", "https://shop.example/?a=1&b=2&c=3")
    assert item.product.title == "Salt & pepper\u00a0mill"
    assert item.product.description == "Left & right & &amp;"
    assert [(one.row, one.field, one.rule) for one in outcome.warnings] == [(0, "file", "repaired")]


def test_any_other_fault_refuses_the_feed_before_its_first_row() -> None:
    with pytest.raises(FileRefusedError) as refused:
        parse_sample("google_rss_broken.xml")
    assert refused.value.line == 4
    assert "line 4" in refused.value.message
    good = "<rss><channel><item><id>1</id><price>1 USD</price></item>"
    with pytest.raises(FileRefusedError, match="line 1"):
        parse(good)


def test_an_element_beyond_the_limits_refuses_the_feed_before_its_first_row() -> None:
    good = "<item><g:id>1</g:id><price>1 USD</price></item>"
    deep = "<item><id>2</id>" + "<a>" * 300 + "</a>" * 300 + "</item>"
    with pytest.raises(FileRefusedError, match="nested too deeply"):
        parse(f"<rss><channel>{good}{deep}</channel></rss>")
    long = f"<item><id>2</id><description>{'x' * 10_100_000}</description></item>"
    with pytest.raises(FileRefusedError, match="longer than 10 million"):
        parse(f"<rss><channel>{good}{long}</channel></rss>")


def test_an_item_with_too_many_elements_refuses_the_feed_and_is_not_read_in_part() -> None:
    picture = "<g:additional_image_link>https://img.example/a.jpg</g:additional_image_link>\n"
    for count in (1_990, 5_000):
        feed = f"<rss><channel>\n<item><g:id>1</g:id><g:price>1 USD</g:price>{picture * count}</item></channel></rss>"
        if count < 2_000:
            assert parse(feed).variants["1"].thumbnail == "https://img.example/a.jpg"
            continue
        with pytest.raises(FileRefusedError, match=r"at or before line \d+, has more than 2,000 elements"):
            parse(feed)


def test_the_column_of_a_fault_is_that_of_the_file_not_of_the_repaired_one() -> None:
    line = "<rss><channel><item><id>1</id><title>a & b & c & d</title><x></y></item></channel></rss>"
    with pytest.raises(FileRefusedError) as refused:
        parse(line, "google-rss")
    assert refused.value.line == 1
    assert abs((refused.value.column or 0) - line.index("</y>")) <= len("</y>") + 1


def test_atom_entries() -> None:
    item = parse_sample("google_atom.xml").items[0]
    assert (item.variant.id, item.variant.link, item.variant.price) == (
        "1",
        "https://shop.example/kettle",
        1200,
    )
    assert (item.product.title, item.product.description) == ("Kettle", "Boils")


def test_an_undeclared_prefix_is_read_like_a_declared_one() -> None:
    outcome = parse("<rss><channel><item><g:id>1</g:id><g:price>1 USD</g:price></item></channel></rss>")
    assert outcome.variants["1"].price == 100


def test_entities_of_the_feed_are_not_read() -> None:
    bomb = (
        '<!DOCTYPE rss [<!ENTITY a "ha"><!ENTITY b "&a;&a;"><!ENTITY c SYSTEM "file:///etc/hostname">]>'
        "<rss><channel><item><id>1</id><price>1 USD</price><title>&b;&c;</title></item></channel></rss>"
    )
    with pytest.raises(FileRefusedError, match="DTD"):
        parse(bomb)
    outside = '<!DOCTYPE rss SYSTEM "http://127.0.0.1:9/x.dtd">' + bomb.partition("]>")[2]
    assert parse(outside, "google-rss").items[0].product.title == "&b;&c;"


def test_meta_template_with_help_line() -> None:
    outcome = parse_sample("meta_template.csv")
    mug, second = outcome.items
    assert (mug.row, mug.product.title, mug.product.source) == (1, 'Mug, "large"', "google-csv")
    assert (mug.variant.price, mug.variant.special_price) == (49000, None)
    assert mug.variant.inventory == InventoryInput(
        track_inventory=True, quantity_on_hand=75, allow_backorder=False
    )
    assert (second.row, second.product.title, second.variant.availability) == (
        2,
        "Two\nlines",
        "out of stock",
    )
    assert second.variant.price == 59500
    assert not outcome.failures
    assert not outcome.warnings


def test_french_header_in_a_spreadsheets_charset() -> None:
    outcome = parse_sample("meta_template_fr.csv")
    item = outcome.items[0]
    assert (item.product.title, item.product.brand) == ("Théière à fleurs", "Émail")
    assert (item.variant.price, item.variant.availability) == (129900, "available for order")
    assert item.variant.thumbnail == "https://img.example/1.jpg"
    assert [warning.message for warning in outcome.warnings] == [
        "The file is not UTF-8; it was read as Windows-1252."
    ]


def test_own_headers_missing_currency_and_ragged_rows() -> None:
    outcome = parse_sample("own_headers.csv")
    assert list(outcome.variants) == ["p1", "p3"]
    first = outcome.items[0]
    assert (first.variant.price, first.variant.special_price) == (35200, 25200)
    assert first.variant.thumbnail == "https://img.example/1.webp"
    assert (first.variant.link, first.product.categories) == ("https://shop.example/p1", ["Perfumes"])
    [failure] = outcome.failures
    assert (failure.row, failure.field, failure.item_id, failure.rule) == (2, "row", None, "ragged_row")
    assert str(failure.value).startswith("p2")
    assert "7 cells" in failure.message


def test_tsv_survives_lone_quotation_marks() -> None:
    outcome = parse_sample("google.tsv")
    assert [item.row for item in outcome.items] == [1, 2, 3, 4]
    assert [item.product.title for item in outcome.items] == [
        "Best lamp",
        '"Unclosed lamp',
        "Plain lamp",
        'Last "lamp"',
    ]
    assert outcome.variants["3"].upc == "036000291452"
    assert outcome.variants["4"].ean == "4006381333931"
    assert outcome.variants["1"].barcode is None
    assert [(warning.row, warning.field, warning.item_id) for warning in outcome.warnings] == [
        (1, "gtin", "1"),
        (3, "availability", "3"),
    ]


def test_one_warning_per_file_for_prices_without_currency() -> None:
    outcome = parse(
        table(["id", "title", "Price"], ["1", "A", "10"], ["2", "B", "11.5"], ["3", "C", "12 USD"])
    )
    assert [variant.price for variant in outcome.variants.values()] == [1000, 1150, 1200]
    assert outcome.warnings == [
        RowWarning(
            0,
            "Price",
            "Prices in the file name no currency; they are read in USD, the store's currency.",
            None,
            "no_currency",
        )
    ]


def test_a_currency_column_counts() -> None:
    outcome = parse(
        table(["id", "title", "price", "currency"], ["1", "A", "10", "USD"], ["2", "B", "11", "EUR"])
    )
    assert outcome.variants["1"].price == 1000
    assert outcome.failures[0].message == "The price is in EUR, but the store sells in USD."
    assert not outcome.warnings


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("price", "ask us"),
        ("sale_price", "half"),
        ("sale_price_effective_date", "next week"),
        ("quantity", "plenty"),
    ],
)
def test_an_unreadable_value_fails_its_row_naming_column_and_value(column: str, value: str) -> None:
    header = ["id", "title", "link", column]
    outcome = parse(
        table(header, ["1", "A", "https://a.example", value], ["2", "B", "https://a.example", ""])
    )
    [failure] = outcome.failures
    assert (failure.row, failure.field, failure.item_id) == (1, column, "1")
    assert f'"{value}"' in failure.message
    assert list(outcome.variants) == ["2"]


def test_rows_without_price_picture_or_title_still_import() -> None:
    outcome = parse(table(["id", "title", "price", "image link"], ["1", "", "", ""], ["2", "B", "0 USD", ""]))
    assert [(item.product.title, item.variant.price) for item in outcome.items] == [(None, None), ("B", 0)]


def test_out_of_stock_with_pieces_counts_as_out_of_stock() -> None:
    outcome = parse(table(["id", "title", "availability", "inventory"], ["1", "A", "out of stock", "5"]))
    assert outcome.variants["1"].inventory == InventoryInput(
        track_inventory=False, quantity_on_hand=5, allow_backorder=False
    )
    assert [(one.field, one.rule) for one in outcome.warnings] == [("inventory", "contradicted_stock")]


@pytest.mark.parametrize(
    ("written", "words"),
    [("10.1266 USD", "was rounded to 10.13 USD"), ("10.126 USD", "was read as 10.13 USD")],
)
def test_a_price_finer_than_the_currency_is_rounded_and_said(written: str, words: str) -> None:
    outcome = parse(table(["id", "title", "price"], ["1", "A", written]))
    assert outcome.variants["1"].price == 1013
    [warning] = outcome.warnings
    assert (warning.rule, warning.value) == ("rounded_price", written)
    assert words in warning.message


def test_a_sale_that_ends_before_it_begins_is_left_out() -> None:
    outcome = parse(
        table(
            ["id", "title", "price", "sale price", "sale price effective date"],
            ["1", "A", "10 USD", "8 USD", "2026-05-02/2026-05-01"],
        )
    )
    assert outcome.variants["1"].special_price is None
    assert [(one.field, one.rule) for one in outcome.warnings] == [
        ("sale price effective date", "sale_window")
    ]


def test_blank_rows_are_counted_but_not_yielded() -> None:
    outcome = parse("\n\nid,title,price\n1,A,1 USD\n\n,,\n2,B,2 USD\n")
    assert [item.row for item in outcome.items] == [1, 4]
    assert len(outcome.rows) == 2


def test_a_named_format_refuses_a_file_of_another_kind() -> None:
    for format_name in ("google-rss", "google-csv", "google-tsv", "woocommerce-csv"):
        with pytest.raises(FileRefusedError, match="HTML page"):
            parse("<html><body>x</body></html>", format_name)
        with pytest.raises(FileRefusedError, match="empty"):
            parse("", format_name)
