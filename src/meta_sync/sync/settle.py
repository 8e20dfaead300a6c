"""Writes the end of a batch: per item, under a batch row that is moved to ``over`` first. Talks to nobody.

Every update of an item is bound to ``in_flight = batch``, so that a batch settles only what it has, and only once. In
flight is cleared first and unparking comes last: an intent that was parked meanwhile is seen by one or the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.sync.bulk import expect_bulk
from meta_sync.sync.mapping_fields import FIELDS
from meta_sync.sync.models import BatchItem
from meta_sync.sync.outbox import mark_due
from meta_sync.sync.outcome import Outcomes
from meta_sync.sync.states import Event, status_case

__all__ = [
    "disturb_late",
    "follow_late_handle",
    "give_up",
    "note_refused",
    "refusal_code",
    "release_refused",
    "release_unknown",
    "settle_finished",
    "settle_refused_at_once",
]

_OVER = text(
    """
    UPDATE batches SET state = 'over', accepted = :accepted, rejected = :rejected, unknown = :unknown,
        sent = CASE WHEN :was_refused THEN :rejected ELSE sent END, due_at = NULL, finished_at = now(), error_code = :error_code, error_text = :error_text
    WHERE batch_id = :batch_id AND state <> 'over'
    RETURNING store_id, link_id, created_on, link_epoch, lane, created_at
    """
)
_CALLS_OVER = text(
    "UPDATE batch_calls SET state = :state WHERE batch_id = :batch_id AND state IN ('sending', 'open', 'given_up')"
)
# A verdict is proof only where no other call of the batch may have carried the items.
_IS_CERTAIN = text(
    """
    SELECT count(*) <= 1 AND count(*) FILTER (WHERE state = 'unknown') = 0 FROM batch_calls
    WHERE batch_id = :batch_id AND state <> 'refused'
    """
)
_DROP_BODY = text("UPDATE batches SET body = NULL WHERE batch_id = :batch_id")

# While an item is in flight, its handle stands with the batch: writing it to every item at the call would rewrite each
# row, with all its index entries, once more.
_KEEP_HANDLE = """
            last_handle = COALESCE((SELECT b.handle FROM batches AS b WHERE b.batch_id = :batch_id), s.last_handle)"""

# The confirmed payload is cut out of the stored body here, so that it never travels. The body is JSON text, of which
# PostgreSQL's json type keeps every byte.
_CONFIRM = text(
    f"""
    WITH sent AS MATERIALIZED (
        SELECT r.value -> 'data' AS data, r.value -> 'data' ->> 'id' AS retailer_id
        FROM batches AS b, json_array_elements(convert_from(b.body, 'UTF8')::json -> 'requests') AS r
        WHERE b.batch_id = :batch_id AND b.body IS NOT NULL
    ), accepted AS MATERIALIZED (
        SELECT a.variant_id, a.payload_hash, a.fields, p.data
        FROM batch_items AS a LEFT JOIN sent AS p ON p.retailer_id = a.retailer_id
        WHERE a.created_on = :created_on AND a.batch_id = :batch_id AND a.method = 'UPDATE' AND a.outcome IS NULL
          AND NOT (a.variant_id = ANY(CAST(:except_ids AS text[])))
    ), confirmed AS (
        UPDATE sync_state AS s SET
            in_flight = NULL, disturbed_at = NULL, updated_at = now(), confirmed_epoch = :link_epoch,{_KEEP_HANDLE},
            status = CASE WHEN s.disturbed_at IS NULL THEN {status_case(Event.CONFIRMED, "s.status")}
                          ELSE {status_case(Event.UNKNOWN, "s.status")} END,
            presence = CASE WHEN s.disturbed_at IS NULL THEN 'present' ELSE 'maybe' END,
            confirmed_hash = CASE WHEN s.disturbed_at IS NULL THEN a.payload_hash END,
            confirmed_at = CASE WHEN s.disturbed_at IS NULL THEN now() ELSE s.confirmed_at END,
            confirmed_price = CASE WHEN s.disturbed_at IS NULL THEN a.data ->> 'price' ELSE s.confirmed_price END,
            confirmed_availability = CASE WHEN s.disturbed_at IS NULL THEN a.data ->> 'availability'
                                          ELSE s.confirmed_availability END,
            confirmed_quantity = CASE WHEN s.disturbed_at IS NULL
                THEN NULLIF(a.data ->> 'quantity_to_sell_on_facebook', '')::integer ELSE s.confirmed_quantity END,
            may_hold = CASE WHEN s.disturbed_at IS NULL THEN a.fields ELSE s.may_hold END,
            rejected_hash = NULL, batch_limit = NULL, retry_at = NULL,
            code = CASE WHEN s.disturbed_at IS NULL THEN NULL ELSE s.code END,
            error_text = CASE WHEN s.disturbed_at IS NULL THEN NULL ELSE s.error_text END,
            attempts = CASE WHEN s.disturbed_at IS NULL THEN 0 ELSE s.attempts END
        FROM accepted AS a
        WHERE s.link_id = :link_id AND s.variant_id = a.variant_id AND s.in_flight = :batch_id
        RETURNING s.variant_id
    )
    INSERT INTO item_payloads (link_id, variant_id, store_id, payload, confirmed_at)
    SELECT :link_id, c.variant_id, :store_id, convert_to(a.data::text, 'UTF8'), now()
    FROM confirmed AS c JOIN accepted AS a USING (variant_id) WHERE a.data IS NOT NULL
    ORDER BY c.variant_id
    ON CONFLICT (link_id, variant_id) DO UPDATE
    SET payload = excluded.payload, confirmed_at = excluded.confirmed_at
    """
)
_CONFIRM_DELETE = text(
    f"""
    WITH deleted AS (
        UPDATE sync_state AS s SET
            in_flight = NULL, disturbed_at = NULL, updated_at = now(), confirmed_epoch = :link_epoch,{_KEEP_HANDLE},
            status = CASE WHEN s.disturbed_at IS NULL THEN {status_case(Event.DELETED, "s.status")}
                          ELSE {status_case(Event.UNKNOWN, "s.status")} END,
            presence = CASE WHEN s.disturbed_at IS NULL THEN 'absent' ELSE 'maybe' END,
            may_hold = CASE WHEN s.disturbed_at IS NULL THEN '{{}}' ELSE s.may_hold END,
            confirmed_at = CASE WHEN s.disturbed_at IS NULL THEN now() ELSE s.confirmed_at END,
            confirmed_price = NULL, confirmed_availability = NULL, confirmed_quantity = NULL,
            rejected_hash = NULL, batch_limit = NULL, retry_at = NULL, code = NULL, error_text = NULL, attempts = 0
        FROM batch_items AS a
        WHERE a.created_on = :created_on AND a.batch_id = :batch_id AND a.method = 'DELETE' AND a.outcome IS NULL
          AND NOT (a.variant_id = ANY(CAST(:except_ids AS text[])))
          AND s.link_id = :link_id AND s.variant_id = a.variant_id AND s.in_flight = :batch_id
        RETURNING s.variant_id
    )
    DELETE FROM item_payloads
    WHERE link_id = :link_id AND variant_id = ANY(ARRAY(SELECT variant_id FROM deleted))
    """
)
# Proved unsaved: what was known before the attempt holds again, unless the item was disturbed since the claim or another
# call of the batch may have saved it. An item that was never sent before has no id of its own either: a row with an id
# is one that this link may delete.
_RESTORED = "(:is_certain AND s.disturbed_at IS NULL)"
_RESTORE = f"""
        in_flight = NULL, updated_at = now(),{_KEEP_HANDLE},
        confirmed_hash = CASE WHEN {_RESTORED} THEN a.previous_confirmed_hash END,
        confirmed_epoch = CASE WHEN {_RESTORED} THEN a.previous_confirmed_epoch ELSE s.confirmed_epoch END,
        may_hold = CASE WHEN {_RESTORED} THEN a.previous_may_hold ELSE s.may_hold END,
        presence = CASE WHEN {_RESTORED} THEN a.previous_presence ELSE 'maybe' END,
        retailer_id = CASE WHEN {_RESTORED} AND a.previous_confirmed_epoch IS NULL THEN NULL ELSE s.retailer_id END,
        disturbed_at = NULL
