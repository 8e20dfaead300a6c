"""The statements that store what came of a call."""

from __future__ import annotations

from sqlalchemy import text

__all__ = [
    "BACK_TO_UNKNOWN",
    "BLAMED",
    "CALLS",
    "CALL_REFUSED",
    "CALL_TAKEN",
    "CALL_UNKNOWN",
    "CALL_UNKNOWN_LATE",
    "CREATED_ON",
    "CREDENTIAL_IN_USE",
    "DROP_CALL",
    "ITEMS",
    "NOW",
    "SERVER_ERROR",
    "TAKEN",
    "UNKNOWN",
]

TAKEN = text(
    """
    UPDATE batches SET state = 'open', handle = :handle, sent_at = now(), error_code = NULL, error_text = NULL,
        due_at = GREATEST(now() + make_interval(secs => :first_poll_seconds), COALESCE(hold_until, now()))
    WHERE batch_id = :batch_id AND state IN ('sending', 'unknown')
    RETURNING store_id, link_id, created_on, link_epoch, lane, created_at
    """
)
CALL_TAKEN = text(
    """
    UPDATE batch_calls SET state = 'open', handle = :handle
    WHERE batch_id = :batch_id AND call_number = :call_number AND (state <> 'over' OR handle IS DISTINCT FROM :handle)
    """
)
CALL_UNKNOWN = text(
    """
    UPDATE batch_calls SET state = 'unknown', unknown_at = now(), error_code = :code, error_text = :message,
        server_error = :is_server_error
    WHERE batch_id = :batch_id AND call_number = :call_number AND state = 'sending'
    """
)
SERVER_ERROR = text(
    """
    UPDATE batches SET server_errors = server_errors + 1, body_hash = COALESCE(body_hash, sha256(body))
    WHERE batch_id = :batch_id
    """
)
CALL_UNKNOWN_LATE = text(
    "UPDATE batch_calls SET unknown_at = now() "
    "WHERE batch_id = :batch_id AND call_number = :call_number AND state = 'unknown'"
)
# The end of the latest call decides what is done next; that of an earlier one, which came late, only makes the hold
# longer, under whatever state the batch is in by now.
UNKNOWN = text(
    """
    UPDATE batches SET
        error_code = :code, error_text = :message,
        hold_until = GREATEST(hold_until, now() + make_interval(secs => :hold_seconds)),
        due_at = CASE
            WHEN state = 'open' THEN GREATEST(due_at, now() + make_interval(secs => :hold_seconds))
            WHEN state = 'sending' AND calls = :call_number
                THEN now() + make_interval(secs => LEAST(:resend_seconds * power(2, calls - 1), :hold_seconds))
            ELSE due_at END,
        state = CASE WHEN state = 'sending' AND calls = :call_number THEN 'unknown' ELSE state END
    WHERE batch_id = :batch_id AND state IN ('sending', 'unknown', 'open')
    """
)
CALL_REFUSED = text(
    """
    UPDATE batch_calls SET state = 'refused', error_code = :code, error_text = :message
    WHERE batch_id = :batch_id AND call_number = :call_number
    """
)
# A refused re-send leaves the earlier, unknown call as it was. It counts as a call; one that was never made does not.
# Where the content was refused, the same bytes are not sent again.
BACK_TO_UNKNOWN = text(
    """
    UPDATE batches SET state = 'unknown', calls = calls - :not_made,
        due_at = CASE WHEN :is_final THEN GREATEST(hold_until, now())
                      ELSE now() + make_interval(secs => :resend_seconds) END
    WHERE batch_id = :batch_id AND state = 'sending' AND calls = :call_number
    """
)
NOW = text("SELECT clock_timestamp()")
CALLS = text("SELECT calls, state FROM batches WHERE batch_id = :batch_id FOR UPDATE")
DROP_CALL = text("DELETE FROM batch_calls WHERE batch_id = :batch_id AND call_number = :call_number")
ITEMS = text(
    """
    SELECT i.variant_id, i.retailer_id, i.method, i.outcome, i.cleared
    FROM batch_items AS i JOIN batches AS b ON b.batch_id = i.batch_id AND b.created_on = i.created_on
    WHERE i.batch_id = :batch_id
    """
)
# How often the only item of a batch was found guilty of exactly what it carries, without a word of Meta about it.
BLAMED = text(
    """
    SELECT s.retries FROM batches AS b
    JOIN batch_items AS i ON i.created_on = b.created_on AND i.batch_id = b.batch_id
    JOIN sync_state AS s ON s.link_id = i.link_id AND s.variant_id = i.variant_id
    WHERE b.batch_id = :batch_id AND i.previous_status = 'failed' AND s.retry_hash = i.payload_hash
    ORDER BY s.variant_id LIMIT 1
    """
)
CREDENTIAL_IN_USE = text("SELECT credential_id FROM catalog_links WHERE link_id = :link_id FOR SHARE")
CREATED_ON = text("SELECT created_on FROM batches WHERE batch_id = :batch_id")
