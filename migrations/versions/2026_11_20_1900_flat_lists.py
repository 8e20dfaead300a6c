"""What lists of items are counted and paged by, where more than one condition leaves many.

Goes out before the code that needs it. What is locked is locked for a moment: no index is built over rows that exist, and
the rows that the new table begins with are written in pages. A run that was broken off is begun again, so each step bears
having been done before.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from meta_sync.core.db import Identifier

revision = "0006"
down_revision = "0005"

_PRODUCTS_AT_ONCE = 500

# The states of the catalog in use, without what no index holds. As the owner, whom no policy makes read the rows of the
# table: an index of the states does not hold the store, and its entries are all that most lists need. The link takes the
# place of the policy, and nobody chooses it.
_STATES = """
CREATE OR REPLACE VIEW active_states AS
SELECT s.variant_id, s.status, s.code, s.last_pushed_at FROM sync_state AS s
WHERE s.link_id = (SELECT l.link_id FROM catalog_links AS l WHERE l.store_id = current_store_id() AND l.active)
"""
# Made anew from the rows as they are now. Whoever changes them holds the lock of the product.
_OFFER = """
CREATE OR REPLACE FUNCTION offer_variants(of_store text, ids text[]) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp SET enable_seqscan = off SET enable_sort = off AS $$
BEGIN
    DELETE FROM offered_variants AS o
    WHERE o.store_id = of_store AND o.variant_id = ANY (ids) AND NOT is_offered(of_store, o.variant_id);
    INSERT INTO offered_variants (store_id, variant_id)
    SELECT of_store, v.variant_id FROM unnest(ids) AS w (variant_id)
    JOIN LATERAL (
        SELECT v.variant_id, v.product_id FROM variants AS v
        WHERE v.store_id = of_store AND v.variant_id >= w.variant_id AND v.variant_id <= w.variant_id
          AND v.deleted_at IS NULL
        ORDER BY v.variant_id LIMIT 1
    ) AS v ON true
    JOIN LATERAL (
        SELECT FROM products AS p
        WHERE p.store_id = of_store AND p.product_id >= v.product_id AND p.product_id <= v.product_id
          AND p.deleted_at IS NULL AND p.status = 'active' AND p.visibility = 'public'
        ORDER BY p.product_id LIMIT 1
    ) AS p ON true
    ORDER BY v.variant_id ON CONFLICT DO NOTHING;
END
$$
"""
# Each look-up is by a range of one value in an order, so that only the right index serves it.
_IS_OFFERED = """
CREATE OR REPLACE FUNCTION is_offered(of_store text, of_variant text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM (
            SELECT v.product_id FROM variants AS v
            WHERE v.store_id = of_store AND v.variant_id >= of_variant AND v.variant_id <= of_variant
              AND v.deleted_at IS NULL
            ORDER BY v.variant_id LIMIT 1
        ) AS v JOIN LATERAL (
            SELECT FROM products AS p
            WHERE p.store_id = of_store AND p.product_id >= v.product_id AND p.product_id <= v.product_id
              AND p.deleted_at IS NULL AND p.status = 'active' AND p.visibility = 'public'
            ORDER BY p.product_id LIMIT 1
        ) AS p ON true
    )