"""
_REFUSE = text(
    f"""
    UPDATE sync_state AS s SET {_RESTORE},
        status = {status_case(Event.REFUSED, "s.status")},
        rejected_hash = CASE WHEN s.disturbed_at IS NULL THEN a.payload_hash END,
        batch_limit = NULL, code = u.code, error_text = u.message, attempts = s.attempts + 1
    FROM batch_items AS a JOIN unnest(CAST(:variant_ids AS text[]), CAST(:codes AS text[]), CAST(:messages AS text[]))
        AS u (variant_id, code, message) ON u.variant_id = a.variant_id
    WHERE a.created_on = :created_on AND a.batch_id = :batch_id
      AND s.link_id = :link_id AND s.variant_id = a.variant_id AND s.in_flight = :batch_id
    """
)
_RECORD_REFUSALS = text(
    """
    WITH said AS (
        SELECT * FROM unnest(CAST(:variant_ids AS text[]), CAST(:codes AS text[]), CAST(:messages AS text[]))
            AS u (variant_id, code, message)
    ), marked AS (
        UPDATE batch_items AS a SET outcome = 'rejected', error_text = u.message FROM said AS u
        WHERE a.created_on = :created_on AND a.batch_id = :batch_id AND a.variant_id = u.variant_id
    )
    INSERT INTO item_events (store_id, link_id, variant_id, kind, code, message)
    SELECT :store_id, :link_id, u.variant_id, 'refused', u.code, u.message FROM said AS u
    """
)
# Refused at once by one call while another may still be at work: the verdict is noted, and the item is freed with the
# batch.
_NOTE_REFUSED = text(
    """
    UPDATE sync_state AS s SET code = u.code, error_text = u.message, attempts = s.attempts + 1, updated_at = now()
    FROM unnest(CAST(:variant_ids AS text[]), CAST(:codes AS text[]), CAST(:messages AS text[]))
        AS u (variant_id, code, message)
    WHERE s.link_id = :link_id AND s.variant_id = ANY(CAST(:variant_ids AS text[])) AND s.variant_id = u.variant_id
      AND s.in_flight = :batch_id
    """
)
_FREE_REFUSED = text(
    f"""
    UPDATE sync_state AS s SET {_RESTORE},
        status = {status_case(Event.REFUSED, "s.status")},
        rejected_hash = CASE WHEN s.disturbed_at IS NULL THEN a.payload_hash END, batch_limit = NULL
    FROM batch_items AS a
    WHERE a.created_on = :created_on AND a.batch_id = :batch_id AND a.outcome = 'rejected'
      AND s.link_id = :link_id AND s.variant_id = a.variant_id AND s.in_flight = :batch_id
    """
)
_RELEASE = text(
    f"""
    UPDATE sync_state AS s SET {_RESTORE},
        status = CASE WHEN {_RESTORED} AND a.previous_status <> 'never_synced' THEN a.previous_status ELSE {status_case(Event.UNKNOWN, "s.status")} END,
        batch_limit = COALESCE(CAST(:batch_limit AS smallint), s.batch_limit)
    FROM batch_items AS a
    WHERE a.created_on = :created_on AND a.batch_id = :batch_id
      AND s.link_id = :link_id AND s.variant_id = a.variant_id AND s.in_flight = :batch_id
    """
)
_FORGET = f"""
    UPDATE sync_state AS s SET
        in_flight = NULL, disturbed_at = NULL, updated_at = now(), confirmed_hash = NULL, presence = 'maybe',
        batch_limit = COALESCE(CAST(:batch_limit AS smallint), s.batch_limit),{_KEEP_HANDLE}, {{more}}
    FROM batch_items AS a
    WHERE a.created_on = :created_on AND a.batch_id = :batch_id AND a.outcome IS NULL
      AND (CAST(:only_ids AS text[]) IS NULL OR a.variant_id = ANY(CAST(:only_ids AS text[])))
      AND s.link_id = :link_id AND s.variant_id = a.variant_id AND s.in_flight = :batch_id
