"""A file of any length is read in the same memory, in every format."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

import pytest
from typing_extensions import Buffer, override

from meta_sync.catalog.ingest.detect import FORMATS
from meta_sync.catalog.ingest.rows import FormatContext


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


# What counts lines of code would make this several times slower; other tests count them.
@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("format_name", "file"),
    [
        (
            "google-csv",
            GeneratedFile(b"id,title,price,link\n", b"s@,Item @,@ USD,https://s.example/@\n", 40_000),
        ),
        ("google-rss", GeneratedFile(FEED_HEAD, FEED_RECORD, 20_000, b"</channel></rss>")),
        (
            "google-rss",
            GeneratedFile(FEED_HEAD, FEED_RECORD.replace(b"Item", b"R&D"), 20_000, b"</channel></rss>"),
        ),
        (
            "woocommerce-csv",
            GeneratedFile(b"ID,Type,Name,Published,Regular price\n", b"@,simple,N @,1,@\n", 20_000),
        ),
        (
            "bagisto-csv",
            GeneratedFile(b"sku,attribute_family_code,type,name,price\n", b"s@,d,simple,N @,@\n", 20_000),
        ),
        (
            "bagisto-xml",
            GeneratedFile(
                b'<products><product sku="a" attribute_family_code="d"/>',
                b'<product sku="s@" attribute_family_code="d" type="simple" price="@"/>\n',
                20_000,
                b"</products>",
            ),
        ),
        (
            "yandex-yml",
            GeneratedFile(
                b'<yml_catalog><shop><categories><category id="1">C</category></categories><offers>',
                b'<offer id="s@" group_id="g"><price>@ USD</price><categoryId>1</categoryId><name>N @</name></offer>\n',
                20_000,
                b"</offers></shop></yml_catalog>",
            ),
        ),
        (
            "saleor-json",  # every product with its one variant
            GeneratedFile(SALEOR_HEAD, SALEOR_RECORD, 10_000, b"]"),
        ),
        (
            "magento-csv",  # every second row is a product whose variant is the row before
            GeneratedFile(
                b"sku,attribute_set_code,product_type,name,price,configurable_variations\n",
                b'c@,D,simple,N @,@,\np@,D,configurable,P @,,"sku=c@,color=Red"\n',
                10_000,
            ),
        ),
        (
            "prestashop-csv",
            GeneratedFile(
                b"Product ID;Active (0/1);Name *;On sale (0/1);Price tax included\n", b"@;1;N @;0;@\n", 20_000
            ),
        ),
        (
            "prestashop-xml",
            GeneratedFile(
                b'<entity_product><product id="a" price="1"/>',
                b'<product id="@" price="@"/>\n',
                19_997,
                b"</entity_product>",
            ),  # and two remarks about the file
        ),
        (
            "shopify-csv",
            GeneratedFile(b"Handle,Title,Option1 Value,Variant Price\n", b"p@,P @,S,@\n", 20_000),
        ),
        (
            "medusa-csv",
            GeneratedFile(b"Product Id,Product Handle,Product Title,Price USD\n", b"i@,h@,P @,@\n", 20_000),
        ),
        (
            "wix-csv",
            GeneratedFile(
                b"handleId,fieldType,name,price,surcharge,productOptionDescription1\n",
                b"p@,Product,N @,1,,\np@,Variant,,,@,S\n",
                10_000,
            ),
        ),
        (
            "spree-csv",
            GeneratedFile(
                b"slug,sku,name,price,compare_at_price,currency,option1_name,option1_value\n",
                b"s@,K@,N @,@,,USD\n",
                20_000,
            ),
        ),
        ("headerless-csv", GeneratedFile(b"", b"A@,Some nice thing @,@.99 USD,x\n", 20_000)),
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
    count = _take(rows, 2_500)
    # Python's own memory is traced over a window, because tracing is slow; libxml2's shows in the process only.
    tracemalloc.start()
    try:
        count += _take(rows, 2_500)
        kept_bytes, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    count += sum(1 for _ in rows)
    assert count in {20_000, 20_001, 40_000}  # the repaired feed has a warning
    assert kept_bytes < 150_000  # a chunk of the file and its rows, not 2,500 rows
    assert peak_bytes < 2_000_000
    assert file.most_resident_bytes - resident_bytes < 25_000_000


def _take(rows: Iterator[object], count: int) -> int:
    return sum(1 for _ in zip(range(count), rows, strict=False))
