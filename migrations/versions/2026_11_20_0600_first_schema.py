"""The first schema: every table.

Goes out before the first code; holds no lock that anybody waits for.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    # Waiting for a lock makes everybody behind us wait; fail fast and run again.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gin")
    op.execute(sa.schema.CreateSequence(sa.Sequence("version_seq", data_type=sa.BigInteger)))
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.Text(collation="C"), nullable=False),
        sa.Column("store_id", sa.Text(collation="C"), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("key_prefix", sa.Text(), nullable=False),
        sa.Column("permissions", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("key_id", name=op.f("api_keys_pkey")),
        sa.UniqueConstraint("key_hash", name=op.f("api_keys_key_hash_key")),
    )
    op.create_index(op.f("api_keys_store_id_idx"), "api_keys", ["store_id"], unique=False)
    op.create_table(
        "batch_calls",
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("call_number", sa.SmallInteger(), nullable=False),
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("link_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("handle", sa.Text(collation="C"), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("unknown_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_text", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('sending', 'open', 'unknown', 'refused', 'given_up', 'over')",
            name=op.f("batch_calls_state_check"),
        ),
        sa.PrimaryKeyConstraint("batch_id", "call_number", name=op.f("batch_calls_pkey")),
    )
    op.create_index("batch_calls_budget_idx", "batch_calls", ["link_id", "started_at"], unique=False)
    op.create_table(
        "batch_items",
        sa.Column("created_on", sa.Date(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("variant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("link_id", sa.BigInteger(), nullable=False),
        sa.Column("retailer_id", sa.Text(collation="C"), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("payload_hash", sa.LargeBinary(), nullable=True),
        sa.Column("fields", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("cleared", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("previous_confirmed_hash", sa.LargeBinary(), nullable=True),
        sa.Column("previous_confirmed_epoch", sa.Integer(), nullable=True),
        sa.Column("previous_may_hold", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("previous_presence", sa.Text(), nullable=False),
        sa.Column("previous_status", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("error_text", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("method IN ('UPDATE', 'DELETE')", name=op.f("batch_items_method_check")),
        sa.CheckConstraint(
            "outcome IN ('accepted', 'rejected', 'unknown')", name=op.f("batch_items_outcome_check")
        ),
        sa.PrimaryKeyConstraint("created_on", "batch_id", "variant_id", name=op.f("batch_items_pkey")),
        postgresql_partition_by="RANGE (created_on)",
    )
    op.create_index("batch_items_variant_idx", "batch_items", ["link_id", "variant_id"], unique=False)
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("link_id", sa.BigInteger(), nullable=False),
        sa.Column("graph_host", sa.Text(collation="C"), nullable=False),
        sa.Column("catalog_id", sa.Text(collation="C"), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("handle", sa.Text(collation="C"), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("body_bytes", sa.Integer(), nullable=False),
        sa.Column("link_epoch", sa.Integer(), nullable=False),
        sa.Column("mapping_epoch", sa.BigInteger(), nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("accepted", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("rejected", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("unknown", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("calls", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("polls", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_on", sa.Date(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hold_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_text", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state <> 'over' OR accepted + rejected + unknown = sent", name=op.f("batches_accounted_check")
        ),
        sa.CheckConstraint(
            "state IN ('sending', 'open', 'unknown', 'given_up', 'over')", name=op.f("batches_state_check")
        ),
        sa.PrimaryKeyConstraint("batch_id", name=op.f("batches_pkey")),
        sa.UniqueConstraint(
            "graph_host", "catalog_id", "handle", name=op.f("batches_graph_host_catalog_id_handle_key")
        ),
    )
    op.create_index(
        "batches_due_idx", "batches", ["due_at"], unique=False, postgresql_where=sa.text("due_at IS NOT NULL")
    )
    op.create_index("batches_store_idx", "batches", ["store_id", "batch_id"], unique=False)
    op.create_index(
        "batches_unfinished_idx",
        "batches",
        ["link_id", "state"],
        unique=False,
        postgresql_where=sa.text("state <> 'over'"),
    )
    op.create_table(
        "catalog_links",
        sa.Column("link_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("graph_host", sa.Text(collation="C"), nullable=False),
        sa.Column("catalog_id", sa.Text(collation="C"), nullable=False),
        sa.Column("catalog_name", sa.Text(), nullable=True),
        sa.Column("business_id", sa.Text(), nullable=True),
        sa.Column("business_name", sa.Text(), nullable=True),
        sa.Column("system_user_id", sa.Text(), nullable=True),
        sa.Column("credential_id", sa.Text(collation="C"), nullable=False),
        sa.Column("epoch", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("was_empty", sa.Boolean(), nullable=False),
        sa.Column("vertical", sa.Text(), nullable=True),
        sa.Column("product_count", sa.Integer(), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("selected_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("usage_percent", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("usage_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("throttle_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("calls_blocked_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("questions_usage_percent", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("questions_usage_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("questions_throttle_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("questions_blocked_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("link_id", name=op.f("catalog_links_pkey")),
        sa.UniqueConstraint(
            "store_id",
            "graph_host",
            "catalog_id",
            name=op.f("catalog_links_store_id_graph_host_catalog_id_key"),
        ),
    )
    op.create_index(
        "catalog_links_one_active",
        "catalog_links",
        ["store_id"],
        unique=True,
        postgresql_where=sa.text("active"),
    )
    op.create_index(
        "catalog_links_one_store",
        "catalog_links",
        ["graph_host", "catalog_id"],
        unique=True,
        postgresql_where=sa.text("active"),
    )
    op.create_table(
        "counter_deltas",
        sa.Column("delta_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("link_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("delta", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("delta_id", name=op.f("counter_deltas_pkey")),
    )
    op.create_index(
        op.f("counter_deltas_store_id_link_id_idx"), "counter_deltas", ["store_id", "link_id"], unique=False
    )
    op.create_table(
        "counters",
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("link_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("store_id", "link_id", "name", name=op.f("counters_pkey")),
    )
    op.create_table(
        "credentials",
        sa.Column("credential_id", sa.Text(collation="C"), nullable=False),
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("access_token", sa.LargeBinary(), nullable=False),
        sa.Column("app_id", sa.Text(), nullable=True),
        sa.Column("token_kind", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("account_name", sa.Text(), nullable=True),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("dead_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dead_code", sa.Integer(), nullable=True),
        sa.Column("dead_subcode", sa.Integer(), nullable=True),
        sa.Column("dead_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "token_kind IN ('user', 'system_user')", name=op.f("credentials_token_kind_check")
        ),
        sa.PrimaryKeyConstraint("credential_id", name=op.f("credentials_pkey")),
    )
    op.create_index(
        "credentials_one_active", "credentials", ["store_id"], unique=True, postgresql_where=sa.text("active")
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("idempotency_key", sa.Text(collation="C"), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("store_id", "idempotency_key", name=op.f("idempotency_keys_pkey")),
    )
    op.create_index(op.f("idempotency_keys_created_at_idx"), "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "import_chunks",
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("import_id", sa.Text(collation="C"), nullable=False),
        sa.Column("chunk_number", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("import_id", "chunk_number", name=op.f("import_chunks_pkey")),
    )
    op.create_table(
        "import_findings",
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("import_id", sa.Text(collation="C"), nullable=False),
        sa.Column("finding_number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('failure', 'skip', 'warning')", name=op.f("import_findings_kind_check")),
        sa.PrimaryKeyConstraint("import_id", "finding_number", name=op.f("import_findings_pkey")),
    )
    op.create_table(
        "import_seen",
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("import_id", sa.Text(collation="C"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.PrimaryKeyConstraint("import_id", "kind", "id", name=op.f("import_seen_pkey")),
    )
    op.create_table(
        "imports",
        sa.Column("import_id", sa.Text(collation="C"), nullable=False),
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=True),
        sa.Column("requested_format", sa.Text(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("file_name", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("bytes_read", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "counts",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("starts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "status IN ('uploading', 'queued', 'running', 'success', 'partial', 'error')",
            name=op.f("imports_status_check"),
        ),
        sa.PrimaryKeyConstraint("import_id", name=op.f("imports_pkey")),
    )
    op.create_index(
        op.f("imports_store_id_created_at_idx"), "imports", ["store_id", "created_at"], unique=False
    )
    op.create_index(
        "imports_waiting_idx",
        "imports",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_table(
        "intents",
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("variant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("parked_by", sa.BigInteger(), nullable=True),
        sa.Column("job_id", sa.Text(collation="C"), nullable=True),
        sa.PrimaryKeyConstraint("store_id", "variant_id", name=op.f("intents_pkey")),
    )
    op.create_index(
        "intents_parked_idx",
        "intents",
        ["parked_by"],
        unique=False,
        postgresql_where=sa.text("parked_by IS NOT NULL"),
    )
    op.create_index(
        "intents_ready_idx",
        "intents",
        ["store_id", "lane", "first_at"],
        unique=False,
        postgresql_where=sa.text("parked_by IS NULL"),
    )
    op.create_table(
        "inventory",
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("variant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("track_inventory", sa.Boolean(), nullable=False),
        sa.Column("quantity_on_hand", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reserved_quantity", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("allow_backorder", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("source_updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("store_id", "variant_id", name=op.f("inventory_pkey")),
    )
    op.create_table(
        "item_events",
        sa.Column("event_id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("link_id", sa.BigInteger(), nullable=True),
        sa.Column("variant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("at", "event_id", name=op.f("item_events_pkey")),
        postgresql_partition_by="RANGE (at)",
    )
    op.create_index("item_events_variant_idx", "item_events", ["store_id", "variant_id", "at"], unique=False)
    op.create_table(
        "item_payloads",
        sa.Column("link_id", sa.BigInteger(), nullable=False),
        sa.Column("variant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("link_id", "variant_id", name=op.f("item_payloads_pkey")),
    )
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text(collation="C"), nullable=False),
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("link_id", sa.BigInteger(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column(
            "scope",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("lane", sa.SmallInteger(), server_default=sa.text("2"), nullable=False),
        sa.Column("dry_run", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("stage", sa.Text(), server_default=sa.text("'waiting'"), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("cursor", sa.Text(collation="C"), nullable=True),
        sa.Column("mapping_epoch", sa.BigInteger(), nullable=True),
        sa.Column("last_batch_id", sa.BigInteger(), nullable=True),
        sa.Column("total", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("looked_at", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("enqueued", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unchanged", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'cancelling', 'cancelled', 'success', 'partial', 'error')",
            name=op.f("jobs_status_check"),
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("jobs_pkey")),
    )
    op.create_index(
        "jobs_one_running",
        "jobs",
        ["store_id", "type"],
        unique=True,
        postgresql_where=sa.text("status IN ('queued', 'running', 'cancelling')"),
    )
    op.create_index("jobs_store_idx", "jobs", ["store_id", "created_at"], unique=False)
    op.create_table(
        "products",
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("product_id", sa.Text(collation="C"), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("subtitle", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("slug", sa.Text(), nullable=True),
        sa.Column("link", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("visibility", sa.Text(), nullable=False),
        sa.Column("brand", sa.Text(), nullable=True),
        sa.Column("vendor", sa.Text(), nullable=True),
        sa.Column("thumbnail", sa.Text(), nullable=True),
        sa.Column("images", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("categories", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("google_product_category", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("source_updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status IN ('draft', 'active', 'archived')", name=op.f("products_status_check")),
        sa.CheckConstraint("visibility IN ('public', 'private')", name=op.f("products_visibility_check")),
        sa.PrimaryKeyConstraint("store_id", "product_id", name=op.f("products_pkey")),
    )
    op.create_index(
        op.f("products_store_id_source_product_id_idx"),
        "products",
        ["store_id", "source", "product_id"],
        unique=False,
    )
    op.create_table(
        "schedules",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("schedules_pkey")),
    )
    op.create_table(
        "search_documents",
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("variant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("store_id", "variant_id", name=op.f("search_documents_pkey")),
    )
    op.create_index(
        "search_documents_document_trgm_idx",
        "search_documents",
        ["store_id", "document"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"document": "gin_trgm_ops"},
    )
    op.create_table(
        "store_pauses",
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("link_id", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "reason IN ('needs_reconnect', 'meta_unreachable', 'blocked_by_meta')",
            name=op.f("store_pauses_reason_check"),
        ),
        sa.PrimaryKeyConstraint("store_id", "reason", "link_id", name=op.f("store_pauses_pkey")),
    )
    op.create_table(
        "store_queue",
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_drain_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_poll_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("store_id", name=op.f("store_queue_pkey")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(
        "store_queue_due_idx",
        "store_queue",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_table(
        "stores",
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("public_id", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "settings",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("app_secret", sa.LargeBinary(), nullable=True),
        sa.Column("verify_token", sa.LargeBinary(), nullable=True),
        sa.Column("conversions_access_token", sa.LargeBinary(), nullable=True),
        sa.Column("mapper_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("mapping_epoch", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("store_id", name=op.f("stores_pkey")),
        sa.UniqueConstraint("public_id", name=op.f("stores_public_id_key")),
    )
    op.create_table(
        "sync_state",
        sa.Column("link_id", sa.BigInteger(), nullable=False),
        sa.Column("variant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("presence", sa.Text(), server_default=sa.text("'absent'"), nullable=False),
        sa.Column("retailer_id", sa.Text(collation="C"), nullable=True),
        sa.Column("confirmed_hash", sa.LargeBinary(), nullable=True),
        sa.Column("confirmed_epoch", sa.Integer(), nullable=True),
        sa.Column("may_hold", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("rejected_hash", sa.LargeBinary(), nullable=True),
        sa.Column("discarded_hash", sa.LargeBinary(), nullable=True),
        sa.Column("in_flight", sa.BigInteger(), nullable=True),
        sa.Column("disturbed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("excluded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("batch_limit", sa.SmallInteger(), nullable=True),
        sa.Column("image_version", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("confirmed_price", sa.Text(), nullable=True),
        sa.Column("confirmed_availability", sa.Text(), nullable=True),
        sa.Column("confirmed_quantity", sa.Integer(), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("error_text", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_handle", sa.Text(), nullable=True),
        sa.Column("last_pushed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "presence IN ('absent', 'maybe', 'present')", name=op.f("sync_state_presence_check")
        ),
        sa.CheckConstraint(
            "status <> 'synced' OR confirmed_hash IS NOT NULL OR in_flight IS NOT NULL",
            name=op.f("sync_state_synced_check"),
        ),
        sa.CheckConstraint(
            "status IN ('never_synced', 'pending', 'submitted', 'synced', 'failed', 'skipped', 'deleted')",
            name=op.f("sync_state_status_check"),
        ),
        sa.PrimaryKeyConstraint("link_id", "variant_id", name=op.f("sync_state_pkey")),
        postgresql_with={"fillfactor": "85"},
    )
    op.create_index(
        "sync_state_in_flight_idx",
        "sync_state",
        ["in_flight"],
        unique=False,
        postgresql_where=sa.text("in_flight IS NOT NULL"),
    )
    op.create_index(
        "sync_state_pushed_idx",
        "sync_state",
        ["link_id", sa.literal_column("last_pushed_at DESC NULLS LAST"), "variant_id"],
        unique=False,
    )
    op.create_index(
        "sync_state_retailer_id_key",
        "sync_state",
        ["link_id", "retailer_id"],
        unique=True,
        postgresql_where=sa.text("retailer_id IS NOT NULL"),
    )
    op.create_index(
        "sync_state_retry_idx",
        "sync_state",
        ["retry_at"],
        unique=False,
        postgresql_where=sa.text("retry_at IS NOT NULL"),
    )
    op.create_index("sync_state_status_idx", "sync_state", ["link_id", "status", "variant_id"], unique=False)
    op.create_table(
        "variants",
        sa.Column("store_id", sa.Text(collation="C"), nullable=False),
        sa.Column("variant_id", sa.Text(collation="C"), nullable=False),
        sa.Column("product_id", sa.Text(collation="C"), nullable=False),
        sa.Column("sku", sa.Text(), nullable=True),
        sa.Column("link", sa.Text(), nullable=True),
        sa.Column("price", sa.BigInteger(), nullable=True),
        sa.Column("special_price", sa.BigInteger(), nullable=True),
        sa.Column("special_price_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("special_price_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("condition", sa.Text(), nullable=True),
        sa.Column("thumbnail", sa.Text(), nullable=True),
        sa.Column("images", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("ean", sa.Text(), nullable=True),
        sa.Column("upc", sa.Text(), nullable=True),
        sa.Column("barcode", sa.Text(), nullable=True),
        sa.Column(
            "options",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("availability", sa.Text(), nullable=True),
        sa.Column("position", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("store_id", "variant_id", name=op.f("variants_pkey")),
    )
    op.create_index(
        op.f("variants_store_id_product_id_idx"), "variants", ["store_id", "product_id"], unique=False
    )
    op.create_index(
        "variants_deleted_idx",
        "variants",
        ["store_id", "variant_id"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_table(
        "worker_heartbeats",
        sa.Column("worker_id", sa.Text(collation="C"), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("worker_heartbeats_pkey")),
    )


def downgrade() -> None:
    op.drop_table("worker_heartbeats")
    op.drop_index("variants_deleted_idx", table_name="variants")
    op.drop_index(op.f("variants_store_id_product_id_idx"), table_name="variants")
    op.drop_table("variants")
    op.drop_index("sync_state_status_idx", table_name="sync_state")
    op.drop_index(
        "sync_state_retry_idx", table_name="sync_state", postgresql_where=sa.text("retry_at IS NOT NULL")
    )
    op.drop_index("sync_state_pushed_idx", table_name="sync_state")
    op.drop_index(
        "sync_state_in_flight_idx", table_name="sync_state", postgresql_where=sa.text("in_flight IS NOT NULL")
    )
    op.drop_table("sync_state")
    op.drop_table("stores")
    op.drop_index(
        "store_queue_due_idx", table_name="store_queue", postgresql_where=sa.text("due_at IS NOT NULL")
    )
    op.drop_table("store_queue")
    op.drop_table("store_pauses")
    op.drop_index(
        "search_documents_document_trgm_idx",
        table_name="search_documents",
        postgresql_using="gin",
        postgresql_ops={"document": "gin_trgm_ops"},
    )
    op.drop_table("search_documents")
    op.drop_table("schedules")
    op.drop_index(op.f("products_store_id_source_product_id_idx"), table_name="products")
    op.drop_table("products")
    op.drop_index("jobs_store_idx", table_name="jobs")
    op.drop_index(
        "jobs_one_running",
        table_name="jobs",
        postgresql_where=sa.text("status IN ('queued', 'running', 'cancelling')"),
    )
    op.drop_table("jobs")
    op.drop_table("item_payloads")
    op.drop_index("item_events_variant_idx", table_name="item_events")
    op.drop_table("item_events")
    op.drop_table("inventory")
    op.drop_index("intents_ready_idx", table_name="intents", postgresql_where=sa.text("parked_by IS NULL"))
    op.drop_index(
        "intents_parked_idx", table_name="intents", postgresql_where=sa.text("parked_by IS NOT NULL")
    )
    op.drop_table("intents")
    op.drop_index(
        "imports_waiting_idx",
        table_name="imports",
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.drop_index(op.f("imports_store_id_created_at_idx"), table_name="imports")
    op.drop_table("imports")
    op.drop_table("import_seen")
    op.drop_table("import_findings")
    op.drop_table("import_chunks")
    op.drop_index(op.f("idempotency_keys_created_at_idx"), table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_index("credentials_one_active", table_name="credentials", postgresql_where=sa.text("active"))
    op.drop_table("credentials")
    op.drop_table("counters")
    op.drop_index(op.f("counter_deltas_store_id_link_id_idx"), table_name="counter_deltas")
    op.drop_table("counter_deltas")
    op.drop_index("catalog_links_one_store", table_name="catalog_links", postgresql_where=sa.text("active"))
    op.drop_index("catalog_links_one_active", table_name="catalog_links", postgresql_where=sa.text("active"))
    op.drop_table("catalog_links")
    op.drop_index("batches_unfinished_idx", table_name="batches", postgresql_where=sa.text("state <> 'over'"))
    op.drop_index("batches_store_idx", table_name="batches")
    op.drop_index("batches_due_idx", table_name="batches", postgresql_where=sa.text("due_at IS NOT NULL"))
    op.drop_table("batches")
    op.drop_index("batch_items_variant_idx", table_name="batch_items")
    op.drop_table("batch_items")
    op.drop_index("batch_calls_budget_idx", table_name="batch_calls")
    op.drop_table("batch_calls")
    op.drop_index(op.f("api_keys_store_id_idx"), table_name="api_keys")
    op.drop_table("api_keys")
    op.execute("DROP SEQUENCE version_seq")
