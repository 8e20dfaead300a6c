"""Indexes behind lists, a record of a store's pauses and settings, and what becomes of the items of a job.

Goes out before the code that needs it. What is locked is locked for a moment: indexes over rows that exist are built
concurrently, outside a transaction. A run that was broken off is begun again, so each index is dropped before it is made.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from meta_sync.core.db import Identifier

revision = "0005"
down_revision = "0004"

_NEW_TABLES = {"store_events": "SELECT"}

# Table, name, columns, condition.
_INDEXES = (
    (
        "sync_state",
        "sync_state_status_pushed_idx",
        "link_id, status, last_pushed_at DESC NULLS LAST, variant_id",
        None,
    ),
    ("sync_state", "sync_state_code_idx", "link_id, code, variant_id", "code IS NOT NULL"),
    (
        "sync_state",
        "sync_state_code_pushed_idx",
        "link_id, code, last_pushed_at DESC NULLS LAST, variant_id",
        "code IS NOT NULL",
    ),
    (
        "products",
        "products_eligible_idx",
        "store_id, product_id",
        "deleted_at IS NULL AND status = 'active' AND visibility = 'public'",
    ),
    # Lists look the product of an item up by it, without the row: a third of what such a look-up costs.
    ("variants", "variants_live_idx", "store_id, variant_id, product_id", "deleted_at IS NULL"),
    # Pages of keys in use, and of all stores, in the order of their making.
    ("api_keys", "api_keys_in_use_idx", "store_id, created_at DESC, key_id", "revoked_at IS NULL"),
    ("stores", "stores_created_idx", "created_at, store_id", None),
    ("batches", "batches_sent_idx", "store_id, sent_at, batch_id", "sent_at IS NOT NULL"),
    ("batches", "batches_finished_idx", "store_id, finished_at, batch_id", "finished_at IS NOT NULL"),
    ("jobs", "jobs_finished_idx", "store_id, finished_at", "finished_at IS NOT NULL"),
    ("imports", "imports_finished_idx", "store_id, finished_at", "finished_at IS NOT NULL"),
)

# Written by the tables themselves, so that no way to pause a store or to change its settings is forgotten. As the owner:
# nobody else writes here. What is older than the timeline is kept goes with the next happening of the store.
_NOTE = """
CREATE FUNCTION note_store_event(of_store text, kind text, code text, message text, detail jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DELETE FROM store_events WHERE store_id = of_store AND at < now() - interval '180 days';
    INSERT INTO store_events (store_id, at, kind, code, message, detail)
    VALUES (of_store, clock_timestamp(), kind, code, message, detail);
$$
"""
# A pause of a catalog that was used before holds back questions about it, and nothing else.
_NOTE_PAUSE = """
CREATE FUNCTION note_pause() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_store_event(
            NEW.store_id, 'pause_began', NEW.reason, NEW.message,
            jsonb_build_object('until', NEW.until, 'metaCode', NEW.code, 'isInUse', NEW.link_id = 0 OR EXISTS (
                SELECT FROM catalog_links AS l WHERE l.link_id = NEW.link_id AND l.active))
        );
    ELSE
        PERFORM note_store_event(
            OLD.store_id, 'pause_ended', OLD.reason, NULL,
            jsonb_build_object('since', OLD.since, 'failures', OLD.failures, 'isInUse', OLD.link_id = 0 OR EXISTS (
                SELECT FROM catalog_links AS l WHERE l.link_id = OLD.link_id AND l.active))
        );
    END IF;
    RETURN NULL;
END
$$
"""
_NOTE_SETTINGS = """
CREATE FUNCTION note_settings() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    changed text[];
BEGIN
    -- Names only: a value may be a secret.
    SELECT array_agg(DISTINCT name ORDER BY name) INTO changed FROM (
        SELECT COALESCE(o.key, n.key) AS name
        FROM jsonb_each(OLD.settings) AS o FULL JOIN jsonb_each(NEW.settings) AS n ON n.key = o.key
        WHERE o.value IS DISTINCT FROM n.value
        UNION ALL SELECT 'app_secret' WHERE OLD.app_secret IS DISTINCT FROM NEW.app_secret
        UNION ALL SELECT 'verify_token' WHERE OLD.verify_token IS DISTINCT FROM NEW.verify_token
        UNION ALL SELECT 'conversions_access_token'
        WHERE OLD.conversions_access_token IS DISTINCT FROM NEW.conversions_access_token
    ) AS names;
    IF changed IS NOT NULL THEN
        PERFORM note_store_event(
            NEW.store_id, 'settings_changed', NULL, NULL, jsonb_build_object('keys', to_jsonb(changed))
        );
    END IF;
    RETURN NULL;
END
$$
"""
# Planned for the text that is looked for, because a word that most documents hold and one that few hold want different
# ways. As the owner: LIKE is not leakproof, so under a policy it may not use the trigram index.
_FIND = """
CREATE FUNCTION find_variants(pattern text, most integer) RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT variant_id::text FROM search_documents WHERE store_id = %L AND document LIKE %L LIMIT %s',
        current_store_id(), pattern, most
    );