"""
_MAKE_UNKNOWN = text(_FORGET.format(more=f"status = {status_case(Event.UNKNOWN, 's.status')}"))
_MAKE_GIVEN_UP = text(
    _FORGET.format(
        more=f"status = {status_case(Event.GIVEN_UP, 's.status')}, code = 'poll_timeout', "
        "error_text = 'Meta did not finish the batch in time. The item is sent again.'"
    )
)
_MARK_UNKNOWN = text(
    """
    UPDATE batch_items SET outcome = 'unknown'
    WHERE created_on = :created_on AND batch_id = :batch_id AND outcome IS NULL
      AND (CAST(:only_ids AS text[]) IS NULL OR variant_id = ANY(CAST(:only_ids AS text[])))
    """
)
_GIVE_UP = text(
    """
    UPDATE batches SET state = 'given_up', due_at = now() + interval '10 minutes', body = NULL
    WHERE batch_id = :batch_id AND state = 'open'
    RETURNING store_id, link_id, created_on, link_epoch, lane, created_at
    """
)
# What ended late was applied late: over whatever was sent since.
_DISTURB = text(
    f"""
    UPDATE sync_state AS s SET
        confirmed_hash = NULL, rejected_hash = NULL, presence = 'maybe', disturbed_at = clock_timestamp(),
        may_hold = ARRAY(SELECT DISTINCT unnest(s.may_hold || a.fields)), updated_at = now(),
        status = {status_case(Event.DISTURBED, "s.status")}
    FROM batch_items AS a
    WHERE a.created_on = :created_on AND a.batch_id = :batch_id AND a.outcome = 'unknown'
      AND s.link_id = :link_id AND s.variant_id = a.variant_id
      AND s.variant_id = ANY(ARRAY(
          SELECT variant_id FROM batch_items WHERE created_on = :created_on AND batch_id = :batch_id
      ))
    """
)
# Items go again under the age and lane of their batch; a parked intent stays parked until the end of the transaction.
_INTEND_AGAIN = text(
    """
    INSERT INTO intents AS i (store_id, variant_id, version, lane, first_at)
    SELECT :store_id, a.variant_id, nextval('version_seq'), :lane, :first_at
    FROM batch_items AS a
    WHERE a.created_on = :created_on AND a.batch_id = :batch_id
      AND (CAST(:only_ids AS text[]) IS NULL OR a.variant_id = ANY(CAST(:only_ids AS text[])))
      AND (NOT :only_without_outcome OR a.outcome IS NULL OR a.outcome = 'unknown')
    ORDER BY a.variant_id
    ON CONFLICT (store_id, variant_id) DO UPDATE
    SET version = nextval('version_seq'), lane = LEAST(i.lane, excluded.lane),
        first_at = LEAST(i.first_at, excluded.first_at), job_id = NULL
    """
)
# Locked in the order in which writers take them.
_UNPARK = text(
    """
    UPDATE intents SET parked_by = NULL
    WHERE store_id = :store_id AND variant_id = ANY(ARRAY(
        SELECT variant_id FROM intents WHERE parked_by = :batch_id ORDER BY variant_id FOR UPDATE
    ))
    """
)
_REOPEN = text(
    """
    UPDATE batches AS b SET state = 'given_up', handle = :handle, sent_at = now(), finished_at = NULL,
        accepted = 0, rejected = 0, unknown = 0, due_at = now() + make_interval(secs => :first_poll_seconds),
        sent = (SELECT count(*) FROM batch_items AS i WHERE i.created_on = b.created_on AND i.batch_id = b.batch_id)
    WHERE b.batch_id = :batch_id AND b.state = 'over'
    RETURNING b.created_on
    """
)
_EVERY_OUTCOME_UNKNOWN = text(
    "UPDATE batch_items SET outcome = 'unknown' WHERE created_on = :created_on AND batch_id = :batch_id"
)


def refusal_code(item: BatchItem, message: str, cleared: Mapping[str, Sequence[str]]) -> str:
    """The code of Meta's refusal of one item: ``cannot_clear`` where it names a field that was sent empty."""
    lowered = message.lower()
    for name in cleared.get(item.variant_id, ()):
        if name in FIELDS and (f"the {name} information" in lowered or f"'{name}'" in lowered):
            return "cannot_clear"
    return "rejected_by_meta"


