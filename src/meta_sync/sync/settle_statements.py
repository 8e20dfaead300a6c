"""The statements that end a batch. Each update of an item is bound to ``in_flight = batch``."""

from __future__ import annotations

from sqlalchemy import text

from meta_sync.sync.states import Event, status_case

__all__ = [
    "CALLS_OVER",
    "CONFIRM",
    "CONFIRM_DELETE",
    "DISTURB",
    "DROP_BODY",
    "EVERY_OUTCOME_UNKNOWN",
    "FORGET",
    "FREE_REFUSED",
    "GIVE_UP",
    "INTEND_AGAIN",
    "IS_CERTAIN",
    "KEEP_HANDLE",
    "MAKE_GIVEN_UP",
    "MAKE_UNKNOWN",
    "MAKE_WAIT",
    "MARK_UNKNOWN",
    "NOTE_REFUSED",
    "OVER",
    "RECORD_REFUSALS",
    "REFUSE",
    "RELEASE",
    "REOPEN",
    "RESTORE",
    "RESTORED",
    "TRY_AGAIN",
    "UNPARK",
    "UNPARK_OF",
]

_MOST_RETRIES_COUNTED = 1000
"""Far beyond the longest wait; the column must not overflow in the months that Meta could go on like that."""

_MOST_HOURS = 24
"""Between two tries of an item that was blamed without Meta's word: one call a day."""

OVER = text(
    """
    UPDATE batches SET state = 'over', accepted = :accepted, rejected = :rejected, unknown = :unknown,
        sent = CASE WHEN :was_refused THEN :rejected ELSE sent END, due_at = NULL, finished_at = now(), error_code = :error_code, error_text = :error_text
    WHERE batch_id = :batch_id AND state <> 'over'
    RETURNING store_id, link_id, created_on, link_epoch, lane, created_at
    """
)
CALLS_OVER = text(
    "UPDATE batch_calls SET state = :state WHERE batch_id = :batch_id AND state IN ('sending', 'open', 'given_up')"
)
# A verdict is proof only where no other call of the batch may have carried the items.
IS_CERTAIN = text(
    """
    SELECT count(*) <= 1 AND count(*) FILTER (WHERE state = 'unknown') = 0 FROM batch_calls
    WHERE batch_id = :batch_id AND state <> 'refused'
    """
)
DROP_BODY = text("UPDATE batches SET body = NULL WHERE batch_id = :batch_id")
# While an item is in flight, its handle stands with the batch: writing it to every item at the call would rewrite each
# row, with all its index entries, once more.
KEEP_HANDLE = """
            last_handle = COALESCE((SELECT b.handle FROM batches AS b WHERE b.batch_id = :batch_id), s.last_handle)"""
# The confirmed payload is cut out of the stored body here, so that it never travels. The body is JSON text, of which
# PostgreSQL's json type keeps every byte.
# A record without a price says nothing of sales either.
_SALE = """CASE WHEN a.data ->> 'sale_price' <> '' THEN concat_ws(' ', a.data ->> 'sale_price',
                NULLIF(a.data ->> 'sale_price_effective_date', '')) END"""
