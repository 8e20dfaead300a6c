"""The end of a batch: the batch itself, its calls, its attempts, and the intents of its items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from meta_sync.sync import settle_statements as statements
from tests.simulation.memory import Row, Rows, Transaction, twin
from tests.simulation.twins.expressions import seconds

__all__ = ["attempts_of"]

_IDENTITY = ("store_id", "link_id", "created_on", "link_epoch", "lane", "created_at")


def attempts_of(t: Transaction, p: Mapping[str, Any], *, only_ids: bool = False) -> Iterator[Row]:
    """The attempts of a batch; with ``only_ids``, those that the parameter of that name lets through."""
    some = p["only_ids"] if only_ids else None
    for row in t.batch_items.by_index(p["batch_id"]):
        if row["created_on"] == p["created_on"] and (some is None or row["variant_id"] in some):
            yield row


@twin(statements.OVER)
def over(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    if row is None or row["state"] == "over":
        return Rows()
    t.batches.update(
        row,
        state="over",
        accepted=p["accepted"],
        rejected=p["rejected"],
        unknown=p["unknown"],
        sent=p["rejected"] if p["was_refused"] else row["sent"],
        due_at=None,
        finished_at=t.now,
        error_code=p["error_code"],
        error_text=p["error_text"],
    )
    return Rows([tuple(row[name] for name in _IDENTITY)])


@twin(statements.CALLS_OVER)
def calls_over(t: Transaction, p: Mapping[str, Any]) -> Rows:
    ended = [
        row
        for row in t.batch_calls.by_index(p["batch_id"])
        if row["state"] in {"sending", "open", "given_up"}
    ]
    for row in ended:
        t.batch_calls.update(row, state=p["state"])
    return Rows(rowcount=len(ended))


@twin(statements.IS_CERTAIN)
def is_certain(t: Transaction, p: Mapping[str, Any]) -> Rows:
    states = [row["state"] for row in t.batch_calls.by_index(p["batch_id"]) if row["state"] != "refused"]
    return Rows([(len(states) <= 1 and "unknown" not in states,)])


@twin(statements.DROP_BODY)
def drop_body(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    if row is None:
        return Rows(rowcount=0)
    t.batches.update(row, body=None)
    return Rows(rowcount=1)


@twin(statements.RECORD_REFUSALS)
def record_refusals(t: Transaction, p: Mapping[str, Any]) -> Rows:
    for variant_id, code, message in zip(p["variant_ids"], p["codes"], p["messages"], strict=True):
        attempt = t.batch_items.get(p["created_on"], p["batch_id"], variant_id)
        if attempt is not None:
            t.batch_items.update(attempt, outcome="rejected", error_text=message)
        t.item_events.insert(
            t.now,
            event_id=t.nextval("item_events_event_id_seq"),
            store_id=p["store_id"],
            link_id=p["link_id"],
            variant_id=variant_id,
            kind="refused",
            code=code,
            message=message,
        )
    return Rows(rowcount=len(p["variant_ids"]))


@twin(statements.MARK_UNKNOWN)
def mark_unknown(t: Transaction, p: Mapping[str, Any]) -> Rows:
    marked = [row for row in attempts_of(t, p, only_ids=True) if row["outcome"] is None]
    for row in marked:
        t.batch_items.update(row, outcome="unknown")
    return Rows(rowcount=len(marked))


@twin(statements.EVERY_OUTCOME_UNKNOWN)
def every_outcome_unknown(t: Transaction, p: Mapping[str, Any]) -> Rows:
    marked = list(attempts_of(t, p))
    for row in marked:
        t.batch_items.update(row, outcome="unknown")
    return Rows(rowcount=len(marked))


@twin(statements.GIVE_UP)
def give_up(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    if row is None or row["state"] != "open":
        return Rows()
    t.batches.update(row, state="given_up", due_at=t.now + timedelta(minutes=10), body=None)
    return Rows([tuple(row[name] for name in _IDENTITY)])


@twin(statements.REOPEN)
def reopen(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    if row is None or row["state"] != "over":
        return Rows()
    if p["handle"] is not None and row["handle"] == p["handle"]:
        return Rows()
    sent = sum(one["created_on"] == row["created_on"] for one in t.batch_items.by_index(p["batch_id"]))
    t.batches.update(
        row,
        state="given_up",
        handle=p["handle"],
        sent_at=t.now,
        finished_at=None,
        accepted=0,
        rejected=0,
        unknown=0,
        due_at=t.now + seconds(p["first_poll_seconds"]),
        sent=sent,
    )
    return Rows([(row["created_on"],)])


@twin(statements.INTEND_AGAIN)
def intend_again(t: Transaction, p: Mapping[str, Any]) -> Rows:
    again = sorted(
        (row["variant_id"], row["released_kinds"])
        for row in attempts_of(t, p, only_ids=True)
        if not p["only_without_outcome"] or row["outcome"] in {None, "unknown"}
    )
    for variant_id, released in again:
        # The row that is proposed takes a number too, also when there is one already.
        version = t.nextval("version_seq")
        row = t.intents.get(p["store_id"], variant_id)
        if row is None:
            t.intents.insert(
                t.now,
                store_id=p["store_id"],
                variant_id=variant_id,
                version=version,
                lane=p["lane"],
                first_at=p["first_at"],
                released_kinds=released,
            )
        else:
            t.intents.update(
                row,
                version=t.nextval("version_seq"),
                lane=min(row["lane"], p["lane"]),
                first_at=min(row["first_at"], p["first_at"]),
                job_id=None,
                held_by=None,
                released_kinds=row["released_kinds"] | released,
            )
    return Rows(rowcount=len(again))


@twin(statements.UNPARK)
def unpark(t: Transaction, p: Mapping[str, Any]) -> Rows:
    # By id only: the store's row of that name is taken, whoever has parked it.
    parked = {row["variant_id"] for row in t.intents if row["parked_by"] == p["batch_id"]}
    freed = [row for row in t.intents if row["store_id"] == p["store_id"] and row["variant_id"] in parked]
    for row in freed:
        t.intents.update(row, parked_by=None)
    return Rows(rowcount=len(freed))


@twin(statements.UNPARK_OF)
def unpark_of(t: Transaction, p: Mapping[str, Any]) -> Rows:
    freed = [
        row
        for row in t.intents
        if row["parked_by"] == p["batch_id"] and row["variant_id"] in p["variant_ids"]
    ]
    for row in freed:
        t.intents.update(row, parked_by=None)
    return Rows(rowcount=len(freed))
