"""Addresses that may be asked, in every spelling, and what may be seen of them."""

from __future__ import annotations

import ipaddress

import pytest

from meta_sync.core.outbound import (
    OutboundClient,
    RefusedAddressError,
)
from meta_sync.core.outbound_address import is_public_address, read_web_address

EVIL = [
    "",
    "   ",
    "feed.csv",
    "//shop.example/feed.csv",
    "file:///etc/passwd",
    "ftp://shop.example/feed.csv",
    "gopher://shop.example/",
    "data:text/csv,id",
    "javascript:alert(1)",
    "http:shop.example",
    "http:/shop.example",
    "http://",
    "http:///feed.csv",
    "http://:80/",
    "http://shop.example:/",
    "http://127.0.0.1/",
    "http://127.0.0.1:80/",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0x7F.0x0.0x0.0x1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://00000177.0.0.1/",
    "http://127.0.0.01/",
    "http://127.0.0.1./",
    "http://127.0.0.1../",
    "http://0/",
    "http://0.0.0.0/",
    "http://0x/",
    "http://1.2.3.4.5/",
    "http://999.1.1.1/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://100.100.100.200/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/",
    "http://0251.0376.0251.0376/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    "http://192.0.2.1/",
    "http://198.51.100.1/",
    "http://203.0.113.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::ffff:10.0.0.5]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::a00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[2606:4700::1111%1]/",
    "http://[ff02::1]/",
    "http://[fec0::1]/",
    "http://[::1",
    "http://[::1]x/",
    "http://[127.0.0.1]/",
    "http://[v1.a]/",
    "http://localhost/",
    "http://LOCALHOST/",
    "http://localhost./",
    "http://shop.localhost/",
    "http://metadata/",
    "http://metadata.google.internal/",
    "http://printer.local/",
    "http://user@shop.example/",
    "http://user:password@shop.example/",
    "http://shop.example@127.0.0.1/",
    "http://shop.example:80@127.0.0.1/",
    "http://@shop.example/",
    "http://shop.example\\@127.0.0.1/",
    "http://127.0.0.1\\.shop.example/",
    "http://shop.example%2f@127.0.0.1/",
    "http://127.0.0.1%2eshop.example/",
    "http://%31%32%37.0.0.1/",
    "http://shop.example%00/",
    "http://shop.example:22/",
    "http://shop.example:5432/",
    "http://shop.example:6379/",
    "http://shop.example:8080/",
    "http://shop.example:99999/",
    "http://shop.example:-80/",
    "http://shop.example:8０/",
    "http://shop.example:80:80/",
    "http://shop..example/",
    "http://.shop.example/",
    "http://-shop.example/",
    "http://shop.example../",
    "http://" + "a" * 64 + ".example/",
    "http://" + "a." * 130 + "example/",
    "http://shop.example/" + "a" * 2_000,
    "http://shop.example/feed file.csv",
    "http://shop.example/\nHost: other",
    "http://shop\t.example/",
    "http://shop.example/\x00",
    "http://１２７.０.０.１/",
    "http://127。0。0。1/",
    "http://①②⑦.0.0.1/",
    "http://ⓛocalhost/",
    "http://shop.exam\u200bple/",
    "http://shop.example／@127.0.0.1/",
    "http://sh!op.example/",
    "http://*.example/",
]


@pytest.mark.parametrize("url", EVIL)
def test_addresses_that_are_refused_as_they_are_written(url: str) -> None:
    with pytest.raises(RefusedAddressError) as refused:
        OutboundClient().read(url)
    assert not refused.value.is_passing
    assert refused.value.message.startswith("The address ")
    assert refused.value.message.endswith(".")
    assert "password" not in refused.value.message.replace("user name or password", "").replace(
        "username and password", ""
    )


GOOD = {
    "http://shop.example": ("http", "shop.example", 80, "/"),
    "  https://shop.example/a?b=c#d  ": ("https", "shop.example", 443, "/a?b=c"),
    "HTTPS://Shop.Example:443/Feed.CSV": ("https", "shop.example", 443, "/Feed.CSV"),
    "https://shop.example./x": ("https", "shop.example", 443, "/x"),
    "http://shop.example:443/": ("http", "shop.example", 443, "/"),
    "https://93.184.215.14/f": ("https", "93.184.215.14", 443, "/f"),
    "https://[2606:4700:0:0::1111]/f": ("https", "2606:4700::1111", 443, "/f"),
    "https://bücher.example/": ("https", "xn--bcher-kva.example", 443, "/"),
    "https://BÜCHER.example/": ("https", "xn--bcher-kva.example", 443, "/"),
    "https://shop_1.example?x": ("https", "shop_1.example", 443, "/?x"),
    "https://4shop.example/": ("https", "4shop.example", 443, "/"),
    "https://shop.example//evil.example/x": ("https", "shop.example", 443, "//evil.example/x"),
}


@pytest.mark.parametrize("url", GOOD)
def test_addresses_that_may_be_asked(url: str) -> None:
    read = read_web_address(url)
    assert (read.scheme, read.host, read.port, read.target) == GOOD[url]


def test_public_addresses() -> None:
    for public in ("8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"):
        assert is_public_address(ipaddress.ip_address(public)), public
    for inside in ("::", "::8.8.8.8", "2606:4700::1111%1", "64:ff9b::a00:1", "::ffff:100.64.0.1", "5f00::1"):
        assert not is_public_address(ipaddress.ip_address(inside)), inside


SHOWN = {
    "https://shop.example/feed.csv": "https://shop.example/feed.csv",
    "https://shop.example/feed.csv?token=s3cret&lang=de": "https://shop.example/feed.csv?token=***&lang=***",
    # A query without a name may be a key as a whole.
    "https://shop.example/f?s3cret": "https://shop.example/f?***",
    "https://shop.example/apikey/abc/lang/en": "https://shop.example/apikey/***/lang/en",
    "https://shop.example/x/4f9b2c7d8e1a0b3c5d6e/feed.xml": "https://shop.example/x/***/feed.xml",
    "https://shop.example/x/4f9b2c7d8e1a0b3c5d6e.xml": "https://shop.example/x/***.xml",
    "https://shop.example/x/4f9b2c7d8e1a0b3c5d6e.csv.gz": "https://shop.example/x/***.csv.gz",
    "https://shop.example/x/%34f9b2c7d8e1a0b3c5d6e:7": "https://shop.example/x/***",
    "https://shop.example/secret/4711.xml": "https://shop.example/secret/***.xml",
    "https://shop.example/products-of-the-whole-shop.csv": "https://shop.example/products-of-the-whole-shop.csv",
    "http://[2606:4700::1111]:443/": "http://[2606:4700::1111]:443/",
}


def test_what_may_be_seen_of_an_address() -> None:
    for url, shown in SHOWN.items():
        assert read_web_address(url).shown == shown
    assert "s3cret" not in repr(read_web_address("https://shop.example/f?token=s3cret"))


def test_names_of_files() -> None:
    assert read_web_address("https://s.example/a/my%20feed.csv?x=1").file_name == "my feed.csv"
    assert read_web_address("https://s.example/a/feed").file_name is None
    assert read_web_address("https://s.example/").file_name is None
    # It is shown, and some shops write the key to their feed there.
    assert read_web_address("https://s.example/a/4f9b2c7d8e1a0b3c5d6e.xml").file_name == "***.xml"
    assert read_web_address("https://s.example/token/4711.xml").file_name == "***.xml"
