"""What a read costs, in pages it touches: by what it returns, whatever the planner knows of the tables."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Executable, make_url, text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from meta_sync.core.db import Database
from meta_sync.sync import job_statements, jobs, reading
from meta_sync.sync.bulk import _EXPECT_LOOKUPS
from meta_sync.sync.reading import read_items, read_part, read_ready

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy
_TABLES = ("products", "variants", "inventory", "sync_state", "intents")
_VARIANTS = 500
_PAGES_PER_ROW = 30
"""Six look-ups through indexes of up to three levels, each with its row. Comparing each with each touches hundreds."""

_STATEMENTS: dict[str, Executable] = {
    "ready": reading._READY,
    "part": reading._READY_OF_PART,
    "first_page": reading._FIRST_PAGE,
    "next_page": reading._NEXT_PAGE,
    "job": job_statements.INSERT,
    "chosen": reading._CHOSEN,
    "facts": job_statements.FACTS,
    "withdraw": job_statements.WITHDRAW,
}
_GIVEN: dict[str, Any] = {
    "store_id": "s",
    "link_id": 1,
    "most": 2500,
    "part_id": 7,
    "after": "v",
    "job_id": "j",
    "type": "bootstrap",
    "description": None,
    "requested_by": None,
    "scope": "{}",
    "action": "look",
    "lane": 2,
    "dry_run": False,
    "variant_ids": "{v0,v11,v222,v33,v444,v55,v66,v77,v88,v999,v1000,v9999}",
}


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else f"'{value}'"


class Tables:
    """The tables of a database of which the planner learns only what it is told."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._parameters: dict[str, tuple[list[str], dict[str, Any]]] = {}

    async def prepare(self) -> None:
        for table in _TABLES:
            await self._connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        await self._connection.execute(
            "INSERT INTO stores (store_id, public_id, name) VALUES ('s', 's', 's')"
        )
        for name, statement in _STATEMENTS.items():
            compiled: Any = statement.compile(dialect=_DIALECT)  # type: ignore[attr-defined]  # statements are held as Executable
            self._parameters[name] = (compiled.positiontup, compiled.params)
            await self._connection.execute(f"PREPARE {name} AS {compiled}")

    async def fill(
        self, variants: int, *, stores: int = 0, waiting: int | None = None, in_part: int = 0
    ) -> None:
        """Variants, ten of a product, in the store ``s``; or the variants in each of so many others."""
        names = f"SELECT 's' || k AS store_id, k + 1 AS link_id FROM generate_series(1, {stores}) AS k"
        if not stores:
            names = "SELECT 's' AS store_id, 1 AS link_id"
        rows = f"({names}) AS store, generate_series(0, {variants - 1}) AS i"
        waiting = variants if waiting is None else waiting
        for statement in (
            f"""INSERT INTO products (store_id, product_id, status, visibility, source, version)
            SELECT store_id, 'p' || i, 'active', 'public', 'api', i FROM {rows} WHERE i % 10 = 0""",
            f"""INSERT INTO variants (store_id, variant_id, product_id, version, deleted_at)
            SELECT store_id, 'v' || i, 'p' || i / 10 * 10, i, CASE WHEN i % 2 = 0 THEN now() END FROM {rows}""",
            f"""INSERT INTO inventory (store_id, variant_id, track_inventory, version)
            SELECT store_id, 'v' || i, true, i FROM {rows}""",
            f"""INSERT INTO sync_state (link_id, variant_id, store_id, status, split_part)
            SELECT link_id, 'v' || i, store_id, 'pending', CASE WHEN i < {in_part} THEN 7 END FROM {rows}""",
            f"""INSERT INTO intents (store_id, variant_id, version, lane, first_at)
            SELECT store_id, 'v' || i, i, i % 3, now() + make_interval(secs => (i * 7919) % 1000)
            FROM {rows} WHERE i < {waiting}""",
        ):
            await self._connection.execute(statement)

    async def analyse(self) -> None:
        await self._connection.execute(f"ANALYZE {', '.join(_TABLES)}")

    async def pages(self, name: str, *, is_generic: bool = False, **given: Any) -> tuple[int, int]:
        """Rows of the statement, and the pages it touched for them. Nothing that it writes is kept."""
        order, defaults = self._parameters[name]
        values = ", ".join(_literal({**defaults, **_GIVEN, **given}[one]) for one in order)
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            await self._connection.execute(_EXPECT_LOOKUPS.text)
            mode = "force_generic_plan" if is_generic else "force_custom_plan"
            await self._connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
            found = await self._connection.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {name} ({values})"
            )
        finally:
            await transaction.rollback()
        plan = json.loads(found)[0]["Plan"]
        return round(plan["Actual Rows"]), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@pytest.fixture