$$
"""
# Written by the tables themselves, so that no way to write the catalog is forgotten. Grouped instead of joined: the rows
# of a statement have no statistics, and a plan made for one row is kept for a thousand.
_VARIANTS_CHANGED = """
CREATE OR REPLACE FUNCTION variants_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    of_store text;
    ids text[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        FOR of_store, ids IN
            SELECT store_id, array_agg(variant_id) FROM new_rows WHERE deleted_at IS NULL GROUP BY store_id
        LOOP
            PERFORM offer_variants(of_store, ids);
        END LOOP;
    ELSIF TG_OP = 'DELETE' THEN
        FOR of_store, ids IN SELECT store_id, array_agg(variant_id) FROM old_rows GROUP BY store_id LOOP
            PERFORM offer_variants(of_store, ids);
        END LOOP;
    ELSE
        FOR of_store, ids IN
            SELECT store_id, array_agg(variant_id) FROM (
                SELECT store_id, variant_id FROM (
                    SELECT store_id, variant_id, product_id, deleted_at IS NULL AS is_live, 1 AS side FROM new_rows
                    UNION ALL
                    SELECT store_id, variant_id, product_id, deleted_at IS NULL, -1 FROM old_rows
                ) AS both_sides GROUP BY store_id, variant_id, product_id, is_live HAVING sum(side) <> 0
            ) AS changed GROUP BY store_id
        LOOP
            PERFORM offer_variants(of_store, ids);
        END LOOP;
    END IF;
    RETURN NULL;
END
$$
"""
_IS_PUBLIC = "deleted_at IS NULL AND status = 'active' AND visibility = 'public'"
_PRODUCTS_CHANGED = f"""
CREATE OR REPLACE FUNCTION products_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    of_store text;
    ids text[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        FOR of_store, ids IN
            SELECT store_id, array_agg(product_id) FROM new_rows WHERE {_IS_PUBLIC} GROUP BY store_id
        LOOP
            PERFORM offer_variants(of_store, variants_of(of_store, ids));
        END LOOP;
    ELSIF TG_OP = 'DELETE' THEN
        FOR of_store, ids IN SELECT store_id, array_agg(product_id) FROM old_rows GROUP BY store_id LOOP
            PERFORM offer_variants(of_store, variants_of(of_store, ids));
        END LOOP;
    ELSE
        FOR of_store, ids IN
            SELECT store_id, array_agg(product_id) FROM (
                SELECT store_id, product_id FROM (
                    SELECT store_id, product_id, {_IS_PUBLIC} AS is_public, 1 AS side FROM new_rows
                    UNION ALL
                    SELECT store_id, product_id, {_IS_PUBLIC}, -1 FROM old_rows
                ) AS both_sides GROUP BY store_id, product_id, is_public HAVING sum(side) > 0
            ) AS changed GROUP BY store_id
        LOOP
            PERFORM offer_variants(of_store, variants_of(of_store, ids));
        END LOOP;
    END IF;
    RETURN NULL;
END
$$
"""
_VARIANTS_OF = """
CREATE OR REPLACE FUNCTION variants_of(of_store text, product_ids text[]) RETURNS text[]
LANGUAGE sql STABLE SET enable_seqscan = off SET enable_sort = off AS $$
    SELECT array_agg(v.variant_id) FROM unnest(product_ids) AS w (product_id) JOIN LATERAL (
        SELECT v.variant_id FROM variants AS v
        WHERE v.store_id = of_store AND v.product_id >= w.product_id AND v.product_id <= w.product_id
        ORDER BY v.product_id LIMIT 1000000000
    ) AS v ON true
$$
"""
# How many documents hold the text, by statistics: whether it is worth while to name them. As the owner, like the search.
# It writes nothing, but EXPLAIN wants to be run by what may.
_ESTIMATE = """
CREATE OR REPLACE FUNCTION estimate_variants(pattern text) RETURNS double precision
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE format(
        'EXPLAIN (FORMAT JSON) SELECT FROM search_documents WHERE store_id = %L AND document LIKE %L',
        current_store_id(), pattern
    ) INTO plan;
    RETURN plan -> 0 -> 'Plan' ->> 'Plan Rows';
END
$$
"""
# One page of the products that were there before the triggers. Locked first, read then: the rows are those of the moment.
_BEGIN = f"""
CREATE OR REPLACE FUNCTION offer_products(INOUT of_store text, INOUT of_product text)
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    page record;
    ids text[];
    stores text[];
BEGIN
    WITH page AS MATERIALIZED (
        SELECT store_id, product_id FROM products
        WHERE (store_id, product_id) > (of_store COLLATE "C", of_product COLLATE "C")
        ORDER BY store_id, product_id LIMIT {_PRODUCTS_AT_ONCE} FOR SHARE
    )
    SELECT array_agg(store_id), array_agg(product_id) INTO stores, ids FROM page;
    FOR page IN
        SELECT w.store_id, array_agg(w.product_id) AS ids FROM unnest(stores, ids) AS w (store_id, product_id)
        GROUP BY w.store_id
    LOOP
        PERFORM offer_variants(page.store_id, variants_of(page.store_id, page.ids));
    END LOOP;
    of_store := stores[cardinality(stores)];
    of_product := ids[cardinality(ids)];
END
$$
"""
_FUNCTIONS = {
    "is_offered(text, text)": _IS_OFFERED,
    "offer_variants(text, text[])": _OFFER,
    "variants_of(text, text[])": _VARIANTS_OF,
    "variants_changed()": _VARIANTS_CHANGED,
    "products_changed()": _PRODUCTS_CHANGED,
    "estimate_variants(text)": _ESTIMATE,
}
_EVENTS = {
    "INSERT": "NEW TABLE AS new_rows",
    "UPDATE": "OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "DELETE": "OLD TABLE AS old_rows",
}
_TRIGGERS = ("variants", "products")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "offered_variants",
        sa.Column("store_id", Identifier, nullable=False),
        sa.Column("variant_id", Identifier, nullable=False),
        sa.PrimaryKeyConstraint("store_id", "variant_id"),
        if_not_exists=True,
    )
    op.execute("GRANT SELECT ON offered_variants TO meta_sync_app, meta_sync_worker")
    op.execute("ALTER TABLE offered_variants ENABLE ROW LEVEL SECURITY")
    for policy, role, condition in (
        ("of_the_store", "meta_sync_app", "store_id = (SELECT current_store_id())"),
        ("across_stores", "meta_sync_worker", "true"),
    ):
        op.execute(f"DROP POLICY IF EXISTS {policy} ON offered_variants")
        op.execute(f"CREATE POLICY {policy} ON offered_variants TO {role} USING ({condition})")
    for signature, function in _FUNCTIONS.items():
        op.execute(function)
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION estimate_variants(text) TO meta_sync_app")
    for table in _TRIGGERS:
        for event, tables in _EVENTS.items():
            op.execute(
                f"CREATE OR REPLACE TRIGGER offer_{event.lower()} AFTER {event} ON {table}"
                f" REFERENCING {tables} FOR EACH STATEMENT EXECUTE FUNCTION {table}_changed()"
            )
    op.execute(_STATES)
    op.execute("GRANT SELECT ON active_states TO meta_sync_app")
    # Last, because it commits what was done before it: from now on the tables keep it true themselves.
    with op.get_context().autocommit_block():
        op.execute(_BEGIN)
        place: tuple[str | None, str | None] = ("", "")
        while place[0] is not None:
            statement = sa.text("SELECT * FROM offer_products(:of_store, :of_product)")
            given = {"of_store": place[0], "of_product": place[1]}
            place = tuple(op.get_bind().execute(statement, given).one())
        op.execute("DROP FUNCTION offer_products(text, text)")


def downgrade() -> None:
    op.execute("DROP VIEW active_states")
    for table in _TRIGGERS:
        for event in _EVENTS:
            op.execute(f"DROP TRIGGER offer_{event.lower()} ON {table}")
    for signature in reversed(_FUNCTIONS):
        op.execute(f"DROP FUNCTION {signature}")
    op.drop_table("offered_variants")
