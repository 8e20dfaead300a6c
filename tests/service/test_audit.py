"""Who did what: an entry with every managing action, none without one, none with a secret, kept as long as the store says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from typing_extensions import override

from meta_sync.access.service import AccessService
from meta_sync.catalog.ingest.feeds import FeedInput
from meta_sync.core.db import Database
from meta_sync.core.errors import ConflictError, ServiceError
from meta_sync.core.paging import CursorCodec
from meta_sync.factory import Factory, ProcessContext
from meta_sync.sandbox.options import DEMO_ACCESS_TOKEN
from meta_sync.stores import audit
from meta_sync.stores.audit import THE_INSTALLATION, Actor, first_ids
from meta_sync.stores.audit_log import AuditEntry, AuditFilter, AuditLogService
from meta_sync.stores.service import StoreService
from meta_sync.sync.job_models import JobAction, JobOrder, JobScope, ScopeKind
from meta_sync.sync.listener import PipelineListener
from tests.support.secrets import tables_holding
from tests.support.world import World, open_world

ANNA = Actor("key_anna", "req_1")


@pytest.fixture
async def world(database: Database, database_url: str) -> AsyncIterator[World]:
    async with open_world(database, database_url) as world:
        await told(world)
        yield world


@pytest.fixture
def factory(world: World) -> Factory:
    return Factory(
        ProcessContext(
            settings=world.settings,
            database=world.database,
            queue=world.queue,
            http=world.http,
            cipher=world.cipher,
        )
    )


def log(world: World) -> AuditLogService:
    return AuditLogService(world.database, CursorCodec(b"key"))


async def entries(world: World, store_id: str | None = None, **wanted: Any) -> list[AuditEntry]:
    """All of a store's entries that fit, oldest first."""
    page = await log(world).list(store_id or world.store_id, AuditFilter(**wanted), limit=200)
    return page.entries[::-1]


async def told(world: World) -> list[AuditEntry]:
    """What was told since the last time, and nothing of it again."""
    found = await entries(world)
    async with world.database.platform() as connection:
        await connection.execute(text("DELETE FROM audit_log"))
    return found


async def only(world: World) -> AuditEntry:
    [entry] = await told(world)
    return entry


async def test_settings_are_told_key_by_key(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"batchSize": 10, "defaultBrand": "Acme"}, actor=ANNA)
    entry = await only(world)
    assert (entry.actor, entry.request_id, entry.action) == ("key_anna", "req_1", "settings_changed")
    assert (entry.target_type, entry.target_id) == ("store", world.store_id)
    assert entry.before == {"batchSize": 2500, "defaultBrand": None}
    assert entry.after == {"batchSize": 10, "defaultBrand": "Acme"}
    # The same values again change nothing.
    await world.stores.patch_settings(world.store_id, {"batchSize": 10}, actor=ANNA)
    assert await told(world) == []


async def test_secrets_are_told_without_a_value(world: World, database: Database) -> None:
    for secret in ("first-secret-value", "second-secret-value", None):
        patch = {
            "verifyToken": secret,
            "appSecret": secret,
            "conversionsAccessToken": secret,
            "alertWebhookUrl": f"https://hooks.example/{secret}" if secret else None,
        }
        await world.stores.patch_settings(world.store_id, {"appId": "42", **patch})
    first, second, third = await told(world)
    keys = {"verifyToken", "appSecret", "conversionsAccessToken", "alertWebhookUrl"}
    for entry, was, now in (
        (first, None, "configured"),
        (second, "configured", "changed"),
        (third, "configured", None),
    ):
        assert entry.before is not None
        assert entry.after is not None
        assert {key: entry.before[key] for key in keys & entry.before.keys()} == dict.fromkeys(
            keys & entry.before.keys(), was
        )
        assert {key: entry.after[key] for key in keys} == dict.fromkeys(keys, now)
    # Removing what is not there is no change.
    await world.stores.patch_settings(world.store_id, {"verifyToken": None})
    assert await told(world) == []


