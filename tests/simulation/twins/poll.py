"""Taking batches that are due, and putting them off."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from meta_sync.sync import poll_statements
from meta_sync.sync.resend import MAX_CALLS
from tests.simulation.memory import Row, Rows, Transaction, twin
from tests.simulation.twins.expressions import greatest, seconds

_CLAIM = timedelta(seconds=poll_statements._CLAIM_SECONDS)
_CLAIMED = (
    "batch_id",
    "store_id",
    "link_id",
    "catalog_id",
    "state",
    "handle",
    "sent",
    "polls",
    "calls",
    "created_at",
    "sent_at",
)


@twin(poll_statements.CLAIM)
def claim(t: Transaction, p: Mapping[str, Any]) -> Rows:
    def is_due(row: Row) -> bool:
        if row["due_at"] is None or row["due_at"] > t.now or row["state"] == "over":
            return False
        if row["state"] == "unknown" and row["calls"] < MAX_CALLS:
            # Without an end of the hold the condition is NULL, so the row is left out.
            return row["hold_until"] is not None and row["hold_until"] <= t.now
        return True

    due = sorted(filter(is_due, t.batches), key=lambda row: row["due_at"])[: p["most"]]
    claimed = [t.batches.update(row, due_at=t.now + _CLAIM, polls=row["polls"] + 1) for row in due]
    return Rows(tuple(row[name] for name in _CLAIMED) for row in claimed)


@twin(poll_statements.LATER)
def later(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    if row is None or row["state"] == "over":
        return Rows(rowcount=0)
    t.batches.update(row, due_at=greatest(t.now + seconds(p["seconds"]), p["until"]))
    return Rows(rowcount=1)


@twin(poll_statements.LOST_CALL)
def lost_call(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    if row is None or row["state"] != "sending" or row["calls"] != p["calls"]:
        return Rows(rowcount=0)
    t.batches.update(
        row,
        state="unknown",
        hold_until=t.now + seconds(p["hold_seconds"]),
        due_at=t.now,
        error_code="no_answer",
        error_text=None,
    )
    return Rows(rowcount=1)


@twin(poll_statements.LOST_CALLS)
def lost_calls(t: Transaction, p: Mapping[str, Any]) -> Rows:
    lost = [row for row in t.batch_calls.by_index(p["batch_id"]) if row["state"] == "sending"]
    for row in lost:
        t.batch_calls.update(row, state="unknown", unknown_at=t.now)
    return Rows(rowcount=len(lost))


@twin(poll_statements.HOLD)
def hold(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    if row is None:
        return Rows()
    is_over = row["state"] == "unknown" and (row["hold_until"] is None or row["hold_until"] <= t.now)
    return Rows([(is_over, row["hold_until"])])


@twin(poll_statements.OTHER_CALL)
def other_call(t: Transaction, p: Mapping[str, Any]) -> Rows:
    others = []
    for row in t.batch_calls.by_index(p["batch_id"]):
        if row["handle"] == p["handle"]:
            continue
        free_at = (row["unknown_at"] or row["deadline_at"]) + seconds(p["hold_seconds"])
        if row["state"] == "open" or (row["state"] in {"sending", "unknown"} and free_at > t.now):
            others.append((row["state"] != "open", row["call_number"], row["handle"], free_at))
    return Rows(one[2:] for one in sorted(others, key=lambda one: one[:2])[:1])


@twin(poll_statements.NEXT_HANDLE)
def next_handle(t: Transaction, p: Mapping[str, Any]) -> Rows:
    for call in t.batch_calls.by_index(p["batch_id"]):
        if call["state"] == "open" and call["handle"] is not None and call["handle"] == p["handle"]:
            t.batch_calls.update(call, state="over")
    row = t.batches.get(p["batch_id"])
    if row is None or row["state"] not in {"open", "given_up"}:
        return Rows(rowcount=0)
    t.batches.update(row, handle=p["next_handle"], due_at=t.now)
    return Rows(rowcount=1)


@twin(poll_statements.BODY)
def body(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    return Rows() if row is None else Rows([(row["body"],)])


@twin(poll_statements.POLLED)
def polled(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.store_queue.get(p["store_id"])
    if row is None:
        return Rows(rowcount=0)
    t.store_queue.update(row, last_poll_at=t.now)
    return Rows(rowcount=1)


@twin(poll_statements.STILL_HELD)
def still_held(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    if row is None or row["state"] != "unknown":
        return Rows(rowcount=0)
    t.batches.update(row, due_at=greatest(row["hold_until"], t.now))
    return Rows(rowcount=1)
