"""Runs a simulation on the memory and on PostgreSQL at once, and compares them statement by statement.

PostgreSQL runs on the simulation's clock: ``now()`` and ``clock_timestamp()`` are found in a schema of their own before
the built-in ones. Each statement is executed on both sides; results, numbers of rows and errors must be equal, and at the
end so must be all rows of all tables.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from typing_extensions import override

from meta_sync.core.db import DatabaseRole, create_engine
from meta_sync.schema import metadata
from tests.simulation.memory import MemoryConnection, MemoryDatabase, RowId, Rows, Table
from tests.simulation.tables import COLUMNS

__all__ = ["MirrorDatabase", "MirrorError", "mirroring"]

_CLOCK = """
CREATE SCHEMA simulated;
GRANT USAGE ON SCHEMA simulated TO meta_sync_worker, meta_sync_app;
CREATE FUNCTION simulated.now() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT current_setting('simulated.now')::timestamptz $$;
CREATE FUNCTION simulated.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT current_setting('simulated.now')::timestamptz $$;
"""
_NOT_COMPARED = {
    # Made by nobody in the pipeline, or numbers that only have to be distinct.
    ("item_events", "event_id"),
    ("item_events", "at"),
    ("splits", "split_id"),
    # The number of a transaction.
    ("holds", "opened_in"),
    ("stores", "created_at"),
}
# The built-in functions are searched first unless their schema is named.
_SET_CLOCK = text(
    "SELECT set_config('simulated.now', :now, true), "
    "set_config('search_path', 'simulated, pg_catalog, public', true)"
)


class MirrorError(AssertionError):
    """The memory and PostgreSQL differ."""


class _Thread:
    """A loop in a thread of its own: the simulation's loop has no files and must not wait."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class MirrorDatabase(MemoryDatabase):
    """A memory database with a PostgreSQL behind it that must say the same."""

    def __init__(
        self, tables: Mapping[str, Table], now: Callable[[], datetime], engine: AsyncEngine, thread: _Thread
    ) -> None:
        super().__init__(tables, now)
        self.engine = engine
        self.thread = thread
        self.row_ids: dict[tuple[RowId, str], Any] = {}
        self.statements = 0

    @override
    def open(self) -> MemoryConnection:
        return _MirrorConnection(self)

    @override
    def load(self, table: str) -> None:
        """Copy a table's rows to PostgreSQL, as the setting-up of a simulation."""
        rows = [{name: row[name] for name in COLUMNS[table]} for row in self.tables[table]]

        async def work() -> None:
            async with self.engine.begin() as connection:
                if rows:
                    await connection.execute(metadata.tables[table].insert(), rows)

        self.thread.run(work())

    def compare_tables(self) -> None:
        """Every row of every table must be on both sides."""
        for name in COLUMNS:
            self._compare_table(name)

    def _compare_table(self, name: str) -> None:
        columns = [one for one in COLUMNS[name] if (name, one) not in _NOT_COMPARED]
        mine = sorted(repr([_plain(row[one]) for one in columns]) for row in self.tables[name].rows.values())

        async def work() -> list[str]:
            async with self.engine.begin() as connection:
                rows = await connection.execute(text(f"SELECT {', '.join(columns)} FROM {name}"))
                return sorted(repr([_plain(value) for value in row]) for row in rows)

        theirs = self.thread.run(work())
        if mine != theirs:
            only_mine = [one for one in mine if one not in theirs]
            only_theirs = [one for one in theirs if one not in mine]
            raise MirrorError(f"{name} {columns}\nmemory:     {only_mine}\npostgresql: {only_theirs}")


