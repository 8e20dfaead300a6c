"""Tables of the pipeline: intents, item state, batches with their calls and attempts, queue, pauses, jobs.

The constraints carry promises: one batch in flight per item by construction, and every sent record accounted for.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from meta_sync.core.db import Identifier, metadata

__all__ = [
    "batch_calls",
    "batch_items",
    "batches",
    "counter_deltas",
    "counters",
    "intents",
    "item_events",
    "item_payloads",
    "schedules",
    "split_parts",
    "splits",
    "store_pauses",
    "store_queue",
    "sync_state",
    "worker_heartbeats",
]

intents = Table(
    "intents",
    metadata,
    Column("store_id", Identifier, nullable=False),
    Column("variant_id", Identifier, nullable=False),
    # A new number at every upsert: the claim deletes the intent only with the number it read.
    Column("version", BigInteger, nullable=False),
    Column("lane", SmallInteger, nullable=False),
    Column("first_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # The batch that has the item in flight; unparked when that batch is over.
    Column("parked_by", BigInteger),
    # The job (or the clock) that is the intent's only reason; NULL as soon as a change or an operator wants it too.
    Column("job_id", Identifier),
    # The hold of the guard that keeps it back, and the kinds that a person released it for, as in batch_items.guarded.
    Column("held_by", BigInteger),
    Column("released_kinds", SmallInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("store_id", "variant_id"),
    Index(
        "intents_ready_idx",
        "store_id",
        "lane",
        "first_at",
        postgresql_where=text("parked_by IS NULL AND held_by IS NULL"),
    ),
    Index("intents_held_idx", "held_by", "variant_id", postgresql_where=text("held_by IS NOT NULL")),
    Index("intents_parked_idx", "parked_by", postgresql_where=text("parked_by IS NOT NULL")),
)

sync_state = Table(
    "sync_state",
    metadata,
    Column("link_id", BigInteger, nullable=False),
    Column("variant_id", Identifier, nullable=False),
    Column("store_id", Identifier, nullable=False),
    Column("status", Text, nullable=False),
    Column("presence", Text, nullable=False, server_default=text("'absent'")),
    # Frozen at the first send.
    Column("retailer_id", Identifier),
    Column("confirmed_hash", LargeBinary),
    Column("confirmed_epoch", Integer),
    Column("may_hold", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("rejected_hash", LargeBinary),
    Column("discarded_hash", LargeBinary),
    Column("in_flight", BigInteger),
    Column("disturbed_at", DateTime(timezone=True)),
    Column("retry_at", DateTime(timezone=True)),
    Column("excluded_at", DateTime(timezone=True)),
    # Bounds the size of the next batch after an incomplete report: 100, then 10, then 1.
    Column("batch_limit", SmallInteger),
    # The part of a split that the item is looked for in; see splits.
    Column("split_part", BigInteger),
    # Times in a row that Meta ended the item's batch without a verdict; lengthens the wait until the next.
    Column("retries", SmallInteger, nullable=False, server_default=text("0")),
    # What the last of those batches carried of the item; another payload begins to count anew.
    Column("retry_hash", LargeBinary),
    Column("image_version", Integer, nullable=False, server_default=text("0")),
    Column("confirmed_price", Text),
    Column("confirmed_availability", Text),
    Column("confirmed_quantity", Integer),
    Column("confirmed_at", DateTime(timezone=True)),
    # Sale price and its window, as they were confirmed.
    Column("confirmed_sale", Text),
    # By field, Meta's own value that a person wants kept.
    Column("pinned", JSONB),
    # Shown as out of stock until then, and deleted after it.
    Column("grace_until", DateTime(timezone=True)),
    Column("code", Text),
    Column("error_text", Text),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    # Of the last batch that is over; while an item is in flight, its handle stands with the batch.
    Column("last_handle", Text),
    Column("last_pushed_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("link_id", "variant_id"),
    CheckConstraint(
        "status IN ('never_synced', 'pending', 'submitted', 'synced', 'failed', 'skipped', 'deleted')",
        name="status",
    ),
    CheckConstraint("presence IN ('absent', 'maybe', 'present')", name="presence"),
    CheckConstraint(
        "status <> 'synced' OR confirmed_hash IS NOT NULL OR in_flight IS NOT NULL", name="synced"
    ),
    Index("sync_state_in_flight_idx", "in_flight", postgresql_where=text("in_flight IS NOT NULL")),
    Index("sync_state_status_idx", "link_id", "status", "variant_id"),
    Index(
        "sync_state_status_pushed_idx",
        "link_id",
        "status",
        text("last_pushed_at DESC NULLS LAST"),
        "variant_id",
    ),
    Index("sync_state_code_idx", "link_id", "code", "variant_id", postgresql_where=text("code IS NOT NULL")),
    Index(
        "sync_state_code_pushed_idx",
        "link_id",
        "code",
        text("last_pushed_at DESC NULLS LAST"),
        "variant_id",
        postgresql_where=text("code IS NOT NULL"),
    ),
    Index("sync_state_pushed_idx", "link_id", text("last_pushed_at DESC NULLS LAST"), "variant_id"),
    Index(
        "sync_state_retailer_id_key",
        "link_id",
        "retailer_id",
        unique=True,
        postgresql_where=text("retailer_id IS NOT NULL"),
    ),
    Index("sync_state_grace_idx", "grace_until", postgresql_where=text("grace_until IS NOT NULL")),
    Index("sync_state_retry_idx", "retry_at", postgresql_where=text("retry_at IS NOT NULL")),
    Index("sync_state_retries_idx", "link_id", postgresql_where=text("retries > 0")),
    Index("sync_state_split_idx", "split_part", postgresql_where=text("split_part IS NOT NULL")),
    # Room for the three updates of a push on the same page.
    postgresql_with={"fillfactor": "85"},
)

item_payloads = Table(
    "item_payloads",
    metadata,
    Column("link_id", BigInteger, nullable=False),
    Column("variant_id", Identifier, nullable=False),
    Column("store_id", Identifier, nullable=False),
    # JSON of the last confirmed payload, written at settlement.
    Column("payload", LargeBinary, nullable=False),
    Column("confirmed_at", DateTime(timezone=True), nullable=False),
    # Meta's own id of the item, as it was last shown: here, because the row goes when Meta confirms a delete.
    Column("meta_id", Text),
    # The link's epoch at that moment; under a newer one the item may be another.
    Column("meta_id_epoch", Integer),
    Column("meta_id_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("link_id", "variant_id"),
)

batches = Table(
    "batches",
    metadata,
    Column("batch_id", BigInteger, Identity(), primary_key=True),
    Column("store_id", Identifier, nullable=False),
    Column("link_id", BigInteger, nullable=False),
    Column("graph_host", Identifier, nullable=False),
    Column("catalog_id", Identifier, nullable=False),
    Column("state", Text, nullable=False),
    Column("lane", SmallInteger, nullable=False),
    # The last handle; batch_calls keeps every one.
    Column("handle", Identifier),
    # The exact bytes of the call, for a re-send; deleted at settlement.
    Column("body", LargeBinary),
    Column("body_bytes", Integer, nullable=False),
    # Tells the same content from another, also after the body is deleted.
    Column("body_hash", LargeBinary),
    # Calls of this batch that Meta answered with a server error.
    Column("server_errors", SmallInteger, nullable=False, server_default=text("0")),
    # The part of a split that this batch carries.
    Column("split_part", BigInteger),
    Column("link_epoch", Integer, nullable=False),
    Column("mapping_epoch", BigInteger, nullable=False),
    Column("sent", Integer, nullable=False),
    Column("accepted", Integer, nullable=False, server_default=text("0")),
    Column("rejected", Integer, nullable=False, server_default=text("0")),
    Column("unknown", Integer, nullable=False, server_default=text("0")),
    Column("calls", Integer, nullable=False, server_default=text("0")),
    Column("polls", Integer, nullable=False, server_default=text("0")),
    Column("created_on", Date, nullable=False),
    # When the worker's clockless eye should fall on it next: the call's deadline, the next send, the next poll.
    Column("due_at", DateTime(timezone=True)),
    Column("hold_until", DateTime(timezone=True)),
    Column("error_code", Text),
    Column("error_text", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("sent_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    # Of its items, those the guard counts, by kind; not what a person released.
    Column("guarded_deletes", Integer, nullable=False, server_default=text("0")),
    Column("guarded_out_of_stock", Integer, nullable=False, server_default=text("0")),
    Column("guarded_prices", Integer, nullable=False, server_default=text("0")),
    UniqueConstraint("graph_host", "catalog_id", "handle"),
    CheckConstraint("state IN ('sending', 'open', 'unknown', 'given_up', 'over')", name="state"),
    CheckConstraint("state <> 'over' OR accepted + rejected + unknown = sent", name="accounted"),
    Index(
        "batches_guarded_idx",
        "link_id",
        "created_at",
        postgresql_where=text("guarded_deletes + guarded_out_of_stock + guarded_prices > 0"),
    ),
    Index("batches_due_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("batches_store_idx", "store_id", "batch_id"),
    Index(
        "batches_sent_idx", "store_id", "sent_at", "batch_id", postgresql_where=text("sent_at IS NOT NULL")
    ),
    Index(
        "batches_finished_idx",
        "store_id",
        "finished_at",
        "batch_id",
        postgresql_where=text("finished_at IS NOT NULL"),
    ),
    Index("batches_unfinished_idx", "link_id", "state", postgresql_where=text("state <> 'over'")),
    Index("batches_body_idx", "link_id", "body_hash", postgresql_where=text("server_errors > 0")),
)

splits = Table(
    "splits",
    metadata,
    Column("split_id", BigInteger, Identity(), primary_key=True),
    Column("store_id", Identifier, nullable=False),
    Column("link_id", BigInteger, nullable=False),
    Column("link_epoch", Integer, nullable=False),
    # What Meta said of the whole: its size, a parameter, nothing at all, or nothing but server errors.
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("calls", SmallInteger, nullable=False),
    Column("error_code", Text),
    Column("error_text", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # When Meta first took a call for the link that was made since: the proof that not every call is refused.
    Column("taken_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    CheckConstraint("kind IN ('too_large', 'bad_parameter', 'nothing_taken', 'suspect')", name="kind"),
    CheckConstraint("state IN ('waiting', 'open', 'over')", name="state"),
    Index("splits_open_idx", "link_id", postgresql_where=text("state <> 'over'")),
)

split_parts = Table(
    "split_parts",
    metadata,
    Column("part_id", BigInteger, Identity(), primary_key=True),
    Column("split_id", BigInteger, nullable=False),
    Column("store_id", Identifier, nullable=False),
    Column("link_id", BigInteger, nullable=False),
    # The part that was halved into this one; NULL for the halves of the whole.
    Column("parent_id", BigInteger),
    Column("level", SmallInteger, nullable=False),
    Column("items", Integer, nullable=False),
    Column("state", Text, nullable=False),
    # doubted: one item, refused while nothing else was taken.
    CheckConstraint("state IN ('waiting', 'sent', 'passed', 'refused', 'doubted', 'cleared')", name="state"),
    Index("split_parts_split_idx", "split_id"),
)

batch_calls = Table(
    "batch_calls",
    metadata,
    Column("batch_id", BigInteger, nullable=False),
    Column("call_number", SmallInteger, nullable=False),
    Column("store_id", Identifier, nullable=False),
    Column("link_id", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("handle", Identifier),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("deadline_at", DateTime(timezone=True), nullable=False),
    Column("unknown_at", DateTime(timezone=True)),
    # The call ended with a server error of Meta's: HTTP 5xx, or code 1 or 2.
    Column("server_error", Boolean, nullable=False, server_default=text("false")),
    Column("error_code", Text),
    Column("error_text", Text),
    PrimaryKeyConstraint("batch_id", "call_number"),
    CheckConstraint("state IN ('sending', 'open', 'unknown', 'refused', 'given_up', 'over')", name="state"),
    Index("batch_calls_budget_idx", "link_id", "started_at"),
)

batch_items = Table(
    "batch_items",
    metadata,
    Column("created_on", Date, nullable=False),
    Column("batch_id", BigInteger, nullable=False),
    Column("variant_id", Identifier, nullable=False),
    Column("store_id", Identifier, nullable=False),
    Column("link_id", BigInteger, nullable=False),
    Column("retailer_id", Identifier, nullable=False),
    Column("method", Text, nullable=False),
    Column("payload_hash", LargeBinary),
    # Fields sent with a value; cleared: fields sent empty.
    Column("fields", ARRAY(Text), nullable=False),
    Column("cleared", ARRAY(Text), nullable=False),
    # What to give back when the record is proved unsaved.
    Column("previous_confirmed_hash", LargeBinary),
    Column("previous_confirmed_epoch", Integer),
    Column("previous_may_hold", ARRAY(Text), nullable=False),
    Column("previous_presence", Text, nullable=False),
    Column("previous_status", Text, nullable=False),
    Column("outcome", Text),
    Column("error_text", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # Kinds that the guard counts the attempt under, as the sum of 1 (delete), 2 (out of stock), 4 (price).
    Column("guarded", SmallInteger, nullable=False, server_default=text("0")),
    # Kinds that a person released it for; they hold for whatever goes again for it.
    Column("released_kinds", SmallInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("created_on", "batch_id", "variant_id"),
    CheckConstraint("method IN ('UPDATE', 'DELETE')", name="method"),
    CheckConstraint("outcome IN ('accepted', 'rejected', 'unknown')", name="outcome"),
    Index("batch_items_variant_idx", "link_id", "variant_id"),
    postgresql_partition_by="RANGE (created_on)",
)

item_events = Table(
    "item_events",
    metadata,
    Column("event_id", BigInteger, Identity(), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("store_id", Identifier, nullable=False),
    Column("link_id", BigInteger),
    Column("variant_id", Identifier, nullable=False),
    Column("kind", Text, nullable=False),
    Column("code", Text),
    Column("message", Text),
    Column("actor", Text),
    PrimaryKeyConstraint("at", "event_id"),
    Index("item_events_variant_idx", "store_id", "variant_id", "at"),
    postgresql_partition_by="RANGE (at)",
)

store_queue = Table(
    "store_queue",
    metadata,
    Column("store_id", Identifier, primary_key=True),
    # NULL: nothing to do. Due stores are found here, never by scanning intents.
    Column("due_at", DateTime(timezone=True)),
    Column("leased_until", DateTime(timezone=True)),
    Column("lease_owner", Text),
    Column("fence", BigInteger, nullable=False, server_default=text("0")),
    Column("last_drain_at", DateTime(timezone=True)),
    Column("last_poll_at", DateTime(timezone=True)),
    # Sale windows that ended before this instant have been looked at, and of those at it the ids up to this one.
    Column("sales_swept_to", DateTime(timezone=True)),
    Column("sales_swept_id", Identifier, nullable=False, server_default=text("''")),
    Index("store_queue_due_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    postgresql_with={"fillfactor": "50"},
)

store_pauses = Table(
    "store_pauses",
    metadata,
    Column("store_id", Identifier, nullable=False),
    Column("reason", Text, nullable=False),
    # The link whose questions or calls it concerns; 0: the store itself.
    Column("link_id", BigInteger, nullable=False, server_default=text("0")),
    Column("since", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # NULL: until somebody acts.
    Column("until", DateTime(timezone=True)),
    Column("failures", Integer, nullable=False, server_default=text("1")),
    Column("code", Text),
    Column("message", Text),
    PrimaryKeyConstraint("store_id", "reason", "link_id"),
    CheckConstraint(
        "reason IN ('needs_reconnect', 'meta_unreachable', 'blocked_by_meta', 'rejected_by_meta', 'held')",
        name="reason",
    ),
)

counters = Table(
    "counters",
    metadata,
    Column("store_id", Identifier, nullable=False),
    # The link for item states; 0 for counts of the store.
    Column("link_id", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", BigInteger, nullable=False),
    PrimaryKeyConstraint("store_id", "link_id", "name"),
)

counter_deltas = Table(
    "counter_deltas",
    metadata,
    Column("delta_id", BigInteger, Identity(), primary_key=True),
    Column("store_id", Identifier, nullable=False),
    Column("link_id", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("delta", BigInteger, nullable=False),
    Index(None, "store_id", "link_id"),
)

schedules = Table(
    "schedules",
    metadata,
    # A tick runs only for the worker that moves next_at, so that a double tick is a no-op and a missed one is caught up.
    Column("name", Text, primary_key=True),
    Column("next_at", DateTime(timezone=True), nullable=False),
)

worker_heartbeats = Table(
    "worker_heartbeats",
    metadata,
    Column("worker_id", Identifier, primary_key=True),
    Column("version", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
