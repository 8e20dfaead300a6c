"""Tables of access: API keys, stored as hashes, and remembered answers for idempotent POSTs."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from meta_sync.core.db import Identifier, metadata

__all__ = ["api_keys", "idempotency_keys"]

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Identifier, primary_key=True),
    # NULL: a key of the platform, which names its store in X-Store-Id.
    Column("store_id", Identifier),
    Column("name", Text),
    Column("key_hash", LargeBinary, nullable=False, unique=True),
    Column("key_prefix", Text, nullable=False),
    Column("permissions", ARRAY(Text), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("last_used_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Index(None, "store_id"),
    # Pages of the keys in use.
    Index(
        "api_keys_in_use_idx",
        "store_id",
        text("created_at DESC"),
        "key_id",
        postgresql_where=text("revoked_at IS NULL"),
    ),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    # The store, or "" for the platform's own calls.
    Column("store_id", Identifier, nullable=False),
    Column("idempotency_key", Identifier, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    # NULL while the first request is still running.
    Column("status", Integer),
    Column("body", LargeBinary),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("store_id", "idempotency_key"),
    Index(None, "created_at"),
)
