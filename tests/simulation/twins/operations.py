"""What an operator does to a single item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meta_sync.sync import operations
from meta_sync.sync.states import Event
from tests.simulation.memory import Rows, Transaction, twin
from tests.simulation.twins.expressions import after


@twin(operations._EXISTS)
def exists(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([(1,)] if t.variants.get(p["store_id"], p["variant_id"]) is not None else [])


@twin(operations._LOCK_IN_FLIGHT)
def lock_in_flight(t: Transaction, p: Mapping[str, Any]) -> Rows:
    state = t.sync_state.get(p["link_id"], p["variant_id"])
    return Rows([(1,)] if state is not None and state["in_flight"] is not None else [])


@twin(operations._NEW_STATE)
def new_state(t: Transaction, p: Mapping[str, Any]) -> Rows:
    if t.sync_state.get(p["link_id"], p["variant_id"]) is not None:
        return Rows(rowcount=0)
    t.sync_state.insert(
        t.now,
        link_id=p["link_id"],
        variant_id=p["variant_id"],
        store_id=p["store_id"],
        status="pending",
    )
    return Rows(rowcount=1)


@twin(operations._FORGET)
def forget(t: Transaction, p: Mapping[str, Any]) -> Rows:
    state = t.sync_state.get(p["link_id"], p["variant_id"])
    if state is None:
        return Rows(rowcount=0)
    t.sync_state.update(
        state,
        confirmed_hash=None,
        rejected_hash=None,
        discarded_hash=None,
        batch_limit=None,
        retry_at=None,
        presence="maybe",
        may_hold=list(p["managed"]),
        disturbed_at=t.now,
        excluded_at=None,
        image_version=state["image_version"] + p["image_steps"],
        status=after(Event.DISTURBED, state["status"]),
        updated_at=t.now,
    )
    return Rows(rowcount=1)


@twin(operations._LOOK_AGAIN)
def look_again(t: Transaction, p: Mapping[str, Any]) -> Rows:
    state = t.sync_state.get(p["link_id"], p["variant_id"])
    if state is None:
        return Rows(rowcount=0)
    t.sync_state.update(
        state,
        rejected_hash=None,
        excluded_at=None,
        image_version=state["image_version"] + p["image_steps"],
        status=after(Event.INTENDED, state["status"]),
        updated_at=t.now,
    )
    return Rows(rowcount=1)


@twin(operations._EXCLUDE)
def exclude(t: Transaction, p: Mapping[str, Any]) -> Rows:
    state = t.sync_state.get(p["link_id"], p["variant_id"])
    if state is None:
        return Rows(rowcount=0)
    t.sync_state.update(
        state,
        excluded_at=state["excluded_at"] or t.now,
        disturbed_at=t.now,
        confirmed_hash=None,
        rejected_hash=None,
        discarded_hash=None,
        retry_at=None,
        presence="maybe" if state["presence"] == "present" else state["presence"],
        status=after(Event.EXCLUDED, state["status"]),
        updated_at=t.now,
    )
    return Rows(rowcount=1)


def _event(t: Transaction, p: Mapping[str, Any], kind: str, code: str | None) -> Rows:
    t.item_events.insert(
        t.now,
        event_id=t.nextval("item_events_event_id_seq"),
        store_id=p["store_id"],
        link_id=p["link_id"],
        variant_id=p["variant_id"],
        kind=kind,
        code=code,
        actor=p["actor"],
    )
    return Rows(rowcount=1)


@twin(operations._EXCLUDED_EVENT)
def excluded_event(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _event(t, p, "excluded", "excluded_by_operator")


@twin(operations._EVENT)
def event(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _event(t, p, "resync", None)
