"""A row that is a product and no item counts as no item either where it cannot be read."""

from __future__ import annotations

import json

import pytest

from tests.unit.formats.reading import parse

_WOO = "ID,Type,SKU,Name,Published,Description,In stock?,Stock,Regular price,Categories,Images,Parent\n"
_MAGENTO = "sku,product_type,name,product_online,price,visibility,attribute_set_code,qty,is_in_stock,configurable_variations\n"
_BAGISTO = "sku,type,locale,channel,attribute_family_code,name,url_key,status,price,inventories,configurable_variants\n"
_SPREE = "slug,sku,name,status,description,price,currency,inventory_count,option1_name,option1_value\n"
_LONG = "x" * 2_000
_MOST = 1_000


def _failed(data: str, format_name: str) -> list[tuple[str | None, bool]]:
    """Id and kind of each row that fails; there are no others but the good variation."""
    outcome = parse(data, format_name, cells=_MOST)
    assert len(outcome.items) == 1, outcome.rows
    return [(failure.item_id, failure.is_item) for failure in outcome.failures]


@pytest.mark.parametrize(
    ("format_name", "header", "variation", "parent", "single"),
    [
        (
            "woocommerce-csv",
            _WOO,
            "11,variation,,S,1,,1,1,10,,,id:10\n",
            "10,variable,,Shirt,{bad},{long},1,,,,,\n",
            "10,simple,,Shirt,{bad},{long},1,,3,,,\n",
        ),
        (
            "magento-csv",
            _MAGENTO,
            "11,simple,S,1,10,Catalog,Default,1,1,\n",
            "10,configurable,{long},{bad},,Catalog,Default,,1,sku=11\n",
            "10,simple,{long},{bad},3,Catalog,Default,,1,\n",
        ),
        (
            "bagisto-csv",
            _BAGISTO,
            "11,simple,en,default,default,S,s,1,10,default=1,\n",
            '10,configurable,en,default,default,{long},shirt,{bad},,,"sku=11,size=S"\n',
            "10,simple,en,default,default,{long},shirt,{bad},3,,\n",
        ),
        (
            "spree-csv",
            _SPREE,
            "10,11,S,active,,10,USD,1,Size,S\n",
            "10,,Shirt,{bad},{long},5,USD,,,\n",
            "20,10,Shirt,{bad},{long},3,USD,,,\n",
        ),
    ],
)
def test_a_product_that_cannot_be_read_is_no_item(
    format_name: str, header: str, variation: str, parent: str, single: str
) -> None:
    for bad, long in (("what", ""), ("1" if format_name != "spree-csv" else "active", _LONG)):
        for line, is_item in ((parent, False), (single, True)):
            data = header + variation + line.format(bad=bad, long=long)
            assert _failed(data, format_name) == [("10", is_item)], (bad, line)


def test_rows_whose_cells_do_not_fit_may_be_anything() -> None:
    data = _WOO + "11,variation,,S,1,,1,1,10,,,id:10\n10,variable,Shirt\n"
    assert _failed(data, "woocommerce-csv") == [(None, True)]


def test_saleor() -> None:
    fixture = [
        {"model": "product.product", "pk": 1, "fields": {"name": _LONG}},
        {"model": "product.productvariant", "pk": 5, "fields": {"product": 1}},
    ]
    outcome = parse(json.dumps(fixture), "saleor-json", cells=_MOST)
    assert [(one.item_id, one.is_item) for one in outcome.failures] == [(None, False)]
