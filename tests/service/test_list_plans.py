"""What lists, filters, searches and counts cost: none of them reads a large table through, whatever is asked for.

The plans are those of the statements that the services really run, in the role of a request, with statistics and without,
planned for the values at hand and planned once for all values.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

from meta_sync.catalog.models import Lane
from meta_sync.core.clock import utc_now
from meta_sync.core.config import load_settings
from meta_sync.core.crypto import generate_encryption_key
from meta_sync.core.db import Database
from meta_sync.core.paging import CursorCodec
from meta_sync.core.queue import MemoryJobQueue
from meta_sync.core.timed_list import Position
from meta_sync.factory import Factory, ProcessContext
from meta_sync.sync import item_filters, item_pages
from meta_sync.sync.activity import ActivityService
from meta_sync.sync.attempts import AttemptOutcome
from meta_sync.sync.handles import BatchState, HandlesService
from meta_sync.sync.item_filters import ItemFilter, ItemSort
from meta_sync.sync.items import ItemsService
from meta_sync.sync.models import Status
from meta_sync.sync.timeline import TimelineService

VARIANTS = 20_000
BATCHES = 3_000
LARGE = {
    "api_keys", "batch_calls", "batch_items", "batches", "import_findings", "import_feeds", "imports", "intents",
    "inventory", "item_events", "item_payloads", "job_findings", "job_pages", "jobs", "offered_variants", "products",
    "search_documents", "store_events", "stores", "sync_state", "variants",
}  # fmt: skip
CURSORS = CursorCodec(b"key")
KEY = generate_encryption_key()

_FILL = (
    "INSERT INTO stores (store_id, public_id, name) VALUES ('s', 's', 's')",
    """INSERT INTO credentials (credential_id, store_id, access_token, token_kind, active)
    VALUES ('c', 's', '\\x00', 'system_user', true)""",
    """INSERT INTO catalog_links (link_id, store_id, graph_host, catalog_id, credential_id, active, was_empty)
    OVERRIDING SYSTEM VALUE VALUES (1, 's', 'h', '1', 'c', true, true)""",
    f"""INSERT INTO products (store_id, product_id, title, slug, status, visibility, source, version)
    SELECT 's', 'p' || i, 'Shirt ' || i, 'shirt-' || i, CASE WHEN i % 10 = 0 THEN 'active' ELSE 'draft' END, 'public',
           'api', i FROM generate_series(0, {VARIANTS // 5 - 1}) AS i""",
    f"""INSERT INTO variants (store_id, variant_id, product_id, sku, price, version, deleted_at)
    SELECT 's', 'v' || md5(i::text), 'p' || i / 5, 'sku-' || i, 1999, i, CASE WHEN i % 500 = 7 THEN now() END
    FROM generate_series(0, {VARIANTS - 1}) AS i""",
    f"""INSERT INTO search_documents (store_id, variant_id, document)
    SELECT 's', 'v' || md5(i::text), 'v' || md5(i::text) || E'\\nsku-' || i || E'\\nshirt ' || i / 5
    FROM generate_series(0, {VARIANTS - 1}) AS i""",
    f"""INSERT INTO sync_state (link_id, variant_id, store_id, status, confirmed_hash, code, last_pushed_at)
    SELECT 1, 'v' || md5(i::text), 's', CASE WHEN i < 300 THEN 'failed' WHEN i < 800 THEN 'skipped' ELSE 'synced' END,
           '\\x01', CASE WHEN i < 300 THEN 'rejected_by_meta' WHEN i < 800 THEN 'missing_price' END,
           CASE WHEN i NOT BETWEEN 300 AND 799 THEN now() - make_interval(secs => i / 500) END
    FROM generate_series(0, {VARIANTS - 1}) AS i""",
    f"""INSERT INTO intents (store_id, variant_id, version, lane, first_at)
    SELECT 's', 'v' || md5(i::text), i, CASE WHEN i % 100 = 0 THEN 0 ELSE 2 END, now()
    FROM generate_series(0, {VARIANTS - 1}, 2) AS i""",
    f"""INSERT INTO batches (batch_id, store_id, link_id, graph_host, catalog_id, state, lane, body_bytes, link_epoch,
        mapping_epoch, sent, accepted, created_on, created_at, sent_at, finished_at)
    OVERRIDING SYSTEM VALUE
    SELECT i, 's', 1, 'h', '1', CASE WHEN i < {BATCHES - 2} THEN 'over' ELSE 'open' END, 0, 1, 1, 1, 7, 7,
           (now() AT TIME ZONE 'UTC')::date, now() - make_interval(secs => {BATCHES} - i),
           now() - make_interval(secs => {BATCHES} - i), CASE WHEN i < {BATCHES - 2} THEN now() END
    FROM generate_series(1, {BATCHES}) AS i""",
    f"""INSERT INTO batch_calls (batch_id, call_number, store_id, link_id, state, deadline_at)
    SELECT i, 1, 's', 1, 'over', now() FROM generate_series(1, {BATCHES}) AS i""",
    f"""INSERT INTO batch_items (created_on, batch_id, variant_id, store_id, link_id, retailer_id, method, fields, cleared,
        previous_may_hold, previous_presence, previous_status)
    SELECT (now() AT TIME ZONE 'UTC')::date, i, 'v' || md5((i * 7 + k)::text), 's', 1, 'r', 'UPDATE', '{{}}', '{{}}', '{{}}',
           'absent', 'pending' FROM generate_series(1, {BATCHES}) AS i, generate_series(0, 6) AS k""",
    f"""INSERT INTO item_events (at, store_id, variant_id, kind, code)
    SELECT now(), 's', 'v' || md5((i % 5000)::text), 'skip', 'missing_price'
    FROM generate_series(0, {VARIANTS - 1}) AS i""",
    f"""INSERT INTO jobs (job_id, store_id, type, status, created_at, finished_at)
    SELECT 'j' || i, 's', 'sync', 'success', now() - make_interval(secs => i), now() - make_interval(secs => i)
    FROM generate_series(1, {BATCHES}) AS i""",
    f"""INSERT INTO imports (import_id, store_id, status, mode, created_at, finished_at)
    SELECT 'i' || i, 's', 'success', 'upsert', now() - make_interval(secs => i), now() - make_interval(secs => i)
    FROM generate_series(1, {BATCHES}) AS i""",
    f"""INSERT INTO store_events (store_id, at, kind, code, detail)
    SELECT 's', now() - make_interval(secs => i), 'pause_ended', 'meta_unreachable', '{{}}'
    FROM generate_series(1, {BATCHES}) AS i""",
    f"""INSERT INTO inventory (store_id, variant_id, track_inventory, version)
    SELECT 's', 'v' || md5(i::text), true, i FROM generate_series(0, {VARIANTS - 1}) AS i""",
    f"""INSERT INTO job_findings (job_id, variant_id, store_id, product_id, decision, changes)
    SELECT 'j1', 'v' || i, 's', 'p', 'upsert', '{{}}' FROM generate_series(1, {BATCHES}) AS i""",
    f"""INSERT INTO import_findings (store_id, import_id, finding_number, kind, row, field, message)
    SELECT 's', 'i1', i, 'failure', i, 'price', 'No price.' FROM generate_series(1, {BATCHES}) AS i""",
    f"""INSERT INTO import_feeds (feed_id, store_id, source, shown_url, url, mode, interval_seconds)
    SELECT 'f' || i, 's', 'f' || i, 'https://shop.example', '', 'upsert', 3600 FROM generate_series(1, {BATCHES}) AS i""",
    f"""INSERT INTO stores (store_id, public_id, name, created_at)
    SELECT 's' || i, 's' || i, 's', now() - make_interval(secs => i) FROM generate_series(1, {BATCHES}) AS i""",
    f"""INSERT INTO api_keys (key_id, store_id, key_hash, key_prefix, permissions, created_at, revoked_at)
    SELECT 'k' || i, CASE WHEN i % 5 > 0 THEN 's' END, decode(md5(i::text), 'hex'), 'mk_', '{{}}',
           now() - make_interval(secs => i), CASE WHEN i % 2 = 0 THEN now() END
    FROM generate_series(1, {BATCHES}) AS i""",
    """WITH gone AS (DELETE FROM counter_deltas RETURNING *) INSERT INTO counters
    SELECT store_id, link_id, name, sum(delta) FROM gone GROUP BY 1, 2, 3""",
)


@asynccontextmanager
async def owning(database_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection of the tables' owner."""
    url = make_url(database_url)
    connection: asyncpg.Connection[Any] = await asyncpg.connect(
        user=url.username,
        database=url.database,
        host=url.query["host"],
        port=int(str(url.query["port"])),
        ssl=False,
    )
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def filled(database: Database, database_url: str) -> Database:
    async with owning(database_url) as connection:
        for statement in _FILL:
            await connection.execute(statement)
        assert await connection.fetchval("SELECT count(*) FROM offered_variants") > VARIANTS / 20
    return database


async def analyse(database_url: str) -> None:
    async with owning(database_url) as connection:
        await connection.execute("ANALYZE")


Noted = dict[tuple[str, str], tuple[Any, ...]]
"""Values by statement, and by the settings under which its transaction plans."""


@contextmanager
def noted(database: Database) -> Iterator[Noted]:
    """Every statement that requests run meanwhile, one after the other."""
    found: Noted = {}
    settings = ""

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_more: Any) -> None:
        nonlocal settings
        if "set_config" not in statement:
            found[settings, statement] = tuple(values)
        else:
            settings = "" if "meta_sync.store_id" in statement else statement

    engines = database.app.sync_engine, database.worker.sync_engine
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


def literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool | int):
        return str(value).lower()
    if isinstance(value, list | tuple):
        value = "{" + ",".join(f'"{one}"' for one in value) + "}"
    if isinstance(value, datetime):
        value = value.isoformat()
    return "'" + str(value).replace("'", "''") + "'"


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def scanned(plan: dict[str, Any]) -> set[str]:
    """Large tables that a plan reads through."""
    tables = {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
    return {table for table in tables if table.partition("_p2")[0].removesuffix("_rest") in LARGE}


async def plans_of(database: Database, statements: Noted, mode: str) -> list[tuple[str, dict[str, Any]]]:
    """The plans of noted statements as a request has them, each under the settings that were noted with it."""
    found = []
    for settings in {settings for settings, _ in statements}:
        async with database.store("s") as connection:
            await connection.exec_driver_sql(f"SET LOCAL plan_cache_mode = force_{mode}_plan")
            if settings:
                await connection.exec_driver_sql(settings)
            for (of, statement), values in statements.items():
                if of == settings:
                    found.append((statement, await plan_of(connection, statement, values)))
    return found


async def plan_of(connection: AsyncConnection, statement: str, values: tuple[Any, ...]) -> dict[str, Any]:
    await connection.exec_driver_sql(f"PREPARE asked AS {statement}")
    given = f"({', '.join(map(literal, values))})" if values else ""
    raw = (await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) EXECUTE asked{given}")).scalar_one()
    await connection.exec_driver_sql("DEALLOCATE asked")
    plan: dict[str, Any] = (json.loads(raw) if isinstance(raw, str) else raw)[0]["Plan"]
    return plan


FILTERS = [
    ItemFilter(),
    *(ItemFilter(status=status) for status in Status),
    ItemFilter(error_code="missing_price"),
    ItemFilter(error_code="nothing"),
    *(ItemFilter(lane=lane) for lane in Lane),
    ItemFilter(product_id="p77"),
    ItemFilter(product_id="nothing"),
    ItemFilter(search="sku-123"),
    ItemFilter(search="shirt"),
    ItemFilter(search="r"),
    ItemFilter(search="nothing of the kind"),
    ItemFilter(eligible_only=True),
    ItemFilter(eligible_only=True, status=Status.FAILED),
    ItemFilter(eligible_only=True, search="shirt", error_code="missing_price"),
    ItemFilter(search="shirt", status=Status.SYNCED),
    ItemFilter(lane=Lane.BULK, status=Status.SYNCED, search="shirt"),
]


async def ask_for_items(database: Database) -> None:
    service = ItemsService(database, utc_now, CURSORS)
    for wanted in FILTERS:
        for sort in ItemSort:
            one = ItemFilter(
                **{name: getattr(wanted, name) for name in wanted.__slots__ if name != "sort"}, sort=sort
            )
            first = await service.list("s", one, limit=20)
            await service.list("s", one, limit=20, page=50)
            if first.next_cursor:
                await service.list("s", one, limit=20, cursor=first.next_cursor)
    # From the last pushed on to the never pushed.
    page = await service.list("s", ItemFilter(status=Status.SKIPPED), limit=20)
    await service.list("s", ItemFilter(status=Status.SKIPPED), limit=20, cursor=page.next_cursor)
    await service.product_sync("s", ["p1", "p2"])
    await service.detail("s", page.items[0].variant_id)


async def ask_for_history(database: Database) -> None:
    timeline, handles = TimelineService(database, CURSORS), HandlesService(database, CURSORS)
    activity = ActivityService(database, CURSORS)
    item = (await ItemsService(database, utc_now, CURSORS).list("s", ItemFilter(), limit=1)).items[0]
    told = await timeline.timeline("s", item.variant_id, limit=1)
    await timeline.timeline("s", item.variant_id, limit=1, cursor=told.next_cursor)
    for state in (None, *BatchState):
        listed = await handles.list("s", state=state, limit=1)
        await handles.list("s", state=state, limit=1, cursor=listed.next_cursor)
    for outcome in (None, AttemptOutcome.REJECTED):
        detail = await handles.detail("s", "17", outcome=outcome, limit=1)
        await handles.detail("s", "17", outcome=outcome, limit=1, cursor=detail.next_cursor)
    happened = await activity.list("s", limit=20)
    await activity.list("s", page=50, limit=20)
    await timeline.timeline("s", item.variant_id, page=2, limit=1)
    await activity.list("s", limit=20, cursor=happened.next_cursor)


async def ask_for_many_items(database: Database) -> None:
    """The same where next to nothing is few: every filter is carried out by walking."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_filters, "FEW", 100)
        await ask_for_items(database)
        # Deep pages, words that are not even looked for, and sets that are held.
        patch.setattr(item_filters, "_COMMON", 0)
        patch.setattr(item_pages, "_DEEP", 100)
        patch.setattr(item_pages, "_SECOND_STRETCH", 200)
        await ask_for_items(database)
        # A lane that is too much to be held in memory.
        patch.setattr(item_filters, "_SMALL_LANE", 100)
        service = ItemsService(database, utc_now, CURSORS)
        for status in (None, Status.SYNCED):
            await service.list("s", ItemFilter(lane=Lane.BULK, status=status), limit=20)


async def ask_for_work(database: Database) -> None:
    """Products, jobs, imports, feeds, stores, keys and the counts of a store."""
    settings = load_settings({}, env_file=None, database_url="postgresql://x", encryption_keys=KEY)
    context = await ProcessContext.open(settings, queue=MemoryJobQueue())
    context.database = database
    factory = Factory(context)
    for source in (None, "api", "nobody"):
        for status in (None, "active", "archived"):
            for after in (None, "p5"):
                await factory.catalog().list_products(
                    "s", limit=20, source=source, status=status, after=after
                )
    place = ("2026-01-01T00:00:00+00:00", "j5")
    for kind in (None, "sync", "removal"):
        for state in (None, "success", "running"):
            for behind in (None, place):
                await factory.jobs().page("s", type=kind, status=state, limit=20, after=behind)
    assert [one async for one in factory.jobs().report("s", "j1")]
    assert [one async for one in factory.imports().report("s", "i1")]
    after_a_time = Position(datetime(2026, 1, 1, tzinfo=UTC), "i5")
    for where in (None, after_a_time):
        await factory.imports().list("s", limit=20, after=where)
        await factory.feeds().list("s", limit=20, after=where)
        await factory.stores().page(1, 20, after=where)
        for store in ("s", None):
            await factory.access().list_keys(store, 1, 20, after=where)
    await factory.status().status("s")
    await context.http.aclose()


@pytest.mark.parametrize("ask", [ask_for_items, ask_for_many_items, ask_for_history, ask_for_work])
@pytest.mark.parametrize("is_known", [False, True])
async def test_no_list_reads_a_large_table_through(
    filled: Database, database_url: str, ask: Callable[[Database], Any], is_known: bool
) -> None:
    if is_known:
        await analyse(database_url)
    with noted(filled) as statements:
        await ask(filled)
    assert len(statements) > 15
    for mode in ("custom", "generic"):
        for statement, plan in await plans_of(filled, statements, mode):
            assert scanned(plan) == set(), (mode, statement)


async def test_a_scan_would_be_noticed(filled: Database, database_url: str) -> None:
    await analyse(database_url)
    asked = {("", "SELECT count(*) FROM variants WHERE sku LIKE '%7%'"): ()}
    [(_, plan)] = await plans_of(filled, asked, "custom")
    assert scanned(plan) == {"variants"}


async def pages_of(database: Database, statement: str, **values: Any) -> int:
    """How many pages a statement touches, as a request."""
    async with database.store("s") as connection:
        await connection.execute(text("SELECT set_config('enable_seqscan', 'off', true)"))
        explained = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
        raw = await connection.scalar(explained, values)
    plan = (json.loads(raw) if isinstance(raw, str) else raw)[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


async def test_a_search_for_little_touches_little(filled: Database, database_url: str) -> None:
    await analyse(database_url)
    statement = "SELECT f.id FROM find_variants(:pattern, 10001) AS f (id)"
    everything = await pages_of(filled, statement, pattern="%shirt%")
    assert await pages_of(filled, statement, pattern="%sku-12345%") < everything / 5
