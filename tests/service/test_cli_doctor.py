"""``meta-sync doctor`` against a database that is there, and one that is not: what it finds, and in which exit code."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import text

from meta_sync.core.crypto import generate_encryption_key
from meta_sync.core.db import Database
from tests.service.test_cli_commands import Run, run, store

__all__ = ["run", "store"]


def execute(database_url: str, *statements: str, **values: Any) -> None:
    async def written() -> None:
        database = Database.connect(database_url, pool_size=1)
        async with database.platform() as connection:
            for statement in statements:
                await connection.execute(text(statement), values)
        await database.dispose()

    asyncio.run(written())


WORKER = "INSERT INTO worker_heartbeats (worker_id, version, queue) VALUES ('w', '0.1.0', 'redis')"


def verdicts(run: Run, *arguments: str) -> dict[tuple[str | None, str], str]:
    said = json.loads(run("doctor", *arguments, "--json").output)
    assert said["problems"] == sum(check["status"] == "problem" for check in said["checks"])
    assert said["notLookedAt"]
    return {(check["storeId"], check["name"]): check["status"] for check in said["checks"]}


def test_an_installation_in_order(run: Run, database_url: str) -> None:
    execute(database_url, WORKER)
    result = run("doctor")
    assert (result.code, result.errors) == (0, "")
    assert "  ok       workers: 1 worker is alive.\n" in result.output
    assert "No problem found. Not looked at: whether Meta" in result.output


def test_a_store_is_looked_at_in_full_when_it_is_named(run: Run, store: str, database_url: str) -> None:
    execute(database_url, WORKER)
    result = run("doctor", "--store", store)
    assert result.code == 0
    assert f"Shop ({store})" in result.output
    assert "  warning  connection: The store is not connected to Meta." in result.output
    assert "  ok       jobs: " in result.output
    # Of all stores only what is not in order.
    assert "  ok       jobs: " not in run("doctor").output
    unknown = run("doctor", "--store", "store_none")
    assert unknown.code == 1
    assert "There is no such store." in unknown.errors


def test_what_is_wrong_is_found(
    run: Run, store: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verdicts(run)[(None, "workers")] == "problem"
    execute(
        database_url,
        "INSERT INTO jobs (job_id, store_id, type, status, created_at)"
        " VALUES ('j1', :store, 'sync', 'queued', now() - interval '1 hour')",
        "INSERT INTO imports (import_id, store_id, status, mode, created_at)"
        " VALUES ('i1', :store, 'queued', 'upsert', now() - interval '1 hour')",
        "INSERT INTO import_feeds (feed_id, store_id, source, shown_url, url, mode, interval_seconds, failures, last_message)"
        " VALUES ('f1', :store, 'nightly', 'https://f.example', 'sealed', 'upsert', 3600, 3, 'The server answers 404.')",
        "INSERT INTO credentials (credential_id, store_id, access_token, token_kind, scopes, active, expires_at)"
        " VALUES ('c1', :store, 'sealed', 'user', '{}', true, now() - interval '1 day')",
        "INSERT INTO catalog_links (store_id, graph_host, catalog_id, credential_id, active, was_empty)"
        " VALUES (:store, 'graph.facebook.com', '77', 'c1', true, true)",
        "INSERT INTO sync_state (link_id, variant_id, store_id, status, code, retries, retry_at)"
        " SELECT link_id, 'v1', :store, 'failed', 'rejected_by_meta', 1, now() - interval '1 hour' FROM catalog_links",
        "INSERT INTO batches (store_id, link_id, graph_host, catalog_id, state, lane, body_bytes, link_epoch,"
        " mapping_epoch, sent, created_on, created_at) SELECT :store, link_id, graph_host, catalog_id, 'open', 0, 1, 1, 1,"
        " 1, current_date, now() - interval '2 hours' FROM catalog_links",
        "UPDATE stores SET mapper_version = 1000",
        store=store,
    )
    monkeypatch.setenv("META_SYNC_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("META_SYNC_APP_ID", "1")
    monkeypatch.setenv("META_SYNC_DATABSE_URL", "x")
    monkeypatch.setenv("META_SYNC_ENCRYPTION_KEYS", generate_encryption_key())
    said = verdicts(run, "--store", store)
    odd = {(None if of is None else "s", name): verdict for (of, name), verdict in said.items()}
    assert odd[None, "database"] == odd[None, "clock"] == "ok"
    assert {one: verdict for one, verdict in odd.items() if verdict != "ok"} == {
        (None, "settings"): "problem",
        (None, "encryption_keys"): "problem",
        (None, "redis"): "warning",
        (None, "workers"): "problem",
        ("s", "connection"): "problem",
        ("s", "token"): "problem",
        ("s", "token_permissions"): "problem",
        ("s", "version"): "warning",
        ("s", "batches"): "warning",
        ("s", "retries"): "problem",
        ("s", "items"): "warning",
        ("s", "feeds"): "problem",
        ("s", "jobs"): "problem",
        ("s", "imports"): "problem",
    }
    result = run("doctor")
    assert result.code == 3
    assert "Did you mean META_SYNC_DATABASE_URL?" in result.output
    assert "The feed nightly could not be fetched, 3 times in a row: The server answers 404." in result.output
    assert "sealed" not in result.output


def test_changes_that_nobody_takes(run: Run, store: str, database_url: str) -> None:
    execute(
        database_url,
        "INSERT INTO intents (store_id, variant_id, version, lane, first_at)"
        " VALUES (:store, 'v1', 1, 0, now() - interval '1 hour')",
        store=store,
    )
    assert verdicts(run)[store, "waiting"] == "warning"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("META_SYNC_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none", "The database cannot be reached"),
        ("META_SYNC_ENCRYPTION_KEYS", "", "META_SYNC_ENCRYPTION_KEYS is not set."),
    ],
)
def test_nothing_can_be_looked_at(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    result = run("doctor")
    assert result.code == 3
    assert f"problem  database: {sentence}" in result.output


def test_a_broken_setting_stops_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("META_SYNC_PORT", "many")
    result = run("doctor")
    assert result.code == 2
    assert "META_SYNC_PORT is not usable" in result.errors
