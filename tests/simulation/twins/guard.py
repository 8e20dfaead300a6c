"""The guard: what a claim asks, counting, and what becomes of what is held."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from meta_sync.sync import guard_statements as guard
from tests.simulation.memory import Row, Rows, Transaction, twin
from tests.simulation.twins.expressions import seconds

_HOUR = timedelta(hours=1)
_OPEN = {"counting", "held"}
_COLUMNS = {"delete": "guarded_deletes", "out_of_stock": "guarded_out_of_stock", "price": "guarded_prices"}


def _last_version(t: Transaction) -> int:
    return t._sequences.get("version_seq", 0)


def _sent_lately(t: Transaction, link_id: int) -> Iterator[Row]:
    for row in t.batches:
        is_refused = row["state"] == "over" and row["accepted"] == 0 and row["unknown"] == 0
        if (
            row["link_id"] == link_id
            and row["created_at"] > t.now - _HOUR
            and any(row[name] for name in _COLUMNS.values())
            and not is_refused
        ):
            yield row


@twin(guard.LOOK)
def look(t: Transaction, p: Mapping[str, Any]) -> Rows:
    link_id, store_id = p["link_id"], p["store_id"]
    opened = {row["kind"]: row for row in t.holds if row["link_id"] == link_id and row["state"] in _OPEN}
    sent = list(_sent_lately(t, link_id))
    waiting = sum(row["store_id"] == store_id for row in t.intents)
    base = sum(row["link_id"] == link_id and row["status"] in {"synced", "submitted"} for row in t.sync_state)
    found = []
    for kind in p["kinds"]:
        hold = opened.get(kind)
        column = _COLUMNS[kind]
        counted = _counted(t, p, kind)
        rest: tuple[Any, ...] = (None, None, None, None, 0, None)
        if counted is not None:
            since = counted["counted_at"] - seconds(guard._OVERLAP_SECONDS)
            is_new = counted["counted_at"] > t.now - timedelta(minutes=guard._BASE_HOLDS_MINUTES)
            rest = (
                counted["watermark"],
                counted["items"],
                _last_version(t) - counted["watermark"],
                counted["recent_items"],
                sum(row[column] for row in sent if row["created_at"] > since),
                counted["base_items"] if is_new else None,
            )
        found.append(
            (
                kind,
                None if hold is None else hold["hold_id"],
                None if hold is None else hold["state"],
                waiting,
                base,
                sum(row[column] for row in sent),
                *rest,
            )
        )
    return Rows(found)


def _counted(t: Transaction, p: Mapping[str, Any], kind: str) -> Row | None:
    row = t.guard_counts.get(p["link_id"], kind)
    if (
        row is None
        or row["link_epoch"] != p["epoch"]
        or row["mapping_epoch"] != p["mapping_epoch"]
        or row["counted_at"] <= t.now - _HOUR
    ):
        return None
    return row


@twin(guard.OPEN)
def open_hold(t: Transaction, p: Mapping[str, Any]) -> Rows:
    # The row that is proposed takes a number, also when there is an open hold already.
    hold_id = t.nextval("holds_hold_id_seq")
    if any(
        row["link_id"] == p["link_id"] and row["kind"] == p["kind"] and row["state"] in _OPEN
        for row in t.holds
    ):
        return Rows()
    t.holds.insert(
        t.now,
        hold_id=hold_id,
        store_id=p["store_id"],
        link_id=p["link_id"],
        kind=p["kind"],
        state="counting",
        cursor="",
        watermark=_last_version(t),
    )
    return Rows([(hold_id,)])


def _at(t: Transaction, row_ids: list[Any]) -> list[Row]:
    wanted = set(row_ids)
    return [row for row in t.intents if row["ctid"] in wanted]


@twin(guard.PARK_UNDER)
def park_under(t: Transaction, p: Mapping[str, Any]) -> Rows:
    parked = _at(t, p["row_ids"])
    for row in parked:
        t.intents.update(row, held_by=p["hold_id"])
    return Rows(rowcount=len(parked))


@twin(guard.LEASE)
def lease(t: Transaction, p: Mapping[str, Any]) -> Rows:
    del p
    due = [
        row
        for row in t.holds
        if row["finished_at"] is None and (row["leased_until"] is None or row["leased_until"] < t.now)
    ]
    if not due:
        return Rows()
    due.sort(
        key=lambda row: (
            row["leased_until"] is not None,
            row["leased_until"] or t.now,
            row["hold_id"],
        )
    )
    row = t.holds.update(
        due[0], fence=due[0]["fence"] + 1, leased_until=t.now + seconds(guard._LEASE_SECONDS)
    )
    names = ("hold_id", "store_id", "link_id", "kind", "state", "cursor", "fence", "watermark")
    return Rows([tuple(row[name] for name in names)])


@twin(guard.GIVE_BACK)
def give_back(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.holds.get(p["hold_id"])
    if row is None or row["fence"] != p["fence"] or row["finished_at"] is not None:
        return Rows(rowcount=0)
    t.holds.update(row, leased_until=t.now + seconds(p["seconds"]))
    return Rows(rowcount=1)


@twin(guard.LOCK)
def lock(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.holds.get(p["hold_id"])
    if (
        row is None
        or row["fence"] != p["fence"]
        or row["state"] != p["state"]
        or row["finished_at"] is not None
    ):
        return Rows()
    return Rows([(row["items"], row["recent_items"], row["base_items"])])


@twin(guard.IS_SETTLED)
def is_settled(t: Transaction, p: Mapping[str, Any]) -> Rows:
    # Transactions do not overlap here.
    return Rows([(True,)] if t.holds.get(p["hold_id"]) is not None else [])


@twin(guard.ADVANCE)
def advance(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.holds.get(p["hold_id"])
    if row is None:
        return Rows(rowcount=0)
    t.holds.update(
        row,
        cursor=p["cursor"],
        items=row["items"] + p["in_flight"],
        recent_items=row["recent_items"] + p["elsewhere"],
        leased_until=t.now,
    )
    return Rows(rowcount=1)


def _held(t: Transaction, hold_id: int) -> list[Row]:
    """The intents under a hold in the order of their ids."""
    rows = [row for row in t.intents if row["held_by"] == hold_id]
    return sorted(rows, key=lambda row: row["variant_id"])


@twin(guard.COUNT)
def count(t: Transaction, p: Mapping[str, Any]) -> Rows:
    held = {row["variant_id"] for row in _held(t, p["hold_id"])}
    recent = {
        item["variant_id"]
        for batch in _sent_lately(t, p["link_id"])
        for item in t.batch_items.by_index(batch["batch_id"])
        if item["guarded"] & p["kinds"] and item["outcome"] != "rejected"
    }
    return Rows([(len(held), len(recent - held), len(recent))])


@twin(guard.BASE)
def base(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows(
        [
            (
                sum(
                    row["link_id"] == p["link_id"]
                    and (
                        row["presence"] != "absent"
                        or (row["confirmed_at"] is not None and row["confirmed_at"] > t.now - _HOUR)
                    )
                    for row in t.sync_state
                ),
            )
        ]
    )


@twin(guard.COUNTED)
def counted(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.holds.get(p["hold_id"])
    if row is None:
        return Rows(rowcount=0)
    t.holds.update(
        row,
        state=p["state"],
        items=p["items"],
        recent_items=p["recent"],
        base_items=p["base"],
        threshold=p["threshold"],
        counted_at=t.now,
        cursor=p["cursor"],
        held_at=(row["held_at"] or t.now) if p["state"] == "held" else row["held_at"],
        leased_until=t.now + seconds(p["seconds"]),
    )
    return Rows(rowcount=1)


@twin(guard.NOTE_COUNT)
def note_count(t: Transaction, p: Mapping[str, Any]) -> Rows:
    values = {
        "link_epoch": p["epoch"],
        "mapping_epoch": p["mapping_epoch"],
        "watermark": p["watermark"],
        "counted_at": t.now,
        "items": p["items"],
        "recent_items": p["recent"],
        "base_items": p["base"],
        "elsewhere_items": p["elsewhere"],
    }
    row = t.guard_counts.get(p["link_id"], p["kind"])
    if row is None:
        t.guard_counts.insert(t.now, link_id=p["link_id"], kind=p["kind"], store_id=p["store_id"], **values)
    else:
        t.guard_counts.update(row, **values)
    return Rows(rowcount=1)


@twin(guard.OTHERS_FREE)
def others_free(t: Transaction, p: Mapping[str, Any]) -> Rows:
    own = t.holds.get(p["hold_id"])
    others = [
        row
        for row in t.holds
        if row["store_id"] == p["store_id"]
        and row["link_id"] == p["link_id"]
        and row["hold_id"] != p["hold_id"]
        and (row["finished_at"] is None or (own is not None and row["finished_at"] >= own["created_at"]))
    ]
    return Rows([(any(row["state"] not in _OPEN for row in others),)])


@twin(guard.FORGET_COUNTS)
def forget_counts(t: Transaction, p: Mapping[str, Any]) -> Rows:
    doubted = [
        row
        for row in t.guard_counts
        if row["link_id"] == p["link_id"] and row["kind"] != p["kind"] and row["elsewhere_items"] > 0
    ]
    for row in doubted:
        t.guard_counts.delete(row)
    return Rows(rowcount=len(doubted))


@twin(guard.DISSOLVE_OPEN)
def dissolve_open(t: Transaction, p: Mapping[str, Any]) -> Rows:
    opened = [row for row in t.holds if row["store_id"] == p["store_id"] and row["state"] in _OPEN]
    for row in opened:
        t.holds.update(row, state="dissolved", leased_until=None, cursor=None)
    return Rows(rowcount=len(opened))


@twin(guard.EVENTS_OF_HOLD)
def events_of_hold(t: Transaction, p: Mapping[str, Any]) -> Rows:
    page = [row for row in _held(t, p["hold_id"]) if row["variant_id"] > p["after"]][: p["most"]]
    for row in page:
        t.item_events.insert(
            t.now,
            event_id=t.nextval("item_events_event_id_seq"),
            store_id=p["store_id"],
            link_id=p["link_id"],
            variant_id=row["variant_id"],
            kind="held",
            code=p["code"],
        )
    return Rows([(len(page), page[-1]["variant_id"] if page else None)])


@twin(guard.FREE)
def free(t: Transaction, p: Mapping[str, Any]) -> Rows:
    page = _held(t, p["hold_id"])[: p["most"]]
    for row in page:
        t.intents.update(row, held_by=None, released_kinds=row["released_kinds"] | p["kinds"])
    return Rows([(len(page),)])


@twin(guard.FINISH)
def finish(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.holds.get(p["hold_id"])
    if row is None:
        return Rows(rowcount=0)
    t.holds.update(row, finished_at=t.now, leased_until=None, cursor=None)
    return Rows(rowcount=1)


@twin(guard.LOCK_HELD)
def lock_held(t: Transaction, p: Mapping[str, Any]) -> Rows:
    versions = [row["version"] for row in _at(t, p["row_ids"]) if row["held_by"] == p["hold_id"]]
    return Rows([(versions or None,)])


@twin(guard.FREE_ROWS)
def free_rows(t: Transaction, p: Mapping[str, Any]) -> Rows:
    freed = _at(t, p["row_ids"])
    for row in freed:
        t.intents.update(row, held_by=None)
    return Rows(rowcount=len(freed))


@twin(guard.DISCARD)
def discard(t: Transaction, p: Mapping[str, Any]) -> Rows:
    changed = 0
    for variant_id, payload_hash in zip(p["variant_ids"], p["payload_hashes"], strict=True):
        row = t.sync_state.get(p["link_id"], variant_id)
        if row is not None and row["in_flight"] is None:
            t.sync_state.update(row, discarded_hash=payload_hash, updated_at=t.now)
            changed += 1
    return Rows(rowcount=changed)


@twin(guard.DECIDED)
def decided(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.holds.get(p["hold_id"])
    if row is None:
        return Rows(rowcount=0)
    t.holds.update(
        row,
        state=p["state"],
        decided_at=t.now,
        decided_by=p["actor"],
        items=p["items"],
        counted_at=t.now,
        leased_until=None,
    )
    return Rows(rowcount=1)
