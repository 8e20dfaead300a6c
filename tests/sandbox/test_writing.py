"""items_batch and the reports: what is said at once, what later, and what is stored in the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meta_sync.sandbox.options import DEMO_CATALOG_ID
from tests.sandbox.support import BEARER, World, change, delete, error_of, item, update


async def test_an_accepted_call_answers_with_nothing_but_a_handle(world: World) -> None:
    response = await world.send(update("A"))
    assert list(response.json()) == ["handles"]
    [handle] = response.json()["handles"]
    assert handle.startswith("Ac")
    assert len(handle) == 90


async def test_items_are_stored_as_sent_and_merged(world: World) -> None:
    await world.report(
        update("A", sale_price="9 EUR", custom_number_1=7, additional_image_link=["https://s.example/1"])
    )
    assert world.catalog.items["A"] == item(
        "A", sale_price="9 EUR", custom_number_1=7, additional_image_link=["https://s.example/1"]
    )
    report = await world.report(change("A", price="25 EUR", sale_price="", additional_image_link=[]))
    assert report["errors"] == []
    assert world.catalog.items["A"] == item("A", price="25 EUR", custom_number_1=7)
    assert world.catalog.applied_counts == {"A": 2}


@pytest.mark.parametrize("empty", ["", None, [], {}])
async def test_an_empty_value_clears(world: World, empty: Any) -> None:
    await world.report(update("A", mpn="M-1"))
    await world.report(change("A", mpn=empty))
    assert "mpn" not in world.catalog.items["A"]


async def test_nothing_changes_before_the_batch_ends(world: World) -> None:
    await world.handle(update("A"))
    world.clock.forward(1.9)
    assert world.catalog.items == {}
    world.clock.forward(0.1)
    assert list(world.catalog.items) == ["A"]


async def test_the_way_of_a_status(make_world: Callable[..., World]) -> None:
    world = make_world(processing_delay_seconds=100)
    handle = await world.handle(update("A"))
    seen = []
    for _ in range(6):
        seen.append((await world.status(handle))["status"])
        world.clock.forward(20)
    assert seen == ["scheduled", "dispatched", "started", "started", "started", "finished"]


async def test_a_delete_of_nothing_is_no_error(world: World) -> None:
    await world.report(update("A"))
    report = await world.report(delete("A"), delete("never there"))
    assert report["errors_total_count"] == 0
    assert world.catalog.items == {}
    assert world.catalog.applied_counts == {"A": 2}


async def test_unknown_fields_are_warned_about_and_not_stored(world: World) -> None:
    response = await world.send(update("A", retailer_id="A", size_system="EU"))
    [status] = response.json()["validation_status"]
    assert status["retailer_id"] == "A"
    assert "errors" not in status
    assert [entry["message"] for entry in status["warnings"]] == [
        "Unrecognised field: A request for item A contains unrecognised field: 'retailer_id'",
        "Unrecognised field: A request for item A contains unrecognised field: 'size_system'",
    ]
    world.clock.forward(2)
    assert world.catalog.items["A"] == item("A")


async def test_an_id_twice_in_a_call_is_refused_at_once(world: World) -> None:
    response = await world.send(update("A"), update("B"), change("A", title="Later"))
    [status] = response.json()["validation_status"]
    assert status == {
        "retailer_id": "A",
        "errors": [{"message": "Duplicate retailer_id in batch api call - A."}],
    }
    world.clock.forward(2)
    assert list(world.catalog.items) == ["B"]


@pytest.mark.parametrize(
    "price",
    [
        "19,90 EUR",
        "$19.90",
        "19.90",
        "19.90  EUR",
        "1,234.50 EUR",
        "-5.00 EUR",
        "19.90 EUX",
        19.9,
        "EUR 19.90",
    ],
)
async def test_an_unreadable_price_is_refused_at_once(world: World, price: object) -> None:
    response = await world.send(update("A", price=price), update("B"))
    [status] = response.json()["validation_status"]
    assert status["retailer_id"] == "A"
    assert status["errors"] == [
        {"message": "The price information under  is invalid. Review for more details"}
    ]
    assert len(response.json()["handles"]) == 1


async def test_no_handle_when_every_record_was_refused(world: World) -> None:
    response = await world.send(update("A", price="free"))
    assert response.status_code == 200
    assert response.json()["handles"] == []


@pytest.mark.parametrize(
    ("lacking", "text"),
    [
        ("title", 'Products without "name" information'),
        ("description", "Descriptions are missing"),
        ("availability", "Products need to have availability"),
        ("price", "Products need to have prices"),
        ("condition", "without required field Condition"),
        ("link", "without required field Url"),
        ("image_link", "without required field ImageUrl"),
        ("brand", "without required field Brand"),
    ],
)
async def test_creating_needs_the_required_fields(world: World, lacking: str, text: str) -> None:
    record = update("A")
    del record["data"][lacking]
    report = await world.report(record, update("B"))
    [error] = report["errors"]
    assert error["id"] == "A"
    assert text in error["message"]
    assert report["ids_of_invalid_requests"] == ["A"]
    assert list(world.catalog.items) == ["B"]
    await world.report(update("A"))
    cleared = await world.report(change("A", **{lacking: ""}))
    assert cleared["errors_total_count"] == 1
    assert world.catalog.items["A"] == item("A")


@pytest.mark.parametrize("identifier", ["brand", "gtin", "mpn"])
async def test_one_identifier_is_enough(world: World, identifier: str) -> None:
    report = await world.report(update("A", **{"brand": "", identifier: "4006381333931"}))
    assert report["errors"] == []


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"link": "shop.example/p"}, "URL Incorrectly Formatted"),
        ({"link": "http://localhost:8000/p"}, "URL Incorrectly Formatted"),
        ({"link": "https://user:secret@shop.example/p"}, "URL Incorrectly Formatted"),
        ({"image_link": "https://shop.example/a b.jpg"}, "URL Incorrectly Formatted"),
        ({"additional_image_link": ["https://s.example/1", "none"]}, "URL Incorrectly Formatted"),
        ({"sale_price": "19.90 EUR"}, "sale price must be lower"),
        ({"sale_price": "5 USD"}, "sale price must be lower"),
        ({"price": "0 EUR"}, "must be greater than zero"),
        ({"availability": "in_stock"}, "The availability information under  is invalid"),
        ({"condition": "New"}, "The condition information"),
        ({"gender": "other"}, "The gender information"),
        ({"title": "x" * 201}, "The title information"),
        ({"description": "x" * 10_000}, "The description information"),
        ({"gtin": "400-638"}, "The gtin information"),
        ({"quantity_to_sell_on_facebook": -1}, "The quantity_to_sell_on_facebook information"),
        ({"custom_number_0": 2**32}, "The custom_number_0 information"),
        ({"sale_price_effective_date": "2026-01-01/2026-02-01"}, "The sale_price_effective_date information"),
        (
            {"additional_variant_attribute": "Scent:Fruity,Red"},
            "The additional_variant_attribute information",
        ),
        ({"item_group_id": "A"}, "is used by a product group"),
    ],
)
async def test_what_is_refused_later(world: World, fields: dict[str, Any], text: str) -> None:
    report = await world.report(update("A", **fields))
    assert [error["id"] for error in report["errors"]] == ["A"]
    assert text in report["errors"][0]["message"]
    assert world.catalog.items == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"link": "https://shop.example:8443/p?v=1#x", "mobile_link": "http://m.münchen.example/p"},
        {"gender": "Female", "age_group": "all ages"},
        {"sale_price_effective_date": "2026-04-30T09:30-08:00/2026-05-30T23:59-0300", "sale_price": "5 EUR"},
        {"additional_variant_attribute": "Scent:Fruity,Flavor:Apple", "custom_number_0": 2**32 - 1},
        {"price": "4000000 JPY", "quantity_to_sell_on_facebook": 0, "internal_label": ["a", "b"]},
        {"image": [{"url": "https://s.example/1", "tag": ["x"]}], "image_link": ""},
        {"id": 'ключ 🔑, : / \\ "'},
    ],
)
async def test_what_is_taken(world: World, fields: dict[str, Any]) -> None:
    report = await world.report(update("A", **fields))
    assert report["errors"] == []
    assert list(world.catalog.items) == [fields.get("id", "A")]


async def test_a_sale_is_compared_with_the_stored_price(world: World) -> None:
    await world.report(update("A", price="20 EUR", sale_price="15 EUR"))
    report = await world.report(change("A", price="12 EUR"))
    assert report["errors_total_count"] == 1
    assert world.catalog.items["A"]["price"] == "20 EUR"


async def test_ids_and_groups_share_one_name_space(world: World) -> None:
    await world.report(update("A", item_group_id="P"), update("B", item_group_id="P"))
    report = await world.report(update("P"))
    assert report["errors_total_count"] == 1
    report = await world.report(update("C", item_group_id="B"))
    assert report["errors_total_count"] == 1
    await world.report(delete("A"), change("B", item_group_id=""))
    assert (await world.report(update("P")))["errors_total_count"] == 0


async def test_without_upsert_an_unknown_item_is_not_created(world: World) -> None:
    report = await world.report(update("A"), allow_upsert=False)
    assert report["ids_of_invalid_requests"] == ["A"]
    assert world.catalog.items == {}


async def test_a_missing_category_is_only_a_warning(world: World) -> None:
    report = await world.report(update("A", google_product_category=""))
    assert report["warnings_total_count"] == 1
    assert report["errors_total_count"] == 0
    assert "google_product_category" in report["warnings"][0]["message"]
    assert list(world.catalog.items) == ["A"]


async def test_ids_of_invalid_requests_only_when_asked_for(world: World) -> None:
    handle = await world.handle(update("A", condition="old", availability="maybe"))
    world.clock.forward(2)
    quiet = await world.status(handle, load_ids_of_invalid_requests="false")
    assert quiet["ids_of_invalid_requests"] == []
    asked = await world.status(handle, fields="status,ids_of_invalid_requests,errors_total_count")
    assert asked == {"status": "finished", "errors_total_count": 2, "ids_of_invalid_requests": ["A", "A"]}


async def test_errors_are_paged_and_capped(make_world: Callable[..., World]) -> None:
    world = make_world(error_list_cap=5)
    handle = await world.handle(*(update(f"A{number}", condition="old") for number in range(8)))
    world.clock.forward(2)
    ids, params = [], {"handle": handle, "limit": 2}
    while True:
        body = (await world.get(f"{DEMO_CATALOG_ID}/check_batch_request_status", **params)).json()
        assert body["data"][0]["errors_total_count"] == 8
        ids += [error["id"] for error in body["data"][0]["errors"]]
        if "next" not in body["paging"]:
            break
        params["after"] = body["paging"]["cursors"]["after"]
    assert ids == ["A0", "A1", "A2", "A3", "A4"]


async def test_a_refused_id_stays_refused_until_that_is_lifted(world: World) -> None:
    world.state.refuse("A", "Not allowed here")
    world.state.refuse("B", "Not at all", catalog_id=DEMO_CATALOG_ID, immediate=True)
    response = await world.send(update("A"), update("B"))
    assert response.json()["validation_status"] == [
        {"retailer_id": "B", "errors": [{"message": "Not at all"}]}
    ]
    world.clock.forward(2)
    report = await world.status(response.json()["handles"][0])
    assert report["errors"] == [{"line": 1, "id": "A", "message": "Not allowed here"}]
    assert world.state.lift_refusal("A")
    assert world.state.lift_refusal("B", catalog_id=DEMO_CATALOG_ID)
    await world.report(update("A"), update("B"))
    assert list(world.catalog.items) == ["A", "B"]


async def test_limits_of_a_call(world: World) -> None:
    assert (await world.send(*(update(f"A{n}") for n in range(5000)))).status_code == 200
    assert error_of(await world.send(*(update(f"A{n}") for n in range(5001)))) == (400, 100, None)
    large = await world.send(update("A", description="x" * 28_000_000))
    assert error_of(large)[1] == 1
    assert "reduce the amount of data" in large.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"requests": []}',
        b'{"item_type": "PRODUCT_ITEM"}',
        b'{"item_type": "SHOE", "requests": []}',
        b'{"item_type": "PRODUCT_ITEM", "requests": {"a": 1}}',
        b'{"item_type": "PRODUCT_ITEM", "requests": ["a"]}',
        b'{"item_type": "PRODUCT_ITEM", "requests": "[{"}',
        b'{"item_type',
        b"[]",
    ],
)
async def test_bad_calls(world: World, body: bytes) -> None:
    headers = {**BEARER, "content-type": "application/json"}
    response = await world.client.post(f"/{DEMO_CATALOG_ID}/items_batch", content=body, headers=headers)
    assert error_of(response) == (400, 100, None)


async def test_records_that_are_none(world: World) -> None:
    response = await world.send(
        {"method": "UPDATE", "data": {}}, {"method": "PATCH", "data": {"id": "A"}}, {}
    )
    statuses = {entry["retailer_id"]: entry for entry in response.json()["validation_status"]}
    assert set(statuses) == {"", "A"}
    assert response.json()["handles"] == []


async def test_an_unknown_handle(world: World) -> None:
    response = await world.get(f"{DEMO_CATALOG_ID}/check_batch_request_status", handle="AcNone")
    assert error_of(response) == (400, 100, None)


async def test_clean_batches_end_in_the_order_of_acceptance(world: World) -> None:
    for number in range(5):
        await world.handle(update("A", title=f"Version {number}"))
    world.clock.forward(2)
    assert world.catalog.items["A"]["title"] == "Version 4"


async def test_adverse_batches_overtake_each_other_the_same_way_for_a_seed(
    make_world: Callable[..., World],
) -> None:
    async def final_titles(seed: int) -> list[str]:
        world = make_world(profile="adverse", seed=seed)
        world.state.faults.clear()
        titles = []
        for name in "ABCDEFGH":
            for number in range(4):
                await world.handle(update(name, title=f"Version {number}"))
            world.clock.forward(60)
            assert world.catalog.applied_counts[name] == 4
            titles.append(str(world.catalog.items[name]["title"]))
        return titles

    first = await final_titles(1)
    assert set(first) != {"Version 3"}
    assert await final_titles(1) == first
    assert await final_titles(2) != first
