"""Deciding over HTTP about what a reconciliation found: adopt, take, pin, unpin, delete."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.test_sync import connect
from tests.support.api import Caller, assert_error, product_body
from tests.support.findings import at_meta_item, find, put_at_meta
from tests.support.pipeline import execute
from tests.support.world import World

_PATH = "/admin/meta/reconciliations/job_reading"
_DIFFERENT: dict[str, list[Any]] = {"title": ["Product", "Theirs"], "brand": ["Acme", None]}


@pytest.fixture
async def shop(world: World, store: Caller) -> Caller:
    """A connected shop with a reconciliation that found two foreign items, one of a feed, and a different one."""
    await store.data("PUT", "/catalog/products/p", json=product_body("a"))
    await connect(store, enableSync=True)
    await world.run()
    put_at_meta(world, at_meta_item("one"), at_meta_item("two"))
    put_at_meta(world, at_meta_item("fed"), feed_id="7")
    await find(world, "foreign", "one", "two", "fed")
    await find(world, "different", "a", differences=_DIFFERENT, name="Theirs", brand=None)
    await execute(
        world,
        "INSERT INTO jobs (job_id, store_id, link_id, type, status, stage) SELECT 'job_reading', store_id, link_id, "
        "'reconciliation', 'success', 'done' FROM catalog_links WHERE active",
    )
    return store


async def test_adopting_over_http(world: World, shop: Caller) -> None:
    plan = await shop.data("POST", f"{_PATH}/adopt", json={"all": True, "dryRun": True})
    assert (plan["dryRun"], plan["adopted"], plan["products"]) == (True, 3, 0)
    done = await shop.data("POST", f"{_PATH}/adopt", json={"retailerIds": ["one", "nobody"]})
    assert (done["adopted"], done["products"], done["retailerIds"], done["remaining"]) == (
        1,
        1,
        ["one"],
        False,
    )
    [left] = done["notAdopted"]
    assert (left["retailerId"], left["code"]) == ("nobody", "not_among_findings")
    assert left["message"].endswith(".") and left["nextStep"].endswith(".")
    item = await shop.data("GET", "/admin/meta/items/one")
    assert (item["product"]["source"], item["syncStatus"]) == ("meta", "synced")
    assert (item["syncState"]["pinned"], item["syncState"]["graceUntil"]) == ({}, None)


@pytest.mark.parametrize(
    "body", [{}, {"all": True, "retailerIds": ["one"]}, {"retailerIds": []}, {"all": "yes"}]
)
async def test_adopting_wants_one_clear_choice(shop: Caller, body: dict[str, Any]) -> None:
    assert_error(await shop("POST", f"{_PATH}/adopt", json=body), 400, "VALIDATION_ERROR")


async def test_take_pin_and_delete_in_a_repair(world: World, shop: Caller) -> None:
    body: dict[str, Any] = {
        "pin": [{"retailerId": "a", "fields": ["title", "brand"]}],
        "deleteForeign": ["two", "fed"],
    }
    plan = await shop.data("POST", f"{_PATH}/repair", json={**body, "dryRun": True})
    assert [(one["retailerId"], one["decision"]) for one in plan["decided"]] == [
        ("a", "pinned"),
        ("two", "deleted"),
    ]
    done = await shop.data("POST", f"{_PATH}/repair", json=body)
    assert {**done, "dryRun": True} == plan, "nothing is repaired that was not chosen"
    assert done["decided"][0]["values"] == {"title": "Theirs", "brand": None}
    assert [(one["retailerId"], one["code"]) for one in done["notDone"]] == [("fed", "from_a_feed")]
    item = await shop.data("GET", "/admin/meta/items/a")
    assert item["syncState"]["pinned"] == {"title": "Theirs", "brand": None}
    assert item["mappedItemData"]["title"] == "Theirs"
    await world.run()
    assert world.at_meta().keys() == {"a", "one", "fed"}
    unpinned = await shop.data("POST", "/admin/meta/items/a/unpin", json={"fields": ["brand"]})
    assert unpinned == {"variantId": "a", "fields": ["brand"]}
    assert (await shop.data("POST", "/admin/meta/items/a/unpin"))["fields"] == ["title"]
    assert_error(await shop("POST", "/admin/meta/items/a/unpin"), 404, "NOT_FOUND")


async def test_taken_values_are_in_the_catalog(world: World, shop: Caller) -> None:
    done = await shop.data(
        "POST", f"{_PATH}/repair", json={"take": [{"retailerId": "a", "fields": ["title"]}]}
    )
    assert done["decided"] == [{"retailerId": "a", "decision": "taken", "values": {"title": "Theirs"}}]
    assert (await shop.data("GET", "/catalog/products/p"))["title"] == "Theirs"
    await world.run()
    assert world.at_meta()["a"]["title"] == "Theirs"


async def test_another_store_s_reconciliation_is_none(shop: Caller) -> None:
    for path in (f"{_PATH}/adopt", f"{_PATH}/repair"):
        missing = path.replace("job_reading", "job_unknown")
        assert_error(
            await shop("POST", missing, json={"all": True} if "adopt" in path else {}), 404, "NOT_FOUND"
        )


async def test_a_grace_is_shown(world: World, shop: Caller) -> None:
    await shop.data("PATCH", "/admin/meta/settings", json={"deleteGraceDays": 2})
    await shop.data("PUT", "/catalog/products/p", json={**product_body("a"), "status": "draft"})
    await world.run()
    item = await shop.data("GET", "/admin/meta/items/a")
    assert item["syncState"]["errorCode"] == "delete_grace"
    assert item["syncState"]["graceUntil"] is not None
    listed = (await shop("GET", "/admin/meta/items?errorCode=delete_grace")).json()
    assert [one["variantId"] for one in listed["data"]] == ["a"]
