"""Lists against the plainest statement of what they are, over random stores, filters, pages and stretches."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError

from meta_sync.catalog.models import Lane
from meta_sync.core.clock import utc_now
from meta_sync.core.db import Database
from meta_sync.core.paging import CursorCodec
from meta_sync.sync import item_filters, item_pages
from meta_sync.sync.bulk import expect_lookups
from meta_sync.sync.item_filters import ItemFilter, ItemSort, narrow
from meta_sync.sync.item_queries import ItemQuery, item_keys
from meta_sync.sync.items import ItemsService
from meta_sync.sync.models import Status

VARIANTS = 160
WORDS = ["Cotton shirt", "Wool shirt", "Linen 100% coat", "Scarf_no", "Zz", "Back\\slash"]
CODES = ["missing_price", "rejected_by_meta"]

_STORE = (
    text("INSERT INTO stores (store_id, public_id, name) VALUES (:s, :s, :s)"),
    text(
        "INSERT INTO credentials (credential_id, store_id, access_token, token_kind, active)"
        " VALUES (:s, :s, '\\x00', 'system_user', true)"
    ),
    text(
        "INSERT INTO catalog_links (link_id, store_id, graph_host, catalog_id, credential_id, active, was_empty)"
        " OVERRIDING SYSTEM VALUE VALUES (:link, :s, 'h', :s, :s, true, true)"
    ),
    text(
        "INSERT INTO batches (batch_id, store_id, link_id, graph_host, catalog_id, state, lane, body_bytes, link_epoch,"
        " mapping_epoch, sent, created_on)"
        " OVERRIDING SYSTEM VALUE VALUES (:link, :s, :link, 'h', '1', 'open', 0, 1, 1, 1, 1, now())"
    ),
    text(
        "INSERT INTO holds (hold_id, store_id, link_id, kind, state)"
        " OVERRIDING SYSTEM VALUE VALUES (:link, :s, :link, 'price', 'held')"
    ),
)
_PRODUCT = text(
    "INSERT INTO products (store_id, product_id, title, status, visibility, source, version, deleted_at)"
    " VALUES (:s, :id, :title, :status, :visibility, 'api', 1, CASE WHEN :deleted THEN now() END)"
)
_VARIANT = text(
    "INSERT INTO variants (store_id, variant_id, product_id, sku, price, version, deleted_at)"
    " VALUES (:s, :id, :product, :sku, 1, 1, CASE WHEN :deleted THEN now() END)"
)
_DOCUMENT = text("INSERT INTO search_documents (store_id, variant_id, document) VALUES (:s, :id, :document)")
_STATE = text(
    "INSERT INTO sync_state (link_id, variant_id, store_id, status, confirmed_hash, code, last_pushed_at)"
    " VALUES (:link, :id, :s, :status, '\\x01', :code, CASE WHEN :pushed >= 0 THEN timestamptz '2026-05-03 12:00+00'"
    " + make_interval(hours => :pushed) END)"
)
_INTENT = text(
    "INSERT INTO intents (store_id, variant_id, version, lane, parked_by, held_by)"
    " VALUES (:s, :id, 1, :lane, :parked, :held)"
)
# Every join as it reads; no index, limit or counter is thought of.
_TRUTH = """
    SELECT v.variant_id, s.last_pushed_at FROM variants AS v
    JOIN products AS p ON p.store_id = v.store_id AND p.product_id = v.product_id
    JOIN search_documents AS d ON d.store_id = v.store_id AND d.variant_id = v.variant_id
    LEFT JOIN sync_state AS s ON s.link_id = :link AND s.variant_id = v.variant_id
    LEFT JOIN intents AS i ON i.store_id = v.store_id AND i.variant_id = v.variant_id
    WHERE v.store_id = :s AND (v.deleted_at IS NULL OR s.variant_id IS NOT NULL)
      AND (CAST(:status AS text) IS NULL OR coalesce(s.status, 'never_synced') = :status)
      AND (CAST(:code AS text) IS NULL OR s.code = :code)
      AND (CAST(:lane AS integer) IS NULL OR i.lane = :lane)
      AND (CAST(:product AS text) IS NULL OR v.product_id = :product)
      AND (CAST(:word AS text) IS NULL OR position(lower(:word) IN d.document) > 0)
      AND (NOT :eligible OR v.deleted_at IS NULL AND p.deleted_at IS NULL AND p.status = 'active' AND p.visibility = 'public')
