"""The products edge: legacy names, filters that ignore case, cursors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sandbox.support import World, change, delete, error_of, retailer_ids, update


async def test_items_read_back_under_legacy_names(world: World) -> None:
    await world.report(
        update(
            "A",
            item_group_id="P",
            mpn="M-1",
            price="1234.5 EUR",
            sale_price="999 EUR",
            sale_price_effective_date="2026-01-01T00:00+00:00/2026-12-31T23:59+01:00",
            quantity_to_sell_on_facebook=7,
            additional_image_link=["https://s.example/2"],
            additional_variant_attribute="Scent:Fruity",
            custom_number_0=5,
        )
    )
    fields = (
        "id,name,url,image_url,additional_image_urls,manufacturer_part_number,retailer_product_group_id,price,currency,"
        "sale_price,sale_price_end_date,inventory,availability,product_group{id,retailer_id},custom_number_0,category,"
        "additional_variant_attributes,visibility,errors"
    )
    [node] = await world.found({"retailer_id": {"eq": "A"}}, fields)
    group = node.pop("product_group")
    assert group["retailer_id"] == "P"
    assert group["id"].isdigit()
    assert node.pop("id").isdigit()
    assert node == {
        "name": "T-shirt",
        "url": "https://shop.example/p/1",
        "image_url": "https://shop.example/i/1.jpg",
        "additional_image_urls": ["https://s.example/2"],
        "manufacturer_part_number": "M-1",
        "retailer_product_group_id": "P",
        "price": "€1,234.50",
        "currency": "EUR",
        "sale_price": "€999.00",
        "sale_price_end_date": "2026-12-31T23:59:00+0100",
        "inventory": 7,
        "availability": "in stock",
        "custom_number_0": "5",
        "category": "1604",
        "additional_variant_attributes": [{"key": "Scent", "value": "Fruity"}],
        "visibility": "published",
    }


async def test_default_fields(world: World) -> None:
    await world.report(update("A"))
    [node] = (await world.products())["data"]
    assert set(node) == {"id", "name", "retailer_id"}
    single = (await world.get(node["id"], fields="retailer_id,price")).json()
    assert single == {"retailer_id": "A", "price": "€19.90", "id": node["id"]}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"retailer_id": {"eq": "sku-1"}}, ["SKU-1", "sku-1"]),
        ({"retailer_id": {"is_any": ["SKU-2", "none", "SKU-1"]}}, ["SKU-1", "sku-1", "SKU-2"]),
        ({"retailer_id": {"i_contains": "KU-"}}, ["SKU-1", "sku-1", "SKU-2"]),
        ({"retailer_id": {"eq": "none"}}, []),
        ({"and": [{"name": {"i_contains": "HAT"}}, {"retailer_id": {"neq": "sku-2"}}]}, ['X"\\']),
        (
            {"or": [{"name": {"eq": "hat"}}, {"retailer_id": {"eq": "sku-1"}}]},
            ["SKU-1", "sku-1", "SKU-2", 'X"\\'],
        ),
        ({"retailer_id": {"eq": 'x"\\'}}, ['X"\\']),
    ],
)
async def test_filters_ignore_case(world: World, condition: dict[str, object], expected: list[str]) -> None:
    await world.report(
        update("SKU-1"), update("sku-1"), update("SKU-2", title="Hat"), update('X"\\', title="Hat")
    )
    assert retailer_ids(await world.found(condition)) == expected


async def test_filter_by_item_id(world: World) -> None:
    await world.report(update("A"), update("B"))
    second = world.catalog.graph_id("B")
    assert retailer_ids(await world.found({"product_item_id": {"is_any": [second]}})) == ["B"]


async def test_bad_filters(world: World) -> None:
    for text in ('{"shoe": {"eq": 1}}', '{"name": {"like": "x"}}', '["a"]', '{"and": 1}', '{"name": 1}'):
        assert error_of(await world.get(f"{world.catalog.id}/products", filter=text)) == (400, 100, None)


async def test_cursors_walk_forward_and_back(world: World) -> None:
    await world.report(*(update(f"A{number}") for number in range(5)))
    await world.report(delete("A1"))
    first = await world.products(limit=2, fields="retailer_id", summary="true")
    assert retailer_ids(first["data"]) == ["A0", "A2"]
    assert first["summary"] == {"total_count": 4}
    assert "previous" not in first["paging"]
    second = (await world.client.get(first["paging"]["next"])).json()
    assert retailer_ids(second["data"]) == ["A3", "A4"]
    assert "next" not in second["paging"]
    back = (await world.client.get(second["paging"]["previous"])).json()
    assert retailer_ids(back["data"]) == ["A0", "A2"]


async def test_an_item_added_while_paging_comes_last(world: World) -> None:
    await world.report(update("A"), update("B"))
    first = await world.products(limit=1, fields="retailer_id")
    await world.report(update("C"), change("A", title="New"))
    rest = await world.products(limit=5, fields="retailer_id", after=first["paging"]["cursors"]["after"])
    assert retailer_ids(rest["data"]) == ["B", "C"]


async def test_an_adverse_page_may_be_short_and_not_the_last(make_world: Callable[..., World]) -> None:
    world = make_world(profile="adverse", seed=5)
    world.state.faults.clear()
    await world.handle(*(update(f"A{number}") for number in range(200)))
    world.clock.forward(60)
    sizes, seen, params = set(), [], {"limit": 10, "fields": "retailer_id"}
    while True:
        page = await world.products(**params)
        sizes.add(len(page["data"]))
        seen += retailer_ids(page["data"])
        if "next" not in page["paging"]:
            break
        params["after"] = page["paging"]["cursors"]["after"]
    assert len(sizes) > 2
    assert len(seen) == len(set(seen)) == 200
