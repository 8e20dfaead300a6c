"""A large store to read lists of: every state, products of one to eight variants, common and rare words, and a history.

Written by set-based statements, as the tables' owner. Ids are hashes, so that neighbours in a list are no neighbours on
disk. A smaller second store stands beside it, whose rows no list of the first may pay for.
"""

from __future__ import annotations

from typing import Any

import asyncpg

__all__ = ["RARE_WORD", "STORE_ID", "fill"]

STORE_ID = "store_bench"
RARE_WORD = "zanzibar"

# Of a hundred variants, in the order of their number modulo 100; the rest is synced. Five have no row at all.
_STATUS = """
    CASE WHEN m < 8 THEN 'failed' WHEN m < 18 THEN 'skipped' WHEN m < 26 THEN 'pending' WHEN m < 29 THEN 'submitted'
         WHEN m < 31 THEN 'deleted' WHEN m < 33 THEN 'never_synced' ELSE 'synced' END
"""
_CODE = """
    CASE WHEN m < 8 THEN (ARRAY['rejected_by_meta', 'rejected_by_meta', 'cannot_clear', 'image_refused'])[1 + i / 100 % 4]
         WHEN m < 18 THEN (ARRAY['missing_price', 'missing_image', 'product_not_active', 'product_not_active'])[1 + i / 100 % 4]
    END
"""
_BATCHES = 12_000

