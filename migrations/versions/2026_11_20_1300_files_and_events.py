"""Imports that replace, try out and fetch; feeds by address; clocks per field group and receipts of events.

Goes out before the code that needs it. New columns are nullable or have a constant default, so no table is rewritten, and
no index has entries for rows that exist; the one of the variants' sources reads their table once to find that it has
none, and the two widened checks read the imports of the last 30 days and their findings.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from meta_sync.core.db import Identifier

revision = "0004"
down_revision = "0003"

_NEW_TABLES = {"import_feeds": "SELECT, INSERT, UPDATE, DELETE", "event_receipts": "SELECT, INSERT"}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("LOCK TABLE products, variants, inventory, imports, import_findings IN ACCESS EXCLUSIVE MODE")
    op.add_column("products", sa.Column("media_updated_at", sa.DateTime(timezone=True)))
    op.add_column("products", sa.Column("basics_updated_at", sa.DateTime(timezone=True)))
    op.add_column("variants", sa.Column("source_updated_at", sa.DateTime(timezone=True)))
    op.add_column("variants", sa.Column("media_updated_at", sa.DateTime(timezone=True)))
    op.add_column("variants", sa.Column("source", sa.Text))
    op.create_index(
        "variants_source_idx",
        "variants",
        ["store_id", "source", "product_id"],
        postgresql_where=sa.text("source IS NOT NULL"),
    )
    op.add_column("inventory", sa.Column("figures_updated_at", sa.DateTime(timezone=True)))
    op.add_column("inventory", sa.Column("policy_updated_at", sa.DateTime(timezone=True)))
    op.add_column(
        "imports", sa.Column("dry_run", sa.Boolean, nullable=False, server_default=sa.text("false"))
    )
    op.add_column(
        "imports", sa.Column("allow_mass_delete", sa.Boolean, nullable=False, server_default=sa.text("false"))
    )
    op.add_column("imports", sa.Column("feed_id", Identifier))
    op.add_column("imports", sa.Column("error_code", sa.Text))
    op.add_column("import_findings", sa.Column("rule", sa.Text))
    op.add_column("import_findings", sa.Column("value", sa.Text))
    op.drop_constraint(op.f("imports_status_check"), "imports")
    op.execute(
        "ALTER TABLE imports ADD CONSTRAINT imports_status_check CHECK (status IN"
        " ('fetching', 'uploading', 'queued', 'running', 'success', 'partial', 'error'))"
    )
    op.drop_constraint(op.f("import_findings_kind_check"), "import_findings")
    op.execute(
        "ALTER TABLE import_findings ADD CONSTRAINT import_findings_kind_check CHECK (kind IN"
        " ('failure', 'skip', 'warning', 'create', 'change', 'delete'))"
    )
    _create_tables()
    for table, actions in _NEW_TABLES.items():
        op.execute(f"GRANT {actions} ON {table} TO meta_sync_app")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO meta_sync_worker")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY of_the_store ON {table} TO meta_sync_app USING (store_id = (SELECT current_store_id()))"
        )
        op.execute(f"CREATE POLICY across_stores ON {table} TO meta_sync_worker USING (true)")


def _create_tables() -> None:
    op.create_table(
        "import_feeds",
        sa.Column("feed_id", Identifier, primary_key=True),
        sa.Column("store_id", Identifier, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("shown_url", sa.Text, nullable=False),
        sa.Column("url", sa.LargeBinary, nullable=False),
        sa.Column("username", sa.Text),
        sa.Column("password", sa.LargeBinary),
        sa.Column("format", sa.Text),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("allow_mass_delete", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("interval_seconds", sa.Integer),
        sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("next_at", sa.DateTime(timezone=True)),
        sa.Column("etag", sa.Text),
        sa.Column("last_modified", sa.Text),
        sa.Column("content_hash", sa.LargeBinary),
        sa.Column("checked_at", sa.DateTime(timezone=True)),
        sa.Column("last_result", sa.Text),
        sa.Column("last_message", sa.Text),
        sa.Column("last_import_id", Identifier),
        sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("leased_until", sa.DateTime(timezone=True)),
        sa.Column("fence", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.CheckConstraint("mode IN ('upsert', 'replace')", name="import_feeds_mode_check"),
        sa.CheckConstraint(
            "last_result IN ('imported', 'not_modified', 'error')", name="import_feeds_last_result_check"
        ),
    )
    op.create_index(
        "import_feeds_scheduled_idx",
        "import_feeds",
        ["store_id", "source"],
        unique=True,
        postgresql_where=sa.text("interval_seconds IS NOT NULL"),
    )
    op.create_index(
        "import_feeds_next_idx", "import_feeds", ["next_at"], postgresql_where=sa.text("next_at IS NOT NULL")
    )
    op.create_table(
        "event_receipts",
        sa.Column("store_id", Identifier, nullable=False),
        sa.Column("source", Identifier, nullable=False),
        sa.Column("event_id", Identifier, nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("store_id", "source", "event_id"),
    )
    op.create_index("event_receipts_received_at_idx", "event_receipts", ["received_at"])


def downgrade() -> None:
    for table in _NEW_TABLES:
        op.drop_table(table)
    op.execute("DELETE FROM import_findings WHERE kind IN ('create', 'change', 'delete')")
    op.drop_constraint(op.f("import_findings_kind_check"), "import_findings")
    op.create_check_constraint(
        op.f("import_findings_kind_check"), "import_findings", "kind IN ('failure', 'skip', 'warning')"
    )
    op.execute("DELETE FROM imports WHERE status = 'fetching'")
    op.drop_constraint(op.f("imports_status_check"), "imports")
    op.create_check_constraint(
        op.f("imports_status_check"),
        "imports",
        "status IN ('uploading', 'queued', 'running', 'success', 'partial', 'error')",
    )
    for column in ("value", "rule"):
        op.drop_column("import_findings", column)
    for column in ("error_code", "feed_id", "allow_mass_delete", "dry_run"):
        op.drop_column("imports", column)
    op.drop_index("variants_source_idx", "variants")
    for column in ("source", "media_updated_at", "source_updated_at"):
        op.drop_column("variants", column)
    for column in ("policy_updated_at", "figures_updated_at"):
        op.drop_column("inventory", column)
    for column in ("basics_updated_at", "media_updated_at"):
        op.drop_column("products", column)
