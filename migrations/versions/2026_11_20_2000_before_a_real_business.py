"""Holds, the first run's approval, reading Meta back, and the record of who did what.

Goes out before the code that needs it. Links that are in use count as approved: what they sent cannot be taken back.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from meta_sync.core.db import Identifier

revision = "0007"
down_revision = "0006"

_ALL = "SELECT, INSERT, UPDATE, DELETE"

# What the app role may do; the worker may do everything.
_NEW_TABLES = {
    "holds": "SELECT, INSERT, UPDATE",
    "guard_counts": "SELECT",
    "reconcile_findings": "SELECT, UPDATE",
    "job_keys": "SELECT",
    "audit_log": "SELECT, INSERT",
}
_GUARDED = "guarded_deletes + guarded_out_of_stock + guarded_prices > 0"
_READY_BEFORE = "parked_by IS NULL"
_READY = "parked_by IS NULL AND held_by IS NULL"
_PAUSE_REASONS = "'needs_reconnect', 'meta_unreachable', 'blocked_by_meta', 'rejected_by_meta'"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("intents", sa.Column("held_by", sa.BigInteger))
    op.add_column(
        "intents", sa.Column("released_kinds", sa.SmallInteger, nullable=False, server_default=sa.text("0"))
    )
    op.add_column("sync_state", sa.Column("confirmed_sale", sa.Text))
    op.add_column("sync_state", sa.Column("pinned", postgresql.JSONB))
    op.add_column("sync_state", sa.Column("grace_until", sa.DateTime(timezone=True)))
    for name in ("guarded_deletes", "guarded_out_of_stock", "guarded_prices"):
        op.add_column("batches", sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0")))
    for name in ("guarded", "released_kinds"):
        op.add_column(
            "batch_items", sa.Column(name, sa.SmallInteger, nullable=False, server_default=sa.text("0"))
        )
    op.add_column("catalog_links", sa.Column("first_run_approved_at", sa.DateTime(timezone=True)))
    op.add_column("catalog_links", sa.Column("first_run_approved_by", sa.Text))
    op.add_column("catalog_links", sa.Column("removal_job_id", sa.Text(collation="C")))
    op.execute("UPDATE catalog_links SET first_run_approved_at = selected_at")
    op.drop_constraint(op.f("store_pauses_reason_check"), "store_pauses")
    op.create_check_constraint(
        op.f("store_pauses_reason_check"), "store_pauses", f"reason IN ({_PAUSE_REASONS}, 'held')"
    )
    op.execute("GRANT INSERT, UPDATE ON store_pauses TO meta_sync_app")
    _create_tables()
    for table, actions in _NEW_TABLES.items():
        op.execute(f"GRANT {actions} ON {table} TO meta_sync_app")
        op.execute(f"GRANT {_ALL} ON {table} TO meta_sync_worker")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY of_the_store ON {table} TO meta_sync_app USING (store_id = (SELECT current_store_id()))"
        )
        op.execute(f"CREATE POLICY across_stores ON {table} TO meta_sync_worker USING (true)")
    # Intents are few when nothing is wrong; the index is built anew under the lock that the columns took.
    op.drop_index("intents_ready_idx", "intents")
    op.create_index(
        "intents_ready_idx", "intents", ["store_id", "lane", "first_at"], postgresql_where=sa.text(_READY)
    )
    op.create_index(
        "intents_held_idx",
        "intents",
        ["held_by", "variant_id"],
        postgresql_where=sa.text("held_by IS NOT NULL"),
    )
    op.create_index(
        "sync_state_grace_idx",
        "sync_state",
        ["grace_until"],
        postgresql_where=sa.text("grace_until IS NOT NULL"),
    )


def _create_tables() -> None:
    op.create_table(
        "holds",
        sa.Column("hold_id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("store_id", Identifier, nullable=False),
        sa.Column("link_id", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("cursor", Identifier),
        sa.Column("watermark", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("opened_in", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("items", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("recent_items", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("base_items", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("threshold", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("fence", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("leased_until", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("held_at", sa.DateTime(timezone=True)),
        sa.Column("counted_at", sa.DateTime(timezone=True)),
        sa.Column("decided_at", sa.DateTime(timezone=True)),
        sa.Column("decided_by", sa.Text),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("kind IN ('delete', 'out_of_stock', 'price')", name="holds_kind_check"),
        sa.CheckConstraint(
            "state IN ('counting', 'held', 'released', 'discarded', 'dissolved')", name="holds_state_check"
        ),
    )
    op.create_index(
        "holds_one_open",
        "holds",
        ["link_id", "kind"],
        unique=True,
        postgresql_where=sa.text("state IN ('counting', 'held')"),
    )
    op.create_index("holds_store_idx", "holds", ["store_id", "hold_id"])
    op.create_index(
        "holds_unfinished_idx", "holds", ["hold_id"], postgresql_where=sa.text("finished_at IS NULL")
    )
    op.create_table(
        "guard_counts",
        sa.Column("link_id", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("store_id", Identifier, nullable=False),
        sa.Column("link_epoch", sa.Integer, nullable=False),
        sa.Column("mapping_epoch", sa.BigInteger, nullable=False),
        sa.Column("watermark", sa.BigInteger, nullable=False),
        sa.Column("counted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("items", sa.BigInteger, nullable=False),
        sa.Column("recent_items", sa.BigInteger, nullable=False),
        sa.Column("base_items", sa.BigInteger, nullable=False),
        sa.Column("elsewhere_items", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("link_id", "kind"),
    )
    # Few batches change what the guard counts, and each turn asks for those of the last hour.
    op.create_index(
        "batches_guarded_idx",
        "batches",
        ["link_id", "created_at"],
        postgresql_where=sa.text(_GUARDED),
    )
    op.create_table(
        "reconcile_findings",
        sa.Column("job_id", Identifier, nullable=False),
        sa.Column("retailer_id", Identifier, nullable=False),
        sa.Column("store_id", Identifier, nullable=False),
        sa.Column("link_id", sa.BigInteger, nullable=False),
        sa.Column("variant_id", Identifier),
        sa.Column("product_id", Identifier),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'suspected'")),
        sa.Column("differences", postgresql.JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        sa.Column("found", postgresql.JSONB),
        sa.Column("meta_id", sa.Text),
        sa.Column("feed_id", sa.Text),
        sa.Column("first_read_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("second_read_at", sa.DateTime(timezone=True)),
        sa.Column("acted_at", sa.DateTime(timezone=True)),
        sa.Column("acted_by", sa.Text),
        sa.PrimaryKeyConstraint("job_id", "retailer_id"),
        sa.CheckConstraint(
            "verdict IN ('missing', 'different', 'unverifiable', 'orphan', 'foreign')",
            name="reconcile_findings_verdict_check",
        ),
        sa.CheckConstraint(
            "state IN ('suspected', 'agreed', 'withdrawn', 'repaired', 'adopted', 'taken', 'pinned', 'deleted')",
            name="reconcile_findings_state_check",
        ),
    )
    op.create_index(
        "reconcile_findings_verdict_idx", "reconcile_findings", ["job_id", "verdict", "retailer_id"]
    )
    op.create_table(
        "job_keys",
        sa.Column("job_id", Identifier, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", Identifier, nullable=False),
        sa.Column("store_id", Identifier, nullable=False),
        sa.Column("example", sa.Text),
        sa.Column("times", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.PrimaryKeyConstraint("job_id", "kind", "key"),
    )
    op.create_table(
        "audit_log",
        sa.Column("audit_id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("store_id", Identifier, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("target_type", sa.Text, nullable=False),
        sa.Column("target_id", sa.Text),
        sa.Column("before", postgresql.JSONB),
        sa.Column("after", postgresql.JSONB),
        sa.Column("request_id", sa.Text),
    )
    op.create_index("audit_log_store_idx", "audit_log", ["store_id", "at", "audit_id"])
    op.create_index("audit_log_action_idx", "audit_log", ["store_id", "action", "at", "audit_id"])
    op.create_index("audit_log_actor_idx", "audit_log", ["store_id", "actor", "at", "audit_id"])
    op.create_index("audit_log_target_idx", "audit_log", ["store_id", "target_id", "at", "audit_id"])


def downgrade() -> None:
    for name in ("intents_ready_idx", "intents_held_idx"):
        op.drop_index(name, "intents")
    op.drop_index("sync_state_grace_idx", "sync_state")
    for table in reversed(_NEW_TABLES):
        op.drop_table(table)
    op.execute("REVOKE INSERT, UPDATE ON store_pauses FROM meta_sync_app")
    op.execute("DELETE FROM store_pauses WHERE reason = 'held'")
    op.drop_constraint(op.f("store_pauses_reason_check"), "store_pauses")
    op.create_check_constraint(
        op.f("store_pauses_reason_check"), "store_pauses", f"reason IN ({_PAUSE_REASONS})"
    )
    for name in ("removal_job_id", "first_run_approved_by", "first_run_approved_at"):
        op.drop_column("catalog_links", name)
    op.drop_index("batches_guarded_idx", "batches")
    for name in ("released_kinds", "guarded"):
        op.drop_column("batch_items", name)
    for name in ("guarded_prices", "guarded_out_of_stock", "guarded_deletes"):
        op.drop_column("batches", name)
    for name in ("grace_until", "pinned", "confirmed_sale"):
        op.drop_column("sync_state", name)
    for name in ("released_kinds", "held_by"):
        op.drop_column("intents", name)
    op.create_index(
        "intents_ready_idx",
        "intents",
        ["store_id", "lane", "first_at"],
        postgresql_where=sa.text(_READY_BEFORE),
    )
