"""Jobs that read Meta back: their lease, their pages, their end, and how people look at one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from meta_sync.core import lookups
from meta_sync.sync import job_reading, read_jobs
from meta_sync.sync.job_models import READ_TYPES
from tests.simulation.memory import Row, Rows, Transaction, twin
from tests.simulation.twins.expressions import greatest, seconds

_UNFINISHED = frozenset({"queued", "running", "cancelling"})


@twin(lookups._GO_BY_INDEXES)
def go_by_indexes(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([("off",)])


@twin(read_jobs._INSERT)
def insert(t: Transaction, p: Mapping[str, Any]) -> Rows:
    names = ("job_id", "store_id", "link_id", "type", "description", "requested_by", "total")
    given = {name: p[name] for name in names}
    t.jobs.insert(t.now, **given, status="queued", result=orjson.loads(p["result"]), dry_run=False)
    return Rows(rowcount=1)


@twin(read_jobs._LEASE)
def lease(t: Transaction, p: Mapping[str, Any]) -> Rows:
    del p
    free = [
        row
        for row in t.jobs
        if row["status"] in _UNFINISHED
        and row["type"] in READ_TYPES
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
        leased_until=t.now + seconds(read_jobs.LEASE_SECONDS),
        fence=first["fence"] + 1,
        started_at=first["started_at"] or t.now,
    )
    names = ("job_id", "store_id", "link_id", "type", "status", "stage", "cursor", "fence", "looked_at")
    rest = ({} if row["result"] is None else row["result"], row["requested_by"], row["started_at"], t.now)
    return Rows([(*(row[name] for name in names), *rest)])


def _mine(t: Transaction, p: Mapping[str, Any], *statuses: str) -> Row | None:
    row = t.jobs.get(p["job_id"])
    if row is None or row["fence"] != p["fence"] or row["status"] not in statuses:
        return None
    return row


@twin(read_jobs._ADVANCE)
def advance(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _mine(t, p, "running")
    if row is None:
        return Rows()
    looked_at = row["looked_at"] + p["looked_at"]
    total = row["total"] if p["total"] is None else p["total"]
    t.jobs.update(
        row,
        cursor=p["cursor"],
        stage=p["stage"],
        result=orjson.loads(p["result"]),
        message=None,
        looked_at=looked_at,
        total=greatest(total, looked_at),
        leased_until=greatest(t.now + seconds(p["seconds"]), p["until"]),
    )
    return Rows([(1,)])


@twin(read_jobs._IS_OURS)
def is_ours(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([] if _mine(t, p, "running") is None else [(1,)])


@twin(read_jobs._GIVE_BACK)
def give_back(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _mine(t, p, "running")
    if row is None:
        return Rows(rowcount=0)
    until = greatest(t.now + seconds(p["seconds"]), p["until"])
    t.jobs.update(row, message=p["message"], leased_until=until)
    return Rows(rowcount=1)


@twin(read_jobs._END)
def end(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _mine(t, p, "running", "cancelling")
    if row is None:
        return Rows()
    t.jobs.update(
        row,
        status=p["status"],
        stage="done",
        finished_at=t.now,
        leased_until=None,
        message=p["message"],
        error_code=p["error_code"],
        result=row["result"] if p["result"] is None else orjson.loads(p["result"]),
        total=row["looked_at"],
    )
    return Rows([(1,)])


@twin(read_jobs._DROP_KEYS)
def drop_keys(t: Transaction, p: Mapping[str, Any]) -> Rows:
    doomed = [row for row in t.job_keys if row["job_id"] == p["job_id"]][: p["most"]]
    for row in doomed:
        t.job_keys.delete(row)
    return Rows(rowcount=len(doomed))


_VIEW = (
    *("job_id", "type", "status", "stage", "message", "total", "looked_at", "enqueued", "unchanged"),
    *("requested_by", "created_at", "started_at", "finished_at", "submitted", "synced", "failed", "skipped"),
    *("scope", "action", "lane", "dry_run", "description", "result", "error_code"),
    *("rate_from", "rate_from_done", "rate_mark", "rate_mark_done"),
)


@twin(job_reading._ONE)
def one(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.jobs.get(p["job_id"])
    if row is None or row["store_id"] != p["store_id"]:
        return Rows()
    return Rows([(*(row[name] for name in _VIEW), t.now)])
