"""Pauses of stores and links."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from meta_sync.sync import pauses
from tests.simulation.memory import Row, Rows, Transaction, twin


def _found(t: Transaction, p: Mapping[str, Any]) -> Row | None:
    return t.store_pauses.get(p["store_id"], p["reason"], p["link_id"])


@twin(pauses._RECORD)
def record(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _found(t, p)
    if row is None:
        row = t.store_pauses.insert(
            t.now,
            store_id=p["store_id"],
            reason=str(p["reason"]),
            link_id=p["link_id"],
            until=p["until"],
            code=p["code"],
            message=p["message"],
        )
    else:
        has_end = row["until"] is not None and p["until"] is not None
        row = t.store_pauses.update(
            row,
            until=max(row["until"], p["until"]) if has_end else None,
            code=p["code"],
            message=p["message"],
            failures=row["failures"] + 1,
        )
    return Rows([(row["failures"],)])


def _later_first(row: Row) -> tuple[bool, float]:
    until: datetime | None = row["until"]
    return (until is not None, 0.0 if until is None else -until.timestamp())


@twin(pauses._ACTIVE)
def active(t: Transaction, p: Mapping[str, Any]) -> Rows:
    rows = [
        row
        for row in t.store_pauses
        if row["store_id"] == p["store_id"]
        and row["link_id"] in {0, p["link_id"]}
        and (row["until"] is None or row["until"] > t.now)
    ]
    return Rows(
        (row["reason"], row["until"], row["code"], row["message"]) for row in sorted(rows, key=_later_first)
    )


@twin(pauses._CLEAR)
def clear(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _found(t, p)
    if row is None:
        return Rows()
    t.store_pauses.delete(row)
    return Rows([(1,)])


@twin(pauses._END_ACCESS)
def end_access(t: Transaction, p: Mapping[str, Any]) -> Rows:
    ended = [
        row
        for row in t.store_pauses
        if row["store_id"] == p["store_id"]
        and (row["reason"] == "needs_reconnect" or (row["code"] or "").startswith("2635"))
    ]
    for row in ended:
        t.store_pauses.delete(row)
    return Rows(rowcount=len(ended))


@twin(pauses._QUESTIONS_UNTIL)
def questions_until(t: Transaction, p: Mapping[str, Any]) -> Rows:
    ends = [
        t.now + timedelta(minutes=1) if row["until"] is None else row["until"]
        for row in t.store_pauses
        if row["store_id"] == p["store_id"]
        and row["link_id"] == p["link_id"]
        and (row["until"] is None or row["until"] > t.now)
    ]
    return Rows([(max(ends, default=None),)])


@twin(pauses._FAILURES)
def failures(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = _found(t, p)
    return Rows() if row is None else Rows([(row["failures"],)])
