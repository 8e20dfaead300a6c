"""The state of a store in one answer: connection, counts, and why nothing is sent when nothing is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from meta_sync.catalog.models import InventoryInput
from meta_sync.core.clock import utc_now
from meta_sync.core.crypto import Cipher, generate_encryption_key
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
    return await StatusService(world.database, process).status(world.store_id)


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
        await StatusService(world.database, world.settings).status("nowhere")


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


BATCH = """
    INSERT INTO batches (store_id, link_id, graph_host, catalog_id, state, lane, body_bytes, link_epoch, mapping_epoch,
        sent, accepted, rejected, unknown, created_on, error_code, error_text, finished_at, created_at)
    SELECT :store_id, link_id, graph_host, catalog_id, 'over', 0, 0, epoch, 1, 3, :accepted, :rejected,
        3 - :accepted - :rejected, current_date, CAST(:code AS text), CAST(:said AS text),
        now() + CAST(:ago AS interval), now() FROM catalog_links WHERE active
"""


async def batch(world: World, ago: str, accepted: int, rejected: int = 0, **error: str) -> None:
    values = {"code": error.get("code"), "said": error.get("said")}
    async with world.database.platform() as connection:
        # Intervals travel as text here.
        await connection.execute(
            text(BATCH.replace("CAST(:ago AS interval)", f"interval '{ago}'")),
            {"store_id": world.store_id, "accepted": accepted, "rejected": rejected, **values},
        )


async def test_a_failed_batch_is_the_last_error_until_meta_gives_a_verdict_again(world: World) -> None:
    await world.connect()
    await execute(world, "UPDATE catalog_links SET created_at = now() - interval '1 month'")
    await batch(world, "-30 minutes", 3)
    sync = (await status(world)).last_sync_at
    assert sync is not None
    await batch(world, "-20 minutes", 0, code="batch_error")
    found = await status(world)
    assert found.last_error is not None
    assert (found.last_error.code, found.last_error.entry.code) == ("batch_error", "batch_error")
    # What was refused as a whole has synced nothing.
    assert found.last_sync_at == sync
    await batch(world, "-10 minutes", 2, 1)
    found = await status(world)
    assert found.last_error is None
    assert found.last_sync_at is not None
    assert found.last_sync_at > sync
    assert found.error_count_24h == 1
    await batch(world, "-25 hours", 0, 3)
    assert (await status(world)).error_count_24h == 1


async def test_what_another_catalog_was_sent_is_no_sync_of_this_one(world: World) -> None:
    await world.connect()
    await world.put("p", variant("a"))
    await world.run()
    assert (await status(world)).last_sync_status == "success"
    world.sandbox.add_catalog("7100195296754001", "Other", catalog_id="88001")
    await world.connect(catalog_id="88001", sync=False)
    found = await status(world)
    assert (found.last_sync_status, found.last_sync_at) == ("never", None)


async def test_a_token_whose_time_is_up(world: World) -> None:
    await world.connect()
    await execute(world, "UPDATE credentials SET expires_at = now() + interval '1 minute'")
    assert (await status(world)).connection_state == "connected"
    await execute(world, "UPDATE credentials SET expires_at = now() - interval '1 minute'")
    found = await status(world)
    assert (found.connection_state, found.pause_reason) == ("needs_reconnect", "needs_reconnect")
    assert found.last_error is not None
    assert found.last_error.code == "token_expired"
    assert found.last_error.message == found.last_error.entry.sentence


async def test_a_token_that_nobody_can_read(world: World) -> None:
    await world.connect()
    await world.put("p", variant("a"))
    world.cipher = Cipher([SecretStr(generate_encryption_key())])
    await world.pipeline().drain_tick()
    found = await status(world)
    assert (found.connection_state, found.pause_reason) == ("needs_reconnect", "needs_reconnect")
    assert found.paused_until is None
    assert found.last_error is not None
    assert found.last_error.code == "token_unreadable"
    assert "META_SYNC_ENCRYPTION_KEYS" in found.last_error.entry.action


async def test_the_reason_that_lasts_longest_is_shown(world: World) -> None:
    await world.connect()
    soon, late = utc_now() + timedelta(minutes=5), utc_now() + timedelta(minutes=50)
    await execute(world, "UPDATE catalog_links SET calls_blocked_until = :until", until=soon)
    assert (await status(world)).pause_reason == "throttled"
    pause = (
        "INSERT INTO store_pauses (store_id, reason, until) "
        "VALUES (:store_id, 'blocked_by_meta', CAST(:until AS timestamptz))"
    )
    await execute(world, pause, until=late)
    found = await status(world)
    assert (found.pause_reason, found.paused_until) == ("blocked_by_meta", late)
    await execute(world, "UPDATE store_pauses SET until = NULL")
    found = await status(world)
    assert (found.pause_reason, found.paused_until) == ("blocked_by_meta", None)


async def test_an_item_that_failed_before_it_was_ever_sent_is_an_error_too(world: World) -> None:
    await world.connect()
    await world.put("p", variant("a"), variant("b"))
    await world.run()
    await execute(
        world,
        "UPDATE sync_state SET status = 'failed', code = 'mapping_failed', last_pushed_at = NULL, updated_at = now()"
        " WHERE variant_id = 'a'",
    )
    await execute(
        world,
        "UPDATE sync_state SET status = 'failed', code = 'not_saved', updated_at = now() - interval '1 hour'"
        " WHERE variant_id = 'b'",
    )
    found = await status(world)
    assert found.last_error is not None
    assert found.last_error.code == "mapping_failed"


async def test_an_item_that_waits_for_its_next_try_is_under_way(world: World) -> None:
    await world.connect()
    await world.put("p", variant("a"), variant("b"))
    await world.run()
    await execute(
        world,
        "UPDATE sync_state SET status = 'pending', retry_at = now() + interval '1 hour', confirmed_hash = NULL"
        " WHERE variant_id = 'a'",
    )
    assert (await status(world)).last_sync_status == "syncing"
    await world.stores.patch_settings(world.store_id, {"syncEnabled": False})
    assert (await status(world)).last_sync_status == "success"


async def test_an_item_that_failed_later_is_not_why_the_store_stands_still(world: World) -> None:
    await world.connect()
    await world.put("p", variant("a"))
    await world.run()
    await execute(
        world,
        "UPDATE credentials SET dead_at = now() - interval '1 h', dead_code = 190, dead_reason = 'Session has expired.'",
    )
    await execute(
        world,
        "UPDATE sync_state SET status = 'failed', code = 'rejected_by_meta', error_text = 'Too small.', updated_at = now()",
    )
    found = await status(world)
    assert found.last_error is not None
    assert found.standstill_error is not None
    assert (found.last_error.message, found.standstill_error.message) == (
        "Too small.",
        "Session has expired.",
    )
    await execute(world, "UPDATE credentials SET dead_at = NULL")
    assert (await status(world)).standstill_error is None
