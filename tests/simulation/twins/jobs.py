"""Jobs over all variants of a store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from meta_sync.sync import job_statements
from tests.simulation.memory import Row, Rows, Transaction, twin
from tests.simulation.twins.expressions import seconds

_LEASE = timedelta(seconds=job_statements.LEASE_SECONDS)
_UNFINISHED = frozenset({"queued", "running", "cancelling"})
_BATCH_ENDED = frozenset({"over", "given_up"})


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


@twin(job_statements.INSERT)
def insert(t: Transaction, p: Mapping[str, Any]) -> Rows:
    store = t.stores.get(p["store_id"])
    if store is None:
        return Rows()
    total = sum(
        variant["store_id"] == p["store_id"] and _is_in_scope(t, variant, p["link_id"])
        for variant in t.variants
    )
    t.jobs.insert(
        t.now,
        job_id=p["job_id"],
        store_id=p["store_id"],
        link_id=p["link_id"],
        type=p["type"],
        status="queued",
        description=p["description"],
        requested_by=p["requested_by"],
        mapping_epoch=store["mapping_epoch"],
        total=total,
    )
    return Rows([(total,)])


@twin(job_statements.RUNNING)
def running(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows(
        (row["job_id"],)
        for row in t.jobs
        if row["store_id"] == p["store_id"] and row["type"] == p["type"] and row["status"] in _UNFINISHED
    )


@twin(job_statements.LEASE)
def lease(t: Transaction, p: Mapping[str, Any]) -> Rows:
    del p
    free = [
        row
        for row in t.jobs
        if row["status"] in {"queued", "running"}
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
        status="running",
        leased_until=t.now + _LEASE,
        fence=first["fence"] + 1,
        started_at=first["started_at"] or t.now,
    )
    names = ("job_id", "store_id", "link_id", "type", "cursor", "mapping_epoch", "fence", "stage")
    return Rows([tuple(row[name] for name in names)])


@twin(job_statements.ENQUEUE)
def enqueue(t: Transaction, p: Mapping[str, Any]) -> Rows:
    inserted = 0
    for variant_id in sorted(p["variant_ids"]):
        version = t.nextval("version_seq")
        if t.intents.get(p["store_id"], variant_id) is None:
            t.intents.insert(
                t.now,
                store_id=p["store_id"],
                variant_id=variant_id,
                version=version,
                lane=2,
                job_id=p["job_id"],
            )
            inserted += 1
    return Rows(rowcount=inserted)


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


@twin(job_statements.ADVANCE)
def advance(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _held(t, p)
    if row is None or row["status"] != "running" or row["mapping_epoch"] != p["mapping_epoch"]:
        return Rows()
    t.jobs.update(
        row,
        cursor=p["cursor"],
        looked_at=row["looked_at"] + p["looked_at"],
        enqueued=row["enqueued"] + p["enqueued"],
        unchanged=row["unchanged"] + p["unchanged"],
        stage=p["stage"],
        leased_until=t.now + _LEASE,
    )
    return Rows([(1,)])


@twin(job_statements.UNLEASE)
def unlease(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _held(t, p)
    if row is None or row["status"] != "running":
        return Rows(rowcount=0)
    t.jobs.update(row, leased_until=t.now + seconds(p["seconds"]))
    return Rows(rowcount=1)


@twin(job_statements.NOTE_LAST_BATCH)
def note_last_batch(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _held(t, p)
    if row is None or row["stage"] != "syncing" or row["last_batch_id"] is not None:
        return Rows(rowcount=0)
    for intent in t.intents:
        if intent["store_id"] == row["store_id"] and (
            intent["job_id"] == row["job_id"]
            or (row["started_at"] is not None and intent["first_at"] <= row["started_at"])
        ):
            return Rows(rowcount=0)
    newest = max((one["batch_id"] for one in t.batches if one["store_id"] == row["store_id"]), default=0)
    t.jobs.update(row, last_batch_id=newest)
    return Rows(rowcount=1)


def _tried_again(t: Transaction, link_id: int | None) -> list[int]:
    """How often Meta has ended a batch of each item without a verdict, of those that go again."""
    return [
        state["retries"]
        for state in t.sync_state
        if state["link_id"] == link_id
        and state["retries"] > 0
        and (
            state["retry_at"] is not None
            or state["in_flight"] is not None
            or t.intents.get(state["store_id"], state["variant_id"]) is not None
        )
    ]


def _has_open_batch(t: Transaction, job: Row) -> bool:
    return any(
        batch["link_id"] == job["link_id"]
        and batch["batch_id"] <= job["last_batch_id"]
        and batch["state"] not in _BATCH_ENDED
        for batch in t.batches
    )


@twin(job_statements.FINISH)
def finish(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _held(t, p)
    if row is None or row["status"] != "running" or row["stage"] != "syncing" or row["last_batch_id"] is None:
        return Rows()
    tries = _tried_again(t, row["link_id"])
    if any(one < job_statements.TRIES_WAITED_FOR for one in tries) or _has_open_batch(t, row):
        return Rows()
    has_failed = any(one["link_id"] == row["link_id"] and one["status"] == "failed" for one in t.sync_state)
    said = (
        f"Items of which Meta has ended every batch without a verdict so far: {len(tries)}"
        ". They are tried again, at least once an hour."
    )
    t.jobs.update(
        row,
        finished_at=t.now,
        stage="done",
        leased_until=None,
        status="partial" if tries or has_failed else "success",
        message=said if tries else row["message"],
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
        message="The store uses another catalog now.",
    )
    return Rows(rowcount=1)
