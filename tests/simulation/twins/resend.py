"""Second calls of a batch, and what is asked just before any call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meta_sync.sync import drain, resend
from tests.simulation.memory import Row, Rows, Transaction, twin
from tests.simulation.twins.context import is_sending
from tests.simulation.twins.expressions import seconds


@twin(drain._NOW)
def now(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([(t.now,)])


@twin(drain._SECONDS_LEFT)
def seconds_left(t: Transaction, p: Mapping[str, Any]) -> Rows:
    call = t.batch_calls.get(p["batch_id"], p["call_number"])
    batch = t.batches.get(p["batch_id"])
    if call is None or batch is None or call["state"] != "sending" or batch["state"] != "sending":
        return Rows()
    if batch["calls"] != call["call_number"]:
        return Rows()
    return Rows([((call["deadline_at"] - t.now).total_seconds(),)])


@twin(drain._MAY_SEND)
def may_send(t: Transaction, p: Mapping[str, Any]) -> Rows:
    store, batch = t.stores.get(p["store_id"]), t.batches.get(p["batch_id"])
    link = None if batch is None else t.catalog_links.get(batch["link_id"])
    if store is None or batch is None or link is None:
        return Rows()
    return Rows([(is_sending(store) and link["active"] and link["epoch"] == batch["link_epoch"],)])


def is_resendable(t: Transaction, batch: Row) -> bool:
    """``resend.RESENDABLE``."""
    return (
        batch["state"] == "unknown"
        and batch["due_at"] is not None
        and batch["due_at"] <= t.now
        and batch["calls"] < resend.MAX_CALLS
        and batch["body"] is not None
        and sum(row["in_flight"] == batch["batch_id"] for row in t.sync_state) == batch["sent"]
        and not _is_suspect(t, batch["split_part"])
    )


def _is_suspect(t: Transaction, part_id: int | None) -> bool:
    part = t.split_parts.get(part_id)
    split = None if part is None else t.splits.get(part["split_id"])
    return split is not None and split["kind"] == "suspect"


@twin(resend._DUE)
def due(t: Transaction, p: Mapping[str, Any]) -> Rows:
    ids = [
        row["batch_id"]
        for row in t.batches
        if row["link_id"] == p["link_id"] and row["link_epoch"] == p["epoch"] and is_resendable(t, row)
    ]
    return Rows([(min(ids),)] if ids else [])


@twin(resend._OPEN)
def open_again(t: Transaction, p: Mapping[str, Any]) -> Rows:
    batch = t.batches.get(p["batch_id"])
    if batch is None or not is_resendable(t, batch):
        return Rows()
    link = t.catalog_links.get(batch["link_id"])
    if link is None or not link["active"] or link["epoch"] != batch["link_epoch"]:
        return Rows()
    store = t.stores.get(link["store_id"])
    if store is None or not is_sending(store):
        return Rows()
    batch = t.batches.update(
        batch,
        state="sending",
        calls=batch["calls"] + 1,
        due_at=t.now + seconds(p["deadline_seconds"]),
    )
    return Rows([(batch["calls"], batch["body"], batch["sent"], batch["catalog_id"], batch["split_part"])])


@twin(resend._INSERT_CALL)
def insert_call(t: Transaction, p: Mapping[str, Any]) -> Rows:
    t.batch_calls.insert(
        t.now,
        batch_id=p["batch_id"],
        call_number=p["call_number"],
        store_id=p["store_id"],
        link_id=p["link_id"],
        state="sending",
        deadline_at=t.now + seconds(p["deadline_seconds"]),
    )
    return Rows(rowcount=1)
