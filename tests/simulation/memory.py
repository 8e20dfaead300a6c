"""The database of a simulation: rows in memory, behind the very statements that the pipeline executes.

Every statement of the pipeline has a *twin*: a function that does to these rows what the statement does in PostgreSQL.
So the code under simulation is the product's own, down to the parameters of each statement. ``mirror.py`` runs both
and compares them statement by statement; a twin that differs is found there.

Transactions do not overlap: between ``begin`` and ``commit`` nothing waits. What two open transactions do to each other
(locks, READ COMMITTED) is not to be seen here; tests on PostgreSQL are there for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.exc import IntegrityError

__all__ = [
    "MemoryConnection",
    "MemoryDatabase",
    "MissingTwinError",
    "Row",
    "RowId",
    "Rows",
    "Table",
    "Transaction",
    "Twin",
    "twin",
    "twin_of",
]

Row = dict[str, Any]
"""One version of a row. Never changed: an update stores a new one, so that what was read stays as it was."""


@dataclass(frozen=True, slots=True)
class RowId:
    """Names one version of one row, as ``ctid`` and ``xmin`` do. Opaque to the pipeline."""

    table: str
    stamp: int


class MissingTwinError(Exception):
    """A statement of the pipeline has no twin here."""


class Rows:
    """The result of a statement, as far as the pipeline uses one."""

    __slots__ = ("_rowcount", "rows")

    def __init__(self, rows: Iterable[Sequence[Any]] = (), rowcount: int | None = None) -> None:
        self.rows = list(rows)
        self._rowcount = rowcount

    @property
    def rowcount(self) -> int:
        return len(self.rows) if self._rowcount is None else self._rowcount

    def __iter__(self) -> Iterator[Sequence[Any]]:
        return iter(self.rows)

    def all(self) -> list[Sequence[Any]]:
        return self.rows

    def first(self) -> Sequence[Any] | None:
        return self.rows[0] if self.rows else None

    def one_or_none(self) -> Sequence[Any] | None:
        assert len(self.rows) <= 1, self.rows
        return self.first()

    def one(self) -> Sequence[Any]:
        assert len(self.rows) == 1, self.rows
        return self.rows[0]

    def scalar(self) -> Any:
        return self.rows[0][0] if self.rows else None

    def scalar_one(self) -> Any:
        return self.one()[0]

    def scalar_one_or_none(self) -> Any:
        row = self.one_or_none()
        return None if row is None else row[0]

    def scalars(self) -> _Scalars:
        return _Scalars(row[0] for row in self.rows)


class _Scalars(list[Any]):
    def all(self) -> list[Any]:
        return self

    def first(self) -> Any:
        return self[0] if self else None


@dataclass(frozen=True, slots=True)
class Unique:
    """A unique index; ``where`` makes it a partial one. NULLs differ from each other."""

    name: str
    columns: tuple[str, ...]
    where: Callable[[Row], bool] = lambda row: True


class Table:
    """Rows by primary key, with an undo log that belongs to the open transaction.

    Parameters
    ----------
    defaults
        Values of columns that an insert leaves out; a callable gets the database's time.
    index
        A column that rows are often looked up by.
    checks
        Constraints by name; an insert or update that breaks one fails as in PostgreSQL.
    """

    def __init__(
        self,
        name: str,
        key: tuple[str, ...],
        defaults: Mapping[str, Any],
        *,
        index: str | None = None,
        unique: tuple[Unique, ...] = (),
        checks: Mapping[str, Callable[[Row], bool]] | None = None,
    ) -> None:
        self.name = name
        self.key = key
        self.defaults = defaults
        self.rows: dict[tuple[Any, ...], Row] = {}
        self._index_column = index
        self._index: dict[Any, dict[tuple[Any, ...], None]] = {}
        self._unique = unique
        self._checks = checks or {}
        self._undo: list[tuple[tuple[Any, ...], Row | None]] = []
        self._stamps = 0
        self.dirty: list[Table] = []
        """The tables with something to undo; one list for all tables of a database."""
        self.watchers: list[Callable[[str, Row | None, Row | None], None]] = []
        """Told of each change as it is made, before it is known whether it is committed."""

    def __iter__(self) -> Iterator[Row]:
        return iter(list(self.rows.values()))

    def get(self, *key: Any) -> Row | None:
        return self.rows.get(key)

    def by_index(self, value: Any) -> list[Row]:
        """Rows whose indexed column has the value, in the order in which they came."""
        return [self.rows[key] for key in self._index.get(value, ())]

    def at(self, row_id: RowId | None, key: tuple[Any, ...]) -> Row | None:
        """The row, if the version that is meant is still the one that is there."""
        row = self.rows.get(key)
        return row if row is not None and row["ctid"] == row_id else None

    def insert(self, now: datetime, **values: Any) -> Row:
        row = {
            name: default(now) if callable(default) else default for name, default in self.defaults.items()
        }
        row.update(values)
        key = tuple(row[name] for name in self.key)
        if key in self.rows:
            raise _violation(f"{self.name}_pkey")
        self._put(key, row)
        return self.rows[key]

    def update(self, row: Row, **changes: Any) -> Row:
        """Store a new version of a row; what was read before stays as it was."""
        key = tuple(row[name] for name in self.key)
        self._put(key, {**self.rows[key], **changes})
        return self.rows[key]

    def delete(self, row: Row) -> None:
        key = tuple(row[name] for name in self.key)
        self._note(key, self.rows[key])
        self._unindex(key)
        del self.rows[key]

    def _put(self, key: tuple[Any, ...], row: Row) -> None:
        for name, holds in self._checks.items():
            if not holds(row):
                raise _violation(name, str(row))
        for one in self._unique:
            self._check_unique(one, key, row)
        self._stamps += 1
        row["ctid"] = RowId(self.name, self._stamps)
        self._note(key, self.rows.get(key), row)
        if key in self.rows:
            self._unindex(key)
        self.rows[key] = row
        if self._index_column is not None:
            self._index.setdefault(row[self._index_column], {})[key] = None

    def _note(self, key: tuple[Any, ...], earlier: Row | None, later: Row | None = None) -> None:
        for watcher in self.watchers:
            watcher(self.name, earlier, later)
        if not self._undo:
            self.dirty.append(self)
        self._undo.append((key, earlier))

    def _check_unique(self, unique: Unique, key: tuple[Any, ...], row: Row) -> None:
        values = tuple(row[name] for name in unique.columns)
        if None in values or not unique.where(row):
            return
        for other_key, other in self.rows.items():
            if other_key != key and unique.where(other) and tuple(other[c] for c in unique.columns) == values:
                raise _violation(unique.name, str(values))

    def _unindex(self, key: tuple[Any, ...]) -> None:
        if self._index_column is not None:
            del self._index[self.rows[key][self._index_column]][key]

    def commit(self) -> None:
        """Keep what was done."""
        self._undo.clear()

    def rollback(self) -> None:
        for key, earlier in reversed(self._undo):
            if key in self.rows:
                self._unindex(key)
                del self.rows[key]
            if earlier is not None:
                self.rows[key] = earlier
                if self._index_column is not None:
                    self._index.setdefault(earlier[self._index_column], {})[key] = None
        self._undo.clear()


def _violation(name: str, detail: str = "") -> IntegrityError:
    return IntegrityError(f"violates {name} {detail}", None, Exception(name))


class Transaction:
    """What a twin works on: the tables and the time of the transaction."""

    def __init__(self, tables: Mapping[str, Table], now: datetime, sequences: dict[str, int]) -> None:
        self._tables = tables
        self.now = now
        self._sequences = sequences

    def __getattr__(self, name: str) -> Table:
        try:
            return self._tables[name]
        except KeyError:
            raise AttributeError(name) from None

    def nextval(self, sequence: str) -> int:
        """A new number; numbers are not given back when a transaction fails, as in PostgreSQL."""
        self._sequences[sequence] = self._sequences.get(sequence, 0) + 1
        return self._sequences[sequence]


Twin = Callable[[Transaction, Mapping[str, Any]], Rows]

_twins: dict[int, tuple[Any, Twin]] = {}


def twin(*statements: Any) -> Callable[[Twin], Twin]:
    """Register a function as what the given statements do."""

    def register(function: Twin) -> Twin:
        for statement in statements:
            assert id(statement) not in _twins, f"two twins: {str(statement)[:80]}"
            _twins[id(statement)] = (statement, function)
        return function

    return register


def twin_of(statement: Any) -> Twin:
    """What a statement does.

    Raises
    ------
    MissingTwinError
        Nobody has written it down.
    """
    found = _twins.get(id(statement))
    if found is None:
        raise MissingTwinError(" ".join(str(statement).split())[:200])
    return found[1]


class MemoryDatabase:
    """Stands where ``core.db.Database`` stands.

    Parameters
    ----------
    now
        The database's time.
    """

    def __init__(self, tables: Mapping[str, Table], now: Callable[[], datetime]) -> None:
        self.tables = tables
        self.now = now
        self.sequences: dict[str, int] = {}
        self._dirty: list[Table] = []
        for table in tables.values():
            table.dirty = self._dirty

    def open(self) -> MemoryConnection:
        """Begin a transaction."""
        return MemoryConnection(self)

    def begin(self) -> Transaction:
        return Transaction(self.tables, self.now(), self.sequences)

    def load(self, table: str) -> None:
        """Rows were put into the table from outside; a mirror copies them."""

    def commit(self) -> bool:
        """Keep the open transaction; whether it changed anything."""
        changed = bool(self._dirty)
        for table in self._dirty:
            table.commit()
        self._dirty.clear()
        return changed

    def rollback(self) -> None:
        for table in self._dirty:
            table.rollback()
        self._dirty.clear()

    @asynccontextmanager
    async def platform(self) -> Any:
        """A transaction without faults; processes use ``world.ProcessDatabase``."""
        connection = self.open()
        try:
            yield connection
        except BaseException:
            connection.rollback()
            raise
        connection.commit()


class MemoryConnection:
    """Stands where an ``AsyncConnection`` in a transaction stands."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self.transaction = database.begin()

    def commit(self) -> bool:
        return self._database.commit()

    def rollback(self) -> None:
        self._database.rollback()

    def run(self, statement: Any, parameters: Mapping[str, Any]) -> Rows:
        """Do what the statement does."""
        return twin_of(statement)(self.transaction, parameters)

    async def execute(self, statement: Any, parameters: Mapping[str, Any] | None = None) -> Rows:
        return self.run(statement, parameters or {})

    async def scalar(self, statement: Any, parameters: Mapping[str, Any] | None = None) -> Any:
        return self.run(statement, parameters or {}).scalar()
