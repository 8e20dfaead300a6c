"""Splits of refused batches, back-off after a batch without a verdict, and the watermark of the sale windows.

Goes out before the code that needs it. New columns are nullable or have a constant default, so no table is rewritten. But
everybody waits from the first line to the commit, while four indexes are built (some seconds per million items): stop
the workers before it on a large installation. All locks are taken at once, in the order in which the service takes them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from meta_sync.core.db import Identifier

revision = "0003"
down_revision = "0002"

_NEW_TABLES = ("splits", "split_parts")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("LOCK TABLE variants IN SHARE MODE")
    op.execute("LOCK TABLE sync_state, batches, batch_calls, store_queue IN ACCESS EXCLUSIVE MODE")
    op.add_column("sync_state", sa.Column("split_part", sa.BigInteger))
    op.add_column(
        "sync_state", sa.Column("retries", sa.SmallInteger, nullable=False, server_default=sa.text("0"))
    )
    op.add_column("sync_state", sa.Column("retry_hash", sa.LargeBinary))
    op.create_index(
        "sync_state_retries_idx", "sync_state", ["link_id"], postgresql_where=sa.text("retries > 0")
    )
    op.create_index(
        "sync_state_split_idx",
        "sync_state",
        ["split_part"],
        postgresql_where=sa.text("split_part IS NOT NULL"),
    )
    op.add_column("batches", sa.Column("body_hash", sa.LargeBinary))
    op.add_column(
        "batches", sa.Column("server_errors", sa.SmallInteger, nullable=False, server_default=sa.text("0"))
    )
    op.add_column("batches", sa.Column("split_part", sa.BigInteger))
    op.add_column(
        "batch_calls",
        sa.Column("server_error", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )
    op.create_index(
        "batches_body_idx", "batches", ["link_id", "body_hash"], postgresql_where=sa.text("server_errors > 0")
    )
    op.add_column("store_queue", sa.Column("sales_swept_to", sa.DateTime(timezone=True)))
    op.add_column(
        "store_queue", sa.Column("sales_swept_id", Identifier, nullable=False, server_default=sa.text("''"))
    )
    op.create_index(
        "variants_sale_end_idx",
        "variants",
        ["store_id", "special_price_end", "variant_id"],
        postgresql_where=sa.text("special_price_end IS NOT NULL"),
    )
    _create_splits()
    for table in _NEW_TABLES:
        op.execute(f"GRANT SELECT ON {table} TO meta_sync_app")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO meta_sync_worker")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY of_the_store ON {table} TO meta_sync_app USING (store_id = (SELECT current_store_id()))"
        )
        op.execute(f"CREATE POLICY across_stores ON {table} TO meta_sync_worker USING (true)")
    # A store that selects another catalog ends what splits it has.
    op.execute("GRANT UPDATE ON splits TO meta_sync_app")
    op.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO meta_sync_app, meta_sync_worker")


def _create_splits() -> None:
    op.create_table(
        "splits",
        sa.Column("split_id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("store_id", Identifier, nullable=False),
        sa.Column("link_id", sa.BigInteger, nullable=False),
        sa.Column("link_epoch", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("calls", sa.SmallInteger, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("error_text", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("taken_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint(
            "kind IN ('too_large', 'bad_parameter', 'nothing_taken', 'suspect')", name="splits_kind_check"
        ),
        sa.CheckConstraint("state IN ('waiting', 'open', 'over')", name="splits_state_check"),
    )
    op.create_index("splits_open_idx", "splits", ["link_id"], postgresql_where=sa.text("state <> 'over'"))
    op.create_table(
        "split_parts",
        sa.Column("part_id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("split_id", sa.BigInteger, nullable=False),
        sa.Column("store_id", Identifier, nullable=False),
        sa.Column("link_id", sa.BigInteger, nullable=False),
        sa.Column("parent_id", sa.BigInteger),
        sa.Column("level", sa.SmallInteger, nullable=False),
        sa.Column("items", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.CheckConstraint(
            "state IN ('waiting', 'sent', 'passed', 'refused', 'doubted', 'cleared')",
            name="split_parts_state_check",
        ),
    )
    op.create_index("split_parts_split_idx", "split_parts", ["split_id"])


def downgrade() -> None:
    for table in reversed(_NEW_TABLES):
        op.drop_table(table)
    op.drop_index("variants_sale_end_idx", "variants")
    for column in ("sales_swept_id", "sales_swept_to"):
        op.drop_column("store_queue", column)
    op.drop_index("batches_body_idx", "batches")
    op.drop_column("batch_calls", "server_error")
    for column in ("split_part", "server_errors", "body_hash"):
        op.drop_column("batches", column)
    op.drop_index("sync_state_split_idx", "sync_state")
    op.drop_index("sync_state_retries_idx", "sync_state")
    for column in ("retry_hash", "retries", "split_part"):
        op.drop_column("sync_state", column)
