"""Tables of stores. Secrets are ciphertext bound to their row; everything else of a store's settings is one JSON value."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from meta_sync.core.db import Identifier, metadata

__all__ = ["audit_log", "stores"]

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

audit_log = Table(
    "audit_log",
    metadata,
    Column("audit_id", BigInteger, Identity(), primary_key=True),
    Column("store_id", Identifier, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # Who: a key or a person, as the credential names them; or the command line.
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target_type", Text, nullable=False),
    Column("target_id", Text),
    # What was changed, as far as it may be shown: never a secret.
    Column("before", JSONB),
    Column("after", JSONB),
    Column("request_id", Text),
    Index("audit_log_store_idx", "store_id", "at", "audit_id"),
    Index("audit_log_action_idx", "store_id", "action", "at", "audit_id"),
    Index("audit_log_actor_idx", "store_id", "actor", "at", "audit_id"),
    Index("audit_log_target_idx", "store_id", "target_id", "at", "audit_id"),
)
