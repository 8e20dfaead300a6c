"""The statements of splits. Splits are locked before the items in their parts.

Many of them run where ``expect_bulk`` was said: each side of a join is bounded by itself.
"""

from __future__ import annotations

from sqlalchemy import text

__all__ = [
    "BEGIN_SEARCH",
    "COUNT_CALL",
    "COUNT_ITEMS",
    "END",
    "END_OF_STORE",
    "FREE",
    "FREE_OF_STORE",
    "FREE_PART",
    "HALVE",
    "HOLD_ITEMS",
    "IS_SUSPICIOUS",
    "LOCK",
    "LOCK_OF_STORE",
    "NEW_PART",
    "OPEN",
    "OTHERS_UNDER_WAY",
    "PROVE",
    "RELEASED",
    "SET_STATE",
    "SPLITS",
    "STOP_WAITING",
    "UNCOUNT_CALL",
    "UNDOUBT",
]

_LONGEST_HOURS = 24
"""A search is a matter of minutes; what is not found within a day begins anew."""

LOCK = text(
    "SELECT split_id FROM splits WHERE link_id = :link_id AND state <> 'over' ORDER BY split_id FOR UPDATE"
)
# A part whose batch is over without an answer (its call was not made, or its end is unknown) waits again.
SPLITS = text(
    f"""
    SELECT s.split_id, s.kind, s.state, s.calls, s.taken_at IS NOT NULL, s.error_code, s.error_text,
        l.active AND l.epoch = s.link_epoch AND s.created_at > now() - interval '{_LONGEST_HOURS} hours',
        p.part_id, p.parent_id, p.level, p.items,
        CASE WHEN p.state = 'sent' AND p.part_id <> ALL(ARRAY(
            SELECT split_part FROM batches
            WHERE link_id = :link_id AND state <> 'over' AND split_part IS NOT NULL
        )) THEN 'waiting' ELSE p.state END
    FROM splits AS s, catalog_links AS l, split_parts AS p
    WHERE s.link_id = :link_id AND s.state <> 'over' AND l.link_id = :link_id AND p.split_id = s.split_id
      AND p.split_id = ANY(ARRAY(SELECT split_id FROM splits WHERE link_id = :link_id AND state <> 'over'))
    ORDER BY s.split_id, p.part_id
    """
)
# Of another link than the active one nothing is sent any more, so nothing is searched for either.
OPEN = text(
    """
    INSERT INTO splits (store_id, link_id, link_epoch, kind, state, calls, error_code, error_text)
    SELECT b.store_id, b.link_id, b.link_epoch, CAST(:kind AS text), 'open', CAST(:calls AS smallint),
        CAST(:code AS text), CAST(:message AS text)
    FROM batches AS b, catalog_links AS l
    WHERE b.batch_id = :batch_id AND l.link_id = (SELECT link_id FROM batches WHERE batch_id = :batch_id)
      AND l.active AND l.epoch = b.link_epoch
    RETURNING split_id
    """
)
NEW_PART = text(
    """
    INSERT INTO split_parts (split_id, store_id, link_id, parent_id, level, items, state)
    SELECT s.split_id, s.store_id, s.link_id, CAST(:parent_id AS bigint), CAST(:level AS smallint),
        CAST(:items AS integer), CAST(:state AS text)
    FROM splits AS s WHERE s.split_id = :split_id
    RETURNING part_id
    """
)
HOLD_ITEMS = text(
    """
    UPDATE sync_state SET split_part = :part_id
    WHERE link_id = :link_id AND in_flight IS NULL AND split_part IS NULL AND variant_id = ANY(ARRAY(
        SELECT variant_id FROM batch_items
        WHERE created_on = (SELECT created_on FROM batches WHERE batch_id = :batch_id) AND batch_id = :batch_id
          AND outcome IS DISTINCT FROM 'rejected'
    ))
    """
)
COUNT_ITEMS = text("SELECT count(*) FROM sync_state WHERE split_part = :part_id")
# In another order each time (part ids are new), though always the same for the same part: where most of a few items are
# guilty, the one that is not must get away from them sooner or later, and prove that it is not the store.
HALVE = text(
    """
    UPDATE sync_state AS s SET split_part = CASE WHEN o.position <= CAST(:first_items AS bigint)
        THEN CAST(:first_id AS bigint) ELSE CAST(:second_id AS bigint) END
    FROM (
        SELECT variant_id, row_number() OVER (
            ORDER BY md5(CAST(CAST(:part_id AS bigint) AS text) || ' ' || variant_id) COLLATE "C"
        ) AS position
        FROM sync_state WHERE split_part = CAST(:part_id AS bigint)
    ) AS o
    WHERE s.split_part = CAST(:part_id AS bigint) AND s.variant_id = o.variant_id
    """
)
SET_STATE = text("UPDATE split_parts SET state = :state WHERE part_id = :part_id")
FREE_PART = text("UPDATE sync_state SET split_part = NULL WHERE split_part = :part_id")
COUNT_CALL = text(
    """
    UPDATE splits SET calls = calls + 1
    WHERE split_id = (SELECT split_id FROM split_parts WHERE part_id = :part_id)
    """
)
# Once per call: one whose end is known by now, or that others gave up, stays counted.
UNCOUNT_CALL = text(
    """
    UPDATE splits SET calls = calls - 1
    WHERE split_id = (SELECT split_id FROM split_parts WHERE part_id = :part_id)
      AND EXISTS (
          SELECT FROM batch_calls WHERE batch_id = :batch_id AND call_number = :call_number AND state = 'sending'
      )
    """
)
# Only a call that was made since the split began proves anything about it.
PROVE = text(
    """
    UPDATE splits SET taken_at = COALESCE(taken_at, now()), state = 'open'
    WHERE link_id = :link_id AND state <> 'over' AND created_at <= (
        SELECT started_at FROM batch_calls WHERE batch_id = :batch_id AND call_number = :call_number
    )
    RETURNING split_id
    """
)
UNDOUBT = text(
    """
    UPDATE split_parts SET state = 'waiting'
    WHERE split_id = ANY(CAST(:split_ids AS bigint[])) AND state = 'doubted'
    """
)
STOP_WAITING = text("UPDATE splits SET state = 'open' WHERE split_id = :split_id AND state = 'waiting'")
# From here on it counts what passes.
BEGIN_SEARCH = text(
    """
    UPDATE splits SET state = 'waiting', calls = 1, taken_at = NULL, created_at = now(),
        error_code = :code, error_text = :message
    WHERE split_id = :split_id
    """
)
END = text(
    """
    UPDATE splits SET state = 'over', finished_at = now()
    WHERE split_id = :split_id AND state <> 'over'
    """
)
FREE = text(
    """
    UPDATE sync_state SET split_part = NULL, batch_limit = COALESCE(CAST(:batch_limit AS smallint), batch_limit)
    WHERE split_part = ANY(ARRAY(SELECT part_id FROM split_parts WHERE split_id = :split_id))
    """
)
# A statement of its own: who divides a part just now is waited for, and what came of it is seen by the next ones.
LOCK_OF_STORE = text(
    "SELECT split_id FROM splits WHERE store_id = :store_id AND state <> 'over' ORDER BY split_id FOR UPDATE"
)
FREE_OF_STORE = text(
    "UPDATE sync_state SET split_part = NULL WHERE store_id = :store_id AND split_part IS NOT NULL"
)
END_OF_STORE = text(
    "UPDATE splits SET state = 'over', finished_at = now() WHERE store_id = :store_id AND state <> 'over'"
)
# Calls of other items that may still be taken, or come back to be sent again.
OTHERS_UNDER_WAY = text(
    """
    SELECT EXISTS (
        SELECT FROM batches WHERE link_id = :link_id AND state IN ('sending', 'unknown') AND split_part IS NULL
    )
    """
)
RELEASED = text(
    """
    SELECT b.store_id, b.link_id, b.created_on, b.split_part, b.server_errors, b.sent, b.error_code, b.error_text
    FROM batches AS b WHERE b.batch_id = :batch_id
    """
)
# The same bytes, or the same items kept together, within a day.
IS_SUSPICIOUS = text(
    """
    SELECT count(*) >= :errors AND max(c.unknown_at) - min(c.unknown_at) >= make_interval(secs => :after_seconds)
    FROM batches AS this
    JOIN batches AS b ON b.link_id = this.link_id AND b.server_errors > 0
        AND (b.body_hash = this.body_hash OR b.split_part = this.split_part)
        AND b.created_at > now() - interval '1 day'
    JOIN batch_calls AS c ON c.batch_id = b.batch_id AND c.server_error
    WHERE this.batch_id = :batch_id AND this.server_errors > 0
    """
)
