"""The table of what happened to a store as a whole. Triggers write it (see the migration); nothing here does."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Identity, Index, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from meta_sync.core.db import Identifier, metadata

__all__ = ["store_events"]

# Pauses and settings as they change, written by triggers: what a store's recent happenings are told from.
store_events = Table(
    "store_events",
    metadata,
    Column("event_id", BigInteger, Identity(), primary_key=True),
    Column("store_id", Identifier, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("kind", Text, nullable=False),
    Column("code", Text),
    Column("message", Text),
    Column("detail", JSONB, nullable=False),
    CheckConstraint("kind IN ('pause_began', 'pause_ended', 'settings_changed')", name="kind"),
    Index("store_events_store_idx", "store_id", "at", "event_id"),
)
