"""What a change of settings, of the catalog or of the mapper does to the pipeline's rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meta_sync.sync import listener
from meta_sync.sync.job_statements import THE_CLOCK
from tests.simulation.memory import Row, Rows, Transaction, twin


@twin(listener._RESTART)
def restart(t: Transaction, p: Mapping[str, Any]) -> Rows:
    store = t.stores.get(p["store_id"])
    restarted = []
    for row in t.jobs:
        if (
            row["store_id"] == p["store_id"]
            and row["type"] == "reevaluation"
            and row["status"] in {"queued", "running", "cancelling"}
        ):
            t.jobs.update(
                row,
                cursor=None,
                looked_at=0,
                enqueued=0,
                unchanged=0,
                submitted=0,
                synced=0,
                failed=0,
                skipped=0,
                undecided=0,
                stage="waiting",
                rate_mark=None,
                status="queued" if row["status"] == "cancelling" else row["status"],
                leased_until=None if row["status"] == "cancelling" else row["leased_until"],
                mapping_epoch=None if store is None else store["mapping_epoch"],
            )
            restarted.append((row["job_id"],))
    return Rows(restarted)


@twin(listener._ALL_STATES)
def all_states(t: Transaction, p: Mapping[str, Any]) -> Rows:
    inserted = 0
    for variant in t.variants:
        if (
            variant["store_id"] == p["store_id"]
            and variant["deleted_at"] is None
            and t.sync_state.get(p["link_id"], variant["variant_id"]) is None
        ):
            t.sync_state.insert(
                t.now,
                link_id=p["link_id"],
                variant_id=variant["variant_id"],
                store_id=variant["store_id"],
                status="never_synced",
            )
            inserted += 1
    return Rows(rowcount=inserted)


def _is_of_a_job(row: Row) -> bool:
    return row["job_id"] is not None and row["job_id"] != THE_CLOCK


def _to_free(t: Transaction, p: Mapping[str, Any]) -> list[Row]:
    return [
        row
        for row in t.intents
        if row["store_id"] == p["store_id"]
        and (
            row["parked_by"] is not None
            or _is_of_a_job(row)
            or row["held_by"] is not None
            or row["released_kinds"] != 0
        )
    ]


@twin(listener._END_HOLDS)
def end_holds(t: Transaction, p: Mapping[str, Any]) -> Rows:
    ended = [row for row in t.holds if row["store_id"] == p["store_id"] and row["finished_at"] is None]
    for row in ended:
        is_open = row["state"] in {"counting", "held"}
        t.holds.update(
            row,
            state="dissolved" if is_open else row["state"],
            finished_at=t.now,
            leased_until=None,
            cursor=None,
        )
    return Rows(rowcount=len(ended))


@twin(listener._LOCK_INTENTS)
def lock_intents(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([(len(_to_free(t, p)),)])


@twin(listener._FREE_INTENTS)
def free_intents(t: Transaction, p: Mapping[str, Any]) -> Rows:
    found = _to_free(t, p)
    for row in found:
        t.intents.update(
            row,
            parked_by=None,
            held_by=None,
            released_kinds=0,
            job_id=p["job_id"] if _is_of_a_job(row) else row["job_id"],
        )
    return Rows(rowcount=len(found))


@twin(listener._CANCEL_OLD_JOBS)
def cancel_old_jobs(t: Transaction, p: Mapping[str, Any]) -> Rows:
    changed = 0
    for row in t.jobs:
        if row["store_id"] == p["store_id"] and row["status"] in {"queued", "running", "cancelling"}:
            t.jobs.update(
                row,
                status="cancelled",
                finished_at=t.now,
                leased_until=None,
                error_code="catalog_changed",
            )
            changed += 1
    return Rows(rowcount=changed)


@twin(listener._CLEAR_PAUSES)
def clear_pauses(t: Transaction, p: Mapping[str, Any]) -> Rows:
    deleted = 0
    for row in t.store_pauses:
        if row["store_id"] == p["store_id"] and row["link_id"] in {0, p["link_id"]}:
            t.store_pauses.delete(row)
            deleted += 1
    return Rows(rowcount=deleted)


@twin(listener._RAISE)
def raise_epochs(t: Transaction, p: Mapping[str, Any]) -> Rows:
    older = [row for row in t.stores if row["mapper_version"] < p["mapper_version"]]
    older = sorted(older, key=lambda row: row["store_id"])[: listener._STORES_AT_ONCE]
    for row in older:
        t.stores.update(row, mapper_version=p["mapper_version"], mapping_epoch=row["mapping_epoch"] + 1)
    return Rows((row["store_id"],) for row in older)


@twin(listener._ANY_OLDER)
def any_older(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([(any(row["mapper_version"] < p["mapper_version"] for row in t.stores),)])
