"""Item by item and field by field: take Meta's value into the catalog, or keep it at Meta in place of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from meta_sync.catalog.models import InventoryInput
from meta_sync.core.db import Database
from meta_sync.core.errors import NotFoundError
from meta_sync.sandbox.options import DEMO_CATALOG_ID, SandboxOptions
from meta_sync.sync.pins import PinsService
from tests.support.findings import JOB, find, states_of
from tests.support.pipeline import fetch, one
from tests.support.world import World, open_world, variant

_THEIRS = {"title": "Meta's title", "price": "29.90 EUR", "sale_price": "25.00 EUR", "color": "Red"}
_DIFFERENCES: dict[str, list[Any]] = {
    "title": ["Product p", "Meta's title"],
    "price": ["19.99 EUR", "€29.90"],
    "color": [None, "Red"],
}


@pytest.fixture(params=["clean", "adverse"])
async def world(request: Any, database: Database, database_url: str) -> AsyncIterator[World]:
    options = SandboxOptions(profile=request.param, processing_delay_seconds=0.01)
    async with open_world(database, database_url, options) as world:
        await world.connect()
        await world.put("p", variant("a", special_price=1500))
        await world.run()
        world.sandbox.catalog(DEMO_CATALOG_ID).items["a"].update(_THEIRS)
        await find(world, "different", "a", differences=_DIFFERENCES)
        yield world


def _pins(world: World) -> PinsService:
    return PinsService(world.database, world.queue)


async def test_what_is_taken_is_the_store_s_from_then_on(world: World) -> None:
    result = await _pins(world).take(
        world.store_id, JOB, {"a": ["title", "price", "color"]}, actor="somebody"
    )
    assert (result.done, result.not_done) == (["a"], [])
    stored = (await world.catalog.get_product(world.store_id, "p")).product
    taken = stored.variants[0]
    assert (stored.title, taken.price, taken.special_price, taken.options) == (
        "Meta's title",
        2990,
        2500,
        {"color": "Red"},
    )
    await world.run()
    await world.assert_right()
    assert world.at_meta()["a"]["title"] == "Meta's title"
    assert await states_of(world) == {"a": "taken"}
    again = await _pins(world).take(world.store_id, JOB, {"a": None}, actor="somebody")
    assert [one.code for one in again.not_done] == ["not_among_findings"]


async def test_fields_that_were_not_chosen_are_ours_again(world: World) -> None:
    await _pins(world).take(world.store_id, JOB, {"a": ["title"]}, actor="somebody")
    await world.run()
    await world.assert_right()
    found = world.at_meta()["a"]
    assert (found["title"], found["price"], found.get("color")) == ("Meta's title", "19.99 EUR", None)


async def test_what_is_pinned_stays_whatever_the_store_says_until_it_is_unpinned(world: World) -> None:
    result = await _pins(world).pin(world.store_id, JOB, {"a": ["title", "price"]}, actor="somebody")
    assert result.fields["a"] == {
        "title": "Meta's title",
        "price": "29.90 EUR",
        "sale_price": "25.00 EUR",
        "sale_price_effective_date": None,
    }
    await world.put("p", variant("a", 500), title="Ours anew", description="And this goes out")
    await world.run()
    found = world.at_meta()["a"]
    assert (found["title"], found["price"], found["sale_price"]) == ("Meta's title", "29.90 EUR", "25.00 EUR")
    assert (found["description"], "color" in found) == ("And this goes out", False)
    calls = world.calls()
    await world.jobs.start_bootstrap(world.store_id, requested_by="somebody")
    await world.run()
    assert world.calls() == calls
    assert await _pins(world).unpin(world.store_id, "a", fields=["title"], actor="x") == ["title"]
    await world.run()
    assert (world.at_meta()["a"]["title"], world.at_meta()["a"]["price"]) == ("Ours anew", "29.90 EUR")
    await _pins(world).unpin(world.store_id, "a", actor="x")
    await world.run()
    await world.assert_right()
    assert (await world.states())["a"]["pinned"] is None
    with pytest.raises(NotFoundError):
        await _pins(world).unpin(world.store_id, "a", actor="x")
    kinds = await fetch(world, "SELECT kind FROM item_events WHERE variant_id = 'a' ORDER BY at")
    assert [row[0] for row in kinds] == ["pinned", "unpinned", "unpinned"]
    actions = await fetch(world, "SELECT action FROM audit_log WHERE action LIKE 'item_%pinned' ORDER BY at")
    assert [row[0] for row in actions] == ["item_pinned", "item_unpinned", "item_unpinned"]


async def test_a_dry_run_tells_the_values_and_writes_none(world: World) -> None:
    for decide in (_pins(world).take, _pins(world).pin):
        result = await decide(world.store_id, JOB, {"a": ["title"]}, dry_run=True, actor="x")
        assert result.fields == {"a": {"title": "Meta's title"}}
    assert await one(world, "SELECT title FROM products") == "Product p"
    assert (await states_of(world), await fetch(world, "SELECT 1 FROM intents")) == ({"a": "agreed"}, [])


async def test_what_cannot_be_taken_says_why(world: World) -> None:
    await find(
        world, "different", "a", job_id="stock", differences={"availability": ["in stock", "out of stock"]}
    )
    stock = [("a", InventoryInput(quantity_on_hand=5))]
    await world.catalog.put_inventory(world.store_id, stock)
    tracked = await _pins(world).take(world.store_id, "stock", {"a": None}, actor="x")
    other = await _pins(world).take(world.store_id, JOB, {"a": ["description"]}, actor="x")
    await find(world, "different", "a", job_id="unclear", differences=_DIFFERENCES, price="1,2,3")
    unclear = await _pins(world).pin(world.store_id, "unclear", {"a": ["price"]}, actor="x")
    codes = [one.code.value for result in (tracked, other, unclear) for one in result.not_done]
    assert codes == ["stock_decides", "nothing_chosen", "price_unclear"]