async def _begin(
    connection: AsyncConnection,
    batch_id: int,
    counts: tuple[int, int, int],
    error: tuple[str | None, str | None],
    *,
    was_refused: bool = False,
) -> dict[str, Any] | None:
    accepted, rejected, unknown = counts
    await expect_bulk(connection)
    row = (
        await connection.execute(
            _OVER,
            {
                "batch_id": batch_id,
                "accepted": accepted,
                "rejected": rejected,
                "unknown": unknown,
                "was_refused": was_refused,
                "error_code": error[0],
                "error_text": error[1],
            },
        )
    ).one_or_none()
    return None if row is None else _identity(row, batch_id)


def _identity(row: Any, batch_id: int) -> dict[str, Any]:
    return {
        "batch_id": batch_id,
        "store_id": row[0],
        "link_id": row[1],
        "created_on": row[2],
        "link_epoch": row[3],
        "lane": row[4],
        "first_at": row[5],
        "only_ids": None,
        "batch_limit": None,
        "only_without_outcome": False,
    }


async def _finish(connection: AsyncConnection, batch: dict[str, Any]) -> None:
    await connection.execute(_DROP_BODY, batch)
    await connection.execute(_UNPARK, batch)
    await mark_due(connection, batch["store_id"])


async def settle_finished(
    connection: AsyncConnection,
    batch_id: int,
    outcomes: Outcomes,
    *,
    already_rejected: int,
    codes: Mapping[str, str],
    batch_limit: int | None,
) -> bool:
    """Settle a batch that Meta finished: confirm, refuse, and send the unknown again in smaller batches.

    Returns ``False`` when somebody else has settled it.
    """
    rejected_ids = [item.variant_id for item in outcomes.rejected]
    unknown_ids = [item.variant_id for item in outcomes.unknown]
    counts = (len(outcomes.accepted), len(rejected_ids) + already_rejected, len(unknown_ids))
    batch = await _begin(connection, batch_id, counts, (None, None))
    if batch is None:
        return False
    is_certain = await connection.scalar(_IS_CERTAIN, batch)
    batch |= {"is_certain": is_certain, "except_ids": rejected_ids + unknown_ids}
    if outcomes.accepted:
        await connection.execute(_CONFIRM, batch)
        await connection.execute(_CONFIRM_DELETE, batch)
    if rejected_ids:
        await _refuse(connection, batch, {one: outcomes.messages[one] for one in rejected_ids}, codes)
    if already_rejected:
        await connection.execute(_FREE_REFUSED, batch)
    if unknown_ids:
        some = {**batch, "only_ids": unknown_ids, "batch_limit": batch_limit}
        await connection.execute(_MAKE_UNKNOWN, some)
        await connection.execute(_MARK_UNKNOWN, some)
        await connection.execute(_INTEND_AGAIN, some)
    await connection.execute(_CALLS_OVER, {**batch, "state": "over"})
    await _finish(connection, batch)
    return True


