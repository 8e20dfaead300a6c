"""The statements that take due batches and put them off."""

from __future__ import annotations

from sqlalchemy import text

from meta_sync.sync.resend import MAX_CALLS

__all__ = [
    "BODY",
    "CLAIM",
    "HOLD",
    "LATER",
    "LOST_CALL",
    "LOST_CALLS",
    "NEXT_HANDLE",
    "OTHER_CALL",
    "POLLED",
    "STILL_HELD",
]

_CLAIM_SECONDS = 60
"""How long a due batch is ours: longer than one question with its pages; a crash delays it by as much."""

CLAIM = text(
    f"""
    UPDATE batches AS b SET due_at = now() + make_interval(secs => {_CLAIM_SECONDS}), polls = b.polls + 1
    WHERE b.batch_id IN (
        SELECT batch_id FROM batches
        WHERE due_at <= now() AND state IN ('sending', 'open', 'given_up', 'unknown')
          AND NOT (state = 'unknown' AND calls < {MAX_CALLS} AND hold_until > now())
        ORDER BY due_at LIMIT :most FOR UPDATE SKIP LOCKED
    )
    RETURNING b.batch_id, b.store_id, b.link_id, b.catalog_id, b.state, b.handle, b.sent, b.polls, b.calls,
        b.created_at, b.sent_at
    """
)
LATER = text(
    """
    UPDATE batches SET due_at = GREATEST(now() + make_interval(secs => :seconds), CAST(:until AS timestamptz))
    WHERE batch_id = :batch_id AND state <> 'over'
    """
)
# Found `sending` after its deadline: whoever made the call is gone, or too late to be believed.
LOST_CALL = text(
    """
    UPDATE batches SET state = 'unknown', hold_until = now() + make_interval(secs => :hold_seconds), due_at = now(),
        error_code = 'no_answer', error_text = NULL
    WHERE batch_id = :batch_id AND state = 'sending' AND calls = :calls
    """
)
LOST_CALLS = text(
    "UPDATE batch_calls SET state = 'unknown', unknown_at = now() WHERE batch_id = :batch_id AND state = 'sending'"
)
HOLD = text(
    """
    SELECT state = 'unknown' AND COALESCE(hold_until <= now(), true), hold_until FROM batches
    WHERE batch_id = :batch_id FOR UPDATE
    """
)
# Claimed while its hold was being looked at; a call that was begun meanwhile keeps its deadline.
STILL_HELD = text(
    "UPDATE batches SET due_at = GREATEST(hold_until, now()) WHERE batch_id = :batch_id AND state = 'unknown'"
)
# A call of the batch other than the one whose handle was asked about, with a handle of its own or perhaps still at work.
OTHER_CALL = text(
    """
    SELECT handle, free_at FROM (
        SELECT call_number, handle, state,
            COALESCE(unknown_at, deadline_at) + make_interval(secs => :hold_seconds) AS free_at
        FROM batch_calls WHERE batch_id = :batch_id AND handle IS DISTINCT FROM :handle
    ) AS c
    WHERE state = 'open' OR (state IN ('sending', 'unknown') AND free_at > now())
    ORDER BY state = 'open' DESC, call_number LIMIT 1
    """
)
NEXT_HANDLE = text(
    """
    WITH done AS (
        UPDATE batch_calls SET state = 'over' WHERE batch_id = :batch_id AND handle = :handle AND state = 'open'
    )
    UPDATE batches SET handle = :next_handle, due_at = now()
    WHERE batch_id = :batch_id AND state IN ('open', 'given_up')
    """
)
BODY = text("SELECT body FROM batches WHERE batch_id = :batch_id")
POLLED = text("UPDATE store_queue SET last_poll_at = now() WHERE store_id = :store_id")
