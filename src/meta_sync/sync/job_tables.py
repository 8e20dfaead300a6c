"""The tables of jobs: the jobs, the items that each still follows, and what a dry run found."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from meta_sync.core.db import Identifier, metadata

__all__ = ["job_findings", "job_pages", "jobs"]

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", Identifier, primary_key=True),
    Column("store_id", Identifier, nullable=False),
    Column("link_id", BigInteger),
    Column("type", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("scope", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("lane", SmallInteger, nullable=False, server_default=text("2")),
    Column("dry_run", Boolean, nullable=False, server_default=text("false")),
    Column("description", Text),
    Column("requested_by", Text),
    Column("stage", Text, nullable=False, server_default=text("'waiting'")),
    Column("message", Text),
    # The last variant id that was looked at; the walk goes on after it.
    Column("cursor", Identifier),
    Column("mapping_epoch", BigInteger),
    # Of an older version of the service; each page of a job has its own now.
    Column("last_batch_id", BigInteger),
    Column("total", BigInteger, nullable=False, server_default=text("0")),
    Column("looked_at", BigInteger, nullable=False, server_default=text("0")),
    Column("enqueued", BigInteger, nullable=False, server_default=text("0")),
    Column("unchanged", BigInteger, nullable=False, server_default=text("0")),
    Column("error", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Column("leased_until", DateTime(timezone=True)),
    Column("fence", BigInteger, nullable=False, server_default=text("0")),
    # What the job does to an item; see job_models.
    Column("action", Text, nullable=False, server_default=text("'look'")),
    # What a dry run found.
    Column("result", JSONB),
    # Of what was enqueued: what is at Meta now, and what has ended, by its end.
    Column("submitted", BigInteger, nullable=False, server_default=text("0")),
    Column("synced", BigInteger, nullable=False, server_default=text("0")),
    Column("failed", BigInteger, nullable=False, server_default=text("0")),
    Column("skipped", BigInteger, nullable=False, server_default=text("0")),
    # Of those that failed: what Meta gave no verdict on, however often it was asked.
    Column("undecided", BigInteger, nullable=False, server_default=text("0")),
    Column("error_code", Text),
    # Two moments of the last minutes and what had ended by then; see job_models.
    Column("rate_from", DateTime(timezone=True)),
    Column("rate_from_done", BigInteger, nullable=False, server_default=text("0")),
    Column("rate_mark", DateTime(timezone=True)),
    Column("rate_mark_done", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint(
        "status IN ('queued', 'running', 'cancelling', 'cancelled', 'success', 'partial', 'error')",
        name="status",
    ),
    Index("jobs_store_idx", "store_id", "created_at"),
    Index("jobs_finished_idx", "store_id", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    Index(
        "jobs_one_running",
        "store_id",
        "type",
        unique=True,
        postgresql_where=text("status IN ('queued', 'running', 'cancelling')"),
    ),
)

job_pages = Table(
    "job_pages",
    metadata,
    Column("job_id", Identifier, nullable=False),
    Column("first_id", Identifier, nullable=False),
    Column("store_id", Identifier, nullable=False),
    # The items of the page that have not ended; a row goes with its last one.
    Column("variant_ids", ARRAY(Text), nullable=False),
    Column("enqueued_at", DateTime(timezone=True), nullable=False),
    # The store's newest batch when nothing that the page asked for was left to decide.
    Column("last_batch_id", BigInteger),
    # Items of the page at Meta, as the job has counted them.
    Column("submitted", Integer, nullable=False, server_default=text("0")),
    Column("seen_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("job_id", "first_id"),
)

job_findings = Table(
    "job_findings",
    metadata,
    Column("job_id", Identifier, nullable=False),
    Column("variant_id", Identifier, nullable=False),
    Column("store_id", Identifier, nullable=False),
    Column("product_id", Identifier, nullable=False),
    Column("retailer_id", Text),
    Column("decision", Text, nullable=False),
    Column("reason", Text),
    # By field, what Meta confirmed last and what would be sent.
    Column("changes", JSONB, nullable=False),
    PrimaryKeyConstraint("job_id", "variant_id"),
)
