"""Tables of the source catalog. Deletion is soft: a tombstone keeps its clock, so that late news cannot revive a row."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Sequence,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from meta_sync.core.db import Identifier, metadata

__all__ = [
    "event_receipts",
    "import_chunks",
    "import_feeds",
    "import_findings",
    "import_seen",
    "imports",
    "inventory",
    "offered_variants",
    "products",
    "search_documents",
    "variants",
    "version_seq",
]

version_seq = Sequence("version_seq", metadata=metadata, data_type=BigInteger)
"""Numbers every change of a variant, its stock or its product, and every upsert of an intent."""

products = Table(
    "products",
    metadata,
    Column("store_id", Identifier, nullable=False),
    Column("product_id", Identifier, nullable=False),
    Column("title", Text),
    Column("subtitle", Text),
    Column("description", Text),
    Column("slug", Text),
    Column("link", Text),
    Column("status", Text, nullable=False),
    Column("visibility", Text, nullable=False),
    Column("brand", Text),
    Column("vendor", Text),
    Column("thumbnail", Text),
    Column("images", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("categories", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("google_product_category", Text),
    Column("source", Text, nullable=False),
    # Clock of the sender's last whole body. The two below stand for news of a group alone, and count where they are later.
    Column("source_updated_at", DateTime(timezone=True)),
    Column("version", BigInteger, nullable=False),
    Column("deleted_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("media_updated_at", DateTime(timezone=True)),
    Column("basics_updated_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("store_id", "product_id"),
    Index(None, "store_id", "source", "product_id"),
    Index(
        "products_eligible_idx",
        "store_id",
        "product_id",
        postgresql_where=text("deleted_at IS NULL AND status = 'active' AND visibility = 'public'"),
    ),
    CheckConstraint("status IN ('draft', 'active', 'archived')", name="status"),
    CheckConstraint("visibility IN ('public', 'private')", name="visibility"),
)

variants = Table(
    "variants",
    metadata,
    Column("store_id", Identifier, nullable=False),
    Column("variant_id", Identifier, nullable=False),
    Column("product_id", Identifier, nullable=False),
    Column("sku", Text),
    Column("link", Text),
    Column("price", BigInteger),
    Column("special_price", BigInteger),
    Column("special_price_start", DateTime(timezone=True)),
    Column("special_price_end", DateTime(timezone=True)),
    Column("condition", Text),
    Column("thumbnail", Text),
    Column("images", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("ean", Text),
    Column("upc", Text),
    Column("barcode", Text),
    Column("options", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("availability", Text),
    Column("position", Integer, nullable=False, server_default=text("0")),
    Column("version", BigInteger, nullable=False),
    Column("deleted_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # Clocks of the sender, where it told one for the variant by itself.
    Column("source_updated_at", DateTime(timezone=True)),
    Column("media_updated_at", DateTime(timezone=True)),
    # Whose it is, where it is another's than its product.
    Column("source", Text),
    PrimaryKeyConstraint("store_id", "variant_id"),
    Index(None, "store_id", "product_id"),
    # What a list asks of the variant of an item, and no more, so that its row need not be read. A product's news writes it
    # no more often than the key: none of its columns change.
    Index(
        "variants_live_idx",
        "store_id",
        "variant_id",
        "product_id",
        postgresql_where=text("deleted_at IS NULL"),
    ),
    # Tombstones are few; what counts or lists them must not walk the living.
    Index("variants_deleted_idx", "store_id", "variant_id", postgresql_where=text("deleted_at IS NOT NULL")),
    Index(
        "variants_source_idx",
        "store_id",
        "source",
        "product_id",
        postgresql_where=text("source IS NOT NULL"),
    ),
    Index(
        "variants_sale_end_idx",
        "store_id",
        "special_price_end",
        "variant_id",
        postgresql_where=text("special_price_end IS NOT NULL"),
    ),
)

inventory = Table(
    "inventory",
    metadata,
    Column("store_id", Identifier, nullable=False),
    Column("variant_id", Identifier, nullable=False),
    Column("track_inventory", Boolean, nullable=False),
    Column("quantity_on_hand", BigInteger, nullable=False, server_default=text("0")),
    Column("reserved_quantity", BigInteger, nullable=False, server_default=text("0")),
    Column("allow_backorder", Boolean, nullable=False, server_default=text("false")),
    # As in products: the whole record, and news of the figures or of the policy alone.
    Column("source_updated_at", DateTime(timezone=True)),
    Column("version", BigInteger, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("figures_updated_at", DateTime(timezone=True)),
    Column("policy_updated_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("store_id", "variant_id"),
)

search_documents = Table(
    "search_documents",
    metadata,
    Column("store_id", Identifier, nullable=False),
    Column("variant_id", Identifier, nullable=False),
    # Title, sku, slug and ids in lower case, one per line, so that a search never spans two of them.
    Column("document", Text, nullable=False),
    PrimaryKeyConstraint("store_id", "variant_id"),
    # The store leads, so that a word which is common in other stores costs this one nothing.
    Index(
        "search_documents_document_trgm_idx",
        "store_id",
        "document",
        postgresql_using="gin",
        postgresql_ops={"document": "gin_trgm_ops"},
    ),
)

# Live variants of live, active, public products: what Meta's shoppers may see. A row or none, so that a list is narrowed to
# them by the key alone. Kept by triggers of products and variants, and by nothing else.
offered_variants = Table(
    "offered_variants",
    metadata,
    Column("store_id", Identifier, nullable=False),
    Column("variant_id", Identifier, nullable=False),
    PrimaryKeyConstraint("store_id", "variant_id"),
)

imports = Table(
    "imports",
    metadata,
    Column("import_id", Identifier, primary_key=True),
    Column("store_id", Identifier, nullable=False),
    Column("status", Text, nullable=False),
    Column("format", Text),
    Column("requested_format", Text),
    Column("mode", Text, nullable=False),
    Column("source", Text),
    Column("file_name", Text),
    Column("size_bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("bytes_read", BigInteger, nullable=False, server_default=text("0")),
    Column("counts", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("message", Text),
    Column("requested_by", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Column("leased_until", DateTime(timezone=True)),
    Column("fence", BigInteger, nullable=False, server_default=text("0")),
    Column("starts", Integer, nullable=False, server_default=text("0")),
    Column("dry_run", Boolean, nullable=False, server_default=text("false")),
    Column("allow_mass_delete", Boolean, nullable=False, server_default=text("false")),
    # The feed that it was fetched for.
    Column("feed_id", Identifier),
    Column("error_code", Text),
    CheckConstraint(
        "status IN ('fetching', 'uploading', 'queued', 'running', 'success', 'partial', 'error', 'cancelled')",
        name="status",
    ),
    Index(None, "store_id", "created_at"),
    Index(
        "imports_finished_idx", "store_id", "finished_at", postgresql_where=text("finished_at IS NOT NULL")
    ),
    Index("imports_waiting_idx", "created_at", postgresql_where=text("status IN ('queued', 'running')")),
)

import_chunks = Table(
    "import_chunks",
    metadata,
    Column("store_id", Identifier, nullable=False),
    Column("import_id", Identifier, nullable=False),
    Column("chunk_number", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    PrimaryKeyConstraint("import_id", "chunk_number"),
)

import_findings = Table(
    "import_findings",
    metadata,
    Column("store_id", Identifier, nullable=False),
    Column("import_id", Identifier, nullable=False),
    Column("finding_number", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("row", BigInteger, nullable=False),
    Column("field", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("item_id", Text),
    # A stable word for the reason, and what the file says there, cut.
    Column("rule", Text),
    Column("value", Text),
    PrimaryKeyConstraint("import_id", "finding_number"),
    CheckConstraint("kind IN ('failure', 'skip', 'warning', 'create', 'change', 'delete')", name="kind"),
)

import_seen = Table(
    "import_seen",
    metadata,
    Column("store_id", Identifier, nullable=False),
    Column("import_id", Identifier, nullable=False),
    # 'v' for variants, 'p' for products: what the file has named so far.
    Column("kind", Text, nullable=False),
    Column("id", Identifier, nullable=False),
    PrimaryKeyConstraint("import_id", "kind", "id"),
)

import_feeds = Table(
    "import_feeds",
    metadata,
    Column("feed_id", Identifier, primary_key=True),
    Column("store_id", Identifier, nullable=False),
    Column("source", Text, nullable=False),
    # What may be seen of the address: neither a password nor the values of its query.
    Column("shown_url", Text, nullable=False),
    # The address itself, encrypted: feeds carry keys in their query.
    Column("url", LargeBinary, nullable=False),
    Column("username", Text),
    Column("password", LargeBinary),
    Column("format", Text),
    Column("mode", Text, nullable=False),
    Column("allow_mass_delete", Boolean, nullable=False, server_default=text("false")),
    # Absent: fetched once.
    Column("interval_seconds", Integer),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("next_at", DateTime(timezone=True)),
    Column("etag", Text),
    Column("last_modified", Text),
    Column("content_hash", LargeBinary),
    Column("checked_at", DateTime(timezone=True)),
    Column("last_result", Text),
    Column("last_message", Text),
    Column("last_import_id", Identifier),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("leased_until", DateTime(timezone=True)),
    Column("fence", BigInteger, nullable=False, server_default=text("0")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("mode IN ('upsert', 'replace')", name="mode"),
    CheckConstraint("last_result IN ('imported', 'not_modified', 'error')", name="last_result"),
    Index(
        "import_feeds_scheduled_idx",
        "store_id",
        "source",
        unique=True,
        postgresql_where=text("interval_seconds IS NOT NULL"),
    ),
    Index("import_feeds_next_idx", "next_at", postgresql_where=text("next_at IS NOT NULL")),
)

event_receipts = Table(
    "event_receipts",
    metadata,
    Column("store_id", Identifier, nullable=False),
    Column("source", Identifier, nullable=False),
    Column("event_id", Identifier, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("store_id", "source", "event_id"),
    Index(None, "received_at"),
)
