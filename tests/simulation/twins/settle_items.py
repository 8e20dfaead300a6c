"""The end of a batch: what becomes of its items. Every statement but ``DISTURB`` touches only what the batch has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from meta_sync.sync import settle_statements as statements
from meta_sync.sync.models import GRACE_HASH
from meta_sync.sync.states import Event
from tests.simulation.memory import Row, Rows, Transaction, twin
from tests.simulation.twins.expressions import after, seconds
from tests.simulation.twins.settle import attempts_of


class _Record(msgspec.Struct):
    data: msgspec.Raw


class _Body(msgspec.Struct):
    requests: list[_Record]


# Raw values keep every byte, as PostgreSQL's json type does.
_read_body = msgspec.json.Decoder(_Body).decode
_read_data = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NULL = msgspec.Raw(b"null")


def _as_text(value: msgspec.Raw) -> str | None:
    """``->>``: the text of a JSON string, NULL for null, and anything else as it is written."""
    raw = bytes(value)
    if raw == b"null":
        return None
    return str(msgspec.json.decode(raw)) if raw.startswith(b'"') else raw.decode()


def _sent(t: Transaction, p: Mapping[str, Any]) -> dict[str | None, bytes]:
    """The data of each record in the stored body, by retailer id."""
    batch = t.batches.get(p["batch_id"])
    if batch is None or batch["body"] is None:
        return {}
    datas = [bytes(one.data) for one in _read_body(batch["body"]).requests]
    return {_as_text(_read_data(data).get("id", _NULL)): data for data in datas}


def _in_flight(t: Transaction, p: Mapping[str, Any], *, only_ids: bool = False) -> Iterator[tuple[Row, Row]]:
    """The items that the batch still has, each with its attempt."""
    for attempt in attempts_of(t, p, only_ids=only_ids):
        state = t.sync_state.get(p["link_id"], attempt["variant_id"])
        if state is not None and state["in_flight"] == p["batch_id"]:
            yield state, attempt


def _unnamed(t: Transaction, p: Mapping[str, Any], method: str) -> list[tuple[Row, Row]]:
    """Items of a finished batch that its report does not name."""
    except_ids = set(p["except_ids"])
    return [
        (s, a)
        for s, a in _in_flight(t, p)
        if a["method"] == method and a["outcome"] is None and s["variant_id"] not in except_ids
    ]


def _handle(t: Transaction, p: Mapping[str, Any], s: Row) -> str | None:
    """``KEEP_HANDLE``."""
    batch = t.batches.get(p["batch_id"])
    handle: str | None = None if batch is None else batch["handle"]
    return s["last_handle"] if handle is None else handle


def _sale(fields: dict[str, msgspec.Raw]) -> str | None:
    """``_SALE``."""
    price = _as_text(fields.get("sale_price", _NULL))
    window = _as_text(fields.get("sale_price_effective_date", _NULL))
    return " ".join(filter(None, (price, window))) if price else None


def _confirmed(t: Transaction, s: Row, a: Row, data: bytes | None) -> dict[str, Any]:
    """What a confirmation writes to an item that nothing disturbed since its claim."""
    fields = {} if data is None else _read_data(data)
    price = _as_text(fields.get("price", _NULL))
    quantity = _as_text(fields.get("quantity_to_sell_on_facebook", _NULL))
    return {
        "presence": "present",
        "confirmed_hash": a["payload_hash"],
        "confirmed_at": t.now,
        "confirmed_price": s["confirmed_price"] if price is None else price,
        "confirmed_sale": s["confirmed_sale"] if price is None else _sale(fields),
        "confirmed_availability": _as_text(fields.get("availability", _NULL)),
        "confirmed_quantity": None if quantity in {None, ""} else int(str(quantity)),
        "may_hold": a["fields"],
        "code": "delete_grace" if a["payload_hash"] == GRACE_HASH else None,
        "error_text": None,
        "attempts": 0,
    }


_NOTHING_OWED: dict[str, Any] = {
    "rejected_hash": None,
    "batch_limit": None,
    "retry_at": None,
    "retries": 0,
    "retry_hash": None,
}


@twin(statements.CONFIRM)
def confirm(t: Transaction, p: Mapping[str, Any]) -> Rows:
    sent = _sent(t, p)
    payloads = {}
    for s, a in _unnamed(t, p, "UPDATE"):
        data = sent.get(a["retailer_id"])
        is_disturbed = s["disturbed_at"] is not None
        outcome = {"presence": "maybe", "confirmed_hash": None} if is_disturbed else _confirmed(t, s, a, data)
        t.sync_state.update(
            s,
            in_flight=None,
            disturbed_at=None,
            updated_at=t.now,
            confirmed_epoch=p["link_epoch"],
            last_handle=_handle(t, p, s),
            status=after(Event.UNKNOWN if is_disturbed else Event.CONFIRMED, s["status"]),
            **_NOTHING_OWED,
            **outcome,
        )
        if data is not None and s["disturbed_at"] is None and a["payload_hash"] is not None:
            payloads[s["variant_id"]] = data
    for variant_id, data in payloads.items():
        row = t.item_payloads.get(p["link_id"], variant_id)
        if row is None:
            t.item_payloads.insert(
                t.now,
                link_id=p["link_id"],
                variant_id=variant_id,
                store_id=p["store_id"],
                payload=data,
                confirmed_at=t.now,
            )
        else:
            t.item_payloads.update(row, payload=data, confirmed_at=t.now)
    return Rows(rowcount=len(payloads))


@twin(statements.CONFIRM_DELETE)
def confirm_delete(t: Transaction, p: Mapping[str, Any]) -> Rows:
    dropped = 0
    for s, _ in _unnamed(t, p, "DELETE"):
        is_disturbed = s["disturbed_at"] is not None
        t.sync_state.update(
            s,
            in_flight=None,
            disturbed_at=None,
            updated_at=t.now,
            confirmed_epoch=p["link_epoch"],
            last_handle=_handle(t, p, s),
            status=after(Event.UNKNOWN if is_disturbed else Event.DELETED, s["status"]),
            presence="maybe" if is_disturbed else "absent",
            may_hold=s["may_hold"] if is_disturbed else [],
            confirmed_at=s["confirmed_at"] if is_disturbed else t.now,
            grace_until=s["grace_until"] if is_disturbed else None,
            confirmed_price=None,
            confirmed_availability=None,
            confirmed_quantity=None,
            confirmed_sale=None,
            code=None,
            error_text=None,
            attempts=0,
            **_NOTHING_OWED,
        )
        payload = t.item_payloads.get(p["link_id"], s["variant_id"])
        if payload is not None:
            t.item_payloads.delete(payload)
            dropped += 1
    return Rows(rowcount=dropped)


def _restored(t: Transaction, p: Mapping[str, Any], s: Row, a: Row) -> tuple[bool, dict[str, Any]]:
    """``RESTORED`` and ``RESTORE``."""
    changes: dict[str, Any] = {
        "in_flight": None,
        "updated_at": t.now,
        "last_handle": _handle(t, p, s),
        "confirmed_hash": None,
        "presence": "maybe",
        "disturbed_at": None,
    }
    if not p["is_certain"] or s["disturbed_at"] is not None:
        return False, changes
    changes["confirmed_hash"] = a["previous_confirmed_hash"]
    changes["confirmed_epoch"] = a["previous_confirmed_epoch"]
    changes["may_hold"] = a["previous_may_hold"]
    changes["presence"] = a["previous_presence"]
    if a["previous_confirmed_epoch"] is None:
        changes["retailer_id"] = None
    return True, changes


def _refused(t: Transaction, p: Mapping[str, Any], s: Row, a: Row) -> dict[str, Any]:
    return {
        **_restored(t, p, s, a)[1],
        "status": after(Event.REFUSED, s["status"]),
        "rejected_hash": a["payload_hash"] if s["disturbed_at"] is None else None,
        "batch_limit": None,
        "retries": 0,
        "retry_hash": None,
    }


@twin(statements.REFUSE)
def refuse(t: Transaction, p: Mapping[str, Any]) -> Rows:
    said = dict(zip(p["variant_ids"], zip(p["codes"], p["messages"], strict=True), strict=True))
    refused = [(s, a) for s, a in _in_flight(t, p) if s["variant_id"] in said]
    for s, a in refused:
        code, message = said[s["variant_id"]]
        changes = _refused(t, p, s, a)
        t.sync_state.update(s, code=code, error_text=message, attempts=s["attempts"] + 1, **changes)
    return Rows(rowcount=len(refused))


@twin(statements.NOTE_REFUSED)
def note_refused(t: Transaction, p: Mapping[str, Any]) -> Rows:
    noted = 0
    for variant_id, code, message in zip(p["variant_ids"], p["codes"], p["messages"], strict=True):
        s = t.sync_state.get(p["link_id"], variant_id)
        if s is not None and s["in_flight"] == p["batch_id"]:
            t.sync_state.update(
                s, code=code, error_text=message, attempts=s["attempts"] + 1, updated_at=t.now
            )
            noted += 1
    return Rows(rowcount=noted)


@twin(statements.FREE_REFUSED)
def free_refused(t: Transaction, p: Mapping[str, Any]) -> Rows:
    refused = [(s, a) for s, a in _in_flight(t, p) if a["outcome"] == "rejected"]
    for s, a in refused:
        t.sync_state.update(s, **_refused(t, p, s, a))
    return Rows(rowcount=len(refused))


@twin(statements.RELEASE)
def release(t: Transaction, p: Mapping[str, Any]) -> Rows:
    released = list(_in_flight(t, p))
    for s, a in released:
        is_restored, changes = _restored(t, p, s, a)
        status = after(Event.UNKNOWN, s["status"])
        if is_restored and a["previous_status"] != "never_synced":
            status = a["previous_status"]
        t.sync_state.update(s, status=status, batch_limit=_limit(p, s), **changes)
    return Rows(rowcount=len(released))


def _limit(p: Mapping[str, Any], s: Row) -> int | None:
    limit: int | None = s["batch_limit"] if p["batch_limit"] is None else p["batch_limit"]
    return limit


def _forgotten(t: Transaction, p: Mapping[str, Any]) -> Iterator[tuple[Row, Row, dict[str, Any]]]:
    """The items of ``FORGET``, with what it writes to each of them."""
    for s, a in _in_flight(t, p, only_ids=True):
        if a["outcome"] is None:
            changes = {
                "in_flight": None,
                "disturbed_at": None,
                "updated_at": t.now,
                "confirmed_hash": None,
                "presence": "maybe",
                "batch_limit": _limit(p, s),
                "last_handle": _handle(t, p, s),
            }
            yield s, a, changes


@twin(statements.MAKE_UNKNOWN)
def make_unknown(t: Transaction, p: Mapping[str, Any]) -> Rows:
    forgotten = list(_forgotten(t, p))
    for s, _, changes in forgotten:
        t.sync_state.update(s, status=after(Event.UNKNOWN, s["status"]), **changes)
    return Rows(rowcount=len(forgotten))


@twin(statements.MAKE_WAIT)
def make_wait(t: Transaction, p: Mapping[str, Any]) -> Rows:
    forgotten = list(_forgotten(t, p))
    for s, a, changes in forgotten:
        is_same = s["retry_hash"] is not None and s["retry_hash"] == a["payload_hash"]
        retries = (s["retries"] if is_same else 0) + 1
        t.sync_state.update(
            s,
            status=after(Event.UNKNOWN, s["status"]),
            code=p["code"],
            error_text=None,
            retry_at=t.now + seconds(p["waits"][min(retries, len(p["waits"])) - 1]),
            retries=min(retries, statements._MOST_RETRIES_COUNTED),
            retry_hash=a["payload_hash"],
            **changes,
        )
    return Rows(rowcount=len(forgotten))


@twin(statements.MAKE_GIVEN_UP)
def make_given_up(t: Transaction, p: Mapping[str, Any]) -> Rows:
    forgotten = list(_forgotten(t, p))
    for s, _, changes in forgotten:
        t.sync_state.update(
            s,
            status=after(Event.GIVEN_UP, s["status"]),
            code="poll_timeout",
            error_text=None,
            **changes,
        )
    return Rows(rowcount=len(forgotten))


@twin(statements.DISTURB)
def disturb(t: Transaction, p: Mapping[str, Any]) -> Rows:
    disturbed = 0
    for a in attempts_of(t, p):
        s = t.sync_state.get(p["link_id"], a["variant_id"])
        if s is None or a["outcome"] != "unknown":
            continue
        t.sync_state.update(
            s,
            confirmed_hash=None,
            rejected_hash=None,
            presence="maybe",
            disturbed_at=t.now,
            may_hold=sorted({*s["may_hold"], *a["fields"]}),
            updated_at=t.now,
            status=after(Event.DISTURBED, s["status"]),
        )
        disturbed += 1
    return Rows(rowcount=disturbed)


@twin(statements.TRY_AGAIN)
def try_again(t: Transaction, p: Mapping[str, Any]) -> Rows:
    row = t.sync_state.get(p["link_id"], p["variant_id"])
    if row is None or row["in_flight"] is not None or row["status"] != "failed":
        return Rows(rowcount=0)
    t.sync_state.update(
        row,
        retry_hash=row["rejected_hash"],
        rejected_hash=None,
        batch_limit=1,
        updated_at=t.now,
        retry_at=t.now + timedelta(hours=min(statements._MOST_HOURS, 2 ** min(p["times"], 10))),
        retries=min(p["times"] + 1, statements._MOST_RETRIES_COUNTED),
    )
    return Rows(rowcount=1)
