"""Tables of stores. Secrets are ciphertext bound to their row; everything else of a store's settings is one JSON value."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, LargeBinary, Table, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB

from meta_sync.core.db import Identifier, metadata

__all__ = ["stores"]

stores = Table(
    "stores",
    metadata,
    Column("store_id", Identifier, primary_key=True),
    Column("public_id", Identifier, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("settings", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("app_secret", LargeBinary),
    Column("verify_token", LargeBinary),
    Column("conversions_access_token", LargeBinary),
    # Raised in the transaction of every change that payloads depend on; claims check it under their lock.
    Column("mapping_epoch", BigInteger, nullable=False, server_default=text("1")),
    # The newest mapper that made this store's payloads; a worker with an older one leaves the store alone.
    Column("mapper_version", Integer, nullable=False, server_default=text("1")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # Pages of all stores, oldest first.
    Index("stores_created_idx", "created_at", "store_id"),
)
