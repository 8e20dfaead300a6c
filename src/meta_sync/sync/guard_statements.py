"""The statements of the guard: what a claim asks, what counts, and what becomes of what is held.

A hold's row is locked before any intent. A claim shares it with other claims; whoever counts or decides has it alone.
"""

from __future__ import annotations

from sqlalchemy import text

__all__ = [
    "ADVANCE",
    "BASE",
    "COUNT",
    "COUNTED",
    "DECIDED",
    "DISCARD",
    "DISSOLVE_OPEN",
    "EVENTS_OF_HOLD",
    "FINISH",
    "FORGET_COUNTS",
    "FREE",
    "FREE_ROWS",
    "GIVE_BACK",
    "IS_SETTLED",
    "LEASE",
    "LOCK",
    "LOCK_HELD",
    "LOOK",
    "NOTE_COUNT",
    "OPEN",
    "OTHERS_FREE",
    "PARK_UNDER",
]

_LEASE_SECONDS = 20
"""A page takes tenths of a second; its fence keeps out whoever stood still for longer."""

_BEGUN_BEFORE_SECONDS = 60
"""How long counting waits for transactions that were open before it: longer than ours may last."""

_BASE_HOLDS_MINUTES = 10
"""How long what was at Meta is taken as it was counted. What was deleted up to an hour before is in it for so much longer;
without it, what was counted a moment ago would be doubted again at once."""

_OVERLAP_SECONDS = 15
"""A claim that began before a count was written may have committed after it; no transaction of ours lasts longer."""

_LAST_VERSION = "COALESCE(pg_sequence_last_value('version_seq'), 0)"

# What was sent within the hour, but for calls that were proved to have saved nothing.
_SENT_LATELY = """b.link_id = :link_id AND b.created_at > now() - interval '1 hour'
              AND b.guarded_deletes + b.guarded_out_of_stock + b.guarded_prices > 0
              AND NOT (b.state = 'over' AND b.accepted = 0 AND b.unknown = 0)"""

# One look per turn that would change something the guard counts: open holds, and bounds by counters that are exact, so
# that an ordinary turn counts nothing.
LOOK = text(
    f"""
    WITH open AS MATERIALIZED (
        SELECT hold_id, kind, state FROM holds
        WHERE link_id = :link_id AND state IN ('counting', 'held') FOR SHARE
    ), sent AS MATERIALIZED (
        SELECT b.created_at, u.kind, u.items FROM batches AS b CROSS JOIN LATERAL (
            VALUES ('delete', b.guarded_deletes), ('out_of_stock', b.guarded_out_of_stock), ('price', b.guarded_prices)
        ) AS u (kind, items)
        WHERE {_SENT_LATELY} AND u.items > 0
    ), counter AS MATERIALIZED (
        SELECT COALESCE(sum(value) FILTER (WHERE link_id = 0), 0)::bigint AS waiting,
            COALESCE(sum(value) FILTER (WHERE link_id <> 0), 0)::bigint AS base
        FROM (
            SELECT link_id, value FROM counters WHERE store_id = :store_id
              AND (link_id = 0 AND name = 'intents' OR link_id = :link_id AND name IN ('synced', 'submitted'))
            UNION ALL
            SELECT link_id, delta FROM counter_deltas WHERE store_id = :store_id
              AND (link_id = 0 AND name = 'intents' OR link_id = :link_id AND name IN ('synced', 'submitted'))
        ) AS c
    )
    SELECT k.kind, o.hold_id, o.state, c.waiting, c.base,
        COALESCE((SELECT sum(s.items) FROM sent AS s WHERE s.kind = k.kind), 0)::bigint AS sent,
        g.watermark, g.items, {_LAST_VERSION} - g.watermark AS asked_since, g.recent_items,
        COALESCE((SELECT sum(s.items) FROM sent AS s WHERE s.kind = k.kind
                  AND s.created_at > g.counted_at - make_interval(secs => {_OVERLAP_SECONDS})), 0)::bigint AS sent_since,
        CASE WHEN g.counted_at > now() - make_interval(mins => {_BASE_HOLDS_MINUTES}) THEN g.base_items END
    FROM unnest(CAST(:kinds AS text[])) AS k (kind) CROSS JOIN counter AS c
    LEFT JOIN open AS o ON o.kind = k.kind
    LEFT JOIN guard_counts AS g ON g.link_id = :link_id AND g.kind = k.kind AND g.link_epoch = :epoch
        AND g.mapping_epoch = :mapping_epoch AND g.counted_at > now() - interval '1 hour'
    """
)
OPEN = text(
    f"""
    INSERT INTO holds (store_id, link_id, kind, state, cursor, watermark, opened_in)
    VALUES (:store_id, :link_id, :kind, 'counting', '', {_LAST_VERSION}, pg_current_xact_id()::text::bigint)
    ON CONFLICT (link_id, kind) WHERE state IN ('counting', 'held') DO NOTHING
    RETURNING hold_id
    """
)
# Of rows that the claim has locked and compared.
PARK_UNDER = text("UPDATE intents SET held_by = :hold_id WHERE ctid = ANY(CAST(:row_ids AS tid[]))")