async def settle_refused_at_once(
    connection: AsyncConnection,
    batch: Mapping[str, Any],
    messages: Mapping[str, str],
    codes: Mapping[str, str],
) -> None:
    """Refuse the items that Meta refused in its answer to the call; the batch itself goes on."""
    await expect_bulk(connection)
    parameters = dict(batch)
    parameters["is_certain"] = await connection.scalar(_IS_CERTAIN, parameters)
    await _refuse(connection, parameters, messages, codes)
    await connection.execute(_UNPARK_OF, {**parameters, "variant_ids": sorted(messages)})


async def note_refused(
    connection: AsyncConnection,
    batch: Mapping[str, Any],
    messages: Mapping[str, str],
    codes: Mapping[str, str],
) -> None:
    """Note what Meta refused in its answer to one of several calls: the items stay in flight until all are over."""
    await expect_bulk(connection)
    said = _said(batch, messages, codes)
    await connection.execute(_NOTE_REFUSED, said)
    await connection.execute(_RECORD_REFUSALS, said)


_UNPARK_OF = text(
    """
    UPDATE intents SET parked_by = NULL
    WHERE parked_by = :batch_id AND variant_id = ANY(CAST(:variant_ids AS text[]))
    """
)


async def _refuse(
    connection: AsyncConnection, batch: dict[str, Any], messages: Mapping[str, str], codes: Mapping[str, str]
) -> None:
    said = _said(batch, messages, codes)
    await connection.execute(_REFUSE, said)
    await connection.execute(_RECORD_REFUSALS, said)


