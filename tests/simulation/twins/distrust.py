"""What ``distrust`` does to a link and its jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meta_sync.sync import distrust
from tests.simulation.memory import Row, Rows, Transaction, twin


@twin(distrust._LOCK_STORE)
def lock_store(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([(1,)] if t.stores.get(p["store_id"]) is not None else [])


@twin(distrust._RAISE_EPOCH)
def raise_epoch(t: Transaction, p: Mapping[str, Any]) -> Rows:
    raised = [
        t.catalog_links.update(row, epoch=row["epoch"] + 1, was_empty=False)
        for row in t.catalog_links
        if row["store_id"] == p["store_id"] and row["active"]
    ]
    return Rows((row["link_id"],) for row in raised)


@twin(distrust._FORGET_REFUSALS)
def forget_refusals(t: Transaction, p: Mapping[str, Any]) -> Rows:
    refused = [
        row for row in t.sync_state if row["link_id"] == p["link_id"] and row["rejected_hash"] is not None
    ]
    for row in refused:
        t.sync_state.update(row, rejected_hash=None)
    return Rows(rowcount=len(refused))


@twin(distrust._CANCEL_BOOTSTRAP)
def cancel_bootstrap(t: Transaction, p: Mapping[str, Any]) -> Rows:
    unfinished = [
        row
        for row in t.jobs
        if row["store_id"] == p["store_id"]
        and row["type"] == "bootstrap"
        and row["status"] in {"queued", "running", "cancelling"}
    ]
    for row in unfinished:
        t.jobs.update(
            row,
            status="cancelled",
            finished_at=t.now,
            leased_until=None,
            message="Begun anew, because what Meta confirmed does not count any more.",
        )
    return Rows((row["job_id"],) for row in unfinished)


@twin(distrust._ANY_OTHER_JOB)
def any_other_job(t: Transaction, p: Mapping[str, Any]) -> Rows:
    others = (
        row["store_id"] == p["store_id"]
        and row["type"] != "bootstrap"
        and row["status"] in {"queued", "running", "cancelling"}
        for row in t.jobs
    )
    return Rows([(any(others),)])


def _of_owners(t: Transaction, p: Mapping[str, Any]) -> list[Row]:
    return [row for row in t.intents if row["store_id"] == p["store_id"] and row["job_id"] in p["owners"]]


@twin(distrust._LOCK_INTENTS)
def lock_intents(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([(len(_of_owners(t, p)),)])


@twin(distrust._TAKE_OVER)
def take_over(t: Transaction, p: Mapping[str, Any]) -> Rows:
    owned = _of_owners(t, p)
    for row in owned:
        t.intents.update(row, job_id=p["job_id"])
    return Rows(rowcount=len(owned))


@twin(distrust._CONNECTED_STORES)
def connected_stores(t: Transaction, p: Mapping[str, Any]) -> Rows:
    del p
    return Rows((one,) for one in sorted(row["store_id"] for row in t.catalog_links if row["active"]))
