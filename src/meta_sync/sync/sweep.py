"""Finds what nobody woke up for: stores with ready intents and no due mark, due re-sends, old history, new partitions.

Every sweep is safe to run twice and at any time.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.sync.resend import RESENDABLE

__all__ = ["due_schedule", "fold_counters", "keep_partitions", "mark_forgotten_stores", "purge", "run_soon"]

# Stores that could not do a thing are left out: their turn would change nothing, every second. Whatever ends that marks
# them. A row that a writer holds is being marked just now.
_FORGOTTEN = text(
    f"""
    UPDATE store_queue SET due_at = now() WHERE store_id IN (
        SELECT q.store_id FROM store_queue AS q
        JOIN stores AS s ON s.store_id = q.store_id
        JOIN catalog_links AS l ON l.store_id = q.store_id AND l.active
        JOIN credentials AS c ON c.credential_id = l.credential_id AND c.dead_at IS NULL
        WHERE q.due_at IS NULL
          AND COALESCE(s.settings ->> 'sync_enabled', 'false') = 'true'
          AND COALESCE(s.settings ->> 'feed_mode', 'live') = 'live'
          AND s.settings ->> 'currency' IS NOT NULL AND s.settings ->> 'storefront_base_url' IS NOT NULL
          AND (EXISTS (SELECT FROM intents AS i WHERE i.store_id = q.store_id AND i.parked_by IS NULL AND i.held_by IS NULL)
               OR EXISTS (
                   SELECT FROM batches AS b
                   WHERE b.link_id = l.link_id AND b.link_epoch = l.epoch AND {RESENDABLE}
               ))
          AND NOT EXISTS (
              SELECT FROM store_pauses AS p
              WHERE p.store_id = q.store_id AND p.until IS NULL AND p.link_id IN (0, l.link_id)
          )
        ORDER BY q.store_id FOR UPDATE OF q SKIP LOCKED
    )
    """
)
# An intent parked under a batch that is over would wait for ever; there is no way to make one, and this would heal it.
_UNPARK_ORPHANS = text(
    """
    UPDATE intents AS i SET parked_by = NULL
    WHERE i.parked_by IS NOT NULL
      AND NOT EXISTS (SELECT FROM sync_state AS s WHERE s.in_flight = i.parked_by AND s.variant_id = i.variant_id)
    """
)
# The same for what a hold keeps back that is over.
_FREE_HELD_ORPHANS = text(
    """
    UPDATE intents AS i SET held_by = NULL
    WHERE i.held_by IS NOT NULL
      AND NOT EXISTS (SELECT FROM holds AS h WHERE h.hold_id = i.held_by AND h.finished_at IS NULL)
    """
)
# The same for items that stand in a part of a search that is over.
_FREE_ORPHANS = text(
    """
    UPDATE sync_state AS s SET split_part = NULL
    WHERE s.split_part IS NOT NULL AND NOT EXISTS (
        SELECT FROM split_parts AS p JOIN splits AS x ON x.split_id = p.split_id
        WHERE p.part_id = s.split_part AND x.state <> 'over'
    )
    """
)
_FOLD = text(
    """
    WITH folded AS (
        DELETE FROM counter_deltas WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM counter_deltas ORDER BY delta_id LIMIT 20000 FOR UPDATE SKIP LOCKED
        )) RETURNING store_id, link_id, name, delta
    )
    INSERT INTO counters AS c (store_id, link_id, name, value)
    SELECT store_id, link_id, name, sum(delta) FROM folded GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (store_id, link_id, name) DO UPDATE SET value = c.value + excluded.value
    """
)
_DUE_SCHEDULE = text(
    """
    INSERT INTO schedules AS s (name, next_at) VALUES (:name, now() + make_interval(secs => :seconds))
    ON CONFLICT (name) DO UPDATE SET next_at = excluded.next_at WHERE s.next_at <= now()
    RETURNING 1
    """
)
_RUN_SOON = text("UPDATE schedules SET next_at = now() + make_interval(secs => :seconds) WHERE name = :name")
# Making or dropping a partition keeps everybody from the whole table; whoever waits for that makes everybody else wait.
_WAIT_LITTLE = text("SELECT set_config('lock_timeout', '1s', true)")
_PARTITIONS = text("SELECT ensure_partitions((now() AT TIME ZONE 'UTC')::date)")
# The longest retention of any store rules, because a partition holds every store's rows. Attempts of a batch that is not
# over stay, however old: without them its items would be in flight for ever.
_DROP_PARTITIONS = text(
    """
    SELECT drop_partitions(
        LEAST((SELECT min(created_on) FROM batches WHERE state <> 'over'), (now() AT TIME ZONE 'UTC')::date
            - (SELECT GREATEST(30, max((settings ->> 'retention_batch_history_days')::int)) FROM stores)),
        ((now() AT TIME ZONE 'UTC')::date - (SELECT GREATEST(180, max((settings ->> 'retention_timeline_days')::int))
            FROM stores)))
    """
)
_OLD_AT_ONCE = 5000
_OLD_BATCHES = text(
    f"""
    DELETE FROM batches WHERE batch_id IN (
        SELECT b.batch_id FROM batches AS b JOIN stores AS s ON s.store_id = b.store_id
        WHERE b.state = 'over' AND b.finished_at < now() - make_interval(
            days => COALESCE((s.settings ->> 'retention_batch_history_days')::int, 30))
        LIMIT {_OLD_AT_ONCE}
    )
    """
)
_OLD_CALLS = text(
    """
    DELETE FROM batch_calls AS c WHERE c.started_at < now() - interval '1 day'
      AND NOT EXISTS (SELECT FROM batches AS b WHERE b.batch_id = c.batch_id)
    """
)
_SEEN_AT_ONCE = 50_000
# Dropped when an import ends, or soon after; this is what its process left behind while no worker ran for days.
_OLD_SEEN = text(
    """
    WITH old AS (
        SELECT s.import_id, s.kind, s.id FROM imports AS i JOIN import_seen AS s ON s.import_id = i.import_id
        WHERE i.finished_at < now() - interval '30 days' LIMIT :most
    )
    DELETE FROM import_seen AS s USING old
    WHERE s.import_id = old.import_id AND s.kind = old.kind AND s.id = old.id
    """
)
_ROWS_AT_ONCE = 50_000
# An import goes last of what belongs to it: without its row nobody would find the rest any more.
_OLD_FINDINGS = text(
    """
    WITH old AS (
        SELECT f.import_id, f.finding_number FROM imports AS i JOIN import_findings AS f ON f.import_id = i.import_id
        WHERE i.finished_at < now() - interval '30 days' LIMIT :most
    )
    DELETE FROM import_findings AS f USING old
    WHERE f.import_id = old.import_id AND f.finding_number = old.finding_number
    """
)
# An event that comes again later than this is taken anew; its time still tells that it is old.
_OLD_RECEIPTS = text(
    """
    DELETE FROM event_receipts WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM event_receipts WHERE received_at < now() - interval '30 days'
        ORDER BY received_at LIMIT :most
    ))
    """
)
# What a reconciliation found goes with its job. What a walk had to recognise again is of no use once it is over.
_OLD_RECONCILED = text(
    """
    WITH old AS (
        SELECT f.job_id, f.retailer_id FROM jobs AS j JOIN reconcile_findings AS f ON f.job_id = j.job_id
        WHERE j.finished_at < now() - interval '30 days' LIMIT :most
    )
    DELETE FROM reconcile_findings AS f USING old WHERE f.job_id = old.job_id AND f.retailer_id = old.retailer_id
    """
)
# Every item of a catalog may be one of these, every day. Newer reads say the same, and nobody acts on an old one.
_SUPERSEDED = text(
    """
    WITH old AS (
        SELECT f.job_id, f.retailer_id FROM jobs AS j JOIN reconcile_findings AS f ON f.job_id = j.job_id
        WHERE j.type = 'reconciliation' AND j.finished_at IS NOT NULL AND f.verdict IN ('foreign', 'unverifiable')
          AND f.state IN ('suspected', 'agreed', 'withdrawn')
          AND 2 = (SELECT count(*) FROM (
              SELECT FROM jobs AS n
              WHERE n.store_id = j.store_id AND n.created_at > j.created_at AND n.link_id = j.link_id
                AND n.type = 'reconciliation' AND n.status = 'success' LIMIT 2
          ) AS newer)
        LIMIT :most
    )
    DELETE FROM reconcile_findings AS f USING old WHERE f.job_id = old.job_id AND f.retailer_id = old.retailer_id
    """
)
_OLD_KEYS = text(
    """
    WITH old AS (
        SELECT k.job_id, k.kind, k.key FROM jobs AS j JOIN job_keys AS k ON k.job_id = j.job_id
        WHERE j.finished_at IS NOT NULL AND j.type IN ('preflight', 'reconciliation') LIMIT :most
    )
    DELETE FROM job_keys AS k USING old WHERE k.job_id = old.job_id AND k.kind = old.kind AND k.key = old.key
    """
)
_CHUNKS_AT_ONCE = 500
"""Each holds a megabyte in hundreds of rows."""
_OLD_CHUNKS = text(
    """
    WITH old AS (
        SELECT c.import_id, c.chunk_number FROM imports AS i JOIN import_chunks AS c ON c.import_id = i.import_id
        WHERE i.status IN ('success', 'partial', 'error', 'cancelled') LIMIT :most
    )
    DELETE FROM import_chunks AS c USING old
    WHERE c.import_id = old.import_id AND c.chunk_number = old.chunk_number
    """
)
# Store by store, each by its own index; what belongs to no store stands with an empty id.
_OLD_AUDIT = text(
    """
    DELETE FROM audit_log WHERE audit_id = ANY(ARRAY(
        SELECT a.audit_id FROM (
            SELECT store_id, COALESCE((settings ->> 'retention_audit_days')::int, 400) AS days FROM stores
            UNION ALL SELECT '', 400
        ) AS s
        CROSS JOIN LATERAL (
            SELECT l.audit_id FROM audit_log AS l
            WHERE l.store_id = s.store_id AND l.at < now() - make_interval(days => s.days)
            ORDER BY l.at LIMIT :most
        ) AS a
        LIMIT :most
    ))
    """
)
_OLD_ROWS = (
    text("DELETE FROM idempotency_keys WHERE created_at < now() - interval '24 hours'"),
    text("DELETE FROM worker_heartbeats WHERE seen_at < now() - interval '1 day'"),
    # Of a job that was ended from without, such as by another catalog.
    text(
        "DELETE FROM job_pages AS p USING jobs AS j WHERE j.job_id = p.job_id AND j.finished_at IS NOT NULL"
    ),
    text(
        """
        DELETE FROM job_findings AS f USING jobs AS j
        WHERE j.job_id = f.job_id AND j.finished_at < now() - interval '30 days'
        """
    ),
    text(
        """
        DELETE FROM jobs AS j WHERE j.finished_at < now() - interval '30 days'
          AND NOT EXISTS (SELECT FROM reconcile_findings AS f WHERE f.job_id = j.job_id)
          AND NOT EXISTS (SELECT FROM job_keys AS k WHERE k.job_id = j.job_id)
        """
    ),
    text("DELETE FROM holds WHERE finished_at < now() - interval '30 days'"),
    text(
        """
        WITH old AS (DELETE FROM splits WHERE finished_at < now() - interval '30 days' RETURNING split_id)
        DELETE FROM split_parts WHERE split_id IN (SELECT split_id FROM old)
        """
    ),
    text("DELETE FROM store_pauses WHERE until < now() - interval '1 day'"),
    text(
        """
        DELETE FROM imports AS i WHERE i.finished_at < now() - interval '30 days'
          AND NOT EXISTS (SELECT FROM import_seen AS s WHERE s.import_id = i.import_id)
          AND NOT EXISTS (SELECT FROM import_findings AS f WHERE f.import_id = i.import_id)
          AND NOT EXISTS (SELECT FROM import_chunks AS c WHERE c.import_id = i.import_id)
        """
    ),
    # An address that was fetched once goes with its import.
    text(
        """
        DELETE FROM import_feeds AS f WHERE f.interval_seconds IS NULL AND f.next_at IS NULL
          AND NOT EXISTS (SELECT FROM imports AS i WHERE i.import_id = f.last_import_id)
        """
    ),
    # There is no way to make an import that nobody fetches any more; it would wait for ever.
    text(
        """
        UPDATE imports AS i SET status = 'error', message = 'The file was never fetched.', finished_at = now(),
            error_code = 'file_not_fetched'
        WHERE i.status = 'fetching' AND i.created_at < now() - interval '1 day' AND NOT EXISTS (
            SELECT FROM import_feeds AS f WHERE f.feed_id = i.feed_id AND f.next_at IS NOT NULL)
        """
    ),
    # An upload that was begun and never finished.
    text(
        "UPDATE imports SET status = 'error', message = 'The upload was never finished.', finished_at = now(), "
        "error_code = 'file_not_received' WHERE status = 'uploading' AND created_at < now() - interval '1 day'"
    ),
)


async def mark_forgotten_stores(connection: AsyncConnection) -> None:
    """Put stores with work and without a due mark in line; a writer that found the mark set may have come too late."""
    await connection.execute(_FORGOTTEN)


async def fold_counters(connection: AsyncConnection) -> None:
    """Add the counters' deltas up. Readers see counter and deltas in one statement, so this changes nothing for them."""
    await connection.execute(_FOLD)


