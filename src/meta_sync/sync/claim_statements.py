"""The statements of a claim. They name rows by row id and version, never by a search."""

from __future__ import annotations

from sqlalchemy import text

from meta_sync.sync.states import Event, status_case

__all__ = [
    "DELETE_INTENTS",
    "DROP_STATES",
    "GRACE_BEGINS",
    "GRACE_ENDS",
    "GUARD",
    "IDS_TAKEN",
    "INSERT_BATCH",
    "INSERT_CALL",
    "LOCK_INTENTS",
    "LOCK_IN_FLIGHT",
    "NEW_STATES",
    "NEW_STATES_READ",
    "NEXT_BATCH_ID",
    "PARK",
    "SETTLE_WITHOUT_CALL",
    "SKIP_EVENTS",
    "TAKE_IN_FLIGHT",
]

IDS_TAKEN = text(
    """
    SELECT retailer_id FROM sync_state
    WHERE link_id = :link_id AND retailer_id = ANY(CAST(:retailer_ids AS text[]))
    """
)
GUARD = text(
    """
    SELECT s.mapping_epoch = :mapping_epoch AND l.active AND l.epoch = :epoch
        AND COALESCE(s.settings ->> 'sync_enabled', 'false') = 'true'
        AND COALESCE(s.settings ->> 'feed_mode', 'live') = 'live'
    FROM stores AS s, catalog_links AS l
    WHERE s.store_id = :store_id AND l.link_id = :link_id
    FOR SHARE
    """
)
# By row id, never by id: after a vacuum of an emptied table the planner would walk the whole index per probe. The
# version tells whether the row there is still the one that was read. A row that a writer holds is being changed right
# now, so it is skipped, which also rules out deadlocks.
LOCK_INTENTS = text(
    """
    SELECT array_agg(version) FROM (
        SELECT version FROM intents
        WHERE ctid = ANY(CAST(:row_ids AS tid[])) AND parked_by IS NULL AND held_by IS NULL
        FOR UPDATE SKIP LOCKED
    ) AS locked
    """
)
# Rows that were locked and compared stay where they are.
DELETE_INTENTS = text("DELETE FROM intents WHERE ctid = ANY(CAST(:row_ids AS tid[]))")
LOCK_IN_FLIGHT = text(
    """
    SELECT variant_id, in_flight FROM sync_state
    WHERE link_id = :link_id AND variant_id = ANY(CAST(:variant_ids AS text[])) AND in_flight IS NOT NULL
    ORDER BY variant_id FOR UPDATE SKIP LOCKED
    """
)
PARK = text(
    """
    UPDATE intents AS i SET parked_by = u.batch_id
    FROM unnest(CAST(:variant_ids AS text[]), CAST(:batch_ids AS bigint[])) AS u (variant_id, batch_id)
    WHERE i.store_id = :store_id AND i.variant_id = ANY(CAST(:variant_ids AS text[])) AND i.variant_id = u.variant_id
    """
)
NEW_STATES = text(
    """
    INSERT INTO sync_state (link_id, variant_id, store_id, status)
    SELECT :link_id, u.variant_id, :store_id, 'pending'
    FROM unnest(CAST(:variant_ids AS text[])) AS u (variant_id) ORDER BY u.variant_id COLLATE "C"
    ON CONFLICT (link_id, variant_id) DO NOTHING
    """
)
NEW_STATES_READ = text(f"{NEW_STATES.text} RETURNING variant_id, ctid, xmin")
# By row id and version for the same reasons: another version means that the row moved since it was read. What the row
# said before goes into the attempt from the row itself: one statement sees it as it was and writes it as it is now.
# The sum keeps the planner from walking all of the link's rows by their key instead.
TAKE_IN_FLIGHT = text(
    f"""
    WITH sets AS MATERIALIZED (
        SELECT x.number, COALESCE(string_to_array(NULLIF(x.names, ''), ','), '{{}}') AS names
        FROM unnest(CAST(:sets AS text[])) WITH ORDINALITY AS x (names, number)
    ), given AS MATERIALIZED (
        SELECT * FROM unnest(CAST(:variant_ids AS text[]), CAST(:row_versions AS xid[]), CAST(:retailer_ids AS text[]),
            CAST(:methods AS text[]), CAST(:payload_hashes AS bytea[]), CAST(:fields AS integer[]),
            CAST(:cleared AS integer[]), CAST(:may_hold AS integer[]), CAST(:guarded AS smallint[]),
            CAST(:released AS smallint[]))
            AS u (variant_id, row_version, retailer_id, method, payload_hash, fields, cleared, may_hold, guarded,
                released)
    ), earlier AS MATERIALIZED (
        SELECT s.variant_id, s.confirmed_hash, s.confirmed_epoch, s.may_hold, s.presence, s.status
        FROM sync_state AS s WHERE s.ctid = ANY(CAST(:row_ids AS tid[])) AND s.link_id + 0 = :link_id
    ), taken AS (
        UPDATE sync_state AS s SET
            in_flight = :batch_id, status = {status_case(Event.SENT, "s.status")}, presence = 'maybe',
            may_hold = m.names, retailer_id = u.retailer_id,
            confirmed_hash = NULL, confirmed_epoch = :epoch, disturbed_at = NULL, retry_at = NULL, discarded_hash = NULL,
            last_pushed_at = now(), updated_at = now()
        FROM given AS u JOIN sets AS m ON m.number = u.may_hold
        WHERE s.ctid = ANY(CAST(:row_ids AS tid[]))
          AND s.link_id + 0 = :link_id AND s.variant_id = u.variant_id AND s.in_flight IS NULL
          AND s.xmin = u.row_version
        RETURNING s.variant_id
    ), written AS (
        INSERT INTO batch_items (created_on, batch_id, variant_id, store_id, link_id, retailer_id, method, payload_hash,
            fields, cleared, previous_confirmed_hash, previous_confirmed_epoch, previous_may_hold, previous_presence,
            previous_status, guarded, released_kinds)
        SELECT (now() AT TIME ZONE 'UTC')::date, :batch_id, u.variant_id, :store_id, :link_id, u.retailer_id, u.method,
            u.payload_hash, f.names, c.names, e.confirmed_hash, e.confirmed_epoch, e.may_hold, e.presence, e.status,
            u.guarded, u.released
        FROM taken AS t JOIN given AS u ON u.variant_id = t.variant_id JOIN earlier AS e ON e.variant_id = t.variant_id
        JOIN sets AS f ON f.number = u.fields JOIN sets AS c ON c.number = u.cleared
        RETURNING variant_id
    )
    SELECT array_agg(variant_id) FROM written
    """
)
# Of items that the claim has just taken: it has their rows.
GRACE_BEGINS = text(
    """
    UPDATE sync_state SET grace_until = now() + make_interval(days => CAST(:days AS integer))
    WHERE link_id = :link_id AND variant_id = ANY(CAST(:variant_ids AS text[])) AND in_flight = :batch_id
    """
)
GRACE_ENDS = text(
    """
    UPDATE sync_state SET grace_until = NULL
    WHERE link_id = :link_id AND variant_id = ANY(CAST(:variant_ids AS text[])) AND grace_until IS NOT NULL
      AND (in_flight IS NULL OR in_flight = :batch_id)
    """
)
SETTLE_WITHOUT_CALL = text(
    """
    UPDATE sync_state AS s SET
        status = u.status, code = u.code, error_text = NULL,
        attempts = CASE WHEN u.status = 'synced' THEN 0 ELSE s.attempts END,
        rejected_hash = CASE WHEN u.status = 'synced' THEN NULL ELSE s.rejected_hash END,
        batch_limit = CASE WHEN u.status = 'synced' THEN NULL ELSE s.batch_limit END,
        discarded_hash = CASE WHEN u.status = 'synced' AND s.discarded_hash IS DISTINCT FROM s.confirmed_hash THEN NULL
                              ELSE s.discarded_hash END,
        updated_at = now()
    FROM unnest(CAST(:variant_ids AS text[]), CAST(:statuses AS text[]), CAST(:codes AS text[]))
        AS u (variant_id, status, code)
    WHERE s.link_id = :link_id AND s.variant_id = ANY(CAST(:variant_ids AS text[]))
      AND s.variant_id = u.variant_id AND s.in_flight IS NULL
    """
)
DROP_STATES = text(
    """
    DELETE FROM sync_state
    WHERE link_id = :link_id AND variant_id = ANY(CAST(:variant_ids AS text[]))
      AND in_flight IS NULL AND retailer_id IS NULL
    """
)
SKIP_EVENTS = text(
    """
    INSERT INTO item_events (store_id, link_id, variant_id, kind, code)
    SELECT :store_id, :link_id, u.variant_id, u.kind, u.code
    FROM unnest(CAST(:variant_ids AS text[]), CAST(:kinds AS text[]), CAST(:codes AS text[]))
        AS u (variant_id, kind, code)
    """
)
NEXT_BATCH_ID = text("SELECT nextval(pg_get_serial_sequence('batches', 'batch_id'))")
INSERT_BATCH = text(
    """
    INSERT INTO batches (batch_id, store_id, link_id, graph_host, catalog_id, state, lane, body, body_bytes,
        link_epoch, mapping_epoch, sent, split_part, guarded_deletes, guarded_out_of_stock, guarded_prices, calls,
        created_on, due_at)
    OVERRIDING SYSTEM VALUE
    VALUES (:batch_id, :store_id, :link_id, :graph_host, :catalog_id, 'sending', :lane, :body, :body_bytes,
        :epoch, :mapping_epoch, :sent, :split_part, :guarded_deletes, :guarded_out_of_stock, :guarded_prices, 1, (now() AT TIME ZONE 'UTC')::date,
        clock_timestamp() + make_interval(secs => :deadline_seconds))
    """
)
INSERT_CALL = text(
    """
    INSERT INTO batch_calls (batch_id, call_number, store_id, link_id, state, deadline_at)
    VALUES (:batch_id, 1, :store_id, :link_id, 'sending',
        clock_timestamp() + make_interval(secs => :deadline_seconds))
    """
)
