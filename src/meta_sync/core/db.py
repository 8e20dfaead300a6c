"""PostgreSQL: metadata and naming, engines by role, the store setting that row-level policies read, retries.

SQLAlchemy Core throughout. Repositories take an open connection and never commit; services open the transaction. Every
wait has an end: for a connection, a lock, a statement, an answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import orjson
from sqlalchemy import MetaData, Text, event, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from meta_sync.core.errors import StartError
from meta_sync.core.outages import (
    CONNECT_ERRORS,
    LOCK_NOT_AVAILABLE,
    READ_ONLY,
    DatabaseAwayError,
    is_contention,
    outage_reason,
    sqlstate,
)

__all__ = [
    "Database",
    "DatabaseRole",
    "DatabaseTimeouts",
    "Identifier",
    "create_engine",
    "metadata",
    "normalise_database_url",
    "retry_transaction",
    "sqlstate",
    "store_transaction",
]

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

Identifier = Text(collation="C")
"""Ids are compared byte for byte, whatever the database's locale."""

T = TypeVar("T")

_URL_PARAMETERS = frozenset(
    {
        "host",
        "passfile",
        "password",
        "port",
        "prepared_statement_cache_size",
        "ssl",
        "target_session_attrs",
        "user",
    }
)
"""What may stand behind the ? of an address: the driver fails on anything else, deep inside and without a sentence."""

_IDLE_IN_TRANSACTION_MS = 60_000
"""A forgotten transaction holds back vacuum for every store."""

_ANSWER_PATIENCE = 1.2
"""How much longer than the server may work on a statement we wait for its answer: then nobody is there any more."""
_DISPOSE_SECONDS = 3.0
"""For telling the server that our connections end."""


@dataclass(frozen=True, slots=True)
class DatabaseTimeouts:
    """The longest waits of a process for its database, in seconds."""

    connection_seconds: float = 5.0
    """For a connection: a free place in the pool, the way to the server and its greeting. A request that waits longer
    is better answered 503 than kept beside hundreds of others."""
    statement_seconds: float = 30.0
    """No statement of a request or a turn takes seconds; half a minute means a broken plan or a lost lock."""
    lock_seconds: float = 10.0


class DatabaseRole(StrEnum):
    """The roles of the first migration. The owner migrates and is not among them."""

    APP = "meta_sync_app"
    """Requests of one store, under row-level policies."""
    WORKER = "meta_sync_worker"
    """The pipeline and the platform's own calls, across stores."""


def normalise_database_url(url: str) -> str:
    """The address with the asyncpg driver named, as SQLAlchemy 2.1 needs it.

    Raises
    ------
    StartError
        It is not a PostgreSQL address.
    """
    try:
        parsed = make_url(url)
    except Exception:  # noqa: BLE001 - any parse failure reads the same
        raise StartError(
            "META_SYNC_DATABASE_URL is not an address such as postgresql://user:password@host/name."
        ) from None
    if not parsed.drivername.startswith("postgres"):
        raise StartError("META_SYNC_DATABASE_URL must be a PostgreSQL address (postgresql://…).")
    query = dict(parsed.query)
    if "sslmode" in query:
        # libpq's name, which every provider writes into its addresses.
        query["ssl"] = query.pop("sslmode")
    unknown = sorted(query.keys() - _URL_PARAMETERS)
    if unknown:
        raise StartError(
            f"META_SYNC_DATABASE_URL has a parameter that is not known here: {unknown[0][:40]}. "
            f"Known are sslmode and {', '.join(sorted(_URL_PARAMETERS))}."
        )
    return parsed.set(drivername="postgresql+asyncpg", query=query).render_as_string(hide_password=False)


