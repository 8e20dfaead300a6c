"""Selecting a catalog: the checks, the links it makes and returns to, and what moved meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from meta_sync.connection import repository
from meta_sync.connection.models import SelectResult, graph_host
from meta_sync.core.config import Settings
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, ServiceError, ValidationFailedError
from meta_sync.core.queue import JobName
from meta_sync.sandbox.faults import FaultKind, FaultSpec
from meta_sync.sandbox.options import (
    DEMO_APP_ID,
    DEMO_APP_SECRET,
    DEMO_BUSINESS_ID,
    DEMO_CATALOG_ID,
    DEMO_SYSTEM_USER_ID,
)
from tests.service.connection_world import NOW, World, make_world

OTHER_HOST = "https://graph.elsewhere.test:8443"


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    world = make_world(database)
    yield world
    assert world.transport.open_transactions == 0, "a transaction was open over a call to Meta"
    await world.http.aclose()


async def links(world: World) -> Any:
    return await world.run("SELECT catalog_id, active, epoch FROM catalog_links ORDER BY link_id")


async def test_selecting_makes_the_link_and_starts_the_first_sync(world: World) -> None:
    store_id = await world.connected_store(user_id=DEMO_SYSTEM_USER_ID)
    world.queue.sent.clear()
    result = await world.select(store_id)
    assert result == SelectResult(DEMO_SYSTEM_USER_ID, DEMO_CATALOG_ID, "system_user", "job_1")
    link = await world.link(store_id)
    token = await world.credential(store_id)
    assert link is not None
    assert token is not None
    assert (link.graph_host, link.catalog_id, link.catalog_name) == (
        "graph.test",
        DEMO_CATALOG_ID,
        "Master Catalog",
    )
    assert (link.business_id, link.business_name) == (DEMO_BUSINESS_ID, "Acme Holdings")
    assert (link.credential_id, link.epoch, link.was_empty) == (token.credential_id, 1, True)
    assert (link.vertical, link.product_count) == ("commerce", 0)
    assert world.listener.told == [(link, False)]
    assert {JobName.JOBS, JobName.DRAIN} <= set(world.queue.sent)
    view = await world.stores.settings_view(store_id)
    assert (view["catalogId"], view["systemUserId"], view["tokenKind"], view["syncEnabled"]) == (
        DEMO_CATALOG_ID,
        DEMO_SYSTEM_USER_ID,
        "system_user",
        False,
    )


async def test_a_persons_token_selects_without_a_system_user(world: World) -> None:
    store_id = await world.connected_store(token_type="USER")
    assert await world.select(store_id) == SelectResult(None, DEMO_CATALOG_ID, "user", "job_1")


async def test_a_catalog_with_items_is_known_not_to_be_empty(world: World) -> None:
    world.sandbox.catalog(DEMO_CATALOG_ID).store("theirs", {"id": "theirs", "title": "x"})
    store_id = await world.connected_store()
    await world.select(store_id)
    link = await world.link(store_id)
    assert link is not None
    assert (link.was_empty, link.product_count) == (False, 1)


async def test_selecting_the_active_catalog_again_changes_nothing(world: World) -> None:
    store_id = await world.connected_store()
    first = await world.select(store_id)
    link = await world.link(store_id)
    world.sandbox.catalog(DEMO_CATALOG_ID).store("ours", {"id": "ours", "title": "x"})
    again = await world.select(store_id)
    now = await world.link(store_id)
    assert link is not None
    assert now is not None
    assert again == SelectResult(first.system_user_id, first.catalog_id, first.token_kind, None)
    assert (now.link_id, now.epoch, now.was_empty, now.business_name) == (
        link.link_id,
        1,
        True,
        "Acme Holdings",
    )
    assert len(world.listener.told) == 1


async def test_another_catalog_is_another_link_and_going_back_raises_the_epoch(world: World) -> None:
    second = world.sandbox.add_catalog(DEMO_BUSINESS_ID, "Second").id
    store_id = await world.connected_store()
    await world.select(store_id)
    assert (await world.select(store_id, second)).job_id == "job_2"
    assert await links(world) == [(DEMO_CATALOG_ID, False, 1), (second, True, 1)]
    await world.select(store_id)
    assert await links(world) == [(DEMO_CATALOG_ID, True, 2), (second, False, 1)]
    await world.select(store_id, second)
    assert await links(world) == [(DEMO_CATALOG_ID, False, 2), (second, True, 2)]
    assert [returning for _, returning in world.listener.told] == [False, False, True, True]


async def test_a_dry_run_checks_everything_and_writes_nothing(world: World) -> None:
    store_id = await world.connected_store(user_id="55")
    before = await world.run("SELECT s::text FROM stores AS s")
    world.queue.sent.clear()
    result = await world.select(store_id, enable_sync=True, dry_run=True)
    assert result == SelectResult("55", DEMO_CATALOG_ID, "system_user", None)
    assert await links(world) == []
    assert await world.run("SELECT s::text FROM stores AS s") == before
    assert (world.listener.told, world.queue.sent) == ([], [])
    await world.select(store_id)
    other = await world.connected_store()
    with pytest.raises(ConflictError):
        await world.select(other, dry_run=True)
    with pytest.raises(ServiceError):
        await world.select(other, "404404", dry_run=True)


async def test_sync_is_enabled_with_the_selection_and_only_on_request(world: World) -> None:
    store_id = await world.connected_store()
    await world.run("INSERT INTO store_queue (store_id) VALUES (:s)", s=store_id)
    await world.select(store_id)
    assert not (await world.stores.settings(store_id)).sync_enabled
    await world.select(store_id, enable_sync=True)
    assert (await world.stores.settings(store_id)).sync_enabled
    assert await world.run("SELECT due_at IS NOT NULL FROM store_queue") == [(True,)]
    await world.select(store_id, enable_sync=None)
    assert (await world.stores.settings(store_id)).sync_enabled
    await world.select(store_id, enable_sync=False)
    assert not (await world.stores.settings(store_id)).sync_enabled
    assert await world.run("SELECT mapping_epoch FROM stores") == [(1,)]
    assert (await world.stores.settings(store_id)).currency == "EUR"


async def test_a_catalog_serves_one_store_and_the_other_is_not_named(world: World) -> None:
    first, second = await world.connected_store(), await world.connected_store()
    await world.select(first)
    with pytest.raises(ConflictError) as caught:
        await world.select(second)
    assert caught.value.status == 409
    assert first not in caught.value.message
    assert "Shop" not in caught.value.message
    assert await world.link(second) is None
    # Once the first store uses another catalog, this one is free.
    await world.select(first, world.sandbox.add_catalog(DEMO_BUSINESS_ID, "Second").id)
    await world.select(second)
    assert await world.link(second) is not None


async def test_of_two_stores_at_the_same_moment_one_gets_the_catalog(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_yet(*_: Any, **__: Any) -> bool:
        return False

    first, second = await world.connected_store(), await world.connected_store()
    # Both have looked before either has written: only the index stands between them.
    monkeypatch.setattr(repository, "is_used_elsewhere", not_yet)
    outcomes = await asyncio.gather(world.select(first), world.select(second), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ConflictError", "SelectResult"]
    assert len(await links(world)) == 1
    # The other store's transaction may be open beside a call here, and that is in order.
    world.transport.open_transactions = 0


async def test_the_same_catalog_id_at_another_host_is_another_catalog(world: World) -> None:
    first, second = await world.connected_store(), await world.connected_store()
    await world.select(first)
    elsewhere = world.service(
        Settings(graph_url=OTHER_HOST, app_id=DEMO_APP_ID, app_secret=SecretStr(DEMO_APP_SECRET))
    )
    await elsewhere.select_catalog(
        second, "1", "Acme", DEMO_CATALOG_ID, "Main", enable_sync=None, dry_run=False
    )
    link = await world.link(second)
    assert link is not None
    assert link.graph_host == "graph.elsewhere.test:8443"
    assert graph_host("https://GRAPH.facebook.com") == "graph.facebook.com"


async def test_a_catalog_that_is_not_assigned_is_explained(world: World) -> None:
    store_id = await world.connected_store(catalog_ids=[])
    for catalog_id in (DEMO_CATALOG_ID, "404404"):
        with pytest.raises(ServiceError, match="not assigned to the System User") as caught:
            await world.select(store_id, catalog_id)
        assert (caught.value.status, caught.value.code) == (400, "meta_account_error")
        assert caught.value.meta is not None
        assert (caught.value.meta["fbCode"], caught.value.meta["fbSubcode"]) == (100, 33)
    token = await world.credential(store_id)
    assert token is not None
    assert token.dead_at is None


async def test_only_a_catalog_for_products_will_do(world: World) -> None:
    hotels = world.sandbox.add_catalog(DEMO_BUSINESS_ID, "Hotels", vertical="hotels").id
    store_id = await world.connected_store()
    with pytest.raises(ServiceError, match="its vertical is hotels") as caught:
        await world.select(store_id, hotels)
    assert (caught.value.status, caught.value.code) == (400, "meta_account_error")
    assert await links(world) == []


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        (("", "b", "1", "c"), ["businessId"]),
        (("1", "", "1", ""), ["businessName", "catalogName"]),
        (("1", "b" * 201, "1/products", "c\x00"), ["businessName", "catalogId", "catalogName"]),
        (("1", "b", "..", "c"), ["catalogId"]),
        (("1" * 101, "b", "1?fields=id", "c"), ["businessId", "catalogId"]),
    ],
)
async def test_wrong_ids_and_names_are_named_before_meta_is_asked(
    world: World, values: tuple[str, str, str, str], fields: list[str]
) -> None:
    store_id = await world.store()
    with pytest.raises(ValidationFailedError) as caught:
        await world.connection.select_catalog(store_id, *values, enable_sync=None, dry_run=False)
    assert [fault.field for fault in caught.value.details] == fields
    assert world.transport.paths == []


async def test_without_a_token_that_works_meta_is_not_asked(world: World) -> None:
    unconnected = await world.store()
    with pytest.raises(ServiceError, match="Set an access token first") as caught:
        await world.select(unconnected)
    assert (caught.value.status, caught.value.code) == (409, "meta_not_connected")
    store_id = await world.connected_store(expires_at=NOW.timestamp() + 60)
    asked = len(world.transport.paths)
    await world.run("UPDATE credentials SET expires_at = :now", now=NOW)
    with pytest.raises(ServiceError, match="has expired") as caught:
        await world.select(store_id)
    assert caught.value.code == "meta_not_connected"
    await world.run("UPDATE credentials SET expires_at = NULL, dead_at = now(), dead_reason = 'revoked'")
    with pytest.raises(ServiceError, match="revoked") as caught:
        await world.select(store_id)
    assert caught.value.code == "meta_not_connected"
    assert len(world.transport.paths) == asked


async def test_a_token_that_dies_is_noted_as_dead(world: World) -> None:
    store_id = await world.connected_store()
    world.sandbox.kill_token(world.tokens[store_id], 460)
    with pytest.raises(ServiceError) as caught:
        await world.select(store_id)
    assert (caught.value.status, caught.value.code) == (400, "meta_account_error")
    token = await world.credential(store_id)
    assert token is not None
    assert (token.dead_code, token.dead_subcode) == (190, 460)
    assert token.dead_at is not None


async def test_a_lost_permission_does_not_kill_the_token(world: World) -> None:
    store_id = await world.connected_store()
    world.sandbox.tokens[world.tokens[store_id]].scopes = frozenset({"business_management"})
    with pytest.raises(ServiceError) as caught:
        await world.select(store_id)
    assert caught.value.code == "meta_account_error"
    assert caught.value.meta is not None
    assert caught.value.meta["category"] == "permission"
    token = await world.credential(store_id)
    assert token is not None
    assert token.dead_at is None


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"kind": FaultKind.THROTTLED, "minutes": 5}, 503, "meta_rate_limited"),
        ({"kind": FaultKind.GRAPH_ERROR, "code": 2, "status": 500}, 502, "meta_graph_error"),
        ({"kind": FaultKind.HTML_500_BEFORE}, 502, "meta_graph_error"),
        ({"kind": FaultKind.GRAPH_ERROR, "code": 2635}, 502, "meta_graph_error"),
    ],
)
async def test_failures_of_meta_leave_everything_as_it_was(
    world: World, fault: dict[str, Any], status: int, code: str
) -> None:
    store_id = await world.connected_store()
    world.sandbox.faults.add(FaultSpec(edge="node", count=None, **fault))
    with pytest.raises(ServiceError) as caught:
        await world.select(store_id)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert caught.value.meta is not None
    if status == 503:
        assert caught.value.retry_after_seconds == 300
    assert await links(world) == []
    token = await world.credential(store_id)
    assert token is not None
    assert token.dead_at is None


async def test_a_token_replaced_during_the_question_is_a_conflict(world: World) -> None:
    store_id = await world.connected_store()
    replacement = SecretStr(world.sandbox.add_token().value)

    async def replace(_: str) -> None:
        await world.connection.set_token(store_id, replacement)

    world.transport.during = replace
    with pytest.raises(ConflictError):
        await world.select(store_id)
    assert await links(world) == []


async def test_a_failing_listener_takes_the_selection_with_it(world: World) -> None:
    second = world.sandbox.add_catalog(DEMO_BUSINESS_ID, "Second").id
    store_id = await world.connected_store()
    await world.select(store_id)
    world.listener.fails = True
    with pytest.raises(RuntimeError):
        await world.select(store_id, second, enable_sync=True)
    assert await links(world) == [(DEMO_CATALOG_ID, True, 1)]
    assert not (await world.stores.settings(store_id)).sync_enabled


async def test_selections_at_the_same_time_leave_one_active(world: World) -> None:
    catalogs = [DEMO_CATALOG_ID] + [
        world.sandbox.add_catalog(DEMO_BUSINESS_ID, name).id for name in ("Second", "Third")
    ]
    store_id = await world.connected_store()
    await asyncio.gather(*(world.select(store_id, catalog_id) for catalog_id in catalogs))
    assert sum(active for _, active, _ in await links(world)) == 1
    world.transport.open_transactions = 0


async def test_a_store_cannot_reach_the_link_of_another(world: World, database: Database) -> None:
    mine, other = await world.connected_store(), await world.connected_store()
    await world.select(other)
    theirs, token = await world.link(other), await world.credential(mine)
    assert theirs is not None
    assert token is not None
    async with database.store(mine) as connection:
        assert await repository.active_link(connection, other) is None
        assert await repository.link(connection, theirs.link_id) is None
        await repository.use_credential(connection, token)
    assert await world.link(other) == theirs


async def test_the_store_speaks_its_own_version_of_the_api(world: World) -> None:
    store_id = await world.connected_store()
    await world.stores.patch_settings(store_id, {"graphVersion": "v26.0"})
    await world.select(store_id)
    assert world.transport.paths[-1] == f"/v26.0/{DEMO_CATALOG_ID}"
