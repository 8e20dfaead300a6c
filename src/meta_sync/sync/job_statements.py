"""The statements of jobs. A page is one transaction that moves the cursor with what it wrote."""

from __future__ import annotations

from sqlalchemy import text

__all__ = [
    "ADVANCE",
    "ENQUEUE",
    "FINISH",
    "INSERT",
    "INTENDED",
    "LEASE",
    "LEASE_SECONDS",
    "LINK_GONE",
    "NOTE_LAST_BATCH",
    "RUNNING",
    "STATES",
    "TRIES_WAITED_FOR",
    "UNLEASE",
]

LEASE_SECONDS = 60

TRIES_WAITED_FOR = 5
"""How often Meta may end an item's batch without a verdict before a job ends without the item: half an hour of waits. A
job that lasted as long as a fault of Meta's would tell nobody anything, and keep a further one from being started."""

# Tombstones are looked up one by one, in the form that core.lookups explains: a join would compare every variant with
# every state of a fresh store.
INSERT = text(
    """
    INSERT INTO jobs (job_id, store_id, link_id, type, status, description, requested_by, mapping_epoch, total)
    SELECT :job_id, :store_id, :link_id, :type, 'queued', :description, :requested_by, s.mapping_epoch,
        (SELECT count(*) FROM variants AS v
         WHERE v.store_id = :store_id AND (v.deleted_at IS NULL OR (
             SELECT t.status IN ('never_synced', 'pending') OR t.retailer_id IS NOT NULL AND (t.presence <> 'absent' OR t.confirmed_epoch IS DISTINCT FROM (
                 SELECT l.epoch FROM catalog_links AS l WHERE l.link_id = :link_id
             ))
             FROM sync_state AS t
             WHERE t.link_id = :link_id AND t.variant_id >= v.variant_id AND t.variant_id <= v.variant_id
             ORDER BY t.variant_id LIMIT 1
         )))
    FROM stores AS s WHERE s.store_id = :store_id
    RETURNING total
    """
)
RUNNING = text(
    """
    SELECT job_id FROM jobs
    WHERE store_id = :store_id AND type = :type AND status IN ('queued', 'running', 'cancelling')
    """
)
# Those never looked at first, then those not looked at for the longest: jobs that wait for a store that stands still
# keep no other store's from moving.
LEASE = text(
    f"""
    UPDATE jobs AS j SET status = 'running', leased_until = now() + make_interval(secs => {LEASE_SECONDS}),
        fence = j.fence + 1, started_at = COALESCE(j.started_at, now())
    WHERE j.job_id = (
        SELECT job_id FROM jobs
        WHERE status IN ('queued', 'running') AND (leased_until IS NULL OR leased_until < now())
        ORDER BY leased_until NULLS FIRST, created_at, job_id LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING j.job_id, j.store_id, j.link_id, j.type, j.cursor, j.mapping_epoch, j.fence, j.stage
    """
)
ENQUEUE = text(
    """
    INSERT INTO intents (store_id, variant_id, version, lane, first_at, job_id)
    SELECT :store_id, u.variant_id, nextval('version_seq'), 2, now(), :job_id
    FROM unnest(CAST(:variant_ids AS text[])) AS u (variant_id) ORDER BY u.variant_id COLLATE "C"
    ON CONFLICT (store_id, variant_id) DO NOTHING
    """
)
STATES = text(
    """
    INSERT INTO sync_state (link_id, variant_id, store_id, status)
    SELECT :link_id, u.variant_id, :store_id, 'pending'
    FROM unnest(CAST(:variant_ids AS text[])) AS u (variant_id)
    WHERE NOT EXISTS (SELECT FROM sync_state AS s WHERE s.link_id = :link_id AND s.variant_id = u.variant_id)
    ORDER BY u.variant_id COLLATE "C"
    ON CONFLICT (link_id, variant_id) DO NOTHING
    """
)
INTENDED = text(
    """
    UPDATE sync_state SET status = 'pending'
    WHERE link_id = :link_id AND variant_id = ANY(CAST(:variant_ids AS text[])) AND status = 'never_synced'
    """
)
# The page belongs to us only while nobody restarted or took the job over.
ADVANCE = text(
    f"""
    UPDATE jobs SET cursor = :cursor, looked_at = looked_at + :looked_at, enqueued = enqueued + :enqueued,
        unchanged = unchanged + :unchanged, stage = :stage,
        leased_until = now() + make_interval(secs => {LEASE_SECONDS})
    WHERE job_id = :job_id AND fence = :fence AND mapping_epoch IS NOT DISTINCT FROM :mapping_epoch
      AND status = 'running'
    RETURNING 1
    """
)
UNLEASE = text(
    """
    UPDATE jobs SET leased_until = now() + make_interval(secs => :seconds)
    WHERE job_id = :job_id AND fence = :fence AND status = 'running'
    """
)
# Everything it asked for has been decided, with what waited already when it began (a first sync finds the intents of
# the products that were put before). What is sent from now on is no matter of the job.
NOTE_LAST_BATCH = text(
    """
    UPDATE jobs AS j SET last_batch_id = (
        SELECT COALESCE(max(b.batch_id), 0) FROM batches AS b WHERE b.store_id = j.store_id
    )
    WHERE j.job_id = :job_id AND j.fence = :fence AND j.stage = 'syncing' AND j.last_batch_id IS NULL
      AND NOT EXISTS (
          SELECT FROM intents AS i
          WHERE i.store_id = j.store_id AND (i.job_id = j.job_id OR i.first_at <= j.started_at)
      )
    """
)
# Done when nothing that was sent by then is open. The stage is looked at again: a setting that changed since the lease
# has sent the job back to its first row. Items that Meta gave no verdict on are waited for through their retry times,
# intents and further batches; after some tries the job says how many there are and ends.
FINISH = text(
    f"""
    UPDATE jobs AS j SET finished_at = now(), stage = 'done', leased_until = NULL,
        status = CASE WHEN w.items > 0 OR EXISTS (
            SELECT FROM sync_state AS s WHERE s.link_id = j.link_id AND s.status = 'failed'
        ) THEN 'partial' ELSE 'success' END,
        message = CASE WHEN w.items > 0 THEN
            'Items of which Meta has ended every batch without a verdict so far: ' || w.items
            || '. They are tried again, at least once an hour.' ELSE j.message END
    FROM (
        SELECT count(*) AS items, count(*) FILTER (WHERE s.retries < {TRIES_WAITED_FOR}) AS waited_for
        FROM sync_state AS s JOIN jobs AS x ON x.link_id = s.link_id
        WHERE x.job_id = :job_id AND s.retries > 0 AND (
            s.retry_at IS NOT NULL OR s.in_flight IS NOT NULL
            OR EXISTS (SELECT FROM intents AS i WHERE i.store_id = s.store_id AND i.variant_id = s.variant_id)
        )
    ) AS w
    WHERE w.waited_for = 0 AND j.job_id = :job_id AND j.fence = :fence AND j.status = 'running' AND j.stage = 'syncing'
      AND NOT EXISTS (
          SELECT FROM batches AS b
          WHERE b.link_id = j.link_id AND b.batch_id <= j.last_batch_id AND b.state NOT IN ('over', 'given_up')
      ) AND j.last_batch_id IS NOT NULL
    RETURNING 1
    """
)
LINK_GONE = text(
    """
    UPDATE jobs SET status = 'cancelled', finished_at = now(), leased_until = NULL,
        message = 'The store uses another catalog now.'
    WHERE job_id = :job_id AND fence = :fence
    """
)
