from __future__ import annotations

import gzip
from io import BytesIO

import pytest

from meta_sync.catalog.ingest.describe import describe
from meta_sync.catalog.ingest.detect import FORMATS, detect, format_by_name
from meta_sync.catalog.ingest.rows import FileRefusedError, FormatContext
from tests.unit.formats.reading import SAMPLES


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("google_rss.xml", "google-rss"),
        ("google_rss_ampersands.xml", "google-rss"),
        ("google_rss_broken.xml", "google-rss"),
        ("google_atom.xml", "google-rss"),
        ("meta_template.csv", "google-csv"),
        ("meta_template_fr.csv", "google-csv"),
        ("own_headers.csv", "google-csv"),
        ("google.tsv", "google-tsv"),
        ("wix.csv", "wix-csv"),
        ("wix_new.csv", "wix-csv"),
        ("spree.csv", "spree-csv"),
        ("headerless.csv", "headerless-csv"),
        ("bagisto.csv", "bagisto-csv"),
        ("bagisto.xml", "bagisto-xml"),
        ("yandex.xml", "yandex-yml"),
        ("saleor.json", "saleor-json"),
        ("magento.csv", "magento-csv"),
        ("magento_fixture.csv", "magento-csv"),
        ("prestashop.csv", "prestashop-csv"),
        ("prestashop.xml", "prestashop-xml"),
        ("prestashop_combinations.csv", "prestashop-csv"),
        ("prestashop_full_combinations.csv", "prestashop-csv"),
        ("prestashop_list.csv", "prestashop-csv"),
        ("prestashop_webservice.xml", "prestashop-xml"),
        ("products.json", "json"),
        ("products.ndjson", "ndjson"),
        ("flat.json", "json"),
        ("flat.ndjson", "ndjson"),
        ("medusa.csv", "medusa-csv"),
        ("medusa_v1.csv", "medusa-csv"),
        ("shopify.csv", "shopify-csv"),
        ("shopify_new.csv", "shopify-csv"),
        ("woocommerce.csv", "woocommerce-csv"),
        ("woocommerce_ru.csv", "woocommerce-csv"),
        ("woocommerce_de.csv", "woocommerce-csv"),
    ],
)
def test_samples_are_recognised_whatever_they_are_called(name: str, format_name: str) -> None:
    head = (SAMPLES / name).read_bytes()[:65_536]
    assert detect(head, name).name == format_name
    assert detect(head, "upload.bin").name == format_name
    assert detect(head, None).name == format_name


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \r\n\n", "is empty"),
        (b"<listings><listing><vehicle_id>1</vehicle_id></listing></listings>", "vehicle listing"),
        (b"vehicle_id,title,make,model,price\n1,Car,A,B,1 USD\n", "vehicle listing"),
        (b"\n<!DOCTYPE html><html><body>Login</body></html>", "HTML page"),
        (b"<html><head></head></html>", "HTML page"),
        (b"<rss><channel><item><title>News</title><link>x</link></item></channel></rss>", "not of products"),
        (
            b"<feed xmlns='http://www.w3.org/2005/Atom'><entry><id>1</id><title>News</title></entry></feed>",
            "not of products",
        ),
        (b"<urlset><url/></urlset>", "sitemap"),
        (b"<products><product/></products>", "<products>"),
        (b"Handle,Variant SKU\nmug,1\n", "read as shopify-csv and needs the columns Handle"),
        (b"handleId,fieldType,name\n1,Product,Mug\n", "a Wix product export; such a file is read as wix-csv"),
        (
            b"slug,sku,compare_at_price\nmug,M-1,10\n",
            "a Spree product export; such a file is read as spree-csv",
        ),
        (b"slug,locale,name,description\nmug,de,Tasse,Gro\xc3\x9f\n", "translations of texts, not products"),
        (
            b"sku,store_view_code,attribute_set_code,product_type,name\n1,,D,simple,M\n",
            "a Magento product export",
        ),
        (
            b"Product Id,Product Handle,Price\n1,a,1\n",
            "read as medusa-csv and needs the columns Product Handle",
        ),
        (b'{"products": []}', "JSON"),
        (b"PK\x03\x04rest", "ZIP archive"),
        (gzip.compress(b"id,title\n1,Mug\n", mtime=0), "needs at least id and title"),
        (bytes(range(256)) * 8, "not a text file"),
        (b"abc,Kettle,12.00\ndef,Mug,3.50\n", 'price and availability. Found: "abc", "Kettle"'),
        (b"id,title\n1,Mug\n", "needs at least id and title"),
    ],
)
def test_other_files_are_refused_with_what_they_seem_to_be(data: bytes, words: str) -> None:
    with pytest.raises(FileRefusedError) as refused:
        detect(data, None)
    assert words in refused.value.message
    assert refused.value.message.endswith(".")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            b'<rss xmlns:g="http://base.google.com/ns/1.0"><channel><item><g:id>1</g:id></item></channel></rss>',
            "an RSS or Atom feed of products",
        ),
        (
            b"<rss><channel><item><id>1</id><price>1 EUR</price></item></channel></rss>",
            "an RSS or Atom feed of products",
        ),
        (b"<yml_catalog><shop><offers/></shop></yml_catalog>", "a feed in Yandex Market Language"),
        (b"id,title,price\n1,Mug,1 EUR\n", "a table with the columns of a product feed"),
    ],
)
def test_a_feed_is_not_called_unreadable_because_another_format_was_asked_for(
    data: bytes, words: str
) -> None:
    with pytest.raises(FileRefusedError) as refused:
        list(FORMATS["shopify-csv"].parse(BytesIO(data), FormatContext(currency="EUR")))
    assert refused.value.message == (
        f"The file is {words}, not a file in the format that was asked for; without that it is recognised by itself."
    )


def test_a_list_of_barcodes_is_named() -> None:
    with pytest.raises(FileRefusedError, match="list of barcodes"):
        detect((SAMPLES / "barcodes.csv").read_bytes(), "barcodes.csv")


def test_a_feed_in_another_format_than_asked_for_is_not_called_headless() -> None:
    message = describe(b"id\ttitle\tprice\n1\tMug\t1 EUR\n")
    assert "needs at least" not in message
    assert "recognised by itself" in message


def test_formats_by_name() -> None:
    assert set(FORMATS) >= {"google-rss", "google-csv", "google-tsv", "woocommerce-csv"}
    assert all(name == format_.name for name, format_ in FORMATS.items())
    assert format_by_name("google-tsv") is FORMATS["google-tsv"]
    with pytest.raises(FileRefusedError, match="google-rss, google-csv, google-tsv, woocommerce-csv"):
        format_by_name("shopify")


@pytest.mark.parametrize(
    "head",
    [
        (
            b"Handle,Title,Option1 Name,Option1 Value,SKU,HS Code,COO,Location,Incoming,Available,On hand\n"
            b"mug,Mug,Title,Default Title,M-1,,,Shop,0,5,5\n"
        ),
        (
            b"Handle,Title,Option1 Name,Option1 Value,SKU,HS Code,COO,Main Street,Warehouse\n"
            b"mug,Mug,Title,Default Title,M-1,,,5,not stocked\n"
        ),
    ],
    ids=["rows", "columns"],
)
def test_shopifys_stock_is_named_for_what_it_is(head: bytes) -> None:
    with pytest.raises(FileRefusedError, match=r"Shopify's export of stock by location .* Export Products"):
        detect(head, "inventory_export.csv")