def _said(batch: Mapping[str, Any], messages: Mapping[str, str], codes: Mapping[str, str]) -> dict[str, Any]:
    ids = sorted(messages)
    return {
        **batch,
        "variant_ids": ids,
        "codes": [codes.get(one, "rejected_by_meta") for one in ids],
        "messages": [messages[one] for one in ids],
    }


async def release_refused(
    connection: AsyncConnection,
    batch_id: int,
    *,
    code: str | None,
    message: str | None,
    batch_limit: int | None = None,
    already_rejected: int = 0,
) -> bool:
    """Give everything back after a call that Meta certainly did not carry out: nothing was sent.

    ``already_rejected`` items have had their verdict in the same answer.
    """
    batch = await _begin(connection, batch_id, (0, already_rejected, 0), (code, message), was_refused=True)
    if batch is None:
        return False
    is_certain = await connection.scalar(_IS_CERTAIN, batch)
    batch |= {"is_certain": is_certain, "batch_limit": batch_limit}
    await connection.execute(_RELEASE, batch)
    await connection.execute(_INTEND_AGAIN, {**batch, "only_without_outcome": True})
    await connection.execute(_CALLS_OVER, {**batch, "state": "refused"})
    await _finish(connection, batch)
    return True


async def release_unknown(
    connection: AsyncConnection,
    batch_id: int,
    *,
    already_rejected: int,
    unsettled: int,
    code: str,
    message: str,
    batch_limit: int | None = None,
) -> bool:
    """End a batch whose effect is not known: its items are sent again, at no cost in attempts."""
    batch = await _begin(connection, batch_id, (0, already_rejected, unsettled), (code, message))
    if batch is None:
        return False
    batch |= {"batch_limit": batch_limit, "is_certain": False}
    if already_rejected:
        await connection.execute(_FREE_REFUSED, batch)
    await connection.execute(_MAKE_UNKNOWN, batch)
    await connection.execute(_MARK_UNKNOWN, batch)
    await connection.execute(_INTEND_AGAIN, {**batch, "only_without_outcome": True})
    await connection.execute(_CALLS_OVER, {**batch, "state": "over"})
    await _finish(connection, batch)
    return True


async def give_up(connection: AsyncConnection, batch_id: int) -> bool:
    """Stop waiting for a handle: its items go again, nothing is confirmed, and the handle is asked on now and then."""
    await expect_bulk(connection)
    row = (await connection.execute(_GIVE_UP, {"batch_id": batch_id})).one_or_none()
    if row is None:
        return False
    batch = _identity(row, batch_id)
    await connection.execute(_FREE_REFUSED, {**batch, "is_certain": False})
    await connection.execute(_MAKE_GIVEN_UP, batch)
    await connection.execute(_MARK_UNKNOWN, batch)
    await connection.execute(_INTEND_AGAIN, {**batch, "only_without_outcome": True})
    await connection.execute(_UNPARK, batch)
    await mark_due(connection, batch["store_id"])
    return True


async def disturb_late(
    connection: AsyncConnection, batch_id: int, *, already_rejected: int, unsettled: int
) -> bool:
    """A handle that was given up ended after all: what was known of its items no longer holds."""
    batch = await _begin(
        connection,
        batch_id,
        (0, already_rejected, unsettled),
        ("poll_timeout", "Meta finished the batch after it was given up."),
    )
    if batch is None:
        return False
    await connection.execute(_DISTURB, batch)
    await connection.execute(_INTEND_AGAIN, {**batch, "only_without_outcome": True})
    await connection.execute(_CALLS_OVER, {**batch, "state": "over"})
    await _finish(connection, batch)
    return True


async def follow_late_handle(
    connection: AsyncConnection, batch_id: int, handle: str, *, first_poll_seconds: float
) -> bool:
    """Follow a handle that came back for a batch that is over, like one that was given up.

    What it carried is applied late, over whatever was sent since; when it ends, its items are disturbed. Returns
    ``False`` when the batch is not over.
    """
    said = {"batch_id": batch_id, "handle": handle, "first_poll_seconds": first_poll_seconds}
    row = (await connection.execute(_REOPEN, said)).one_or_none()
    if row is None:
        return False
    await connection.execute(_EVERY_OUTCOME_UNKNOWN, {**said, "created_on": row[0]})
    return True
