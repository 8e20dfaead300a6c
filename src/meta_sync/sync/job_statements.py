"""The statements of jobs. Each that moves a job is bound to the fence of the lease under which it was read."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB

from meta_sync.sync.job_models import RATE_SECONDS, READ_TYPES
from meta_sync.sync.states import Event, status_case

__all__ = [
    "ADVANCE",
    "CANCEL",
    "COUNT",
    "DROP_PAGE",
    "DROP_PAGES",
    "ENQUEUE",
    "FACTS",
    "FAIL",
    "FINISH",
    "HOLD",
    "INSERT",
    "INSERT_CHOSEN",
    "INTENDED",
    "KEEP_PAGE",
    "LEASE",
    "LEASE_SECONDS",
    "LINK_GONE",
    "NEWEST_BATCH",
    "NEW_PAGE",
    "PAGES",
    "RUNNING",
    "SCOPE",
    "SEVERAL_JOBS",
    "STATES",
    "THE_CLOCK",
    "UNINTENDED",
    "UNLEASE",
    "WITHDRAW",
    "WITHDRAW_AHEAD",
]

LEASE_SECONDS = 60

SEVERAL_JOBS = "several_jobs"
"""Stands with an intent where a job's id stands: more than one job asks for it, and nobody else."""

THE_CLOCK = "sale_window"
"""Stands there, too: the end of a sale asks, whoever else does. It is looked at once, so no job takes it back."""

_COLUMNS = """job_id, store_id, link_id, type, status, scope, action, lane, dry_run, description, requested_by,
        mapping_epoch, total"""
_VALUES = """:job_id, :store_id, :link_id, :type, 'queued', CAST(:scope AS jsonb), :action, :lane, :dry_run, :description,
        :requested_by, s.mapping_epoch"""
