"""Intents, the state rows they need, and the store's place in the queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meta_sync.sync import outbox
from meta_sync.sync.states import Event
from tests.simulation.memory import Rows, Transaction, twin
from tests.simulation.twins.expressions import after


@twin(outbox._UPSERT_INTENTS)
def upsert_intents(t: Transaction, p: Mapping[str, Any]) -> Rows:
    given = sorted(zip(p["variant_ids"], p["lanes"], strict=True))
    # PostgreSQL refuses to update a row twice in one statement.
    assert len({variant_id for variant_id, _ in given}) == len(given), given
    for variant_id, lane in given:
        version = t.nextval("version_seq")
        row = t.intents.get(p["store_id"], variant_id)
        if row is None:
            t.intents.insert(
                t.now,
                store_id=p["store_id"],
                variant_id=variant_id,
                version=version,
                lane=int(lane),
                first_at=t.now,
            )
        else:
            # The number of the row that conflicted is lost; the update takes another.
            t.intents.update(
                row,
                version=t.nextval("version_seq"),
                lane=min(row["lane"], int(lane)),
                job_id=None,
                held_by=None,
            )
    return Rows(rowcount=len(given))


def _active_links(t: Transaction, store_id: str) -> list[int]:
    return [row["link_id"] for row in t.catalog_links if row["store_id"] == store_id and row["active"]]


@twin(outbox._INSERT_STATES)
def insert_states(t: Transaction, p: Mapping[str, Any]) -> Rows:
    inserted = 0
    for link_id in _active_links(t, p["store_id"]):
        for variant_id in sorted(p["variant_ids"]):
            if t.sync_state.get(link_id, variant_id) is None:
                t.sync_state.insert(
                    t.now, link_id=link_id, variant_id=variant_id, store_id=p["store_id"], status="pending"
                )
                inserted += 1
    return Rows(rowcount=inserted)


@twin(outbox._INTENDED)
def intended(t: Transaction, p: Mapping[str, Any]) -> Rows:
    changed = 0
    for link_id in _active_links(t, p["store_id"]):
        for variant_id in dict.fromkeys(p["variant_ids"]):
            row = t.sync_state.get(link_id, variant_id)
            if row is not None and row["status"] == "never_synced":
                t.sync_state.update(row, status=after(Event.INTENDED, row["status"]), updated_at=t.now)
                changed += 1
    return Rows(rowcount=changed)


@twin(outbox._MARK_DUE)
def mark_due(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.store_queue.get(p["store_id"])
    if row is None or (row["due_at"] is not None and row["due_at"] <= t.now):
        return Rows(rowcount=0)
    t.store_queue.update(row, due_at=t.now)
    return Rows(rowcount=1)


@twin(outbox._INSERT_QUEUE)
def insert_queue(t: Transaction, p: Mapping[str, Any]) -> Rows:
    if t.store_queue.get(p["store_id"]) is not None:
        return Rows(rowcount=0)
    t.store_queue.insert(t.now, store_id=p["store_id"], due_at=t.now)
    return Rows(rowcount=1)