async def test_no_secret_of_any_kind_gets_into_the_log(world: World, factory: Factory) -> None:
    secrets = [
        "feed-password-1",
        "hunter-in-query-7",
        "verify-me-9",
        "app-secret-9",
        "https://hooks.example/k3y",
    ]
    made = await factory.access().create_key(world.store_id, ["catalog:read"], actor=ANNA)
    await factory.access().revoke(made.key_id, actor=ANNA)
    await world.connect()
    await world.stores.patch_settings(
        world.store_id,
        {"verifyToken": secrets[2], "conversionsAccessToken": secrets[3], "alertWebhookUrl": secrets[4]},
    )
    feed = await factory.feeds().create(world.store_id, feed_input(secrets[0], secrets[1]), actor=ANNA)
    await factory.feeds().update(
        world.store_id,
        feed.feed_id,
        {"username": "me", "password": SecretStr(secrets[0] + "-new")},
        actor=ANNA,
    )
    await factory.feeds().fetch(world.store_id, feed.feed_id, actor=ANNA)
    await factory.feeds().delete(world.store_id, feed.feed_id, actor=ANNA)
    await factory.feeds().import_once(
        world.store_id, feed_input(secrets[0], secrets[1], mode="replace"), requested_by=ANNA
    )
    found = await entries(world)
    assert {entry.action for entry in found} >= {
        "api_key_created", "api_key_revoked", "token_set", "catalog_selected", "settings_changed", "feed_created",
        "feed_changed", "feed_started", "feed_deleted", "import_started",
    }  # fmt: skip
    shown = json.dumps([[entry.before, entry.after, entry.target_id, entry.actor] for entry in found])
    for secret in (*secrets, made.api_key, made.api_key[3:9], DEMO_ACCESS_TOKEN):
        assert secret not in shown
        assert "audit_log" not in await tables_holding(world.database, secret)


def feed_input(password: str, in_query: str, **more: Any) -> FeedInput:
    return FeedInput(
        url=SecretStr(f"https://shop.example/feed.csv?token={in_query}"),
        source="shop",
        username="me",
        password=SecretStr(password),
        interval_seconds=None if more else 3600,
        **more,
    )


async def test_a_changed_feed_is_told_by_what_is_another(world: World, factory: Factory) -> None:
    feeds = factory.feeds()
    feed = await feeds.create(world.store_id, feed_input("p1", "q1"), actor=ANNA)
    created = await only(world)
    assert created.before is None
    assert created.after is not None
    assert (created.after["password"], created.after["username"]) == ("configured", "me")
    await feeds.update(world.store_id, feed.feed_id, {"interval_seconds": 7200, "enabled": True}, actor=ANNA)
    changed = await only(world)
    assert (changed.before, changed.after) == ({"intervalSeconds": 3600}, {"intervalSeconds": 7200})
    secret = {"url": SecretStr("https://shop.example/feed.csv?token=q2"), "password": SecretStr("p2")}
    await feeds.update(world.store_id, feed.feed_id, secret, actor=ANNA)
    hidden = await only(world)
    assert hidden.after == {"url": "changed", "password": "changed"}
    await feeds.update(world.store_id, feed.feed_id, {"mode": "upsert"}, actor=ANNA)
    assert await told(world) == []


async def test_the_connection_is_told_with_what_was_there_before(world: World) -> None:
    await world.connect()
    token, switched, selected = await told(world)
    assert (token.action, token.before) == ("token_set", None)
    assert token.after is not None
    assert token.after["accessToken"] == "configured"
    assert (switched.action, switched.before, switched.after) == (
        "settings_changed",
        {"syncEnabled": False},
        {"syncEnabled": True},
    )
    assert (selected.action, selected.before) == ("catalog_selected", None)
    assert selected.after is not None
    assert selected.after["jobId"].startswith("job_")
    assert selected.target_id == selected.after["catalogId"]
    # The token anew, and the catalog that is selected already.
    await world.connect()
    again = await only(world)
    assert again.before is not None
    assert again.after is not None
    assert (again.before["accessToken"], again.after["accessToken"]) == ("configured", "changed")


