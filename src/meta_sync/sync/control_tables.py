"""Tables of what is looked at before and after Meta is written: holds of the guard, and what reading Meta back found."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from meta_sync.core.db import Identifier, metadata

__all__ = ["guard_counts", "holds", "job_keys", "reconcile_findings"]

holds = Table(
    "holds",
    metadata,
    Column("hold_id", BigInteger, Identity(), primary_key=True),
    Column("store_id", Identifier, nullable=False),
    Column("link_id", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    # counting: what waits is being counted, and nothing of the kind goes out meanwhile.
    Column("state", Text, nullable=False),
    # The last variant id that was counted, and the newest intent that was there when counting began.
    Column("cursor", Identifier),
    Column("watermark", BigInteger, nullable=False, server_default=text("0")),
    # The transaction that opened it. What others had begun before and committed later may have older versions.
    Column("opened_in", BigInteger, nullable=False, server_default=text("0")),
    # As last counted: held now, sent in the hour before, at Meta at its start, and what is allowed of them.
    Column("items", BigInteger, nullable=False, server_default=text("0")),
    Column("recent_items", BigInteger, nullable=False, server_default=text("0")),
    Column("base_items", BigInteger, nullable=False, server_default=text("0")),
    Column("threshold", BigInteger, nullable=False, server_default=text("0")),
    Column("fence", BigInteger, nullable=False, server_default=text("0")),
    Column("leased_until", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("held_at", DateTime(timezone=True)),
    Column("counted_at", DateTime(timezone=True)),
    Column("decided_at", DateTime(timezone=True)),
    Column("decided_by", Text),
    # When the last of its intents was freed or settled.
    Column("finished_at", DateTime(timezone=True)),
    CheckConstraint("kind IN ('delete', 'out_of_stock', 'price')", name="kind"),
    CheckConstraint("state IN ('counting', 'held', 'released', 'discarded', 'dissolved')", name="state"),
    Index(
        "holds_one_open",
        "link_id",
        "kind",
        unique=True,
        postgresql_where=text("state IN ('counting', 'held')"),
    ),
    Index("holds_store_idx", "store_id", "hold_id"),
    Index("holds_unfinished_idx", "hold_id", postgresql_where=text("finished_at IS NULL")),
)

guard_counts = Table(
    "guard_counts",
    metadata,
    Column("link_id", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("store_id", Identifier, nullable=False),
    # Under others of either, the same intents may be decided otherwise.
    Column("link_epoch", Integer, nullable=False),
    Column("mapping_epoch", BigInteger, nullable=False),
    # Intents up to this version are in the count, whether they wait or went out since.
    Column("watermark", BigInteger, nullable=False),
    Column("counted_at", DateTime(timezone=True), nullable=False),
    Column("items", BigInteger, nullable=False),
    # Of them, those that had gone out within the hour; and what was at Meta when it began.
    Column("recent_items", BigInteger, nullable=False),
    Column("base_items", BigInteger, nullable=False),
    # Under other holds, and so in none of these numbers: freed from there, they have to be counted.
    Column("elsewhere_items", BigInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("link_id", "kind"),
)

reconcile_findings = Table(
    "reconcile_findings",
    metadata,
    Column("job_id", Identifier, nullable=False),
    Column("retailer_id", Identifier, nullable=False),
    Column("store_id", Identifier, nullable=False),
    Column("link_id", BigInteger, nullable=False),
    Column("variant_id", Identifier),
    Column("product_id", Identifier),
    Column("verdict", Text, nullable=False),
    # suspected: seen by one read only. What became of it afterwards, once a second read agreed.
    Column("state", Text, nullable=False, server_default=text("'suspected'")),
    # By field, what was confirmed last and what Meta shows.
    Column("differences", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    # What Meta showed of the item, under Meta's names.
    Column("found", JSONB),
    Column("meta_id", Text),
    # The feed that put the item there, as Meta names it.
    Column("feed_id", Text),
    Column("first_read_at", DateTime(timezone=True), nullable=False),
    Column("second_read_at", DateTime(timezone=True)),
    Column("acted_at", DateTime(timezone=True)),
    Column("acted_by", Text),
    PrimaryKeyConstraint("job_id", "retailer_id"),
    CheckConstraint(
        "verdict IN ('missing', 'different', 'unverifiable', 'orphan', 'foreign')", name="verdict"
    ),
    CheckConstraint(
        "state IN ('suspected', 'agreed', 'withdrawn', 'repaired', 'adopted', 'taken', 'pinned', 'deleted')",
        name="state",
    ),
    Index("reconcile_findings_verdict_idx", "job_id", "verdict", "retailer_id"),
)

job_keys = Table(
    "job_keys",
    metadata,
    # What a long walk has met and must recognise again, kept here instead of in memory.
    Column("job_id", Identifier, nullable=False),
    Column("kind", Text, nullable=False),
    Column("key", Identifier, nullable=False),
    Column("store_id", Identifier, nullable=False),
    Column("example", Text),
    Column("times", Integer, nullable=False, server_default=text("1")),
    PrimaryKeyConstraint("job_id", "kind", "key"),
)
