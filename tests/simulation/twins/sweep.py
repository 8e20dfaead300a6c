"""The sweep: forgotten stores, orphaned intents, schedules, due retries, ended sale windows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from meta_sync.sync import grace, retries, sale_windows, sweep
from meta_sync.sync.job_statements import THE_CLOCK
from tests.simulation.memory import Row, Rows, Transaction, twin
from tests.simulation.twins.context import is_sending
from tests.simulation.twins.expressions import seconds
from tests.simulation.twins.resend import is_resendable


def _may_work(store: Row) -> bool:
    settings = store["settings"]
    return (
        is_sending(store)
        and settings.get("currency") is not None
        and settings.get("storefront_base_url") is not None
    )


def _usable_link(t: Transaction, store_id: str) -> Row | None:
    for link in t.catalog_links:
        if link["store_id"] == store_id and link["active"]:
            credential = t.credentials.get(link["credential_id"])
            return link if credential is not None and credential["dead_at"] is None else None
    return None


def _has_work(t: Transaction, store_id: str, link: Row) -> bool:
    return any(
        row["store_id"] == store_id and row["parked_by"] is None and row["held_by"] is None
        for row in t.intents
    ) or any(
        row["link_id"] == link["link_id"] and row["link_epoch"] == link["epoch"] and is_resendable(t, row)
        for row in t.batches
    )


@twin(sweep._FORGOTTEN)
def forgotten(t: Transaction, p: Mapping[str, Any]) -> Rows:
    del p
    changed = 0
    for place in t.store_queue:
        store_id = place["store_id"]
        store = t.stores.get(store_id)
        if place["due_at"] is not None or store is None or not _may_work(store):
            continue
        link = _usable_link(t, store_id)
        if link is None or not _has_work(t, store_id, link):
            continue
        if any(
            pause["store_id"] == store_id
            and pause["until"] is None
            and pause["link_id"] in {0, link["link_id"]}
            for pause in t.store_pauses
        ):
            continue
        t.store_queue.update(place, due_at=t.now)
        changed += 1
    return Rows(rowcount=changed)


@twin(sweep._UNPARK_ORPHANS)
def unpark_orphans(t: Transaction, p: Mapping[str, Any]) -> Rows:
    del p
    in_flight = {(row["in_flight"], row["variant_id"]) for row in t.sync_state}
    changed = 0
    for row in t.intents:
        if row["parked_by"] is not None and (row["parked_by"], row["variant_id"]) not in in_flight:
            t.intents.update(row, parked_by=None)
            changed += 1
    return Rows(rowcount=changed)


@twin(sweep._FREE_HELD_ORPHANS)
def free_held_orphans(t: Transaction, p: Mapping[str, Any]) -> Rows:
    del p
    living = {row["hold_id"] for row in t.holds if row["finished_at"] is None}
    orphans = [row for row in t.intents if row["held_by"] is not None and row["held_by"] not in living]
    for row in orphans:
        t.intents.update(row, held_by=None)
    return Rows(rowcount=len(orphans))


@twin(sweep._FREE_ORPHANS)
def free_orphans(t: Transaction, p: Mapping[str, Any]) -> Rows:
    del p
    living = {row["split_id"] for row in t.splits if row["state"] != "over"}
    parts = {row["part_id"] for row in t.split_parts if row["split_id"] in living}
    orphans = [
        row for row in t.sync_state if row["split_part"] is not None and row["split_part"] not in parts
    ]
    for row in orphans:
        t.sync_state.update(row, split_part=None)
    return Rows(rowcount=len(orphans))


@twin(sweep._DUE_SCHEDULE)
def due_schedule(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.schedules.get(p["name"])
    next_at = t.now + seconds(p["seconds"])
    if row is None:
        t.schedules.insert(t.now, name=p["name"], next_at=next_at)
    elif row["next_at"] <= t.now:
        t.schedules.update(row, next_at=next_at)
    else:
        return Rows()
    return Rows([(1,)])


@twin(sweep._RUN_SOON)
def run_soon(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.schedules.get(p["name"])
    if row is None:
        return Rows(rowcount=0)
    t.schedules.update(row, next_at=t.now + seconds(p["seconds"]))
    return Rows(rowcount=1)


class _Grace(NamedTuple):
    store_id: str
    link_id: int
    variant_id: str
    active: bool


def _is_grace_over(t: Transaction, p: Mapping[str, Any], row: Row) -> bool:
    return row["grace_until"] is not None and p["over"] < row["grace_until"] <= t.now


@twin(grace._DUE)
def grace_due(t: Transaction, p: Mapping[str, Any]) -> Rows:
    due = sorted(
        (row for row in t.sync_state if _is_grace_over(t, p, row)), key=lambda row: row["grace_until"]
    )
    links = ((row, t.catalog_links.get(row["link_id"])) for row in due)
    found = [
        _Grace(row["store_id"], row["link_id"], row["variant_id"], link["active"])
        for row, link in links
        if link is not None
    ]
    return Rows(found[: grace._AT_ONCE])


@twin(grace._OVER)
def grace_over(t: Transaction, p: Mapping[str, Any]) -> Rows:
    changed = 0
    for link_id, variant_id in zip(p["link_ids"], p["variant_ids"], strict=True):
        row = t.sync_state.get(link_id, variant_id)
        if row is not None and _is_grace_over(t, p, row):
            t.sync_state.update(row, grace_until=p["over"], updated_at=t.now)
            changed += 1
    return Rows(rowcount=changed)


class _Due(NamedTuple):
    store_id: str
    link_id: int
    variant_id: str
    active: bool
    lane: int
    created_at: datetime | None
    released_kinds: int


def _released_kinds(t: Transaction, batch: Row | None, variant_id: str) -> int:
    """For which kinds a person released the item, as its attempt in the batch says."""
    attempts = [] if batch is None else t.batch_items.by_index(batch["batch_id"])
    return next((one["released_kinds"] for one in attempts if one["variant_id"] == variant_id), 0)


@twin(retries._DUE)
def retries_due(t: Transaction, p: Mapping[str, Any]) -> Rows:
    del p
    due = [row for row in t.sync_state if row["retry_at"] is not None and row["retry_at"] <= t.now]
    if not due:
        return Rows()
    batches = {
        (row["graph_host"], row["catalog_id"], row["handle"]): row
        for row in t.batches
        if row["handle"] is not None
    }
    found = []
    for row in sorted(due, key=lambda row: row["retry_at"]):
        link = t.catalog_links.get(row["link_id"])
        if link is None:
            continue
        batch = batches.get((link["graph_host"], link["catalog_id"], row["last_handle"]))
        found.append(
            _Due(
                row["store_id"],
                row["link_id"],
                row["variant_id"],
                link["active"],
                1 if batch is None else batch["lane"],
                None if batch is None else batch["created_at"],
                _released_kinds(t, batch, row["variant_id"]),
            )
        )
    return Rows(found[: retries._AT_ONCE])


@twin(retries._INTEND)
def retries_intend(t: Transaction, p: Mapping[str, Any]) -> Rows:
    given = (p["store_ids"], p["variant_ids"], p["lanes"], p["first_at"], p["released_kinds"])
    wanted = list(zip(*given, strict=True))
    for store_id, variant_id, lane, first_at, released in sorted(wanted, key=lambda one: one[:2]):
        version = t.nextval("version_seq")
        intent = t.intents.get(store_id, variant_id)
        since = first_at or t.now
        if intent is None:
            t.intents.insert(
                t.now,
                store_id=store_id,
                variant_id=variant_id,
                version=version,
                lane=lane,
                first_at=since,
                released_kinds=released,
            )
        else:
            t.intents.update(
                intent,
                version=t.nextval("version_seq"),
                lane=min(intent["lane"], lane),
                first_at=min(intent["first_at"], since),
                job_id=None,
                held_by=None,
                released_kinds=intent["released_kinds"] | released,
            )
    return Rows(rowcount=len(wanted))


@twin(retries._CLEAR)
def retries_clear(t: Transaction, p: Mapping[str, Any]) -> Rows:
    changed = 0
    for key in set(zip(p["link_ids"], p["variant_ids"], strict=True)):
        row = t.sync_state.get(*key)
        if row is not None and row["retry_at"] is not None and row["retry_at"] <= t.now:
            t.sync_state.update(row, retry_at=None, updated_at=t.now)
            changed += 1
    return Rows(rowcount=changed)


@twin(sale_windows._STORES)
def sale_stores(t: Transaction, p: Mapping[str, Any]) -> Rows:
    up_to = t.now - seconds(p["delay_seconds"])
    ends: dict[str, tuple[datetime, str]] = {}
    for row in t.variants:
        end = row["special_price_end"]
        if end is not None and end < up_to:
            last = (end, row["variant_id"])
            ends[row["store_id"]] = max(ends.get(row["store_id"], last), last)
    places = []
    for place in t.store_queue:
        swept_to, swept_id = place["sales_swept_to"], place["sales_swept_id"]
        ended = ends.get(place["store_id"])
        if swept_to is None or (ended is not None and ended > (swept_to, swept_id)):
            places.append((swept_to is not None, swept_to, place["store_id"], swept_id))
    # Stores that were never swept come first; of those the time is NULL and the id decides.
    places.sort(key=lambda one: (one[0], one[1].timestamp() if one[1] else 0.0, one[2]))
    return Rows(
        (store_id, swept_to, swept_id, up_to)
        for _, swept_to, store_id, swept_id in places[: sale_windows._STORES_AT_ONCE]
    )


class _Ended(NamedTuple):
    special_price_end: datetime
    variant_id: str
    is_live: bool


@twin(sale_windows._ENDED)
def sale_ended(t: Transaction, p: Mapping[str, Any]) -> Rows:
    swept_to = p["swept_to"]
    found = []
    for row in t.variants:
        end = row["special_price_end"]
        if row["store_id"] != p["store_id"] or end is None or end >= p["up_to"]:
            continue
        if swept_to is None or (end, row["variant_id"]) > (swept_to, p["swept_id"]):
            found.append(_Ended(end, row["variant_id"], row["deleted_at"] is None))
    return Rows(sorted(found)[: p["most"]])


@twin(sale_windows._INTEND)
def sale_intend(t: Transaction, p: Mapping[str, Any]) -> Rows:
    for variant_id in sorted(p["variant_ids"]):
        version = t.nextval("version_seq")
        intent = t.intents.get(p["store_id"], variant_id)
        if intent is None:
            t.intents.insert(
                t.now,
                store_id=p["store_id"],
                variant_id=variant_id,
                version=version,
                lane=2,
                job_id=THE_CLOCK,
            )
        else:
            asks = None if intent["job_id"] is None else THE_CLOCK
            t.intents.update(intent, version=t.nextval("version_seq"), job_id=asks, held_by=None)
    return Rows(rowcount=len(p["variant_ids"]))


@twin(sale_windows._ADVANCE)
def sale_advance(t: Transaction, p: Mapping[str, Any]) -> Rows:
    place = t.store_queue.get(p["store_id"])
    if place is None or place["sales_swept_id"] != p["swept_id"] or place["sales_swept_to"] != p["swept_to"]:
        return Rows()
    t.store_queue.update(place, sales_swept_to=p["to_at"], sales_swept_id=p["to_id"])
    return Rows([(1,)])