_STORE = (
    "INSERT INTO stores (store_id, public_id, name, settings) VALUES ('{s}', '{s}', '{s}', '{{\"currency\": \"EUR\"}}')",
    """INSERT INTO credentials (credential_id, store_id, access_token, token_kind, active)
    VALUES ('{s}', '{s}', '\\x00', 'system_user', true)""",
    """INSERT INTO catalog_links (link_id, store_id, graph_host, catalog_id, credential_id, active, was_empty)
    OVERRIDING SYSTEM VALUE VALUES ({link}, '{s}', 'graph.facebook.com', '{link}', '{s}', true, true)""",
    """INSERT INTO store_queue (store_id) VALUES ('{s}')""",
    # The product of variant i: eight variants in two out of eight products, and one, two or five in others.
    """CREATE TEMP TABLE numbered ON COMMIT PRESERVE ROWS AS
    SELECT i, 'v' || md5('{s}' || i) AS variant_id, i % 100 AS m,
           'p' || md5('{s}' || CASE WHEN i % 16 < 8 THEN i / 16 * 16 WHEN i % 16 < 13 THEN i / 16 * 16 + 8
                                    WHEN i % 16 < 15 THEN i / 16 * 16 + 13 ELSE i END) AS product_id,
           CASE WHEN i % 16 < 8 THEN i / 16 * 16 WHEN i % 16 < 13 THEN i / 16 * 16 + 8
                WHEN i % 16 < 15 THEN i / 16 * 16 + 13 ELSE i END AS first
    FROM generate_series(0, {count} - 1) AS i""",
    """CREATE TEMP TABLE titled ON COMMIT PRESERVE ROWS AS
    SELECT DISTINCT ON (product_id) product_id, first,
           CASE WHEN first / 16 % 1000 = 7 AND first % 16 = 0 THEN 'Zanzibar clove tea no. ' || first
                WHEN first % 16 = 0 THEN 'Organic cotton shirt no. ' || first
                WHEN first % 16 = 8 THEN 'Linen trousers, 100% linen no. ' || first
                ELSE 'Merino wool scarf_no. ' || first END AS title,
           'item-' || first || CASE WHEN first % 16 = 0 THEN '-shirt' ELSE '-other' END AS slug
    FROM numbered""",
    """INSERT INTO products (store_id, product_id, title, description, slug, status, visibility, source, version, thumbnail)
    SELECT '{s}', product_id, title, repeat('A text about it. ', 20), slug,
           CASE WHEN first / 16 % 10 < 6 THEN 'active' WHEN first / 16 % 10 < 9 THEN 'draft' ELSE 'archived' END,
           CASE WHEN first / 16 % 20 = 0 THEN 'private' ELSE 'public' END,
           CASE WHEN first % 16 = 15 THEN 'google-csv' ELSE 'api' END, first,
           'https://cdn.shop.example/' || product_id || '.jpg'
    FROM titled ORDER BY first""",
    """INSERT INTO variants (store_id, variant_id, product_id, sku, price, version, position, deleted_at)
    SELECT '{s}', variant_id, product_id, 'SKU_' || i, 1999 + i % 100, i, i - first,
           CASE WHEN m IN (29, 30) THEN now() END
    FROM numbered ORDER BY i""",
    """INSERT INTO inventory (store_id, variant_id, track_inventory, quantity_on_hand, version)
    SELECT '{s}', variant_id, true, i % 40, i FROM numbered ORDER BY i""",
    """INSERT INTO search_documents (store_id, variant_id, document)
    SELECT '{s}', n.variant_id, lower(concat_ws(E'\\n', n.variant_id, 'SKU_' || n.i, t.title, t.slug))
    FROM numbered AS n JOIN titled AS t USING (product_id) ORDER BY n.i""",
    # What one batch settled has one time.
    f"""INSERT INTO sync_state (link_id, variant_id, store_id, status, presence, retailer_id, confirmed_hash, may_hold, code,
        error_text, attempts, last_handle, last_pushed_at, confirmed_at)
    SELECT {{link}}, variant_id, '{{s}}', {_STATUS}, CASE WHEN m >= 33 THEN 'present' ELSE 'absent' END,
           CASE WHEN m < 8 OR m >= 26 THEN variant_id END, decode(md5(variant_id), 'hex'),
           '{{{{title,price,availability,image_link}}}}', {_CODE},
           CASE WHEN m < 8 THEN 'Invalid image: the server did not answer.' END, 1, 'handle-' || i / 2500,
           CASE WHEN m < 8 OR m >= 26 THEN now() - make_interval(secs => i / 2500 * 97) END,
           CASE WHEN m >= 33 THEN now() END
    FROM numbered WHERE m < 95 ORDER BY i""",
    """INSERT INTO intents (store_id, variant_id, version, lane, first_at)
    SELECT '{s}', variant_id, i, CASE WHEN i % 400 < 8 THEN 0 WHEN i % 200 < 30 THEN 1 ELSE 2 END, now()
    FROM numbered WHERE m BETWEEN 18 AND 39 OR m BETWEEN 0 AND 3 ORDER BY i""",
    "DROP TABLE titled",
)
_HISTORY = (
    f"""INSERT INTO batches (batch_id, store_id, link_id, graph_host, catalog_id, state, lane, handle, body_bytes, link_epoch,
        mapping_epoch, sent, accepted, rejected, created_on, created_at, sent_at, finished_at)
    OVERRIDING SYSTEM VALUE
    SELECT i, '{{s}}', {{link}}, 'graph.facebook.com', '{{link}}', CASE WHEN i <= {_BATCHES - 12} THEN 'over' ELSE 'open' END,
           i % 3, 'handle-' || i, 2000000, 1, 1, 100, 95, 5, (now() AT TIME ZONE 'UTC')::date,
           now() - make_interval(secs => ({_BATCHES} - i) * 60), now() - make_interval(secs => ({_BATCHES} - i) * 60),
           CASE WHEN i <= {_BATCHES - 12} THEN now() - make_interval(secs => ({_BATCHES} - i) * 60 - 20) END
    FROM generate_series(1, {_BATCHES}) AS i""",
    f"""INSERT INTO batch_calls (batch_id, call_number, store_id, link_id, state, deadline_at)
    SELECT i, 1, '{{s}}', {{link}}, 'over', now() FROM generate_series(1, {_BATCHES}) AS i""",
    # The last eighty batches stand with all their items.
    f"""INSERT INTO batch_items (created_on, batch_id, variant_id, store_id, link_id, retailer_id, method, fields, cleared,
        previous_may_hold, previous_presence, previous_status, outcome)
    SELECT (now() AT TIME ZONE 'UTC')::date, {_BATCHES} - i / 2500, variant_id, '{{s}}', {{link}}, variant_id, 'UPDATE',
           '{{{{title,price}}}}', '{{{{}}}}', '{{{{}}}}', 'absent', 'pending',
           CASE WHEN m < 8 THEN 'rejected' END FROM numbered""",
    # One item that is sent again and again.
    f"""INSERT INTO batch_items (created_on, batch_id, variant_id, store_id, link_id, retailer_id, method, fields, cleared,
        previous_may_hold, previous_presence, previous_status)
    SELECT (now() AT TIME ZONE 'UTC')::date, b, (SELECT variant_id FROM numbered WHERE i = 40), '{{s}}', {{link}}, 'r', 'UPDATE',
           '{{{{title,price}}}}', '{{{{}}}}', '{{{{}}}}', 'absent', 'pending'
    FROM generate_series(1, {_BATCHES} - 200) AS b""",
    """INSERT INTO item_events (at, store_id, link_id, variant_id, kind, code)
    SELECT now() - make_interval(secs => n * 60), '{s}', {link}, variant_id, 'skip', 'missing_price'
    FROM numbered, generate_series(0, 1) AS n""",
    """INSERT INTO item_events (at, store_id, link_id, variant_id, kind, code)
    SELECT now() - make_interval(secs => n * 60), '{s}', {link}, (SELECT variant_id FROM numbered WHERE i = 40), 'skip',
           'missing_price' FROM generate_series(1, 11000) AS n""",
    """INSERT INTO jobs (job_id, store_id, type, status, dry_run, created_at, finished_at)
    SELECT 'job_' || md5(i::text), '{s}', (ARRAY['bootstrap', 'sync', 'resync'])[1 + i % 3],
           CASE WHEN i = 1 THEN 'running' WHEN i % 50 = 0 THEN 'error' ELSE 'success' END, i % 2 = 0,
           now() - make_interval(secs => i * 50), CASE WHEN i > 1 THEN now() - make_interval(secs => i * 50 - 30) END
    FROM generate_series(1, 12000) AS i""",
    """INSERT INTO job_findings (job_id, variant_id, store_id, product_id, retailer_id, decision, changes)
    SELECT 'job_' || md5('2'), variant_id, '{s}', product_id, variant_id, 'upsert', '{{"price": [1, 2]}}' FROM numbered""",
    """INSERT INTO imports (import_id, store_id, status, mode, created_at, finished_at)
    SELECT 'import_' || md5(i::text), '{s}', 'success', 'upsert', now() - make_interval(secs => i * 70),
           now() - make_interval(secs => i * 70 - 30) FROM generate_series(1, 12000) AS i""",
    """INSERT INTO import_feeds (feed_id, store_id, source, shown_url, url, mode, interval_seconds, created_at)
    SELECT 'feed_' || i, '{s}', 'feed ' || i, 'https://shop.example/' || i, '\\x00', 'upsert', 3600,
           now() - make_interval(secs => i) FROM generate_series(1, 100) AS i""",
    """INSERT INTO store_events (store_id, at, kind, code, detail)
    SELECT '{s}', now() - make_interval(secs => i * 45), 'pause_ended', 'meta_unreachable', '{{}}'
    FROM generate_series(1, 12000) AS i""",
    """INSERT INTO stores (store_id, public_id, name, created_at)
    SELECT 'store_' || md5(i::text), 'pub_' || i, 'Store ' || i, now() - make_interval(secs => i)
    FROM generate_series(1, 12000) AS i""",
    """INSERT INTO api_keys (key_id, store_id, key_hash, key_prefix, permissions, created_at, revoked_at)
    SELECT 'key_' || md5(i::text), '{s}', decode(md5(i::text), 'hex'), 'mk_abcdef', '{{catalog:read}}',
           now() - make_interval(secs => i), CASE WHEN i % 2 = 0 THEN now() END
    FROM generate_series(1, 24000) AS i""",
)
_FOLD = """
    WITH gone AS (DELETE FROM counter_deltas RETURNING *) INSERT INTO counters
    SELECT store_id, link_id, name, sum(delta) FROM gone GROUP BY 1, 2, 3
"""


async def fill(connection: asyncpg.Connection[Any], variants: int) -> None:
    """Fill an empty, migrated database, as its owner."""
    for store, link, count in (("store_beside", 2, variants // 10), (STORE_ID, 1, variants)):
        for statement in (*_STORE, *(_HISTORY if store == STORE_ID else ())):
            await connection.execute(statement.format(s=store, link=link, count=count))
        await connection.execute("DROP TABLE numbered")
    await connection.execute(_FOLD)
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")
