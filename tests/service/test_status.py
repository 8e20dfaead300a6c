"""The state of a store in one answer: connection, counts, and why nothing is sent when nothing is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from meta_sync.catalog.models import InventoryInput
from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.core.errors import NotFoundError
from meta_sync.sync.models import Status
from meta_sync.sync.status import StatusService, StoreStatus
from tests.support.world import World, open_world, variant


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        yield world


async def status(world: World, **settings: Any) -> StoreStatus:
    process = world.settings.model_copy(update=settings)
    return await StatusService(world.database, process, utc_now).status(world.store_id)


async def execute(world: World, statement: str, **values: Any) -> None:
    async with world.database.platform() as connection:
        await connection.execute(text(statement), {"store_id": world.store_id, **values})


async def test_a_fresh_store(world: World) -> None:
    found = await status(world)
    assert found.connection_state == "not_connected"
    assert (found.pause_reason, found.paused_until) == ("not_connected", None)
    assert found.missing_keys == ("catalogId",)
    assert (found.link, found.budget, found.catalog, found.last_error) == (None, None, None, None)
    assert (found.last_sync_status, found.last_sync_at) == ("never", None)
    assert found.is_app_configured
    assert not (await status(world, app_secret=None)).is_app_configured
    assert not (await status(world, app_id=None)).is_app_configured


async def test_an_unknown_store(world: World) -> None:
    with pytest.raises(NotFoundError):
        await StatusService(world.database, world.settings, utc_now).status("nowhere")


async def test_from_selection_to_synced(world: World) -> None:
    await world.put("p", variant("a"), variant("b", price=None))
    await world.connect()
    found = await status(world)
    assert found.connection_state == "connected"
    assert found.pause_reason is None
    assert found.last_sync_status == "syncing"
    assert (found.counts.intents, found.counts.total) == (2, 2)
    assert found.scopes is not None
    assert "catalog_management" in found.scopes

    await world.run()
    found = await status(world)
    assert found.last_sync_status == "success"
    assert found.last_sync_at is not None
    assert found.last_drain_at is not None
    assert found.last_poll_at is not None
    assert (found.counts.by_status[Status.SYNCED], found.counts.by_status[Status.SKIPPED]) == (1, 1)
    assert (found.counts.intents, found.handles_pending, found.error_count_24h) == (0, 0, 0)
    assert found.budget is not None
    assert (found.budget.calls_last_hour, found.budget.allowance_per_hour) == (1, 200)
    assert found.catalog is not None
    assert found.catalog.vertical == "commerce"


async def test_what_meta_refuses_is_the_last_error(world: World) -> None:
    await world.connect()
    await world.put("p", variant("good"), variant("bad"))
    await world.run()
    await execute(
        world,
        "UPDATE sync_state SET status = 'failed', code = '2019', error_text = 'No image' WHERE variant_id = 'bad'",
    )
    found = await status(world)
    assert found.last_sync_status == "partial"
    assert found.last_error is not None
    assert (found.last_error.code, found.last_error.message) == ("2019", "No image")
    await execute(world, "UPDATE sync_state SET status = 'failed' WHERE variant_id = 'good'")
    assert (await status(world)).last_sync_status == "error"


async def test_reasons_to_stand_still_in_their_order(world: World) -> None:
    await world.connect()
    assert (await status(world)).pause_reason is None

    soon = utc_now() + timedelta(minutes=5)
    pause = (
        "INSERT INTO store_pauses (store_id, reason, link_id, until, code, message) "
        "SELECT :store_id, :reason, link_id, CAST(:until AS timestamptz), '2', 'Away' FROM catalog_links WHERE active"
    )
    await execute(world, pause, reason="blocked_by_meta", until=soon)
    found = await status(world)
    assert (found.pause_reason, found.paused_until) == ("blocked_by_meta", soon)
    assert found.last_error is not None
    assert (found.last_error.code, found.last_error.message) == ("2", "Away")

    await execute(world, pause, reason="meta_unreachable", until=soon)
    assert (await status(world)).pause_reason == "meta_unreachable"

    await execute(world, "UPDATE catalog_links SET calls_blocked_until = :until", until=soon)
    found = await status(world)
    assert (found.pause_reason, found.paused_until) == ("throttled", soon)
    assert found.budget is not None
    assert found.budget.blocked_until == found.budget.next_call_at == soon

    await world.stores.patch_settings(world.store_id, {"syncEnabled": False})
    found = await status(world)
    assert (found.pause_reason, found.paused_until) == ("sync_disabled", None)

    await world.stores.patch_settings(world.store_id, {"storefrontBaseUrl": None})
    found = await status(world)
    assert (found.pause_reason, found.missing_keys) == ("config_incomplete", ("storefrontBaseUrl",))

    await execute(world, "UPDATE credentials SET dead_at = now(), dead_code = 190, dead_reason = 'Expired'")
    found = await status(world)
    assert (found.pause_reason, found.connection_state) == ("needs_reconnect", "needs_reconnect")
    assert found.last_error is not None
    assert (found.last_error.code, found.last_error.message) == ("190", "Expired")

    await execute(world, "UPDATE credentials SET active = false")
    found = await status(world)
    assert (found.pause_reason, found.connection_state) == ("not_connected", "disconnected")


async def test_a_catalog_selected_at_another_graph_address_is_said(world: World) -> None:
    await world.connect()
    found = await status(world, graph_url="https://graph.elsewhere.example")
    assert (found.pause_reason, found.paused_until) == ("config_incomplete", None)
    assert found.last_error is not None
    assert found.last_error.code == "graph_url_changed"
    assert "graph.elsewhere.example" in found.last_error.message


async def test_a_pause_that_is_over_is_none(world: World) -> None:
    await world.connect()
    await execute(
        world,
        "INSERT INTO store_pauses (store_id, reason, until) "
        "VALUES (:store_id, 'meta_unreachable', now() - interval '1 second')",
    )
    found = await status(world)
    assert (found.pause_reason, found.last_error) == (None, None)


async def test_tombstones_count_while_they_have_a_record(world: World) -> None:
    await world.connect()
    await world.put("p", variant("a"), variant("b"))
    await world.run()
    await world.catalog.delete_product(world.store_id, "p")
    counts = (await status(world)).counts
    assert (counts.variants, counts.total, counts.by_status[Status.NEVER_SYNCED]) == (0, 2, 0)
    await world.run()
    counts = (await status(world)).counts
    assert counts.by_status[Status.DELETED] == 2


async def test_stock_alone_makes_no_item(world: World) -> None:
    await world.put("p", variant("v", inventory=InventoryInput(True, 3)))
    assert (await status(world)).counts.by_status[Status.NEVER_SYNCED] == 1
