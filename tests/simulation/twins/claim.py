"""The claim. Rows are named by row id and version, so a row that moved since it was read is not found."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, timedelta
from typing import Any

from meta_sync.sync import claim_statements as claim
from meta_sync.sync.states import Event
from tests.simulation.memory import Row, Rows, Transaction, twin
from tests.simulation.twins.context import is_sending
from tests.simulation.twins.expressions import after, seconds


@twin(claim.IDS_TAKEN)
def ids_taken(t: Transaction, p: Mapping[str, Any]) -> Rows:
    asked = set(p["retailer_ids"])
    return Rows(
        (row["retailer_id"],)
        for row in t.sync_state
        if row["link_id"] == p["link_id"] and row["retailer_id"] in asked
    )


@twin(claim.GUARD)
def guard(t: Transaction, p: Mapping[str, Any]) -> Rows:
    store, link = t.stores.get(p["store_id"]), t.catalog_links.get(p["link_id"])
    if store is None or link is None:
        return Rows()
    is_same = store["mapping_epoch"] == p["mapping_epoch"] and link["epoch"] == p["epoch"]
    return Rows([(is_same and link["active"] and is_sending(store),)])


@twin(claim.LOCK_INTENTS)
def lock_intents(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row_ids = set(p["row_ids"])
    versions = [
        row["version"]
        for row in t.intents
        if row["ctid"] in row_ids and row["parked_by"] is None and row["held_by"] is None
    ]
    # array_agg() of no rows is NULL, not an empty array.
    return Rows([(versions or None,)])


@twin(claim.DELETE_INTENTS)
def delete_intents(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row_ids = set(p["row_ids"])
    doomed = [row for row in t.intents if row["ctid"] in row_ids]
    for row in doomed:
        t.intents.delete(row)
    return Rows(rowcount=len(doomed))


def _states(t: Transaction, p: Mapping[str, Any]) -> list[Row]:
    """The state rows of the given variants in the order of their ids, each once."""
    found = (t.sync_state.get(p["link_id"], one) for one in sorted(set(p["variant_ids"])))
    return [row for row in found if row is not None]


@twin(claim.LOCK_IN_FLIGHT)
def lock_in_flight(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows(
        (row["variant_id"], row["in_flight"]) for row in _states(t, p) if row["in_flight"] is not None
    )


@twin(claim.PARK)
def park(t: Transaction, p: Mapping[str, Any]) -> Rows:
    parked = 0
    for variant_id, batch_id in zip(p["variant_ids"], p["batch_ids"], strict=True):
        row = t.intents.get(p["store_id"], variant_id)
        if row is not None:
            t.intents.update(row, parked_by=batch_id)
            parked += 1
    return Rows(rowcount=parked)


def _insert_states(t: Transaction, p: Mapping[str, Any]) -> list[Row]:
    return [
        t.sync_state.insert(
            t.now, link_id=p["link_id"], variant_id=variant_id, store_id=p["store_id"], status="pending"
        )
        for variant_id in sorted(set(p["variant_ids"]))
        if t.sync_state.get(p["link_id"], variant_id) is None
    ]


@twin(claim.NEW_STATES)
def new_states(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows(rowcount=len(_insert_states(t, p)))


@twin(claim.NEW_STATES_READ)
def new_states_read(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows((row["variant_id"], row["ctid"], row["ctid"]) for row in _insert_states(t, p))


_GIVEN = (
    "variant_ids",
    "row_versions",
    "retailer_ids",
    "methods",
    "payload_hashes",
    "fields",
    "cleared",
    "may_hold",
    "guarded",
    "released",
)


@twin(claim.TAKE_IN_FLIGHT)
def take_in_flight(t: Transaction, p: Mapping[str, Any]) -> Rows:
    sets = {number: names.split(",") if names else [] for number, names in enumerate(p["sets"], 1)}
    row_ids = set(p["row_ids"])
    written = []
    for given in zip(*(p[name] for name in _GIVEN), strict=True):
        variant_id, row_version, retailer_id, method, payload_hash, fields, cleared, may_hold, *kinds = given
        earlier = t.sync_state.get(p["link_id"], variant_id)
        if (
            earlier is None
            or earlier["ctid"] not in row_ids
            or earlier["ctid"] != row_version
            or earlier["in_flight"] is not None
            or may_hold not in sets
        ):
            continue
        _take(t, p, earlier, retailer_id, sets[may_hold])
        # An inner join: without its sets the attempt would not be written, though the item is in flight.
        if fields in sets and cleared in sets:
            _write(t, p, earlier, retailer_id, method, payload_hash, sets[fields], sets[cleared], kinds)
            written.append(variant_id)
    return Rows([(written or None,)])


def _take(t: Transaction, p: Mapping[str, Any], row: Row, retailer_id: str, may_hold: list[str]) -> None:
    t.sync_state.update(
        row,
        in_flight=p["batch_id"],
        status=after(Event.SENT, row["status"]),
        presence="maybe",
        may_hold=may_hold,
        retailer_id=retailer_id,
        confirmed_hash=None,
        confirmed_epoch=p["epoch"],
        disturbed_at=None,
        retry_at=None,
        discarded_hash=None,
        last_pushed_at=t.now,
        updated_at=t.now,
    )


def _write(
    t: Transaction,
    p: Mapping[str, Any],
    earlier: Row,
    retailer_id: str,
    method: str,
    payload_hash: bytes | None,
    fields: list[str],
    cleared: list[str],
    kinds: list[int],
) -> None:
    t.batch_items.insert(
        t.now,
        created_on=t.now.astimezone(UTC).date(),
        batch_id=p["batch_id"],
        variant_id=earlier["variant_id"],
        store_id=p["store_id"],
        link_id=p["link_id"],
        retailer_id=retailer_id,
        method=str(method),
        payload_hash=payload_hash,
        fields=fields,
        cleared=cleared,
        previous_confirmed_hash=earlier["confirmed_hash"],
        previous_confirmed_epoch=earlier["confirmed_epoch"],
        previous_may_hold=earlier["may_hold"],
        previous_presence=earlier["presence"],
        previous_status=earlier["status"],
        guarded=kinds[0],
        released_kinds=kinds[1],
    )


@twin(claim.GRACE_BEGINS)
def grace_begins(t: Transaction, p: Mapping[str, Any]) -> Rows:
    begun = [row for row in _states(t, p) if row["in_flight"] == p["batch_id"]]
    for row in begun:
        t.sync_state.update(row, grace_until=t.now + timedelta(days=p["days"]))
    return Rows(rowcount=len(begun))


@twin(claim.GRACE_ENDS)
def grace_ends(t: Transaction, p: Mapping[str, Any]) -> Rows:
    ended = [
        row
        for row in _states(t, p)
        if row["grace_until"] is not None and (row["in_flight"] is None or row["in_flight"] == p["batch_id"])
    ]
    for row in ended:
        t.sync_state.update(row, grace_until=None)
    return Rows(rowcount=len(ended))


@twin(claim.SETTLE_WITHOUT_CALL)
def settle_without_call(t: Transaction, p: Mapping[str, Any]) -> Rows:
    changed = 0
    for variant_id, status, code in zip(p["variant_ids"], p["statuses"], p["codes"], strict=True):
        row = t.sync_state.get(p["link_id"], variant_id)
        if row is None or row["in_flight"] is not None:
            continue
        is_synced = status == "synced"
        t.sync_state.update(
            row,
            status=status,
            code=code,
            error_text=None,
            attempts=0 if is_synced else row["attempts"],
            rejected_hash=None if is_synced else row["rejected_hash"],
            batch_limit=None if is_synced else row["batch_limit"],
            discarded_hash=None
            if is_synced and row["discarded_hash"] != row["confirmed_hash"]
            else row["discarded_hash"],
            updated_at=t.now,
        )
        changed += 1
    return Rows(rowcount=changed)


@twin(claim.DROP_STATES)
def drop_states(t: Transaction, p: Mapping[str, Any]) -> Rows:
    doomed = [row for row in _states(t, p) if row["in_flight"] is None and row["retailer_id"] is None]
    for row in doomed:
        t.sync_state.delete(row)
    return Rows(rowcount=len(doomed))


@twin(claim.SKIP_EVENTS)
def skip_events(t: Transaction, p: Mapping[str, Any]) -> Rows:
    events = list(zip(p["variant_ids"], p["kinds"], p["codes"], strict=True))
    for variant_id, kind, code in events:
        t.item_events.insert(
            t.now,
            event_id=t.nextval("item_events_event_id_seq"),
            store_id=p["store_id"],
            link_id=p["link_id"],
            variant_id=variant_id,
            kind=kind,
            code=code,
        )
    return Rows(rowcount=len(events))


@twin(claim.NEXT_BATCH_ID)
def next_batch_id(t: Transaction, p: Mapping[str, Any]) -> Rows:
    return Rows([(t.nextval("batches_batch_id_seq"),)])


@twin(claim.INSERT_BATCH)
def insert_batch(t: Transaction, p: Mapping[str, Any]) -> Rows:
    t.batches.insert(
        t.now,
        batch_id=p["batch_id"],
        store_id=p["store_id"],
        link_id=p["link_id"],
        graph_host=p["graph_host"],
        catalog_id=p["catalog_id"],
        state="sending",
        lane=int(p["lane"]),
        body=p["body"],
        body_bytes=p["body_bytes"],
        link_epoch=p["epoch"],
        mapping_epoch=p["mapping_epoch"],
        sent=p["sent"],
        split_part=p["split_part"],
        guarded_deletes=p["guarded_deletes"],
        guarded_out_of_stock=p["guarded_out_of_stock"],
        guarded_prices=p["guarded_prices"],
        calls=1,
        created_on=t.now.astimezone(UTC).date(),
        due_at=t.now + seconds(p["deadline_seconds"]),
    )
    return Rows(rowcount=1)


@twin(claim.INSERT_CALL)
def insert_call(t: Transaction, p: Mapping[str, Any]) -> Rows:
    t.batch_calls.insert(
        t.now,
        batch_id=p["batch_id"],
        call_number=1,
        store_id=p["store_id"],
        link_id=p["link_id"],
        state="sending",
        deadline_at=t.now + seconds(p["deadline_seconds"]),
    )
    return Rows(rowcount=1)