"""


async def make_store(
    database: Database, store_id: str, link_id: int, rng: random.Random, *, has_link: bool = True
) -> None:
    """A store whose rows differ in all that lists look at."""
    unwritten = rng.choice([0.0, 0.3])
    async with database.platform() as connection:
        for statement in _STORE[: len(_STORE) if has_link else 1]:
            values = {"s": store_id, "link": link_id}
            await connection.execute(statement, values)
        titles = [rng.choice(WORDS) for _ in range(VARIANTS // 4)]
        products = [
            {
                "s": store_id,
                "id": f"p{number}",
                "title": title,
                "status": rng.choice(["active", "active", "draft"]),
                "visibility": rng.choice(["public", "public", "private"]),
                "deleted": rng.random() < 0.1,
            }
            for number, title in enumerate(titles)
        ]
        await connection.execute(_PRODUCT, products)
        variants: list[dict[str, Any]] = []
        states: list[dict[str, Any]] = []
        intents: list[dict[str, Any]] = []
        for number in rng.sample(range(VARIANTS), VARIANTS):
            product = rng.randrange(len(titles))
            one = {"s": store_id, "id": f"v{number:03}", "product": f"p{product}", "sku": f"SKU_{number}"}
            lines = [titles[product], one["sku"], one["id"], one["product"]]
            variants.append({**one, "deleted": rng.random() < 0.15, "document": "\n".join(lines).lower()})
            status = rng.choice(list(Status))
            if has_link and rng.random() >= unwritten:
                code = rng.choice(CODES) if status in {Status.FAILED, Status.SKIPPED} else None
                pushed = rng.choice([-1, -1, 0, 1, 2])
                states.append({**one, "link": link_id, "status": status, "code": code, "pushed": pushed})
            if rng.random() < 0.5:
                parked = link_id if has_link and rng.random() < 0.2 else None
                held = link_id if has_link and not parked and rng.random() < 0.2 else None
                intents.append({**one, "lane": int(rng.choice(list(Lane))), "parked": parked, "held": held})
        tables: list[tuple[TextClause, list[dict[str, Any]]]] = [
            (_VARIANT, variants),
            (_DOCUMENT, variants),
            (_STATE, states),
            (_INTENT, intents),
        ]
        for statement, rows in tables:
            if rows:
                await connection.execute(statement, rows)


async def truth(database: Database, store_id: str, link_id: int, wanted: ItemFilter) -> list[str]:
    async with database.platform() as connection:
        rows: list[tuple[str, datetime | None]] = [
            (one, at)
            for one, at in await connection.execute(
                text(_TRUTH),
                {
                    "s": store_id,
                    "link": link_id,
                    "status": wanted.status,
                    "code": wanted.error_code,
                    "lane": None if wanted.lane is None else int(wanted.lane),
                    "product": wanted.product_id,
                    "word": wanted.search,
                    "eligible": wanted.eligible_only,
                },
            )
        ]
    if wanted.sort is ItemSort.VARIANT_ID:
        return sorted(one for one, _ in rows)
    return [one for one, at in sorted(rows, key=lambda row: (-row[1].timestamp() if row[1] else 0.0, row[0]))]


async def in_scope(
    database: Database, store_id: str, link_id: int, wanted: ItemFilter, after_id: str | None
) -> list[str]:
    """What a job over the same filter looks at, by a look-up per row."""
    async with database.store(store_id) as connection:
        await expect_lookups(connection)
        narrowed = await narrow(connection, store_id, wanted)
        query = ItemQuery(store_id, link_id, wanted, narrowed.ids)
        return await item_keys(connection, query, limit=1_000, after_id=after_id)


def random_filter(rng: random.Random) -> ItemFilter:
    def maybe(values: list[Any], share: float) -> Any:
        return rng.choice(values) if rng.random() < share else None

    searches = ["shirt", "SHIRT", "sku_1", "%", "_", "z", "zz", "li", "v01", "\\", "nothing of the kind"]
    return ItemFilter(
        status=maybe(list(Status), 0.4),
        search=maybe(searches, 0.4),
        eligible_only=rng.random() < 0.3,
        product_id=maybe(["p1", "p2", "nothing"], 0.15),
        lane=maybe(list(Lane), 0.3),
        error_code=maybe([*CODES, "nothing"], 0.15),
        sort=rng.choice(list(ItemSort)),
    )


@pytest.mark.parametrize("seed", range(5))
async def test_a_list_is_what_it_says(database: Database, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    stores = {"s": 1, "t": 2}
    for store_id, link_id in stores.items():
        await make_store(database, store_id, link_id, rng, has_link=rng.random() < 0.8)
    service = ItemsService(database, utc_now, CursorCodec(b"key"))
    for _ in range(60):
        wanted, store_id = random_filter(rng), rng.choice(list(stores))
        # Which way is taken, and in how many steps.
        most = rng.choice([5, 20, 10_000])
        few = rng.choice([0, most // 2, most])
        monkeypatch.setattr(item_filters, "FEW", few)
        monkeypatch.setattr(item_filters, "_COMMON", rng.choice([0, 10_000_000]))
        monkeypatch.setattr(item_filters, "_SMALL_LANE", rng.choice([0, 10_000]))
        monkeypatch.setattr(item_pages, "MAX_PAGE_ROWS", most)
        monkeypatch.setattr(item_pages, "_MOST", most + 1)
        monkeypatch.setattr(item_pages, "_DEEP", rng.choice([0, 10, 1_000]))
        for name in ("_FIRST_STRETCH", "_SECOND_STRETCH", "_LONG_STRETCH"):
            monkeypatch.setattr(item_pages, name, rng.choice([1, 3, 10, 1_000]))
        expected = await truth(database, store_id, stores[store_id], wanted)
        after_id = rng.choice([None, "v050"])
        left = [one for one in sorted(expected) if after_id is None or one > after_id]
        assert await in_scope(database, store_id, stores[store_id], wanted, after_id) == left, wanted
        limit = rng.choice([1, 7, 100])
        page = rng.randint(1, 4)
        is_exact = len(expected) <= most or (
            wanted.status is not None and wanted == ItemFilter(status=wanted.status, sort=wanted.sort)
        )
        total = len(expected) if is_exact else most
        asked = (seed, wanted, store_id, most, limit, page)
        found = await service.list(store_id, wanted, page=page, limit=limit)
        assert [item.variant_id for item in found.items] == expected[(page - 1) * limit : page * limit], asked
        if few < most and not found.is_total_exact:
            # Whatever is not few is held to be beyond the reach, which is as much.
            assert len(expected) > few
            total, is_exact = most, False
        assert (found.total, found.is_total_exact) == (total, is_exact), asked
        assert (found.next_cursor is not None) == (len(expected) > page * limit), asked
        if found.next_cursor is not None:
            behind = await service.list(store_id, wanted, limit=limit, cursor=found.next_cursor)
            assert [item.variant_id for item in behind.items] == expected[
                page * limit : (page + 1) * limit
            ], asked
            assert (behind.total, behind.is_total_exact) == (total, is_exact), asked


async def test_a_cursor_carries_the_total_that_was_walked_for(database: Database) -> None:
    await make_store(database, "s", 1, random.Random(1))
    service = ItemsService(database, utc_now, CursorCodec(b"key"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_filters, "FEW", 0)
        wanted = ItemFilter(eligible_only=True, status=Status.SYNCED)
        first = await service.list("s", wanted, limit=2)
        async with database.platform() as connection:
            await connection.execute(text("UPDATE products SET status = 'draft'"))
        behind = await service.list("s", wanted, limit=2, cursor=first.next_cursor)
        assert (behind.items, behind.total) == ([], first.total)
        assert (await service.list("s", wanted, limit=2)).total == 0
        plain = await service.list("s", replace(wanted, eligible_only=False), limit=2)
        async with database.platform() as connection:
            await connection.execute(text("UPDATE sync_state SET status = 'pending' WHERE status = 'synced'"))
        cheap = await service.list(
            "s", replace(wanted, eligible_only=False), limit=2, cursor=plain.next_cursor
        )
        assert cheap.total == 0, "what counters know is counted anew"


async def test_states_and_offers_of_another_store_are_not_seen(database: Database) -> None:
    rng = random.Random(2)
    for store_id, link_id in {"s": 1, "t": 2}.items():
        await make_store(database, store_id, link_id, rng)
    async with database.platform() as connection:
        await connection.execute(text("UPDATE catalog_links SET active = false WHERE store_id = 't'"))
        await connection.execute(text("UPDATE sync_state SET code = store_id"))
    async with database.store("s") as connection:
        assert set((await connection.scalars(text("SELECT code FROM active_states"))).all()) == {"s"}
        seen = await connection.scalars(text("SELECT DISTINCT store_id FROM offered_variants"))
        assert seen.all() == ["s"]
    async with database.store("t") as connection:
        assert (await connection.execute(text("SELECT * FROM active_states"))).all() == []
    async with database.app.connect() as connection:
        with pytest.raises(DBAPIError, match=r"meta_sync\.store_id is not set"):
            await connection.execute(text("SELECT * FROM active_states"))
    for statement in (
        "UPDATE active_states SET code = 'x'",
        "DELETE FROM offered_variants",
        "SELECT offer_variants('t', '{}')",
        "SELECT is_offered('t', 'v000')",
        "SELECT variants_of('t', '{}')",
    ):
        async with database.store("s") as connection:
            with pytest.raises(DBAPIError, match="permission denied"):
                await connection.execute(text(statement))
            await connection.rollback()