CONFIRM = text(
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
            in_flight = NULL, disturbed_at = NULL, updated_at = now(), confirmed_epoch = :link_epoch,{KEEP_HANDLE},
            status = CASE WHEN s.disturbed_at IS NULL THEN {status_case(Event.CONFIRMED, "s.status")}
                          ELSE {status_case(Event.UNKNOWN, "s.status")} END,
            presence = CASE WHEN s.disturbed_at IS NULL THEN 'present' ELSE 'maybe' END,
            confirmed_hash = CASE WHEN s.disturbed_at IS NULL THEN a.payload_hash END,
            confirmed_at = CASE WHEN s.disturbed_at IS NULL THEN now() ELSE s.confirmed_at END,
            confirmed_price = CASE WHEN s.disturbed_at IS NULL THEN COALESCE(a.data ->> 'price', s.confirmed_price)
                                   ELSE s.confirmed_price END,
            confirmed_sale = CASE WHEN s.disturbed_at IS NULL AND a.data ->> 'price' IS NOT NULL THEN {_SALE}
                                  ELSE s.confirmed_sale END,
            confirmed_availability = CASE WHEN s.disturbed_at IS NULL THEN a.data ->> 'availability'
                                          ELSE s.confirmed_availability END,
            confirmed_quantity = CASE WHEN s.disturbed_at IS NULL
                THEN NULLIF(a.data ->> 'quantity_to_sell_on_facebook', '')::integer ELSE s.confirmed_quantity END,
            may_hold = CASE WHEN s.disturbed_at IS NULL THEN a.fields ELSE s.may_hold END,
            rejected_hash = NULL, batch_limit = NULL, retry_at = NULL, retries = 0, retry_hash = NULL,
            code = CASE WHEN s.disturbed_at IS NOT NULL THEN s.code
                        WHEN a.payload_hash = CAST('GRACE' AS bytea) THEN 'delete_grace' END,
            error_text = CASE WHEN s.disturbed_at IS NULL THEN NULL ELSE s.error_text END,
            attempts = CASE WHEN s.disturbed_at IS NULL THEN 0 ELSE s.attempts END
        FROM accepted AS a
        WHERE s.link_id = :link_id AND s.variant_id = a.variant_id AND s.in_flight = :batch_id
        RETURNING s.variant_id, s.confirmed_hash IS NOT NULL AS is_confirmed
    )
    INSERT INTO item_payloads (link_id, variant_id, store_id, payload, confirmed_at)
    SELECT :link_id, c.variant_id, :store_id, convert_to(a.data::text, 'UTF8'), now()
    FROM confirmed AS c JOIN accepted AS a USING (variant_id) WHERE a.data IS NOT NULL AND c.is_confirmed
    ORDER BY c.variant_id
    ON CONFLICT (link_id, variant_id) DO UPDATE
    SET payload = excluded.payload, confirmed_at = excluded.confirmed_at
    """
)
CONFIRM_DELETE = text(
    f"""
    WITH deleted AS (
        UPDATE sync_state AS s SET
            in_flight = NULL, disturbed_at = NULL, updated_at = now(), confirmed_epoch = :link_epoch,{KEEP_HANDLE},
            status = CASE WHEN s.disturbed_at IS NULL THEN {status_case(Event.DELETED, "s.status")}
                          ELSE {status_case(Event.UNKNOWN, "s.status")} END,
            presence = CASE WHEN s.disturbed_at IS NULL THEN 'absent' ELSE 'maybe' END,
            may_hold = CASE WHEN s.disturbed_at IS NULL THEN '{{}}' ELSE s.may_hold END,
            confirmed_at = CASE WHEN s.disturbed_at IS NULL THEN now() ELSE s.confirmed_at END,
            grace_until = CASE WHEN s.disturbed_at IS NULL THEN NULL ELSE s.grace_until END,
            confirmed_price = NULL, confirmed_availability = NULL, confirmed_quantity = NULL, confirmed_sale = NULL,
            rejected_hash = NULL, batch_limit = NULL, retry_at = NULL, retries = 0, retry_hash = NULL,
            code = NULL, error_text = NULL, attempts = 0
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
RESTORED = "(:is_certain AND s.disturbed_at IS NULL)"
RESTORE = f"""
        in_flight = NULL, updated_at = now(),{KEEP_HANDLE},
        confirmed_hash = CASE WHEN {RESTORED} THEN a.previous_confirmed_hash END,
        confirmed_epoch = CASE WHEN {RESTORED} THEN a.previous_confirmed_epoch ELSE s.confirmed_epoch END,
        may_hold = CASE WHEN {RESTORED} THEN a.previous_may_hold ELSE s.may_hold END,
        presence = CASE WHEN {RESTORED} THEN a.previous_presence ELSE 'maybe' END,
        retailer_id = CASE WHEN {RESTORED} AND a.previous_confirmed_epoch IS NULL THEN NULL ELSE s.retailer_id END,
        disturbed_at = NULL
"""
REFUSE = text(
    f"""
    UPDATE sync_state AS s SET {RESTORE},
        status = {status_case(Event.REFUSED, "s.status")},
        rejected_hash = CASE WHEN s.disturbed_at IS NULL THEN a.payload_hash END,
        batch_limit = NULL, retries = 0, retry_hash = NULL,
        code = u.code, error_text = u.message, attempts = s.attempts + 1
    FROM batch_items AS a JOIN unnest(CAST(:variant_ids AS text[]), CAST(:codes AS text[]), CAST(:messages AS text[]))
        AS u (variant_id, code, message) ON u.variant_id = a.variant_id
    WHERE a.created_on = :created_on AND a.batch_id = :batch_id
      AND s.link_id = :link_id AND s.variant_id = a.variant_id AND s.in_flight = :batch_id
    """
)
RECORD_REFUSALS = text(
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
NOTE_REFUSED = text(
    """
    UPDATE sync_state AS s SET code = u.code, error_text = u.message, attempts = s.attempts + 1, updated_at = now()
    FROM unnest(CAST(:variant_ids AS text[]), CAST(:codes AS text[]), CAST(:messages AS text[]))
        AS u (variant_id, code, message)
    WHERE s.link_id = :link_id AND s.variant_id = ANY(CAST(:variant_ids AS text[])) AND s.variant_id = u.variant_id
      AND s.in_flight = :batch_id
    """
)
FREE_REFUSED = text(
    f"""
    UPDATE sync_state AS s SET {RESTORE},
        status = {status_case(Event.REFUSED, "s.status")},
        rejected_hash = CASE WHEN s.disturbed_at IS NULL THEN a.payload_hash END, batch_limit = NULL,
        retries = 0, retry_hash = NULL
    FROM batch_items AS a
    WHERE a.created_on = :created_on AND a.batch_id = :batch_id AND a.outcome = 'rejected'
      AND s.link_id = :link_id AND s.variant_id = a.variant_id AND s.in_flight = :batch_id
    """
)
RELEASE = text(
    f"""
    UPDATE sync_state AS s SET {RESTORE},
        status = CASE WHEN {RESTORED} AND a.previous_status <> 'never_synced' THEN a.previous_status ELSE {status_case(Event.UNKNOWN, "s.status")} END,
        batch_limit = COALESCE(CAST(:batch_limit AS smallint), s.batch_limit)
    FROM batch_items AS a
    WHERE a.created_on = :created_on AND a.batch_id = :batch_id
      AND s.link_id = :link_id AND s.variant_id = a.variant_id AND s.in_flight = :batch_id
    """
)
FORGET = f"""
    UPDATE sync_state AS s SET
        in_flight = NULL, disturbed_at = NULL, updated_at = now(), confirmed_hash = NULL, presence = 'maybe',
        batch_limit = COALESCE(CAST(:batch_limit AS smallint), s.batch_limit),{KEEP_HANDLE}, {{more}}
    FROM batch_items AS a
    WHERE a.created_on = :created_on AND a.batch_id = :batch_id AND a.outcome IS NULL
      AND (CAST(:only_ids AS text[]) IS NULL OR a.variant_id = ANY(CAST(:only_ids AS text[])))
      AND s.link_id = :link_id AND s.variant_id = a.variant_id AND s.in_flight = :batch_id
"""
MAKE_UNKNOWN = text(FORGET.format(more=f"status = {status_case(Event.UNKNOWN, 's.status')}"))
# Without an intent: the sweep writes it when the time has come. A newer intent that is parked goes at once all the same.
_RETRIES = "CASE WHEN s.retry_hash = a.payload_hash THEN s.retries ELSE 0 END"
MAKE_WAIT = text(
    FORGET.format(
        more=f"""
        status = {status_case(Event.UNKNOWN, "s.status")}, code = :code, error_text = NULL,
        retry_at = now() + make_interval(
            secs => (CAST(:waits AS float8[]))[LEAST({_RETRIES} + 1, cardinality(CAST(:waits AS float8[])))]),
        retries = LEAST({_RETRIES} + 1, {_MOST_RETRIES_COUNTED}), retry_hash = a.payload_hash
        """
    )
)
MAKE_GIVEN_UP = text(
    FORGET.format(
        more=f"status = {status_case(Event.GIVEN_UP, 's.status')}, code = 'poll_timeout', error_text = NULL"
    )
)
# Blamed without a word of Meta about the item itself, which may have been a passing fault. It goes again, alone, after one
# hour, then two, at last once a day; what it carries is not noted as refused.
TRY_AGAIN = text(
    f"""
    UPDATE sync_state SET retry_hash = rejected_hash, rejected_hash = NULL, batch_limit = 1, updated_at = now(),
        retry_at = now() + make_interval(hours => LEAST({_MOST_HOURS}, power(2, LEAST(CAST(:times AS integer), 10)))::int),
        retries = LEAST(CAST(:times AS integer) + 1, {_MOST_RETRIES_COUNTED})
    WHERE link_id = :link_id AND variant_id = :variant_id AND in_flight IS NULL AND status = 'failed'
    """
)
MARK_UNKNOWN = text(
    """
    UPDATE batch_items SET outcome = 'unknown'
    WHERE created_on = :created_on AND batch_id = :batch_id AND outcome IS NULL
      AND (CAST(:only_ids AS text[]) IS NULL OR variant_id = ANY(CAST(:only_ids AS text[])))
    """
)
GIVE_UP = text(
    """
    UPDATE batches SET state = 'given_up', due_at = now() + interval '10 minutes', body = NULL
    WHERE batch_id = :batch_id AND state = 'open'
    RETURNING store_id, link_id, created_on, link_epoch, lane, created_at
    """
)
# What ended late was applied late: over whatever was sent since.
DISTURB = text(
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
INTEND_AGAIN = text(
    """
    INSERT INTO intents AS i (store_id, variant_id, version, lane, first_at, released_kinds)
    SELECT :store_id, a.variant_id, nextval('version_seq'), :lane, :first_at, a.released_kinds
    FROM batch_items AS a
    WHERE a.created_on = :created_on AND a.batch_id = :batch_id
      AND (CAST(:only_ids AS text[]) IS NULL OR a.variant_id = ANY(CAST(:only_ids AS text[])))
      AND (NOT :only_without_outcome OR a.outcome IS NULL OR a.outcome = 'unknown')
    ORDER BY a.variant_id
    ON CONFLICT (store_id, variant_id) DO UPDATE
    SET version = nextval('version_seq'), lane = LEAST(i.lane, excluded.lane),
        first_at = LEAST(i.first_at, excluded.first_at), job_id = NULL, held_by = NULL,
        released_kinds = i.released_kinds | excluded.released_kinds
    """
)
# Locked in the order in which writers take them.
UNPARK = text(
    """
    UPDATE intents SET parked_by = NULL
    WHERE store_id = :store_id AND variant_id = ANY(ARRAY(
        SELECT variant_id FROM intents WHERE parked_by = :batch_id ORDER BY variant_id FOR UPDATE
    ))
    """
)
REOPEN = text(
    """
    UPDATE batches AS b SET state = 'given_up', handle = :handle, sent_at = now(), finished_at = NULL,
        accepted = 0, rejected = 0, unknown = 0, due_at = now() + make_interval(secs => :first_poll_seconds),
        sent = (SELECT count(*) FROM batch_items AS i WHERE i.created_on = b.created_on AND i.batch_id = b.batch_id)
    WHERE b.batch_id = :batch_id AND b.state = 'over'
      AND (CAST(:handle AS text) IS NULL OR b.handle IS DISTINCT FROM :handle)
    RETURNING b.created_on
    """
)
EVERY_OUTCOME_UNKNOWN = text(
    "UPDATE batch_items SET outcome = 'unknown' WHERE created_on = :created_on AND batch_id = :batch_id"
)
UNPARK_OF = text(
    """
    UPDATE intents SET parked_by = NULL
    WHERE parked_by = :batch_id AND variant_id = ANY(CAST(:variant_ids AS text[]))
    """
)
