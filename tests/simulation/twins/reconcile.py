"""Reconciling: what the ledger says of ids, what was met, what was found, and its repair."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from math import floor
from typing import Any

import orjson

from meta_sync.sync import reconcile_repair as repair
from meta_sync.sync import reconcile_statements as statements
from meta_sync.sync.states import Event
from tests.simulation.memory import Row, Rows, Transaction, twin
from tests.simulation.twins.expressions import after, greatest

_UNFINISHED = frozenset({"queued", "running", "cancelling"})
_COLUMNS = (
    *(
        "retailer_id",
        "variant_id",
        "product_id",
        "verdict",
        "state",
        "differences",
        "found",
        "meta_id",
        "feed_id",
    ),
    *("first_read_at", "second_read_at", "acted_at", "acted_by"),
)


def _facts(t: Transaction, p: Mapping[str, Any], state: Row, variant: Row | None) -> tuple[bool, Any]:
    """``_FACTS``."""
    waits = (
        state["in_flight"] is not None
        or state["retry_at"] is not None
        or t.intents.get(p["store_id"], state["variant_id"]) is not None
    )
    times = (state[name] for name in ("updated_at", "last_pushed_at", "confirmed_at"))
    return waits, greatest(*times, None if variant is None else variant["updated_at"])


@twin(statements.LEDGER)
def ledger(t: Transaction, p: Mapping[str, Any]) -> Rows:
    by_id = {
        row["retailer_id"]: row
        for row in t.sync_state
        if row["link_id"] == p["link_id"] and row["retailer_id"] is not None
    }
    found = []
    for retailer_id in p["retailer_ids"]:
        state = by_id.get(retailer_id)
        if state is None or state["confirmed_epoch"] is None:
            continue
        variant = t.variants.get(p["store_id"], state["variant_id"])
        payload = t.item_payloads.get(p["link_id"], state["variant_id"])
        found.append(
            (
                retailer_id,
                state["variant_id"],
                None if variant is None else variant["product_id"],
                variant is not None and variant["deleted_at"] is None,
                state["presence"],
                state["confirmed_epoch"],
                state["confirmed_hash"] is not None,
                *_facts(t, p, state, variant),
                state["grace_until"],
                state["discarded_hash"],
                None if payload is None else payload["payload"],
            )
        )
    return Rows(found)


@twin(statements.UNSEEN)
def unseen(t: Transaction, p: Mapping[str, Any]) -> Rows:
    page = [row for row in t.sync_state if row["link_id"] == p["link_id"] and row["variant_id"] > p["after"]]
    page.sort(key=lambda row: row["variant_id"])
    found = []
    for state in page[: p["most"]]:
        variant = t.variants.get(p["store_id"], state["variant_id"])
        is_unseen: bool | None = (
            state["presence"] == "present"
            and state["status"] == "synced"
            and state["confirmed_hash"] is not None
            and state["retailer_id"] is not None
            and variant is not None
            and variant["deleted_at"] is None
            and t.job_keys.get(p["job_id"], p["kind"], state["variant_id"]) is None
        )
        if is_unseen:
            is_unseen = None if state["confirmed_epoch"] is None else state["confirmed_epoch"] == p["epoch"]
        product_id = None if variant is None else variant["product_id"]
        ids = (state["variant_id"], state["retailer_id"], product_id)
        found.append((*ids, is_unseen, *_facts(t, p, state, variant)))
    return Rows(found)


@twin(statements.SEEN)
def seen(t: Transaction, p: Mapping[str, Any]) -> Rows:
    new = [one for one in sorted(set(p["keys"])) if t.job_keys.get(p["job_id"], p["kind"], one) is None]
    for one in new:
        t.job_keys.insert(t.now, job_id=p["job_id"], kind=p["kind"], key=one, store_id=p["store_id"])
    return Rows((one,) for one in new)


@twin(statements.INSERT_FINDINGS)
def insert_findings(t: Transaction, p: Mapping[str, Any]) -> Rows:
    names = (
        "retailer_ids",
        "variant_ids",
        "product_ids",
        "verdicts",
        "differences",
        "found",
        "meta_ids",
        "feed_ids",
    )
    returned: list[tuple[str | None]] = []
    for values in sorted(zip(*(p[name] for name in names), strict=True), key=lambda one: one[0]):
        retailer_id, variant_id, product_id, verdict, differences, found, meta_id, feed_id = values
        given = {
            "variant_id": variant_id,
            "product_id": product_id,
            "verdict": verdict,
            "state": "suspected",
            "differences": orjson.loads(differences),
            "found": None if found is None else orjson.loads(found),
            "meta_id": meta_id,
            "feed_id": feed_id,
            "first_read_at": p["read_at"],
        }
        row = t.reconcile_findings.get(p["job_id"], retailer_id)
        if row is None:
            ids = {name: p[name] for name in ("job_id", "store_id", "link_id")}
            t.reconcile_findings.insert(t.now, **ids, retailer_id=retailer_id, **given)
            returned.append((retailer_id,))
        else:
            t.reconcile_findings.update(row, **given)
            returned.append((None,))
    return Rows(returned)


def _of_job(t: Transaction, job_id: str) -> list[Row]:
    rows = [row for row in t.reconcile_findings if row["job_id"] == job_id]
    return sorted(rows, key=lambda row: row["retailer_id"])


@twin(statements.CHUNK)
def chunk(t: Transaction, p: Mapping[str, Any]) -> Rows:
    rows = [row for row in _of_job(t, p["job_id"]) if row["retailer_id"] > p["after"]]
    return Rows(tuple(row[name] for name in _COLUMNS) for row in rows[: p["most"]])


@twin(statements.SETTLE_FINDINGS)
def settle_findings(t: Transaction, p: Mapping[str, Any]) -> Rows:
    changed = 0
    names = ("retailer_ids", "states", "differences", "found", "meta_ids", "feed_ids")
    for retailer_id, state, differences, found, meta_id, feed_id in zip(*(p[n] for n in names), strict=True):
        row = t.reconcile_findings.get(p["job_id"], retailer_id)
        if row is None or row["state"] != "suspected":
            continue
        t.reconcile_findings.update(
            row,
            state=state,
            second_read_at=p["read_at"],
            differences=row["differences"] if differences is None else orjson.loads(differences),
            found=row["found"] if found is None else orjson.loads(found),
            meta_id=row["meta_id"] if meta_id is None else meta_id,
            feed_id=row["feed_id"] if feed_id is None else feed_id,
        )
        changed += 1
    return Rows(rowcount=changed)


@twin(statements.AGREED)
def agreed(t: Transaction, p: Mapping[str, Any]) -> Rows:
    counts: dict[str, dict[str, int]] = {}
    for row in _of_job(t, p["job_id"]):
        of_verdict = counts.setdefault(row["verdict"], {})
        of_verdict[row["state"]] = of_verdict.get(row["state"], 0) + 1
    return Rows((name, one.get("agreed", 0), one.get("withdrawn", 0)) for name, one in counts.items())


@twin(statements.NOTE_COUNT)
def note_count(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.catalog_links.get(p["link_id"])
    if row is None:
        return Rows(rowcount=0)
    t.catalog_links.update(row, product_count=p["product_count"], checked_at=t.now)
    return Rows(rowcount=1)


def _due_link(t: Transaction, p: Mapping[str, Any], link: Row) -> datetime | None:
    """When the store of a link was read back last, where it is to be read again; ``None``: not yet, or never."""
    store, token = t.stores.get(link["store_id"]), t.credentials.get(link["credential_id"])
    if (
        not link["active"]
        or link["first_run_approved_at"] is None
        or link["graph_host"] != p["graph_host"]
        or store is None
        or store["settings"].get("sync_enabled") is not True
        or token is None
        or token["dead_at"] is not None
    ):
        return None
    jobs = [row for row in t.jobs if row["store_id"] == link["store_id"] and row["type"] == "reconciliation"]
    if any(row["status"] in _UNFINISHED for row in jobs):
        return None
    newest = max((row["created_at"] for row in jobs), default=None)
    last_at: datetime = greatest(link["selected_at"], link["first_run_approved_at"], newest)
    second = int(hashlib.md5(link["store_id"].encode(), usedforsecurity=False).hexdigest()[:6], 16) % 86400
    day_now, day_then = (floor((one.timestamp() - second) / p["day_seconds"]) for one in (t.now, last_at))
    return last_at if day_now > day_then else None


@twin(statements.DUE_STORES)
def due_stores(t: Transaction, p: Mapping[str, Any]) -> Rows:
    due = [(at, link) for link in t.catalog_links if (at := _due_link(t, p, link)) is not None]
    due.sort(key=lambda one: one[0])
    return Rows((link["store_id"], link["link_id"]) for _, link in due[: p["most"]])


# --- repair -----------------------------------------------------------------------------------------------------------


def _wanted(t: Transaction, p: Mapping[str, Any]) -> Iterator[Row]:
    """``_WANTED``."""
    for row in _of_job(t, p["job_id"]):
        if (
            row["store_id"] == p["store_id"]
            and row["state"] == "agreed"
            and row["verdict"] in p["verdicts"]
            and row["variant_id"] is not None
            and (p["retailer_ids"] is None or row["retailer_id"] in p["retailer_ids"])
            and (p["variant_ids"] is None or row["variant_id"] in p["variant_ids"])
        ):
            yield row


@twin(repair._FIND)
def find(t: Transaction, p: Mapping[str, Any]) -> Rows:
    rows = list(_wanted(t, p))[: p["most"]]
    return Rows(tuple(row[name] for name in _COLUMNS) for row in rows)


@twin(repair._COUNT)
def count(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([(sum(1 for _ in _wanted(t, p)),)])


@twin(repair._LOCK_IN_FLIGHT)
def lock_in_flight(t: Transaction, p: Mapping[str, Any]) -> Rows:
    rows = (t.sync_state.get(p["link_id"], one) for one in p["variant_ids"])
    return Rows([(sum(row is not None and row["in_flight"] is not None for row in rows),)])


@twin(repair._DISTURB)
def disturb(t: Transaction, p: Mapping[str, Any]) -> Rows:
    disturbed = []
    for variant_id, retailer_id, held in zip(p["variant_ids"], p["retailer_ids"], p["held"], strict=True):
        row = t.sync_state.get(p["link_id"], variant_id)
        if row is None or row["retailer_id"] != retailer_id:
            continue
        is_adopted = row["discarded_hash"] is not None and row["discarded_hash"] == row["confirmed_hash"]
        t.sync_state.update(
            row,
            discarded_hash=None if is_adopted else row["discarded_hash"],
            confirmed_hash=None,
            rejected_hash=None,
            batch_limit=None,
            retry_at=None,
            presence="maybe",
            may_hold=sorted({*row["may_hold"], *(held.split(",") if held else ())}),
            disturbed_at=t.now,
            status=after(Event.DISTURBED, row["status"]),
            updated_at=t.now,
        )
        disturbed.append((variant_id,))
    return Rows(disturbed)


@twin(repair._ACTED)
def acted(t: Transaction, p: Mapping[str, Any]) -> Rows:
    rows = [
        row
        for row in _of_job(t, p["job_id"])
        if row["state"] == "agreed" and row["retailer_id"] in p["retailer_ids"]
    ]
    for row in rows:
        t.reconcile_findings.update(row, state="repaired", acted_at=t.now, acted_by=p["actor"])
    return Rows(rowcount=len(rows))


@twin(repair._EVENTS)
def events(t: Transaction, p: Mapping[str, Any]) -> Rows:
    for variant_id in p["variant_ids"]:
        t.item_events.insert(
            t.now,
            event_id=t.nextval("item_events_event_id_seq"),
            store_id=p["store_id"],
            link_id=p["link_id"],
            variant_id=variant_id,
            kind="drift",
            actor=p["actor"],
        )
    return Rows(rowcount=len(p["variant_ids"]))


@twin(repair._LINK_OF_JOB)
def link_of_job(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.jobs.get(p["job_id"])
    return Rows([] if row is None else [(row["link_id"],)])
