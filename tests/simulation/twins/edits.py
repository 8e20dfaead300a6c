"""The statements of ``tests.simulation.edits``: settings, links and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.simulation import edits
from tests.simulation.memory import Row, Rows, Transaction, twin
from tests.simulation.twins.catalog import jsonb

_FACTS = ("vertical", "product_count")
_OF_SELECTION = (
    "catalog_name",
    "business_id",
    "business_name",
    "system_user_id",
    "credential_id",
    "was_empty",
    *_FACTS,
)
_OF_TOKEN = ("credential_id", "store_id", "access_token", "app_id", "token_kind", "account_id")


@twin(edits._NEW_STORE)
def new_store(t: Transaction, p: Mapping[str, Any]) -> Rows:
    t.stores.insert(
        t.now,
        store_id=p["store_id"],
        public_id=p["public_id"],
        name=p["name"],
        settings=jsonb(p["settings"]),
    )
    return Rows(rowcount=1)


@twin(edits._ANYTHING_SENT)
def anything_sent(t: Transaction, p: Mapping[str, Any]) -> Rows:
    links = {row["link_id"] for row in t.catalog_links if row["store_id"] == p["store_id"]}
    return Rows([(any(row["link_id"] in links and row["retailer_id"] is not None for row in t.sync_state),)])


@twin(edits._WRITE_SETTINGS)
def write_settings(t: Transaction, p: Mapping[str, Any]) -> Rows:
    store = t.stores.get(p["store_id"])
    if store is None:
        return Rows(rowcount=0)
    t.stores.update(
        store,
        settings=jsonb(p["settings"]),
        mapping_epoch=store["mapping_epoch"] + p["epoch_steps"],
        updated_at=t.now,
    )
    return Rows(rowcount=1)


@twin(edits._USABLE_TOKEN)
def usable_token(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows(
        (row["credential_id"], row["account_id"] if row["token_kind"] == "system_user" else None)
        for row in t.credentials
        if row["store_id"] == p["store_id"] and row["active"] and row["dead_at"] is None
    )


@twin(edits._NOTE_CATALOG_FACTS)
def note_catalog_facts(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.catalog_links.get(p["link_id"])
    if row is None:
        return Rows(rowcount=0)
    t.catalog_links.update(row, checked_at=t.now, **{name: p[name] for name in _FACTS})
    return Rows(rowcount=1)


def _active_links(t: Transaction, p: Mapping[str, Any]) -> list[Row]:
    return [row for row in t.catalog_links if row["store_id"] == p["store_id"] and row["active"]]


@twin(edits._LEAVE_LINK)
def leave_link(t: Transaction, p: Mapping[str, Any]) -> Rows:
    left = [t.catalog_links.update(row, active=False) for row in _active_links(t, p)]
    return Rows(rowcount=len(left))


@twin(edits._RETURN_TO_LINK)
def return_to_link(t: Transaction, p: Mapping[str, Any]) -> Rows:
    same = ("store_id", "graph_host", "catalog_id")
    return Rows(
        (
            t.catalog_links.update(
                row,
                epoch=row["epoch"] + 1,
                active=True,
                checked_at=t.now,
                selected_at=t.now,
                first_run_approved_at=row["first_run_approved_at"] or (t.now if p["was_empty"] else None),
                **{name: p[name] for name in _OF_SELECTION},
            )["link_id"],
        )
        for row in t.catalog_links
        if all(row[name] == p[name] for name in same)
    )


@twin(edits._NEW_LINK)
def new_link(t: Transaction, p: Mapping[str, Any]) -> Rows:
    link_id = max((row["link_id"] for row in t.catalog_links), default=0) + 1
    t.catalog_links.insert(
        t.now,
        link_id=link_id,
        store_id=p["store_id"],
        graph_host=p["graph_host"],
        catalog_id=p["catalog_id"],
        active=True,
        checked_at=t.now,
        first_run_approved_at=t.now if p["was_empty"] else None,
        usage_percent=0.0,
        questions_usage_percent=0.0,
        **{name: p[name] for name in _OF_SELECTION},
    )
    return Rows([(link_id,)])


@twin(edits._REPORT)
def report(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows(
        (t.jobs.update(row, status="success", finished_at=t.now)["job_id"],)
        for row in t.jobs
        if row["store_id"] == p["store_id"]
        and row["type"] == "preflight"
        and row["status"] in {"queued", "running"}
    )


@twin(edits._RETIRE_TOKENS)
def retire_tokens(t: Transaction, p: Mapping[str, Any]) -> Rows:
    active = [row for row in t.credentials if row["store_id"] == p["store_id"] and row["active"]]
    for row in active:
        t.credentials.update(row, active=False)
    return Rows(rowcount=len(active))


@twin(edits._NEXT_NUMBER)
def next_number(t: Transaction, p: Mapping[str, Any]) -> Rows:
    del p
    return Rows([(t.nextval("version_seq"),)])


@twin(edits._NEW_TOKEN)
def new_token(t: Transaction, p: Mapping[str, Any]) -> Rows:
    t.credentials.insert(
        t.now,
        active=True,
        checked_at=t.now,
        **{name: p[name] for name in _OF_TOKEN},
    )
    return Rows(rowcount=1)


@twin(edits._USE_TOKEN)
def use_token(t: Transaction, p: Mapping[str, Any]) -> Rows:
    used = [
        t.catalog_links.update(row, credential_id=p["credential_id"], system_user_id=p["system_user_id"])
        for row in _active_links(t, p)
    ]
    return Rows(rowcount=len(used))


@twin(edits._DROP_UNUSED_TOKENS)
def drop_unused_tokens(t: Transaction, p: Mapping[str, Any]) -> Rows:
    used = {row["credential_id"] for row in t.catalog_links if row["store_id"] == p["store_id"]}
    unused = [
        row
        for row in t.credentials
        if row["store_id"] == p["store_id"] and not row["active"] and row["credential_id"] not in used
    ]
    for row in unused:
        t.credentials.delete(row)
    return Rows(rowcount=len(unused))


@twin(edits._END_RECONNECT_PAUSE)
def end_reconnect_pause(t: Transaction, p: Mapping[str, Any]) -> Rows:
    ended = [
        row
        for row in t.store_pauses
        if row["store_id"] == p["store_id"] and row["reason"] == "needs_reconnect"
    ]
    for row in ended:
        t.store_pauses.delete(row)
    return Rows([(1,)] * len(ended))


@twin(edits._MAKE_DUE)
def make_due(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.store_queue.get(p["store_id"])
    if row is None:
        return Rows(rowcount=0)
    t.store_queue.update(row, due_at=min(row["due_at"] or t.now, t.now))
    return Rows(rowcount=1)