async def test_jobs_and_items(world: World, factory: Factory) -> None:
    await world.put("p1")
    await world.connect()
    await world.run()
    await told(world)
    names = ("p1-v", *(f"v{number}" for number in range(30)))
    order = JobOrder(
        "removal", JobScope(ScopeKind.VARIANTS, tuple(sorted(names))), JobAction.EXCLUDE, requested_by=ANNA
    )
    started = (await world.jobs.start(world.store_id, order)).started
    entry = await only(world)
    assert (entry.action, entry.target_type, entry.target_id) == ("job_started", "job", started.job_id)
    assert entry.after is not None
    assert (entry.after["items"], entry.after["notFound"], entry.after["type"]) == (1, 30, "removal")
    assert entry.after["scope"] == {"kind": "variants", "count": 31, "firstIds": sorted(names)[:20]}
    with pytest.raises(ConflictError):
        await world.jobs.start(world.store_id, order)
    assert await told(world) == [], "what was refused"
    await world.jobs.cancel(world.store_id, started.job_id, actor=ANNA)
    await world.jobs.cancel(world.store_id, started.job_id, actor=ANNA)
    assert (await only(world)).action == "job_cancelled", "cancelling twice is done once"
    await world.operations.resync(world.store_id, "p1-v", force=True, refresh_images=False, actor=ANNA)
    await world.operations.exclude(world.store_id, "p1-v", actor=ANNA)
    resynced, excluded = await told(world)
    assert (resynced.action, resynced.target_id) == ("item_resynced", "p1-v")
    assert resynced.after == {"force": True, "refreshImages": False}
    assert excluded.action == "item_excluded"
    distrusted = await factory.distrust().distrust(world.store_id, requested_by=ANNA)
    entry = await only(world)
    assert (entry.action, entry.after) == ("link_distrusted", {"jobId": distrusted.job_id, "items": 1})


async def test_imports_are_told_only_when_they_may_delete(world: World, factory: Factory) -> None:
    imports = factory.imports()
    for mode, allow, dry_run in (("upsert", False, False), ("replace", False, True), ("upsert", True, True)):
        await imports.create(
            world.store_id, mode=mode, allow_mass_delete=allow, dry_run=dry_run, requested_by=ANNA
        )
    assert await told(world) == []
    import_id = await imports.create(world.store_id, mode="replace", source="shop", requested_by=ANNA)
    entry = await only(world)
    assert (entry.action, entry.target_id) == ("import_started", import_id)
    assert entry.after == {"mode": "replace", "allowMassDelete": False, "source": "shop", "fileName": None}
    await imports.create(world.store_id, allow_mass_delete=True, requested_by=ANNA)
    assert (await only(world)).action == "import_started"
    await world.jobs.cancel(world.store_id, import_id, actor=ANNA)
    cancelled = await only(world)
    assert (cancelled.action, cancelled.target_type, cancelled.target_id) == (
        "job_cancelled",
        "import",
        import_id,
    )


async def test_what_belongs_to_no_store_stands_apart(world: World, database: Database) -> None:
    access = AccessService(database)
    made = await access.create_key(None, ["platform:admin"], "ops", actor=ANNA)
    await access.revoke(made.key_id, actor=ANNA)
    assert await entries(world) == []
    created, revoked = (await log(world).list(THE_INSTALLATION)).entries[::-1]
    assert (created.action, created.after) == (
        "api_key_created",
        {"name": "ops", "permissions": ["platform:admin"]},
    )
    assert (revoked.action, revoked.before, revoked.target_id) == (
        "api_key_revoked",
        created.after,
        made.key_id,
    )


async def test_stores(world: World) -> None:
    made = await world.stores.create("Shop", currency="EUR", enable_sync=True, actor=ANNA)
    await world.stores.update(made.store_id, "Other", actor=ANNA)
    await world.stores.update(made.store_id, "Other", actor=ANNA)
    created, renamed = await entries(world, made.store_id)
    assert created.after == {"name": "Shop", "currency": "EUR", "syncEnabled": True}
    assert (renamed.before, renamed.after) == ({"name": "Shop"}, {"name": "Other"})


