"""The file formats of an import by name, and which of them a file is in."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from meta_sync.catalog.ingest.compression import inflate_head
from meta_sync.catalog.ingest.describe import describe
from meta_sync.catalog.ingest.formats.bagisto_csv import BagistoCsv
from meta_sync.catalog.ingest.formats.bagisto_xml import BagistoXml
from meta_sync.catalog.ingest.formats.google_csv import GoogleCsv
from meta_sync.catalog.ingest.formats.google_rss import GoogleRss
from meta_sync.catalog.ingest.formats.google_tsv import GoogleTsv
from meta_sync.catalog.ingest.formats.headerless_csv import HeaderlessCsv
from meta_sync.catalog.ingest.formats.json_products import JsonProducts, NdjsonProducts
from meta_sync.catalog.ingest.formats.magento_csv import MagentoCsv
from meta_sync.catalog.ingest.formats.medusa_csv import MedusaCsv
from meta_sync.catalog.ingest.formats.prestashop_csv import PrestaShopCsv
from meta_sync.catalog.ingest.formats.prestashop_xml import PrestaShopXml
from meta_sync.catalog.ingest.formats.saleor_json import SaleorJson
from meta_sync.catalog.ingest.formats.shopify_csv import ShopifyCsv
from meta_sync.catalog.ingest.formats.spree_csv import SpreeCsv
from meta_sync.catalog.ingest.formats.wix_csv import WixCsv
from meta_sync.catalog.ingest.formats.woocommerce_csv import WooCommerceCsv
from meta_sync.catalog.ingest.formats.yandex_yml import YandexYml
from meta_sync.catalog.ingest.rows import FileRefusedError, ImportFormat

__all__ = ["FORMATS", "detect", "format_by_name"]

_FORMATS: tuple[ImportFormat, ...] = (
    GoogleRss(),
    GoogleCsv(),
    GoogleTsv(),
    WooCommerceCsv(),
    ShopifyCsv(),
    MedusaCsv(),
    WixCsv(),
    SpreeCsv(),
    HeaderlessCsv(),
    BagistoCsv(),
    BagistoXml(),
    MagentoCsv(),
    PrestaShopCsv(),
    PrestaShopXml(),
    YandexYml(),
    SaleorJson(),
    JsonProducts(),
    NdjsonProducts(),
)
FORMATS: Mapping[str, ImportFormat] = MappingProxyType({format_.name: format_ for format_ in _FORMATS})
"""Every format by the name it has in the API."""

_SURE_ENOUGH = 0.5


def detect(head: bytes, file_name: str | None = None) -> ImportFormat:
    """The format of a file, or of the file that is compressed in it, from its first 64 KiB.

    The name decides nothing that the content does not.

    Raises
    ------
    FileRefusedError
        The file is in none of the formats; the message says what it seems to be.
    """
    head = inflate_head(head)
    sureness, format_ = max(
        ((format_.recognises(head, file_name), format_) for format_ in FORMATS.values()),
        key=lambda pair: pair[0],
    )
    if sureness < _SURE_ENOUGH:
        raise FileRefusedError(describe(head))
    return format_


def format_by_name(name: str) -> ImportFormat:
    """The format of this name.

    Raises
    ------
    FileRefusedError
        There is none; the message lists those there are.
    """
    if name not in FORMATS:
        raise FileRefusedError(
            f"There is no import format of that name; the formats are {', '.join(FORMATS)}."
        )
    return FORMATS[name]
