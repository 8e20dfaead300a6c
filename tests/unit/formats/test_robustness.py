"""Whatever the bytes: rows and findings, or the file is refused. Never another error, never a growing memory."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import Buffer, override

from meta_sync.catalog.ingest.detect import FORMATS, detect
from meta_sync.catalog.ingest.encoding import HEAD_BYTES
from meta_sync.catalog.ingest.rows import FileRefusedError, FormatContext, ImportedVariant, Parsed
from meta_sync.core.text import text_fault
from tests.unit.formats.reading import SAMPLES

SAMPLE_BYTES = [path.read_bytes() for path in sorted(SAMPLES.iterdir())]


def exercise(data: bytes) -> None:
    """Detect and parse in every format; check what holds of any outcome."""
    try:
        detect(data[:HEAD_BYTES], "file.csv")
    except FileRefusedError as refused:
        assert refused.message.endswith(".")
    for format_ in FORMATS.values():
        rows: list[Parsed] = []
        try:
            context = FormatContext("USD", max_cell_chars=2_000)
            rows.extend(format_.parse(io.BytesIO(data), context))
        except FileRefusedError as refused:
            assert not rows, "a file is refused before its first row"
            assert text_fault(refused.message) is None
        for parsed in rows:
            if isinstance(parsed, ImportedVariant):
                assert parsed.variant.id
                assert text_fault(parsed.variant.id) is None
                assert text_fault(parsed.product.title or "") is None
            else:
                assert parsed.row >= 0


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_random_bytes(data: bytes) -> None:
    exercise(data)


@st.composite
def mutated_samples(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SAMPLE_BYTES)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 12))
        data[place : place + length] = draw(
            st.one_of(
                st.binary(max_size=6),
                st.sampled_from(
                    [b"&", b"<", b"]]>", b"<![CDATA[", b'"', b",", b"\n", b"\x00", b"\xff", b"&#0;", b"<!--"]
                ),
            )
        )
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@given(mutated_samples())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_samples(data: bytes) -> None:
    exercise(data)


class GeneratedFile(io.RawIOBase):
    """A seekable file that exists only as a rule: a head, one record many times, a tail."""

    def __init__(self, head: bytes, record: bytes, count: int, tail: bytes = b"") -> None:
        super().__init__()
        self._parts = (head, record, count, tail)
        self.measure_resident_bytes: Callable[[], Any] | None = None
        self.most_resident_bytes = 0
        self._chunks: Iterator[bytes] = iter(())
        self._left = b""
        self.seek(0)

    def _generate(self) -> Iterator[bytes]:
        head, record, count, tail = self._parts
        yield head
        for start in range(0, count, 500):
            if self.measure_resident_bytes is not None and start % 5_000 == 0:
                self.most_resident_bytes = max(self.most_resident_bytes, self.measure_resident_bytes().rss)
            yield b"".join(
                record.replace(b"@", str(number).encode()) for number in range(start, min(start + 500, count))
            )
        yield tail

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def seek(self, offset: int, whence: int = 0, /) -> int:
        assert (offset, whence) == (0, 0)
        self._chunks, self._left = self._generate(), b""
        return 0

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = chunk
        size = min(len(view), len(self._left))
        view[:size], self._left = self._left[:size], self._left[size:]
        return size


FEED_HEAD = b'<rss xmlns:g="http://base.google.com/ns/1.0"><channel><title>x</title>'
FEED_RECORD = b"<item><g:id>s@</g:id><title>Item @</title><g:price>@ USD</g:price></item>\n"
SALEOR_HEAD = b'[{"model": "product.producttype", "pk": 1, "fields": {}}'
SALEOR_RECORD = (
    b',{"model": "product.product", "pk": @, "fields": {"name": "N @"}}'
    b',{"model": "product.productvariant", "pk": @, "fields": {"product": @}}'
    b',{"model": "product.productvariantchannellisting", "pk": @,'
    b' "fields": {"variant": @, "currency": "USD", "price_amount": "@.00"}}\n'
)


@pytest.mark.parametrize(
    ("format_name", "file"),
    [
        (
            "google-csv",
            GeneratedFile(b"id,title,price,link\n", b"s@,Item @,@ USD,https://s.example/@\n", 80_000),
        ),
        ("google-rss", GeneratedFile(FEED_HEAD, FEED_RECORD, 40_000, b"</channel></rss>")),
        (
            "google-rss",
            GeneratedFile(FEED_HEAD, FEED_RECORD.replace(b"Item", b"R&D"), 40_000, b"</channel></rss>"),
        ),
        (
            "woocommerce-csv",
            GeneratedFile(b"ID,Type,Name,Published,Regular price\n", b"@,simple,N @,1,@\n", 40_000),
        ),
        (
            "bagisto-csv",
            GeneratedFile(b"sku,attribute_family_code,type,name,price\n", b"s@,d,simple,N @,@\n", 40_000),
        ),
        (
            "bagisto-xml",
            GeneratedFile(
                b'<products><product sku="a" attribute_family_code="d"/>',
                b'<product sku="s@" attribute_family_code="d" type="simple" price="@"/>\n',
                40_000,
                b"</products>",
            ),
        ),
        (
            "yandex-yml",
            GeneratedFile(
                b'<yml_catalog><shop><categories><category id="1">C</category></categories><offers>',
                b'<offer id="s@" group_id="g"><price>@ USD</price><categoryId>1</categoryId><name>N @</name></offer>\n',
                40_000,
                b"</offers></shop></yml_catalog>",
            ),
        ),
        (
            "saleor-json",  # every product with its one variant
            GeneratedFile(SALEOR_HEAD, SALEOR_RECORD, 20_000, b"]"),
        ),
        (
            "magento-csv",  # every second row is a product whose variant is the row before
            GeneratedFile(
                b"sku,attribute_set_code,product_type,name,price,configurable_variations\n",
                b'c@,D,simple,N @,@,\np@,D,configurable,P @,,"sku=c@,color=Red"\n',
                20_000,
            ),
        ),
        (
            "prestashop-csv",
            GeneratedFile(
                b"Product ID;Active (0/1);Name *;On sale (0/1);Price tax included\n", b"@;1;N @;0;@\n", 40_000
            ),
        ),
        (
            "prestashop-xml",
            GeneratedFile(
                b'<entity_product><product id="a" price="1"/>',
                b'<product id="@" price="@"/>\n',
                39_997,
                b"</entity_product>",
            ),  # and two remarks about the file
        ),
        (
            "shopify-csv",
            GeneratedFile(b"Handle,Title,Option1 Value,Variant Price\n", b"p@,P @,S,@\n", 40_000),
        ),
        (
            "medusa-csv",
            GeneratedFile(b"Product Id,Product Handle,Product Title,Price USD\n", b"i@,h@,P @,@\n", 40_000),
        ),
        (
            "wix-csv",
            GeneratedFile(
                b"handleId,fieldType,name,price,surcharge,productOptionDescription1\n",
                b"p@,Product,N @,1,,\np@,Variant,,,@,S\n",
                20_000,
            ),
        ),
        (
            "spree-csv",
            GeneratedFile(
                b"slug,sku,name,price,compare_at_price,currency,option1_name,option1_value\n",
                b"s@,K@,N @,@,,USD\n",
                40_000,
            ),
        ),
        ("headerless-csv", GeneratedFile(b"", b"A@,Some nice thing @,@.99 USD,x\n", 40_000)),
    ],
    ids=[
        "csv",
        "rss",
        "rss-repaired",
        "woocommerce",
        "bagisto",
        "bagisto-xml",
        "yandex",
        "saleor",
        "magento",
        "prestashop-csv",
        "prestashop-xml",
        "shopify",
        "medusa",
        "wix",
        "spree",
        "headerless",
    ],
)
def test_memory_does_not_grow_with_the_file(format_name: str, file: GeneratedFile) -> None:
    file.measure_resident_bytes = pytest.importorskip("psutil").Process().memory_info
    resident_bytes = file.measure_resident_bytes().rss
    rows = FORMATS[format_name].parse(cast("BinaryIO", file), FormatContext("USD"))
    count = _take(rows, 5_000)
    # Python's own memory is traced over a window, because tracing is slow; libxml2's shows in the process only.
    tracemalloc.start()
    try:
        count += _take(rows, 5_000)
        kept_bytes, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    count += sum(1 for _ in rows)
    assert count in {40_000, 40_001, 80_000}  # the repaired feed has a warning
    assert kept_bytes < 250_000  # a chunk of the file and its rows, not 5,000 rows
    assert peak_bytes < 2_000_000
    assert file.most_resident_bytes - resident_bytes < 25_000_000


def _take(rows: Iterator[object], count: int) -> int:
    return sum(1 for _ in zip(range(count), rows, strict=False))