async def refused_actions(world: World, factory: Factory) -> list[Callable[[], Awaitable[object]]]:
    """Actions of which each fails at another place."""
    store = world.store_id
    return [
        lambda: world.stores.create(""),
        lambda: world.stores.update(store, ""),
        lambda: world.stores.patch_settings(store, {"batchSize": 0}),
        lambda: world.connection.set_token(store, SecretStr("not-a-token-meta-knows")),
        lambda: world.connect(catalog_id="999"),
        lambda: factory.access().create_key("nowhere", ["catalog:read"]),
        lambda: factory.access().revoke("key_nothing"),
        lambda: factory.feeds().delete(store, "feed_nothing"),
        lambda: factory.feeds().fetch(store, "feed_nothing"),
        lambda: factory.feeds().update(store, "feed_nothing", {"enabled": False}),
        lambda: factory.distrust().distrust("nowhere", requested_by=ANNA),
        lambda: world.operations.exclude(store, "nothing", actor=ANNA),
        lambda: world.operations.resync(store, "nothing", force=True, refresh_images=False, actor=ANNA),
        lambda: world.jobs.cancel(store, "job_nothing", actor=ANNA),
    ]


async def test_what_fails_leaves_no_entry(world: World, factory: Factory) -> None:
    for number, act in enumerate(await refused_actions(world, factory)):
        with pytest.raises(ServiceError):
            await act()
        found = [entry for entry in await told(world) if entry.action != "token_set"]
        assert found == [], number


async def test_an_action_is_undone_where_it_cannot_be_recorded(
    world: World, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.put("p1")
    await world.connect()
    before = await rows_of_all(world)
    # No such column: the log cannot be written.
    monkeypatch.setattr(audit, "_INSERT", text("INSERT INTO audit_log (nothing) VALUES (1)"))
    store = world.store_id
    actions: list[Callable[[], Awaitable[object]]] = [
        lambda: world.stores.create("Another"),
        lambda: world.stores.update(store, "Another"),
        lambda: world.stores.patch_settings(store, {"batchSize": 7}),
        lambda: world.connection.set_token(store, SecretStr(DEMO_ACCESS_TOKEN)),
        lambda: factory.access().create_key(store, ["catalog:read"]),
        lambda: factory.feeds().create(store, feed_input("p", "q")),
        lambda: factory.feeds().import_once(store, feed_input("p", "q", mode="replace"), requested_by=ANNA),
        lambda: factory.imports().create(store, mode="replace", requested_by=ANNA),
        lambda: factory.distrust().distrust(store, requested_by=ANNA),
        lambda: world.operations.exclude(store, "p1-v", actor=ANNA),
        lambda: world.operations.resync(store, "p1-v", force=True, refresh_images=False, actor=ANNA),
        lambda: world.jobs.start(store, JobOrder("sync", requested_by=ANNA)),
    ]
    for number, act in enumerate(actions):
        with pytest.raises(DBAPIError):
            await act()
        assert await rows_of_all(world) == before, number


class _Breaks(PipelineListener):
    """Fails after a change was recorded and written."""

    @override
    async def settings_changed(self, connection: AsyncConnection, store_id: str, **what: bool) -> None:
        raise ConflictError("No.")


async def test_an_entry_goes_with_the_action_that_is_undone(world: World, database: Database) -> None:
    stores = StoreService(database, world.cipher, _Breaks())
    with pytest.raises(ConflictError):
        await stores.patch_settings(world.store_id, {"batchSize": 7}, actor=ANNA)
    assert await told(world) == []


async def rows_of_all(world: World) -> list[Any]:
    tables = (
        "api_keys",
        "catalog_links",
        "credentials",
        "import_feeds",
        "imports",
        "intents",
        "jobs",
        "stores",
    )
    async with world.database.platform() as connection:
        return [
            (await connection.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2"))).all() for table in tables
        ]


def test_the_first_few_of_many_ids() -> None:
    assert first_ids(str(number) for number in range(1000)) == [str(number) for number in range(20)]


async def test_whoever_has_no_request_has_no_request_id(world: World) -> None:
    await world.stores.patch_settings(world.store_id, {"batchSize": 9})
    entry = await only(world)
    assert (entry.actor, entry.request_id) == ("command line", None)
    await world.stores.patch_settings(world.store_id, {"batchSize": 8}, actor="key_plain")
    assert ((entry := await only(world)).actor, entry.request_id) == ("key_plain", None)