def create_engine(
    url: str,
    *,
    role: DatabaseRole | None,
    pool_size: int = 8,
    timeouts: DatabaseTimeouts = DatabaseTimeouts(),
) -> AsyncEngine:
    """An engine whose connections act as the given role; ``None`` is the login role itself, which waits for its work."""
    server_settings = {
        "application_name": f"meta-sync {role.name.lower() if role else 'owner'}",
        "statement_timeout": _milliseconds(timeouts.statement_seconds if role else 0),
        "lock_timeout": _milliseconds(timeouts.lock_seconds),
        "idle_in_transaction_session_timeout": str(_IDLE_IN_TRANSACTION_MS),
        "timezone": "UTC",
        "jit": "off",
        # Statements are many and short; starting helpers for one costs more than they save, and takes others' turn.
        "max_parallel_workers_per_gather": "0",
    }
    if role is not None:
        server_settings["role"] = role.value
    engine = create_async_engine(
        normalise_database_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeouts.connection_seconds,
        pool_pre_ping=True,
        pool_recycle=1800,
        # Errors are logged; what was being stored is nobody's business there.
        hide_parameters=True,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={
            "server_settings": server_settings,
            "timeout": timeouts.connection_seconds,
            "command_timeout": timeouts.statement_seconds * _ANSWER_PATIENCE if role else None,
        },
    )
    event.listen(engine.sync_engine, "handle_error", _leave_read_only_servers)
    return engine


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def _leave_read_only_servers(context: ExceptionContext) -> None:
    # After a fail-over a pool may be full of connections to the former primary; an address that names several servers,
    # or that moved, leads new ones to the right one.
    if sqlstate(context.original_exception) == READ_ONLY:
        context.is_disconnect = True


class Database:
    """The two pools of a process and the transactions on them."""

    def __init__(self, app: AsyncEngine, worker: AsyncEngine) -> None:
        self.app = app
        self.worker = worker

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        pool_size: int = 8,
        timeouts: DatabaseTimeouts = DatabaseTimeouts(),
    ) -> Database:
        """Make both pools; nothing connects yet."""
        return cls(
            create_engine(url, role=DatabaseRole.APP, pool_size=pool_size, timeouts=timeouts),
            create_engine(url, role=DatabaseRole.WORKER, pool_size=pool_size, timeouts=timeouts),
        )

    @asynccontextmanager
    async def store(self, store_id: str) -> AsyncIterator[AsyncConnection]:
        """A transaction of one store, under its row-level policies."""
        async with store_transaction(self.app, store_id) as connection:
            yield connection

    @asynccontextmanager
    async def platform(self) -> AsyncIterator[AsyncConnection]:
        """A transaction across stores: the pipeline, platform calls, the look-up of a key.

        Raises
        ------
        DatabaseAwayError
            No connection could be had. Both kinds of transaction raise it.
        """
        async with _transaction(self.worker) as connection:
            yield connection

    async def dispose(self) -> None:
        """Close both pools. A server that does not answer is not waited for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISPOSE_SECONDS):
                await self.app.dispose()
                await self.worker.dispose()


@asynccontextmanager
async def store_transaction(engine: AsyncEngine, store_id: str) -> AsyncIterator[AsyncConnection]:
    """Open a transaction whose row-level policies see exactly one store."""
    async with _transaction(engine) as connection:
        await connection.execute(_SET_STORE, {"store_id": store_id})
        yield connection


@asynccontextmanager
async def _transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Commit at the end, roll back after an error or a cancellation."""
    async with AsyncExitStack() as stack:
        connection = await _connected(engine, stack)
        async with connection.begin():
            yield connection


async def _connected(engine: AsyncEngine, stack: AsyncExitStack) -> AsyncConnection:
    """An open connection, which the stack closes.

    The deadline is over all of it: a server that takes connections and never answers keeps the pool's own check waiting
    as well.
    """
    try:
        # The pool's own time ends first, and says what was waited for.
        async with asyncio.timeout(engine.pool.timeout() + 1):  # type: ignore[attr-defined]  # every queue pool has it
            return await stack.enter_async_context(engine.connect())
    except CONNECT_ERRORS as error:
        reason = "it does not answer" if isinstance(error, TimeoutError) else outage_reason(error)
        raise DatabaseAwayError(f"The database cannot be reached: {reason}") from error


_SET_STORE = text("SELECT set_config('meta_sync.store_id', :store_id, true)")

_MOST_LOCK_TIMEOUTS = 2
"""Each has cost ten seconds; a request that waits longer only keeps a connection from others."""


async def retry_transaction(
    work: Callable[[], Awaitable[T]],
    *,
    attempts: int = 5,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """Run a whole transaction again after a deadlock or a serialisation failure, once after a lock that did not come.

    ``work`` opens, fills and commits its own transaction, and reads again what it decides from.
    """
    for attempt in range(1, attempts + 1):
        try:
            return await work()
        except DBAPIError as error:
            if attempt == attempts or not is_contention(error):
                raise
            if sqlstate(error) == LOCK_NOT_AVAILABLE and attempt >= _MOST_LOCK_TIMEOUTS:
                raise
        await sleep(random.uniform(0.01, 0.05) * 2**attempt)
    raise AssertionError("unreachable")
