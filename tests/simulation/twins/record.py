"""What came of a call: taken, refused, unknown."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from meta_sync.sync import record_statements
from tests.simulation.memory import Row, Rows, Transaction, twin
from tests.simulation.twins.expressions import greatest, seconds


def _call(t: Transaction, p: Mapping[str, Any]) -> Row | None:
    return t.batch_calls.get(p["batch_id"], p["call_number"])


@twin(record_statements.TAKEN)
def taken(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    if row is None or row["state"] not in {"sending", "unknown"}:
        return Rows()
    t.batches.update(
        row,
        state="open",
        handle=p["handle"],
        sent_at=t.now,
        error_code=None,
        error_text=None,
        due_at=max(t.now + seconds(p["first_poll_seconds"]), row["hold_until"] or t.now),
    )
    names = ("store_id", "link_id", "created_on", "link_epoch", "lane", "created_at")
    return Rows([tuple(row[name] for name in names)])


@twin(record_statements.CALL_TAKEN)
def call_taken(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _call(t, p)
    if row is None or (row["state"] == "over" and row["handle"] == p["handle"]):
        return Rows(rowcount=0)
    t.batch_calls.update(row, state="open", handle=p["handle"])
    return Rows(rowcount=1)


@twin(record_statements.CALL_UNKNOWN)
def call_unknown(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _call(t, p)
    if row is None or row["state"] != "sending":
        return Rows(rowcount=0)
    t.batch_calls.update(
        row,
        state="unknown",
        unknown_at=t.now,
        error_code=p["code"],
        error_text=p["message"],
        server_error=p["is_server_error"],
    )
    return Rows(rowcount=1)


@twin(record_statements.CALL_UNKNOWN_LATE)
def call_unknown_late(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _call(t, p)
    if row is None or row["state"] != "unknown":
        return Rows(rowcount=0)
    t.batch_calls.update(row, unknown_at=t.now)
    return Rows(rowcount=1)


@twin(record_statements.SERVER_ERROR)
def server_error(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    if row is None:
        return Rows(rowcount=0)
    body_hash = row["body_hash"]
    if body_hash is None and row["body"] is not None:
        body_hash = hashlib.sha256(row["body"]).digest()
    t.batches.update(row, server_errors=row["server_errors"] + 1, body_hash=body_hash)
    return Rows(rowcount=1)


@twin(record_statements.UNKNOWN)
def unknown(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    if row is None or row["state"] not in {"sending", "unknown", "open"}:
        return Rows(rowcount=0)
    hold_until = t.now + seconds(p["hold_seconds"])
    is_latest = row["state"] == "sending" and row["calls"] == p["call_number"]
    due_at = row["due_at"]
    if row["state"] == "open":
        due_at = greatest(due_at, hold_until)
    elif is_latest:
        wait = min(p["resend_seconds"] * 2.0 ** (row["calls"] - 1), p["hold_seconds"])
        due_at = t.now + seconds(wait)
    t.batches.update(
        row,
        error_code=p["code"],
        error_text=p["message"],
        hold_until=greatest(row["hold_until"], hold_until),
        due_at=due_at,
        state="unknown" if is_latest else row["state"],
    )
    return Rows(rowcount=1)


@twin(record_statements.CALL_REFUSED)
def call_refused(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _call(t, p)
    if row is None:
        return Rows(rowcount=0)
    t.batch_calls.update(row, state="refused", error_code=p["code"], error_text=p["message"])
    return Rows(rowcount=1)


@twin(record_statements.BACK_TO_UNKNOWN)
def back_to_unknown(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    if row is None or row["state"] != "sending" or row["calls"] != p["call_number"]:
        return Rows(rowcount=0)
    t.batches.update(
        row,
        state="unknown",
        calls=row["calls"] - p["not_made"],
        due_at=greatest(row["hold_until"], t.now) if p["is_final"] else t.now + seconds(p["resend_seconds"]),
    )
    return Rows(rowcount=1)


@twin(record_statements.NOW)
def now(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([(t.now,)])


@twin(record_statements.CALLS)
def calls(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    return Rows() if row is None else Rows([(row["calls"], row["state"])])


@twin(record_statements.DROP_CALL)
def drop_call(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _call(t, p)
    if row is None:
        return Rows(rowcount=0)
    t.batch_calls.delete(row)
    return Rows(rowcount=1)


@twin(record_statements.ITEMS)
def items(t: Transaction, p: Mapping[str, Any]) -> Rows:
    batch = t.batches.get(p["batch_id"])
    if batch is None:
        return Rows()
    return Rows(
        (a["variant_id"], a["retailer_id"], a["method"], a["outcome"], a["cleared"])
        for a in t.batch_items.by_index(p["batch_id"])
        if a["created_on"] == batch["created_on"]
    )


@twin(record_statements.CREDENTIAL_IN_USE)
def credential_in_use(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.catalog_links.get(p["link_id"])
    return Rows() if row is None else Rows([(row["credential_id"],)])


@twin(record_statements.CREATED_ON)
def created_on(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    return Rows() if row is None else Rows([(row["created_on"],)])


@twin(record_statements.BLAMED)
def blamed(t: Transaction, p: Mapping[str, Any]) -> Rows:
    batch = t.batches.get(p["batch_id"])
    found = []
    for item in t.batch_items.by_index(p["batch_id"]):
        state = t.sync_state.get(item["link_id"], item["variant_id"])
        if batch is None or state is None or item["created_on"] != batch["created_on"]:
            continue
        is_same = item["payload_hash"] is not None and state["retry_hash"] == item["payload_hash"]
        if is_same and item["previous_status"] == "failed":
            found.append((state["variant_id"], state["retries"]))
    return Rows([(min(found)[1],)] if found else [])