class _MirrorConnection(MemoryConnection):
    def __init__(self, database: MirrorDatabase) -> None:
        super().__init__(database)
        self._mirror = database
        self._other: AsyncConnection = database.thread.run(self._begin())

    async def _begin(self) -> AsyncConnection:
        connection = await self._mirror.engine.connect()
        _ = await connection.begin()
        await connection.execute(_SET_CLOCK, {"now": self.transaction.now.isoformat()})
        return connection

    @override
    def commit(self) -> bool:
        self._mirror.thread.run(self._end("commit"))
        return super().commit()

    @override
    def rollback(self) -> None:
        self._mirror.thread.run(self._end("rollback"))
        super().rollback()

    async def _end(self, how: str) -> None:
        await getattr(self._other, how)()
        await self._other.close()

    @override
    def run(self, statement: Any, parameters: Mapping[str, Any]) -> Rows:
        self._mirror.statements += 1
        translated = {name: self._translated(name, value) for name, value in parameters.items()}
        mine: Rows | None = None
        failure: IntegrityError | None = None
        try:
            mine = super().run(statement, parameters)
        except IntegrityError as error:
            failure = error
        try:
            theirs, rowcount = self._mirror.thread.run(self._ask(statement, translated))
        except DBAPIError as error:
            if failure is not None and isinstance(error, IntegrityError):
                raise failure from error
            raise MirrorError(f"{_short(statement)}\n{parameters}\npostgresql: {error.orig}") from error
        if failure is not None or mine is None:
            raise MirrorError(f"{_short(statement)}\n{parameters}\nmemory: {failure}")
        self._compare(statement, parameters, mine, theirs, rowcount)
        return mine

    async def _ask(
        self, statement: Any, parameters: Mapping[str, Any]
    ) -> tuple[list[Sequence[Any]] | None, int]:
        result = await self._other.execute(statement, parameters)
        return ([tuple(row) for row in result.all()] if result.returns_rows else None), result.rowcount

    def _translated(self, name: str, value: Any) -> Any:
        if isinstance(value, RowId):
            kind = "xmin" if "version" in name else "ctid"
            return self._mirror.row_ids[value, kind]
        if isinstance(value, list):
            return [self._translated(name, one) for one in value]
        return value

    def _compare(
        self,
        statement: Any,
        parameters: Mapping[str, Any],
        mine: Rows,
        theirs: list[Sequence[Any]] | None,
        rowcount: int,
    ) -> None:
        if theirs is None:
            if mine.rowcount != rowcount:
                raise MirrorError(
                    f"{_short(statement)}\n{parameters}\nmemory: {mine.rowcount} rows, postgresql: {rowcount}"
                )
            return
        columns = {index for row in mine.rows for index, value in enumerate(row) if isinstance(value, RowId)}

        def key(row: Sequence[Any]) -> str:
            plain = [_plain(value) for value in row]
            for index in columns:
                plain[index] = None if row[index] is None else "row id"
            return repr(plain)

        # PostgreSQL gives rows that tie in any order; so row ids are told apart by what else stands in the row.
        left, right = sorted(mine.rows, key=key), sorted(theirs, key=key)
        if [key(row) for row in left] != [key(row) for row in right]:
            raise MirrorError(
                f"{_short(statement)}\n{parameters}\nmemory:     {list(map(key, left))}\n"
                f"postgresql: {list(map(key, right))}"
            )
        for my_row, their_row in zip(left, right, strict=True):
            for my_value, their_value in zip(my_row, their_row, strict=True):
                if isinstance(my_value, RowId):
                    kind = "ctid" if isinstance(their_value, tuple) else "xmin"
                    self._mirror.row_ids[my_value, kind] = their_value


def _plain(value: Any) -> Any:
    """The value in a form in which both sides can be compared."""
    match value:
        case RowId():
            return "row id"
        case Decimal() | float():
            return round(float(value), 3)
        case bytes() | memoryview():
            return bytes(value)
        case datetime():
            return value.isoformat()
        case dict():
            return sorted((key, _plain(one)) for key, one in value.items())
        case list() | tuple() | set() | frozenset():
            return sorted((_plain(one) for one in value), key=repr)
        case bool() | None:
            return value
        case int():
            return int(value)
        case str():
            return str(value)
        case _:
            return value


def _short(statement: Any) -> str:
    return " ".join(str(statement).split())[:300]


@contextmanager
def mirroring(url: str, tables: Mapping[str, Table], now: Callable[[], datetime]) -> Iterator[MirrorDatabase]:
    """A mirrored database on a fresh, migrated PostgreSQL database."""
    thread = _Thread()
    try:
        thread.run(_prepare(url))
        engine = create_engine(url, role=DatabaseRole.WORKER, pool_size=2)
        try:
            yield MirrorDatabase(tables, now, engine, thread)
        finally:
            thread.run(engine.dispose())
    finally:
        thread.close()


async def _prepare(url: str) -> None:
    """Give PostgreSQL the simulation's clock, in the defaults of columns too."""
    owner = create_engine(url, role=None, pool_size=1)
    async with owner.begin() as connection:
        for statement in filter(str.strip, _CLOCK.split(";\n")):
            await connection.execute(text(statement))
        rows = await connection.execute(
            text(
                "SELECT table_name, column_name FROM information_schema.columns "
                "WHERE table_schema = 'public' AND column_default = 'now()'"
            )
        )
        for table, column in rows.all():
            await connection.execute(
                text(f"ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT simulated.now()")
            )
    await owner.dispose()
