"""Leases and heartbeats."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from meta_sync.sync import lease
from tests.simulation.memory import Rows, Transaction, twin

_LEASE = timedelta(seconds=lease.LEASE_SECONDS)
_DEAD = timedelta(seconds=lease._DEAD_AFTER_SECONDS)


@twin(lease._TAKE)
def take(t: Transaction, p: Mapping[str, Any]) -> Rows:
    def is_free(row: dict[str, Any]) -> bool:
        if row["leased_until"] is None or row["leased_until"] < t.now:
            return True
        beat = t.worker_heartbeats.get(row["lease_owner"])
        return beat is None or beat["seen_at"] < t.now - _DEAD

    newer = {row["store_id"] for row in t.stores if row["mapper_version"] > p["mapper_version"]}
    due = [row for row in t.store_queue if row["due_at"] is not None and row["due_at"] <= t.now]
    due = [row for row in due if row["store_id"] not in newer]
    due = sorted(filter(is_free, due), key=lambda row: row["due_at"])
    if not due:
        return Rows()
    row = t.store_queue.update(
        due[0], leased_until=t.now + _LEASE, lease_owner=p["owner"], fence=due[0]["fence"] + 1
    )
    return Rows([(row["store_id"], row["fence"])])


def _held(t: Transaction, p: Mapping[str, Any]) -> dict[str, Any] | None:
    row = t.store_queue.get(p["store_id"])
    if row is None or row["fence"] != p["fence"] or row["lease_owner"] != p["owner"]:
        return None
    return row


@twin(lease._HOLDS)
def holds(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _held(t, p)
    if row is None:
        return Rows()
    if row["leased_until"] is None:
        return Rows([(None,)])
    return Rows([(row["leased_until"] - t.now > timedelta(seconds=p["seconds"]),)])


@twin(lease._RENEW)
def renew(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _held(t, p)
    if row is None:
        return Rows()
    t.store_queue.update(row, leased_until=t.now + _LEASE)
    return Rows([(1,)])


@twin(lease._RELEASE)
def release(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _held(t, p)
    if row is None:
        return Rows(rowcount=0)
    due_at = t.now if p["again"] else p["next_look"]
    t.store_queue.update(row, leased_until=None, lease_owner=None, last_drain_at=t.now, due_at=due_at)
    return Rows(rowcount=1)


@twin(lease._BEAT)
def beat(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.worker_heartbeats.get(p["worker_id"])
    if row is None:
        t.worker_heartbeats.insert(t.now, worker_id=p["worker_id"], version=p["version"], queue=p["queue"])
    else:
        t.worker_heartbeats.update(row, seen_at=t.now)
    return Rows(rowcount=1)
