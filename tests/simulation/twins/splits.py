"""Splits of refused batches and their parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from hashlib import md5
from typing import Any

from meta_sync.sync import split_statements as statements
from meta_sync.sync import splits
from tests.simulation.memory import Row, Rows, Transaction, twin
from tests.simulation.twins.expressions import seconds

_LONGEST = timedelta(hours=statements._LONGEST_HOURS)


def _held_by(t: Transaction, part_id: int) -> list[Row]:
    return [row for row in t.sync_state if row["split_part"] == part_id]


def _parts_of(t: Transaction, split_id: int) -> list[Row]:
    parts = (row for row in t.split_parts if row["split_id"] == split_id)
    return sorted(parts, key=lambda row: row["part_id"])


def _unfinished(t: Transaction, **columns: Any) -> list[Row]:
    """Splits that are not over and have the given values, by number."""
    found = (
        row
        for row in t.splits
        if row["state"] != "over" and all(row[name] == value for name, value in columns.items())
    )
    return sorted(found, key=lambda row: row["split_id"])


def _update(table: Any, rows: Iterable[Row], **changes: Any) -> Rows:
    found = list(rows)
    for row in found:
        table.update(row, **changes)
    return Rows(rowcount=len(found))


@twin(splits._NOW)
def now(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([(t.now,)])


@twin(statements.LOCK)
def lock(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows((row["split_id"],) for row in _unfinished(t, link_id=p["link_id"]))


@twin(statements.SPLITS)
def read(t: Transaction, p: Mapping[str, Any]) -> Rows:
    link = t.catalog_links.get(p["link_id"])
    found = _unfinished(t, link_id=p["link_id"])
    if link is None or not found:
        return Rows()
    carried = {
        row["split_part"]
        for row in t.batches
        if row["link_id"] == p["link_id"] and row["state"] != "over" and row["split_part"] is not None
    }
    rows = []
    for split in found:
        is_current = (
            link["active"] and link["epoch"] == split["link_epoch"] and split["created_at"] > t.now - _LONGEST
        )
        names = ("split_id", "kind", "state", "calls")
        head = (*(split[name] for name in names), split["taken_at"] is not None)
        head = (*head, split["error_code"], split["error_text"], is_current)
        for part in _parts_of(t, split["split_id"]):
            is_left = part["state"] == "sent" and part["part_id"] not in carried
            columns = tuple(part[name] for name in ("part_id", "parent_id", "level", "items"))
            rows.append((*head, *columns, "waiting" if is_left else part["state"]))
    return Rows(rows)


@twin(statements.OPEN)
def open_split(t: Transaction, p: Mapping[str, Any]) -> Rows:
    batch = t.batches.get(p["batch_id"])
    link = None if batch is None else t.catalog_links.get(batch["link_id"])
    if batch is None or link is None or not link["active"] or link["epoch"] != batch["link_epoch"]:
        return Rows()
    row = t.splits.insert(
        t.now,
        split_id=t.nextval("splits_split_id_seq"),
        store_id=batch["store_id"],
        link_id=batch["link_id"],
        link_epoch=batch["link_epoch"],
        kind=str(p["kind"]),
        state="open",
        calls=p["calls"],
        error_code=p["code"],
        error_text=p["message"],
    )
    return Rows([(row["split_id"],)])


@twin(statements.NEW_PART)
def new_part(t: Transaction, p: Mapping[str, Any]) -> Rows:
    split = t.splits.get(p["split_id"])
    if split is None:
        return Rows()
    row = t.split_parts.insert(
        t.now,
        part_id=t.nextval("split_parts_part_id_seq"),
        split_id=split["split_id"],
        store_id=split["store_id"],
        link_id=split["link_id"],
        parent_id=p["parent_id"],
        level=p["level"],
        items=p["items"],
        state=str(p["state"]),
    )
    return Rows([(row["part_id"],)])


@twin(statements.HOLD_ITEMS)
def hold_items(t: Transaction, p: Mapping[str, Any]) -> Rows:
    batch = t.batches.get(p["batch_id"])
    if batch is None:
        return Rows(rowcount=0)
    held = []
    for attempt in t.batch_items.by_index(p["batch_id"]):
        if attempt["created_on"] != batch["created_on"] or attempt["outcome"] == "rejected":
            continue
        row = t.sync_state.get(p["link_id"], attempt["variant_id"])
        if row is not None and row["in_flight"] is None and row["split_part"] is None:
            held.append(row)
    return _update(t.sync_state, held, split_part=p["part_id"])


@twin(statements.COUNT_ITEMS)
def count_items(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([(len(_held_by(t, p["part_id"])),)])


@twin(statements.HALVE)
def halve(t: Transaction, p: Mapping[str, Any]) -> Rows:
    held = sorted(
        _held_by(t, p["part_id"]),
        key=lambda row: md5(f"{p['part_id']} {row['variant_id']}".encode()).hexdigest(),
    )
    for position, row in enumerate(held, 1):
        half = p["first_id"] if position <= p["first_items"] else p["second_id"]
        t.sync_state.update(row, split_part=half)
    return Rows(rowcount=len(held))


@twin(statements.SET_STATE)
def set_state(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.split_parts.get(p["part_id"])
    return _update(t.split_parts, [] if row is None else [row], state=str(p["state"]))


@twin(statements.FREE_PART)
def free_part(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _update(t.sync_state, _held_by(t, p["part_id"]), split_part=None)


def _split_of(t: Transaction, part_id: int) -> Row | None:
    part = t.split_parts.get(part_id)
    return None if part is None else t.splits.get(part["split_id"])


@twin(statements.COUNT_CALL)
def count_call(t: Transaction, p: Mapping[str, Any]) -> Rows:
    split = _split_of(t, p["part_id"])
    if split is None:
        return Rows(rowcount=0)
    return _update(t.splits, [split], calls=split["calls"] + 1)


@twin(statements.UNCOUNT_CALL)
def uncount_call(t: Transaction, p: Mapping[str, Any]) -> Rows:
    split = _split_of(t, p["part_id"])
    call = t.batch_calls.get(p["batch_id"], p["call_number"])
    if split is None or call is None or call["state"] != "sending":
        return Rows(rowcount=0)
    return _update(t.splits, [split], calls=split["calls"] - 1)


@twin(statements.PROVE)
def prove(t: Transaction, p: Mapping[str, Any]) -> Rows:
    call = t.batch_calls.get(p["batch_id"], p["call_number"])
    if call is None:
        return Rows()
    proved = [row for row in _unfinished(t, link_id=p["link_id"]) if row["created_at"] <= call["started_at"]]
    for row in proved:
        t.splits.update(row, taken_at=row["taken_at"] or t.now, state="open")
    return Rows((row["split_id"],) for row in proved)


@twin(statements.UNDOUBT)
def undoubt(t: Transaction, p: Mapping[str, Any]) -> Rows:
    doubted = [
        row for row in t.split_parts if row["split_id"] in p["split_ids"] and row["state"] == "doubted"
    ]
    return _update(t.split_parts, doubted, state="waiting")


@twin(statements.STOP_WAITING)
def stop_waiting(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.splits.get(p["split_id"])
    is_waiting = row is not None and row["state"] == "waiting"
    return _update(t.splits, [row] if row is not None and is_waiting else [], state="open")


@twin(statements.BEGIN_SEARCH)
def begin_search(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.splits.get(p["split_id"])
    return _update(
        t.splits,
        [] if row is None else [row],
        state="waiting",
        calls=1,
        taken_at=None,
        created_at=t.now,
        error_code=p["code"],
        error_text=p["message"],
    )


@twin(statements.END)
def end(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _update(t.splits, _unfinished(t, split_id=p["split_id"]), state="over", finished_at=t.now)


@twin(statements.FREE)
def free(t: Transaction, p: Mapping[str, Any]) -> Rows:
    parts = {row["part_id"] for row in _parts_of(t, p["split_id"])}
    held = [row for row in t.sync_state if row["split_part"] in parts]
    for row in held:
        limit = row["batch_limit"] if p["batch_limit"] is None else p["batch_limit"]
        t.sync_state.update(row, split_part=None, batch_limit=limit)
    return Rows(rowcount=len(held))


@twin(statements.LOCK_OF_STORE)
def lock_of_store(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows((row["split_id"],) for row in _unfinished(t, store_id=p["store_id"]))


@twin(statements.FREE_OF_STORE)
def free_of_store(t: Transaction, p: Mapping[str, Any]) -> Rows:
    held = [row for row in t.sync_state if row["store_id"] == p["store_id"] and row["split_part"] is not None]
    return _update(t.sync_state, held, split_part=None)


@twin(statements.END_OF_STORE)
def end_of_store(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return _update(t.splits, _unfinished(t, store_id=p["store_id"]), state="over", finished_at=t.now)


@twin(statements.OTHERS_UNDER_WAY)
def others_under_way(t: Transaction, p: Mapping[str, Any]) -> Rows:
    found = any(
        row["link_id"] == p["link_id"]
        and row["state"] in {"sending", "unknown"}
        and row["split_part"] is None
        for row in t.batches
    )
    return Rows([(found,)])


@twin(statements.RELEASED)
def released(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.batches.get(p["batch_id"])
    if row is None:
        return Rows()
    names = ("store_id", "link_id", "created_on", "split_part", "server_errors", "sent")
    return Rows([(*(row[name] for name in names), row["error_code"], row["error_text"])])


@twin(statements.IS_SUSPICIOUS)
def is_suspicious(t: Transaction, p: Mapping[str, Any]) -> Rows:
    this = t.batches.get(p["batch_id"])
    batches: list[Row] = []
    if this is not None and this["server_errors"] > 0:
        batches = [row for row in t.batches if _is_like(row, this) and row["created_at"] > t.now - _DAY]
    errors = [
        call for row in batches for call in t.batch_calls.by_index(row["batch_id"]) if call["server_error"]
    ]
    times = [call["unknown_at"] for call in errors if call["unknown_at"] is not None]
    is_often = len(errors) >= p["errors"]
    if not times:
        # AND with NULL: false only where the other side is.
        return Rows([(None if is_often else False,)])
    return Rows([(is_often and max(times) - min(times) >= seconds(p["after_seconds"]),)])


_DAY = timedelta(days=1)


def _is_like(row: Row, this: Row) -> bool:
    """Whether a batch had server errors too and carried the same bytes, or the same part."""
    if row["link_id"] != this["link_id"] or row["server_errors"] <= 0:
        return False
    is_same_body = this["body_hash"] is not None and row["body_hash"] == this["body_hash"]
    return is_same_body or (this["split_part"] is not None and row["split_part"] == this["split_part"])
