"""What Meta refused is not sent again because a job or the clock asks, only when a person or a change does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from meta_sync.core.db import Database
from meta_sync.sync import context, lease, listener, mapping
from tests.support.pipeline import assert_sums, fetch, one
from tests.support.world import World, open_world, variant

_OTHER_CATALOG = "7100195296759999"


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    """One item of which Meta refused the second version, and holds the first; one that it never took."""
    async with open_world(database, database_url) as world:
        world.sandbox.add_catalog("7100195296754001", "Other", catalog_id=_OTHER_CATALOG)
        await world.connect()
        await world.put("p", variant("a", 100))
        await world.run()
        for refused in ("a", "new"):
            world.sandbox.refuse(refused, "No.")
        await world.put("p", variant("a", 200))
        await world.put("n", variant("new"))
        await world.run()
        assert await _statuses(world) == {"a": "failed", "new": "failed"}
        assert await _sent(world) == {"a": 2, "new": 1}
        yield world
        await assert_sums(world)


async def _statuses(world: World) -> dict[str, str]:
    return {one: state["status"] for one, state in (await world.states()).items()}


async def _sent(world: World) -> dict[str, int]:
    return dict(await fetch(world, "SELECT variant_id, count(*) FROM batch_items GROUP BY 1"))


async def _bootstrap(world: World) -> None:
    await world.jobs.start_bootstrap(world.store_id, requested_by="me")
    await world.run()


async def test_a_bootstrap_leaves_it(world: World) -> None:
    await _bootstrap(world)
    assert await _sent(world) == {"a": 2, "new": 1}
    assert await _statuses(world) == {"a": "failed", "new": "failed"}


async def test_a_re_evaluation_that_changes_nothing_of_it_leaves_it(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"defaultBrand": "Nobody needs it"})
    await world.run()
    assert await _sent(world) == {"a": 2, "new": 1}


async def test_a_setting_that_changes_the_payload_tries_it_once(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "used"})
    await world.run()
    assert await _sent(world) == {"a": 3, "new": 2}
    await _bootstrap(world)
    assert await _sent(world) == {"a": 3, "new": 2}
    # Back again it is another payload than the one refused last.
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "new"})
    await world.run()
    assert await _sent(world) == {"a": 4, "new": 3}


async def test_a_new_mapper_tries_it_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (context, listener, lease):
        monkeypatch.setattr(module, "MAPPER_VERSION", 99)
    monkeypatch.setattr(mapping, "_HASH_PREFIX", b"99\n")
    async with world.database.platform() as connection:
        await listener.follow_mapper_version(connection)
    await world.run()
    assert await _sent(world) == {"a": 3, "new": 2}
    await _bootstrap(world)
    assert await _sent(world) == {"a": 3, "new": 2}


@pytest.mark.parametrize("force", [True, False])
async def test_a_resync_by_name_sends_it(world: World, force: bool) -> None:
    world.sandbox.lift_refusal("a")
    await world.operations.resync(world.store_id, "a", force=force, refresh_images=False, actor="me")
    await world.run()
    assert await _sent(world) == {"a": 3, "new": 1}
    assert await _statuses(world) == {"a": "synced", "new": "failed"}
    assert world.at_meta()["a"]["price"] == "2.00 EUR"


async def test_a_change_there_and_back_before_it_is_sent_asks_again(world: World) -> None:
    """The same payload, but somebody touched the row: that is a change, and may be meant as "try again"."""
    await world.put("p", variant("a", 300))
    await world.put("p", variant("a", 200))
    await world.run()
    assert await _sent(world) == {"a": 3, "new": 1}
    await _bootstrap(world)
    assert await _sent(world) == {"a": 3, "new": 1}


async def test_the_same_body_again_is_no_change(world: World) -> None:
    await world.put("p", variant("a", 200))
    await world.run()
    assert await _sent(world) == {"a": 2, "new": 1}


async def test_refused_another_and_back(world: World) -> None:
    """A refused, B refused, A again: each change is tried, and only what was refused last is remembered."""
    await world.put("p", variant("a", 300))
    await world.run()
    await world.put("p", variant("a", 200))
    await world.run()
    assert await _sent(world) == {"a": 4, "new": 1}
    await _bootstrap(world)
    assert await _sent(world) == {"a": 4, "new": 1}


async def test_back_to_what_meta_holds_needs_no_call(world: World) -> None:
    await world.put("p", variant("a", 100))
    await world.run()
    assert await _sent(world) == {"a": 2, "new": 1}
    assert (await _statuses(world))["a"] == "synced"
    assert (await world.states())["a"]["rejected_hash"] is None
    # And forth again it is a payload like any other.
    world.sandbox.lift_refusal("a")
    await world.put("p", variant("a", 200))
    await world.run()
    assert await _sent(world) == {"a": 3, "new": 1}
    assert world.at_meta()["a"]["price"] == "2.00 EUR"


async def test_a_confirmed_push_forgets_the_refusal(world: World) -> None:
    world.sandbox.lift_refusal("a")
    await world.put("p", variant("a", 300))
    await world.run()
    assert (await world.states())["a"]["rejected_hash"] is None


async def test_a_refused_delete_waits_for_a_person_or_a_change(world: World) -> None:
    await world.catalog.delete_product(world.store_id, "p")
    await world.run()
    assert await _sent(world) == {"a": 3, "new": 1}
    state = (await world.states())["a"]
    assert (state["status"], bytes(state["rejected_hash"])) == ("failed", b"DELETE")
    await _bootstrap(world)
    await world.stores.patch_settings(world.store_id, {"defaultCondition": "used"})
    await world.run()
    assert (await _sent(world))["a"] == 3
    world.sandbox.lift_refusal("a")
    await world.operations.resync(world.store_id, "a", force=True, refresh_images=False, actor="me")
    await world.run()
    assert (await _sent(world))["a"] == 4
    assert "a" not in world.at_meta()
    assert (await _statuses(world))["a"] == "deleted"


async def test_a_variant_that_comes_back_after_a_refused_delete(world: World) -> None:
    """The refusal was of the delete; the item that is wanted again goes out, and a later delete is tried again."""
    await world.catalog.delete_product(world.store_id, "p")
    await world.run()
    world.sandbox.lift_refusal("a")
    await world.put("p", variant("a", 200))
    await world.run()
    assert world.at_meta()["a"]["price"] == "2.00 EUR"
    await world.catalog.delete_product(world.store_id, "p")
    await world.run()
    assert "a" not in world.at_meta()


async def test_a_job_s_intent_that_was_parked_asks_no_more_than_a_job(world: World) -> None:
    """Parked while the item is in flight; what is refused meanwhile is not sent a second time because of it."""
    await world.put("p", variant("a", 300))
    pipeline = world.pipeline()
    await pipeline.drain_tick()
    await world.jobs.start_bootstrap(world.store_id, requested_by="me")
    await pipeline.jobs_tick()
    await pipeline.drain_tick()
    assert await one(world, "SELECT parked_by IS NOT NULL FROM intents WHERE variant_id = 'a'") is True
    await world.run(pipeline)
    assert await _sent(world) == {"a": 3, "new": 1}
    assert (await _statuses(world))["a"] == "failed"


async def test_what_one_catalog_refused_says_nothing_of_another(world: World) -> None:
    for refused in ("a", "new"):
        world.sandbox.lift_refusal(refused)
    await world.connect(catalog_id=_OTHER_CATALOG)
    await world.run()
    assert await _statuses(world) == {"a": "synced", "new": "synced"}
    assert set(world.sandbox.catalog(_OTHER_CATALOG).items) == {"a", "new"}
