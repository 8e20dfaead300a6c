"""The statements of decisions about what Meta shows: findings, and the state of items that were adopted, pinned or given up."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB

from meta_sync.sync.states import Event, status_case

__all__ = [
    "ADOPT_STATES",
    "AS_ADOPTED",
    "CHANGED_SINCE",
    "EVENTS",
    "FINDINGS",
    "FINDINGS_AFTER",
    "FINDING_DONE",
    "GIVE_UP_STATES",
    "LEDGER_IDS",
    "LOCK_IN_FLIGHT",
    "LOOK_AGAIN",
    "NEW_STATES",
    "PIN",
    "PINNED",
    "RELEASE_DELETES",
]

_COLUMNS = (
    "retailer_id, link_id, variant_id, product_id, verdict, differences, found, feed_id, second_read_at"
)
FINDINGS = text(
    f"""
    SELECT {_COLUMNS} FROM reconcile_findings
    WHERE job_id = :job_id AND store_id = :store_id AND state = 'agreed' AND verdict = :verdict
      AND retailer_id = ANY(CAST(:retailer_ids AS text[]))
    ORDER BY retailer_id FOR UPDATE
    """
).columns(differences=JSONB, found=JSONB)
FINDINGS_AFTER = text(
    f"""
    SELECT {_COLUMNS} FROM reconcile_findings
    WHERE job_id = :job_id AND store_id = :store_id AND state = 'agreed' AND verdict = :verdict
      AND retailer_id > :after
    ORDER BY retailer_id LIMIT :most FOR UPDATE
    """
).columns(differences=JSONB, found=JSONB)
FINDING_DONE = text(
    """
    UPDATE reconcile_findings AS f SET state = :state, variant_id = u.variant_id, product_id = u.product_id,
        acted_at = now(), acted_by = :actor
    FROM unnest(CAST(:retailer_ids AS text[]), CAST(:variant_ids AS text[]), CAST(:product_ids AS text[]))
        AS u (retailer_id, variant_id, product_id)
    WHERE f.job_id = :job_id AND f.retailer_id = u.retailer_id AND f.state = 'agreed'
    """
)
# Ids that the link has sent items under, and those of variants that it has sent under another id.
LEDGER_IDS = text(
    """
    SELECT retailer_id FROM sync_state
    WHERE link_id = :link_id AND retailer_id = ANY(CAST(:retailer_ids AS text[]))
    UNION
    SELECT variant_id FROM sync_state
    WHERE link_id = :link_id AND variant_id = ANY(CAST(:retailer_ids AS text[])) AND retailer_id IS NOT NULL
    """
)
# What Meta showed is older than what was sent since, or than what the store made of the variant since.
CHANGED_SINCE = text(
    """
    SELECT s.in_flight IS NOT NULL OR s.last_pushed_at > CAST(:read_at AS timestamptz)
        OR v.updated_at > CAST(:read_at AS timestamptz)
    FROM sync_state AS s JOIN variants AS v ON v.store_id = s.store_id AND v.variant_id = s.variant_id
    WHERE s.link_id = :link_id AND s.variant_id = :variant_id AND v.store_id = :store_id
    """
)
# As at Meta and as the store has it at once: nothing is sent until the row wants something else, and then whatever Meta
# may hold is emptied.
ADOPT_STATES = text(
    """
    INSERT INTO sync_state AS s (link_id, variant_id, store_id, status, presence, retailer_id, confirmed_hash,
        confirmed_epoch, discarded_hash, may_hold, confirmed_price, confirmed_availability, confirmed_at, code)
    SELECT :link_id, u.variant_id, :store_id, 'synced', 'present', u.variant_id, u.hash, :epoch, u.hash,
        CAST(:managed AS text[]), u.price, u.availability, now(), u.code
    FROM unnest(CAST(:variant_ids AS text[]), CAST(:hashes AS bytea[]), CAST(:prices AS text[]),
        CAST(:availabilities AS text[]), CAST(:codes AS text[])) AS u (variant_id, hash, price, availability, code)
    ORDER BY u.variant_id COLLATE "C"
    ON CONFLICT (link_id, variant_id) DO UPDATE SET status = 'synced', presence = 'present',
        retailer_id = excluded.retailer_id, confirmed_hash = excluded.confirmed_hash,
        confirmed_epoch = excluded.confirmed_epoch, discarded_hash = excluded.discarded_hash, may_hold = excluded.may_hold,
        confirmed_price = excluded.confirmed_price, confirmed_availability = excluded.confirmed_availability,
        confirmed_at = now(), code = excluded.code, rejected_hash = NULL, excluded_at = NULL, pinned = NULL,
        grace_until = NULL, retry_at = NULL, error_text = NULL, attempts = 0, updated_at = now()
    WHERE s.in_flight IS NULL AND s.retailer_id IS NULL
    RETURNING s.variant_id
    """
)
# Siblings whose group came up with others that were adopted: still as at Meta.
AS_ADOPTED = text(
    """
    UPDATE sync_state AS s SET confirmed_hash = u.hash, discarded_hash = u.hash, updated_at = now()
    FROM unnest(CAST(:variant_ids AS text[]), CAST(:hashes AS bytea[])) AS u (variant_id, hash)
    WHERE s.link_id = :link_id AND s.variant_id = ANY(CAST(:variant_ids AS text[])) AND s.variant_id = u.variant_id
      AND s.in_flight IS NULL AND s.discarded_hash = s.confirmed_hash
    """
)
# Asked for by name: its grace is over. It is not excluded, so that the store may sell something under the id.
GIVE_UP_STATES = text(
    f"""
    UPDATE sync_state SET retailer_id = variant_id, presence = 'maybe', confirmed_epoch = :epoch, confirmed_hash = NULL,
        may_hold = CAST(:managed AS text[]), grace_until = :grace_over, status = {status_case(Event.DISTURBED)},
        updated_at = now()
    WHERE link_id = :link_id AND variant_id = ANY(CAST(:variant_ids AS text[])) AND retailer_id IS NULL
      AND in_flight IS NULL
    RETURNING variant_id
    """
)
# A person named them: nothing for the guard to hold.
RELEASE_DELETES = text(
    """
    UPDATE intents SET released_kinds = released_kinds | CAST(:kinds AS smallint)
    WHERE store_id = :store_id AND variant_id = ANY(CAST(:variant_ids AS text[]))
    """
)
EVENTS = text(
    """
    INSERT INTO item_events (store_id, link_id, variant_id, kind, actor)
    SELECT :store_id, :link_id, u.variant_id, :kind, :actor FROM unnest(CAST(:variant_ids AS text[])) AS u (variant_id)
    """
)
# A settle takes the rows of its items before their intents: an item in flight is locked in that order here too.
LOCK_IN_FLIGHT = text(
    """
    SELECT 1 FROM sync_state
    WHERE link_id = :link_id AND variant_id = :variant_id AND in_flight IS NOT NULL FOR UPDATE
    """
)
NEW_STATES = text(
    """
    INSERT INTO sync_state (link_id, variant_id, store_id, status)
    VALUES (:link_id, :variant_id, :store_id, 'pending') ON CONFLICT (link_id, variant_id) DO NOTHING
    """
)
# What Meta holds is not what it confirmed: it counts as unknown, a batch under way does not confirm the item, and what
# Meta showed may still be there.
LOOK_AGAIN = text(
    f"""
    UPDATE sync_state AS s SET confirmed_hash = NULL, rejected_hash = NULL, discarded_hash = NULL, retry_at = NULL,
        presence = CASE s.presence WHEN 'absent' THEN 'absent' ELSE 'maybe' END,
        may_hold = ARRAY(SELECT DISTINCT unnest(s.may_hold || CAST(:held AS text[]))),
        disturbed_at = clock_timestamp(), status = {status_case(Event.DISTURBED, "s.status")}, updated_at = now()
    WHERE s.link_id = :link_id AND s.variant_id = :variant_id
    """
)
PINNED = text(
    "SELECT pinned FROM sync_state WHERE link_id = :link_id AND variant_id = :variant_id FOR UPDATE"
).columns(pinned=JSONB)
PIN = text(
    """
    UPDATE sync_state SET pinned = CAST(:pinned AS jsonb), rejected_hash = NULL, updated_at = now()
    WHERE link_id = :link_id AND variant_id = :variant_id
    """
)
