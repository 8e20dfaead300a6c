"""The statements of reconciling. Each row is found by its key, in the form that ``core.lookups`` explains."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB

__all__ = [
    "AGREED",
    "CHUNK",
    "DUE_STORES",
    "FINDING_COLUMNS",
    "INSERT_FINDINGS",
    "LEDGER",
    "NOTE_COUNT",
    "SEEN",
    "SETTLE_FINDINGS",
    "UNSEEN",
]

_FACTS = """
        (s.in_flight IS NOT NULL OR s.retry_at IS NOT NULL OR i.variant_id IS NOT NULL) AS waits,
        GREATEST(s.updated_at, s.last_pushed_at, s.confirmed_at, v.updated_at) AS changed_at"""
_BY_VARIANT = """
    LEFT JOIN LATERAL (
        SELECT x.product_id, x.updated_at, x.deleted_at FROM variants AS x
        WHERE x.store_id = :store_id AND x.variant_id >= s.variant_id AND x.variant_id <= s.variant_id
        ORDER BY x.variant_id LIMIT 1
    ) AS v ON true
    LEFT JOIN LATERAL (
        SELECT x.variant_id FROM intents AS x
        WHERE x.store_id = :store_id AND x.variant_id >= s.variant_id AND x.variant_id <= s.variant_id
        ORDER BY x.variant_id LIMIT 1
    ) AS i ON true"""

# A row without an epoch was never sent: what stands at Meta under its id is somebody else's.
LEDGER = text(
    f"""
    SELECT s.retailer_id, s.variant_id, v.product_id, (v.product_id IS NOT NULL AND v.deleted_at IS NULL), s.presence,
        s.confirmed_epoch, s.confirmed_hash IS NOT NULL, {_FACTS}, s.grace_until, s.discarded_hash, p.payload
    FROM unnest(CAST(:retailer_ids AS text[])) AS u (retailer_id)
    JOIN LATERAL (
        SELECT x.* FROM sync_state AS x
        WHERE x.link_id = :link_id AND x.retailer_id >= u.retailer_id AND x.retailer_id <= u.retailer_id
          AND x.retailer_id IS NOT NULL
        ORDER BY x.retailer_id LIMIT 1
    ) AS s ON s.confirmed_epoch IS NOT NULL{_BY_VARIANT}
    LEFT JOIN LATERAL (
        SELECT x.payload FROM item_payloads AS x
        WHERE x.link_id = :link_id AND x.variant_id >= s.variant_id AND x.variant_id <= s.variant_id
        ORDER BY x.variant_id LIMIT 1
    ) AS p ON true
    """
)
# A page of all items of the link, each with whether it is to be at Meta, quiet, and was not met there.
UNSEEN = text(
    f"""
    WITH s AS MATERIALIZED (
        SELECT * FROM sync_state WHERE link_id = :link_id AND variant_id > :after ORDER BY variant_id LIMIT :most
    )
    SELECT s.variant_id, s.retailer_id, v.product_id,
        s.presence = 'present' AND s.status = 'synced' AND s.confirmed_hash IS NOT NULL AND s.retailer_id IS NOT NULL
            AND s.confirmed_epoch = :epoch AND v.product_id IS NOT NULL AND v.deleted_at IS NULL AND k.key IS NULL AS is_unseen,
        {_FACTS}
    FROM s{_BY_VARIANT}
    LEFT JOIN LATERAL (
        SELECT x.key FROM job_keys AS x
        WHERE x.job_id = :job_id AND x.kind = :kind AND x.key >= s.variant_id AND x.key <= s.variant_id
        ORDER BY x.key LIMIT 1
    ) AS k ON true
    ORDER BY s.variant_id
    """
)
# Only those that were not met before: pages of a catalog that is being written to may show an item twice.
SEEN = text(
    """
    INSERT INTO job_keys (job_id, kind, key, store_id)
    SELECT :job_id, :kind, u.key, :store_id FROM unnest(CAST(:keys AS text[])) AS u (key)
    ORDER BY u.key COLLATE "C"
    ON CONFLICT (job_id, kind, key) DO NOTHING
    RETURNING key
    """
)
INSERT_FINDINGS = text(
    """
    INSERT INTO reconcile_findings AS f (job_id, retailer_id, store_id, link_id, variant_id, product_id, verdict, state,
        differences, found, meta_id, feed_id, first_read_at)
    SELECT :job_id, u.retailer_id, :store_id, :link_id, u.variant_id, u.product_id, u.verdict, 'suspected',
        CAST(u.differences AS jsonb), CAST(u.found AS jsonb), u.meta_id, u.feed_id, CAST(:read_at AS timestamptz)
    FROM unnest(CAST(:retailer_ids AS text[]), CAST(:variant_ids AS text[]), CAST(:product_ids AS text[]),
        CAST(:verdicts AS text[]), CAST(:differences AS text[]), CAST(:found AS text[]), CAST(:meta_ids AS text[]),
        CAST(:feed_ids AS text[]))
        AS u (retailer_id, variant_id, product_id, verdict, differences, found, meta_id, feed_id)
    ORDER BY u.retailer_id COLLATE "C"
    ON CONFLICT (job_id, retailer_id) DO UPDATE SET variant_id = excluded.variant_id, product_id = excluded.product_id,
        verdict = excluded.verdict, state = 'suspected', differences = excluded.differences, found = excluded.found,
        meta_id = excluded.meta_id, feed_id = excluded.feed_id, first_read_at = excluded.first_read_at
    RETURNING CASE WHEN xmax = 0 THEN f.retailer_id END
    """
)
FINDING_COLUMNS = """f.retailer_id, f.variant_id, f.product_id, f.verdict, f.state, f.differences, f.found, f.meta_id,
        f.feed_id, f.first_read_at, f.second_read_at, f.acted_at, f.acted_by"""
CHUNK = text(
    f"""
    SELECT {FINDING_COLUMNS} FROM reconcile_findings AS f
    WHERE f.job_id = :job_id AND f.retailer_id > :after ORDER BY f.retailer_id LIMIT :most
    """
).columns(differences=JSONB, found=JSONB)
SETTLE_FINDINGS = text(
    """
    UPDATE reconcile_findings AS f SET state = u.state, second_read_at = CAST(:read_at AS timestamptz),
        differences = COALESCE(CAST(u.differences AS jsonb), f.differences), found = COALESCE(CAST(u.found AS jsonb), f.found),
        meta_id = COALESCE(u.meta_id, f.meta_id), feed_id = COALESCE(u.feed_id, f.feed_id)
    FROM unnest(CAST(:retailer_ids AS text[]), CAST(:states AS text[]), CAST(:differences AS text[]),
        CAST(:found AS text[]), CAST(:meta_ids AS text[]), CAST(:feed_ids AS text[]))
        AS u (retailer_id, state, differences, found, meta_id, feed_id)
    WHERE f.job_id = :job_id AND f.retailer_id = ANY(CAST(:retailer_ids AS text[])) AND f.retailer_id = u.retailer_id
      AND f.state = 'suspected'
    """
)
AGREED = text(
    """
    SELECT verdict, count(*) FILTER (WHERE state = 'agreed'), count(*) FILTER (WHERE state = 'withdrawn')
    FROM reconcile_findings WHERE job_id = :job_id GROUP BY verdict
    """
)
NOTE_COUNT = text(
    "UPDATE catalog_links SET product_count = :product_count, checked_at = now() WHERE link_id = :link_id"
)
# Each store has its own second of the day, so that they do not all come at once. One that was missed is caught up.
DUE_STORES = text(
    """
    WITH links AS (
        SELECT l.store_id, l.link_id, GREATEST(l.selected_at, l.first_run_approved_at, (
            SELECT j.created_at FROM jobs AS j WHERE j.store_id = l.store_id AND j.type = 'reconciliation'
            ORDER BY j.created_at DESC LIMIT 1
        )) AS last_at, ('x' || substr(md5(l.store_id), 1, 6))::bit(24)::integer % 86400 AS second_of_day
        FROM catalog_links AS l
        JOIN stores AS s ON s.store_id = l.store_id
        JOIN credentials AS c ON c.credential_id = l.credential_id AND c.dead_at IS NULL
        WHERE l.active AND l.first_run_approved_at IS NOT NULL AND l.graph_host = :graph_host
          AND COALESCE(s.settings ->> 'sync_enabled', 'false') = 'true'
    )
    SELECT store_id, link_id FROM links
    WHERE floor((extract(epoch FROM now()) - second_of_day) / :day_seconds)
        > floor((extract(epoch FROM last_at) - second_of_day) / :day_seconds)
      AND NOT EXISTS (
          SELECT FROM jobs AS j WHERE j.store_id = links.store_id AND j.type = 'reconciliation'
            AND j.status IN ('queued', 'running', 'cancelling')
      )
    ORDER BY last_at LIMIT :most
    """
)
