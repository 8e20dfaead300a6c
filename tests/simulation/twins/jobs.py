"""Jobs over all variants of a store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson

from meta_sync.sync import job_statements
from meta_sync.sync.job_models import RATE_SECONDS, READ_TYPES
from meta_sync.sync.states import Event
from tests.simulation.memory import Row, Rows, Transaction, twin
from tests.simulation.twins.expressions import after, seconds

_LEASE = timedelta(seconds=job_statements.LEASE_SECONDS)
_UNFINISHED = frozenset({"queued", "running", "cancelling"})


def _is_in_scope(t: Transaction, variant: Row, link_id: int) -> bool:
    if variant["deleted_at"] is None:
        return True
    state = t.sync_state.get(link_id, variant["variant_id"])
    if state is None:
        return False
    if state["status"] in {"never_synced", "pending"}:
        return True
    if state["retailer_id"] is None:
        return False
    link = t.catalog_links.get(link_id)
    epoch = None if link is None else link["epoch"]
    return bool(state["presence"] != "absent" or state["confirmed_epoch"] != epoch)


def _insert(t: Transaction, p: Mapping[str, Any], total: int) -> Rows:
    store = t.stores.get(p["store_id"])
    if store is None:
        return Rows()
    given = (
        "job_id",
        "store_id",
        "link_id",
        "type",
        "action",
        "lane",
        "dry_run",
        "description",
        "requested_by",
    )
    t.jobs.insert(
        t.now,
        **{name: p[name] for name in given},
        status="queued",
        scope=orjson.loads(p["scope"]),
        mapping_epoch=store["mapping_epoch"],
        total=total,
    )
    return Rows([(total,)])


@twin(job_statements.INSERT)
def insert(t: Transaction, p: Mapping[str, Any]) -> Rows:
    total = sum(
        variant["store_id"] == p["store_id"] and _is_in_scope(t, variant, p["link_id"])
        for variant in t.variants
    )
    return _insert(t, p, total)


@twin(job_statements.INSERT_CHOSEN)
def insert_chosen(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _insert(t, p, p["total"])


@twin(job_statements.RUNNING)
def running(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows(
        (row["job_id"],)
        for row in t.jobs
        if row["store_id"] == p["store_id"] and row["type"] == p["type"] and row["status"] in _UNFINISHED
    )


@twin(job_statements.CANCEL)
def cancel(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.jobs.get(p["job_id"])
    if row is None or row["store_id"] != p["store_id"] or row["status"] not in {"queued", "running"}:
        return Rows()
    if row["type"] == "reevaluation":
        return Rows()
    found = row["enqueued"] + row["unchanged"]
    t.jobs.update(row, status="cancelling", leased_until=None, total=row["total"] or found)
    return Rows([(1,)])


def _rate(row: Row, now: datetime) -> dict[str, Any]:
    """The two moments that a rate is measured from, moved on when the newer one is old enough."""
    done = row["looked_at"] if row["dry_run"] else row["synced"] + row["failed"] + row["skipped"]
    mark = row["rate_mark"]
    if mark is not None and mark >= now - timedelta(seconds=RATE_SECONDS):
        return {}
    since = {"rate_from": now, "rate_from_done": done}
    if mark is not None:
        since = {"rate_from": mark, "rate_from_done": row["rate_mark_done"]}
    return {**since, "rate_mark": now, "rate_mark_done": done}


@twin(job_statements.LEASE)
def lease(t: Transaction, p: Mapping[str, Any]) -> Rows:
    del p
    free = [
        row
        for row in t.jobs
        if row["status"] in _UNFINISHED
        and row["type"] not in READ_TYPES
        and (row["leased_until"] is None or row["leased_until"] < t.now)
    ]
    if not free:
        return Rows()
    first = min(
        free,
        key=lambda row: (
            row["leased_until"] is not None,
            row["leased_until"] or 0,
            row["created_at"],
            row["job_id"],
        ),
    )
    row = t.jobs.update(
        first,
        status="running" if first["status"] == "queued" else first["status"],
        leased_until=t.now + _LEASE,
        fence=first["fence"] + 1,
        started_at=first["started_at"] or t.now,
        **_rate(first, t.now),
    )
    names = (
        *("job_id", "store_id", "link_id", "type", "cursor", "mapping_epoch", "fence", "stage", "status"),
        *("action", "lane", "dry_run"),
    )
    waiting = row["enqueued"] - row["synced"] - row["failed"] - row["skipped"]
    return Rows([(*(row[name] for name in names), bool(row["scope"]), waiting)])


@twin(job_statements.ENQUEUE)
def enqueue(t: Transaction, p: Mapping[str, Any]) -> Rows:
    written = 0
    for variant_id in sorted(p["variant_ids"]):
        version = t.nextval("version_seq")
        intent = t.intents.get(p["store_id"], variant_id)
        if intent is None:
            t.intents.insert(
                t.now,
                store_id=p["store_id"],
                variant_id=variant_id,
                version=version,
                lane=p["lane"],
                job_id=p["job_id"],
            )
            written += 1
        elif intent["job_id"] not in {None, p["job_id"], job_statements.THE_CLOCK}:
            t.intents.update(intent, job_id=job_statements.SEVERAL_JOBS)
            written += 1
    return Rows(rowcount=written)


@twin(job_statements.STATES)
def states(t: Transaction, p: Mapping[str, Any]) -> Rows:
    inserted = 0
    for variant_id in p["variant_ids"]:
        if t.sync_state.get(p["link_id"], variant_id) is None:
            t.sync_state.insert(
                t.now,
                link_id=p["link_id"],
                variant_id=variant_id,
                store_id=p["store_id"],
                status="pending",
            )
            inserted += 1
    return Rows(rowcount=inserted)


@twin(job_statements.INTENDED)
def intended(t: Transaction, p: Mapping[str, Any]) -> Rows:
    changed = 0
    for variant_id in set(p["variant_ids"]):
        state = t.sync_state.get(p["link_id"], variant_id)
        if state is not None and state["status"] == "never_synced":
            t.sync_state.update(state, status="pending")
            changed += 1
    return Rows(rowcount=changed)


def _held(t: Transaction, p: Mapping[str, Any]) -> Row | None:
    """The job, while nobody else has taken it since."""
    row = t.jobs.get(p["job_id"])
    return row if row is not None and row["fence"] == p["fence"] else None


@twin(job_statements.NEW_PAGE)
def new_page(t: Transaction, p: Mapping[str, Any]) -> Rows:
    t.job_pages.insert(
        t.now,
        job_id=p["job_id"],
        first_id=p["first_id"],
        store_id=p["store_id"],
        variant_ids=list(p["variant_ids"]),
        enqueued_at=t.now,
    )
    return Rows(rowcount=1)


@twin(job_statements.ADVANCE)
def advance(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _held(t, p)
    if row is None or row["status"] != "running" or row["mapping_epoch"] != p["mapping_epoch"]:
        return Rows()
    enqueued, unchanged = row["enqueued"] + p["enqueued"], row["unchanged"] + p["unchanged"]
    found = enqueued + unchanged
    t.jobs.update(
        row,
        cursor=p["cursor"],
        looked_at=row["looked_at"] + p["looked_at"],
        enqueued=enqueued,
        unchanged=unchanged,
        total=row["total"] if p["stage"] == "enqueuing" else min(row["total"] or found, found),
        stage=p["stage"],
        leased_until=t.now + _LEASE,
    )
    return Rows([(1,)])


@twin(job_statements.UNLEASE)
def unlease(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _held(t, p)
    if row is None or row["status"] not in {"running", "cancelling"}:
        return Rows(rowcount=0)
    t.jobs.update(row, leased_until=t.now + seconds(p["seconds"]))
    return Rows(rowcount=1)


# --- what becomes of the items ------------------------------------------------------------------------------------------


@twin(job_statements.PAGES)
def pages(t: Transaction, p: Mapping[str, Any]) -> Rows:
    found = sorted(
        (row for row in t.job_pages if row["job_id"] == p["job_id"]),
        key=lambda row: (row["seen_at"] or row["enqueued_at"], row["first_id"]),
    )
    names = ("first_id", "variant_ids", "enqueued_at", "last_batch_id", "submitted")
    return Rows(tuple(row[name] for name in names) for row in found[: p["most"]])


_NOTHING: Row = dict.fromkeys(
    ("status", "in_flight", "retry_at", "retries", "confirmed_at", "code", "first_at", "job_id", "held_by")
)


@twin(job_statements.FACTS)
def facts(t: Transaction, p: Mapping[str, Any]) -> Rows:
    found = []
    for variant_id in p["variant_ids"]:
        state = t.sync_state.get(p["link_id"], variant_id) or _NOTHING
        intent = t.intents.get(p["store_id"], variant_id) or _NOTHING
        hold = t.holds.get(intent["held_by"])
        found.append(
            (
                variant_id,
                state["status"],
                state["in_flight"],
                state["retry_at"] is not None,
                state["retries"],
                state["confirmed_at"],
                intent["first_at"],
                intent["job_id"],
                state["code"],
                hold is not None and hold["state"] == "held",
            )
        )
    return Rows(found)


@twin(job_statements.NEWEST_BATCH)
def newest_batch(t: Transaction, p: Mapping[str, Any]) -> Rows:
    of_store = (row["batch_id"] for row in t.batches if row["store_id"] == p["store_id"])
    return Rows([(max(of_store, default=0),)])


@twin(job_statements.HOLD)
def hold(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _held(t, p)
    is_ours = row is not None and row["status"] == p["status"] and row["mapping_epoch"] == p["mapping_epoch"]
    return Rows([(1,)] if is_ours else [])


@twin(job_statements.COUNT)
def count(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.jobs.get(p["job_id"])
    if row is None:
        return Rows(rowcount=0)
    names = ("submitted", "synced", "failed", "skipped", "undecided")
    enqueued = row["enqueued"] - p["let_go"]
    t.jobs.update(row, enqueued=enqueued, **{name: row[name] + p[name] for name in names})
    return Rows(rowcount=1)


@twin(job_statements.KEEP_PAGE)
def keep_page(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.job_pages.get(p["job_id"], p["first_id"])
    if row is None:
        return Rows(rowcount=0)
    t.job_pages.update(
        row,
        variant_ids=row["variant_ids"] if p["variant_ids"] is None else list(p["variant_ids"]),
        submitted=p["submitted"],
        last_batch_id=p["last_batch_id"],
        seen_at=t.now,
    )
    return Rows(rowcount=1)


@twin(job_statements.DROP_PAGE)
def drop_page(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.job_pages.get(p["job_id"], p["first_id"])
    if row is not None:
        t.job_pages.delete(row)
    return Rows(rowcount=int(row is not None))


@twin(job_statements.DROP_PAGES)
def drop_pages(t: Transaction, p: Mapping[str, Any]) -> Rows:
    found = [row for row in t.job_pages if row["job_id"] == p["job_id"]]
    for row in found:
        t.job_pages.delete(row)
    return Rows(rowcount=len(found))


@twin(job_statements.WITHDRAW)
def withdraw(t: Transaction, p: Mapping[str, Any]) -> Rows:
    gone = []
    for variant_id in sorted(set(p["variant_ids"])):
        intent = t.intents.get(p["store_id"], variant_id)
        if intent is not None and intent["job_id"] == p["job_id"]:
            t.intents.delete(intent)
            gone.append(variant_id)
    return Rows([(gone or None,)])


@twin(job_statements.WITHDRAW_AHEAD)
def withdraw_ahead(t: Transaction, p: Mapping[str, Any]) -> Rows:
    ahead = sorted(
        (
            row
            for row in t.intents
            if row["store_id"] == p["store_id"]
            and row["job_id"] == p["job_id"]
            and row["variant_id"] > p["after"]
        ),
        key=lambda row: row["variant_id"],
    )[: p["most"]]
    for row in ahead:
        t.intents.delete(row)
    return Rows([([row["variant_id"] for row in ahead] or None,)])


@twin(job_statements.UNINTENDED)
def unintended(t: Transaction, p: Mapping[str, Any]) -> Rows:
    changed = 0
    for variant_id in set(p["variant_ids"]):
        state = t.sync_state.get(p["link_id"], variant_id)
        if state is not None and state["status"] == "pending":
            if any(state[name] is not None for name in ("retailer_id", "in_flight", "retry_at")):
                continue
            t.sync_state.update(state, status=after(Event.WITHDRAWN, "pending"))
            changed += 1
    return Rows(rowcount=changed)


@twin(job_statements.FINISH)
def finish(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _held(t, p)
    if row is None or any(page["job_id"] == p["job_id"] for page in t.job_pages):
        return Rows()
    is_called_off = row["status"] == "cancelling"
    if not is_called_off and (row["status"] != "running" or row["stage"] != "syncing"):
        return Rows()
    said = (
        f"Items of which Meta has ended every batch without a verdict so far: {row['undecided']}"
        ". They are tried again, at least once an hour."
    )
    t.jobs.update(
        row,
        finished_at=t.now,
        stage="done",
        leased_until=None,
        status="cancelled" if is_called_off else "partial" if row["failed"] else "success",
        error_code="items_failed" if row["failed"] else None,
        message=said if row["undecided"] else row["message"],
    )
    return Rows([(1,)])


@twin(job_statements.LINK_GONE)
def link_gone(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _held(t, p)
    if row is None:
        return Rows(rowcount=0)
    t.jobs.update(
        row,
        status="cancelled",
        finished_at=t.now,
        leased_until=None,
        error_code="catalog_changed",
    )
    return Rows(rowcount=1)
