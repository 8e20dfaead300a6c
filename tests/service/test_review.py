"""What a hostile or unlucky outside must not be able to do: stall a process, read a secret, pass for another role."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from meta_sync.catalog.ingest.describe import root_element
from meta_sync.catalog.ingest.detect import detect, format_by_name
from meta_sync.catalog.ingest.formats.slugs import wordpress_slug
from meta_sync.catalog.ingest.rows import FileRefusedError, FormatContext, ImportedVariant
from meta_sync.catalog.ingest.values import split_images


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail instead of hanging: a pattern that backtracks for ever still looks at signals."""

    def stop(*_: object) -> None:
        raise AssertionError(f"still at it after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- files that are made to take long -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"<!DOCTYPE x " + b"[]" * 30_000,
        b"<!DOCTYPE x " + b"[" * 60_000,
        b"<!DOCTYPE x [" + b"] " * 30_000,
        b"<?a?>" * 13_000,
        b"<!--" * 16_000,
    ],
    ids=["pairs", "open", "closed", "instructions", "comments"],
)
def test_no_head_of_a_file_takes_long_to_recognise(head: bytes) -> None:
    with within(5), pytest.raises(FileRefusedError):
        detect(head, None)


def test_what_stands_before_the_first_element_is_still_passed_over() -> None:
    prolog = '<?xml version="1.0"?>\n<!-- a > b -->\n<!DOCTYPE rss [ <!ENTITY x "y"> ] >\n'
    assert root_element(prolog + "<rss><a/></rss>") == "rss"
    assert root_element('<!DOCTYPE feed SYSTEM "feed.dtd"><feed/>') == "feed"
    assert root_element("<!DOCTYPE html><p>") == "html"


LONG = 90_000


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("additional_variant_attribute", " " * LONG),
        ("additional_variant_attribute", "a" + " " * LONG),
        ("additional_image_link", "http://a" + " " * LONG),
        ("additional_image_link", "http://a" + ", " * (LONG // 2)),
        ("price", ",-" * (LONG // 2)),
        ("price", "1" + " " * LONG),
    ],
)
def test_no_cell_takes_long_to_read(column: str, cell: str) -> None:
    row = {"id": "1", "title": "T", "price": "1 EUR", "link": "https://a.example", column: cell}
    file = ("\t".join(row) + "\n" + "\t".join(row.values()) + "\n").encode()
    with within(5):
        assert list(format_by_name("google-tsv").parse(io.BytesIO(file), FormatContext("EUR")))


def test_no_product_name_takes_long_to_make_an_address_of() -> None:
    with within(2):
        assert wordpress_slug("<" * LONG) is None
    assert wordpress_slug("A <b>Shirt</b>") == "a-shirt"


def test_attributes_and_images_are_split_as_before() -> None:
    row = "id\ttitle\tprice\tadditional_variant_attribute\n1\tT\t1 EUR\t Fit : Slim,, Note:10:30 ,Cut:, :x\n"
    parsed = list(format_by_name("google-tsv").parse(io.BytesIO(row.encode()), FormatContext("EUR")))
    (item,) = [one for one in parsed if isinstance(one, ImportedVariant)]
    assert item.variant.options == {"Fit": "Slim", "Note": "10:30"}
    assert split_images(["http://a/1,2.jpg , http://b//c.jpg|//d/e.jpg  https://f ; http://g ,"]) == [
        "http://a/1,2.jpg",
        "http://b//c.jpg",
        "//d/e.jpg",
        "https://f",
        "http://g ,",
    ]