# The one that waits for the longest; leased_until is also the time before which there is nothing to do.
LEASE = text(
    f"""
    UPDATE holds AS h SET fence = h.fence + 1, leased_until = now() + make_interval(secs => {_LEASE_SECONDS})
    WHERE h.hold_id = (
        SELECT hold_id FROM holds
        WHERE finished_at IS NULL AND (leased_until IS NULL OR leased_until < now())
        ORDER BY leased_until NULLS FIRST, hold_id LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING h.hold_id, h.store_id, h.link_id, h.kind, h.state, h.cursor, h.fence, h.watermark
    """
)
GIVE_BACK = text(
    """
    UPDATE holds SET leased_until = now() + make_interval(secs => :seconds)
    WHERE hold_id = :hold_id AND fence = :fence AND finished_at IS NULL
    """
)
LOCK = text(
    """
    SELECT items, recent_items, base_items FROM holds
    WHERE hold_id = :hold_id AND fence = :fence AND state = :state AND finished_at IS NULL FOR UPDATE
    """
)
# A transaction that began before the hold may commit intents with versions below the watermark after their page was
# counted, and nobody would ever miss them.
IS_SETTLED = text(
    f"""
    SELECT opened_in < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
        OR created_at < now() - make_interval(secs => {_BEGUN_BEFORE_SECONDS})
    FROM holds WHERE hold_id = :hold_id
    """
)
# While counting, items are those in flight, which cannot be held, and recent_items those under other holds; what is held
# is counted at the end.
ADVANCE = text(
    """
    UPDATE holds SET cursor = :cursor, items = items + :in_flight,
        recent_items = recent_items + :elsewhere, leased_until = now()
    WHERE hold_id = :hold_id
    """
)
# What went out within the hour, with and without what is held again, which counts once. Each batch's attempts are found
# by their key.
COUNT = text(
    f"""
    SELECT (SELECT count(*) FROM intents WHERE held_by = :hold_id) AS held,
        count(*) FILTER (WHERE NOT gone.is_held) AS recent, count(*) AS sent
    FROM (
        SELECT DISTINCT a.variant_id, EXISTS (
            SELECT FROM intents AS x WHERE x.held_by = :hold_id AND x.variant_id = a.variant_id) AS is_held
        FROM batches AS b CROSS JOIN LATERAL (
            SELECT i.variant_id FROM batch_items AS i
            WHERE i.created_on = b.created_on AND i.batch_id = b.batch_id
              AND i.created_on >= ((now() - interval '1 hour') AT TIME ZONE 'UTC')::date
              AND i.guarded & CAST(:kinds AS smallint) > 0 AND i.outcome IS DISTINCT FROM 'rejected'
            OFFSET 0
        ) AS a
        WHERE {_SENT_LATELY}
    ) AS gone
    """
)
# Whatever was at Meta when the hour began: what is there now, and what was taken away since.
BASE = text(
    """
    SELECT count(*) FROM sync_state
    WHERE link_id = :link_id AND (presence <> 'absent' OR confirmed_at > now() - interval '1 hour')
    """
)
COUNTED = text(
    """
    UPDATE holds SET state = :state, items = :items, recent_items = :recent, base_items = :base,
        threshold = :threshold, counted_at = now(), cursor = :cursor,
        held_at = CASE WHEN :state = 'held' THEN COALESCE(held_at, now()) ELSE held_at END,
        leased_until = now() + make_interval(secs => :seconds)
    WHERE hold_id = :hold_id
    """
)
NOTE_COUNT = text(
    """
    INSERT INTO guard_counts (link_id, kind, store_id, link_epoch, mapping_epoch, watermark, counted_at, items,
        recent_items, base_items, elsewhere_items)
    VALUES (:link_id, :kind, :store_id, :epoch, :mapping_epoch, :watermark, now(), :items, :recent, :base, :elsewhere)
    ON CONFLICT (link_id, kind) DO UPDATE SET link_epoch = excluded.link_epoch,
        mapping_epoch = excluded.mapping_epoch, watermark = excluded.watermark, counted_at = excluded.counted_at,
        items = excluded.items, recent_items = excluded.recent_items, base_items = excluded.base_items,
        elsewhere_items = excluded.elsewhere_items
    """
)
# Whether what was met under other holds may have come free since the count began. Those that are open stay so until the
# count is kept, so that whoever frees something from them later finds it.
OTHERS_FREE = text(
    """
    SELECT COALESCE(bool_or(state NOT IN ('counting', 'held')), false) FROM (
        SELECT h.state FROM holds AS h
        WHERE h.store_id = :store_id AND h.link_id = :link_id AND h.hold_id <> :hold_id
          AND (h.finished_at IS NULL
               OR h.finished_at >= (SELECT own.created_at FROM holds AS own WHERE own.hold_id = :hold_id))
        ORDER BY h.hold_id FOR SHARE
    ) AS others
    """
)
# The hold's own kind has just counted what it frees.
FORGET_COUNTS = text(
    "DELETE FROM guard_counts WHERE link_id = :link_id AND kind <> :kind AND elsewhere_items > 0"
)
EVENTS_OF_HOLD = text(
    """
    WITH page AS MATERIALIZED (
        SELECT variant_id FROM intents WHERE held_by = :hold_id AND variant_id > :after ORDER BY variant_id LIMIT :most
    ), written AS (
        INSERT INTO item_events (store_id, link_id, variant_id, kind, code)
        SELECT :store_id, :link_id, variant_id, 'held', :code FROM page
    )
    SELECT count(*), max(variant_id) FROM page
    """
)
FREE = text(
    """
    WITH page AS MATERIALIZED (
        SELECT variant_id FROM intents WHERE held_by = :hold_id ORDER BY variant_id LIMIT :most FOR UPDATE
    ), freed AS (
        UPDATE intents SET held_by = NULL, released_kinds = released_kinds | CAST(:kinds AS smallint)
        WHERE store_id = :store_id AND variant_id = ANY(ARRAY(SELECT variant_id FROM page))
        RETURNING 1
    )
    SELECT count(*) FROM freed
    """
)
FINISH = text(
    "UPDATE holds SET finished_at = now(), leased_until = NULL, cursor = NULL WHERE hold_id = :hold_id"
)
LOCK_HELD = text(
    """
    SELECT array_agg(version) FROM (
        SELECT version FROM intents
        WHERE ctid = ANY(CAST(:row_ids AS tid[])) AND held_by = :hold_id
        FOR UPDATE SKIP LOCKED
    ) AS locked
    """
)
FREE_ROWS = text("UPDATE intents SET held_by = NULL WHERE ctid = ANY(CAST(:row_ids AS tid[]))")
DISCARD = text(
    """
    UPDATE sync_state AS s SET discarded_hash = u.payload_hash, updated_at = now()
    FROM unnest(CAST(:variant_ids AS text[]), CAST(:payload_hashes AS bytea[])) AS u (variant_id, payload_hash)
    WHERE s.link_id = :link_id AND s.variant_id = ANY(CAST(:variant_ids AS text[]))
      AND s.variant_id = u.variant_id AND s.in_flight IS NULL
    """
)
# What they were opened for does not stand any more: their intents come free, and are counted anew where that is due.
DISSOLVE_OPEN = text(
    """
    UPDATE holds SET state = 'dissolved', leased_until = NULL, cursor = NULL
    WHERE store_id = :store_id AND state IN ('counting', 'held')
    """
)
DECIDED = text(
    """
    UPDATE holds SET state = :state, decided_at = now(), decided_by = :actor, items = :items, counted_at = now(),
        leased_until = NULL
    WHERE hold_id = :hold_id
    """
)