END
$$
"""
_TRIGGERS = {
    "note_pause": ("store_pauses", "AFTER INSERT OR DELETE"),
    "note_settings": (
        "stores",
        "AFTER UPDATE OF settings, app_secret, verify_token, conversions_access_token",
    ),
}


# What becomes of the items of a job, besides what it asked for.
_JOB_COUNTS = ("submitted", "synced", "failed", "skipped", "undecided", "rate_from_done", "rate_mark_done")
_JOB_TIMES = ("rate_from", "rate_mark")
_IMPORT_STATUSES = "'fetching', 'uploading', 'queued', 'running', 'success', 'partial', 'error'"

# Meta's own id of an item, as a live read showed it.
_META_ID = ("meta_id", "meta_id_epoch", "meta_id_at")


def upgrade() -> None:
    # First, because it commits what was done before it.
    with op.get_context().autocommit_block():
        for table, name, columns, condition in _INDEXES:
            where = f" WHERE {condition}" if condition else ""
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {table} ({columns}){where}")
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "store_events",
        sa.Column("event_id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("store_id", Identifier, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("code", sa.Text),
        sa.Column("message", sa.Text),
        sa.Column("detail", postgresql.JSONB, nullable=False),
        sa.CheckConstraint(
            "kind IN ('pause_began', 'pause_ended', 'settings_changed')", name="store_events_kind_check"
        ),
    )
    op.create_index("store_events_store_idx", "store_events", ["store_id", "at", "event_id"])
    for table, actions in _NEW_TABLES.items():
        op.execute(f"GRANT {actions} ON {table} TO meta_sync_app")
        op.execute(f"GRANT SELECT, DELETE ON {table} TO meta_sync_worker")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY of_the_store ON {table} TO meta_sync_app USING (store_id = (SELECT current_store_id()))"
        )
        op.execute(f"CREATE POLICY across_stores ON {table} TO meta_sync_worker USING (true)")
    for function in (_NOTE, _NOTE_PAUSE, _NOTE_SETTINGS, _FIND):
        op.execute(function)
    op.execute("REVOKE ALL ON FUNCTION find_variants(text, integer) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION find_variants(text, integer) TO meta_sync_app, meta_sync_worker")
    op.execute("REVOKE ALL ON FUNCTION note_store_event(text, text, text, text, jsonb) FROM PUBLIC")
    for name, (table, event) in _TRIGGERS.items():
        op.execute(f"REVOKE ALL ON FUNCTION {name}() FROM PUBLIC")
        op.execute(f"CREATE TRIGGER {name} {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")
    op.add_column("item_payloads", sa.Column("meta_id", sa.Text))
    op.add_column("item_payloads", sa.Column("meta_id_epoch", sa.Integer))
    op.add_column("item_payloads", sa.Column("meta_id_at", sa.DateTime(timezone=True)))
    _extend_jobs()


def _extend_jobs() -> None:
    op.add_column("jobs", sa.Column("action", sa.Text, nullable=False, server_default=sa.text("'look'")))
    op.add_column("jobs", sa.Column("result", postgresql.JSONB))
    for name in _JOB_COUNTS:
        op.add_column("jobs", sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0")))
    for name in _JOB_TIMES:
        op.add_column("jobs", sa.Column(name, sa.DateTime(timezone=True)))
    op.add_column("jobs", sa.Column("error_code", sa.Text))
    # An import can be called off. The check reads the imports of the last 30 days.
    op.drop_constraint(op.f("imports_status_check"), "imports")
    op.create_check_constraint(
        op.f("imports_status_check"), "imports", f"status IN ({_IMPORT_STATUSES}, 'cancelled')"
    )
    op.execute(
        "UPDATE jobs SET synced = enqueued, total = enqueued + unchanged WHERE finished_at IS NOT NULL"
    )
    # A job that is under way knows of no items that it would follow: it begins again, which costs looks and no calls.
    op.execute(
        "UPDATE jobs SET cursor = NULL, looked_at = 0, enqueued = 0, unchanged = 0, stage = 'waiting', last_batch_id = NULL,"
        " fence = fence + 1, leased_until = NULL WHERE finished_at IS NULL"
    )
    op.create_table(
        "job_pages",
        sa.Column("job_id", Identifier, nullable=False),
        sa.Column("first_id", Identifier, nullable=False),
        sa.Column("store_id", Identifier, nullable=False),
        sa.Column("variant_ids", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("enqueued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_batch_id", sa.BigInteger),
        sa.Column("submitted", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("seen_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("job_id", "first_id"),
    )
    op.create_table(
        "job_findings",
        sa.Column("job_id", Identifier, nullable=False),
        sa.Column("variant_id", Identifier, nullable=False),
        sa.Column("store_id", Identifier, nullable=False),
        sa.Column("product_id", Identifier, nullable=False),
        sa.Column("retailer_id", sa.Text),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("changes", postgresql.JSONB, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "variant_id"),
    )
    for table, actions in {"job_pages": "SELECT, DELETE", "job_findings": "SELECT"}.items():
        op.execute(f"GRANT {actions} ON {table} TO meta_sync_app")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO meta_sync_worker")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY of_the_store ON {table} TO meta_sync_app USING (store_id = (SELECT current_store_id()))"
        )
        op.execute(f"CREATE POLICY across_stores ON {table} TO meta_sync_worker USING (true)")


def downgrade() -> None:
    for table in ("job_findings", "job_pages"):
        op.drop_table(table)
    for name in ("error_code", *reversed(_JOB_TIMES), *reversed(_JOB_COUNTS), "result", "action"):
        op.drop_column("jobs", name)
    op.execute("UPDATE imports SET status = 'error' WHERE status = 'cancelled'")
    op.drop_constraint(op.f("imports_status_check"), "imports")
    op.create_check_constraint(op.f("imports_status_check"), "imports", f"status IN ({_IMPORT_STATUSES})")
    for name in reversed(_META_ID):
        op.drop_column("item_payloads", name)
    for _, name, _, _ in reversed(_INDEXES):
        op.execute(f"DROP INDEX IF EXISTS {name}")
    for name, (table, _) in _TRIGGERS.items():
        op.execute(f"DROP TRIGGER {name} ON {table}")
        op.execute(f"DROP FUNCTION {name}()")
    op.execute("DROP FUNCTION find_variants(text, integer)")
    op.execute("DROP FUNCTION note_store_event(text, text, text, text, jsonb)")
    for table in _NEW_TABLES:
        op.drop_table(table)
