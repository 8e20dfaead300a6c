"""Real feeds, kept beside the project because most state no licence. Prints one line per file (``pytest -s``)."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from meta_sync.catalog.ingest.detect import FORMATS, detect
from meta_sync.catalog.ingest.encoding import read_head
from meta_sync.catalog.ingest.rows import FileRefusedError, FormatContext, RowFailure, RowSkip, RowWarning
from tests.unit.formats.reading import Outcome

DATA = Path(__file__).parents[3].parent / "shared" / "data"
_GEAR = "stores/magento/Catalog_SimpleProduct_products_gear"
FILES = {
    # file: (format, currency, items, parents, failures, skips, warnings)
    "big/samsung_uk_crawl.ndjson": ("ndjson", "GBP", 721, 0, 29, 0, 1),
    "big/thai_thaiwatsadu_38k.json.gz": ("json", "THB", 38_189, 0, 224, 0, 1),
    "feeds/aliexpress_yml_ru.xml": ("yandex-yml", "RUB", 88, 0, 0, 0, 2),
    "feeds/awin_product_feed_swimwear.csv": ("google-csv", "EUR", 48, 0, 0, 0, 0),
    "feeds/google_atom_ru_ekipland.xml": ("google-rss", "RUB", 385, 0, 0, 0, 0),
    "feeds/google_csv_emirates_en.csv": ("google-csv", "AED", 263, 0, 0, 0, 0),
    "feeds/google_rss_es_opispot_variants.xml": ("google-rss", "USD", 486, 0, 0, 0, 0),
    "feeds/google_rss_faragent.xml": ("google-rss", "USD", 2, 0, 0, 0, 0),
    "feeds/google_rss_pt_mattos.xml": ("google-rss", "BRL", 5, 0, 0, 0, 1),
    "feeds/google_rss_ramiel.xml": ("google-rss", "USD", 25, 0, 0, 0, 0),
    "feeds/google_rss_ru_ola.xml": ("google-rss", "RUB", 25, 0, 0, 0, 0),
    "feeds/google_rss_tr_mevlana.xml": ("google-rss", "TRY", 216, 0, 0, 0, 0),
    "feeds/google_tsv_es_ar_petsstore.tsv": ("google-tsv", "ARS", 381, 0, 0, 0, 0),
    "feeds/google_tsv_gmc_learning.tsv": ("google-tsv", "EUR", 22, 0, 0, 0, 0),
    "feeds/meta_csv_es_santopadre.csv": ("google-csv", "USD", 25, 0, 0, 0, 0),
    "feeds/meta_rss_es_santopadre.xml": ("google-rss", "USD", 21, 0, 0, 0, 0),
    "feeds/meta_rss_kspatthar.xml": ("google-rss", "INR", 5, 0, 0, 0, 0),
    "feeds/meta_rss_sundorica.xml": ("google-rss", "BDT", 41, 0, 0, 0, 0),
    "meta_template/meta_template_en.csv": ("google-csv", "USD", 1, 0, 0, 0, 1),
    "meta_template/meta_template_fr.csv": ("google-csv", "TND", 1, 0, 0, 0, 0),
    "meta_template/meta_template_short_excel_mangled.csv": ("google-csv", "USD", 3, 0, 0, 0, 3),
    "stores/bagisto_products.csv": ("bagisto-csv", "USD", 8, 1, 0, 2, 1),
    "stores/bagisto_products.xml": ("bagisto-xml", "USD", 8, 1, 0, 2, 1),
    "stores/bagisto_products-with-errors.csv": ("bagisto-csv", "USD", 1, 0, 1, 0, 0),
    "stores/bagisto_products-image-urls.csv": ("bagisto-csv", "USD", 2, 0, 0, 0, 0),
    "stores/bagisto_products-directory-images.csv": ("bagisto-csv", "USD", 2, 0, 0, 0, 0),
    "stores/magento/Bundle_yoga_bundle.csv": ("magento-csv", "USD", 0, 0, 0, 1, 0),
    f"{_GEAR}_bags.csv": ("magento-csv", "USD", 14, 0, 0, 0, 0),
    f"{_GEAR}_fitness_equipment.csv": ("magento-csv", "USD", 9, 0, 0, 0, 0),
    f"{_GEAR}_fitness_equipment_ball.csv": ("magento-csv", "USD", 9, 0, 0, 0, 0),
    f"{_GEAR}_fitness_equipment_strap.csv": ("magento-csv", "USD", 3, 0, 0, 0, 0),
    f"{_GEAR}_watches.csv": ("magento-csv", "USD", 9, 0, 0, 0, 0),
    "stores/magento/Configurable_products.csv": ("magento-csv", "USD", 1_847, 147, 0, 0, 0),
    "stores/magento/Downloadable_products_training_video_download.csv": ("magento-csv", "USD", 6, 0, 0, 0, 0),
    "stores/magento/GroupedProduct_yoga_grouped.csv": ("magento-csv", "USD", 0, 0, 0, 1, 0),
    "stores/prestashop/product.xml": ("prestashop-xml", "EUR", 7, 0, 0, 0, 5),
    "big/amazon_uk_toys_10k.csv": ("headerless-csv", "GBP", 10_000, 0, 0, 0, 2),
    "stores/spree_import_fixture.csv": ("spree-csv", "USD", 15, 2, 0, 0, 0),
    "stores/spree_products.csv": ("spree-csv", "USD", 87, 37, 0, 0, 0),
    "stores/wix_export_tutus.csv": ("wix-csv", "GBP", 2652, 77, 0, 0, 48),
    "stores/saleor_populatedb_data.json": ("saleor-json", "USD", 73, 32, 0, 0, 0),
    "stores/medusa/exported-products-comma.csv": ("medusa-csv", "EUR", 3, 0, 0, 0, 1),
    "stores/medusa/exported-products-semicolon.csv": ("medusa-csv", "EUR", 3, 0, 0, 0, 1),
    "stores/medusa/filtered-products.csv": ("medusa-csv", "EUR", 1, 0, 0, 0, 1),
    "stores/medusa/invalid-column.csv": ("medusa-csv", "EUR", 1, 0, 0, 0, 1),
    "stores/medusa/invalid-prices.csv": ("medusa-csv", "EUR", 1, 0, 0, 0, 1),
    "stores/medusa/prices-with-region.csv": ("medusa-csv", "USD", 1, 0, 0, 0, 1),
    "stores/medusa/product-with-categories.csv": ("medusa-csv", "EUR", 2, 0, 0, 0, 1),
    "stores/medusa/unrelated-column.csv": ("medusa-csv", "EUR", 1, 0, 0, 0, 1),
    "stores/medusa/v1-template.csv": ("medusa-csv", "USD", 5, 0, 0, 0, 1),
    "stores/shopify_apparel.csv": ("shopify-csv", "USD", 22, 0, 0, 0, 0),
    "stores/shopify_export_nl_markets.csv": ("shopify-csv", "EUR", 1477, 0, 0, 0, 0),
    "stores/shopify_export_swimwear.csv": ("shopify-csv", "EUR", 130, 0, 0, 0, 1),
    "stores/shopify_home-and-garden.csv": ("shopify-csv", "USD", 21, 0, 0, 0, 0),
    "stores/shopify_jewelery.csv": ("shopify-csv", "USD", 23, 0, 0, 0, 0),
    "stores/shopify_product_template.csv": ("shopify-csv", "USD", 16, 0, 0, 0, 0),
    "stores/woocommerce_export_ru.csv": ("woocommerce-csv", "RUB", 9, 0, 0, 0, 0),
    "stores/woocommerce_importer_fixture.csv": ("woocommerce-csv", "USD", 2, 1, 3, 1, 0),
    "stores/woocommerce_sample_products.csv": ("woocommerce-csv", "USD", 21, 2, 0, 1, 3),
}
REFUSED = {
    "feeds/meta_rss_vehicles_mw.xml": "vehicle listing",
    "stores/magento/Catalog_attributes.csv": "Magento's product attributes",
    "stores/magento/Configurable_attributes.csv": "Magento's product attributes",
    "stores/magento/Downloadable_attributes.csv": "Magento's product attributes",
    "stores/magento/Msrp_products_msrp.csv": "suggested retail prices",
    "stores/prestashop/attribute.xml": "list of attributes",
    "stores/prestashop/attribute_group.xml": "list of attribute groups",
    "stores/prestashop/image.xml": "list of images",
    "stores/prestashop/lang_en_attribute.xml": "list of attributes",
    "stores/prestashop/lang_en_attribute_group.xml": "list of attribute groups",
    "stores/prestashop/lang_en_category.xml": "list of categories",
    "stores/prestashop/lang_en_product.xml": "belong to product.xml",
    "stores/prestashop/product_attribute.xml": "list of combinations",
    "stores/prestashop/product_attribute_combination.xml": "attributes of each combination",
    "stores/prestashop/specific_price.xml": "specific prices",
    "stores/prestashop/stock_available.xml": "list of stock",
    "stores/spree_product_translations.csv": "translations of texts",
}

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(
        not DATA.is_dir(), reason="the folder shared/data with real feeds is not beside the project"
    ),
]


@pytest.mark.parametrize("name", FILES)
def test_real_files_are_recognised_and_read(name: str) -> None:
    format_name, currency, *expected = FILES[name]
    with (DATA / name).open("rb") as packed:
        chosen = detect(read_head(packed), name)
    with gzip.open(DATA / name) if name.endswith(".gz") else (DATA / name).open("rb") as file:
        outcome = Outcome(list(chosen.parse(cast("BinaryIO", file), FormatContext(currency))))
    counts = [
        len(rows)
        for rows in (outcome.items, outcome.parents, outcome.failures, outcome.skips, outcome.warnings)
    ]
    last = max(row.row for row in outcome.rows)
    findings: list[RowFailure | RowSkip | RowWarning] = [*outcome.failures, *outcome.skips, *outcome.warnings]
    reasons = sorted({f"{row.field}: {row.message}" for row in findings})
    print(f"\n{name} | {chosen.name} | {last} rows | {counts} | {'; '.join(reasons[:3])}")
    assert chosen.name == format_name
    assert counts == expected
    assert all(product.source == format_name for product in outcome.products.values())


@pytest.mark.parametrize("name", REFUSED)
def test_other_real_files_are_refused_with_what_they_are(name: str) -> None:
    with (DATA / name).open("rb") as file:
        head = read_head(file)
    with pytest.raises(FileRefusedError, match=REFUSED[name]):
        detect(head, name)


def test_the_whole_of_a_real_feed_arrives() -> None:
    with (DATA / "feeds/google_rss_es_opispot_variants.xml").open("rb") as file:
        outcome = Outcome(list(FORMATS["google-rss"].parse(file, FormatContext("USD"))))
    assert len({product.id for product in outcome.products.values()}) == 23
    assert sum(len(variant.images) + 1 for variant in outcome.variants.values()) > 486
    assert all(variant.price and variant.link and variant.options for variant in outcome.variants.values())
