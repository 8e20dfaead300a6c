"""The audit log through the API: who may read it, what it shows of a request, its filters and pages."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from meta_sync.stores.audit import AuditAction, AuditTarget
from tests.support.api import Api, Caller, assert_error
from tests.support.audited import NOT_AUDITED, changing_operations

DOCUMENT = Path(__file__).parents[2] / "docs" / "audit.md"
LOG = "/admin/meta/audit-log"
SETTINGS = "/admin/meta/settings"


async def entries(caller: Caller, **wanted: Any) -> list[dict[str, Any]]:
    page: list[dict[str, Any]] = await caller.data("GET", LOG, params=wanted)
    return page


async def test_an_entry_names_the_key_and_the_request(api: Api) -> None:
    key_id, api_key = await api.key(api.world.store_id)
    caller = Caller(api.http, {"X-API-Key": api_key, "X-Request-Id": "till-7.42"})
    await caller.data("PATCH", SETTINGS, json={"defaultBrand": "Acme", "appSecret": "do-not-show-me"})
    [entry, *_] = await entries(caller)
    assert {name: entry[name] for name in entry.keys() - {"id", "at"}} == {
        "actor": key_id,
        "action": "settings_changed",
        "targetType": "store",
        "targetId": api.world.store_id,
        "before": {"defaultBrand": None, "appSecret": None},
        "after": {"defaultBrand": "Acme", "appSecret": "configured"},
        "requestId": "till-7.42",
    }
    assert datetime.now(UTC) - datetime.fromisoformat(entry["at"]) < timedelta(minutes=5)
    [created, *_] = await entries(caller, action="api_key_created", target=key_id)
    assert (created["actor"], created["requestId"]) == ("command line", None)


async def test_what_the_platform_does_to_a_store_stands_with_the_store(api: Api) -> None:
    platform = await api.platform()
    store = await platform.data("POST", "/platform/stores", json={"name": "New", "currency": "EUR"})
    path = f"/platform/stores/{store['storeId']}"
    await platform.data("PATCH", path, json={"name": "Newer"})
    made = await platform.data("POST", f"{path}/api-keys", json={"permissions": ["metaCatalog:view"]})
    reader = Caller(api.http, {"X-API-Key": made["apiKey"]})
    spare = await platform.data("POST", f"{path}/api-keys", json={"permissions": ["metaCatalog:view"]})
    await platform.data("DELETE", f"/platform/api-keys/{spare['keyId']}")
    found = await entries(reader)
    assert [entry["action"] for entry in found] == [
        "api_key_revoked",
        "api_key_created",
        "api_key_created",
        "store_renamed",
        "store_created",
    ]
    assert len({entry["actor"] for entry in found}) == 1
    assert made["apiKey"] not in str(found)
    # The platform reads the log of the store that it names.
    named = await platform("GET", LOG, headers={"X-Store-Id": store["storeId"]})
    assert named.json()["data"] == found


async def test_who_may_read_it(api: Api) -> None:
    assert_error(await (await api.caller(permissions=["catalog:write"])).get(LOG), 403, "FORBIDDEN")
    reader = await api.caller(permissions=["metaCatalog:view"])
    assert (await reader.get(LOG)).status_code == 200
    other = await api.world.stores.create("Other")
    stranger = await api.caller(other.store_id)
    assert {entry["targetId"] for entry in await entries(stranger)}.isdisjoint(
        entry["targetId"] for entry in await entries(reader)
    )
    # The log cannot be changed by anybody.
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert_error(await reader(method, LOG), 405, "METHOD_NOT_ALLOWED")


async def test_filters_and_pages(api: Api, store: Caller) -> None:
    for size in range(10, 17):
        await store.data("PATCH", SETTINGS, json={"batchSize": size})
    changed = await entries(store, action="settings_changed", limit=200)
    sizes = [entry["after"].get("batchSize") for entry in changed]
    assert sizes[:7] == [16, 15, 14, 13, 12, 11, 10]
    first = (await store.get(LOG, action="settings_changed", limit=3)).json()
    assert (first["metadata"]["page"], first["metadata"]["totalIsExact"]) == (1, True)
    second = await store.get(LOG, action="settings_changed", limit=3, cursor=first["metadata"]["nextCursor"])
    assert [*first["data"], *second.json()["data"]] == changed[:6]
    assert await entries(store, action="settings_changed", limit=3, page=2) == changed[3:6]
    assert await entries(store, q="TINGS_CH", limit=200) == changed
    actor = changed[0]["actor"]
    assert await entries(store, actor=actor, targetType="store", limit=200) == changed[:7]
    assert await entries(store, targetType="hold") == []
    moment = changed[3]["at"]
    assert await entries(store, **{"from": moment}) == changed[:4]
    assert (await entries(store, to=moment))[0] == changed[4]
    # A cursor serves the list it was made for.
    strange = await store.get(LOG, action="token_set", cursor=first["metadata"]["nextCursor"])
    assert_error(strange, 400, "VALIDATION_ERROR")


async def test_what_is_asked_wrongly_is_said(store: Caller) -> None:
    for query in (
        "action=nothing",
        "targetType=x",
        "from=yesterday",
        "to=2026-05-03T10:00:00",
        "q=",
        "limit=201",
    ):
        fault = assert_error(await store("GET", f"{LOG}?{query}"), 400, "VALIDATION_ERROR")
        assert fault["details"][0]["field"] == query.partition("=")[0]
    assert await entries(store, q="%") == []
    whole = quote("2026-05-03T10:00:00+02:00")
    assert (await store("GET", f"{LOG}?from={whole}")).status_code == 200


def test_the_document_names_every_action_and_kind_of_target() -> None:
    rows = [
        line.split("|")
        for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    for words, column in ((AuditAction, 1), (AuditTarget, 2)):
        named = set(
            re.findall(
                r"`([a-z_]+)`", " ".join(row[column] for row in rows if len(row) == 5 and "_" in row[1])
            )
        )
        assert named == {word.value for word in words}


def test_what_is_not_audited_exists() -> None:
    """That everything else is audited is shown where every operation is called, by tests/api/test_examples.py."""
    assert NOT_AUDITED.keys() <= changing_operations()
