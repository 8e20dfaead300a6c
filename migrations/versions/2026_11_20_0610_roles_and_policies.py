"""Roles, row-level policies, exact counters, partitions and the search function.

Goes out with the first schema. Roles belong to the whole server, so they are made only when they are missing.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

_ALL = "SELECT, INSERT, UPDATE, DELETE"
_APP_MAY = {
    # Its ids and dates are given once.
    "stores": "SELECT, UPDATE (name, settings, app_secret, verify_token, conversions_access_token, mapping_epoch,"
    " updated_at)",
    # Keys are looked up before the store is known, and ended by the platform.
    "api_keys": "SELECT, INSERT",
    "idempotency_keys": _ALL,
    "credentials": _ALL,
    "catalog_links": "SELECT, INSERT, UPDATE",
    # What is deleted stays as a tombstone.
    "products": "SELECT, INSERT, UPDATE",
    "variants": "SELECT, INSERT, UPDATE",
    "inventory": "SELECT, INSERT, UPDATE",
    "search_documents": "SELECT, INSERT, UPDATE",
    "imports": "SELECT, INSERT, UPDATE",
    "import_chunks": "SELECT, INSERT, DELETE",
    "import_findings": "SELECT, INSERT",
    "import_seen": "SELECT, INSERT, DELETE",
    "intents": "SELECT, INSERT, UPDATE",
    "sync_state": "SELECT, INSERT, UPDATE",
    # The pipeline's own.
    "item_payloads": "SELECT",
    "batches": "SELECT",
    "batch_calls": "SELECT",
    "batch_items": "SELECT",
    "item_events": "SELECT, INSERT",
    "store_queue": "SELECT, INSERT, UPDATE",
    "store_pauses": "SELECT, DELETE",
    "counters": "SELECT",
    # Written by the triggers of whoever changes what they count.
    "counter_deltas": "SELECT, INSERT",
    "jobs": "SELECT, INSERT, UPDATE",
}
"""Tables with a store_id: a request sees the rows of its own store and no other, and may do no more than it has to."""

_WORKER_TABLES = ("schedules", "worker_heartbeats")

_ROLES = """
DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('meta_sync roles'));
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'meta_sync_app') THEN
        CREATE ROLE meta_sync_app NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'meta_sync_worker') THEN
        CREATE ROLE meta_sync_worker NOLOGIN;
    END IF;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT meta_sync_app, meta_sync_worker TO %I', current_user);
    END IF;
END
$$
"""

_CURRENT_STORE = """
CREATE FUNCTION current_store_id() RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    value text := current_setting('meta_sync.store_id', true);
BEGIN
    -- A session that set it once and forgot reads an empty text: that is as wrong as none.
    IF value IS NULL OR value = '' THEN
        RAISE EXCEPTION 'meta_sync.store_id is not set in this transaction';
    END IF;
    RETURN value;
END
$$
"""

_SEARCH = """
CREATE FUNCTION search_variants(pattern text, most integer) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    -- ILIKE is not leakproof, so under a policy it may not use the trigram index; as the owner it may.
    SELECT variant_id FROM search_documents
    WHERE store_id = (SELECT current_store_id()) AND document LIKE pattern
    LIMIT most
$$
"""

_PARTITIONS = """
CREATE FUNCTION ensure_partitions(today date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    day date;
    month date;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('meta_sync partitions'));
    FOR offset_days IN -1..3 LOOP
        day := today + offset_days;
        IF to_regclass('batch_items_p' || to_char(day, 'YYYYMMDD')) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF batch_items FOR VALUES FROM (%L) TO (%L)',
                'batch_items_p' || to_char(day, 'YYYYMMDD'), day, day + 1
            );
        END IF;
    END LOOP;
    FOR offset_months IN 0..1 LOOP
        month := (date_trunc('month', today) + make_interval(months => offset_months))::date;
        IF to_regclass('item_events_p' || to_char(month, 'YYYYMM')) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF item_events FOR VALUES FROM (%L) TO (%L)',
                'item_events_p' || to_char(month, 'YYYYMM'),
                to_char(month, 'YYYY-MM-DD') || ' 00:00:00+00',
                to_char(month + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00'
            );
        END IF;
    END LOOP;