async def due_schedule(connection: AsyncConnection, name: str, *, every_seconds: float) -> bool:
    """Whether this worker runs the named work now: a double tick is a no-op, a missed one is caught up."""
    return await connection.scalar(_DUE_SCHEDULE, {"name": name, "seconds": every_seconds}) is not None


async def run_soon(connection: AsyncConnection, name: str, *, in_seconds: float) -> None:
    """Run the named work again before its usual time."""
    await connection.execute(_RUN_SOON, {"name": name, "seconds": in_seconds})


async def keep_partitions(connection: AsyncConnection) -> None:
    """Make the coming days' partitions and drop those older than their retention. Commit at once after it."""
    await connection.execute(_WAIT_LITTLE)
    await connection.execute(_PARTITIONS)
    await connection.execute(_DROP_PARTITIONS)


async def purge(connection: AsyncConnection) -> bool:
    """Delete rows older than their retention, of those that may be millions a bounded number; whether there are more."""
    await connection.execute(_UNPARK_ORPHANS)
    await connection.execute(_FREE_HELD_ORPHANS)
    await connection.execute(_FREE_ORPHANS)
    is_more = (await connection.execute(_OLD_BATCHES)).rowcount == _OLD_AT_ONCE
    await connection.execute(_OLD_CALLS)
    for bounded, most in (
        (_OLD_SEEN, _SEEN_AT_ONCE),
        (_OLD_FINDINGS, _ROWS_AT_ONCE),
        (_OLD_RECEIPTS, _ROWS_AT_ONCE),
        (_OLD_RECONCILED, _ROWS_AT_ONCE),
        (_SUPERSEDED, _ROWS_AT_ONCE),
        (_OLD_KEYS, _ROWS_AT_ONCE),
        (_OLD_CHUNKS, _CHUNKS_AT_ONCE),
        (_OLD_AUDIT, _ROWS_AT_ONCE),
    ):
        is_more |= (await connection.execute(bounded, {"most": most})).rowcount == most
    for statement in _OLD_ROWS:
        await connection.execute(statement)
    return is_more