async def tables(database_url: str) -> AsyncIterator[Tables]:
    url = make_url(database_url)
    connection: asyncpg.Connection[Any] = await asyncpg.connect(
        user=url.username,
        database=url.database,
        host=url.query["host"],
        port=int(str(url.query["port"])),
        ssl=False,
        statement_cache_size=0,
        server_settings={"jit": "off", "max_parallel_workers_per_gather": "0"},
    )
    try:
        tables = Tables(connection)
        await tables.prepare()
        yield tables
    finally:
        await connection.close()


async def _fill_as_known(tables: Tables, known: str, **given: int) -> None:
    if known == "empty":
        await tables.analyse()
    elif known == "small stores":
        await tables.fill(1, stores=2000)
        await tables.analyse()
    await tables.fill(_VARIANTS, **given)
    if known == "everything":
        await tables.analyse()


_KNOWN = ("nothing", "empty", "everything", "small stores")


@pytest.mark.parametrize("known", _KNOWN)
async def test_each_row_is_looked_up(tables: Tables, known: str) -> None:
    await _fill_as_known(tables, known)
    for name in ("ready", "first_page", "next_page"):
        rows, pages = await tables.pages(name)
        assert rows == _VARIANTS
        assert pages < _PAGES_PER_ROW * rows, name
    # Half of the variants are tombstones.
    rows, pages = await tables.pages("job")
    assert rows == 1
    assert pages < _PAGES_PER_ROW * _VARIANTS


@pytest.mark.parametrize("known", _KNOWN)
async def test_each_row_of_a_part_is_looked_up(tables: Tables, known: str) -> None:
    await _fill_as_known(tables, known, in_part=_VARIANTS)
    rows, pages = await tables.pages("part")
    assert rows == _VARIANTS
    assert pages < _PAGES_PER_ROW * rows


async def test_plans_made_while_all_was_empty_stay_right(tables: Tables) -> None:
    """A worker keeps its prepared statements and their plans; nothing tells it that a store has filled."""
    for name in _STATEMENTS:
        await tables.pages(name, is_generic=True)
    await tables.fill(_VARIANTS)
    for name in ("ready", "first_page", "next_page"):
        rows, pages = await tables.pages(name, is_generic=True)
        assert rows == _VARIANTS
        assert pages < _PAGES_PER_ROW * rows, name
    assert (await tables.pages("job", is_generic=True))[1] < _PAGES_PER_ROW * _VARIANTS


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_small_read_does_not_read_a_large_store(tables: Tables, is_known: bool) -> None:
    await tables.fill(10_000, waiting=10, in_part=5)
    if is_known:
        await tables.analyse()
    for name, expected in (("ready", 5), ("part", 5), ("first_page", 10), ("next_page", 10)):
        rows, pages = await tables.pages(name, most=10)
        assert rows == expected
        assert pages < 2 * _PAGES_PER_ROW * rows, name


@pytest.mark.parametrize("known", _KNOWN)
async def test_a_job_looks_its_items_up_by_their_names(tables: Tables, known: str) -> None:
    await _fill_as_known(tables, known)
    for name, expected in (("chosen", 9), ("facts", 12), ("withdraw", 1)):
        rows, pages = await tables.pages(name, most=12)
        assert rows == expected, name
        assert pages < _PAGES_PER_ROW * 12, name


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_read_does_not_sort_a_backlog(tables: Tables, is_known: bool) -> None:
    await tables.fill(10_000, in_part=5)
    if is_known:
        await tables.analyse()
    for name, expected in (("ready", 10), ("part", 5)):
        rows, pages = await tables.pages(name, most=10)
        assert rows == expected
        assert pages < 2 * _PAGES_PER_ROW * rows, name


async def test_every_read_asks_for_such_plans(database: Database) -> None:
    for read in (
        lambda one: read_ready(one, "s", 1, limit=1),
        lambda one: read_part(one, "s", 1, 7, limit=1),
        lambda one: read_items(one, "s", 1, after=None, limit=1),
        lambda one: jobs.insert_job(one, "s", 1, "bootstrap", requested_by=None),
    ):
        async with database.platform() as connection:
            await read(connection)
            assert await connection.scalar(text("SHOW enable_sort")) == "off"
        async with database.platform() as connection:
            assert await connection.scalar(text("SHOW enable_sort")) == "on"
