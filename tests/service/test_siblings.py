"""A product's count of variants crossing one and two changes every sibling's payload; an id once sent never changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from meta_sync.catalog.ingest.import_runner import ImportRunner
from meta_sync.catalog.ingest.imports import ImportService
from meta_sync.catalog.models import VariantInput
from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.core.failpoints import FailpointError, arm, disarm_all
from meta_sync.sync.outbox import OutboxSink
from tests.support.pipeline import assert_tidy, fetch
from tests.support.world import World, open_world, product, variant


def _v(variant_id: str) -> VariantInput:
    """A variant that needs nothing of its product's: a file writes products in its own way."""
    link = f"https://shop.example/{variant_id}"
    return variant(variant_id, thumbnail=f"{link}.jpg", link=link)


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    """A product of one variant, one of two, one of three."""
    async with open_world(database, database_url) as world:
        await world.connect()
        await world.catalog.put_products(
            world.store_id,
            [
                product("one", _v("a")),
                product("two", _v("b"), _v("c")),
                product("three", _v("d"), _v("e"), _v("f")),
            ],
        )
        await world.run()
        yield world
        disarm_all()


async def _import(world: World, *rows: str) -> None:
    header = "id,title,price,link,image_link,availability,brand,item_group_id,mpn"
    service = ImportService(world.database, world.queue, max_upload_bytes=1_000_000)
    import_id = await service.create(world.store_id, file_name="feed.csv")
    await service.append_chunk(world.store_id, import_id, 0, "\n".join([header, *rows]).encode())
    await service.finish_upload(world.store_id, import_id)
    runner = ImportRunner(world.database, OutboxSink(), world.queue, utc_now)
    assert await runner.run_next()
    view = await service.get(world.store_id, import_id)
    assert view.status == "success", view


async def _a_variant_more(world: World) -> None:
    await world.put("one", _v("a"), _v("new"))


async def _a_variant_less(world: World) -> None:
    await world.put("two", _v("c"))


async def _moved_away(world: World) -> None:
    await world.put("one", _v("a"), _v("b"))


async def _in_one_batch(world: World) -> None:
    await world.catalog.put_products(
        world.store_id, [product("one", _v("a"), _v("new")), product("two", _v("c"))]
    )


async def _third_of_three(world: World) -> None:
    await world.put("three", _v("d"), _v("e"))


async def _from_a_file(world: World) -> None:
    await _import(
        world, "new,Product one,5.00 EUR,https://s.example/n,https://s.example/n.jpg,in stock,Acme,one,x"
    )


async def _moved_by_a_file(world: World) -> None:
    await _import(
        world, "b,Product one,5.00 EUR,https://s.example/b,https://s.example/b.jpg,in stock,Acme,one,x"
    )


_CHANGES: list[tuple[Callable[[World], Awaitable[None]], set[str], dict[str, str | None]]] = [
    (_a_variant_more, {"a", "new"}, {"a": "one", "new": "one"}),
    (_a_variant_less, {"b", "c"}, {"c": None}),
    (_moved_away, {"a", "b", "c"}, {"a": "one", "b": "one", "c": None}),
    (_in_one_batch, {"a", "new", "b", "c"}, {"a": "one", "new": "one", "c": None}),
    (_third_of_three, {"f"}, {"d": "three", "e": "three"}),
    (_from_a_file, {"a", "new"}, {"a": "one", "new": "one"}),
    (_moved_by_a_file, {"a", "b", "c"}, {"a": "one", "b": "one", "c": None}),
]


@pytest.mark.parametrize(
    ("change", "intended", "groups"), _CHANGES, ids=[one[0].__name__ for one in _CHANGES]
)
async def test_every_sibling_gets_its_intent_with_the_change(
    world: World,
    change: Callable[[World], Awaitable[None]],
    intended: set[str],
    groups: dict[str, str | None],
) -> None:
    await change(world)
    rows = await fetch(world, "SELECT variant_id FROM intents")
    if change is _from_a_file or change is _moved_by_a_file:
        # The row of the file is the product's too.
        assert {row[0] for row in rows} >= intended
    else:
        assert {row[0] for row in rows} == intended
    await world.run()
    await assert_tidy(world)
    held = world.at_meta()
    assert {one: held[one].get("item_group_id") for one in groups} == groups


@pytest.mark.parametrize("change", [_a_variant_more, _a_variant_less, _moved_away])
async def test_the_siblings_are_in_the_same_transaction(
    world: World, change: Callable[[World], Awaitable[None]]
) -> None:
    arm("catalog.before_commit", "raise")
    with pytest.raises(FailpointError):
        await change(world)
    disarm_all()
    assert await fetch(world, "SELECT 1 FROM intents") == []
    calls = world.calls()
    await world.run()
    await assert_tidy(world)
    assert world.calls() == calls


async def test_a_sibling_in_flight_is_decided_again(world: World) -> None:
    """On its way as the only variant when the second comes."""
    await world.put("one", variant("a", 5))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    await world.put("one", variant("a", 5), variant("new"))
    await world.run(pipeline)
    await assert_tidy(world)
    assert world.at_meta()["a"]["item_group_id"] == "one"


async def test_an_id_that_was_sent_outlives_its_template_and_its_sku(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"retailerIdTemplate": "{sku}"})
    await world.put("p", variant("new"))
    await world.run()
    assert set(world.at_meta()) == {"a", "b", "c", "d", "e", "f", "SKU-new"}, "only what was never sent"
    renamed = variant("new", 700)
    renamed.sku = "RENAMED"
    await world.put("p", renamed)
    await world.put("one", variant("a", 800))
    await world.run()
    await assert_tidy(world)
    held = world.at_meta()
    assert set(held) == {"a", "b", "c", "d", "e", "f", "SKU-new"}
    assert (held["SKU-new"]["price"], held["a"]["price"]) == ("7.00 EUR", "8.00 EUR")
    await world.stores.patch_settings(world.store_id, {"retailerIdTemplate": "shop-{variantId}"})
    await world.catalog.delete_product(world.store_id, "p")
    await world.put("one", variant("a", None))
    await world.run()
    await assert_tidy(world)
    assert set(world.at_meta()) == {"b", "c", "d", "e", "f"}, "deleted under the ids that were sent"


async def test_an_id_whose_first_send_was_refused_is_not_frozen(world: World) -> None:
    """Nothing of it is at Meta: the item may go out under the id that the settings say by then."""
    world.sandbox.refuse("x", "No.")
    await world.put("p", variant("x"))
    await world.run()
    assert (await world.states())["x"]["retailer_id"] is None
    await world.stores.patch_settings(world.store_id, {"retailerIdTemplate": "{sku}"})
    await world.run()
    await assert_tidy(world)
    assert "SKU-x" in world.at_meta()
    assert (await world.states())["x"]["retailer_id"] == "SKU-x"


async def test_an_id_whose_first_send_may_have_been_saved_is_frozen(world: World) -> None:
    await world.put("p", variant("x"))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    await world.stores.patch_settings(world.store_id, {"retailerIdTemplate": "{sku}"})
    await world.run(pipeline)
    await assert_tidy(world)
    assert "x" in world.at_meta()
    assert "SKU-x" not in world.at_meta()


async def test_deleted_and_put_back_it_keeps_its_id(world: World) -> None:
    await world.catalog.delete_product(world.store_id, "one")
    await world.run()
    await world.stores.patch_settings(world.store_id, {"retailerIdTemplate": "{sku}"})
    await world.put("one", variant("a"))
    await world.run()
    await assert_tidy(world)
    assert "a" in world.at_meta()