# Tombstones are looked up one by one, in the form that core.lookups explains: a join would compare every variant with
# every state of a fresh store.
INSERT = text(
    f"""
    INSERT INTO jobs ({_COLUMNS})
    SELECT {_VALUES},
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
INSERT_CHOSEN = text(
    f"""
    INSERT INTO jobs ({_COLUMNS})
    SELECT {_VALUES}, CAST(:total AS bigint) FROM stores AS s WHERE s.store_id = :store_id
    RETURNING total
    """
)
RUNNING = text(
    """
    SELECT job_id FROM jobs
    WHERE store_id = :store_id AND type = :type AND status IN ('queued', 'running', 'cancelling')
    """
)
# Whoever works on the job loses it, so that it is ended at once. Without a re-evaluation Meta would keep what the settings
# of before made, and nothing would say so. A filter that was not counted has what was found by now in its scope.
CANCEL = text(
    """
    UPDATE jobs SET status = 'cancelling', leased_until = NULL,
        total = CASE total WHEN 0 THEN enqueued + unchanged ELSE total END
    WHERE store_id = :store_id AND job_id = :job_id AND status IN ('queued', 'running') AND type <> 'reevaluation'
    RETURNING 1
    """
)
SCOPE = text("SELECT scope FROM jobs WHERE job_id = :job_id").columns(scope=JSONB)
_DONE = "CASE WHEN j.dry_run THEN j.looked_at ELSE j.synced + j.failed + j.skipped END"
_MARK_IS_OLD = f"j.rate_mark < now() - make_interval(secs => {RATE_SECONDS})"
# Those never looked at first, then those not looked at for the longest: jobs that wait for a store that stands still
# keep no other store's from moving. Those that read Meta back are worked off apart, by read_jobs.
_READ_TYPES = ", ".join(f"'{one}'" for one in READ_TYPES)
LEASE = text(
    f"""
    UPDATE jobs AS j SET status = CASE j.status WHEN 'queued' THEN 'running' ELSE j.status END,
        leased_until = now() + make_interval(secs => {LEASE_SECONDS}),
        fence = j.fence + 1, started_at = COALESCE(j.started_at, now()),
        rate_from = CASE WHEN j.rate_mark IS NULL THEN now() WHEN {_MARK_IS_OLD} THEN j.rate_mark ELSE j.rate_from END,
        rate_from_done = CASE WHEN j.rate_mark IS NULL THEN {_DONE} WHEN {_MARK_IS_OLD} THEN j.rate_mark_done
            ELSE j.rate_from_done END,
        rate_mark = CASE WHEN j.rate_mark IS NULL OR {_MARK_IS_OLD} THEN now() ELSE j.rate_mark END,
        rate_mark_done = CASE WHEN j.rate_mark IS NULL OR {_MARK_IS_OLD} THEN {_DONE} ELSE j.rate_mark_done END
    WHERE j.job_id = (
        SELECT job_id FROM jobs
        WHERE status IN ('queued', 'running', 'cancelling') AND type NOT IN ({_READ_TYPES})
          AND (leased_until IS NULL OR leased_until < now())
        ORDER BY leased_until NULLS FIRST, created_at, job_id LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING j.job_id, j.store_id, j.link_id, j.type, j.cursor, j.mapping_epoch, j.fence, j.stage, j.status, j.action,
        j.lane, j.dry_run, j.scope <> '{{}}'::jsonb, j.enqueued - j.synced - j.failed - j.skipped
    """
)
# What another job asked for, too, neither takes back when it is called off. Still only jobs ask.
ENQUEUE = text(
    f"""
    INSERT INTO intents AS i (store_id, variant_id, version, lane, first_at, job_id)
    SELECT :store_id, u.variant_id, nextval('version_seq'), :lane, now(), :job_id
    FROM unnest(CAST(:variant_ids AS text[])) AS u (variant_id) ORDER BY u.variant_id COLLATE "C"
    ON CONFLICT (store_id, variant_id) DO UPDATE SET job_id = '{SEVERAL_JOBS}'
    WHERE i.job_id NOT IN (excluded.job_id, '{THE_CLOCK}')
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
NEW_PAGE = text(
    """
    INSERT INTO job_pages (job_id, first_id, store_id, variant_ids, enqueued_at)
    VALUES (:job_id, :first_id, :store_id, CAST(:variant_ids AS text[]), now())
    """
)
# The page belongs to us only while nobody restarted the job, called it off or took it over. What is in its scope is known
# for certain when all of it was looked at. A total that was counted before that never grows, so that the percent of it that
# has ended never falls; whoever shows a job takes the larger one of the total and what was found (see ``job_models``).
ADVANCE = text(
    f"""
    UPDATE jobs SET cursor = :cursor, looked_at = looked_at + :looked_at,
        enqueued = enqueued + CAST(:enqueued AS bigint), unchanged = unchanged + CAST(:unchanged AS bigint),
        total = CASE WHEN :stage = 'enqueuing' THEN total ELSE LEAST(
            NULLIF(total, 0), enqueued + unchanged + CAST(:enqueued AS bigint) + CAST(:unchanged AS bigint)
        ) END,
        stage = :stage, leased_until = now() + make_interval(secs => {LEASE_SECONDS})
    WHERE job_id = :job_id AND fence = :fence AND mapping_epoch IS NOT DISTINCT FROM :mapping_epoch
      AND status = 'running'
    RETURNING 1
    """
)
UNLEASE = text(
    """
    UPDATE jobs SET leased_until = now() + make_interval(secs => :seconds)
    WHERE job_id = :job_id AND fence = :fence AND status IN ('running', 'cancelling')
    """
)
# Those looked at, or asked for, the longest ago first.
PAGES = text(
    """
    SELECT first_id, variant_ids, enqueued_at, last_batch_id, submitted FROM job_pages
    WHERE job_id = :job_id ORDER BY COALESCE(seen_at, enqueued_at), first_id LIMIT :most
    """
)
# Each row is found by its key, in the form that core.lookups explains.
FACTS = text(
    """
    SELECT u.variant_id, s.status, s.in_flight, s.retry_at IS NOT NULL, s.retries, s.confirmed_at, i.first_at, i.job_id,
        s.code, COALESCE((SELECT h.state = 'held' FROM holds AS h WHERE h.hold_id = i.held_by), false)
    FROM unnest(CAST(:variant_ids AS text[])) AS u (variant_id)
    LEFT JOIN LATERAL (
        SELECT x.status, x.in_flight, x.retry_at, x.retries, x.confirmed_at, x.code FROM sync_state AS x
        WHERE x.link_id = :link_id AND x.variant_id >= u.variant_id AND x.variant_id <= u.variant_id
        ORDER BY x.variant_id LIMIT 1
    ) AS s ON true
    LEFT JOIN LATERAL (
        SELECT x.first_at, x.job_id, x.held_by FROM intents AS x
        WHERE x.store_id = :store_id AND x.variant_id >= u.variant_id AND x.variant_id <= u.variant_id
        ORDER BY x.variant_id LIMIT 1
    ) AS i ON true
    """
)
NEWEST_BATCH = text("SELECT COALESCE(max(batch_id), 0) FROM batches WHERE store_id = :store_id")
# Before any of its pages, intents and items. What was found by the settings before is thrown away with them.
HOLD = text(
    """
    SELECT 1 FROM jobs
    WHERE job_id = :job_id AND fence = :fence AND mapping_epoch IS NOT DISTINCT FROM :mapping_epoch AND status = :status
    FOR UPDATE
    """
)
COUNT = text(
    """
    UPDATE jobs SET enqueued = enqueued - :let_go, submitted = submitted + :submitted, synced = synced + :synced, failed = failed + :failed,
        skipped = skipped + :skipped, undecided = undecided + :undecided
    WHERE job_id = :job_id
    """
)
KEEP_PAGE = text(
    """
    UPDATE job_pages SET variant_ids = COALESCE(CAST(:variant_ids AS text[]), variant_ids), submitted = :submitted,
        last_batch_id = :last_batch_id, seen_at = now()
    WHERE job_id = :job_id AND first_id = :first_id
    """
)
DROP_PAGE = text("DELETE FROM job_pages WHERE job_id = :job_id AND first_id = :first_id")
DROP_PAGES = text("DELETE FROM job_pages WHERE job_id = :job_id")
# Locked as a claim locks them: one that somebody holds is being claimed or changed right now.
WITHDRAW = text(
    """
    WITH gone AS (
        DELETE FROM intents WHERE store_id = :store_id AND variant_id = ANY(ARRAY(
            SELECT variant_id FROM intents
            WHERE store_id = :store_id AND variant_id = ANY(CAST(:variant_ids AS text[])) AND job_id = :job_id
            ORDER BY variant_id FOR UPDATE SKIP LOCKED
        ))
        RETURNING variant_id
    )
    SELECT array_agg(variant_id ORDER BY variant_id) FROM gone
    """
)
# What the job took over from those of another catalog and has not come to yet: it is on none of its pages.
WITHDRAW_AHEAD = text(
    """
    WITH ahead AS MATERIALIZED (
        SELECT variant_id FROM intents
        WHERE store_id = :store_id AND job_id = :job_id AND variant_id > :after
        ORDER BY variant_id LIMIT :most FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM intents
        WHERE store_id = :store_id AND variant_id = ANY(ARRAY(SELECT variant_id FROM ahead))
        RETURNING variant_id
    )
    SELECT array_agg(variant_id ORDER BY variant_id) FROM gone
    """
)
# Nothing waits any more for what Meta never had.
UNINTENDED = text(
    f"""
    UPDATE sync_state SET status = {status_case(Event.WITHDRAWN)}
    WHERE link_id = :link_id AND variant_id = ANY(CAST(:variant_ids AS text[])) AND status = 'pending'
      AND retailer_id IS NULL AND in_flight IS NULL AND retry_at IS NULL
    """
)
# The stage is looked at again: a setting that changed since the lease has sent the job back to its first row.
FINISH = text(
    """
    UPDATE jobs SET finished_at = now(), stage = 'done', leased_until = NULL,
        status = CASE WHEN status = 'cancelling' THEN 'cancelled' WHEN failed > 0 THEN 'partial' ELSE 'success' END,
        error_code = CASE WHEN failed > 0 THEN 'items_failed' END,
        message = CASE WHEN undecided > 0 THEN
            'Items of which Meta has ended every batch without a verdict so far: ' || undecided
            || '. They are tried again, at least once an hour.' ELSE message END
    WHERE job_id = :job_id AND fence = :fence AND (status = 'running' AND stage = 'syncing' OR status = 'cancelling')
      AND NOT EXISTS (SELECT FROM job_pages AS p WHERE p.job_id = :job_id)
    RETURNING 1
    """
)
LINK_GONE = text(
    """
    UPDATE jobs SET status = 'cancelled', finished_at = now(), leased_until = NULL, error_code = 'catalog_changed'
    WHERE job_id = :job_id AND fence = :fence
    """
)
FAIL = text(
    """
    UPDATE jobs SET status = 'error', finished_at = now(), leased_until = NULL, stage = 'done', error_code = :error_code
    WHERE job_id = :job_id AND fence = :fence AND status = 'running'
    """
)