END
$$
"""

_DROP_PARTITIONS = """
CREATE FUNCTION drop_partitions(attempts_before date, events_before date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    child record;
    dropped integer := 0;
BEGIN
    FOR child IN SELECT inhrelid::regclass::text AS name FROM pg_inherits
        WHERE inhparent IN ('batch_items'::regclass, 'item_events'::regclass)
    LOOP
        IF child.name ~ '^batch_items_p[0-9]{8}$'
            AND to_date(right(child.name, 8), 'YYYYMMDD') < attempts_before
            OR child.name ~ '^item_events_p[0-9]{6}$'
            AND to_date(right(child.name, 6), 'YYYYMM') + interval '1 month' <= events_before
        THEN
            EXECUTE format('DROP TABLE %I', child.name);
            dropped := dropped + 1;
        END IF;
    END LOOP;
    RETURN dropped;
END
$$
"""


def _counter_function(name: str, key: str, live: str) -> str:
    """A statement-level trigger function that writes how the rows per key changed: exact, and no hot row."""
    link = "link_id" if name == "count_sync_state" else "0"
    return f"""
CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO counter_deltas (store_id, link_id, name, delta)
        SELECT store_id, {link}, {key}, count(*) FROM new_rows WHERE {live} GROUP BY 1, 2, 3;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO counter_deltas (store_id, link_id, name, delta)
        SELECT store_id, {link}, {key}, -count(*) FROM old_rows WHERE {live} GROUP BY 1, 2, 3;
    ELSE
        INSERT INTO counter_deltas (store_id, link_id, name, delta)
        SELECT store_id, link, key, sum(delta) FROM (
            SELECT store_id, {link} AS link, {key} AS key, 1 AS delta FROM new_rows WHERE {live}
            UNION ALL
            SELECT store_id, {link}, {key}, -1 FROM old_rows WHERE {live}
        ) AS both_sides GROUP BY 1, 2, 3 HAVING sum(delta) <> 0;
    END IF;
    RETURN NULL;
END
$$
"""


_COUNTED = {
    "sync_state": _counter_function("count_sync_state", "status", "true"),
    "variants": _counter_function("count_variants", "'variants'", "deleted_at IS NULL"),
    "products": _counter_function("count_products", "'products'", "deleted_at IS NULL"),
    "intents": _counter_function("count_intents", "'intents'", "true"),
}

_INTENTS = (
    "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0"
)
_DELTAS = (
    "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0"
)
_STORAGE = (
    f"ALTER TABLE intents SET ({_INTENTS}, vacuum_truncate = off)",
    f"ALTER TABLE counter_deltas SET ({_DELTAS})",
    "ALTER TABLE sync_state SET (autovacuum_vacuum_scale_factor = 0.05)",
    # A body is written once, read at most a few times and dropped: compressing it would cost more than its pages.
    "ALTER TABLE batches ALTER COLUMN body SET STORAGE EXTERNAL",
)


def upgrade() -> None:
    op.execute(_ROLES)
    op.execute("GRANT USAGE ON SCHEMA public TO meta_sync_app, meta_sync_worker")
    op.execute(_CURRENT_STORE)
    for table, actions in _APP_MAY.items():
        op.execute(f"GRANT {actions} ON {table} TO meta_sync_app")
        op.execute(f"GRANT {_ALL} ON {table} TO meta_sync_worker")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY of_the_store ON {table} TO meta_sync_app USING (store_id = (SELECT current_store_id()))"
        )
        op.execute(f"CREATE POLICY across_stores ON {table} TO meta_sync_worker USING (true)")
    for table in _WORKER_TABLES:
        op.execute(f"GRANT {_ALL} ON {table} TO meta_sync_worker")
    op.execute("GRANT SELECT ON alembic_version TO meta_sync_app, meta_sync_worker")
    op.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO meta_sync_app, meta_sync_worker")
    op.execute(_SEARCH)
    op.execute("REVOKE ALL ON FUNCTION search_variants(text, integer) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION search_variants(text, integer) TO meta_sync_app, meta_sync_worker")
    op.execute("CREATE TABLE batch_items_rest PARTITION OF batch_items DEFAULT")
    op.execute("CREATE TABLE item_events_rest PARTITION OF item_events DEFAULT")
    for function in (_PARTITIONS, _DROP_PARTITIONS):
        op.execute(function)
    for signature in ("ensure_partitions(date)", "drop_partitions(date, date)"):
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO meta_sync_worker")
    op.execute("SELECT ensure_partitions((now() AT TIME ZONE 'UTC')::date)")
    for table, function in _COUNTED.items():
        op.execute(function)
        for event, tables in (
            ("INSERT", "NEW TABLE AS new_rows"),
            ("UPDATE", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
            ("DELETE", "OLD TABLE AS old_rows"),
        ):
            op.execute(
                f"CREATE TRIGGER count_{event.lower()} AFTER {event} ON {table} "
                f"REFERENCING {tables} FOR EACH STATEMENT EXECUTE FUNCTION count_{table}()"
            )
    for statement in _STORAGE:
        op.execute(statement)


def downgrade() -> None:
    for table in _COUNTED:
        for event in ("insert", "update", "delete"):
            op.execute(f"DROP TRIGGER count_{event} ON {table}")
        op.execute(f"DROP FUNCTION count_{table}()")
    op.execute("DROP FUNCTION drop_partitions(date, date)")
    op.execute("DROP FUNCTION ensure_partitions(date)")
    op.execute("DROP FUNCTION search_variants(text, integer)")
    for table in _APP_MAY:
        op.execute(f"DROP POLICY of_the_store ON {table}")
        op.execute(f"DROP POLICY across_stores ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    op.execute("DROP FUNCTION current_store_id()")
    op.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM meta_sync_app, meta_sync_worker")
    op.execute("REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM meta_sync_app, meta_sync_worker")
    op.execute("REVOKE ALL ON SCHEMA public FROM meta_sync_app, meta_sync_worker")
