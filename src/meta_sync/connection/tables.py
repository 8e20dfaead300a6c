"""Tables of the connection to Meta: tokens, and links (one store's use of one Meta catalog)."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from meta_sync.core.db import Identifier, metadata

__all__ = ["catalog_links", "credentials"]

credentials = Table(
    "credentials",
    metadata,
    Column("credential_id", Identifier, primary_key=True),
    Column("store_id", Identifier, nullable=False),
    Column("access_token", LargeBinary, nullable=False),
    Column("app_id", Text),
    Column("token_kind", Text, nullable=False),
    Column("account_id", Text),
    Column("account_name", Text),
    Column("scopes", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("expires_at", DateTime(timezone=True)),
    Column("active", Boolean, nullable=False),
    # Set when Meta said that this very token is dead; an answer to another token never sets it.
    Column("dead_at", DateTime(timezone=True)),
    Column("dead_code", Integer),
    Column("dead_subcode", Integer),
    Column("dead_reason", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("checked_at", DateTime(timezone=True)),
    CheckConstraint("token_kind IN ('user', 'system_user')", name="token_kind"),
    Index("credentials_one_active", "store_id", unique=True, postgresql_where=text("active")),
)

catalog_links = Table(
    "catalog_links",
    metadata,
    Column("link_id", BigInteger, Identity(), primary_key=True),
    Column("store_id", Identifier, nullable=False),
    Column("graph_host", Identifier, nullable=False),
    Column("catalog_id", Identifier, nullable=False),
    Column("catalog_name", Text),
    Column("business_id", Text),
    Column("business_name", Text),
    Column("system_user_id", Text),
    Column("credential_id", Identifier, nullable=False),
    # Raised when the store comes back to this catalog: what was confirmed before counts as unknown.
    Column("epoch", Integer, nullable=False, server_default=text("1")),
    Column("active", Boolean, nullable=False),
    # False: items that we did not send may be there, so each may hold every field until its first confirmed push.
    Column("was_empty", Boolean, nullable=False),
    Column("vertical", Text),
    Column("product_count", Integer),
    Column("checked_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("selected_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # The governor's state. Calls are counted from batch_calls; these are what Meta's answers said.
    Column("usage_percent", Float, nullable=False, server_default=text("0")),
    Column("usage_at", DateTime(timezone=True)),
    Column("throttle_count", Integer, nullable=False, server_default=text("0")),
    Column("calls_blocked_until", DateTime(timezone=True)),
    Column("questions_usage_percent", Float, nullable=False, server_default=text("0")),
    Column("questions_usage_at", DateTime(timezone=True)),
    Column("questions_throttle_count", Integer, nullable=False, server_default=text("0")),
    Column("questions_blocked_until", DateTime(timezone=True)),
    # A catalog that was not empty is written to only after somebody has said so.
    Column("first_run_approved_at", DateTime(timezone=True)),
    Column("first_run_approved_by", Text),
    # The job that takes everything off Meta that this link has sent; until the store comes back to the catalog nothing goes there.
    Column("removal_job_id", Identifier),
    UniqueConstraint("store_id", "graph_host", "catalog_id"),
    Index("catalog_links_one_active", "store_id", unique=True, postgresql_where=text("active")),
    # A Meta catalog is written by one store of an installation.
    Index(
        "catalog_links_one_store", "graph_host", "catalog_id", unique=True, postgresql_where=text("active")
    ),
)
